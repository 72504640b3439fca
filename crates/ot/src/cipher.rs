//! AES-128 on many blocks at a time, in the three shapes that the protocols need.
//!
//! Where the machine has VAES and AVX-512 the kernels of the `vaes` module run, which keep a
//! whole construction in registers; elsewhere the `aes` crate does the work. Both are tested
//! against each other. Round keys are zeroised on drop.

use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroize;

use crate::secret::wipe;

#[cfg(target_arch = "x86_64")]
pub(crate) mod vaes;

/// [`fold`] works on whole multiples of this many blocks.
pub(crate) const FOLD_BLOCKS: usize = 8;

/// Blocks processed at a time by the portable shapes.
const BATCH: usize = 128;

/// An expanded key.
pub(crate) enum Cipher {
    /// Round keys for the kernels of `vaes`; made only where it has been detected.
    #[cfg(target_arch = "x86_64")]
    Wide(vaes::Detected, vaes::RoundKeys),
    /// Boxed: the crate's type has room for its widest backend.
    Portable(Box<Aes128>),
}

impl Cipher {
    /// Expands a key.
    pub(crate) fn new(key: u128) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(detected) = vaes::Detected::get() {
            return Self::Wide(detected, detected.expand(key));
        }
        Self::portable(key)
    }

    /// Expands a key for the `aes` crate.
    fn portable(key: u128) -> Self {
        Self::Portable(Box::new(Aes128::new(&Array::from(key.to_le_bytes()))))
    }

    /// `block <- AES(block)`.
    pub(crate) fn encrypt(&self, blocks: &mut [u128]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Wide(detected, keys) => detected.encrypt(keys, blocks),
            Self::Portable(aes) => encrypt(aes, blocks),
        }
    }

    /// `out[i] <- AES(first + i)`: counter mode.
    pub(crate) fn counter(&self, first: u64, out: &mut [u128]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Wide(detected, keys) => detected.counter(keys, first, out),
            Self::Portable(aes) => {
                for (i, block) in out.iter_mut().enumerate() {
                    *block = u128::from(first.wrapping_add(i as u64));
                }
                encrypt(aes, out);
            }
        }
    }

    /// One level of a correlated GGM tree, in place: with `n` the half length of `nodes` and
    /// `H(x) = AES(sigma(x)) ^ sigma(x)`, `sigma(high, low) = (high ^ low, high)`, parent
    /// `nodes[j]` becomes the children `nodes[j] = H(parent)` and `nodes[n + j] = parent ^ H(parent)`.
    /// Returns the XORs of either half.
    pub(crate) fn grow(&self, nodes: &mut [u128]) -> [u128; 2] {
        let n = nodes.len() / 2;
        let (left, right) = nodes.split_at_mut(n);
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Wide(detected, keys) => detected.grow(keys, left, right),
            Self::Portable(aes) => {
                right.copy_from_slice(left);
                for parent in left.iter_mut() {
                    *parent = sigma(*parent);
                }
                let mut masks = crate::Secret::new(left.to_vec());
                encrypt(aes, left);
                let mut sums = [0; 2];
                for ((left, right), mask) in left.iter_mut().zip(right).zip(masks.iter_mut()) {
                    *left ^= *mask;
                    *right ^= *left;
                    sums[0] ^= *left;
                    sums[1] ^= *right;
                }
                sums
            }
        }
    }

    /// `row[i] <- AES(AES(row[i]) ^ tweak[i]) ^ AES(row[i])` with `tweak[i] = (high, low + i)`.
    pub(crate) fn tmmo(&self, high: u64, low: u64, rows: &mut [u128]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Wide(detected, keys) => detected.tmmo(keys, high, low, rows),
            Self::Portable(aes) => {
                let mut white = [0; BATCH];
                for (c, rows) in rows.chunks_mut(BATCH).enumerate() {
                    encrypt(aes, rows);
                    let white = &mut white[..rows.len()];
                    white.copy_from_slice(rows);
                    for (i, row) in rows.iter_mut().enumerate() {
                        let low = low.wrapping_add((c * BATCH + i) as u64);
                        *row ^= u128::from(high) << 64 | u128::from(low);
                    }
                    encrypt(aes, rows);
                    for (row, white) in rows.iter_mut().zip(white) {
                        *row ^= *white;
                    }
                }
                wipe(&mut white);
            }
        }
    }
}

/// The three lowest levels of a SoftSpoken butterfly at most: expands `2^k` leaves in counter
/// mode (`k` = 1, 2 or 3) and adds them up.
///
/// `sum` becomes the XOR of all, and column `b < k`, which starts at `b * stride` of `columns`, is
/// XORed with the leaves whose index has bit `b`, or set to them if the columns are `fresh`.
///
/// # Panics
/// If there are not 2, 4 or 8 leaves, or `sum.len()` is no multiple of [`FOLD_BLOCKS`].
pub(crate) fn fold(
    leaves: &[Cipher],
    first: u64,
    stride: usize,
    fresh: bool,
    columns: &mut [u128],
    sum: &mut [u128],
) {
    assert!(sum.len().is_multiple_of(FOLD_BLOCKS));
    #[cfg(target_arch = "x86_64")]
    if let Some(Cipher::Wide(detected, _)) = leaves.first() {
        match leaves.len() {
            2 => return detected.fold::<2>(wide(leaves), first, stride, fresh, columns, sum),
            4 => return detected.fold::<4>(wide(leaves), first, stride, fresh, columns, sum),
            8 => return detected.fold::<8>(wide(leaves), first, stride, fresh, columns, sum),
            n => unreachable!("{n} leaves"),
        }
    }
    if fresh {
        let levels = leaves.len().ilog2() as usize;
        for column in columns.chunks_mut(stride).take(levels) {
            column[..sum.len()].fill(0);
        }
    }
    portable_fold(leaves, first, stride, columns, sum);
}

/// The round keys of ciphers of the same kind.
#[cfg(target_arch = "x86_64")]
fn wide<const L: usize>(leaves: &[Cipher]) -> [&vaes::RoundKeys; L] {
    std::array::from_fn(|x| match &leaves[x] {
        Cipher::Wide(_, keys) => keys,
        Cipher::Portable(_) => unreachable!("detection does not change"),
    })
}

fn portable_fold(leaves: &[Cipher], first: u64, stride: usize, columns: &mut [u128], sum: &mut [u128]) {
    let mut leaf = crate::Secret::zeros(sum.len());
    sum.fill(0);
    for (x, cipher) in leaves.iter().enumerate() {
        cipher.counter(first, &mut leaf);
        xor(sum, &leaf);
        for b in (0..leaves.len().ilog2() as usize).filter(|b| x >> b & 1 == 1) {
            xor(&mut columns[b * stride..][..leaf.len()], &leaf);
        }
    }
}

fn xor(to: &mut [u128], from: &[u128]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to ^= from;
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Wide(_, keys) => keys.zeroize(),
            // The crate's type zeroises itself.
            Self::Portable(_) => {}
        }
    }
}

/// A linear orthomorphism: `x -> sigma(x)` and `x -> sigma(x) ^ x` are both permutations.
fn sigma(x: u128) -> u128 {
    let (high, low) = ((x >> 64) as u64, x as u64);
    u128::from(high ^ low) << 64 | u128::from(high)
}

fn encrypt(aes: &Aes128, blocks: &mut [u128]) {
    let blocks: &mut [[u8; 16]] = bytemuck::cast_slice_mut(blocks);
    aes.encrypt_blocks(Array::cast_slice_from_core_mut(blocks));
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn fips_197_example() {
        // FIPS 197, appendix C.1.
        let key = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;
        let plain = 0xffee_ddcc_bbaa_9988_7766_5544_3322_1100;
        let expected = u128::from_le_bytes([
            0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30, 0xd8, 0xcd, 0xb7, 0x80, 0x70, 0xb4, 0xc5, 0x5a,
        ]);
        for cipher in [Cipher::new(key), Cipher::portable(key)] {
            let mut block = [plain];
            cipher.encrypt(&mut block);
            assert_eq!(block[0], expected);
        }
    }

    #[test]
    fn the_kernels_equal_the_aes_crate() {
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        for n in (0..70).chain([127, 128, 129, 300]) {
            let key = rng.random();
            let (fast, safe) = (Cipher::new(key), Cipher::portable(key));
            let blocks: Vec<u128> = (0..n).map(|_| rng.random()).collect();
            let both = |run: &dyn Fn(&Cipher, &mut [u128])| {
                let (mut a, mut b) = (blocks.clone(), blocks.clone());
                run(&fast, &mut a);
                run(&safe, &mut b);
                assert!(a == b, "{n} blocks");
            };
            both(&|cipher, blocks| cipher.encrypt(blocks));
            let (high, low): (u64, u64) = (rng.random(), rng.random());
            both(&|cipher, blocks| cipher.tmmo(high, low, blocks));
            for first in [0, low, u64::MAX - 2] {
                both(&|cipher, blocks| cipher.counter(first, blocks));
            }
        }
    }

    #[test]
    fn growing_equals_its_definition() {
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(3);
        let key = rng.random();
        for cipher in [Cipher::new(key), Cipher::portable(key)] {
            for n in [1, 2, 4, 8, 32, 64, 100] {
                let parents: Vec<u128> = (0..n).map(|_| rng.random()).collect();
                let mut nodes = [parents.clone(), vec![1; n]].concat();
                let sums = cipher.grow(&mut nodes);
                let mut expected = [0; 2];
                for j in 0..n {
                    let mut hash = [sigma(parents[j])];
                    cipher.encrypt(&mut hash);
                    let left = hash[0] ^ sigma(parents[j]);
                    assert_eq!((nodes[j], nodes[n + j]), (left, parents[j] ^ left));
                    expected[0] ^= nodes[j];
                    expected[1] ^= nodes[n + j];
                }
                assert_eq!(sums, expected);
            }
        }
    }

    #[test]
    fn folds_are_alike() {
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(2);
        for k in 1..=3 {
            for (blocks, fresh) in [0, 8, 16, 64].into_iter().flat_map(|n| [(n, false), (n, true)]) {
                let stride = blocks + 4;
                let seeds: Vec<u128> = (0..1 << k).map(|_| rng.random()).collect();
                let before: Vec<u128> = (0..k * stride).map(|_| rng.random()).collect();
                let run = |new: fn(u128) -> Cipher| {
                    let leaves: Vec<Cipher> = seeds.iter().map(|&seed| new(seed)).collect();
                    let (mut columns, mut sum) = (before.clone(), vec![9; blocks]);
                    fold(&leaves, 1 << 40, stride, fresh, &mut columns, &mut sum);
                    (columns, sum)
                };
                assert!(run(Cipher::new) == run(Cipher::portable), "{k} {blocks}");
            }
        }
    }
}
