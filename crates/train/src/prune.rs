//! Communication-aware pruning of rectifiers (CoPriv, NeurIPS 2023, section 4.2).
//!
//! Every inverted residual block has one `alpha`, shared by its rectifiers. The loss is
//!
//! ```text
//! L = CE + lambda * sum_i alpha_i * (Comm_i(1) - Comm_i(0)) / sum_j |Comm_j(1) - Comm_j(0)|
//! ```
//!
//! minimised under a fixed sum of the gates, since the budget `s` is given: what pulls all of them
//! alike is left out of the update, or every gate would end at the same limit.
//! Forward, the `s` blocks of largest `alpha` rectify and the others are linear; backward, a
//! rectifier is `alpha max(x, 0) + (1 - alpha) x`. The value of `alpha` is clamped to `[0, 1]`
//! after each update while its gradient is not masked, so no gate gets stuck at a limit, and a
//! closed gate replaces an open one only when it leads by a margin. `s` falls from all blocks
//! to its final value over the first half of the search.

use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::checkpoint::{Checkpoint, Stage};
use crate::data::Dataset;
use crate::device::Processor;
use crate::fit::{Distill, Job, Progress, fit};
use crate::net::{BlockState, Graph};
use crate::recipe::Recipe;
use crate::rewrite::drop_rectifiers;

/// How to prune.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PruneConfig {
    /// Share of the blocks that keep their rectifiers, rounded to whole blocks.
    pub budget: f64,
    /// Weight of communication in the loss.
    pub lambda: f64,
    /// Step of the gates, in units of their gradients' root mean square.
    pub gate_rate: f64,
    /// Lead that a closed gate needs over an open one.
    pub hysteresis: f64,
    /// Recipe of the search.
    pub search: Recipe,
    /// Recipe of the finetuning with frozen gates.
    pub finetune: Recipe,
    /// Distillation from the unpruned network, in both.
    pub distill: Distill,
    /// Where to train.
    pub device: Processor,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for PruneConfig {
    fn default() -> Self {
        Self {
            budget: 0.5,
            lambda: 0.3,
            gate_rate: 0.02,
            hysteresis: 0.02,
            search: Recipe { epochs: 2, rate: 0.02, warmup: 0.0, ..Recipe::default() },
            finetune: Recipe { epochs: 16, rate: 0.05, warmup: 0.25, ..Recipe::default() },
            distill: Distill::default(),
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
/// `comm_saving[i]` is `Comm_i(1) - Comm_i(0)` of block `i` in bytes.
///
/// # Errors
/// A checkpoint that is not plain float, settings out of range, or a diverging run.
pub fn prune(
    config: &PruneConfig,
    start: &Checkpoint,
    data: &Dataset,
    comm_saving: &[f64],
    progress: &mut dyn Progress,
) -> Result<Pruned, TrainError> {
    if start.stage != Stage::Float {
        return Err(TrainError::Stage {
            found: start.stage.name(),
            wanted: "pruning starts from a float one",
        });
    }
    let blocks = &start.graph.blocks;
    if comm_saving.len() != blocks.len() || comm_saving.iter().any(|s| !s.is_finite()) {
        return Err(TrainError::config(
            "communication saved",
            format!("one finite number for each of {} blocks is needed", blocks.len()),
        ));
    }
    if !(0.0..=1.0).contains(&config.budget) {
        return Err(TrainError::config("budget", format!("{} is not a share of 0 to 1", config.budget)));
    }
    let keep = (config.budget * blocks.len() as f64).round() as usize;
    let steps = config.search.epochs * data.train.len().div_ceil(config.search.batch.max(1));
    let mut gates = GateSearch::new(comm_saving, keep, steps, config);
    let teacher = Some((start, config.distill));
    let searched = fit(
        Job {
            label: "search",
            start,
            teacher,
            gates: Some(&mut gates),
            recipe: &config.search,
            device: config.device,
            keep_best: false,
            seed: config.seed,
        },
        data,
        progress,
    )?;
    gates.settle();
    let freed = Checkpoint { stage: Stage::Pruned, graph: gates.apply(&start.graph)?, ..searched };
    let recipe = &config.finetune;
    let seed = config.seed.wrapping_add(1);
    let checkpoint = fit(
        Job {
            label: "finetune",
            start: &freed,
            teacher,
            gates: None,
            recipe,
            device: config.device,
            keep_best: false,
            seed,
        },
        data,
        progress,
    )?;
    let blocks = blocks
        .iter()
        .enumerate()
        .map(|(i, block)| PrunedBlock {
            name: block.name.clone(),
            keep: gates.open[i],
            alpha: f64::from(gates.alpha[i]),
            saving: comm_saving[i],
        })
        .collect();
    Ok(Pruned { checkpoint, blocks })
}

/// The state of the search: a gate for each block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GateSearch {
    alpha: Vec<f32>,
    velocity: Vec<f64>,
    /// Mean square of the gates' gradients, averaged over time.
    power: f64,
    open: Vec<bool>,
    /// Gradient of the communication term.
    pull: Vec<f64>,
    keep: usize,
    step: usize,
    /// Steps over which `s` falls.
    closing: usize,
    rate: f64,
    hysteresis: f32,
}

/// Decay of the averages over time.
const INERTIA: f64 = 0.9;

impl GateSearch {
    fn new(saving: &[f64], keep: usize, steps: usize, config: &PruneConfig) -> Self {
        let n = saving.len();
        let total: f64 = saving.iter().map(|s| s.abs()).sum();
        let share = |s: &f64| if total > 0.0 { s / total } else { 0.0 };
        Self {
            alpha: vec![0.5; n],
            velocity: vec![0.0; n],
            power: 0.0,
            open: vec![true; n],
            pull: saving.iter().map(|s| config.lambda * share(s)).collect(),
            keep: keep.min(n),
            step: 0,
            closing: steps / 2,
            rate: config.gate_rate,
            hysteresis: config.hysteresis as f32,
        }
    }

    /// Current gates.
    pub(crate) fn alpha(&self) -> &[f32] {
        &self.alpha
    }

    /// Which blocks rectify.
    pub(crate) fn open(&self) -> &[bool] {
        &self.open
    }

    /// The graph with the gates as they stand.
    pub(crate) fn apply(&self, graph: &Graph) -> Result<Graph, TrainError> {
        drop_rectifiers(graph, &self.open)
    }

    /// One update from the gradient of the cross entropy.
    pub(crate) fn update(&mut self, gradient: &[f32]) {
        let n = self.alpha.len().max(1) as f64;
        let mut total: Vec<f64> = gradient.iter().zip(&self.pull).map(|(g, p)| f64::from(*g) + p).collect();
        // The multiplier of the budget: what all gates want alike decides nothing.
        let common = total.iter().sum::<f64>() / n;
        total.iter_mut().for_each(|g| *g -= common);
        let power = total.iter().map(|g| g * g).sum::<f64>() / n;
        self.step += 1;
        self.power = INERTIA * self.power + (1.0 - INERTIA) * power;
        let unbiased = self.power / (1.0 - INERTIA.powi(self.step.min(1000) as i32));
        let unit = self.rate / (unbiased.sqrt() + 1e-12);
        for ((alpha, velocity), g) in self.alpha.iter_mut().zip(&mut self.velocity).zip(&total) {
            *velocity = INERTIA * *velocity + (1.0 - INERTIA) * g;
            *alpha = (*alpha - (unit * *velocity) as f32).clamp(0.0, 1.0);
        }
        let closed = (n as usize - self.keep) * self.step / self.closing.max(1);
        self.select(self.alpha.len() - closed.min(self.alpha.len() - self.keep));
    }

    /// The final choice.
    fn settle(&mut self) {
        self.select(self.keep);
    }

    /// Leaves `s` gates open: those of largest alpha, except that a challenger needs a lead.
    fn select(&mut self, s: usize) {
        let count = |open: &[bool]| open.iter().filter(|o| **o).count();
        let lowest_open = |this: &Self| this.extreme(true, |a, b| a < b);
        let highest_closed = |this: &Self| this.extreme(false, |a, b| a > b);
        while count(&self.open) > s {
            let Some(i) = lowest_open(self) else { break };
            self.open[i] = false;
        }
        while count(&self.open) < s {
            let Some(i) = highest_closed(self) else { break };
            self.open[i] = true;
        }
        while let (Some(out), Some(into)) = (lowest_open(self), highest_closed(self)) {
            if self.alpha[into] <= self.alpha[out] + self.hysteresis {
                break;
            }
            self.open[out] = false;
            self.open[into] = true;
        }
    }

    /// Among the open or the closed gates the one that beats all others; among equals, the one
    /// whose block saves more is the smaller.
    fn extreme(&self, open: bool, beats: impl Fn((f32, f64), (f32, f64)) -> bool) -> Option<usize> {
        let key = |i: usize| (self.alpha[i], -self.pull[i]);
        (0..self.alpha.len())
            .filter(|&i| self.open[i] == open)
            .reduce(|best, i| if beats(key(i), key(best)) { i } else { best })
    }
}

/// Names of the blocks without rectifiers.
pub fn freed_blocks(graph: &Graph) -> Vec<String> {
    graph.blocks.iter().filter(|b| b.state != BlockState::Kept).map(|b| b.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(saving: &[f64], keep: usize, lambda: f64) -> GateSearch {
        GateSearch::new(saving, keep, 40, &PruneConfig { lambda, gate_rate: 0.05, ..PruneConfig::default() })
    }

    #[test]
    fn the_gates_that_the_loss_wants_stay_open() {
        let mut gates = search(&[1.0; 4], 2, 0.0);
        for _ in 0..60 {
            gates.update(&[-0.3, 0.1, -0.2, 0.05]);
        }
        assert_eq!(gates.open, [true, false, true, false]);
        assert!(gates.alpha.iter().all(|a| (0.0..=1.0).contains(a)));
    }

    #[test]
    fn communication_decides_among_equals() {
        let mut gates = search(&[5.0, 1.0, 9.0, 2.0], 2, 0.1);
        for _ in 0..60 {
            gates.update(&[0.01; 4]);
        }
        assert_eq!(gates.open, [false, true, false, true]);
    }

    #[test]
    fn no_gate_is_stuck_at_a_limit() {
        let mut gates = search(&[1.0; 2], 1, 0.0);
        gates.alpha = vec![0.0, 1.0];
        gates.open = vec![false, true];
        for _ in 0..200 {
            gates.update(&[-0.1, 0.1]);
        }
        assert_eq!(gates.alpha, [1.0, 0.0]);
        assert_eq!(gates.open, [true, false]);
    }

    #[test]
    fn a_small_lead_changes_nothing() {
        let mut gates = search(&[1.0; 2], 1, 0.0);
        gates.select(1);
        let before = gates.open.clone();
        let closed = gates.open.iter().position(|o| !o).unwrap();
        gates.alpha[closed] = 0.5 + gates.hysteresis / 2.0;
        gates.select(1);
        assert_eq!(gates.open, before);
        gates.alpha[closed] = 0.5 + gates.hysteresis * 2.0;
        gates.select(1);
        assert!(gates.open[closed]);
    }
}
