//! Forward mode over a layer graph: every value with its derivative along a direction, in ordinary
//! tensor operations, so that one ordinary backward pass gives the Hessian times the direction.
//!
//! For the loss `L` and a direction `v`, the forward pass computes the scalar `s = dL . v`; its
//! gradient is `H v`. Rectifiers and maxima are linear around almost every point: their second
//! derivative is zero, and a mask or an index is a constant.

use std::collections::BTreeMap;

use burn::tensor::activation::log_softmax;
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d_with_indices};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData};

use crate::TrainError;
use crate::net::{Array, Bias, Conv, Graph, NodeId, Op, Subsample, Weights};

/// What the loss is a function of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The weights of convolutions and linear layers; biases stay where they are.
    Weights,
    /// The values of nodes, of each image its own.
    Values,
}

/// A vector, by node: of the shape of the node's weights, or of its value for a batch.
pub type Direction = BTreeMap<NodeId, Vec<f32>>;

/// A value and its derivative, if it depends on what moves.
#[derive(Clone)]
struct Dual {
    value: Tensor<4>,
    tangent: Option<Tensor<4>>,
}

/// `H v` for the sum over a batch of the cross entropy, where `H` is the Hessian in whatever
/// `direction` names; norms must be folded. `inputs` are `[n, channels, height, width]`, `labels`
/// the `n` classes; the work is done on `device`.
///
/// # Errors
/// Weights that do not fit the graph, or a norm.
pub fn product(
    device: &Device,
    graph: &Graph,
    weights: &Weights,
    (inputs, shape): (Vec<f32>, [usize; 4]),
    labels: &[u16],
    of: Of,
    direction: &Direction,
) -> Result<Direction, TrainError> {
    weights.check(graph)?;
    if let Some(node) = graph.nodes.iter().find(|n| matches!(&n.op, Op::Conv(conv) if conv.norm)) {
        return Err(TrainError::graph(&node.name, "its norm must be folded before differentiation"));
    }
    let device = device.clone().autodiff();
    let mut pass = Pass { graph, weights, of, direction, device, leaves: BTreeMap::new() };
    let slope = pass.slope(Tensor::from_data(TensorData::new(inputs, shape), &pass.device), labels);
    let gradients = slope.backward();
    let mut product = Direction::new();
    for (id, leaf) in pass.leaves {
        // A layer that the loss does not bend along has no gradient at all.
        let gradient = leaf.grad(&gradients).map(|g| g.into_data().try_into_vec().unwrap_or_default());
        product.insert(id, gradient.unwrap_or_else(|| vec![0.0; direction[&id].len()]));
    }
    Ok(product)
}

struct Pass<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    of: Of,
    direction: &'a Direction,
    device: Device,
    /// What the gradient is taken in: weights, or zeros added to values.
    leaves: BTreeMap<NodeId, Tensor<4>>,
}

impl Pass<'_> {
    /// `dL . v`: `sum (softmax(z) - t) dz` over logits `z`, their derivative and one-hot labels `t`.
    fn slope(&mut self, x: Tensor<4>, labels: &[u16]) -> Tensor<1> {
        let graph = self.graph;
        let mut values = vec![self.moved(0, Dual { value: x, tangent: None })];
        for (id, node) in graph.nodes.iter().enumerate().skip(1) {
            let x = values[node.inputs[0]].clone();
            let y = match &node.op {
                Op::Input { .. } => x,
                Op::Conv(conv) => self.linear(id, conv, x),
                Op::Linear { in_features, out_features } => {
                    let n = x.value.dims()[0];
                    self.linear(id, &dense(*in_features, *out_features), {
                        x.map(|t| t.reshape([n, *in_features, 1, 1]))
                    })
                }
                Op::Relu { .. } => {
                    let open = x.value.clone().inner().greater_elem(0.0).float();
                    x.map(|t| t * open.clone())
                }
                Op::Relu6 => {
                    let v = x.value.clone().inner();
                    let open = v.clone().greater_elem(0.0).float() * v.lower_elem(6.0).float();
                    Dual { value: x.value.clamp(0.0, 6.0), tangent: x.tangent.map(|t| t * open) }
                }
                Op::PartialRelu { mask } => {
                    let inside = mask.inside().iter().map(|&i| f32::from(u8::from(i))).collect();
                    let [_, c, h, w] = x.value.dims();
                    partly_rectified(x, TensorData::new(inside, [1, c, h, w]), &self.device)
                }
                Op::Blend { alpha: [c, h, w] } => {
                    let alpha = self.weights.of(&node.name, "alpha").expect("weights were checked");
                    partly_rectified(x, TensorData::new(alpha.data.clone(), [1, *c, *h, *w]), &self.device)
                }
                Op::Add => x.plus(values[node.inputs[1]].clone()),
                Op::Subsample(how) => x.map(|t| subsample(t, *how)),
                Op::AvgPool { kernel, stride } => {
                    let options = || AvgPoolOptions::new([*kernel; 2]).with_stride([*stride; 2]);
                    x.map(|t| avg_pool2d(t, options()))
                }
                Op::MaxPool { kernel, stride, pad } => maximum(x, *kernel, *stride, *pad),
                Op::GlobalAvgPool => x.map(|t| t.mean_dim(3).mean_dim(2)),
            };
            values.push(self.moved(id, y));
        }
        let last = values.swap_remove(graph.nodes.len() - 1);
        let [n, classes, ..] = last.value.dims();
        let mut target = vec![0f32; n * classes];
        target.chunks_exact_mut(classes).zip(labels).for_each(|(row, &l)| row[usize::from(l)] = 1.0);
        let target = Tensor::<2>::from_data(TensorData::new(target, [n, classes]), &self.device);
        let error = log_softmax(last.value.reshape([n, classes]), 1).exp() - target;
        match last.tangent {
            Some(tangent) => (error * tangent.reshape([n, classes])).sum(),
            None => error.sum() * 0.0,
        }
    }

    /// Moves the value of a node, if values move.
    fn moved(&mut self, id: NodeId, x: Dual) -> Dual {
        let Some(v) = self.direction.get(&id).filter(|_| self.of == Of::Values) else { return x };
        let shape = x.value.dims();
        let v = Tensor::from_data(TensorData::new(v.clone(), shape), &self.device);
        let leaf = Tensor::zeros(shape, &self.device).require_grad();
        self.leaves.insert(id, leaf.clone());
        x.plus(Dual { value: leaf, tangent: Some(v) })
    }

    /// `(w x)' = w x' + w' x`.
    fn linear(&mut self, id: NodeId, conv: &Conv, x: Dual) -> Dual {
        let name = &self.graph.nodes[id].name;
        let array = |part: &str| self.weights.of(name, part).expect("weights were checked").clone();
        let kernel =
            |data: Vec<f32>| Tensor::<4>::from_data(TensorData::new(data, conv.weight_shape()), &self.device);
        let mut weight = kernel(array("weight").data);
        let moves = self.direction.get(&id).filter(|_| self.of == Of::Weights);
        if moves.is_some() {
            weight = weight.require_grad();
        }
        let passed = x.tangent.map(|t| apply(conv, t, weight.clone()));
        let turned = moves.map(|v| apply(conv, x.value.clone(), kernel(v.clone())));
        let mut value = apply(conv, x.value, weight.clone());
        if conv.bias != Bias::None {
            let [_, out, h, w] = value.dims();
            value = value + spread(&array("bias"), &conv.bias, [out, h, w], &self.device);
        }
        if moves.is_some() {
            self.leaves.insert(id, weight);
        }
        Dual { value, tangent: sum(passed, turned) }
    }
}

/// `a max(x, 0) + (1 - a) x`, whose derivative is `1 - a` where `x` is not positive.
fn partly_rectified(x: Dual, a: TensorData, device: &Device) -> Dual {
    let closed = x.value.clone().inner().lower_equal_elem(0.0).float();
    let slope = closed * Tensor::<4>::from_data(a, device).inner() * -1.0 + 1.0;
    x.map(|t| t * slope.clone())
}

impl Dual {
    /// A linear map, of value and derivative alike.
    fn map(self, f: impl Fn(Tensor<4>) -> Tensor<4>) -> Self {
        Self { value: f(self.value), tangent: self.tangent.map(f) }
    }

    fn plus(self, other: Self) -> Self {
        Self { value: self.value + other.value, tangent: sum(self.tangent, other.tangent) }
    }
}

fn sum(a: Option<Tensor<4>>, b: Option<Tensor<4>>) -> Option<Tensor<4>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

/// A fully connected layer on `[n, in, 1, 1]`.
fn dense(in_channels: usize, out_channels: usize) -> Conv {
    Conv {
        in_channels,
        out_channels,
        kernel: 1,
        stride: 1,
        pad: 0,
        groups: 1,
        norm: false,
        bias: Bias::Channel,
    }
}

fn apply(conv: &Conv, x: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    if conv.is_pointwise() {
        let weight = weight.reshape([1, conv.out_channels, c]);
        return weight.matmul(x.reshape([n, c, h * w])).reshape([n, conv.out_channels, h, w]);
    }
    let options = ConvOptions::new([conv.stride; 2], [conv.pad; 2], [1, 1], conv.groups);
    conv2d(x, weight, None, options)
}

/// A bias as it is added to a `[n, out, h, w]` value.
fn spread(bias: &Array, how: &Bias, [out, h, w]: [usize; 3], device: &Device) -> Tensor<4> {
    let (data, shape) = match how {
        Bias::Position(map) => {
            let at = map.indices();
            let value = |k: usize| at.iter().map(move |&i| bias.data[i * out + k]);
            ((0..out).flat_map(value).collect(), [1, out, h, w])
        }
        _ => (bias.data.clone(), [1, out, 1, 1]),
    };
    Tensor::from_data(TensorData::new(data, shape), device)
}

fn subsample(x: Tensor<4>, how: Subsample) -> Tensor<4> {
    let y = avg_pool2d(x, AvgPoolOptions::new([1; 2]).with_stride([how.stride; 2]));
    let [n, _, h, w] = y.dims();
    let zeros = |channels: usize| Tensor::<4>::zeros([n, channels, h, w], &y.device());
    Tensor::cat(vec![zeros(how.before), y.clone(), zeros(how.after)], 1)
}

/// The derivative of a maximum is that of the largest element.
fn maximum(x: Dual, kernel: usize, stride: usize, pad: usize) -> Dual {
    let [n, c, h, w] = x.value.dims();
    let options = MaxPoolOptions::new([kernel; 2]).with_stride([stride; 2]).with_padding([pad; 2]);
    let (value, at) = max_pool2d_with_indices(x.value, options);
    let [.., rows, columns] = value.dims();
    let at = at.reshape([n, c, rows * columns]);
    let pick = |t: Tensor<4>| t.reshape([n, c, h * w]).gather(2, at).reshape([n, c, rows, columns]);
    Dual { value, tangent: x.tangent.map(pick) }
}
