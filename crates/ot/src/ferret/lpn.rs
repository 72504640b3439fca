//! The public sparse code of the LPN assumption.
//!
//! Row `g` of an iteration adds [`WEIGHT`] blocks of the secret to a leaf, at positions
//! read off AES in counter mode under a public key: blocks `2 g` and `2 g + 1` hold twelve fields of
//! 21 bits, of which the first ten, cut to `log_k` bits, are the positions. The lowest bit of a block is
//! the choice bit (zero at the sender), so choices and correlations are coded together.

use crate::cipher::Cipher;

/// Non-zero positions in a row.
const WEIGHT: usize = 10;
/// Rows whose positions are drawn at a time.
const ROWS: usize = 64;
/// Bits of a field; a secret has at most `2^21` bits.
const FIELD: u32 = 21;

/// `leaves[i] ^= row (first + i) of the code * secret`; the secret's length is a power of two.
pub(crate) fn encode(code: &Cipher, secret: &[u128], first: u64, leaves: &mut [u128]) {
    debug_assert!(secret.len().is_power_of_two() && secret.len() <= 1 << FIELD);
    let mask = secret.len() as u64 - 1;
    let mut fields = [0_u128; 2 * ROWS];
    for (chunk, leaves) in (0..).zip(leaves.chunks_mut(ROWS)) {
        let fields = &mut fields[..2 * leaves.len()];
        code.counter(2 * (first + chunk * ROWS as u64), fields);
        let words: &[u64] = bytemuck::cast_slice(fields);
        for (leaf, words) in leaves.iter_mut().zip(words.chunks_exact(4)) {
            for field in 0..WEIGHT {
                // Public positions, masked to the length.
                let position = words[field / 3] >> (field as u32 % 3 * FIELD) & mask;
                *leaf ^= secret[position as usize];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn rows_have_ten_positions_and_do_not_depend_on_the_cut() {
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        let code = Cipher::new(rng.random());
        // A secret of distinct powers of two shows the positions.
        let secret: Vec<u128> = (0..128).map(|i| 1 << i).collect();
        let mut rows = vec![0; 1000];
        encode(&code, &secret, 5, &mut rows);
        let mut total = 0;
        for row in &rows {
            // Two equal positions cancel.
            assert!(row.count_ones() as usize <= WEIGHT && row.count_ones() % 2 == 0);
            total += row.count_ones();
        }
        // 128 positions, ten drawn: 9.32 are left on average.
        let mean = f64::from(total) / 1000.0;
        assert!((9.0..9.65).contains(&mean), "{mean}");
        let mut cut = vec![0; 1000];
        let (a, b) = cut.split_at_mut(317);
        encode(&code, &secret, 5, a);
        encode(&code, &secret, 5 + 317, b);
        assert_eq!(cut, rows);
        assert!(rows.iter().any(|&row| row != rows[0]));
    }
}
