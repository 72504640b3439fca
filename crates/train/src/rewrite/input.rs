//! An affine map of every input channel, folded into the first convolution.
//!
//! The foreign network pads with the *mapped* zero, that is with 0 after the map; ours with 0
//! before it. Seen from our side the map's shift is a constant inside the image and absent from
//! the padding: a bias that depends on the position, as in a merged block.

use super::chain::Dense;
use crate::TrainError;
use crate::net::{Array, Bias, Conv, Graph, Op, Weights};

/// The network that computes on `x` what `graph` computes on `x * scale + shift` (by channel).
///
/// # Errors
/// A network that does not start with one dense convolution without a bias.
pub fn fold_input(
    graph: &Graph,
    weights: &Weights,
    scale: &[f64],
    shift: &[f64],
) -> Result<(Graph, Weights), TrainError> {
    let shapes = graph.shapes()?;
    let mut readers = graph.nodes.iter().enumerate().filter(|(_, n)| n.inputs.contains(&0));
    let (Some((id, node)), None) = (readers.next(), readers.next()) else {
        return Err(TrainError::graph("input", "one convolution must read the image"));
    };
    let Op::Conv(first) = &node.op else {
        return Err(TrainError::graph(&node.name, "reads the image and is no convolution"));
    };
    if first.bias != Bias::None || first.groups != 1 {
        return Err(TrainError::graph(&node.name, "has groups or a bias"));
    }
    let channels = first.in_channels;
    let map = Conv {
        in_channels: channels,
        out_channels: channels,
        kernel: 1,
        stride: 1,
        pad: 0,
        groups: channels,
        norm: false,
        bias: Bias::Channel,
    };
    let single = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<_>>();
    let factors = Array::new([channels, 1, 1, 1], single(scale));
    let shifts = Array::new([channels], single(shift));
    let name = format!("{}.weight", node.name);
    let whole = Dense::new(&map, &factors, Some(&shifts), shapes[0])
        .then(first, weights.get(&name)?, None)
        .map_err(|reason| TrainError::graph(&node.name, reason))?;
    let (conv, weight, bias) = whole.finish();
    let (mut graph, mut weights) = (graph.clone(), weights.clone());
    weights.insert(&name, weight);
    let mut conv = Conv { norm: first.norm, ..conv };
    if shift.iter().all(|&s| s == 0.0) {
        conv.bias = Bias::None;
    } else {
        weights.insert(&format!("{}.bias", node.name), bias);
    }
    graph.nodes[id].op = Op::Conv(conv);
    weights.check(&graph)?;
    Ok((graph, weights))
}
