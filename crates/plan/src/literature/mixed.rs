//! Products of narrow weights with narrow activations (SiRNN, eprint 2021/459, section 3.4).
//!
//! Activations are im2col copies of `a` bits, additively shared in `Z_2^a`; the result is needed in
//! `l = w + a + e` bits with `e = ceil(log2 fan-in)`. Three parts:
//!
//! * **OTs**: the choices are one operand's bits, the messages the other's;
//! * **wrap and MUX**: shares of a copy wrap modulo `2^a'`, which is worth the weights it meets,
//!   modulo `2^(l - a')`: a comparison and `16 + 2 ceil(filters (l - a') / 8)` bytes a copy;
//! * **extension**: one operand gets the `e` bits for the sum. Weights are known, and free; each copy of
//!   an activation costs an extension, but makes `a' = a + e` and the MUX narrow.
//!
//! PrivQuant's table 4 is the choice of receiver times the choice of what is extended; SiRNN has the
//! activations' bits as choices and extends the weights.

use super::sci::{self, Batches};
use super::{Matrix, Sent};
use crate::linear::Side;

/// Which operand is extended by the growth of the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// The server's weights.
    Weights,
    /// The shared activations.
    Activations,
}

/// One way to run a product of mixed widths: a row of PrivQuant's table 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mixed {
    /// Whose bits are the choices.
    pub receiver: Side,
    /// What is extended.
    pub extended: Extended,
    /// The activations are known to be non-negative (PrivQuant, section 4.2.1).
    pub sign_known: bool,
    /// Bits that the result has less than `w + a + e`: PrivQuant's printed figures fit one bit less.
    pub narrower: u32,
}

/// Parts of a price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// OT product.
    pub ots: Sent,
    /// Wraps of the copies.
    pub wraps: u64,
    /// Their products with the weights.
    pub multiplexers: u64,
    /// Extension of the copies.
    pub extension: u64,
    /// Truncate-and-reduce of the outputs to the activations' width.
    pub reduction: u64,
}

impl Mixed {
    /// SiRNN's defaults.
    pub const SIRNN: Self = Self::row(Side::Client, Extended::Weights);

    /// The rows of PrivQuant's table 4.
    pub const ROWS: [Self; 4] = [
        Self::row(Side::Client, Extended::Weights),
        Self::row(Side::Client, Extended::Activations),
        Self::row(Side::Server, Extended::Weights),
        Self::row(Side::Server, Extended::Activations),
    ];

    const fn row(receiver: Side, extended: Extended) -> Self {
        Self { receiver, extended, sign_known: false, narrower: 0 }
    }

    /// The cheapest row for a layer: PrivQuant's choice.
    pub fn cheapest(matrix: Matrix, weight_bits: u32, activation_bits: u32, sign_known: bool) -> Self {
        let price = |row: &Self| row.parts(matrix, weight_bits, activation_bits).bytes();
        let rows = Self::ROWS.map(|row| Self { sign_known, ..row });
        rows.into_iter().min_by_key(price).unwrap_or(Self::SIRNN)
    }

    /// Bits of the result.
    pub fn ring(&self, matrix: Matrix, weight_bits: u32, activation_bits: u32) -> u32 {
        weight_bits + activation_bits + matrix.growth().saturating_sub(self.narrower)
    }

    /// What a convolution sends, all of it online.
    pub fn parts(&self, matrix: Matrix, weight_bits: u32, activation_bits: u32) -> Parts {
        let ring = self.ring(matrix, weight_bits, activation_bits);
        let growth = matrix.growth().saturating_sub(self.narrower);
        let (w, a) = match self.extended {
            Extended::Weights => (weight_bits + growth, activation_bits),
            Extended::Activations => (weight_bits, activation_bits + growth),
        };
        let (copies, groups) = (matrix.copies(), matrix.groups);
        let ots = match self.receiver {
            Side::Client => sci::product(copies, a, matrix.filters, ring, Batches::Fitted),
            Side::Server => {
                sci::product(matrix.weights(), w, matrix.pixels, ring, Batches::Fitted).reversed()
            }
        };
        let wrap = if self.sign_known { sci::wrap_of_known_sign() } else { sci::millionaires(a) };
        let multiplexer = sci::extension(copies, Batches::Fitted)
            + copies * 2 * (matrix.filters * u64::from(ring - a)).div_ceil(8);
        let extension = sci::extend(activation_bits, a, self.sign_known);
        let outputs = matrix.filters * matrix.pixels;
        let reduction = sci::truncate_reduce(ring, ring - activation_bits);
        Parts {
            ots: ots.times(groups),
            wraps: groups * (copies * wrap).div_ceil(8),
            multiplexers: groups * multiplexer,
            extension: groups * (copies * extension).div_ceil(8),
            reduction: groups * (outputs * reduction).div_ceil(8),
        }
    }
}

impl Parts {
    /// Both directions, all parts.
    pub fn bytes(&self) -> u64 {
        self.ots.bytes() + self.wraps + self.multiplexers + self.extension + self.reduction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_WEIGHTS_AS_CHOICES: Mixed =
        Mixed { receiver: Side::Server, extended: Extended::Activations, ..Mixed::SIRNN };

    /// Measured on SCI at W2A4, `design.md` section 6, in GB.
    #[test]
    fn products_cost_what_sci_was_measured_to_send() {
        for (side, channels, kernel, default, weights) in [
            (56, 64, 3, 1.425, Some(1.057)),
            (14, 256, 3, 1.420, Some(0.722)),
            (7, 512, 3, 1.478, None),
            (7, 512, 1, 0.130, None),
        ] {
            let matrix = Matrix::dense(side, channels, channels, kernel);
            let gb = |way: Mixed| way.parts(matrix, 2, 4).bytes() as f64 / 1e9;
            let close = |ours: f64, measured: f64| (ours / measured - 1.0).abs() < 0.005;
            assert!(close(gb(Mixed::SIRNN), default), "{side}: {} GB", gb(Mixed::SIRNN));
            if let Some(weights) = weights {
                let ours = gb(WITH_WEIGHTS_AS_CHOICES);
                assert!(close(ours, weights), "{side}: {ours} GB");
            }
        }
    }

    #[test]
    fn the_cheapest_row_is_none_of_the_dearer_ones() {
        let matrix = Matrix::dense(14, 256, 256, 3);
        let cheapest = Mixed::cheapest(matrix, 2, 4, false);
        assert_eq!(cheapest, WITH_WEIGHTS_AS_CHOICES);
        let price = |row: Mixed| row.parts(matrix, 2, 4).bytes();
        assert!(Mixed::ROWS.iter().all(|row| price(*row) >= price(cheapest)));
        assert!(Mixed::cheapest(matrix, 2, 4, true).parts(matrix, 2, 4).bytes() < price(cheapest));
    }
}
