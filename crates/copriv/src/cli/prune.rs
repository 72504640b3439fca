//! The arguments of `copriv prune`, and of `copriv compare`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use copriv_train::quant::WeightWidth;
use serde::{Deserialize, Serialize};

use super::values::{bytes, share};
use super::{Data, Network, Run, TermsArgs};

#[derive(Args, Debug)]
pub struct Prune {
    #[command(flatten)]
    pub network: Network,
    #[command(flatten)]
    pub data: Data,
    /// Share of the blocks that keep their ReLUs; with --method snl and senet, of all single ReLUs
    /// [default: 0.5]
    #[arg(long, value_parser = share, conflicts_with = "comm_limit")]
    pub budget: Option<f64>,
    /// Instead, most bytes that an inference of the whole network may cost, set-up aside: such as
    /// 2.2GB, 1.5MB; --objective says whether all of them or those online
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub comm_limit: Option<u64>,
    /// How it is found what goes
    #[arg(long, value_enum, default_value_t)]
    pub method: PruneMethod,
    /// Of what --method snl and senet make masks
    #[arg(long, value_enum, default_value_t)]
    pub by: MaskBy,
    /// Weight of communication against accuracy in --method comm: 1 gives both the same say, 0 searches
    /// without it [default: 1]
    #[arg(long, value_parser = lambda)]
    pub lambda: Option<f64>,
    /// No ReLU behind a block that has lost those inside
    #[arg(long)]
    pub no_activation: bool,
    /// A float checkpoint to distil from instead of the unpruned network
    #[arg(long)]
    pub teacher: Option<PathBuf>,
    /// Temperature of the distillation [default: 3]
    #[arg(long)]
    pub temperature: Option<f64>,
    /// Share of the teacher in the loss, 0 to 1; the rest is the labels' [default: 0.7]
    #[arg(long, value_parser = share)]
    pub soft: Option<f64>,
    /// Weight of the difference between the classifiers' inputs in the loss [default: 0]
    #[arg(long)]
    pub features: Option<f64>,
    /// Train on an even sample of so many training images only
    #[arg(long)]
    pub images: Option<usize>,
    /// Width of the weights that the export will have, 2 to 8, or ternary
    #[arg(long)]
    pub weight_bits: Option<WeightWidth>,
    /// Width of its activations
    #[arg(long)]
    pub act_bits: Option<u32>,
    /// Price CoPriv's fixed point of 41 bits instead of the export's widths
    #[arg(long, conflicts_with_all = ["weight_bits", "act_bits"])]
    pub fixed41: bool,
    #[command(flatten)]
    pub terms: TermsArgs,
    /// Search epochs
    #[arg(long)]
    pub search_epochs: Option<usize>,
    /// Finetuning epochs
    #[arg(long)]
    pub epochs: Option<usize>,
    #[command(flatten)]
    pub run: Run,
}

#[derive(Args, Debug)]
pub struct Compare {
    /// JSON of prunings
    #[arg(required = true)]
    pub outcomes: Vec<PathBuf>,
    /// Folder of the pictures
    #[arg(long)]
    pub out: PathBuf,
}

/// How blocks are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PruneMethod {
    /// A search with the planner's bytes in the loss
    #[default]
    Comm,
    /// Evenly over the depth, without a search
    Uniform,
    /// Whole stages, those first that the accuracy depends on least (DeepReDuce's culling)
    Deepreduce,
    /// Single ReLUs or channels of them, by a search with an L1 penalty (selective network linearisation)
    Snl,
    /// The same, by budgets for each layer after its sensitivity (SENet)
    Senet,
}

/// What masks are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MaskBy {
    /// Each position has or has no ReLU
    #[default]
    Pixel,
    /// Each channel
    Channel,
}

fn lambda(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if (0.0..=1e6).contains(&v) => Ok(v),
        _ => Err("a number of 0 or more is expected".into()),
    }
}
