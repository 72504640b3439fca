use copriv_model::ModelError;

/// Why a model cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The model itself is invalid.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// No protocol covers this operator.
    #[error("layer `{node}`: {reason}")]
    Unsupported {
        /// The layer.
        node: String,
        /// What is missing, and what to do.
        reason: String,
    },
}
