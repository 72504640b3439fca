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

use std::collections::VecDeque;

use crate::cipher::Cipher;
use crate::error::check_message;
use crate::hash::Direction;
use crate::rot::select;
use crate::simd::Level;
use crate::softspoken::{self, CHUNK, Choices};
use crate::{OtError, Secret};

mod lpn;
pub(crate) mod params;
mod tree;

use params::{BOOT, FIRST, Params, Schedule};
use tree::Punctured;

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
            let trees = SenderTrees::start(
                &cipher,
                params,
                self.delta(),
                &inputs,
                self.feed.threads,
                &mut message,
            );
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
        Self {
            base: Some(Secret::new(base.to_vec())),
            feed: Feed::new(main, keys),
        }
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

/// Derives the public keys of trees and codes.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    session: [u8; 32],
    direction: Direction,
}

impl Keys {
    pub(crate) fn new(session: &[u8; 32], direction: Direction) -> Self {
        Self {
            session: *session,
            direction,
        }
    }

    fn trees(&self, iteration: u64) -> Cipher {
        self.derive("copriv-ot v1 ferret trees", iteration)
    }

    fn code(&self, iteration: u64) -> Cipher {
        self.derive("copriv-ot v1 ferret code", iteration)
    }

    fn derive(&self, context: &str, iteration: u64) -> Cipher {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.session);
        hasher.update(&[self.direction as u8]);
        hasher.update(&iteration.to_le_bytes());
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        Cipher::new(u128::from_le_bytes(key))
    }
}

/// What both sides do alike: iterations that feed each other.
struct Feed<T> {
    keys: Keys,
    level: Level,
    threads: usize,
    schedule: Schedule,
    main: Params,
    /// Rows for the next iteration.
    input: Secret<u128>,
    /// Iterations that still have rows, in order.
    iterations: VecDeque<Iteration<T>>,
}

impl<T: Trees> Feed<T> {
    fn new(main: Params, keys: Keys) -> Self {
        Self {
            keys,
            level: Level::detect(),
            threads: 1,
            schedule: Schedule::new(main),
            main,
            input: Secret::default(),
            iterations: VecDeque::new(),
        }
    }

    /// The LPN secret, and the rows that the trees use up.
    fn split_input(&mut self, params: Params) -> (Secret<u128>, Secret<u128>) {
        let input = std::mem::take(&mut self.input);
        debug_assert_eq!(input.len(), params.input());
        let (secret, inputs) = input.split_at(params.k());
        (Secret::new(secret.to_vec()), Secret::new(inputs.to_vec()))
    }

    fn push(&mut self, i: u64, cipher: Cipher, secret: Secret<u128>, trees: T) {
        let mut iteration = Iteration {
            params: self.schedule.params(i),
            level: self.level,
            cipher,
            code: self.keys.code(i),
            secret,
            trees,
            used: 0,
        };
        let mut input = Secret::zeros(self.main.input());
        iteration.fill(&mut input, self.threads);
        self.input = input;
        self.iterations.push_back(iteration);
    }

    fn take(&mut self, n: usize, rows: &mut Vec<u128>) {
        let mut start = rows.len();
        rows.resize(start + n, 0);
        while start < rows.len() {
            let iteration = self.iterations.front_mut().expect("started for n rows");
            let m = iteration.left().min(rows.len() - start);
            iteration.fill(&mut rows[start..start + m], self.threads);
            start += m;
            if iteration.left() == 0 {
                self.iterations.pop_front();
            }
        }
    }
}

/// One iteration, whose rows are made when they are asked for.
struct Iteration<T> {
    params: Params,
    level: Level,
    cipher: Cipher,
    code: Cipher,
    secret: Secret<u128>,
    trees: T,
    used: usize,
}

impl<T: Trees> Iteration<T> {
    fn left(&self) -> usize {
        self.params.output() - self.used
    }

    /// The next rows.
    fn fill(&mut self, rows: &mut [u128], threads: usize) {
        let first = self.used;
        self.used += rows.len();
        // A thread takes whole trees, but for the first and the last.
        let share = rows.len().div_ceil(threads.max(1));
        let share = share.next_multiple_of(self.params.leaves()).max(1);
        if share >= rows.len() {
            return self.expand(first, rows);
        }
        let (head, tail) = rows.split_at_mut(share - first % self.params.leaves());
        let this = &*self;
        std::thread::scope(|scope| {
            let tail_first = first + head.len();
            for (p, piece) in tail.chunks_mut(share).enumerate() {
                scope.spawn(move || this.expand(tail_first + p * share, piece));
            }
            this.expand(first, head);
        });
    }

    fn expand(&self, first: usize, rows: &mut [u128]) {
        let leaves = self.params.leaves();
        let mut scratch = Secret::default();
        let (mut first, mut rows) = (first, rows);
        while !rows.is_empty() {
            let (tree, offset) = (first / leaves, first % leaves);
            let n = rows.len().min(leaves - offset);
            let (piece, rest) = rows.split_at_mut(n);
            if n == leaves {
                self.trees.leaves(&self.cipher, self.level, tree, piece);
            } else {
                scratch.resize(leaves, 0);
                self.trees
                    .leaves(&self.cipher, self.level, tree, &mut scratch);
                piece.copy_from_slice(&scratch[offset..offset + n]);
            }
            lpn::encode(&self.code, &self.secret, first as u64, piece);
            first += n;
            rows = rest;
        }
    }
}

/// One party's trees of an iteration.
trait Trees: Sync {
    /// The leaves of a tree, choice bits in place.
    fn leaves(&self, cipher: &Cipher, level: Level, tree: usize, leaves: &mut [u128]);
}

struct SenderTrees {
    delta: Secret<u128>,
    roots: Secret<u128>,
}

impl SenderTrees {
    /// Expands all trees for their level sums. Tree `j` uses up inputs `j * depth ..`.
    fn start(
        cipher: &Cipher,
        params: Params,
        delta: u128,
        inputs: &[u128],
        threads: usize,
        message: &mut Vec<u8>,
    ) -> Self {
        let depth = params.depth as usize;
        let start = message.len();
        message.resize(start + params.message_bytes(), 0);
        let share = params.t.div_ceil(threads.max(1));
        let sums = |inputs: &[u128], message: &mut [u8]| {
            let mut nodes = Secret::zeros(params.leaves());
            let mut blocks = message.chunks_exact_mut(16);
            for q in inputs.chunks_exact(depth) {
                let mut pads = q[1..].iter();
                tree::send(cipher, delta, q[0], &mut nodes, |sum| {
                    let pad = pads.next().expect("one input a level");
                    let block = blocks.next().expect("one block a level");
                    block.copy_from_slice(&(sum ^ pad).to_le_bytes());
                });
            }
        };
        let sums = &sums;
        std::thread::scope(|scope| {
            let mut pieces = inputs
                .chunks(share * depth)
                .zip(message[start..].chunks_mut(share * (depth - 1) * 16));
            let first = pieces.next();
            for (inputs, message) in pieces {
                scope.spawn(move || sums(inputs, message));
            }
            if let Some((inputs, message)) = first {
                sums(inputs, message);
            }
        });
        Self {
            delta: Secret::new(vec![delta]),
            roots: Secret::new(inputs.iter().copied().step_by(depth).collect()),
        }
    }
}

impl Trees for SenderTrees {
    fn leaves(&self, cipher: &Cipher, level: Level, tree: usize, leaves: &mut [u128]) {
        tree::send(cipher, self.delta[0], self.roots[tree], leaves, |_| {});
        tree::clear_bits(level, leaves);
    }
}

struct ReceiverTrees {
    trees: Secret<Punctured>,
    /// The opened sums, `depth - 1` a tree.
    sums: Secret<u128>,
    depth: usize,
}

impl ReceiverTrees {
    fn start(params: Params, inputs: &[u128], message: &[u8]) -> Self {
        let depth = params.depth as usize;
        let mut trees = Secret::with_capacity(params.t);
        let mut sums = Secret::with_capacity(params.t * (depth - 1));
        let mut blocks = message.chunks_exact(16);
        for t in inputs.chunks_exact(depth) {
            let alpha = (0..)
                .zip(t)
                .fold(0, |alpha, (i, t)| alpha | (!*t as u64 & 1) << i);
            trees.push(Punctured { alpha, root: t[0] });
            for (t, block) in t[1..].iter().zip(&mut blocks) {
                let block = u128::from_le_bytes(block.try_into().expect("sixteen bytes"));
                sums.push(t ^ block);
            }
        }
        Self { trees, sums, depth }
    }
}

impl Trees for ReceiverTrees {
    fn leaves(&self, cipher: &Cipher, level: Level, tree: usize, leaves: &mut [u128]) {
        let sums = &self.sums[tree * (self.depth - 1)..][..self.depth - 1];
        let punctured = self.trees[tree];
        tree::receive(cipher, level, punctured, sums, leaves);
        tree::choice_bits(level, leaves, punctured.alpha);
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
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    fn keyed(main: Params, seed: u64) -> (Sender, Receiver) {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let pairs: Vec<[u128; 2]> = (0..128).map(|_| rng.random()).collect();
        let delta = rng.random::<u128>() | 1;
        let chosen: Vec<u128> = (0..128)
            .map(|j| pairs[j][1 - (delta >> j & 1) as usize])
            .collect();
        let keys = Keys::new(&[3; 32], Direction::ServerSends);
        (
            Sender::new(main, delta, &chosen, keys.clone()),
            Receiver::new(main, &pairs, keys),
        )
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
            assert!(matches!(
                receiver.start(5, bad),
                Err(OtError::MessageLength { .. })
            ));
        }
        assert!(receiver.start(5, &message).is_ok());
    }
}
