//! State dicts from files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::store::pytorch_reader::{DType, PytorchReader};
use safetensors::tensor::{Dtype, SafeTensors};

use super::{KEY, Normalisation};
use crate::TrainError;
use crate::net::Array;

/// Under which keys training scripts put the state dict.
const CONTAINERS: [&str; 4] = ["state_dict.", "model_state_dict.", "model.", "net."];
/// What wrappers put in front of every name.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "model."];
/// A counter of batches, of no use to us.
const COUNTER: &str = "num_batches_tracked";

type Tensors = BTreeMap<String, Array>;

/// The floating-point tensors of a PyTorch or safetensors file without their wrappers' prefixes,
/// and the normalisation if the file says it.
pub(super) fn read(file: &Path) -> Result<(Tensors, Option<Normalisation>), TrainError> {
    let (tensors, stored) = if file.extension().is_some_and(|e| e == "safetensors") {
        safetensors(file)?
    } else {
        (pytorch(file)?, None)
    };
    let mut tensors: Tensors = tensors.into_iter().filter(|(name, _)| !name.ends_with(COUNTER)).collect();
    for container in CONTAINERS {
        if tensors.keys().any(|name| name.starts_with(container)) {
            tensors = strip(tensors, container);
            break;
        }
    }
    for wrapper in WRAPPERS {
        if !tensors.is_empty() && tensors.keys().all(|name| name.starts_with(wrapper)) {
            tensors = strip(tensors, wrapper);
        }
    }
    if tensors.is_empty() {
        return Err(TrainError::format(file, "holds no tensor of floating-point numbers"));
    }
    Ok((tensors, stored))
}

/// The tensors below `prefix`, without it.
fn strip(tensors: Tensors, prefix: &str) -> Tensors {
    let strip = |(name, array): (String, Array)| Some((name.strip_prefix(prefix)?.to_owned(), array));
    tensors.into_iter().filter_map(strip).collect()
}

fn pytorch(file: &Path) -> Result<Tensors, TrainError> {
    // The reader's own message for an absent file does not name it.
    fs::File::open(file).map_err(TrainError::io(file))?;
    let fail = |e: &dyn std::fmt::Display| {
        let text = e.to_string().replace('\n', " ");
        TrainError::format(file, format!("not a PyTorch file, or truncated ({text})"))
    };
    let reader = PytorchReader::new(file).map_err(|e| fail(&e))?;
    let mut tensors = Tensors::new();
    for (name, tensor) in reader.into_tensors() {
        let data = match tensor.dtype() {
            DType::F32 => floats::<4>(&tensor.read().map_err(|e| fail(&e))?, f32::from_le_bytes),
            DType::F64 => {
                floats::<8>(&tensor.read().map_err(|e| fail(&e))?, |b| f64::from_le_bytes(b) as f32)
            }
            DType::F16 => {
                floats::<2>(&tensor.read().map_err(|e| fail(&e))?, |b| half::f16::from_le_bytes(b).to_f32())
            }
            DType::BF16 => {
                floats::<2>(&tensor.read().map_err(|e| fail(&e))?, |b| half::bf16::from_le_bytes(b).to_f32())
            }
            _ => continue,
        };
        tensors.insert(name, array(file, tensor.shape(), data)?);
    }
    Ok(tensors)
}

fn safetensors(file: &Path) -> Result<(Tensors, Option<Normalisation>), TrainError> {
    let bytes = fs::read(file).map_err(TrainError::io(file))?;
    let fail = |e: &dyn std::fmt::Display| {
        TrainError::format(file, format!("not a safetensors file, or truncated ({e})"))
    };
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| fail(&e))?;
    let stored = metadata.metadata().as_ref().and_then(|m| m.get(KEY));
    let stored = stored.map(|json| serde_json::from_str(json)).transpose().map_err(|e| fail(&e))?;
    let mut tensors = Tensors::new();
    for (name, view) in SafeTensors::deserialize(&bytes).map_err(|e| fail(&e))?.iter() {
        let data = match view.dtype() {
            Dtype::F32 => floats::<4>(view.data(), f32::from_le_bytes),
            Dtype::F64 => floats::<8>(view.data(), |b| f64::from_le_bytes(b) as f32),
            Dtype::F16 => floats::<2>(view.data(), |b| half::f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => floats::<2>(view.data(), |b| half::bf16::from_le_bytes(b).to_f32()),
            _ => continue,
        };
        tensors.insert(name.to_owned(), array(file, view.shape(), data)?);
    }
    Ok((tensors, stored))
}

fn floats<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&b| read(b)).collect()
}

fn array(file: &Path, shape: &[usize], data: Vec<f32>) -> Result<Array, TrainError> {
    if shape.iter().product::<usize>() != data.len() {
        return Err(TrainError::format(
            file,
            format!("{} numbers for a tensor of shape {shape:?}", data.len()),
        ));
    }
    Ok(Array { shape: shape.to_vec(), data })
}
