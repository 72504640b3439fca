//! Iterations that feed each other, and their rows on demand: what both sides do alike.

use std::collections::VecDeque;

use super::lpn;
use super::params::{Params, Schedule};
use crate::Secret;
use crate::cipher::Cipher;
use crate::hash::Direction;
use crate::simd::Level;

/// Derives the public keys of trees and codes.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    session: [u8; 32],
    direction: Direction,
}

impl Keys {
    pub(crate) fn new(session: &[u8; 32], direction: Direction) -> Self {
        Self { session: *session, direction }
    }

    pub(super) fn trees(&self, iteration: u64) -> Cipher {
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
pub(super) struct Feed<T> {
    pub(super) keys: Keys,
    level: Level,
    pub(super) threads: usize,
    pub(super) schedule: Schedule,
    main: Params,
    /// Rows for the next iteration.
    pub(super) input: Secret<u128>,
    /// Iterations that still have rows, in order.
    pub(super) iterations: VecDeque<Iteration<T>>,
}

impl<T: Trees> Feed<T> {
    pub(super) fn new(main: Params, keys: Keys) -> Self {
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
    pub(super) fn split_input(&mut self, params: Params) -> (Secret<u128>, Secret<u128>) {
        let input = std::mem::take(&mut self.input);
        debug_assert_eq!(input.len(), params.input());
        let (secret, inputs) = input.split_at(params.k());
        (Secret::new(secret.to_vec()), Secret::new(inputs.to_vec()))
    }

    pub(super) fn push(&mut self, i: u64, cipher: Cipher, secret: Secret<u128>, trees: T) {
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

    pub(super) fn take(&mut self, n: usize, rows: &mut Vec<u128>) {
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
pub(super) struct Iteration<T> {
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
                self.trees.leaves(&self.cipher, self.level, tree, &mut scratch);
                piece.copy_from_slice(&scratch[offset..offset + n]);
            }
            lpn::encode(&self.code, &self.secret, first as u64, piece);
            first += n;
            rows = rest;
        }
    }
}

/// One party's trees of an iteration.
pub(super) trait Trees: Sync {
    /// The leaves of a tree, choice bits in place.
    fn leaves(&self, cipher: &Cipher, level: Level, tree: usize, leaves: &mut [u128]);
}
