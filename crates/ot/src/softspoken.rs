//! SoftSpokenOT, sans-IO; `k = 1` is IKNP.
//!
//! Roy, *SoftSpokenOT* (eprint 2022/192), semi-honest, with the repetition code. The 128 bits of
//! `Delta` are cut into groups of `k`, and each group is a VOLE over a field of `2^k` elements:
//! the receiver holds `2^k` seeds, the sender all but that at `Delta_g` (module `ggm`). With
//! `G_x` the expanded seed at point `x`, bits as elements of the field, and `^` its addition:
//!
//! ```text
//! receiver: u = XOR_x G_x      v_b = XOR_x x_b G_x       sends c = u ^ r       (n bits a group)
//! sender:   w_b = XOR_x (x ^ Delta)_b G_x    q_b = w_b ^ Delta_b c    =>  q_b = v_b ^ Delta_b r
//! ```
//!
//! so row `i` is `q_i = v_i ^ r_i Delta`. The sender stores seed `x` at position `x ^ Delta_g`:
//! the sums run over the same positions whatever `Delta`, and position 0, the missing one, has
//! coefficient zero. With one bit a group this is Ishai, Kilian, Nissim, Petrank (CRYPTO 2003) in
//! the form of Asharov et al. (eprint 2013/552): 128 bits an OT; with `k` bits, `128 / k`.
//!
//! Matrices are processed [`CHUNK`] OTs at a time: the message is a concatenation of chunks, each
//! one column a group, padded to a byte.
//!
//! # Security
//! Semi-honest, under a correlation-robust hash ([`crate::hash`]) and a pseudo-random generator
//! (AES-128 in counter mode, a key a leaf, the counter never restarted).

use zeroize::Zeroizing;

use crate::OtError;
use crate::base_ot::BaseReceiver;
use crate::cipher::Cipher;
use crate::error::check_message;
use crate::ggm;
use crate::rot::spread;

use rand_core::CryptoRng;

mod matrix;

use matrix::Scratch;

/// Computational security, and so the number of base OTs.
pub const KAPPA: usize = 128;
/// OTs of one matrix.
pub const CHUNK: usize = 16384;

/// Who determines the choice bits of an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choices {
    /// The receiver's caller.
    Chosen,
    /// The protocol: the sum `u` of the first group, whose column need not be sent.
    Random,
}

/// How the 128 bits of `Delta` are cut into groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    k: u32,
}

impl Groups {
    /// Groups of `k` bits (1..=16), the last one of what is left.
    pub(crate) const fn of(k: u32) -> Self {
        assert!(k >= 1 && k <= 16);
        Self { k }
    }

    /// Number of groups, and so of columns sent.
    pub const fn count(self) -> usize {
        KAPPA.div_ceil(self.k as usize)
    }

    /// First bit and width of each group.
    fn spans(self) -> impl Iterator<Item = (usize, usize)> {
        let k = self.k as usize;
        (0..KAPPA).step_by(k).map(move |start| (start, k.min(KAPPA - start)))
    }

    /// Bytes from receiver to sender that set up the seeds.
    pub fn setup_bytes(self) -> usize {
        self.spans().map(|(_, k)| ggm::message_bytes(k as u32)).sum()
    }

    /// Bytes from receiver to sender for `n` OTs: a column a group, padded to a byte.
    pub const fn message_bytes(self, n: usize, choices: Choices) -> u64 {
        let columns = match choices {
            Choices::Chosen => self.count(),
            Choices::Random => self.count() - 1,
        };
        // Chunks are whole bytes, so only the last one is padded.
        (n as u64).div_ceil(8) * columns as u64
    }
}

/// Starts the base OTs of a sender: the complement of `delta` is its choices.
pub(crate) fn start_sender(
    delta: u128,
    context: &[u8; 32],
    rng: &mut impl CryptoRng,
) -> (BaseReceiver, Vec<u8>) {
    let choices = Zeroizing::new((0..KAPPA).map(|j| delta >> j & 1 == 0).collect::<Vec<_>>());
    BaseReceiver::start(context, &choices, rng)
}

/// The sender of the extension, keyed.
pub(crate) struct Sender {
    delta: Zeroizing<u128>,
    groups: Groups,
    leaves: Vec<Cipher>,
    counter: u64,
    scratch: Scratch,
}

impl Sender {
    /// `base` are the base-OT keys, `message` the receiver's from [`Receiver::new`].
    pub(crate) fn new(groups: Groups, delta: u128, base: &[u128], message: &[u8]) -> Result<Self, OtError> {
        check_message("seed trees", groups.setup_bytes(), message.len())?;
        let mut leaves = Vec::new();
        let mut rest = message;
        for (start, k) in groups.spans() {
            let (sums, tail) = rest.split_at(ggm::message_bytes(k as u32));
            rest = tail;
            let alpha = (delta >> start) as u32 & ((1 << k) - 1);
            let held = ggm::hold(alpha, &base[start..start + k], sums);
            leaves.extend(held.iter().map(|&seed| Cipher::new(seed)));
        }
        Ok(Self { delta: Zeroizing::new(delta), groups, leaves, counter: 0, scratch: Scratch::new() })
    }

    pub(crate) fn delta(&self) -> u128 {
        *self.delta
    }

    /// Bytes due from the receiver for `n` OTs.
    pub(crate) fn message_bytes(&self, n: usize, choices: Choices) -> u64 {
        self.groups.message_bytes(n, choices)
    }

    /// Appends the rows of `n <= CHUNK` OTs, from the receiver's columns.
    pub(crate) fn extend(
        &mut self,
        n: usize,
        choices: Choices,
        message: &[u8],
        rows: &mut Vec<u128>,
    ) -> Result<(), OtError> {
        debug_assert!(n <= CHUNK);
        let expected = self.message_bytes(n, choices) as usize;
        check_message("extension columns", expected, message.len())?;
        let blocks = n.div_ceil(128);
        let mut leaves = &self.leaves[..];
        let mut columns = message.chunks_exact(n.div_ceil(8).max(1));
        for (start, k) in self.groups.spans() {
            let (group, rest) = leaves.split_at(1 << k);
            leaves = rest;
            self.scratch.fold(start, k, blocks, self.counter, group);
            if start == 0 && choices == Choices::Random {
                continue;
            }
            let sent = columns.next().unwrap_or_default();
            for b in 0..k {
                let bit = spread((*self.delta >> (start + b) & 1) as u8) as u8;
                let column = self.scratch.column(start + b, blocks);
                let column: &mut [u8] = bytemuck::cast_slice_mut(column);
                for (q, c) in column.iter_mut().zip(sent) {
                    *q ^= c & bit;
                }
            }
        }
        self.counter += blocks as u64;
        self.scratch.push_rows(n, rows);
        Ok(())
    }
}

/// The receiver of the extension, keyed.
pub(crate) struct Receiver {
    groups: Groups,
    leaves: Vec<Cipher>,
    counter: u64,
    scratch: Scratch,
}

impl Receiver {
    /// From the base OTs' sender; also gives the message for [`Sender::new`].
    pub(crate) fn new(groups: Groups, base: &[[u128; 2]]) -> (Self, Vec<u8>) {
        let mut leaves = Vec::new();
        let mut message = Vec::with_capacity(groups.setup_bytes());
        for (start, k) in groups.spans() {
            let dealt = ggm::deal(&base[start..start + k], &mut message);
            leaves.extend(dealt.iter().map(|&seed| Cipher::new(seed)));
        }
        let receiver = Self { groups, leaves, counter: 0, scratch: Scratch::new() };
        (receiver, message)
    }

    /// Appends the rows of at most [`CHUNK`] OTs, and the columns for the sender. `choices` are
    /// one a byte, 0 or 1: given if chosen, filled in if random.
    pub(crate) fn extend(
        &mut self,
        mode: Choices,
        choices: &mut [u8],
        message: &mut Vec<u8>,
        rows: &mut Vec<u128>,
    ) {
        let n = choices.len();
        debug_assert!(n <= CHUNK);
        let (blocks, bytes) = (n.div_ceil(128), n.div_ceil(8));
        if mode == Choices::Chosen {
            self.scratch.pack(choices);
        }
        let mut leaves = &self.leaves[..];
        for (start, k) in self.groups.spans() {
            let (group, rest) = leaves.split_at(1 << k);
            leaves = rest;
            self.scratch.fold(start, k, blocks, self.counter, group);
            if start == 0 && mode == Choices::Random {
                self.scratch.take_choices(choices);
                continue;
            }
            let sum: &[u8] = bytemuck::cast_slice(&self.scratch.sum[..blocks]);
            let choices: &[u8] = bytemuck::cast_slice(&self.scratch.choices[..blocks]);
            // In two steps, which vectorise.
            let at = message.len();
            message.extend_from_slice(&sum[..bytes]);
            for (u, r) in message[at..].iter_mut().zip(choices) {
                *u ^= r;
            }
        }
        self.counter += blocks as u64;
        self.scratch.push_rows(n, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    fn keyed(groups: Groups, rng: &mut ChaCha20Rng) -> (Sender, Receiver) {
        let pairs: Vec<[u128; 2]> = (0..KAPPA).map(|_| rng.random()).collect();
        let delta: u128 = rng.random();
        let chosen: Vec<u128> = (0..KAPPA).map(|j| pairs[j][1 - (delta >> j & 1) as usize]).collect();
        let (receiver, message) = Receiver::new(groups, &pairs);
        assert_eq!(message.len(), groups.setup_bytes());
        let sender = Sender::new(groups, delta, &chosen, &message).unwrap();
        (sender, receiver)
    }

    #[test]
    fn matches_the_ideal_functionality_at_all_sizes() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        for k in [1, 2, 4, 8, 3, 11] {
            let groups = Groups::of(k);
            let (mut sender, mut receiver) = keyed(groups, &mut rng);
            let sizes = (0..300).step_by(if k > 8 { 17 } else { 1 });
            for n in sizes.chain([CHUNK - 1, CHUNK]) {
                let given: Vec<u8> = (0..n).map(|_| rng.random_range(0..2)).collect();
                for mode in [Choices::Chosen, Choices::Random] {
                    let mut choices = given.clone();
                    let (mut message, mut v, mut q) = (Vec::new(), Vec::new(), Vec::new());
                    receiver.extend(mode, &mut choices, &mut message, &mut v);
                    assert_eq!(choices == given, mode == Choices::Chosen || n < 40 && choices == given);
                    assert_eq!(message.len() as u64, groups.message_bytes(n, mode));
                    sender.extend(n, mode, &message, &mut q).unwrap();
                    assert_eq!((q.len(), v.len()), (n, n));
                    for i in 0..n {
                        assert_eq!(q[i] ^ v[i], spread(choices[i]) & sender.delta(), "{k} {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_column_counter_never_restarts() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let (mut sender, mut receiver) = keyed(Groups::of(2), &mut rng);
        let mut messages = Vec::new();
        for (n, counter) in [(5, 1), (200, 3), (0, 3), (128, 4), (5, 5)] {
            let mut message = Vec::new();
            receiver.extend(Choices::Chosen, &mut vec![0; n], &mut message, &mut Vec::new());
            sender.extend(n, Choices::Chosen, &message, &mut Vec::new()).unwrap();
            assert_eq!((sender.counter, receiver.counter), (counter, counter));
            messages.push(message);
        }
        assert_ne!(messages[0], messages[4]);
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let (mut sender, mut receiver) = keyed(Groups::of(4), &mut rng);
        let mut message = Vec::new();
        receiver.extend(Choices::Chosen, &mut [1; 100], &mut message, &mut Vec::new());
        assert_eq!(message.len(), 13 * 32);
        let mut extend = |n, message: &[u8]| sender.extend(n, Choices::Chosen, message, &mut Vec::new());
        for n in [0, 96, 105] {
            let result = extend(n, &message);
            assert!(matches!(result, Err(OtError::MessageLength { .. })));
        }
        assert!(extend(100, &message[1..]).is_err());
        assert!(extend(100, &message).is_ok());
        let keys = [0; KAPPA];
        for len in [0, 31, 32 * 32 * 3 + 1] {
            assert!(Sender::new(Groups::of(4), 0, &keys, &vec![0; len]).is_err());
        }
    }
}
