//! A network that learns: one step, and the state between two steps.

use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

use super::descent::Descent;
use super::loss::{Distill, divergence, feature_distance, mixed_cross_entropy};
use super::state::State;
use crate::TrainError;
use crate::checkpoint::{Checkpoint, Stage};
use crate::data::Batch;
use crate::net::{Gates, Graph, Network, Op, Pass, Weights, kernel};
use crate::quant::{Fake, QuantSpec, Scales};
use crate::recipe::{Precision, Recipe};
use crate::rewrite::fold_norms;
use crate::search::Search;

/// By what the loss is multiplied in mixed precision. Half precision ends at 65504, and what is below 6e-8 is zero.
const LOSS_SCALE: f64 = 1024.0;

/// Parameters, optimiser and moving average on a device.
pub struct Learner {
    network: Network,
    descent: Descent,
    /// The moving average and its decay.
    average: Option<(Network, f64)>,
    fake: Option<Fake>,
    /// Scales that are learned, and whether they are at the moment.
    scales: Option<(Scales, bool)>,
    teacher: Option<(Network, Distill)>,
    label_smoothing: f32,
    mixed: bool,
    device: Device,
}

/// What a step saw. On the device: reading it waits for the step.
pub struct StepOutcome {
    /// Sum of the images' losses.
    pub loss: Tensor<1>,
    /// Images classified correctly.
    pub right: Tensor<1, Int>,
}

impl Learner {
    /// Puts `start` and its teacher on `device`.
    ///
    /// # Errors
    /// A teacher that is quantised, weights that do not fit their graph, or mixed precision where there is none.
    pub fn new(
        start: &Checkpoint,
        teacher: Option<(&Checkpoint, Distill)>,
        recipe: &Recipe,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let graph = &start.graph;
        let mixed = recipe.precision == Precision::Mixed;
        if mixed && start.quant.is_some() {
            return Err(TrainError::config("precision", "mixed is for float networks: it rounds integers"));
        }
        if mixed && !device.supports_dtype(FloatDType::F16) {
            return Err(TrainError::config("precision", "this device has no half precision"));
        }
        let fake =
            start.quant.as_ref().map(|spec| Fake::new(graph, spec, start.pixels, device)).transpose()?;
        let teacher = match teacher {
            Some((checkpoint, distill)) => {
                distill.check()?;
                if distill.features > 0.0 {
                    same_features(graph, &checkpoint.graph)?;
                }
                Some((advisor(checkpoint, device)?, distill))
            }
            None => None,
        };
        let network = Network::new(graph, &start.weights, &device.clone().autodiff())?;
        let average = (recipe.ema > 0.0).then(|| Network::new(graph, &start.weights, device)).transpose()?;
        Ok(Self {
            descent: Descent::new(recipe, &network),
            average: average.map(|network| (network, recipe.ema)),
            network,
            fake,
            scales: None,
            teacher,
            label_smoothing: recipe.label_smoothing,
            mixed,
            device: device.clone(),
        })
    }

    /// Learns the scales, too, from now on.
    ///
    /// # Errors
    /// Scales of another network.
    pub(super) fn learn_scales(&mut self, scales: Scales) -> Result<(), TrainError> {
        self.fake = Some(scales.fake(&self.device, true)?);
        self.scales = Some((scales, true));
        Ok(())
    }

    /// Keeps the scales where they are.
    ///
    /// # Errors
    /// As [`Self::learn_scales`].
    pub(super) fn freeze_scales(&mut self) -> Result<(), TrainError> {
        if let Some((scales, learning @ true)) = &mut self.scales {
            *learning = false;
            self.fake = Some(scales.fake(&self.device, false)?);
        }
        Ok(())
    }

    /// The learned scales.
    pub(super) fn scales(&self) -> Option<&Scales> {
        self.scales.as_ref().map(|(scales, _)| scales)
    }

    /// The same as they stand, or `other`.
    pub(super) fn spec_or(&self, other: &Option<QuantSpec>) -> Option<QuantSpec> {
        self.scales().map(|scales| scales.spec().clone()).or_else(|| other.clone())
    }

    /// One forward and backward pass, and one update.
    pub fn step(&mut self, rate: f64, batch: &Batch) -> StepOutcome {
        self.searching_step(rate, batch, None)
    }

    /// The same beside a pruning search.
    pub(crate) fn searching_step(
        &mut self,
        rate: f64,
        batch: &Batch,
        search: Option<&mut Search>,
    ) -> StepOutcome {
        let n = batch.shape[0] as f64;
        let x = Tensor::<4>::from_data(TensorData::new(batch.inputs.clone(), batch.shape), &self.device);
        let advice = self.teacher.as_ref().map(|(teacher, distill)| {
            let mut pass = Pass { mixed: self.mixed, ..Pass::default() };
            let logits = teacher.forward(x.clone(), &mut pass);
            (logits, pass.features, distill)
        });
        let gates = match search.as_deref() {
            Some(Search::Gates(gates)) => Some(Gates {
                alpha: Tensor::<1>::from_floats(gates.alpha(), &self.device.clone().autodiff())
                    .require_grad(),
                open: gates.open().to_vec(),
            }),
            _ => None,
        };
        let mut pass =
            Pass { gates: gates.as_ref(), fake: self.fake.as_ref(), mixed: self.mixed, ..Pass::default() };
        let logits = self.network.forward(x.autodiff(), &mut pass);
        let Pass { statistics, features, .. } = pass;
        let mut loss = mixed_cross_entropy(logits.clone(), batch, self.label_smoothing);
        if let Some((advice, seen, distill)) = advice {
            let soft = divergence(logits.clone(), advice, distill.temperature);
            loss = loss * (1.0 - distill.mix) + soft * distill.mix;
            if let (true, Some(own), Some(seen)) = (distill.features > 0.0, features, seen) {
                loss = loss + feature_distance(own, seen) * distill.features;
            }
        }
        let scale = if self.mixed { LOSS_SCALE } else { 1.0 };
        let mut gradients = (loss.clone() * scale / n).backward();
        let mut alpha = gates.and_then(|gates| gates.alpha.grad_remove(&mut gradients));
        if let (Some((scales, true)), Some(fake)) = (&mut self.scales, &mut self.fake) {
            // Both fail for scales of another network only, which `learn_scales` refuses.
            scales.step(fake, &mut gradients).expect("scales of this network");
            *fake = scales.fake(&self.device, true).expect("scales of this network");
        }
        let mut gradients = self.network.gradients(&mut gradients);
        if self.mixed {
            unscale(gradients.iter_mut().chain(&mut alpha).collect());
        }
        let before = self.network.parameters();
        let mut coefficients = Vec::new();
        match search {
            Some(Search::Gates(gates)) => {
                let alpha = alpha.and_then(|g| g.into_data().convert::<f32>().try_into_vec().ok());
                gates.update(&alpha.unwrap_or_else(|| vec![0.0; gates.alpha().len()]));
            }
            Some(Search::Lasso(lasso)) => {
                let (at, sizes): (Vec<usize>, Vec<usize>) = self.network.alphas().into_iter().unzip();
                let still = |&i: &usize| {
                    let zero = gradients[i].zeros_like();
                    std::mem::replace(&mut gradients[i], zero)
                };
                let moves = at.iter().map(still).collect();
                let values = at.iter().map(|&i| before[i].clone()).collect();
                coefficients = at.iter().copied().zip(lasso.update(values, moves, &sizes)).collect();
            }
            None => {}
        }
        let mut parameters = self.descent.step(rate, before, gradients);
        coefficients.into_iter().for_each(|(i, value)| parameters[i] = value);
        self.network.set_parameters(parameters);
        self.network.absorb(statistics);
        if let Some((average, decay)) = &mut self.average {
            average.follow(&self.network, *decay);
        }
        let labels = TensorData::new(batch.labels.clone(), [batch.labels.len()]);
        let labels = Tensor::<1, Int>::from_data(labels, &self.device);
        let right = logits.inner().argmax(1).flatten::<1>(0, 1).equal(labels).int().sum();
        StepOutcome { loss: loss.inner(), right }
    }

    /// What a run keeps: the moving average if there is one.
    pub fn weights(&self) -> Weights {
        self.average.as_ref().map_or(&self.network, |(average, _)| average).weights()
    }

    /// Everything that the next steps depend on.
    pub(super) fn save(&self, state: &mut State) {
        state.weights = self.network.weights();
        (state.position.optimizer_steps, state.moments) = self.descent.state(&self.network);
        state.scales = self.scales().map(Scales::state).unwrap_or_default();
        state.average = self.average.as_ref().map(|(average, _)| average.weights()).unwrap_or_default();
    }

    /// Takes up a saved state.
    pub(super) fn restore(&mut self, state: &State) -> Result<(), TrainError> {
        self.network.load(&state.weights, &self.device.clone().autodiff())?;
        if let Some((average, _)) = &mut self.average {
            average.load(&state.average, &self.device)?;
        }
        if let Some((mut scales, _)) = self.scales.take() {
            scales.restore(&state.scales, state.position.optimizer_steps)?;
            self.learn_scales(scales)?;
        }
        self.descent.restore(state.position.optimizer_steps, &state.moments, &self.network, &self.device)
    }
}

/// Gradients of the loss from those of the loss times [`LOSS_SCALE`]: all of them zero if one is not finite. No value
/// comes back to the host.
fn unscale(gradients: Vec<&mut Tensor<1>>) {
    let all: Vec<_> = gradients.iter().map(|g| (**g).clone()).collect();
    let Some(squares) = kernel::sum_of_squares(&all) else { return };
    let overflow = squares.is_finite().bool_not();
    for g in gradients {
        let [n] = g.dims();
        *g = (g.clone() / LOSS_SCALE).mask_fill(overflow.clone().expand([n]), 0.0);
    }
}

/// Features can be compared if both classifiers take equally many.
fn same_features(student: &Graph, teacher: &Graph) -> Result<(), TrainError> {
    let width = |graph: &Graph| match graph.nodes.last().map(|n| &n.op) {
        Some(Op::Linear { in_features, .. }) => *in_features,
        _ => 0,
    };
    let (own, other) = (width(student), width(teacher));
    if own == other {
        return Ok(());
    }
    Err(TrainError::config(
        "distill.features",
        format!("the teacher's classifier takes {other} features, not {own}"),
    ))
}

/// A teacher is only asked.
fn advisor(checkpoint: &Checkpoint, device: &Device) -> Result<Network, TrainError> {
    if checkpoint.stage == Stage::Quantised {
        return Err(TrainError::Stage {
            found: checkpoint.stage.name(),
            wanted: "a teacher is a float network",
        });
    }
    let (graph, weights) = fold_norms(&checkpoint.graph, &checkpoint.weights)?;
    Network::new(&graph, &weights, device)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::net::{Array, Node};

    #[derive(Deserialize)]
    struct Vectors {
        average: Average,
    }

    /// What PyTorch averages; see `tests/vectors/steps.py`.
    #[derive(Deserialize)]
    struct Average {
        decay: f64,
        values: Vec<Vec<f32>>,
        means: Vec<Vec<f32>>,
    }

    #[test]
    fn gradients_that_overflow_count_as_zero_all_of_them() {
        let device = Device::flex();
        let tensors = |values: [&[f32]; 2]| values.map(|v| Tensor::<1>::from_floats(v, &device) * LOSS_SCALE);
        let host = |t: &Tensor<1>| t.clone().into_data().try_into_vec::<f32>().unwrap();
        for (bad, left) in [(3.0, [1.0, -2.0]), (f32::INFINITY, [0.0; 2]), (f32::NAN, [0.0; 2])] {
            let mut gradients = tensors([&[1.0, -2.0], &[bad]]);
            unscale(gradients.iter_mut().collect());
            assert_eq!(host(&gradients[0]), left, "{bad}");
            assert_eq!(host(&gradients[1]), [if bad == 3.0 { 3.0 } else { 0.0 }]);
        }
    }

    /// The same step in both precisions, on the CPU, where Burn has half precision too.
    #[test]
    fn a_mixed_step_is_nearly_the_single_one() {
        let data = crate::data::load("fashion-mini", std::path::Path::new("")).unwrap();
        let start = crate::untrained("mbv2-tiny", &data, 3).unwrap();
        let indices: Vec<usize> = (0..8).collect();
        let batch = crate::data::gather(&data.train, &indices, data.pixels, crate::data::Augment::NONE, 0);
        let batch = batch.unwrap();
        let after = |precision| {
            let recipe = Recipe { precision, weight_decay: 0.0, ..Recipe::default() };
            let mut learner = Learner::new(&start, None, &recipe, &Device::flex()).unwrap();
            let loss = learner.step(0.1, &batch).loss.into_scalar::<f32>();
            (loss, learner.weights())
        };
        let ((single, exact), (mixed, near)) = (after(Precision::Single), after(Precision::Mixed));
        assert!((single - mixed).abs() < 0.01 * single, "{single}, {mixed}");
        let (mut moved, mut apart) = (0.0, 0.0);
        for ((name, array), (_, exact)) in near.iter().zip(exact.iter()) {
            let from = &start.weights.get(name).unwrap().data;
            for ((near, exact), from) in array.data.iter().zip(&exact.data).zip(from) {
                moved += f64::from(exact - from).powi(2);
                apart += f64::from(near - exact).powi(2);
            }
        }
        let share = (apart / moved).sqrt();
        assert!(share > 0.0 && share < 0.03, "the steps differ by {share} of their length");
    }

    #[test]
    fn the_moving_average_is_pytorchs() {
        let vectors: Vectors = serde_json::from_str(include_str!("../../tests/vectors/steps.json")).unwrap();
        let Average { decay, values, means } = vectors.average;
        let node = |name: &str, op, inputs| Node { name: name.into(), op, inputs };
        let graph = Graph {
            arch: "linear".into(),
            nodes: vec![
                node("input", Op::Input { shape: [3, 1, 1] }, vec![]),
                node("classifier", Op::Linear { in_features: 3, out_features: 1 }, vec![0]),
            ],
            blocks: vec![],
        };
        let device = Device::flex();
        let network = |value: &[f32], device: &Device| {
            let mut weights = Weights::default();
            weights.insert("classifier.weight", Array::new([1, 3], value.to_vec()));
            weights.insert("classifier.bias", Array::new([1], vec![0.0]));
            Network::new(&graph, &weights, device).unwrap()
        };
        let mut average = network(&values[0], &device);
        for (value, mean) in values[1..].iter().zip(&means) {
            average.follow(&network(value, &device.clone().autodiff()), decay);
            let weights = average.weights();
            for (got, expected) in weights.get("classifier.weight").unwrap().data.iter().zip(mean) {
                assert!((got - expected).abs() < 1e-6, "{got}, not {expected}");
            }
        }
    }
}
