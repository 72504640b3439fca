//! The arguments of `copriv bits`, `export` and `check`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use copriv_train::quant::WeightWidth;
use copriv_train::{Merge, Processor};
use serde::{Deserialize, Serialize};

use super::values::{bytes, merge};
use super::{Data, Network, Run, TermsArgs};

#[derive(Args, Debug)]
pub struct Bits {
    #[command(flatten)]
    pub network: Network,
    #[command(flatten)]
    pub data: Data,
    /// Most bytes an inference may cost, set-up aside: such as 0.9GB, 1.5MB, 800kB
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub comm_limit: u64,
    /// What has a width of its own in every layer
    #[arg(long, value_enum, default_value_t = BitsOf::Weights)]
    pub layers: BitsOf,
    /// How widths are chosen
    #[arg(long, value_enum, default_value_t = BitsMethod::Hessian)]
    pub method: BitsMethod,
    /// Most probes of the curvature
    #[arg(long, default_value_t = 100)]
    pub probes: usize,
    /// Training images that the curvature is of: an even sample
    #[arg(long, default_value_t = 512)]
    pub images: usize,
    /// Keeps the curvature in this file, and reads it from there if it was measured before, on the same
    /// network: for several limits
    #[arg(long, value_name = "FILE")]
    pub curvature: Option<PathBuf>,
    /// Width of the activations that have none of their own, 2 to 8
    #[arg(long)]
    pub act_bits: Option<u32>,
    /// Device for the curvature; `copriv devices` lists what works
    #[arg(long, default_value_t)]
    pub device: Processor,
    /// Seed of the probes
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    #[command(flatten)]
    pub terms: TermsArgs,
    /// File of the chosen widths, for `copriv export --bits`
    #[arg(long, default_value = "bits.toml")]
    pub out: PathBuf,
    /// Also write the result as JSON; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What has a width of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BitsOf {
    /// Weights, 2, 3, 4 or 8 bits
    Weights,
    /// Rectified activations, too, 2 to 8 bits
    #[value(name = "weights+activations")]
    WeightsAndActivations,
}

/// How widths are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BitsMethod {
    /// Least curvature times rounding error, by the planner's bytes
    Hessian,
    /// One width for all
    Uniform,
    /// As hessian, but by weight bits x input bits x multiplications instead of bytes
    Macs,
}

#[derive(Args, Debug)]
pub struct Export {
    #[command(flatten)]
    pub network: Network,
    #[command(flatten)]
    pub data: Data,
    /// Stages of quantisation-aware training, widths, distillation: a file such as
    /// recipes/quantise/progressive.toml
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Width of the weights, 2 to 8, or ternary; first and last layer have 8
    #[arg(long)]
    pub weight_bits: Option<WeightWidth>,
    /// Width of the activations, 2 to 8
    #[arg(long)]
    pub act_bits: Option<u32>,
    /// Width of the residual stream, 4 to 16
    #[arg(long)]
    pub residual_bits: Option<u32>,
    /// Widths of every layer, as `copriv bits` wrote them
    #[arg(long, conflicts_with_all = ["weight_bits", "act_bits", "residual_bits"])]
    pub bits: Option<PathBuf>,
    /// Freed blocks that become one convolution: all, none, or names, as `copriv prune` prints them
    #[arg(long, value_name = "BLOCKS", default_value = "all", value_parser = merge)]
    pub merge: Merge,
    /// Accumulators as narrow as the real weights allow: fewer bytes, but a bound on the weights
    /// of each layer becomes public
    #[arg(long)]
    pub tight_accumulators: bool,
    /// Post-training quantisation: no training at all
    #[arg(long, conflicts_with_all = ["recipe", "epochs"])]
    pub ptq: bool,
    /// Epochs of quantisation-aware training at the final widths
    #[arg(long)]
    pub epochs: Option<usize>,
    /// Instead of an integer model, write the float weights with PyTorch's names (safetensors) to the
    /// file --out
    #[arg(long, requires = "out")]
    pub pytorch: bool,
    #[command(flatten)]
    pub run: Run,
}

#[derive(Args, Debug)]
pub struct Check {
    /// Folder of an exported model
    pub model: PathBuf,
    #[command(flatten)]
    pub data: Data,
    /// Images to evaluate privately: an even sample of the test split
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,
    /// Images for the other networks [default: the whole test split]
    #[arg(long)]
    pub test_images: Option<usize>,
    #[command(flatten)]
    pub terms: TermsArgs,
    /// Also write the comparison as JSON; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
}
