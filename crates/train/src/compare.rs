//! Float, fake-quantised and integer network, layer by layer: where they part, and why.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use copriv_model::{Model, Op as IntegerOp, execute, range};
use serde::Serialize;

use crate::TrainError;
use crate::checkpoint::Checkpoint;
use crate::data::{Augment, Images, gather};
use crate::fit::argmax;
use crate::net::{Network, NodeId, Op, Pass};
use crate::quant::{Fake, requantised};

/// Images a pass.
const BATCH: usize = 16;
/// Integers up to here are exact in single precision, and so are sums that never leave them.
const EXACT: u128 = 1 << 24;

/// Why a layer's fake-quantised values are not the integers'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An operand differs already.
    Inherited,
    /// Sums may pass 2^24 units, beyond which single precision rounds them: the fake-quantised
    /// network is the inexact one.
    SinglePrecision,
    /// A mean over an area that is no power of two is rounded twice in single precision.
    Mean,
    /// None of these: one of the two networks is wrong.
    Unexplained,
}

/// One layer on all images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    /// Its name in the network that was trained.
    pub name: String,
    /// Values compared.
    pub values: usize,
    /// Whether these are activations, rounded to their width, or sums before that.
    pub activation: bool,
    /// Root mean square of fake-quantised minus float, relative to that of float.
    pub float_error: f64,
    /// Values whose integer is another one.
    pub differing: usize,
    /// Those of them that differ by more than one unit in the last place.
    pub beyond: usize,
    /// Largest difference, units in the last place.
    pub largest: f64,
    /// Why, if any differs.
    pub cause: Option<Cause>,
}

/// Three networks on the same images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Images compared.
    pub images: usize,
    /// In the order of the graph.
    pub layers: Vec<Layer>,
    /// Images that the float and the fake-quantised network classify alike.
    pub float_agrees: usize,
    /// Images that the fake-quantised network and the executor classify alike.
    pub integer_agrees: usize,
}

impl Comparison {
    /// The first layer whose integers are not the fake-quantised values.
    pub fn first(&self) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.differing > 0)
    }

    /// Percent of the activations that agree to within one unit in the last place.
    pub fn within_one(&self) -> f64 {
        let of = |f: fn(&Layer) -> usize| self.layers.iter().filter(|l| l.activation).map(f).sum::<usize>();
        percent(of(|l| l.values - l.beyond), of(|l| l.values))
    }

    /// Percent of the images that the fake-quantised network and the executor classify alike.
    pub fn predictions(&self) -> f64 {
        percent(self.integer_agrees, self.images)
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Compares `float` (merged, before quantisation), `quantised` and its `model` on `images`.
///
/// # Errors
/// Networks that are not stages of the same one, or images of another shape.
pub fn compare(
    float: &Checkpoint,
    quantised: &Checkpoint,
    model: &Model,
    images: &Images,
) -> Result<Comparison, TrainError> {
    let Some(spec) = &quantised.quant else {
        let wanted = "it is compared with its integers";
        return Err(TrainError::Stage { found: quantised.stage.name(), wanted });
    };
    if images.is_empty() {
        return Err(TrainError::config("images", "there are none to compare on"));
    }
    let graph = &quantised.graph;
    if float.graph != *graph {
        return Err(TrainError::graph(
            &graph.arch,
            "the float and the quantised network differ in structure",
        ));
    }
    let pairs = pairs(quantised, model)?;
    let device = Device::flex();
    let fake = Fake::new(graph, spec, quantised.pixels, &device)?;
    let networks =
        [Network::new(graph, &float.weights, &device)?, Network::new(graph, &quantised.weights, &device)?];
    let mut sums = vec![Sums::default(); graph.nodes.len()];
    let (mut float_agrees, mut integer_agrees) = (0, 0);
    let indices: Vec<usize> = (0..images.len()).collect();
    for chunk in indices.chunks(BATCH) {
        let batch = gather(images, chunk, quantised.pixels, Augment::NONE, 0)?;
        let mut seen = [BTreeMap::new(), BTreeMap::new()];
        for ((network, seen), fake) in networks.iter().zip(&mut seen).zip([None, Some(&fake)]) {
            let x = Tensor::<4>::from_data(TensorData::new(batch.inputs.clone(), batch.shape), &device);
            let mut tap = |id: NodeId, value: &Tensor<4>| {
                let data = value.clone().into_data().try_into_vec::<f32>().unwrap_or_default();
                seen.insert(id, data);
            };
            network.forward(x, &mut Pass { fake, tap: Some(&mut tap), ..Pass::default() });
        }
        let [float, fake] = &seen;
        for (at, &image) in chunk.iter().enumerate() {
            let pixels = images.interleaved(image)?;
            let input = model.graph.quantise_image(&pixels, images.side, images.side)?;
            let trace = execute::run(model, &input)?;
            for (&id, &integer) in &pairs {
                let values = &trace.values[integer];
                let of = |seen: &BTreeMap<NodeId, Vec<f32>>| {
                    seen.get(&id)
                        .and_then(|v| v.get(at * values.len()..(at + 1) * values.len()))
                        .map(<[f32]>::to_vec)
                };
                let (Some(float), Some(fake)) = (of(float), of(fake)) else {
                    return Err(TrainError::graph(&graph.nodes[id].name, "has another shape as integers"));
                };
                sums[id].take(&float, &fake, values, model.graph.nodes[integer].output.scale_log2);
                if id + 1 == graph.nodes.len() {
                    let class = argmax(&fake);
                    float_agrees += usize::from(argmax(&float) == class);
                    integer_agrees += usize::from(execute::argmax(values) == class);
                }
            }
        }
    }
    let layers = layers(quantised, model, &pairs, &sums)?;
    Ok(Comparison { images: images.len(), layers, float_agrees, integer_agrees })
}

/// The integer node that holds each node's value.
fn pairs(quantised: &Checkpoint, model: &Model) -> Result<BTreeMap<NodeId, usize>, TrainError> {
    let nodes = &model.graph.nodes;
    let find = |name: &str| nodes.iter().position(|n| n.name == name);
    let rounded = requantised(&quantised.graph);
    let mut pairs = BTreeMap::new();
    for (id, node) in quantised.graph.nodes.iter().enumerate().skip(1) {
        let name = if rounded[id] { format!("{}.requant", node.name) } else { node.name.clone() };
        let at = find(&name).ok_or_else(|| TrainError::graph(&name, "is not in the integer model"))?;
        pairs.insert(id, at);
    }
    Ok(pairs)
}

/// Of one layer.
#[derive(Clone, Default)]
struct Sums {
    values: usize,
    differing: usize,
    beyond: usize,
    largest: f64,
    /// Of the squares of float, and of fake-quantised minus float.
    squares: [f64; 2],
}

impl Sums {
    fn take(&mut self, float: &[f32], fake: &[f32], integers: &[i64], scale: i32) {
        let unit = 2f64.powi(scale);
        for ((&float, &fake), &integer) in float.iter().zip(fake).zip(integers) {
            let (float, fake) = (f64::from(float), f64::from(fake));
            let off = (fake / unit - integer as f64).abs();
            self.values += 1;
            self.differing += usize::from(off != 0.0);
            self.beyond += usize::from(off > 1.0);
            self.largest = self.largest.max(off);
            self.squares[0] += float * float;
            self.squares[1] += (fake - float).powi(2);
        }
    }
}

fn layers(
    quantised: &Checkpoint,
    model: &Model,
    pairs: &BTreeMap<NodeId, usize>,
    sums: &[Sums],
) -> Result<Vec<Layer>, TrainError> {
    let graph = &quantised.graph;
    let rounded = requantised(graph);
    let inexact = inexact(model)?;
    let cause = |id: NodeId, integer: usize| {
        let node = &graph.nodes[id];
        let area = match node.op {
            Op::AvgPool { kernel, .. } => kernel,
            Op::GlobalAvgPool => model.graph.nodes[model.graph.nodes[integer].inputs[0]].output.shape[1],
            _ => 1,
        };
        if node.inputs.iter().any(|&input| sums[input].differing > 0) {
            Cause::Inherited
        } else if inexact[integer] {
            Cause::SinglePrecision
        } else if !area.is_power_of_two() {
            Cause::Mean
        } else {
            Cause::Unexplained
        }
    };
    let layer = |(&id, &integer): (&NodeId, &usize)| {
        let sums = &sums[id];
        Layer {
            name: graph.nodes[id].name.clone(),
            values: sums.values,
            activation: rounded[id],
            float_error: (sums.squares[1] / sums.squares[0].max(f64::MIN_POSITIVE)).sqrt(),
            differing: sums.differing,
            beyond: sums.beyond,
            largest: sums.largest,
            cause: (sums.differing > 0).then(|| cause(id, integer)),
        }
    };
    Ok(pairs.iter().map(layer).collect())
}

/// Whether a node's sums may leave the integers that single precision has, by the real weights; a
/// requantisation is as inexact as what it rounds.
fn inexact(model: &Model) -> Result<Vec<bool>, TrainError> {
    let ranges = range::of_graph(&model.graph)?;
    let mut inexact: Vec<bool> = Vec::with_capacity(ranges.len());
    for (node, &(lo, hi)) in model.graph.nodes.iter().zip(&ranges) {
        let reach = match node.op.linear() {
            Some(linear) => {
                let layer = model.weights.layer(&node.name)?;
                let outputs = layer.bias.channels();
                range::tight_bound(linear, &layer.weight, outputs, ranges[node.inputs[0]], |k| {
                    layer.bias.max_abs(k)
                })
            }
            None => lo.unsigned_abs().max(hi.unsigned_abs()),
        };
        inexact.push(match &node.op {
            IntegerOp::Requant { .. } | IntegerOp::Relu | IntegerOp::PartialRelu { .. } => {
                inexact[node.inputs[0]]
            }
            _ => reach > EXACT,
        });
    }
    Ok(inexact)
}
