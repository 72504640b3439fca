//! Bit-matrix transpose, 128 columns at a time.

/// Transposes a 128 x 128 bit matrix in place: bit `j` of word `i` becomes bit `i` of word `j`.
///
/// Eklundh's method: swap off-diagonal blocks of 64, 32, .. 1 bits; no secret-dependent step.
pub(crate) fn transpose_128(words: &mut [u128; 128]) {
    let mut size = 64;
    let mut mask = u128::from(u64::MAX);
    while size > 0 {
        for block in words.chunks_exact_mut(2 * size) {
            let (upper, lower) = block.split_at_mut(size);
            for (a, b) in upper.iter_mut().zip(lower) {
                let swap = (*a >> size ^ *b) & mask;
                *a ^= swap << size;
                *b ^= swap;
            }
        }
        size /= 2;
        mask ^= mask << size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    #[test]
    fn equals_the_definition() {
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        for _ in 0..20 {
            let mut words = [0_u128; 128];
            rng.fill_bytes(bytemuck::bytes_of_mut(&mut words));
            let before = words;
            transpose_128(&mut words);
            for (i, row) in before.iter().enumerate() {
                for (j, column) in words.iter().enumerate() {
                    assert_eq!(row >> j & 1, column >> i & 1, "({i}, {j})");
                }
            }
        }
    }
}
