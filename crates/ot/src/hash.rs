//! Tweakable correlation-robust hash: turns the correlated rows of an OT extension into pads.
//!
//! **TMMO** of Guo, Katz, Wang, Yu, *Efficient and Secure Multiparty Computation from
//! Fixed-Key Block Ciphers* (eprint 2019/074, the construction "TMMO"):
//!
//! ```text
//! H(x, i) = pi(pi(x) ^ i) ^ pi(x)
//! ```
//!
//! with `pi` AES-128 under a key that is public, fixed for a session, and derived from its
//! transcript. In the ideal-cipher model `H` is tweakable circular correlation robust.
//!
//! **The tweak never repeats within a connection.** It is the triple (direction, index of the OT
//! in that direction since the set-up, block of the pad); the index is kept by the extension and
//! only grows. One connection has one session key, and a new connection has a new one.

use crate::cipher::Cipher;

/// Blocks hashed at a time: enough to fill the widest AES pipelines, small enough for the stack.
pub(crate) const BATCH: usize = 128;

/// Which party is the OT sender; part of the tweak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The server's messages, the client's choices.
    ServerSends,
    /// The client's messages, the server's choices.
    ClientSends,
}

/// The hash of one session and direction.
pub struct PadHash {
    /// Public.
    key: u128,
    cipher: Cipher,
    direction: Direction,
}

impl PadHash {
    /// Keys the hash with the session identifier, a hash of the set-up's transcript.
    pub fn new(session: &[u8; 32], direction: Direction) -> Self {
        let key = blake3::derive_key("copriv-ot v1 pad hash", session);
        let key: [u8; 16] = key[..16].try_into().expect("sixteen of thirty-two bytes");
        Self::keyed(u128::from_le_bytes(key), direction)
    }

    fn keyed(key: u128, direction: Direction) -> Self {
        Self { key, cipher: Cipher::new(key), direction }
    }

    /// The key, which is the same for both directions.
    pub(crate) fn key(&self) -> [u8; 16] {
        self.key.to_le_bytes()
    }

    /// Key and direction.
    pub(crate) fn to_bytes(&self) -> [u8; 17] {
        let mut bytes = [self.direction as u8; 17];
        bytes[..16].copy_from_slice(&self.key.to_le_bytes());
        bytes
    }

    /// The hash of [`Self::to_bytes`], if the direction is one.
    pub(crate) fn from_bytes(bytes: [u8; 17]) -> Option<Self> {
        let directions = [Direction::ServerSends, Direction::ClientSends];
        let direction = directions.into_iter().find(|&d| d as u8 == bytes[16])?;
        let key = bytes[..16].try_into().expect("sixteen bytes");
        Some(Self::keyed(u128::from_le_bytes(key), direction))
    }

    /// The tweak of block `block` of OT `index`.
    #[inline]
    fn tweak(&self, index: u64, block: u64) -> u128 {
        debug_assert!(block < 1 << 63);
        let direction = u128::from(self.direction == Direction::ClientSends) << 127;
        direction | u128::from(block) << 64 | u128::from(index)
    }

    /// Block 0 of the pads of consecutive OTs, in place: `rows[k] <- H(rows[k], (first + k, 0))`.
    pub(crate) fn first_blocks(&self, first: u64, rows: &mut [u128]) {
        let tweak = self.tweak(first, 0);
        self.cipher.tmmo((tweak >> 64) as u64, first, rows);
    }

    /// `pi(row)` for every row, in place; the first half of the hash, shared by all blocks of a pad.
    pub(crate) fn whiten(&self, rows: &mut [u128]) {
        self.cipher.encrypt(rows);
    }

    /// Long pads one after the other: for each `(index, white, n)` blocks `0..n` of the pad of OT
    /// `index`, from its whitened row.
    pub(crate) fn long_pads(&self, jobs: impl Iterator<Item = (u64, u128, usize)> + Clone, out: &mut [u128]) {
        let mut rest = &mut out[..];
        for (index, white, n) in jobs.clone() {
            let (pad, tail) = rest.split_at_mut(n);
            rest = tail;
            for (j, block) in (0..).zip(pad) {
                *block = white ^ self.tweak(index, j);
            }
        }
        self.cipher.encrypt(out);
        let mut rest = out;
        for (_, white, n) in jobs {
            let (pad, tail) = rest.split_at_mut(n);
            rest = tail;
            for block in pad {
                *block ^= white;
            }
        }
    }
}

impl std::fmt::Debug for PadHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PadHash").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The definition, one block at a time.
    fn reference(hash: &PadHash, x: u128, tweak: u128) -> u128 {
        let pi = |x: u128| {
            let mut block = [x];
            hash.cipher.encrypt(&mut block);
            block[0]
        };
        pi(pi(x) ^ tweak) ^ pi(x)
    }

    #[test]
    fn equals_its_definition() {
        for direction in [Direction::ServerSends, Direction::ClientSends] {
            let hash = PadHash::new(&[7; 32], direction);
            let top = u128::from(direction == Direction::ClientSends) << 127;
            for n in [1_usize, 127, 128, 129, 300] {
                let rows: Vec<u128> = (0..n as u128).map(|i| i * i + 5).collect();
                let mut pads = rows.clone();
                hash.first_blocks(1000, &mut pads);
                let mut white = rows.clone();
                hash.whiten(&mut white);
                for (k, (&row, &pad)) in rows.iter().zip(&pads).enumerate() {
                    let index = 1000 + k as u128;
                    assert_eq!(pad, reference(&hash, row, index | top));
                    let mut long = [0; 3];
                    let job = [(1000 + k as u64, white[k], 3)];
                    hash.long_pads(job.into_iter(), &mut long);
                    for (j, block) in long.iter().enumerate() {
                        let tweak = index | (j as u128) << 64 | top;
                        assert_eq!(*block, reference(&hash, row, tweak));
                    }
                }
            }
        }
    }

    #[test]
    fn tweaks_are_injective_in_index_block_and_direction() {
        let mut seen = HashSet::new();
        for direction in [Direction::ServerSends, Direction::ClientSends] {
            let hash = PadHash::new(&[1; 32], direction);
            for index in [0, 1, 2, u64::from(u32::MAX), u64::MAX] {
                for block in 0..40 {
                    assert!(seen.insert(hash.tweak(index, block)));
                }
            }
        }
    }

    #[test]
    fn sessions_and_directions_differ() {
        let pad = |session: u8, direction| {
            let mut row = [3];
            PadHash::new(&[session; 32], direction).first_blocks(0, &mut row);
            row[0]
        };
        let pads = HashSet::from([
            pad(0, Direction::ServerSends),
            pad(0, Direction::ClientSends),
            pad(1, Direction::ServerSends),
            pad(1, Direction::ClientSends),
        ]);
        assert_eq!(pads.len(), 4);
    }
}
