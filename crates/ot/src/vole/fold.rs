//! PRG and sums, by definition and without intrinsics.

use super::sums::reserve;
use super::{Lane, MAX_DEPTH, Radices};
use crate::Secret;
use crate::cipher::Cipher;

/// What to sum up.
pub(super) struct Job<'a> {
    /// The public key of the group and use.
    pub(super) key: u128,
    /// All leaves, `2^depth` of them.
    pub(super) leaves: &'a [u128],
    pub(super) radices: &'a Radices,
    /// Blocks of 16 bytes of a vector.
    pub(super) blocks: usize,
    /// Blocks from one sum to the next.
    pub(super) stride: usize,
}

/// Writes `u` and then each `z_i` to `sums`.
pub(super) fn fold<L: Lane>(job: &Job, scratch: &mut Secret<u128>, sums: &mut [u128]) {
    portable::<L>(job, scratch, sums);
}

/// Blocks encrypted at a time: fewer do not fill wide AES pipelines.
const BATCH: usize = 64;

/// Leaf by leaf, a counter of mixed radix beside: the sum of each level's complete nodes goes up to
/// the next one when its digit turns over.
fn portable<L: Lane>(job: &Job, scratch: &mut Secret<u128>, sums: &mut [u128]) {
    let digits = job.radices.digits();
    reserve(scratch, (2 + digits) * BATCH);
    let cipher = Cipher::new(job.key);
    for start in (0..job.blocks).step_by(BATCH) {
        let n = BATCH.min(job.blocks - start);
        let (output, rest) = scratch.split_at_mut(BATCH);
        let (white, rest) = rest.split_at_mut(BATCH);
        let mut tower = Tower { radices: job.radices, counter: [0; MAX_DEPTH as usize], nodes: rest, n };
        tower.nodes.fill(0);
        for i in 0..=digits {
            sums[i * job.stride + start..][..n].fill(0);
        }
        for leaves in job.leaves.chunks(BATCH / n) {
            let used = leaves.len() * n;
            for (white, leaf) in white.chunks_exact_mut(n).zip(leaves) {
                for (j, white) in (start as u128..).zip(white) {
                    *white = leaf ^ j;
                }
            }
            output[..used].copy_from_slice(&white[..used]);
            cipher.encrypt(&mut output[..used]);
            for (output, white) in output[..used].iter_mut().zip(&*white) {
                *output ^= white;
            }
            for node in output[..used].chunks_exact(n) {
                tower.push::<L>(node, |i| i * job.stride + start, sums);
            }
        }
        tower.flush::<L>(|i| i * job.stride + start, sums);
    }
}

/// Sums of the nodes under way, one a digit.
struct Tower<'a> {
    radices: &'a Radices,
    counter: [u16; MAX_DEPTH as usize],
    nodes: &'a mut [u128],
    n: usize,
}

impl Tower<'_> {
    /// Adds the next leaf's vector; sum `i` starts at `at(i)`.
    fn push<L: Lane>(&mut self, leaf: &[u128], at: impl Fn(usize) -> usize, sums: &mut [u128]) {
        let n = self.n;
        for (i, &radix) in self.radices.radices().iter().enumerate() {
            let (below, node) = self.nodes.split_at_mut(i * BATCH);
            let below = if i == 0 { leaf } else { &mut below[(i - 1) * BATCH..][..n] };
            add::<L>(&mut sums[at(1 + i)..][..n], below, self.counter[i]);
            add::<L>(&mut node[..n], below, 1);
            if i > 0 {
                self.nodes[(i - 1) * BATCH..][..n].fill(0);
            }
            self.counter[i] += 1;
            if self.counter[i] < radix {
                return;
            }
            self.counter[i] = 0;
        }
        let last = &mut self.nodes[(self.radices.digits() - 1) * BATCH..][..n];
        add::<L>(&mut sums[at(0)..][..n], last, 1);
        last.fill(0);
    }

    /// Adds what is left of a round that did not turn over: leaves beyond the last point.
    fn flush<L: Lane>(&mut self, at: impl Fn(usize) -> usize, sums: &mut [u128]) {
        let n = self.n;
        for i in 1..self.radices.digits() {
            let (below, node) = self.nodes.split_at_mut(i * BATCH);
            let below = &below[(i - 1) * BATCH..][..n];
            add::<L>(&mut sums[at(1 + i)..][..n], below, self.counter[i]);
            add::<L>(&mut node[..n], below, 1);
        }
        let last = &self.nodes[(self.radices.digits() - 1) * BATCH..][..n];
        add::<L>(&mut sums[at(0)..][..n], last, 1);
    }
}

/// `to += digit * from`, lane by lane. Digits are those of the public point.
fn add<L: Lane>(to: &mut [u128], from: &[u128], digit: u16) {
    let to: &mut [L] = bytemuck::cast_slice_mut(to);
    let from: &[L] = bytemuck::cast_slice(from);
    match digit {
        0 => {}
        1 => to.iter_mut().zip(from).for_each(|(to, &from)| *to = to.plus(from)),
        _ => to.iter_mut().zip(from).for_each(|(to, &from)| *to = to.plus(from.times(digit))),
    }
}
