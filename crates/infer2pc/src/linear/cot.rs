//! Offline products by correlated OT, fresh in every inference; see `copriv_plan::linear`.

use copriv_ot::{RotReceiver, RotSender, cot};
use copriv_plan::linear::{EntryBits, Form, InputOts, Product, Tap, WeightOt, WeightOts};
use rayon::prelude::*;
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
    let mut keep = |tap: &Tap, ot: &WeightOt, values: &[u64]| {
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
    // `values` has an entry for each use of the entry and each filter.
    let mut keep = |entry: usize, values: &[u64]| {
        let part = entry / form.plane_entries() / channels;
        let uses = all.uses(entry % form.plane_entries());
        for (&(t, at), values) in uses.iter().zip(values.chunks_exact(filters)) {
            for (filter, value) in values.iter().enumerate() {
                let sum = &mut accumulators[(part * filters + filter) * form.accumulators + at];
                *sum = sum.wrapping_add(value.wrapping_mul(form.taps[t].factor));
            }
        }
    };
    let of = |entry: usize| Entry::of(&all, entry % form.plane_entries());
    let together = party.memory.workers(layer, rayon::current_num_threads());
    for entries in all.chunks() {
        let n: usize = entries.clone().map(|e| of(e).ots()).sum();
        let entries: Vec<usize> = entries.collect();
        match secret {
            Operand::Weights(weights) => {
                let (mut rots, _) = party.chosen_by_client(n, &[])?;
                let send = |(&entry, rots): (&usize, RotSender)| {
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
                    of(entry).send(rots, delta)
                };
                for entries in entries.chunks(together) {
                    let rots = entries.iter().map(|&entry| rots.take(of(entry).ots()));
                    let rots = rots.collect::<std::result::Result<Vec<_>, _>>()?;
                    let made: Vec<_> = entries.par_iter().zip(rots).map(send).collect();
                    for (&entry, made) in entries.iter().zip(made) {
                        let (message, shares) = made?;
                        keep(entry, &shares);
                        party.channel.stream(&message)?;
                    }
                }
            }
            Operand::Mask { planes, .. } => {
                let mut choices = Zeroizing::new(Vec::with_capacity(n));
                for &entry in &entries {
                    choices.extend((0..of(entry).ots()).map(|bit| planes[entry] >> bit & 1 == 1));
                }
                let (_, mut rots) = party.chosen_by_client(n, &choices)?;
                for entries in entries.chunks(together) {
                    let mut jobs = Vec::with_capacity(entries.len());
                    for &entry in entries {
                        let message = party.channel.recv(of(entry).message_bytes())?;
                        jobs.push((entry, rots.take(of(entry).ots())?, message));
                    }
                    let receive =
                        |(entry, rots, message): (usize, _, Vec<u8>)| of(entry).receive(rots, &message);
                    let made: Vec<_> = jobs.into_par_iter().map(receive).collect();
                    for (&entry, made) in entries.iter().zip(made) {
                        keep(entry, &made?);
                    }
                }
            }
        }
    }
    Ok(())
}

/// The OTs of an entry of the mask's planes: one for each of its bits that matter, on vectors.
struct Entry {
    bits: EntryBits,
    /// Of a vector: one for each use of the entry and each filter.
    values: usize,
}

impl Entry {
    fn of(all: &InputOts, entry: usize) -> Self {
        Self { bits: all.bits(entry), values: all.entries(entry) }
    }

    fn ots(&self) -> usize {
        self.bits.bits as usize
    }

    fn widths(&self) -> Vec<u32> {
        self.bits.widths().collect()
    }

    fn message_bytes(&self) -> usize {
        cot::vector_bytes(&self.widths(), self.values) as usize
    }

    /// The server's message, and its shares of the entry's products.
    fn send(&self, rots: RotSender, delta: impl Fn(usize, &mut [u64]) + Sync) -> Result<(Vec<u8>, Products)> {
        let mut sums = Zeroizing::new(vec![0; self.values]);
        let add = |bit: usize, shares: &[u64]| self.add(&mut sums, bit, shares);
        let message = cot::vector_sender(rots, &self.widths(), self.values, delta, add)?;
        Ok((message, sums))
    }

    /// The client's shares.
    fn receive(&self, rots: RotReceiver, message: &[u8]) -> Result<Products> {
        let mut sums = Zeroizing::new(vec![0; self.values]);
        let add = |bit: usize, shares: &[u64]| self.add(&mut sums, bit, shares);
        cot::vector_receiver(rots, &self.widths(), self.values, message, add)?;
        Ok(sums)
    }

    fn add(&self, sums: &mut [u64], bit: usize, shares: &[u64]) {
        let weight = self.bits.weight(bit);
        for (sum, share) in sums.iter_mut().zip(shares) {
            *sum = sum.wrapping_add(share.wrapping_mul(weight));
        }
    }
}

/// An entry times the weights that it meets.
type Products = Zeroizing<Vec<u64>>;
