//! What is rounded where, and to which power-of-two scale.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::width::WeightWidth;
use crate::TrainError;
use crate::data::PixelScale;
use crate::net::{Graph, NodeId, Op};

/// Widths and limits from which scales are chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuantConfig {
    /// Width of the signed weights; the first and last layer have 8 bits.
    pub weight_bits: WeightWidth,
    /// Width of activations behind a rectifier (unsigned), 2..=8.
    pub act_bits: u32,
    /// Width of activations elsewhere (signed): the residual stream, 4..=16.
    pub residual_bits: u32,
    /// Most bits between the coarsest and the finest channel scale of a layer, 0..=3: they
    /// widen the accumulator.
    pub max_spread: u32,
    /// Export accumulators as narrow as the real weights allow, which makes a bound on the
    /// weights public, instead of the worst case of the shape.
    pub tight_accumulators: bool,
    /// Widths of single layers' weights, by name, whatever is said above.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, WeightWidth>,
    /// Widths of single nodes' values, 2..=16, likewise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub activations: BTreeMap<String, u32>,
}

/// Width of the weights of the first and last layer.
const OUTER_BITS: WeightWidth = WeightWidth::Bits(8);

impl Default for QuantConfig {
    fn default() -> Self {
        Self {
            weight_bits: WeightWidth::Bits(6),
            act_bits: 6,
            residual_bits: 8,
            max_spread: 2,
            tight_accumulators: false,
            weights: BTreeMap::new(),
            activations: BTreeMap::new(),
        }
    }
}

/// Scales of a whole network, by node name. A value `v` is stored as the integer
/// `floor(v / 2^scale + 1/2)`, saturated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantSpec {
    /// Convolutions and linear layers.
    pub layers: BTreeMap<String, LayerScale>,
    /// Values that are requantised.
    pub activations: BTreeMap<String, ActScale>,
}

/// Rounding of one layer's weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerScale {
    /// Width of the signed weights.
    pub bits: u32,
    /// Only -1, 0 and 1 occur; then `bits` is 2.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ternary: bool,
    /// log2 of the scale of every output channel.
    pub scales: Vec<i32>,
}

/// Rounding of one activation tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActScale {
    /// Width.
    pub bits: u32,
    /// Two's complement, else `0..2^bits`.
    pub signed: bool,
    /// log2 of the scale.
    pub scale: i32,
}

impl QuantConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn check(&self) -> Result<(), TrainError> {
        for (name, value, range) in [
            ("weight bits", self.weight_bits.bits(), 2..=8),
            ("activation bits", self.act_bits, 2..=8),
            ("residual bits", self.residual_bits, 4..=16),
            ("scale spread", self.max_spread, 0..=3),
        ] {
            if !range.contains(&value) {
                return Err(TrainError::config(
                    name,
                    format!("{value} is not in {}..={}", range.start(), range.end()),
                ));
            }
        }
        let weights = self.weights.iter().map(|(name, width)| (name.clone(), width.bits())).collect();
        for (what, widths, range) in
            [("weight bits", &weights, 2..=8), ("activation bits", &self.activations, 2..=16)]
        {
            if let Some((name, value)) = widths.iter().find(|(_, bits)| !range.contains(*bits)) {
                let reason = format!("{value} of `{name}` is not in {}..={}", range.start(), range.end());
                return Err(TrainError::config(what, reason));
            }
        }
        Ok(())
    }

    /// Width of the weights of every convolution and linear layer.
    ///
    /// # Errors
    /// A width out of range, or one of a layer that is not there.
    pub fn layer_widths(&self, graph: &Graph) -> Result<BTreeMap<NodeId, WeightWidth>, TrainError> {
        self.check()?;
        let linear = |id: &NodeId| matches!(graph.nodes[*id].op, Op::Conv(_) | Op::Linear { .. });
        let layers: Vec<NodeId> = (0..graph.nodes.len()).filter(linear).collect();
        known(graph, &layers, &self.weights)?;
        let common = |id| match (layers.first(), layers.last()) {
            (Some(&first), Some(&last)) if id == first || id == last => OUTER_BITS,
            _ => self.weight_bits,
        };
        let bits = |id: NodeId| self.weights.get(&graph.nodes[id].name).copied().unwrap_or(common(id));
        Ok(layers.iter().map(|&id| (id, bits(id))).collect())
    }

    /// These settings with no weights narrower than `weights`, and no rectified activation narrower than
    /// `activations` bits.
    ///
    /// # Errors
    /// A width out of range, or one of a layer that is not there.
    pub fn at_least(
        &self,
        graph: &Graph,
        weights: WeightWidth,
        activations: u32,
    ) -> Result<Self, TrainError> {
        let name = |id: NodeId| graph.nodes[id].name.clone();
        let layers = self.layer_widths(graph)?.into_iter();
        let values = self.value_widths(graph)?.into_iter().filter(|(_, act)| !act.signed);
        let wider = Self {
            weights: layers.map(|(id, width)| (name(id), width.max(weights))).collect(),
            activations: (self.activations.clone().into_iter())
                .chain(values.map(|(id, act)| (name(id), act.bits.max(activations))))
                .collect(),
            ..self.clone()
        };
        wider.check()?;
        Ok(wider)
    }

    /// Whether both mean the same widths for `graph`.
    ///
    /// # Errors
    /// As [`Self::at_least`].
    pub fn same_widths(&self, other: &Self, graph: &Graph) -> Result<bool, TrainError> {
        Ok(self.layer_widths(graph)? == other.layer_widths(graph)?
            && self.value_widths(graph)? == other.value_widths(graph)?)
    }

    /// Width and sign of every value that is requantised; the scale is left at 1.
    ///
    /// # Errors
    /// A width out of range, or one of a value that is not requantised.
    pub fn value_widths(&self, graph: &Graph) -> Result<BTreeMap<NodeId, ActScale>, TrainError> {
        self.check()?;
        let requantised = requantised(graph);
        let values: Vec<NodeId> = (0..graph.nodes.len()).filter(|&id| requantised[id]).collect();
        known(graph, &values, &self.activations)?;
        let width = |id: NodeId| {
            let node = &graph.nodes[id];
            let signed = !matches!(node.op, Op::Relu { .. });
            let common = if signed { self.residual_bits } else { self.act_bits };
            ActScale { bits: self.activations.get(&node.name).copied().unwrap_or(common), signed, scale: 0 }
        };
        Ok(values.iter().map(|&id| (id, width(id))).collect())
    }
}

/// Every name is one of these nodes'.
fn known<W>(graph: &Graph, nodes: &[NodeId], widths: &BTreeMap<String, W>) -> Result<(), TrainError> {
    let stranger = widths.keys().find(|name| nodes.iter().all(|&id| graph.nodes[id].name != **name));
    match stranger {
        Some(name) => {
            Err(TrainError::graph(name, "has a width of its own, but the network has nothing to round there"))
        }
        None => Ok(()),
    }
}

impl LayerScale {
    /// Scales of weights of this width.
    pub fn new(width: WeightWidth, scales: Vec<i32>) -> Self {
        Self { bits: width.bits(), ternary: width == WeightWidth::Ternary, scales }
    }

    /// Scale of the aligned accumulator, relative to the input's.
    pub fn finest(&self) -> i32 {
        self.scales.iter().copied().min().unwrap_or(0)
    }

    /// Left shifts that align the channels to the finest.
    pub fn shifts(&self) -> Vec<u32> {
        self.scales.iter().map(|e| (e - self.finest()) as u32).collect()
    }

    /// Smallest and largest weight.
    pub fn limits(&self) -> (f32, f32) {
        if self.ternary {
            return (-1.0, 1.0);
        }
        let half = 2f32.powi(self.bits as i32 - 1);
        (-half, half - 1.0)
    }

    /// The integer that stands for weight `w` of output channel `k`. In single precision, as
    /// the fake-quantised network computes it.
    pub fn integer(&self, w: f32, k: usize) -> i32 {
        let (lo, hi) = self.limits();
        round_half_up(w, self.scales[k]).clamp(lo, hi) as i32
    }
}

impl ActScale {
    /// Smallest and largest integer.
    pub fn limits(&self) -> (f32, f32) {
        let bits = self.bits as i32;
        if self.signed {
            (-2f32.powi(bits - 1), 2f32.powi(bits - 1) - 1.0)
        } else {
            (0.0, 2f32.powi(bits) - 1.0)
        }
    }
}

/// `floor(v / 2^scale + 1/2)` in single precision.
pub fn round_half_up(v: f32, scale: i32) -> f32 {
    (v * 2f32.powi(-scale) + 0.5).floor()
}

/// Which values are requantised: everything but the input, pools (which round on their own),
/// the logits, and accumulators whose only user is a rectifier or a residual addition.
pub fn requantised(graph: &Graph) -> Vec<bool> {
    let uses = graph.uses();
    let mut only_user = vec![None; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        for &input in &node.inputs {
            only_user[input] = Some(id);
        }
    }
    let feeds_accumulator = |id: NodeId| {
        let user = only_user[id].filter(|_| uses[id] == 1);
        user.is_some_and(|user| {
            matches!(graph.nodes[user].op, Op::Relu { .. } | Op::PartialRelu { .. } | Op::Add)
        })
    };
    graph
        .nodes
        .iter()
        .enumerate()
        .map(|(id, node)| match node.op {
            Op::Relu { .. } | Op::PartialRelu { .. } => true,
            Op::Conv(_) | Op::Add => !feeds_accumulator(id),
            _ => false,
        })
        .collect()
}

/// Scale of every node's value; between requantisations, that of the accumulator.
///
/// # Errors
/// A layer or activation that `spec` does not name.
pub fn scales(graph: &Graph, spec: &QuantSpec, pixels: PixelScale) -> Result<Vec<i32>, TrainError> {
    let requantised = requantised(graph);
    let mut scales: Vec<i32> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        scales.push(if requantised[id] {
            spec.activation(&node.name)?.scale
        } else {
            accumulator_scale(graph, spec, pixels, id, &scales)?
        });
    }
    Ok(scales)
}

/// Scale of node `id` before any requantisation of its own, from the scales of its operands.
pub(crate) fn accumulator_scale(
    graph: &Graph,
    spec: &QuantSpec,
    pixels: PixelScale,
    id: NodeId,
    scales: &[i32],
) -> Result<i32, TrainError> {
    let node = &graph.nodes[id];
    let operand = |i: usize| scales[node.inputs[i]];
    Ok(match &node.op {
        Op::Input { .. } => pixels.scale_log2,
        Op::Conv(_) | Op::Linear { .. } => operand(0) + spec.layer(&node.name)?.finest(),
        Op::Relu { .. }
        | Op::Relu6
        | Op::PartialRelu { .. }
        | Op::Blend { .. }
        | Op::Subsample(_)
        | Op::AvgPool { .. }
        | Op::MaxPool { .. }
        | Op::GlobalAvgPool => operand(0),
        Op::Add => operand(0).min(operand(1)),
    })
}

impl QuantSpec {
    /// The weights' scales of layer `name`.
    ///
    /// # Errors
    /// There are none.
    pub fn layer(&self, name: &str) -> Result<&LayerScale, TrainError> {
        self.layers.get(name).ok_or_else(|| TrainError::graph(name, "its weights have no scales"))
    }

    /// The scale of the value of `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn activation(&self, name: &str) -> Result<&ActScale, TrainError> {
        self.activations.get(name).ok_or_else(|| TrainError::graph(name, "its value has no scale"))
    }
}
