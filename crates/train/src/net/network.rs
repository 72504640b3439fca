//! A graph's parameters on a device, and the interpreter that runs them.

use std::sync::Arc;

use burn::tensor::activation::relu;
use burn::tensor::{Device, FloatDType, Gradients, Int, Tensor, TensorData};

use super::graph::{Bias, Conv, Graph, NodeId, Op};
use super::weights::{Array, Weights};
use super::{kernel, pool};
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
#[derive(Clone, Debug)]
pub struct Network {
    /// Every parameter, flat. Leaves whose gradients are wanted, on a device with autodiff.
    parameters: Vec<Tensor<1>>,
    /// Running mean and variance of every norm.
    statistics: Vec<[Tensor<1>; 2]>,
    layout: Arc<Layout>,
}

#[derive(Debug)]
struct Layout {
    graph: Graph,
    /// By parameter.
    specs: Vec<Spec>,
    /// By norm: the node's name.
    norms: Vec<String>,
    slots: Vec<Slot>,
    /// The last user of each value.
    last_use: Vec<NodeId>,
    /// See [`Network::alphas`].
    alphas: Vec<(usize, usize)>,
    /// Of convolutions with norm whose only user is a rectifier: where it cuts off.
    rectified: Vec<Option<f32>>,
}

/// What a parameter is.
#[derive(Clone, Debug)]
struct Spec {
    name: String,
    shape: Vec<usize>,
}

/// Where a node's parameters lie.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    weight: usize,
    bias: usize,
    /// The first of gamma and beta.
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
    /// Convolutions take operands in half precision.
    pub mixed: bool,
    /// What the classifier saw, `[n, features]`.
    pub features: Option<Tensor<2>>,
}

impl Network {
    /// Puts `weights` on `device`.
    ///
    /// # Errors
    /// An invalid graph, or weights that do not fit it.
    pub fn new(graph: &Graph, weights: &Weights, device: &Device) -> Result<Self, TrainError> {
        let shapes = graph.shapes()?;
        weights.check(graph)?;
        let mut alphas = Vec::new();
        let (mut specs, mut norms) = (Vec::<Spec>::new(), Vec::new());
        let mut slots = Vec::with_capacity(graph.nodes.len());
        for (id, node) in graph.nodes.iter().enumerate() {
            let mut add = |part: &str| -> Result<usize, TrainError> {
                let shape = weights.of(&node.name, part)?.shape.clone();
                specs.push(Spec { name: format!("{}.{part}", node.name), shape });
                Ok(specs.len() - 1)
            };
            let mut slot = Slot::default();
            match &node.op {
                Op::Conv(conv) => {
                    slot.weight = add("weight")?;
                    if conv.bias != Bias::None {
                        slot.bias = add("bias")?;
                    }
                    if conv.norm {
                        slot.affine = add("gamma")?;
                        add("beta")?;
                        slot.statistics = norms.len();
                        norms.push(node.name.clone());
                    }
                }
                Op::Blend { alpha } => {
                    slot.weight = add("alpha")?;
                    let size = |shape: &[usize; 3]| shape.iter().product::<usize>();
                    alphas.push((slot.weight, size(&shapes[id]) / size(alpha).max(1)));
                }
                Op::Linear { .. } => {
                    slot.weight = add("weight")?;
                    slot.bias = add("bias")?;
                }
                _ => {}
            }
            slots.push(slot);
        }
        let mut last_use: Vec<_> = (0..graph.nodes.len()).collect();
        let mut users = vec![0; graph.nodes.len()];
        for (id, node) in graph.nodes.iter().enumerate() {
            for &input in &node.inputs {
                last_use[input] = id;
                users[input] += 1;
            }
        }
        let mut rectified = vec![None; graph.nodes.len()];
        for node in &graph.nodes {
            let Some((high, &input)) = cut_off(&node.op).zip(node.inputs.first()) else { continue };
            let normed = matches!(&graph.nodes[input].op, Op::Conv(conv) if conv.norm);
            rectified[input] = (normed && users[input] == 1).then_some(high);
        }
        let layout = Layout { graph: graph.clone(), specs, norms, slots, last_use, alphas, rectified };
        let mut network = Self { parameters: Vec::new(), statistics: Vec::new(), layout: Arc::new(layout) };
        network.load(weights, device)?;
        Ok(network)
    }

    /// Replaces all values by `weights`.
    ///
    /// # Errors
    /// Weights that do not fit.
    pub fn load(&mut self, weights: &Weights, device: &Device) -> Result<(), TrainError> {
        let Layout { graph, specs, norms, .. } = &*self.layout;
        weights.check(graph)?;
        let flat = |array: &Array, device: &Device| {
            Tensor::<1>::from_data(TensorData::new(array.data.clone(), [array.data.len()]), device)
        };
        let get = |spec: &Spec| Ok(leaf(flat(weights.get(&spec.name)?, device)));
        self.parameters = specs.iter().map(get).collect::<Result<_, TrainError>>()?;
        let device = device.clone().without_autodiff();
        let get = |name: &String| {
            Ok([flat(weights.of(name, "mean")?, &device), flat(weights.of(name, "var")?, &device)])
        };
        self.statistics = norms.iter().map(get).collect::<Result<_, TrainError>>()?;
        Ok(())
    }

    /// The graph that it interprets.
    pub fn graph(&self) -> &Graph {
        &self.layout.graph
    }

    /// Takes the parameters back to the host.
    pub fn weights(&self) -> Weights {
        let mut weights = self.named(&self.parameters);
        for (name, values) in self.layout.norms.iter().zip(&self.statistics) {
            for (part, value) in ["mean", "var"].iter().zip(values) {
                let data = host(value.clone());
                weights.insert(&format!("{name}.{part}"), Array::new([data.len()], data));
            }
        }
        weights
    }

    /// One flat tensor a parameter (parameters, gradients, momenta), under the parameters' names.
    pub(crate) fn named(&self, tensors: &[Tensor<1>]) -> Weights {
        let mut weights = Weights::default();
        for (spec, tensor) in self.layout.specs.iter().zip(tensors) {
            weights.insert(&spec.name, Array::new(spec.shape.clone(), host(tensor.clone())));
        }
        weights
    }

    /// The inverse of [`Network::named`].
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub(crate) fn unnamed(&self, weights: &Weights, device: &Device) -> Result<Vec<Tensor<1>>, TrainError> {
        let get = |spec: &Spec| {
            let array = weights.get(&spec.name)?;
            if array.shape != spec.shape {
                return Err(TrainError::tensor(&spec.name, format!("has shape {:?}", array.shape)));
            }
            Ok(Tensor::from_data(TensorData::new(array.data.clone(), [array.data.len()]), device))
        };
        self.layout.specs.iter().map(get).collect()
    }

    /// Whether each parameter is to be decayed: kernels and matrices, not biases and norms.
    pub(crate) fn decayed(&self) -> Vec<bool> {
        self.layout.specs.iter().map(|s| s.name.ends_with(".weight")).collect()
    }

    /// Where the coefficients of searched rectifiers are among the parameters, and how many positions one
    /// of each stands for.
    pub(crate) fn alphas(&self) -> Vec<(usize, usize)> {
        self.layout.alphas.clone()
    }

    /// Every parameter, flat, without its graph.
    pub(crate) fn parameters(&self) -> Vec<Tensor<1>> {
        self.parameters.iter().map(|p| p.clone().inner()).collect()
    }

    /// Takes over the values that an optimiser made of [`Network::parameters`].
    pub(crate) fn set_parameters(&mut self, values: Vec<Tensor<1>>) {
        self.parameters = values.into_iter().map(|v| leaf(v.autodiff())).collect();
    }

    /// The gradient of every parameter; zero for one that the loss does not depend on.
    pub(crate) fn gradients(&self, gradients: &mut Gradients) -> Vec<Tensor<1>> {
        let of = |p: &Tensor<1>| p.grad_remove(gradients).unwrap_or_else(|| p.clone().inner().zeros_like());
        self.parameters.iter().map(of).collect()
    }

    /// Moves the running statistics towards those of a batch.
    pub fn absorb(&mut self, batch: Vec<[Tensor<1>; 2]>) {
        for (running, batch) in self.statistics.iter_mut().zip(batch) {
            average(running, batch, 1.0 - NORM_MOMENTUM);
        }
    }

    /// Moves parameters and statistics towards those of `other`, of the same graph, keeping a share
    /// of `decay`.
    pub(crate) fn follow(&mut self, other: &Self, decay: f64) {
        for (own, other) in self.parameters.iter_mut().zip(&other.parameters) {
            *own = kernel::average(own.clone(), other.clone().inner(), decay);
        }
        for (own, other) in self.statistics.iter_mut().zip(&other.statistics) {
            average(own, other.clone(), decay);
        }
    }

    /// A parameter in its shape.
    fn parameter<const D: usize>(&self, index: usize) -> Tensor<D> {
        let shape = &self.layout.specs[index].shape;
        let shape: [usize; D] = shape.as_slice().try_into().expect("a layer's parameters have one rank");
        self.parameters[index].clone().reshape(shape)
    }

    /// Logits `[n, classes]` of images `[n, channels, height, width]`.
    pub fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<2> {
        let Layout { graph, slots, last_use, rectified, .. } = &*self.layout;
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
                    let rectifier = rectified[id].filter(|_| fuse);
                    self.conv(id, conv, &slots[id], x, rectifier, pass)
                }
                Op::Relu { gate } => match (gate, pass.gates) {
                    (Some(block), Some(gates)) => gates.apply(*block, x),
                    _ if fake.is_some() || fuse && rectified[node.inputs[0]].is_some() => x,
                    _ => kernel::rectify(x, f32::INFINITY),
                },
                Op::Relu6 if fuse && rectified[node.inputs[0]].is_some() => x,
                Op::Relu6 => kernel::rectify(x, 6.0),
                Op::PartialRelu { mask } => {
                    let inside: Vec<f32> = mask.inside().iter().map(|&i| f32::from(u8::from(i))).collect();
                    let [_, c, h, w] = x.dims();
                    let inside = Tensor::<4>::from_data(TensorData::new(inside, [1, c, h, w]), &x.device());
                    blend(x, inside)
                }
                Op::Blend { alpha: [c, h, w] } => {
                    let alpha = self.parameters[slots[id].weight].clone().reshape([1, *c, *h, *w]);
                    blend(x, alpha)
                }
                Op::Add => x + take(&mut values, node.inputs[1]),
                Op::Subsample(how) => pool::subsample(x, *how),
                Op::AvgPool { kernel, stride } => pool::mean(x, *kernel, *stride),
                Op::MaxPool { kernel, stride, pad } => pool::maximum(x, *kernel, *stride, *pad),
                Op::GlobalAvgPool => x.mean_dim(3).mean_dim(2),
                Op::Linear { in_features, out_features } => {
                    let weight = self.parameter(slots[id].weight);
                    let bias = self.parameter::<1>(slots[id].bias);
                    let (weight, bias) = match fake {
                        Some(fake) => (fake.weight(id, weight), fake.bias(id, bias)),
                        None => (weight, bias),
                    };
                    let n = x.dims()[0];
                    let x = x.reshape([n, *in_features]);
                    pass.features = Some(x.clone());
                    let y = x.matmul(weight.transpose()) + bias.unsqueeze();
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
        let weight = self.parameter(slot.weight);
        let weight = match pass.fake {
            Some(fake) => fake.weight(id, weight),
            None => weight,
        };
        let y = if pass.mixed {
            let (x, weight) = (x.cast(FloatDType::F16), weight.cast(FloatDType::F16));
            kernel::conv2d(x, weight, conv.stride, conv.pad, conv.groups).cast(FloatDType::F32)
        } else {
            kernel::conv2d(x, weight, conv.stride, conv.pad, conv.groups)
        };
        let y = match &conv.bias {
            Bias::None => y,
            Bias::Channel => {
                let bias = self.parameter::<1>(slot.bias);
                let bias = pass.fake.map_or(bias.clone(), |fake| fake.bias(id, bias));
                y + bias.reshape([1, conv.out_channels, 1, 1])
            }
            Bias::Position(map) => {
                let table = self.parameter::<2>(slot.bias);
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
        let [gamma, beta] = [0, 1].map(|i| self.parameter(slot.affine + i));
        let (y, statistics) = kernel::batch_norm(y, gamma, beta, NORM_EPSILON, rectifier);
        pass.statistics.push(statistics);
        y
    }
}

/// The largest output of a rectifier.
fn cut_off(op: &Op) -> Option<f32> {
    match op {
        Op::Relu { .. } => Some(f32::INFINITY),
        Op::Relu6 => Some(6.0),
        _ => None,
    }
}

/// `a max(x, 0) + (1 - a) x`, which is `x + a max(-x, 0)`.
fn blend(x: Tensor<4>, a: Tensor<4>) -> Tensor<4> {
    let negative = relu(-x.clone());
    x + negative * a
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

/// A parameter: its gradient is wanted wherever there are gradients.
fn leaf(tensor: Tensor<1>) -> Tensor<1> {
    if tensor.is_autodiff() { tensor.require_grad() } else { tensor }
}

fn average(own: &mut [Tensor<1>; 2], other: [Tensor<1>; 2], keep: f64) {
    for (own, other) in own.iter_mut().zip(other) {
        *own = kernel::average(own.clone(), other, keep);
    }
}

fn host(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("converted to f32")
}
