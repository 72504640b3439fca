use std::path::PathBuf;

/// Why a model cannot be built, read, written or run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The graph breaks a rule of the format.
    #[error("layer `{node}`: {reason}")]
    Graph {
        /// Name of the offending node.
        node: String,
        /// The rule and the figures that break it.
        reason: String,
    },
    /// A layer's weights do not fit its public description.
    #[error("weights of layer `{node}`: {reason}")]
    Weights {
        /// Name of the offending node.
        node: String,
        /// What does not fit.
        reason: String,
    },
    /// An input of the wrong length or range.
    #[error("model input: {0}")]
    Input(String),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
}

impl ModelError {
    pub(crate) fn graph(node: &str, reason: impl Into<String>) -> Self {
        Self::Graph { node: node.to_owned(), reason: reason.into() }
    }

    pub(crate) fn weights(node: &str, reason: impl Into<String>) -> Self {
        Self::Weights { node: node.to_owned(), reason: reason.into() }
    }
}
