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
}

#[derive(Clone, Debug, Default)]
struct Rounding {
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
        Ok(Self { nodes })
    }

    /// Weights of node `id`, `[out, ..]`, rounded per output channel.
    pub fn weight<const D: usize>(&self, id: NodeId, weight: Tensor<D>) -> Tensor<D> {
        let Some((units, lo, hi)) = &self.nodes[id].weight else { return weight };
        let mut shape = [1; D];
        shape[0] = units.dims()[0];
        let units = units.clone().reshape(shape);
        let integers = weight.clone().inner() / units.clone();
        let rounded = (integers.clone() + 0.5).floor().clamp(*lo, *hi) * units;
        straight_through(weight, integers, rounded, *lo, *hi)
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
        let Some((scale, lo, hi)) = self.nodes[id].activation else { return x };
        let integers = x.clone().inner() * 2f32.powi(-scale);
        let mut rounded = (integers.clone() + 0.5).floor();
        if lo.is_finite() {
            rounded = rounded.clamp(lo, hi);
        }
        straight_through(x, integers, rounded * 2f32.powi(scale), lo, hi)
    }
}

/// Forward `rounded`; backward the identity where `integers` lies within the limits, else 0.
fn straight_through<const D: usize>(
    x: Tensor<D>,
    integers: Tensor<D>,
    rounded: Tensor<D>,
    lo: f32,
    hi: f32,
) -> Tensor<D> {
    if !x.is_autodiff() {
        return rounded;
    }
    let value = x.clone().inner();
    if lo.is_infinite() {
        return x + (rounded - value);
    }
    let inside = integers.clone().clamp(lo, hi).equal(integers).float();
    let correction = rounded - value * inside.clone();
    x * inside + correction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(x: &[f32], lo: f32, hi: f32) -> (Vec<f32>, Vec<f32>) {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::from_floats(x, &device).require_grad();
        let integers = x.clone().inner() * 4.0;
        let rounded = (integers.clone() + 0.5).floor().clamp(lo, hi) * 0.25;
        let y = straight_through(x.clone(), integers, rounded, lo, hi);
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
