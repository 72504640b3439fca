//! Secrets that do not fit the memory meant for them, in a temporary file.
//!
//! The file has no name from the start where the system allows it, so that it goes with the process whatever
//! its end; what lies in it is encrypted with AES-128 in counter mode under a key that is drawn for the file and
//! never leaves memory. No counter is used twice: the file only grows. There is no integrity check: who can
//! write to another process's open files need not tamper with ciphertexts.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, PoisonError};

use rand_core::CryptoRng;

use crate::Secret;
use crate::cipher::Cipher;

const BLOCK: usize = 16;
/// Bytes encrypted or decrypted at a time.
const PIECE: usize = 1 << 16;

/// A temporary file of secrets.
#[derive(Clone)]
pub struct Spill(Arc<Mutex<Inner>>);

struct Inner {
    file: File,
    cipher: Cipher,
    /// Blocks written, and so the next counter.
    blocks: u64,
}

/// One secret in the file; it can be read once.
pub struct Spilled {
    spill: Spill,
    block: u64,
    len: usize,
}

impl Spill {
    /// An empty file in the system's temporary folder (`TMPDIR`).
    ///
    /// # Errors
    /// The disk's, here and below.
    pub fn new(rng: &mut impl CryptoRng) -> io::Result<Self> {
        let mut key = Secret::zeros(BLOCK);
        rng.fill_bytes(&mut key);
        let cipher = Cipher::new(u128::from_le_bytes(key.as_slice().try_into().expect("sixteen bytes")));
        Ok(Self(Arc::new(Mutex::new(Inner { file: tempfile::tempfile()?, cipher, blocks: 0 }))))
    }

    /// Writes a secret.
    pub fn write(&self, secret: &[u8]) -> io::Result<Spilled> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let block = inner.blocks;
        // Counted first: should the disk fail half-way, the counters are spent all the same.
        inner.blocks += secret.len().div_ceil(BLOCK) as u64;
        inner.file.seek(SeekFrom::Start(block * BLOCK as u64))?;
        let mut at = block;
        let mut encrypted = vec![0; PIECE.min(secret.len())];
        for piece in secret.chunks(PIECE) {
            let encrypted = &mut encrypted[..piece.len()];
            encrypted.copy_from_slice(piece);
            inner.cipher.apply(&mut at, encrypted);
            inner.file.write_all(encrypted)?;
        }
        Ok(Spilled { spill: self.clone(), block, len: secret.len() })
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).blocks * BLOCK as u64
    }
}

impl Spilled {
    /// Reads the secret.
    ///
    /// # Errors
    /// The disk's.
    pub fn read(self) -> io::Result<Secret<u8>> {
        let mut secret = Secret::zeros(self.len);
        let mut inner = self.spill.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.file.seek(SeekFrom::Start(self.block * BLOCK as u64))?;
        inner.file.read_exact(&mut secret)?;
        let mut at = self.block;
        for piece in secret.chunks_mut(PIECE) {
            inner.cipher.apply(&mut at, piece);
        }
        Ok(secret)
    }
}

impl Cipher {
    /// Adds the key stream from block `at` on, and moves on by so many blocks.
    fn apply(&self, at: &mut u64, bytes: &mut [u8]) {
        let mut stream = Secret::<u128>::zeros(bytes.len().div_ceil(BLOCK));
        self.counter(*at, &mut stream);
        *at += stream.len() as u64;
        let stream: &[u8] = bytemuck::cast_slice(&stream);
        bytes.iter_mut().zip(stream).for_each(|(byte, key)| *byte ^= key);
    }
}

impl std::fmt::Debug for Spill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spill").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Spilled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spilled").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha20Rng;

    #[test]
    fn secrets_come_back_in_any_order_and_lie_encrypted() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let spill = Spill::new(&mut rng).unwrap();
        let secrets: Vec<Vec<u8>> = [0, 1, 15, 16, 17, PIECE - 1, PIECE, 3 * PIECE + 5]
            .iter()
            .map(|&n| (0..n).map(|_| rng.random()).collect())
            .collect();
        let mut spilled: Vec<Spilled> = secrets.iter().map(|s| spill.write(s).unwrap()).collect();
        for i in [7, 0, 3, 6, 1, 2, 5, 4] {
            let at = spilled.iter().position(|s| s.len == secrets[i].len()).unwrap();
            assert_eq!(**spilled.swap_remove(at).read().unwrap(), secrets[i]);
        }
        let mut raw = Vec::new();
        let mut inner = spill.0.lock().unwrap();
        inner.file.seek(SeekFrom::Start(0)).unwrap();
        inner.file.read_to_end(&mut raw).unwrap();
        let secret = &secrets[7][..64];
        assert!(!raw.windows(64).any(|w| w == secret), "in the clear");
    }

    #[test]
    fn equal_secrets_look_different() {
        let spill = Spill::new(&mut ChaCha20Rng::seed_from_u64(2)).unwrap();
        for _ in 0..2 {
            spill.write(&[0; 40]).unwrap();
        }
        assert_eq!(spill.bytes(), 96);
        let mut raw = vec![0; 88];
        let mut inner = spill.0.lock().unwrap();
        inner.file.seek(SeekFrom::Start(0)).unwrap();
        inner.file.read_exact(&mut raw).unwrap();
        let blocks: std::collections::HashSet<&[u8]> =
            raw.chunks_exact(16).filter(|b| b.iter().any(|&v| v != 0)).collect();
        // Five whole blocks: two of the first secret with part of a third, two of the second.
        assert_eq!(blocks.len(), 5, "a counter was used twice");
    }
}
