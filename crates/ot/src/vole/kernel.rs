//! PRG and sums in AVX-512 registers: AES is fused with the lowest levels of the butterfly, so a leaf's
//! vector never reaches memory.
//!
//! A block enters AES as `s ^ (j ^ k_0)`, and the last round's key is `s ^ k_10`, made once a leaf, so
//! that the feed-forward costs nothing. Eight leaves (nine if ternary) are under way at once, 64 bytes
//! of columns each; their sum goes to a table of *nodes* that the other levels fold in the
//! first-level cache. Where less than 64 bytes of columns are left, a register holds 16 bytes of four
//! leaves instead, and its quarters are told apart at the end.
//!
//! The only `unsafe` here is calling a function compiled for instructions that [`Detected::get`] has
//! found; values pass to and from registers by copying.

use std::arch::x86_64::{
    __m512i, _mm512_aesenc_epi128, _mm512_aesenclast_epi128, _mm512_setzero_si512, _mm512_xor_si512,
};

use super::fold::{Job, Scratch};
use super::{Lane, MAX_DEPTH};
use crate::cipher::vaes;

mod levels;
mod register;
mod tree;

use levels::{Rows, sum};
use register::{Keys, LANES, add, counter, load, quarters, total};
/// Proof that the machine has AES, VAES and AVX-512 F and BW.
#[derive(Clone, Copy)]
pub(super) struct Detected(());

impl Detected {
    pub(super) fn get() -> Option<Self> {
        vaes::Detected::get()?;
        is_x86_feature_detected!("avx512bw").then_some(Self(()))
    }

    /// As [`super::fold::fold`].
    pub(super) fn fold<L: Lane>(self, job: &Job, scratch: &mut Scratch, sums: &mut [u128]) {
        let run = match L::BITS {
            16 => fold::<16>,
            32 => fold::<32>,
            _ => fold::<64>,
        };
        // SAFETY: `self` proves that AES, VAES and AVX-512 F and BW have been detected.
        unsafe { run(job, scratch, sums) }
    }

    /// As [`super::encrypt_alone`], from registers to registers.
    pub(super) fn encrypt_alone(self, n: usize) -> u128 {
        // SAFETY: as above.
        unsafe { register::encrypt_alone(n) }
    }
}

#[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
fn fold<const BITS: u32>(job: &Job, scratch: &mut Scratch, sums: &mut [u128]) {
    let n = 1 << job.depth;
    let [leaves, last, nodes, table, last_table] = scratch.tables(n);
    tree::grow(&Keys::new(job.tree_key), &job.seeds, job.depth, leaves);
    let keys = Keys::new(job.key);
    for (last, leaf) in last.iter_mut().zip(&*leaves) {
        *last = bytemuck::cast(_mm512_xor_si512(load(leaf), keys.last));
    }
    let (leaves, last) = (leaves.as_flattened(), last.as_flattened());
    let steps = job.radices.steps();
    let all = |radix| steps.radices().iter().all(|&r| r == radix);
    let narrow = match steps.radices() {
        _ if n <= 4 => {
            let run = if n == 2 { few::<BITS, 2, 4> } else { few::<BITS, 4, 2> };
            return run(&keys, job, leaves, last, sums);
        }
        [_, _, _, ..] if all(2) || all(3) => job.blocks % LANES,
        _ => 0,
    };
    let (wide, points) = (job.blocks - narrow, job.radices.points());
    let limits = [[points; LANES], [n - points; LANES]];
    let rows: Rows<1> = Rows { rows: leaves.as_chunks().0, last: last.as_chunks().0, points, limits };
    let mut z = [_mm512_setzero_si512(); MAX_DEPTH as usize];
    for at in (0..wide).step_by(LANES) {
        let u = sum::<BITS, 1>(&keys, counter(at), &rows, n, steps.radices(), nodes, &mut z);
        write::<BITS, LANES>(job, at, u, &z, sums);
    }
    if narrow == 0 {
        return;
    }
    if all(2) {
        let (rows, points) = (leaves.as_chunks().0, n / LANES);
        let rows = Rows { rows, last: last.as_chunks().0, points, limits: [[points; LANES]; 2] };
        let (_, upper) = steps.radices().split_at(2);
        for at in wide..job.blocks {
            let counter = bytemuck::cast([at as u128; LANES]);
            let u = sum::<BITS, LANES>(&keys, counter, &rows, points, upper, nodes, &mut z[2..]);
            let quarters = quarters(u);
            z[0] = add::<BITS>(quarters[1], quarters[3]);
            z[1] = add::<BITS>(quarters[2], quarters[3]);
            for z in &mut z[2..][..upper.len()] {
                *z = total::<BITS>(*z);
            }
            write::<BITS, 1>(job, at, total::<BITS>(u), &z, sums);
        }
    } else {
        let third = points / 3;
        let limits = [0, 1].map(|round| thirds(round).map(|s| n.saturating_sub(s * third).min(third)));
        let mut count = 0;
        for (round, limits) in limits.iter().enumerate() {
            for e in 0..limits.iter().copied().max().unwrap_or(0).next_multiple_of(9) {
                for (q, s) in thirds(round).into_iter().enumerate() {
                    // Where there is none, any: it is masked.
                    let leaf = if e < limits[q] { s * third + e } else { 0 };
                    table[count][q] = leaves[leaf];
                    last_table[count][q] = last[leaf];
                }
                count += 1;
            }
        }
        let rows = Rows { rows: table, last: last_table, points: third, limits };
        let (_, lower) = steps.radices().split_last().expect("three at least");
        for at in wide..job.blocks {
            let counter = bytemuck::cast([at as u128; LANES]);
            let u = sum::<BITS, LANES>(&keys, counter, &rows, count, lower, nodes, &mut z);
            for z in &mut z[..lower.len()] {
                *z = total::<BITS>(*z);
            }
            let quarters = quarters(u);
            z[lower.len()] = add::<BITS>(quarters[1], add::<BITS>(quarters[2], quarters[2]));
            write::<BITS, 1>(job, at, total::<BITS>(u), &z, sums);
        }
    }
}

/// Which third of the points the quarters of a register hold, in the first round and in the second,
/// which has what is beyond four thirds: their highest digits are 0, 1, 2 and 0 again.
fn thirds(round: usize) -> [usize; LANES] {
    const NONE: usize = 6;
    if round == 0 { [0, 1, 2, 3] } else { [NONE, 4, 5, NONE] }
}

/// Trees of `N` = 2 or 4 leaves, with `C` registers of columns under way.
#[inline]
#[target_feature(enable = "aes,avx512f,avx512bw,vaes")]
fn few<const BITS: u32, const N: usize, const C: usize>(
    keys: &Keys,
    job: &Job,
    leaves: &[u128],
    last: &[u128],
    sums: &mut [u128],
) {
    for start in (0..job.blocks).step_by(C * LANES) {
        let mut state = [[_mm512_setzero_si512(); N]; C];
        for (c, state) in state.iter_mut().enumerate() {
            let first = _mm512_xor_si512(counter(start + c * LANES), keys.first);
            for (state, leaf) in state.iter_mut().zip(leaves) {
                *state = _mm512_xor_si512(load(&[*leaf]), first);
            }
        }
        for key in keys.middle {
            for state in state.as_flattened_mut() {
                *state = _mm512_aesenc_epi128(*state, key);
            }
        }
        for (c, state) in state.iter_mut().enumerate() {
            for (state, last) in state.iter_mut().zip(last) {
                *state = _mm512_aesenclast_epi128(*state, load(&[*last]));
            }
            let at = start + c * LANES;
            if at >= job.blocks {
                return;
            }
            let mut z = [_mm512_setzero_si512(); 2];
            let mut u = add::<BITS>(state[0], state[1]);
            if N == 2 {
                z[0] = state[1];
            } else {
                let (two, three) = (state[2], state[3]);
                u = add::<BITS>(u, add::<BITS>(two, three));
                if job.radices.points() == 3 {
                    z[0] = add::<BITS>(state[1], add::<BITS>(two, two));
                } else {
                    z = [add::<BITS>(state[1], three), add::<BITS>(two, three)];
                }
            }
            write::<BITS, LANES>(job, at, u, &z, sums);
        }
    }
}

/// Writes the first `W` blocks of `u` and of each digit's sum, which is made of its steps' sums `z`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn write<const BITS: u32, const W: usize>(
    job: &Job,
    at: usize,
    u: __m512i,
    z: &[__m512i],
    sums: &mut [u128],
) {
    let mut put = |i: usize, value: __m512i| {
        let blocks = bytemuck::cast::<_, [u128; LANES]>(value);
        sums[i * job.stride + at..][..W].copy_from_slice(&blocks[..W]);
    };
    put(0, u);
    let digits = job.radices.steps().digits();
    let mut sum = _mm512_setzero_si512();
    for (i, &digit) in digits.iter().enumerate().rev() {
        sum = if digits.get(i + 1) == Some(&digit) { add::<BITS>(add::<BITS>(sum, sum), z[i]) } else { z[i] };
        if i == 0 || digits[i - 1] != digit {
            put(1 + usize::from(digit), sum);
        }
    }
}
