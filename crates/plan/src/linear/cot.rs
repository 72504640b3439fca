//! Gilboa's product by correlated OT, in both directions.
//!
//! *Server receives*: for every bit of `v - lo` one OT with the plane's entries as the message,
//! `width` bits each; the choices are the weight's bits. *Client receives*: for every bit `j` of a
//! plane's entry one OT with the weights that the entry meets as the message, `width - j` bits each;
//! the choices are the mask's bits. (CoPriv's "sender selection" takes the cheaper of the two.)

use std::ops::Range;

use super::{Form, Product, Tap};
use crate::ot::{Choices, OtMeter, Ots};
use crate::traffic::Flow;

/// OTs made in one go, about; bounds memory.
const OTS_PER_CHUNK: u64 = 1 << 16;
/// Message bytes in one go, about.
const BYTES_PER_CHUNK: u64 = 1 << 24;

/// Consecutive items, each with its OTs and the size of its message, of at most `OTS_PER_CHUNK` OTs and
/// `limit` together, or one item alone.
fn chunks(items: impl Iterator<Item = (u64, u64)>, limit: u64) -> Vec<Range<usize>> {
    let mut chunks = Vec::new();
    let (mut start, mut end, mut ots, mut size) = (0, 0, 0, 0);
    for (n, s) in items {
        if end > start && (ots + n > OTS_PER_CHUNK || size + s > limit) {
            chunks.push(start..end);
            (start, ots, size) = (end, 0, 0);
        }
        (end, ots, size) = (end + 1, ots + n, size + s);
    }
    chunks.push(start..end);
    chunks
}

/// The server's weights are the choices.
#[derive(Clone, Copy, Debug)]
pub struct WeightOts<'a> {
    product: &'a Product,
    form: &'a Form,
}

/// One OT: the choice is a bit of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightOt {
    /// Filter.
    pub filter: usize,
    /// Input channel, within the filter's group.
    pub channel: usize,
    /// Bit of `v - lo`.
    pub bit: u32,
    /// Bits of a message entry.
    pub width: u32,
}

impl<'a> WeightOts<'a> {
    /// The OTs of a layer.
    pub fn new(product: &'a Product, form: &'a Form) -> Self {
        Self { product, form }
    }

    /// The OTs of a tap and some filters, in order; their messages have [`Tap::entries`] entries and
    /// travel as one bit string.
    pub fn of_tap(&self, tap: &Tap, filters: Range<usize>) -> Vec<WeightOt> {
        let mut ots = Vec::new();
        for filter in filters {
            let top = self.product.filter_ring(filter).saturating_sub(tap.zeros());
            for channel in 0..self.product.geometry.channels_per_group() {
                let bits = 0..tap.bits().min(top);
                ots.extend(bits.map(|bit| WeightOt { filter, channel, bit, width: top - bit }));
            }
        }
        ots
    }

    /// Consecutive filters whose OTs are made and whose messages are sent together.
    pub fn chunks(&self) -> Vec<Range<usize>> {
        let filters = 0..self.product.geometry.filters;
        chunks(filters.map(|k| self.filter_size(k)), 8 * BYTES_PER_CHUNK)
    }

    pub(super) fn message_bytes(&self) -> u64 {
        let filters = 0..self.product.geometry.filters;
        filters.map(|k| self.filter_size(k).1).sum::<u64>().div_ceil(8)
    }

    pub(super) fn ots(&self) -> Ots {
        let filters = 0..self.product.geometry.filters;
        Ots::from_client(filters.map(|k| self.filter_size(k).0).sum())
    }

    /// For each chunk the extension, then the correlated messages.
    pub(super) fn flows(&self, meter: &mut OtMeter) -> Vec<Flow> {
        let mut flows = Vec::new();
        for filters in self.chunks() {
            let (mut ots, mut bytes) = (0, 0);
            for tap in &self.form.taps {
                let sizes = filters.clone().map(|k| self.tap_size(tap, k));
                let (n, bits) = sizes.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
                ots += n;
                bytes += bits.div_ceil(8);
            }
            flows.extend(meter.extend(Ots::from_client(ots), Choices::Chosen));
            flows.push(Flow::Up(bytes));
        }
        flows
    }

    fn filter_size(&self, filter: usize) -> (u64, u64) {
        let sizes = self.form.taps.iter().map(|tap| self.tap_size(tap, filter));
        sizes.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// OTs of one tap of a filter, and the bits of their messages.
    fn tap_size(&self, tap: &Tap, filter: usize) -> (u64, u64) {
        let top = u64::from(self.product.filter_ring(filter).saturating_sub(tap.zeros()));
        let bits = u64::from(tap.bits()).min(top);
        let channels = self.product.geometry.channels_per_group() as u64;
        let widths = bits * top - bits * bits.saturating_sub(1) / 2;
        (channels * bits, channels * widths * tap.entries() as u64)
    }
}

/// OTs and message bytes of [`InputOts`], without making its lists.
pub(super) fn input_totals(product: &Product, form: &Form) -> (u64, u64) {
    let shift = product.channel_shifts.iter().copied().min().unwrap_or(0);
    let mut uses = vec![0u64; form.plane_entries()];
    let mut zeros = vec![u32::MAX; form.planes.len()];
    for tap in &form.taps {
        let start = form.plane_start(tap.plane);
        zeros[tap.plane] = zeros[tap.plane].min(tap.zeros());
        for run in &tap.runs {
            uses[start + run.from..][..run.len].iter_mut().for_each(|n| *n += 1);
        }
    }
    let (mut ots, mut bytes, mut rest) = (0, 0, &uses[..]);
    for (&len, &zeros) in form.planes.iter().zip(&zeros) {
        let width = u64::from(product.output_ring().saturating_sub(zeros.saturating_add(shift)));
        let (plane, later) = rest.split_at(len);
        rest = later;
        for n in plane.iter().filter(|n| **n > 0) {
            ots += width;
            let entries = n * product.filters_per_group() as u64;
            bytes += (entries * width * (width + 1) / 2).div_ceil(8);
        }
    }
    let channels = product.geometry.channels as u64;
    (channels * ots, channels * bytes)
}

/// The client's mask is the choice.
#[derive(Clone, Debug)]
pub struct InputOts<'a> {
    product: &'a Product,
    form: &'a Form,
    /// For each entry of a channel's planes: the taps that use it, and where they put it.
    uses: Vec<Vec<(usize, usize)>>,
}

impl<'a> InputOts<'a> {
    /// The OTs of a layer.
    pub fn new(product: &'a Product, form: &'a Form) -> Self {
        let mut uses = vec![Vec::new(); form.plane_entries()];
        for (t, tap) in form.taps.iter().enumerate() {
            let start = form.plane_start(tap.plane);
            for run in &tap.runs {
                for i in 0..run.len {
                    uses[start + run.from + i].push((t, run.at + i));
                }
            }
        }
        Self { product, form, uses }
    }

    /// `(tap, accumulator)` of all uses of an entry.
    pub fn uses(&self, entry: usize) -> &[(usize, usize)] {
        &self.uses[entry]
    }

    /// Bits of an entry of the mask that matter, one OT each: bit `j` has messages of `width - j`
    /// bits, one for each use and filter.
    pub fn width(&self, entry: usize) -> u32 {
        let zeros = self.uses[entry].iter().map(|&(t, _)| self.form.taps[t].zeros()).min();
        let shift = self.product.channel_shifts.iter().copied().min().unwrap_or(0);
        zeros.map_or(0, |zeros| self.product.output_ring().saturating_sub(zeros + shift))
    }

    /// Message entries of an OT.
    pub fn entries(&self, entry: usize) -> usize {
        self.uses[entry].len() * self.product.filters_per_group()
    }

    /// Bytes of the messages of an entry, one bit string.
    pub fn message_bytes(&self, entry: usize) -> u64 {
        let width = u64::from(self.width(entry));
        (self.entries(entry) as u64 * width * (width + 1) / 2).div_ceil(8)
    }

    /// Entries, numbered through all channels, whose OTs are made and whose messages are sent
    /// together.
    pub fn chunks(&self) -> Vec<Range<usize>> {
        let per_channel = self.uses.len();
        let entries = 0..self.product.geometry.channels * per_channel;
        let size = |e: usize| (u64::from(self.width(e)), self.message_bytes(e));
        chunks(entries.map(|e| size(e % per_channel)), BYTES_PER_CHUNK)
    }

    /// For each chunk the extension, then the correlated messages.
    pub(super) fn flows(&self, meter: &mut OtMeter) -> Vec<Flow> {
        let per_channel = self.uses.len();
        let mut flows = Vec::new();
        for chunk in self.chunks() {
            let entries = chunk.map(|e| e % per_channel);
            let sizes = entries.map(|e| (u64::from(self.width(e)), self.message_bytes(e)));
            let (ots, bytes) = sizes.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            flows.extend(meter.extend(Ots::from_server(ots), Choices::Chosen));
            flows.push(Flow::Down(bytes));
        }
        flows
    }
}
