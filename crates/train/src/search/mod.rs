//! What a search keeps between two steps of training: gates of blocks, or coefficients of single rectifiers.
//!
//! [`crate::prune`] says what is minimised.

mod gates;
mod lasso;

use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::net::Graph;

pub(crate) use gates::GateSearch;
pub(crate) use lasso::{Lasso, THRESHOLD};

/// A search beside the training of the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Search {
    /// Of blocks.
    Gates(GateSearch),
    /// Of channels or positions.
    Lasso(Lasso),
}

impl Search {
    /// The graph as the search stands.
    pub(crate) fn apply(&self, graph: &Graph) -> Result<Graph, TrainError> {
        match self {
            Self::Gates(gates) => gates.apply(graph),
            Self::Lasso(_) => Ok(graph.clone()),
        }
    }
}

/// What a search goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// See [`crate::PruneConfig::budget`].
    pub(crate) budget: f64,
    /// Weight of communication against the cross entropy.
    pub(crate) lambda: f64,
    /// Step, in units of the gradients' root mean square.
    pub(crate) rate: f64,
    /// Lead that a closed gate needs over an open one.
    pub(crate) hysteresis: f64,
}

/// Makes the network that keeps these blocks' rectifiers.
pub type Freeing<'a> = dyn Fn(&[bool]) -> Result<Graph, TrainError> + 'a;

/// What the caller's planner says of a network.
#[derive(Clone, Copy)]
pub struct Communication<'a> {
    /// `Comm_i(1) - Comm_i(0)` of every block in bytes.
    pub saving: &'a [f64],
    /// What the whole network may cost, in place of [`crate::PruneConfig::budget`].
    pub limit: Option<Limit<'a>>,
    /// The network in which only these blocks keep their rectifiers, in the form that is to be finetuned;
    /// without it, [`crate::free_blocks`].
    pub free: Option<&'a Freeing<'a>>,
}

/// A limit on the bytes of the whole network.
#[derive(Clone, Copy)]
pub struct Limit<'a> {
    /// Bytes by which the unpruned network exceeds it.
    pub excess: f64,
    /// Whether the network that keeps these blocks' rectifiers meets it.
    pub meets: &'a dyn Fn(&[bool]) -> Result<bool, TrainError>,
}

impl<'a> From<&'a [f64]> for Communication<'a> {
    fn from(saving: &'a [f64]) -> Self {
        Self { saving, limit: None, free: None }
    }
}
