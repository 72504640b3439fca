//! Pads of any length, many at a time: short ones are hashed together, so that the cipher always
//! has a full pipeline.

use super::{RotReceiver, RotSender, Rows};
use crate::Secret;
use crate::hash::BATCH;

/// Pad blocks hashed together, unless one pad alone is longer.
const TOGETHER: usize = 256;

impl RotSender {
    /// Calls `use_pads(k, pad_0, pad_1)` with pads of `blocks(k)` blocks, in order.
    pub(crate) fn for_each_long(
        &self,
        blocks: impl Fn(usize) -> usize,
        mut use_pads: impl FnMut(usize, &[u128], &[u128]),
    ) {
        self.rows.expand([0, *self.delta], blocks, |k, pads| {
            let (zero, one) = pads.split_at(pads.len() / 2);
            use_pads(k, zero, one);
        });
    }
}

impl RotReceiver {
    /// Calls `use_pad(k, choice, pad)` with pads of `blocks(k)` blocks, in order.
    pub(crate) fn for_each_long(
        &self,
        blocks: impl Fn(usize) -> usize,
        mut use_pad: impl FnMut(usize, u8, &[u128]),
    ) {
        let choices = self.choice_bytes();
        self.rows.expand([0], blocks, |k, pad| use_pad(k, choices[k], pad));
    }
}

impl Rows {
    /// Calls `use_pads(k, pads)` for each row, in order, with the pads of `row ^ offset` for each
    /// offset, `blocks(k)` blocks each, one after the other.
    fn expand<const N: usize>(
        &self,
        offsets: [u128; N],
        blocks: impl Fn(usize) -> usize,
        mut use_pads: impl FnMut(usize, &[u128]),
    ) {
        let mut white = Secret::zeros(N * BATCH);
        let mut pads = Secret::default();
        for (c, rows) in self.left().chunks(BATCH).enumerate() {
            let white = &mut white[..N * rows.len()];
            for (whites, row) in white.chunks_exact_mut(N).zip(rows) {
                for (white, offset) in whites.iter_mut().zip(offsets) {
                    *white = row ^ offset;
                }
            }
            self.hash.whiten(white);
            let (start, end) = (c * BATCH, c * BATCH + rows.len());
            let mut k = start;
            while k < end {
                let (next, total) = batch(k, end, N, &blocks);
                resize(&mut pads, total);
                let jobs = (k..next).flat_map(|k| {
                    let whites = &white[N * (k - start)..][..N];
                    let index = self.first + k as u64;
                    let n = blocks(k);
                    whites.iter().map(move |&white| (index, white, n))
                });
                self.hash.long_pads(jobs, &mut pads);
                let mut rest = &pads[..];
                for k in k..next {
                    let (pad, tail) = rest.split_at(N * blocks(k));
                    rest = tail;
                    use_pads(k, pad);
                }
                k = next;
            }
        }
    }
}

/// How far from row `k` on a batch reaches, and how many blocks it has.
fn batch(k: usize, end: usize, sides: usize, blocks: impl Fn(usize) -> usize) -> (usize, usize) {
    let (mut next, mut total) = (k + 1, sides * blocks(k));
    while next < end && total + sides * blocks(next) <= TOGETHER {
        total += sides * blocks(next);
        next += 1;
    }
    (next, total)
}

/// Resizes a secret buffer without leaving a copy behind.
fn resize(buffer: &mut Secret<u128>, len: usize) {
    if len > buffer.capacity() {
        *buffer = Secret::with_capacity(len.next_multiple_of(TOGETHER));
    }
    buffer.resize(len, 0);
}

#[cfg(test)]
mod tests {
    use crate::dealer::Dealer;

    #[test]
    fn long_pads_agree_and_start_with_the_short_ones() {
        // Short ones, long ones, none, and a mixture.
        let lengths: [fn(usize) -> usize; 4] =
            [|_| 1, |_| 300, |_| 0, |k| if k % 7 == 0 { 150 } else { k % 5 }];
        for (seed, blocks) in (0..).zip(lengths) {
            let (sender, receiver) = Dealer::new(seed).rots(150);
            let mut sent = Vec::new();
            sender.for_each_long(blocks, |k, zero, one| {
                assert_eq!(k, sent.len());
                sent.push([zero.to_vec(), one.to_vec()]);
            });
            let mut count = 0;
            receiver.for_each_long(blocks, |k, choice, pad| {
                assert_eq!((k, pad.len()), (count, blocks(k)));
                assert_eq!(sent[k][usize::from(choice)], pad);
                if !pad.is_empty() {
                    assert_ne!(sent[k][usize::from(1 - choice)], pad);
                }
                count += 1;
            });
            assert_eq!((count, sent.len()), (150, 150));
            for (k, pads) in sender.into_pads().iter().enumerate() {
                for e in 0..2 {
                    assert!(sent[k][e].first().is_none_or(|&block| block == pads[e]));
                }
            }
        }
    }
}
