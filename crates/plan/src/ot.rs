//! Sizes of oblivious transfers on the wire. `copriv-infer2pc` tests them against what
//! `copriv-ot` sends.

use serde::{Deserialize, Serialize};

use crate::traffic::Flow;

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
    pub fn extension(&self) -> Flow {
        Flow::Both { up: extension_bytes(self.server_sends), down: extension_bytes(self.client_sends) }
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

/// IKNP: 128 bits an OT, receiver to sender, the number padded to a multiple of 8.
pub fn extension_bytes(n: u64) -> u64 {
    128 * n.div_ceil(8)
}

/// Bytes of `n` values of `bits` each, packed to the bit.
pub fn packed(n: u64, bits: u64) -> u64 {
    (n * bits).div_ceil(8)
}
