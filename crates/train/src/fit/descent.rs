//! Gradient descent: SGD and Adam on flat tensors, whose state is kept by the parameters' names.

use burn::tensor::{Device, Tensor};

use crate::TrainError;
use crate::net::{Network, Weights, kernel};
use crate::recipe::{Optimizer, Recipe};

/// Added to the root in Adam's denominator.
const ADAM_EPSILON: f64 = 1e-8;

/// An optimiser and its state.
#[derive(Clone, Debug)]
pub(super) struct Descent {
    optimizer: Optimizer,
    weight_decay: f64,
    clip: f64,
    /// By parameter: whether it is decayed.
    decayed: Vec<bool>,
    /// Momentum, or the mean of the gradients.
    first: Vec<Tensor<1>>,
    /// The mean of their squares; none for SGD.
    second: Vec<Tensor<1>>,
    steps: u64,
}

impl Descent {
    pub(super) fn new(recipe: &Recipe, network: &Network) -> Self {
        let zeros: Vec<_> = network.parameters().iter().map(Tensor::zeros_like).collect();
        Self {
            optimizer: recipe.optimizer,
            weight_decay: recipe.weight_decay,
            clip: f64::from(recipe.clip),
            decayed: network.decayed(),
            second: if matches!(recipe.optimizer, Optimizer::Adam { .. }) { zeros.clone() } else { vec![] },
            first: zeros,
            steps: 0,
        }
    }

    /// The parameters after a step at `rate`.
    ///
    /// SGD is [`kernel::descend`]. Adam with decoupled decay (Loshchilov and
    /// Hutter, 2019): `p <- p - rate (decay p + m' / (sqrt(v') + epsilon))`.
    pub(super) fn step(
        &mut self,
        rate: f64,
        parameters: Vec<Tensor<1>>,
        gradients: Vec<Tensor<1>>,
    ) -> Vec<Tensor<1>> {
        self.steps += 1;
        let factor = if self.clip > 0.0 { clipping(&gradients, self.clip) } else { None };
        let steps = self.steps.min(i32::MAX as u64) as i32;
        let step = |(i, (p, g)): (usize, (Tensor<1>, Tensor<1>))| {
            let decay = if self.decayed[i] { self.weight_decay } else { 0.0 };
            match self.optimizer {
                Optimizer::Sgd { momentum, nesterov } => {
                    let v = self.first[i].clone();
                    let [p, v] =
                        kernel::descend([p, v, g], factor.clone(), [rate, momentum, decay], nesterov);
                    self.first[i] = v;
                    p
                }
                Optimizer::Adam { beta1, beta2 } => {
                    let g = match &factor {
                        Some(factor) => g * factor.clone(),
                        None => g,
                    };
                    let m = self.first[i].clone() * beta1 + g.clone() * (1.0 - beta1);
                    let v = self.second[i].clone() * beta2 + g.clone() * g * (1.0 - beta2);
                    self.first[i] = m.clone();
                    self.second[i] = v.clone();
                    let root = (v / (1.0 - beta2.powi(steps))).sqrt() + ADAM_EPSILON;
                    let ahead = m / (1.0 - beta1.powi(steps)) / root;
                    p.clone() - (ahead + p * decay) * rate
                }
            }
        };
        parameters.into_iter().zip(gradients).enumerate().map(step).collect()
    }

    /// Number of steps, and the averages under the parameters' names.
    pub(super) fn state(&self, network: &Network) -> (u64, [Weights; 2]) {
        (self.steps, [network.named(&self.first), network.named(&self.second)])
    }

    /// Takes up a state that [`Descent::state`] gave.
    pub(super) fn restore(
        &mut self,
        steps: u64,
        [first, second]: &[Weights; 2],
        network: &Network,
        device: &Device,
    ) -> Result<(), TrainError> {
        self.steps = steps;
        self.first = network.unnamed(first, device)?;
        if !self.second.is_empty() {
            self.second = network.unnamed(second, device)?;
        }
        Ok(())
    }
}

/// What shortens all gradients together to the Euclidean norm `limit`, if it is larger.
fn clipping(gradients: &[Tensor<1>], limit: f64) -> Option<Tensor<1>> {
    // No value comes back to the host: the factor is a tensor.
    let squares = kernel::sum_of_squares(gradients)?;
    Some(((squares.sqrt() + 1e-6).recip() * limit).clamp_max(1.0))
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vectors {
        descents: Vec<Case>,
    }

    /// What PyTorch does; see `tests/vectors/steps.py`.
    #[derive(Deserialize)]
    struct Case {
        optimizer: Optimizer,
        decay: f64,
        clip: f64,
        rates: Vec<f64>,
        start: Vec<Vec<f32>>,
        gradients: Vec<Vec<Vec<f32>>>,
        after: Vec<Vec<Vec<f32>>>,
    }

    fn tensors(values: &[Vec<f32>]) -> Vec<Tensor<1>> {
        let tensor = |v: &Vec<f32>| Tensor::from_data(TensorData::new(v.clone(), [v.len()]), &Device::flex());
        values.iter().map(tensor).collect()
    }

    #[test]
    fn every_step_is_pytorchs() {
        let vectors: Vectors = serde_json::from_str(include_str!("../../tests/vectors/steps.json")).unwrap();
        assert!(vectors.descents.len() >= 4);
        for case in vectors.descents {
            let mut parameters = tensors(&case.start);
            let zeros: Vec<_> = parameters.iter().map(Tensor::zeros_like).collect();
            let mut descent = Descent {
                optimizer: case.optimizer,
                weight_decay: case.decay,
                clip: case.clip,
                decayed: vec![true, false],
                first: zeros.clone(),
                second: zeros,
                steps: 0,
            };
            for ((rate, gradients), after) in case.rates.iter().zip(&case.gradients).zip(&case.after) {
                parameters = descent.step(*rate, parameters, tensors(gradients));
                for (got, expected) in parameters.iter().zip(after) {
                    let got = got.clone().into_data().try_into_vec::<f32>().unwrap();
                    for (got, expected) in got.iter().zip(expected) {
                        assert!((got - expected).abs() < 3e-6, "{:?}: {got}, not {expected}", case.optimizer);
                    }
                }
            }
        }
    }
}
