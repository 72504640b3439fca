//! The offline product `W * r` by correlated OT, the server's weight bits as choices.
//!
//! Gilboa's product in the direction that suits private inference: for bit `b` of weight
//! `w[k,c,i,j]` one correlated OT with the vector `r[c, positions that tap (i,j) meets]`
//! modulo `2^(ring - shift_k - b)`: the bit weighs `2^b`, and the channel is shifted left by
//! `shift_k` afterwards, so higher bits of the message would be lost anyway. Taps on padding
//! are left out.

use std::ops::Range;

use copriv_model::kernel::Geometry;
use serde::Serialize;

use crate::ot::{Choices, OtMeter, Ots, packed};
use crate::traffic::Flow;

/// Shape and widths of one layer's product; fixes the order of the OTs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Product {
    /// Shape.
    #[serde(skip)]
    pub geometry: Geometry,
    /// Width of the signed weights, = OTs a weight.
    pub weight_bits: u32,
    /// Ring of input and output shares.
    pub ring: u32,
    /// Left shift of each output channel; empty for none.
    pub channel_shifts: Vec<u32>,
}

/// The OTs of one kernel tap and a chunk of filters: their vectors all have `pixels` entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapOts {
    /// Kernel row and column.
    pub tap: (usize, usize),
    /// Output positions reached.
    pub pixels: usize,
    /// In the order of their OTs.
    pub ots: Vec<BitOt>,
}

/// One OT: the choice is a bit of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitOt {
    /// Filter.
    pub filter: usize,
    /// Input channel.
    pub channel: usize,
    /// Index into the layer's weights.
    pub weight: usize,
    /// Bit of the weight.
    pub bit: u32,
    /// Bits of a message entry.
    pub width: u32,
}

impl Product {
    /// OTs made in one go, about; bounds memory.
    const OTS_PER_CHUNK: u64 = 1 << 16;
    /// Message bytes in one go, about.
    const BYTES_PER_CHUNK: u64 = 1 << 24;

    /// The OTs of `filters`: by tap, then filter, channel and bit. Taps that meet only
    /// padding have none.
    pub fn taps(&self, filters: Range<usize>) -> Vec<TapOts> {
        let g = &self.geometry;
        let mut taps = Vec::new();
        for i in 0..g.kernel {
            for j in 0..g.kernel {
                let pixels = g.tap(i, j).len();
                if pixels > 0 {
                    taps.push(TapOts { tap: (i, j), pixels, ots: self.tap_ots(i, j, filters.clone()) });
                }
            }
        }
        taps
    }

    /// Consecutive filters whose OTs are made and whose message is sent together.
    pub fn chunks(&self) -> Vec<Range<usize>> {
        let mut chunks = Vec::new();
        let (mut start, mut ots, mut bits) = (0, 0, 0);
        for filter in 0..self.geometry.filters {
            let (n, b) = self.filter_size(filter);
            if filter > start && (ots + n > Self::OTS_PER_CHUNK || bits + b > 8 * Self::BYTES_PER_CHUNK) {
                chunks.push(start..filter);
                (start, ots, bits) = (filter, 0, 0);
            }
            (ots, bits) = (ots + n, bits + b);
        }
        chunks.push(start..self.geometry.filters);
        chunks
    }

    /// Offline messages: for each chunk the OT extension (the server receives), then the
    /// correlated messages, one bit string a tap.
    pub fn offline(&self, meter: &mut OtMeter) -> Vec<Flow> {
        let mut flows = Vec::new();
        for filters in self.chunks() {
            let (mut ots, mut bytes) = (0, 0);
            for pixels in self.tap_pixels() {
                let (n, bits) =
                    filters.clone().map(|f| self.one_tap(f)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
                ots += n;
                bytes += (bits * pixels).div_ceil(8);
            }
            flows.extend(meter.extend(Ots::from_client(ots), Choices::Chosen));
            flows.push(Flow::Up(bytes));
        }
        flows
    }

    /// Online message: the client's share less its mask, `ring` bits an input.
    pub fn online(&self) -> Flow {
        Flow::Up(packed(self.inputs() as u64, u64::from(self.ring)))
    }

    /// Number of inputs, = entries of the mask.
    pub fn inputs(&self) -> usize {
        self.geometry.channels * self.geometry.height * self.geometry.width
    }

    /// Ring in which the product of filter `k` is needed before its left shift.
    pub fn filter_ring(&self, k: usize) -> u32 {
        self.ring.saturating_sub(self.channel_shifts.get(k).copied().unwrap_or(0))
    }

    fn tap_ots(&self, i: usize, j: usize, filters: Range<usize>) -> Vec<BitOt> {
        let g = &self.geometry;
        let mut ots = Vec::new();
        for filter in filters {
            let group = filter / (g.filters / g.groups);
            let width = self.filter_ring(filter);
            for c in 0..g.channels_per_group() {
                let weight = ((filter * g.channels_per_group() + c) * g.kernel + i) * g.kernel + j;
                let channel = group * g.channels_per_group() + c;
                let bits = 0..self.weight_bits.min(width);
                ots.extend(bits.map(|bit| BitOt { filter, channel, weight, bit, width: width - bit }));
            }
        }
        ots
    }

    /// OTs of one tap of a filter, and the bits of their messages for one pixel.
    fn one_tap(&self, filter: usize) -> (u64, u64) {
        let width = u64::from(self.filter_ring(filter));
        let bits = u64::from(self.weight_bits).min(width);
        let channels = self.geometry.channels_per_group() as u64;
        (channels * bits, channels * (bits * width - bits * bits.saturating_sub(1) / 2))
    }

    fn filter_size(&self, filter: usize) -> (u64, u64) {
        let (n, bits) = self.one_tap(filter);
        self.tap_pixels().fold((0, 0), |(ots, sum), pixels| (ots + n, sum + bits * pixels))
    }

    /// Output positions of each tap that meets any.
    fn tap_pixels(&self) -> impl Iterator<Item = u64> + '_ {
        let g = &self.geometry;
        (0..g.kernel * g.kernel).filter_map(|t| {
            let pixels = g.tap(t / g.kernel, t % g.kernel).len() as u64;
            (pixels > 0).then_some(pixels)
        })
    }
}
