//! Building blocks of SCI (EzPC's reference implementation of CrypTFlow2 and SiRNN), as its
//! source sends them. Bits or bytes an element; fractions of a byte are real, since messages are packed.
//! Comparisons and 1-of-N OTs, which the executed presets have in the same shape, are stated in [`baseline`].

use super::Sent;
use crate::baseline::{self, Comparison};
use crate::traffic::{Flow, Meter};

/// OTs that the extension is run for at once.
const BLOCK: u64 = 1 << 14;
/// Smaller batches of [`Batches::Fitted`] are padded to a multiple of this.
const SMALL_BLOCK: u64 = 1 << 8;
/// Product messages of mixed widths in one go (`MAX_NUM_OT`).
const MESSAGES_AT_ONCE: u64 = 1 << 24;
/// Security parameter; IKNP's bits an OT.
const LAMBDA: u64 = 128;

/// How an extension is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batches {
    /// To whole blocks of 16384 OTs (`iknp.h`, uniform widths).
    Whole,
    /// A batch below a block to a multiple of 256 (`split-iknp.h`, mixed widths).
    Fitted,
}

/// IKNP: the receiver sends 16 bytes an OT.
pub fn extension(ots: u64, batches: Batches) -> u64 {
    let block = match batches {
        Batches::Whole => BLOCK,
        Batches::Fitted => BLOCK.min(ots.next_multiple_of(SMALL_BLOCK).max(SMALL_BLOCK)),
    };
    ots.next_multiple_of(block) * LAMBDA / 8
}

/// A product of `entries` values of the client with `messages` of the server's each, by
/// correlated OT: the client's `bits` are the choices, and bit `i` has messages of
/// `ring - i` bits, packed to bytes:
///
/// `up = 16 * entries * bits` (padded), `down = entries * sum_{i < bits} ceil(messages (ring - i) / 8)`.
pub fn product(entries: u64, bits: u32, messages: u64, ring: u32, batches: Batches) -> Sent {
    let bits = bits.min(ring);
    let down = (0..bits).map(|i| (messages * u64::from(ring - i)).div_ceil(8)).sum::<u64>() * entries;
    let up = match batches {
        Batches::Whole => extension(entries * u64::from(bits), batches),
        // As many bits of all entries at once as fit.
        Batches::Fitted => {
            let at_once = MESSAGES_AT_ONCE.div_ceil((entries * messages).max(1)).min(u64::from(bits)).max(1);
            let (rounds, rest) = (u64::from(bits) / at_once, u64::from(bits) % at_once);
            rounds * extension(entries * at_once, batches)
                + if rest > 0 { extension(entries * rest, batches) } else { 0 }
        }
    };
    Sent { up, down }
}

/// Bits an element of messages that [`baseline`] has the shape of.
fn each(flows: impl Fn(u64) -> Vec<Flow>) -> u64 {
    /// Enough for whole bytes and whole pairs.
    const ELEMENTS: u64 = 16;
    8 * Meter::new().count(&flows(ELEMENTS)).bytes() / ELEMENTS
}

/// Bits of `1{x > y}` for shared `bits`-bit values.
pub fn millionaires(bits: u32) -> u64 {
    each(|n| Comparison { bits, equality: false }.flows(n))
}

/// Bits of a shared bit's conversion into `Z_2^ring`: one correlated OT.
pub fn to_arithmetic(ring: u32) -> u64 {
    LAMBDA + u64::from(ring)
}

/// Bits of a shared bit times a shared value: a correlated OT in each direction.
pub fn multiplex(ring: u32) -> u64 {
    2 * (LAMBDA + u64::from(ring))
}

/// Bits of a ReLU: DReLU on `ring - 1` bits, and a MUX whose OTs have two messages each.
pub fn relu(ring: u32) -> u64 {
    millionaires(ring - 1) + 2 * (LAMBDA + 2 * u64::from(ring))
}

/// Bits of the wrap of a value whose sign is known: a 1-of-4 OT of one bit.
pub fn wrap_of_known_sign() -> u64 {
    each(|n| baseline::exchange(&[baseline::wrap_lookups(n)]))
}

/// Bits of an extension from `from` to `to`: the wrap, converted to the bits that are new.
pub fn extend(from: u32, to: u32, sign_known: bool) -> u64 {
    if to <= from {
        return 0;
    }
    let wrap = if sign_known { wrap_of_known_sign() } else { millionaires(from) };
    wrap + to_arithmetic(to - from)
}

/// Bits of truncate-and-reduce by `shift` from `from`: the low bits' carry, into `from - shift` bits.
pub fn truncate_reduce(from: u32, shift: u32) -> u64 {
    if shift == 0 { 0 } else { millionaires(shift) + to_arithmetic(from - shift) }
}

/// Bits of faithful truncation by `shift` within a ring: the carry of the low bits, the comparison
/// with equality of the others, an AND of the two (a 1-of-16 OT for two of them), and both wraps
/// converted (`truncation.cpp`).
pub fn faithful_truncation(ring: u32, shift: u32) -> u64 {
    let and = 8 * 18;
    millionaires(shift)
        + millionaires_with_equality(ring - shift)
        + and
        + to_arithmetic(shift)
        + to_arithmetic(ring)
}

/// Bits of `1{x > y}` and `1{x = y}` as SCI has them (`millionaire_with_equality.h`; [`baseline`] opens a triple
/// once, which is a little less): the last digit of `r` bits has
/// a table of its size, or is a 1-of-2 OT; a pair of ANDs takes a 1-of-8 OT of 34 bytes, and its 4
/// bits are opened twice.
fn millionaires_with_equality(bits: u32) -> u64 {
    let last = match (bits - 1) % 4 + 1 {
        1 => LAMBDA + 4,
        r => 2 * LAMBDA + (2 << r),
    };
    let joined = u64::from(bits.div_ceil(4)) - 1;
    joined * (8 * 36 + 8 * 36) + last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured bytes an element, `design.md` section 6.
    #[test]
    fn operators_cost_what_sci_was_measured_to_send() {
        let bytes = |bits: u64| bits as f64 / 8.0;
        for (formula, measured) in [
            (relu(41), 671.5),
            (relu(37), 596.5),
            (relu(32), 539.5),
            (relu(16), 258.0),
            (relu(8), 126.5),
            (truncate_reduce(41, 12), 164.6),
            (truncate_reduce(32, 16), 236.0),
            (truncate_reduce(16, 6), 107.8),
            (extend(16, 32, false), 236.0),
            (extend(16, 32, true), 50.5),
            (extend(6, 16, false), 107.8),
            (extend(4, 14, false), 51.3),
            (multiplex(41), 42.3),
            (to_arithmetic(41), 21.1),
            (millionaires(4), 34.0),
            (faithful_truncation(32, 12), 524.5),
        ] {
            assert!((bytes(formula) - measured).abs() <= 0.051, "{} B, measured {measured}", bytes(formula));
        }
    }

    /// The design's figures of 41 and 37 bits are rounded to bytes.
    #[test]
    fn faithful_truncation_costs_what_was_measured() {
        for (ring, measured) in [(41, 722.0), (37, 650.0)] {
            assert!((faithful_truncation(ring, 12) as f64 / 8.0 - measured).abs() < 0.5);
        }
    }

    #[test]
    fn batches_are_padded() {
        assert_eq!(extension(1, Batches::Whole), 16 << 14);
        assert_eq!(extension(1, Batches::Fitted), 16 << 8);
        assert_eq!(extension(300, Batches::Fitted), 16 * 512);
        assert_eq!(extension((1 << 14) + 1, Batches::Fitted), 16 << 15);
        assert_eq!(extension(0, Batches::Fitted), 0);
    }
}
