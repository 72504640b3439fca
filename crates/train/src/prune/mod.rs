//! Communication-aware pruning of rectifiers (CoPriv, NeurIPS 2023, section 4.2).
//!
//! Every inverted residual block has one `alpha`, shared by its rectifiers. The loss is
//!
//! ```text
//! L = CE + lambda * c * sum_i alpha_i * (Comm_i(1) - Comm_i(0)) / d
//! ```
//!
//! where `d` is the standard deviation of what is multiplied by the gates, and `c` that of the gates' gradients
//! of the cross entropy, averaged over the last steps: at `lambda = 1` bytes and accuracy have the
//! same say in every network, however large its gradients. (In CoPriv `lambda` is absolute; those gradients
//! differ between networks by orders of magnitude.) It is minimised under a fixed sum of the gates,
//! since the budget `s` is given: what pulls all of them alike is left out of the update, or every gate would
//! end at the same limit.
//! Forward, the `s` blocks of largest `alpha` rectify and the others are linear; backward, a
//! rectifier is `alpha max(x, 0) + (1 - alpha) x`. The value of `alpha` is clamped to `[0, 1]`
//! after each update while its gradient is not masked, so no gate gets stuck at a limit, and a
//! closed gate replaces an open one only when it leads by a margin. `s` falls from all blocks
//! to its final value over the first half of the search.
//!
//! With a limit of bytes ([`Limit`]) what must be closed is not a number of gates but a sum of savings;
//! since savings of neighbours do not add up exactly, the planner has the last word once the search
//! has ended.
//!
//! Beside it, what others do: [`snl`] and [`senet`] choose channels or positions of every rectifier.

mod ranking;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::checkpoint::{Checkpoint, Stage};
use crate::data::Dataset;
use crate::device::Processor;
use crate::fit::{Distill, Job, Progress, fit};
use crate::net::{Block, Graph};
use crate::recipe::Recipe;
use crate::rewrite::{Masks, drop_rectifiers, mask_rectifiers, rectify_behind, spare_outer_rectifiers};
use crate::search::{GateSearch, Rule, Search};

pub use crate::search::{Communication, Freeing, Limit};
pub use ranking::{Ranking, senet, snl};

/// How to prune.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PruneConfig {
    /// Share of the blocks that keep their rectifiers, rounded to whole blocks; in [`snl`] and [`senet`], of
    /// all positions of all rectifiers.
    pub budget: f64,
    /// One rectifier behind each freed block: see [`rectify_behind`].
    pub activation: bool,
    /// Masks by the position, not by the channel.
    pub pixels: bool,
    /// Weight of communication against the cross entropy in the choice of blocks.
    pub lambda: f64,
    /// Step of the gates, in units of their gradients' root mean square.
    pub gate_rate: f64,
    /// Lead that a closed gate needs over an open one.
    pub hysteresis: f64,
    /// Recipe of the search.
    pub search: Recipe,
    /// Recipe of the finetuning with frozen gates.
    pub finetune: Recipe,
    /// Distillation, in both.
    pub distill: Distill,
    /// A float checkpoint to distil from instead of the unpruned network (self-distillation).
    pub teacher: Option<PathBuf>,
    /// Where to train.
    pub device: Processor,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for PruneConfig {
    fn default() -> Self {
        Self {
            budget: 0.5,
            activation: true,
            pixels: true,
            lambda: 1.0,
            gate_rate: 0.02,
            hysteresis: 0.02,
            search: Recipe { epochs: 2, rate: 0.02, warmup: 0.0, ..Recipe::default() },
            finetune: Recipe { epochs: 16, rate: 0.05, warmup: 0.25, ..Recipe::default() },
            distill: Distill::default(),
            teacher: None,
            device: Processor::default(),
            seed: 0,
        }
    }
}

/// A pruned network and how it came about.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// The network, finetuned, its freed blocks not merged yet.
    pub checkpoint: Checkpoint,
    /// By block.
    pub blocks: Vec<PrunedBlock>,
}

/// What the search decided about a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrunedBlock {
    /// Its name.
    pub name: String,
    /// Whether it keeps its rectifiers.
    pub keep: bool,
    /// Its gate after the search.
    pub alpha: f64,
    /// What freeing it saves, bytes per inference, as given by the caller.
    pub saving: f64,
}

/// Searches the blocks that lose their rectifiers and finetunes what is left.
///
/// # Errors
/// A checkpoint that is not plain float, settings out of range, a limit that even a network without
/// rectifiers in its blocks exceeds, or a diverging run.
pub fn prune(
    config: &PruneConfig,
    start: &Checkpoint,
    data: &Dataset,
    comm: Communication<'_>,
    progress: &mut dyn Progress,
) -> Result<Pruned, TrainError> {
    check(config, start, comm.saving)?;
    let mut search = Search::Gates(GateSearch::new(&comm, config.search_steps(data), config.rule()));
    let teacher = config.teacher(start)?;
    let mut spared = start.clone();
    if config.activation {
        spared.graph = spare_outer_rectifiers(&start.graph)?;
    }
    let job = config.search_job(&spared, &teacher);
    let searched = fit(Job { search: Some(&mut search), ..job }, data, progress)?;
    let Search::Gates(mut gates) = search else {
        return Err(TrainError::Resume { stage: "search", reason: "it searches for no blocks".into() });
    };
    gates.settle(comm.limit)?;
    let searched = Checkpoint { graph: start.graph.clone(), ..searched };
    finish(config, start, &searched, data, (gates.open(), gates.alpha(), comm), progress)
}

/// Finetunes what is left when exactly the blocks of `keep` keep their rectifiers: the second half of
/// [`prune`], for selections that were found otherwise.
///
/// # Errors
/// As [`prune`].
pub fn prune_to(
    config: &PruneConfig,
    start: &Checkpoint,
    data: &Dataset,
    keep: &[bool],
    comm: Communication<'_>,
    progress: &mut dyn Progress,
) -> Result<Pruned, TrainError> {
    check(config, start, comm.saving)?;
    let alpha: Vec<f32> = keep.iter().map(|&k| f32::from(u8::from(k))).collect();
    finish(config, start, start, data, (keep, &alpha, comm), progress)
}

/// Finetunes what is left of `searched` when each rectifier rectifies where its mask says.
///
/// # Errors
/// As [`prune`], or masks that do not fit.
pub fn prune_by_masks(
    config: &PruneConfig,
    start: &Checkpoint,
    searched: &Checkpoint,
    data: &Dataset,
    masks: &Masks,
    progress: &mut dyn Progress,
) -> Result<Checkpoint, TrainError> {
    let graph = mask_rectifiers(&searched.graph, masks)?;
    finetune(config, start, &Checkpoint { graph, stage: Stage::Pruned, ..searched.clone() }, data, progress)
}

/// The network in which only the blocks of `keep` rectify inside; with `activation`, the others do behind.
///
/// # Errors
/// Not one answer for every block.
pub fn free_blocks(graph: &Graph, keep: &[bool], activation: bool) -> Result<Graph, TrainError> {
    let freed: Vec<bool> = keep.iter().map(|k| !k).collect();
    let graph = if activation { &rectify_behind(graph, &freed)? } else { graph };
    drop_rectifiers(graph, keep)
}

impl PruneConfig {
    fn rule(&self) -> Rule {
        let Self { budget, lambda, gate_rate, hysteresis, .. } = *self;
        Rule { budget, lambda, rate: gate_rate, hysteresis }
    }

    fn search_steps(&self, data: &Dataset) -> usize {
        self.search.epochs * data.train.len().div_ceil(self.search.batch.max(1))
    }

    /// The stage of the search, distilled, before it is said what is searched.
    fn search_job<'a>(&'a self, start: &'a Checkpoint, teacher: &'a Checkpoint) -> Job<'a> {
        Job {
            label: "search",
            start,
            teacher: Some((teacher, self.distill)),
            scales: None,
            search: None,
            recipe: &self.search,
            device: self.device,
            keep_best: false,
            seed: self.seed,
        }
    }

    /// Whom to distil from.
    fn teacher(&self, start: &Checkpoint) -> Result<Checkpoint, TrainError> {
        self.teacher.as_deref().map_or_else(|| Ok(start.clone()), Checkpoint::load)
    }
}

fn check_start(config: &PruneConfig, start: &Checkpoint) -> Result<(), TrainError> {
    if start.stage != Stage::Float {
        return Err(TrainError::Stage {
            found: start.stage.name(),
            wanted: "pruning starts from a float one",
        });
    }
    if !(0.0..=1.0).contains(&config.budget) {
        return Err(TrainError::config("budget", format!("{} is not a share of 0 to 1", config.budget)));
    }
    Ok(())
}

fn check(config: &PruneConfig, start: &Checkpoint, saving: &[f64]) -> Result<(), TrainError> {
    check_start(config, start)?;
    let blocks = start.graph.blocks.len();
    if saving.len() != blocks || saving.iter().any(|s| !s.is_finite()) {
        return Err(TrainError::config(
            "communication saved",
            format!("one finite number for each of {blocks} blocks is needed"),
        ));
    }
    Ok(())
}

fn finish(
    config: &PruneConfig,
    start: &Checkpoint,
    searched: &Checkpoint,
    data: &Dataset,
    (keep, alpha, comm): (&[bool], &[f32], Communication<'_>),
    progress: &mut dyn Progress,
) -> Result<Pruned, TrainError> {
    let graph = match comm.free {
        Some(free) => free(keep)?,
        None => free_blocks(&start.graph, keep, config.activation)?,
    };
    let freed = Checkpoint { stage: Stage::Pruned, graph, ..searched.clone() };
    let checkpoint = finetune(config, start, &freed, data, progress)?;
    let block = |(i, block): (usize, &Block)| PrunedBlock {
        name: block.name.clone(),
        keep: keep[i],
        alpha: f64::from(alpha[i]),
        saving: comm.saving[i],
    };
    Ok(Pruned { checkpoint, blocks: start.graph.blocks.iter().enumerate().map(block).collect() })
}

fn finetune(
    config: &PruneConfig,
    start: &Checkpoint,
    freed: &Checkpoint,
    data: &Dataset,
    progress: &mut dyn Progress,
) -> Result<Checkpoint, TrainError> {
    let teacher = config.teacher(start)?;
    let job = Job {
        label: "finetune",
        recipe: &config.finetune,
        seed: config.seed.wrapping_add(1),
        ..config.search_job(freed, &teacher)
    };
    fit(job, data, progress)
}
