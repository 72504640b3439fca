//! Trains image classifiers that are cheap to evaluate under secure two-party computation.
//!
//! One network definition, a layer [`net::Graph`], is interpreted in several ways: as a float
//! network ([`train`]), with gated rectifiers ([`prune`]), with fake quantisation
//! ([`quant`]); it is rewritten by exact passes ([`rewrite`]: norms folded, freed blocks
//! merged); and it is lowered to integers ([`export`], [`integer_graph`]).
//!
//! ```text
//! data::load -> train -> prune -> export -> copriv_model::Model
//!                 |        |        |
//!                 +--------+--------+--- Checkpoint (one file each)
//! ```
//!
//! ```no_run
//! use copriv_train::{ExportConfig, PruneConfig, Silent, TrainConfig, data, export, prune, train};
//!
//! let data = data::load(data::EMBEDDED, "data".as_ref())?;
//! let float = train(&TrainConfig::default(), &data, &mut Silent)?;
//! let saved_bytes = vec![1e6; float.graph.blocks.len()]; // from the planner
//! let pruned = prune(&PruneConfig::default(), &float, &data, saved_bytes.as_slice().into(), &mut Silent)?;
//! let exported = export(&ExportConfig::default(), &pruned.checkpoint, &data, &mut Silent)?;
//! println!("{} % as integers", exported.integer_accuracy);
//! # Ok::<(), copriv_train::TrainError>(())
//! ```
#![forbid(unsafe_code)]

pub mod bits;
mod checkpoint;
pub mod compare;
pub mod data;
mod device;
mod error;
pub mod fit;
mod fixed;
pub mod hessian;
mod lower;
pub mod net;
mod pipeline;
pub mod prune;
pub mod quant;
pub mod recipe;
pub mod rewrite;
pub mod run;
mod search;
pub mod weights;

pub use checkpoint::{Checkpoint, Stage};
pub use data::Dataset;
pub use device::Processor;
pub use error::TrainError;
pub use fit::{Distill, Metrics, Progress, Silent};
pub use fixed::fixed_point;
pub use lower::{integer_graph, integer_model, structure};
pub use net::Arch;
pub use pipeline::{
    Evaluation, ExportConfig, Exported, Merge, QuantStage, TrainConfig, evaluate, export, integer_logits,
    merge, train, untrained,
};
pub use prune::{
    Communication, Limit, PruneConfig, Pruned, PrunedBlock, Ranking, prune, prune_by_masks, prune_to, senet,
    snl,
};
pub use quant::QuantConfig;
pub use recipe::{Precision, Recipe};
pub use run::RunFolder;
