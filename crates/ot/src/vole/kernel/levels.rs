//! All leaves at one counter: AES, and the levels of the butterfly.

use std::arch::x86_64::{
    __m512i, _mm512_aesenclast_epi128, _mm512_maskz_mov_epi64, _mm512_setzero_si512, _mm512_xor_si512,
};

use super::register::{Keys, LANES, add, load};

/// Leaves as registers see them: one, or four side by side.
pub(super) struct Rows<'a, const B: usize> {
    pub(super) rows: &'a [[u128; B]],
    /// The same, XORed with the last round key.
    pub(super) last: &'a [[u128; B]],
    /// Row `x` stands for point `x % points` of the levels above the rows.
    pub(super) points: usize,
    /// In the first and second round of points: how many of them each quarter has.
    pub(super) limits: [[usize; LANES]; 2],
}

impl<const B: usize> Rows<'_, B> {
    /// The first `count` rows, `N` at a time, and the same for the last round.
    fn chunks<const N: usize>(
        &self,
        count: usize,
    ) -> impl Iterator<Item = (&[[u128; B]; N], &[[u128; B]; N])> {
        let [rows, last] = [self.rows, self.last].map(|rows| rows[..count].as_chunks::<N>().0);
        rows.iter().zip(last)
    }
}

/// All rows at the counters: the sum, and for each step `i` that of the rows times their digit.
#[inline]
#[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
pub(super) fn sum<const BITS: u32, const B: usize>(
    keys: &Keys,
    counter: __m512i,
    rows: &Rows<B>,
    count: usize,
    radices: &[u16],
    nodes: &mut [[u128; LANES]],
    z: &mut [__m512i],
) -> __m512i {
    let first = _mm512_xor_si512(counter, keys.first);
    let (done, mut n) = match radices {
        [2, 2, 2, ..] => (3, eights::<BITS, B>(keys, first, rows, count, nodes, z)),
        [3, 3, ..] => (2, nines::<BITS, B>(keys, first, rows, count, nodes, z)),
        _ if count.is_multiple_of(8) => (0, plain::<BITS, B, 8>(keys, first, rows, count, nodes)),
        _ if count == 4 => (0, plain::<BITS, B, 4>(keys, first, rows, count, nodes)),
        _ => (0, plain::<BITS, B, 2>(keys, first, rows, count, nodes)),
    };
    for (&radix, z) in radices.iter().zip(z).skip(done) {
        let radix = usize::from(radix);
        n /= radix;
        let mut weighted = _mm512_setzero_si512();
        for x in 0..n {
            // Suffix sums, added up, weigh node v with v.
            let node = &nodes[x * radix..][..radix];
            let mut suffix = load(&node[radix - 1]);
            for node in node[..radix - 1].iter().rev() {
                weighted = add::<BITS>(weighted, suffix);
                suffix = add::<BITS>(suffix, load(node));
            }
            nodes[x] = bytemuck::cast(suffix);
        }
        *z = weighted;
    }
    load(&nodes[0])
}

/// Three binary steps in registers.
#[inline]
#[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
fn eights<const BITS: u32, const B: usize>(
    keys: &Keys,
    first: __m512i,
    rows: &Rows<B>,
    count: usize,
    nodes: &mut [[u128; LANES]],
    z: &mut [__m512i],
) -> usize {
    let points = rows.points / 8;
    let mut sums = [_mm512_setzero_si512(); 3];
    for (h, (eight, last)) in rows.chunks::<8>(count).enumerate() {
        let g = encrypt(keys, first, eight, last);
        let pairs = [0, 2, 4, 6].map(|x| add::<BITS>(g[x], g[x + 1]));
        let odd = [1, 5].map(|x| add::<BITS>(g[x], g[x + 2]));
        let fours = [0, 2].map(|x| add::<BITS>(pairs[x], pairs[x + 1]));
        sums[0] = add::<BITS>(sums[0], add::<BITS>(odd[0], odd[1]));
        sums[1] = add::<BITS>(sums[1], add::<BITS>(pairs[1], pairs[3]));
        sums[2] = add::<BITS>(sums[2], fours[1]);
        put::<BITS>(nodes, points, h, add::<BITS>(fours[0], fours[1]));
    }
    z[..3].copy_from_slice(&sums);
    points
}

/// Two ternary steps in registers.
#[inline]
#[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
fn nines<const BITS: u32, const B: usize>(
    keys: &Keys,
    first: __m512i,
    rows: &Rows<B>,
    count: usize,
    nodes: &mut [[u128; LANES]],
    z: &mut [__m512i],
) -> usize {
    let points = rows.points / 9;
    // Of each step, the sums of digit one and of digit two.
    let mut sums = [[_mm512_setzero_si512(); 2]; 2];
    for (h, (nine, last)) in rows.chunks::<9>(count.next_multiple_of(9)).enumerate() {
        let mut g = encrypt(keys, first, nine, last);
        let (limits, start) =
            if h < points { (rows.limits[0], 9 * h) } else { (rows.limits[1], 9 * (h - points)) };
        if limits.iter().any(|&limit| limit < start + 9) {
            for (e, g) in (start..).zip(&mut g) {
                let mask = (0..LANES).map(|q| u8::from(e < limits[q]) * (3 << (2 * q))).sum();
                *g = _mm512_maskz_mov_epi64(mask, *g);
            }
        }
        let upper = [0, 3, 6].map(|x| add::<BITS>(g[x + 1], g[x + 2]));
        let thirds = [0, 1, 2].map(|x| add::<BITS>(g[3 * x], upper[x]));
        sums[0][0] = add::<BITS>(sums[0][0], add::<BITS>(add::<BITS>(upper[0], upper[1]), upper[2]));
        sums[0][1] = add::<BITS>(sums[0][1], add::<BITS>(add::<BITS>(g[2], g[5]), g[8]));
        let upper = add::<BITS>(thirds[1], thirds[2]);
        sums[1][0] = add::<BITS>(sums[1][0], upper);
        sums[1][1] = add::<BITS>(sums[1][1], thirds[2]);
        put::<BITS>(nodes, points, h, add::<BITS>(thirds[0], upper));
    }
    for (z, [upper, twos]) in z.iter_mut().zip(sums) {
        *z = add::<BITS>(upper, twos);
    }
    points
}

/// No step in registers, `N` rows at a time.
#[inline]
#[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
fn plain<const BITS: u32, const B: usize, const N: usize>(
    keys: &Keys,
    first: __m512i,
    rows: &Rows<B>,
    count: usize,
    nodes: &mut [[u128; LANES]],
) -> usize {
    for (h, (some, last)) in rows.chunks::<N>(count).enumerate() {
        for (x, g) in (N * h..).zip(encrypt(keys, first, some, last)) {
            put::<BITS>(nodes, rows.points, x, g);
        }
    }
    rows.points
}

/// Node `x`, which in the second round of points is added to that of the first.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn put<const BITS: u32>(nodes: &mut [[u128; LANES]], points: usize, x: usize, value: __m512i) {
    if x < points {
        nodes[x] = bytemuck::cast(value);
    } else {
        let node = &mut nodes[x - points];
        *node = bytemuck::cast(add::<BITS>(load(node), value));
    }
}

/// `pi(s ^ j) ^ s` for rows `s`; `first` is `j ^ k_0` and `last` are `s ^ k_10`.
#[inline]
#[target_feature(enable = "avx512f,vaes")]
fn encrypt<const B: usize, const N: usize>(
    keys: &Keys,
    first: __m512i,
    rows: &[[u128; B]; N],
    last: &[[u128; B]; N],
) -> [__m512i; N] {
    let mut state = [_mm512_setzero_si512(); N];
    for (state, row) in state.iter_mut().zip(rows) {
        *state = _mm512_xor_si512(load(row), first);
    }
    keys.rounds(&mut state);
    for (state, last) in state.iter_mut().zip(last) {
        *state = _mm512_aesenclast_epi128(*state, load(last));
    }
    state
}
