//! Cross entropy and distillation.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::data::Batch;

/// How much a student listens to its teacher (Hinton et al., 2015).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Distill {
    /// Softens both distributions.
    pub temperature: f64,
    /// Share of the teacher in the loss, 0..=1.
    pub mix: f64,
}

impl Default for Distill {
    fn default() -> Self {
        Self { temperature: 3.0, mix: 0.7 }
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

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn close(got: Tensor<1>, expected: f64) {
        let got = f64::from(got.into_scalar::<f32>());
        assert!((got - expected).abs() < 1e-5 * expected.abs().max(1.0), "{got} instead of {expected}");
    }

    /// Expected values computed here in double precision from the definitions.
    fn log_softmax_of(z: &[f64]) -> Vec<f64> {
        let sum: f64 = z.iter().map(|v| v.exp()).sum();
        z.iter().map(|v| v - sum.ln()).collect()
    }

    #[test]
    fn both_losses_follow_their_definitions() {
        let device = Device::flex();
        let (z, t, smoothing, temperature) = ([1.0, -0.5, 2.0], [0.3, 0.1, -1.0], 0.1, 3.0);
        let tensor = |v: [f64; 3]| Tensor::<2>::from_floats([v.map(|x| x as f32)], &device);
        let log_p = log_softmax_of(&z);
        let target = [smoothing / 3.0, smoothing / 3.0 + 1.0 - smoothing, smoothing / 3.0];
        let hard: f64 = target.iter().zip(&log_p).map(|(t, p)| -t * p).sum();
        close(cross_entropy(tensor(z), &[1], smoothing as f32), hard);

        let soft_p = log_softmax_of(&z.map(|v| v / temperature));
        let soft_t = log_softmax_of(&t.map(|v| v / temperature));
        let soft: f64 = soft_t.iter().zip(&soft_p).map(|(t, p)| t.exp() * (t - p)).sum();
        close(divergence(tensor(z), tensor(t), temperature), soft * temperature.powi(2));
    }
}
