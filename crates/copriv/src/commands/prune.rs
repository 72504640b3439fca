//! `copriv prune`.

use std::path::Path;

use anyhow::{Context, Result};
use copriv_plan::{Flavour, Plan};
use copriv_train::Checkpoint;
use copriv_train::RunFolder;
use copriv_train::data::{self, Dataset};
use copriv_train::evaluate;
use copriv_train::net::Graph;
use copriv_train::quant::QuantConfig;
use copriv_train::rewrite::{drop_rectifiers, fold_graph, merge_graph, mergeable};
use copriv_train::structure;
use copriv_train::{PruneConfig, Pruned, PrunedBlock};
use serde::Serialize;

use super::training::{Arguments, in_folder};
use crate::cli;
use crate::report::write_json;

/// Inferences of the session that a network is priced in: long enough for Ferret's iterations to
/// even out.
const SESSION: u64 = 32;

/// The network that a run starts from, in its folder.
const START: &str = "start.safetensors";

/// What `--json` holds.
#[derive(Serialize)]
struct Outcome<'a> {
    run: &'a Path,
    blocks: &'a [PrunedBlock],
    /// Percent of the validation split.
    validation_accuracy: f64,
}

pub fn run(args: &cli::Prune) -> Result<()> {
    let (folder, new, start) = match &args.run.resume {
        Some(folder) => (folder.clone(), None, None),
        None => {
            let start = args.network.load(&data::load(&args.data.dataset, &args.data.data_dir)?)?;
            let folder = args.run.folder("prune", &start.graph.arch, &args.data.dataset);
            (folder, Some(arguments(args)?), Some(start))
        }
    };
    let (blocks, accuracy) = in_folder(&folder, new, args.run.max_minutes, |arguments, run| {
        let dataset = arguments.load()?;
        let start = match start {
            Some(start) => start,
            None => Checkpoint::load(&folder.join(START))?,
        };
        let pruned = search(&arguments.config, &start, &dataset, run)?;
        Ok((pruned.blocks, evaluate(&pruned.checkpoint, &dataset.validation)?.accuracy))
    })?;
    if args.run.json.as_deref() != Some(Path::new("-")) {
        describe(&blocks)?;
        say!("{accuracy:.1} % of the validation images; the run lies in {}", folder.display());
    }
    let outcome = Outcome { run: &folder, blocks: &blocks, validation_accuracy: accuracy };
    args.run.json.as_ref().map_or(Ok(()), |path| write_json(&outcome, path))
}

/// What the command line asks for, resolved.
fn arguments(args: &cli::Prune) -> Result<Arguments<PruneConfig>> {
    let mut config = PruneConfig { budget: args.budget, ..PruneConfig::default() };
    config.device = args.run.device;
    config.seed = args.run.seed.unwrap_or(config.seed);
    config.search.epochs = args.search_epochs.unwrap_or(config.search.epochs);
    config.finetune.epochs = args.epochs.unwrap_or(config.finetune.epochs);
    Arguments::new(&args.data.dataset, &args.data.data_dir, config)
}

/// Prunes into a run folder.
pub fn prune(config: &PruneConfig, start: &Checkpoint, dataset: &Dataset, folder: &Path) -> Result<Pruned> {
    let arguments = Arguments::new(&dataset.name, Path::new("data"), config.clone())?;
    in_folder(folder, Some(arguments), None, |_, run| search(config, start, dataset, run))
}

/// Prunes with the planner's bytes in the loss. The folder keeps what the run starts from.
fn search(
    config: &PruneConfig,
    start: &Checkpoint,
    dataset: &Dataset,
    run: &mut RunFolder<'_>,
) -> Result<Pruned> {
    let savings = savings(start, &QuantConfig::default())?;
    start.save(&run.path().join(START))?;
    Ok(copriv_train::prune(config, start, dataset, &savings, run)?)
}

/// Prints what became of each block.
pub fn describe(blocks: &[PrunedBlock]) -> Result<()> {
    for block in blocks {
        say!(
            "{:>10}  alpha {:.2}  {:>7.3} MB less without ReLUs  {}",
            block.name,
            block.alpha,
            block.saving / 1e6,
            if block.keep { "keeps its ReLUs" } else { "merged" }
        );
    }
    Ok(())
}

/// `Comm_i(1) - Comm_i(0)` of every block, bytes an inference: what the whole network saves
/// when block `i` alone is freed, and merged if that is exact.
fn savings(start: &Checkpoint, quant: &QuantConfig) -> Result<Vec<f64>> {
    let price = |graph: &Graph| -> Result<f64> {
        let integers = structure(graph, &start.classes, start.pixels, quant)?;
        let plan = Plan::new(&integers, Flavour::Ferret.into())?;
        Ok(plan.predict_session(SESSION).total_bytes() as f64 / SESSION as f64)
    };
    let blocks = start.graph.blocks.len();
    let mergeable = mergeable(&start.graph)?;
    let before = price(&start.graph).context("the network cannot be priced")?;
    (0..blocks)
        .map(|freed| {
            let keep: Vec<bool> = (0..blocks).map(|i| i != freed).collect();
            let merge: Vec<bool> = (0..blocks).map(|i| i == freed && mergeable[i]).collect();
            let graph = merge_graph(&fold_graph(&drop_rectifiers(&start.graph, &keep)?), &merge)?;
            Ok(before - price(&graph)?)
        })
        .collect()
}
