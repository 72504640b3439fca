//! MobileNetV2 (Sandler et al., 2018), and the demo's network of the same blocks.

use super::builder::Builder;
use crate::net::graph::{Graph, Op};

/// Blocks of one shape: expansion, output channels, repetitions, stride of the first.
struct Stage(usize, usize, usize, usize);

/// Table 2 of the paper.
const V2: [Stage; 7] = [
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
];

const TINY: [Stage; 3] = [Stage(2, 16, 1, 2), Stage(6, 16, 2, 1), Stage(6, 32, 3, 2)];

pub(super) fn v2(b: &mut Builder, width: f64, small: bool) {
    let scale = |c: usize| round_to_eight(c as f64 * width);
    b.conv_relu("stem", scale(32), 3, if small { 1 } else { 2 }, None);
    for (i, Stage(expansion, channels, repeat, stride)) in V2.into_iter().enumerate() {
        // Small images keep their size for one stage more.
        let stride = if small && i == 1 { 1 } else { stride };
        stage(b, expansion, scale(channels), repeat, stride);
    }
    b.conv_relu("head", scale(1280).max(1280), 1, 1, None);
}

/// Every rectifier becomes ReLU6.
pub(super) fn cut_off(graph: &mut Graph) {
    for node in graph.nodes.iter_mut().filter(|n| matches!(n.op, Op::Relu { .. })) {
        node.op = Op::Relu6;
    }
}

pub(super) fn tiny(b: &mut Builder) {
    b.conv_relu("stem", 16, 3, 2, None);
    for Stage(expansion, channels, repeat, stride) in TINY {
        stage(b, expansion, channels, repeat, stride);
    }
    b.conv_relu("head", 96, 1, 1, None);
}

fn stage(b: &mut Builder, expansion: usize, channels: usize, repeat: usize, stride: usize) {
    for i in 0..repeat {
        inverted_residual(b, expansion, channels, if i == 0 { stride } else { 1 });
    }
}

fn inverted_residual(b: &mut Builder, expansion: usize, channels: usize, stride: usize) {
    let (x, in_channels) = (b.top, b.channels);
    let name = format!("block{}", b.graph.blocks.len() + 1);
    let (gate, mut block) = b.block(&name);
    let hidden = in_channels * expansion;
    if expansion != 1 {
        let expand = format!("{name}.expand");
        b.conv(&expand, hidden, 1, 1, false);
        block.relus.push(b.relu(&format!("{expand}.relu"), Some(gate)));
        block.convs.push(expand);
    }
    let depthwise = format!("{name}.depthwise");
    b.conv(&depthwise, hidden, 3, stride, true);
    block.relus.push(b.relu(&format!("{depthwise}.relu"), Some(gate)));
    let project = format!("{name}.project");
    b.conv(&project, channels, 1, 1, false);
    block.convs.extend([depthwise, project]);
    if stride == 1 && in_channels == channels {
        let add = format!("{name}.add");
        b.push(&add, Op::Add, vec![b.top, x]);
        block.add = Some(add);
    }
    b.graph.blocks.push(block);
}

/// Channel counts are multiples of 8, and rounding never loses more than a tenth.
fn round_to_eight(channels: f64) -> usize {
    let rounded = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * channels { rounded + 8 } else { rounded }
}
