//! The verbs of the command line: train, export, evaluate. (Pruning: [`crate::prune`].)

use std::path::PathBuf;

use copriv_model::{Model, execute};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::TrainError;
use crate::checkpoint::{Checkpoint, Stage};
use crate::data::{Dataset, Images};
use crate::device::Processor;
use crate::fit::{Distill, Job, Progress, accuracy, argmax, fit, logits};
use crate::lower::integer_model;
use crate::net::{Arch, Graph, Weights};
use crate::quant::{QuantConfig, ScaleLearning, WeightWidth, calibrate};
use crate::recipe::Recipe;
use crate::rewrite::{fold_norms, merge_blocks, mergeable};
use crate::weights::{self, Normalisation};

/// How to train a network from scratch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Name of the architecture; see [`Arch`].
    pub arch: String,
    /// How long and how hard.
    pub recipe: Recipe,
    /// How much to listen to the teacher.
    pub distill: Distill,
    /// A float checkpoint to distil from.
    pub teacher: Option<PathBuf>,
    /// Weights to start from instead of random ones, as [`crate::weights::import`] reads them.
    pub weights: Option<PathBuf>,
    /// How these want their pixels.
    pub normalisation: Option<Normalisation>,
    /// Train on an even sample of so many training images only.
    pub images: Option<usize>,
    /// Where to train.
    pub device: Processor,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            arch: "mbv2-tiny".to_owned(),
            recipe: Recipe { epochs: 12, ..Recipe::default() },
            distill: Distill::default(),
            teacher: None,
            weights: None,
            normalisation: None,
            images: None,
            device: Processor::default(),
            seed: 0,
        }
    }
}

/// Which linear blocks become one convolution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// Every one that exactly one convolution can replace.
    #[default]
    All,
    /// None.
    None,
    /// Those of these names.
    Only(Vec<String>),
}

/// How to turn a float network into integers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExportConfig {
    /// Widths.
    pub quant: QuantConfig,
    /// Stages of training on the way, widest first: each at its widths where the target's are
    /// narrower. Stages at which nothing would be wider than the target are left out.
    pub stages: Vec<QuantStage>,
    /// Quantisation-aware training at the target's widths; no epochs means none.
    pub qat: Recipe,
    /// How the scales are learned meanwhile.
    pub scales: ScaleLearning,
    /// Distillation from the float network while doing so.
    pub distill: Distill,
    /// Which freed blocks to merge first.
    pub merge: Merge,
    /// Training images that the activations' scales are chosen from.
    pub calibration: usize,
    /// Where to train.
    pub device: Processor,
    /// Seed of everything random.
    pub seed: u64,
}

/// Training at widths on the way to the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantStage {
    /// No weights are narrower.
    pub weight_bits: WeightWidth,
    /// No rectified activation is narrower.
    pub act_bits: u32,
    /// How long and how hard.
    pub recipe: Recipe,
}

/// Names of the stages in `metrics.csv` and among the kept states.
const STAGES: [&str; 8] = ["qat-1", "qat-2", "qat-3", "qat-4", "qat-5", "qat-6", "qat-7", "qat-8"];

impl Default for ExportConfig {
    fn default() -> Self {
        Self {
            quant: QuantConfig::default(),
            stages: Vec::new(),
            scales: ScaleLearning::default(),
            // Merged kernels are large and steep: small steps, short gradients.
            qat: Recipe {
                epochs: 2,
                rate: 0.004,
                warmup: 0.5,
                weight_decay: 1e-4,
                clip: 1.0,
                ..Recipe::default()
            },
            distill: Distill::default(),
            merge: Merge::All,
            calibration: 256,
            device: Processor::default(),
            seed: 0,
        }
    }
}

/// An exported network, on all levels.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The integer model: its graph is public, its weights are the server's.
    pub model: Model,
    /// The network before quantisation, folded and merged.
    pub float: Checkpoint,
    /// The fake-quantised one that the model was lowered from.
    pub checkpoint: Checkpoint,
    /// Percent of the test images, by the float network before quantisation.
    pub float_accuracy: f64,
    /// By the fake-quantised network.
    pub fake_quant_accuracy: f64,
    /// By the integer executor.
    pub integer_accuracy: f64,
}

/// Trains `config.arch` on `data`.
///
/// # Errors
/// An unknown architecture, settings out of range, or a diverging run.
pub fn train(
    config: &TrainConfig,
    data: &Dataset,
    progress: &mut dyn Progress,
) -> Result<Checkpoint, TrainError> {
    let start = match &config.weights {
        Some(file) => weights::import(file, &config.arch, data, config.normalisation.as_ref())?,
        None => untrained(&config.arch, data, config.seed)?,
    };
    let sampled = config.images.map(|n| Dataset { train: data.train.sample(n), ..data.clone() });
    let teacher = config.teacher.as_deref().map(Checkpoint::load).transpose()?;
    let job = Job {
        label: "train",
        start: &start,
        teacher: teacher.as_ref().map(|teacher| (teacher, config.distill)),
        scales: None,
        search: None,
        recipe: &config.recipe,
        device: config.device,
        keep_best: false,
        seed: config.seed,
    };
    fit(job, sampled.as_ref().unwrap_or(data), progress)
}

/// The network that training starts from.
///
/// # Errors
/// An unknown architecture, or images that it cannot take.
pub fn untrained(arch: &str, data: &Dataset, seed: u64) -> Result<Checkpoint, TrainError> {
    let graph = Arch::parse(arch)?.build(data.shape(), data.classes.len())?;
    Ok(Checkpoint {
        stage: Stage::Float,
        weights: Weights::init(&graph, seed),
        graph,
        quant: None,
        dataset: data.name.clone(),
        classes: data.classes.clone(),
        pixels: data.pixels,
    })
}

/// Folds norms and merges the freed blocks that `which` selects: the same function, exactly.
///
/// # Errors
/// A quantised checkpoint, or an unknown block.
pub fn merge(start: &Checkpoint, which: &Merge) -> Result<Checkpoint, TrainError> {
    if start.stage == Stage::Quantised {
        return Err(TrainError::Stage {
            found: start.stage.name(),
            wanted: "merging comes before quantisation",
        });
    }
    let (graph, weights) = fold_norms(&start.graph, &start.weights)?;
    let (graph, weights) = merge_blocks(&graph, &weights, &which.resolve(&graph)?)?;
    Ok(Checkpoint { stage: Stage::Merged, graph, weights, ..start.clone() })
}

/// Merges, quantises, trains with fake quantisation and lowers to integers.
///
/// # Errors
/// A checkpoint that is quantised already, settings out of range, or a network that the
/// integer model refuses.
pub fn export(
    config: &ExportConfig,
    start: &Checkpoint,
    data: &Dataset,
    progress: &mut dyn Progress,
) -> Result<Exported, TrainError> {
    let float = merge(start, &config.merge)?;
    if config.stages.len() > STAGES.len() {
        return Err(TrainError::config("stages", format!("more than {}", STAGES.len())));
    }
    let mut weights = float.weights.clone();
    for (stage, label) in config.stages.iter().zip(STAGES) {
        let widths = config.quant.at_least(&float.graph, stage.weight_bits, stage.act_bits)?;
        if !widths.same_widths(&config.quant, &float.graph)? {
            weights =
                trained(config, (&float, weights), (label, &widths, &stage.recipe), data, progress)?.weights;
        }
    }
    let quantised = trained(config, (&float, weights), ("qat", &config.quant, &config.qat), data, progress)?;
    let model = integer_model(&quantised, &config.quant)?;
    let test = &data.test;
    let right: Vec<usize> = integer_logits(&model, test)?.iter().map(|z| execute::argmax(z)).collect();
    let right = right.iter().zip(&test.labels).filter(|(p, l)| **p == usize::from(**l)).count();
    Ok(Exported {
        float_accuracy: evaluate(&float, test)?.accuracy,
        fake_quant_accuracy: evaluate(&quantised, test)?.accuracy,
        integer_accuracy: 100.0 * right as f64 / test.len().max(1) as f64,
        model,
        float,
        checkpoint: quantised,
    })
}

/// One stage: scales from what the network with these weights shows, then training.
fn trained(
    config: &ExportConfig,
    (float, weights): (&Checkpoint, Weights),
    (label, widths, recipe): (&'static str, &QuantConfig, &Recipe),
    data: &Dataset,
    progress: &mut dyn Progress,
) -> Result<Checkpoint, TrainError> {
    let images = data.train.sample(config.calibration.max(1));
    let spec = calibrate(&float.graph, &weights, &images, data.pixels, widths)?;
    let start = Checkpoint { stage: Stage::Quantised, weights, quant: Some(spec), ..float.clone() };
    if recipe.epochs == 0 {
        return Ok(start);
    }
    let job = Job {
        label,
        start: &start,
        teacher: Some((float, config.distill)),
        scales: Some((widths, config.scales)),
        search: None,
        recipe,
        device: config.device,
        keep_best: true,
        seed: config.seed,
    };
    fit(job, data, progress)
}

/// What a network says of some images.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Logits of every image.
    pub logits: Vec<Vec<f32>>,
    /// Class of every image.
    pub predictions: Vec<usize>,
    /// Percent predicted correctly.
    pub accuracy: f64,
}

/// Runs a checkpoint, float or fake-quantised, on `images`.
///
/// # Errors
/// Images of another shape than the network's input.
pub fn evaluate(checkpoint: &Checkpoint, images: &Images) -> Result<Evaluation, TrainError> {
    let quant = checkpoint.quant.as_ref();
    let logits = logits(&checkpoint.graph, &checkpoint.weights, quant, images, checkpoint.pixels)?;
    let accuracy = accuracy(&logits, &images.labels);
    Ok(Evaluation { predictions: logits.iter().map(|z| argmax(z)).collect(), logits, accuracy })
}

/// Integer logits of every image, by the plaintext executor.
///
/// # Errors
/// Images of another shape than the model's input.
pub fn integer_logits(model: &Model, images: &Images) -> Result<Vec<Vec<i64>>, TrainError> {
    (0..images.len())
        .into_par_iter()
        .map(|i| {
            let input = model.graph.quantise_image(&images.interleaved(i)?, images.side, images.side)?;
            Ok(execute::run(model, &input)?.output().to_vec())
        })
        .collect()
}

impl Merge {
    /// One answer for every block.
    ///
    /// # Errors
    /// An unknown name.
    pub fn resolve(&self, graph: &Graph) -> Result<Vec<bool>, TrainError> {
        if let Self::Only(names) = self
            && let Some(name) = names.iter().find(|n| graph.blocks.iter().all(|b| b.name != **n))
        {
            return Err(TrainError::graph(name, "no such block"));
        }
        match self {
            Self::All => mergeable(graph),
            Self::None => Ok(vec![false; graph.blocks.len()]),
            Self::Only(names) => Ok(graph.blocks.iter().map(|b| names.contains(&b.name)).collect()),
        }
    }
}
