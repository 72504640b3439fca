//! The whole training side on the embedded data: train, prune half of the blocks, export both
//! networks; accuracies and seconds of every stage as a table.
//!
//! ```text
//! cargo run --release -p copriv-train --example pipeline -- [SEED [SETTINGS]]
//! ```
//!
//! `SETTINGS` is JSON such as `{"train": {"recipe": {"epochs": 5}}, "export": {"calibration": 64}}`.

use std::path::Path;
use std::time::Instant;

use copriv_train::{
    Checkpoint, Dataset, ExportConfig, Metrics, Progress, PruneConfig, TrainConfig, TrainError, data,
    evaluate, export, prune, train,
};

struct Lines;

impl Progress for Lines {
    fn metrics(&mut self, row: &Metrics) -> Result<(), TrainError> {
        println!(
            "{:>9} {:>3}  loss {:.4}  train {:5.2} %  validation {:5.2} %  {:5.1} s",
            row.stage, row.epoch, row.loss, row.train_accuracy, row.accuracy, row.seconds
        );
        Ok(())
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    train: TrainConfig,
    prune: PruneConfig,
    export: ExportConfig,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed = std::env::args().nth(1).map_or(Ok(0), |s| s.parse())?;
    let settings: Settings =
        std::env::args().nth(2).map_or(Ok(Settings::default()), |s| serde_json::from_str(&s))?;
    let data = data::load(data::EMBEDDED, Path::new("data"))?;
    let began = Instant::now();
    let timed = |what: &str, since: Instant| println!("{what}: {:.1} s", since.elapsed().as_secs_f64());

    let at = Instant::now();
    let float = train(&TrainConfig { seed, ..settings.train }, &data, &mut Lines)?;
    timed("train", at);
    report("float", &float, &data)?;

    let at = Instant::now();
    let savings = rectifiers(&float)?;
    let pruned =
        prune(&PruneConfig { seed, ..settings.prune }, &float, &data, savings.as_slice().into(), &mut Lines)?;
    timed("prune", at);
    for block in &pruned.blocks {
        println!("  {} keep {} alpha {:.3} saving {:.0}", block.name, block.keep, block.alpha, block.saving);
    }
    report("pruned", &pruned.checkpoint, &data)?;

    for (name, checkpoint) in [("unpruned", &float), ("pruned and merged", &pruned.checkpoint)] {
        let at = Instant::now();
        let exported =
            export(&ExportConfig { seed, ..settings.export.clone() }, checkpoint, &data, &mut Lines)?;
        println!(
            "{name}: test accuracy float {:.2} %, fake-quantised {:.2} %, integer {:.2} %",
            exported.float_accuracy, exported.fake_quant_accuracy, exported.integer_accuracy
        );
        timed("export", at);
    }
    timed("everything", began);
    Ok(())
}

fn report(name: &str, checkpoint: &Checkpoint, data: &Dataset) -> Result<(), TrainError> {
    let graph = &checkpoint.graph;
    println!(
        "{name}: test accuracy {:.2} %, {} parameters, {:.2} MMAC, {} rectifiers",
        evaluate(checkpoint, &data.test)?.accuracy,
        checkpoint.weights.parameters(),
        graph.macs()? as f64 / 1e6,
        graph.relu_count()?
    );
    Ok(())
}

/// Rectifiers of every block: a stand-in for the planner's bytes.
fn rectifiers(checkpoint: &Checkpoint) -> Result<Vec<f64>, TrainError> {
    let graph = &checkpoint.graph;
    let shapes = graph.shapes()?;
    let count = |name: &String| Ok(shapes[graph.find(name)?].iter().product::<usize>() as f64);
    graph.blocks.iter().map(|block| block.relus.iter().map(count).sum()).collect()
}
