//! AES-128 in counter mode: the pseudo-random generator behind every seed.

use aes::Aes128;
use aes::cipher::{Array, KeyInit};

use crate::hash::encrypt;

/// A seed expanded to a key schedule. The caller keeps the counter and never restarts it.
pub(crate) struct Prg(Aes128);

impl Prg {
    pub(crate) fn new(seed: u128) -> Self {
        Self(Aes128::new(&Array::from(seed.to_le_bytes())))
    }

    /// Blocks `counter..counter + out.len()` of the stream.
    pub(crate) fn fill(&self, counter: u64, out: &mut [u128]) {
        for (i, block) in out.iter_mut().enumerate() {
            *block = u128::from(counter + i as u64);
        }
        encrypt(&self.0, out);
    }
}
