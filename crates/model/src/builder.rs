//! Builds graphs, deriving the type of every edge; loading re-derives and compares.

use crate::graph::{Conv, Graph, Linear, Node, NodeId, Op, Preprocess, Subsample, TensorType};
use crate::types::infer;
use crate::{Mask, ModelError, range};

/// What a caller says about a convolution; the rest follows from the shape.
#[derive(Clone, Debug)]
pub struct ConvSpec {
    /// Filters.
    pub out_channels: usize,
    /// Kernel side.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Zero padding.
    pub pad: usize,
    /// Groups.
    pub groups: usize,
    /// The matrix part.
    pub linear: LinearSpec,
}

/// What a caller says about the weights of a layer.
#[derive(Clone, Debug)]
pub struct LinearSpec {
    /// Width of the signed weights.
    pub weight_bits: u32,
    /// Only -1, 0 and 1 occur; then `weight_bits` is 2.
    pub ternary: bool,
    /// Scale of one weight unit.
    pub weight_scale_log2: i32,
    /// Left shifts aligning the output channels; empty for none.
    pub channel_shifts: Vec<u32>,
    /// Every bias is below `2^bias_bits` in magnitude.
    pub bias_bits: u32,
    /// Largest accumulator of the real weights (tight accumulators, which become public);
    /// `None` takes the worst case of the shape.
    pub acc_bound: Option<u64>,
}

/// Appends nodes; every method returns the new node's id.
#[derive(Debug)]
pub struct GraphBuilder {
    graph: Graph,
}

impl GraphBuilder {
    /// A graph with nothing but its input.
    pub fn new(name: &str, input: TensorType) -> Self {
        let channels = input.shape[0];
        Self {
            graph: Graph {
                name: name.to_owned(),
                preprocess: Preprocess { mean: vec![0.0; channels], std: vec![1.0; channels] },
                classes: Vec::new(),
                nodes: vec![Node { name: "input".into(), op: Op::Input, inputs: vec![], output: input }],
                output: 0,
            },
        }
    }

    /// The input node.
    pub fn input(&self) -> NodeId {
        0
    }

    /// The type of a node built so far.
    pub fn type_of(&self, node: NodeId) -> &TensorType {
        &self.graph.nodes[node].output
    }

    /// Sets how pixels become integers.
    pub fn preprocess(&mut self, preprocess: Preprocess) -> &mut Self {
        self.graph.preprocess = preprocess;
        self
    }

    /// Sets the class names.
    pub fn classes(&mut self, classes: Vec<String>) -> &mut Self {
        self.graph.classes = classes;
        self
    }

    /// A convolution.
    ///
    /// # Errors
    /// Shapes or widths that do not fit, here and in every method below.
    pub fn conv(&mut self, name: &str, x: NodeId, spec: ConvSpec) -> Result<NodeId, ModelError> {
        let input = self.type_of(x);
        let groups = spec.groups.max(1);
        let fan_in = input.shape[0] / groups * spec.kernel * spec.kernel;
        let linear = self.linear_part(name, x, fan_in, spec.linear)?;
        let conv = Conv {
            out_channels: spec.out_channels,
            kernel: spec.kernel,
            stride: spec.stride,
            pad: spec.pad,
            groups: spec.groups,
            kernel_bounds: vec![],
            linear,
        };
        self.push(name, Op::Conv(conv), vec![x], None)
    }

    /// A fully connected layer on a `[n, 1, 1]` input.
    pub fn linear(
        &mut self,
        name: &str,
        x: NodeId,
        outputs: usize,
        spec: LinearSpec,
    ) -> Result<NodeId, ModelError> {
        let fan_in = self.type_of(x).len();
        let linear = self.linear_part(name, x, fan_in, spec)?;
        let bits = linear.acc_bits;
        let scale = self.type_of(x).scale_log2 + linear.weight_scale_log2;
        let wanted = TensorType::signed([outputs, 1, 1], bits, scale);
        self.push(name, Op::Linear(linear), vec![x], Some(wanted))
    }

    /// A rectifier.
    pub fn relu(&mut self, name: &str, x: NodeId) -> Result<NodeId, ModelError> {
        self.push(name, Op::Relu, vec![x], None)
    }

    /// A rectifier at the positions of `mask` only.
    pub fn partial_relu(&mut self, name: &str, x: NodeId, mask: Mask) -> Result<NodeId, ModelError> {
        self.push(name, Op::PartialRelu { mask }, vec![x], None)
    }

    /// A requantisation to `bits` (signed or not).
    pub fn requant(
        &mut self,
        name: &str,
        x: NodeId,
        shift: u32,
        bits: u32,
        signed: bool,
        clamp: bool,
    ) -> Result<NodeId, ModelError> {
        let input = self.type_of(x);
        let wanted = TensorType {
            shape: input.shape,
            bits,
            signed,
            scale_log2: input.scale_log2 + shift as i32,
            known_non_negative: !signed || input.known_non_negative,
        };
        self.push(name, Op::Requant { shift, clamp }, vec![x], Some(wanted))
    }

    /// A residual connection; the finer-scaled operand keeps its scale, the other is shifted.
    pub fn add(&mut self, name: &str, x: NodeId, y: NodeId) -> Result<NodeId, ModelError> {
        let (sx, sy) = (self.type_of(x).scale_log2, self.type_of(y).scale_log2);
        let fine = sx.min(sy);
        let shifts = [(sx - fine) as u32, (sy - fine) as u32];
        self.push(name, Op::Add { shifts }, vec![x, y], None)
    }

    /// A mean over windows.
    pub fn avg_pool(
        &mut self,
        name: &str,
        x: NodeId,
        kernel: usize,
        stride: usize,
    ) -> Result<NodeId, ModelError> {
        self.push(name, Op::AvgPool { kernel, stride }, vec![x], None)
    }

    /// A maximum over windows.
    pub fn max_pool(
        &mut self,
        name: &str,
        x: NodeId,
        (kernel, stride, pad): (usize, usize, usize),
    ) -> Result<NodeId, ModelError> {
        self.push(name, Op::MaxPool { kernel, stride, pad }, vec![x], None)
    }

    /// A subsampling with zero channels.
    pub fn subsample(&mut self, name: &str, x: NodeId, how: Subsample) -> Result<NodeId, ModelError> {
        self.push(name, Op::Subsample(how), vec![x], None)
    }

    /// `[c, h, w]` to a vector.
    pub fn flatten(&mut self, name: &str, x: NodeId) -> Result<NodeId, ModelError> {
        self.push(name, Op::Flatten, vec![x], None)
    }

    /// The whole graph with `output` as its result, validated.
    pub fn finish(mut self, output: NodeId) -> Result<Graph, ModelError> {
        self.graph.output = output;
        self.graph.validate()?;
        Ok(self.graph)
    }

    fn linear_part(
        &self,
        name: &str,
        x: NodeId,
        fan_in: usize,
        spec: LinearSpec,
    ) -> Result<Linear, ModelError> {
        let mut linear = Linear {
            weight_bits: spec.weight_bits,
            ternary: spec.ternary,
            weight_scale_log2: spec.weight_scale_log2,
            channel_shifts: spec.channel_shifts,
            acc_bits: 0,
            acc_bound: 0,
        };
        linear.acc_bound = match spec.acc_bound {
            Some(bound) => bound,
            None => range::worst_case(&linear, fan_in, range::of_type(self.type_of(x)))
                .and_then(|p| p.checked_add((1u64.checked_shl(spec.bias_bits)?).saturating_sub(1)))
                .ok_or_else(|| ModelError::graph(name, "the accumulator does not fit in 64 bits"))?,
        };
        linear.acc_bits = range::signed_bits(-i128::from(linear.acc_bound), i128::from(linear.acc_bound));
        Ok(linear)
    }

    fn push(
        &mut self,
        name: &str,
        op: Op,
        inputs: Vec<NodeId>,
        wanted: Option<TensorType>,
    ) -> Result<NodeId, ModelError> {
        let output = infer(name, &op, &self.operands(&inputs), wanted.as_ref())?;
        self.graph.nodes.push(Node { name: name.to_owned(), op, inputs, output });
        Ok(self.graph.nodes.len() - 1)
    }

    fn operands(&self, inputs: &[NodeId]) -> Vec<&TensorType> {
        inputs.iter().map(|&i| self.type_of(i)).collect()
    }
}
