//! Bit-matrix transpose: 128 columns of 512 bits to 512 rows of 128 bits at a time.
//!
//! Eklundh's method on 64 x 64 squares, eight squares side by side: every step is the same
//! operation on eight independent words, so it vectorises without a shuffle, and every read of
//! a column is a whole cache line. Three of the six stages run on eight words in registers. It is
//! compiled for each instruction set; where there is GFNI, module `gfni` is three times as fast.

use crate::secret::wipe;
use crate::simd::{Level, dispatched};

#[cfg(target_arch = "x86_64")]
mod gfni;

/// Rows of one group.
pub(crate) const GROUP: usize = 512;

const LANES: usize = GROUP / 64;
type Word = [u64; LANES];

/// A group of rows.
pub(crate) type Rows = [u128; GROUP];

/// Working memory, kept to be wiped once and not at every group.
pub(crate) struct Workspace([Word; 128]);

impl Workspace {
    pub(crate) fn new() -> Box<Self> {
        Box::new(Self([[0; LANES]; 128]))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        wipe(self.0.as_flattened_mut());
    }
}

/// Transposes bits `512 * group ..` of 128 columns; column `j` starts at word `j * stride` of
/// `columns`.
pub(crate) fn transpose(
    level: Level,
    columns: &[u64],
    stride: usize,
    group: usize,
    work: &mut Workspace,
    rows: &mut Rows,
) {
    #[cfg(target_arch = "x86_64")]
    if level == Level::Gfni {
        return gfni::transpose(columns, stride, group, work, rows);
    }
    eklundh(level, columns, stride, group, work, rows);
}

dispatched! {
    /// [`transpose`] without special instructions.
    fn eklundh(
        columns: &[u64],
        stride: usize,
        group: usize,
        work: &mut Workspace,
        rows: &mut Rows,
    ) = body;
}

#[inline(always)]
fn body(columns: &[u64], stride: usize, group: usize, work: &mut Workspace, rows: &mut Rows) {
    let (low, high) = work.0.split_at_mut(64);
    gather(columns, stride, group, low);
    gather(&columns[64 * stride..], stride, group, high);
    squares(low);
    squares(high);
    for (i, (low, high)) in low.iter().zip(high).enumerate() {
        for lane in 0..LANES {
            rows[lane * 64 + i] = u128::from(low[lane]) | u128::from(high[lane]) << 64;
        }
    }
}

#[inline(always)]
fn gather(columns: &[u64], stride: usize, group: usize, words: &mut [Word]) {
    for (j, word) in words.iter_mut().enumerate() {
        let start = j * stride + group * LANES;
        word.copy_from_slice(&columns[start..start + LANES]);
    }
}

/// Transposes eight 64 x 64 squares.
#[inline(always)]
fn squares(words: &mut [Word]) {
    for i in 0..8 {
        three_stages::<8>(words, i);
    }
    for i in 0..8 {
        three_stages::<1>(words, 8 * i);
    }
}

/// The stages that swap blocks of `4 S`, `2 S` and `S` bits, on words `start, start + S, ..`.
#[inline(always)]
fn three_stages<const S: usize>(words: &mut [Word], start: usize) {
    let mut eight: [Word; 8] = std::array::from_fn(|a| words[start + S * a]);
    for i in 0..4 {
        swap::<8>(&mut eight, i, i + 4, 4 * S);
    }
    for i in [0, 1, 4, 5] {
        swap::<8>(&mut eight, i, i + 2, 2 * S);
    }
    for i in [0, 2, 4, 6] {
        swap::<8>(&mut eight, i, i + 1, S);
    }
    for (a, word) in eight.iter().enumerate() {
        words[start + S * a] = *word;
    }
}

/// Swaps the high halves of `upper` with the low halves of `lower`, in blocks of `size` bits.
#[inline(always)]
fn swap<const N: usize>(words: &mut [Word; N], upper: usize, lower: usize, size: usize) {
    // Blocks of `size` ones and `size` zeros.
    let mask = u64::MAX / ((1 << size) + 1);
    let [upper, lower] = words.get_disjoint_mut([upper, lower]).expect("two different words");
    for (a, b) in upper.iter_mut().zip(lower) {
        let both = (*a >> size ^ *b) & mask;
        *a ^= both << size;
        *b ^= both;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    #[test]
    fn every_level_equals_the_definition() {
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        for (stride, groups) in [(8, 1), (9, 1), (24, 3), (31, 2)] {
            let mut columns = vec![0_u64; 128 * stride];
            rng.fill_bytes(bytemuck::cast_slice_mut(&mut columns));
            for group in 0..groups {
                let expected: Vec<u128> = (512 * group..512 * (group + 1))
                    .map(|i| {
                        (0..128).fold(0, |row, j| {
                            let bit = columns[j * stride + i / 64] >> (i % 64) & 1;
                            row | u128::from(bit) << j
                        })
                    })
                    .collect();
                for &level in Level::available() {
                    let mut rows = [0; GROUP];
                    let mut work = Workspace::new();
                    transpose(level, &columns, stride, group, &mut work, &mut rows);
                    assert!(rows[..] == expected, "{level:?}, {stride}, {group}");
                }
            }
        }
    }
}
