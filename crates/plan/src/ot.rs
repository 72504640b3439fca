//! Sizes of oblivious transfers on the wire. `copriv-infer2pc` tests them against what
//! `copriv-ot` sends.

use serde::{Deserialize, Serialize};

use crate::traffic::Flow;

/// Which OT extension makes the random OTs.
///
/// SoftSpokenOT (Roy, eprint 2022/192) with `k` bits a group sends `128 / k` bits an OT for
/// `2^k / k` times the local work; `k = 1` is IKNP. Ferret (eprint 2020/924) makes correlated OTs
/// in bulk from LPN, at well below one bit an OT after a start-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavour {
    /// 128 bits an OT.
    Iknp,
    /// 64 bits an OT.
    SoftSpoken2,
    /// 32 bits an OT.
    SoftSpoken4,
    /// 16 bits an OT.
    #[default]
    SoftSpoken8,
    /// 0.36 bits an OT after 0.2 MB in each direction.
    Ferret,
}

/// Who fixes the choices of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choices {
    /// Nobody: they are random.
    Random,
    /// The receiver.
    Chosen,
}

/// A piece of an offline part: what it sends may depend on what came before in the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offline {
    /// An extension.
    Extend(Ots, Choices),
    /// A message of its own.
    Message(Flow),
}

impl Flavour {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Iknp, Self::SoftSpoken2, Self::SoftSpoken4, Self::SoftSpoken8, Self::Ferret];

    /// Thousandths of a bit on the wire that one more random OT costs in the long run.
    pub fn millibits(self) -> u64 {
        match self.groups() {
            Some(groups) => 1000 * (groups.columns() - 1),
            None => 8000 * MAIN.message_bytes() / (MAIN.output() - MAIN.input()),
        }
    }

    fn groups(self) -> Option<Groups> {
        match self {
            Self::Iknp => Some(Groups(1)),
            Self::SoftSpoken2 => Some(Groups(2)),
            Self::SoftSpoken4 => Some(Groups(4)),
            Self::SoftSpoken8 => Some(Groups(8)),
            Self::Ferret => None,
        }
    }
}

/// What the extensions of one session send, call by call: Ferret sends nothing while its last
/// iteration lasts.
#[derive(Clone, Debug)]
pub struct OtMeter {
    flavour: Flavour,
    /// OTs with the server as sender, with the client.
    schedules: [Schedule; 2],
}

impl OtMeter {
    /// A session after its set-up.
    pub fn new(flavour: Flavour) -> Self {
        Self { flavour, schedules: [Schedule::default(), Schedule::default()] }
    }

    /// The messages of the next pieces.
    pub fn offline(&mut self, parts: &[Offline]) -> Vec<Flow> {
        let flows = |part: &Offline| match *part {
            Offline::Extend(ots, choices) => self.extend(ots, choices),
            Offline::Message(flow) => vec![flow],
        };
        parts.iter().flat_map(flows).collect()
    }

    /// The messages of the next extension.
    pub fn extend(&mut self, ots: Ots, choices: Choices) -> Vec<Flow> {
        let [s, c] = [ots.server_sends, ots.client_sends];
        if s + c == 0 {
            return Vec::new();
        }
        if let Some(groups) = self.flavour.groups() {
            return vec![Flow::Both {
                up: groups.message_bytes(s, choices),
                down: groups.message_bytes(c, choices),
            }];
        }
        let [server, client] = &mut self.schedules;
        let boot = (server.boot(s), client.boot(c));
        let trees = (server.take(s), client.take(c));
        let flips = match choices {
            Choices::Random => (0, 0),
            Choices::Chosen => (packed(s, 1), packed(c, 1)),
        };
        // Trees travel with the OTs, bootstrap and flips against them.
        vec![
            Flow::Both { up: boot.0, down: boot.1 },
            Flow::Both { up: trees.1, down: trees.0 },
            Flow::Both { up: flips.0, down: flips.1 },
        ]
    }
}

/// SoftSpoken's groups of `k` bits.
#[derive(Clone, Copy, Debug)]
struct Groups(u64);

impl Groups {
    fn columns(self) -> u64 {
        128u64.div_ceil(self.0)
    }

    /// Seed trees: two blocks a level, the topmost free.
    fn setup_bytes(self) -> u64 {
        let last = 128 - (self.columns() - 1) * self.0;
        32 * ((self.columns() - 1) * (self.0 - 1) + last - 1)
    }

    /// A column of `n` bits a group; random choices are what the first one gives.
    fn message_bytes(self, n: u64, choices: Choices) -> u64 {
        n.div_ceil(8) * (self.columns() - u64::from(choices == Choices::Random))
    }
}

/// Ferret's LPN: `t` trees of `2^depth` leaves, a secret of `2^log_k` bits.
#[derive(Clone, Copy, Debug)]
struct Lpn {
    t: u64,
    log_k: u32,
    depth: u64,
}

/// The first iteration, fed by a SoftSpoken extension with wide groups, and all later ones.
const FIRST: Lpn = Lpn { t: 850, log_k: 16, depth: 10 };
const MAIN: Lpn = Lpn { t: 1520, log_k: 18, depth: 12 };
const BOOT: Groups = Groups(12);

impl Lpn {
    const fn input(self) -> u64 {
        (1 << self.log_k) + self.t * self.depth
    }

    const fn output(self) -> u64 {
        self.t << self.depth
    }

    const fn message_bytes(self) -> u64 {
        self.t * (self.depth - 1) * 16
    }
}

/// Iterations of one direction.
#[derive(Clone, Debug, Default)]
struct Schedule {
    started: u64,
    left: u64,
}

impl Schedule {
    /// Bytes of the bootstrap, before the first OT.
    fn boot(&self, n: u64) -> u64 {
        if n == 0 || self.started > 0 {
            return 0;
        }
        BOOT.setup_bytes() + BOOT.message_bytes(FIRST.input(), Choices::Random)
    }

    /// Bytes of the iterations that `n` OTs need.
    fn take(&mut self, n: u64) -> u64 {
        let mut bytes = 0;
        while self.left < n {
            let lpn = if self.started == 0 { FIRST } else { MAIN };
            // Each iteration keeps the input of the next.
            self.left += lpn.output() - MAIN.input();
            self.started += 1;
            bytes += lpn.message_bytes();
        }
        self.left -= n;
        bytes
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

    /// `n` with the client as sender.
    pub fn from_client(n: u64) -> Self {
        Self { server_sends: 0, client_sends: n }
    }

    /// `n` in each direction.
    pub fn both(n: u64) -> Self {
        Self { server_sends: n, client_sends: n }
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
