//! The arguments that name a network.

use std::path::PathBuf;

use clap::Args;
use copriv_train::weights::{self, Normalisation};
use copriv_train::{Checkpoint, Dataset, TrainError};

/// A network: a checkpoint, or foreign weights of a known architecture.
#[derive(Args, Clone, Debug)]
pub struct Network {
    /// A checkpoint
    #[arg(conflicts_with = "weights")]
    pub checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub foreign: Foreign,
    /// Architecture of the weights
    #[arg(long, requires = "weights")]
    pub arch: Option<String>,
}

/// Weights from elsewhere.
#[derive(Args, Clone, Debug)]
pub struct Foreign {
    /// Weights of another program: a PyTorch state dict (.pt, .pth, .th) or safetensors
    #[arg(long)]
    pub weights: Option<PathBuf>,
    /// Means of the colours that the weights expect [default: the file's, else ImageNet's]
    #[arg(long, value_delimiter = ',', requires_all = ["weights", "std"])]
    pub mean: Vec<f64>,
    /// Standard deviations, likewise
    #[arg(long, value_delimiter = ',', requires_all = ["weights", "mean"])]
    pub std: Vec<f64>,
}

impl Foreign {
    /// What the weights expect, if it was said.
    pub fn normalisation(&self) -> Option<Normalisation> {
        let given = Normalisation { mean: self.mean.clone(), std: self.std.clone() };
        (!self.mean.is_empty()).then_some(given)
    }
}

impl Network {
    /// Loads whichever was named.
    pub fn load(&self, dataset: &Dataset) -> Result<Checkpoint, TrainError> {
        match (&self.checkpoint, &self.foreign.weights) {
            (Some(path), _) => Checkpoint::load(path),
            (None, Some(file)) => {
                let arch = self.arch.as_deref().unwrap_or_default();
                weights::import(file, arch, dataset, self.foreign.normalisation().as_ref())
            }
            (None, None) => Err(TrainError::Config {
                setting: "network",
                reason: "name a checkpoint, or --weights and --arch".into(),
            }),
        }
    }
}
