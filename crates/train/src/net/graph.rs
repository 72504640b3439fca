//! The layer graph: the one definition of a network that training, pruning, merging,
//! quantisation and export interpret or rewrite.

pub use copriv_model::{Mask, Subsample};
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// Index of a node in [`Graph::nodes`]; also names the value it produces.
pub type NodeId = usize;

/// A network without its parameters: nodes in topological order, the last one the logits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// Name of the architecture.
    pub arch: String,
    /// Operators, operands before users; node 0 is the only input.
    pub nodes: Vec<Node>,
    /// The residual blocks, in order.
    pub blocks: Vec<Block>,
}

/// One operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Unique; its parameters are called `name.weight`, `name.bias` and so on.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Its operands.
    pub inputs: Vec<NodeId>,
}

/// Operators on `[channels, height, width]` values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// The image.
    Input {
        /// `[channels, height, width]`.
        shape: [usize; 3],
    },
    /// A convolution, perhaps with batch norm behind it.
    Conv(Conv),
    /// `max(x, 0)`; with a gate, `gate * max(x, 0) + (1 - gate) * x` while pruning.
    Relu {
        /// Index of the block that shares the gate.
        gate: Option<usize>,
    },
    /// `clamp(x, 0, 6)`: to evaluate and to train on from; it has no integer form.
    Relu6,
    /// `max(x, 0)` at the positions of a public mask, `x` elsewhere.
    PartialRelu {
        /// Where it rectifies.
        mask: Mask,
    },
    /// `a * max(x, 0) + (1 - a) * x` with a learned `a` of each channel or position, `name.alpha`: a
    /// rectifier whose mask is being searched.
    Blend {
        /// Shape of `a`, `[channels, 1, 1]` or that of the value.
        alpha: [usize; 3],
    },
    /// A residual connection.
    Add,
    /// Every `stride`-th pixel, between channels of zeros: an option-A shortcut.
    Subsample(Subsample),
    /// Mean over windows, without padding.
    AvgPool {
        /// Window side.
        kernel: usize,
        /// Window stride.
        stride: usize,
    },
    /// Maximum over windows; padding never wins.
    MaxPool {
        /// Window side.
        kernel: usize,
        /// Window stride.
        stride: usize,
        /// Rows and columns of padding on all four sides.
        pad: usize,
    },
    /// Mean over the whole map.
    GlobalAvgPool,
    /// A fully connected layer with bias, on all values in row-major order.
    Linear {
        /// Inputs.
        in_features: usize,
        /// Outputs.
        out_features: usize,
    },
}

/// Shape of a convolution with a square kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// Input channels.
    pub in_channels: usize,
    /// Filters.
    pub out_channels: usize,
    /// Kernel side.
    pub kernel: usize,
    /// Stride, both directions.
    pub stride: usize,
    /// Zero padding, all four sides.
    pub pad: usize,
    /// Groups; `in_channels` of them make it depth-wise.
    pub groups: usize,
    /// Batch norm behind it, until folded.
    pub norm: bool,
    /// Its own bias.
    pub bias: Bias,
}

/// What a convolution adds to its products.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    /// Nothing.
    #[default]
    None,
    /// `bias[k]`.
    Channel,
    /// `bias[vector(y, x)][k]`, behind a merged block.
    Position(PositionMap),
}

/// Which of the distinct bias vectors an output position takes: border rows and columns see
/// other constants than the middle, and the two directions are independent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionMap {
    /// Class of every output row.
    pub rows: Vec<u8>,
    /// Class of every output column.
    pub columns: Vec<u8>,
}

/// A residual block, by the names of its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Unique name.
    pub name: String,
    /// Its convolutions in order, without that of a shortcut; in MobileNetV2 expansion (absent at
    /// expansion 1), depth-wise, projection. After merging a single dense one.
    pub convs: Vec<String>,
    /// Its rectifiers; empty once pruned.
    pub relus: Vec<String>,
    /// Its residual addition, if it has one; gone after merging.
    pub add: Option<String>,
    /// What has become of it.
    pub state: BlockState,
}

/// Life of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockState {
    /// As designed.
    Kept,
    /// Without rectifiers, hence linear.
    Linear,
    /// One dense convolution.
    Merged,
}

impl Graph {
    /// Shape of the image.
    pub fn input_shape(&self) -> [usize; 3] {
        match self.nodes.first().map(|n| &n.op) {
            Some(Op::Input { shape }) => *shape,
            _ => [0; 3],
        }
    }

    /// Number of classes.
    pub fn outputs(&self) -> usize {
        match self.nodes.last().map(|n| &n.op) {
            Some(Op::Linear { out_features, .. }) => *out_features,
            _ => 0,
        }
    }

    /// The node called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, name: &str) -> Result<NodeId, TrainError> {
        self.nodes
            .iter()
            .position(|n| n.name == name)
            .ok_or_else(|| TrainError::graph(name, "no such node in the graph"))
    }

    /// How often each value is used.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        for &input in self.nodes.iter().flat_map(|n| &n.inputs) {
            uses[input] += 1;
        }
        uses
    }

    /// Shape of every node's value; a vector is `[n, 1, 1]`. Checks the whole graph.
    ///
    /// # Errors
    /// The first node that breaks a rule: order, number of operands, channels, sizes, names.
    pub fn shapes(&self) -> Result<Vec<[usize; 3]>, TrainError> {
        let shapes = self.values()?;
        match self.nodes.last() {
            Some(Node { op: Op::Linear { .. }, .. }) => Ok(shapes),
            _ => Err(TrainError::graph(&self.arch, "a network ends with a linear layer")),
        }
    }

    /// The same of a graph that need not be finished.
    pub(super) fn values(&self) -> Result<Vec<[usize; 3]>, TrainError> {
        let mut shapes = Vec::with_capacity(self.nodes.len());
        let mut names = std::collections::HashSet::new();
        for (id, node) in self.nodes.iter().enumerate() {
            if !names.insert(&node.name) {
                return Err(TrainError::graph(&node.name, "the name is used twice"));
            }
            if node.inputs.iter().any(|&i| i >= id) {
                return Err(TrainError::graph(&node.name, "an operand stands behind its user"));
            }
            shapes.push(node.shape(id, &shapes)?);
        }
        Ok(shapes)
    }

    /// Number of values that pass a rectifier, per image.
    ///
    /// # Errors
    /// An invalid graph, here and below.
    pub fn relu_count(&self) -> Result<usize, TrainError> {
        let shapes = self.shapes()?;
        let relus = self.nodes.iter().zip(&shapes).map(|(node, shape)| match &node.op {
            Op::Relu { .. } | Op::Relu6 | Op::Blend { .. } => shape.iter().product(),
            Op::PartialRelu { mask } => mask.count(true),
            _ => 0,
        });
        Ok(relus.sum::<usize>())
    }

    /// Multiplications by a weight, per image.
    pub fn macs(&self) -> Result<usize, TrainError> {
        let shapes = self.shapes()?;
        let macs = self.nodes.iter().zip(&shapes).map(|(node, [_, h, w])| match &node.op {
            Op::Conv(conv) => conv.weight_shape().iter().product::<usize>() * h * w,
            Op::Linear { in_features, out_features } => in_features * out_features,
            _ => 0,
        });
        Ok(macs.sum())
    }
}

impl Node {
    fn shape(&self, id: NodeId, shapes: &[[usize; 3]]) -> Result<[usize; 3], TrainError> {
        let fail = |reason: String| Err(TrainError::graph(&self.name, reason));
        let arity = match self.op {
            Op::Input { .. } => 0,
            Op::Add => 2,
            _ => 1,
        };
        if self.inputs.len() != arity {
            return fail(format!("takes {arity} operands, not {}", self.inputs.len()));
        }
        if (id == 0) != matches!(self.op, Op::Input { .. }) {
            return fail("the first node, and no other, is the input".into());
        }
        let x = self.inputs.first().map_or([0; 3], |&i| shapes[i]);
        match &self.op {
            Op::Input { shape } if shape.contains(&0) => fail(format!("shape {shape:?} has no element")),
            Op::Input { shape } => Ok(*shape),
            Op::Conv(conv) => conv.output_shape(x).map_err(|reason| TrainError::graph(&self.name, reason)),
            Op::Relu { .. } | Op::Relu6 => Ok(x),
            Op::PartialRelu { mask } if mask.len() != x.iter().product::<usize>() => {
                fail(format!("a mask of {} positions on {x:?}", mask.len()))
            }
            Op::Blend { alpha } if *alpha != x && *alpha != [x[0], 1, 1] => {
                fail(format!("coefficients of shape {alpha:?} on {x:?}"))
            }
            Op::PartialRelu { .. } | Op::Blend { .. } => Ok(x),
            Op::Add if x != shapes[self.inputs[1]] => {
                fail(format!("adds {:?} to {x:?}", shapes[self.inputs[1]]))
            }
            Op::Add => Ok(x),
            Op::Subsample(Subsample { stride: 0, .. }) => fail("a stride of 0".into()),
            Op::Subsample(how) => Ok(how.output_shape(x)),
            Op::AvgPool { kernel, stride } => pooled(x, *kernel, *stride, 0).or_else(fail),
            Op::MaxPool { kernel, stride, pad } => pooled(x, *kernel, *stride, *pad).or_else(fail),
            Op::GlobalAvgPool => Ok([x[0], 1, 1]),
            Op::Linear { in_features, out_features } => {
                if x.iter().product::<usize>() != *in_features || *out_features == 0 {
                    return fail(format!("{in_features} inputs, {out_features} outputs, applied to {x:?}"));
                }
                Ok([*out_features, 1, 1])
            }
        }
    }
}

/// Shape of the pool of a `[c, h, w]` value.
fn pooled([c, h, w]: [usize; 3], kernel: usize, stride: usize, pad: usize) -> Result<[usize; 3], String> {
    if kernel == 0 || stride == 0 || pad >= kernel || h + 2 * pad < kernel || w + 2 * pad < kernel {
        return Err(format!("window {kernel}, stride {stride}, pad {pad} on {h}x{w}"));
    }
    let side = |n: usize| (n + 2 * pad - kernel) / stride + 1;
    Ok([c, side(h), side(w)])
}

impl Conv {
    /// `[out_channels, in_channels / groups, kernel, kernel]`.
    pub fn weight_shape(&self) -> [usize; 4] {
        [self.out_channels, self.in_channels / self.groups.max(1), self.kernel, self.kernel]
    }

    /// A matrix product per pixel.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.pad == 0 && self.groups == 1
    }

    /// Output side for an input side.
    pub fn output_side(&self, side: usize) -> usize {
        (side + 2 * self.pad - self.kernel) / self.stride + 1
    }

    fn output_shape(&self, [c, h, w]: [usize; 3]) -> Result<[usize; 3], String> {
        let Self { in_channels, out_channels, kernel, stride, pad, groups, .. } = *self;
        if c != in_channels {
            return Err(format!("{in_channels} input channels applied to {c}"));
        }
        if groups == 0
            || out_channels == 0
            || !in_channels.is_multiple_of(groups)
            || !out_channels.is_multiple_of(groups)
        {
            return Err(format!("{groups} groups of {in_channels} input and {out_channels} output channels"));
        }
        if kernel == 0 || stride == 0 || h + 2 * pad < kernel || w + 2 * pad < kernel {
            return Err(format!("kernel {kernel}, stride {stride}, pad {pad} on {h}x{w}"));
        }
        let out = [out_channels, self.output_side(h), self.output_side(w)];
        if let Bias::Position(map) = &self.bias
            && (map.rows.len() != out[1] || map.columns.len() != out[2])
        {
            return Err(format!("a bias map of {}x{} on {out:?}", map.rows.len(), map.columns.len()));
        }
        Ok(out)
    }
}

impl PositionMap {
    /// Number of distinct vectors.
    pub fn vectors(&self) -> usize {
        let classes = |of: &[u8]| of.iter().map(|&c| usize::from(c) + 1).max().unwrap_or(0);
        classes(&self.rows) * classes(&self.columns)
    }

    /// Vector of every output position, row-major.
    pub fn indices(&self) -> Vec<usize> {
        let columns = self.columns.iter().map(|&c| usize::from(c) + 1).max().unwrap_or(0);
        let of_row = |r: u8| self.columns.iter().map(move |&c| usize::from(r) * columns + usize::from(c));
        self.rows.iter().flat_map(|&r| of_row(r)).collect()
    }
}
