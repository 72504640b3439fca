//! A model on disk: a folder with `model.json` (public) and `weights.safetensors` (server only).
//!
//! Weights are `{layer}.weight` (I8 up to 8 bits, else I32), `{layer}.bias` (I64,
//! `[vectors, channels]`) and, where the bias depends on the position, `{layer}.bias_map` (U8).
//! Both files are written under a temporary name and renamed when whole.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::{Bias, Graph, LayerWeights, Model, ModelError, Weights};

/// Name of the public file.
pub const GRAPH_FILE: &str = "model.json";
/// Name of the server's file.
pub const WEIGHTS_FILE: &str = "weights.safetensors";
/// Version of both.
pub const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Envelope {
    copriv_model: u32,
    graph: Graph,
}

/// Writes both files into `folder`, which is created if need be.
///
/// # Errors
/// [`ModelError::Io`] naming the file.
pub fn save(model: &Model, folder: &Path) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder).map_err(|e| io(folder, e))?;
    write_whole(&folder.join(WEIGHTS_FILE), &weights_to_bytes(&model.weights)?)?;
    write_whole(&folder.join(GRAPH_FILE), graph_to_json(&model.graph)?.as_bytes())
}

/// Reads a folder written by [`save`] and checks it as [`Model::new`] does.
///
/// # Errors
/// A missing, truncated or foreign file, or weights that do not fit the graph.
pub fn load(folder: &Path) -> Result<Model, ModelError> {
    let graph = load_graph(folder)?;
    let path = folder.join(WEIGHTS_FILE);
    let bytes = std::fs::read(&path).map_err(|e| io(&path, e))?;
    let weights = weights_from_bytes(&bytes).map_err(|reason| ModelError::Format { path, reason })?;
    Model::new(graph, weights)
}

/// Reads and validates the public file of `folder`.
///
/// # Errors
/// As [`load`].
pub fn load_graph(folder: &Path) -> Result<Graph, ModelError> {
    let path = folder.join(GRAPH_FILE);
    let text = std::fs::read_to_string(&path).map_err(|e| io(&path, e))?;
    let graph = graph_from_json(&text).map_err(|reason| ModelError::Format { path, reason })?;
    graph.validate()?;
    Ok(graph)
}

/// The text of `model.json`.
///
/// # Errors
/// None in practice; the serialiser's if it fails.
pub fn graph_to_json(graph: &Graph) -> Result<String, ModelError> {
    let envelope = Envelope { copriv_model: FORMAT, graph: graph.clone() };
    serde_json::to_string_pretty(&envelope)
        .map_err(|e| ModelError::Format { path: GRAPH_FILE.into(), reason: e.to_string() })
}

/// Parses `model.json`; the caller validates.
///
/// # Errors
/// What is wrong with the text.
pub fn graph_from_json(text: &str) -> Result<Graph, String> {
    let envelope: Envelope =
        serde_json::from_str(text).map_err(|e| format!("not a copriv model ({e}); export it again"))?;
    if envelope.copriv_model != FORMAT {
        return Err(format!("format {} is not {FORMAT}; export it again", envelope.copriv_model));
    }
    Ok(envelope.graph)
}

/// Writes `bytes` so that `path` exists only when whole.
///
/// # Errors
/// [`ModelError::Io`] naming `path`.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| io(path, e))?;
    file.write_all(bytes).map_err(|e| io(path, e))?;
    file.as_file().sync_all().map_err(|e| io(path, e))?;
    file.persist(path).map_err(|e| io(path, e.error))?;
    Ok(())
}

fn weights_to_bytes(weights: &Weights) -> Result<Vec<u8>, ModelError> {
    let mut tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for (name, layer) in weights.iter() {
        let narrow: Option<Vec<u8>> =
            layer.weight.iter().map(|&w| i8::try_from(w).ok().map(|w| w as u8)).collect();
        let (dtype, bytes) = match narrow {
            Some(bytes) => (Dtype::I8, bytes),
            None => (Dtype::I32, layer.weight.iter().flat_map(|w| w.to_le_bytes()).collect()),
        };
        tensors.insert(format!("{name}.weight"), (dtype, vec![layer.weight.len()], bytes));
        let bias: Vec<u8> = layer.bias.vectors.iter().flatten().flat_map(|b| b.to_le_bytes()).collect();
        let shape = vec![layer.bias.vectors.len(), layer.bias.channels()];
        tensors.insert(format!("{name}.bias"), (Dtype::I64, shape, bias));
        if !layer.bias.map.is_empty() {
            let map = layer.bias.map.clone();
            tensors.insert(format!("{name}.bias_map"), (Dtype::U8, vec![map.len()], map));
        }
    }
    let failed = |e: safetensors::SafeTensorError| ModelError::Format {
        path: WEIGHTS_FILE.into(),
        reason: e.to_string(),
    };
    let views: Result<Vec<_>, _> = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| {
            TensorView::new(*dtype, shape.clone(), bytes).map(|v| (name.as_str(), v))
        })
        .collect();
    safetensors::serialize(views.map_err(failed)?, None).map_err(failed)
}

fn weights_from_bytes(bytes: &[u8]) -> Result<Weights, String> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|e| format!("not a whole safetensors file ({e:?}); export the model again"))?;
    let mut weights = Weights::default();
    for name in file.names() {
        let Some(layer) = name.strip_suffix(".weight") else { continue };
        let tensor = |suffix: &str| file.tensor(&format!("{layer}.{suffix}"));
        let weight = integers(&tensor("weight").map_err(|e| format!("{name}: {e:?}"))?)?;
        let bias = tensor("bias").map_err(|_| format!("{layer}.bias is missing"))?;
        let channels = bias.shape().last().copied().unwrap_or(0).max(1);
        let vectors = integers(&bias)?.chunks(channels).map(<[i64]>::to_vec).collect();
        let map = tensor("bias_map").map(|t| t.data().to_vec()).unwrap_or_default();
        let weight: Result<Vec<i32>, _> = weight.into_iter().map(i32::try_from).collect();
        let weight = weight.map_err(|_| format!("{name}: a weight beyond 32 bits"))?;
        weights.insert(layer, LayerWeights { weight, bias: Bias { vectors, map } });
    }
    Ok(weights)
}

fn integers(tensor: &TensorView<'_>) -> Result<Vec<i64>, String> {
    let data = tensor.data();
    match tensor.dtype() {
        Dtype::I8 => Ok(data.iter().map(|&b| i64::from(b as i8)).collect()),
        Dtype::I32 => Ok(data.as_chunks().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect()),
        Dtype::I64 => Ok(data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        other => Err(format!("a tensor of type {other:?}; I8, I32 or I64 expected")),
    }
}

fn io(path: &Path, source: std::io::Error) -> ModelError {
    ModelError::Io { path: path.to_owned(), source }
}
