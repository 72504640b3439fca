//! A network's structure in the fixed point of CrypTFlow2 and CoPriv, for pricing.

use copriv_model::{ConvSpec, GraphBuilder, LinearSpec, ModelError, NodeId, TensorType};

use crate::TrainError;
use crate::net::{Graph, Op};
use crate::rewrite::fold_graph;

/// The widest weights that an integer model has; CoPriv's presets send as if they had `ring` bits.
const WEIGHT_BITS: u32 = 16;

/// The structure of `graph` with every value in `Z_2^ring` and `scale` fractional bits, truncated
/// after each product and *assumed* not to overflow: what
/// `copriv_plan::architectures::Numbers::FixedPoint` is for the named networks, for a network in
/// whatever state its blocks are. For prices only: there are no such weights.
///
/// # Errors
/// A graph that the integer model refuses.
pub fn fixed_point(graph: &Graph, ring: u32, scale: u32) -> Result<copriv_model::Graph, TrainError> {
    if !(scale < ring && ring <= 48) {
        return Err(TrainError::config("fixed point", format!("{scale} of {ring} bits as a fraction")));
    }
    let graph = fold_graph(graph);
    let shapes = graph.shapes()?;
    let spec = || LinearSpec {
        weight_bits: WEIGHT_BITS,
        ternary: false,
        weight_scale_log2: -(scale as i32),
        channel_shifts: vec![],
        bias_bits: 0,
        acc_bound: Some((1 << (ring - 1)) - (1 << scale)),
    };
    let input = TensorType::signed(graph.input_shape(), ring - scale, -(scale as i32));
    let mut b = GraphBuilder::new(&graph.arch, input);
    let mut place: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let name = node.name.as_str();
        let operand = |i: usize| place[node.inputs[i]];
        let top = match &node.op {
            Op::Input { .. } => b.input(),
            Op::Conv(conv) => {
                let conv = ConvSpec {
                    out_channels: conv.out_channels,
                    kernel: conv.kernel,
                    stride: conv.stride,
                    pad: conv.pad,
                    groups: conv.groups,
                    linear: spec(),
                };
                let y = b.conv(name, operand(0), conv)?;
                b.requant(&format!("{name}.truncate"), y, scale, ring - scale, true, false)?
            }
            Op::Blend { .. } => return Err(TrainError::graph(name, "its mask is still being searched")),
            Op::Relu { .. } => b.relu(name, operand(0))?,
            Op::Relu6 => return Err(TrainError::without_integers(name)),
            Op::PartialRelu { mask } => b.partial_relu(name, operand(0), mask.clone())?,
            Op::Add => b.add(name, operand(0), operand(1))?,
            Op::Subsample(how) => b.subsample(name, operand(0), *how)?,
            Op::MaxPool { kernel, stride, pad } => b.max_pool(name, operand(0), (*kernel, *stride, *pad))?,
            Op::AvgPool { kernel, stride } => mean(&mut b, name, operand(0), (*kernel, *stride), scale)?,
            Op::GlobalAvgPool => {
                let side = shapes[node.inputs[0]][1];
                mean(&mut b, name, operand(0), (side, side), scale)?
            }
            Op::Linear { out_features, .. } => {
                let x = b.flatten(&format!("{name}.flatten"), operand(0))?;
                b.linear(name, x, *out_features, spec())?
            }
        };
        place.push(top);
    }
    Ok(b.finish(place.last().copied().unwrap_or(0))?)
}

/// A division by a number that is no power of two needs about three times the operand's width: to
/// stay in the ring, values lose half of their scale first and saturate.
fn mean(
    b: &mut GraphBuilder,
    name: &str,
    x: NodeId,
    (side, stride): (usize, usize),
    scale: u32,
) -> Result<NodeId, ModelError> {
    let x = if (side * side).is_power_of_two() {
        x
    } else {
        b.requant(&format!("{name}.narrow"), x, scale / 2, scale - 1, true, true)?
    };
    b.avg_pool(name, x, side, stride)
}
