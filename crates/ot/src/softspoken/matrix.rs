//! The matrix of one chunk: filled column by column, read row by row.

use super::{CHUNK, KAPPA};
use crate::cipher::{Cipher, FOLD_BLOCKS, fold};
use crate::secret::{Secret, wipe};
use crate::simd::{Level, dispatched};
use crate::transpose::{GROUP, Rows, Workspace, transpose};

/// Blocks of a column of a full matrix.
const BLOCKS: usize = CHUNK / 128;
/// Blocks from one column to the next: a cache line more, so that they do not share cache sets.
const STRIDE: usize = BLOCKS + 4;

/// The working memory of one matrix; everything in it is secret.
pub(super) struct Scratch {
    level: Level,
    work: Box<Workspace>,
    rows: Box<Rows>,
    /// 128 columns, [`STRIDE`] blocks apart.
    matrix: Secret<u128>,
    /// Sum of all leaves of the group folded last.
    pub(super) sum: Secret<u128>,
    /// Sums of the left subtrees under way, one a level.
    stack: Secret<u128>,
    pub(super) choices: Secret<u128>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self {
            level: Level::detect(),
            work: Workspace::new(),
            rows: Box::new([0; GROUP]),
            matrix: Secret::zeros(KAPPA * STRIDE),
            sum: Secret::zeros(BLOCKS),
            stack: Secret::zeros(BLOCKS * 16),
            choices: Secret::zeros(BLOCKS),
        }
    }

    pub(super) fn column(&mut self, j: usize, blocks: usize) -> &mut [u128] {
        &mut self.matrix[j * STRIDE..][..blocks]
    }

    /// Column `start + b` becomes the sum of the leaves whose position has bit `b`, and `sum`
    /// that of all. Position 0 of the sender's leaves is meaningless and only reaches `sum`.
    ///
    /// A whole number of `FOLD_BLOCKS` is computed, so a little more than `blocks` of the
    /// streams; nobody sees what is beyond.
    pub(super) fn fold(&mut self, start: usize, k: usize, blocks: usize, counter: u64, leaves: &[Cipher]) {
        let blocks = blocks.next_multiple_of(FOLD_BLOCKS);
        let columns = &mut self.matrix[start * STRIDE..(start + k) * STRIDE];
        let sum = &mut self.sum[..blocks];
        let fused = k.min(3);
        for column in columns.chunks_exact_mut(STRIDE).skip(fused) {
            column[..blocks].fill(0);
        }
        // Subtrees are visited in order, as by a binary counter: a finished right subtree is
        // added to its column and joined with its left neighbour, which waits on the stack.
        for (position, leaves) in leaves.chunks_exact(1 << fused).enumerate() {
            fold(leaves, counter, STRIDE, position == 0, columns, sum);
            let mut b = fused;
            while position >> (b - fused) & 1 == 1 {
                let column = &mut columns[b * STRIDE..][..blocks];
                join(self.level, column, sum, &self.stack[b * BLOCKS..][..blocks]);
                b += 1;
            }
            if b < k {
                self.stack[b * BLOCKS..][..blocks].copy_from_slice(sum);
            }
        }
    }

    pub(super) fn pack(&mut self, choices: &[u8]) {
        for (word, block) in self.choices.iter_mut().zip(choices.chunks(128)) {
            let mut bytes = [0_u8; 16];
            for (byte, eight) in bytes.iter_mut().zip(block.chunks(8)) {
                let mut wide = [0; 8];
                wide[..eight.len()].copy_from_slice(eight);
                // Gathers the low bits of eight bytes in the topmost byte of the product.
                let product = u64::from_le_bytes(wide).wrapping_mul(0x0102_0408_1020_4080);
                *byte = (product >> 56) as u8;
            }
            *word = u128::from_le_bytes(bytes);
        }
    }

    /// The sum of the group folded last becomes the choices.
    pub(super) fn take_choices(&mut self, choices: &mut [u8]) {
        self.choices.copy_from_slice(&self.sum);
        for (word, block) in self.choices.iter().zip(choices.chunks_mut(128)) {
            for (i, choice) in block.iter_mut().enumerate() {
                *choice = (word >> i & 1) as u8;
            }
        }
    }

    /// Transposes the matrix and appends its first `n` rows.
    pub(super) fn push_rows(&mut self, n: usize, rows: &mut Vec<u128>) {
        let columns: &[u64] = bytemuck::cast_slice(&self.matrix);
        for (g, start) in (0..n).step_by(GROUP).enumerate() {
            let group = &mut *self.rows;
            transpose(self.level, columns, 2 * STRIDE, g, &mut self.work, group);
            rows.extend_from_slice(&group[..GROUP.min(n - start)]);
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        wipe(&mut *self.rows);
    }
}

dispatched! {
    /// `column ^= sum; sum ^= left`.
    fn join(column: &mut [u128], sum: &mut [u128], left: &[u128]) = join_body;
}

#[inline(always)]
fn join_body(column: &mut [u128], sum: &mut [u128], left: &[u128]) {
    for ((column, sum), left) in column.iter_mut().zip(sum).zip(left) {
        *column ^= *sum;
        *sum ^= left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn every_level_joins_alike() {
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(4);
        for n in [0, 1, 3, 64] {
            let [a, b, c]: [Vec<u128>; 3] = std::array::from_fn(|_| (0..n).map(|_| rng.random()).collect());
            for &level in Level::available() {
                let (mut column, mut sum) = (a.clone(), b.clone());
                join(level, &mut column, &mut sum, &c);
                for i in 0..n {
                    assert_eq!((column[i], sum[i]), (a[i] ^ b[i], b[i] ^ c[i]));
                }
            }
        }
    }
}
