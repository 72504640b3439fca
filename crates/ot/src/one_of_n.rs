//! 1-of-2^m OT of short entries as a shared look-up table, from `m` random OTs each.
//!
//! Ideal functionality: the sender inputs a table of `2^m` entries of `t` bits, the receiver a
//! digit `c` of `m` bits; they get shares with `sender_share ^ receiver_share = table[c]`.
//!
//! Naor and Pinkas, *Oblivious Transfer and Polynomial Evaluation* (STOC 1999): entry `v` is
//! masked with `P_v = XOR_b F(k_b[v_b ^ f_b], v)`, where `k_b[0], k_b[1]` are the keys of the
//! `b`-th random OT, `f_b` its flip, and `F(k, v)` is byte `v` of its pad block: sixteen bytes,
//! at most sixteen entries. The sender sets its share to `P_0 ^ table[0]`, so the message for
//! entry 0 is zero and is not sent: `(2^m - 1) * t` bits an instance.
//!
//! # Security
//! For `v != c` some bit differs, so `P_v` contains a byte of a pad that the receiver does not
//! have, and that byte masks nothing else.

use crate::error::{check_message, check_range};
use crate::rot::{check_count, read_flips, select, spread};
use crate::wire::{BitReader, BitWriter, pack_bits, packed_len};
use crate::{OtError, RotReceiver, RotSender};

/// Byte `v` is all ones where bit `b` of `v` is one.
const ENTRY_BIT: [u128; 4] = [
    0xff00_ff00_ff00_ff00_ff00_ff00_ff00_ff00,
    0xffff_0000_ffff_0000_ffff_0000_ffff_0000,
    0xffff_ffff_0000_0000_ffff_ffff_0000_0000,
    0xffff_ffff_ffff_ffff_0000_0000_0000_0000,
];

/// Bytes of the sender's message for `n` instances.
pub const fn message_bytes(n: usize, m: u32, t: u32) -> u64 {
    packed_len(n, ((1 << m) - 1) * t) as u64
}

/// Bytes of the receiver's flips for `n` instances: `m` bits each.
pub const fn flips_bytes(n: usize, m: u32) -> u64 {
    packed_len(n, m) as u64
}

/// The receiver's derandomisation message for these digits: `m` bits each.
pub fn flips(rots: &RotReceiver, m: u32, digits: &[u8]) -> Result<Vec<u8>, OtError> {
    check_shape(rots.len(), m, 1, digits.len())?;
    check_digits(m, digits)?;
    let bits: Vec<bool> = digits.iter().flat_map(|&digit| (0..m).map(move |b| digit >> b & 1 == 1)).collect();
    debug_assert_eq!(pack_bits(&bits).len() as u64, flips_bytes(digits.len(), m));
    Ok(rots.flips(&bits))
}

/// The sender's side after the receiver's flips: its message and its shares. `table(i, v)` is
/// entry `v` of instance `i`; only its low `t` bits count.
pub fn sender(
    rots: RotSender,
    m: u32,
    t: u32,
    flips: &[u8],
    table: impl Fn(usize, usize) -> u8,
) -> Result<(Vec<u8>, Vec<u8>), OtError> {
    let n = instances(rots.len(), m)?;
    check_shape(rots.len(), m, t, n)?;
    let flips = read_flips(flips, rots.len())?;
    let low = entry_mask(t);
    let mut message = BitWriter::with_capacity(message_bytes(n, m, t) as usize);
    let mut shares = Vec::with_capacity(n);
    let mut masks = 0_u128;
    rots.for_each(|k, zero, one| {
        let b = k % m as usize;
        let flip = flips[k];
        let p0 = select(flip, zero, one);
        let p1 = select(flip, one, zero);
        masks ^= p0 & !ENTRY_BIT[b] | p1 & ENTRY_BIT[b];
        if b + 1 < m as usize {
            return;
        }
        let instance = shares.len();
        let masks = std::mem::take(&mut masks).to_le_bytes();
        let share = (masks[0] ^ table(instance, 0)) & low;
        shares.push(share);
        for (v, mask) in masks.iter().enumerate().take(1 << m).skip(1) {
            message.write(u64::from(table(instance, v) ^ share ^ mask), t);
        }
    });
    Ok((message.finish(), shares))
}

/// The receiver's side: its shares, from the sender's message.
pub fn receiver(
    rots: RotReceiver,
    m: u32,
    t: u32,
    digits: &[u8],
    message: &[u8],
) -> Result<Vec<u8>, OtError> {
    let n = digits.len();
    check_shape(rots.len(), m, t, n)?;
    check_digits(m, digits)?;
    check_message("1-of-n OT", message_bytes(n, m, t) as usize, message.len())?;
    // Every entry is read, whatever the digit.
    let mut reader = BitReader::new(message);
    let mut shares = Vec::with_capacity(n);
    for &digit in digits {
        let mut entry = 0;
        for v in 1..1_u8 << m {
            entry |= reader.read(t)? as u8 & equal(v, digit);
        }
        shares.push(entry);
    }
    reader.finish()?;
    let low = entry_mask(t);
    let mut pad = 0_u128;
    rots.for_each(|k, _, block| {
        let (instance, b) = (k / m as usize, k % m as usize);
        pad ^= block;
        if b + 1 == m as usize {
            let bytes = std::mem::take(&mut pad).to_le_bytes();
            let mask =
                (0..1_u8 << m).fold(0, |mask, v| mask | bytes[usize::from(v)] & equal(v, digits[instance]));
            shares[instance] = (shares[instance] ^ mask) & low;
        }
    });
    Ok(shares)
}

/// 0xff if both are equal, else 0, without a branch; both below 128.
#[inline]
fn equal(a: u8, b: u8) -> u8 {
    spread((a ^ b).wrapping_sub(1) >> 7) as u8
}

fn entry_mask(t: u32) -> u8 {
    crate::wire::mask(t) as u8
}

fn instances(rots: usize, m: u32) -> Result<usize, OtError> {
    check_range("digit bits of a 1-of-n OT", u64::from(m), 1, 4)?;
    Ok(rots / m as usize)
}

fn check_shape(rots: usize, m: u32, t: u32, n: usize) -> Result<(), OtError> {
    check_range("digit bits of a 1-of-n OT", u64::from(m), 1, 4)?;
    check_range("entry bits of a 1-of-n OT", u64::from(t), 1, 8)?;
    check_count("digits times digit bits", rots, n.saturating_mul(m as usize))
}

fn check_digits(m: u32, digits: &[u8]) -> Result<(), OtError> {
    let largest = digits.iter().copied().max().unwrap_or(0);
    check_range("digit of a 1-of-n OT", u64::from(largest), 0, (1 << m) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dealer::Dealer;

    #[test]
    fn matches_the_ideal_functionality_at_all_sizes() {
        let mut dealer = Dealer::new(21);
        for n in 0..300 {
            for m in 1..=4 {
                let t = (n as u32 + m) % 8 + 1;
                let table = dealer.values(n << m, 8);
                let entry = |i: usize, v: usize| table[i << m | v] as u8;
                let digits: Vec<u8> = dealer.values(n, m).iter().map(|&d| d as u8).collect();
                let (s, r) = dealer.rots(n * m as usize);
                let flips = flips(&r, m, &digits).unwrap();
                assert_eq!(flips.len() as u64, flips_bytes(n, m));
                let (message, sent) = sender(s, m, t, &flips, entry).unwrap();
                assert_eq!(message.len() as u64, message_bytes(n, m, t));
                let received = receiver(r, m, t, &digits, &message).unwrap();
                for i in 0..n {
                    let expected = entry(i, usize::from(digits[i])) & entry_mask(t);
                    assert_eq!(sent[i] ^ received[i], expected);
                }
            }
        }
    }

    #[test]
    fn entries_not_chosen_stay_masked() {
        // With an all-zero table, what the receiver could compute for another digit with the
        // pads it has must not be the sender's share, except by chance (2^-8 each).
        let mut dealer = Dealer::new(22);
        let n = 4000;
        let digits: Vec<u8> = dealer.values(n, 2).iter().map(|&d| d as u8).collect();
        let (s, r) = dealer.rots(2 * n);
        let flips = flips(&r, 2, &digits).unwrap();
        let (message, sent) = sender(s, 2, 8, &flips, |_, _| 0).unwrap();
        let mut pads = vec![0_u128; n];
        r.for_each(|k, _, pad| pads[k / 2] ^= pad);
        let mut hits = 0;
        for i in 0..n {
            for v in (0..4).filter(|&v| v != digits[i]) {
                let masked = if v == 0 { 0 } else { message[3 * i + usize::from(v) - 1] };
                hits += usize::from(masked ^ pads[i].to_le_bytes()[usize::from(v)] == sent[i]);
            }
        }
        let expected = 3.0 * n as f64 / 256.0;
        assert!((hits as f64 - expected).abs() < 6.0 * expected.sqrt(), "{hits}");
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let mut dealer = Dealer::new(23);
        let zero = |_: usize, _: usize| 0;
        for (m, t) in [(0, 1), (5, 1), (2, 0), (2, 9), (u32::MAX, 1)] {
            assert!(sender(dealer.rots(4).0, m, t, &[0], zero).is_err());
            assert!(receiver(dealer.rots(4).1, m, t, &[0, 0], &[0]).is_err());
        }
        assert!(sender(dealer.rots(5).0, 2, 1, &[0], zero).is_err());
        assert!(sender(dealer.rots(4).0, 2, 1, &[], zero).is_err());
        assert!(sender(dealer.rots(4).0, 2, 1, &[16], zero).is_err());
        assert!(flips(&dealer.rots(4).1, 2, &[4, 0]).is_err());
        assert!(receiver(dealer.rots(4).1, 2, 1, &[0, 4], &[0]).is_err());
        for bad in [&[][..], &[0, 0], &[64]] {
            assert!(receiver(dealer.rots(4).1, 2, 1, &[0, 0], bad).is_err());
        }
        assert!(receiver(dealer.rots(4).1, 2, 1, &[0, 0], &[63]).is_ok());
    }
}
