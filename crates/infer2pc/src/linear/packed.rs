//! Offline products by packed VOLE; see `copriv_plan::linear` and [`copriv_ot::vole`].
//!
//! A channel's groups are independent of the others', so channels are shared out to the cores, and a
//! chunk of channels is computed by one party while the other is at the next, and the messages between them
//! travel: what is held does not grow with the layer's messages.

use std::ops::Range;
use std::sync::mpsc::{self, Receiver};

use copriv_model::kernel::mask;
use copriv_ot::vole::{HolderTrees, Lane, PuncturedTrees, Sums, Ticket, Use};
use copriv_ot::wire::{BitReader, BitWriter};
use copriv_ot::{Channel, OtError};
use copriv_plan::linear::{Digit, Form, Group, PlaneGroups, Product};
use rayon::prelude::*;
use zeroize::Zeroizing;

use super::leaves::{radices, value};
use super::{Operand, add_offsets};
use crate::Party;
use crate::error::{Error, Result};
use crate::trees::Trees;

/// Message bytes of a chunk of channels, about.
const BYTES_PER_CHUNK: usize = 1 << 22;

/// Shares of `W * r` in `accumulators`; the client's mask is completed where the protocol defines it.
pub(super) fn packed(
    party: &mut Party,
    layer: &Product,
    form: &Form,
    groups: Range<usize>,
    secret: &mut Operand,
    accumulators: &mut [u64],
) -> Result<()> {
    let g = &layer.geometry;
    let parts = if layer.channel_shifts.is_empty() { 1 } else { g.groups };
    let shapes: Vec<Vec<PlaneGroups>> = (0..parts)
        .map(|part| (0..form.planes.len()).map(|p| PlaneGroups::new(layer, form, p, part)).collect())
        .collect();
    let shape_of = |channel: usize| {
        let part = channel / g.channels_per_group();
        &shapes[if parts == 1 { 0 } else { part }]
    };
    let message_of = |channel: usize| shape_of(channel).iter().map(PlaneGroups::message_bytes).sum::<usize>();

    let workers = party.memory.workers(layer, rayon::current_num_threads().min(g.channels));
    let mut sums: Vec<Zeroizing<Vec<u64>>> =
        (1..workers).map(|_| Zeroizing::new(vec![0; accumulators.len()])).collect();
    let mut rows: Vec<&mut [u64]> =
        std::iter::once(&mut *accumulators).chain(sums.iter_mut().map(|s| s.as_mut_slice())).collect();
    let (trees, mut uses) = party.trees_for(groups)?;
    // A chunk is a job for each worker.
    let per_chunk = (BYTES_PER_CHUNK / message_of(0).max(1)).max(workers);
    let mut chunks: Vec<Vec<Job>> = Vec::new();
    for first in (0..g.channels).step_by(per_chunk) {
        let end = (first + per_chunk).min(g.channels);
        let each = (end - first).div_ceil(workers);
        let mut jobs = Vec::with_capacity(workers);
        for first in (first..end).step_by(each) {
            let channels = first..(first + each).min(end);
            let n = channels.clone().flat_map(&shape_of).map(|plane| plane.groups.len()).sum();
            let (mine, rest) = uses.split_at(n);
            uses = rest;
            jobs.push(Job { message: channels.clone().map(message_of).sum(), channels, uses: mine });
        }
        chunks.push(jobs);
    }
    let this = Layer { product: layer, form };
    match (&*trees, &mut *secret) {
        (Trees::Holder(trees), Operand::Mask { planes, .. }) => {
            let mut rest = &mut planes[..];
            for jobs in chunks {
                let masks = jobs.iter().map(|job| job.channels.len());
                let masks = split(&mut rest, form.plane_entries(), masks);
                let work = jobs.into_par_iter().zip(masks).zip(&mut rows);
                let hold = |((job, masks), sums): ((Job, &mut [u64]), &mut &mut [u64])| {
                    let mut tickets = job.uses.tickets();
                    let mut message = Vec::with_capacity(job.message);
                    let mut scratch = Scratch::default();
                    for (channel, mask) in job.channels.zip(masks.chunks_exact_mut(form.plane_entries())) {
                        let mut rest = mask;
                        for groups in shape_of(channel) {
                            let (r, later) = rest.split_at_mut(groups.len);
                            rest = later;
                            let plane = Plane { groups, channel, sums };
                            this.hold(trees, &mut tickets, plane, r, &mut scratch, &mut message)?;
                        }
                    }
                    Ok(message)
                };
                // The channel's writer sends one chunk while the next is made.
                for message in work.map(hold).collect::<Result<Vec<_>>>()? {
                    party.channel.stream(&message)?;
                }
            }
        }
        (Trees::Punctured(trees), Operand::Weights(weights)) => {
            let puncture = |((job, message), sums): ((Job, &Vec<u8>), &mut &mut [u64])| {
                let mut tickets = job.uses.tickets();
                let mut message = &message[..];
                let mut scratch = Scratch::default();
                for channel in job.channels {
                    for groups in shape_of(channel) {
                        let (mine, later) = message.split_at(groups.message_bytes());
                        message = later;
                        let plane = Plane { groups, channel, sums };
                        this.puncture(trees, &mut tickets, plane, weights, &mut scratch, mine)?;
                    }
                }
                Ok::<(), Error>(())
            };
            let sizes: Vec<Vec<usize>> =
                chunks.iter().map(|jobs| jobs.iter().map(|job| job.message).collect()).collect();
            received_ahead(&mut party.channel, &sizes, |received| {
                chunks.into_iter().try_for_each(|jobs| {
                    let messages = received.recv().map_err(|_| Error::Usage("no more messages".into()))??;
                    jobs.into_par_iter().zip(&messages).zip(&mut rows).try_for_each(puncture)
                })
            })?;
        }
        _ => return Err(Error::Usage("these trees are the other party's".into())),
    }
    drop(rows);
    for sums in &sums {
        for (total, value) in accumulators.iter_mut().zip(sums.iter()) {
            *total = total.wrapping_add(*value);
        }
    }
    if let Operand::Mask { mask, planes } = secret {
        if form.planes_are_inputs() {
            mask.copy_from_slice(planes);
        }
        add_offsets(layer, form, planes, accumulators);
    }
    Ok(())
}

/// Channels for one worker, the right to use their trees once, and the bytes of their message.
struct Job {
    channels: Range<usize>,
    uses: Use,
    message: usize,
}

/// Message bytes of a chunk with so many workers, if a channel's message has `message` bytes.
pub(super) fn chunk_bytes(message: usize, workers: usize) -> usize {
    BYTES_PER_CHUNK.max(workers * message)
}

/// Runs `work` on chunks of messages of these sizes, each received while `work` is at the one before.
fn received_ahead(
    channel: &mut Channel,
    sizes: &[Vec<usize>],
    work: impl FnOnce(Receiver<Result<Vec<Vec<u8>>>>) -> Result<()>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(0);
        scope.spawn(move || {
            for sizes in sizes {
                let messages = sizes.iter().map(|&n| channel.recv(n)).collect::<std::result::Result<_, _>>();
                let failed = messages.is_err();
                // Without a receiver the work has failed, which is told there.
                if sender.send(messages.map_err(Error::from)).is_err() || failed {
                    return;
                }
            }
        });
        work(receiver)
    })
}

/// Working memory of a core.
#[derive(Default)]
struct Scratch {
    narrow: Sums<u16>,
    middle: Sums<u32>,
    wide: Sums<u64>,
}

/// A lane of the sums, as wide as a group's messages need.
trait Word: Lane + Into<u64> {
    fn low(value: u64) -> Self;
}

impl Word for u16 {
    fn low(value: u64) -> Self {
        value as u16
    }
}

impl Word for u32 {
    fn low(value: u64) -> Self {
        value as u32
    }
}

impl Word for u64 {
    fn low(value: u64) -> Self {
        value
    }
}

#[derive(Clone, Copy)]
struct Layer<'a> {
    product: &'a Product,
    form: &'a Form,
}

/// One plane of one channel.
struct Plane<'a> {
    groups: &'a PlaneGroups,
    channel: usize,
    /// All accumulators.
    sums: &'a mut [u64],
}

/// A group of a plane, and the right to use it once.
struct Turn<'a> {
    group: &'a Group,
    ticket: Ticket,
}

impl Layer<'_> {
    /// The holder's part: its mask `r` of the plane is drawn, and may be set by the first group.
    fn hold(
        &self,
        trees: &HolderTrees,
        tickets: &mut impl Iterator<Item = Ticket>,
        mut plane: Plane<'_>,
        r: &mut [u64],
        scratch: &mut Scratch,
        message: &mut Vec<u8>,
    ) -> Result<()> {
        let mut bits = BitWriter::with_capacity(plane.groups.message_bytes());
        for group in &plane.groups.groups {
            let turn = Turn { group, ticket: tickets.next().ok_or_else(out_of_trees)? };
            match group.width {
                0..=16 => self.hold_group(trees, turn, &mut plane, r, &mut scratch.narrow, &mut bits)?,
                17..=32 => self.hold_group(trees, turn, &mut plane, r, &mut scratch.middle, &mut bits)?,
                _ => self.hold_group(trees, turn, &mut plane, r, &mut scratch.wide, &mut bits)?,
            }
        }
        message.extend(bits.finish());
        Ok(())
    }

    fn hold_group<L: Word>(
        &self,
        trees: &HolderTrees,
        Turn { group, ticket }: Turn<'_>,
        plane: &mut Plane<'_>,
        r: &mut [u64],
        sums: &mut Sums<L>,
        message: &mut BitWriter,
    ) -> Result<()> {
        trees.sums(ticket, &radices(plane.groups, group)?, plane.groups.len, sums)?;
        let low = mask(group.width);
        for (r, &u) in r.iter_mut().zip(sums.u()) {
            let u: u64 = u.into();
            if group.silent {
                *r = *r & !low | u & low;
            } else {
                message.write(r.wrapping_sub(u) & low, group.width);
            }
        }
        for (i, digit) in plane.groups.digits[group.digits.clone()].iter().enumerate() {
            self.add(plane, digit, sums.z(i));
        }
        Ok(())
    }

    /// The puncturer's part, from the plane's message.
    fn puncture(
        &self,
        trees: &PuncturedTrees,
        tickets: &mut impl Iterator<Item = Ticket>,
        mut plane: Plane<'_>,
        weights: &[i64],
        scratch: &mut Scratch,
        message: &[u8],
    ) -> Result<()> {
        let mut bits = BitReader::new(message);
        for group in &plane.groups.groups {
            let turn = Turn { group, ticket: tickets.next().ok_or_else(out_of_trees)? };
            match group.width {
                0..=16 => {
                    self.puncture_group(trees, turn, &mut plane, weights, &mut scratch.narrow, &mut bits)?
                }
                17..=32 => {
                    self.puncture_group(trees, turn, &mut plane, weights, &mut scratch.middle, &mut bits)?
                }
                _ => self.puncture_group(trees, turn, &mut plane, weights, &mut scratch.wide, &mut bits)?,
            }
        }
        Ok(bits.finish().map_err(OtError::from)?)
    }

    fn puncture_group<L: Word>(
        &self,
        trees: &PuncturedTrees,
        Turn { group, ticket }: Turn<'_>,
        plane: &mut Plane<'_>,
        weights: &[i64],
        sums: &mut Sums<L>,
        message: &mut BitReader<'_>,
    ) -> Result<()> {
        trees.sums(ticket, &radices(plane.groups, group)?, plane.groups.len, sums)?;
        let mut opened = vec![L::default(); plane.groups.len];
        if !group.silent {
            for value in &mut opened {
                *value = L::low(message.read(group.width).map_err(OtError::from)?);
            }
        }
        let mut share = vec![L::default(); plane.groups.len];
        for (i, digit) in plane.groups.digits[group.digits.clone()].iter().enumerate() {
            let value = value(self.product, self.form, (plane.groups, plane.channel), digit, weights);
            sums.punctured_share(i, value, &opened, &mut share)?;
            self.add(plane, digit, &share);
        }
        Ok(())
    }

    /// Adds a share of `digit * r` to the accumulators of its filter.
    fn add<L: Word>(&self, plane: &mut Plane<'_>, digit: &Digit, values: &[L]) {
        let tap = &self.form.taps[digit.tap];
        let coefficient = tap.factor << digit.bit;
        let part = plane.channel / self.product.geometry.channels_per_group();
        let filter = part * self.product.filters_per_group() + digit.filter;
        let row = &mut plane.sums[filter * self.form.accumulators..][..self.form.accumulators];
        for run in &tap.runs {
            let sums = &mut row[run.at..run.at + run.len];
            for (sum, &value) in sums.iter_mut().zip(&values[run.from..run.from + run.len]) {
                *sum = sum.wrapping_add(coefficient.wrapping_mul(value.into()));
            }
        }
    }
}

fn out_of_trees() -> Error {
    Error::Usage("the trees of another plan".into())
}

/// Takes consecutive parts of so many units each off the front of `values`.
fn split<'v, T>(
    values: &mut &'v mut [T],
    unit: usize,
    parts: impl Iterator<Item = usize>,
) -> Vec<&'v mut [T]> {
    parts
        .map(|n| {
            let (part, later) = std::mem::take(values).split_at_mut(n * unit);
            *values = later;
            part
        })
        .collect()
}
