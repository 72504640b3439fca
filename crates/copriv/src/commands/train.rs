//! `copriv train`.

use std::path::Path;

use anyhow::Result;
use copriv_train::Checkpoint;
use copriv_train::data::Dataset;
use copriv_train::recipe::library;
use copriv_train::{Arch, TrainConfig, evaluate};
use serde::Serialize;

use super::training::{Arguments, in_folder};
use crate::cli;
use crate::report::write_json;

/// What `--json` holds.
#[derive(Serialize)]
struct Outcome<'a> {
    run: &'a Path,
    /// Percent of the validation split.
    validation_accuracy: f64,
}

pub fn run(args: &cli::Train) -> Result<()> {
    let new = args.run.resume.is_none().then(|| arguments(args)).transpose()?;
    let folder = match &args.run.resume {
        Some(folder) => folder.clone(),
        None => args.run.folder("train", &args.arch, &args.data.dataset),
    };
    let accuracy = in_folder(&folder, new, args.run.max_minutes, |arguments, run| {
        let dataset = arguments.load()?;
        let checkpoint = copriv_train::train(&arguments.config, &dataset, run)?;
        Ok(evaluate(&checkpoint, &dataset.validation)?.accuracy)
    })?;
    if args.run.json.as_deref() != Some(Path::new("-")) {
        say!("{accuracy:.1} % of the validation images; the run lies in {}", folder.display());
    }
    args.run
        .json
        .as_ref()
        .map_or(Ok(()), |path| write_json(&Outcome { run: &folder, validation_accuracy: accuracy }, path))
}

/// What the command line asks for, resolved and checked before anything is written.
fn arguments(args: &cli::Train) -> Result<Arguments<TrainConfig>> {
    let mut config = library::resolve(&args.data.dataset, &args.arch, args.recipe.as_deref(), &args.set)?;
    config.recipe.epochs = args.epochs.unwrap_or(config.recipe.epochs);
    config.recipe.batch = args.batch.unwrap_or(config.recipe.batch);
    config.weights = args.foreign.weights.clone().or(config.weights);
    config.normalisation = args.foreign.normalisation().or(config.normalisation);
    config.device = args.run.device;
    config.teacher = args.teacher.clone().or(config.teacher);
    config.seed = args.run.seed.unwrap_or(config.seed);
    Arch::parse(&config.arch)?;
    let arguments = Arguments::new(&args.data.dataset, &args.data.data_dir, config)?;
    arguments.load()?;
    Ok(arguments)
}

/// Trains into a run folder.
pub fn train(config: &TrainConfig, dataset: &Dataset, folder: &Path) -> Result<Checkpoint> {
    Arch::parse(&config.arch)?;
    let arguments = Arguments::new(&dataset.name, Path::new("data"), config.clone())?;
    in_folder(folder, Some(arguments), None, |_, run| Ok(copriv_train::train(config, dataset, run)?))
}
