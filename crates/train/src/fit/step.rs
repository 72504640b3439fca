//! One step: shards of a batch differentiated in parallel, one update.

use std::thread;

use burn::grad_clipping::GradientClipping;
use burn::module::{Module, ParamGroup};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor, TensorData};

use super::loss::{divergence, mixed_cross_entropy};
use super::{Teacher, argmax};
use crate::TrainError;
use crate::data::Batch;
use crate::net::{DECAYED, Gates, Network, Pass};
use crate::prune::GateSearch;
use crate::quant::Fake;
use crate::recipe::{Optimizer, Recipe};

/// A part of a batch.
pub(super) struct Shard {
    pub batch: Batch,
    /// Weight of each of its images in the loss: one over the size of the whole batch.
    pub share: f64,
}

/// What a step saw, over the whole batch.
pub(super) struct StepOutcome {
    /// Mean loss of an image.
    pub loss: f64,
    /// Images classified correctly.
    pub right: usize,
}

/// Stochastic gradient descent with Nesterov momentum, decay on matrices only.
pub(super) struct Sgd {
    optimizer: ModuleOptimizer,
}

impl Sgd {
    pub(super) fn new(recipe: &Recipe) -> Result<Self, TrainError> {
        let Optimizer::Sgd { momentum, nesterov } = recipe.optimizer else {
            return Err(TrainError::config("optimizer", "this loop has sgd only"));
        };
        // Burn's default dampening is 0.1.
        let momentum = MomentumConfig { momentum, dampening: 0.0, nesterov };
        let plain = SgdConfig::new().with_momentum(Some(momentum));
        let decay = Some(WeightDecayConfig::new(recipe.weight_decay as f32));
        let decayed = plain.clone().with_weight_decay(decay).build();
        let group = ParamGroup::from_any_predicates(DECAYED.to_vec());
        let clip = GradientClipping::Norm(recipe.clip);
        let optimizer = plain.init().with_grad_clipping(clip.clone()).with_group(group, decayed, Some(clip));
        Ok(Self { optimizer })
    }
}

struct Differentiated {
    loss: f64,
    right: usize,
    gradients: GradientsParams,
    alpha: Vec<f32>,
    statistics: Vec<[Tensor<1>; 2]>,
}

/// Differentiates every shard, adds up the gradients in the shards' order and updates.
#[expect(clippy::too_many_arguments, reason = "the loop's state, borrowed piecewise")]
pub(super) fn step(
    network: Network,
    sgd: &mut Sgd,
    rate: f64,
    shards: &[Shard],
    fake: Option<&Fake>,
    teacher: Option<&Teacher>,
    gates: Option<&mut GateSearch>,
    recipe: &Recipe,
) -> (Network, StepOutcome) {
    let search = gates.as_deref();
    // A replica per shard: leaves shared by two threads would join their graphs.
    let replicas: Vec<Network> =
        shards.iter().map(|_| network.clone().fork(&Device::flex().autodiff())).collect();
    let results: Vec<Differentiated> = thread::scope(|scope| {
        let workers: Vec<_> = shards
            .iter()
            .zip(&replicas)
            .map(|(shard, replica)| {
                scope.spawn(move || differentiate(replica, shard, fake, teacher, search, recipe))
            })
            .collect();
        workers.into_iter().map(|w| w.join().expect("a shard's thread does not panic")).collect()
    });
    let mut outcome = StepOutcome { loss: 0.0, right: 0 };
    let mut sum = GradientsAccumulator::new();
    let mut statistics = Vec::with_capacity(results.len());
    let mut alpha: Vec<f32> = Vec::new();
    for result in results {
        outcome.loss += result.loss;
        outcome.right += result.right;
        sum.accumulate(&network, result.gradients);
        statistics.push(result.statistics);
        alpha.resize(result.alpha.len(), 0.0);
        alpha.iter_mut().zip(result.alpha).for_each(|(sum, a)| *sum += a);
    }
    if let Some(search) = gates {
        search.update(&alpha);
    }
    let mut network = sgd.optimizer.step(rate, network, sum.grads());
    network.absorb(&statistics);
    (network, outcome)
}

fn differentiate(
    network: &Network,
    shard: &Shard,
    fake: Option<&Fake>,
    teacher: Option<&Teacher>,
    search: Option<&GateSearch>,
    recipe: &Recipe,
) -> Differentiated {
    let device = Device::flex();
    let batch = &shard.batch;
    let x = Tensor::<4>::from_data(TensorData::new(batch.inputs.clone(), batch.shape), &device);
    let advice = teacher.map(|t| (t.network.forward(x.clone(), &mut Pass::default()), t.distill));
    let gates = search.map(|search| Gates {
        alpha: Tensor::<1>::from_floats(search.alpha(), &device.clone().autodiff()).require_grad(),
        open: search.open().to_vec(),
    });
    let mut pass = Pass { gates: gates.as_ref(), fake, ..Pass::default() };
    let logits = network.forward(x.autodiff(), &mut pass);
    let statistics = pass.statistics;
    let mut loss = mixed_cross_entropy(logits.clone(), batch, recipe.label_smoothing);
    if let Some((advice, distill)) = advice {
        let soft = divergence(logits.clone(), advice, distill.temperature);
        loss = loss * (1.0 - distill.mix) + soft * distill.mix;
    }
    let loss = loss * shard.share;
    let mut gradients = loss.backward();
    let alpha = gates
        .and_then(|g| g.alpha.grad_remove(&mut gradients))
        .map_or_else(Vec::new, |g| g.into_data().try_into_vec().unwrap_or_default());
    let gradients = GradientsParams::from_grads(gradients, network);
    let classes = logits.dims()[1];
    let flat = logits.into_data().try_into_vec::<f32>().unwrap_or_default();
    let right =
        flat.chunks_exact(classes).zip(&batch.labels).filter(|(z, l)| argmax(z) == **l as usize).count();
    let loss = f64::from(loss.into_scalar::<f32>());
    Differentiated { loss, right, gradients, alpha, statistics }
}
