use std::collections::BTreeMap;

use crate::graph::{Graph, Node, Op};
use crate::{ModelError, range};

/// A graph with its weights, checked against each other.
#[derive(Clone, Debug)]
pub struct Model {
    /// The public part.
    pub graph: Graph,
    /// The server's part.
    pub weights: Weights,
}

/// Integer weights by layer name. The server's secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    layers: BTreeMap<String, LayerWeights>,
}

/// Weights of one convolution or linear layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerWeights {
    /// `[out_channels, in_channels / groups, kernel, kernel]`, or `[outputs, inputs]`.
    pub weight: Vec<i32>,
    /// In the accumulator's scale.
    pub bias: Bias,
}

/// A bias per output channel and, behind a merged block, per position: the bias of the
/// block's first layer does not reach the zero ring around the image, so border pixels see
/// other constants. Only the distinct vectors are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bias {
    /// Distinct vectors, each one value per output channel.
    pub vectors: Vec<Vec<i64>>,
    /// For each output position (row-major) the index of its vector; empty if there is one.
    pub map: Vec<u8>,
}

impl Model {
    /// Joins graph and weights.
    ///
    /// # Errors
    /// An invalid graph, missing, superfluous or misshapen weights, or weights that exceed
    /// what the graph claims of them ([`range::of_weights`]).
    pub fn new(graph: Graph, weights: Weights) -> Result<Self, ModelError> {
        graph.validate()?;
        for node in &graph.nodes {
            if node.op.linear().is_some() {
                check_shape(&graph, node, weights.layer(&node.name)?)?;
            }
        }
        let known = |name: &str| graph.nodes.iter().any(|n| n.name == name && n.op.linear().is_some());
        if let Some(name) = weights.layers.keys().find(|name| !known(name)) {
            return Err(ModelError::weights(name, "no such layer in the graph"));
        }
        let model = Self { graph, weights };
        range::of_weights(&model)?;
        Ok(model)
    }
}

impl Weights {
    /// Adds or replaces a layer.
    pub fn insert(&mut self, name: &str, layer: LayerWeights) {
        self.layers.insert(name.to_owned(), layer);
    }

    /// The weights of `name`.
    ///
    /// # Errors
    /// There are none.
    pub fn layer(&self, name: &str) -> Result<&LayerWeights, ModelError> {
        self.layers.get(name).ok_or_else(|| ModelError::weights(name, "missing"))
    }

    /// All layers by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &LayerWeights)> {
        self.layers.iter().map(|(name, layer)| (name.as_str(), layer))
    }
}

impl Bias {
    /// The same vector at every position.
    pub fn per_channel(values: Vec<i64>) -> Self {
        Self { vectors: vec![values], map: Vec::new() }
    }

    /// Bias of channel `k` at output position `p`.
    pub fn at(&self, k: usize, p: usize) -> i64 {
        let vector = self.map.get(p).copied().unwrap_or(0);
        self.vectors[usize::from(vector)][k]
    }

    /// Number of output channels.
    pub fn channels(&self) -> usize {
        self.vectors.first().map_or(0, Vec::len)
    }

    /// Largest magnitude of channel `k` over all positions.
    pub fn max_abs(&self, k: usize) -> u64 {
        self.vectors.iter().map(|v| v[k].unsigned_abs()).max().unwrap_or(0)
    }
}

fn check_shape(graph: &Graph, node: &Node, layer: &LayerWeights) -> Result<(), ModelError> {
    let input = &graph.nodes[node.inputs[0]].output;
    let [k, h, w] = node.output.shape;
    let fan_in = match &node.op {
        Op::Conv(conv) => input.shape[0] / conv.groups * conv.kernel * conv.kernel,
        _ => input.len(),
    };
    let fail = |reason: String| Err(ModelError::weights(&node.name, reason));
    if layer.weight.len() != k * fan_in {
        return fail(format!("{} weights, {k} x {fan_in} expected", layer.weight.len()));
    }
    let bias = &layer.bias;
    if bias.vectors.is_empty() || bias.vectors.len() > 256 || bias.vectors.iter().any(|v| v.len() != k) {
        return fail(format!("1 to 256 bias vectors of {k} values expected"));
    }
    if !(bias.map.is_empty() && bias.vectors.len() == 1 || bias.map.len() == h * w) {
        return fail(format!("a bias map of {} positions, {h} x {w} expected", bias.map.len()));
    }
    if bias.map.iter().any(|&v| usize::from(v) >= bias.vectors.len()) {
        return fail("the bias map names a vector that is not there".into());
    }
    Ok(())
}
