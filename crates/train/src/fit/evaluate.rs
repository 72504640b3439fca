//! Predictions of a float or fake-quantised network.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::TrainError;
use crate::data::{Augment, Images, PixelScale, gather};
use crate::net::{Graph, Network, Pass, Weights};
use crate::quant::{Fake, QuantSpec};
use crate::rewrite::fold_norms;

/// Images a forward pass.
const BATCH: usize = 64;

/// Logits of every image, `classes` numbers each.
///
/// # Errors
/// Weights that do not fit the graph, or images of another shape.
pub fn logits(
    graph: &Graph,
    weights: &Weights,
    quant: Option<&QuantSpec>,
    images: &Images,
    pixels: PixelScale,
) -> Result<Vec<Vec<f32>>, TrainError> {
    logits_on(&Device::flex(), graph, weights, quant, images, pixels)
}

/// The same on a device.
pub(super) fn logits_on(
    device: &Device,
    graph: &Graph,
    weights: &Weights,
    quant: Option<&QuantSpec>,
    images: &Images,
    pixels: PixelScale,
) -> Result<Vec<Vec<f32>>, TrainError> {
    let shape = [images.channels, images.side, images.side];
    if graph.input_shape() != shape {
        return Err(TrainError::graph(
            "input",
            format!("{} takes images of {:?}, these are {shape:?}", graph.arch, graph.input_shape()),
        ));
    }
    let (graph, weights) = fold_norms(graph, weights)?;
    let network = Network::new(&graph, &weights, device)?;
    let fake = quant.map(|spec| Fake::new(&graph, spec, pixels, device)).transpose()?;
    let indices: Vec<_> = (0..images.len()).collect();
    let rows = indices.par_chunks(BATCH).map(|chunk| {
        let batch = gather(images, chunk, pixels, Augment::NONE, 0)?;
        let x = Tensor::from_data(TensorData::new(batch.inputs, batch.shape), device);
        let logits = network.forward(x, &mut Pass { fake: fake.as_ref(), ..Pass::default() });
        let classes = logits.dims()[1];
        let flat = logits.into_data().convert::<f32>().try_into_vec::<f32>().unwrap_or_default();
        Ok(flat.chunks_exact(classes).map(<[f32]>::to_vec).collect())
    });
    let rows: Vec<Vec<Vec<f32>>> = rows.collect::<Result<_, TrainError>>()?;
    Ok(rows.into_iter().flatten().collect())
}

/// Index of the largest logit; the smallest index wins a tie, as in the integer model.
pub fn argmax(logits: &[f32]) -> usize {
    (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}

/// Percent of `labels` that `logits` predict.
pub fn accuracy(logits: &[Vec<f32>], labels: &[u16]) -> f64 {
    let right = logits.iter().zip(labels).filter(|(z, l)| argmax(z) == usize::from(**l)).count();
    100.0 * right as f64 / labels.len().max(1) as f64
}

/// How many of `labels` are among the `k` largest logits of their row; among equals the smaller
/// index comes first.
pub fn top(logits: &[Vec<f64>], labels: &[u16], k: usize) -> usize {
    let found = |row: &[f64], label: usize| {
        let ahead = |(i, v): &(usize, &f64)| **v > row[label] || (**v == row[label] && *i < label);
        row.iter().enumerate().filter(ahead).count() < k
    };
    logits.iter().zip(labels).filter(|(row, label)| found(row, usize::from(**label))).count()
}
