//! Hutchinson's estimate, for all layers at once.

use std::collections::BTreeMap;

use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::tangent::{Direction, Of, product};
use crate::TrainError;
use crate::checkpoint::{Checkpoint, Stage};
use crate::data::{Augment, Images, gather};
use crate::device::Processor;
use crate::net::{Graph, NodeId, Op, Weights};
use crate::quant::requantised;
use crate::rewrite::fold_norms;

/// Images a pass.
const BATCH: usize = 64;
/// Fewer probes say nothing of their spread.
const FEWEST: usize = 3;

/// How long to estimate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceConfig {
    /// Most probes.
    pub probes: usize,
    /// Ends earlier once a probe moves no layer's running mean by more than this share of it.
    pub tolerance: f64,
    /// Training images that the loss is the mean of: an even sample.
    pub images: usize,
    /// Where to differentiate.
    pub device: Processor,
    /// Seed of the probes.
    pub seed: u64,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self { probes: 100, tolerance: 1e-3, images: 512, device: Processor::default(), seed: 0 }
    }
}

/// The trace of one diagonal block of the Hessian of the mean loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The node whose weights, or whose value, moves.
    pub name: String,
    /// Its weights, or the elements of its value for one image.
    pub elements: usize,
    /// The trace: of a value's block, the mean over the images.
    pub trace: f64,
    /// Standard error of that, from the spread of the probes.
    pub error: f64,
}

/// Traces of all layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traces {
    /// In the order of the graph.
    pub layers: Vec<Trace>,
    /// Probes made.
    pub probes: usize,
}

impl Trace {
    /// The mean curvature per element, HAWQ-V2's measure. A trace that its error cannot tell from
    /// zero, or a negative one, counts as that error: a layer is never held to be insensitive.
    pub fn mean(&self) -> f64 {
        self.trace.max(self.error) / self.elements as f64
    }
}

/// Running mean and sum of squared differences (Welford).
#[derive(Clone, Copy, Default)]
struct Running {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Running {
    /// Takes a sample in; returns by which share of itself the mean moved.
    fn push(&mut self, sample: f64) -> f64 {
        self.count += 1.0;
        let difference = sample - self.mean;
        self.mean += difference / self.count;
        self.squares += difference * (sample - self.mean);
        (difference / self.count).abs() / self.mean.abs().max(f64::MIN_POSITIVE)
    }

    fn error(&self) -> f64 {
        (self.squares / (self.count - 1.0).max(1.0) / self.count).sqrt()
    }
}

/// Estimates the trace of every layer's block, at the float network with its norms folded. `Values`
/// are those that quantisation rounds. `probed` is called after every probe.
///
/// # Errors
/// A quantised checkpoint, no images or probes, or a network that does not take these images.
pub fn traces(
    checkpoint: &Checkpoint,
    images: &Images,
    of: Of,
    config: &TraceConfig,
    mut probed: impl FnMut(),
) -> Result<Traces, TrainError> {
    if checkpoint.stage == Stage::Quantised {
        return Err(TrainError::Stage {
            found: checkpoint.stage.name(),
            wanted: "curvature is measured before quantisation",
        });
    }
    if config.probes == 0 || config.images == 0 || images.is_empty() {
        return Err(TrainError::config("probes and images", "at least one of each is needed"));
    }
    let (graph, weights) = fold_norms(&checkpoint.graph, &checkpoint.weights)?;
    let shape = [images.channels, images.side, images.side];
    if graph.input_shape() != shape {
        let reason = format!("takes images of {:?}, these are {shape:?}", graph.input_shape());
        return Err(TrainError::graph(&graph.arch, reason));
    }
    let device = config.device.open()?;
    let images = images.sample(config.images);
    let sites = sites(&graph, &weights, of)?;
    let mut running = vec![Running::default(); sites.len()];
    let mut probes = 0;
    for probe in 0..config.probes {
        let samples = quadratic_forms(
            &device,
            (&graph, &weights),
            &images,
            checkpoint,
            of,
            &sites,
            (config.seed, probe),
        )?;
        let moved = running.iter_mut().zip(samples).map(|(r, s)| r.push(s)).fold(0.0, f64::max);
        probes = probe + 1;
        probed();
        if probes >= FEWEST && moved <= config.tolerance {
            break;
        }
    }
    let layers = sites.into_iter().zip(&running).map(|((id, elements), r)| Trace {
        name: graph.nodes[id].name.clone(),
        elements,
        trace: r.mean,
        error: r.error(),
    });
    Ok(Traces { layers: layers.collect(), probes })
}

/// What moves, and how many elements it has.
fn sites(graph: &Graph, weights: &Weights, of: Of) -> Result<Vec<(NodeId, usize)>, TrainError> {
    let shapes = graph.shapes()?;
    let rounded = requantised(graph);
    let mut sites = Vec::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        match of {
            Of::Weights if matches!(node.op, Op::Conv(_) | Op::Linear { .. }) => {
                sites.push((id, weights.of(&node.name, "weight")?.data.len()));
            }
            Of::Values if rounded[id] => sites.push((id, shapes[id].iter().product())),
            _ => {}
        }
    }
    Ok(sites)
}

/// `v_i^T (H v)_i` of every site for one probe, batch by batch.
fn quadratic_forms(
    device: &Device,
    (graph, weights): (&Graph, &Weights),
    images: &Images,
    checkpoint: &Checkpoint,
    of: Of,
    sites: &[(NodeId, usize)],
    (seed, probe): (u64, usize),
) -> Result<Vec<f64>, TrainError> {
    let signs = |batch: usize, copies: usize| -> Direction {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream((probe as u64) << 32 | batch as u64);
        let mut draw = |n: usize| (0..n).map(|_| if rng.random() { 1.0 } else { -1.0 }).collect();
        sites.iter().map(|&(id, elements)| (id, draw(copies * elements))).collect()
    };
    // Weights are the same for all images, values are not.
    let common = (of == Of::Weights).then(|| signs(0, 1));
    let indices: Vec<usize> = (0..images.len()).collect();
    let batches: Vec<BTreeMap<NodeId, f64>> = indices
        .par_chunks(BATCH)
        .enumerate()
        .map(|(i, chunk)| {
            let own;
            let direction = match &common {
                Some(direction) => direction,
                None => {
                    own = signs(i, chunk.len());
                    &own
                }
            };
            let batch = gather(images, chunk, checkpoint.pixels, Augment::NONE, 0)?;
            let labels: Vec<u16> = chunk.iter().map(|&i| images.labels[i]).collect();
            let product =
                product(device, graph, weights, (batch.inputs, batch.shape), &labels, of, direction)?;
            let dot = |(id, hv): (NodeId, Vec<f32>)| {
                let sum = hv.iter().zip(&direction[&id]).map(|(&a, &b)| f64::from(a * b)).sum();
                (id, sum)
            };
            Ok(product.into_iter().map(dot).collect())
        })
        .collect::<Result<_, TrainError>>()?;
    let total = |id: NodeId| batches.iter().map(|b| b[&id]).sum::<f64>() / images.len() as f64;
    Ok(sites.iter().map(|&(id, _)| total(id)).collect())
}
