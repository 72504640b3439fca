//! The two inner products of a convolution over rows that are shifted views of one buffer.
//!
//! A convolution is a matrix product whose right factor has a row for every (channel, tap): the
//! channel's padded image, shifted by the tap. The rows are never built; they are offsets into the
//! padded images.

use pulp::{Arch, Simd, WithSimd};

/// Columns that are computed together at most; buffers have this much to spare.
pub(super) const BLOCK: usize = 64;

/// `out[r * pitch + p] = sum_k a[r, k] * b[offsets[k] + p]` for `p` in `0..columns`, rounded up to
/// whole blocks; `a` is cut into [`panels`] of `R` rows.
pub(super) struct Product<'a, const R: usize> {
    pub panels: &'a [f32],
    pub b: &'a [f32],
    pub offsets: &'a [usize],
    pub columns: usize,
    pub rows: usize,
    pub out: &'a mut [f32],
    pub pitch: usize,
    /// Copy each block of columns together first: pays where rows lie a page apart.
    pub gather: bool,
}

/// `sums[r * offsets.len() + k] += sum_p d[r * pitch + p] * b[offsets[k] + p]` for `p` in
/// `0..columns`. The columns of `d` behind these are zero up to the next multiple of [`BLOCK`].
pub(super) struct Gram<'a> {
    pub d: &'a [f32],
    pub pitch: usize,
    pub rows: usize,
    pub b: &'a [f32],
    pub offsets: &'a [usize],
    pub columns: usize,
    pub sums: &'a mut [f32],
}

/// Rows `r` of `value(r, k)` in panels of `R`: `[rows / R][depth][R]`, the last one filled with zeros.
pub(super) fn panels<const R: usize>(
    rows: usize,
    depth: usize,
    value: impl Fn(usize, usize) -> f32,
) -> Vec<f32> {
    let mut out = vec![0.0; rows.div_ceil(R) * depth * R];
    for (i, panel) in out.chunks_exact_mut(depth * R).enumerate() {
        for (k, column) in panel.chunks_exact_mut(R).enumerate() {
            for (row, v) in (i * R..rows).zip(column) {
                *v = value(row, k);
            }
        }
    }
    out
}

impl<const R: usize> Product<'_, R> {
    pub(super) fn run(self) {
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn blocks<S: Simd, const V: usize>(self, simd: S) {
        let block = V * S::F32_LANES;
        let depth = self.offsets.len();
        let mut gathered = vec![0f32; if self.gather { depth * block } else { 0 }];
        let dense: Vec<usize> = (0..if self.gather { depth } else { 0 }).map(|k| k * block).collect();
        for p in (0..self.columns).step_by(block) {
            let (b, offsets, at) = if self.gather {
                for (to, &from) in gathered.chunks_exact_mut(block).zip(self.offsets) {
                    to.copy_from_slice(&self.b[from + p..][..block]);
                }
                (&gathered[..], &dense[..], 0)
            } else {
                (self.b, self.offsets, p)
            };
            for (i, a) in self.panels.chunks_exact(depth * R).enumerate() {
                let tile = tile::<S, R, V>(simd, a, b, offsets, at);
                for (row, values) in (i * R..self.rows).zip(&tile) {
                    let (out, _) = S::as_mut_simd_f32s(&mut self.out[row * self.pitch + p..][..block]);
                    out.copy_from_slice(values);
                }
            }
        }
    }
}

impl<const R: usize> WithSimd for Product<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 { self.blocks::<S, 4>(simd) } else { self.blocks::<S, 2>(simd) }
    }
}

#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    a: &[f32],
    b: &[f32],
    offsets: &[usize],
    at: usize,
) -> [[S::f32s; V]; R] {
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for (a, &offset) in a.as_chunks::<R>().0.iter().zip(offsets) {
        let (b, _) = S::as_simd_f32s(&b[offset + at..][..V * S::F32_LANES]);
        let b: [S::f32s; V] = std::array::from_fn(|v| b[v]);
        for r in 0..R {
            let a = simd.splat_f32s(a[r]);
            for v in 0..V {
                sums[r][v] = simd.mul_add_e_f32s(a, b[v], sums[r][v]);
            }
        }
    }
    sums
}

impl Gram<'_> {
    pub(super) fn run(self) {
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn tiles<S: Simd, const R: usize, const K: usize>(self, simd: S) {
        let depth = self.offsets.len();
        for k in (0..depth).step_by(K) {
            // Tiles beyond the last row or column repeat it and are not stored.
            let offsets: [usize; K] = std::array::from_fn(|j| self.offsets[(k + j).min(depth - 1)]);
            for r in (0..self.rows).step_by(R) {
                let starts: [usize; R] = std::array::from_fn(|i| (r + i).min(self.rows - 1) * self.pitch);
                let mut sums = [[simd.splat_f32s(0.0); K]; R];
                for p in (0..self.columns).step_by(S::F32_LANES) {
                    let load =
                        |from: &[f32], at: usize| S::as_simd_f32s(&from[at + p..][..S::F32_LANES]).0[0];
                    let d: [S::f32s; R] = std::array::from_fn(|i| load(self.d, starts[i]));
                    for j in 0..K {
                        let b = load(self.b, offsets[j]);
                        for i in 0..R {
                            sums[i][j] = simd.mul_add_e_f32s(d[i], b, sums[i][j]);
                        }
                    }
                }
                for (row, sums) in (r..self.rows).zip(&sums) {
                    for (column, sum) in (k..depth).zip(sums) {
                        self.sums[row * depth + column] += simd.reduce_sum_f32s(*sum);
                    }
                }
            }
        }
    }
}

impl WithSimd for Gram<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if self.rows == 1 {
            self.tiles::<S, 1, 9>(simd);
        } else if S::REGISTER_COUNT >= 32 {
            self.tiles::<S, 4, 6>(simd);
        } else {
            self.tiles::<S, 2, 4>(simd);
        }
    }
}
