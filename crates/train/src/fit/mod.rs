//! The training loop, shared by training, pruning search, finetuning and QAT.

mod descent;
mod evaluate;
mod learner;
mod loss;
mod progress;
mod state;

use std::time::{Duration, Instant};

use burn::tensor::Device;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::TrainError;
use crate::checkpoint::Checkpoint;
use crate::data::{Dataset, gather};
use crate::device::Processor;
use crate::net::Weights;
use crate::quant::{QuantConfig, ScaleLearning, Scales};
use crate::recipe::{Precision, Recipe};
use crate::search::Search;

pub use evaluate::{accuracy, argmax, logits, top};
pub use learner::{Learner, StepOutcome};
pub use loss::{Distill, cross_entropy, divergence, feature_distance, mixed_cross_entropy};
pub use progress::{Advance, Metrics, Progress, Silent, StageView};
pub use state::{Position, State};

/// A state is kept at least so often.
const KEEP_EVERY: Duration = Duration::from_secs(600);

/// One stage of training.
pub(crate) struct Job<'a> {
    /// Name of the stage in `metrics.csv`.
    pub label: &'static str,
    /// What to train, and where from.
    pub start: &'a Checkpoint,
    /// Whom to listen to.
    pub teacher: Option<(&'a Checkpoint, Distill)>,
    /// Learn the scales of a quantised network, chosen from these settings, too.
    pub scales: Option<(&'a QuantConfig, ScaleLearning)>,
    /// What to search for meanwhile, if anything.
    pub search: Option<&'a mut Search>,
    /// How.
    pub recipe: &'a Recipe,
    /// Where.
    pub device: Processor,
    /// Return the state that validates best, the start included, instead of the last one.
    pub keep_best: bool,
    /// Randomness of order and augmentation.
    pub seed: u64,
}

/// Trains and returns the checkpoint after the last, or the best, epoch. Goes on from the state
/// that `progress` has of this stage, if any; a stage that is done returns at once.
pub(crate) fn fit(
    mut job: Job<'_>,
    data: &Dataset,
    progress: &mut dyn Progress,
) -> Result<Checkpoint, TrainError> {
    let recipe = job.recipe;
    recipe.check()?;
    check_shapes(job.start, data)?;
    if recipe.precision == Precision::Mixed && job.device == Processor::Cpu {
        return Err(TrainError::config("precision", "mixed is for GPUs: the CPU's kernels are single"));
    }
    let device = job.device.open()?;
    let mut learner = Learner::new(job.start, job.teacher, recipe, &device)?;
    let mut learned = 0.0;
    if let (Some((config, learning)), Some(spec)) = (&job.scales, &job.start.quant)
        && learning.rate > 0.0
    {
        learned = learning.until;
        let start = job.start;
        learner.learn_scales(Scales::new(&start.graph, spec, start.pixels, config, learning)?)?;
    }
    let spec_of = |learner: &Learner, logs: &Weights| match learner.scales() {
        Some(scales) if logs.iter().next().is_some() => scales.spec_of(logs).map(Some),
        _ => Ok(job.start.quant.clone()),
    };
    let images = data.train.len();
    let mut state = State::new(Position::new(job.label, images));
    if let Some(saved) = progress.resume(job.label)? {
        if saved.position.images != images || saved.position.search.is_some() != job.search.is_some() {
            return Err(TrainError::Resume {
                stage: job.label,
                reason: "it is of another run or data set".into(),
            });
        }
        if let (Some(search), Some(saved)) = (job.search.as_deref_mut(), &saved.position.search) {
            *search = saved.clone();
        }
        if saved.position.done {
            let quant = spec_of(&learner, &saved.scales[0])?;
            return Ok(Checkpoint { weights: saved.weights, quant, ..job.start.clone() });
        }
        let wrong = |e: TrainError| TrainError::Resume { stage: job.label, reason: e.to_string() };
        learner.restore(&saved).map_err(wrong)?;
        state = saved;
    } else if job.keep_best {
        state.position.best = Some(validate(job.start, data, None, &device)?);
        state.kept = job.start.weights.clone();
        state.kept_scales = learner.scales().map(|s| s.logs().clone()).unwrap_or_default();
    }

    let steps = images.div_ceil(recipe.batch);
    let rates = recipe.rates(steps);
    let frozen_from = (learned * (steps * recipe.epochs) as f64) as usize;
    let mut checkpoint = job.start.clone();
    let done = state.position.epoch * steps + state.position.step;
    progress.start(&StageView { label: job.label, epochs: recipe.epochs, steps, done });
    let mut kept_at = Instant::now();
    while state.position.epoch < recipe.epochs {
        let epoch = state.position.epoch;
        let before = state.position.seconds;
        let began = Instant::now();
        let seconds = || before + began.elapsed().as_secs_f64();
        let diverged =
            |loss: f64| TrainError::Diverged { stage: job.label.to_owned(), epoch: epoch + 1, loss };
        let order = order(images, job.seed, epoch);
        let batch_of = |indices: &[usize]| {
            gather(&data.train, indices, data.pixels, recipe.augment, epoch_seed(job.seed, epoch))
        };
        let mut chunks = order.chunks(recipe.batch).enumerate().skip(state.position.step).peekable();
        let mut ready = None;
        while let Some((i, indices)) = chunks.next() {
            let interrupted = progress.interrupted();
            if interrupted || kept_at.elapsed() > KEEP_EVERY {
                state.position.seconds = seconds();
                keep(&learner, job.search.as_deref(), &mut state, progress)?;
                kept_at = Instant::now();
            }
            if interrupted {
                progress.finish();
                return Err(TrainError::Interrupted { stage: job.label, epoch: epoch + 1 });
            }
            let batch = ready.take().map_or_else(|| batch_of(indices), Ok)?;
            if epoch * steps + i >= frozen_from {
                learner.freeze_scales()?;
            }
            let outcome =
                learner.searching_step(rates.at(epoch * steps + i), &batch, job.search.as_deref_mut());
            // A GPU still computes while the next batch is made; reading the loss waits for it.
            ready = chunks.peek().map(|(_, indices)| batch_of(indices)).transpose()?;
            let loss = f64::from(outcome.loss.into_scalar::<f32>());
            if !loss.is_finite() {
                return Err(diverged(loss));
            }
            let position = &mut state.position;
            position.loss += loss;
            position.right += outcome.right.into_scalar::<i64>() as u64;
            position.step = i + 1;
            progress.advance(&Advance {
                epoch,
                images: indices.len(),
                loss: loss / indices.len() as f64,
                seen: i * recipe.batch + indices.len(),
                right: position.right as usize,
            });
        }
        checkpoint.weights = learner.weights();
        checkpoint.quant = learner.spec_or(&job.start.quant);
        let loss = state.position.loss / images as f64;
        if !checkpoint.weights.is_finite() {
            return Err(diverged(loss));
        }
        // Huge parameters overflow only once their norms are folded.
        let accuracy = validate(&checkpoint, data, job.search.as_deref(), &device).map_err(|e| match e {
            TrainError::Tensor { .. } => diverged(loss),
            other => other,
        })?;
        let best = state.position.best.is_none_or(|best| accuracy >= best);
        progress.metrics(&Metrics {
            stage: job.label.to_owned(),
            epoch: epoch + 1,
            loss,
            train_accuracy: 100.0 * state.position.right as f64 / images as f64,
            accuracy,
            rate: rates.at(epoch * steps + steps - 1),
            seconds: seconds(),
        })?;
        progress.checkpoint(&checkpoint, best)?;
        if best {
            state.position.best = Some(accuracy);
            if job.keep_best {
                state.kept = checkpoint.weights.clone();
                state.kept_scales = learner.scales().map(|s| s.logs().clone()).unwrap_or_default();
            }
        }
        state.position =
            Position { epoch: epoch + 1, step: 0, loss: 0.0, right: 0, seconds: 0.0, ..state.position };
        if epoch + 1 < recipe.epochs {
            keep(&learner, job.search.as_deref(), &mut state, progress)?;
            kept_at = Instant::now();
        }
    }
    progress.finish();
    let mut scales = learner.scales().map(|s| s.logs().clone()).unwrap_or_default();
    if job.keep_best {
        checkpoint.weights = state.kept;
        scales = state.kept_scales;
        checkpoint.quant = spec_of(&learner, &scales)?;
    }
    let position = Position {
        done: true,
        optimizer_steps: (recipe.epochs * steps) as u64,
        search: job.search.map(|s| s.clone()),
        ..state.position
    };
    let [_, first, second] = Default::default();
    progress.keep(&State {
        weights: checkpoint.weights.clone(),
        scales: [scales, first, second],
        ..State::new(position)
    })?;
    Ok(checkpoint)
}

fn keep(
    learner: &Learner,
    search: Option<&Search>,
    state: &mut State,
    progress: &mut dyn Progress,
) -> Result<(), TrainError> {
    learner.save(state);
    state.position.search = search.cloned();
    progress.keep(state)
}

/// The training images in the order of an epoch.
fn order(images: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..images).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(epoch_seed(seed, epoch)));
    order
}

/// Seed of an epoch's order and augmentation.
fn epoch_seed(seed: u64, epoch: usize) -> u64 {
    seed.wrapping_add(1 + epoch as u64).wrapping_mul(0xd1b5_4a32_d192_ed03)
}

fn check_shapes(start: &Checkpoint, data: &Dataset) -> Result<(), TrainError> {
    let graph = &start.graph;
    if graph.input_shape() == data.shape() && graph.outputs() == data.classes.len() {
        return Ok(());
    }
    let reason = format!(
        "{} takes {:?} and has {} classes, but {} holds images of {:?} in {} classes",
        graph.arch,
        graph.input_shape(),
        graph.outputs(),
        data.name,
        data.shape(),
        data.classes.len()
    );
    Err(TrainError::graph("input", reason))
}

/// Validation accuracy in percent, with the search as it stands.
fn validate(
    checkpoint: &Checkpoint,
    data: &Dataset,
    search: Option<&Search>,
    device: &Device,
) -> Result<f64, TrainError> {
    let open;
    let graph = match search {
        Some(search) => {
            open = search.apply(&checkpoint.graph)?;
            &open
        }
        None => &checkpoint.graph,
    };
    let quant = checkpoint.quant.as_ref();
    let z = evaluate::logits_on(device, graph, &checkpoint.weights, quant, &data.validation, data.pixels)?;
    Ok(accuracy(&z, &data.validation.labels))
}
