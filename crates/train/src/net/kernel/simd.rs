//! The two inner products of a convolution over rows that are shifted views of one buffer.
//!
//! A convolution is a matrix product whose right factor has a row for every (channel, tap): the
//! channel's padded image, shifted by the tap. The rows are never built; they are offsets into the
//! padded images.

use pulp::{Arch, Simd, WithSimd};

/// Values of the widest vector: products are computed in multiples of it, and buffers have this
/// much to spare.
pub(super) const LANES: usize = 16;

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
/// `0..columns`, in every image. The columns of `d` behind these are zero up to the next multiple
/// of [`LANES`].
pub(super) struct Gram<'a> {
    pub d: &'a [f32],
    pub pitch: usize,
    pub rows: usize,
    pub b: &'a [f32],
    pub offsets: &'a [usize],
    pub columns: usize,
    pub images: usize,
    /// From image to image in `d` and in `b`.
    pub steps: [usize; 2],
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

    /// Tiles of `T` rows, which divides `R`, by `V` vectors; single vectors at the end.
    #[inline(always)]
    fn tiles<S: Simd, const T: usize, const V: usize>(mut self, simd: S) {
        let block = V * S::F32_LANES;
        let depth = self.offsets.len();
        let mut gathered = vec![0f32; if self.gather { depth * block } else { 0 }];
        let dense: Vec<usize> = (0..if self.gather { depth } else { 0 }).map(|k| k * block).collect();
        let vectors = self.columns.div_ceil(S::F32_LANES);
        for block_index in 0..vectors / V {
            let p = block_index * block;
            if self.gather {
                for (to, &from) in gathered.chunks_exact_mut(block).zip(self.offsets) {
                    to.copy_from_slice(&self.b[from + p..][..block]);
                }
                self.column_of_tiles::<S, T, V>(simd, &gathered, &dense, 0, p);
            } else {
                self.column_of_tiles::<S, T, V>(simd, self.b, self.offsets, p, p);
            }
        }
        for vector in vectors / V * V..vectors {
            let p = vector * S::F32_LANES;
            self.column_of_tiles::<S, T, 1>(simd, self.b, self.offsets, p, p);
        }
    }

    /// All rows of the `V` vectors at column `p` of the output, which lie at `at` in `b`.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "only such loops are unrolled early enough")]
    fn column_of_tiles<S: Simd, const T: usize, const V: usize>(
        &mut self,
        simd: S,
        b: &[f32],
        offsets: &[usize],
        at: usize,
        p: usize,
    ) {
        let panels = self.panels.chunks_exact(offsets.len() * R);
        for (i, a) in panels.enumerate() {
            for part in 0..R / T {
                let row = i * R + part * T;
                let sums = tile::<S, R, T, V>(simd, a, part * T, b, offsets, at);
                // Loops of constant length alone: an index that is not known after unrolling would
                // put the sums into memory, and each step would store them.
                for r in 0..T {
                    if row + r < self.rows {
                        let out = &mut self.out[(row + r) * self.pitch + p..][..V * S::F32_LANES];
                        let (out, _) = S::as_mut_simd_f32s(out);
                        out.copy_from_slice(&sums[r]);
                    }
                }
            }
        }
    }
}

impl<const R: usize> WithSimd for Product<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Sums, a row of vectors and a weight fill the registers.
        if R == 1 {
            self.tiles::<S, 1, 4>(simd)
        } else if S::REGISTER_COUNT >= 32 {
            self.tiles::<S, 8, 3>(simd)
        } else {
            self.tiles::<S, 4, 3>(simd)
        }
    }
}

/// Rows `from..from + T` of a panel times `V` vectors at `at`.
#[inline(always)]
fn tile<S: Simd, const R: usize, const T: usize, const V: usize>(
    simd: S,
    a: &[f32],
    from: usize,
    b: &[f32],
    offsets: &[usize],
    at: usize,
) -> [[S::f32s; V]; T] {
    let mut sums = [[simd.splat_f32s(0.0); V]; T];
    for (a, &offset) in a.as_chunks::<R>().0.iter().zip(offsets) {
        let (b, _) = S::as_simd_f32s(&b[offset + at..][..V * S::F32_LANES]);
        for r in 0..T {
            let a = simd.splat_f32s(a[from + r]);
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
    #[expect(clippy::needless_range_loop, reason = "only such loops are unrolled early enough")]
    fn tiles<S: Simd, const R: usize, const K: usize>(self, simd: S) {
        let depth = self.offsets.len();
        let vectors = self.columns.div_ceil(S::F32_LANES);
        for k in (0..depth).step_by(K) {
            // Tiles beyond the last row or column repeat it and are not stored.
            let offsets: [usize; K] = std::array::from_fn(|j| self.offsets[(k + j).min(depth - 1)]);
            for r in (0..self.rows).step_by(R) {
                let starts: [usize; R] = std::array::from_fn(|i| (r + i).min(self.rows - 1) * self.pitch);
                let mut sums = [[simd.splat_f32s(0.0); K]; R];
                for image in 0..self.images {
                    let (d, b) = (&self.d[image * self.steps[0]..], &self.b[image * self.steps[1]..]);
                    let d: [&[S::f32s]; R] = std::array::from_fn(|i| vectors_at::<S>(d, starts[i], vectors));
                    let b: [&[S::f32s]; K] = std::array::from_fn(|j| vectors_at::<S>(b, offsets[j], vectors));
                    for p in 0..vectors {
                        let d: [S::f32s; R] = std::array::from_fn(|i| d[i][p]);
                        for j in 0..K {
                            let b = b[j][p];
                            for i in 0..R {
                                sums[i][j] = simd.mul_add_e_f32s(d[i], b, sums[i][j]);
                            }
                        }
                    }
                }
                // Loops of constant length, as in `column_of_tiles`.
                for i in 0..R {
                    for j in 0..K {
                        if r + i < self.rows && k + j < depth {
                            self.sums[(r + i) * depth + k + j] += simd.reduce_sum_f32s(sums[i][j]);
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn vectors_at<S: Simd>(values: &[f32], at: usize, vectors: usize) -> &[S::f32s] {
    S::as_simd_f32s(&values[at..][..vectors * S::F32_LANES]).0
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

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Every width of vectors has its own tiles.
    #[derive(Clone, Copy, Debug)]
    enum Level {
        Scalar,
        #[cfg(target_arch = "x86_64")]
        Avx2,
        Best,
    }

    impl Level {
        const ALL: &[Self] = &[
            Self::Scalar,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2,
            Self::Best,
        ];

        fn run(self, work: impl WithSimd<Output = ()>) {
            match self {
                Self::Scalar => work.with_simd(pulp::Scalar::new()),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => match pulp::x86::V3::try_new() {
                    Some(simd) => simd.vectorize(|| work.with_simd(simd)),
                    None => Arch::new().dispatch(work),
                },
                Self::Best => Arch::new().dispatch(work),
            }
        }
    }

    fn close(what: &str, got: f32, expected: f32) {
        assert!((got - expected).abs() < 1e-4, "{what}: {got}, not {expected}");
    }

    fn product<const R: usize>(level: Level, [rows, depth, columns]: [usize; 3], gather: bool) {
        let mut rng = ChaCha8Rng::seed_from_u64((rows + depth + columns) as u64);
        let mut values = |n: usize| (0..n).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
        let (a, b) = (values(rows * depth), values(depth * 7 + columns + LANES));
        let offsets: Vec<usize> = (0..depth).map(|k| k * 7).collect();
        let pitch = columns.next_multiple_of(LANES);
        let mut out = vec![0.0; rows * pitch];
        let panels = panels::<R>(rows, depth, |r, k| a[r * depth + k]);
        let (panels, b, offsets) = (&panels[..], &b[..], &offsets[..]);
        level.run(Product::<R> { panels, b, offsets, columns, rows, out: &mut out, pitch, gather });
        for (r, row) in out.chunks_exact(pitch).enumerate() {
            for (p, &got) in row[..columns].iter().enumerate() {
                let expected = (0..depth).map(|k| a[r * depth + k] * b[offsets[k] + p]).sum();
                close(&format!("{level:?} {rows} {depth} {columns} at {r} {p}"), got, expected);
            }
        }
    }

    #[test]
    fn products_are_sums_at_every_width_of_vectors() {
        for &level in Level::ALL {
            for shape in [[1, 1, 1], [8, 9, 48], [5, 3, 64], [17, 30, 113], [16, 27, 250]] {
                product::<8>(level, shape, false);
                product::<8>(level, shape, true);
            }
            for columns in [3, 64, 81, 150] {
                product::<1>(level, [1, 9, columns], false);
            }
        }
    }

    #[test]
    fn grams_are_sums_at_every_width_of_vectors() {
        for &level in Level::ALL {
            for [rows, depth, columns, images] in
                [[1usize, 9, 33, 1], [4, 6, 16, 3], [7, 13, 50, 2], [3, 1, 5, 4]]
            {
                let mut rng = ChaCha8Rng::seed_from_u64((rows + depth + columns) as u64);
                let mut values = |n: usize| (0..n).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
                let pitch = columns.next_multiple_of(LANES);
                let mut d = values(images * rows * pitch);
                d.chunks_exact_mut(pitch).for_each(|row| row[columns..].fill(0.0));
                let step = depth * 5 + pitch;
                let b = values(images * step);
                let offsets: Vec<usize> = (0..depth).map(|k| k * 5).collect();
                let mut sums = vec![1.0; rows * depth];
                level.run(Gram {
                    d: &d,
                    pitch,
                    rows,
                    b: &b,
                    offsets: &offsets,
                    columns,
                    images,
                    steps: [rows * pitch, step],
                    sums: &mut sums,
                });
                for (at, &got) in sums.iter().enumerate() {
                    let (r, k) = (at / depth, at % depth);
                    let term =
                        |i: usize, p: usize| d[(i * rows + r) * pitch + p] * b[i * step + offsets[k] + p];
                    let expected = 1.0
                        + (0..images)
                            .flat_map(|i| (0..columns).map(move |p| (i, p)))
                            .map(|(i, p)| term(i, p))
                            .sum::<f32>();
                    close(&format!("{level:?} {rows} {depth} {columns} {images} at {r} {k}"), got, expected);
                }
            }
        }
    }
}
