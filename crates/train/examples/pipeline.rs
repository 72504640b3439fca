//! The whole training side on the embedded data: train, prune half of the blocks, export both
//! networks; accuracies and seconds of every stage as a table.
//!
//! ```text
//! cargo run --release -p copriv-train --example pipeline -- [SEED]
//! ```

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

fn main() -> Result<(), TrainError> {
    let seed = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let data = data::load(data::EMBEDDED, Path::new("data"))?;
    let began = Instant::now();
    let timed = |what: &str, since: Instant| println!("{what}: {:.1} s", since.elapsed().as_secs_f64());

    let at = Instant::now();
    let float = train(&TrainConfig { seed, ..TrainConfig::default() }, &data, &mut Lines)?;
    timed("train", at);
    report("float", &float, &data)?;

    let at = Instant::now();
    let savings = rectifiers(&float)?;
    let pruned = prune(&PruneConfig { seed, ..PruneConfig::default() }, &float, &data, &savings, &mut Lines)?;
    timed("prune", at);
    for block in &pruned.blocks {
        println!("  {} keep {} alpha {:.3} saving {:.0}", block.name, block.keep, block.alpha, block.saving);
    }
    report("pruned", &pruned.checkpoint, &data)?;

    for (name, checkpoint) in [("unpruned", &float), ("pruned and merged", &pruned.checkpoint)] {
        let at = Instant::now();
        let exported =
            export(&ExportConfig { seed, ..ExportConfig::default() }, checkpoint, &data, &mut Lines)?;
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
