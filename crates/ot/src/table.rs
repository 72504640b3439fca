//! 1-of-`2^m` OT of ring elements as a shared look-up table, from `m` random OTs each: the wide
//! sibling of [`crate::one_of_n`], for `m` up to 8 and entries of up to 64 bits.
//!
//! Ideal functionality: the sender inputs a table of `2^m` entries, the receiver a digit `c`; they
//! get shares with `sender_share + receiver_share = table[c] (mod 2^t)`.
//!
//! Naor and Pinkas (STOC 1999): entry `v` is masked with `P_v = XOR_b F(k_b[v_b], v)`, where
//! `F(k, v)` are the `t` bits from `v t` on of the key's long pad. The sender's share is
//! `table[0] - P_0`, so that entry 0 needs no message: `(2^m - 1) t` bits an instance.
//!
//! # Security
//! As of [`crate::one_of_n`]: for `v != c` some key is not the receiver's, and those bits of its pad
//! mask nothing else.

use crate::error::{check_message, check_range};
use crate::rot::{check_count, read_flips};
use crate::wire::{BitReader, BitWriter, mask, packed_len};
use crate::{OtError, RotReceiver, RotSender};

/// Bytes of the sender's message for `n` instances.
pub const fn message_bytes(n: usize, m: u32, t: u32) -> u64 {
    (n as u64 * ((1 << m) - 1) * t as u64).div_ceil(8)
}

/// The sender's side after the receiver's flips (`m` bits an instance): its message and its shares.
/// `table(i, v)` is entry `v` of instance `i`; only its low `t` bits count.
pub fn sender(
    rots: RotSender,
    (m, t): (u32, u32),
    flips: &[u8],
    table: impl Fn(usize, usize) -> u64,
) -> Result<(Vec<u8>, Vec<u64>), OtError> {
    check_widths(m, t)?;
    let n = rots.len() / m as usize;
    check_count("look-ups times digit bits", rots.len(), n * m as usize)?;
    let flips = read_flips(flips, rots.len())?;
    let mut message = BitWriter::with_capacity(message_bytes(n, m, t) as usize);
    let mut shares = Vec::with_capacity(n);
    let mut masks = vec![0u64; 1 << m];
    let mut truncated = None;
    rots.for_each_long(
        |_| pad_blocks(m, t),
        |k, zero, one| {
            let b = k % m as usize;
            // Whoever sees the connection sees the flips.
            let pads = if flips[k] == 0 { [zero, one] } else { [one, zero] };
            let mut readers = pads.map(|pad| BitReader::new(bytemuck::cast_slice(pad)));
            for (v, mask) in masks.iter_mut().enumerate() {
                match readers.each_mut().map(|reader| reader.read(t)) {
                    [Ok(p0), Ok(p1)] => *mask ^= if v >> b & 1 == 0 { p0 } else { p1 },
                    [Err(error), _] | [_, Err(error)] => truncated = Some(error),
                }
            }
            if b + 1 == m as usize {
                let i = shares.len();
                let share = table(i, 0).wrapping_sub(masks[0]) & mask(t);
                shares.push(share);
                for (v, pad) in masks.iter().enumerate().skip(1) {
                    message.write(table(i, v).wrapping_sub(share).wrapping_sub(*pad), t);
                }
                masks.fill(0);
            }
        },
    );
    truncated.map_or(Ok((message.finish(), shares)), |error| Err(error.into()))
}

/// The receiver's side: its shares, from the sender's message.
pub fn receiver(
    rots: RotReceiver,
    (m, t): (u32, u32),
    digits: &[u8],
    message: &[u8],
) -> Result<Vec<u64>, OtError> {
    check_widths(m, t)?;
    check_digits(m, digits)?;
    check_count("look-ups times digit bits", rots.len(), digits.len() * m as usize)?;
    check_message("look-up table", message_bytes(digits.len(), m, t) as usize, message.len())?;
    let mut sent = BitReader::new(message);
    let mut shares = Vec::with_capacity(digits.len());
    let mut masks = vec![0u64; 1 << m];
    let mut truncated = None;
    rots.for_each_long(
        |_| pad_blocks(m, t),
        |k, _, pad| {
            let b = k % m as usize;
            let mut reader = BitReader::new(bytemuck::cast_slice(pad));
            for mask in &mut masks {
                match reader.read(t) {
                    Ok(bits) => *mask ^= bits,
                    Err(error) => truncated = Some(error),
                }
            }
            if b + 1 == m as usize {
                let digit = digits[k / m as usize];
                // Every entry is read, whatever the digit.
                let mut share = masks[0] & equal(0, digit);
                for (v, pad) in masks.iter().enumerate().skip(1) {
                    match sent.read(t) {
                        Ok(entry) => share |= entry.wrapping_add(*pad) & equal(v as u8, digit),
                        Err(error) => truncated = Some(error),
                    }
                }
                shares.push(share & mask(t));
                masks.fill(0);
            }
        },
    );
    sent.finish()?;
    truncated.map_or(Ok(shares), |error| Err(error.into()))
}

/// The receiver's derandomisation message for these digits: `m` bits each.
pub fn flips(rots: &RotReceiver, m: u32, digits: &[u8]) -> Result<Vec<u8>, OtError> {
    check_widths(m, 1)?;
    check_digits(m, digits)?;
    check_count("look-ups times digit bits", rots.len(), digits.len() * m as usize)?;
    let bits: Vec<bool> = digits.iter().flat_map(|&digit| (0..m).map(move |b| digit >> b & 1 == 1)).collect();
    Ok(rots.flips(&bits))
}

/// All ones if both are equal, else zero, without a branch.
fn equal(a: u8, b: u8) -> u64 {
    let differs = u16::from(a ^ b).wrapping_neg() >> 15;
    u64::from(differs).wrapping_sub(1)
}

fn pad_blocks(m: u32, t: u32) -> usize {
    packed_len(1 << m, t).div_ceil(16)
}

fn check_widths(m: u32, t: u32) -> Result<(), OtError> {
    check_range("digit bits of a look-up", u64::from(m), 1, 8)?;
    check_range("entry bits of a look-up", u64::from(t), 1, 64)
}

fn check_digits(m: u32, digits: &[u8]) -> Result<(), OtError> {
    let largest = digits.iter().copied().max().unwrap_or(0);
    check_range("digit of a look-up", u64::from(largest), 0, mask(m))
}
