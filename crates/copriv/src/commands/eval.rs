//! `copriv eval`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use copriv_model::file;
use copriv_train::data::{self, Images};
use copriv_train::{evaluate, fit, integer_logits};
use serde::Serialize;

use crate::cli;
use crate::report::write_json;

/// What `--json` holds.
#[derive(Serialize)]
struct Outcome {
    network: String,
    dataset: String,
    images: usize,
    /// Percent predicted correctly.
    accuracy: f64,
    /// Percent whose label is among the five largest logits.
    top5: f64,
}

pub fn run(args: &cli::Eval) -> Result<()> {
    let dataset = data::load(&args.data.dataset, &args.data.data_dir)?;
    ensure!(args.images != Some(0), "--images must be at least 1");
    let images = args.images.map_or_else(|| dataset.test.clone(), |n| dataset.test.sample(n));
    let integers = args.network.checkpoint.as_deref().filter(|path| path.is_dir());
    let (network, logits) = match integers {
        Some(folder) => (folder.display().to_string(), integers_say(folder, &images)?),
        None => {
            let checkpoint = args.network.load(&dataset)?;
            let evaluation = evaluate(&checkpoint, &images)?;
            let wide = |row: Vec<f32>| row.into_iter().map(f64::from).collect();
            (checkpoint.graph.arch, evaluation.logits.into_iter().map(wide).collect())
        }
    };
    let percent = |k| 100.0 * fit::top(&logits, &images.labels, k) as f64 / images.len().max(1) as f64;
    let outcome = Outcome {
        network,
        dataset: dataset.name,
        images: images.len(),
        accuracy: percent(1),
        top5: percent(5),
    };
    if args.json.as_deref() != Some(Path::new("-")) {
        say!(
            "{} on {}: {:.2} % of {} test images, {:.2} % among the first five",
            outcome.network,
            outcome.dataset,
            outcome.accuracy,
            outcome.images,
            outcome.top5
        );
    }
    args.json.as_ref().map_or(Ok(()), |path| write_json(&outcome, path))
}

/// An integer model's logits, by the plaintext executor.
fn integers_say(folder: &Path, images: &Images) -> Result<Vec<Vec<f64>>> {
    let model = file::load(folder).context("the integer model cannot be read")?;
    let wide = |row: Vec<i64>| row.into_iter().map(|v| v as f64).collect();
    Ok(integer_logits(&model, images)?.into_iter().map(wide).collect())
}
