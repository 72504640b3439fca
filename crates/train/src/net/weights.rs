//! Parameters on the host, by name: what checkpoints hold and graph rewrites compute with.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::graph::{Bias, Graph, Op};
use crate::TrainError;

/// A dense row-major tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Extent of each dimension.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Vec<f32>,
}

/// Every parameter and batch-norm statistic of a [`Graph`].
///
/// `node.weight` is `[out, in / groups, k, k]` or `[out, in]`, `node.bias` is `[out]` or
/// `[vectors, out]`, and a convolution with norm has `node.{gamma,beta,mean,var}`, `[out]`; a rectifier whose mask is searched
/// has `node.alpha`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    tensors: BTreeMap<String, Array>,
}

impl Array {
    /// A tensor of the given shape.
    ///
    /// # Panics
    /// The number of elements is not the product of the shape.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "elements of shape {shape:?}");
        Self { shape, data }
    }

    /// Whether every element is a number.
    pub fn is_finite(&self) -> bool {
        self.data.iter().all(|v| v.is_finite())
    }

    /// One value everywhere.
    pub fn full(shape: impl Into<Vec<usize>>, value: f32) -> Self {
        let shape = shape.into();
        let data = vec![value; shape.iter().product()];
        Self { shape, data }
    }
}

impl Weights {
    /// He initialisation (fan-out for convolutions, as in the MobileNetV2 paper's code; the
    /// classifier normal with deviation 0.01), norms the identity, biases zero.
    pub fn init(graph: &Graph, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut weights = Self::default();
        for (name, shape) in expected(graph) {
            let deviation = match shape[..] {
                [out, _, k, _] => {
                    let groups = graph.find(name.trim_end_matches(".weight")).map_or(1, |id| {
                        match &graph.nodes[id].op {
                            Op::Conv(conv) => conv.groups,
                            _ => 1,
                        }
                    });
                    (2.0 / (out / groups * k * k) as f32).sqrt()
                }
                [..] if name.ends_with(".weight") => 0.01,
                _ => 0.0,
            };
            let ones = [".gamma", ".var", ".alpha"];
            let constant = if ones.iter().any(|part| name.ends_with(part)) { 1.0 } else { 0.0 };
            let len = shape.iter().product();
            let data = (0..len).map(|_| constant + deviation * normal(&mut rng)).collect();
            weights.insert(&name, Array::new(shape, data));
        }
        weights
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: &str, array: Array) {
        self.tensors.insert(name.to_owned(), array);
    }

    /// Removes a tensor.
    pub fn remove(&mut self, name: &str) -> Option<Array> {
        self.tensors.remove(name)
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, name: &str) -> Result<&Array, TrainError> {
        self.tensors.get(name).ok_or_else(|| TrainError::tensor(name, "missing"))
    }

    /// The tensor `part` of node `node`.
    ///
    /// # Errors
    /// There is none.
    pub fn of(&self, node: &str, part: &str) -> Result<&Array, TrainError> {
        self.get(&format!("{node}.{part}"))
    }

    /// All tensors in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.tensors.iter().map(|(name, array)| (name.as_str(), array))
    }

    /// Number of trainable parameters.
    pub fn parameters(&self) -> usize {
        let trainable = |name: &str| !name.ends_with(".mean") && !name.ends_with(".var");
        self.iter().filter(|(name, _)| trainable(name)).map(|(_, a)| a.data.len()).sum()
    }

    /// Whether every element of every tensor is a number.
    pub fn is_finite(&self) -> bool {
        self.tensors.values().all(Array::is_finite)
    }

    /// Checks that there is exactly what `graph` needs, of the right shapes and finite.
    ///
    /// # Errors
    /// Every missing, unused, misshapen or non-finite tensor, in one message.
    pub fn check(&self, graph: &Graph) -> Result<(), TrainError> {
        let expected: BTreeMap<_, _> = expected(graph).into_iter().collect();
        let mut wrong = Vec::new();
        for (name, shape) in &expected {
            match self.tensors.get(name) {
                None => wrong.push(format!("`{name}` is missing")),
                Some(a) if a.shape != *shape => {
                    wrong.push(format!("`{name}` has shape {:?} instead of {shape:?}", a.shape));
                }
                Some(a) if !a.is_finite() => {
                    wrong.push(format!("`{name}` is not finite"));
                }
                Some(_) => {}
            }
        }
        let unused = self.tensors.keys().filter(|name| !expected.contains_key(*name));
        wrong.extend(unused.map(|name| format!("`{name}` is not part of the network")));
        if wrong.is_empty() { Ok(()) } else { Err(TrainError::tensor(&graph.arch, wrong.join("; "))) }
    }
}

/// Name and shape of every tensor that `graph` needs, in the order of its nodes.
pub fn expected(graph: &Graph) -> Vec<(String, Vec<usize>)> {
    let mut out = Vec::new();
    for node in &graph.nodes {
        let mut push = |part: &str, shape: Vec<usize>| out.push((format!("{}.{part}", node.name), shape));
        match &node.op {
            Op::Conv(conv) => {
                push("weight", conv.weight_shape().to_vec());
                match &conv.bias {
                    Bias::None => {}
                    Bias::Channel => push("bias", vec![conv.out_channels]),
                    Bias::Position(map) => push("bias", vec![map.vectors(), conv.out_channels]),
                }
                if conv.norm {
                    for part in ["gamma", "beta", "mean", "var"] {
                        push(part, vec![conv.out_channels]);
                    }
                }
            }
            Op::Blend { alpha } => push("alpha", alpha.to_vec()),
            Op::Linear { in_features, out_features } => {
                push("weight", vec![*out_features, *in_features]);
                push("bias", vec![*out_features]);
            }
            _ => {}
        }
    }
    out
}

/// Box-Muller; deterministic across platforms up to the last place of `ln` and `cos`.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
