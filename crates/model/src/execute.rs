//! The plaintext integer executor: the definition of a model's meaning.

use crate::graph::{Linear, Node, Op, TensorType};
use crate::kernel::{self, Geometry};
use crate::{LayerWeights, Model, ModelError, range};

/// The value of every node for one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// By node id, row-major `[c, h, w]`.
    pub values: Vec<Vec<i64>>,
    output: usize,
}

impl Trace {
    /// The model's result.
    pub fn output(&self) -> &[i64] {
        &self.values[self.output]
    }
}

/// Evaluates `model` on the integers of one input.
///
/// # Errors
/// An input of the wrong length, or a value outside the input's type.
pub fn run(model: &Model, input: &[i64]) -> Result<Trace, ModelError> {
    let t = model.graph.input_type();
    if input.len() != t.len() {
        return Err(ModelError::Input(format!("{} values, {:?} expected", input.len(), t.shape)));
    }
    if let Some(v) = input.iter().find(|v| !(t.min()..=t.max()).contains(&i128::from(**v))) {
        return Err(ModelError::Input(format!("{v} lies outside {}..={}", t.min(), t.max())));
    }
    let mut values: Vec<Vec<i64>> = Vec::with_capacity(model.graph.nodes.len());
    for node in &model.graph.nodes {
        let operand = |i: usize| values[node.inputs[i]].as_slice();
        let operand_type = |i: usize| &model.graph.nodes[node.inputs[i]].output;
        let value = match &node.op {
            Op::Input => input.to_vec(),
            Op::Conv(conv) => {
                affine(node, &conv.linear, model.weights.layer(&node.name)?, operand(0), operand_type(0))
            }
            Op::Linear(linear) => {
                affine(node, linear, model.weights.layer(&node.name)?, operand(0), operand_type(0))
            }
            Op::Relu => operand(0).iter().map(|&v| v.max(0)).collect(),
            Op::PartialRelu { mask } => {
                let rectified = |(&v, &inside): (&i64, &bool)| if inside { v.max(0) } else { v };
                operand(0).iter().zip(mask.inside()).map(rectified).collect()
            }
            Op::Requant { shift, clamp } => requant(operand(0), *shift, *clamp, &node.output),
            Op::Add { shifts } => add(operand(0), operand(1), *shifts),
            Op::AvgPool { kernel, stride } => {
                let area = (kernel * kernel) as i64;
                pool(operand(0), operand_type(0), &node.output, (*kernel, *stride, 0), |window| {
                    (window.iter().sum::<i64>() + area / 2).div_euclid(area)
                })
            }
            Op::MaxPool { kernel, stride, pad } => {
                pool(operand(0), operand_type(0), &node.output, (*kernel, *stride, *pad), |window| {
                    window.iter().copied().max().unwrap_or(0)
                })
            }
            Op::Subsample(how) => how.apply(operand_type(0).shape, operand(0)),
            Op::Flatten => operand(0).to_vec(),
            Op::Argmax => vec![argmax(operand(0)) as i64],
            Op::TopK { k } => top_k(operand(0), *k).into_iter().map(|i| i as i64).collect(),
        };
        values.push(value);
    }
    Ok(Trace { values, output: model.graph.output })
}

/// Index of the largest value; the smallest index wins a tie.
pub fn argmax(values: &[i64]) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] {
            best = i;
        }
    }
    best
}

/// Indices of the `k` largest values, largest first; of equals the smaller index first.
pub fn top_k(values: &[i64], k: usize) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..values.len()).collect();
    indices.sort_by_key(|&i| std::cmp::Reverse(values[i]));
    indices.truncate(k);
    indices
}

fn affine(node: &Node, linear: &Linear, weights: &LayerWeights, x: &[i64], input: &TensorType) -> Vec<i64> {
    let Some(g) = Geometry::of(node, input) else { return Vec::new() };
    let residues: Vec<u64> = x.iter().map(|&v| v as u64).collect();
    let mut y = kernel::product(&g, &weights.weight, &residues, linear.acc_bits);
    let pixels = g.pixels();
    for (k, row) in y.chunks_exact_mut(pixels).enumerate() {
        for (p, v) in row.iter_mut().enumerate() {
            *v = (*v << linear.channel_shift(k)).wrapping_add(weights.bias.at(k, p) as u64);
        }
    }
    y.into_iter().map(|v| node.output.reduce(v as i64)).collect()
}

fn requant(x: &[i64], shift: u32, clamp: bool, out: &TensorType) -> Vec<i64> {
    x.iter()
        .map(|&v| {
            let shifted = range::round_shift(i128::from(v), shift);
            if clamp { shifted.clamp(out.min(), out.max()) as i64 } else { out.reduce(shifted as i64) }
        })
        .collect()
}

fn add(x: &[i64], y: &[i64], [sx, sy]: [u32; 2]) -> Vec<i64> {
    x.iter().zip(y).map(|(&x, &y)| (x << sx) + (y << sy)).collect()
}

/// Reduces what each window has of the tensor.
fn pool(
    x: &[i64],
    input: &TensorType,
    output: &TensorType,
    (kernel, stride, pad): (usize, usize, usize),
    reduce: impl Fn(&[i64]) -> i64,
) -> Vec<i64> {
    let ([_, h, w], [c, out_h, out_w]) = (input.shape, output.shape);
    let mut y = Vec::with_capacity(output.len());
    let mut window = Vec::with_capacity(kernel * kernel);
    for plane in x.chunks_exact(h * w).take(c) {
        for row in 0..out_h {
            for col in 0..out_w {
                window.clear();
                let span = |at: usize, size: usize| {
                    (at * stride).saturating_sub(pad)..(at * stride + kernel).saturating_sub(pad).min(size)
                };
                for y in span(row, h) {
                    window.extend(span(col, w).map(|x| plane[y * w + x]));
                }
                y.push(reduce(&window));
            }
        }
    }
    y
}
