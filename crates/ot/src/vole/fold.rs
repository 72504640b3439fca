//! PRG and sums: a portable version, and the choice between it and the kernel.

use super::{Lane, MAX_DEPTH, Radices, tree};
use crate::Secret;
use crate::cipher::Cipher;
use crate::simd::Level;

/// What to sum up.
pub(super) struct Job<'a> {
    /// The public key of the group's tree.
    pub(super) tree_key: u128,
    /// The public key of the group and use.
    pub(super) key: u128,
    pub(super) seeds: Seeds<'a>,
    pub(super) depth: usize,
    pub(super) radices: &'a Radices,
    /// Blocks of 16 bytes of a vector.
    pub(super) blocks: usize,
    /// Blocks from one sum to the next, a multiple of [`ALIGN_BLOCKS`].
    pub(super) stride: usize,
}

/// What a party keeps of a tree.
pub(super) enum Seeds<'a> {
    /// The holder: the first node, and the difference of the first two.
    Root { root: u128, delta: u128 },
    /// The puncturer: the leaf it lacks, and the siblings on the way there.
    Siblings { leaf: u16, siblings: &'a [u128] },
}

impl Seeds<'_> {
    /// All leaves; the missing one is zero.
    fn grow(&self, cipher: &Cipher, leaves: &mut [u128]) {
        match *self {
            Self::Root { root, delta } => tree::grow(cipher, delta, root, leaves, |_| {}),
            Self::Siblings { leaf, siblings } => {
                tree::grow_punctured(cipher, Level::detect(), leaf, leaves, |i, _| siblings[i]);
            }
        }
    }
}

/// Sums start at multiples of this many blocks: a register.
pub(super) const ALIGN_BLOCKS: usize = 4;

/// Memory to work in.
#[derive(Default)]
pub(super) struct Scratch(Secret<u128>);

/// Rows of 64 bytes.
type Table = [[u128; ALIGN_BLOCKS]];

impl Scratch {
    /// At least so many values.
    fn flat(&mut self, n: usize) -> &mut [u128] {
        if self.0.len() < n {
            // A new one: growing would leave a copy behind.
            self.0 = Secret::zeros(n);
        }
        &mut self.0
    }

    /// Two tables for `n` leaves and a few more, then three of `n` rows, at multiples of 64 bytes.
    pub(super) fn tables(&mut self, n: usize) -> [&mut Table; 5] {
        let leaves = (n + 8).div_ceil(ALIGN_BLOCKS);
        let flat = self.flat((2 * leaves + 3 * n) * ALIGN_BLOCKS + 3);
        let start = flat.as_ptr().align_offset(64).min(3);
        let (a, rest) = flat[start..].as_chunks_mut().0.split_at_mut(leaves);
        let (b, rest) = rest.split_at_mut(leaves);
        let (c, rest) = rest.split_at_mut(n);
        let (d, e) = rest.split_at_mut(n);
        [a, b, c, d, e]
    }
}

/// Writes `u` and then each `z_i` to `sums`, and perhaps to what is left of their last registers.
pub(super) fn fold<L: Lane>(job: &Job, scratch: &mut Scratch, sums: &mut [u128]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(detected) = super::kernel::Detected::get() {
        return detected.fold::<L>(job, scratch, sums);
    }
    portable::<L>(job, scratch, sums);
}

/// Blocks encrypted at a time: fewer do not fill wide AES pipelines.
const BATCH: usize = 64;

/// Leaf by leaf, a counter of mixed radix beside: the sum of each level's complete nodes goes up to
/// the next one when its digit turns over.
fn portable<L: Lane>(job: &Job, scratch: &mut Scratch, sums: &mut [u128]) {
    let digits = job.radices.digits();
    let n = 1 << job.depth;
    let (leaves, scratch) = scratch.flat(n + (1 + digits) * BATCH).split_at_mut(n);
    job.seeds.grow(&Cipher::new(job.tree_key), leaves);
    let cipher = Cipher::new(job.key);
    for start in (0..job.blocks).step_by(BATCH) {
        let n = BATCH.min(job.blocks - start);
        let (output, rest) = scratch.split_at_mut(BATCH);
        let nodes = &mut rest[..digits * BATCH];
        let mut tower = Tower { radices: job.radices, counter: [0; MAX_DEPTH as usize], nodes, n };
        tower.nodes.fill(0);
        for i in 0..=digits {
            sums[i * job.stride + start..][..n].fill(0);
        }
        for leaves in leaves.chunks(BATCH / n) {
            let used = leaves.len() * n;
            for (output, leaf) in output.chunks_exact_mut(n).zip(leaves) {
                for (j, output) in (start as u128..).zip(output) {
                    *output = leaf ^ j;
                }
            }
            cipher.encrypt(&mut output[..used]);
            for (output, leaf) in output.chunks_exact_mut(n).zip(leaves) {
                output.iter_mut().for_each(|output| *output ^= leaf);
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

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    /// Sums by their definition, one lane of one leaf at a time.
    fn reference<L: Lane>(job: &Job, columns: usize) -> Vec<Vec<L>> {
        let mut leaves = vec![0; 1 << job.depth];
        job.seeds.grow(&Cipher::new(job.tree_key), &mut leaves);
        let cipher = Cipher::new(job.key);
        let radices = job.radices.radices();
        let mut sums = vec![vec![L::default(); columns]; 1 + radices.len()];
        for (x, leaf) in leaves.iter().enumerate() {
            let mut g: Vec<u128> = (0..job.blocks as u128).map(|j| leaf ^ j).collect();
            cipher.encrypt(&mut g);
            g.iter_mut().for_each(|g| *g ^= leaf);
            let mut rest = x % job.radices.points();
            let mut coefficients = vec![1];
            for &radix in radices {
                coefficients.push((rest % usize::from(radix)) as u16);
                rest /= usize::from(radix);
            }
            for (sum, coefficient) in sums.iter_mut().zip(coefficients) {
                for (sum, &g) in sum.iter_mut().zip(bytemuck::cast_slice::<u128, L>(&g)) {
                    *sum = sum.plus(g.times(coefficient));
                }
            }
        }
        sums
    }

    fn check<L: Lane>(radices: &Radices, seeds: Seeds, columns: usize, rng: &mut ChaCha20Rng) {
        let depth = radices.depth() as usize;
        let blocks = (columns * L::BITS as usize).div_ceil(128);
        let stride = blocks.next_multiple_of(ALIGN_BLOCKS);
        let (tree_key, key) = (rng.random(), rng.random());
        let job = Job { tree_key, key, seeds, depth, radices, blocks, stride };
        let expected = reference::<L>(&job, columns);
        let mut sums = vec![7; stride * (1 + radices.digits())];
        type Run = fn(&Job, &mut Scratch, &mut [u128]);
        for (name, run) in [("portable", portable::<L> as Run), ("dispatched", fold::<L>)] {
            run(&job, &mut Scratch::default(), &mut sums);
            for (i, expected) in expected.iter().enumerate() {
                let sum: &[L] = bytemuck::cast_slice(&sums[i * stride..][..stride]);
                assert_eq!(&sum[..columns], expected, "{name}, {radices:?}, {columns} columns, sum {i}");
            }
        }
    }

    /// The dispatched one is the kernel where it can run.
    #[test]
    fn kernel_and_portable_equal_the_definition() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut shapes: Vec<Radices> = (1..=10).map(|k| Radices::binary(k).unwrap()).collect();
        shapes.extend((1..=6).map(|m| Radices::ternary(m).unwrap()));
        let mixed: [&[u16]; 12] = [
            &[4; 4],
            &[4],
            &[8, 2],
            &[16, 16],
            &[5],
            &[2, 3],
            &[3, 2],
            &[2, 2, 2, 3],
            &[2, 2, 2, 3, 4],
            &[3, 3, 2, 5],
            &[7, 2, 31],
            &[3, 3, 3, 4],
        ];
        shapes.extend(mixed.map(|radices| Radices::new(radices).unwrap()));
        for radices in &shapes {
            for columns in [0, 1, 7, 16, 49, 64, 196, 257] {
                let root = |rng: &mut ChaCha20Rng| Seeds::Root { root: rng.random(), delta: rng.random() };
                let seeds = root(&mut rng);
                check::<u16>(radices, seeds, columns, &mut rng);
                let seeds = root(&mut rng);
                check::<u32>(radices, seeds, columns, &mut rng);
                let siblings: [u128; MAX_DEPTH as usize] = rng.random();
                let leaf = rng.random_range(0..1 << radices.depth());
                check::<u64>(radices, Seeds::Siblings { leaf, siblings: &siblings }, columns, &mut rng);
            }
        }
    }
}
