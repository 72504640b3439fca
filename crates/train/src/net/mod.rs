//! One network definition: a [`Graph`] built by an [`Arch`], parameters as host [`Weights`],
//! and a [`Network`] that interprets both on a device.

mod arch;
pub mod graph;
pub mod kernel;
mod network;
mod pool;
mod weights;

pub use arch::{Arch, Depth};
pub use graph::{Bias, Block, BlockState, Conv, Graph, Mask, Node, NodeId, Op, PositionMap, Subsample};
pub use network::{Gates, NORM_EPSILON, Network, Pass, Tap};
pub(crate) use weights::expected;
pub use weights::{Array, Weights};
