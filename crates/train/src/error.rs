use std::path::PathBuf;

/// Why a data set, network, run or export cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// No architecture of this name.
    #[error("unknown architecture `{name}`; known are {known}")]
    Arch {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No data set of this name.
    #[error("unknown data set `{name}`; known are {known}")]
    Dataset {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A data set's file is absent or is not what it should be.
    #[error("data set {name}: {}: {reason}", path.display())]
    Data {
        /// The data set.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A setting outside its range, or settings that contradict each other.
    #[error("{setting}: {reason}")]
    Config {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it, and what would do.
        reason: String,
    },
    /// A network graph breaks a rule.
    #[error("layer `{node}`: {reason}")]
    Graph {
        /// The offending node.
        node: String,
        /// The rule and the figures that break it.
        reason: String,
    },
    /// A parameter is missing or has another shape than its layer.
    #[error("tensor `{tensor}`: {reason}")]
    Tensor {
        /// Its name in the checkpoint.
        tensor: String,
        /// What does not fit.
        reason: String,
    },
    /// Training went astray.
    #[error("{stage}, epoch {epoch}: training diverged (loss {loss}); lower the learning rate")]
    Diverged {
        /// Which part of the recipe.
        stage: String,
        /// Counted from 1.
        epoch: usize,
        /// The value seen.
        loss: f64,
    },
    /// Stopped on request; the state is kept.
    #[error("stopped in {stage}, epoch {epoch}")]
    Interrupted {
        /// Which part of the recipe.
        stage: &'static str,
        /// Counted from 1.
        epoch: usize,
    },
    /// A kept state that this run cannot go on from.
    #[error("the state of stage {stage} does not fit: {reason}")]
    Resume {
        /// Which part of the recipe.
        stage: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// A device that cannot be used.
    #[error("device {name}: {reason}")]
    Device {
        /// The device.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint of the wrong stage for what was asked.
    #[error("a {found} checkpoint; {wanted}")]
    Stage {
        /// What the checkpoint holds.
        found: &'static str,
        /// What the command takes.
        wanted: &'static str,
    },
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
    /// The integer model does not accept what was lowered.
    #[error("integer model: {0}")]
    Model(#[source] copriv_model::ModelError),
}

impl TrainError {
    pub(crate) fn graph(node: &str, reason: impl Into<String>) -> Self {
        Self::Graph { node: node.to_owned(), reason: reason.into() }
    }

    /// For a rectifier with an upper end.
    pub(crate) fn without_integers(node: &str) -> Self {
        Self::graph(
            node,
            "ReLU6 has no integer form; train on with plain ReLU: copriv train --arch mbv2-wW --weights FILE",
        )
    }

    pub(crate) fn tensor(tensor: &str, reason: impl Into<String>) -> Self {
        Self::Tensor { tensor: tensor.to_owned(), reason: reason.into() }
    }

    pub(crate) fn data(name: &str, path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Data { name: name.to_owned(), path: path.into(), reason: reason.into() }
    }

    pub(crate) fn config(setting: &'static str, reason: impl Into<String>) -> Self {
        Self::Config { setting, reason: reason.into() }
    }

    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn format(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Format { path: path.into(), reason: reason.into() }
    }
}

/// A file is a file, whoever wrote it.
impl From<copriv_model::ModelError> for TrainError {
    fn from(error: copriv_model::ModelError) -> Self {
        match error {
            copriv_model::ModelError::Io { path, source } => Self::Io { path, source },
            other => Self::Model(other),
        }
    }
}
