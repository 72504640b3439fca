//! 1-of-2 OT of two chosen strings, from random OTs.
//!
//! Ideal functionality: the sender inputs two strings of `l` bits, the receiver a bit `c`; the
//! receiver gets string `c`. Each string travels under its pad (Beaver, CRYPTO 1995); a random OT
//! whose choice is not the wanted one is derandomised by a flip, as in [`crate::cot`], which costs
//! half of this where a correlation will do.

use crate::OtError;
use crate::error::{check_message, check_range};
use crate::rot::{check_count, low, read_flips, spread, swap};
use crate::short::{ReceivePads, SendPads};
use crate::wire::{BitReader, BitWriter, mask, packed_len};

/// Bytes of the sender's message for `n` pairs of `l` bits.
pub const fn message_bytes(n: usize, l: u32) -> u64 {
    packed_len(n, 2 * l) as u64
}

/// The sender's message after the receiver's `flips`.
pub fn sender(rots: impl SendPads, flips: &[u8], l: u32, strings: &[[u64; 2]]) -> Result<Vec<u8>, OtError> {
    check_range("width of a string", u64::from(l), 1, 64)?;
    check_count("pairs of strings", rots.count(), strings.len())?;
    let flips = read_flips(flips, rots.count())?;
    let mut message = BitWriter::with_capacity(message_bytes(strings.len(), l) as usize);
    rots.each(l, |k, zero, one| {
        let (p0, p1) = swap(flips[k], zero, one);
        message.write(strings[k][0] ^ p0, l);
        message.write(strings[k][1] ^ p1, l);
    })?;
    Ok(message.finish())
}

/// The receiver's strings. The choices are those given to [`ReceivePads::flips_for`].
pub fn receiver(
    rots: impl ReceivePads,
    choices: &[bool],
    l: u32,
    message: &[u8],
) -> Result<Vec<u64>, OtError> {
    check_range("width of a string", u64::from(l), 1, 64)?;
    check_count("choices", rots.count(), choices.len())?;
    check_message("1-of-2 OT", message_bytes(rots.count(), l) as usize, message.len())?;
    let mut reader = BitReader::new(message);
    let mut strings = Vec::with_capacity(choices.len());
    for &choice in choices {
        let [zero, one] = [reader.read(l)?, reader.read(l)?];
        strings.push(zero ^ (zero ^ one) & low(spread(u8::from(choice))));
    }
    reader.finish()?;
    rots.each(l, |k, _, pad| strings[k] = (strings[k] ^ pad) & mask(l))?;
    Ok(strings)
}
