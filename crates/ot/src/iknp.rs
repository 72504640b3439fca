//! IKNP OT extension, sans-IO.
//!
//! Ishai, Kilian, Nissim, Petrank, *Extending Oblivious Transfers Efficiently* (CRYPTO 2003), in
//! the form of Asharov et al. (eprint 2013/552). The extension's sender holds `Delta` and, from
//! base OTs with the bits of `Delta` as choices, one seed of each of 128 pairs `k_j^0, k_j^1` of
//! the receiver:
//!
//! ```text
//! receiver: column t_j = G(k_j^0)      sends u_j = G(k_j^0) ^ G(k_j^1) ^ r
//! sender:   column q_j = G(k_j^{Delta_j}) ^ Delta_j u_j      =>  row q_i = t_i ^ r_i Delta
//! ```
//!
//! The receiver sends 128 bits an OT, the number of OTs padded to a multiple of eight. Matrices
//! are processed [`CHUNK`] OTs at a time, so the message is a concatenation of chunks, each the
//! 128 columns of its OTs.
//!
//! # Security
//! Semi-honest, under a correlation-robust hash ([`crate::hash`]) and a pseudo-random generator
//! (AES-128 in counter mode, a key a column, the counter never restarted).

use std::sync::Arc;

use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use crate::base_ot::{BaseReceiver, BaseSender};
use crate::error::check_message;
use crate::hash::PadHash;
use crate::prg::Prg;
use crate::rot::spread;
use crate::transpose::transpose_128;
use crate::{OtError, RotReceiver, RotSender};

/// Computational security, and so the number of base OTs.
pub const KAPPA: usize = 128;
/// OTs of one matrix.
pub const CHUNK: usize = 4096;

/// Bytes from receiver to sender for `n` OTs: 16 an OT, `n` padded to a multiple of eight.
pub const fn message_bytes(n: usize) -> u64 {
    (n as u64).next_multiple_of(8) * 16
}

/// The sender of the extension, keyed.
pub struct IknpSender {
    delta: Zeroizing<u128>,
    columns: Vec<Prg>,
    state: Progress,
}

/// The receiver of the extension, keyed.
pub struct IknpReceiver {
    columns: Vec<[Prg; 2]>,
    state: Progress,
}

/// What both sides count alike.
struct Progress {
    hash: Arc<PadHash>,
    /// Index in this connection and direction of the next OT.
    index: u64,
    /// Next block of every column's stream.
    counter: u64,
}

impl Progress {
    fn new(hash: PadHash) -> Self {
        Self { hash: Arc::new(hash), index: 0, counter: 0 }
    }

    /// Reserves the indices of `n` OTs.
    fn advance_index(&mut self, n: usize) -> u64 {
        let first = self.index;
        self.index += n as u64;
        first
    }

    /// Reserves `blocks` blocks of every column.
    fn advance_columns(&mut self, blocks: usize) -> u64 {
        let first = self.counter;
        self.counter += blocks as u64;
        first
    }
}

/// Draws `Delta` as the choices of the base OTs.
pub(crate) fn start_sender(
    context: &[u8; 32],
    rng: &mut impl CryptoRng,
) -> (Zeroizing<u128>, BaseReceiver, Vec<u8>) {
    let mut delta = Zeroizing::new([0; 16]);
    rng.fill_bytes(&mut *delta);
    let delta = Zeroizing::new(u128::from_le_bytes(*delta));
    let choices: Zeroizing<Vec<bool>> = Zeroizing::new((0..KAPPA).map(|j| *delta >> j & 1 == 1).collect());
    let (base, message) = BaseReceiver::start(context, &choices, rng);
    (delta, base, message)
}

impl IknpSender {
    pub(crate) fn new(delta: Zeroizing<u128>, seeds: &[u128], hash: PadHash) -> Self {
        Self {
            delta,
            columns: seeds.iter().map(|&seed| Prg::new(seed)).collect(),
            state: Progress::new(hash),
        }
    }

    /// `n` random OTs from the receiver's message.
    pub fn extend(&mut self, n: usize, message: &[u8]) -> Result<RotSender, OtError> {
        check_message("IKNP columns", message_bytes(n) as usize, message.len())?;
        let mut rows = Zeroizing::new(Vec::with_capacity(n));
        let mut matrix = Zeroizing::new(Vec::new());
        let mut rest = message;
        while rows.len() < n {
            let ots = CHUNK.min(n - rows.len());
            let blocks = ots.div_ceil(128);
            let counter = self.state.advance_columns(blocks);
            matrix.resize(KAPPA * blocks, 0);
            let (columns, tail) = rest.split_at(KAPPA * ots.div_ceil(8));
            rest = tail;
            let received = columns.chunks_exact(ots.div_ceil(8));
            let keys = self.columns.iter().zip(received).enumerate();
            for ((j, (prg, u)), column) in keys.zip(matrix.chunks_exact_mut(blocks)) {
                prg.fill(counter, column);
                let bit = spread((*self.delta >> j & 1) as u8) as u8;
                let column: &mut [u8] = bytemuck::cast_slice_mut(column);
                for (q, u) in column.iter_mut().zip(u) {
                    *q ^= u & bit;
                }
            }
            push_rows(&matrix, ots, &mut rows);
        }
        let first = self.state.advance_index(n);
        let hash = Arc::clone(&self.state.hash);
        Ok(RotSender::new(hash, first, *self.delta, rows))
    }
}

impl IknpReceiver {
    pub(crate) fn new(seeds: &[[u128; 2]], hash: PadHash) -> Self {
        Self { columns: seeds.iter().map(|pair| pair.map(Prg::new)).collect(), state: Progress::new(hash) }
    }

    /// Random OTs with these choices, and the message to the sender.
    pub fn extend(&mut self, choices: &[bool]) -> (Vec<u8>, RotReceiver) {
        let n = choices.len();
        let mut message = Vec::with_capacity(message_bytes(n) as usize);
        let mut rows = Zeroizing::new(Vec::with_capacity(n));
        let mut matrix = Zeroizing::new(Vec::new());
        let mut other = Zeroizing::new(Vec::new());
        let mut packed = Zeroizing::new(Vec::new());
        for choices in choices.chunks(CHUNK) {
            let blocks = choices.len().div_ceil(128);
            let counter = self.state.advance_columns(blocks);
            matrix.resize(KAPPA * blocks, 0);
            other.resize(blocks, 0);
            pack_choices(choices, &mut packed);
            for (prg, column) in self.columns.iter().zip(matrix.chunks_exact_mut(blocks)) {
                prg[0].fill(counter, column);
                prg[1].fill(counter, &mut other);
                for ((u, t), r) in other.iter_mut().zip(column.iter()).zip(packed.iter()) {
                    *u ^= t ^ r;
                }
                let bytes: &[u8] = bytemuck::cast_slice(&other);
                message.extend_from_slice(&bytes[..choices.len().div_ceil(8)]);
            }
            push_rows(&matrix, choices.len(), &mut rows);
        }
        let first = self.state.advance_index(n);
        let choices = Zeroizing::new(choices.iter().map(|&c| u8::from(c)).collect());
        let hash = Arc::clone(&self.state.hash);
        (message, RotReceiver::new(hash, first, choices, rows))
    }
}

/// Keys both halves of one direction from base OTs; `hash` is that direction's.
pub(crate) fn receiver_from_base(
    base: BaseSender,
    context: &[u8; 32],
    session: &[u8; 32],
    message: &[u8],
    hash: PadHash,
) -> Result<IknpReceiver, OtError> {
    let seeds = base.finish(context, session, KAPPA, message)?;
    Ok(IknpReceiver::new(&seeds, hash))
}

/// Transposes a matrix of 128 columns and appends its first `ots` rows.
fn push_rows(matrix: &[u128], ots: usize, rows: &mut Vec<u128>) {
    let blocks = ots.div_ceil(128);
    let mut square = [0; 128];
    for b in 0..blocks {
        for (word, column) in square.iter_mut().zip(matrix.chunks_exact(blocks)) {
            *word = column[b];
        }
        transpose_128(&mut square);
        let n = 128.min(ots - b * 128);
        rows.extend_from_slice(&square[..n]);
    }
    square.zeroize();
}

fn pack_choices(choices: &[bool], packed: &mut Vec<u128>) {
    packed.clear();
    packed.extend(
        choices
            .chunks(128)
            .map(|block| block.iter().enumerate().fold(0, |word, (i, &c)| word | u128::from(c) << i)),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Direction;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    fn keyed(rng: &mut ChaCha20Rng) -> (IknpSender, IknpReceiver) {
        let pairs: Vec<[u128; 2]> = (0..KAPPA).map(|_| rng.random()).collect();
        let delta: u128 = rng.random();
        let seeds: Vec<u128> = (0..KAPPA).map(|j| pairs[j][(delta >> j & 1) as usize]).collect();
        let hash = || PadHash::new(&[1; 32], Direction::ServerSends);
        (IknpSender::new(Zeroizing::new(delta), &seeds, hash()), IknpReceiver::new(&pairs, hash()))
    }

    #[test]
    fn matches_the_ideal_functionality_at_all_sizes() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let (mut sender, mut receiver) = keyed(&mut rng);
        let sizes = (0..300).chain([CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 77]);
        for n in sizes {
            let choices: Vec<bool> = (0..n).map(|_| rng.random()).collect();
            let (message, received) = receiver.extend(&choices);
            assert_eq!(message.len() as u64, message_bytes(n));
            let sent = sender.extend(n, &message).unwrap();
            assert_eq!((sent.len(), received.len()), (n, n));
            assert_eq!(received.choices(), choices);
            for ((pair, pad), c) in sent.into_pads().iter().zip(received.into_pads().iter()).zip(choices) {
                assert_eq!(pair[usize::from(c)], *pad);
                assert_ne!(pair[usize::from(!c)], *pad);
            }
        }
    }

    #[test]
    fn neither_tweak_nor_column_counter_restarts() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let (mut sender, mut receiver) = keyed(&mut rng);
        let mut messages = Vec::new();
        for (call, n) in [5, 200, 128, 5].into_iter().enumerate() {
            let (message, _) = receiver.extend(&vec![false; n]);
            sender.extend(n, &message).unwrap();
            let blocks: u64 = [1, 2, 1, 1][..=call].iter().sum();
            let index: u64 = [5, 200, 128, 5][..=call].iter().sum();
            for state in [&sender.state, &receiver.state] {
                assert_eq!((state.index, state.counter), (index, blocks));
            }
            messages.push(message);
        }
        assert_ne!(messages[0], messages[3]);
    }

    #[test]
    fn wrong_lengths_are_errors() {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let (mut sender, mut receiver) = keyed(&mut rng);
        let (message, _) = receiver.extend(&[true; 100]);
        assert_eq!(message.len(), 104 * 16);
        for n in [0, 96, 105, usize::MAX / 64] {
            assert!(matches!(sender.extend(n, &message), Err(OtError::MessageLength { .. })));
        }
        assert!(sender.extend(100, &message[1..]).is_err());
        assert!(sender.extend(100, &message).is_ok());
    }
}
