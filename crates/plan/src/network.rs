//! Links, and what a plan is good for.

use serde::{Deserialize, Serialize};

use crate::traffic::Traffic;

/// A link between the parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// 377 MB/s, 0.3 ms.
    Lan,
    /// 200 Mbit/s, 13 ms.
    Wan,
    /// 9 MB/s, 40 ms.
    Mobile,
}

/// What a choice is made by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Fewest bytes, offline and online.
    #[default]
    Total,
    /// Fewest bytes online, then fewest at all.
    Online,
    /// Least time, offline and online, on a link.
    Latency(Network),
}

/// AES blocks that one core makes in a second with AVX-512 and VAES (`cargo bench -p copriv-ot --bench
/// vole`).
const BLOCKS_PER_SECOND: f64 = 1.2e9;

impl Network {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Lan, Self::Wan, Self::Mobile];

    /// The name that the command line knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Wan => "wan",
            Self::Mobile => "mobile",
        }
    }

    /// Bytes a second, both directions together.
    pub fn bytes_per_second(self) -> f64 {
        match self {
            Self::Lan => 377e6,
            Self::Wan => 25e6,
            Self::Mobile => 9e6,
        }
    }

    /// Seconds there and back.
    pub fn round_trip(self) -> f64 {
        match self {
            Self::Lan => 0.3e-3,
            Self::Wan => 13e-3,
            Self::Mobile => 40e-3,
        }
    }

    /// Seconds that messages take; each of the rounds is a way in one direction.
    pub fn seconds(self, traffic: Traffic) -> f64 {
        traffic.bytes() as f64 / self.bytes_per_second() + traffic.rounds as f64 * self.round_trip() / 2.0
    }

    /// Seconds of a transfer that overlaps with making so many AES blocks on one core.
    pub fn overlapped(self, bytes: f64, blocks: f64) -> f64 {
        (bytes / self.bytes_per_second()).max(blocks / BLOCKS_PER_SECOND)
    }
}

impl Objective {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::Total,
        Self::Online,
        Self::Latency(Network::Lan),
        Self::Latency(Network::Wan),
        Self::Latency(Network::Mobile),
    ];

    /// What is to be small: bytes or seconds.
    pub fn value(self, offline: Traffic, online: Traffic) -> f64 {
        match self {
            Self::Total => (offline + online).bytes() as f64,
            // Of equals the smaller total.
            Self::Online => online.bytes() as f64 + offline.bytes() as f64 * 1e-9,
            Self::Latency(network) => network.seconds(offline) + network.seconds(online),
        }
    }
}
