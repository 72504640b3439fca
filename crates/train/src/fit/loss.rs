//! Cross entropy and distillation.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::data::Batch;

/// How much a student listens to its teacher (Hinton et al., 2015).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distill {
    /// Softens both distributions.
    pub temperature: f64,
    /// Share of the teacher in the loss, 0..=1; the rest is the labels'.
    pub mix: f64,
    /// Weight of [`feature_distance`], which is added; 0 is none.
    pub features: f64,
}

impl Default for Distill {
    fn default() -> Self {
        Self { temperature: 3.0, mix: 0.7, features: 0.0 }
    }
}

/// Sum over the batch of `-sum_c t_c log softmax(z)_c`, where the target `t` is the one-hot
/// label mixed with `smoothing` of the uniform distribution.
pub fn cross_entropy(logits: Tensor<2>, labels: &[i32], smoothing: f32) -> Tensor<1> {
    let [n, classes] = logits.dims();
    let mut target = vec![smoothing / classes as f32; n * classes];
    for (row, &label) in target.chunks_exact_mut(classes).zip(labels) {
        row[label as usize] += 1.0 - smoothing;
    }
    let target = Tensor::<2>::from_data(TensorData::new(target, [n, classes]), &logits.device());
    -(log_softmax(logits, 1) * target).sum()
}

/// As [`cross_entropy`], with the targets that mixtures have.
pub fn mixed_cross_entropy(logits: Tensor<2>, batch: &Batch, smoothing: f32) -> Tensor<1> {
    let [n, classes] = logits.dims();
    let target = TensorData::new(batch.targets(classes, smoothing), [n, classes]);
    let target = Tensor::<2>::from_data(target, &logits.device());
    -(log_softmax(logits, 1) * target).sum()
}

/// Sum over the batch of `T^2 KL(softmax(teacher / T), softmax(student / T))`; the factor keeps
/// gradients of the size they have at `T = 1`.
pub fn divergence(student: Tensor<2>, teacher: Tensor<2>, temperature: f64) -> Tensor<1> {
    let target = log_softmax(teacher.inner() / temperature, 1);
    let lead = target.clone() - log_softmax(student / temperature, 1);
    (lead * target.exp()).sum() * temperature.powi(2)
}

/// Sum over the batch of the mean square of the difference between what the student's and the teacher's
/// classifiers see (the hint of FitNets: Romero et al., 2015, equation 3, at the last layer and without
/// a regressor: both are of one width).
pub fn feature_distance(student: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    let difference = student - teacher.inner();
    let width = difference.dims()[1] as f64;
    (difference.clone() * difference).sum() / width
}

impl Distill {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn check(&self) -> Result<(), TrainError> {
        for (name, value, range) in [
            ("distill.temperature", self.temperature, 1e-3..=1e3),
            ("distill.mix", self.mix, 0.0..=1.0),
            ("distill.features", self.features, 0.0..=1e6),
        ] {
            if !range.contains(&value) {
                return Err(TrainError::config(
                    name,
                    format!("{value} is not in {}..={}", range.start(), range.end()),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vectors {
        losses: Vec<Case>,
    }

    /// What PyTorch says; see `tests/vectors/steps.py`.
    #[derive(Deserialize)]
    struct Case {
        student: Vec<f32>,
        teacher: Vec<f32>,
        labels: Vec<i32>,
        smoothing: f32,
        temperature: f64,
        mix: f64,
        hard: f64,
        soft: f64,
        gradient: Vec<f64>,
    }

    fn close(what: &str, got: f64, expected: f64) {
        assert!((got - expected).abs() < 2e-6 * expected.abs().max(1.0), "{what}: {got}, not {expected}");
    }

    #[test]
    fn the_distance_of_features_is_their_mean_square_and_pulls_towards_the_teacher() {
        let device = Device::flex();
        let student = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &device).autodiff().require_grad();
        let teacher = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 4.0]], &device);
        let distance = feature_distance(student.clone(), teacher);
        close("distance", distance.clone().into_scalar::<f32>().into(), 4.0 / 2.0 + 9.0 / 2.0);
        let gradient = student.grad(&distance.backward()).unwrap().into_data().try_into_vec::<f32>().unwrap();
        assert_eq!(gradient, [0.0, 2.0, 3.0, 0.0]);
    }

    #[test]
    fn losses_and_their_gradients_are_pytorchs() {
        let vectors: Vectors = serde_json::from_str(include_str!("../../tests/vectors/steps.json")).unwrap();
        assert!(vectors.losses.len() >= 3);
        let device = Device::flex();
        for case in vectors.losses {
            let n = case.labels.len();
            let tensor =
                |v: &[f32]| Tensor::<2>::from_data(TensorData::new(v.to_vec(), [n, v.len() / n]), &device);
            let student = tensor(&case.student).autodiff().require_grad();
            let hard = cross_entropy(student.clone(), &case.labels, case.smoothing);
            let soft = divergence(student.clone(), tensor(&case.teacher), case.temperature);
            close("cross entropy", hard.clone().into_scalar::<f32>().into(), case.hard);
            close("divergence", soft.clone().into_scalar::<f32>().into(), case.soft);
            let gradients = (hard * (1.0 - case.mix) + soft * case.mix).backward();
            let gradient = student.grad(&gradients).unwrap().into_data().try_into_vec::<f32>().unwrap();
            for (got, expected) in gradient.iter().zip(&case.gradient) {
                close("gradient", (*got).into(), *expected);
            }
        }
    }
}
