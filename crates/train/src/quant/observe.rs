//! Scales from a trained network: weights by their range, activations by what some batches
//! show, both the power of two that loses least in the square mean.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};

use super::spec::{ActScale, LayerScale, QuantConfig, QuantSpec, accumulator_scale, requantised};
use crate::TrainError;
use crate::data::{Augment, Images, PixelScale, gather};
use crate::net::{Array, Graph, Network, NodeId, Op, Pass, Weights};

/// Width of the weights of the first and last layer.
const OUTER_BITS: u32 = 8;
/// Scales below the smallest one without saturation that are tried.
const CANDIDATES: i32 = 4;
/// Values kept of each activation and batch.
const SAMPLE: usize = 8192;
/// Images a batch while observing.
const BATCH: usize = 64;

/// Chooses every scale of a folded network.
///
/// # Errors
/// A graph with norms, weights that do not fit, or no images.
pub fn calibrate(
    graph: &Graph,
    weights: &Weights,
    images: &Images,
    pixels: PixelScale,
    config: &QuantConfig,
) -> Result<QuantSpec, TrainError> {
    config.check()?;
    let mut spec = QuantSpec::default();
    let outer = outer_layers(graph);
    for (id, node) in graph.nodes.iter().enumerate() {
        if matches!(node.op, Op::Conv(_) | Op::Linear { .. }) {
            let bits = if outer.contains(&id) { OUTER_BITS } else { config.weight_bits };
            let scale = weight_scales(weights.of(&node.name, "weight")?, bits, config.max_spread);
            spec.layers.insert(node.name.clone(), scale);
        }
    }
    let seen = observe(graph, weights, images, pixels)?;
    let requantised = requantised(graph);
    let mut scales: Vec<i32> = Vec::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        let accumulator = accumulator_scale(graph, &spec, pixels, id, &scales)?;
        if !requantised[id] {
            scales.push(accumulator);
            continue;
        }
        let unsigned = matches!(node.op, Op::Relu { .. });
        let bits = if unsigned { config.act_bits } else { config.residual_bits };
        let values = seen.get(&id).map_or(&[][..], Vec::as_slice);
        let mut act = ActScale { bits, signed: !unsigned, scale: 0 };
        // A requantisation drops bits; it cannot invent any.
        act.scale = best_scale(values, act.limits()).max(accumulator);
        scales.push(act.scale);
        spec.activations.insert(node.name.clone(), act);
    }
    Ok(spec)
}

/// First and last node with weights.
pub(super) fn outer_layers(graph: &Graph) -> [NodeId; 2] {
    let mut layers = graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, n)| matches!(n.op, Op::Conv(_) | Op::Linear { .. }))
        .map(|(id, _)| id);
    let first = layers.next().unwrap_or(0);
    [first, layers.next_back().unwrap_or(first)]
}

/// Widths as [`calibrate`] would choose them, scales nominal: for pricing a network that has
/// no weights yet.
pub fn nominal(graph: &Graph, config: &QuantConfig) -> Result<QuantSpec, TrainError> {
    config.check()?;
    let mut spec = QuantSpec::default();
    let outer = outer_layers(graph);
    for (id, node) in graph.nodes.iter().enumerate() {
        let (bits, channels) = match &node.op {
            Op::Conv(conv) => (config.weight_bits, conv.out_channels),
            Op::Linear { out_features, .. } => (config.weight_bits, *out_features),
            _ => continue,
        };
        let bits = if outer.contains(&id) { OUTER_BITS } else { bits };
        let mut scales = vec![-(bits as i32); channels];
        scales[0] += config.max_spread as i32;
        spec.layers.insert(node.name.clone(), LayerScale { bits, scales });
    }
    for (id, _) in requantised(graph).into_iter().enumerate().filter(|(_, r)| *r) {
        let node = &graph.nodes[id];
        let unsigned = matches!(node.op, Op::Relu { .. });
        let bits = if unsigned { config.act_bits } else { config.residual_bits };
        // Values up to about 4, whatever the width.
        let scale = 2 + i32::from(!unsigned) - bits as i32;
        spec.activations.insert(node.name.clone(), ActScale { bits, signed: !unsigned, scale });
    }
    Ok(spec)
}

/// Per output channel the best power of two, none more than `max_spread` below the coarsest.
fn weight_scales(weight: &Array, bits: u32, max_spread: u32) -> LayerScale {
    let rows = weight.data.chunks_exact(weight.data.len() / weight.shape[0]);
    let limits = LayerScale { bits, scales: vec![] }.limits();
    let best: Vec<Option<i32>> =
        rows.map(|row| row.iter().any(|&w| w != 0.0).then(|| best_scale(row, limits))).collect();
    let coarsest = best.iter().flatten().copied().max().unwrap_or(0);
    let finest = coarsest - max_spread as i32;
    // A channel of zeros takes any scale.
    let scales = best.into_iter().map(|e| e.unwrap_or(coarsest).max(finest)).collect();
    LayerScale { bits, scales }
}

/// The exponent `e` that minimises `sum (v - clamp(floor(v / 2^e + 1/2)) 2^e)^2`.
fn best_scale(values: &[f32], (lo, hi): (f32, f32)) -> i32 {
    let fits = |e: i32| {
        let unit = 2f64.powi(e);
        values.iter().all(|&v| (f64::from(lo)..=f64::from(hi)).contains(&(f64::from(v) / unit).round()))
    };
    let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
    let mut coarsest = (largest.max(1e-9) / hi).log2().floor() as i32 - 1;
    while !fits(coarsest) && coarsest < 64 {
        coarsest += 1;
    }
    let loss = |e: i32| {
        let unit = 2f32.powi(e);
        let error = |v: f32| v - ((v / unit + 0.5).floor().clamp(lo, hi)) * unit;
        values.iter().map(|&v| f64::from(error(v)).powi(2)).sum::<f64>()
    };
    let losses: Vec<_> = (0..CANDIDATES).map(|step| (loss(coarsest - step), coarsest - step)).collect();
    losses.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(coarsest, |(_, e)| e)
}

/// An even sample of every value that is to be requantised.
fn observe(
    graph: &Graph,
    weights: &Weights,
    images: &Images,
    pixels: PixelScale,
) -> Result<BTreeMap<NodeId, Vec<f32>>, TrainError> {
    if images.is_empty() {
        return Err(TrainError::config("calibration images", "there are none"));
    }
    let device = Device::flex();
    let network = Network::new(graph, weights, &device)?;
    let requantised = requantised(graph);
    let mut seen: BTreeMap<NodeId, Vec<f32>> = BTreeMap::new();
    let indices: Vec<_> = (0..images.len()).collect();
    for chunk in indices.chunks(BATCH) {
        let batch = gather(images, chunk, pixels, Augment::NONE, 0);
        let x = Tensor::<4>::from_data(TensorData::new(batch.inputs, batch.shape), &device);
        let mut tap = |id: NodeId, value: &Tensor<4>| {
            if requantised[id] {
                let data = value.clone().into_data().try_into_vec::<f32>().unwrap_or_default();
                let kept = seen.entry(id).or_default();
                // The largest value decides the range, so it is always part of the sample.
                kept.extend(data.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())));
                kept.extend(data.iter().step_by(data.len().div_ceil(SAMPLE)));
            }
        };
        network.forward(x, &mut Pass { tap: Some(&mut tap), ..Pass::default() });
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_the_best_power_of_two() {
        // 255 steps of 1/64 reach 3.98.
        let ramp: Vec<f32> = (0..1000).map(|i| i as f32 * 0.0039).collect();
        assert_eq!(best_scale(&ramp, (0.0, 255.0)), -6);
        // One outlier in a thousand is worth saturating at 2 bits, but not at 8.
        let mut spiked: Vec<f32> = (0..10_000).map(|i| (i % 100) as f32 / 100.0).collect();
        spiked.push(5.0);
        assert!(best_scale(&spiked, (0.0, 3.0)) < 1);
        assert_eq!(best_scale(&spiked, (0.0, 255.0)), -5);
    }

    #[test]
    fn the_spread_of_a_layer_is_bounded() {
        let rows = [1.0f32, 0.4, 0.01, 0.0];
        let weight = Array::new([4, 2], rows.iter().flat_map(|&r| [r, -r]).collect());
        let scale = weight_scales(&weight, 8, 3);
        assert_eq!(scale.scales.iter().max().unwrap() - scale.scales.iter().min().unwrap(), 3);
        assert_eq!(scale.shifts().len(), 4);
        for (k, &r) in rows.iter().enumerate() {
            let unit = 2f32.powi(scale.scales[k]);
            assert!((scale.integer(r, k) as f32 * unit - r).abs() <= unit / 2.0 + f32::EPSILON);
        }
    }
}
