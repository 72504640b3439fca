//! Building blocks of SCI (EzPC's reference implementation of CrypTFlow2 and SiRNN), as its
//! source sends them. Bits or bytes an element; fractions of a byte are real, since messages are packed.

use super::Sent;

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

/// Bits of `1{x > y}` for shared `bits`-bit values: 4-bit digits by 1-of-16 OT (KKOT: 32 bytes, 16
/// messages of 2 bits), joined by ANDs of 18 bytes and 4 opened bits; `t` ANDs for `q` digits:
///
/// `36 q + 18 t + t / 2` bytes with `t = 2q - 2 - ceil(log2 q)`; a single digit has 1-bit messages.
pub fn millionaires(bits: u32) -> u64 {
    if bits == 0 {
        return 0;
    }
    if bits <= 4 {
        return 2 * LAMBDA + (1 << bits);
    }
    let q = u64::from(bits.div_ceil(4));
    let t = 2 * q - 2 - u64::from(q.next_power_of_two().ilog2());
    8 * (36 * q + 18 * t) + 4 * t
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
    2 * LAMBDA + 4
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

/// Bytes of SCI's faithful truncation by 12 within a ring, as measured at 32, 37 and 41 bits; between
/// them linear.
pub fn faithful_truncation(ring: u32) -> f64 {
    let l = f64::from(ring);
    if ring < 37 {
        524.5 + (l - 32.0) * (650.0 - 524.5) / 5.0
    } else {
        650.0 + (l - 37.0) * (722.0 - 650.0) / 4.0
    }
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
        ] {
            assert!((bytes(formula) - measured).abs() <= 0.051, "{} B, measured {measured}", bytes(formula));
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
