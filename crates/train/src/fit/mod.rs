//! The training loop, shared by training, pruning search, finetuning and QAT.

mod evaluate;
mod loss;
mod progress;
mod schedule;
mod step;

use std::time::Instant;

use crate::TrainError;
use crate::checkpoint::{Checkpoint, Stage};
use crate::data::{Dataset, gather};
use crate::net::{Network, Weights};
use crate::prune::GateSearch;
use crate::quant::Fake;
use crate::recipe::Recipe;
use crate::rewrite::fold_norms;
use burn::tensor::Device;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

pub use evaluate::{accuracy, argmax, logits, top};
pub use loss::{Distill, cross_entropy, divergence, mixed_cross_entropy};
pub use progress::{Metrics, Progress, Silent};
pub use schedule::{Rates, Schedule};
use step::{Sgd, Shard, step};

/// One stage of training.
pub(crate) struct Job<'a> {
    /// Name of the stage in `metrics.csv`.
    pub label: &'static str,
    /// What to train, and where from.
    pub start: &'a Checkpoint,
    /// Whom to listen to.
    pub teacher: Option<(&'a Checkpoint, Distill)>,
    /// Gates to search, if any.
    pub gates: Option<&'a mut GateSearch>,
    /// How.
    pub recipe: &'a Recipe,
    /// Return the state that validates best, the start included, instead of the last one.
    pub keep_best: bool,
    /// Randomness of order and augmentation.
    pub seed: u64,
}

/// Trains and returns the checkpoint after the last, or the best, epoch.
pub(crate) fn fit(
    mut job: Job<'_>,
    data: &Dataset,
    progress: &mut dyn Progress,
) -> Result<Checkpoint, TrainError> {
    let recipe = job.recipe;
    recipe.check()?;
    if recipe.ema > 0.0 {
        return Err(TrainError::config("ema", "this loop keeps no moving average yet"));
    }
    let graph = &job.start.graph;
    if graph.input_shape() != data.shape() || graph.outputs() != data.classes.len() {
        return Err(TrainError::graph(
            "input",
            format!(
                "{} takes {:?} and has {} classes, but {} holds images of {:?} in {} classes",
                graph.arch,
                graph.input_shape(),
                graph.outputs(),
                data.name,
                data.shape(),
                data.classes.len()
            ),
        ));
    }
    let device = Device::flex();
    let quant = job.start.quant.as_ref();
    let fake = quant.map(|spec| Fake::new(graph, spec, data.pixels, &device)).transpose()?;
    let teacher =
        job.teacher.map(|(checkpoint, distill)| teacher(checkpoint, distill, &device)).transpose()?;
    let mut network = Network::new(graph, &job.start.weights, &device.clone().autodiff())?;
    let mut sgd = Sgd::new(recipe)?;

    let steps = data.train.len().div_ceil(recipe.batch);
    let total = steps * recipe.epochs;
    let rates = recipe.rates(steps);
    let mut rng = ChaCha8Rng::seed_from_u64(job.seed);
    let mut order: Vec<usize> = (0..data.train.len()).collect();
    let mut checkpoint = job.start.clone();
    let mut best = if job.keep_best { validate(&checkpoint, data, None)? } else { f64::NEG_INFINITY };
    let mut kept = checkpoint.clone();
    progress.start(job.label, total as u64);
    for epoch in 0..recipe.epochs {
        let began = Instant::now();
        order.shuffle(&mut rng);
        let (mut loss, mut right) = (0.0, 0);
        for (i, indices) in order.chunks(recipe.batch).enumerate() {
            let at = epoch * steps + i;
            let seed = job.seed.wrapping_add(1 + epoch as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
            let size = indices.len().div_ceil(recipe.shards);
            let shards: Vec<Shard> = indices
                .chunks(size)
                .map(|part| Shard {
                    batch: gather(&data.train, part, data.pixels, recipe.augment, seed),
                    share: 1.0 / indices.len() as f64,
                })
                .collect();
            let gates = job.gates.as_deref_mut();
            let outcome;
            (network, outcome) = step(
                network,
                &mut sgd,
                rates.at(at),
                &shards,
                fake.as_ref(),
                teacher.as_ref(),
                gates,
                recipe,
            );
            loss += outcome.loss * indices.len() as f64;
            right += outcome.right;
            progress.advance(1);
        }
        let count = data.train.len() as f64;
        let loss = loss / count;
        checkpoint.weights = network.weights();
        let diverged = || TrainError::Diverged { stage: job.label.to_owned(), epoch: epoch + 1, loss };
        if !loss.is_finite() || !checkpoint.weights.is_finite() {
            return Err(diverged());
        }
        // Huge parameters overflow only once their norms are folded.
        let accuracy = validate(&checkpoint, data, job.gates.as_deref()).map_err(|e| match e {
            TrainError::Tensor { .. } => diverged(),
            other => other,
        })?;
        let row = Metrics {
            stage: job.label.to_owned(),
            epoch: epoch + 1,
            loss,
            train_accuracy: 100.0 * right as f64 / count,
            accuracy,
            seconds: began.elapsed().as_secs_f64(),
        };
        progress.metrics(&row)?;
        progress.checkpoint(&checkpoint, accuracy >= best)?;
        if accuracy >= best {
            best = accuracy;
            kept.weights = checkpoint.weights.clone();
        }
    }
    progress.finish();
    Ok(if job.keep_best { kept } else { checkpoint })
}

/// Validation accuracy in percent, with the gates as they stand.
fn validate(checkpoint: &Checkpoint, data: &Dataset, gates: Option<&GateSearch>) -> Result<f64, TrainError> {
    let open;
    let graph = match gates {
        Some(gates) => {
            open = gates.apply(&checkpoint.graph)?;
            &open
        }
        None => &checkpoint.graph,
    };
    let quant = checkpoint.quant.as_ref();
    let z = logits(graph, &checkpoint.weights, quant, &data.validation, data.pixels)?;
    Ok(accuracy(&z, &data.validation.labels))
}

/// A network that is only asked.
pub(crate) struct Teacher {
    network: Network,
    distill: Distill,
}

fn teacher(checkpoint: &Checkpoint, distill: Distill, device: &Device) -> Result<Teacher, TrainError> {
    if checkpoint.stage == Stage::Quantised {
        return Err(TrainError::Stage {
            found: checkpoint.stage.name(),
            wanted: "a teacher is a float network",
        });
    }
    let (graph, weights): (_, Weights) = fold_norms(&checkpoint.graph, &checkpoint.weights)?;
    Ok(Teacher { network: Network::new(&graph, &weights, device)?, distill })
}
