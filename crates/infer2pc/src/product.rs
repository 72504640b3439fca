//! The server's weights times shared inputs.
//!
//! Offline the client draws a mask `r` and the parties make shares of `W * r`; online the
//! client sends `x_c - r`, and `W * x = W * (x_s + x_c - r) + W * r`. The offline product is
//! Gilboa's: one correlated OT for each bit of each weight, see [`copriv_plan::product`].

use copriv_model::kernel::{mask, product};
use copriv_model::{LayerWeights, kernel::Geometry};
use copriv_ot::cot;
use copriv_ot::wire::{pack, packed_len, unpack};
use copriv_plan::Product;
use copriv_plan::product::{BitOt, TapOts};
use zeroize::Zeroizing;

use crate::Party;
use crate::error::{Error, Result};

/// One party's part of an offline product; consumed by [`online`].
pub struct ProductMaterial {
    /// The client's mask `r`; empty at the server.
    mask: Zeroizing<Vec<u64>>,
    /// Share of `W * r`, `[filters, pixels]`, before the channels' left shifts.
    share: Zeroizing<Vec<u64>>,
}

/// Makes shares of `W * r`. Only the server passes `weights`.
///
/// # Errors
/// The peer or the connection failed, or the server has no weights.
pub fn offline(
    party: &mut Party,
    layer: &Product,
    weights: Option<&LayerWeights>,
) -> Result<ProductMaterial> {
    let g = &layer.geometry;
    let mut share = Zeroizing::new(vec![0u64; g.filters * g.pixels()]);
    let masks = if party.is_server() { 0 } else { layer.inputs() };
    let mask_values = Zeroizing::new(party.random_ring(masks, layer.ring));
    for filters in layer.chunks() {
        let taps = layer.taps(filters);
        let bits = taps.iter().flat_map(|tap| &tap.ots);
        if party.is_server() {
            let weights = weights.ok_or_else(|| Error::Usage("the server needs its weights".into()))?;
            let choices: Zeroizing<Vec<bool>> =
                Zeroizing::new(bits.map(|ot| weights.weight[ot.weight] >> ot.bit & 1 == 1).collect());
            let (_, mut rots) = party.chosen_by_server(choices.len(), &choices)?;
            for tap in &taps {
                let widths: Vec<u32> = tap.ots.iter().map(|ot| ot.width).collect();
                let message = party.channel.recv(cot::vector_bytes(&widths, tap.pixels) as usize)?;
                let at = outputs(g, tap);
                let rots = rots.take(tap.ots.len())?;
                cot::vector_receiver(rots, &widths, tap.pixels, &message, |i, values| {
                    accumulate(&mut share, layer, &tap.ots[i], &at, values);
                })?;
            }
        } else {
            let (mut rots, _) = party.chosen_by_server(bits.count(), &[])?;
            for tap in &taps {
                let widths: Vec<u32> = tap.ots.iter().map(|ot| ot.width).collect();
                let from = inputs(g, tap);
                let at = outputs(g, tap);
                let plane = g.height * g.width;
                let delta = |i: usize, out: &mut [u64]| {
                    let r = &mask_values[tap.ots[i].channel * plane..][..plane];
                    for (out, &q) in out.iter_mut().zip(&from) {
                        *out = r[q];
                    }
                };
                let rots = rots.take(tap.ots.len())?;
                let message = cot::vector_sender(rots, &widths, tap.pixels, delta, |i, values| {
                    accumulate(&mut share, layer, &tap.ots[i], &at, values);
                })?;
                party.channel.send(&message)?;
            }
        }
    }
    Ok(ProductMaterial { mask: mask_values, share })
}

/// Shares of `W * x * 2^shift + bias` from shares of `x`, one message.
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
    let ring = mask(layer.ring);
    let pixels = layer.geometry.pixels();
    let mut y = material.share.to_vec();
    if party.is_server() {
        let weights = weights.ok_or_else(|| Error::Usage("the server needs its weights".into()))?;
        let message = party.channel.recv(packed_len(x.len(), layer.ring))?;
        let opened = unpack(&message, layer.ring, x.len()).map_err(copriv_ot::OtError::from)?;
        let shifted: Vec<u64> = x.iter().zip(opened).map(|(x, o)| x.wrapping_add(o) & ring).collect();
        let local = product(&layer.geometry, &weights.weight, &shifted, layer.ring);
        for (i, (y, local)) in y.iter_mut().zip(local).enumerate() {
            let (k, p) = (i / pixels, i % pixels);
            let shift = layer.channel_shifts.get(k).copied().unwrap_or(0);
            *y = (y.wrapping_add(local) << shift).wrapping_add(weights.bias.at(k, p) as u64) & ring;
        }
    } else {
        let opened: Vec<u64> =
            x.iter().zip(material.mask.iter()).map(|(x, r)| x.wrapping_sub(*r) & ring).collect();
        party.channel.send(&pack(&opened, layer.ring))?;
        for (i, y) in y.iter_mut().enumerate() {
            *y = (*y << layer.channel_shifts.get(i / pixels).copied().unwrap_or(0)) & ring;
        }
    }
    Ok(y)
}

/// Adds a share of `bit * r * 2^b` to the outputs of a tap; the top bit of a two's complement
/// weight counts negatively.
fn accumulate(share: &mut [u64], layer: &Product, ot: &BitOt, at: &[usize], values: &[u64]) {
    let pixels = layer.geometry.pixels();
    let row = &mut share[ot.filter * pixels..][..pixels];
    let weigh = if ot.bit + 1 == layer.weight_bits { (1u64 << ot.bit).wrapping_neg() } else { 1 << ot.bit };
    for (&p, &value) in at.iter().zip(values) {
        row[p] = row[p].wrapping_add(value.wrapping_mul(weigh));
    }
}

/// Output positions of a tap, in the order of its vectors.
fn outputs(g: &Geometry, tap: &TapOts) -> Vec<usize> {
    let mut at = Vec::with_capacity(tap.pixels);
    g.for_each_pair(tap.tap.0, tap.tap.1, |p, _| at.push(p));
    at
}

/// Input positions of a tap, in the same order.
fn inputs(g: &Geometry, tap: &TapOts) -> Vec<usize> {
    let mut from = Vec::with_capacity(tap.pixels);
    g.for_each_pair(tap.tap.0, tap.tap.1, |_, q| from.push(q));
    from
}
