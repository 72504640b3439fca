//! Inverted residual blocks.

use copriv_model::{Graph, ModelError, NodeId};

use super::stack::{Kernel, Role, Stack};

/// Expansion, channels and repetitions of MobileNetV2's stages (Sandler et al., 2018, table 2).
const V2: [(usize, usize, usize); 7] =
    [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)];

/// Kernel, expanded channels, output channels and stride of MobileNetV3-small's blocks (Howard
/// et al., 2019, table 2).
const V3_SMALL: [(usize, usize, usize, usize); 11] = [
    (3, 16, 16, 2),
    (3, 72, 24, 2),
    (3, 88, 24, 1),
    (5, 96, 40, 2),
    (5, 240, 40, 1),
    (5, 240, 40, 1),
    (5, 120, 48, 1),
    (5, 144, 48, 1),
    (5, 288, 96, 2),
    (5, 576, 96, 1),
    (5, 576, 96, 1),
];

/// MobileNetV2 at a width; `strides` of the stages' first blocks.
pub(super) fn v2(
    mut net: Stack<'_>,
    width: f64,
    strides: [usize; 7],
    stem_stride: usize,
    classes: usize,
) -> Result<Graph, ModelError> {
    let scaled = |channels: usize| round_to_eight(channels as f64 * width);
    let x = net.input();
    let stem = Kernel::dense(scaled(32), 3, stem_stride);
    let mut x = net.conv_relu("stem", x, stem, Role::Activation)?;
    let mut index = 0;
    for ((expansion, channels, repeat), stride) in V2.into_iter().zip(strides) {
        for i in 0..repeat {
            index += 1;
            let block = Block {
                name: format!("block{index}"),
                hidden: net.channels(x) * expansion,
                kernel: 3,
                channels: scaled(channels),
                stride: if i == 0 { stride } else { 1 },
            };
            x = block.build(&mut net, x)?;
        }
    }
    let head = scaled(1280).max(1280);
    let x = net.branch("head", x)?;
    let x = net.conv_relu("head", x, Kernel::dense(head, 1, 1), Role::Activation)?;
    net.classifier(x, classes)
}

/// MobileNetV3-small for 224x224 images; see [`super::named`] for what is left out.
pub(super) fn v3_small(mut net: Stack<'_>) -> Result<Graph, ModelError> {
    let x = net.input();
    let mut x = net.conv_relu("stem", x, Kernel::dense(16, 3, 2), Role::Activation)?;
    for (i, (kernel, hidden, channels, stride)) in V3_SMALL.into_iter().enumerate() {
        let block = Block { name: format!("block{}", i + 1), hidden, kernel, channels, stride };
        x = block.build(&mut net, x)?;
    }
    let x = net.branch("head", x)?;
    let x = net.conv_relu("head", x, Kernel::dense(576, 1, 1), Role::Activation)?;
    let x = net.avg_pool("pool", x, 7, 7)?;
    let x = net.conv_relu("hidden", x, Kernel::dense(1024, 1, 1), Role::Activation)?;
    net.classifier(x, 1000)
}

/// 1x1 up, depth-wise, 1x1 down; the last one has no ReLU.
struct Block {
    name: String,
    hidden: usize,
    kernel: usize,
    channels: usize,
    stride: usize,
}

impl Block {
    fn build(&self, net: &mut Stack<'_>, x: NodeId) -> Result<NodeId, ModelError> {
        let part = |part: &str| format!("{}.{part}", self.name);
        let mut y = net.branch(&self.name, x)?;
        if self.hidden != net.channels(x) {
            y = net.conv_relu(&part("expand"), y, Kernel::dense(self.hidden, 1, 1), Role::Activation)?;
        }
        let depthwise = Kernel::depthwise(self.hidden, self.kernel, self.stride);
        let y = net.conv_relu(&part("depthwise"), y, depthwise, Role::Activation)?;
        let y = net.conv(&part("project"), y, Kernel::dense(self.channels, 1, 1))?;
        let sum = if self.stride == 1 && net.channels(x) == self.channels {
            net.add(&part("add"), y, x)?
        } else {
            y
        };
        net.signed(&self.name, sum, Role::Residual)
    }
}

/// Channel counts are multiples of 8, and rounding never loses more than a tenth.
fn round_to_eight(channels: f64) -> usize {
    let rounded = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * channels { rounded + 8 } else { rounded }
}
