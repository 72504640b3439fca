//! What random OTs are used for. Both parties know it from the plan, so that already the offline part cuts
//! their pads down to the bits that the online part will read.

use crate::linear::Side;
use crate::ot::Ots;

/// Random OTs of one direction that are used together and alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Who sends them.
    pub sender: Side,
    /// Instances.
    pub n: u64,
    /// What an instance is.
    pub kind: UseKind,
}

/// What is done with random OTs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseKind {
    /// One OT, of whose pads so many bits (1..=64) are read: a correlated OT, a transfer, half of a triple.
    Strings {
        /// Bits.
        bits: u32,
    },
    /// A 1-of-`2^m` OT of entries of `t` bits: `m` OTs.
    Table {
        /// Bits of a digit.
        m: u32,
        /// Bits of an entry.
        t: u32,
    },
    /// One OT whose pad is stretched when it is used: for whole vectors.
    Long,
}

impl Use {
    /// `n` with the server as sender.
    pub fn from_server(n: u64, kind: UseKind) -> Self {
        Self { sender: Side::Server, n, kind }
    }

    /// `n` in each direction, of which `bits` bits are read.
    pub fn both(n: u64, bits: u32) -> [Self; 2] {
        [Side::Server, Side::Client].map(|sender| Self { sender, n, kind: UseKind::Strings { bits } })
    }

    /// Random OTs.
    pub fn ots(&self) -> Ots {
        let n = self.n * u64::from(self.kind.ots());
        match self.sender {
            Side::Server => Ots::from_server(n),
            Side::Client => Ots::from_client(n),
        }
    }
}

impl UseKind {
    /// Random OTs of an instance.
    pub fn ots(self) -> u32 {
        if let Self::Table { m, .. } = self { m } else { 1 }
    }

    /// Bits of an instance that the party keeps from the offline part to the online part.
    pub fn kept_bits(self, sends: bool) -> u32 {
        match (self, sends) {
            (Self::Strings { bits }, true) => 2 * bits,
            (Self::Strings { bits }, false) => 1 + bits,
            (Self::Table { m, t }, true) => t << m,
            (Self::Table { m, t }, false) => m + t,
            (Self::Long, true) => 128,
            (Self::Long, false) => 129,
        }
    }
}
