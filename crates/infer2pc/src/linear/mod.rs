//! The server's weights times shared inputs.
//!
//! Offline the client draws a mask `r` and the parties make shares of `W * r` by one of the methods
//! of [`copriv_plan::linear`]; online the client sends `x_c - r`, and
//! `W * x = W * (x_s + x_c - r) + W * r`, less what the shares' wraps are worth if they are in a narrower ring.

mod cot;
pub(crate) mod leaves;
mod packed;
mod working_set;
mod wrap;

use std::ops::Range;

use copriv_model::LayerWeights;
use copriv_model::kernel::{mask, product};
use copriv_ot::Secret;
use copriv_ot::wire::{pack, packed_len, unpack};
use copriv_plan::linear::{Form, Method, Product, Side, Tap};
use zeroize::Zeroizing;

pub use working_set::working_set;

use crate::error::{Error, Result};
use crate::memory::Kept;
use crate::{OtStock, Party};

/// One party's part of an offline product; consumed by [`online`].
pub struct ProductMaterial {
    /// The client's mask `r`, `[channels, pixels sent]`, packed; empty at the server.
    mask: Kept,
    /// Share of `W * r * 2^extra_bits`, `[filters, pixels]`, before the channels' left shifts, packed.
    share: Kept,
    /// For the wraps of narrow shares.
    stock: OtStock,
}

/// Makes shares of `W * r`. Only the server passes `weights`; `groups` are the layer's among the
/// party's trees.
///
/// # Errors
/// The peer or the connection failed, or the server has no weights.
pub fn offline(
    party: &mut Party,
    layer: &Product,
    groups: Range<usize>,
    weights: Option<&LayerWeights>,
) -> Result<ProductMaterial> {
    let form = layer.form();
    let mut secret = if party.is_server() {
        let weights = weights.ok_or_else(|| Error::Usage("the server needs its weights".into()))?;
        Operand::weights(layer, &form, weights)
    } else {
        let masks = layer.geometry.channels * form.pixels_sent().len();
        Operand::mask(layer, &form, party.random_ring(masks, layer.input_ring()))
    };
    let mut accumulators = Zeroizing::new(vec![0u64; layer.geometry.filters * form.accumulators]);
    match layer.method {
        Method::Cot { receiver: Side::Server } => {
            cot::by_weight_bits(party, layer, &form, &secret, &mut accumulators)?;
        }
        Method::Cot { receiver: Side::Client } => {
            cot::by_input_bits(party, layer, &form, &secret, &mut accumulators)?;
        }
        Method::Packed { .. } => {
            packed::packed(party, layer, &form, groups, &mut secret, &mut accumulators)?;
        }
    }
    let rows = accumulators.chunks_exact(form.accumulators);
    let share: Zeroizing<Vec<u64>> = Zeroizing::new(rows.flat_map(|row| form.outputs_of(row)).collect());
    let mask = match secret {
        Operand::Mask { mask, .. } => mask,
        Operand::Weights(_) => Zeroizing::new(Vec::new()),
    };
    let keep = |values: &[u64], ring| party.memory.keep(Secret::new(pack(values, ring)));
    let (mask, share) = (keep(&mask, layer.input_ring())?, keep(&share, layer.output_ring())?);
    let stock = party.stock(&layer.online(party.choice()).uses)?;
    Ok(ProductMaterial { mask, share, stock })
}

/// What a party brings to an offline product.
enum Operand {
    /// `v`, `[filters, channels a group, taps]`.
    Weights(Zeroizing<Vec<i64>>),
    Mask {
        /// `[channels, pixels sent]`.
        mask: Zeroizing<Vec<u64>>,
        /// `P(r)`, `[channels, plane entries]`.
        planes: Zeroizing<Vec<u64>>,
    },
}

impl Operand {
    fn weights(layer: &Product, form: &Form, weights: &LayerWeights) -> Self {
        let area = layer.geometry.kernel * layer.geometry.kernel;
        let kernels = weights.weight.chunks_exact(area);
        let taps = |kernel| form.taps.iter().map(move |tap| tap.weight(kernel));
        Self::Weights(Zeroizing::new(kernels.flat_map(taps).collect()))
    }

    fn mask(layer: &Product, form: &Form, mask: Vec<u64>) -> Self {
        let sent = form.pixels_sent();
        let mut channel = Zeroizing::new(vec![0u64; layer.geometry.height * layer.geometry.width]);
        let mut planes = Zeroizing::new(Vec::with_capacity(layer.geometry.channels * form.plane_entries()));
        for values in mask.chunks_exact(sent.len().max(1)) {
            for (&at, &value) in sent.iter().zip(values) {
                channel[at] = value;
            }
            planes.extend(form.planes_of(&channel));
        }
        Self::Mask { mask: Zeroizing::new(mask), planes }
    }
}

/// Adds `coefficient * values` to the accumulators of a tap; `values` has an entry for each entry of
/// the plane that the tap uses.
fn accumulate(row: &mut [u64], tap: &Tap, coefficient: u64, values: &[u64]) {
    let mut values = values;
    for run in &tap.runs {
        let (now, later) = values.split_at(run.len);
        values = later;
        for (sum, value) in row[run.at..run.at + run.len].iter_mut().zip(now) {
            *sum = sum.wrapping_add(value.wrapping_mul(coefficient));
        }
    }
}

/// Digits are of `v - lo`; the client, who knows the mask, adds `lo * r` to every filter.
fn add_offsets(layer: &Product, form: &Form, planes: &[u64], accumulators: &mut [u64]) {
    let (channels, filters) = (layer.geometry.channels_per_group(), layer.filters_per_group());
    let mut sums = Zeroizing::new(vec![0u64; form.accumulators]);
    for part in 0..layer.geometry.groups {
        sums.fill(0);
        for channel in part * channels..(part + 1) * channels {
            let planes = &planes[channel * form.plane_entries()..][..form.plane_entries()];
            for tap in &form.taps {
                let coefficient = tap.factor.wrapping_mul(tap.range.0 as u64);
                let plane = &planes[form.plane_start(tap.plane)..];
                for run in &tap.runs {
                    let entries = &plane[run.from..run.from + run.len];
                    for (sum, value) in sums[run.at..run.at + run.len].iter_mut().zip(entries) {
                        *sum = sum.wrapping_add(value.wrapping_mul(coefficient));
                    }
                }
            }
        }
        for row in accumulators.chunks_exact_mut(form.accumulators).skip(part * filters).take(filters) {
            for (value, sum) in row.iter_mut().zip(sums.iter()) {
                *value = value.wrapping_add(*sum);
            }
        }
    }
}

/// Shares of `(W * x * 2^shift + bias) * 2^extra_bits` from shares of `x`: one message, and the corrections
/// of narrow shares.
///
/// # Errors
/// The peer or the connection failed, or the server has no weights.
pub fn online(
    party: &mut Party,
    layer: &Product,
    material: ProductMaterial,
    weights: Option<&LayerWeights>,
    x: &[u64],
) -> Result<Vec<u64>> {
    let g = &layer.geometry;
    let (from, pixels, extra) = (layer.input_ring(), g.pixels(), layer.algorithm.extra_bits());
    let low = mask(from);
    let sent = layer.form().pixels_sent();
    let at = || (0..g.channels).flat_map(|c| sent.iter().map(move |p| c * g.height * g.width + p));
    let shift = |k: usize| layer.channel_shifts.get(k).copied().unwrap_or(0);
    let ProductMaterial { mask: r, share, mut stock } = material;
    let unpacked = |kept: Kept, ring, n| -> Result<Vec<u64>> {
        Ok(unpack(&kept.load()?, ring, n).map_err(copriv_ot::OtError::from)?)
    };
    let mut y = unpacked(share, layer.output_ring(), g.filters * pixels)?;
    if party.is_server() {
        let weights = weights.ok_or_else(|| Error::Usage("the server needs its weights".into()))?;
        let n = g.channels * sent.len();
        let message = party.channel.recv(packed_len(n, from))?;
        let opened = unpack(&message, from, n).map_err(copriv_ot::OtError::from)?;
        let offset = layer.wrap.map_or(0, |wrap| wrap.offset);
        let mut masked: Vec<u64> = x.iter().map(|x| x.wrapping_add(offset)).collect();
        for (at, opened) in at().zip(opened) {
            masked[at] = masked[at].wrapping_add(opened) & low;
        }
        wrap::correct(party, layer, &mut stock, Some(&weights.weight), &masked, &mut y)?;
        masked.iter_mut().for_each(|x| *x = x.wrapping_sub(offset));
        let local = product(g, &weights.weight, &masked, layer.ring);
        for (i, (y, local)) in y.iter_mut().zip(local).enumerate() {
            let (k, p) = (i / pixels, i % pixels);
            let bias = (weights.bias.at(k, p) as u64) << extra;
            *y = (y.wrapping_add(local << extra) << shift(k)).wrapping_add(bias);
        }
    } else {
        let r = Zeroizing::new(unpacked(r, from, g.channels * sent.len())?);
        let opened: Vec<u64> = at().zip(r.iter()).map(|(at, r)| x[at].wrapping_sub(*r) & low).collect();
        party.channel.send(&pack(&opened, from))?;
        let mut masks = Zeroizing::new(vec![0; if layer.wrap.is_some() { x.len() } else { 0 }]);
        if layer.wrap.is_some() {
            at().zip(r.iter()).for_each(|(at, r)| masks[at] = *r);
        }
        wrap::correct(party, layer, &mut stock, None, &masks, &mut y)?;
        for (i, y) in y.iter_mut().enumerate() {
            *y <<= shift(i / pixels);
        }
    }
    if !stock.is_used_up() {
        return Err(Error::Usage("the corrections of wraps left random OTs behind".into()));
    }
    let ring = mask(layer.output_ring());
    y.iter_mut().for_each(|y| *y &= ring);
    Ok(y)
}
