//! Rectifiers by the channel or the position: which are worth most.

use burn::tensor::{Device, Tensor, TensorData};
use copriv_model::Mask;

use super::{PruneConfig, check_start};
use crate::TrainError;
use crate::checkpoint::Checkpoint;
use crate::data::{Augment, Dataset, gather};
use crate::fit::{Job, Progress, fit};
use crate::net::{Graph, Network, NodeId, Op, Pass};
use crate::rewrite::{Masks, blend_rectifiers, fold_norms};
use crate::search::{Lasso, Search, THRESHOLD};

/// Density of the global magnitude pruning that [`senet`] reads its sensitivities from.
const DENSITY: f64 = 0.1;
/// Images that it sees, and how many at a time.
const IMAGES: usize = 256;
const BATCH: usize = 64;

/// A score for every channel or position of every rectifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    layers: Vec<Layer>,
}

#[derive(Clone, Debug, PartialEq)]
struct Layer {
    name: String,
    /// Of the rectifier's value.
    shape: [usize; 3],
    /// A channel or a position each; those of 0 and less are of no use.
    scores: Vec<f32>,
    /// Share of the budget relative to other layers; none where all layers share one ranking.
    sensitivity: Option<f64>,
}

impl Layer {
    fn positions(&self) -> usize {
        self.shape.iter().product()
    }

    /// Positions that one score stands for.
    fn size(&self) -> usize {
        self.positions() / self.scores.len().max(1)
    }
}

impl Ranking {
    /// Scores that prefer nothing: any share of them lies evenly over every rectifier.
    ///
    /// # Errors
    /// An invalid graph.
    pub fn even(graph: &Graph, pixels: bool) -> Result<Self, TrainError> {
        let shapes = graph.shapes()?;
        let layer = |(node, shape): (&crate::net::Node, &[usize; 3])| {
            let n = if pixels { shape.iter().product() } else { shape[0] };
            // Fractions of the golden ratio.
            let score = |i: usize| (0.01 + (i as f64 * 0.618_033_988_75).fract()) as f32;
            Layer {
                name: node.name.clone(),
                shape: *shape,
                scores: (0..n).map(score).collect(),
                sensitivity: None,
            }
        };
        let rectifiers = graph.nodes.iter().zip(&shapes).filter(|(n, _)| matches!(n.op, Op::Relu { .. }));
        Ok(Self { layers: rectifiers.map(layer).collect() })
    }

    /// The masks that keep at most `share` of all positions: the highest scores, among all layers or, where
    /// layers have budgets, in each.
    pub fn masks(&self, share: f64) -> Masks {
        let total: usize = self.layers.iter().map(Layer::positions).sum();
        let room = (share * total as f64).round();
        let mut kept: Vec<Vec<bool>> = self.layers.iter().map(|l| vec![false; l.scores.len()]).collect();
        let mut order: Vec<(usize, usize)> = (0..self.layers.len())
            .flat_map(|l| (0..self.layers[l].scores.len()).map(move |i| (l, i)))
            .collect();
        order.sort_by(|a, b| self.layers[b.0].scores[b.1].total_cmp(&self.layers[a.0].scores[a.1]));
        let mut rooms = self.budgets(room);
        let mut left = room;
        for (l, i) in order {
            let (layer, size) = (&self.layers[l], self.layers[l].size() as f64);
            let room = if layer.sensitivity.is_some() { &mut rooms[l] } else { &mut left };
            if layer.scores[i] > 0.0 && *room >= size {
                *room -= size;
                kept[l][i] = true;
            }
        }
        let mask = |(layer, kept): (&Layer, Vec<bool>)| {
            let inside = kept.iter().flat_map(|&k| std::iter::repeat_n(k, layer.size())).collect();
            (layer.name.clone(), Mask::new(inside))
        };
        self.layers.iter().zip(kept).map(mask).collect()
    }

    /// Positions of each layer: in proportion to its sensitivity and size, no layer more than it has.
    fn budgets(&self, room: f64) -> Vec<f64> {
        let share =
            |l: &Layer, scale: f64| (l.sensitivity.unwrap_or(0.0) * scale).min(1.0) * l.positions() as f64;
        let sum = |scale: f64| self.layers.iter().map(|l| share(l, scale)).sum::<f64>();
        let (mut lo, mut hi) = (0.0, 1e6);
        for _ in 0..100 {
            let middle = (lo + hi) / 2.0;
            if sum(middle) > room { hi = middle } else { lo = middle }
        }
        self.layers.iter().map(|l| (share(l, lo) + 1e-6).floor()).collect()
    }
}

/// SNL's search: the weights, trained beside the coefficients, and the coefficients as scores.
///
/// # Errors
/// A checkpoint that is not plain float, settings out of range, or a diverging run.
pub fn snl(
    config: &PruneConfig,
    start: &Checkpoint,
    data: &Dataset,
    progress: &mut dyn Progress,
) -> Result<(Checkpoint, Ranking), TrainError> {
    check_start(config, start)?;
    let shapes = start.graph.shapes()?;
    let mut blended = start.clone();
    blended.graph = blend_rectifiers(&start.graph, config.pixels)?;
    for node in &blended.graph.nodes {
        if let Op::Blend { alpha } = node.op {
            blended.weights.insert(&format!("{}.alpha", node.name), crate::net::Array::full(alpha, 1.0));
        }
    }
    let mut search = Search::Lasso(Lasso::new(config.search_steps(data), config.rule()));
    let teacher = config.teacher(start)?;
    let job = config.search_job(&blended, &teacher);
    let mut searched = fit(Job { search: Some(&mut search), ..job }, data, progress)?;
    let mut layers = Vec::new();
    for (node, shape) in start.graph.nodes.iter().zip(shapes) {
        if let Some(alpha) = searched.weights.remove(&format!("{}.alpha", node.name)) {
            let useful = |a: f32| if a > THRESHOLD { a } else { 0.0 };
            let scores = alpha.data.into_iter().map(useful).collect();
            layers.push(Layer { name: node.name.clone(), shape, scores, sensitivity: None });
        }
    }
    searched.graph = start.graph.clone();
    Ok((searched, Ranking { layers }))
}

/// Layer budgets by sensitivity (SENet: Kundu et al., ICLR 2023, section 3): a rectifier matters the more
/// the fewer weights of the convolution before it survive pruning, `1 - density`.
///
/// The densities here are those of a global magnitude pruning of the trained network, where SENet trains a
/// sparse one; and within a layer those positions or channels are kept whose rectifier changes most, the
/// mean of `max(-x, 0)` over some training images, where SENet trains the masks.
///
/// # Errors
/// A checkpoint that is not plain float.
pub fn senet(config: &PruneConfig, start: &Checkpoint, data: &Dataset) -> Result<Ranking, TrainError> {
    check_start(config, start)?;
    let shapes = start.graph.shapes()?;
    let changes = changes(start, data)?;
    let densities = densities(start)?;
    let mut layers = Vec::new();
    for (id, mean) in changes {
        let [c, h, w] = shapes[id];
        let by_channel = || mean.chunks_exact(h * w).map(|plane| plane.iter().sum::<f32>() / (h * w) as f32);
        let mut scores: Vec<f32> = if config.pixels { mean.clone() } else { by_channel().collect() };
        // Even a position that saw no negative value may take up a layer's budget.
        scores.iter_mut().for_each(|s| *s += f32::MIN_POSITIVE);
        let conv = convolution_before(&start.graph, id);
        let density = conv.and_then(|conv| densities.iter().find(|(id, _)| *id == conv)).map_or(0.0, |d| d.1);
        let name = start.graph.nodes[id].name.clone();
        layers.push(Layer { name, shape: [c, h, w], scores, sensitivity: Some(1.0 - density) });
    }
    Ok(Ranking { layers })
}

/// By rectifier, the mean over some training images of `max(x, 0) - x`.
fn changes(start: &Checkpoint, data: &Dataset) -> Result<Vec<(NodeId, Vec<f32>)>, TrainError> {
    let (graph, weights) = fold_norms(&start.graph, &start.weights)?;
    let device = Device::flex();
    let network = Network::new(&graph, &weights, &device)?;
    let rectifiers: Vec<NodeId> =
        (0..graph.nodes.len()).filter(|&id| matches!(graph.nodes[id].op, Op::Relu { .. })).collect();
    let mut sums: Vec<(NodeId, Vec<f32>)> = rectifiers.iter().map(|&id| (id, Vec::new())).collect();
    let images = data.train.sample(IMAGES);
    let indices: Vec<usize> = (0..images.len()).collect();
    for chunk in indices.chunks(BATCH) {
        let batch = gather(&images, chunk, data.pixels, Augment::NONE, 0)?;
        let x = Tensor::<4>::from_data(TensorData::new(batch.inputs, batch.shape), &device);
        let mut tap = |at: NodeId, value: &Tensor<4>| {
            for (_, sum) in sums.iter_mut().filter(|(id, _)| graph.nodes[*id].inputs == [at]) {
                let negative = (-value.clone()).clamp_min(0.0).sum_dim(0);
                let negative = negative.into_data().try_into_vec::<f32>().unwrap_or_default();
                sum.resize(negative.len(), 0.0);
                sum.iter_mut().zip(negative).for_each(|(s, v)| *s += v / images.len() as f32);
            }
        };
        network.forward(x, &mut Pass { tap: Some(&mut tap), ..Pass::default() });
    }
    Ok(sums)
}

/// By convolution, the share of its weights among the largest [`DENSITY`] of all.
fn densities(start: &Checkpoint) -> Result<Vec<(NodeId, f64)>, TrainError> {
    let mut layers = Vec::new();
    for (id, node) in start.graph.nodes.iter().enumerate().filter(|(_, n)| matches!(n.op, Op::Conv(_))) {
        layers.push((id, &start.weights.of(&node.name, "weight")?.data));
    }
    let mut all: Vec<f32> = layers.iter().flat_map(|(_, w)| w.iter().map(|v| v.abs())).collect();
    all.sort_by(|a, b| b.total_cmp(a));
    let least = all.get((DENSITY * all.len() as f64) as usize).copied().unwrap_or(0.0);
    let density = |w: &[f32]| w.iter().filter(|v| v.abs() > least).count() as f64 / w.len().max(1) as f64;
    Ok(layers.into_iter().map(|(id, w)| (id, density(w))).collect())
}

/// The nearest convolution upstream.
fn convolution_before(graph: &Graph, id: NodeId) -> Option<NodeId> {
    let before = *graph.nodes[id].inputs.first()?;
    if matches!(graph.nodes[before].op, Op::Conv(_)) {
        Some(before)
    } else {
        convolution_before(graph, before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(sensitivities: [Option<f64>; 2]) -> Ranking {
        let layer = |name: &str, shape: [usize; 3], scores: Vec<f32>, sensitivity| Layer {
            name: name.into(),
            shape,
            scores,
            sensitivity,
        };
        Ranking {
            layers: vec![
                layer("a", [2, 2, 2], (0..8).map(|i| 0.5 + i as f32 / 10.0).collect(), sensitivities[0]),
                layer("b", [4, 1, 2], vec![0.9, 0.0, 0.2, 0.1], sensitivities[1]),
            ],
        }
    }

    fn counts(ranking: &Ranking, share: f64) -> [usize; 2] {
        let masks = ranking.masks(share);
        ["a", "b"].map(|name| masks[name].count(true))
    }

    #[test]
    fn the_highest_scores_of_all_layers_are_kept_and_useless_ones_never() {
        let ranking = ranking([None; 2]);
        assert_eq!(counts(&ranking, 0.0), [0, 0]);
        assert_eq!(counts(&ranking, 0.25), [4, 0]);
        // 1.2, 1.1, 1.0 and 0.9 of `a`, then a channel of two positions.
        assert_eq!(counts(&ranking, 6.0 / 16.0), [4, 2]);
        assert_eq!(
            ranking.masks(6.0 / 16.0)["b"].inside(),
            [true, true, false, false, false, false, false, false]
        );
        assert_eq!(counts(&ranking, 1.0), [8, 6]);
    }

    #[test]
    fn budgets_follow_sensitivity_and_are_filled_with_the_best() {
        assert_eq!(counts(&ranking([Some(1.0), Some(1.0)]), 0.5), [4, 4]);
        assert_eq!(counts(&ranking([Some(0.75), Some(0.25)]), 0.5), [6, 2]);
        // What one layer cannot take goes to the other.
        assert_eq!(counts(&ranking([Some(1.0), Some(0.01)]), 10.0 / 16.0), [8, 2]);
    }
}
