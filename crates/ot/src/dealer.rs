//! The ideal functionality of random OT: a trusted dealer, for tests only.

use std::sync::Arc;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::hash::{Direction, PadHash};
use crate::{RotReceiver, RotSender, Secret};

pub(crate) struct Dealer {
    pub(crate) rng: ChaCha20Rng,
    hash: Arc<PadHash>,
    delta: u128,
    index: u64,
}

impl Dealer {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        Self {
            hash: Arc::new(PadHash::new(&[5; 32], Direction::ServerSends)),
            delta: rng.random(),
            rng,
            index: 0,
        }
    }

    pub(crate) fn rots(&mut self, n: usize) -> (RotSender, RotReceiver) {
        let choices = self.bits(n);
        self.chosen(&choices)
    }

    pub(crate) fn chosen(&mut self, choices: &[bool]) -> (RotSender, RotReceiver) {
        let n = choices.len();
        let mut q = vec![0_u128; n];
        self.rng.fill_bytes(bytemuck::cast_slice_mut(&mut q));
        let choices: Vec<u8> = choices.iter().map(|&c| u8::from(c)).collect();
        let t = q.iter().zip(&choices).map(|(q, &c)| q ^ crate::rot::spread(c) & self.delta).collect();
        let first = self.index;
        self.index += n as u64;
        let [q, t] = [q, t].map(Secret::new);
        (
            RotSender::new(Arc::clone(&self.hash), first, self.delta, q),
            RotReceiver::new(Arc::clone(&self.hash), first, Secret::new(choices), t),
        )
    }

    pub(crate) fn bits(&mut self, n: usize) -> Vec<bool> {
        (0..n).map(|_| self.rng.random()).collect()
    }

    pub(crate) fn values(&mut self, n: usize, bits: u32) -> Vec<u64> {
        (0..n).map(|_| self.rng.next_u64() & crate::wire::mask(bits)).collect()
    }
}
