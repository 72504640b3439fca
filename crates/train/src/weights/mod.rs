//! Weights from and to PyTorch: state dicts (`.pt`, `.pth`, `.th`) and safetensors with
//! PyTorch's names.
//!
//! Foreign networks take `(pixel / 255 - mean) / std`, ours `(pixel - offset) * 2^scale`, which is
//! exact in integers. The difference is an affine map of each colour, and is folded into the
//! first convolution: exactly, borders included, since a bias may depend on the position.

mod names;
mod read;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use copriv_model::file::write_whole;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use self::names::{Torch, canonical, torch_names};
use crate::TrainError;
use crate::checkpoint::{Checkpoint, Stage};
use crate::data::{Dataset, PixelScale};
use crate::net::{Arch, Array, Bias, Graph, Op, Weights};
use crate::rewrite::fold_input;

/// Key of [`Normalisation`] in the metadata of an exported file.
const KEY: &str = "copriv.normalisation";

/// How a network wants its pixels: `(pixel / 255 - mean) / std`, by colour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// Mean of each channel, in units of the full pixel range.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel, likewise.
    pub std: Vec<f64>,
}

impl Normalisation {
    /// That of ImageNet, which torchvision's networks and many others expect.
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// That of our own networks.
    pub fn native(pixels: PixelScale, channels: usize) -> Self {
        let std = 2f64.powi(-pixels.scale_log2) / 255.0;
        Self { mean: vec![f64::from(pixels.offset) / 255.0; channels], std: vec![std; channels] }
    }

    fn check(&self, channels: usize) -> Result<(), TrainError> {
        let whole = |v: &[f64]| v.len() == channels && v.iter().all(|v| v.is_finite());
        if whole(&self.mean) && whole(&self.std) && self.std.iter().all(|&s| s > 0.0) {
            return Ok(());
        }
        Err(TrainError::config(
            "normalisation",
            format!("{channels} means and {channels} positive deviations are needed"),
        ))
    }
}

/// A float checkpoint of `arch` for `data` with the weights in `file`. `normalisation` defaults to
/// the file's own if we wrote it, else to ImageNet's.
///
/// # Errors
/// A file that is none of the formats, or whose tensors do not fit: every missing, unused and
/// misshapen one in one message.
pub fn import(
    file: &Path,
    arch: &str,
    data: &Dataset,
    normalisation: Option<&Normalisation>,
) -> Result<Checkpoint, TrainError> {
    let (tensors, stored) = read::read(file)?;
    let graph = Arch::parse(arch)?.build(data.shape(), data.classes.len())?;
    let weights = assign(&graph, tensors).map_err(|e| TrainError::format(file, e.to_string()))?;
    let channels = data.shape()[0];
    let normalisation = normalisation.cloned().or(stored).unwrap_or_else(Normalisation::imagenet);
    normalisation.check(channels)?;
    let native = Normalisation::native(data.pixels, channels);
    // x' = x * scale + shift, colour by colour.
    let scale: Vec<f64> =
        native.std.iter().zip(&normalisation.std).map(|(ours, theirs)| ours / theirs).collect();
    let shift: Vec<f64> =
        (0..channels).map(|c| (native.mean[c] - normalisation.mean[c]) / normalisation.std[c]).collect();
    let (graph, weights) = fold_input(&graph, &weights, &scale, &shift)?;
    Ok(Checkpoint {
        stage: Stage::Float,
        graph,
        weights,
        quant: None,
        dataset: data.name.clone(),
        classes: data.classes.clone(),
        pixels: data.pixels,
    })
}

/// Writes a checkpoint's parameters as safetensors with PyTorch's names; the metadata says how
/// its pixels are normalised.
///
/// # Errors
/// A network that PyTorch's layers cannot express: merged, or with a bias that depends on the
/// position.
pub fn export(checkpoint: &Checkpoint, file: &Path) -> Result<(), TrainError> {
    let graph = &checkpoint.graph;
    let positional = |op: &Op| matches!(op, Op::Conv(conv) if matches!(conv.bias, Bias::Position(_)));
    if let Some(node) = graph.nodes.iter().find(|n| positional(&n.op)) {
        return Err(TrainError::graph(
            &node.name,
            "its bias depends on the position; PyTorch has no such layer",
        ));
    }
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (torch, name) in torch_names(graph) {
        let array = checkpoint.weights.get(&name)?;
        let bytes = array.data.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensors.insert(torch.0, (array.shape.clone(), bytes));
    }
    let fail = |e: &dyn std::fmt::Display| TrainError::format(file, e.to_string());
    let views = tensors
        .iter()
        .map(|(name, (shape, bytes))| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| fail(&e))?;
    let normalisation = Normalisation::native(checkpoint.pixels, graph.input_shape()[0]);
    let normalisation = serde_json::to_string(&normalisation).map_err(|e| fail(&e))?;
    let metadata = HashMap::from([(KEY.to_owned(), normalisation), ("format".to_owned(), "pt".to_owned())]);
    let whole = safetensors::serialize(views, Some(metadata)).map_err(|e| fail(&e))?;
    Ok(write_whole(file, &whole)?)
}

/// Puts foreign tensors in the places of `graph`'s.
fn assign(graph: &Graph, tensors: BTreeMap<String, Array>) -> Result<Weights, TrainError> {
    let mut foreign: BTreeMap<Torch, (String, Array)> = BTreeMap::new();
    for (name, array) in tensors {
        foreign.insert(canonical(&name), (name, array));
    }
    let shapes: BTreeMap<String, Vec<usize>> = crate::net::expected(graph).into_iter().collect();
    let mut weights = Weights::default();
    let mut wrong = Vec::new();
    for (torch, name) in torch_names(graph) {
        let Some((called, array)) = foreign.remove(&torch) else {
            wrong.push(format!("`{}` is missing", torch.0));
            continue;
        };
        if array.shape != shapes[&name] {
            wrong.push(format!("`{called}` has shape {:?} instead of {:?}", array.shape, shapes[&name]));
        } else if !array.is_finite() {
            wrong.push(format!("`{called}` is not finite"));
        }
        weights.insert(&name, array);
    }
    wrong
        .extend(foreign.into_values().map(|(called, _)| format!("`{called}` is not part of {}", graph.arch)));
    if wrong.is_empty() { Ok(weights) } else { Err(TrainError::tensor(&graph.arch, wrong.join("; "))) }
}
