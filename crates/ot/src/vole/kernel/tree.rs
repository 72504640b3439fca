//! A half-tree's leaves, level by level in registers: as [`crate::vole::tree`] has them.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_aesenclast_epi128, _mm512_and_si512, _mm512_cmpeq_epi64_mask,
    _mm512_mask_mov_epi64, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_shuffle_epi32, _mm512_xor_si512,
};

use super::register::{Keys, LANES, load};
use crate::rot::select;
use crate::vole::fold::Seeds;

/// Writes the `2^depth` leaves.
#[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
pub(super) fn grow(keys: &Keys, seeds: &Seeds, depth: usize, leaves: &mut [[u128; LANES]]) {
    match *seeds {
        Seeds::Root { root, delta } => levels::<false>(keys, [root, root ^ delta], 0, &[], depth, leaves),
        Seeds::Siblings { leaf, siblings } => {
            let bit = (leaf & 1) as u8;
            let first = [select(bit, 0, siblings[0]), select(bit, siblings[0], 0)];
            levels::<true>(keys, first, leaf.into(), siblings, depth, leaves);
        }
    }
}

/// All levels but the first. If `PUNCTURED`, the nodes on the way to `leaf` are zero.
#[inline]
#[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
fn levels<const PUNCTURED: bool>(
    keys: &Keys,
    first: [u128; 2],
    leaf: u64,
    siblings: &[u128],
    depth: usize,
    leaves: &mut [[u128; LANES]],
) {
    if depth == 1 {
        leaves[0][..2].copy_from_slice(&first);
        return;
    }
    let (left, right) = children(keys, [bytemuck::cast([first, first])]);
    let mut four = _mm512_mask_mov_epi64(left[0], 0xf0, right[0]);
    if PUNCTURED {
        let hole = leaf & 3;
        four = assign(four, indices(0), hole, 0);
        four = assign(four, indices(0), hole ^ 2, siblings[1]);
    }
    leaves[0] = bytemuck::cast(four);
    for i in 2..depth {
        let n = 1 << i;
        let (low, high) = leaves.split_at_mut(n / LANES);
        let high = &mut high[..n / LANES];
        let hole = if PUNCTURED { Hole::new(leaf, i, siblings) } else { Hole::default() };
        match low.len() {
            1 => level::<PUNCTURED, 1>(keys, low, high, hole),
            2 => level::<PUNCTURED, 2>(keys, low, high, hole),
            4 => level::<PUNCTURED, 4>(keys, low, high, hole),
            _ => level::<PUNCTURED, 8>(keys, low, high, hole),
        }
    }
}

/// The parent that is not known, and what its children become.
#[derive(Clone, Copy, Default)]
struct Hole {
    index: u64,
    children: [u128; 2],
}

impl Hole {
    /// On the level of `2^i` nodes.
    fn new(leaf: u64, i: usize, siblings: &[u128]) -> Self {
        let (bit, sibling) = ((leaf >> i & 1) as u8, siblings[i]);
        let children = [select(bit, 0, sibling), select(bit, sibling, 0)];
        Self { index: leaf & ((1 << i) - 1), children }
    }
}

/// One level in place, `N` registers at a time.
#[inline]
#[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
fn level<const PUNCTURED: bool, const N: usize>(
    keys: &Keys,
    low: &mut [[u128; LANES]],
    high: &mut [[u128; LANES]],
    hole: Hole,
) {
    let pairs = low.as_chunks_mut::<N>().0.iter_mut().zip(high.as_chunks_mut::<N>().0);
    for (h, (low, high)) in pairs.enumerate() {
        let mut parents = [_mm512_setzero_si512(); N];
        for (parent, low) in parents.iter_mut().zip(&*low) {
            *parent = load(low);
        }
        let (mut left, mut right) = children(keys, parents);
        for x in 0..N {
            if PUNCTURED {
                let indices = indices((N * h + x) * LANES);
                left[x] = assign(left[x], indices, hole.index, hole.children[0]);
                right[x] = assign(right[x], indices, hole.index, hole.children[1]);
            }
            low[x] = bytemuck::cast(left[x]);
            high[x] = bytemuck::cast(right[x]);
        }
    }
}

/// `H(x)` and `x ^ H(x)`, with `H(x) = pi(sigma(x)) ^ sigma(x)` and `sigma(high, low) = (high ^ low, high)`.
#[inline]
#[target_feature(enable = "avx512f,vaes")]
fn children<const N: usize>(keys: &Keys, parents: [__m512i; N]) -> ([__m512i; N], [__m512i; N]) {
    let high: __m512i = bytemuck::cast([0, u64::MAX, 0, u64::MAX, 0, u64::MAX, 0, u64::MAX]);
    let mut sigma = parents;
    for x in &mut sigma {
        let swapped = _mm512_shuffle_epi32::<0b01_00_11_10>(*x);
        *x = _mm512_xor_si512(swapped, _mm512_and_si512(*x, high));
    }
    let mut left = sigma;
    for x in &mut left {
        *x = _mm512_xor_si512(*x, keys.first);
    }
    keys.rounds(&mut left);
    let mut right = parents;
    for x in 0..N {
        left[x] = _mm512_aesenclast_epi128(left[x], _mm512_xor_si512(sigma[x], keys.last));
        right[x] = _mm512_xor_si512(right[x], left[x]);
    }
    (left, right)
}

/// The index of each node of a register, twice.
#[inline]
#[target_feature(enable = "avx512f")]
fn indices(first: usize) -> __m512i {
    let four = bytemuck::cast([0_u64, 0, 1, 1, 2, 2, 3, 3]);
    _mm512_add_epi64(four, _mm512_set1_epi64(first as i64))
}

/// Sets the node of this index, if it is there, in time that does not depend on it.
#[inline]
#[target_feature(enable = "avx512f")]
fn assign(nodes: __m512i, indices: __m512i, index: u64, value: u128) -> __m512i {
    let mask = _mm512_cmpeq_epi64_mask(indices, _mm512_set1_epi64(index as i64));
    _mm512_mask_mov_epi64(nodes, mask, bytemuck::cast([value; LANES]))
}
