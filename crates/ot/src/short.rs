//! Random OTs cut down, ahead of use, to the few bits of their pads that will be read: sixteen bytes an OT
//! become a few bits.
//!
//! A pad may be read once and only as far as it is kept, so what is done with short ones is what would have
//! been done with the random OTs themselves, bit for bit.

use crate::error::check_range;
use crate::wire::{BitReader, BitWriter, pack_bits, packed_len};
use crate::{OtError, RotReceiver, RotSender, Secret};

/// Records of the same number of bits, packed.
#[derive(Debug, Default)]
pub struct Records {
    n: usize,
    bits: u32,
    bytes: Secret<u8>,
}

impl Records {
    /// None, with room for `n` records of `bits` bits each.
    pub fn with_capacity(n: usize, bits: u32) -> Self {
        Self { n: 0, bits, bytes: Secret::with_capacity(packed_len(n, bits)) }
    }

    /// Packs `n` records; `fill` writes them.
    pub(crate) fn pack(n: usize, bits: u32, fill: impl FnOnce(&mut BitWriter)) -> Self {
        let mut writer = BitWriter::with_capacity(packed_len(n, bits));
        fill(&mut writer);
        Self { n, bits, bytes: Secret::new(writer.finish()) }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.n
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// The bytes, for [`Self::from_bytes`].
    pub fn into_bytes(self) -> Secret<u8> {
        self.bytes
    }

    /// `n` records of `bits` bits each.
    ///
    /// # Errors
    /// The wrong number of bytes.
    pub fn from_bytes(n: usize, bits: u32, bytes: Secret<u8>) -> Result<Self, OtError> {
        crate::error::check_message("records", packed_len(n, bits), bytes.len())?;
        Ok(Self { n, bits, bytes })
    }

    /// Adds records behind a multiple of eight others.
    ///
    /// # Errors
    /// Records of other sizes, or behind another number.
    pub fn append(&mut self, more: &Self) -> Result<(), OtError> {
        crate::error::check_argument("bits of a record", self.bits as usize, more.bits as usize)?;
        crate::error::check_argument("records in the last byte", 0, self.n % 8)?;
        self.bytes.extend_from_slice(&more.bytes);
        self.n += more.n;
        Ok(())
    }

    pub(crate) fn reader(&self) -> BitReader<'_> {
        BitReader::new(&self.bytes)
    }
}

/// The sender's half of random OTs, as far as correlations of a given width read it.
pub trait SendPads {
    /// Random OTs.
    fn count(&self) -> usize;

    /// Calls `use_pads(k, pad_0, pad_1)` with at least the low `bits` (at most 64) bits of both pads of the
    /// `k`-th OT, in order.
    ///
    /// # Errors
    /// Fewer bits were kept.
    fn each(self, bits: u32, use_pads: impl FnMut(usize, u64, u64)) -> Result<(), OtError>;
}

/// The receiver's half.
pub trait ReceivePads {
    /// Random OTs.
    fn count(&self) -> usize;

    /// The choice bits.
    fn random_choices(&self) -> Vec<bool>;

    /// Calls `use_pad(k, choice, pad)`, as [`SendPads::each`].
    ///
    /// # Errors
    /// Fewer bits were kept.
    fn each(self, bits: u32, use_pad: impl FnMut(usize, u8, u64)) -> Result<(), OtError>;

    /// The derandomisation message: packed `choices ^ random choices`, one bit an OT.
    ///
    /// # Errors
    /// Another number of choices.
    fn flips_for(&self, choices: &[bool]) -> Result<Vec<u8>, OtError> {
        crate::rot::check_count("choices", self.count(), choices.len())?;
        let flips: Vec<bool> = self.random_choices().iter().zip(choices).map(|(r, c)| r ^ c).collect();
        Ok(pack_bits(&flips))
    }
}

impl SendPads for RotSender {
    fn count(&self) -> usize {
        self.len()
    }

    fn each(self, _: u32, mut use_pads: impl FnMut(usize, u64, u64)) -> Result<(), OtError> {
        self.for_each(|k, zero, one| use_pads(k, zero as u64, one as u64));
        Ok(())
    }
}

impl ReceivePads for RotReceiver {
    fn count(&self) -> usize {
        self.len()
    }

    fn random_choices(&self) -> Vec<bool> {
        self.choices()
    }

    fn each(self, _: u32, mut use_pad: impl FnMut(usize, u8, u64)) -> Result<(), OtError> {
        self.for_each(|k, choice, pad| use_pad(k, choice, pad as u64));
        Ok(())
    }
}

/// Both pads of random OTs, cut to a few bits: `2 bits` an OT.
#[derive(Debug)]
pub struct ShortSender {
    bits: u32,
    pads: Records,
}

/// Choice and pad of random OTs, cut to a few bits: `1 + bits` an OT.
#[derive(Debug)]
pub struct ShortReceiver {
    bits: u32,
    pads: Records,
}

impl ShortSender {
    /// The random OTs with `bits` (1..=64) bits of their pads.
    ///
    /// # Errors
    /// Another width.
    pub fn cut(rots: RotSender, bits: u32) -> Result<Records, OtError> {
        check_range("bits of a pad", u64::from(bits), 1, 64)?;
        Ok(Records::pack(rots.len(), 2 * bits, |writer| {
            rots.for_each(|_, zero, one| {
                writer.write(zero as u64, bits);
                writer.write(one as u64, bits);
            });
        }))
    }

    /// From [`Self::cut`].
    pub fn new(bits: u32, pads: Records) -> Self {
        Self { bits, pads }
    }
}

impl ShortReceiver {
    /// The random OTs with `bits` (1..=64) bits of their pads.
    ///
    /// # Errors
    /// Another width.
    pub fn cut(rots: RotReceiver, bits: u32) -> Result<Records, OtError> {
        check_range("bits of a pad", u64::from(bits), 1, 64)?;
        Ok(Records::pack(rots.len(), 1 + bits, |writer| {
            rots.for_each(|_, choice, pad| {
                writer.write(u64::from(choice), 1);
                writer.write(pad as u64, bits);
            });
        }))
    }

    /// From [`Self::cut`].
    pub fn new(bits: u32, pads: Records) -> Self {
        Self { bits, pads }
    }
}

impl SendPads for ShortSender {
    fn count(&self) -> usize {
        self.pads.len()
    }

    fn each(self, bits: u32, mut use_pads: impl FnMut(usize, u64, u64)) -> Result<(), OtError> {
        check_range("bits read of a short pad", u64::from(bits), 0, u64::from(self.bits))?;
        let mut reader = self.pads.reader();
        for k in 0..self.pads.len() {
            let (zero, one) = (reader.read(self.bits)?, reader.read(self.bits)?);
            use_pads(k, zero, one);
        }
        Ok(())
    }
}

impl ReceivePads for ShortReceiver {
    fn count(&self) -> usize {
        self.pads.len()
    }

    fn random_choices(&self) -> Vec<bool> {
        let bytes = &self.pads.bytes;
        let at = (0..self.pads.len()).map(|k| k * (1 + self.bits as usize));
        at.map(|at| bytes[at / 8] >> (at % 8) & 1 == 1).collect()
    }

    fn each(self, bits: u32, mut use_pad: impl FnMut(usize, u8, u64)) -> Result<(), OtError> {
        check_range("bits read of a short pad", u64::from(bits), 0, u64::from(self.bits))?;
        let mut reader = self.pads.reader();
        for k in 0..self.pads.len() {
            let (choice, pad) = (reader.read(1)?, reader.read(self.bits)?);
            use_pad(k, choice as u8, pad);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dealer::Dealer;
    use crate::{cot, transfer, triples};

    /// Cut in pieces, as the offline part does.
    fn cut(s: RotSender, r: RotReceiver, bits: u32) -> (ShortSender, ShortReceiver) {
        let (mut s, mut r) = (s, r);
        let (mut sent, mut got) =
            (Records::with_capacity(s.len(), 2 * bits), Records::with_capacity(s.len(), 1 + bits));
        while !s.is_empty() {
            let n = 24.min(s.len());
            sent.append(&ShortSender::cut(s.take(n).unwrap(), bits).unwrap()).unwrap();
            got.append(&ShortReceiver::cut(r.take(n).unwrap(), bits).unwrap()).unwrap();
        }
        (ShortSender::new(bits, sent), ShortReceiver::new(bits, got))
    }

    #[test]
    fn short_pads_do_what_the_random_ots_would_have_done() {
        for bits in [1, 2, 7, 8, 31, 41, 63, 64] {
            for n in [0, 1, 24, 100] {
                let whole = || Dealer::new(u64::from(bits)).rots(n);
                let short = || {
                    let (s, r) = whole();
                    cut(s, r, bits)
                };
                let mut dealer = Dealer::new(9);
                let (choices, deltas) = (dealer.bits(n), dealer.values(n, 64));
                let flips = whole().1.flips_for(&choices).unwrap();
                assert_eq!(short().1.flips_for(&choices).unwrap(), flips);
                let (message, sent) = cot::sender(short().0, &flips, bits, &deltas).unwrap();
                assert_eq!((message.clone(), sent), cot::sender(whole().0, &flips, bits, &deltas).unwrap());
                assert_eq!(
                    cot::receiver(short().1, &choices, bits, &message).unwrap(),
                    cot::receiver(whole().1, &choices, bits, &message).unwrap()
                );
                let strings: Vec<[u64; 2]> = deltas.iter().map(|d| [*d, !d]).collect();
                assert_eq!(
                    transfer::sender(short().0, &flips, bits, &strings).unwrap(),
                    transfer::sender(whole().0, &flips, bits, &strings).unwrap()
                );
                if bits <= 8 {
                    let (a, b) = (
                        triples::generate(short().0, short().1, bits).unwrap(),
                        triples::generate(whole().0, whole().1, bits).unwrap(),
                    );
                    assert_eq!((&a.a, &a.b, &a.c), (&b.a, &b.b, &b.c));
                }
            }
        }
    }

    #[test]
    fn what_was_not_kept_is_not_read() {
        let short = || {
            let (s, r) = Dealer::new(3).rots(8);
            cut(s, r, 5)
        };
        assert!(cot::sender(short().0, &[0], 6, &[1; 8]).is_err());
        assert!(cot::receiver(short().1, &[true; 8], 6, &[0; 6]).is_err());
        assert!(transfer::sender(short().0, &[0], 6, &[[1; 2]; 8]).is_err());
        assert!(triples::generate(short().0, short().1, 6).is_err());
        assert!(ShortSender::cut(Dealer::new(3).rots(1).0, 65).is_err());
        let (s, _) = Dealer::new(3).rots(3);
        let mut records = ShortSender::cut(s, 5).unwrap();
        assert!(records.append(&Records::with_capacity(1, 10)).is_err(), "not at the end of a byte");
        let mut records = Records::with_capacity(0, 4);
        assert!(records.append(&Records::with_capacity(0, 5)).is_err(), "another width");
        assert!(Records::from_bytes(3, 5, Secret::zeros(3)).is_err());
    }
}
