//! What there is to choose, and what each choice does to the loss.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::hessian::Traces;
use crate::net::{Graph, NodeId, Op};
use crate::quant::{Calibration, QuantConfig, requantised};

/// Widths of weights that are chosen from.
pub const WEIGHT_WIDTHS: [u32; 4] = [2, 3, 4, 8];
/// Widths of activations that are chosen from.
const ACTIVATION_WIDTHS: RangeInclusive<u32> = 2..=8;

/// How sharply the loss bends along weights and, if their widths are to be chosen, activations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curvature {
    /// Of every layer's weights.
    pub weights: Traces,
    /// Of every value that is requantised.
    pub values: Option<Traces>,
}

/// Widths of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Widths {
    /// Of the layer's weights.
    pub weights: u32,
    /// Of its input, where the unit decides on that.
    pub activation: Option<u32>,
}

/// A layer, together with the rectified activation that it reads if no earlier layer reads it. What
/// lies on the residual stream keeps its width, and so do the weights of the first and last layer.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The layer.
    pub layer: String,
    /// The activation.
    pub activation: Option<String>,
    /// Multiplications by a weight.
    pub macs: usize,
    /// What may be chosen.
    pub options: Vec<Widths>,
    /// `Omega` of each option: weights' and activation's added up.
    pub sensitivity: Vec<f64>,
    /// Width of the input where the unit does not decide on it.
    pub(super) input_bits: u32,
}

/// The units of a folded network, in the order of its layers.
pub(super) fn units(
    graph: &Graph,
    calibration: &Calibration<'_>,
    base: &QuantConfig,
    pixel_bits: u32,
    curvature: &Curvature,
) -> Result<Vec<Unit>, TrainError> {
    let fixed = base.layer_widths(graph)?;
    let values = base.value_widths(graph)?;
    let rounded = requantised(graph);
    let shapes = graph.shapes()?;
    let (first, last) = (fixed.keys().next().copied(), fixed.keys().next_back().copied());
    let mut taken = vec![false; graph.nodes.len()];
    let mut units = Vec::with_capacity(fixed.len());
    for (&id, &width) in &fixed {
        let node = &graph.nodes[id];
        let source = source(graph, &rounded, node.inputs[0]);
        let rectified = matches!(graph.nodes[source].op, Op::Relu { .. }) && rounded[source];
        let chosen = (curvature.values.is_some() && rectified && !taken[source]).then_some(source);
        taken[source] |= chosen.is_some();
        let weights =
            if Some(id) == first || Some(id) == last { vec![width.bits()] } else { WEIGHT_WIDTHS.to_vec() };
        let activations: Vec<Option<u32>> = match chosen {
            Some(_) => ACTIVATION_WIDTHS.map(Some).collect(),
            None => vec![None],
        };
        let trace = mean(&curvature.weights, &node.name)?;
        let mut unit = Unit {
            layer: node.name.clone(),
            activation: chosen.map(|id| graph.nodes[id].name.clone()),
            macs: macs(graph, id, shapes[id]),
            options: Vec::new(),
            sensitivity: Vec::new(),
            input_bits: values.get(&source).map_or(pixel_bits, |act| act.bits),
        };
        for &weights in &weights {
            let of_weights = trace * calibration.weight_error(id, weights.into(), base.max_spread)?;
            for &activation in &activations {
                let of_activation = match (chosen, activation, &curvature.values) {
                    (Some(source), Some(bits), Some(traces)) => {
                        let elements = shapes[source].iter().product::<usize>() as f64;
                        let error = calibration.value_error(source, bits, false) * elements;
                        mean(traces, &graph.nodes[source].name)? * error
                    }
                    _ => 0.0,
                };
                unit.options.push(Widths { weights, activation });
                unit.sensitivity.push(of_weights + of_activation);
            }
        }
        units.push(unit);
    }
    Ok(units)
}

/// The value that is rounded last before it is node `id`'s: pools keep the width.
fn source(graph: &Graph, rounded: &[bool], id: NodeId) -> NodeId {
    match graph.nodes[id].inputs[..] {
        [only] if !rounded[id] => source(graph, rounded, only),
        _ => id,
    }
}

fn mean(traces: &Traces, name: &str) -> Result<f64, TrainError> {
    let found = traces.layers.iter().find(|t| t.name == name);
    found
        .map(crate::hessian::Trace::mean)
        .ok_or_else(|| TrainError::graph(name, "its curvature was not measured"))
}

fn macs(graph: &Graph, id: NodeId, [_, h, w]: [usize; 3]) -> usize {
    match &graph.nodes[id].op {
        Op::Conv(conv) => conv.weight_shape().iter().product::<usize>() * h * w,
        Op::Linear { in_features, out_features } => in_features * out_features,
        _ => 0,
    }
}
