//! The integer model: what `copriv-train` exports and `copriv-infer2pc` evaluates.
//!
//! * [`Graph`] is public: operators, shapes, bit-widths, scales ([`mod@file`]: `model.json`).
//! * [`Weights`] belong to the server alone (`weights.safetensors`).
//! * [`execute`] is the plaintext integer executor. It *defines* the semantics: private
//!   evaluation equals it bit for bit.
//! * [`range`] proves, from the public graph or from the real weights, that nothing wraps.
//!
//! ```
//! use copriv_model::{GraphBuilder, LayerWeights, Model, TensorType, Weights, execute};
//!
//! let mut b = GraphBuilder::new("identity", TensorType::unsigned([1, 2, 2], 8, -8));
//! let x = b.input();
//! let y = b.relu("relu", x)?;
//! let model = Model::new(b.finish(y)?, Weights::default())?;
//! assert_eq!(execute::run(&model, &[1, 2, 3, 4])?.output(), &[1, 2, 3, 4]);
//! # Ok::<(), copriv_model::ModelError>(())
//! ```
#![forbid(unsafe_code)]

mod bound;
mod builder;
mod error;
pub mod execute;
pub mod file;
mod graph;
pub mod kernel;
mod mask;
pub mod range;
mod types;
mod validate;
mod weights;

pub use bound::KernelBound;
pub use builder::{ConvSpec, GraphBuilder, LinearSpec};
pub use error::ModelError;
pub use graph::{Conv, Graph, Linear, Node, NodeId, Op, Preprocess, Subsample, TensorType};
pub use mask::Mask;
pub use weights::{Bias, LayerWeights, Model, Weights};
