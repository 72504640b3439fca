use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::{KernelBound, Mask, ModelError};

/// Index of a node in [`Graph::nodes`]; also names the edge that the node produces.
pub type NodeId = usize;

/// The public part of an integer model: a directed acyclic graph in topological order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// A name for people.
    pub name: String,
    /// How a client turns pixels into the input's integers.
    pub preprocess: Preprocess,
    /// Class names, by output index; may be empty.
    pub classes: Vec<String>,
    /// Nodes, inputs before their users; node 0 is the only [`Op::Input`].
    pub nodes: Vec<Node>,
    /// The node whose value is the result.
    pub output: NodeId,
}

/// One operator and the tensor that it produces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Unique name; the bytes of a private run are accounted under it.
    pub name: String,
    /// The operator.
    pub op: Op,
    /// Operands.
    pub inputs: Vec<NodeId>,
    /// Type of the result. Follows from `op` and the operands and is checked on loading.
    pub output: TensorType,
}

/// Type of an edge: a `[channels, height, width]` tensor of integers `v` that stand for the
/// real number `v * 2^scale_log2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorType {
    /// `[channels, height, width]`.
    pub shape: [usize; 3],
    /// Width of the ring `Z_2^bits` that the values live in, 1..=64.
    pub bits: u32,
    /// Two's complement if set, else `0..2^bits`.
    pub signed: bool,
    /// Scale of one unit.
    pub scale_log2: i32,
    /// No value is negative, although the type may be signed (after a ReLU).
    pub known_non_negative: bool,
}

/// Operators. Arithmetic is on integers; see [`crate::execute`] for the exact meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Op {
    /// The client's image.
    Input,
    /// `y[k,p] = (sum_{c,i,j} w[k,c,i,j] x[c, s*p+(i,j)-pad]) * 2^channel_shifts[k] + bias[k,p]` in `Z_2^acc_bits`.
    Conv(Conv),
    /// `y[k] = (sum_c w[k,c] x[c]) * 2^channel_shifts[k] + bias[k]` in `Z_2^acc_bits`.
    Linear(Linear),
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)` at the positions of `mask`, `x` elsewhere: what pruning by the pixel or the channel
    /// leaves of a rectifier.
    PartialRelu {
        /// Where it rectifies, `[channels, height, width]`.
        mask: Mask,
    },
    /// `floor((x + 2^(shift-1)) / 2^shift)` (round half up; the identity for `shift = 0`), then
    /// saturated to the output type if `clamp`, else reduced modulo `2^bits` of the output
    /// type - which [`crate::range`] proves to change nothing.
    Requant {
        /// Bits dropped.
        shift: u32,
        /// Saturate (and pay for it in the protocol).
        clamp: bool,
    },
    /// `x0 * 2^shifts[0] + x1 * 2^shifts[1]`: a residual connection in the wider scale.
    Add {
        /// Left shifts that align the operands.
        shifts: [u32; 2],
    },
    /// Mean over `kernel x kernel` windows, `floor((sum + area/2) / area)`, no padding.
    AvgPool {
        /// Window side.
        kernel: usize,
        /// Window stride.
        stride: usize,
    },
    /// Maximum over `kernel x kernel` windows; of a window that reaches into the padding only
    /// the part on the tensor counts.
    MaxPool {
        /// Window side.
        kernel: usize,
        /// Window stride.
        stride: usize,
        /// Padding, all four sides.
        #[serde(default, skip_serializing_if = "no_padding")]
        pad: usize,
    },
    /// Every `stride`-th row and column, with channels of zeros before and after: ResNet's
    /// option-A shortcut. No arithmetic, so it costs nothing privately.
    Subsample(Subsample),
    /// `[c, h, w]` to `[c*h*w, 1, 1]`, row-major.
    Flatten,
    /// Index of the largest of `[n, 1, 1]`; the smallest index wins a tie.
    Argmax,
    /// Indices of the `k` largest of `[n, 1, 1]`, largest first; of equals the smaller index first.
    TopK {
        /// How many.
        k: usize,
    },
}

/// Public description of a convolution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv {
    /// Filters.
    pub out_channels: usize,
    /// Kernel side (square).
    pub kernel: usize,
    /// Stride, both directions.
    pub stride: usize,
    /// Zero padding, all four sides.
    pub pad: usize,
    /// Groups; `in_channels` of them make a depth-wise convolution.
    pub groups: usize,
    /// What is public of its weights beyond their width; usually nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernel_bounds: Vec<KernelBound>,
    /// Matrix part shared with [`Linear`].
    #[serde(flatten)]
    pub linear: Linear,
}

/// Public description of a product with the server's weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linear {
    /// Signed weights of this many bits, 2..=16.
    pub weight_bits: u32,
    /// Of the 2-bit weights only -1, 0 and 1 occur.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ternary: bool,
    /// Scale of one weight unit (after alignment, the smallest of the channels').
    pub weight_scale_log2: i32,
    /// Left shift of each output channel's product; empty means none.
    pub channel_shifts: Vec<u32>,
    /// Width of the accumulator's ring.
    pub acc_bits: u32,
    /// No accumulator (bias included) is larger in magnitude. By default the worst case of
    /// the shape; with tight accumulators that of the real weights, and then it is public.
    pub acc_bound: u64,
}

/// Which pixels a subsampling keeps, and how many channels of zeros surround them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subsample {
    /// Distance of the rows and columns kept; the first of each is.
    pub stride: usize,
    /// Zero channels before the operand's.
    pub before: usize,
    /// Zero channels behind them.
    pub after: usize,
}

/// `integer = clamp(floor((pixel / 255 - mean[c]) / std[c] / 2^scale_log2 + 1/2))` with the
/// input's scale and type; an image smaller than the input is centred on a background of
/// pixel value 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Mean of each channel, in units of the full pixel range.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, likewise.
    pub std: Vec<f32>,
}

impl Eq for Preprocess {}

/// Models without padding keep the form that they had before there was any.
fn no_padding(pad: &usize) -> bool {
    *pad == 0
}

impl Graph {
    /// The input's type.
    pub fn input_type(&self) -> &TensorType {
        &self.nodes[0].output
    }

    /// The result's type.
    pub fn output_type(&self) -> &TensorType {
        &self.nodes[self.output].output
    }

    /// Pixels (`height * width` rows of `channels` interleaved bytes) to input integers.
    ///
    /// # Errors
    /// The image has other channels or is larger than the input.
    pub fn quantise_image(&self, pixels: &[u8], height: usize, width: usize) -> Result<Vec<i64>, ModelError> {
        let t = self.input_type();
        let [c, h, w] = t.shape;
        if height > h || width > w || pixels.len() != height * width * c {
            return Err(ModelError::Input(format!(
                "an image of {height}x{width} pixels and {} channels; the model takes {c} channels and at most {h}x{w}",
                pixels.len() / (height * width).max(1)
            )));
        }
        let (top, left) = ((h - height) / 2, (w - width) / 2);
        let mut out = Vec::with_capacity(t.len());
        for ch in 0..c {
            let (mean, std) = (self.preprocess.mean[ch], self.preprocess.std[ch]);
            for y in 0..h {
                for x in 0..w {
                    let inside = (top..top + height).contains(&y) && (left..left + width).contains(&x);
                    let pixel = if inside { pixels[((y - top) * width + (x - left)) * c + ch] } else { 0 };
                    let real = (f32::from(pixel) / 255.0 - mean) / std;
                    out.push(t.quantise(real));
                }
            }
        }
        Ok(out)
    }
}

impl TensorType {
    /// An unsigned edge.
    pub fn unsigned(shape: [usize; 3], bits: u32, scale_log2: i32) -> Self {
        Self { shape, bits, signed: false, scale_log2, known_non_negative: true }
    }

    /// A two's complement edge.
    pub fn signed(shape: [usize; 3], bits: u32, scale_log2: i32) -> Self {
        Self { shape, bits, signed: true, scale_log2, known_non_negative: false }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Smallest representable value.
    pub fn min(&self) -> i128 {
        match (self.signed, self.known_non_negative) {
            (true, false) => -(1i128 << (self.bits - 1)),
            _ => 0,
        }
    }

    /// Largest representable value.
    pub fn max(&self) -> i128 {
        if self.signed { (1i128 << (self.bits - 1)) - 1 } else { (1i128 << self.bits) - 1 }
    }

    /// The representative of `value` modulo `2^bits`.
    pub fn reduce(&self, value: i64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed { (value << unused) >> unused } else { (((value as u64) << unused) >> unused) as i64 }
    }

    /// The nearest integer (half up) of a real number, saturated.
    pub fn quantise(&self, real: f32) -> i64 {
        let units = (f64::from(real) * 2f64.powi(-self.scale_log2) + 0.5).floor();
        units.clamp(self.min() as f64, self.max() as f64) as i64
    }

    /// The real number that `value` stands for.
    pub fn dequantise(&self, value: i64) -> f64 {
        value as f64 * 2f64.powi(self.scale_log2)
    }
}

impl Subsample {
    /// Shape of the result.
    pub fn output_shape(&self, [c, h, w]: [usize; 3]) -> [usize; 3] {
        let side = |n: usize| n.div_ceil(self.stride.max(1));
        [self.before + c + self.after, side(h), side(w)]
    }

    /// The result for an operand of shape `input`, row-major.
    pub fn apply<T: Copy + Default>(&self, input: [usize; 3], x: &[T]) -> Vec<T> {
        let [_, h, w] = input;
        let [c, rows, columns] = self.output_shape(input);
        let mut y = vec![T::default(); c * rows * columns];
        let planes = y.chunks_exact_mut(rows * columns).skip(self.before);
        for (to, from) in planes.zip(x.chunks_exact(h * w)) {
            for (i, v) in to.iter_mut().enumerate() {
                *v = from[i / columns * self.stride * w + i % columns * self.stride];
            }
        }
        y
    }
}

impl Op {
    /// The matrix part of a convolution or linear layer.
    pub fn linear(&self) -> Option<&Linear> {
        match self {
            Self::Conv(conv) => Some(&conv.linear),
            Self::Linear(linear) => Some(linear),
            _ => None,
        }
    }
}

impl Linear {
    /// Every weight lies in it.
    pub fn weight_range(&self) -> RangeInclusive<i32> {
        if self.ternary {
            return -1..=1;
        }
        let half = 1 << (self.weight_bits - 1);
        -half..=half - 1
    }

    /// Left shift of output channel `k`.
    pub fn channel_shift(&self, k: usize) -> u32 {
        self.channel_shifts.get(k).copied().unwrap_or(0)
    }

    /// The largest left shift: the spread of the channels' scales.
    pub fn spread(&self) -> u32 {
        self.channel_shifts.iter().copied().max().unwrap_or(0)
    }
}
