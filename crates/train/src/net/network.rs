//! A graph's parameters on a device, and the interpreter that runs them.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::graph::{Bias, Conv, Graph, NodeId, Op};
use super::{kernel, pool};
use super::weights::{Array, Weights};
use crate::TrainError;
use crate::quant::Fake;

/// Added to a batch variance before its root.
pub const NORM_EPSILON: f64 = 1e-5;
/// Weight of the newest batch in the running statistics.
const NORM_MOMENTUM: f64 = 0.1;

/// A [`Graph`] with parameters on a device.
///
/// Norms always take batch statistics here; a network that is only evaluated has them folded
/// ([`crate::rewrite::fold_norms`]), which is both faster and what will be deployed. Running
/// statistics are kept outside burn's `RunningState`, which lags one step behind and is shared
/// between clones: a forward pass reports them and [`Network::absorb`] takes them in.
#[derive(Module, Debug)]
pub struct Network {
    /// Convolution weights `[out, in / groups, k, k]`.
    kernels: Vec<Param<Tensor<4>>>,
    /// Classifier weights `[out, in]`.
    matrices: Vec<Param<Tensor<2>>>,
    /// Biases, gammas and betas.
    vectors: Vec<Param<Tensor<1>>>,
    /// Position dependent biases `[vectors, out]`.
    tables: Vec<Param<Tensor<2>>>,
    /// Running mean and variance of every norm.
    #[module(skip)]
    statistics: Vec<[Tensor<1>; 2]>,
    #[module(skip)]
    layout: Arc<Layout>,
}

/// Names of the parameters whose size is to be decayed.
pub(crate) const DECAYED: [&str; 2] = ["kernels", "matrices"];

#[derive(Debug)]
struct Layout {
    graph: Graph,
    slots: Vec<Slot>,
    /// The last user of each value.
    last_use: Vec<NodeId>,
    /// Convolutions with norm whose only user is a rectifier.
    rectified: Vec<bool>,
}

/// Where a node's parameters lie.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    weight: usize,
    bias: usize,
    /// First of gamma and beta in `vectors`.
    affine: usize,
    statistics: usize,
}

/// Shared gates of the blocks while pruning.
#[derive(Clone, Debug)]
pub struct Gates {
    /// `alpha`, `[blocks]`, a leaf whose gradient is wanted.
    pub alpha: Tensor<1>,
    /// The forward value of each gate.
    pub open: Vec<bool>,
}

/// Sees every node's value.
pub type Tap<'a> = dyn FnMut(NodeId, &Tensor<4>) + 'a;

/// What a forward pass does besides the plain network, and what it reports.
#[derive(Default)]
pub struct Pass<'a> {
    /// Rectifiers with a gate apply it.
    pub gates: Option<&'a Gates>,
    /// Weights and activations are rounded as the integer model will round them.
    pub fake: Option<&'a Fake>,
    /// Values that a caller wants to see.
    pub tap: Option<&'a mut Tap<'a>>,
    /// Batch mean and variance of every norm, in order.
    pub statistics: Vec<[Tensor<1>; 2]>,
}

impl Network {
    /// Puts `weights` on `device`.
    ///
    /// # Errors
    /// An invalid graph, or weights that do not fit it.
    pub fn new(graph: &Graph, weights: &Weights, device: &Device) -> Result<Self, TrainError> {
        graph.shapes()?;
        weights.check(graph)?;
        let mut network = Self {
            kernels: vec![],
            matrices: vec![],
            vectors: vec![],
            tables: vec![],
            statistics: vec![],
            layout: Arc::new(Layout {
                graph: graph.clone(),
                slots: vec![],
                last_use: vec![],
                rectified: vec![],
            }),
        };
        let mut slots = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            let get = |part: &str| weights.of(&node.name, part);
            let mut slot = Slot::default();
            match &node.op {
                Op::Conv(conv) => {
                    slot.weight = network.kernels.len();
                    network.kernels.push(param(get("weight")?, device));
                    match conv.bias {
                        Bias::None => {}
                        Bias::Channel => {
                            slot.bias = network.vectors.len();
                            network.vectors.push(param(get("bias")?, device));
                        }
                        Bias::Position(_) => {
                            slot.bias = network.tables.len();
                            network.tables.push(param(get("bias")?, device));
                        }
                    }
                    if conv.norm {
                        slot.affine = network.vectors.len();
                        slot.statistics = network.statistics.len();
                        network.vectors.extend([param(get("gamma")?, device), param(get("beta")?, device)]);
                        network.statistics.push([
                            tensor(get("mean")?, device).without_autodiff(),
                            tensor(get("var")?, device).without_autodiff(),
                        ]);
                    }
                }
                Op::Linear { .. } => {
                    slot.weight = network.matrices.len();
                    network.matrices.push(param(get("weight")?, device));
                    slot.bias = network.vectors.len();
                    network.vectors.push(param(get("bias")?, device));
                }
                _ => {}
            }
            slots.push(slot);
        }
        let mut last_use: Vec<_> = (0..graph.nodes.len()).collect();
        for (id, node) in graph.nodes.iter().enumerate() {
            for &input in &node.inputs {
                last_use[input] = id;
            }
        }
        let mut users = vec![0; graph.nodes.len()];
        graph.nodes.iter().flat_map(|n| &n.inputs).for_each(|&input| users[input] += 1);
        let mut rectified = vec![false; graph.nodes.len()];
        for node in graph.nodes.iter().filter(|n| matches!(n.op, Op::Relu { .. })) {
            let input = node.inputs[0];
            rectified[input] =
                users[input] == 1 && matches!(&graph.nodes[input].op, Op::Conv(conv) if conv.norm);
        }
        network.layout = Arc::new(Layout { graph: graph.clone(), slots, last_use, rectified });
        Ok(network)
    }

    /// The graph that it interprets.
    pub fn graph(&self) -> &Graph {
        &self.layout.graph
    }

    /// Takes the parameters back to the host.
    pub fn weights(&self) -> Weights {
        let mut weights = Weights::default();
        for (node, slot) in self.layout.graph.nodes.iter().zip(&self.layout.slots) {
            let mut put = |part: &str, array: Array| weights.insert(&format!("{}.{part}", node.name), array);
            match &node.op {
                Op::Conv(conv) => {
                    put("weight", array(self.kernels[slot.weight].val()));
                    match conv.bias {
                        Bias::None => {}
                        Bias::Channel => put("bias", array(self.vectors[slot.bias].val())),
                        Bias::Position(_) => put("bias", array(self.tables[slot.bias].val())),
                    }
                    if conv.norm {
                        put("gamma", array(self.vectors[slot.affine].val()));
                        put("beta", array(self.vectors[slot.affine + 1].val()));
                        let [mean, var] = self.statistics[slot.statistics].clone();
                        put("mean", array(mean));
                        put("var", array(var));
                    }
                }
                Op::Linear { .. } => {
                    put("weight", array(self.matrices[slot.weight].val()));
                    put("bias", array(self.vectors[slot.bias].val()));
                }
                _ => {}
            }
        }
        weights
    }

    /// Moves the running statistics towards those of a batch, the mean over its shards.
    pub fn absorb(&mut self, shards: &[Vec<[Tensor<1>; 2]>]) {
        let share = NORM_MOMENTUM / shards.len() as f64;
        for (i, running) in self.statistics.iter_mut().enumerate() {
            for (j, value) in running.iter_mut().enumerate() {
                *value = shards
                    .iter()
                    .fold(value.clone() * (1.0 - NORM_MOMENTUM), |sum, s| sum + s[i][j].clone() * share);
            }
        }
    }

    /// Logits `[n, classes]` of images `[n, channels, height, width]`.
    pub fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<2> {
        let Layout { graph, slots, last_use, rectified } = &*self.layout;
        let mut values: Vec<Option<Tensor<4>>> = vec![None; graph.nodes.len()];
        values[0] = Some(x);
        // A norm and the rectifier behind it are one operator, unless someone looks in between.
        let fuse = pass.gates.is_none() && pass.fake.is_none() && pass.tap.is_none();
        for (id, node) in graph.nodes.iter().enumerate().skip(1) {
            let take = |values: &mut Vec<Option<Tensor<4>>>, input: NodeId| {
                let value = if last_use[input] == id { values[input].take() } else { values[input].clone() };
                value.expect("operands precede their users")
            };
            let x = take(&mut values, node.inputs[0]);
            let fake = pass.fake;
            let y = match &node.op {
                Op::Input { .. } => x,
                Op::Conv(conv) => {
                    let rectifier = (fuse && rectified[id]).then_some(f32::INFINITY);
                    self.conv(id, conv, &slots[id], x, rectifier, pass)
                }
                Op::Relu { gate } => match (gate, pass.gates) {
                    (Some(block), Some(gates)) => gates.apply(*block, x),
                    _ if fake.is_some() || fuse && rectified[node.inputs[0]] => x,
                    _ => kernel::rectify(x, f32::INFINITY),
                },
                Op::Add => x + take(&mut values, node.inputs[1]),
                Op::Subsample(how) => pool::subsample(x, *how),
                Op::AvgPool { kernel, stride } => pool::mean(x, *kernel, *stride),
                Op::MaxPool { kernel, stride, pad } => pool::maximum(x, *kernel, *stride, *pad),
                Op::GlobalAvgPool => x.mean_dim(3).mean_dim(2),
                Op::Linear { in_features, out_features } => {
                    let weight = self.matrices[slots[id].weight].val();
                    let bias = self.vectors[slots[id].bias].val();
                    let (weight, bias) = match fake {
                        Some(fake) => (fake.weight(id, weight), fake.bias(id, bias)),
                        None => (weight, bias),
                    };
                    let n = x.dims()[0];
                    let y = x.reshape([n, *in_features]).matmul(weight.transpose()) + bias.unsqueeze();
                    y.reshape([n, *out_features, 1, 1])
                }
            };
            let y = match fake {
                Some(fake) => fake.activation(id, y),
                None => y,
            };
            if let Some(tap) = &mut pass.tap {
                tap(id, &y);
            }
            values[id] = Some(y);
        }
        let logits = values.pop().flatten().expect("a graph has nodes");
        let [n, classes, ..] = logits.dims();
        logits.reshape([n, classes])
    }

    fn conv(
        &self,
        id: NodeId,
        conv: &Conv,
        slot: &Slot,
        x: Tensor<4>,
        rectifier: Option<f32>,
        pass: &mut Pass<'_>,
    ) -> Tensor<4> {
        let weight = self.kernels[slot.weight].val();
        let weight = match pass.fake {
            Some(fake) => fake.weight(id, weight),
            None => weight,
        };
        let y = kernel::conv2d(x, weight, conv.stride, conv.pad, conv.groups);
        let y = match &conv.bias {
            Bias::None => y,
            Bias::Channel => {
                let bias = self.vectors[slot.bias].val();
                let bias = pass.fake.map_or(bias.clone(), |fake| fake.bias(id, bias));
                y + bias.reshape([1, conv.out_channels, 1, 1])
            }
            Bias::Position(map) => {
                let table = self.tables[slot.bias].val();
                let table = pass.fake.map_or(table.clone(), |fake| fake.bias(id, table));
                let indices: Vec<i64> = map.indices().into_iter().map(|i| i as i64).collect();
                let indices =
                    Tensor::<1, Int>::from_data(TensorData::from(indices.as_slice()), &table.device());
                let [.., h, w] = y.dims();
                let bias = table.select(0, indices).transpose();
                y + bias.reshape([1, conv.out_channels, h, w])
            }
        };
        if !conv.norm {
            return y;
        }
        let [gamma, beta] = [0, 1].map(|i| self.vectors[slot.affine + i].val());
        let (y, statistics) = kernel::batch_norm(y, gamma, beta, NORM_EPSILON, rectifier);
        pass.statistics.push(statistics);
        y
    }
}

impl Gates {
    /// Forward `open ? max(x, 0) : x`; backward that of `alpha max(x, 0) + (1 - alpha) x`.
    fn apply(&self, block: usize, x: Tensor<4>) -> Tensor<4> {
        let alpha = self.alpha.clone().narrow(0, block, 1).reshape([1, 1, 1, 1]);
        // max(x, 0) = x + max(-x, 0)
        let negative = relu(-x.clone());
        let soft = negative.clone() * alpha.clone();
        let hard = if self.open[block] { negative.inner() } else { negative.inner() * 0.0 };
        let correction = hard - soft.clone().inner();
        x + soft + correction
    }
}

fn tensor<const D: usize>(array: &Array, device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(array.data.clone(), array.shape.clone()), device)
}

fn param<const D: usize>(array: &Array, device: &Device) -> Param<Tensor<D>> {
    Param::from_tensor(tensor(array, device))
}

fn array<const D: usize>(tensor: Tensor<D>) -> Array {
    let shape = tensor.dims().to_vec();
    let data = tensor.into_data().convert::<f32>().try_into_vec().expect("converted to f32 above");
    Array::new(shape, data)
}
