//! OT extension in both directions from one set-up, over a [`Channel`].
//!
//! Set-up is one exchange for IKNP: each party sends a hello, a nonce, its base-OT receiver
//! message for the direction in which it will be the OT sender, and its base-OT sender message
//! for the other. A hash of both messages, the *session*, goes into every key. SoftSpoken with
//! more than one bit a group exchanges its seed trees too.
//!
//! Each extension of IKNP and SoftSpoken is one exchange. Ferret makes correlated OTs in bulk: an
//! extension is one exchange when it starts new iterations, one more for the very first in a
//! direction, one more (a bit an OT) if the choices are given, and none at all if the choices are
//! random and enough is left. [`OtMeter`] knows.

use std::sync::Arc;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::base_ot::{BaseReceiver, BaseSender, RECEIVER_BYTES, SENDER_BYTES};
use crate::engine::{Engine, Kind};
use crate::error::check_message;
use crate::ferret::{self, params};
use crate::hash::{Direction, PadHash};
use crate::softspoken::{self, Choices, Groups, KAPPA};
use crate::{Channel, OtError, OtMeter, RotReceiver, RotSender, Secret, Traffic};

/// Protocol name and version, then one byte of role and one of flavour.
const HELLO: &[u8; 7] = b"cpv-ot1";
const NONCE: usize = 32;
const BASE_BYTES: usize = HELLO.len() + 2 + NONCE + SENDER_BYTES + KAPPA * RECEIVER_BYTES;

/// Which OT extension runs; both parties must name the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OtFlavour {
    /// IKNP: 128 bits an OT.
    #[default]
    Iknp,
    /// SoftSpokenOT with two bits a group: 64 bits an OT.
    SoftSpoken2,
    /// SoftSpokenOT with four bits a group: 32 bits an OT.
    SoftSpoken4,
    /// SoftSpokenOT with eight bits a group: 16 bits an OT, and much more work.
    SoftSpoken8,
    /// Ferret with its middle set: 0.4 bits an OT after a start-up of half a megabyte.
    Ferret,
    /// Ferret with a smaller set: 0.7 bits an OT, and the least memory traffic.
    FerretSmall,
    /// Ferret with a larger set: 0.2 bits an OT.
    FerretLarge,
}

impl OtFlavour {
    /// All flavours.
    pub const ALL: [Self; 7] = [
        Self::Iknp,
        Self::SoftSpoken2,
        Self::SoftSpoken4,
        Self::SoftSpoken8,
        Self::Ferret,
        Self::FerretSmall,
        Self::FerretLarge,
    ];

    /// The name used in tables and result files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iknp => "iknp",
            Self::SoftSpoken2 => "softspoken2",
            Self::SoftSpoken4 => "softspoken4",
            Self::SoftSpoken8 => "softspoken8",
            Self::Ferret => "ferret",
            Self::FerretSmall => "ferret-small",
            Self::FerretLarge => "ferret-large",
        }
    }

    /// What runs.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Iknp => Kind::SoftSpoken(Groups::of(1)),
            Self::SoftSpoken2 => Kind::SoftSpoken(Groups::of(2)),
            Self::SoftSpoken4 => Kind::SoftSpoken(Groups::of(4)),
            Self::SoftSpoken8 => Kind::SoftSpoken(Groups::of(8)),
            Self::Ferret => Kind::Ferret(params::B12),
            Self::FerretSmall => Kind::Ferret(params::B11),
            Self::FerretLarge => Kind::Ferret(params::B13),
        }
    }

    /// Traffic of [`OtExtension::setup_with`], the same for both parties.
    pub fn setup_traffic(self) -> Traffic {
        let trees = self.kind().tree_bytes();
        let bytes = (BASE_BYTES + trees) as u64;
        Traffic {
            sent: bytes,
            received: bytes,
            rounds: 1 + u64::from(trees > 0),
        }
    }
}

/// Which of the two parties we are; they must differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The model owner.
    Server,
    /// The data owner.
    Client,
}

impl Role {
    /// The other party's role.
    pub fn peer(self) -> Self {
        match self {
            Self::Server => Self::Client,
            Self::Client => Self::Server,
        }
    }

    /// The direction in which this party is the OT sender.
    fn sends(self) -> Direction {
        match self {
            Self::Server => Direction::ServerSends,
            Self::Client => Direction::ClientSends,
        }
    }
}

/// Traffic of [`OtExtension::setup`], the same for both parties.
pub fn setup_traffic() -> Traffic {
    OtFlavour::default().setup_traffic()
}

/// Bytes from receiver to sender for `n` random OTs in one call of [`OtExtension::extend`], in
/// the default flavour: 16 an OT, `n` padded to a multiple of eight. [`OtMeter`] has the others.
pub fn extend_bytes(n: usize) -> u64 {
    OtMeter::new(OtFlavour::default()).extend(0, n).sent
}

/// OT extension in both directions.
pub struct OtExtension {
    flavour: OtFlavour,
    engine: Engine,
    sends: Tweaks,
    receives: Tweaks,
}

/// What makes pads of one direction's rows.
struct Tweaks {
    hash: Arc<PadHash>,
    /// Index in this connection and direction of the next OT: the tweak. It only grows.
    index: u64,
}

impl Tweaks {
    fn new(session: &[u8; 32], direction: Direction) -> Self {
        Self {
            hash: Arc::new(PadHash::new(session, direction)),
            index: 0,
        }
    }

    fn reserve(&mut self, n: usize) -> (Arc<PadHash>, u64) {
        let first = self.index;
        self.index += n as u64;
        (Arc::clone(&self.hash), first)
    }
}

impl OtExtension {
    /// Sets up the default flavour, IKNP: one exchange. The peer must play the other role.
    pub fn setup(
        chan: &mut Channel,
        role: Role,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, OtError> {
        Self::setup_with(chan, role, OtFlavour::default(), rng)
    }

    /// Sets up a flavour, the same as the peer's.
    pub fn setup_with(
        chan: &mut Channel,
        role: Role,
        flavour: OtFlavour,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, OtError> {
        let (setup, mine) = Setup::start(role, flavour, rng);
        let theirs = chan.exchange(&mine, BASE_BYTES)?;
        let (keys, mine) = setup.base_done(&mine, &theirs)?;
        let theirs = chan.exchange(&mine, flavour.kind().tree_bytes())?;
        keys.finish(&theirs)
    }

    /// The flavour that was set up.
    pub fn flavour(&self) -> OtFlavour {
        self.flavour
    }

    /// One exchange: we become sender of `n_send` random OTs and receiver of `choices.len()`
    /// random OTs with these choice bits. The peer calls it with the numbers swapped.
    pub fn extend(
        &mut self,
        chan: &mut Channel,
        n_send: usize,
        choices: &[bool],
    ) -> Result<(RotSender, RotReceiver), OtError> {
        let choices = choices.iter().map(|&c| u8::from(c)).collect();
        self.run(chan, n_send, Choices::Chosen, choices)
    }

    /// As [`Self::extend`], for `n_receive` random OTs with choice bits that the protocol draws:
    /// a little cheaper.
    pub fn extend_random(
        &mut self,
        chan: &mut Channel,
        n_send: usize,
        n_receive: usize,
    ) -> Result<(RotSender, RotReceiver), OtError> {
        self.run(chan, n_send, Choices::Random, vec![0; n_receive])
    }

    /// Lets each of our two roles use this many threads where the flavour can (Ferret can).
    pub fn set_threads(&mut self, threads: usize) {
        self.engine.set_threads(threads);
    }

    fn run(
        &mut self,
        chan: &mut Channel,
        n_send: usize,
        mode: Choices,
        choices: Vec<u8>,
    ) -> Result<(RotSender, RotReceiver), OtError> {
        let n_receive = choices.len();
        let mut choices = Secret::new(choices);
        let (sent, received) = self.engine.extend(chan, n_send, mode, &mut choices)?;
        let (hash, first) = self.sends.reserve(n_send);
        let sent = RotSender::new(hash, first, self.engine.delta(), sent);
        let (hash, first) = self.receives.reserve(n_receive);
        Ok((sent, RotReceiver::new(hash, first, choices, received)))
    }
}

impl std::fmt::Debug for OtExtension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OtExtension")
            .field("flavour", &self.flavour)
            .finish_non_exhaustive()
    }
}

/// The state between the two messages of the base OTs, without any I/O.
struct Setup {
    role: Role,
    flavour: OtFlavour,
    delta: Zeroizing<u128>,
    base_receiver: BaseReceiver,
    base_sender: BaseSender,
}

impl Setup {
    fn start(role: Role, flavour: OtFlavour, rng: &mut impl CryptoRng) -> (Self, Vec<u8>) {
        let mut nonce = [0; NONCE];
        rng.fill_bytes(&mut nonce);
        let context = base_context(role, &nonce);
        let mut delta = Zeroizing::new([0; 16]);
        rng.fill_bytes(&mut *delta);
        // Ferret keeps choice bits in the lowest bit.
        let ferret = matches!(flavour.kind(), Kind::Ferret(_));
        let delta = Zeroizing::new(u128::from_le_bytes(*delta) | u128::from(ferret));
        let (base_receiver, points) = softspoken::start_sender(*delta, &context, rng);
        let (base_sender, point) = BaseSender::start(rng);
        let mut message = Vec::with_capacity(BASE_BYTES);
        message.extend_from_slice(HELLO);
        message.extend_from_slice(&[role as u8, flavour as u8]);
        message.extend_from_slice(&nonce);
        message.extend_from_slice(&point);
        message.extend_from_slice(&points);
        let setup = Self {
            role,
            flavour,
            delta,
            base_receiver,
            base_sender,
        };
        (setup, message)
    }

    /// The keyed receiver, and the seed trees for the peer's sender.
    fn base_done(self, mine: &[u8], theirs: &[u8]) -> Result<(Keys, Vec<u8>), OtError> {
        let hello = Hello::parse(theirs)?;
        if hello.role != self.role.peer() as u8 {
            return Err(OtError::Incompatible { what: "role" });
        }
        if hello.flavour != self.flavour as u8 {
            return Err(OtError::Incompatible { what: "flavour" });
        }
        let session = session(self.role, mine, theirs);
        let sends = self.role.sends();
        let seeds = self
            .base_receiver
            .finish(&base_key(&session, sends), hello.point)?;
        let sends = self.role.peer().sends();
        let pairs = self.base_sender.finish(
            &base_context(self.role.peer(), hello.nonce),
            &base_key(&session, sends),
            KAPPA,
            hello.points,
        )?;
        let (receiver, trees) = match self.flavour.kind() {
            Kind::SoftSpoken(groups) => {
                let (receiver, trees) = softspoken::Receiver::new(groups, &pairs);
                (Receiver::SoftSpoken(receiver), trees)
            }
            Kind::Ferret(main) => {
                let keys = ferret::Keys::new(&session, self.role.peer().sends());
                let receiver = ferret::Receiver::new(main, &pairs, keys);
                (Receiver::Ferret(receiver), Vec::new())
            }
        };
        let keys = Keys {
            role: self.role,
            flavour: self.flavour,
            session,
            delta: self.delta,
            seeds,
            receiver,
        };
        Ok((keys, trees))
    }
}

/// The state before the seed trees of the peer.
struct Keys {
    role: Role,
    flavour: OtFlavour,
    session: [u8; 32],
    delta: Zeroizing<u128>,
    seeds: Zeroizing<Vec<u128>>,
    receiver: Receiver,
}

enum Receiver {
    SoftSpoken(softspoken::Receiver),
    Ferret(ferret::Receiver),
}

impl Keys {
    fn finish(self, trees: &[u8]) -> Result<OtExtension, OtError> {
        let sends = self.role.sends();
        let engine = match (self.flavour.kind(), self.receiver) {
            (Kind::SoftSpoken(groups), Receiver::SoftSpoken(receiver)) => {
                let sender = softspoken::Sender::new(groups, *self.delta, &self.seeds, trees)?;
                Engine::SoftSpoken(sender, receiver)
            }
            (Kind::Ferret(main), Receiver::Ferret(receiver)) => {
                let keys = ferret::Keys::new(&self.session, sends);
                let sender = ferret::Sender::new(main, *self.delta, &self.seeds, keys);
                Engine::Ferret(sender, receiver)
            }
            _ => unreachable!("the receiver is of its flavour's kind"),
        };
        Ok(OtExtension {
            flavour: self.flavour,
            engine,
            sends: Tweaks::new(&self.session, sends),
            receives: Tweaks::new(&self.session, self.role.peer().sends()),
        })
    }
}

/// The peer's set-up message, taken apart.
struct Hello<'a> {
    role: u8,
    flavour: u8,
    nonce: &'a [u8],
    point: &'a [u8],
    points: &'a [u8],
}

impl<'a> Hello<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, OtError> {
        check_message("set-up", BASE_BYTES, message.len())?;
        let (name, rest) = message.split_at(HELLO.len());
        if name != HELLO {
            return Err(OtError::Incompatible { what: "protocol" });
        }
        let (kind, rest) = rest.split_at(2);
        let (nonce, rest) = rest.split_at(NONCE);
        let (point, points) = rest.split_at(SENDER_BYTES);
        Ok(Self {
            role: kind[0],
            flavour: kind[1],
            nonce,
            point,
            points,
        })
    }
}

/// Binds base OTs to the party that receives them and to its nonce.
fn base_context(receiver: Role, nonce: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("copriv-ot v1 base ot context");
    hasher.update(&[receiver as u8]);
    hasher.update(nonce);
    hasher.finalize().into()
}

/// A hash of the whole transcript, the server's message first.
fn session(role: Role, mine: &[u8], theirs: &[u8]) -> [u8; 32] {
    let (server, client) = match role {
        Role::Server => (mine, theirs),
        Role::Client => (theirs, mine),
    };
    let mut hasher = blake3::Hasher::new_derive_key("copriv-ot v1 session");
    hasher.update(server);
    hasher.update(client);
    hasher.finalize().into()
}

/// The session as the base OTs of one direction see it.
fn base_key(session: &[u8; 32], direction: Direction) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("copriv-ot v1 base ot session");
    hasher.update(&[direction as u8]);
    hasher.update(session);
    hasher.finalize().into()
}
