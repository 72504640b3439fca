//! Layers on top of each other, with the widths of a setting.

use copriv_model::range;
use copriv_model::{ConvSpec, Graph, GraphBuilder, LinearSpec, ModelError, NodeId, Subsample, TensorType};

use super::Numbers;

/// Pixels.
const INPUT_BITS: u32 = 8;
/// Fixed-point weights: the widest of the format.
const FIXED_WEIGHT_BITS: u32 = 16;
/// Real activations lie below `2^RANGE_LOG2`.
const RANGE_LOG2: i32 = 2;

/// Shape of a convolution with "same" padding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel {
    pub filters: usize,
    pub side: usize,
    pub stride: usize,
    pub groups: usize,
}

impl Kernel {
    pub fn dense(filters: usize, side: usize, stride: usize) -> Self {
        Self { filters, side, stride, groups: 1 }
    }

    pub fn depthwise(channels: usize, side: usize, stride: usize) -> Self {
        Self { filters: channels, side, stride, groups: channels }
    }
}

/// Where a value goes, which decides its width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Read by convolutions only.
    Activation,
    /// Part of the residual stream.
    Residual,
}

pub(super) struct Stack<'a> {
    builder: GraphBuilder,
    numbers: &'a Numbers,
    /// Linear layers so far.
    layers: usize,
    /// Its input is the image, which the first layer reads with weights of [`super::Bits::ends`].
    whole: bool,
}

impl<'a> Stack<'a> {
    /// A network from its image on.
    pub fn new(name: &str, shape: [usize; 3], numbers: &'a Numbers) -> Self {
        Self::on(name, shape, numbers, true)
    }

    /// Layers from the middle of a network: their input is an activation.
    pub fn inner(name: &str, shape: [usize; 3], numbers: &'a Numbers) -> Self {
        Self::on(name, shape, numbers, false)
    }

    fn on(name: &str, shape: [usize; 3], numbers: &'a Numbers, whole: bool) -> Self {
        let (bits, scale) = match numbers {
            Numbers::Quantised(bits) => {
                let width = if whole { INPUT_BITS } else { bits.activations };
                (width, RANGE_LOG2 - width as i32 + 1)
            }
            Numbers::FixedPoint { ring, scale } => (ring - scale, -(*scale as i32)),
        };
        let input = TensorType::signed(shape, bits, scale);
        Self { builder: GraphBuilder::new(name, input), numbers, layers: 0, whole }
    }

    pub fn input(&self) -> NodeId {
        self.builder.input()
    }

    pub fn channels(&self, x: NodeId) -> usize {
        self.builder.type_of(x).shape[0]
    }

    /// A convolution's accumulators. In fixed point, the truncated ones.
    pub fn conv(&mut self, name: &str, x: NodeId, kernel: Kernel) -> Result<NodeId, ModelError> {
        let fan_in = self.channels(x) / kernel.groups * kernel.side * kernel.side;
        let conv = ConvSpec {
            out_channels: kernel.filters,
            kernel: kernel.side,
            stride: kernel.stride,
            pad: kernel.side / 2,
            groups: kernel.groups,
            linear: self.linear_spec(fan_in, self.whole && self.layers == 0),
        };
        self.layers += 1;
        let y = self.builder.conv(name, x, conv)?;
        self.truncated(name, y)
    }

    /// [`Self::conv`], ReLU and requantisation.
    pub fn conv_relu(
        &mut self,
        name: &str,
        x: NodeId,
        kernel: Kernel,
        role: Role,
    ) -> Result<NodeId, ModelError> {
        let y = self.conv(name, x, kernel)?;
        self.relu(name, y, role)
    }

    /// A ReLU, requantised for its readers.
    pub fn relu(&mut self, name: &str, x: NodeId, role: Role) -> Result<NodeId, ModelError> {
        let y = self.builder.relu(&format!("{name}.relu"), x)?;
        self.requantise(name, y, role, false)
    }

    /// Values without a ReLU, requantised for their readers.
    pub fn signed(&mut self, name: &str, x: NodeId, role: Role) -> Result<NodeId, ModelError> {
        self.requantise(name, x, role, true)
    }

    /// The residual stream as a convolution reads it.
    pub fn branch(&mut self, name: &str, x: NodeId) -> Result<NodeId, ModelError> {
        match self.numbers {
            Numbers::Quantised(bits) if bits.activations < self.builder.type_of(x).bits => {
                let signed = self.builder.type_of(x).signed;
                self.requantise(&format!("{name}.branch"), x, Role::Activation, signed)
            }
            _ => Ok(x),
        }
    }

    /// A residual addition, in the accumulator's scale (PrivQuant, section 4.1.2).
    pub fn add(&mut self, name: &str, x: NodeId, y: NodeId) -> Result<NodeId, ModelError> {
        self.builder.add(name, x, y)
    }

    /// Every `stride`-th pixel, with as many zero channels on both sides as make `channels`.
    pub fn subsample(
        &mut self,
        name: &str,
        x: NodeId,
        stride: usize,
        channels: usize,
    ) -> Result<NodeId, ModelError> {
        let zeros = channels - self.channels(x);
        self.builder.subsample(name, x, Subsample { stride, before: zeros / 2, after: zeros - zeros / 2 })
    }

    /// `window` is side, stride and padding.
    pub fn max_pool(
        &mut self,
        name: &str,
        x: NodeId,
        window: (usize, usize, usize),
    ) -> Result<NodeId, ModelError> {
        self.builder.max_pool(name, x, window)
    }

    pub fn avg_pool(
        &mut self,
        name: &str,
        x: NodeId,
        side: usize,
        stride: usize,
    ) -> Result<NodeId, ModelError> {
        // A division by a number that is no power of two needs a ring of about three times the
        // operand's width: to stay in fixed point's ring, values lose half of their scale first and
        // saturate.
        let x = match self.numbers {
            Numbers::FixedPoint { scale, .. } if !(side * side).is_power_of_two() => {
                let signed = range::of_type(self.builder.type_of(x)).0 < 0;
                self.builder.requant(&format!("{name}.narrow"), x, scale / 2, scale - 1, signed, true)?
            }
            _ => x,
        };
        self.builder.avg_pool(name, x, side, stride)
    }

    /// Mean over the whole map and a last fully connected layer.
    pub fn classifier(mut self, x: NodeId, classes: usize) -> Result<Graph, ModelError> {
        let [_, side, _] = self.builder.type_of(x).shape;
        let x = if side > 1 { self.avg_pool("pool", x, side, side)? } else { x };
        let x = self.builder.flatten("flatten", x)?;
        self.fully_connected(x, classes)
    }

    /// A last fully connected layer on everything.
    pub fn flat_classifier(mut self, x: NodeId, classes: usize) -> Result<Graph, ModelError> {
        let x = self.builder.flatten("flatten", x)?;
        self.fully_connected(x, classes)
    }

    pub fn finish(self, output: NodeId) -> Result<Graph, ModelError> {
        self.builder.finish(output)
    }

    fn fully_connected(mut self, x: NodeId, classes: usize) -> Result<Graph, ModelError> {
        let spec = self.linear_spec(self.builder.type_of(x).len(), true);
        let y = self.builder.linear("classifier", x, classes, spec)?;
        self.builder.finish(y)
    }

    fn linear_spec(&self, fan_in: usize, end: bool) -> LinearSpec {
        let (weight_bits, weight_scale_log2, acc_bound) = match self.numbers {
            Numbers::Quantised(bits) => {
                let width = bits.layers.get(self.layers).copied().unwrap_or(if end {
                    bits.ends
                } else {
                    bits.weights
                });
                let root = fan_in.next_power_of_two().ilog2().div_ceil(2) as i32;
                (width, RANGE_LOG2 - root - (width as i32 - 1), None)
            }
            Numbers::FixedPoint { ring, scale } => {
                (FIXED_WEIGHT_BITS, -(*scale as i32), Some((1 << (ring - 1)) - (1 << scale)))
            }
        };
        LinearSpec {
            weight_bits,
            ternary: false,
            weight_scale_log2,
            channel_shifts: vec![],
            bias_bits: 0,
            acc_bound,
        }
    }

    fn truncated(&mut self, name: &str, y: NodeId) -> Result<NodeId, ModelError> {
        match *self.numbers {
            Numbers::FixedPoint { ring, scale } => {
                self.builder.requant(&format!("{name}.truncate"), y, scale, ring - scale, true, false)
            }
            Numbers::Quantised(_) => Ok(y),
        }
    }

    fn requantise(&mut self, name: &str, x: NodeId, role: Role, signed: bool) -> Result<NodeId, ModelError> {
        let Numbers::Quantised(widths) = self.numbers else { return Ok(x) };
        let bits = match role {
            Role::Activation => widths.activations,
            Role::Residual => widths.residual,
        };
        let from = self.builder.type_of(x);
        let scale = RANGE_LOG2 - bits as i32 + i32::from(signed);
        let shift = (scale - from.scale_log2).max(0) as u32;
        let to = if signed {
            TensorType::signed(from.shape, bits, scale)
        } else {
            TensorType::unsigned(from.shape, bits, scale)
        };
        let (lo, hi) = range::of_type(from);
        let (lo, hi) = (range::round_shift(lo, shift), range::round_shift(hi, shift));
        let clamp = lo < to.min() || hi > to.max();
        self.builder.requant(&format!("{name}.requant"), x, shift, bits, signed, clamp)
    }
}
