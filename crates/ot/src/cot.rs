//! Correlated OT over Z_2^l, from random OTs.
//!
//! Ideal functionality: the sender inputs `delta`, the receiver a bit `c`; they get shares with
//! `sender_share + receiver_share = c * delta (mod 2^l)`. With pads `p_0, p_1` of a random OT
//! (Asharov, Lindell, Schneider, Zohner, eprint 2016/602):
//!
//! ```text
//! sender:   share = -p_0           message = delta + p_0 - p_1     l bits
//! receiver: share = p_c + c * message
//! ```
//!
//! A random OT whose random choice `r` is not the wanted `c` is derandomised by the flip
//! `f = c ^ r`, one bit sent by the receiver: the sender swaps its pads when `f = 1`.
//!
//! # Security
//! The message is masked by the pad that the receiver does not have, the flip by the random
//! choice; each pad is used once because the random OTs are consumed.

use std::ops::Range;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::error::{check_message, check_range};
use crate::rot::{check_count, low, read_flips, spread, swap};
use crate::short::{ReceivePads, SendPads};
use crate::wire::{BitReader, BitWriter, mask, packed_len};
use crate::{OtError, RotReceiver, RotSender, Secret};

/// Bytes of the message of `n` correlated OTs of `l` bits.
pub const fn message_bytes(n: usize, l: u32) -> u64 {
    packed_len(n, l) as u64
}

/// The sender's side after the receiver's `flips`: its message and its shares.
pub fn sender(
    rots: impl SendPads,
    flips: &[u8],
    l: u32,
    delta: &[u64],
) -> Result<(Vec<u8>, Vec<u64>), OtError> {
    let flips = read_flips(flips, rots.count())?;
    send(rots, |k| flips[k], l, delta)
}

/// The sender's side when the receiver's choices were fixed at the extension: no flips.
pub fn sender_chosen(rots: RotSender, l: u32, delta: &[u64]) -> Result<(Vec<u8>, Vec<u64>), OtError> {
    send(rots, |_| 0, l, delta)
}

fn send(
    rots: impl SendPads,
    flip: impl Fn(usize) -> u8,
    l: u32,
    delta: &[u64],
) -> Result<(Vec<u8>, Vec<u64>), OtError> {
    check_width(l)?;
    check_count("deltas", rots.count(), delta.len())?;
    let mut message = BitWriter::with_capacity(packed_len(delta.len(), l));
    let mut shares = Vec::with_capacity(delta.len());
    rots.each(l, |k, zero, one| {
        let (p0, p1) = swap(flip(k), zero, one);
        message.write(delta[k].wrapping_add(p0).wrapping_sub(p1), l);
        shares.push(p0.wrapping_neg() & mask(l));
    })?;
    Ok((message.finish(), shares))
}

/// The receiver's side: its shares, from the sender's message. The choices are those given to
/// [`RotReceiver::flips`].
pub fn receiver(
    rots: impl ReceivePads,
    choices: &[bool],
    l: u32,
    message: &[u8],
) -> Result<Vec<u64>, OtError> {
    check_count("choices", rots.count(), choices.len())?;
    receive(rots, |k, _| u8::from(choices[k]), l, message)
}

/// The receiver's side when its choices were fixed at the extension.
pub fn receiver_chosen(rots: RotReceiver, l: u32, message: &[u8]) -> Result<Vec<u64>, OtError> {
    receive(rots, |_, choice| choice, l, message)
}

fn receive(
    rots: impl ReceivePads,
    choice: impl Fn(usize, u8) -> u8,
    l: u32,
    message: &[u8],
) -> Result<Vec<u64>, OtError> {
    check_width(l)?;
    let n = rots.count();
    check_message("correlated OT", packed_len(n, l), message.len())?;
    let mut reader = BitReader::new(message);
    let mut masked = Vec::with_capacity(n);
    for _ in 0..n {
        masked.push(reader.read(l)?);
    }
    reader.finish()?;
    rots.each(l, |k, random, pad| {
        let chosen = masked[k] & low(spread(choice(k, random)));
        masked[k] = pad.wrapping_add(chosen) & mask(l);
    })?;
    Ok(masked)
}

/// Bytes of the message of [`vector_sender`]: one bit string, padded to a byte once.
pub fn vector_bytes(widths: &[u32], d: usize) -> u64 {
    let bits: u128 = widths.iter().map(|&w| u128::from(w) * d as u128).sum();
    bits.div_ceil(8) as u64
}

/// Values that a core makes at a time: few enough to stay in its cache.
const PIECE: usize = 1 << 14;
/// Pieces a core between two meetings of all cores.
const AHEAD: usize = 4;

/// Correlated OTs on vectors, the step of a matrix product: OT `i` has a `delta` of `d` entries
/// of `widths[i]` bits, and the receiver's choices were fixed at the extension.
///
/// `delta(i, out)` fills in the vector of OT `i`, on any core; `sink(i, shares)` gets the sender's shares,
/// in order. Returns the message.
pub fn vector_sender(
    mut rots: RotSender,
    widths: &[u32],
    d: usize,
    delta: impl Fn(usize, &mut [u64]) + Sync,
    mut sink: impl FnMut(usize, &[u64]) + Send,
) -> Result<Vec<u8>, OtError> {
    check_widths(rots.len(), widths)?;
    let mut message = BitWriter::with_capacity(vector_bytes(widths, d) as usize);
    let work = |ots: Range<usize>, rots: RotSender| {
        let widths = &widths[ots.clone()];
        let mut part = BitWriter::with_capacity(vector_bytes(widths, d) as usize);
        let mut shares = Secret::zeros(ots.len() * d);
        let mut rest = &mut shares[..];
        rots.for_each_long(
            |k| pad_blocks(widths[k], d),
            |k, zero, one| {
                let l = widths[k];
                let (values, later) = std::mem::take(&mut rest).split_at_mut(d);
                rest = later;
                delta(ots.start + k, values);
                let pads = PadReader::new(zero, l).zip(PadReader::new(one, l));
                for (value, (p0, p1)) in values.iter_mut().zip(pads) {
                    part.write(value.wrapping_add(p0).wrapping_sub(p1), l);
                    *value = p0.wrapping_neg() & mask(l);
                }
            },
        );
        (ots, part, shares)
    };
    on_all_cores(
        rots.len(),
        d,
        |n| rots.take(n),
        work,
        |(ots, part, shares)| {
            message.append(&part);
            ots.zip(shares.chunks_exact(d.max(1))).for_each(|(i, shares)| sink(i, shares));
        },
    )?;
    Ok(message.finish())
}

/// The receiver's side of [`vector_sender`]: `sink(i, shares)` gets its shares of OT `i`, in order.
pub fn vector_receiver(
    mut rots: RotReceiver,
    widths: &[u32],
    d: usize,
    message: &[u8],
    mut sink: impl FnMut(usize, &[u64]) + Send,
) -> Result<(), OtError> {
    check_widths(rots.len(), widths)?;
    check_message("correlated OT of vectors", vector_bytes(widths, d) as usize, message.len())?;
    // Where each OT's part of the message begins.
    let mut starts = Vec::with_capacity(widths.len());
    let mut bits = 0;
    for &l in widths {
        starts.push(bits);
        bits += l as usize * d;
    }
    BitReader::at(message, bits).finish()?;
    let work = |ots: Range<usize>, rots: RotReceiver| {
        let widths = &widths[ots.clone()];
        let mut reader = BitReader::at(message, starts[ots.start]);
        let mut shares = Secret::zeros(ots.len() * d);
        let mut rest = &mut shares[..];
        let mut truncated = None;
        rots.for_each_long(
            |k| pad_blocks(widths[k], d),
            |k, choice, pad| {
                let l = widths[k];
                let chosen = low(spread(choice));
                let (values, later) = std::mem::take(&mut rest).split_at_mut(d);
                rest = later;
                for (value, pad) in values.iter_mut().zip(PadReader::new(pad, l)) {
                    match reader.read(l) {
                        Ok(masked) => *value = pad.wrapping_add(masked & chosen) & mask(l),
                        Err(error) => truncated = Some(error),
                    }
                }
            },
        );
        (ots, shares, truncated)
    };
    let mut failure = None;
    on_all_cores(
        rots.len(),
        d,
        |n| rots.take(n),
        work,
        |(ots, shares, truncated)| {
            failure = failure.or(truncated);
            ots.zip(shares.chunks_exact(d.max(1))).for_each(|(i, shares)| sink(i, shares));
        },
    )?;
    failure.map_or(Ok(()), |error| Err(error.into()))
}

/// Calls `work` on all cores with pieces of `n` random OTs of `d` values, and `done` with what they give, in
/// order, beside the pieces that follow.
fn on_all_cores<R: Send, T: Send>(
    n: usize,
    d: usize,
    mut take: impl FnMut(usize) -> Result<R, OtError>,
    work: impl Fn(Range<usize>, R) -> T + Sync,
    mut done: impl FnMut(T) + Send,
) -> Result<(), OtError> {
    let piece = (PIECE / d.max(1)).max(1);
    let cores = if n > piece { rayon::current_num_threads() } else { 1 };
    let (mut start, mut made) = (0, Vec::new());
    while start < n || !made.is_empty() {
        let mut pieces = Vec::with_capacity(AHEAD * cores);
        while start < n && pieces.len() < AHEAD * cores {
            let end = n.min(start + piece);
            pieces.push((start..end, take(end - start)?));
            start = end;
        }
        let mut finish = || made.drain(..).for_each(&mut done);
        made = if cores == 1 {
            finish();
            pieces.into_iter().map(|(ots, rots)| work(ots, rots)).collect()
        } else {
            let all = || pieces.into_par_iter().map(|(ots, rots)| work(ots, rots)).collect();
            rayon::join(all, finish).0
        };
    }
    Ok(())
}

/// Blocks of pad for `d` values of `l` bits.
fn pad_blocks(l: u32, d: usize) -> usize {
    packed_len(d, l).div_ceil(16)
}

/// The values that a long pad masks: `l` bits each, without gaps.
struct PadReader<'a> {
    words: &'a [u64],
    position: usize,
    l: u32,
}

impl<'a> PadReader<'a> {
    fn new(blocks: &'a [u128], l: u32) -> Self {
        Self { words: bytemuck::cast_slice(blocks), position: 0, l }
    }
}

impl Iterator for PadReader<'_> {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        let (word, shift) = (self.position / 64, self.position as u32 % 64);
        self.position += self.l as usize;
        // Both words always: which of them a value needs follows no pattern worth guessing.
        let first = *self.words.get(word)?;
        let second = self.words.get(word + 1).copied().unwrap_or(0);
        let both = u128::from(second) << 64 | u128::from(first);
        Some((both >> shift) as u64 & mask(self.l))
    }
}

fn check_width(l: u32) -> Result<(), OtError> {
    check_range("width of a correlated OT", u64::from(l), 1, 64)
}

fn check_widths(rots: usize, widths: &[u32]) -> Result<(), OtError> {
    check_count("widths", rots, widths.len())?;
    widths.iter().try_for_each(|&l| check_width(l))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dealer::Dealer;
    use rand::Rng;

    fn check_sum(s: &[u64], r: &[u64], choices: &[bool], delta: &[u64], l: u32) {
        for i in 0..s.len() {
            let expected = if choices[i] { delta[i] } else { 0 };
            assert_eq!(s[i].wrapping_add(r[i]) & mask(l), expected & mask(l));
            assert!(s[i] <= mask(l) && r[i] <= mask(l));
        }
    }

    #[test]
    fn matches_the_ideal_functionality_at_all_sizes_and_widths() {
        let mut dealer = Dealer::new(11);
        for n in 0..300 {
            let l = n as u32 % 64 + 1;
            let (choices, delta) = (dealer.bits(n), dealer.values(n, 64));
            let (s, r) = dealer.rots(n);
            let flips = r.flips(&choices);
            assert_eq!(flips.len(), n.div_ceil(8));
            let (message, sent) = sender(s, &flips, l, &delta).unwrap();
            assert_eq!(message.len() as u64, message_bytes(n, l));
            let received = receiver(r, &choices, l, &message).unwrap();
            check_sum(&sent, &received, &choices, &delta, l);

            let (s, r) = dealer.chosen(&choices);
            let (message, sent) = sender_chosen(s, l, &delta).unwrap();
            let received = receiver_chosen(r, l, &message).unwrap();
            check_sum(&sent, &received, &choices, &delta, l);
        }
    }

    #[test]
    fn vectors_match_the_ideal_functionality() {
        let mut dealer = Dealer::new(12);
        let small = (0..120).map(|round| (round % 13, [1, 2, 3, 7, 64, 100][round % 6]));
        // Several pieces, whose parts of the message do not begin at a byte, and less than a vector a piece.
        let large = [(1000, 101), (13, 6001), (PIECE * 5 / 2, 1), (3, PIECE + 1)];
        for (n, d) in small.chain(large) {
            let widths: Vec<u32> = (0..n).map(|_| dealer.rng.next_u32() % 64 + 1).collect();
            let choices = dealer.bits(n);
            let deltas: Vec<Vec<u64>> = (0..n).map(|_| dealer.values(d, 64)).collect();
            let (s, r) = dealer.chosen(&choices);
            let mut sent = Vec::new();
            let message = vector_sender(
                s,
                &widths,
                d,
                |i, out| out.copy_from_slice(&deltas[i]),
                |_, shares| sent.push(shares.to_vec()),
            )
            .unwrap();
            assert_eq!(message.len() as u64, vector_bytes(&widths, d));
            let mut count = 0;
            vector_receiver(r, &widths, d, &message, |i, shares| {
                check_sum(&sent[i], shares, &vec![choices[i]; d], &deltas[i], widths[i]);
                count += 1;
            })
            .unwrap();
            assert_eq!(count, n);
        }
    }

    #[test]
    fn wrong_lengths_and_widths_are_errors() {
        let mut dealer = Dealer::new(13);
        let delta = [1; 10];
        let choices = [true; 10];
        let flips = [0; 2];
        for bad in [&[][..], &[0], &[0; 3], &[0, 4]] {
            assert!(sender(dealer.rots(10).0, bad, 8, &delta).is_err());
        }
        for l in [0, 65, u32::MAX] {
            assert!(sender(dealer.rots(10).0, &flips, l, &delta).is_err());
            assert!(receiver(dealer.rots(10).1, &choices, l, &[]).is_err());
            assert!(vector_receiver(dealer.rots(1).1, &[l], 1, &[], |_, _| {}).is_err());
        }
        assert!(sender(dealer.rots(10).0, &flips, 8, &delta[..9]).is_err());
        assert!(receiver(dealer.rots(10).1, &choices[..9], 8, &[0; 10]).is_err());
        for len in [0, 9, 11] {
            assert!(receiver(dealer.rots(10).1, &choices, 8, &vec![0; len]).is_err());
            let result = vector_receiver(dealer.rots(2).1, &[8, 8], 5, &vec![0; len], |_, _| {});
            assert!(result.is_err());
        }
        // Ten values of seven bits leave two bits of padding.
        let mut message = [0; 9];
        message[8] = 0x80;
        assert!(receiver(dealer.rots(10).1, &choices, 7, &message).is_err());
        message[8] = 0x20;
        assert!(receiver(dealer.rots(10).1, &choices, 7, &message).is_ok());
    }
}
