//! One network definition: a [`Graph`] built by an [`Arch`], parameters as host [`Weights`],
//! and a [`Network`] that interprets both on a device.

mod arch;
pub mod graph;
mod network;
mod weights;

pub use arch::Arch;
pub use graph::{Bias, Block, BlockState, Conv, Graph, Node, NodeId, Op, PositionMap};
pub(crate) use network::DECAYED;
pub use network::{Gates, NORM_EPSILON, Network, Pass, Tap};
pub use weights::{Array, Weights};
