//! What the kernels do with registers of 64 bytes.

use std::arch::x86_64::{
    __m128i, __m512i, _mm512_add_epi16, _mm512_add_epi32, _mm512_add_epi64, _mm512_aesenc_epi128,
    _mm512_aesenclast_epi128, _mm512_broadcast_i32x4, _mm512_extracti32x4_epi32, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_xor_si512,
};

use crate::cipher::vaes;

/// Blocks of a register.
pub(super) const LANES: usize = 4;

/// Round keys in registers.
pub(super) struct Keys {
    pub(super) first: __m512i,
    pub(super) middle: [__m512i; 9],
    pub(super) last: __m512i,
}

impl Keys {
    #[inline]
    #[target_feature(enable = "aes,avx512f")]
    pub(super) fn new(key: u128) -> Self {
        let keys = vaes::schedule(key);
        let mut middle = [_mm512_setzero_si512(); 9];
        for (round, &key) in middle.iter_mut().zip(&keys[1..]) {
            *round = _mm512_broadcast_i32x4(key);
        }
        let [first, last] = [keys[0], keys[10]];
        Self { first: _mm512_broadcast_i32x4(first), middle, last: _mm512_broadcast_i32x4(last) }
    }

    /// All rounds but the last.
    #[inline]
    #[target_feature(enable = "avx512f,vaes")]
    pub(super) fn rounds<const N: usize>(&self, state: &mut [__m512i; N]) {
        for key in self.middle {
            for state in state.iter_mut() {
                *state = _mm512_aesenc_epi128(*state, key);
            }
        }
    }
}

/// Four consecutive counters.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn counter(at: usize) -> __m512i {
    let at = at as u64;
    bytemuck::cast([at, 0, at + 1, 0, at + 2, 0, at + 3, 0])
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load<const B: usize>(row: &[u128; B]) -> __m512i {
    match B {
        1 => _mm512_broadcast_i32x4(bytemuck::cast::<u128, __m128i>(row[0])),
        _ => bytemuck::pod_read_unaligned(bytemuck::cast_slice(row)),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn add<const BITS: u32>(a: __m512i, b: __m512i) -> __m512i {
    match BITS {
        16 => _mm512_add_epi16(a, b),
        32 => _mm512_add_epi32(a, b),
        _ => _mm512_add_epi64(a, b),
    }
}

/// Each quarter, at the lowest place.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn quarters(value: __m512i) -> [__m512i; LANES] {
    let quarter = |block: __m128i| _mm512_broadcast_i32x4(block);
    [
        value,
        quarter(_mm512_extracti32x4_epi32::<1>(value)),
        quarter(_mm512_extracti32x4_epi32::<2>(value)),
        quarter(_mm512_extracti32x4_epi32::<3>(value)),
    ]
}

/// The sum of all quarters.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn total<const BITS: u32>(value: __m512i) -> __m512i {
    let halves = add::<BITS>(value, _mm512_shuffle_i32x4::<0b01_00_11_10>(value, value));
    add::<BITS>(halves, _mm512_shuffle_i32x4::<0b10_11_00_01>(halves, halves))
}

/// AES on eight registers, `n` times.
#[target_feature(enable = "aes,avx512f,vaes")]
pub(super) fn encrypt_alone(n: usize) -> u128 {
    let keys = Keys::new(7);
    let mut state = [0, 1, 2, 3, 4, 5, 6, 7].map(|x| _mm512_xor_si512(counter(x), keys.first));
    for _ in 0..n {
        keys.rounds(&mut state);
        for state in &mut state {
            *state = _mm512_aesenclast_epi128(*state, keys.last);
        }
    }
    let all = state.into_iter().reduce(|a, b| _mm512_xor_si512(a, b)).unwrap_or(keys.last);
    bytemuck::cast::<_, [u128; LANES]>(all)[0]
}
