//! ResNet (He et al., 2016). Nodes are called as in torchvision: `layer2.0.conv1`.

use super::Depth;
use super::builder::Builder;
use crate::net::graph::{NodeId, Op, Subsample};

/// Output channels of a bottleneck, relative to its inner ones.
const EXPANSION: usize = 4;

pub(super) fn build(b: &mut Builder, depth: Depth, small: bool) {
    let (width, stages): (_, &[usize]) = match depth {
        Depth::Small { blocks, .. } => (16, &[blocks; 3]),
        Depth::Eighteen => (64, &[2; 4]),
        Depth::Fifty => (64, &[3, 4, 6, 3]),
    };
    if small || matches!(depth, Depth::Small { .. }) {
        b.conv_relu("stem", width, 3, 1, None);
    } else {
        b.conv_relu("stem", width, 7, 2, None);
        b.push("maxpool", Op::MaxPool { kernel: 3, stride: 2, pad: 1 }, vec![b.top]);
    }
    for (stage, &blocks) in stages.iter().enumerate() {
        for i in 0..blocks {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            let name = format!("layer{}.{i}", stage + 1);
            block(b, &name, depth, width << stage, stride);
        }
    }
}

/// Convolutions, the sum with the shortcut, a rectifier. All rectifiers of a block share a gate.
fn block(b: &mut Builder, name: &str, depth: Depth, inner: usize, stride: usize) {
    let (x, in_channels) = (b.top, b.channels);
    let (gate, mut block) = b.block(name);
    let bottleneck = depth == Depth::Fifty;
    // The stride is the 3x3's, as in torchvision.
    let convs: &[(usize, usize, usize)] = if bottleneck {
        &[(inner, 1, 1), (inner, 3, stride), (EXPANSION * inner, 1, 1)]
    } else {
        &[(inner, 3, stride), (inner, 3, 1)]
    };
    for (i, &(channels, kernel, stride)) in convs.iter().enumerate() {
        let conv = format!("{name}.conv{}", i + 1);
        b.conv(&conv, channels, kernel, stride, false);
        if i + 1 < convs.len() {
            block.relus.push(b.relu(&format!("{conv}.relu"), Some(gate)));
        }
        block.convs.push(conv);
    }
    let (y, out_channels) = (b.top, b.channels);
    let shortcut = if stride == 1 && in_channels == out_channels {
        x
    } else {
        shortcut(b, &format!("{name}.downsample"), depth, (x, in_channels), out_channels, stride)
    };
    let add = format!("{name}.add");
    b.push(&add, Op::Add, vec![y, shortcut]);
    block.add = Some(add);
    block.relus.push(b.relu(&format!("{name}.relu"), Some(gate)));
    b.graph.blocks.push(block);
}

fn shortcut(
    b: &mut Builder,
    name: &str,
    depth: Depth,
    (x, in_channels): (NodeId, usize),
    channels: usize,
    stride: usize,
) -> NodeId {
    if matches!(depth, Depth::Small { option_a: true, .. }) {
        let before = (channels - in_channels) / 2;
        let how = Subsample { stride, before, after: channels - in_channels - before };
        return b.push(name, Op::Subsample(how), vec![x]);
    }
    (b.top, b.channels) = (x, in_channels);
    b.conv(name, channels, 1, stride, false);
    b.top
}
