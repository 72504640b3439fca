//! Architectures by name: each is a builder of a [`Graph`].

use std::fmt;
use std::str::FromStr;

use super::graph::{Bias, Block, BlockState, Conv, Graph, Node, NodeId, Op};
use crate::TrainError;

/// A known architecture.
///
/// * `mbv2-wW`: MobileNetV2 (Sandler et al., 2018) for 32x32 images at width `W`, 0.1 to 2.0:
///   stem of stride 1, strides 1, 1, 2, 2, 1, 2, 1, plain ReLU instead of ReLU6.
/// * `mbv2-tiny`: six inverted residual blocks of 16 and 32 channels, for the demo. Expansion 6 as in the
///   paper: a dense 3x3 kernel then has fewer weights than the block it replaces.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arch {
    /// MobileNetV2 at a width.
    MobileNetV2 {
        /// Multiplier of every channel count.
        width: f64,
    },
    /// The demo's network.
    Tiny,
}

/// Blocks of one shape: expansion, output channels, repetitions, stride of the first.
struct Stage(usize, usize, usize, usize);

const MOBILENET_V2: [Stage; 7] = [
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 1),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
];

const TINY: [Stage; 3] = [Stage(2, 16, 1, 2), Stage(6, 16, 2, 1), Stage(6, 32, 3, 2)];

impl Arch {
    /// The architecture called `name`.
    ///
    /// # Errors
    /// An unknown name; the message lists the known ones.
    pub fn parse(name: &str) -> Result<Self, TrainError> {
        let unknown = || TrainError::Arch {
            name: name.to_owned(),
            known: "mbv2-tiny and mbv2-wW with a width W of 0.1 to 2.0, such as mbv2-w0.75".to_owned(),
        };
        if name == "mbv2-tiny" {
            return Ok(Self::Tiny);
        }
        let width = name.strip_prefix("mbv2-w").and_then(|w| w.parse::<f64>().ok()).ok_or_else(unknown)?;
        if (0.1..=2.0).contains(&width) { Ok(Self::MobileNetV2 { width }) } else { Err(unknown()) }
    }

    /// The network for images of `input` = `[channels, height, width]`.
    ///
    /// # Errors
    /// Images that are too small.
    pub fn build(&self, input: [usize; 3], classes: usize) -> Result<Graph, TrainError> {
        let mut b = Builder::new(self.to_string(), input);
        match self {
            Self::MobileNetV2 { width } => {
                let scale = |c: usize| round_to_eight(c as f64 * width);
                b.conv_relu("stem", scale(32), 3, 1, None);
                for Stage(expansion, channels, repeat, stride) in MOBILENET_V2 {
                    b.stage(expansion, scale(channels), repeat, stride);
                }
                b.conv_relu("head", scale(1280).max(1280), 1, 1, None);
            }
            Self::Tiny => {
                b.conv_relu("stem", 16, 3, 2, None);
                for Stage(expansion, channels, repeat, stride) in TINY {
                    b.stage(expansion, channels, repeat, stride);
                }
                b.conv_relu("head", 96, 1, 1, None);
            }
        }
        b.classifier(classes)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MobileNetV2 { width } => write!(f, "mbv2-w{width}"),
            Self::Tiny => f.write_str("mbv2-tiny"),
        }
    }
}

impl FromStr for Arch {
    type Err = TrainError;

    fn from_str(name: &str) -> Result<Self, TrainError> {
        Self::parse(name)
    }
}

/// Channel counts are multiples of 8, and rounding never loses more than a tenth.
fn round_to_eight(channels: f64) -> usize {
    let rounded = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * channels { rounded + 8 } else { rounded }
}

struct Builder {
    graph: Graph,
    /// The node that the next one takes.
    top: NodeId,
    channels: usize,
}

impl Builder {
    fn new(arch: String, shape: [usize; 3]) -> Self {
        let input = Node { name: "input".into(), op: Op::Input { shape }, inputs: vec![] };
        Self { graph: Graph { arch, nodes: vec![input], blocks: vec![] }, top: 0, channels: shape[0] }
    }

    fn push(&mut self, name: &str, op: Op, inputs: Vec<NodeId>) -> NodeId {
        self.graph.nodes.push(Node { name: name.to_owned(), op, inputs });
        self.top = self.graph.nodes.len() - 1;
        self.top
    }

    /// Convolution with batch norm, "same" padding.
    fn conv(&mut self, name: &str, out_channels: usize, kernel: usize, stride: usize, depthwise: bool) {
        let conv = Conv {
            in_channels: self.channels,
            out_channels,
            kernel,
            stride,
            pad: kernel / 2,
            groups: if depthwise { self.channels } else { 1 },
            norm: true,
            bias: Bias::None,
        };
        self.push(name, Op::Conv(conv), vec![self.top]);
        self.channels = out_channels;
    }

    fn relu(&mut self, name: &str, gate: Option<usize>) -> String {
        self.push(name, Op::Relu { gate }, vec![self.top]);
        name.to_owned()
    }

    fn conv_relu(&mut self, name: &str, channels: usize, kernel: usize, stride: usize, gate: Option<usize>) {
        self.conv(name, channels, kernel, stride, false);
        self.relu(&format!("{name}.relu"), gate);
    }

    fn stage(&mut self, expansion: usize, channels: usize, repeat: usize, stride: usize) {
        for i in 0..repeat {
            self.inverted_residual(expansion, channels, if i == 0 { stride } else { 1 });
        }
    }

    fn inverted_residual(&mut self, expansion: usize, channels: usize, stride: usize) {
        let (x, in_channels) = (self.top, self.channels);
        let index = self.graph.blocks.len();
        let name = format!("block{}", index + 1);
        let hidden = in_channels * expansion;
        let mut block = Block {
            name: name.clone(),
            convs: Vec::new(),
            relus: Vec::new(),
            add: None,
            state: BlockState::Kept,
        };
        if expansion != 1 {
            let expand = format!("{name}.expand");
            self.conv(&expand, hidden, 1, 1, false);
            block.relus.push(self.relu(&format!("{expand}.relu"), Some(index)));
            block.convs.push(expand);
        }
        let depthwise = format!("{name}.depthwise");
        self.conv(&depthwise, hidden, 3, stride, true);
        block.relus.push(self.relu(&format!("{depthwise}.relu"), Some(index)));
        let project = format!("{name}.project");
        self.conv(&project, channels, 1, 1, false);
        block.convs.extend([depthwise, project]);
        if stride == 1 && in_channels == channels {
            let add = format!("{name}.add");
            let project = self.top;
            self.push(&add, Op::Add, vec![project, x]);
            block.add = Some(add);
        }
        self.graph.blocks.push(block);
    }

    fn classifier(mut self, classes: usize) -> Result<Graph, TrainError> {
        self.push("pool", Op::GlobalAvgPool, vec![self.top]);
        let linear = Op::Linear { in_features: self.channels, out_features: classes };
        self.push("classifier", linear, vec![self.top]);
        self.graph.shapes()?;
        Ok(self.graph)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Weights;

    /// `experiments`-independent count: torchvision's MobileNetV2 formula at width 0.75 with a
    /// 100-class head and this stem, as measured with the PyTorch twin in
    /// `shared/burn-notes.md` section 2 (1,368,234 parameters for 10 classes, 59.3 MMAC).
    #[test]
    fn width_three_quarters_has_the_published_size() {
        let graph = Arch::parse("mbv2-w0.75").unwrap().build([3, 32, 32], 10).unwrap();
        assert_eq!(Weights::init(&graph, 0).parameters(), 1_368_234);
        assert_eq!(graph.macs().unwrap() / 100_000, 593);
        assert_eq!(graph.blocks.len(), 17);
    }

    #[test]
    fn tiny_suits_the_protocol() {
        let graph = Arch::Tiny.build([1, 32, 32], 10).unwrap();
        let shapes = graph.shapes().unwrap();
        assert!((6..=8).contains(&graph.blocks.len()));
        assert!(shapes[1..graph.nodes.len() - 1].iter().all(|s| s[0] % 8 == 0), "channels: {shapes:?}");
        let pooled = graph.nodes.iter().position(|n| matches!(n.op, Op::GlobalAvgPool)).unwrap();
        let [_, h, w] = shapes[graph.nodes[pooled].inputs[0]];
        assert!((h * w).is_power_of_two());
        assert!((1_000_000..3_500_000).contains(&graph.macs().unwrap()), "{}", graph.macs().unwrap());
        assert!(graph.relu_count().unwrap() < 62_000, "{}", graph.relu_count().unwrap());
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        for name in ["resnet", "mbv2-w", "mbv2-w0.05", "mbv2-w-1", "mbv2-wnan"] {
            let message = Arch::parse(name).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("mbv2-tiny"), "{message}");
        }
    }
}
