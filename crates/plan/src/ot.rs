//! Sizes of oblivious transfers on the wire. `copriv-infer2pc` tests them against what
//! `copriv-ot` sends.

use serde::{Deserialize, Serialize};

use crate::traffic::Flow;

/// Which OT extension makes the random OTs. SoftSpokenOT (Roy, eprint 2022/192) with `k` bits a
/// group sends `128 / k` bits an OT for `2^k / k` times the local work; `k = 1` is IKNP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavour {
    /// 128 bits an OT.
    Iknp,
    /// 64 bits an OT.
    SoftSpoken2,
    /// 32 bits an OT.
    SoftSpoken4,
    /// 16 bits an OT: the fewest bytes, and the default.
    #[default]
    SoftSpoken8,
}

impl Flavour {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Iknp, Self::SoftSpoken2, Self::SoftSpoken4, Self::SoftSpoken8];

    /// Bits a group, `k`.
    pub fn group_bits(self) -> u64 {
        match self {
            Self::Iknp => 1,
            Self::SoftSpoken2 => 2,
            Self::SoftSpoken4 => 4,
            Self::SoftSpoken8 => 8,
        }
    }

    /// Bytes from receiver to sender for `n` OTs whose choices the receiver fixes: a column of
    /// `n` bits for each group.
    pub fn chosen(self, n: u64) -> u64 {
        128 / self.group_bits() * n.div_ceil(8)
    }

    /// As [`Self::chosen`], for random choices: those that the first group gives.
    pub fn random(self, n: u64) -> u64 {
        (128 / self.group_bits() - 1) * n.div_ceil(8)
    }
}

/// Random OTs that a step consumes, by who sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ots {
    /// OTs with the server as sender.
    pub server_sends: u64,
    /// OTs with the client as sender.
    pub client_sends: u64,
}

impl Ots {
    /// `n` with the server as sender.
    pub fn from_server(n: u64) -> Self {
        Self { server_sends: n, client_sends: 0 }
    }

    /// `n` in each direction.
    pub fn both(n: u64) -> Self {
        Self { server_sends: n, client_sends: n }
    }

    /// The OT extension that makes them: receivers speak, both directions at once.
    pub fn extension(&self, flavour: Flavour) -> Flow {
        Flow::Both { up: flavour.random(self.server_sends), down: flavour.random(self.client_sends) }
    }
}

impl std::ops::Add for Ots {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            server_sends: self.server_sends + other.server_sends,
            client_sends: self.client_sends + other.client_sends,
        }
    }
}

/// Bytes of `n` values of `bits` each, packed to the bit.
pub fn packed(n: u64, bits: u64) -> u64 {
    (n * bits).div_ceil(8)
}
