//! AES-128 in AVX-512 registers, four blocks each.
//!
//! The only `unsafe` here is calling a function compiled for instructions that
//! [`Detected::get`] has found; values pass to and from registers by copying.

use std::arch::x86_64::{
    __m128i, __m512i, _mm_aesenc_si128, _mm_aesenclast_si128, _mm_shuffle_epi8, _mm_slli_si128,
    _mm_xor_si128, _mm512_add_epi64, _mm512_aesenc_epi128, _mm512_aesenclast_epi128, _mm512_and_si512,
    _mm512_broadcast_i32x4, _mm512_setzero_si512, _mm512_shuffle_epi32, _mm512_xor_si512,
};

/// Registers under way at once: enough to hide the latency of a round.
const WIDE: usize = 8;
/// Blocks of a register.
const LANES: usize = 4;

/// The eleven round keys.
pub(crate) type RoundKeys = [u128; 11];

/// Proof that the machine has AES, VAES and AVX-512 F.
#[derive(Clone, Copy)]
pub(crate) struct Detected(());

impl Detected {
    pub(crate) fn get() -> Option<Self> {
        let all = is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("vaes")
            && is_x86_feature_detected!("avx512f");
        all.then_some(Self(()))
    }

    pub(crate) fn expand(self, key: u128) -> RoundKeys {
        // SAFETY: `self` proves that AES has been detected, and AVX-512, which contains AVX.
        unsafe { expand(key) }
    }

    pub(crate) fn encrypt(self, keys: &RoundKeys, blocks: &mut [u128]) {
        // SAFETY: `self` proves that AES, VAES and AVX-512 F have been detected.
        unsafe { encrypt(keys, blocks) }
    }

    pub(crate) fn counter(self, keys: &RoundKeys, first: u64, out: &mut [u128]) {
        // SAFETY: as above.
        unsafe { counter(keys, first, out) }
    }

    pub(crate) fn tmmo(self, keys: &RoundKeys, high: u64, low: u64, rows: &mut [u128]) {
        // SAFETY: as above.
        unsafe { tmmo(keys, high, low, rows) }
    }

    pub(crate) fn grow(self, keys: &RoundKeys, left: &mut [u128], right: &mut [u128]) -> [u128; 2] {
        // SAFETY: as above.
        unsafe { grow(keys, left, right) }
    }

    pub(crate) fn fold<const L: usize>(
        self,
        leaves: [&RoundKeys; L],
        first: u64,
        stride: usize,
        fresh: bool,
        columns: &mut [u128],
        sum: &mut [u128],
    ) {
        // SAFETY: as above.
        unsafe { fold(leaves, first, stride, fresh, columns, sum) }
    }
}

#[target_feature(enable = "aes,avx")]
fn expand(key: u128) -> RoundKeys {
    let mut keys = [0; 11];
    for (key, round) in keys.iter_mut().zip(schedule(key)) {
        *key = bytemuck::cast(round);
    }
    keys
}

/// The round keys, in registers.
#[inline]
#[target_feature(enable = "aes,avx")]
pub(crate) fn schedule(key: u128) -> [__m128i; 11] {
    // The last word, rotated by a byte, in all four columns: ShiftRows then changes nothing, and a
    // last round is SubWord and the round constant.
    let rotate: __m128i = bytemuck::cast([0x0c0f_0e0d_u32; 4]);
    let mut constant = 1_u32;
    let mut last: __m128i = bytemuck::cast(key);
    let mut keys = [last; 11];
    for next in &mut keys[1..] {
        let word = _mm_shuffle_epi8(last, rotate);
        let word = _mm_aesenclast_si128(word, bytemuck::cast([constant; 4]));
        let two = _mm_xor_si128(last, _mm_slli_si128::<4>(last));
        let four = _mm_xor_si128(two, _mm_slli_si128::<8>(two));
        last = _mm_xor_si128(four, word);
        *next = last;
        constant = (constant << 1) ^ ((constant >> 7) * 0x11b);
    }
    keys
}

type Keys = [__m512i; 11];

#[inline]
#[target_feature(enable = "avx512f")]
fn spread(keys: &RoundKeys) -> Keys {
    let mut wide = [_mm512_setzero_si512(); 11];
    for (wide, key) in wide.iter_mut().zip(keys) {
        *wide = _mm512_broadcast_i32x4(bytemuck::cast(*key));
    }
    wide
}

#[inline]
#[target_feature(enable = "avx512f,vaes")]
fn rounds<const N: usize>(keys: &Keys, state: &mut [__m512i; N]) {
    for block in state.iter_mut() {
        *block = _mm512_xor_si512(*block, keys[0]);
    }
    for key in &keys[1..10] {
        for block in state.iter_mut() {
            *block = _mm512_aesenc_epi128(*block, *key);
        }
    }
    for block in state.iter_mut() {
        *block = _mm512_aesenclast_epi128(*block, keys[10]);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load<const N: usize>(blocks: &[u128]) -> [__m512i; N] {
    let mut state = [_mm512_setzero_si512(); N];
    for (state, four) in state.iter_mut().zip(blocks.chunks_exact(LANES)) {
        *state = bytemuck::pod_read_unaligned(bytemuck::cast_slice(four));
    }
    state
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store<const N: usize>(state: &[__m512i; N], blocks: &mut [u128]) {
    for (state, four) in state.iter().zip(blocks.chunks_exact_mut(LANES)) {
        four.copy_from_slice(&bytemuck::cast::<_, [u128; LANES]>(*state));
    }
}

/// Runs `$run(blocks, start)` with a constant `N` of registers: wide ones first, then single
/// ones, the last on a padded copy.
macro_rules! in_registers {
    ($blocks:expr, $run:ident, $($arg:expr),*) => {{
        let blocks: &mut [u128] = $blocks;
        let mut start = 0;
        let mut wide = blocks.chunks_exact_mut(WIDE * LANES);
        for chunk in wide.by_ref() {
            $run::<WIDE>($($arg,)* start, chunk);
            start += (WIDE * LANES) as u64;
        }
        let mut single = wide.into_remainder().chunks_exact_mut(LANES);
        for chunk in single.by_ref() {
            $run::<1>($($arg,)* start, chunk);
            start += LANES as u64;
        }
        let rest = single.into_remainder();
        if !rest.is_empty() {
            let mut padded = [0; LANES];
            padded[..rest.len()].copy_from_slice(rest);
            $run::<1>($($arg,)* start, &mut padded);
            rest.copy_from_slice(&padded[..rest.len()]);
        }
    }};
}

#[target_feature(enable = "aes,avx512f,vaes")]
fn encrypt(keys: &RoundKeys, blocks: &mut [u128]) {
    #[inline]
    #[target_feature(enable = "avx512f,vaes")]
    fn step<const N: usize>(keys: &Keys, _: u64, blocks: &mut [u128]) {
        let mut state = load::<N>(blocks);
        rounds(keys, &mut state);
        store(&state, blocks);
    }
    if let [block] = blocks {
        *block = encrypt_one(keys, *block);
        return;
    }
    let keys = spread(keys);
    in_registers!(blocks, step, &keys);
}

/// A single block, without spreading the keys.
#[inline]
#[target_feature(enable = "aes,avx")]
fn encrypt_one(keys: &RoundKeys, block: u128) -> u128 {
    let mut state: __m128i = bytemuck::cast(block ^ keys[0]);
    for &key in &keys[1..10] {
        state = _mm_aesenc_si128(state, bytemuck::cast(key));
    }
    bytemuck::cast(_mm_aesenclast_si128(state, bytemuck::cast(keys[10])))
}

/// `(high, low + i)` for consecutive `i`, four a register.
#[inline]
#[target_feature(enable = "avx512f")]
fn counters<const N: usize>(high: u64, low: u64) -> [__m512i; N] {
    let mut state = [_mm512_setzero_si512(); N];
    let base: __m512i = bytemuck::cast([low, high, low, high, low, high, low, high]);
    for (r, state) in (0..).step_by(LANES).zip(state.iter_mut()) {
        let offsets: __m512i = bytemuck::cast([r, 0, r + 1, 0, r + 2, 0, r + 3, 0_u64]);
        *state = _mm512_add_epi64(base, offsets);
    }
    state
}

#[target_feature(enable = "avx512f,vaes")]
fn counter(keys: &RoundKeys, first: u64, out: &mut [u128]) {
    #[inline]
    #[target_feature(enable = "avx512f,vaes")]
    fn step<const N: usize>(keys: &Keys, first: u64, start: u64, out: &mut [u128]) {
        let mut state = counters::<N>(0, first.wrapping_add(start));
        rounds(keys, &mut state);
        store(&state, out);
    }
    let keys = spread(keys);
    in_registers!(out, step, &keys, first);
}

#[target_feature(enable = "avx512f,vaes")]
fn tmmo(keys: &RoundKeys, high: u64, low: u64, rows: &mut [u128]) {
    #[inline]
    #[target_feature(enable = "avx512f,vaes")]
    fn step<const N: usize>(keys: &Keys, high: u64, low: u64, start: u64, rows: &mut [u128]) {
        let mut white = load::<N>(rows);
        rounds(keys, &mut white);
        let mut state = counters::<N>(high, low.wrapping_add(start));
        for (state, white) in state.iter_mut().zip(&white) {
            *state = _mm512_xor_si512(*state, *white);
        }
        rounds(keys, &mut state);
        for (state, white) in state.iter_mut().zip(&white) {
            *state = _mm512_xor_si512(*state, *white);
        }
        store(&state, rows);
    }
    let keys = spread(keys);
    in_registers!(rows, step, &keys, high, low);
}

#[target_feature(enable = "avx512f,vaes")]
fn grow(keys: &RoundKeys, left: &mut [u128], right: &mut [u128]) -> [u128; 2] {
    #[inline]
    #[target_feature(enable = "avx512f,vaes")]
    fn step<const N: usize>(keys: &Keys, sums: &mut [__m512i; 2], left: &mut [u128], right: &mut [u128]) {
        let parents = load::<N>(left);
        let high: __m512i = bytemuck::cast([0, u64::MAX, 0, u64::MAX, 0, u64::MAX, 0, u64::MAX]);
        let mut masks = parents;
        for mask in &mut masks {
            let swapped = _mm512_shuffle_epi32::<0b01_00_11_10>(*mask);
            *mask = _mm512_xor_si512(swapped, _mm512_and_si512(*mask, high));
        }
        let mut lefts = masks;
        rounds(keys, &mut lefts);
        let mut rights = parents;
        for r in 0..N {
            lefts[r] = _mm512_xor_si512(lefts[r], masks[r]);
            rights[r] = _mm512_xor_si512(rights[r], lefts[r]);
            sums[0] = _mm512_xor_si512(sums[0], lefts[r]);
            sums[1] = _mm512_xor_si512(sums[1], rights[r]);
        }
        store(&lefts, left);
        store(&rights, right);
    }
    let keys = spread(keys);
    let mut sums = [_mm512_setzero_si512(); 2];
    let (mut wide_left, mut wide_right) =
        (left.chunks_exact_mut(WIDE * LANES), right.chunks_exact_mut(WIDE * LANES));
    for (left, right) in wide_left.by_ref().zip(wide_right.by_ref()) {
        step::<WIDE>(&keys, &mut sums, left, right);
    }
    let (mut left, mut right) = (
        wide_left.into_remainder().chunks_exact_mut(LANES),
        wide_right.into_remainder().chunks_exact_mut(LANES),
    );
    for (left, right) in left.by_ref().zip(right.by_ref()) {
        step::<1>(&keys, &mut sums, left, right);
    }
    let mut sums = sums.map(|sum| {
        let lanes: [u128; LANES] = bytemuck::cast(sum);
        lanes[0] ^ lanes[1] ^ lanes[2] ^ lanes[3]
    });
    let (left, right) = (left.into_remainder(), right.into_remainder());
    let n = left.len();
    if n > 0 {
        let (mut lefts, mut rights) = ([0; LANES], [0; LANES]);
        lefts[..n].copy_from_slice(left);
        step::<1>(&keys, &mut [_mm512_setzero_si512(); 2], &mut lefts, &mut rights);
        left.copy_from_slice(&lefts[..n]);
        right.copy_from_slice(&rights[..n]);
        for j in 0..n {
            sums[0] ^= lefts[j];
            sums[1] ^= rights[j];
        }
    }
    sums
}

/// Registers for each leaf; `FOLD_BLOCKS` blocks.
const DEEP: usize = 2;

#[target_feature(enable = "avx512f,vaes")]
fn fold<const L: usize>(
    leaves: [&RoundKeys; L],
    first: u64,
    stride: usize,
    fresh: bool,
    columns: &mut [u128],
    sum: &mut [u128],
) {
    for (start, sum) in sum.chunks_exact_mut(DEEP * LANES).enumerate() {
        let start = start * DEEP * LANES;
        let counter = counters::<DEEP>(0, first.wrapping_add(start as u64));
        let mut state = [counter; L];
        for (state, keys) in state.iter_mut().zip(leaves) {
            let key = _mm512_broadcast_i32x4(bytemuck::cast(keys[0]));
            for block in state {
                *block = _mm512_xor_si512(*block, key);
            }
        }
        for round in 1..10 {
            for (state, keys) in state.iter_mut().zip(leaves) {
                let key = _mm512_broadcast_i32x4(bytemuck::cast(keys[round]));
                for block in state {
                    *block = _mm512_aesenc_epi128(*block, key);
                }
            }
        }
        for (state, keys) in state.iter_mut().zip(leaves) {
            let key = _mm512_broadcast_i32x4(bytemuck::cast(keys[10]));
            for block in state {
                *block = _mm512_aesenclast_epi128(*block, key);
            }
        }
        // The butterfly: at each level, odd nodes go to the level's column, pairs are joined.
        let (mut b, mut nodes) = (0, L);
        while nodes > 1 {
            nodes /= 2;
            let column = &mut columns[b * stride + start..][..DEEP * LANES];
            let mut odd = if fresh { [_mm512_setzero_si512(); DEEP] } else { load::<DEEP>(column) };
            for x in 0..nodes {
                for r in 0..DEEP {
                    odd[r] = _mm512_xor_si512(odd[r], state[2 * x + 1][r]);
                    state[x][r] = _mm512_xor_si512(state[2 * x][r], state[2 * x + 1][r]);
                }
            }
            store(&odd, column);
            b += 1;
        }
        store(&state[0], sum);
    }
}
