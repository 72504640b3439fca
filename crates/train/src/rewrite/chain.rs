//! A chain of convolutions as one, exactly, zero padding included.
//!
//! Let `A` be followed by `B`, both linear. Where `B` pads, it sees zeros. The product of
//! their kernels agrees with that only if `A` maps the zeros outside the image to zeros, that
//! is, if `A` is 1x1 without padding (its bias aside), or if `B` does not pad. `A`'s bias is a
//! constant field *inside* the image only: pushed through `B` it leaves one value per set of
//! taps that fall inside, which differs along the border (design section 7). Rows and columns
//! are independent, so the sets are pairs of a row class and a column class.

use std::collections::BTreeMap;

use crate::net::{Array, Bias, Conv, PositionMap};

/// Position classes of a map, rows and columns alike: `rows[y]` is the class of row `y`.
#[derive(Clone, Debug)]
pub(super) struct Classes {
    rows: Vec<u8>,
    columns: Vec<u8>,
}

/// A convolution in double precision, dense, with its bias by position class.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    pub conv: Conv,
    /// `[out, in, k, k]`.
    kernel: Vec<f64>,
    /// `[row classes * column classes][out]`.
    bias: Vec<Vec<f64>>,
    classes: Classes,
}

/// For each new class, the class of the input row that each tap sees; `None` outside.
type Taps = Vec<Vec<Option<u8>>>;

impl Classes {
    /// A map that is the same everywhere.
    pub(super) fn uniform([_, height, width]: [usize; 3]) -> Self {
        Self { rows: vec![0; height], columns: vec![0; width] }
    }

    /// The classes of the output of `conv`, and what each tap of a class sees.
    pub(super) fn through(&self, conv: &Conv) -> (Self, Taps, Taps) {
        let (rows, row_taps) = one_direction(&self.rows, conv);
        let (columns, column_taps) = one_direction(&self.columns, conv);
        (Self { rows, columns }, row_taps, column_taps)
    }

    /// How a merged convolution with these classes stores its bias.
    pub(super) fn bias(&self) -> Bias {
        let map = PositionMap { rows: self.rows.clone(), columns: self.columns.clone() };
        if map.vectors() == 1 { Bias::Channel } else { Bias::Position(map) }
    }
}

fn one_direction(classes: &[u8], conv: &Conv) -> (Vec<u8>, Taps) {
    let mut known: BTreeMap<Vec<Option<u8>>, u8> = BTreeMap::new();
    let mut taps = Vec::new();
    let out = (0..conv.output_side(classes.len()))
        .map(|y| {
            let seen: Vec<_> = (0..conv.kernel)
                .map(|i| {
                    (y * conv.stride + i).checked_sub(conv.pad).and_then(|from| classes.get(from).copied())
                })
                .collect();
            *known.entry(seen.clone()).or_insert_with(|| {
                taps.push(seen);
                (taps.len() - 1) as u8
            })
        })
        .collect();
    (out, taps)
}

/// The shape of `a` followed by `b`.
///
/// # Errors
/// Their product would be wrong where `b` pads; the reason.
pub(super) fn compose_shape(a: &Conv, b: &Conv) -> Result<Conv, String> {
    if b.pad > 0 && (a.kernel > 1 || a.pad > 0) {
        return Err(format!(
            "a {0}x{0} convolution before a padded {1}x{1} one cannot be merged exactly",
            a.kernel, b.kernel
        ));
    }
    Ok(Conv {
        in_channels: a.in_channels,
        out_channels: b.out_channels,
        kernel: a.kernel + (b.kernel - 1) * a.stride,
        stride: a.stride * b.stride,
        pad: a.pad + b.pad * a.stride,
        groups: 1,
        norm: false,
        bias: Bias::None,
    })
}

/// Whether a skip with that stride sees, at every output, the pixel under one of the convolution's taps.
///
/// # Errors
/// It does not; the reason.
pub(super) fn check_skip(conv: &Conv, stride: usize) -> Result<(), String> {
    if conv.stride == stride && conv.pad < conv.kernel {
        return Ok(());
    }
    let Conv { stride: own, kernel, pad, .. } = conv;
    Err(format!("a skip with stride {stride} over kernel {kernel}, stride {own}, pad {pad}"))
}

impl Dense {
    /// A convolution with a bias per channel, or none, on an input of shape `input`.
    pub(super) fn new(conv: &Conv, weight: &Array, bias: Option<&Array>, input: [usize; 3]) -> Self {
        let [out, per_group, k, _] = conv.weight_shape();
        let mut kernel = vec![0.0; out * conv.in_channels * k * k];
        for o in 0..out {
            let first = o / (out / conv.groups) * per_group;
            for c in 0..per_group {
                for t in 0..k * k {
                    kernel[(o * conv.in_channels + first + c) * k * k + t] =
                        f64::from(weight.data[(o * per_group + c) * k * k + t]);
                }
            }
        }
        let bias = bias.map_or_else(|| vec![0.0; out], |b| b.data.iter().map(|&v| f64::from(v)).collect());
        let output = [out, conv.output_side(input[1]), conv.output_side(input[2])];
        Self { conv: conv.clone(), kernel, bias: vec![bias], classes: Classes::uniform(output) }
    }

    /// This convolution followed by `b` (whose weights may be grouped).
    ///
    /// # Errors
    /// As [`compose_shape`].
    pub(super) fn then(&self, b: &Conv, weight: &Array, bias: Option<&Array>) -> Result<Self, String> {
        let conv = compose_shape(&self.conv, b)?;
        let [out, per_group, kb, _] = b.weight_shape();
        let (ka, stride, k) = (self.conv.kernel, self.conv.stride, conv.kernel);
        let inputs = conv.in_channels;
        let tap = |o: usize, m: usize, i: usize, j: usize| {
            f64::from(weight.data[((o * per_group + m) * kb + i) * kb + j])
        };
        let middle = |o: usize, m: usize| o / (out / b.groups) * per_group + m;
        let mut kernel = vec![0.0; out * inputs * k * k];
        for o in 0..out {
            for m in 0..per_group {
                let source = &self.kernel[middle(o, m) * inputs * ka * ka..][..inputs * ka * ka];
                for (i, j) in (0..kb * kb).map(|t| (t / kb, t % kb)) {
                    let factor = tap(o, m, i, j);
                    if factor == 0.0 {
                        continue;
                    }
                    for c in 0..inputs {
                        for (y, x) in (0..ka * ka).map(|t| (t / ka, t % ka)) {
                            let at = ((o * inputs + c) * k + i * stride + y) * k + j * stride + x;
                            kernel[at] += factor * source[(c * ka + y) * ka + x];
                        }
                    }
                }
            }
        }
        let columns =
            |classes: &Classes| classes.columns.iter().map(|&c| usize::from(c) + 1).max().unwrap_or(0);
        let (classes, row_taps, column_taps) = self.classes.through(b);
        let old_columns = columns(&self.classes);
        let mut table = Vec::with_capacity(row_taps.len() * column_taps.len());
        for rows in &row_taps {
            for cols in &column_taps {
                let mut vector: Vec<f64> =
                    (0..out).map(|o| bias.map_or(0.0, |b| f64::from(b.data[o]))).collect();
                for (i, row) in rows.iter().enumerate() {
                    for (j, column) in cols.iter().enumerate() {
                        let (Some(row), Some(column)) = (row, column) else { continue };
                        let seen = &self.bias[usize::from(*row) * old_columns + usize::from(*column)];
                        for (o, v) in vector.iter_mut().enumerate() {
                            *v += (0..per_group).map(|m| tap(o, m, i, j) * seen[middle(o, m)]).sum::<f64>();
                        }
                    }
                }
                table.push(vector);
            }
        }
        Ok(Self { conv, kernel, bias: table, classes })
    }

    /// Adds what a 1x1 convolution, `taps` of `[out, in]`, makes of the input with the same stride: one
    /// tap a pair of channels, where the padding ends.
    ///
    /// # Errors
    /// As [`check_skip`].
    pub(super) fn plus_skip(
        mut self,
        stride: usize,
        taps: &[f64],
        bias: Option<&[f64]>,
    ) -> Result<Self, String> {
        check_skip(&self.conv, stride)?;
        let Conv { in_channels, out_channels, kernel, pad, .. } = self.conv;
        if taps.len() != out_channels * in_channels {
            return Err(format!(
                "a skip of {} weights over {in_channels} to {out_channels} channels",
                taps.len()
            ));
        }
        for (pair, tap) in taps.iter().enumerate() {
            self.kernel[(pair * kernel + pad) * kernel + pad] += tap;
        }
        for vector in &mut self.bias {
            vector.iter_mut().zip(bias.unwrap_or_default()).for_each(|(v, b)| *v += b);
        }
        Ok(self)
    }

    /// The convolution with its bias's shape, its weights and its bias.
    pub(super) fn finish(self) -> (Conv, Array, Array) {
        let single = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<_>>();
        let conv = Conv { bias: self.classes.bias(), ..self.conv };
        let weight = Array::new(conv.weight_shape(), single(&self.kernel));
        let out = conv.out_channels;
        let shape = if self.bias.len() == 1 { vec![out] } else { vec![self.bias.len(), out] };
        let bias = Array::new(shape, single(&self.bias.concat()));
        (conv, weight, bias)
    }
}
