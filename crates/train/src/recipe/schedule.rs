//! The learning rate over time.

use serde::{Deserialize, Serialize};

use crate::TrainError;

/// How the rate falls after the warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Half a cosine (Loshchilov and Hutter, 2017).
    Cosine {
        /// Where it ends, as a share of the peak.
        #[serde(default)]
        floor: f64,
    },
    /// Multiplied by `factor` at every milestone.
    Multistep {
        /// Epochs, counted from 0 at the very start.
        milestones: Vec<f64>,
        /// 0.1 is usual.
        factor: f64,
    },
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Cosine { floor: 0.0 }
    }
}

impl Schedule {
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let fail = |reason: &str| Err(TrainError::config("schedule", reason));
        match self {
            Self::Cosine { floor } if !(0.0..=1.0).contains(floor) => {
                fail("the floor is a share of the peak, 0 to 1")
            }
            Self::Multistep { milestones, .. } if !milestones.is_sorted() => {
                fail("milestones are epochs in ascending order")
            }
            Self::Multistep { factor, .. } if !(0.0..=1.0).contains(factor) => fail("the factor is 0 to 1"),
            _ => Ok(()),
        }
    }
}

/// The rate of every step of a run: linear warm-up to the peak, then the schedule.
#[derive(Clone, Debug)]
pub struct Rates {
    schedule: Schedule,
    peak: f64,
    /// Steps of warm-up: at most half of all.
    warmup: usize,
    total: usize,
    /// Steps an epoch.
    steps: usize,
}

impl Rates {
    /// `warmup` is in epochs of `steps` steps.
    pub fn new(schedule: Schedule, peak: f64, warmup: f64, epochs: usize, steps: usize) -> Self {
        let total = steps * epochs;
        Self { schedule, peak, warmup: ((warmup * steps as f64) as usize).min(total / 2), total, steps }
    }

    /// The rate of step `step`, counted from 0.
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        match &self.schedule {
            Schedule::Cosine { floor } => {
                let rest = (self.total - self.warmup).max(1) as f64;
                let progress = ((step - self.warmup) as f64 / rest).min(1.0);
                let height = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
                self.peak * (floor + (1.0 - floor) * height)
            }
            Schedule::Multistep { milestones, factor } => {
                let epoch = step as f64 / self.steps as f64;
                let passed = milestones.iter().filter(|m| **m <= epoch).count();
                self.peak * factor.powi(passed as i32)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PyTorch's schedulers say; see `tests/vectors/schedules.py`.
    #[derive(Deserialize)]
    struct Case {
        schedule: Schedule,
        peak: f64,
        warmup: f64,
        epochs: usize,
        steps: usize,
        rates: Vec<f64>,
    }

    #[test]
    fn rates_are_those_of_pytorch() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../tests/vectors/schedules.json")).unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let rates = Rates::new(case.schedule.clone(), case.peak, case.warmup, case.epochs, case.steps);
            assert_eq!(case.rates.len(), case.epochs * case.steps);
            for (step, expected) in case.rates.iter().enumerate() {
                let got = rates.at(step);
                assert!((got - expected).abs() < 1e-12 * case.peak, "{:?} at {step}: {got}", case.schedule);
            }
        }
    }
}
