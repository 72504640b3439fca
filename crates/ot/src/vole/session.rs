//! Uses of the groups, each at most once.
//!
//! The key of a use is `AES_S(use, group)` with `S = BLAKE3(set-up id, nonce)`, see the
//! [module documentation](super). Both parties take the same uses in the same order.

use std::ops::Range;
use std::sync::Arc;

use rand_core::CryptoRng;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use super::{HolderTrees, PuncturedTrees};
use crate::cipher::Cipher;

/// Bytes of the nonce that the holder tells the puncturer.
pub const NONCE_BYTES: usize = 16;

/// Hands out uses, for as long as both parties' processes live.
pub struct Session {
    cipher: Arc<Cipher>,
    next: u64,
}

/// One use of a range of groups. It cannot be copied, and becomes a [`Ticket`] for each group.
pub struct Use {
    cipher: Arc<Cipher>,
    number: u64,
    groups: Range<usize>,
}

/// The right to the sums of one group for one use. It cannot be copied.
#[derive(Debug)]
pub struct Ticket {
    pub(super) group: usize,
    pub(super) key: u128,
}

impl HolderTrees {
    /// Begins a session under a fresh nonce, which is to be sent to the puncturer.
    pub fn session(&self, rng: &mut impl CryptoRng) -> (Session, [u8; NONCE_BYTES]) {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        (Session::new(self.id(), &nonce), nonce)
    }
}

impl PuncturedTrees {
    /// Joins the session of the holder who drew this nonce.
    pub fn join(&self, nonce: &[u8; NONCE_BYTES]) -> Session {
        Session::new(self.id(), nonce)
    }
}

impl Session {
    fn new(id: &[u8; 32], nonce: &[u8; NONCE_BYTES]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("copriv-ot v1 vole session");
        hasher.update(id);
        hasher.update(nonce);
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        Self { cipher: Arc::new(Cipher::new(u128::from_le_bytes(key))), next: 0 }
    }

    /// The next use, of these groups. No other use of this or another session has its keys.
    pub fn take(&mut self, groups: Range<usize>) -> Use {
        let number = self.next;
        self.next += 1;
        Use { cipher: Arc::clone(&self.cipher), number, groups }
    }
}

impl Use {
    /// The groups.
    pub fn groups(&self) -> Range<usize> {
        self.groups.clone()
    }

    /// The first `n` groups, and the others: for working in pieces that the peer need not share.
    ///
    /// # Panics
    /// If there are fewer than `n`.
    pub fn split_at(self, n: usize) -> (Self, Self) {
        assert!(n <= self.groups.len(), "{n} of {} groups", self.groups.len());
        let middle = self.groups.start + n;
        let first = Self { cipher: Arc::clone(&self.cipher), groups: self.groups.start..middle, ..self };
        (first, Self { groups: middle..self.groups.end, ..self })
    }

    /// A ticket for each group, in order.
    pub fn tickets(self) -> impl ExactSizeIterator<Item = Ticket> {
        let Self { cipher, number, groups } = self;
        groups.map(move |group| ticket(&cipher, number, group))
    }

    /// A ticket for each group, on all cores.
    pub fn par_tickets(self) -> impl IndexedParallelIterator<Item = Ticket> {
        let Self { cipher, number, groups } = self;
        groups.into_par_iter().map(move |group| ticket(&cipher, number, group))
    }
}

fn ticket(cipher: &Cipher, number: u64, group: usize) -> Ticket {
    let mut key = [u128::from(number) << 64 | group as u128];
    cipher.encrypt(&mut key);
    Ticket { group, key: key[0] }
}

impl Ticket {
    /// The group.
    pub fn group(&self) -> usize {
        self.group
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("next", &self.next).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Use")
            .field("number", &self.number)
            .field("groups", &self.groups)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_key_comes_twice_and_both_parties_have_the_same() {
        let mut seen = HashSet::new();
        for nonce in 0..3 {
            let keys = |parallel: bool| -> Vec<(usize, u128)> {
                let mut session = Session::new(&[1; 32], &[nonce; NONCE_BYTES]);
                let mut keys = Vec::new();
                for groups in [0..5, 3..9, 3..9, 0..0, 1 << 40..(1 << 40) + 2] {
                    let taken = session.take(groups.clone());
                    assert_eq!(taken.groups(), groups);
                    let tickets: Vec<Ticket> = if parallel {
                        taken.par_tickets().collect()
                    } else {
                        let (a, b) = taken.split_at(groups.len() / 2);
                        a.tickets().chain(b.tickets()).collect()
                    };
                    keys.extend(tickets.iter().map(|ticket| (ticket.group(), ticket.key)));
                }
                keys
            };
            assert_eq!(keys(true), keys(false));
            for (_, key) in keys(false) {
                assert!(seen.insert(key));
            }
        }
        assert_eq!(seen.len(), 3 * 19);
        let other = Session::new(&[2; 32], &[0; NONCE_BYTES]).take(0..1).tickets().next();
        assert!(seen.insert(other.unwrap().key), "the set-up is part of the key");
    }
}
