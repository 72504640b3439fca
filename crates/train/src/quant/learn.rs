//! Power-of-two scales that training moves.
//!
//! A scale is `s = 2^e` with `e = round(t)`, and `t` is learned. With the gradient of rounding taken to
//! be one (LSQ, Esser et al., ICLR 2020, equation 3; in the log2 domain TQT, Jain et al., MLSys 2020,
//! equations 6 to 8)
//!
//! ```text
//! d Q(x) / d t = s ln 2 (floor(x / s + 1/2) - x / s)   where x is not saturated,
//!                s ln 2 lo  or  s ln 2 hi              where it is,
//! ```
//!
//! which is `ln 2 (Q(x) - x [not saturated])`. Steps are Adam's, since a gradient's size depends on the
//! tensor's scale and number of elements while a step of `t` means the same everywhere (TQT, section 4).

use burn::tensor::{Device, Gradients};
use serde::{Deserialize, Serialize};

use super::fake::Fake;
use super::observe::place;
use super::spec::{QuantConfig, QuantSpec};
use crate::TrainError;
use crate::data::PixelScale;
use crate::net::{Array, Graph, Weights};

const BETA: [f32; 2] = [0.9, 0.999];
/// Below any gradient that matters: a scale that nothing depends on stays where it is.
const EPSILON: f32 = 1e-12;

/// How scales are learned.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScaleLearning {
    /// Step of a scale's log2; 0 keeps the scales that the observers chose.
    pub rate: f64,
    /// Share of a stage's steps after which scales are frozen, so that weights settle on their grid.
    pub until: f64,
}

impl Default for ScaleLearning {
    fn default() -> Self {
        Self { rate: 0.01, until: 0.7 }
    }
}

impl ScaleLearning {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn check(&self) -> Result<(), TrainError> {
        for (name, value, limit) in [("scales' rate", self.rate, 0.5), ("scales' share", self.until, 1.0)] {
            if !(0.0..=limit).contains(&value) {
                return Err(TrainError::config(name, format!("{value} is not in 0..={limit}")));
            }
        }
        Ok(())
    }
}

/// The scales of a network, and what moves them. Arrays are named `NODE.weight`, one number a
/// channel, and `NODE.value`, one number.
#[derive(Clone, Debug)]
pub struct Scales {
    graph: Graph,
    pixels: PixelScale,
    max_spread: u32,
    rate: f32,
    /// Widths, and the scales as they stand.
    spec: QuantSpec,
    logs: Weights,
    moments: [Weights; 2],
    steps: i32,
}

impl Scales {
    /// Starts from the scales of `spec`.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn new(
        graph: &Graph,
        spec: &QuantSpec,
        pixels: PixelScale,
        config: &QuantConfig,
        learning: &ScaleLearning,
    ) -> Result<Self, TrainError> {
        config.check()?;
        learning.check()?;
        let mut logs = Weights::default();
        for (name, layer) in &spec.layers {
            let data: Vec<f32> = layer.scales.iter().map(|&e| e as f32).collect();
            logs.insert(&format!("{name}.weight"), Array::new([data.len()], data));
        }
        for (name, act) in &spec.activations {
            logs.insert(&format!("{name}.value"), Array::new([1], vec![act.scale as f32]));
        }
        let mut zeros = Weights::default();
        logs.iter().for_each(|(name, a)| zeros.insert(name, Array::full(a.shape.clone(), 0.0)));
        Ok(Self {
            graph: graph.clone(),
            pixels,
            max_spread: config.max_spread,
            rate: learning.rate as f32,
            spec: spec.clone(),
            logs,
            moments: [zeros.clone(), zeros],
            steps: 0,
        })
    }

    /// The scales as they stand.
    pub fn spec(&self) -> &QuantSpec {
        &self.spec
    }

    /// The learned numbers, for [`Self::spec_of`].
    pub fn logs(&self) -> &Weights {
        &self.logs
    }

    /// The learned numbers and their averages, for [`Self::restore`].
    pub fn state(&self) -> [Weights; 3] {
        let [first, second] = self.moments.clone();
        [self.logs.clone(), first, second]
    }

    /// Takes up a state after so many steps.
    ///
    /// # Errors
    /// It is of another network.
    pub fn restore(&mut self, [logs, first, second]: &[Weights; 3], steps: u64) -> Result<(), TrainError> {
        self.spec = self.spec_of(logs)?;
        self.logs = logs.clone();
        self.moments = [first.clone(), second.clone()];
        self.steps = steps.min(i32::MAX as u64) as i32;
        Ok(())
    }

    /// Fake quantisation at these scales; if they are `learned`, it has a leaf for each.
    ///
    /// # Errors
    /// None for scales that [`Self::spec_of`] gave.
    pub fn fake(&self, device: &Device, learned: bool) -> Result<Fake, TrainError> {
        let fake = Fake::new(&self.graph, &self.spec, self.pixels, device)?;
        Ok(if learned { fake.learning(device) } else { fake })
    }

    /// One step along the gradients of `fake`'s leaves.
    ///
    /// # Errors
    /// As [`Self::fake`].
    pub fn step(&mut self, fake: &Fake, gradients: &mut Gradients) -> Result<(), TrainError> {
        self.steps = self.steps.saturating_add(1);
        for (name, leaf) in fake.leaves() {
            let Some(gradient) = leaf.grad_remove(gradients) else { continue };
            let gradient = gradient.into_data().convert::<f32>().try_into_vec::<f32>().unwrap_or_default();
            self.adam(&name, &gradient)?;
        }
        self.spec = self.spec_of(&self.logs)?;
        self.follow();
        Ok(())
    }

    fn adam(&mut self, name: &str, gradient: &[f32]) -> Result<(), TrainError> {
        let mut logs = self.logs.get(name)?.clone();
        let [mut first, mut second] =
            [self.moments[0].get(name)?.clone(), self.moments[1].get(name)?.clone()];
        for (i, &g) in gradient.iter().enumerate().filter(|(_, g)| g.is_finite()) {
            let (m, v) = (&mut first.data[i], &mut second.data[i]);
            *m = BETA[0] * *m + (1.0 - BETA[0]) * g;
            *v = BETA[1] * *v + (1.0 - BETA[1]) * g * g;
            let mean = *m / (1.0 - BETA[0].powi(self.steps));
            let root = (*v / (1.0 - BETA[1].powi(self.steps))).sqrt();
            logs.data[i] -= self.rate * mean / (root + EPSILON);
        }
        self.logs.insert(name, logs);
        self.moments[0].insert(name, first);
        self.moments[1].insert(name, second);
        Ok(())
    }

    /// What `logs` round to: the channels of a layer no further apart than the spread allows, no value
    /// finer than its accumulator.
    ///
    /// # Errors
    /// Numbers of another network.
    pub fn spec_of(&self, logs: &Weights) -> Result<QuantSpec, TrainError> {
        let mut spec = self.spec.clone();
        for (name, layer) in &mut spec.layers {
            let logs = logs.of(name, "weight")?;
            if logs.data.len() != layer.scales.len() {
                return Err(TrainError::tensor(name, format!("has {} scales", logs.data.len())));
            }
            let rounded: Vec<i32> = logs.data.iter().map(|t| t.round() as i32).collect();
            let finest = rounded.iter().max().map_or(0, |coarsest| coarsest - self.max_spread as i32);
            layer.scales = rounded.into_iter().map(|e| e.max(finest)).collect();
        }
        let mut wanted = vec![0; self.graph.nodes.len()];
        let mut values = std::collections::BTreeMap::new();
        for (id, node) in self.graph.nodes.iter().enumerate() {
            if let Some(act) = spec.activations.get(&node.name) {
                wanted[id] = logs.of(&node.name, "value")?.data[0].round() as i32;
                values.insert(id, *act);
            }
        }
        place(&self.graph, self.pixels, &values, &mut spec, |id, _| wanted[id])?;
        Ok(spec)
    }

    /// A number whose scale is held by its neighbours does not run away from it.
    fn follow(&mut self) {
        let near = |t: &mut f32, e: i32| *t = t.clamp(e as f32 - 0.5, e as f32 + 0.5);
        let arrays: Vec<(String, Vec<i32>)> = (self.spec.layers.iter())
            .map(|(name, layer)| (format!("{name}.weight"), layer.scales.clone()))
            .chain(self.spec.activations.iter().map(|(name, act)| (format!("{name}.value"), vec![act.scale])))
            .collect();
        for (name, scales) in arrays {
            let Ok(mut logs) = self.logs.get(&name).cloned() else { continue };
            logs.data.iter_mut().zip(scales).for_each(|(t, e)| near(t, e));
            self.logs.insert(&name, logs);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::tensor::Tensor;

    use super::*;
    use crate::data;
    use crate::net::{Network, Pass};
    use crate::quant::calibrate;
    use crate::untrained;

    /// A loss of a quantised product as a function of the scales' logs, in double precision: `Q` around
    /// the rounding and the saturation as they are at `t0` (the surrogate that the gradient is of).
    fn surrogate(x: &[f64], (t, t0): (f64, f64), lo: f64, hi: f64) -> Vec<f64> {
        let (s, s0) = (t.exp2(), t0.exp2());
        let of = |&x: &f64| {
            let u = x / s0;
            if u < lo || u > hi { s * u.clamp(lo, hi) } else { x + s * ((u + 0.5).floor() - u) }
        };
        x.iter().map(of).collect()
    }

    #[test]
    fn gradients_are_finite_differences_of_the_surrogate() {
        let values = [-3.0f32, -0.7, -0.11, 0.0, 0.06, 0.3, 0.52, 0.97, 1.6, 2.9];
        let device = Device::flex().autodiff();
        for (t0, lo, hi) in [(-2, -8.0, 7.0), (-3, 0.0, 7.0), (0, -1.0, 1.0), (-1, -2.0, 1.0)] {
            let leaf = Tensor::<1>::from_floats([t0 as f32], &device).require_grad();
            let x = Tensor::<1>::from_floats(values, &device).require_grad();
            let y = crate::quant::fake::quantise(
                x,
                Tensor::full([1], 2f32.powi(t0), &Device::flex()),
                lo,
                hi,
                Some(&leaf),
            );
            // Each element has a weight of its own, and the loss bends.
            let weight =
                Tensor::<1>::from_floats([0.3f32, -1.0, 0.7, 2.0, -0.4, 1.1, 0.9, -0.6, 0.2, 1.3], &device);
            let gradients = (y.clone() * y * weight).sum().backward();
            let got: f32 = leaf.grad(&gradients).unwrap().into_scalar();
            let wide: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
            let loss = |t: f64| {
                let y = surrogate(&wide, (t, f64::from(t0)), f64::from(lo), f64::from(hi));
                let weight = [0.3, -1.0, 0.7, 2.0, -0.4, 1.1, 0.9, -0.6, 0.2, 1.3];
                y.iter().zip(weight).map(|(y, w)| y * y * w).sum::<f64>()
            };
            let (t0, step) = (f64::from(t0), 1e-5);
            let expected = (loss(t0 + step) - loss(t0 - step)) / (2.0 * step);
            assert!(expected.abs() > 1e-2);
            assert!(
                (f64::from(got) - expected).abs() < 1e-4 * expected.abs().max(1.0),
                "{got}, not {expected}"
            );
        }
    }

    fn network() -> (Graph, Weights, QuantSpec, PixelScale, crate::Dataset) {
        let data = data::load(data::EMBEDDED, Path::new("data")).unwrap();
        let float = crate::merge(&untrained("mbv2-tiny", &data, 3).unwrap(), &crate::Merge::None).unwrap();
        let config = QuantConfig { weight_bits: 3.into(), act_bits: 3, ..QuantConfig::default() };
        let spec =
            calibrate(&float.graph, &float.weights, &data.train.sample(32), data.pixels, &config).unwrap();
        (float.graph, float.weights, spec, data.pixels, data)
    }

    #[test]
    fn every_scale_has_a_gradient_and_moves_against_it_within_its_bounds() {
        let (graph, weights, spec, pixels, data) = network();
        let config = QuantConfig { max_spread: 2, ..QuantConfig::default() };
        let learning = ScaleLearning { rate: 0.4, until: 1.0 };
        let mut scales = Scales::new(&graph, &spec, pixels, &config, &learning).unwrap();
        let device = Device::flex();
        let network = Network::new(&graph, &weights, &device.clone().autodiff()).unwrap();
        let batch =
            data::gather(&data.train, &[1, 2, 3, 4, 5, 6, 7, 8], pixels, data::Augment::NONE, 0).unwrap();
        let run = |fake: &Fake| {
            let x = burn::tensor::TensorData::new(batch.inputs.clone(), batch.shape);
            let x = Tensor::<4>::from_data(x, &device).autodiff();
            network.forward(x, &mut Pass { fake: Some(fake), ..Pass::default() })
        };
        let fixed = run(&scales.fake(&device, false).unwrap());
        let fake = scales.fake(&device, true).unwrap();
        let logits = run(&fake);
        assert!(
            logits.clone().inner().equal(fixed.inner()).all().into_scalar::<bool>(),
            "learning changes no value"
        );
        let mut gradients = (logits.clone() * logits).sum().backward();
        let before = scales.logs().clone();
        let expected: Vec<(String, Vec<f32>)> = (fake.leaves().into_iter())
            .map(|(name, leaf)| (name, leaf.grad(&gradients).unwrap().into_data().try_into_vec().unwrap()))
            .collect();
        assert_eq!(expected.len(), spec.layers.len() + spec.activations.len());
        scales.step(&fake, &mut gradients).unwrap();
        let (mut moved, mut held) = (0, 0);
        for (name, gradient) in expected {
            let (before, after) = (before.get(&name).unwrap(), scales.logs().get(&name).unwrap());
            for ((g, b), a) in gradient.iter().zip(&before.data).zip(&after.data) {
                // Adam's first step has the length of the rate.
                if *g != 0.0 && (b - a - 0.4 * g.signum()).abs() < 1e-3 {
                    moved += 1;
                } else {
                    held += 1;
                }
            }
        }
        assert!(moved > 4 * held, "{moved} moved, {held} held");
        for _ in 0..3 {
            let fake = scales.fake(&device, true).unwrap();
            let logits = run(&fake);
            scales.step(&fake, &mut (logits.clone() * logits).sum().backward()).unwrap();
        }
        assert_ne!(*scales.spec(), spec);
        for layer in scales.spec().layers.values() {
            assert!(layer.shifts().iter().max() <= Some(&2));
        }
        crate::quant::scales(&graph, scales.spec(), pixels).unwrap();
        // A requantisation never invents bits: the integer model takes every such choice.
        scales.fake(&device, false).unwrap();
        let mut again = Scales::new(&graph, &spec, pixels, &config, &learning).unwrap();
        again.restore(&scales.state(), 4).unwrap();
        assert_eq!(again.spec(), scales.spec());
    }
}
