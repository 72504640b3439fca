//! From an integer model to a two-party program, priced to the byte.
//!
//! [`Plan::new`] lowers a [`copriv_model::Graph`] to [`Step`]s: which protocol runs, in which
//! ring, on how many elements. `copriv-infer2pc` executes exactly these steps, and
//! [`Plan::predict`] gives the bytes and rounds that it will send, per layer and phase -
//! *equal* to the measured ones, which the tests of `copriv-infer2pc` check.
//!
//! The structure that both need (digits of a comparison, the order of a product's OTs) lives
//! here, so that the engine and the price cannot drift apart.
#![forbid(unsafe_code)]

pub mod architectures;
pub mod baseline;
mod choice;
pub mod comparison;
pub mod cost;
mod error;
pub mod linear;
pub mod literature;
mod lower;
pub mod network;
pub mod ot;
pub mod price;
mod rings;
pub mod step;
pub mod traffic;
mod uses;

pub use choice::{Choice, Preset};
pub use comparison::Forest;
pub use cost::Cost;
pub use error::PlanError;
pub use linear::Product;
pub use network::{Network, Objective};
pub use ot::Flavour;
pub use price::{Forecast, LayerPrice, Prediction};
pub use step::{Plan, Step, StepId, StepKind};
pub use traffic::{Flow, Traffic};
pub use uses::{Use, UseKind};
