//! One file per network: parameters as safetensors, everything else as JSON in its metadata.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use copriv_model::file::write_whole;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::TrainError;
use crate::data::PixelScale;
use crate::net::{Array, BlockState, Graph, Weights};
use crate::quant::QuantSpec;

/// Key of the JSON in the file's metadata.
const KEY: &str = "copriv";
/// Changes whenever an older program could misread a file.
const VERSION: u32 = 1;

/// A network with all that is needed to train, rewrite or export it.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// How far along the pipeline it is.
    pub stage: Stage,
    /// The network.
    pub graph: Graph,
    /// Its parameters.
    pub weights: Weights,
    /// Scales, once quantised.
    pub quant: Option<QuantSpec>,
    /// Name of the data set it was trained on.
    pub dataset: String,
    /// Class names by label.
    pub classes: Vec<String>,
    /// How pixels become its input.
    pub pixels: PixelScale,
}

/// Life of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// As designed.
    Float,
    /// Some blocks without rectifiers.
    Pruned,
    /// Freed blocks merged, norms folded.
    Merged,
    /// With scales, norms folded.
    Quantised,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    stage: Stage,
    graph: Graph,
    quant: Option<QuantSpec>,
    dataset: String,
    classes: Vec<String>,
    pixels: PixelScale,
}

impl Stage {
    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Pruned => "pruned",
            Self::Merged => "merged",
            Self::Quantised => "quantised",
        }
    }
}

impl Checkpoint {
    /// Whether each block still has its rectifiers.
    pub fn kept_blocks(&self) -> Vec<bool> {
        self.graph.blocks.iter().map(|b| b.state == BlockState::Kept).collect()
    }

    /// SHA-256, in hexadecimal, of the network and its parameters: equal for two checkpoints that compute the same
    /// in the same way.
    ///
    /// # Errors
    /// None that is known: a graph is always written.
    pub fn digest(&self) -> Result<String, TrainError> {
        let mut hash = Sha256::new();
        let graph =
            serde_json::to_vec(&self.graph).map_err(|e| TrainError::graph("network", e.to_string()))?;
        hash.update((graph.len() as u64).to_le_bytes());
        hash.update(graph);
        for (name, array) in self.weights.iter() {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            array.data.iter().for_each(|v| hash.update(v.to_le_bytes()));
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Writes the whole file or none: to a temporary name beside `path`, then renamed.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let header = Header {
            version: VERSION,
            stage: self.stage,
            graph: self.graph.clone(),
            quant: self.quant.clone(),
            dataset: self.dataset.clone(),
            classes: self.classes.clone(),
            pixels: self.pixels,
        };
        let json = serde_json::to_string(&header).map_err(|e| TrainError::format(path, e.to_string()))?;
        write_tensors(path, KEY, json, self.weights.iter().map(|(name, a)| (name.to_owned(), a)))
    }

    /// Reads a file that [`Checkpoint::save`] wrote.
    ///
    /// # Errors
    /// An absent, truncated or foreign file, or one whose tensors do not fit its network.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let (json, tensors) = read_tensors(path, KEY, "a checkpoint")?;
        let foreign = |e: &dyn std::fmt::Display| {
            TrainError::format(path, format!("not a checkpoint of copriv, or truncated ({e})"))
        };
        let header: Header = serde_json::from_str(&json).map_err(|e| foreign(&e))?;
        if header.version != VERSION {
            return Err(TrainError::format(
                path,
                format!("format version {}, this program reads {VERSION}", header.version),
            ));
        }
        let mut weights = Weights::default();
        tensors.into_iter().for_each(|(name, array)| weights.insert(&name, array));
        let inside = |e: TrainError| TrainError::format(path, e.to_string());
        header.graph.shapes().map_err(inside)?;
        weights.check(&header.graph).map_err(inside)?;
        if header.stage == Stage::Quantised && header.quant.is_none() {
            return Err(foreign(&"a quantised network without scales"));
        }
        Ok(Self {
            stage: header.stage,
            graph: header.graph,
            weights,
            quant: header.quant,
            dataset: header.dataset,
            classes: header.classes,
            pixels: header.pixels,
        })
    }
}

/// Writes `tensors` as safetensors with `header` under `key` in the metadata: the whole file or none.
pub(crate) fn write_tensors<'a>(
    path: &Path,
    key: &str,
    header: String,
    tensors: impl Iterator<Item = (String, &'a Array)>,
) -> Result<(), TrainError> {
    let bytes: Vec<(String, &Array, Vec<u8>)> =
        tensors.map(|(name, a)| (name, a, a.data.iter().flat_map(|v| v.to_le_bytes()).collect())).collect();
    let views = bytes
        .iter()
        .map(|(name, a, data)| Ok((name, TensorView::new(Dtype::F32, a.shape.clone(), data)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    let metadata = HashMap::from([(key.to_owned(), header)]);
    let whole = views
        .and_then(|views| safetensors::serialize(views, Some(metadata)))
        .map_err(|e| TrainError::format(path, e.to_string()))?;
    Ok(write_whole(path, &whole)?)
}

/// The header and the tensors of a file that [`write_tensors`] wrote; `what` it should be.
pub(crate) fn read_tensors(
    path: &Path,
    key: &str,
    what: &str,
) -> Result<(String, Vec<(String, Array)>), TrainError> {
    let bytes = fs::read(path).map_err(TrainError::io(path))?;
    let foreign = |e: &dyn std::fmt::Display| {
        TrainError::format(path, format!("not {what} of copriv, or truncated ({e})"))
    };
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| foreign(&e))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| foreign(&e))?;
    let header = metadata.metadata().as_ref().and_then(|m| m.get(key));
    let header = header.ok_or_else(|| foreign(&"it says nothing of itself"))?.clone();
    let mut arrays = Vec::with_capacity(tensors.len());
    for (name, view) in tensors.iter() {
        if view.dtype() != Dtype::F32 {
            let reason = format!("tensor `{name}` is {:?}, not F32", view.dtype());
            return Err(TrainError::format(path, reason));
        }
        let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        arrays.push((name.to_owned(), Array { shape: view.shape().to_vec(), data: values }));
    }
    Ok((header, arrays))
}
