//! Interval arithmetic: the proof that no value leaves its ring.
//!
//! A private evaluation may then pick any ring that is wide enough for a value's interval and
//! still equal the plaintext executor bit for bit.

use crate::graph::{Graph, Linear, Op, Subsample, TensorType};
use crate::{KernelBound, Model, ModelError};

/// A closed interval of integers.
pub type Interval = (i128, i128);

/// What an edge's type alone says of its values.
pub fn of_type(t: &TensorType) -> Interval {
    (t.min(), t.max())
}

/// The interval of every node's values, from public facts only.
///
/// # Errors
/// A value that could leave its declared type: the node, its interval and the type's.
pub fn of_graph(graph: &Graph) -> Result<Vec<Interval>, ModelError> {
    let mut ranges: Vec<Interval> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let operand = |i: usize| ranges[node.inputs[i]];
        let typed = of_type(&node.output);
        let exact = match &node.op {
            Op::Input => typed,
            Op::Conv(conv) => of_product(&conv.linear),
            Op::Linear(linear) => of_product(linear),
            Op::Relu => (operand(0).0.max(0), operand(0).1.max(0)),
            Op::PartialRelu { .. } => (operand(0).0, operand(0).1.max(0)),
            Op::Requant { shift, clamp } => {
                let (lo, hi) = operand(0);
                let shifted = (round_shift(lo, *shift), round_shift(hi, *shift));
                if *clamp {
                    (shifted.0.clamp(typed.0, typed.1), shifted.1.clamp(typed.0, typed.1))
                } else {
                    shifted
                }
            }
            Op::Add { shifts } => of_sum(operand(0), operand(1), *shifts),
            Op::AvgPool { .. } | Op::MaxPool { .. } | Op::Flatten => operand(0),
            Op::Subsample(Subsample { before: 0, after: 0, .. }) => operand(0),
            Op::Subsample(_) => (operand(0).0.min(0), operand(0).1.max(0)),
            Op::Argmax | Op::TopK { .. } => (0, graph.nodes[node.inputs[0]].output.shape[0] as i128 - 1),
        };
        if exact.0 < typed.0 || exact.1 > typed.1 {
            return Err(ModelError::graph(
                &node.name,
                format!(
                    "values in [{}, {}] do not fit {} {} bits; saturate (clamp) or widen",
                    exact.0,
                    exact.1,
                    if node.output.signed { "signed" } else { "unsigned" },
                    node.output.bits
                ),
            ));
        }
        ranges.push(exact);
    }
    Ok(ranges)
}

/// Checks the real weights against what the public graph claims of them: the weights' range, kernels' bounds
/// and `max_k (sum |w_k|) * max |x| * 2^shift_k + |bias_k| <= acc_bound`.
///
/// # Errors
/// The first layer, and the figure that exceeds its claim.
pub fn of_weights(model: &Model) -> Result<(), ModelError> {
    let ranges = of_graph(&model.graph)?;
    for node in &model.graph.nodes {
        let Some(linear) = node.op.linear() else { continue };
        let weights = model.weights.layer(&node.name)?;
        let range = linear.weight_range();
        if let Some(w) = weights.weight.iter().find(|w| !range.contains(w)) {
            let reason = if linear.ternary {
                format!("{w} is not one of the ternary weights -1, 0 and 1")
            } else {
                format!("{w} does not fit {} bits", linear.weight_bits)
            };
            return Err(ModelError::weights(&node.name, reason));
        }
        if let Op::Conv(conv) = &node.op {
            let kernels = || weights.weight.chunks_exact(conv.kernel * conv.kernel);
            let broken = |b: &&KernelBound| kernels().any(|k| !(b.range.0..=b.range.1).contains(&b.value(k)));
            if let Some(bound) = conv.kernel_bounds.iter().find(broken) {
                return Err(ModelError::weights(&node.name, format!("a kernel breaks the bound `{bound}`")));
            }
        }
        let bound =
            tight_bound(linear, &weights.weight, weights.bias.channels(), ranges[node.inputs[0]], |k| {
                weights.bias.max_abs(k)
            });
        if bound > u128::from(linear.acc_bound) {
            return Err(ModelError::weights(
                &node.name,
                format!("accumulators can reach {bound}, above the declared {}", linear.acc_bound),
            ));
        }
    }
    Ok(())
}

/// `max_k sum|w_k| * max|x| * 2^shift_k + bias(k)` of real weights, `[outputs, fan_in]`.
pub fn tight_bound(
    linear: &Linear,
    weight: &[i32],
    outputs: usize,
    x: Interval,
    bias: impl Fn(usize) -> u64,
) -> u128 {
    let max_x = x.0.unsigned_abs().max(x.1.unsigned_abs());
    let fan_in = weight.len() / outputs.max(1);
    let row =
        |k: usize| weight[k * fan_in..][..fan_in].iter().map(|w| u128::from(w.unsigned_abs())).sum::<u128>();
    (0..outputs)
        .map(|k| ((row(k) * max_x) << linear.channel_shift(k)) + u128::from(bias(k)))
        .max()
        .unwrap_or(0)
}

/// Largest product of `fan_in` weights of the layer's range with inputs from `x`, shifted by
/// the spread; `None` beyond 62 bits.
pub fn worst_case(linear: &Linear, fan_in: usize, x: Interval) -> Option<u64> {
    let max_x = u64::try_from(x.0.unsigned_abs().max(x.1.unsigned_abs())).ok()?;
    // `check_linear` has not seen a caller's width yet.
    let largest = if linear.ternary { 1 } else { 1u64.checked_shl(linear.weight_bits.checked_sub(1)?)? };
    let product = (fan_in as u64).checked_mul(largest)?.checked_mul(max_x)?;
    product.checked_mul(1u64.checked_shl(linear.spread())?).filter(|p| *p < 1 << 61)
}

/// Interval of `x * 2^s0 + y * 2^s1`.
pub fn of_sum(x: Interval, y: Interval, shifts: [u32; 2]) -> Interval {
    let scale = |v: i128, s: u32| v.saturating_mul(1i128 << s);
    (
        scale(x.0, shifts[0]).saturating_add(scale(y.0, shifts[1])),
        scale(x.1, shifts[0]).saturating_add(scale(y.1, shifts[1])),
    )
}

/// Width of the smallest two's complement ring that holds `[lo, hi]`.
pub fn signed_bits(lo: i128, hi: i128) -> u32 {
    let magnitude = |v: i128| 128 - if v < 0 { !v } else { v }.leading_zeros();
    magnitude(lo).max(magnitude(hi)) + 1
}

/// `floor((v + 2^(shift-1)) / 2^shift)`.
pub fn round_shift(v: i128, shift: u32) -> i128 {
    if shift == 0 { v } else { (v + (1i128 << (shift - 1))) >> shift }
}

fn of_product(linear: &Linear) -> Interval {
    (-i128::from(linear.acc_bound), i128::from(linear.acc_bound))
}
