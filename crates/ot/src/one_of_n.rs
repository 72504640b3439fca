//! 1-of-2^m OT of short entries as a shared look-up table, from `m` random OTs each.
//!
//! Ideal functionality: the sender inputs a table of `2^m` entries of `t` bits, the receiver a
//! digit `c` of `m` bits; they get shares with `sender_share ^ receiver_share = table[c]`.
//!
//! Naor and Pinkas, *Oblivious Transfer and Polynomial Evaluation* (STOC 1999), on random digits: with
//! `k_b[0], k_b[1]` the keys of the `b`-th random OT of an instance, `R_w = XOR_b F(k_b[w_b], w)` are
//! `2^m` random strings, of which the receiver has that of its random digit `d`. `F(k, w)` is byte
//! `w` of the key's pad block: sixteen bytes, at most sixteen entries. Online the receiver sends
//! `f = c ^ d`, and entry `v` is masked with `R_{v ^ f}`. The sender sets its share to
//! `R_f ^ table[0]`, so the message for entry 0 is zero and is not sent: `(2^m - 1) * t` bits an
//! instance.
//!
//! The strings can be made ahead of use, and are then all that is kept of the random OTs: `2^m * t` bits
//! an instance at the sender, `m + t` at the receiver.
//!
//! # Security
//! For `w != d` some bit differs, so `R_w` contains a byte of a pad that the receiver does not
//! have, and that byte masks nothing else.

use crate::error::{check_message, check_range};
use crate::rot::{check_count, spread};
use crate::short::Records;
use crate::wire::{BitReader, BitWriter, packed_len, unpack};
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

/// The sender's random strings of some instances.
#[derive(Debug)]
pub struct Sender {
    m: u32,
    t: u32,
    strings: Records,
}

/// The receiver's random digits, and that string of each instance.
#[derive(Debug)]
pub struct Receiver {
    m: u32,
    t: u32,
    strings: Records,
}

impl Sender {
    /// Instances of tables of `2^m` entries of `t` bits, from `m` random OTs each.
    ///
    /// # Errors
    /// Widths, or a number of random OTs, that are none.
    pub fn cut(rots: RotSender, m: u32, t: u32) -> Result<Records, OtError> {
        let n = instances(rots.len(), m, t)?;
        let mut masks = 0_u128;
        Ok(Records::pack(n, t << m, |writer| {
            rots.for_each(|k, zero, one| {
                let b = k % m as usize;
                masks ^= zero & !ENTRY_BIT[b] | one & ENTRY_BIT[b];
                if b + 1 == m as usize {
                    let masks = std::mem::take(&mut masks).to_le_bytes();
                    masks[..1 << m].iter().for_each(|&mask| writer.write(u64::from(mask), t));
                }
            });
        }))
    }

    /// From [`Self::cut`].
    pub fn new(m: u32, t: u32, strings: Records) -> Self {
        Self { m, t, strings }
    }

    /// The message after the receiver's flips, and the shares. `table(i, v)` is entry `v` of instance
    /// `i`; only its low `t` bits count.
    ///
    /// # Errors
    /// Flips of another number of instances.
    pub fn send(
        self,
        flips: &[u8],
        table: impl Fn(usize, usize) -> u8,
    ) -> Result<(Vec<u8>, Vec<u8>), OtError> {
        let (n, m, t) = (self.strings.len(), self.m, self.t);
        let flips = unpack(flips, m, n)?;
        let low = entry_mask(t);
        let mut message = BitWriter::with_capacity(message_bytes(n, m, t) as usize);
        let mut shares = Vec::with_capacity(n);
        let mut reader = self.strings.reader();
        let mut masks = [0_u8; 16];
        for (i, flip) in flips.into_iter().enumerate() {
            for mask in &mut masks[..1 << m] {
                *mask = reader.read(t)? as u8;
            }
            // Whoever sees the connection sees the flips.
            let mask = |v: usize| masks[v ^ flip as usize];
            let share = (mask(0) ^ table(i, 0)) & low;
            shares.push(share);
            for v in 1..1 << m {
                message.write(u64::from(table(i, v) ^ share ^ mask(v)), t);
            }
        }
        Ok((message.finish(), shares))
    }
}

impl Receiver {
    /// The receiver's side of [`Sender::cut`].
    ///
    /// # Errors
    /// As there.
    pub fn cut(rots: RotReceiver, m: u32, t: u32) -> Result<Records, OtError> {
        let n = instances(rots.len(), m, t)?;
        let (mut pad, mut digit) = (0_u128, 0);
        Ok(Records::pack(n, m + t, |writer| {
            rots.for_each(|k, choice, block| {
                let b = k as u32 % m;
                pad ^= block;
                digit |= choice << b;
                if b + 1 == m {
                    let bytes = std::mem::take(&mut pad).to_le_bytes();
                    let digit = std::mem::take(&mut digit);
                    // Every byte is read, whatever the digit.
                    let string =
                        (0..1_u8 << m).fold(0, |string, w| string | bytes[usize::from(w)] & equal(w, digit));
                    writer.write(u64::from(digit), m);
                    writer.write(u64::from(string), t);
                }
            });
        }))
    }

    /// From [`Self::cut`].
    pub fn new(m: u32, t: u32, strings: Records) -> Self {
        Self { m, t, strings }
    }

    /// The derandomisation message for these digits: `m` bits each.
    ///
    /// # Errors
    /// Another number of digits, or one that is too large.
    pub fn flips(&self, digits: &[u8]) -> Result<Vec<u8>, OtError> {
        self.check(digits)?;
        let mut reader = self.strings.reader();
        let mut flips = BitWriter::with_capacity(flips_bytes(digits.len(), self.m) as usize);
        for &digit in digits {
            flips.write(reader.read(self.m)? ^ u64::from(digit), self.m);
            reader.read(self.t)?;
        }
        Ok(flips.finish())
    }

    /// The shares, from the sender's message; the digits are those given to [`Self::flips`].
    ///
    /// # Errors
    /// Digits as above, or a message of another length.
    pub fn receive(self, digits: &[u8], message: &[u8]) -> Result<Vec<u8>, OtError> {
        self.check(digits)?;
        let (n, m, t) = (self.strings.len(), self.m, self.t);
        check_message("1-of-n OT", message_bytes(n, m, t) as usize, message.len())?;
        let (mut strings, mut reader) = (self.strings.reader(), BitReader::new(message));
        let mut shares = Vec::with_capacity(n);
        for &digit in digits {
            strings.read(m)?;
            let mut share = strings.read(t)? as u8;
            // Every entry is read, whatever the digit.
            for v in 1..1_u8 << m {
                share ^= reader.read(t)? as u8 & equal(v, digit);
            }
            shares.push(share);
        }
        reader.finish()?;
        Ok(shares)
    }

    fn check(&self, digits: &[u8]) -> Result<(), OtError> {
        check_count("digits", self.strings.len(), digits.len())?;
        let largest = digits.iter().copied().max().unwrap_or(0);
        check_range("digit of a 1-of-n OT", u64::from(largest), 0, (1 << self.m) - 1)
    }
}

/// 0xff if both are equal, else 0, without a branch; both below 128.
#[inline]
fn equal(a: u8, b: u8) -> u8 {
    spread((a ^ b).wrapping_sub(1) >> 7) as u8
}

fn entry_mask(t: u32) -> u8 {
    crate::wire::mask(t) as u8
}

/// Instances that so many random OTs make.
fn instances(rots: usize, m: u32, t: u32) -> Result<usize, OtError> {
    check_range("digit bits of a 1-of-n OT", u64::from(m), 1, 4)?;
    check_range("entry bits of a 1-of-n OT", u64::from(t), 1, 8)?;
    let n = rots / m as usize;
    check_count("digits times digit bits", rots, n * m as usize)?;
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dealer::Dealer;

    fn both(s: RotSender, r: RotReceiver, m: u32, t: u32) -> (Sender, Receiver) {
        let (s, r) = (Sender::cut(s, m, t).unwrap(), Receiver::cut(r, m, t).unwrap());
        (Sender::new(m, t, s), Receiver::new(m, t, r))
    }

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
                let (s, r) = both(s, r, m, t);
                let flips = r.flips(&digits).unwrap();
                assert_eq!(flips.len() as u64, flips_bytes(n, m));
                let (message, sent) = s.send(&flips, entry).unwrap();
                assert_eq!(message.len() as u64, message_bytes(n, m, t));
                let received = r.receive(&digits, &message).unwrap();
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
        let mut pads = vec![[0_u128; 2]; n];
        r.for_each(|k, choice, pad| {
            pads[k / 2][0] ^= pad;
            pads[k / 2][1] |= u128::from(choice) << (k % 2);
        });
        let (s, r) = both(s, r, 2, 8);
        let flips = r.flips(&digits).unwrap();
        let (message, sent) = s.send(&flips, |_, _| 0).unwrap();
        let mut hits = 0;
        for i in 0..n {
            let [pad, digit] = pads[i];
            for v in (0..4).filter(|&v| v != digits[i]) {
                let masked = if v == 0 { 0 } else { message[3 * i + usize::from(v) - 1] };
                let at = usize::from(v ^ digits[i]) ^ digit as usize;
                hits += usize::from(masked ^ pad.to_le_bytes()[at] == sent[i]);
            }
        }
        let expected = 3.0 * n as f64 / 256.0;
        assert!((hits as f64 - expected).abs() < 6.0 * expected.sqrt(), "{hits}");
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let mut dealer = Dealer::new(23);
        let zero = |_: usize, _: usize| 0;
        for (m, t) in [(0, 1), (5, 1), (2, 0), (2, 9), (3, 1), (u32::MAX, 1)] {
            let (s, r) = dealer.rots(4);
            assert!(Sender::cut(s, m, t).is_err() && Receiver::cut(r, m, t).is_err());
        }
        let mut new = || {
            let (s, r) = dealer.rots(4);
            both(s, r, 2, 1)
        };
        assert!(new().0.send(&[], zero).is_err());
        assert!(new().0.send(&[16], zero).is_err());
        for digits in [&[4, 0][..], &[0], &[0, 0, 0]] {
            assert!(new().1.flips(digits).is_err());
            assert!(new().1.receive(digits, &[0]).is_err());
        }
        for bad in [&[][..], &[0, 0], &[64]] {
            assert!(new().1.receive(&[0, 0], bad).is_err());
        }
        assert!(new().1.receive(&[0, 0], &[63]).is_ok());
    }
}
