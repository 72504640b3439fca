//! What a search keeps between two steps of training.

use serde::{Deserialize, Serialize};

use super::gates::GateSearch;
use super::lasso::Lasso;
use crate::TrainError;
use crate::net::Graph;

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
