//! Gilboa's product by correlated OT, in both directions.
//!
//! *Server receives*: for every bit of `v - lo` one OT with the plane's entries as the message,
//! `width` bits each; the choices are the weight's bits. *Client receives*: for every bit `j` of a
//! plane's entry one OT with the weights that the entry meets as the message, `width - j` bits each;
//! the choices are the mask's bits. (CoPriv's "sender selection" takes the cheaper of the two.)

use std::collections::BTreeMap;
use std::ops::Range;

use copriv_model::kernel::mask;
use copriv_model::range::signed_bits;

use super::{Form, Product, Tap};
use crate::ot::{Choices, Offline, Ots};
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
#[derive(Clone, Debug)]
pub struct WeightOts<'a> {
    product: &'a Product,
    form: &'a Form,
    /// OTs and message bits of a filter, by its ring.
    sizes: BTreeMap<u32, (u64, u64)>,
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
        let mut all = Self { product, form, sizes: BTreeMap::new() };
        for filter in 0..product.geometry.filters {
            let ring = product.filter_ring(filter);
            if !all.sizes.contains_key(&ring) {
                let sizes = form.taps.iter().map(|tap| all.tap_size(tap, filter));
                let size = sizes.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
                all.sizes.insert(ring, size);
            }
        }
        all
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
    pub(super) fn parts(&self) -> Vec<Offline> {
        let mut parts = Vec::new();
        for filters in self.chunks() {
            let (mut ots, mut bytes) = (0, 0);
            for tap in &self.form.taps {
                let sizes = filters.clone().map(|k| self.tap_size(tap, k));
                let (n, bits) = sizes.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
                ots += n;
                bytes += bits.div_ceil(8);
            }
            parts.push(Offline::Extend(Ots::from_client(ots), Choices::Chosen));
            parts.push(Offline::Message(Flow::Up(bytes)));
        }
        parts
    }

    fn filter_size(&self, filter: usize) -> (u64, u64) {
        self.sizes.get(&self.product.filter_ring(filter)).copied().unwrap_or_default()
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

/// How often each entry of a channel's planes is used.
pub(super) fn use_counts(form: &Form) -> Vec<u64> {
    let mut uses = vec![0u64; form.plane_entries()];
    for tap in &form.taps {
        let start = form.plane_start(tap.plane);
        for run in &tap.runs {
            uses[start + run.from..][..run.len].iter_mut().for_each(|n| *n += 1);
        }
    }
    uses
}

/// For each entry of a channel's planes: the taps that use it, and where they put it.
pub(super) fn uses(form: &Form) -> Vec<Vec<(usize, usize)>> {
    let mut uses = vec![Vec::new(); form.plane_entries()];
    for (t, tap) in form.taps.iter().enumerate() {
        let start = form.plane_start(tap.plane);
        for run in &tap.runs {
            for i in 0..run.len {
                uses[start + run.from + i].push((t, run.at + i));
            }
        }
    }
    uses
}

/// The bits of a plane's entries, and how wide their messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryBits {
    /// Choices: bits of an entry that matter.
    pub bits: u32,
    /// Bit `j` has messages of `width - j` bits.
    pub width: u32,
    /// The topmost of the bits counts `-2^(bits-1)`.
    pub signed: bool,
}

impl EntryBits {
    /// Of every plane: the product is needed modulo `2^width`, and no entry has more bits than the sums of
    /// the mask's that it is.
    fn of_planes(product: &Product, form: &Form) -> Vec<Self> {
        let shift = product.channel_shifts.iter().copied().min().unwrap_or(0);
        let mut zeros = vec![u32::MAX; form.planes.len()];
        for tap in &form.taps {
            zeros[tap.plane] = zeros[tap.plane].min(tap.zeros());
        }
        let plane = |(p, zeros): (usize, u32)| {
            let width = product.output_ring().saturating_sub(zeros.saturating_add(shift));
            let (negative, positive) = form.plane_sums(p);
            let largest = i128::from(mask(product.input_ring()));
            let (lo, hi) = (-largest * i128::from(negative), largest * i128::from(positive));
            let bits = signed_bits(lo, hi) - u32::from(lo == 0);
            Self { bits: bits.min(width), width, signed: lo < 0 && bits <= width }
        };
        zeros.into_iter().enumerate().map(plane).collect()
    }

    /// Widths of the messages, one for each choice.
    pub fn widths(&self) -> impl Iterator<Item = u32> {
        (0..self.bits).map(|bit| self.width - bit)
    }

    /// What bit `j` counts, modulo a power of two.
    pub fn weight(&self, bit: usize) -> u64 {
        let weight = 1u64 << bit;
        if self.signed && bit + 1 == self.bits as usize { weight.wrapping_neg() } else { weight }
    }

    /// Bytes of the messages of one entry with so many uses and filters.
    fn message_bytes(&self, entries: u64) -> u64 {
        (entries * self.widths().map(u64::from).sum::<u64>()).div_ceil(8)
    }
}

/// OTs and message bytes of [`InputOts`], without making its lists.
pub(super) fn input_totals(product: &Product, form: &Form) -> (u64, u64) {
    let uses = use_counts(form);
    let (mut ots, mut bytes, mut rest) = (0, 0, &uses[..]);
    for (&len, plane) in form.planes.iter().zip(EntryBits::of_planes(product, form)) {
        let (uses, later) = rest.split_at(len);
        rest = later;
        for n in uses.iter().filter(|n| **n > 0) {
            ots += u64::from(plane.bits);
            bytes += plane.message_bytes(n * product.filters_per_group() as u64);
        }
    }
    let channels = product.geometry.channels as u64;
    (channels * ots, channels * bytes)
}

/// The client's mask is the choice.
#[derive(Clone, Debug)]
pub struct InputOts<'a> {
    product: &'a Product,
    /// For each entry of a channel's planes: the taps that use it, and where they put it.
    uses: Vec<Vec<(usize, usize)>>,
    /// For each entry.
    bits: Vec<EntryBits>,
}

impl<'a> InputOts<'a> {
    /// The OTs of a layer.
    pub fn new(product: &'a Product, form: &'a Form) -> Self {
        let planes = form.planes.iter().zip(EntryBits::of_planes(product, form));
        let bits = planes.flat_map(|(&len, bits)| std::iter::repeat_n(bits, len)).collect();
        Self { product, uses: uses(form), bits }
    }

    /// `(tap, accumulator)` of all uses of an entry.
    pub fn uses(&self, entry: usize) -> &[(usize, usize)] {
        &self.uses[entry]
    }

    /// The bits of an entry of the mask that matter, one OT each, with a message for each use and filter;
    /// none if nothing uses it.
    pub fn bits(&self, entry: usize) -> EntryBits {
        let bits = self.bits[entry];
        if self.uses[entry].is_empty() { EntryBits { bits: 0, ..bits } } else { bits }
    }

    /// Message entries of an OT.
    pub fn entries(&self, entry: usize) -> usize {
        self.uses[entry].len() * self.product.filters_per_group()
    }

    /// Bytes of the messages of an entry, one bit string.
    pub fn message_bytes(&self, entry: usize) -> u64 {
        self.bits(entry).message_bytes(self.entries(entry) as u64)
    }

    /// Entries, numbered through all channels, whose OTs are made and whose messages are sent
    /// together.
    pub fn chunks(&self) -> Vec<Range<usize>> {
        let per_channel = self.uses.len();
        let entries = 0..self.product.geometry.channels * per_channel;
        let size = |e: usize| (u64::from(self.bits(e).bits), self.message_bytes(e));
        chunks(entries.map(|e| size(e % per_channel)), BYTES_PER_CHUNK)
    }

    /// For each chunk the extension, then the correlated messages.
    pub(super) fn parts(&self) -> Vec<Offline> {
        let per_channel = self.uses.len();
        let mut parts = Vec::new();
        for chunk in self.chunks() {
            let entries = chunk.map(|e| e % per_channel);
            let sizes = entries.map(|e| (u64::from(self.bits(e).bits), self.message_bytes(e)));
            let (ots, bytes) = sizes.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            parts.push(Offline::Extend(Ots::from_server(ots), Choices::Chosen));
            parts.push(Offline::Message(Flow::Down(bytes)));
        }
        parts
    }
}
