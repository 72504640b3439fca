//! Selective network linearisation (SNL: Cho et al., ICML 2022): every rectifier
//! `a max(x, 0) + (1 - a) x` has a coefficient for each position, or channel, and an L1 penalty drives most
//! of them to zero.
//!
//! As there, the penalty's weight grows by a factor while too many are left; here at every step, against a
//! line that falls from all to the budget over the first four fifths of the search, where SNL looks
//! at the end of each epoch. The penalty is in units of the gradients' root mean square, so that one
//! setting serves every network.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::Rule;

/// Factor by which the weight of the penalty grows, or falls (SNL, algorithm 1).
const GROWTH: f64 = 1.1;
/// Share of the search after which the budget is to be reached.
const REACHED: f64 = 0.8;
/// Decay of the gradients' mean square.
const INERTIA: f64 = 0.9;
/// Coefficients below count as zero (SNL, section 3).
pub(crate) const THRESHOLD: f32 = 1e-2;

/// The state of such a search; the coefficients are the network's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lasso {
    /// Of the L1 norm in the loss.
    weight: f64,
    /// Mean square of the gradients, averaged over time.
    power: f64,
    step: usize,
    /// Until the budget is to be reached.
    steps: usize,
    /// Share of the rectifiers in the end.
    budget: f64,
    rate: f64,
}

impl Lasso {
    pub(crate) fn new(steps: usize, rule: Rule) -> Self {
        let steps = (REACHED * steps as f64) as usize;
        Self { weight: 0.1, power: 0.0, step: 0, steps: steps.max(1), budget: rule.budget, rate: rule.rate }
    }

    /// The coefficients after a step. `sizes` says how many positions one coefficient of each tensor stands
    /// for.
    pub(crate) fn update(
        &mut self,
        alphas: Vec<Tensor<1>>,
        gradients: Vec<Tensor<1>>,
        sizes: &[usize],
    ) -> Vec<Tensor<1>> {
        let scalar = |t: Tensor<1>| f64::from(t.into_scalar::<f32>());
        let coefficients: usize = alphas.iter().map(|a| a.dims()[0]).sum();
        let squares: f64 = gradients.iter().map(|g| scalar((g.clone() * g.clone()).sum())).sum();
        let (mut left, mut all) = (0.0, 0.0);
        for (alpha, &size) in alphas.iter().zip(sizes) {
            left += scalar(alpha.clone().sum()) * size as f64;
            all += (alpha.dims()[0] * size) as f64;
        }
        self.step += 1;
        self.power = INERTIA * self.power + (1.0 - INERTIA) * squares / coefficients.max(1) as f64;
        let unbiased = self.power / (1.0 - INERTIA.powi(self.step.min(1000) as i32));
        let done = (self.step as f64 / self.steps as f64).min(1.0);
        let line = 1.0 - (1.0 - self.budget) * done;
        self.weight *= if left > line * all { GROWTH } else { 1.0 / GROWTH };
        let (unit, pull) = (self.rate / (unbiased.sqrt() + 1e-12), self.rate * self.weight);
        let step =
            |(alpha, gradient): (Tensor<1>, Tensor<1>)| (alpha - gradient * unit - pull).clamp(0.0, 1.0);
        alphas.into_iter().zip(gradients).map(step).collect()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Of a hundred coefficients the loss wants thirty; the budget is twenty.
    #[test]
    fn the_norm_falls_to_the_budget_and_those_that_the_loss_wants_most_are_left() {
        let rule = Rule { budget: 0.2, lambda: 0.0, rate: 0.05, hysteresis: 0.0 };
        let mut lasso = Lasso::new(200, rule);
        let device = Device::flex();
        let wanted: Vec<f32> =
            (0..100).map(|i| if i % 10 < 3 { -0.1 * (i % 10 + 1) as f32 } else { 0.0 }).collect();
        let gradient = Tensor::<1>::from_floats(wanted.as_slice(), &device);
        let mut alpha = vec![Tensor::<1>::from_floats([1.0; 100].as_slice(), &device)];
        for _ in 0..200 {
            alpha = lasso.update(alpha, vec![gradient.clone()], &[1]);
        }
        let alpha = alpha.remove(0).into_data().try_into_vec::<f32>().unwrap();
        let left = alpha.iter().sum::<f32>();
        assert!((10.0..=30.0).contains(&left), "{left}");
        for i in 0..100 {
            assert!(alpha[i] <= alpha[i / 10 * 10 + 2], "{i}: {alpha:?}");
        }
        assert!(alpha.iter().filter(|a| **a > THRESHOLD).count() <= 30, "{alpha:?}");
    }
}
