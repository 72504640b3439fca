//! The arguments of `copriv demo`, `train` and `eval`, and of every run.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use copriv_train::Processor;

use super::values::minutes;
use super::{Data, Foreign, Network};

#[derive(Args, Debug)]
pub struct Demo {
    /// Folder for checkpoints, models and the report
    #[arg(long, default_value = "runs/demo")]
    pub out: PathBuf,
    /// Images to evaluate privately
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,
    /// Seed of all training
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A shortened form for tests: little training, so little accuracy
    #[arg(long)]
    pub quick: bool,
    /// Also write the report as JSON; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Train {
    #[command(flatten)]
    pub data: Data,
    /// Architecture: mbv2-tiny, mbv2-wW with a width W such as mbv2-w0.75, resnet18, 20, 32, 44, 50, 56 (an
    /// `a` behind for option-A shortcuts), minionn
    #[arg(long, default_value = "mbv2-tiny")]
    pub arch: String,
    /// Recipe (TOML) [default: the built-in one for this data set and architecture]
    #[arg(long)]
    pub recipe: Option<PathBuf>,
    /// Change any field of the recipe, such as recipe.rate=0.05; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub foreign: Foreign,
    /// A float checkpoint to distil from
    #[arg(long)]
    pub teacher: Option<PathBuf>,
    /// Epochs: short for --set recipe.epochs=N
    #[arg(long)]
    pub epochs: Option<usize>,
    /// Images a step: short for --set recipe.batch=N
    #[arg(long)]
    pub batch: Option<usize>,
    #[command(flatten)]
    pub run: Run,
}

#[derive(Args, Debug)]
pub struct Eval {
    /// The network; the folder of an integer model will do, too
    #[command(flatten)]
    pub network: Network,
    #[command(flatten)]
    pub data: Data,
    /// Only so many images: an even sample
    #[arg(long)]
    pub images: Option<usize>,
    /// Also write the result as JSON; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// Where a run goes.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// Seed [default: the recipe's]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Device to train on; `copriv devices` lists what works
    #[arg(long, default_value_t)]
    pub device: Processor,
    /// Run folder [default: runs/COMMAND-ARCH-DATASET]
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Go on with the run in this folder, exactly as if it had never stopped; all other settings
    /// are those that it was started with
    #[arg(long, value_name = "DIR", conflicts_with_all = ["seed", "out"])]
    pub resume: Option<PathBuf>,
    /// Stop after so many minutes, with exit status 3, to be gone on with by --resume
    #[arg(long, value_name = "M", value_parser = minutes)]
    pub max_minutes: Option<Duration>,
    /// Also write the result as JSON; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
}

impl Run {
    /// The folder asked for, or `runs/{command}-{arch}-{dataset}`.
    pub fn folder(&self, command: &str, arch: &str, dataset: &str) -> PathBuf {
        let default = || PathBuf::from("runs").join(format!("{command}-{arch}-{dataset}"));
        self.out.clone().unwrap_or_else(default)
    }
}
