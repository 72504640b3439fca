//! Fake quantisation: single-precision tensors that hold exactly the integers' values.
//!
//! Sums of dyadic numbers below 2^24 units are exact in single precision, so a network run
//! this way equals the integer executor wherever accumulators stay below 24 bits. Gradients
//! pass rounding unchanged and stop where a value is saturated (straight-through estimation).

use burn::tensor::{Device, Tensor};

use super::spec::{QuantSpec, accumulator_scale, requantised};
use crate::TrainError;
use crate::data::PixelScale;
use crate::net::{Graph, NodeId, Op};

/// A [`QuantSpec`] laid out for the interpreter, by node.
#[derive(Clone, Debug)]
pub struct Fake {
    nodes: Vec<Rounding>,
    names: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Rounding {
    /// log2 of the weights' and of the value's scale, where they are learned.
    learned: [Option<Tensor<1>>; 2],
    /// Scale of every output channel's weights, and the integers' limits.
    weight: Option<(Tensor<1>, f32, f32)>,
    /// log2 of the accumulator's scale.
    bias: i32,
    /// log2 of the scale, and the integers' limits; infinite where nothing saturates.
    activation: Option<(i32, f32, f32)>,
}

impl Fake {
    /// Prepares `spec` for networks of `graph` on `device`.
    ///
    /// # Errors
    /// A layer or activation that `spec` does not name.
    pub fn new(
        graph: &Graph,
        spec: &QuantSpec,
        pixels: PixelScale,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let requantised = requantised(graph);
        let mut scales = Vec::with_capacity(graph.nodes.len());
        let mut nodes = Vec::with_capacity(graph.nodes.len());
        for (id, node) in graph.nodes.iter().enumerate() {
            let accumulator = accumulator_scale(graph, spec, pixels, id, &scales)?;
            let mut rounding = Rounding { bias: accumulator, ..Rounding::default() };
            if matches!(node.op, Op::Conv(_) | Op::Linear { .. }) {
                let layer = spec.layer(&node.name)?;
                let units: Vec<f32> = layer.scales.iter().map(|&e| 2f32.powi(e)).collect();
                let (lo, hi) = layer.limits();
                let units = Tensor::<1>::from_floats(units.as_slice(), device).without_autodiff();
                rounding.weight = Some((units, lo, hi));
            }
            if requantised[id] {
                let act = spec.activation(&node.name)?;
                let (lo, hi) = act.limits();
                rounding.activation = Some((act.scale, lo, hi));
                scales.push(act.scale);
            } else {
                if matches!(node.op, Op::AvgPool { .. } | Op::GlobalAvgPool) {
                    rounding.activation = Some((accumulator, f32::NEG_INFINITY, f32::INFINITY));
                }
                scales.push(accumulator);
            }
            nodes.push(rounding);
        }
        Ok(Self { nodes, names: graph.nodes.iter().map(|n| n.name.clone()).collect() })
    }

    /// The same with a leaf for every scale, whose gradient a backward pass then gives.
    pub(super) fn learning(mut self, device: &Device) -> Self {
        let device = device.clone().autodiff();
        for node in &mut self.nodes {
            let weight = node.weight.as_ref().map(|(units, ..)| units.clone().log() / std::f32::consts::LN_2);
            let value = node.activation.filter(|(_, lo, _)| lo.is_finite());
            let value = value.map(|(scale, ..)| Tensor::full([1], scale as f32, &device));
            node.learned = [weight.map(Tensor::autodiff), value].map(|t| t.map(Tensor::require_grad));
        }
        self
    }

    /// The leaves of the scales that are learned: `NODE.weight`, `NODE.value`.
    pub(super) fn leaves(&self) -> Vec<(String, Tensor<1>)> {
        let of = |(node, name): (&Rounding, &String)| {
            let parts = ["weight", "value"].into_iter().zip(node.learned.clone());
            parts.filter_map(|(part, leaf)| Some((format!("{name}.{part}"), leaf?))).collect::<Vec<_>>()
        };
        self.nodes.iter().zip(&self.names).flat_map(of).collect()
    }

    /// Weights of node `id`, `[out, ..]`, rounded per output channel.
    pub fn weight<const D: usize>(&self, id: NodeId, weight: Tensor<D>) -> Tensor<D> {
        let Rounding { weight: scale, learned: [log, _], .. } = &self.nodes[id];
        let Some((units, lo, hi)) = scale else { return weight };
        let mut shape = [1; D];
        shape[0] = units.dims()[0];
        quantise(weight, units.clone().reshape(shape), *lo, *hi, log.as_ref())
    }

    /// Biases of node `id` in its accumulator's scale.
    pub fn bias<const D: usize>(&self, id: NodeId, bias: Tensor<D>) -> Tensor<D> {
        let scale = self.nodes[id].bias;
        let value = bias.clone().inner();
        let rounded = (value.clone() * 2f32.powi(-scale) + 0.5).floor() * 2f32.powi(scale);
        bias + (rounded - value)
    }

    /// The value of node `id`, requantised if it is to be. A rectifier needs no other
    /// treatment: its limits are unsigned.
    pub fn activation(&self, id: NodeId, x: Tensor<4>) -> Tensor<4> {
        let Rounding { activation, learned: [_, log], .. } = &self.nodes[id];
        let Some((scale, lo, hi)) = *activation else { return x };
        let unit = Tensor::full([1; 4], 2f32.powi(scale), &x.device().without_autodiff());
        quantise(x, unit, lo, hi, log.as_ref())
    }
}

/// `clamp(floor(x / unit + 1/2), lo, hi) * unit`, units broadcast. Backward the identity where nothing
/// saturates, else 0; and, if the units' log2 `log` are learned, what [`super::learn`] says.
pub(super) fn quantise<const D: usize>(
    x: Tensor<D>,
    unit: Tensor<D>,
    lo: f32,
    hi: f32,
    log: Option<&Tensor<1>>,
) -> Tensor<D> {
    let value = x.clone().inner();
    let integers = value.clone() / unit.clone();
    let mut rounded = (integers.clone() + 0.5).floor();
    if lo.is_finite() {
        rounded = rounded.clamp(lo, hi);
    }
    let rounded = rounded * unit.clone();
    if !x.is_autodiff() {
        return rounded;
    }
    if lo.is_infinite() {
        return x + (rounded - value);
    }
    let inside = integers.clone().clamp(lo, hi).equal(integers).float();
    let correction = rounded - value * inside.clone();
    match log {
        Some(log) => x * inside + moving(log, unit.dims()) * correction,
        None => x * inside + correction,
    }
}

/// `1 + ln 2 (t - t)`: one, with the gradient of `2^t / 2^t`.
fn moving<const D: usize>(t: &Tensor<1>, shape: [usize; D]) -> Tensor<D> {
    let change = t.clone() - t.clone().inner();
    (change * std::f32::consts::LN_2 + 1.0).reshape(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(x: &[f32], lo: f32, hi: f32) -> (Vec<f32>, Vec<f32>) {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::from_floats(x, &device).require_grad();
        let y = quantise(x.clone(), Tensor::full([1], 0.25, &Device::flex()), lo, hi, None);
        let gradients = (y.clone() * 3.0).sum().backward();
        let gradient = x.grad(&gradients).unwrap();
        (y.into_data().try_into_vec().unwrap(), gradient.into_data().try_into_vec().unwrap())
    }

    #[test]
    fn values_round_half_up_and_saturate_while_gradients_pass_inside_only() {
        let (y, g) = act(&[-0.3, 0.0, 0.1, 0.125, 0.374, 0.375, 3.7, 3.8], 0.0, 15.0);
        assert_eq!(y, [0.0, 0.0, 0.0, 0.25, 0.25, 0.5, 3.75, 3.75]);
        assert_eq!(g, [0.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 0.0]);
        let (y, g) = act(&[-3.0, -0.375, -0.126, 1.9], -8.0, 7.0);
        assert_eq!(y, [-2.0, -0.25, -0.25, 1.75]);
        assert_eq!(g, [0.0, 3.0, 3.0, 0.0]);
    }
}
