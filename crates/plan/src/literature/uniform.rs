//! Products with every value in `Z_2^l` (CrypTFlow2, eprint 2020/1002, section 5).
//!
//! With `n` values of the receiver and `d` of the sender's that each of them meets:
//! `n (l lambda + d l (l+1) / 2)` bits.

use super::sci::{self, Batches};
use super::{Matrix, Sent};
use crate::linear::Side;

/// One OT product of server-known weights with the client's values (or the client's share of them).
pub fn product(matrix: Matrix, ring: u32, receiver: Side) -> Sent {
    let one = match receiver {
        Side::Client => sci::product(matrix.copies(), ring, matrix.filters, ring, Batches::Whole),
        Side::Server => sci::product(matrix.weights(), ring, matrix.pixels, ring, Batches::Whole).reversed(),
    };
    one.times(matrix.groups)
}

/// [`product`] by the formula alone, in bits: no padding to batches and bytes, as CoPriv counts.
pub fn product_bits(matrix: Matrix, ring: u32, receiver: Side) -> u64 {
    let (entries, messages) = match receiver {
        Side::Client => (matrix.copies(), matrix.filters),
        Side::Server => (matrix.weights(), matrix.pixels),
    };
    matrix.groups * entries * bits_an_entry(messages, ring)
}

/// `l lambda + d l (l+1) / 2`.
pub(super) fn bits_an_entry(messages: u64, ring: u32) -> u64 {
    let l = u64::from(ring);
    128 * l + messages * l * (l + 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured on SCI: 256 x 2304 x 196 at 41 bits sends 12.743 GB.
    #[test]
    fn a_product_costs_what_sci_was_measured_to_send() {
        let matrix = Matrix::dense(14, 256, 256, 3);
        let sent = product(matrix, 41, Side::Client);
        assert!((sent.bytes() as f64 / 12.743e9 - 1.0).abs() < 5e-4, "{sent:?}");
        // Padding aside, the formula.
        let bits = product_bits(matrix, 41, Side::Client);
        assert!((sent.bytes() as f64 * 8.0 / bits as f64 - 1.0).abs() < 1e-3);
    }
}
