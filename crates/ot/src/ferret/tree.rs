//! Single-point correlated OT by a correlated GGM tree.
//!
//! Guo, Yang, Wang, Zhang, Xie, Liu, Zhao, *Half-Tree* (eprint 2022/1431): the two nodes
//! of the first level differ by `Delta`, a parent `s` has the children `H(s)` and `s ^ H(s)`, and so
//! the nodes of every level add up to `Delta`. With `K_i` the sum of the left nodes of level `i`, the
//! sum of the right ones is `K_i ^ Delta`, and one correlated OT `(q_i, t_i = q_i ^ r_i Delta)`
//! opens one of them to the receiver:
//!
//! ```text
//! sender:   c_i = q_i ^ K_i          receiver: t_i ^ c_i = K_i ^ r_i Delta, the sum on side r_i
//! ```
//!
//! The receiver learns all leaves but that at `alpha`, `alpha_i = !r_i`, and sets that one to the
//! sum of the others, which is the sender's leaf `^ Delta`. The first level needs no `c_1`: the
//! sender takes `q_1` and `q_1 ^ Delta` as its nodes. Level `i` has weight `2^(i-1)` in the leaf
//! index, so a level is expanded in place.
//!
//! # Security
//! `H` must be circular correlation robust: `AES(sigma(x)) ^ sigma(x)` of eprint 2019/074 under a
//! key of its own for each iteration. `alpha` is as random as the choice bits of the correlated
//! OTs used. Neither party's memory accesses depend on its secrets.

use crate::cipher::Cipher;
use crate::rot::select;
use crate::simd::{Level, dispatched};

/// Expands the sender's tree into `nodes`, a power of two of them; `each_level(K_i)` is called for
/// levels 2, 3, .. in order.
pub(crate) fn send(
    cipher: &Cipher,
    delta: u128,
    root: u128,
    nodes: &mut [u128],
    mut each_level: impl FnMut(u128),
) {
    nodes[0] = root;
    nodes[1] = root ^ delta;
    let mut n = 2;
    while n < nodes.len() {
        n *= 2;
        let [left, _] = cipher.grow(&mut nodes[..n]);
        each_level(left);
    }
}

/// What the receiver of a tree knows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Punctured {
    /// The leaf it does not know.
    pub(crate) alpha: u64,
    /// The node of the first level that it knows.
    pub(crate) root: u128,
}

/// Expands the receiver's tree into `nodes`; `sums` are the opened sums of levels 2, 3, ...
pub(crate) fn receive(cipher: &Cipher, level: Level, tree: Punctured, sums: &[u128], nodes: &mut [u128]) {
    // The unknown node of each level is kept at zero; its children then are both H(0).
    let mut hole = [0; 2];
    cipher.grow(&mut hole);
    let hole = hole[0];
    let first = (tree.alpha & 1) as u8;
    nodes[0] = select(first, 0, tree.root);
    nodes[1] = select(first, tree.root, 0);
    let mut n = 2;
    for (i, &sum) in sums.iter().enumerate() {
        let [left, right] = cipher.grow(&mut nodes[..2 * n]);
        let bit = (tree.alpha >> (i + 1) & 1) as u8;
        // On the other side the sum is known, so the missing node is too; on the side of alpha
        // the node stays zero, but the last one becomes the sum of all the others.
        let known = select(bit, right, left);
        let off_path = sum ^ known;
        let on_path = if i + 1 < sums.len() { hole } else { sum ^ select(bit, left, right) };
        patch(
            level,
            &mut nodes[..2 * n],
            tree.alpha & (n as u64 - 1),
            select(bit, on_path, off_path),
            select(bit, off_path, on_path),
        );
        n *= 2;
    }
}

/// Clears the lowest bit of each of the sender's leaves.
pub(crate) fn clear_bits(level: Level, leaves: &mut [u128]) {
    mark(level, leaves, u64::MAX);
}

/// Makes the lowest bit of each of the receiver's leaves its choice bit: one at `alpha`.
pub(crate) fn choice_bits(level: Level, leaves: &mut [u128], alpha: u64) {
    mark(level, leaves, alpha);
}

dispatched! {
    /// XORs `left` to `nodes[hole]` and `right` to `nodes[n + hole]`, touching all nodes alike.
    fn patch(nodes: &mut [u128], hole: u64, left: u128, right: u128) = patch_body;
}

#[inline(always)]
fn patch_body(nodes: &mut [u128], hole: u64, left: u128, right: u128) {
    let (low, high) = nodes.split_at_mut(nodes.len() / 2);
    for (j, (low, high)) in (0..).zip(low.iter_mut().zip(high)) {
        let mask = equal(j, hole);
        *low ^= left & mask;
        *high ^= right & mask;
    }
}

dispatched! {
    /// Sets the lowest bit of `leaves[one]` and clears the others'.
    fn mark(leaves: &mut [u128], one: u64) = mark_body;
}

#[inline(always)]
fn mark_body(leaves: &mut [u128], one: u64) {
    for (x, leaf) in (0..).zip(leaves.iter_mut()) {
        *leaf = *leaf & !1 | equal(x, one) & 1;
    }
}

/// All ones if both are equal, else zero, without a branch.
#[inline(always)]
fn equal(a: u64, b: u64) -> u128 {
    let differ = a ^ b;
    let ones = ((differ | differ.wrapping_neg()) >> 63).wrapping_sub(1);
    u128::from(ones) << 64 | u128::from(ones)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    /// Both trees from correlated OTs with these choices.
    fn run(depth: usize, choices: u64, level: Level, rng: &mut ChaCha20Rng) {
        let cipher = Cipher::new(rng.random());
        let delta = rng.random::<u128>() | 1;
        let q: Vec<u128> = (0..depth).map(|_| rng.random()).collect();
        let t = |i: usize| q[i] ^ select((choices >> i & 1) as u8, 0, delta);
        let (mut sent, mut received) = (vec![0; 1 << depth], vec![7; 1 << depth]);
        let mut message = Vec::new();
        send(&cipher, delta, q[0], &mut sent, |sum| {
            message.push(q[message.len() + 1] ^ sum);
        });
        assert_eq!(message.len(), depth - 1);
        let sums: Vec<u128> = (1..depth).map(|i| t(i) ^ message[i - 1]).collect();
        let alpha = !choices & ((1 << depth) - 1);
        let tree = Punctured { alpha, root: t(0) };
        receive(&cipher, level, tree, &sums, &mut received);
        assert_eq!(sent.iter().fold(0, |a, b| a ^ b), delta);
        for x in 0..1 << depth {
            let expected = if x == alpha { delta } else { 0 };
            assert_eq!(sent[x as usize] ^ received[x as usize], expected, "{x} {alpha}");
        }
        clear_bits(level, &mut sent);
        choice_bits(level, &mut received, alpha);
        for x in 0..1 << depth {
            let (q, t) = (sent[x as usize], received[x as usize]);
            assert_eq!((q & 1, t & 1), (0, u128::from(x == alpha)));
            assert_eq!(q ^ t, if x == alpha { delta } else { 0 });
        }
    }

    #[test]
    fn leaves_agree_except_at_the_puncture() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        for &level in Level::available() {
            for depth in 2..=5 {
                for choices in 0..1 << depth {
                    run(depth, choices, level, &mut rng);
                }
            }
            for depth in [9, 10, 12] {
                let choices = rng.random();
                run(depth, choices, level, &mut rng);
            }
        }
    }
}
