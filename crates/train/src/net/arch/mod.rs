//! Architectures by name: each is a builder of a [`Graph`].

mod builder;
mod minionn;
mod mobilenet;
mod resnet;

use std::fmt;
use std::str::FromStr;

use self::builder::Builder;
use super::graph::Graph;
use crate::TrainError;

/// Images of at most this side get the stems of the CIFAR variants.
const SMALL: usize = 64;

/// A known architecture. Images of up to 64x64 get the stem and strides that are usual for CIFAR,
/// larger ones those of ImageNet.
///
/// * `mbv2-wW`: MobileNetV2 (Sandler et al., 2018) at width `W`, 0.1 to 2.0, with plain ReLU
///   instead of ReLU6. Small images: stem of stride 1, strides 1, 1, 2, 2, 1, 2, 1.
/// * `mbv2-wW-relu6`: the original, for torchvision's weights: to evaluate and to distil from.
/// * `mbv2-tiny`: six inverted residual blocks of 16 and 32 channels, for the demo. Expansion 6 as in the
///   paper: a dense 3x3 kernel then has fewer weights than the block it replaces.
/// * `resnet20`, `resnet32`, `resnet44`, `resnet56` (He et al., 2016, section 4.2): 16, 32, 64
///   channels, shortcuts by 1x1 convolutions; with an `a` behind the number, of option A:
///   subsampled, and padded with channels of zeros.
/// * `resnet18`, `resnet50` (He et al., 2016, table 1): 64 channels and more, 1x1 shortcuts. Small images:
///   a 3x3 stem of stride 1 without pooling.
/// * `minionn`: MiniONN's CIFAR-10 network (Liu et al., CCS 2017, figure 13).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arch {
    /// MobileNetV2 at a width.
    MobileNetV2 {
        /// Multiplier of every channel count.
        width: f64,
        /// ReLU6 as in the paper: no integer form.
        relu6: bool,
    },
    /// The demo's network.
    Tiny,
    /// A ResNet.
    ResNet(Depth),
    /// Seven convolutions and two mean pools, without norms' residuals.
    MiniOnn,
}

/// Which ResNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// `6n + 2` layers in three stages of `n` two-convolution blocks, 16, 32, 64 channels.
    Small {
        /// Blocks a stage.
        blocks: usize,
        /// Shortcuts that change the shape have no weights.
        option_a: bool,
    },
    /// Two-convolution blocks: 2, 2, 2, 2.
    Eighteen,
    /// Bottleneck blocks: 3, 4, 6, 3.
    Fifty,
}

impl Arch {
    /// The architecture called `name`.
    ///
    /// # Errors
    /// An unknown name; the message lists the known ones.
    pub fn parse(name: &str) -> Result<Self, TrainError> {
        let unknown = || {
            TrainError::Arch {
            name: name.to_owned(),
            known: "mbv2-tiny, mbv2-wW with a width W of 0.1 to 2.0 such as mbv2-w0.75 (mbv2-w1-relu6 for torchvision's), resnet18, resnet50, \
                    resnet20, -32, -44, -56 (resnet32a has shortcuts of option A) and minionn"
                .to_owned(),
        }
        };
        let small = |layers: &str| -> Option<Self> {
            let (layers, option_a) = layers.strip_suffix('a').map_or((layers, false), |l| (l, true));
            let blocks = match layers {
                "20" => 3,
                "32" => 5,
                "44" => 7,
                "56" => 9,
                _ => return None,
            };
            Some(Self::ResNet(Depth::Small { blocks, option_a }))
        };
        let wide = |width: &str| {
            let (width, relu6) = width.strip_suffix("-relu6").map_or((width, false), |w| (w, true));
            let width: f64 = width.parse().ok()?;
            (0.1..=2.0).contains(&width).then_some(Self::MobileNetV2 { width, relu6 })
        };
        let arch = match name {
            "mbv2-tiny" => Some(Self::Tiny),
            "minionn" => Some(Self::MiniOnn),
            "resnet18" => Some(Self::ResNet(Depth::Eighteen)),
            "resnet50" => Some(Self::ResNet(Depth::Fifty)),
            _ => name
                .strip_prefix("mbv2-w")
                .and_then(wide)
                .or_else(|| name.strip_prefix("resnet").and_then(small)),
        };
        arch.ok_or_else(unknown)
    }

    /// The network for images of `input` = `[channels, height, width]`.
    ///
    /// # Errors
    /// Images that are too small.
    pub fn build(&self, input: [usize; 3], classes: usize) -> Result<Graph, TrainError> {
        let mut b = Builder::new(self.to_string(), input);
        let small = input[1].max(input[2]) <= SMALL;
        match self {
            Self::MobileNetV2 { width, relu6 } => {
                mobilenet::v2(&mut b, *width, small);
                let mut graph = b.classifier(classes)?;
                if *relu6 {
                    mobilenet::cut_off(&mut graph);
                }
                return Ok(graph);
            }
            Self::Tiny => mobilenet::tiny(&mut b),
            Self::ResNet(depth) => resnet::build(&mut b, *depth, small),
            Self::MiniOnn => {
                minionn::build(&mut b);
                return b.flat_classifier(classes);
            }
        }
        b.classifier(classes)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MobileNetV2 { width, relu6 } => {
                write!(f, "mbv2-w{width}{}", if *relu6 { "-relu6" } else { "" })
            }
            Self::Tiny => f.write_str("mbv2-tiny"),
            Self::ResNet(Depth::Small { blocks, option_a }) => {
                write!(f, "resnet{}{}", 6 * blocks + 2, if *option_a { "a" } else { "" })
            }
            Self::ResNet(Depth::Eighteen) => f.write_str("resnet18"),
            Self::ResNet(Depth::Fifty) => f.write_str("resnet50"),
            Self::MiniOnn => f.write_str("minionn"),
        }
    }
}

impl FromStr for Arch {
    type Err = TrainError;

    fn from_str(name: &str) -> Result<Self, TrainError> {
        Self::parse(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::expected;
    use crate::net::graph::Op;

    /// Parameters and multiplications as published: torchvision's model pages (MobileNetV2
    /// 3504872 parameters and 0.30 G, ResNet-18 11689512 and 1.81 G, ResNet-50 25557032 and
    /// 4.09 G), He et al., 2016, table 6 (0.27, 0.46, 0.66, 0.85 M) and the README of
    /// akamaster/pytorch_resnet_cifar10 for option A to the unit (464154 is the checkpoint's
    /// own count); MobileNetV2 w0.75 and ResNet-32 with 1x1 shortcuts were counted in PyTorch twins.
    #[test]
    fn sizes_are_the_published_ones() {
        for (name, side, classes, parameters, mega_macs) in [
            ("mbv2-w1", 224, 1000, 3_504_872, 300.8),
            ("mbv2-w1-relu6", 224, 1000, 3_504_872, 300.8),
            ("resnet18", 224, 1000, 11_689_512, 1814.1),
            ("resnet50", 224, 1000, 25_557_032, 4089.2),
            ("mbv2-w0.75", 32, 10, 1_368_234, 59.3),
            ("resnet32", 32, 10, 466_906, 69.1),
            ("resnet20a", 32, 10, 269_722, 40.6),
            ("resnet32a", 32, 10, 464_154, 68.9),
            ("resnet44a", 32, 10, 658_586, 97.2),
            ("resnet56a", 32, 10, 853_018, 125.5),
        ] {
            let graph = Arch::parse(name).unwrap().build([3, side, side], classes).unwrap();
            let trained = |name: &str| !name.ends_with(".mean") && !name.ends_with(".var");
            let tensors = expected(&graph).into_iter().filter(|(name, _)| trained(name));
            let count: usize = tensors.map(|(_, shape)| shape.iter().product::<usize>()).sum();
            assert_eq!(count, parameters, "{name}");
            let macs = graph.macs().unwrap() as f64 / 1e6;
            assert!((macs - mega_macs).abs() < 0.06, "{name}: {macs}");
            assert_eq!(graph.arch, name);
        }
    }

    /// Every block's names are nodes of their kind, and the last convolution feeds the addition.
    #[test]
    fn blocks_name_their_nodes() {
        for name in ["mbv2-w0.5", "mbv2-tiny", "resnet18", "resnet50", "resnet20", "resnet20a"] {
            let graph = Arch::parse(name).unwrap().build([3, 32, 32], 10).unwrap();
            assert!(!graph.blocks.is_empty(), "{name}");
            for block in &graph.blocks {
                let node = |name: &String| &graph.nodes[graph.find(name).unwrap()];
                assert!(block.convs.iter().all(|c| matches!(node(c).op, Op::Conv(_))), "{name}");
                assert!(
                    block.relus.iter().all(|r| matches!(node(r).op, Op::Relu { gate: Some(_) })),
                    "{name}"
                );
                if let Some(add) = &block.add {
                    let last = graph.find(block.convs.last().unwrap()).unwrap();
                    assert!(node(add).inputs.contains(&last), "{name} {}", block.name);
                }
            }
        }
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
        for name in ["resnet", "resnet19", "resnet18a", "mbv2-w", "mbv2-w0.05", "mbv2-w-1", "mbv2-wnan"] {
            let message = Arch::parse(name).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("mbv2-tiny"), "{message}");
        }
    }
}
