//! `copriv train`.

use std::path::Path;

use anyhow::Result;
use copriv_train::Checkpoint;
use copriv_train::RunFolder;
use copriv_train::data::{self, Dataset};
use copriv_train::recipe::library;
use copriv_train::{Arch, TrainConfig, evaluate};
use serde::Serialize;

use crate::cli;
use crate::progress::Terminal;
use crate::report::write_json;

/// What `--json` holds.
#[derive(Serialize)]
struct Outcome<'a> {
    run: &'a Path,
    /// Percent of the validation split.
    validation_accuracy: f64,
}

pub fn run(args: &cli::Train) -> Result<()> {
    let dataset = data::load(&args.data.dataset, &args.data.data_dir)?;
    let mut config = library::resolve(&dataset.name, &args.arch, args.recipe.as_deref(), &args.set)?;
    config.recipe.epochs = args.epochs.unwrap_or(config.recipe.epochs);
    config.recipe.batch = args.batch.unwrap_or(config.recipe.batch);
    config.weights = args.foreign.weights.clone().or(config.weights);
    config.normalisation = args.foreign.normalisation().or(config.normalisation);
    config.teacher = args.teacher.clone().or(config.teacher);
    config.seed = args.run.seed.unwrap_or(config.seed);
    let folder = args.run.folder("train", &args.arch, &dataset.name);
    let checkpoint = train(&config, &dataset, &folder)?;
    let accuracy = evaluate(&checkpoint, &dataset.validation)?.accuracy;
    if args.run.json.as_deref() != Some(Path::new("-")) {
        say!("{accuracy:.1} % of the validation images; the run lies in {}", folder.display());
    }
    args.run
        .json
        .as_ref()
        .map_or(Ok(()), |path| write_json(&Outcome { run: &folder, validation_accuracy: accuracy }, path))
}

/// Trains into a run folder.
pub fn train(config: &TrainConfig, dataset: &Dataset, folder: &Path) -> Result<Checkpoint> {
    // Before anything is written.
    Arch::parse(&config.arch)?;
    let mut terminal = Terminal::default();
    let mut run = RunFolder::create(folder, config, &mut terminal)?;
    Ok(copriv_train::train(config, dataset, &mut run)?)
}
