//! Random OTs, each usable once.
//!
//! The sender of OT `i` holds a row `q_i` and one `Delta` for all, the receiver a choice bit
//! `r_i` and `t_i = q_i ^ r_i Delta`. The pads are `H(q_i)`, `H(q_i ^ Delta)` and `H(t_i)`, with
//! the tweakable [`hash`](crate::hash); block `j` of a pad of any length is hashed under the
//! tweak `(i, j)`.
//!
//! Neither type can be cloned, every protocol consumes the value, and [`RotSender::take`] moves
//! correlations out: the type system keeps a pad from being used twice within a process.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::OtError;
use crate::error::check_argument;
use crate::hash::{BATCH, PadHash};
use crate::secret::{Secret, wipe};
use crate::wire;

mod long;
mod stored;

/// The sender's half of a batch of random OTs: two pads for each.
#[derive(Debug)]
pub struct RotSender {
    rows: Rows,
    delta: Zeroizing<u128>,
}

/// The receiver's half of a batch of random OTs: a choice bit and that pad for each.
#[derive(Debug)]
pub struct RotReceiver {
    rows: Rows,
    choices: Secret<u8>,
}

impl RotSender {
    pub(crate) fn new(hash: Arc<PadHash>, first: u64, delta: u128, rows: Secret<u128>) -> Self {
        Self { rows: Rows::new(hash, first, rows), delta: Zeroizing::new(delta) }
    }

    /// Random OTs left.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Splits off the first `n`.
    pub fn take(&mut self, n: usize) -> Result<Self, OtError> {
        Ok(Self { rows: self.rows.take(n)?, delta: self.delta.clone() })
    }

    /// These and the `next` ones that the same extension made.
    pub fn join(self, next: Self) -> Result<Self, OtError> {
        Ok(Self { rows: self.rows.join(next.rows)?, delta: self.delta })
    }

    /// What no other batch of the session has: key and direction of the hash, first index.
    pub(crate) fn context(&self) -> [u8; 25] {
        self.rows.context()
    }

    /// Index in the connection of the first OT left.
    #[cfg(test)]
    pub(crate) fn first(&self) -> u64 {
        self.rows.first
    }

    /// Both pads of each random OT, 128 bits each.
    pub fn into_pads(self) -> Secret<[u128; 2]> {
        let mut pads = Secret::with_capacity(self.len());
        self.for_each_batch(|_, zero, one| {
            pads.extend(zero.iter().zip(one).map(|(&zero, &one)| [zero, one]));
        });
        pads
    }

    /// Calls `use_pads(k, pad_0, pad_1)` with 128 bits of both pads of the `k`-th OT, in order: as
    /// [`Self::into_pads`], without storing them.
    pub fn for_each_pad(self, use_pads: impl FnMut(usize, u128, u128)) {
        self.for_each(use_pads);
    }

    /// Calls `use_pads(k, pad_0, pad_1)` for the first pad blocks of the `k`-th OT, in order.
    pub(crate) fn for_each(&self, mut use_pads: impl FnMut(usize, u128, u128)) {
        self.for_each_batch(|start, zero, one| {
            for (k, (&zero, &one)) in zero.iter().zip(one).enumerate() {
                use_pads(start + k, zero, one);
            }
        });
    }

    /// Calls `use_pads(k, pads_0, pads_1)` for the first pad blocks of the OTs from the `k`-th on.
    fn for_each_batch(&self, mut use_pads: impl FnMut(usize, &[u128], &[u128])) {
        let (mut zero, mut one) = ([0; BATCH], [0; BATCH]);
        for (c, rows) in self.rows.left().chunks(BATCH).enumerate() {
            let start = c * BATCH;
            let (zero, one) = (&mut zero[..rows.len()], &mut one[..rows.len()]);
            zero.copy_from_slice(rows);
            for (one, row) in one.iter_mut().zip(rows) {
                *one = row ^ *self.delta;
            }
            let first = self.rows.first + start as u64;
            self.rows.hash.first_blocks(first, zero);
            self.rows.hash.first_blocks(first, one);
            use_pads(start, zero, one);
        }
        wipe(&mut zero);
        wipe(&mut one);
    }
}

impl RotReceiver {
    pub(crate) fn new(hash: Arc<PadHash>, first: u64, choices: Secret<u8>, rows: Secret<u128>) -> Self {
        debug_assert_eq!(choices.len(), rows.len());
        Self { rows: Rows::new(hash, first, rows), choices }
    }

    /// Random OTs left.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Splits off the first `n`.
    pub fn take(&mut self, n: usize) -> Result<Self, OtError> {
        let start = self.rows.cursor;
        let rows = self.rows.take(n)?;
        let choices = Secret::new(self.choices[start..start + n].to_vec());
        wipe(&mut self.choices[start..start + n]);
        Ok(Self { rows, choices })
    }

    /// These and the `next` ones that the same extension made.
    pub fn join(self, next: Self) -> Result<Self, OtError> {
        let mut choices = Secret::with_capacity(self.len() + next.len());
        choices.extend_from_slice(self.choice_bytes());
        choices.extend_from_slice(next.choice_bytes());
        Ok(Self { rows: self.rows.join(next.rows)?, choices })
    }

    /// Index in the connection of the first OT left.
    #[cfg(test)]
    pub(crate) fn first(&self) -> u64 {
        self.rows.first
    }

    /// As [`RotSender::context`], the same for both parties.
    pub(crate) fn context(&self) -> [u8; 25] {
        self.rows.context()
    }

    /// The choice bits of the random OTs left.
    pub fn choices(&self) -> Vec<bool> {
        self.choice_bytes().iter().map(|&c| c == 1).collect()
    }

    /// The receiver's derandomisation message: packed `choices ^ random choices`, one bit an OT.
    ///
    /// # Panics
    /// If there are not exactly as many choices as random OTs left.
    pub fn flips(&self, choices: &[bool]) -> Vec<u8> {
        assert_eq!(choices.len(), self.len(), "one choice for each random OT");
        let flips: Vec<bool> = choices
            .iter()
            .zip(self.choice_bytes())
            .map(|(&choice, &random)| choice ^ (random == 1))
            .collect();
        wire::pack_bits(&flips)
    }

    /// Choice bit and chosen pad of each random OT, 128 bits each.
    pub fn into_pads(self) -> Secret<u128> {
        let mut pads = Secret::with_capacity(self.len());
        pads.extend_from_slice(self.rows.left());
        self.rows.hash.first_blocks(self.rows.first, &mut pads);
        pads
    }

    /// Calls `use_pad(k, choice, pad)` with choice bit and 128 bits of the pad of the `k`-th OT, in
    /// order: as [`Self::into_pads`], without storing them.
    pub fn for_each_pad(self, use_pad: impl FnMut(usize, u8, u128)) {
        self.for_each(use_pad);
    }

    /// The choice bits left, one a byte.
    pub(crate) fn choice_bytes(&self) -> &[u8] {
        &self.choices[self.rows.cursor..]
    }

    /// Calls `use_pad(k, choice, pad)` for the first pad block of the `k`-th OT, in order.
    pub(crate) fn for_each(&self, mut use_pad: impl FnMut(usize, u8, u128)) {
        let mut pads = Secret::zeros(BATCH);
        let choices = self.choice_bytes();
        for (c, rows) in self.rows.left().chunks(BATCH).enumerate() {
            let start = c * BATCH;
            let pads = &mut pads[..rows.len()];
            pads.copy_from_slice(rows);
            let first = self.rows.first + start as u64;
            self.rows.hash.first_blocks(first, pads);
            for (k, &pad) in pads.iter().enumerate() {
                use_pad(start + k, choices[start + k], pad);
            }
        }
    }
}

/// Rows of consecutive OTs, consumed from the front.
#[derive(Debug)]
struct Rows {
    hash: Arc<PadHash>,
    /// Index in the connection of the first row left.
    first: u64,
    rows: Secret<u128>,
    cursor: usize,
}

impl Rows {
    fn new(hash: Arc<PadHash>, first: u64, rows: Secret<u128>) -> Self {
        Self { hash, first, rows, cursor: 0 }
    }

    fn len(&self) -> usize {
        self.rows.len() - self.cursor
    }

    fn context(&self) -> [u8; 25] {
        let mut context = [0; 25];
        context[..17].copy_from_slice(&self.hash.to_bytes());
        context[17..].copy_from_slice(&self.first.to_le_bytes());
        context
    }

    fn left(&self) -> &[u128] {
        &self.rows[self.cursor..]
    }

    fn take(&mut self, n: usize) -> Result<Self, OtError> {
        if n > self.len() {
            return Err(OtError::Exhausted { asked: n, left: self.len() });
        }
        let taken = &mut self.rows[self.cursor..self.cursor + n];
        let rows = Secret::new(taken.to_vec());
        wipe(taken);
        let first = self.first;
        self.cursor += n;
        self.first += n as u64;
        Ok(Self::new(Arc::clone(&self.hash), first, rows))
    }

    fn join(self, next: Self) -> Result<Self, OtError> {
        let expected = Self {
            first: self.first + self.len() as u64,
            ..Self::new(Arc::clone(&self.hash), 0, Secret::default())
        };
        if expected.context() != next.context() {
            return Err(OtError::Incompatible { what: "random OTs that are not the next ones" });
        }
        let mut rows = Secret::with_capacity(self.len() + next.len());
        rows.extend_from_slice(self.left());
        rows.extend_from_slice(next.left());
        Ok(Self::new(self.hash, self.first, rows))
    }
}

/// The low 64 bits of a pad.
#[inline]
pub(crate) fn low(pad: u128) -> u64 {
    pad as u64
}

/// Unpacks the receiver's flips for `n` OTs, or none.
pub(crate) fn read_flips(flips: &[u8], n: usize) -> Result<Vec<u8>, OtError> {
    Ok(wire::unpack_bits(flips, n)?.into_iter().map(u8::from).collect())
}

/// Checks that a local argument has one entry for each OT.
pub(crate) fn check_count(what: &'static str, rots: usize, got: usize) -> Result<(), OtError> {
    check_argument(what, rots, got)
}

/// Selects `if_one` when `bit` is 1 and `if_zero` when it is 0, without a branch.
#[inline]
pub(crate) fn select(bit: u8, if_zero: u128, if_one: u128) -> u128 {
    if_zero ^ (if_zero ^ if_one) & spread(bit)
}

/// Both in order when `bit` is 0 and swapped when it is 1, without a branch.
#[inline]
pub(crate) fn swap(bit: u8, zero: u64, one: u64) -> (u64, u64) {
    let difference = (zero ^ one) & u64::from(bit).wrapping_neg();
    (zero ^ difference, one ^ difference)
}

/// All ones when `bit` is 1, zero when it is 0.
#[inline]
pub(crate) fn spread(bit: u8) -> u128 {
    u128::from(bit).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dealer::Dealer;

    #[test]
    fn joining_undoes_taking() {
        let (mut sender, mut receiver) = Dealer::new(1).rots(30);
        let (whole_s, whole_r) = Dealer::new(1).rots(30);
        let (first_s, first_r) = (sender.take(13).unwrap(), receiver.take(13).unwrap());
        let (middle_s, middle_r) = (sender.take(1).unwrap(), receiver.take(1).unwrap());
        assert!(sender.join(middle_s).is_err() && receiver.join(middle_r).is_err(), "out of order");
        let (mut sender, mut receiver) = Dealer::new(1).rots(30);
        drop((sender.take(13).unwrap(), receiver.take(13).unwrap()));
        let (sender, receiver) = (first_s.join(sender).unwrap(), first_r.join(receiver).unwrap());
        assert_eq!(receiver.choices(), whole_r.choices());
        assert_eq!(**sender.into_pads(), **whole_s.into_pads());
        assert_eq!(**receiver.into_pads(), **whole_r.into_pads());
    }

    #[test]
    fn taking_splits_and_exhausts() {
        let mut dealer = Dealer::new(1);
        let (mut sender, mut receiver) = dealer.rots(300);
        let (whole_s, whole_r) = Dealer::new(1).rots(300);
        let whole_choices = receiver.choices();
        let (whole_s, whole_r) = (whole_s.into_pads(), whole_r.into_pads());
        let mut at = 0;
        for n in [0, 1, 7, 128, 130] {
            let (s, r) = (sender.take(n).unwrap(), receiver.take(n).unwrap());
            assert_eq!((s.len(), r.len()), (n, n));
            assert_eq!(r.choices(), whole_choices[at..at + n]);
            // A split pad is the pad of the whole: indices travel along.
            assert_eq!(s.into_pads()[..], whole_s[at..at + n]);
            assert_eq!(r.into_pads()[..], whole_r[at..at + n]);
            at += n;
        }
        assert_eq!(sender.len(), 300 - at);
        let error = sender.take(300 - at + 1).unwrap_err();
        assert!(matches!(error, OtError::Exhausted { asked: 35, left: 34 }));
        assert!(receiver.take(35).is_err());
        assert!(sender.take(34).is_ok() && receiver.take(34).is_ok());
        assert!(sender.is_empty() && receiver.is_empty());
    }
}
