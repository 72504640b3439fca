//! CoPriv's convolution: Winograd `F(m x m, 3 x 3)` with OT products in `Z_2^l` (NeurIPS 2023, section 4.1,
//! tables 2 and 3).
//!
//! With `n = (m+2)^2` tile positions, `T` tiles, `C` channels and `K` filters, in bits of one
//! product of weights with values (`b(d) = l lambda + d l (l+1)/2`):
//!
//! | form | cost |
//! |---|---|
//! | element-wise (EWMM) | `n C K T b(1)`; measured: one padded OT batch for every `(C, K, T)` |
//! | tile aggregation, weights as choices | `n C K b(T)` |
//! | tile aggregation, values as choices | `n C T b(K)` |
//! | sender selection | the cheaper of the two |

use super::sci::{self, Batches};
use super::uniform::bits_an_entry;
use super::{Matrix, Sent};
use crate::linear::Side;

/// A 3x3 convolution of stride 1 on tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiled {
    /// Output side of a tile: 2 or 4.
    pub m: u64,
    /// Tiles of a channel.
    pub tiles: u64,
    /// Input channels.
    pub channels: u64,
    /// Filters.
    pub filters: u64,
}

impl Tiled {
    /// `filters` on `channels` maps of `side x side`.
    pub fn new(m: u64, side: u64, channels: u64, filters: u64) -> Self {
        Self { m, tiles: side.div_ceil(m).pow(2), channels, filters }
    }

    /// Tile positions.
    pub fn positions(&self) -> u64 {
        (self.m + 2).pow(2)
    }

    /// Element-wise products as SCI runs them: a call a channel, filter and tile, whose
    /// `positions * ring` OTs are padded to one batch.
    pub fn element_wise(&self, ring: u32) -> Sent {
        let call = sci::product(self.positions(), ring, 1, ring, Batches::Whole);
        call.times(self.channels * self.filters * self.tiles)
    }

    /// The OT batches of [`Self::element_wise`] alone, in bytes.
    pub fn element_wise_extension(&self, ring: u32) -> u64 {
        self.element_wise(ring).up
    }

    /// [`Self::element_wise`] without padding, in bits: `n C K T b(1)`.
    pub fn element_wise_bits(&self, ring: u32) -> u64 {
        self.positions() * self.channels * self.filters * self.tiles * bits_an_entry(1, ring)
    }

    /// A matrix product for each tile position, in bits.
    pub fn aggregated(&self, ring: u32, receiver: Side) -> u64 {
        let matrix = Matrix { groups: 1, filters: self.filters, fan_in: self.channels, pixels: self.tiles };
        let (entries, messages) = match receiver {
            Side::Server => (matrix.weights(), matrix.pixels),
            Side::Client => (matrix.copies(), matrix.filters),
        };
        self.positions() * entries * bits_an_entry(messages, ring)
    }

    /// [`Self::aggregated`] with the cheaper receiver.
    pub fn selected(&self, ring: u32) -> u64 {
        self.aggregated(ring, Side::Server).min(self.aggregated(ring, Side::Client))
    }
}
