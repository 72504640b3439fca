//! What a person or a program reads at the end: tables, JSON, a page with charts.

pub mod chart;
mod curves;
mod html;
mod page;
pub mod pareto;
mod pruning;
pub mod selection;
mod table;

use std::path::Path;

use anyhow::{Context, Result};
use copriv_model::file::write_whole;
use copriv_plan::{Flavour, LayerPrice, Prediction, Preset, Traffic};
use serde::Serialize;

pub use curves::curves;
pub use html::page;
pub use pruning::{page as pruning_page, points as pruning_points, rows as pruning_rows};
pub use table::{evaluation_table, figures as table, summary_table};

use crate::private::Evaluation;

/// What the demo and `private-eval` report; `accuracy` in percent, bytes and rounds of one
/// inference.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Network and data set.
    pub title: String,
    /// In percent; what was not measured is absent.
    pub accuracy: Accuracy,
    /// Images evaluated privately.
    pub images: usize,
    /// Images whose private output differs from the executor's.
    pub mismatched_logits: usize,
    /// Whether the measured traffic equals the plan's.
    pub as_planned: bool,
    /// What made the random OTs.
    pub ot: Flavour,
    /// Whose protocols ran.
    pub preset: Preset,
    /// Payload of both directions.
    pub bytes: Bytes,
    /// Direction changes.
    pub rounds: Rounds,
    /// Wall time of an inference, both parties on this machine.
    pub seconds: Seconds,
    /// Activations (ReLUs and clamps behind them) in the network.
    pub relus: usize,
    /// The unpruned model, if there is one to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<Summary>>,
    /// By layer.
    pub layers: Vec<LayerPrice>,
}

/// Top-1 accuracy, percent.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Accuracy {
    /// The float network, on all test images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub float: Option<f64>,
    /// With fake quantisation, on all test images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fake_quant: Option<f64>,
    /// The plaintext integer executor, on all test images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integer: Option<f64>,
    /// The private evaluation, on the images evaluated.
    pub private: f64,
    /// The plaintext integer executor, on the same images.
    pub integer_same_images: f64,
}

/// Bytes of both directions; where inferences of a session differ, their mean.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bytes {
    /// Once a connection.
    pub setup: u64,
    /// One inference, before the input is known.
    pub offline: u64,
    /// One inference, after.
    pub online: u64,
}

/// Rounds of one inference.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rounds {
    /// Before the input is known.
    pub offline: u64,
    /// After.
    pub online: u64,
}

/// Seconds of one inference.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Seconds {
    /// Before the input is known.
    pub offline: f64,
    /// After.
    pub online: f64,
}

impl Summary {
    /// The figures of a private evaluation; plaintext accuracies are the caller's to add.
    pub fn new(title: &str, evaluation: &Evaluation, relus: usize) -> Self {
        let report = &evaluation.report;
        let inference = report.total.mean(report.inferences);
        let (offline, online) = (inference.offline(), inference.online());
        let each = |seconds: f64| seconds / report.inferences.max(1) as f64;
        Self {
            title: title.to_owned(),
            accuracy: Accuracy {
                private: evaluation.accuracy,
                integer_same_images: evaluation.integer_accuracy,
                ..Accuracy::default()
            },
            images: evaluation.images,
            mismatched_logits: evaluation.mismatched,
            as_planned: evaluation.as_planned,
            ot: evaluation.choice.flavour,
            preset: evaluation.choice.preset,
            bytes: Bytes { setup: report.setup.bytes(), offline: offline.bytes(), online: online.bytes() },
            rounds: Rounds { offline: offline.rounds, online: online.rounds },
            seconds: Seconds { offline: each(report.seconds[1]), online: each(report.seconds[2]) },
            relus,
            before: None,
            layers: inference.layers,
        }
    }

    /// Writes the JSON form to a file, or to standard output for `-`.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        write_json(self, path)
    }
}

/// Writes the file `name` of a folder: the whole or none.
pub fn write_into(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    write_whole(&path, text.as_bytes()).with_context(|| format!("{}", path.display()))
}

/// Writes `value` as JSON to a file, or to standard output for `-`.
pub fn write_json(value: &impl Serialize, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    if path == Path::new("-") {
        say!("{}", text.trim_end());
        return Ok(());
    }
    write_whole(path, text.as_bytes()).context("the JSON report cannot be written")
}

/// Layers joined by the part of their name before the first dot: a block each.
pub fn by_block(prediction: &[LayerPrice]) -> Vec<LayerPrice> {
    let mut blocks = Prediction::default();
    for layer in prediction {
        let name = layer.name.split_once('.').map_or(layer.name.as_str(), |(block, _)| block);
        let block = blocks.layer_mut(name);
        block.offline += layer.offline;
        block.online += layer.online;
    }
    blocks.layers
}

/// Megabytes (10^6).
pub fn mb(traffic: Traffic) -> f64 {
    traffic.bytes() as f64 / 1e6
}
