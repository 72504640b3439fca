//! The gates of a search by blocks: one `alpha` a block, and the choice of those that stay open.

use serde::{Deserialize, Serialize};

use super::{Communication, Limit, Rule};
use crate::TrainError;
use crate::net::Graph;
use crate::rewrite::drop_rectifiers;

/// The state of the search: a gate for each block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GateSearch {
    alpha: Vec<f32>,
    /// The gates' gradients, averaged over time.
    velocity: Vec<f64>,
    /// Their mean square, likewise.
    power: f64,
    open: Vec<bool>,
    /// Bytes that closing each gate saves: their distance from the mean, in standard deviations.
    pull: Vec<f64>,
    lambda: f64,
    /// What closing each gate counts: 1, or the bytes it saves.
    weight: Vec<f64>,
    /// What the closed gates must add up to in the end.
    needed: f64,
    step: usize,
    /// Steps over which `s` falls.
    closing: usize,
    rate: f64,
    hysteresis: f32,
}

/// Decay of the averages over time.
const INERTIA: f64 = 0.9;

impl GateSearch {
    pub(crate) fn new(comm: &Communication<'_>, steps: usize, rule: Rule) -> Self {
        let saving = comm.saving;
        let n = saving.len();
        let (weight, needed) = match comm.limit {
            Some(limit) => (saving.iter().map(|s| s.max(0.0)).collect(), limit.excess),
            None => (vec![1.0; n], n as f64 - (rule.budget * n as f64).round()),
        };
        let mean = saving.iter().sum::<f64>() / n.max(1) as f64;
        let spread = root_mean_square(saving.iter().map(|s| s - mean));
        Self {
            alpha: vec![0.5; n],
            velocity: vec![0.0; n],
            power: 0.0,
            open: vec![true; n],
            pull: saving.iter().map(|s| if spread > 0.0 { (s - mean) / spread } else { 0.0 }).collect(),
            lambda: rule.lambda,
            weight,
            needed,
            step: 0,
            closing: steps / 2,
            rate: rule.rate,
            hysteresis: rule.hysteresis as f32,
        }
    }

    /// A search whose gates stand elsewhere already.
    #[cfg(test)]
    pub(crate) fn standing_at(self, alpha: &[f32], open: &[bool]) -> Self {
        Self { alpha: alpha.to_vec(), open: open.to_vec(), ..self }
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
        // The multiplier of the budget: what all gates want alike decides nothing.
        let common = gradient.iter().map(|g| f64::from(*g)).sum::<f64>() / n;
        let gradient: Vec<f64> = gradient.iter().map(|g| f64::from(*g) - common).collect();
        let power = gradient.iter().map(|g| g * g).sum::<f64>() / n;
        self.step += 1;
        self.power = INERTIA * self.power + (1.0 - INERTIA) * power;
        let unbiased = self.power / (1.0 - INERTIA.powi(self.step.min(1000) as i32));
        let unit = self.rate / (unbiased.sqrt() + 1e-12);
        for (velocity, g) in self.velocity.iter_mut().zip(&gradient) {
            *velocity = INERTIA * *velocity + (1.0 - INERTIA) * g;
        }
        let weight = self.lambda * root_mean_square(self.velocity.iter().copied());
        for ((alpha, velocity), pull) in self.alpha.iter_mut().zip(&self.velocity).zip(&self.pull) {
            *alpha = (*alpha - (unit * (velocity + weight * pull)) as f32).clamp(0.0, 1.0);
        }
        let done = (self.step as f64 / self.closing.max(1) as f64).min(1.0);
        // No more than that many whole gates before the end.
        let least = self.weight.iter().copied().filter(|w| *w > 0.0).fold(f64::INFINITY, f64::min);
        self.select(if done < 1.0 { (self.needed * done / least).floor() * least } else { self.needed });
    }

    /// The final choice. The planner decides whether it meets the limit, and opens what it can.
    pub(crate) fn settle(&mut self, limit: Option<Limit<'_>>) -> Result<(), TrainError> {
        self.select(self.needed);
        let Some(Limit { meets, .. }) = limit else { return Ok(()) };
        while !meets(&self.open)? {
            let Some(i) = self.lowest_open() else {
                let reason = "even without any block's rectifiers the network costs more".to_owned();
                return Err(TrainError::config("communication limit", reason));
            };
            self.open[i] = false;
        }
        let mut closed: Vec<usize> = (0..self.open.len()).filter(|&i| !self.open[i]).collect();
        closed.sort_by(|&a, &b| self.alpha[b].total_cmp(&self.alpha[a]));
        for i in closed {
            self.open[i] = true;
            self.open[i] = meets(&self.open)?;
        }
        Ok(())
    }

    /// Closes gates that add up to `needed`: those of smallest alpha, except that a challenger needs a
    /// lead.
    fn select(&mut self, needed: f64) {
        self.close(needed);
        for _ in 0..self.alpha.len() {
            let (Some(out), Some(into)) = (self.lowest_open(), self.extreme(false, |a, b| a > b)) else {
                break;
            };
            if self.alpha[into] <= self.alpha[out] + self.hysteresis {
                break;
            }
            self.open[out] = false;
            self.open[into] = true;
            self.close(needed);
        }
        // Gates that need not be closed, the largest alpha first.
        let mut closed: Vec<usize> = (0..self.open.len()).filter(|&i| !self.open[i]).collect();
        closed.sort_by(|&a, &b| self.alpha[b].total_cmp(&self.alpha[a]));
        for i in closed {
            self.open[i] = self.closed() - self.weight[i] >= needed * (1.0 - 1e-12);
        }
    }

    fn close(&mut self, needed: f64) {
        while self.closed() < needed * (1.0 - 1e-12) {
            let Some(i) = self.lowest_open() else { break };
            self.open[i] = false;
        }
    }

    /// What the closed gates add up to.
    fn closed(&self) -> f64 {
        self.weight.iter().zip(&self.open).filter(|(_, open)| !**open).map(|(w, _)| w).sum()
    }

    /// Among those that count.
    fn lowest_open(&self) -> Option<usize> {
        self.extreme(true, |a, b| a < b)
    }

    /// Among the open or the closed gates the one that beats all others; among equals, the one
    /// whose block saves more is the smaller.
    fn extreme(&self, open: bool, beats: impl Fn((f32, f64), (f32, f64)) -> bool) -> Option<usize> {
        let key = |i: usize| (self.alpha[i], -self.pull[i]);
        (0..self.alpha.len())
            .filter(|&i| self.open[i] == open && self.weight[i] > 0.0)
            .reduce(|best, i| if beats(key(i), key(best)) { i } else { best })
    }
}

fn root_mean_square(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len().max(1) as f64;
    (values.map(|v| v * v).sum::<f64>() / n).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { budget: 0.5, lambda: 0.0, rate: 0.02, hysteresis: 0.02 };

    fn search(saving: &[f64], keep: usize, lambda: f64) -> GateSearch {
        let budget = keep as f64 / saving.len() as f64;
        let rule = Rule { budget, lambda, rate: 0.05, hysteresis: 0.02 };
        GateSearch::new(&Communication::from(saving), 40, rule)
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

    /// Whatever a wrong start chose, the gradient decides: every gate starts at the wrong limit.
    #[test]
    fn gates_that_all_start_on_the_wrong_side_come_back() {
        for n in 2..9usize {
            let wanted: Vec<bool> = (0..n).map(|i| i % 2 == 0).collect();
            let mut gates = search(&vec![1.0; n], n.div_ceil(2), 0.3);
            gates.alpha = wanted.iter().map(|w| f32::from(u8::from(!w))).collect();
            gates.open = wanted.iter().map(|w| !w).collect();
            let gradient: Vec<f32> = wanted.iter().map(|&w| if w { -0.1 } else { 0.1 }).collect();
            for _ in 0..100 {
                gates.update(&gradient);
            }
            assert_eq!(gates.open, wanted, "{n}");
        }
    }

    /// The same number of rectifying blocks, cheaper ones: the loss says little of which.
    #[test]
    fn with_communication_in_the_loss_the_same_budget_costs_fewer_bytes() {
        use rand::{RngExt, SeedableRng};
        let saving: Vec<f64> = (0..16).map(|i| 2f64.powf(f64::from(i) / 3.0)).collect();
        let (mut with, mut without) = (0.0, 0.0);
        for seed in 0..10 {
            for (lambda, left) in [(1.0, &mut with), (0.0, &mut without)] {
                let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
                let mut gates = search(&saving, 8, lambda);
                for _ in 0..60 {
                    let gradient: Vec<f32> = (0..16).map(|_| rng.random_range(-0.02..0.02)).collect();
                    gates.update(&gradient);
                }
                assert_eq!(gates.open.iter().filter(|o| **o).count(), 8);
                *left += gates.open.iter().zip(&saving).filter(|(o, _)| **o).map(|(_, s)| s).sum::<f64>();
            }
        }
        assert!(without >= 1.3 * with, "{with} bytes of the open blocks, {without} without");
    }

    #[test]
    fn a_limit_closes_as_many_bytes_as_it_must_and_the_planner_has_the_last_word() {
        let saving = [5.0, 1.0, 9.0, 2.0, -1.0];
        for (excess, slack) in [(0.0, 0.0), (2.5, 0.0), (8.0, 0.0), (8.0, 2.0), (17.0, 0.0), (6.0, -3.0)] {
            // The planner sees `slack` more, or less, than the sum of savings says.
            let saved = |open: &[bool]| -> f64 {
                open.iter().zip(&saving).filter(|(open, _)| !**open).map(|(_, s)| s).sum()
            };
            let meets = |open: &[bool]| Ok(saved(open) >= (excess + slack) * (1.0 - 1e-9));
            let comm =
                Communication { saving: &saving, limit: Some(Limit { excess, meets: &meets }), free: None };
            let mut gates = GateSearch::new(&comm, 40, RULE);
            for _ in 0..60 {
                gates.update(&[-0.3, 0.1, -0.2, 0.05, 0.4]);
            }
            gates.settle(comm.limit).unwrap();
            assert!(meets(&gates.open).unwrap(), "{excess}");
            // Nothing is closed in vain, and never a block that costs more without rectifiers.
            assert!(gates.open[4]);
            for i in (0..4).filter(|&i| !gates.open[i]) {
                let mut more = gates.open.clone();
                more[i] = true;
                assert!(!meets(&more).unwrap(), "{excess}: {i}");
            }
        }
        let comm = Communication {
            saving: &saving,
            limit: Some(Limit { excess: 99.0, meets: &|_| Ok(false) }),
            free: None,
        };
        let error = GateSearch::new(&comm, 40, RULE).settle(comm.limit).unwrap_err();
        assert!(error.to_string().contains("limit"));
    }

    #[test]
    fn a_small_lead_changes_nothing() {
        let mut gates = search(&[1.0; 2], 1, 0.0);
        gates.select(1.0);
        let before = gates.open.clone();
        let closed = gates.open.iter().position(|o| !o).unwrap();
        gates.alpha[closed] = 0.5 + gates.hysteresis / 2.0;
        gates.select(1.0);
        assert_eq!(gates.open, before);
        gates.alpha[closed] = 0.5 + gates.hysteresis * 2.0;
        gates.select(1.0);
        assert!(gates.open[closed]);
    }
}
