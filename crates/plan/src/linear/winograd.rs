//! Winograd's minimal filtering in a ring (Lavin and Gray, 2016; CoPriv section 4.1).
//!
//! In one dimension `y = A^T [ (G g) . (B^T d) ]`; nested, `Y = A^T [ (G w G^T) . (B^T d B) ] A`. `G` is
//! scaled to integers `G'`, and what that does to `Y` is undone as far as the ring allows:
//!
//! | tile | products an output | `G'` | result | odd part | extra bits |
//! |---|---|---|---|---|---|
//! | F(2x2, 3x3) | 16 / 4 | `2 G` | `4 Y` | 1 | 2 |
//! | F(4x4, 3x3) | 36 / 16 | `24 G` | `576 Y` | 9, invertible modulo `2^l` | 6 |
//! | F(2x2, 3x3), stride 2 | 25 / 4 | `G` | `Y` | 1 | 0 |
//!
//! The extra bits stay in the result and the next requantisation shifts them out. Rows of `G'` have a
//! common factor (2 in the corners' rows of F2): it is pulled out, and a product is then needed
//! modulo fewer bits.
//!
//! With stride 2 a row is filtered by its even samples with `(g0, g2)`, F(2, 2), and by its odd ones
//! with `g1`: 3 + 2 products for 2 outputs instead of 6.

use copriv_model::kernel::Geometry;
use serde::{Deserialize, Serialize};

/// Output tile of a 3x3 kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tile {
    /// F(2x2, 3x3), stride 1.
    F2,
    /// F(4x4, 3x3), stride 1.
    F4,
    /// F(2x2, 3x3), stride 2.
    F2Stride2,
}

/// One-dimensional matrices, row-major.
struct Matrices {
    /// Outputs of a tile.
    m: usize,
    /// Inputs of a tile.
    n: usize,
    stride: usize,
    /// `[a][3]`.
    g: &'static [[i64; 3]],
    /// `[a][n]`.
    bt: &'static [&'static [i64]],
    /// `[m][a]`.
    at: &'static [&'static [i64]],
    /// What `G'` multiplies `G` by.
    scale: u64,
}

static F2: Matrices = Matrices {
    m: 2,
    n: 4,
    stride: 1,
    g: &[[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]],
    bt: &[&[1, 0, -1, 0], &[0, 1, 1, 0], &[0, -1, 1, 0], &[0, 1, 0, -1]],
    at: &[&[1, 1, 1, 0], &[0, 1, -1, -1]],
    scale: 2,
};

static F4: Matrices = Matrices {
    m: 4,
    n: 6,
    stride: 1,
    g: &[[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]],
    bt: &[
        &[4, 0, -5, 0, 1, 0],
        &[0, -4, -4, 1, 1, 0],
        &[0, 4, -4, -1, 1, 0],
        &[0, -2, -1, 2, 1, 0],
        &[0, 2, -1, -2, 1, 0],
        &[0, 4, 0, -5, 0, 1],
    ],
    at: &[&[1, 1, 1, 1, 1, 0], &[0, 1, -1, 2, -2, 0], &[0, 1, 1, 4, 4, 0], &[0, 1, -1, 8, -8, 1]],
    scale: 24,
};

static F2_STRIDE_2: Matrices = Matrices {
    m: 2,
    n: 5,
    stride: 2,
    g: &[[1, 0, 0], [1, 0, 1], [0, 0, 1], [0, 1, 0], [0, 1, 0]],
    bt: &[&[1, 0, -1, 0, 0], &[0, 0, 1, 0, 0], &[0, 0, 1, 0, -1], &[0, 1, 0, 0, 0], &[0, 0, 0, 1, 0]],
    at: &[&[1, 1, 0, 1, 0], &[0, 1, -1, 0, 1]],
    scale: 1,
};

impl Tile {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::F2, Self::F4, Self::F2Stride2];

    fn matrices(self) -> &'static Matrices {
        match self {
            Self::F2 => &F2,
            Self::F4 => &F4,
            Self::F2Stride2 => &F2_STRIDE_2,
        }
    }

    /// Whether it computes convolutions of this geometry.
    pub fn fits(self, g: &Geometry) -> bool {
        self.fits_kernel(g.kernel, g.stride)
    }

    pub(super) fn fits_kernel(self, kernel: usize, stride: usize) -> bool {
        kernel == 3 && stride == self.matrices().stride
    }

    /// Side of an output tile.
    pub fn outputs(self) -> usize {
        self.matrices().m
    }

    /// Positions along a side of a transformed tile.
    pub fn side(self) -> usize {
        self.matrices().g.len()
    }

    /// The power of two that stays in the result.
    pub fn extra_bits(self) -> u32 {
        2 * self.matrices().scale.trailing_zeros()
    }

    /// What each position's weights are, row-major.
    pub(super) fn positions(self) -> Vec<Position> {
        let g = self.matrices().g;
        let rows: Vec<(u64, [i64; 3])> = g.iter().map(|row| primitive(*row)).collect();
        let nested = |(fa, a): &(u64, [i64; 3]), (fb, b): &(u64, [i64; 3])| {
            let terms = (0..9).map(|i| (i, a[i / 3] * b[i % 3])).filter(|(_, c)| *c != 0);
            Position { combination: terms.collect(), factor: fa * fb }
        };
        rows.iter().flat_map(|a| rows.iter().map(move |b| nested(a, b))).collect()
    }
}

/// A position of the transformed tile: its weights are `factor * combination`.
pub(super) struct Position {
    pub combination: Vec<(usize, i64)>,
    pub factor: u64,
}

impl Position {
    /// The combination, `[3, 3]`.
    pub fn coefficients(&self) -> Vec<i32> {
        let mut all = vec![0; 9];
        self.combination.iter().for_each(|&(at, c)| all[at] = c as i32);
        all
    }
}

/// A convolution cut into tiles; those at the far edges are padded with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tiling {
    tile: Tile,
    height: usize,
    width: usize,
    pad: usize,
    /// Output rows and columns.
    out: (usize, usize),
}

impl Tiling {
    pub(super) fn new(tile: Tile, g: &Geometry) -> Self {
        assert!(tile.fits(g), "{tile:?} has another kernel or stride than {g:?}");
        Self { tile, height: g.height, width: g.width, pad: g.pad, out: g.output_size() }
    }

    pub(super) fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// `ceil(rows / m) * ceil(columns / m)`.
    pub(super) fn tiles(&self) -> usize {
        let (rows, cols) = self.grid();
        rows * cols
    }

    fn grid(&self) -> (usize, usize) {
        let m = self.tile.outputs();
        (self.out.0.div_ceil(m), self.out.1.div_ceil(m))
    }

    pub(super) fn positions(&self) -> Vec<Position> {
        self.tile.positions()
    }

    /// The sums of the negative and of the positive coefficients of a position of `B^T d B`.
    pub(super) fn plane_sums(&self, position: usize) -> (u64, u64) {
        let bt = self.tile.matrices().bt;
        let (a, b) = (bt[position / bt.len()], bt[position % bt.len()]);
        let products = a.iter().flat_map(|x| b.iter().map(move |y| x * y));
        products.fold((0, 0), |(negative, positive), c| {
            (negative + (-c).max(0) as u64, positive + c.max(0) as u64)
        })
    }

    /// `B^T d B` of every tile, `[position][tile]`.
    pub(super) fn planes_of(&self, channel: &[u64]) -> Vec<u64> {
        let (mat, (rows, cols)) = (self.tile.matrices(), self.grid());
        let (a, n, step) = (mat.g.len(), mat.n, mat.m * mat.stride);
        let mut planes = vec![0u64; a * a * rows * cols];
        let mut d = vec![0u64; n * n];
        for tile in 0..rows * cols {
            let (top, left) = (tile / cols * step, tile % cols * step);
            for (i, d) in d.iter_mut().enumerate() {
                *d = self.pixel(channel, top + i / n, left + i % n);
            }
            let half = apply(mat.bt, &d, n, n);
            let both = apply_right(mat.bt, &half, a, n);
            for (position, value) in both.into_iter().enumerate() {
                planes[position * rows * cols + tile] = value;
            }
        }
        planes
    }

    /// `A^T m A` of every tile, without its odd factor, `[rows, columns]`.
    pub(super) fn outputs_of(&self, accumulators: &[u64]) -> Vec<u64> {
        let (mat, (rows, cols)) = (self.tile.matrices(), self.grid());
        let (a, m, tiles) = (mat.g.len(), mat.m, rows * cols);
        let odd = mat.scale >> mat.scale.trailing_zeros();
        let undo = inverse(odd.wrapping_mul(odd));
        let mut y = vec![0u64; self.out.0 * self.out.1];
        let mut products = vec![0u64; a * a];
        for tile in 0..tiles {
            for (position, p) in products.iter_mut().enumerate() {
                *p = accumulators[position * tiles + tile];
            }
            let half = apply(mat.at, &products, a, a);
            let both = apply_right(mat.at, &half, m, a);
            for (i, value) in both.into_iter().enumerate() {
                let (row, col) = (tile / cols * m + i / m, tile % cols * m + i % m);
                if row < self.out.0 && col < self.out.1 {
                    y[row * self.out.1 + col] = value.wrapping_mul(undo);
                }
            }
        }
        y
    }

    /// A pixel of the padded channel.
    fn pixel(&self, channel: &[u64], row: usize, col: usize) -> u64 {
        let inside = (self.pad..self.pad + self.height).contains(&row)
            && (self.pad..self.pad + self.width).contains(&col);
        if inside { channel[(row - self.pad) * self.width + col - self.pad] } else { 0 }
    }
}

/// A row's common factor and what remains of it.
fn primitive(row: [i64; 3]) -> (u64, [i64; 3]) {
    let factor = row.iter().fold(0, |f, v| gcd(f, v.unsigned_abs()));
    (factor, row.map(|v| v / factor as i64))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `rows * x` for `x` of `[inner, width]`.
fn apply(rows: &[&[i64]], x: &[u64], inner: usize, width: usize) -> Vec<u64> {
    let mut y = Vec::with_capacity(rows.len() * width);
    for row in rows {
        for j in 0..width {
            let terms = (0..inner).map(|i| (row[i] as u64).wrapping_mul(x[i * width + j]));
            y.push(terms.fold(0, u64::wrapping_add));
        }
    }
    y
}

/// `x * rows^T` for `x` of `[height, inner]`.
fn apply_right(rows: &[&[i64]], x: &[u64], height: usize, inner: usize) -> Vec<u64> {
    let mut y = Vec::with_capacity(height * rows.len());
    for line in x.chunks_exact(inner).take(height) {
        for row in rows {
            let terms = row.iter().zip(line).map(|(&c, &x)| (c as u64).wrapping_mul(x));
            y.push(terms.fold(0, u64::wrapping_add));
        }
    }
    y
}

/// The inverse of an odd number modulo `2^64`, by Newton's iteration.
fn inverse(odd: u64) -> u64 {
    (0..6).fold(odd, |x, _| x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x))))
}
