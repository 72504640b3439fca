//! Arguments.

mod data;
mod integers;
mod network;
mod parties;
mod pricing;
mod prune;
mod terms;
mod training;
mod values;

use clap::{Parser, Subcommand};

pub use data::{Data, DataCommand, DataVerb};
pub use integers::{Bits, BitsMethod, BitsOf, Check, Export};
pub use network::{Foreign, Network};
pub use parties::{PrivateEval, Query, Serve};
pub use pricing::{Explain, Plan, Reproduce, Reproduction};
pub use prune::{Compare, MaskBy, Prune, PruneMethod};
pub use terms::{ChoiceArgs, MemoryArgs, PresetArg, TermsArgs, TileWidths};
pub use training::{Demo, Eval, Run, Train};

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
