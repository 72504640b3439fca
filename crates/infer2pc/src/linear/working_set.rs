//! How much memory the offline part of a linear layer takes.

use copriv_ot::channel::BACKLOG;
use copriv_plan::linear::{Method, PlaneGroups, Product};

use super::packed;

/// Bytes of a chunk of correlated OTs: rows, pads and message, as `copriv_plan::linear` cuts them.
const COT_CHUNK: usize = 64 << 20;
/// Bytes of it that a core has in hand.
const COT_PIECE: usize = 2 << 20;

/// Bytes that [`super::offline`] holds at a time with so many `workers`, at whichever party holds more: the
/// accumulators (with packed VOLE each worker's), the weights or the masks, the result, and the messages
/// under way.
pub fn working_set(layer: &Product, workers: usize) -> u64 {
    const WORD: usize = size_of::<u64>();
    let (g, form) = (&layer.geometry, layer.form());
    let accumulators = g.filters * form.accumulators;
    let weights = g.filters * g.channels_per_group() * form.taps.len();
    let masks = g.channels * (form.plane_entries() + form.pixels_sent().len());
    let copies = if matches!(layer.method, Method::Cot { .. }) { 1 } else { workers };
    let values = copies * accumulators + weights.max(masks) + g.filters * g.pixels();
    let messages = match layer.method {
        Method::Cot { .. } => COT_CHUNK + BACKLOG + workers * COT_PIECE,
        Method::Packed { .. } => {
            let planes = (0..form.planes.len()).map(|p| PlaneGroups::new(layer, &form, p, 0).message_bytes());
            let message = planes.sum();
            // One chunk under way, one on its way, that as it is put together, and what waits to be sent.
            let most = 3 * packed::chunk_bytes(message, workers) + BACKLOG;
            most.min(3 * message * g.channels)
        }
    };
    (values * WORD + messages) as u64
}
