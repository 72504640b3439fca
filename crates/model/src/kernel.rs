//! The one matrix product of the project, in `Z_2^bits`: the plaintext executor, the server's
//! local part of a private layer and the tests all call [`product`].

use crate::graph::{Conv, Node, Op, TensorType};

/// Shape arithmetic of a convolution. A linear layer is a 1x1 convolution of one pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Input channels.
    pub channels: usize,
    /// Input height.
    pub height: usize,
    /// Input width.
    pub width: usize,
    /// Output channels.
    pub filters: usize,
    /// Kernel side.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Zero padding.
    pub pad: usize,
    /// Groups.
    pub groups: usize,
}

/// The outputs that one kernel tap `(i, j)` reaches, without the padding: output rows and
/// columns, and the input pixel that the first of them meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    /// First output row and one past the last.
    pub rows: (usize, usize),
    /// First output column and one past the last.
    pub cols: (usize, usize),
    /// Input row under `rows.0`.
    pub y: usize,
    /// Input column under `cols.0`.
    pub x: usize,
}

impl Geometry {
    /// The geometry of a convolution or linear layer on `input`; `None` for other operators.
    pub fn of(node: &Node, input: &TensorType) -> Option<Self> {
        let [channels, height, width] = input.shape;
        match &node.op {
            Op::Conv(Conv { out_channels, kernel, stride, pad, groups, .. }) => Some(Self {
                channels,
                height,
                width,
                filters: *out_channels,
                kernel: *kernel,
                stride: *stride,
                pad: *pad,
                groups: *groups,
            }),
            Op::Linear(_) => Some(Self {
                channels: input.len(),
                height: 1,
                width: 1,
                filters: node.output.shape[0],
                kernel: 1,
                stride: 1,
                pad: 0,
                groups: 1,
            }),
            _ => None,
        }
    }

    /// `(rows, columns)` of the output.
    pub fn output_size(&self) -> (usize, usize) {
        let side = |n: usize| (n + 2 * self.pad - self.kernel) / self.stride + 1;
        (side(self.height), side(self.width))
    }

    /// Output positions of one filter.
    pub fn pixels(&self) -> usize {
        let (h, w) = self.output_size();
        h * w
    }

    /// Input channels that one filter sees.
    pub fn channels_per_group(&self) -> usize {
        self.channels / self.groups
    }

    /// Products summed in one output.
    pub fn fan_in(&self) -> usize {
        self.channels_per_group() * self.kernel * self.kernel
    }

    /// Number of weights, `[filters, channels / groups, kernel, kernel]`.
    pub fn weights(&self) -> usize {
        self.filters * self.fan_in()
    }

    /// Multiplications, padding included.
    pub fn macs(&self) -> u64 {
        (self.weights() * self.pixels()) as u64
    }

    /// The outputs that tap `(i, j)` reaches.
    pub fn tap(&self, i: usize, j: usize) -> Tap {
        let (out_h, out_w) = self.output_size();
        let reach = |offset: usize, size: usize, outputs: usize| {
            let first = self.pad.saturating_sub(offset).div_ceil(self.stride);
            let last = (size + self.pad).saturating_sub(offset).div_ceil(self.stride).min(outputs);
            (first.min(last), last)
        };
        let (rows, cols) = (reach(i, self.height, out_h), reach(j, self.width, out_w));
        let start = |first: usize, offset: usize| (first * self.stride + offset).saturating_sub(self.pad);
        Tap { rows, cols, y: start(rows.0, i), x: start(cols.0, j) }
    }

    /// Calls `f(output position, input position)` for every pair that tap `(i, j)` joins, in
    /// row-major order; positions are within one channel.
    pub fn for_each_pair(&self, i: usize, j: usize, mut f: impl FnMut(usize, usize)) {
        let tap = self.tap(i, j);
        let (_, out_w) = self.output_size();
        for (dy, row) in (tap.rows.0..tap.rows.1).enumerate() {
            let line = (tap.y + dy * self.stride) * self.width + tap.x;
            for (dx, col) in (tap.cols.0..tap.cols.1).enumerate() {
                f(row * out_w + col, line + dx * self.stride);
            }
        }
    }
}

impl Tap {
    /// Number of outputs reached.
    pub fn len(&self) -> usize {
        (self.rows.1 - self.rows.0) * (self.cols.1 - self.cols.0)
    }

    /// Whether the tap only ever meets padding.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// `y[k, p] = sum_{c,i,j} w[k, c, i, j] * x[c, position(p, i, j)] mod 2^bits`.
///
/// `x` is `[channels, height, width]` and the result `[filters, rows, columns]`, both as
/// residues in the low `bits` (the rest of `x` is ignored, that of the result is zero).
///
/// # Panics
/// If `x` or `weight` has another length than the geometry says.
pub fn product(g: &Geometry, weight: &[i32], x: &[u64], bits: u32) -> Vec<u64> {
    assert_eq!(weight.len(), g.weights(), "weights");
    assert_eq!(x.len(), g.channels * g.height * g.width, "input");
    let mask = mask(bits);
    if bits <= 32 {
        let x: Vec<u32> = x.iter().map(|&v| v as u32).collect();
        product_in(g, weight, &x).into_iter().map(|v| u64::from(v) & mask).collect()
    } else {
        product_in(g, weight, x).into_iter().map(|v| v & mask).collect()
    }
}

/// `2^bits - 1`.
pub fn mask(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

/// A machine word used as the ring `Z_2^32` or `Z_2^64`.
trait Word: Copy + Default {
    fn weight(w: i32) -> Self;
    fn add_product(self, w: Self, x: Self) -> Self;
}

impl Word for u32 {
    fn weight(w: i32) -> Self {
        w as u32
    }
    fn add_product(self, w: Self, x: Self) -> Self {
        self.wrapping_add(w.wrapping_mul(x))
    }
}

impl Word for u64 {
    fn weight(w: i32) -> Self {
        i64::from(w) as u64
    }
    fn add_product(self, w: Self, x: Self) -> Self {
        self.wrapping_add(w.wrapping_mul(x))
    }
}

fn product_in<T: Word>(g: &Geometry, weight: &[i32], x: &[T]) -> Vec<T> {
    let (fan_in, pixels) = (g.fan_in(), g.pixels());
    let filters_per_group = g.filters / g.groups;
    let mut y = vec![T::default(); g.filters * pixels];
    for group in 0..g.groups {
        let columns = im2col(g, group, x);
        for f in 0..filters_per_group {
            let k = group * filters_per_group + f;
            let row = &mut y[k * pixels..][..pixels];
            for (tap, &w) in weight[k * fan_in..][..fan_in].iter().enumerate() {
                let w = T::weight(w);
                for (y, &x) in row.iter_mut().zip(&columns[tap * pixels..][..pixels]) {
                    *y = y.add_product(w, x);
                }
            }
        }
    }
    y
}

/// `[fan_in, pixels]`: for every tap of a group the input pixel that each output meets.
fn im2col<T: Word>(g: &Geometry, group: usize, x: &[T]) -> Vec<T> {
    let pixels = g.pixels();
    let plane = g.height * g.width;
    let mut columns = vec![T::default(); g.fan_in() * pixels];
    let mut rest = columns.chunks_exact_mut(pixels);
    for c in 0..g.channels_per_group() {
        let input = &x[(group * g.channels_per_group() + c) * plane..][..plane];
        for i in 0..g.kernel {
            for j in 0..g.kernel {
                let Some(column) = rest.next() else { return columns };
                g.for_each_pair(i, j, |p, q| column[p] = input[q]);
            }
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Straight from the definition, padding by bounds checks.
    fn by_definition(g: &Geometry, w: &[i32], x: &[u64], bits: u32) -> Vec<u64> {
        let (oh, ow) = g.output_size();
        let (per_group, filters) = (g.channels_per_group(), g.filters / g.groups);
        let mut y = Vec::new();
        for k in 0..g.filters {
            for p in 0..oh {
                for q in 0..ow {
                    let mut sum = 0u64;
                    for c in 0..per_group {
                        for i in 0..g.kernel {
                            for j in 0..g.kernel {
                                let (r, s) = (p * g.stride + i, q * g.stride + j);
                                if r < g.pad || s < g.pad || r - g.pad >= g.height || s - g.pad >= g.width {
                                    continue;
                                }
                                let channel = k / filters * per_group + c;
                                let xv = x[(channel * g.height + r - g.pad) * g.width + s - g.pad];
                                let wv = w[((k * per_group + c) * g.kernel + i) * g.kernel + j];
                                sum = sum.wrapping_add((i64::from(wv) as u64).wrapping_mul(xv));
                            }
                        }
                    }
                    y.push(sum & mask(bits));
                }
            }
        }
        y
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn product_is_its_definition(
            (h, w, kernel, stride) in (1usize..9, 1usize..9, 1usize..6, 1usize..4),
            (groups, per_group, filters) in (1usize..4, 1usize..4, 1usize..4),
            pad in 0usize..5, bits in 1u32..=64, seed in any::<u64>(),
        ) {
            let pad = pad % kernel;
            prop_assume!(h + 2 * pad >= kernel && w + 2 * pad >= kernel);
            let g = Geometry { channels: groups * per_group, height: h, width: w, filters: groups * filters, kernel, stride, pad, groups };
            let mut state = seed;
            let mut next = || { state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); state };
            let weight: Vec<i32> = (0..g.weights()).map(|_| (next() >> 48) as i32 - 32768).collect();
            let x: Vec<u64> = (0..g.channels * h * w).map(|_| next() & mask(bits)).collect();
            prop_assert_eq!(product(&g, &weight, &x, bits), by_definition(&g, &weight, &x, bits));
            let taps: usize = (0..kernel * kernel).map(|t| g.tap(t / kernel, t % kernel).len()).sum();
            prop_assert!(taps <= g.pixels() * kernel * kernel);
        }
    }
}
