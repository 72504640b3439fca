//! Widths under a limit.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::knapsack::{Item, solve};
use super::unit::{Curvature, Unit, units};
use crate::TrainError;
use crate::checkpoint::{Checkpoint, Stage};
use crate::data::Images;
use crate::lower::{PIXEL_BITS, integer_model, scaled_structure};
use crate::quant::{Calibration, QuantConfig};

/// Tables: the one given, and one around its solution.
const ROUNDS: usize = 2;

/// What the knapsack puts under its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Costs {
    /// The planner's bytes.
    Planned,
    /// `l_w * l_x * MACs` for weights of `l_w` and inputs of `l_x` bits: the usual proxy.
    Macs,
}

/// A network whose widths are to be chosen, merged and folded.
pub struct Search<'a> {
    checkpoint: &'a Checkpoint,
    calibration: Calibration<'a>,
    base: QuantConfig,
    units: Vec<Unit>,
}

/// The planner's answer for each option of each unit, the others as in one choice.
#[derive(Clone, Debug)]
pub struct Prices {
    /// Of the choice that it is around.
    planned: i64,
    /// What the whole network costs more with that option.
    more: Vec<Vec<i64>>,
}

/// Widths for every unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// Option of each unit.
    pub choice: Vec<usize>,
    /// The exported network's price.
    pub planned: u64,
    /// Sum of the units' `Omega`.
    pub sensitivity: f64,
}

impl<'a> Search<'a> {
    /// Prepares the choice for `checkpoint`, which must be merged; `base` says what is not chosen,
    /// and `images` decide on the scales, as in [`crate::export`].
    ///
    /// # Errors
    /// Another stage, no images, or curvature of another network.
    pub fn new(
        checkpoint: &'a Checkpoint,
        images: &Images,
        base: &QuantConfig,
        curvature: &Curvature,
    ) -> Result<Self, TrainError> {
        if checkpoint.stage != Stage::Merged {
            return Err(TrainError::Stage {
                found: checkpoint.stage.name(),
                wanted: "widths are those of a merged one",
            });
        }
        let graph = &checkpoint.graph;
        let calibration = Calibration::new(graph, &checkpoint.weights, images, checkpoint.pixels)?;
        let units = units(graph, &calibration, base, PIXEL_BITS, curvature)?;
        Ok(Self { checkpoint, calibration, base: base.clone(), units })
    }

    /// What there is to choose.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// The settings that a choice means.
    pub fn config(&self, choice: &[usize]) -> QuantConfig {
        let mut config = self.base.clone();
        for (unit, &option) in self.units.iter().zip(choice) {
            let widths = unit.options[option];
            config.weights.insert(unit.layer.clone(), widths.weights.into());
            if let (Some(name), Some(bits)) = (&unit.activation, widths.activation) {
                config.activations.insert(name.clone(), bits);
            }
        }
        config
    }

    /// Sum of `Omega`.
    pub fn sensitivity(&self, choice: &[usize]) -> f64 {
        self.units.iter().zip(choice).map(|(unit, &option)| unit.sensitivity[option]).sum()
    }

    /// Every choice with one width for all weights that may be chosen and one for all such activations.
    pub fn uniform(&self) -> Vec<Vec<usize>> {
        let pairs = self.units.iter().flat_map(|u| u.options.iter().map(|o| (o.weights, o.activation)));
        let weights: BTreeSet<u32> = pairs.clone().map(|(w, _)| w).collect();
        let mut activations: BTreeSet<Option<u32>> = pairs.map(|(_, a)| a).collect();
        if activations.len() > 1 {
            activations.remove(&None);
        }
        let all = |w: u32, a: Option<u32>| {
            let pick = |unit: &Unit| {
                let fits = |o: &super::Widths| {
                    (o.weights == w || unit.options.iter().all(|o| o.weights != w))
                        && (o.activation == a || unit.activation.is_none())
                };
                unit.options.iter().position(fits).unwrap_or(0)
            };
            self.units.iter().map(pick).collect::<Vec<_>>()
        };
        let every = weights.iter().flat_map(|&w| activations.iter().map(move |&a| all(w, a)));
        every.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The exported model's graph, before any quantisation-aware training.
    ///
    /// # Errors
    /// What the integer model refuses.
    pub fn exported(&self, choice: &[usize]) -> Result<copriv_model::Graph, TrainError> {
        let config = self.config(choice);
        let quant = Some(self.calibration.spec(&config)?);
        let quantised = Checkpoint { stage: Stage::Quantised, quant, ..self.checkpoint.clone() };
        Ok(integer_model(&quantised, &config)?.graph)
    }

    /// The same but for biases that widen an accumulator, without touching the weights.
    fn structure(&self, choice: &[usize]) -> Result<copriv_model::Graph, TrainError> {
        let Checkpoint { graph, classes, pixels, .. } = self.checkpoint;
        let config = self.config(choice);
        scaled_structure(graph, &self.calibration.spec(&config)?, classes, *pixels, &config)
    }

    /// Prices every option around `choice`, with `price` the planner, in an integer unit.
    ///
    /// # Errors
    /// The planner's.
    pub fn prices<E, P>(&self, around: &[usize], price: &P) -> Result<Prices, E>
    where
        E: From<TrainError> + Send,
        P: Fn(&copriv_model::Graph) -> Result<u64, E> + Sync,
    {
        let of = |choice: &[usize]| Ok::<i64, E>(price(&self.structure(choice)?)? as i64);
        let planned = of(around)?;
        let more = self.units.par_iter().enumerate().map(|(i, unit)| {
            let options = (0..unit.options.len()).map(|option| {
                if option == around[i] {
                    return Ok(0);
                }
                let mut choice = around.to_vec();
                choice[i] = option;
                Ok(of(&choice)? - planned)
            });
            options.collect()
        });
        Ok(Prices { planned, more: more.collect::<Result<_, E>>()? })
    }

    /// The choice of the least sensitivity whose exported network costs at most `limit`, or `None` if
    /// not even the cheapest does. `prices` are of any choice.
    ///
    /// # Errors
    /// The planner's.
    pub fn solve<E, P>(
        &self,
        costs: Costs,
        prices: &Prices,
        limit: u64,
        price: &P,
    ) -> Result<Option<Solution>, E>
    where
        E: From<TrainError> + Send,
        P: Fn(&copriv_model::Graph) -> Result<u64, E> + Sync,
    {
        if costs == Costs::Macs {
            return self.by_macs(limit, price);
        }
        let mut recentred;
        let mut prices = prices;
        let mut best: Option<Solution> = None;
        for _ in 0..ROUNDS {
            let mut found = self.within(prices, limit, price)?;
            if found.is_none() && best.is_none() {
                let cheapest =
                    prices.more.iter().map(|more| (0..more.len()).min_by_key(|&i| more[i]).unwrap_or(0));
                found = Some(self.solution(cheapest.collect(), price)?).filter(|s| s.planned <= limit);
            }
            let Some(found) = found else { break };
            if best.as_ref().is_some_and(|best| best.sensitivity <= found.sensitivity) {
                break;
            }
            // Where layers meet, the table is exact around its own choice only.
            recentred = self.prices(&found.choice, price)?;
            prices = &recentred;
            best = Some(found);
        }
        Ok(best)
    }

    /// As [`Self::solve`] for bytes, by one table that is not made anew around the solution: enough for
    /// a front of many limits.
    ///
    /// # Errors
    /// The planner's.
    pub fn within<E, P>(&self, prices: &Prices, limit: u64, price: &P) -> Result<Option<Solution>, E>
    where
        E: From<TrainError>,
        P: Fn(&copriv_model::Graph) -> Result<u64, E>,
    {
        let items = self.items(&prices.more);
        let mut budget = limit as i64 - prices.planned;
        while let Some(choice) = solve(&items, budget) {
            let solution = self.solution(choice, price)?;
            if solution.planned <= limit {
                return Ok(Some(solution));
            }
            budget -= (solution.planned - limit) as i64;
        }
        Ok(None)
    }

    /// The proxy under the largest budget that planned bytes within the limit allow, by bisection.
    fn by_macs<E, P>(&self, limit: u64, price: &P) -> Result<Option<Solution>, E>
    where
        E: From<TrainError>,
        P: Fn(&copriv_model::Graph) -> Result<u64, E>,
    {
        let proxy = |unit: &Unit| -> Vec<i64> {
            let bits = unit.options.iter().map(|o| o.weights * o.activation.unwrap_or(unit.input_bits));
            bits.map(|bits| i64::from(bits) * unit.macs as i64).collect()
        };
        let costs: Vec<Vec<i64>> = self.units.iter().map(proxy).collect();
        let items = self.items(&costs);
        let extreme = |f: fn(&Vec<i64>) -> Option<&i64>| costs.iter().filter_map(f).sum::<i64>();
        let (mut low, mut high) = (extreme(|c| c.iter().min()), extreme(|c| c.iter().max()));
        let mut best: Option<Solution> = None;
        // Many budgets have the same solution.
        let mut planned: BTreeMap<Vec<usize>, Solution> = BTreeMap::new();
        while low <= high {
            let budget = low + (high - low) / 2;
            let solution = match solve(&items, budget) {
                Some(choice) => match planned.get(&choice) {
                    Some(known) => Some(known.clone()),
                    None => {
                        let solution = self.solution(choice.clone(), price)?;
                        planned.insert(choice, solution.clone());
                        Some(solution)
                    }
                },
                None => None,
            };
            match solution.filter(|s| s.planned <= limit) {
                Some(solution) => {
                    low = budget + 1;
                    if best.as_ref().is_none_or(|b| solution.sensitivity < b.sensitivity) {
                        best = Some(solution);
                    }
                }
                None => high = budget - 1,
            }
        }
        Ok(best)
    }

    /// A choice with its whole network planned.
    ///
    /// # Errors
    /// The planner's.
    pub fn solution<E, P>(&self, choice: Vec<usize>, price: &P) -> Result<Solution, E>
    where
        E: From<TrainError>,
        P: Fn(&copriv_model::Graph) -> Result<u64, E>,
    {
        let planned = price(&self.exported(&choice)?)?;
        Ok(Solution { planned, sensitivity: self.sensitivity(&choice), choice })
    }

    fn items(&self, costs: &[Vec<i64>]) -> Vec<Vec<Item>> {
        let of = |(unit, costs): (&Unit, &Vec<i64>)| {
            let items = unit.sensitivity.iter().zip(costs);
            items.map(|(&loss, &cost)| Item { cost, loss }).collect()
        };
        self.units.iter().zip(costs).map(of).collect()
    }
}

impl Prices {
    /// What the table makes of a choice; the planner's own figure where no two changed layers meet.
    pub fn estimate(&self, choice: &[usize]) -> i64 {
        self.planned + self.more.iter().zip(choice).map(|(more, &option)| more[option]).sum::<i64>()
    }
}
