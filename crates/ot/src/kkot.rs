//! 1-of-`2^m` OT extension of short entries, for `m` up to 8: sans-IO.
//!
//! Kolesnikov and Kumaresan, *Improved OT Extension for Transferring Short Secrets* (CRYPTO 2013):
//! IKNP with the repetition code replaced by a Walsh-Hadamard code of 256 bits, in which any two of
//! 256 words differ in 128 positions. The receiver of choice `d_i` holds 256 pairs of seeds, the
//! sender one of each by its secret `s`. Column by column, with `C(d)_j = <d, j>`:
//!
//! ```text
//! receiver: t_j = G(seed_j,0)    sends u_j = t_j ^ G(seed_j,1) ^ C(d)_j    (32 bytes an OT)
//! sender:   q_j = G(seed_j,s_j) ^ s_j u_j             =>  row q_i = t_i ^ (C(d_i) & s)
//! ```
//!
//! Entry `v` of OT `i` travels masked with `H(i, q_i ^ (C(v) & s))`; all `2^m` are sent. This is
//! what the older systems' comparisons use; ours make [`crate::one_of_n`] from random OTs instead.
//!
//! The seeds are 256 random OTs of an [`OtExtension`](crate::OtExtension), in the other direction.
//!
//! # Security
//! Semi-honest. `H` is keyed BLAKE3 on row and index: the differences between rows have 128 secret
//! bits spread over 256, so the rows must be hashed whole, which the crate's block-cipher hash does
//! not do. The key is made of the session's, the index grows as long as the keys live and so never
//! repeats, nor does the counter of `G` (AES-128 in counter mode).

use zeroize::Zeroizing;

use crate::cipher::Cipher;
use crate::error::{check_argument, check_message, check_range};
use crate::rot::spread;
use crate::secret::wipe;
use crate::simd::Level;
use crate::transpose::{GROUP, Workspace, transpose};
use crate::wire::{BitReader, BitWriter, mask, packed_len};
use crate::{OtError, RotReceiver, RotSender, Secret};

/// Random OTs that key one direction, and columns of the matrix.
pub const COLUMNS: usize = 256;
/// OTs of one matrix.
const CHUNK: usize = 4096;
/// Blocks of a column.
const BLOCKS: usize = CHUNK / 128;
/// Blocks from one column to the next: a cache line more.
const STRIDE: usize = BLOCKS + 4;

/// Bytes from receiver to sender for `n` OTs: the columns, each padded to a byte.
pub const fn columns_bytes(n: usize) -> u64 {
    (COLUMNS * n.div_ceil(8)) as u64
}

/// Bytes from sender to receiver: `2^m` entries of `t` bits each.
pub const fn message_bytes(n: usize, m: u32, t: u32) -> u64 {
    packed_len(n, t << m) as u64
}

/// The sender, keyed.
pub struct Sender {
    seeds: Vec<Cipher>,
    secret: Zeroizing<[u128; 2]>,
    core: Core,
}

/// The receiver, keyed.
pub struct Receiver {
    seeds: Vec<[Cipher; 2]>,
    core: Core,
}

/// OTs whose choices are fixed; consumed by the sender's answer.
pub struct Chosen {
    rows: Secret<u128>,
    digits: Secret<u8>,
    key: [u8; 32],
    first: u64,
}

impl Sender {
    /// From [`COLUMNS`] random OTs in which this party receives.
    ///
    /// # Errors
    /// Another number of them.
    pub fn new(rots: RotReceiver) -> Result<Self, OtError> {
        check_argument("random OTs that key a 1-of-n extension", COLUMNS, rots.len())?;
        let core = Core::new(rots.context());
        let mut secret = Zeroizing::new([0u128; 2]);
        for (j, choice) in rots.choices().into_iter().enumerate() {
            secret[j / 128] |= u128::from(choice) << (j % 128);
        }
        let seeds = rots.into_pads().iter().map(|&seed| Cipher::new(seed)).collect();
        Ok(Self { seeds, secret, core })
    }

    /// Answers the receiver's `columns` for `n` OTs of `m`-bit choices: `table(i, v)` is entry `v`
    /// of OT `i`, of which the low `t` bits count (`t` up to 64).
    ///
    /// # Errors
    /// Columns of the wrong length, widths out of range.
    pub fn send(
        &mut self,
        n: usize,
        columns: &[u8],
        (m, t): (u32, u32),
        table: impl Fn(usize, usize) -> u64,
    ) -> Result<Vec<u8>, OtError> {
        check_widths(m, t)?;
        check_message("1-of-n OT columns", columns_bytes(n) as usize, columns.len())?;
        let words: Vec<[u128; 2]> = (0..1u32 << m)
            .map(|v| {
                let [low, high] = codeword(v as u8);
                [low & self.secret[0], high & self.secret[1]]
            })
            .collect();
        let mut rows = Secret::with_capacity(2 * n);
        let mut rest = columns;
        for start in (0..n).step_by(CHUNK) {
            let count = CHUNK.min(n - start);
            let (mine, tail) = rest.split_at(columns_bytes(count) as usize);
            rest = tail;
            let (seeds, secret) = (&self.seeds, &self.secret);
            self.core.rows(count, &mut rows, |counter, j, out| {
                seeds[j].counter(counter, out);
                let bit = spread((secret[j / 128] >> (j % 128) & 1) as u8) as u8;
                let sent = mine.chunks_exact(count.div_ceil(8)).nth(j).unwrap_or_default();
                let out: &mut [u8] = bytemuck::cast_slice_mut(out);
                for (q, u) in out.iter_mut().zip(sent) {
                    *q ^= u & bit;
                }
            });
        }
        let mut message = BitWriter::with_capacity(message_bytes(n, m, t) as usize);
        let first = self.core.reserve(n);
        for (i, row) in rows.as_chunks().0.iter().enumerate() {
            let [low, high]: &[u128; 2] = row;
            for (v, word) in words.iter().enumerate() {
                let pad = self.core.pad(first + i as u64, [low ^ word[0], high ^ word[1]]);
                message.write(table(i, v) ^ pad, t);
            }
        }
        Ok(message.finish())
    }
}

impl Receiver {
    /// From [`COLUMNS`] random OTs in which this party sends.
    ///
    /// # Errors
    /// Another number of them.
    pub fn new(rots: RotSender) -> Result<Self, OtError> {
        check_argument("random OTs that key a 1-of-n extension", COLUMNS, rots.len())?;
        let core = Core::new(rots.context());
        let seeds = rots.into_pads().iter().map(|pair| pair.map(Cipher::new)).collect();
        Ok(Self { seeds, core })
    }

    /// The columns for these choices, and what opens the answer.
    pub fn choose(&mut self, digits: &[u8]) -> (Vec<u8>, Chosen) {
        let n = digits.len();
        let mut message = Vec::with_capacity(columns_bytes(n) as usize);
        let mut rows = Secret::with_capacity(2 * n);
        let mut other = Secret::zeros(BLOCKS);
        for digits in digits.chunks(CHUNK) {
            let planes = planes(digits);
            let bytes = digits.len().div_ceil(8);
            let seeds = &self.seeds;
            self.core.rows(digits.len(), &mut rows, |counter, j, out| {
                seeds[j][0].counter(counter, out);
                let other = &mut other[..out.len()];
                seeds[j][1].counter(counter, other);
                let at = message.len();
                let t: &[u8] = bytemuck::cast_slice(out);
                message.extend_from_slice(&t[..bytes]);
                let column = &mut message[at..];
                let other: &[u8] = bytemuck::cast_slice(other);
                column.iter_mut().zip(other).for_each(|(u, o)| *u ^= o);
                for (_, plane) in planes.iter().enumerate().filter(|(b, _)| j >> b & 1 == 1) {
                    column.iter_mut().zip(plane.iter()).for_each(|(u, p)| *u ^= p);
                }
            });
        }
        let first = self.core.reserve(n);
        let digits = Secret::new(digits.to_vec());
        (message, Chosen { rows, digits, key: self.core.key, first })
    }
}

impl Chosen {
    /// The chosen entries, from the sender's answer.
    ///
    /// # Errors
    /// A message of the wrong length, a choice beyond `m` bits.
    pub fn receive(self, (m, t): (u32, u32), message: &[u8]) -> Result<Vec<u64>, OtError> {
        check_widths(m, t)?;
        let n = self.digits.len();
        check_message("1-of-n OT", message_bytes(n, m, t) as usize, message.len())?;
        let largest = self.digits.iter().copied().max().unwrap_or(0);
        check_range("choice of a 1-of-n OT", u64::from(largest), 0, mask(m))?;
        let mut reader = BitReader::new(message);
        let mut entries = Vec::with_capacity(n);
        for (i, row) in self.rows.as_chunks().0.iter().enumerate() {
            // Every entry is read, whatever the choice.
            let mut entry = 0;
            for v in 0..1u16 << m {
                entry |= reader.read(t)? & equal(v, u16::from(self.digits[i]));
            }
            entries.push((entry ^ pad(&self.key, self.first + i as u64, *row)) & mask(t));
        }
        reader.finish()?;
        Ok(entries)
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

/// What both have.
struct Core {
    key: [u8; 32],
    index: u64,
    counter: u64,
    work: Box<Workspace>,
    matrix: Secret<u128>,
}

impl Core {
    fn new(context: [u8; 25]) -> Self {
        Self {
            key: blake3::derive_key("copriv-ot v1 1-of-n extension", &context),
            index: 0,
            counter: 0,
            work: Workspace::new(),
            matrix: Secret::zeros(COLUMNS * STRIDE),
        }
    }

    /// Fills each column by `fill(counter, j, blocks)` and appends the rows of `n <= CHUNK` OTs,
    /// two blocks each.
    fn rows(&mut self, n: usize, rows: &mut Secret<u128>, mut fill: impl FnMut(u64, usize, &mut [u128])) {
        let blocks = n.div_ceil(128);
        for (j, column) in self.matrix.chunks_exact_mut(STRIDE).enumerate() {
            fill(self.counter, j, &mut column[..blocks]);
        }
        self.counter += blocks as u64;
        let halves: [&[u128]; 2] = self.matrix.split_at(128 * STRIDE).into();
        let mut groups = [[0u128; GROUP]; 2];
        for (g, start) in (0..n).step_by(GROUP).enumerate() {
            for (half, group) in halves.iter().zip(&mut groups) {
                let columns = bytemuck::cast_slice(half);
                transpose(Level::detect(), columns, 2 * STRIDE, g, &mut self.work, group);
            }
            let [low, high] = &groups;
            rows.extend(low.iter().zip(high).take(n - start).flat_map(|(l, h)| [*l, *h]));
        }
        groups.iter_mut().for_each(|group| wipe(group));
    }

    fn reserve(&mut self, n: usize) -> u64 {
        let first = self.index;
        self.index += n as u64;
        first
    }

    fn pad(&self, index: u64, row: [u128; 2]) -> u64 {
        pad(&self.key, index, row)
    }
}

/// `H(index, row)`.
fn pad(key: &[u8; 32], index: u64, [low, high]: [u128; 2]) -> u64 {
    let mut input = [0; 40];
    input[..16].copy_from_slice(&low.to_le_bytes());
    input[16..32].copy_from_slice(&high.to_le_bytes());
    input[32..].copy_from_slice(&index.to_le_bytes());
    let hash = blake3::keyed_hash(key, &input);
    u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

/// Word `v` of the code: bit `j` is `<v, j>`.
fn codeword(v: u8) -> [u128; 2] {
    let half = |from: u32| (0..128).fold(0, |word, j| word | u128::from(parity(v, from + j)) << j);
    [half(0), half(128)]
}

fn parity(v: u8, j: u32) -> bool {
    (u32::from(v) & j).count_ones() % 2 == 1
}

/// Bit `b` of every digit, packed.
fn planes(digits: &[u8]) -> [Secret<u8>; 8] {
    std::array::from_fn(|b| {
        let byte = |eight: &[u8]| eight.iter().enumerate().fold(0, |byte, (i, d)| byte | (d >> b & 1) << i);
        Secret::new(digits.chunks(8).map(byte).collect())
    })
}

/// All ones if both are equal, else zero, without a branch; both at most 255.
#[inline]
fn equal(a: u16, b: u16) -> u64 {
    let differs = (a ^ b).wrapping_neg() >> 15 & 1;
    u64::from(differs).wrapping_sub(1)
}

fn check_widths(m: u32, t: u32) -> Result<(), OtError> {
    check_range("choice bits of a 1-of-n OT", u64::from(m), 1, 8)?;
    check_range("entry bits of a 1-of-n OT", u64::from(t), 1, 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dealer::Dealer;

    fn keyed(dealer: &mut Dealer) -> (Sender, Receiver) {
        let (s, r) = dealer.rots(COLUMNS);
        (Sender::new(r).unwrap(), Receiver::new(s).unwrap())
    }

    #[test]
    fn matches_the_ideal_functionality_at_all_sizes() {
        let mut dealer = Dealer::new(41);
        let (mut sender, mut receiver) = keyed(&mut dealer);
        for n in (0..70).chain([127, 128, 129, 513, CHUNK, CHUNK + 1]) {
            let (m, t) = (n as u32 % 8 + 1, n as u32 * 5 % 64 + 1);
            let table = dealer.values(n << m, 64);
            let digits: Vec<u8> = dealer.values(n, m).iter().map(|&d| d as u8).collect();
            let (columns, chosen) = receiver.choose(&digits);
            assert_eq!(columns.len() as u64, columns_bytes(n));
            let message = sender.send(n, &columns, (m, t), |i, v| table[i << m | v]).unwrap();
            assert_eq!(message.len() as u64, message_bytes(n, m, t));
            let entries = chosen.receive((m, t), &message).unwrap();
            for i in 0..n {
                let expected = table[i << m | usize::from(digits[i])] & mask(t);
                assert_eq!(entries[i], expected, "{i} of {n}, {m} bits");
            }
        }
    }

    #[test]
    fn entries_not_chosen_stay_masked() {
        let mut dealer = Dealer::new(42);
        let (mut sender, mut receiver) = keyed(&mut dealer);
        let n = 500;
        let digits: Vec<u8> = dealer.values(n, 4).iter().map(|&d| d as u8).collect();
        let (columns, chosen) = receiver.choose(&digits);
        let message = sender.send(n, &columns, (4, 64), |_, _| 0).unwrap();
        let pads = message.as_chunks::<8>().0;
        for (i, row) in chosen.rows.as_chunks().0.iter().enumerate() {
            let known = pad(&chosen.key, chosen.first + i as u64, *row).to_le_bytes();
            for v in 0..16 {
                assert_eq!(pads[16 * i + v] == known, v == usize::from(digits[i]));
            }
        }
    }

    #[test]
    fn any_two_codewords_differ_in_half_of_the_positions() {
        for v in 0..=255u8 {
            for w in 0..v {
                let ([a, b], [c, d]) = (codeword(v), codeword(w));
                assert_eq!((a ^ c).count_ones() + (b ^ d).count_ones(), 128);
            }
        }
    }

    #[test]
    fn neither_tweaks_nor_columns_repeat() {
        let mut dealer = Dealer::new(43);
        let (mut sender, mut receiver) = keyed(&mut dealer);
        let mut seen = std::collections::HashSet::new();
        let mut index = 0;
        for n in [5, 5, 0, 200, 5, CHUNK + 5] {
            let (columns, chosen) = receiver.choose(&vec![3; n]);
            assert_eq!(chosen.first, index);
            sender.send(n, &columns, (2, 8), |_, _| 0).unwrap();
            index += n as u64;
            assert_eq!((sender.core.index, receiver.core.index), (index, index));
            assert_eq!(sender.core.counter, receiver.core.counter);
            assert!(n == 0 || seen.insert(columns));
        }
        // Another pair of parties, or a later set-up of the same, has another key.
        let (again, _) = keyed(&mut dealer);
        assert_ne!(again.core.key, sender.core.key);
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let mut dealer = Dealer::new(44);
        assert!(Sender::new(dealer.rots(255).1).is_err());
        assert!(Receiver::new(dealer.rots(257).0).is_err());
        let (mut sender, mut receiver) = keyed(&mut dealer);
        for bad in [0, 255, 257, 512] {
            assert!(sender.send(8, &vec![0; bad], (4, 2), |_, _| 0).is_err());
        }
        for widths in [(0, 1), (9, 1), (1, 0), (1, 65)] {
            assert!(sender.send(8, &[0; 256], widths, |_, _| 0).is_err());
            assert!(receiver.choose(&[0; 8]).1.receive(widths, &[0; 8]).is_err());
        }
        assert!(receiver.choose(&[4; 8]).1.receive((2, 1), &[0; 4]).is_err());
        assert!(receiver.choose(&[3; 8]).1.receive((2, 1), &[0; 5]).is_err());
        assert!(receiver.choose(&[3; 1]).1.receive((2, 1), &[0x10]).is_err());
        assert!(receiver.choose(&[3; 8]).1.receive((2, 1), &[0; 4]).is_ok());
    }
}
