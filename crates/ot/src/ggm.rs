//! All-but-one seeds: a puncturable PRF from a GGM tree, `k` base OTs a tree.
//!
//! Goldreich, Goldwasser, Micali (JACM 1986); Boyle, Couteau, Gilboa, Ishai, Kohl, Scholl
//! (eprint 2019/448) for the use with OT. The *dealer* knows all `2^k` leaves. The *holder*, with
//! puncture point `alpha`, knows all but leaf `alpha`: for each level it has obtained, by a base OT
//! with choice `!alpha_b`, a mask that opens the XOR of the nodes on the side off its path. The
//! base-OT keys of the topmost level are that level's two nodes, so `k - 1` levels are sent,
//! 32 bytes each.
//!
//! The holder stores node `x` at position `x ^ alpha`: the unknown node is always at position 0,
//! and what it computes and touches does not depend on `alpha`.
//!
//! # Security
//! Semi-honest (no consistency check). Nodes are expanded with BLAKE3 under a separated domain.

use zeroize::Zeroizing;

use crate::rot::spread;

/// Bytes from dealer to holder for one tree of depth `k`.
pub(crate) const fn message_bytes(k: u32) -> usize {
    32 * (k as usize - 1)
}

/// All leaves of a tree, and the message. `base[b]` are the base-OT keys for bit `b` of the leaf
/// index.
pub(crate) fn deal(base: &[[u128; 2]], message: &mut Vec<u8>) -> Zeroizing<Vec<u128>> {
    let k = base.len();
    let mut nodes = Zeroizing::new(base[k - 1].to_vec());
    for b in (0..k - 1).rev() {
        let mut children = Zeroizing::new(Vec::with_capacity(2 * nodes.len()));
        let mut sums = base[b];
        for &node in nodes.iter() {
            let pair = expand(node);
            sums[0] ^= pair[0];
            sums[1] ^= pair[1];
            children.extend(pair);
        }
        for sum in sums {
            message.extend_from_slice(&sum.to_le_bytes());
        }
        nodes = children;
    }
    nodes
}

/// The leaves known to the holder: leaf `x` at position `x ^ alpha`, position 0 meaningless.
/// `base[b]` is the base-OT key chosen with `!alpha_b`; `message` has [`message_bytes`].
pub(crate) fn hold(alpha: u32, base: &[u128], message: &[u8]) -> Zeroizing<Vec<u128>> {
    let k = base.len();
    debug_assert_eq!(message.len(), message_bytes(k as u32));
    let mut nodes = Zeroizing::new(vec![0, base[k - 1]]);
    for (b, sums) in (0..k - 1).rev().zip(message.chunks_exact(32)) {
        let on_path = spread((alpha >> b & 1) as u8);
        let sums =
            [0, 16].map(|at| u128::from_le_bytes(sums[at..at + 16].try_into().expect("sixteen bytes")));
        // The side off the path is !alpha_b.
        let mut missing = sums[1] ^ (sums[0] ^ sums[1]) & on_path ^ base[b];
        let mut children = Zeroizing::new(Vec::with_capacity(2 * nodes.len()));
        for (y, &node) in nodes.iter().enumerate() {
            let [left, right] = expand(node);
            let swap = (left ^ right) & on_path;
            let (same, other) = (left ^ swap, right ^ swap);
            if y > 0 {
                missing ^= other;
            }
            children.extend([same, other]);
        }
        children[0] = 0;
        children[1] = missing;
        nodes = children;
    }
    nodes
}

fn expand(node: u128) -> [u128; 2] {
    let mut hasher = blake3::Hasher::new_derive_key("copriv-ot v1 ggm node");
    hasher.update(&node.to_le_bytes());
    let mut pair = [0; 2];
    hasher.finalize_xof().fill(bytemuck::cast_slice_mut(&mut pair));
    zeroize::Zeroize::zeroize(&mut hasher);
    pair
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use std::collections::HashSet;

    #[test]
    fn the_holder_knows_all_leaves_but_one() {
        let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
        for k in 1..=8 {
            for alpha in 0..1_u32 << k {
                let base: Vec<[u128; 2]> = (0..k).map(|_| rng.random()).collect();
                let mut message = Vec::new();
                let dealt = deal(&base, &mut message);
                assert_eq!(message.len(), message_bytes(k));
                let chosen: Vec<u128> =
                    (0..k as usize).map(|b| base[b][1 - (alpha >> b & 1) as usize]).collect();
                let held = hold(alpha, &chosen, &message);
                for (x, leaf) in dealt.iter().enumerate() {
                    let y = x ^ alpha as usize;
                    if y > 0 {
                        assert_eq!(held[y], *leaf, "k {k}, alpha {alpha}, leaf {x}");
                    }
                }
                assert!(!held.contains(&dealt[alpha as usize]));
                assert_eq!(dealt.iter().collect::<HashSet<_>>().len(), 1 << k);
            }
        }
    }
}
