//! AES-128 in counter mode: the pseudo-random generator behind every seed.

use crate::cipher::Cipher;

/// A seed expanded to a key schedule. The caller keeps the counter and never restarts it.
pub(crate) struct Prg(Cipher);

impl Prg {
    pub(crate) fn new(seed: u128) -> Self {
        Self(Cipher::new(seed))
    }

    /// Blocks `counter..counter + out.len()` of the stream.
    pub(crate) fn fill(&self, counter: u64, out: &mut [u128]) {
        self.0.counter(counter, out);
    }
}
