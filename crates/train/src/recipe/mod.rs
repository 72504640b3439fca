//! Recipes: everything that decides how a network is trained, as data.
//!
//! [`Recipe`] is one stage of training; [`crate::TrainConfig`] adds the architecture, the
//! starting point and the teacher. [`library`] finds the settings for a data set and an
//! architecture among the TOML files in `recipes/`.

pub mod library;
mod schedule;

use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::data::Augment;

pub use schedule::{Rates, Schedule};

/// How long and how hard to train.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images a step.
    pub batch: usize,
    /// What turns gradients into steps.
    pub optimizer: Optimizer,
    /// Peak learning rate.
    pub rate: f64,
    /// How the rate falls.
    pub schedule: Schedule,
    /// Epochs of linear warm-up.
    pub warmup: f64,
    /// Decay of convolution and classifier weights; biases and norms have none.
    pub weight_decay: f64,
    /// Largest Euclidean norm of all gradients together; longer ones are shortened to it. 0 is none.
    pub clip: f32,
    /// Decay per step of the weights' moving average, which then is what a run keeps; 0 is none.
    pub ema: f64,
    /// Share of the uniform distribution in the target.
    pub label_smoothing: f32,
    /// Random changes to the images.
    pub augment: Augment,
    /// Arithmetic of a step, on a GPU.
    pub precision: Precision,
}

/// Arithmetic of a training step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision throughout.
    #[default]
    Single,
    /// Convolutions of operands in half precision; parameters, norms, loss and update stay single (Micikevicius
    /// et al., ICLR 2018). The loss is multiplied by a constant, so that gradients do not vanish, and a step whose
    /// gradients overflow counts as zero. Not for quantised networks: their integers would be rounded.
    Mixed,
}

/// First-order optimisers. Weight decay is on matrices and kernels only, whichever it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// Stochastic gradient descent; the decay is added to the gradient.
    Sgd {
        /// Share of the last step that is kept.
        #[serde(default = "default_momentum")]
        momentum: f64,
        /// Look ahead along the momentum (Nesterov).
        #[serde(default = "default_nesterov")]
        nesterov: bool,
    },
    /// Adam with decoupled decay (Loshchilov and Hutter, 2019).
    Adam {
        /// Decay of the mean of gradients.
        #[serde(default = "default_beta1")]
        beta1: f64,
        /// Decay of the mean of squared gradients.
        #[serde(default = "default_beta2")]
        beta2: f64,
    },
}

fn default_momentum() -> f64 {
    0.9
}

fn default_nesterov() -> bool {
    true
}

fn default_beta1() -> f64 {
    0.9
}

fn default_beta2() -> f64 {
    0.999
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::Sgd { momentum: default_momentum(), nesterov: default_nesterov() }
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch: 64,
            optimizer: Optimizer::default(),
            rate: 0.1,
            schedule: Schedule::default(),
            warmup: 1.0,
            weight_decay: 5e-4,
            clip: 5.0,
            ema: 0.0,
            label_smoothing: 0.0,
            augment: Augment::default(),
            precision: Precision::Single,
        }
    }
}

impl Recipe {
    /// The rates of a run with `steps` steps an epoch.
    pub fn rates(&self, steps: usize) -> Rates {
        Rates::new(self.schedule.clone(), self.rate, self.warmup, self.epochs, steps)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn check(&self) -> Result<(), TrainError> {
        if self.batch < 2 {
            return Err(TrainError::config("batch", "batch statistics need at least 2 images"));
        }
        /// Of a decay or a momentum.
        const BELOW_ONE: f64 = 0.999_999;
        let (first, second) = match self.optimizer {
            Optimizer::Sgd { momentum, .. } => (("momentum", momentum, BELOW_ONE), None),
            Optimizer::Adam { beta1, beta2 } => {
                (("beta1", beta1, BELOW_ONE), Some(("beta2", beta2, BELOW_ONE)))
            }
        };
        let ranges = [
            ("learning rate", self.rate, f64::MAX),
            ("warm-up", self.warmup, f64::MAX),
            ("weight decay", self.weight_decay, f64::MAX),
            ("gradient clipping", f64::from(self.clip), f64::MAX),
            ("ema", self.ema, BELOW_ONE),
            ("label smoothing", f64::from(self.label_smoothing), 1.0),
            first,
        ];
        for (name, value, limit) in ranges.into_iter().chain(second) {
            if !(0.0..=limit).contains(&value) {
                return Err(TrainError::config(name, format!("{value} is out of range")));
            }
        }
        self.schedule.check()?;
        self.augment.check()
    }
}
