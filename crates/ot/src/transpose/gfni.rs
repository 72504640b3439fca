//! The transpose with GFNI and AVX-512 BW.
//!
//! For eight columns, three rounds of interleaving bytes bring the eight bytes of the same eight
//! rows together, and one affine instruction transposes them as an 8 x 8 bit matrix. For the
//! sixteen results of the same rows, four rounds of interleaving transpose 16 x 16 bytes. An
//! interleaving `(i, i + n/2) -> (2 i, 2 i + 1)` moves the top bit of the register index to the
//! bottom of the byte index, and the top bit of the byte index to the bottom of the register's.
//!
//! The only `unsafe` is calling a function compiled for instructions that have been detected.

use std::arch::x86_64::{
    _mm512_extracti32x4_epi32, _mm512_gf2p8affine_epi64_epi8, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_unpackhi_epi8, _mm512_unpacklo_epi8,
};

use super::{LANES, Rows, Word, Workspace};

/// Transposes like [`super::body`], where [`Level::Gfni`](crate::simd::Level::Gfni) has been
/// detected.
pub(super) fn transpose(columns: &[u64], stride: usize, group: usize, work: &mut Workspace, rows: &mut Rows) {
    assert!(crate::simd::Level::detect() == crate::simd::Level::Gfni);
    // SAFETY: the level says that AVX-512 F and BW and GFNI have been detected.
    unsafe { kernel(columns, stride, group, work, rows) }
}

/// One round on an array of registers, written out so that it stays in registers.
macro_rules! interleave {
    ($state:expr, $half:literal, $($i:literal)*) => {{
        let state = $state;
        [$(
            _mm512_unpacklo_epi8(state[$i], state[$i + $half]),
            _mm512_unpackhi_epi8(state[$i], state[$i + $half]),
        )*]
    }};
}

#[target_feature(enable = "avx512f,avx512bw,gfni")]
fn kernel(columns: &[u64], stride: usize, group: usize, work: &mut Workspace, rows: &mut Rows) {
    // Byte `b` of each eight selects bit `b`.
    let bits = _mm512_set1_epi64(0x8040_2010_0804_0201_u64 as i64);
    for eight in 0..16 {
        let mut state = [_mm512_setzero_si512(); 8];
        for (i, state) in state.iter_mut().enumerate() {
            // The instruction counts the rows of its matrix from the top.
            let start = (8 * eight + 7 - i) * stride + group * LANES;
            *state = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&columns[start..start + LANES]));
        }
        for _ in 0..3 {
            state = interleave!(state, 4, 0 1 2 3);
        }
        for (t, state) in state.iter().enumerate() {
            let bytes = _mm512_gf2p8affine_epi64_epi8::<0>(bits, *state);
            work.0[16 * t + eight] = bytemuck::cast::<_, Word>(bytes);
        }
    }
    for (t, words) in work.0.chunks_exact(16).enumerate() {
        let mut state = [_mm512_setzero_si512(); 16];
        for (state, word) in state.iter_mut().zip(words) {
            *state = bytemuck::cast(*word);
        }
        for _ in 0..4 {
            state = interleave!(state, 8, 0 1 2 3 4 5 6 7);
        }
        for (m, state) in state.iter().enumerate() {
            let row = 16 * t + m;
            rows[row] = bytemuck::cast(_mm512_extracti32x4_epi32::<0>(*state));
            rows[128 + row] = bytemuck::cast(_mm512_extracti32x4_epi32::<1>(*state));
            rows[256 + row] = bytemuck::cast(_mm512_extracti32x4_epi32::<2>(*state));
            rows[384 + row] = bytemuck::cast(_mm512_extracti32x4_epi32::<3>(*state));
        }
    }
}
