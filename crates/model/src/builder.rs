//! Builds graphs, deriving the type of every edge; loading re-derives and compares.

use std::collections::HashSet;

use crate::graph::{Conv, Graph, Linear, Node, NodeId, Op, Preprocess, TensorType};
use crate::{ModelError, range};

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
        kernel: usize,
        stride: usize,
    ) -> Result<NodeId, ModelError> {
        self.push(name, Op::MaxPool { kernel, stride }, vec![x], None)
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
            weight_scale_log2: spec.weight_scale_log2,
            channel_shifts: spec.channel_shifts,
            acc_bits: 0,
            acc_bound: 0,
        };
        let worst = range::worst_case(&linear, fan_in, range::of_type(self.type_of(x)))
            .and_then(|p| p.checked_add((1u64.checked_shl(spec.bias_bits)?).saturating_sub(1)))
            .ok_or_else(|| ModelError::graph(name, "the accumulator does not fit in 64 bits"))?;
        linear.acc_bound = spec.acc_bound.unwrap_or(worst);
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

/// Structure and types; ranges are checked by [`range::of_graph`].
pub(crate) fn check(graph: &Graph) -> Result<(), ModelError> {
    let Some(first) = graph.nodes.first() else {
        return Err(ModelError::graph(&graph.name, "the graph is empty"));
    };
    if !matches!(first.op, Op::Input) {
        return Err(ModelError::graph(&first.name, "the first node must be the input"));
    }
    let channels = first.output.shape[0];
    if graph.preprocess.mean.len() != channels || graph.preprocess.std.len() != channels {
        return Err(ModelError::graph(
            &first.name,
            format!("preprocess needs {channels} means and deviations"),
        ));
    }
    if graph.output >= graph.nodes.len() {
        return Err(ModelError::graph(&graph.name, "the output names no node"));
    }
    let read: HashSet<NodeId> = graph.nodes.iter().flat_map(|n| n.inputs.iter().copied()).collect();
    let mut names = HashSet::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        if !names.insert(node.name.as_str()) {
            return Err(ModelError::graph(&node.name, "the name is used twice"));
        }
        if id != graph.output && !read.contains(&id) {
            return Err(ModelError::graph(&node.name, "nothing reads its value"));
        }
        if node.inputs.iter().any(|&i| i >= id) {
            return Err(ModelError::graph(&node.name, "an operand stands behind its user"));
        }
        if matches!(node.op, Op::Input) && id != 0 {
            return Err(ModelError::graph(&node.name, "a second input"));
        }
        let operands: Vec<_> = node.inputs.iter().map(|&i| &graph.nodes[i].output).collect();
        let derived = infer(&node.name, &node.op, &operands, Some(&node.output))?;
        if derived != node.output {
            return Err(ModelError::graph(
                &node.name,
                format!("declares {:?} but its operands give {derived:?}", node.output),
            ));
        }
    }
    Ok(())
}

pub(crate) fn append_argmax(mut graph: Graph) -> Result<Graph, ModelError> {
    let x = graph.output;
    let output = infer("argmax", &Op::Argmax, &[&graph.nodes[x].output], None)?;
    graph.nodes.push(Node { name: "argmax".into(), op: Op::Argmax, inputs: vec![x], output });
    graph.output = graph.nodes.len() - 1;
    graph.validate()?;
    Ok(graph)
}

/// Type of `op`'s result. `wanted` gives what the operands leave open: the type of an input,
/// the width and sign of a requantisation, the outputs of a linear layer.
fn infer(
    name: &str,
    op: &Op,
    operands: &[&TensorType],
    wanted: Option<&TensorType>,
) -> Result<TensorType, ModelError> {
    let fail = |reason: String| Err(ModelError::graph(name, reason));
    let arity = match op {
        Op::Input => 0,
        Op::Add { .. } => 2,
        _ => 1,
    };
    if operands.len() != arity {
        return fail(format!("takes {arity} operands, not {}", operands.len()));
    }
    if let Some(linear) = op.linear() {
        check_linear(name, linear)?;
    }
    let out = match op {
        Op::Input => match wanted {
            Some(t) => t.clone(),
            None => return fail("an input needs a type".into()),
        },
        Op::Conv(conv) => conv_type(name, conv, operands[0])?,
        Op::Linear(linear) => {
            let outputs = wanted.map_or(0, |t| t.shape[0]);
            if operands[0].shape[1..] != [1, 1] {
                return fail(format!(
                    "takes a flat input, not {:?}; put a flatten before it",
                    operands[0].shape
                ));
            }
            check_shifts(name, linear, outputs)?;
            let scale = operands[0].scale_log2 + linear.weight_scale_log2;
            TensorType::signed([outputs, 1, 1], linear.acc_bits, scale)
        }
        Op::Relu => TensorType { known_non_negative: true, ..operands[0].clone() },
        Op::Requant { shift, .. } => {
            let Some(wanted) = wanted else {
                return fail("a requantisation needs a width".into());
            };
            if *shift > 62 {
                return fail(format!("shift {shift} is more than 62"));
            }
            TensorType {
                shape: operands[0].shape,
                bits: wanted.bits,
                signed: wanted.signed,
                scale_log2: operands[0].scale_log2 + *shift as i32,
                known_non_negative: !wanted.signed || operands[0].known_non_negative,
            }
        }
        Op::Add { shifts } => add_type(name, *shifts, operands)?,
        Op::AvgPool { kernel, stride } | Op::MaxPool { kernel, stride } => {
            let [c, h, w] = operands[0].shape;
            if *kernel == 0 || *stride == 0 || *kernel > h || *kernel > w {
                return fail(format!("window {kernel}, stride {stride} on {h}x{w}"));
            }
            let shape = [c, (h - kernel) / stride + 1, (w - kernel) / stride + 1];
            TensorType { shape, ..operands[0].clone() }
        }
        Op::Flatten => TensorType { shape: [operands[0].len(), 1, 1], ..operands[0].clone() },
        Op::Argmax => {
            let n = operands[0].shape[0];
            if operands[0].shape[1..] != [1, 1] {
                return fail(format!("argmax of {:?}; it takes a vector", operands[0].shape));
            }
            TensorType::unsigned([1, 1, 1], (usize::BITS - (n - 1).leading_zeros()).max(1), 0)
        }
    };
    if !(1..=64).contains(&out.bits) || (!out.signed && out.bits == 64) {
        return fail(format!("{} bits; a ring has 1 to 64 (63 if unsigned)", out.bits));
    }
    if out.is_empty() {
        return fail(format!("shape {:?} has no element", out.shape));
    }
    Ok(out)
}

fn conv_type(name: &str, conv: &Conv, x: &TensorType) -> Result<TensorType, ModelError> {
    let [c, h, w] = x.shape;
    let Conv { out_channels: k, kernel, stride, pad, groups, .. } = *conv;
    if groups == 0 || k == 0 || !c.is_multiple_of(groups) || !k.is_multiple_of(groups) {
        return Err(ModelError::graph(name, format!("{groups} groups of {c} input and {k} output channels")));
    }
    if kernel == 0 || stride == 0 || pad >= kernel || h + 2 * pad < kernel || w + 2 * pad < kernel {
        return Err(ModelError::graph(
            name,
            format!("kernel {kernel}, stride {stride}, pad {pad} on {h}x{w}"),
        ));
    }
    check_shifts(name, &conv.linear, k)?;
    let side = |n: usize| (n + 2 * pad - kernel) / stride + 1;
    let scale = x.scale_log2 + conv.linear.weight_scale_log2;
    Ok(TensorType::signed([k, side(h), side(w)], conv.linear.acc_bits, scale))
}

fn add_type(name: &str, shifts: [u32; 2], operands: &[&TensorType]) -> Result<TensorType, ModelError> {
    let [x, y] = [operands[0], operands[1]];
    if x.shape != y.shape {
        return Err(ModelError::graph(name, format!("adds {:?} to {:?}", x.shape, y.shape)));
    }
    let scale = x.scale_log2 - shifts[0] as i32;
    if scale != y.scale_log2 - shifts[1] as i32 || shifts.iter().any(|&s| s > 62) {
        return Err(ModelError::graph(
            name,
            format!("shifts {shifts:?} do not align scales {} and {}", x.scale_log2, y.scale_log2),
        ));
    }
    let (lo, hi) = range::of_sum(range::of_type(x), range::of_type(y), shifts);
    let mut out = TensorType::signed(x.shape, range::signed_bits(lo, hi), scale);
    out.known_non_negative = lo >= 0;
    Ok(out)
}

fn check_linear(name: &str, linear: &Linear) -> Result<(), ModelError> {
    let needed = range::signed_bits(-i128::from(linear.acc_bound), i128::from(linear.acc_bound));
    if !(2..=16).contains(&linear.weight_bits) {
        return Err(ModelError::graph(
            name,
            format!("{}-bit weights; 2 to 16 are supported", linear.weight_bits),
        ));
    }
    if needed > linear.acc_bits || linear.acc_bits > 62 {
        return Err(ModelError::graph(
            name,
            format!(
                "accumulators up to {} need {needed} bits (at most 62), {} given",
                linear.acc_bound, linear.acc_bits
            ),
        ));
    }
    Ok(())
}

fn check_shifts(name: &str, linear: &Linear, channels: usize) -> Result<(), ModelError> {
    let n = linear.channel_shifts.len();
    if (n != 0 && n != channels) || linear.spread() > 15 {
        return Err(ModelError::graph(
            name,
            format!("{n} channel shifts for {channels} outputs (each at most 15)"),
        ));
    }
    Ok(())
}
