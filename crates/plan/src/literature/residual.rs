//! Residual connections of ResNet-18, W2A4 with a stream of 8 bits: the blocks of PrivQuant's table 10.

use copriv_model::{ConvSpec, Graph, GraphBuilder, LinearSpec, ModelError, TensorType};

use crate::{Choice, Plan, PlanError, Step, StepKind};

/// Side and channels of the blocks.
pub const BLOCKS: [(usize, usize); 4] = [(56, 64), (28, 128), (14, 256), (7, 512)];

/// Bytes of a block's residual connection, offline and online, fresh OTs at their price in the long run: the
/// stream's extension to the accumulator, the addition, the requantisation.
///
/// # Errors
/// None in practice; those of planning.
pub fn bytes((side, channels): (usize, usize), choice: Choice) -> Result<f64, PlanError> {
    let plan = Plan::new(&block(side, channels)?, choice)?;
    let part = |s: &&Step| {
        let widens = s.layer == "stream" && matches!(s.kind, StepKind::Extend { .. });
        widens || ["sum", "out"].contains(&s.layer.as_str())
    };
    let messages = plan.steps.iter().filter(part).filter(|s| !matches!(s.kind, StepKind::Reveal));
    Ok(messages.map(|step| step.bytes(choice)).sum())
}

fn block(side: usize, channels: usize) -> Result<Graph, ModelError> {
    let conv = |out_channels, kernel: usize, groups| ConvSpec {
        out_channels,
        kernel,
        stride: 1,
        pad: kernel / 2,
        groups,
        linear: LinearSpec {
            weight_bits: 2,
            ternary: false,
            weight_scale_log2: -2,
            channel_shifts: vec![],
            bias_bits: 8,
            acc_bound: None,
        },
    };
    let mut b = GraphBuilder::new("block", TensorType::unsigned([channels, side, side], 8, -8));
    let x = b.input();
    let x = b.conv("before", x, conv(channels, 1, channels))?;
    let stream = b.requant("stream", x, 2, 8, true, true)?;
    let x = b.requant("narrow", stream, 4, 4, false, true)?;
    let x = b.conv("conv", x, conv(channels, 3, 1))?;
    let x = b.add("sum", x, stream)?;
    let x = b.requant("out", x, 4, 8, true, true)?;
    b.finish(x)
}
