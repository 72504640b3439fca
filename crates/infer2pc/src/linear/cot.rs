//! Offline products by correlated OT, fresh in every inference; see `copriv_plan::linear`.

use copriv_ot::cot;
use copriv_plan::linear::{Form, InputOts, Product, Tap, WeightOts};
use zeroize::Zeroizing;

use super::{Operand, accumulate, add_offsets};
use crate::Party;
use crate::error::Result;

/// The server receives: the choices are the bits of `v - lo`.
pub(super) fn by_weight_bits(
    party: &mut Party,
    layer: &Product,
    form: &Form,
    secret: &Operand,
    accumulators: &mut [u64],
) -> Result<()> {
    let all = WeightOts::new(layer, form);
    let channels = layer.geometry.channels_per_group();
    let mut keep = |tap: &Tap, ot: &copriv_plan::linear::WeightOt, values: &[u64]| {
        let row = &mut accumulators[ot.filter * form.accumulators..][..form.accumulators];
        accumulate(row, tap, tap.factor << ot.bit, values);
    };
    for filters in all.chunks() {
        let taps: Vec<_> = form.taps.iter().map(|tap| all.of_tap(tap, filters.clone())).collect();
        match secret {
            Operand::Weights(weights) => {
                let mut choices = Zeroizing::new(Vec::new());
                for (t, (tap, ots)) in form.taps.iter().zip(&taps).enumerate() {
                    choices.extend(ots.iter().map(|ot| {
                        let v = weights[(ot.filter * channels + ot.channel) * form.taps.len() + t];
                        (v - tap.range.0) >> ot.bit & 1 == 1
                    }));
                }
                let (_, mut rots) = party.chosen_by_server(choices.len(), &choices)?;
                for (tap, ots) in form.taps.iter().zip(&taps) {
                    let widths: Vec<u32> = ots.iter().map(|ot| ot.width).collect();
                    let message = party.channel.recv(cot::vector_bytes(&widths, tap.entries()) as usize)?;
                    let rots = rots.take(ots.len())?;
                    cot::vector_receiver(rots, &widths, tap.entries(), &message, |i, values| {
                        keep(tap, &ots[i], values);
                    })?;
                }
            }
            Operand::Mask { planes, .. } => {
                let (mut rots, _) = party.chosen_by_server(taps.iter().map(Vec::len).sum(), &[])?;
                for (tap, ots) in form.taps.iter().zip(&taps) {
                    let widths: Vec<u32> = ots.iter().map(|ot| ot.width).collect();
                    let start = form.plane_start(tap.plane);
                    let delta = |i: usize, out: &mut [u64]| {
                        let part = ots[i].filter / layer.filters_per_group();
                        let channel = part * channels + ots[i].channel;
                        let plane = &planes[channel * form.plane_entries() + start..];
                        let mut rest = out;
                        for run in &tap.runs {
                            let (now, later) = rest.split_at_mut(run.len);
                            now.copy_from_slice(&plane[run.from..run.from + run.len]);
                            rest = later;
                        }
                    };
                    let rots = rots.take(ots.len())?;
                    let message = cot::vector_sender(rots, &widths, tap.entries(), delta, |i, values| {
                        keep(tap, &ots[i], values);
                    })?;
                    party.channel.stream(&message)?;
                }
            }
        }
    }
    if let Operand::Mask { planes, .. } = secret {
        add_offsets(layer, form, planes, accumulators);
    }
    Ok(())
}

/// The client receives: the choices are the bits of the mask's planes.
pub(super) fn by_input_bits(
    party: &mut Party,
    layer: &Product,
    form: &Form,
    secret: &Operand,
    accumulators: &mut [u64],
) -> Result<()> {
    let all = InputOts::new(layer, form);
    let (channels, filters) = (layer.geometry.channels_per_group(), layer.filters_per_group());
    // `values` has an entry for each use of the entry and each filter; the bit counts `bit`.
    let mut keep = |entry: usize, bit: u64, values: &[u64]| {
        let part = entry / form.plane_entries() / channels;
        let uses = all.uses(entry % form.plane_entries());
        for (&(t, at), values) in uses.iter().zip(values.chunks_exact(filters)) {
            for (filter, value) in values.iter().enumerate() {
                let sum = &mut accumulators[(part * filters + filter) * form.accumulators + at];
                *sum = sum.wrapping_add(value.wrapping_mul(form.taps[t].factor.wrapping_mul(bit)));
            }
        }
    };
    for entries in all.chunks() {
        let bits = |entry: usize| all.bits(entry % form.plane_entries());
        let n: usize = entries.clone().map(|e| bits(e).bits as usize).sum();
        match secret {
            Operand::Weights(weights) => {
                let (mut rots, _) = party.chosen_by_client(n, &[])?;
                for entry in entries {
                    let (channel, uses) =
                        (entry / form.plane_entries(), all.uses(entry % form.plane_entries()));
                    let (part, channel) = (channel / channels, channel % channels);
                    let delta = |_: usize, out: &mut [u64]| {
                        for (&(t, _), out) in uses.iter().zip(out.chunks_exact_mut(filters)) {
                            for (filter, out) in out.iter_mut().enumerate() {
                                let row = (part * filters + filter) * channels + channel;
                                *out = weights[row * form.taps.len() + t] as u64;
                            }
                        }
                    };
                    let bits = bits(entry);
                    let widths: Vec<u32> = bits.widths().collect();
                    let d = all.entries(entry % form.plane_entries());
                    let rots = rots.take(widths.len())?;
                    let message = cot::vector_sender(rots, &widths, d, delta, |bit, values| {
                        keep(entry, bits.weight(bit), values);
                    })?;
                    party.channel.stream(&message)?;
                }
            }
            Operand::Mask { planes, .. } => {
                let mut choices = Zeroizing::new(Vec::with_capacity(n));
                for entry in entries.clone() {
                    choices.extend((0..bits(entry).bits).map(|bit| planes[entry] >> bit & 1 == 1));
                }
                let (_, mut rots) = party.chosen_by_client(n, &choices)?;
                for entry in entries {
                    let bits = bits(entry);
                    let widths: Vec<u32> = bits.widths().collect();
                    let d = all.entries(entry % form.plane_entries());
                    let message = party.channel.recv(cot::vector_bytes(&widths, d) as usize)?;
                    let rots = rots.take(widths.len())?;
                    cot::vector_receiver(rots, &widths, d, &message, |bit, values| {
                        keep(entry, bits.weight(bit), values);
                    })?;
                }
            }
        }
    }
    Ok(())
}
