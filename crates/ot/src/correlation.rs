//! One interface for what is made offline from random OTs and derandomised online.
//!
//! A [`Correlation`] has a sender with offers and a receiver with choices; at the end each has
//! a share, and [`Correlation::holds`] says which pairs of shares are right: the ideal
//! functionality. Two messages pass, the receiver's flips (one bit a random OT) and the sender's
//! answer; both lengths follow from the number of instances alone.
//!
//! Bit triples ([`crate::triples`]) stand apart: they have no roles and no messages.

use crate::wire::{mask, pack_bits, packed_len};
use crate::{Channel, OtError, RotReceiver, RotSender, cot, one_of_n, table, transfer};

/// Instances of one kind and width, all in one batch.
pub trait Correlation {
    /// The receiver's input.
    type Choice;
    /// The sender's input.
    type Offer;
    /// What the sender gets.
    type Sent;
    /// What the receiver gets.
    type Received;

    /// Random OTs that an instance uses up.
    fn rots(&self) -> usize;

    /// Bytes of the receiver's message for `n` instances.
    fn flips_bytes(&self, n: usize) -> u64;

    /// Bytes of the sender's message for `n` instances.
    fn message_bytes(&self, n: usize) -> u64;

    /// The receiver's message.
    ///
    /// # Errors
    /// Numbers of instances and random OTs, or widths, that do not fit; here and below.
    fn flips(&self, rots: &RotReceiver, choices: &[Self::Choice]) -> Result<Vec<u8>, OtError>;

    /// The sender's message, and what it gets.
    ///
    /// # Errors
    /// Flips of the wrong length, too.
    fn send(
        &self,
        rots: RotSender,
        flips: &[u8],
        offers: &[Self::Offer],
    ) -> Result<(Vec<u8>, Vec<Self::Sent>), OtError>;

    /// What the receiver gets.
    ///
    /// # Errors
    /// A message of the wrong length, too.
    fn receive(
        &self,
        rots: RotReceiver,
        choices: &[Self::Choice],
        message: &[u8],
    ) -> Result<Vec<Self::Received>, OtError>;

    /// Whether an instance came out right.
    fn holds(
        &self,
        offer: &Self::Offer,
        choice: &Self::Choice,
        sent: &Self::Sent,
        got: &Self::Received,
    ) -> bool;

    /// The sender's side over a channel.
    ///
    /// # Errors
    /// The channel's, too.
    fn send_over(
        &self,
        chan: &mut Channel,
        rots: RotSender,
        offers: &[Self::Offer],
    ) -> Result<Vec<Self::Sent>, OtError> {
        let flips = chan.recv(self.flips_bytes(offers.len()) as usize)?;
        let (message, shares) = self.send(rots, &flips, offers)?;
        chan.send(&message)?;
        Ok(shares)
    }

    /// The receiver's side over a channel.
    ///
    /// # Errors
    /// The channel's, too.
    fn receive_over(
        &self,
        chan: &mut Channel,
        rots: RotReceiver,
        choices: &[Self::Choice],
    ) -> Result<Vec<Self::Received>, OtError> {
        chan.send(&self.flips(&rots, choices)?)?;
        let message = chan.recv(self.message_bytes(choices.len()) as usize)?;
        self.receive(rots, choices, &message)
    }
}

/// Random OT: the sender gets two random strings, the receiver a random bit and that string.
/// Neither says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RandomOt;

/// Correlated OT over `Z_2^width`: shares of `choice * offer` ([`crate::cot`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorrelatedOt {
    /// Width of the ring, 1..=64.
    pub width: u32,
}

/// 1-of-2 OT of chosen strings ([`crate::transfer`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Bits of a string, 1..=64.
    pub width: u32,
}

/// 1-of-`2^digit_bits` OT: XOR shares of the chosen entry of a table ([`crate::one_of_n`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Bits of a choice, 1..=4: tables of 2, 4, 8 or 16 entries.
    pub digit_bits: u32,
    /// Bits of an entry, 1..=8.
    pub entry_bits: u32,
}

/// 1-of-`2^digit_bits` OT: additive shares of the chosen entry of a table ([`crate::table`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Bits of a choice, 1..=8.
    pub digit_bits: u32,
    /// Width of the entries' ring, 1..=64.
    pub width: u32,
}

impl Correlation for Table {
    type Choice = u8;
    /// All `2^digit_bits` entries.
    type Offer = Vec<u64>;
    type Sent = u64;
    type Received = u64;

    fn rots(&self) -> usize {
        self.digit_bits as usize
    }

    fn flips_bytes(&self, n: usize) -> u64 {
        packed_len(n, self.digit_bits) as u64
    }

    fn message_bytes(&self, n: usize) -> u64 {
        table::message_bytes(n, self.digit_bits, self.width)
    }

    fn flips(&self, rots: &RotReceiver, choices: &[u8]) -> Result<Vec<u8>, OtError> {
        table::flips(rots, self.digit_bits, choices)
    }

    fn send(
        &self,
        rots: RotSender,
        flips: &[u8],
        offers: &[Vec<u64>],
    ) -> Result<(Vec<u8>, Vec<u64>), OtError> {
        crate::rot::check_count("tables", rots.len(), offers.len() * self.rots())?;
        for offer in offers {
            crate::error::check_argument("entries of a table", 1 << self.digit_bits, offer.len())?;
        }
        table::sender(rots, (self.digit_bits, self.width), flips, |i, v| offers[i][v])
    }

    fn receive(&self, rots: RotReceiver, choices: &[u8], message: &[u8]) -> Result<Vec<u64>, OtError> {
        table::receiver(rots, (self.digit_bits, self.width), choices, message)
    }

    fn holds(&self, offer: &Vec<u64>, choice: &u8, sent: &u64, got: &u64) -> bool {
        sent.wrapping_add(*got).wrapping_sub(offer[usize::from(*choice)]) & mask(self.width) == 0
    }
}

impl Correlation for RandomOt {
    type Choice = ();
    type Offer = ();
    type Sent = [u128; 2];
    type Received = (bool, u128);

    fn rots(&self) -> usize {
        1
    }

    fn flips_bytes(&self, _: usize) -> u64 {
        0
    }

    fn message_bytes(&self, _: usize) -> u64 {
        0
    }

    fn flips(&self, rots: &RotReceiver, choices: &[()]) -> Result<Vec<u8>, OtError> {
        crate::rot::check_count("instances", rots.len(), choices.len())?;
        Ok(Vec::new())
    }

    fn send(
        &self,
        rots: RotSender,
        flips: &[u8],
        offers: &[()],
    ) -> Result<(Vec<u8>, Vec<[u128; 2]>), OtError> {
        crate::rot::check_count("instances", rots.len(), offers.len())?;
        crate::error::check_message("random OT", 0, flips.len())?;
        let mut pads = Vec::with_capacity(offers.len());
        rots.for_each(|_, zero, one| pads.push([zero, one]));
        Ok((Vec::new(), pads))
    }

    fn receive(
        &self,
        rots: RotReceiver,
        choices: &[()],
        message: &[u8],
    ) -> Result<Vec<(bool, u128)>, OtError> {
        crate::rot::check_count("instances", rots.len(), choices.len())?;
        crate::error::check_message("random OT", 0, message.len())?;
        let mut pads = Vec::with_capacity(choices.len());
        rots.for_each(|_, choice, pad| pads.push((choice == 1, pad)));
        Ok(pads)
    }

    fn holds(&self, (): &(), (): &(), sent: &[u128; 2], got: &(bool, u128)) -> bool {
        sent[usize::from(got.0)] == got.1 && sent[0] != sent[1]
    }
}

impl Correlation for CorrelatedOt {
    type Choice = bool;
    type Offer = u64;
    type Sent = u64;
    type Received = u64;

    fn rots(&self) -> usize {
        1
    }

    fn flips_bytes(&self, n: usize) -> u64 {
        packed_len(n, 1) as u64
    }

    fn message_bytes(&self, n: usize) -> u64 {
        cot::message_bytes(n, self.width)
    }

    fn flips(&self, rots: &RotReceiver, choices: &[bool]) -> Result<Vec<u8>, OtError> {
        crate::rot::check_count("choices", rots.len(), choices.len())?;
        Ok(rots.flips(choices))
    }

    fn send(&self, rots: RotSender, flips: &[u8], offers: &[u64]) -> Result<(Vec<u8>, Vec<u64>), OtError> {
        cot::sender(rots, flips, self.width, offers)
    }

    fn receive(&self, rots: RotReceiver, choices: &[bool], message: &[u8]) -> Result<Vec<u64>, OtError> {
        cot::receiver(rots, choices, self.width, message)
    }

    fn holds(&self, offer: &u64, choice: &bool, sent: &u64, got: &u64) -> bool {
        let expected = if *choice { *offer } else { 0 };
        sent.wrapping_add(*got).wrapping_sub(expected) & mask(self.width) == 0
    }
}

impl Correlation for Transfer {
    type Choice = bool;
    type Offer = [u64; 2];
    type Sent = ();
    type Received = u64;

    fn rots(&self) -> usize {
        1
    }

    fn flips_bytes(&self, n: usize) -> u64 {
        packed_len(n, 1) as u64
    }

    fn message_bytes(&self, n: usize) -> u64 {
        transfer::message_bytes(n, self.width)
    }

    fn flips(&self, rots: &RotReceiver, choices: &[bool]) -> Result<Vec<u8>, OtError> {
        crate::rot::check_count("choices", rots.len(), choices.len())?;
        Ok(rots.flips(choices))
    }

    fn send(
        &self,
        rots: RotSender,
        flips: &[u8],
        offers: &[[u64; 2]],
    ) -> Result<(Vec<u8>, Vec<()>), OtError> {
        let message = transfer::sender(rots, flips, self.width, offers)?;
        Ok((message, vec![(); offers.len()]))
    }

    fn receive(&self, rots: RotReceiver, choices: &[bool], message: &[u8]) -> Result<Vec<u64>, OtError> {
        transfer::receiver(rots, choices, self.width, message)
    }

    fn holds(&self, offer: &[u64; 2], choice: &bool, (): &(), got: &u64) -> bool {
        *got == offer[usize::from(*choice)] & mask(self.width)
    }
}

impl Correlation for Lookup {
    type Choice = u8;
    /// Entries beyond `2^digit_bits`, and bits beyond `entry_bits`, do not count.
    type Offer = [u8; 16];
    type Sent = u8;
    type Received = u8;

    fn rots(&self) -> usize {
        self.digit_bits as usize
    }

    fn flips_bytes(&self, n: usize) -> u64 {
        one_of_n::flips_bytes(n, self.digit_bits)
    }

    fn message_bytes(&self, n: usize) -> u64 {
        one_of_n::message_bytes(n, self.digit_bits, self.entry_bits)
    }

    fn flips(&self, rots: &RotReceiver, choices: &[u8]) -> Result<Vec<u8>, OtError> {
        crate::rot::check_count("digits", rots.len(), choices.len() * self.rots())?;
        let largest = choices.iter().copied().max().unwrap_or(0);
        crate::error::check_range("digit", u64::from(largest), 0, mask(self.digit_bits))?;
        let bit = |(k, &random): (usize, &u8)| choices[k / self.rots()] >> (k % self.rots()) & 1 != random;
        Ok(pack_bits(&rots.choice_bytes().iter().enumerate().map(bit).collect::<Vec<_>>()))
    }

    fn send(
        &self,
        rots: RotSender,
        flips: &[u8],
        offers: &[[u8; 16]],
    ) -> Result<(Vec<u8>, Vec<u8>), OtError> {
        crate::rot::check_count("tables", rots.len(), offers.len() * self.rots())?;
        let strings = one_of_n::Sender::cut(rots, self.digit_bits, self.entry_bits)?;
        let sender = one_of_n::Sender::new(self.digit_bits, self.entry_bits, strings);
        sender.send(flips, |i, v| offers[i][v])
    }

    fn receive(&self, rots: RotReceiver, choices: &[u8], message: &[u8]) -> Result<Vec<u8>, OtError> {
        let strings = one_of_n::Receiver::cut(rots, self.digit_bits, self.entry_bits)?;
        one_of_n::Receiver::new(self.digit_bits, self.entry_bits, strings).receive(choices, message)
    }

    fn holds(&self, offer: &[u8; 16], choice: &u8, sent: &u8, got: &u8) -> bool {
        (sent ^ got ^ offer[usize::from(*choice)]) & mask(self.entry_bits) as u8 == 0
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::dealer::Dealer;

    /// The laws of every correlation: the ideal functionality at all sizes, the announced
    /// lengths, and errors for anything else.
    fn laws<C: Correlation>(
        c: &C,
        dealer: &mut Dealer,
        mut draw: impl FnMut(&mut Dealer, usize) -> (Vec<C::Offer>, Vec<C::Choice>),
    ) {
        for n in (0..40).chain([127, 128, 129, 300]) {
            let (offers, choices) = draw(dealer, n);
            let (sender, receiver) = dealer.rots(n * c.rots());
            let flips = c.flips(&receiver, &choices).unwrap();
            let (message, sent) = c.send(sender, &flips, &offers).unwrap();
            assert_eq!(flips.len() as u64, c.flips_bytes(n));
            assert_eq!(message.len() as u64, c.message_bytes(n));
            let got = c.receive(receiver, &choices, &message).unwrap();
            assert_eq!((sent.len(), got.len()), (n, n));
            for i in 0..n {
                assert!(c.holds(&offers[i], &choices[i], &sent[i], &got[i]), "instance {i} of {n}");
            }
        }
        let (offers, choices) = draw(dealer, 9);
        let (sender, receiver) = dealer.rots(9 * c.rots());
        let flips = c.flips(&receiver, &choices).unwrap();
        assert!(c.send(sender, &[flips, vec![0]].concat(), &offers).is_err(), "a byte too many");
        assert!(c.receive(receiver, &choices, &vec![0; c.message_bytes(9) as usize + 1]).is_err());
        let (sender, receiver) = dealer.rots(8 * c.rots());
        assert!(c.flips(&receiver, &choices).is_err(), "fewer random OTs than choices");
        assert!(c.send(sender, &vec![0; c.flips_bytes(8) as usize], &offers).is_err());

        // Over a channel.
        let (offers, choices) = draw(dealer, 50);
        let (sender, receiver) = dealer.rots(50 * c.rots());
        let (mut a, mut b) = Channel::pair();
        b.send(&c.flips(&receiver, &choices).unwrap()).unwrap();
        b.flush().unwrap();
        let sent = c.send_over(&mut a, sender, &offers).unwrap();
        a.flush().unwrap();
        let message = b.recv(c.message_bytes(50) as usize).unwrap();
        let got = c.receive(receiver, &choices, &message).unwrap();
        assert!((0..50).all(|i| c.holds(&offers[i], &choices[i], &sent[i], &got[i])));
    }

    #[test]
    fn every_correlation_obeys_the_laws() {
        let mut dealer = Dealer::new(77);
        laws(&RandomOt, &mut dealer, |_, n| (vec![(); n], vec![(); n]));
        for width in 1..=64 {
            laws(&CorrelatedOt { width }, &mut dealer, |d, n| (d.values(n, 64), d.bits(n)));
        }
        for width in [1, 2, 7, 8, 31, 41, 64] {
            laws(&Transfer { width }, &mut dealer, |d, n| {
                ((0..n).map(|_| d.rng.random()).collect(), d.bits(n))
            });
        }
        for (digit_bits, width) in [(1, 64), (2, 1), (3, 13), (4, 8), (5, 32), (8, 1), (8, 16), (8, 63)] {
            laws(&Table { digit_bits, width }, &mut dealer, |d, n| {
                let tables = (0..n).map(|_| d.values(1 << digit_bits, 64)).collect();
                (tables, d.values(n, digit_bits).into_iter().map(|c| c as u8).collect())
            });
        }
        for digit_bits in 1..=4 {
            for entry_bits in [1, 2, 3, 8] {
                laws(&Lookup { digit_bits, entry_bits }, &mut dealer, |d, n| {
                    let tables = (0..n).map(|_| d.rng.random()).collect();
                    (tables, (0..n).map(|_| d.rng.random_range(0..1 << digit_bits)).collect())
                });
            }
        }
    }
}
