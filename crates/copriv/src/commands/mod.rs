//! One module a command.

mod bits;
mod check;
mod compare;
mod data;
mod demo;
mod devices;
mod eval;
mod explain;
mod export;
mod plan;
mod private_eval;
mod prune;
mod query;
mod reproduce;
mod serve;
mod train;
mod training;

use anyhow::Result;

use crate::cli::{Cli, Command};

pub use prune::outcome::Outcome;
pub use training::Unfinished;

/// Runs what the command line asks for.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Devices => devices::run(),
        Command::Train(args) => train::run(&args),
        Command::Prune(args) => prune::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Data(args) => data::run(&args.what),
        Command::Eval(args) => eval::run(&args),
        Command::Bits(args) => bits::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Export(args) => export::run(&args),
        Command::PrivateEval(args) => private_eval::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Reproduce(args) => reproduce::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Query(args) => query::run(&args),
    }
}
