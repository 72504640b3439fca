//! Scales from a trained network: weights by their range, activations by what some batches
//! show, both the power of two that loses least in the square mean.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};

use super::spec::{ActScale, LayerScale, QuantConfig, QuantSpec, accumulator_scale, requantised};
use super::width::WeightWidth;
use crate::TrainError;
use crate::data::{Augment, Images, PixelScale, gather};
use crate::net::{Array, Graph, Network, NodeId, Op, Pass, Weights};

/// Scales below the smallest one without saturation that are tried.
const CANDIDATES: i32 = 4;
/// Values kept of each activation and batch.
const SAMPLE: usize = 8192;
/// Images a batch while observing.
const BATCH: usize = 64;

/// What scales are chosen from: a folded network's weights, and its values on some images.
#[derive(Debug)]
pub struct Calibration<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    pixels: PixelScale,
    seen: BTreeMap<NodeId, Vec<f32>>,
    /// What was computed before, by node, width, and spread or sign: a search over widths asks again
    /// and again.
    layers: Mutex<BTreeMap<(NodeId, WeightWidth, u32), LayerScale>>,
    exponents: Mutex<BTreeMap<(NodeId, u32, bool), i32>>,
}

impl<'a> Calibration<'a> {
    /// Runs the network on `images`.
    ///
    /// # Errors
    /// A graph with norms, weights that do not fit, or no images.
    pub fn new(
        graph: &'a Graph,
        weights: &'a Weights,
        images: &Images,
        pixels: PixelScale,
    ) -> Result<Self, TrainError> {
        let seen = observe(graph, weights, images, pixels)?;
        Ok(Self { graph, weights, pixels, seen, layers: Mutex::default(), exponents: Mutex::default() })
    }

    /// Chooses every scale.
    ///
    /// # Errors
    /// Widths out of range.
    pub fn spec(&self, config: &QuantConfig) -> Result<QuantSpec, TrainError> {
        let layers = config.layer_widths(self.graph)?;
        let values = config.value_widths(self.graph)?;
        let mut spec = QuantSpec::default();
        for (&id, &width) in &layers {
            spec.layers.insert(self.graph.nodes[id].name.clone(), self.layer(id, width, config.max_spread)?);
        }
        place(self.graph, self.pixels, &values, &mut spec, |id, act| self.exponent(id, act))?;
        Ok(spec)
    }

    /// `|Q(W) - W|^2` of layer `id` at that width.
    ///
    /// # Errors
    /// A node without weights.
    pub fn weight_error(&self, id: NodeId, width: WeightWidth, max_spread: u32) -> Result<f64, TrainError> {
        let scale = self.layer(id, width, max_spread)?;
        let weight = self.weights.of(&self.graph.nodes[id].name, "weight")?;
        let rows = weight.data.chunks_exact(weight.data.len() / weight.shape[0]);
        let error = |(k, row): (usize, &[f32])| {
            let unit = 2f64.powi(scale.scales[k]);
            row.iter().map(|&w| (f64::from(scale.integer(w, k)) * unit - f64::from(w)).powi(2)).sum::<f64>()
        };
        Ok(rows.enumerate().map(error).sum())
    }

    /// Mean of `(Q(x) - x)^2` over the sampled elements of node `id`'s value.
    pub fn value_error(&self, id: NodeId, bits: u32, signed: bool) -> f64 {
        let mut act = ActScale { bits, signed, scale: 0 };
        act.scale = self.exponent(id, act);
        let values = self.seen.get(&id).map_or(&[][..], Vec::as_slice);
        squared_error(values, act.scale, act.limits()) / values.len().max(1) as f64
    }

    fn layer(&self, id: NodeId, width: WeightWidth, max_spread: u32) -> Result<LayerScale, TrainError> {
        let key = (id, width, max_spread);
        if let Some(known) = locked(&self.layers).get(&key) {
            return Ok(known.clone());
        }
        let weight = self.weights.of(&self.graph.nodes[id].name, "weight")?;
        let scale = weight_scales(weight, width, max_spread);
        locked(&self.layers).insert(key, scale.clone());
        Ok(scale)
    }

    fn exponent(&self, id: NodeId, act: ActScale) -> i32 {
        let key = (id, act.bits, act.signed);
        if let Some(&known) = locked(&self.exponents).get(&key) {
            return known;
        }
        let exponent = best_scale(self.seen.get(&id).map_or(&[], Vec::as_slice), act.limits());
        locked(&self.exponents).insert(key, exponent);
        exponent
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Chooses every scale of a folded network.
///
/// # Errors
/// A graph with norms, weights that do not fit, no images, or widths out of range.
pub fn calibrate(
    graph: &Graph,
    weights: &Weights,
    images: &Images,
    pixels: PixelScale,
    config: &QuantConfig,
) -> Result<QuantSpec, TrainError> {
    Calibration::new(graph, weights, images, pixels)?.spec(config)
}

/// Widths as [`calibrate`] would choose them, scales nominal: for pricing a network that has
/// no weights yet.
///
/// # Errors
/// Widths out of range.
pub fn nominal(graph: &Graph, pixels: PixelScale, config: &QuantConfig) -> Result<QuantSpec, TrainError> {
    let mut spec = QuantSpec::default();
    for (id, width) in config.layer_widths(graph)? {
        let node = &graph.nodes[id];
        let channels = match &node.op {
            Op::Conv(conv) => conv.out_channels,
            Op::Linear { out_features, .. } => *out_features,
            _ => continue,
        };
        let mut scales = vec![-(width.bits() as i32); channels];
        scales[0] += config.max_spread as i32;
        spec.layers.insert(node.name.clone(), LayerScale::new(width, scales));
    }
    // Values up to about 4, whatever the width.
    let scale = |_, act: ActScale| 2 + i32::from(act.signed) - act.bits as i32;
    place(graph, pixels, &config.value_widths(graph)?, &mut spec, scale)?;
    Ok(spec)
}

/// Gives every value that is requantised the scale that it wants, or its accumulator's if that is
/// coarser: a requantisation drops bits; it cannot invent any.
pub(super) fn place(
    graph: &Graph,
    pixels: PixelScale,
    values: &BTreeMap<NodeId, ActScale>,
    spec: &mut QuantSpec,
    wanted: impl Fn(NodeId, ActScale) -> i32,
) -> Result<(), TrainError> {
    let mut scales: Vec<i32> = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes.iter().enumerate() {
        let accumulator = accumulator_scale(graph, spec, pixels, id, &scales)?;
        let Some(&act) = values.get(&id) else {
            scales.push(accumulator);
            continue;
        };
        let scale = wanted(id, act).max(accumulator);
        scales.push(scale);
        spec.activations.insert(node.name.clone(), ActScale { scale, ..act });
    }
    Ok(())
}

/// Per output channel the best power of two, none more than `max_spread` below the coarsest.
fn weight_scales(weight: &Array, width: WeightWidth, max_spread: u32) -> LayerScale {
    let rows = weight.data.chunks_exact(weight.data.len() / weight.shape[0]);
    let limits = LayerScale::new(width, vec![]).limits();
    let best: Vec<Option<i32>> =
        rows.map(|row| row.iter().any(|&w| w != 0.0).then(|| best_scale(row, limits))).collect();
    let coarsest = best.iter().flatten().copied().max().unwrap_or(0);
    let finest = coarsest - max_spread as i32;
    // A channel of zeros takes any scale.
    let scales = best.into_iter().map(|e| e.unwrap_or(coarsest).max(finest)).collect();
    LayerScale::new(width, scales)
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
    let candidates = (0..CANDIDATES).map(|step| coarsest - step);
    let losses: Vec<_> = candidates.map(|e| (squared_error(values, e, (lo, hi)), e)).collect();
    losses.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or(coarsest, |(_, e)| e)
}

/// `sum (v - clamp(floor(v / 2^e + 1/2)) 2^e)^2`.
fn squared_error(values: &[f32], e: i32, (lo, hi): (f32, f32)) -> f64 {
    let unit = 2f32.powi(e);
    let error = |v: f32| v - ((v / unit + 0.5).floor().clamp(lo, hi)) * unit;
    values.iter().map(|&v| f64::from(error(v)).powi(2)).sum()
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
        let batch = gather(images, chunk, pixels, Augment::NONE, 0)?;
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
        let scale = weight_scales(&weight, 8.into(), 3);
        assert_eq!(scale.scales.iter().max().unwrap() - scale.scales.iter().min().unwrap(), 3);
        assert_eq!(scale.shifts().len(), 4);
        for (k, &r) in rows.iter().enumerate() {
            let unit = 2f32.powi(scale.scales[k]);
            assert!((scale.integer(r, k) as f32 * unit - r).abs() <= unit / 2.0 + f32::EPSILON);
        }
    }
}
