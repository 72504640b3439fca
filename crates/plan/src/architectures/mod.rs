//! Integer models without weights, for pricing: the networks of the papers.
//!
//! [`named`] builds a [`Graph`] from a name and a [`Numbers`] setting; its accumulators are worst-case,
//! so that the price holds for any weights of those widths. Scales are nominal (see
//! [`Bits`]): they decide only how many bits a requantisation drops.

mod llama;
mod minionn;
mod mobilenet;
mod numbers;
mod resnet;
mod stack;

use copriv_model::kernel::Geometry;
use copriv_model::{Graph, ModelError};

pub use numbers::{Bits, Numbers};

/// Names that [`named`] knows; `mbv2-wW` and `mbv2-224-wW` exist at any width `W` of 0.1 to 2.
pub const NAMES: [&str; 15] = [
    "minionn",
    "resnet18",
    "resnet18-224",
    "resnet20",
    "resnet20-1x1",
    "resnet32",
    "resnet32-1x1",
    "resnet50",
    "mbv2-w0.75",
    "mbv2-w1",
    "mbv2-224-w1",
    "mbv3-small",
    "llama7b-1",
    "llama7b-32",
    "llama7b-128",
];

/// Why there is no such architecture.
#[derive(Debug, thiserror::Error)]
pub enum ArchitectureError {
    /// The name.
    #[error(
        "no architecture is called `{0}`; there are {names}, mbv2-wW and mbv2-224-wW with any width W of 0.1 to 2",
        names = NAMES.join(", ")
    )]
    Unknown(String),
    /// More or fewer widths than layers.
    #[error("{given} weight widths for the {layers} linear layers of `{name}`")]
    Layers {
        /// Architecture.
        name: String,
        /// Widths given.
        given: usize,
        /// Linear layers.
        layers: usize,
    },
    /// The setting makes no valid model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What a linear layer or a whole network computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Multiplications, padding included, as papers count them.
    pub macs: u64,
    /// Weights without biases and norms.
    pub weights: u64,
}

/// The network called `name` (see [`NAMES`]).
///
/// * `minionn`: MiniONN's CIFAR-10 network (Liu et al., CCS 2017, figure 13): seven
///   convolutions, mean pooling.
/// * `resnet18` for 32x32 has a 3x3 stem without pooling, 100 classes; `resnet18-224` and
///   `resnet50` are those of ImageNet.
/// * `resnet20`, `resnet32`: 16, 32, 64 channels; shortcuts of option A (subsampled, padded with
///   zero channels) or by 1x1 convolutions (`-1x1`); 100 classes.
/// * `mbv2-wW` for 32x32: stem stride 1, strides 1, 1, 2, 2, 1, 2, 1, 100 classes;
///   `mbv2-224-wW` is that of ImageNet. ReLU6 is a ReLU that saturates.
/// * `mbv3-small`: 224x224. A ReLU stands for h-swish (`x * relu6(x + 3) / 6` is a product of two
///   secrets, which the integer model has not), and squeeze-and-excite is left out for the same reason.
/// * `llama7b-N`: the four 4096x4096 projections of an attention block on `N` tokens. The sum of
///   the queries, keys and values stands for attention itself, which costs nothing here.
///
/// # Errors
/// An unknown name, or widths that the model does not allow.
pub fn named(name: &str, numbers: impl Into<Numbers>) -> Result<Graph, ArchitectureError> {
    let numbers = numbers.into();
    let width = |prefix: &str| {
        let width: f64 = name.strip_prefix(prefix)?.parse().ok()?;
        (0.1..=2.0).contains(&width).then_some(width)
    };
    let stack = |input| stack::Stack::new(name, input, &numbers);
    let inner = |input| stack::Stack::inner(name, input, &numbers);
    let built = match name {
        "minionn" => minionn::build(stack([3, 32, 32])),
        "resnet18" => resnet::basic(stack([3, 32, 32]), resnet::Stem::Small(64), &[2, 2, 2, 2], true, 100),
        "resnet18-224" => {
            resnet::basic(stack([3, 224, 224]), resnet::Stem::Large(64), &[2, 2, 2, 2], true, 1000)
        }
        "resnet20" => resnet::basic(stack([3, 32, 32]), resnet::Stem::Small(16), &[3; 3], false, 100),
        "resnet20-1x1" => resnet::basic(stack([3, 32, 32]), resnet::Stem::Small(16), &[3; 3], true, 100),
        "resnet32" => resnet::basic(stack([3, 32, 32]), resnet::Stem::Small(16), &[5; 3], false, 100),
        "resnet32-1x1" => resnet::basic(stack([3, 32, 32]), resnet::Stem::Small(16), &[5; 3], true, 100),
        "resnet50" => resnet::bottleneck(stack([3, 224, 224]), &[3, 4, 6, 3], 1000),
        "mbv3-small" => mobilenet::v3_small(stack([3, 224, 224])),
        "llama7b-1" => llama::projections(inner([4096, 1, 1])),
        "llama7b-32" => llama::projections(inner([4096, 1, 32])),
        "llama7b-128" => llama::projections(inner([4096, 1, 128])),
        _ => {
            if let Some(width) = width("mbv2-224-w") {
                mobilenet::v2(stack([3, 224, 224]), width, [1, 2, 2, 2, 1, 2, 1], 2, 1000)
            } else if let Some(width) = width("mbv2-w") {
                mobilenet::v2(stack([3, 32, 32]), width, [1, 1, 2, 2, 1, 2, 1], 1, 100)
            } else {
                return Err(ArchitectureError::Unknown(name.to_owned()));
            }
        }
    }?;
    let layers = built.nodes.iter().filter(|n| n.op.linear().is_some()).count();
    match &numbers {
        Numbers::Quantised(Bits { layers: given, .. }) if !given.is_empty() && given.len() != layers => {
            Err(ArchitectureError::Layers { name: name.to_owned(), given: given.len(), layers })
        }
        _ => Ok(built),
    }
}

/// Shapes of the linear layers, in order.
pub fn geometries(graph: &Graph) -> impl Iterator<Item = Geometry> + '_ {
    graph.nodes.iter().filter_map(|n| Geometry::of(n, &graph.nodes[*n.inputs.first()?].output))
}

/// Multiplications and weights of a linear layer.
pub fn layer_size(g: &Geometry) -> Size {
    let weights = (g.filters * g.channels_per_group() * g.kernel * g.kernel) as u64;
    let (rows, columns) = g.output_size();
    Size { macs: weights * (rows * columns) as u64, weights }
}

/// Multiplications and weights of the whole network.
pub fn size(graph: &Graph) -> Size {
    geometries(graph)
        .map(|g| layer_size(&g))
        .fold(Size::default(), |sum, s| Size { macs: sum.macs + s.macs, weights: sum.weights + s.weights })
}
