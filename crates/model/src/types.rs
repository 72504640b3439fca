//! The type of every edge follows from its operator and operands.

use crate::graph::{Conv, Linear, Op, TensorType};
use crate::{ModelError, bound, range};

/// A graph comes from a peer: what it asks for stays small.
const MAX_ZERO_CHANNELS: usize = 1 << 16;

/// Type of `op`'s result. `wanted` gives what the operands leave open: the type of an input,
/// the width and sign of a requantisation, the outputs of a linear layer.
pub(crate) fn infer(
    name: &str,
    op: &Op,
    operands: &[&TensorType],
    wanted: Option<&TensorType>,
) -> Result<TensorType, ModelError> {
    let fail = |reason: String| Err(ModelError::graph(name, reason));
    let arity = match op {
        Op::Input => 0,
        Op::Add { .. } => 2,
        _ => 1,
    };
    if operands.len() != arity {
        return fail(format!("takes {arity} operands, not {}", operands.len()));
    }
    if let Some(linear) = op.linear() {
        check_linear(name, linear)?;
    }
    let out = match op {
        Op::Input => match wanted {
            Some(t) => t.clone(),
            None => return fail("an input needs a type".into()),
        },
        Op::Conv(conv) => conv_type(name, conv, operands[0])?,
        Op::Linear(linear) => {
            let outputs = wanted.map_or(0, |t| t.shape[0]);
            if operands[0].shape[1..] != [1, 1] {
                return fail(format!(
                    "takes a flat input, not {:?}; put a flatten before it",
                    operands[0].shape
                ));
            }
            check_shifts(name, linear, outputs)?;
            let scale = operands[0].scale_log2 + linear.weight_scale_log2;
            TensorType::signed([outputs, 1, 1], linear.acc_bits, scale)
        }
        Op::Relu => TensorType { known_non_negative: true, ..operands[0].clone() },
        Op::PartialRelu { mask } => {
            if mask.len() != operands[0].len() {
                return fail(format!("a mask of {} positions on {:?}", mask.len(), operands[0].shape));
            }
            if mask.count(true) == 0 || mask.count(false) == 0 {
                return fail("a mask of all or none of the positions makes no partial rectifier".into());
            }
            operands[0].clone()
        }
        Op::Requant { shift, .. } => {
            let Some(wanted) = wanted else {
                return fail("a requantisation needs a width".into());
            };
            if *shift > 62 {
                return fail(format!("shift {shift} is more than 62"));
            }
            TensorType {
                shape: operands[0].shape,
                bits: wanted.bits,
                signed: wanted.signed,
                scale_log2: operands[0].scale_log2 + *shift as i32,
                known_non_negative: !wanted.signed || operands[0].known_non_negative,
            }
        }
        Op::Add { shifts } => add_type(name, *shifts, operands)?,
        Op::AvgPool { kernel, stride } => pool_type(name, (*kernel, *stride, 0), operands[0])?,
        Op::MaxPool { kernel, stride, pad } => pool_type(name, (*kernel, *stride, *pad), operands[0])?,
        Op::Subsample(how) => {
            if how.stride == 0 || how.before > MAX_ZERO_CHANNELS || how.after > MAX_ZERO_CHANNELS {
                return fail(format!(
                    "stride {}, {} and {} zero channels; at least 1, at most {MAX_ZERO_CHANNELS}",
                    how.stride, how.before, how.after
                ));
            }
            TensorType { shape: how.output_shape(operands[0].shape), ..operands[0].clone() }
        }
        Op::Flatten => TensorType { shape: [operands[0].len(), 1, 1], ..operands[0].clone() },
        Op::Argmax => index_type(name, 1, operands[0])?,
        Op::TopK { k } => index_type(name, *k, operands[0])?,
    };
    if !(1..=64).contains(&out.bits) || (!out.signed && out.bits == 64) {
        return fail(format!("{} bits; a ring has 1 to 64 (63 if unsigned)", out.bits));
    }
    if out.is_empty() {
        return fail(format!("shape {:?} has no element", out.shape));
    }
    Ok(out)
}

fn conv_type(name: &str, conv: &Conv, x: &TensorType) -> Result<TensorType, ModelError> {
    let [c, h, w] = x.shape;
    let Conv { out_channels: k, kernel, stride, pad, groups, .. } = *conv;
    if groups == 0 || k == 0 || !c.is_multiple_of(groups) || !k.is_multiple_of(groups) {
        return Err(ModelError::graph(name, format!("{groups} groups of {c} input and {k} output channels")));
    }
    if kernel == 0 || stride == 0 || pad >= kernel || h + 2 * pad < kernel || w + 2 * pad < kernel {
        return Err(ModelError::graph(
            name,
            format!("kernel {kernel}, stride {stride}, pad {pad} on {h}x{w}"),
        ));
    }
    check_shifts(name, &conv.linear, k)?;
    bound::check(conv).map_err(|reason| ModelError::graph(name, reason))?;
    let side = |n: usize| (n + 2 * pad - kernel) / stride + 1;
    let scale = x.scale_log2 + conv.linear.weight_scale_log2;
    Ok(TensorType::signed([k, side(h), side(w)], conv.linear.acc_bits, scale))
}

/// `k` indices into a vector.
fn index_type(name: &str, k: usize, x: &TensorType) -> Result<TensorType, ModelError> {
    let [n, h, w] = x.shape;
    if [h, w] != [1, 1] {
        return Err(ModelError::graph(name, format!("the largest of {:?}; it takes a vector", x.shape)));
    }
    if !(1..=n).contains(&k) {
        return Err(ModelError::graph(name, format!("the {k} largest of {n} values")));
    }
    Ok(TensorType::unsigned([k, 1, 1], (usize::BITS - (n - 1).leading_zeros()).max(1), 0))
}

fn pool_type(
    name: &str,
    (kernel, stride, pad): (usize, usize, usize),
    x: &TensorType,
) -> Result<TensorType, ModelError> {
    let [c, h, w] = x.shape;
    let fits = |n: usize| n + 2 * pad >= kernel;
    if kernel == 0 || stride == 0 || pad >= kernel || !fits(h) || !fits(w) {
        return Err(ModelError::graph(
            name,
            format!("window {kernel}, stride {stride}, pad {pad} on {h}x{w}"),
        ));
    }
    let side = |n: usize| (n + 2 * pad - kernel) / stride + 1;
    Ok(TensorType { shape: [c, side(h), side(w)], ..x.clone() })
}

fn add_type(name: &str, shifts: [u32; 2], operands: &[&TensorType]) -> Result<TensorType, ModelError> {
    let [x, y] = [operands[0], operands[1]];
    if x.shape != y.shape {
        return Err(ModelError::graph(name, format!("adds {:?} to {:?}", x.shape, y.shape)));
    }
    let scale = x.scale_log2 - shifts[0] as i32;
    if scale != y.scale_log2 - shifts[1] as i32 || shifts.iter().any(|&s| s > 62) {
        return Err(ModelError::graph(
            name,
            format!("shifts {shifts:?} do not align scales {} and {}", x.scale_log2, y.scale_log2),
        ));
    }
    let (lo, hi) = range::of_sum(range::of_type(x), range::of_type(y), shifts);
    let mut out = TensorType::signed(x.shape, range::signed_bits(lo, hi), scale);
    out.known_non_negative = lo >= 0;
    Ok(out)
}

fn check_linear(name: &str, linear: &Linear) -> Result<(), ModelError> {
    let needed = range::signed_bits(-i128::from(linear.acc_bound), i128::from(linear.acc_bound));
    if !(2..=16).contains(&linear.weight_bits) {
        return Err(ModelError::graph(
            name,
            format!("{}-bit weights; 2 to 16 are supported", linear.weight_bits),
        ));
    }
    if linear.ternary && linear.weight_bits != 2 {
        return Err(ModelError::graph(
            name,
            format!("ternary weights have 2 bits, {} given", linear.weight_bits),
        ));
    }
    if needed > linear.acc_bits || linear.acc_bits > 62 {
        return Err(ModelError::graph(
            name,
            format!(
                "accumulators up to {} need {needed} bits (at most 62), {} given",
                linear.acc_bound, linear.acc_bits
            ),
        ));
    }
    Ok(())
}

fn check_shifts(name: &str, linear: &Linear, channels: usize) -> Result<(), ModelError> {
    let n = linear.channel_shifts.len();
    if (n != 0 && n != channels) || linear.spread() > 15 {
        return Err(ModelError::graph(
            name,
            format!("{n} channel shifts for {channels} outputs (each at most 15)"),
        ));
    }
    Ok(())
}
