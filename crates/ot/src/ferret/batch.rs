//! All trees of an iteration, for either party.

use super::feed::Trees;
use super::params::Params;
use super::tree::{self, Punctured};
use crate::Secret;
use crate::cipher::Cipher;
use crate::simd::Level;

/// The sender's.
pub(super) struct SenderTrees {
    delta: Secret<u128>,
    roots: Secret<u128>,
}

impl SenderTrees {
    /// Expands all trees for their level sums. Tree `j` uses up inputs `j * depth ..`.
    pub(super) fn start(
        cipher: &Cipher,
        params: Params,
        delta: u128,
        inputs: &[u128],
        threads: usize,
        message: &mut Vec<u8>,
    ) -> Self {
        let depth = params.depth as usize;
        let start = message.len();
        message.resize(start + params.message_bytes(), 0);
        let share = params.t.div_ceil(threads.max(1));
        let sums = |inputs: &[u128], message: &mut [u8]| {
            let mut nodes = Secret::zeros(params.leaves());
            let mut blocks = message.chunks_exact_mut(16);
            for q in inputs.chunks_exact(depth) {
                let mut pads = q[1..].iter();
                tree::send(cipher, delta, q[0], &mut nodes, |sum| {
                    let pad = pads.next().expect("one input a level");
                    let block = blocks.next().expect("one block a level");
                    block.copy_from_slice(&(sum ^ pad).to_le_bytes());
                });
            }
        };
        let sums = &sums;
        std::thread::scope(|scope| {
            let mut pieces =
                inputs.chunks(share * depth).zip(message[start..].chunks_mut(share * (depth - 1) * 16));
            let first = pieces.next();
            for (inputs, message) in pieces {
                scope.spawn(move || sums(inputs, message));
            }
            if let Some((inputs, message)) = first {
                sums(inputs, message);
            }
        });
        Self {
            delta: Secret::new(vec![delta]),
            roots: Secret::new(inputs.iter().copied().step_by(depth).collect()),
        }
    }
}

impl Trees for SenderTrees {
    fn leaves(&self, cipher: &Cipher, level: Level, tree: usize, leaves: &mut [u128]) {
        tree::send(cipher, self.delta[0], self.roots[tree], leaves, |_| {});
        tree::clear_bits(level, leaves);
    }
}

/// The receiver's.
pub(super) struct ReceiverTrees {
    trees: Secret<Punctured>,
    /// The opened sums, `depth - 1` a tree.
    sums: Secret<u128>,
    depth: usize,
}

impl ReceiverTrees {
    /// Opens the sums. Tree `j` uses up inputs `j * depth ..`.
    pub(super) fn start(params: Params, inputs: &[u128], message: &[u8]) -> Self {
        let depth = params.depth as usize;
        let mut trees = Secret::with_capacity(params.t);
        let mut sums = Secret::with_capacity(params.t * (depth - 1));
        let mut blocks = message.chunks_exact(16);
        for t in inputs.chunks_exact(depth) {
            let alpha = (0..).zip(t).fold(0, |alpha, (i, t)| alpha | (!*t as u64 & 1) << i);
            trees.push(Punctured { alpha, root: t[0] });
            for (t, block) in t[1..].iter().zip(&mut blocks) {
                let block = u128::from_le_bytes(block.try_into().expect("sixteen bytes"));
                sums.push(t ^ block);
            }
        }
        Self { trees, sums, depth }
    }
}

impl Trees for ReceiverTrees {
    fn leaves(&self, cipher: &Cipher, level: Level, tree: usize, leaves: &mut [u128]) {
        let sums = &self.sums[tree * (self.depth - 1)..][..self.depth - 1];
        let punctured = self.trees[tree];
        tree::receive(cipher, level, punctured, sums, leaves);
        tree::choice_bits(level, leaves, punctured.alpha);
    }
}
