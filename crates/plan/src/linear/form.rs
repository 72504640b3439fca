//! A convolution as products of *planes* with weights: what every algorithm boils down to.
//!
//! ```text
//! y[k] = R( sum over channels c and taps t of  factor_t * v[k,c,t] * P(x[c])[plane_t] )
//! ```
//!
//! `P` is linear, public and local: it splits a channel into planes. `v` is a small integer
//! combination of the kernel's weights, local to the server. `R` is linear, public and local: it
//! folds the accumulators into output pixels. Between them stand products of *one* private weight
//! with a *whole* plane, which is what oblivious transfer is good at.
//!
//! * **Direct**: a plane is the channel itself (with stride `s`, one of its `s^2` phases), a tap is
//!   a kernel position, and its product is added at an offset.
//! * **Winograd** `F(m x m, 3 x 3)` (Lavin and Gray, 2016; CoPriv section 4.1): `Y = A^T [ (G w G^T)
//!   . (B^T d B) ] A`, the planes are the tile positions and have an entry a tile, the accumulators are
//!   summed over channels *before* `A^T . A` ("tile aggregation"). `G` is scaled to integers, so
//!   that the result is a multiple of `Y`, see [`super::winograd`].
//! * **Element-wise Winograd**: a plane is one entry, so every product has its own oblivious transfers. What
//!   CoPriv starts from.

use std::ops::RangeInclusive;

use copriv_model::KernelBound;
use copriv_model::kernel::Geometry;

use super::winograd::{Tile, Tiling};

/// How a convolution becomes products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// One product a kernel position.
    #[default]
    Direct,
    /// Fewer products on tiles; kernel 3 only.
    Winograd(Tile),
    /// The same without tile aggregation: each tile has products of its own (CoPriv section 4.1, EWMM).
    ElementWise(Tile),
}

/// A convolution's planes, taps and accumulators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Entries of each plane of an input channel; planes lie one after the other.
    pub planes: Vec<usize>,
    /// Where each plane starts among a channel's.
    starts: Vec<usize>,
    /// Accumulators of each filter.
    pub accumulators: usize,
    /// Products of each pair of a filter and a channel.
    pub taps: Vec<Tap>,
    shape: Shape,
}

/// One weight's product with one plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Which plane.
    pub plane: usize,
    /// Which entries go to which accumulators.
    pub runs: Vec<Run>,
    /// `v = sum of coefficient * w[position]` over positions of the kernel, row-major.
    pub combination: Vec<(usize, i64)>,
    /// The product counts this many times.
    pub factor: u64,
    /// Interval of `v`.
    pub range: (i64, i64),
}

/// `accumulators[at + i] += plane[from + i]` for `i < len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First accumulator.
    pub at: usize,
    /// First entry of the plane.
    pub from: usize,
    /// How many.
    pub len: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// For each entry of the planes the input pixel.
    Direct {
        gather: Vec<usize>,
    },
    Tiles(Tiling),
}

impl Algorithm {
    /// The result is `2^extra_bits` times the convolution.
    pub fn extra_bits(self) -> u32 {
        match self {
            Self::Direct => 0,
            Self::Winograd(tile) | Self::ElementWise(tile) => tile.extra_bits(),
        }
    }

    /// Those that can compute a convolution of this geometry, with aggregated tiles.
    pub fn candidates(g: &Geometry) -> Vec<Self> {
        let tiles = Tile::ALL.into_iter().filter(|tile| tile.fits(g)).map(Self::Winograd);
        std::iter::once(Self::Direct).chain(tiles).collect()
    }

    /// Those that can, tile by tile; the direct one where no tile fits.
    pub fn element_wise(g: &Geometry) -> Vec<Self> {
        let tiles: Vec<Self> =
            Tile::ALL.into_iter().filter(|tile| tile.fits(g)).map(Self::ElementWise).collect();
        if tiles.is_empty() { vec![Self::Direct] } else { tiles }
    }
}

impl Form {
    /// The form of a convolution whose weights lie in an interval, and their combinations within bounds.
    pub fn new(
        algorithm: Algorithm,
        g: &Geometry,
        weights: RangeInclusive<i64>,
        bounds: &[KernelBound],
    ) -> Self {
        match algorithm {
            Algorithm::Direct => Self::direct(g, weights),
            Algorithm::Winograd(tile) => {
                let tiling = Tiling::new(tile, g);
                Self::winograd(tiling, weights, bounds, tiling.tiles())
            }
            Algorithm::ElementWise(tile) => Self::winograd(Tiling::new(tile, g), weights, bounds, 1),
        }
    }

    /// Entries of all planes of a channel.
    pub fn plane_entries(&self) -> usize {
        self.planes.iter().sum()
    }

    /// Where plane `p` starts among a channel's planes.
    pub fn plane_start(&self, p: usize) -> usize {
        self.starts[p]
    }

    /// Whether every entry of the planes is an input pixel of its own, so that a mask may be
    /// drawn plane by plane.
    pub fn planes_are_inputs(&self) -> bool {
        matches!(self.shape, Shape::Direct { .. })
    }

    /// What a plane's entry is made of: the sums of its negative and of its positive coefficients, in
    /// magnitude.
    pub(super) fn plane_sums(&self, plane: usize) -> (u64, u64) {
        match &self.shape {
            Shape::Direct { .. } => (0, 1),
            Shape::Tiles(tiling) => tiling.plane_sums(self.plane_start(plane) / tiling.tiles()),
        }
    }

    /// The input pixels of a channel that matter, in the order in which they are masked and sent.
    pub fn pixels_sent(&self) -> Vec<usize> {
        match &self.shape {
            Shape::Direct { gather } => gather.clone(),
            Shape::Tiles(tiling) => (0..tiling.pixels()).collect(),
        }
    }

    /// `P`: the planes of one channel `[height * width]`.
    pub fn planes_of(&self, channel: &[u64]) -> Vec<u64> {
        match &self.shape {
            Shape::Direct { gather } => gather.iter().map(|&i| channel[i]).collect(),
            Shape::Tiles(tiling) => tiling.planes_of(channel),
        }
    }

    /// `R`: the output pixels of one filter, times `2^extra_bits`.
    pub fn outputs_of(&self, accumulators: &[u64]) -> Vec<u64> {
        match &self.shape {
            Shape::Direct { .. } => accumulators.to_vec(),
            Shape::Tiles(tiling) => tiling.outputs_of(accumulators),
        }
    }

    fn direct(g: &Geometry, weights: RangeInclusive<i64>) -> Self {
        let mut phases: Vec<Phase> = Vec::new();
        let mut taps = Vec::new();
        for i in 0..g.kernel {
            for j in 0..g.kernel {
                if g.tap(i, j).is_empty() {
                    continue;
                }
                let phase = Phase::of(g, i, j);
                let plane = phases.iter().position(|p| *p == phase).unwrap_or_else(|| {
                    phases.push(phase);
                    phases.len() - 1
                });
                taps.push(Tap {
                    plane,
                    runs: phase.runs(g, i, j),
                    combination: vec![(i * g.kernel + j, 1)],
                    factor: 1,
                    range: (*weights.start(), *weights.end()),
                });
            }
        }
        let planes = phases.iter().map(|p| p.rows(g) * p.cols(g)).collect();
        let gather = phases.iter().flat_map(|p| p.pixels(g)).collect();
        Self::of(planes, g.pixels(), taps, Shape::Direct { gather })
    }

    /// Planes of `together` tiles of one position.
    fn winograd(
        tiling: Tiling,
        weights: RangeInclusive<i64>,
        bounds: &[KernelBound],
        together: usize,
    ) -> Self {
        let mut taps: Vec<Tap> = Vec::new();
        for position in tiling.positions() {
            let coefficients = position.coefficients();
            let bound = bounds.iter().find(|bound| bound.coefficients == coefficients);
            let range = bound.map_or_else(|| interval(&position.combination, &weights), |bound| bound.range);
            for _ in 0..tiling.tiles() / together {
                let at = taps.len() * together;
                taps.push(Tap {
                    plane: taps.len(),
                    runs: vec![Run { at, from: 0, len: together }],
                    combination: position.combination.clone(),
                    factor: position.factor,
                    range,
                });
            }
        }
        let entries = taps.len() * together;
        Self::of(vec![together; taps.len()], entries, taps, Shape::Tiles(tiling))
    }

    fn of(planes: Vec<usize>, accumulators: usize, taps: Vec<Tap>, shape: Shape) -> Self {
        let starts = planes.iter().scan(0, |end, len| Some(std::mem::replace(end, *end + len))).collect();
        Self { planes, starts, accumulators, taps, shape }
    }
}

impl Tap {
    /// Bits of `v - range.0`, which is not negative.
    pub fn bits(&self) -> u32 {
        u64::BITS - self.range.1.abs_diff(self.range.0).leading_zeros()
    }

    /// The product is needed modulo `2^(ring - zeros)` only: `factor` has that many zeros at its end.
    pub fn zeros(&self) -> u32 {
        self.factor.trailing_zeros()
    }

    /// `v` for a kernel, `[kernel * kernel]`.
    pub fn weight(&self, kernel: &[i32]) -> i64 {
        self.combination.iter().map(|&(at, c)| c * i64::from(kernel[at])).sum()
    }

    /// Entries of its plane that it uses.
    pub fn entries(&self) -> usize {
        self.runs.iter().map(|run| run.len).sum()
    }
}

/// The interval of a combination of independent weights.
fn interval(combination: &[(usize, i64)], weights: &RangeInclusive<i64>) -> (i64, i64) {
    let ends = |c: i64| [c * weights.start(), c * weights.end()];
    combination.iter().fold((0, 0), |(lo, hi), &(_, c)| {
        let [a, b] = ends(c);
        (lo + a.min(b), hi + a.max(b))
    })
}

/// The pixels whose row and column leave these remainders by the stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Phase {
    row: usize,
    col: usize,
}

impl Phase {
    fn of(g: &Geometry, i: usize, j: usize) -> Self {
        let remainder = |offset: usize| (offset as i64 - g.pad as i64).rem_euclid(g.stride as i64) as usize;
        Self { row: remainder(i), col: remainder(j) }
    }

    fn rows(self, g: &Geometry) -> usize {
        (g.height - self.row).div_ceil(g.stride)
    }

    fn cols(self, g: &Geometry) -> usize {
        (g.width - self.col).div_ceil(g.stride)
    }

    fn pixels(self, g: &Geometry) -> impl Iterator<Item = usize> {
        let (g, cols) = (*g, self.cols(g));
        (0..self.rows(&g) * cols)
            .map(move |i| (self.row + i / cols * g.stride) * g.width + self.col + i % cols * g.stride)
    }

    /// What tap `(i, j)` joins: rows of the output with rows of the phase, merged where possible.
    fn runs(self, g: &Geometry, i: usize, j: usize) -> Vec<Run> {
        let tap = g.tap(i, j);
        let (_, out_w) = g.output_size();
        let (y, x) = ((tap.y - self.row) / g.stride, (tap.x - self.col) / g.stride);
        let mut runs: Vec<Run> = Vec::new();
        for (dy, row) in (tap.rows.0..tap.rows.1).enumerate() {
            let run = Run {
                at: row * out_w + tap.cols.0,
                from: (y + dy) * self.cols(g) + x,
                len: tap.cols.1 - tap.cols.0,
            };
            match runs.last_mut() {
                Some(last) if last.at + last.len == run.at && last.from + last.len == run.from => {
                    last.len += run.len;
                }
                _ => runs.push(run),
            }
        }
        runs
    }
}
