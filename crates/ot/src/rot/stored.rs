//! Random OTs as bytes, for the [`store`](crate::store). The bytes are as secret as the OTs, and
//! each copy of them could be used: give them to a store that hands them out once.

use std::sync::Arc;

use super::{RotReceiver, RotSender, Rows};
use crate::error::check_message;
use crate::hash::PadHash;
use crate::wire::{pack_bits, packed_len, unpack_bits};
use crate::{OtError, Secret};

const SENDER: &[u8; 8] = b"cpvrotS1";
const RECEIVER: &[u8; 8] = b"cpvrotR1";
/// Kind, hash key and direction, first index, number of OTs.
const HEADER: usize = 8 + 17 + 8 + 8;

impl RotSender {
    /// The random OTs left, as bytes for [`Self::from_bytes`].
    pub fn into_bytes(self) -> Secret<u8> {
        let mut bytes = self.rows.to_bytes(SENDER, 16);
        bytes.extend_from_slice(&self.delta.to_le_bytes());
        bytes
    }

    /// The random OTs of [`Self::into_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OtError> {
        let (rows, rest) = Rows::from_bytes(SENDER, bytes)?;
        check_message("stored random OTs", 16, rest.len())?;
        let delta = u128::from_le_bytes(rest.try_into().expect("sixteen bytes"));
        Ok(Self { rows, delta: zeroize::Zeroizing::new(delta) })
    }
}

impl RotReceiver {
    /// The random OTs left, as bytes for [`Self::from_bytes`].
    pub fn into_bytes(self) -> Secret<u8> {
        let choices = Secret::new(pack_bits(&self.choices()));
        let mut bytes = self.rows.to_bytes(RECEIVER, choices.len());
        bytes.extend_from_slice(&choices);
        bytes
    }

    /// The random OTs of [`Self::into_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OtError> {
        let (rows, rest) = Rows::from_bytes(RECEIVER, bytes)?;
        let n = rows.len();
        check_message("stored random OTs", packed_len(n, 1), rest.len())?;
        let choices = unpack_bits(rest, n)?.into_iter().map(u8::from).collect();
        Ok(Self { rows, choices: Secret::new(choices) })
    }
}

impl Rows {
    /// Header and rows, with room for `more` bytes.
    fn to_bytes(&self, kind: &[u8; 8], more: usize) -> Secret<u8> {
        let rows: &[u8] = bytemuck::cast_slice(self.left());
        let mut bytes = Secret::with_capacity(HEADER + rows.len() + more);
        bytes.extend_from_slice(kind);
        bytes.extend_from_slice(&self.hash.to_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&(self.len() as u64).to_le_bytes());
        bytes.extend_from_slice(rows);
        bytes
    }

    /// Rows, and what follows them.
    fn from_bytes<'a>(kind: &[u8; 8], bytes: &'a [u8]) -> Result<(Self, &'a [u8]), OtError> {
        let wrong = OtError::Incompatible { what: "stored random OTs" };
        let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
            return Err(wrong);
        };
        let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let hash = header[8..25].try_into().expect("seventeen bytes");
        let (Some(hash), true) = (PadHash::from_bytes(hash), header[..8] == *kind) else {
            return Err(wrong);
        };
        let n = usize::try_from(word(33)).unwrap_or(usize::MAX);
        let Some((rows, rest)) = rest.split_at_checked(n.saturating_mul(16)) else {
            return Err(wrong);
        };
        let rows = rows
            .chunks_exact(16)
            .map(|row| u128::from_le_bytes(row.try_into().expect("sixteen bytes")))
            .collect();
        Ok((Self::new(Arc::new(hash), word(25), Secret::new(rows)), rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dealer::Dealer;

    #[test]
    fn bytes_keep_pads_choices_and_indices() {
        for n in [0, 1, 7, 8, 200] {
            let mut dealer = Dealer::new(1);
            dealer.rots(77);
            let (mut s, mut r) = dealer.rots(n + 3);
            drop((s.take(3).unwrap(), r.take(3).unwrap()));
            let (s_bytes, r_bytes) = (s.into_bytes(), r.into_bytes());
            assert_eq!(s_bytes.len(), HEADER + 16 * n + 16);
            assert_eq!(r_bytes.len(), HEADER + 16 * n + n.div_ceil(8));
            let s = RotSender::from_bytes(&s_bytes).unwrap();
            let r = RotReceiver::from_bytes(&r_bytes).unwrap();
            let mut dealer = Dealer::new(1);
            dealer.rots(77);
            let (mut s0, mut r0) = dealer.rots(n + 3);
            drop((s0.take(3).unwrap(), r0.take(3).unwrap()));
            assert_eq!(r.choices(), r0.choices());
            assert_eq!(**s.into_pads(), **s0.into_pads());
            assert_eq!(**r.into_pads(), **r0.into_pads());
        }
    }

    #[test]
    fn damaged_bytes_are_errors() {
        let (s, r) = Dealer::new(2).rots(9);
        let (s, r) = (s.into_bytes(), r.into_bytes());
        for bytes in [&s, &r] {
            for cut in 0..bytes.len() {
                assert!(RotSender::from_bytes(&bytes[..cut]).is_err());
                assert!(RotReceiver::from_bytes(&bytes[..cut]).is_err());
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(RotSender::from_bytes(&longer).is_err());
            assert!(RotReceiver::from_bytes(&longer).is_err());
        }
        assert!(RotReceiver::from_bytes(&s).is_err() && RotSender::from_bytes(&r).is_err());
        let mut huge = s.to_vec();
        huge[33..41].fill(0xff);
        assert!(RotSender::from_bytes(&huge).is_err());
        let mut direction = s.to_vec();
        direction[24] = 2;
        assert!(RotSender::from_bytes(&direction).is_err());
    }
}
