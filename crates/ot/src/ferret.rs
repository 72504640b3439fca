//! Ferret: silent correlated OT from LPN with regular noise, sans-IO.
//!
//! Yang, Weng, Lan, Zhang, Wang, *Ferret* (eprint 2020/924), semi-honest, with the trees of
//! *Half-Tree* (eprint 2022/1431; module `tree`). An iteration turns `k + t * depth` correlated OTs
//! `t_i = q_i ^ r_i Delta` into `t * 2^depth` of them: with `A` a public sparse code and `e` a
//! noise vector with one error in each of `t` blocks, chosen by the receiver and shared by trees,
//!
//! ```text
//! sender: y = q A ^ v      receiver: z = t A ^ w,  choices = r A ^ e       w = v ^ e Delta
//! ```
//!
//! The first `k + t * depth` outputs feed the next iteration, so the base OTs are used once: they
//! key a SoftSpoken extension that makes the input of a small first iteration (a few OTs with
//! very wide groups), and that of the main set. Only the sender of the OTs sends: the receiver's
//! noise positions *are* choice bits of the correlated OTs that its trees use up.
//!
//! Rows are made tree by tree when they are asked for; an iteration holds its secret and its tree
//! roots (a few MB), not its output.
//!
//! `Delta` has its lowest bit set and the sender's rows have theirs clear, so the lowest bit of a
//! receiver's row is its choice bit. That costs one bit of `Delta`.
//!
//! # Security
//! Semi-honest; LPN with the sets and estimates of module `params`; trees and code have a key of
//! their own for each session, direction and iteration.

use crate::error::check_message;
use crate::rot::select;
use crate::softspoken::{self, CHUNK, Choices};
use crate::{OtError, Secret};

mod batch;
mod feed;
mod lpn;
pub(crate) mod params;
pub(crate) mod tree;

pub(crate) use feed::Keys;

use batch::{ReceiverTrees, SenderTrees};
use feed::Feed;
use params::{BOOT, FIRST, Params};

/// The sender of one direction.
pub(crate) struct Sender {
    delta: Secret<u128>,
    base: Option<Secret<u128>>,
    feed: Feed<SenderTrees>,
}

impl Sender {
    /// `base` are the keys of the base OTs, whose choices are the complement of `delta`'s bits.
    pub(crate) fn new(main: Params, delta: u128, base: &[u128], keys: Keys) -> Self {
        debug_assert_eq!(delta & 1, 1);
        Self {
            delta: Secret::new(vec![delta]),
            base: Some(Secret::new(base.to_vec())),
            feed: Feed::new(main, keys),
        }
    }

    pub(crate) fn delta(&self) -> u128 {
        self.delta[0]
    }

    /// Whether [`Self::boot`] is still due.
    pub(crate) fn wants_boot(&self) -> bool {
        self.base.is_some()
    }

    /// Makes the first input, from the receiver's message of [`params::boot_bytes`].
    pub(crate) fn boot(&mut self, message: &[u8]) -> Result<(), OtError> {
        check_message("Ferret bootstrap", params::boot_bytes(), message.len())?;
        let Some(base) = self.base.take() else {
            return Ok(());
        };
        let (trees, mut columns) = message.split_at(BOOT.setup_bytes());
        let mut extension = softspoken::Sender::new(BOOT, self.delta(), &base, trees)?;
        let mut rows = Secret::with_capacity(FIRST.input());
        while rows.len() < FIRST.input() {
            let n = CHUNK.min(FIRST.input() - rows.len());
            let due = BOOT.message_bytes(n, Choices::Random) as usize;
            let (piece, rest) = columns.split_at(due);
            columns = rest;
            extension.extend(n, Choices::Random, piece, &mut rows)?;
        }
        for row in rows.iter_mut() {
            *row &= !1;
        }
        self.feed.input = rows;
        Ok(())
    }

    /// Starts the iterations that `n` more rows need; gives the message to the receiver.
    pub(crate) fn start(&mut self, n: usize) -> Vec<u8> {
        let mut message = Vec::new();
        for i in self.feed.schedule.take(n) {
            let params = self.feed.schedule.params(i);
            let (secret, inputs) = self.feed.split_input(params);
            let cipher = self.feed.keys.trees(i);
            let trees =
                SenderTrees::start(&cipher, params, self.delta(), &inputs, self.feed.threads, &mut message);
            self.feed.push(i, cipher, secret, trees);
        }
        message
    }

    /// Appends `n` rows; [`Self::start`] has been called for them.
    pub(crate) fn take(&mut self, n: usize, rows: &mut Vec<u128>) {
        self.feed.take(n, rows);
    }

    /// Sets how many threads expand.
    pub(crate) fn set_threads(&mut self, threads: usize) {
        self.feed.threads = threads;
    }
}

/// The receiver of one direction.
pub(crate) struct Receiver {
    base: Option<Secret<[u128; 2]>>,
    feed: Feed<ReceiverTrees>,
}

impl Receiver {
    /// `base` are both keys of each base OT.
    pub(crate) fn new(main: Params, base: &[[u128; 2]], keys: Keys) -> Self {
        Self { base: Some(Secret::new(base.to_vec())), feed: Feed::new(main, keys) }
    }

    /// Makes the first input, and the message for the sender; empty if done before.
    pub(crate) fn boot(&mut self) -> Vec<u8> {
        let Some(base) = self.base.take() else {
            return Vec::new();
        };
        let (mut extension, mut message) = softspoken::Receiver::new(BOOT, &base);
        let mut rows = Secret::with_capacity(FIRST.input());
        let mut choices = Secret::zeros(FIRST.input());
        for choices in choices.chunks_mut(CHUNK) {
            extension.extend(Choices::Random, choices, &mut message, &mut rows);
        }
        for (row, &choice) in rows.iter_mut().zip(choices.iter()) {
            *row = *row & !1 | u128::from(choice);
        }
        self.feed.input = rows;
        message
    }

    /// Bytes due from the sender for `n` more rows.
    pub(crate) fn message_bytes(&self, n: usize) -> usize {
        let mut ahead = self.feed.schedule.clone();
        let iterations = ahead.take(n);
        iterations.map(|i| ahead.params(i).message_bytes()).sum()
    }

    /// Starts the iterations that `n` more rows need, from the sender's message.
    pub(crate) fn start(&mut self, n: usize, message: &[u8]) -> Result<(), OtError> {
        check_message("Ferret trees", self.message_bytes(n), message.len())?;
        let mut rest = message;
        for i in self.feed.schedule.take(n) {
            let params = self.feed.schedule.params(i);
            let (sums, tail) = rest.split_at(params.message_bytes());
            rest = tail;
            let (secret, inputs) = self.feed.split_input(params);
            let trees = ReceiverTrees::start(params, &inputs, sums);
            let cipher = self.feed.keys.trees(i);
            self.feed.push(i, cipher, secret, trees);
        }
        Ok(())
    }

    /// Appends `n` rows, whose lowest bits are the choices; [`Self::start`] has been called for
    /// them.
    pub(crate) fn take(&mut self, n: usize, rows: &mut Vec<u128>) {
        self.feed.take(n, rows);
    }

    /// Sets how many threads expand.
    pub(crate) fn set_threads(&mut self, threads: usize) {
        self.feed.threads = threads;
    }
}

/// Turns random choices into chosen ones at the sender: row `i` takes `Delta` in where flip `i` is
/// one.
pub(crate) fn apply_flips(delta: u128, flips: &[u8], rows: &mut [u128]) {
    for (i, row) in rows.iter_mut().enumerate() {
        *row ^= select(flips[i / 8] >> (i % 8) & 1, 0, delta);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Direction;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    fn keyed(main: Params, seed: u64) -> (Sender, Receiver) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let pairs: Vec<[u128; 2]> = (0..128).map(|_| rng.random()).collect();
        let delta = rng.random::<u128>() | 1;
        let chosen: Vec<u128> = (0..128).map(|j| pairs[j][1 - (delta >> j & 1) as usize]).collect();
        let keys = Keys::new(&[3; 32], Direction::ServerSends);
        (Sender::new(main, delta, &chosen, keys.clone()), Receiver::new(main, &pairs, keys))
    }

    fn take(sender: &mut Sender, receiver: &mut Receiver, n: usize) -> (Vec<u128>, Vec<u128>) {
        if sender.wants_boot() {
            sender.boot(&receiver.boot()).unwrap();
        }
        let due = receiver.message_bytes(n);
        let message = sender.start(n);
        assert_eq!(message.len(), due);
        receiver.start(n, &message).unwrap();
        let (mut q, mut t) = (Vec::new(), Vec::new());
        sender.take(n, &mut q);
        receiver.take(n, &mut t);
        (q, t)
    }

    fn check(delta: u128, q: &[u128], t: &[u128]) -> usize {
        let mut ones = 0;
        for (q, t) in q.iter().zip(t) {
            assert_eq!(q & 1, 0);
            assert_eq!(q ^ t, select((t & 1) as u8, 0, delta));
            ones += (t & 1) as usize;
        }
        ones
    }

    #[test]
    fn rows_are_correlated_and_balanced_over_several_iterations() {
        let (mut sender, mut receiver) = keyed(params::B10, 1);
        let first = FIRST.output() - params::B10.input();
        let (mut total, mut ones) = (0, 0);
        // Up to the end of an iteration, over it, and over two of them.
        for n in [0, 1, 300, 5000, first - 5301, 1, 1000, 2 * first + 17] {
            let (q, t) = take(&mut sender, &mut receiver, n);
            assert_eq!((q.len(), t.len()), (n, n));
            ones += check(sender.delta(), &q, &t);
            total += n;
        }
        let off = (ones as f64 - total as f64 / 2.0).abs();
        assert!(off < 3.0 * (total as f64).sqrt(), "{ones} of {total}");
        assert_eq!(sender.feed.iterations.len(), 1);
    }

    #[test]
    fn every_set_feeds_itself() {
        for main in [params::B11, params::B12, params::B13] {
            let (mut sender, mut receiver) = keyed(main, 2);
            let n = FIRST.output() - main.input() + 3 * main.leaves();
            sender.set_threads(2);
            let (q, t) = take(&mut sender, &mut receiver, n);
            check(sender.delta(), &q, &t);
            assert_eq!(sender.feed.schedule.started(), 2);
        }
    }

    #[test]
    fn threads_and_cuts_do_not_change_the_rows() {
        let run = |threads: usize, cuts: &[usize]| {
            let (mut sender, mut receiver) = keyed(params::B10, 3);
            sender.set_threads(threads);
            receiver.set_threads(threads);
            let (mut q, mut t) = (Vec::new(), Vec::new());
            for &n in cuts {
                let (a, b) = take(&mut sender, &mut receiver, n);
                q.extend(a);
                t.extend(b);
            }
            (q, t)
        };
        let whole = run(1, &[20_000]);
        for threads in [1, 2, 3, 7] {
            assert!(run(threads, &[20_000]) == whole);
            assert!(run(threads, &[1, 1023, 1024, 1025, 9000, 7927]) == whole);
        }
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let (mut sender, mut receiver) = keyed(params::B10, 4);
        let boot = receiver.boot();
        assert_eq!(boot.len(), params::boot_bytes());
        assert!(sender.boot(&boot[1..]).is_err());
        assert!(sender.boot(&[]).is_err());
        sender.boot(&boot).unwrap();
        let message = sender.start(5);
        for bad in [&message[1..], &[], &[message.clone(), vec![0]].concat()] {
            assert!(matches!(receiver.start(5, bad), Err(OtError::MessageLength { .. })));
        }
        assert!(receiver.start(5, &message).is_ok());
    }
}
