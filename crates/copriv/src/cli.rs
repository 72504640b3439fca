//! Arguments.

mod prune;
mod terms;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use copriv_train::quant::WeightWidth;
use copriv_train::weights::{self, Normalisation};
use copriv_train::{Checkpoint, Dataset, Merge, Processor, TrainError};

pub use prune::{Compare, MaskBy, Prune, PruneMethod};
pub use terms::{ChoiceArgs, MemoryArgs, PresetArg, TermsArgs, TileWidths};

/// Train a classifier that is cheap under secure two-party computation, and deploy it that way.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Start with `copriv demo`: it trains, prunes, merges, quantises and privately evaluates a small model."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All of it on a small model, in a few minutes
    #[command(after_help = "Example: copriv demo --json report.json")]
    Demo(Demo),
    /// Train a network
    #[command(after_help = "Example: copriv train --arch mbv2-tiny --out runs/tiny")]
    Train(Train),
    /// Remove the ReLUs of some blocks of a trained network, and finetune it
    #[command(after_help = "Example: copriv prune runs/tiny/best.safetensors --budget 0.5 --out runs/pruned")]
    Prune(Prune),
    /// Compare prunings of one network: tables, pictures and a page of what copriv prune --json wrote
    #[command(after_help = "Example: copriv compare comm.json snl.json senet.json --out runs/compared")]
    Compare(Compare),
    /// List, check or fetch data sets
    #[command(after_help = "Example: copriv data fetch cifar10 --data-dir data")]
    Data(DataCommand),
    /// Accuracy of a network on the test images
    #[command(
        after_help = "Example: copriv eval --weights resnet32-cifar10.th --arch resnet32a --dataset cifar10"
    )]
    Eval(Eval),
    /// Choose a width for every layer under a limit of bytes, by the loss's curvature
    #[command(
        after_help = "Example: copriv bits runs/tiny/best.safetensors --comm-limit 1.5MB --out bits.toml"
    )]
    Bits(Bits),
    /// Merge freed blocks, quantise, and write an integer model
    #[command(
        visible_alias = "quantize",
        after_help = "Example: copriv export runs/pruned/best.safetensors --out models/tiny\n         copriv quantize runs/pruned/best.safetensors --ptq --weight-bits 8 --out models/tiny"
    )]
    Export(Export),
    /// Compare float, fake-quantised, integer and private values of an exported model, layer by layer
    #[command(after_help = "Example: copriv check models/tiny --images 2")]
    Check(Check),
    /// Evaluate an integer model privately, by two processes, and compare with the executor
    #[command(after_help = "Example: copriv private-eval models/tiny --images 20")]
    PrivateEval(PrivateEval),
    /// Show an integer model before and after the planner, with the bytes of each step
    #[command(after_help = "Example: copriv explain models/tiny")]
    Explain(Explain),
    /// Reproduce the papers' tables: their figures beside this project's
    #[command(after_help = "Example: copriv reproduce tables --json tables.json")]
    Reproduce(Reproduce),
    /// Price a model or a named architecture, layer by layer, under one preset or several
    #[command(
        after_help = "Example: copriv plan resnet32 --bits W4A6 --preset privquant,copriv,copriv-ng --net wan"
    )]
    Plan(Plan),
    /// List the devices that training can use
    Devices,
    /// Serve an integer model: the model owner's side
    #[command(after_help = "Example: copriv serve models/tiny --listen 127.0.0.1:7100")]
    Serve(Serve),
    /// Have images classified by a server: the data owner's side
    #[command(after_help = "Example: copriv query --connect 127.0.0.1:7100 shirt.png")]
    Query(Query),
}

/// Which images.
#[derive(Args, Clone, Debug)]
pub struct Data {
    /// Data set: fashion-mini (embedded), cifar10, cifar100, mnist, fashion-mnist, folder or folder-SIDE
    #[arg(long, default_value = copriv_train::data::EMBEDDED)]
    pub dataset: String,
    /// Folder that holds the data sets that are not embedded
    #[arg(long, default_value = "data")]
    pub data_dir: PathBuf,
}

#[derive(Args, Debug)]
pub struct DataCommand {
    #[command(subcommand)]
    pub what: DataVerb,
}

#[derive(Debug, Subcommand)]
pub enum DataVerb {
    /// The data sets, and whether they are there
    #[command(after_help = "Example: copriv data list")]
    List(DataDir),
    /// Checksums, layout and labels of a data set
    #[command(after_help = "Example: copriv data check cifar10")]
    Check {
        /// Data set
        name: String,
        #[command(flatten)]
        dir: DataDir,
    },
    /// Bring a data set; a download that broke off is gone on with
    #[command(after_help = "Example: copriv data fetch cifar10 --from cifar-10-binary.tar.gz")]
    Fetch {
        /// Data set
        name: String,
        /// An address or a local path of the archive, or of the folder with the files [default: the publisher's]
        #[arg(long)]
        from: Option<String>,
        #[command(flatten)]
        dir: DataDir,
    },
}

/// Where data sets lie.
#[derive(Args, Clone, Debug)]
pub struct DataDir {
    /// Folder that holds the data sets
    #[arg(long, default_value = "data")]
    pub data_dir: PathBuf,
}

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
    /// Architecture: mbv2-tiny, or mbv2-wW with a width W such as mbv2-w0.75
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
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

#[derive(Args, Debug)]
pub struct PrivateEval {
    /// Folder of an integer model
    pub model: PathBuf,
    #[command(flatten)]
    pub data: Data,
    /// Images to evaluate: an even sample of the test split
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,
    #[command(flatten)]
    pub terms: TermsArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Widths of Winograd's tile positions
    #[arg(long, value_enum, default_value_t)]
    pub tile_widths: TileWidths,
    /// Also write a page with a chart
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Also write the report as JSON; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Explain {
    /// Folder of an integer model; its weights are not needed
    pub model: PathBuf,
    #[command(flatten)]
    pub terms: TermsArgs,
    /// Also write the steps as JSON; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Reproduce {
    /// What to reproduce
    pub what: Reproduction,
    /// Also write the rows as JSON; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// What can be reproduced without training.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Reproduction {
    /// Bytes of CoPriv's and PrivQuant's tables
    Tables,
    /// CoPriv's table 4: blocks of MobileNetV2 that bring its bytes below the printed ones
    Pruning,
}

#[derive(Args, Debug)]
pub struct Plan {
    /// Folder of an integer model, or the name of an architecture (resnet32, mbv2-w0.75, ...)
    pub model: String,
    /// Weight and activation bits of an architecture, W4A6 for example; without them CoPriv's fixed
    /// point of 41 bits
    #[arg(long, value_parser = bits)]
    pub bits: Option<(u32, u32)>,
    /// Whose protocols to price
    #[arg(long = "preset", value_enum, value_delimiter = ',', default_value = "copriv-ng")]
    pub presets: Vec<PresetArg>,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// Widths of Winograd's tile positions
    #[arg(long, value_enum, default_value_t)]
    pub tile_widths: TileWidths,
    /// Inferences of a session: they share its set-up, and with Ferret its iterations
    #[arg(long, default_value_t = 32)]
    pub inferences: u32,
    /// Also write the tables as JSON; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Also run so many inferences, both parties in this process, with random inputs (and random
    /// weights for an architecture), and compare outputs, bytes and rounds
    #[arg(long, value_name = "N")]
    pub run: Option<u32>,
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Also draw the bytes of every layer into this folder, one SVG a preset
    #[arg(long, value_name = "FOLDER")]
    pub svg: Option<PathBuf>,
}

impl Plan {
    /// The terms under which a preset is priced.
    pub fn terms(&self, preset: PresetArg) -> TermsArgs {
        TermsArgs { preset, choice: self.choice, ..TermsArgs::default() }
    }
}

#[derive(Args, Debug)]
pub struct Serve {
    /// Folder of an integer model
    pub model: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:7100")]
    pub listen: SocketAddr,
    /// Widths of Winograd's tile positions
    #[arg(long, value_enum, default_value_t)]
    pub tile_widths: TileWidths,
    /// End after one client
    #[arg(long)]
    pub once: bool,
    /// Folder in which set-ups are kept, so that a client sets up once
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    #[command(flatten)]
    pub memory: MemoryArgs,
}

#[derive(Args, Debug)]
pub struct Query {
    /// The server's address
    #[arg(long, default_value = "127.0.0.1:7100")]
    pub connect: SocketAddr,
    /// Image files (PNG or WebP); without any, images of a data set's test split
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub data: Data,
    /// Images of the data set
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub images: u32,
    #[command(flatten)]
    pub terms: TermsArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Folder in which the set-up is kept for later queries to this server
    #[arg(long, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    /// Write a line of JSON for each image and one for the session; `-` is standard output
    #[arg(long)]
    pub json: Option<PathBuf>,
}

fn bits(text: &str) -> Result<(u32, u32), String> {
    let widths = text.strip_prefix('W').and_then(|t| t.split_once('A'));
    let widths = widths.and_then(|(w, a)| Some((w.parse().ok()?, a.parse().ok()?)));
    widths.ok_or_else(|| "widths look like W4A6".to_owned())
}

/// A number and `GB`, `MB`, `kB`, `B` or nothing; decimal, as the papers count.
fn bytes(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "GB" => 1e9,
        "MB" => 1e6,
        "kB" => 1e3,
        "B" | "" => 1.0,
        _ => return Err(format!("the unit {unit} is none of GB, MB, kB and B")),
    };
    match number.trim().parse::<f64>() {
        Ok(v) if v > 0.0 && v * unit < 1e18 => Ok((v * unit) as u64),
        _ => Err("a size such as 0.9GB is expected".into()),
    }
}

fn merge(text: &str) -> Result<Merge, String> {
    Ok(match text {
        "all" => Merge::All,
        "none" => Merge::None,
        names => Merge::Only(names.split(',').map(str::to_owned).collect()),
    })
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if (0.0..=1.0).contains(&v) => Ok(v),
        _ => Err("a share between 0 and 1 is expected".into()),
    }
}

fn minutes(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|v: f64| Duration::try_from_secs_f64(v * 60.0).ok())
        .ok_or_else(|| "a number of minutes is expected".into())
}
