//! OT extension in both directions from one set-up, over a [`Channel`].
//!
//! Set-up is one exchange for IKNP: each party sends a hello, a nonce, its base-OT receiver
//! message for the direction in which it will be the OT sender, and its base-OT sender message
//! for the other. A hash of both messages, the *session*, goes into every key. SoftSpoken with
//! more than one bit a group exchanges its seed trees too. Each extension is one exchange.

use std::sync::Arc;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::base_ot::{BaseReceiver, BaseSender, RECEIVER_BYTES, SENDER_BYTES};
use crate::error::check_message;
use crate::hash::{Direction, PadHash};
use crate::softspoken::{self, CHUNK, Choices, Groups, KAPPA};
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
}

impl OtFlavour {
    /// All flavours.
    pub const ALL: [Self; 4] = [
        Self::Iknp,
        Self::SoftSpoken2,
        Self::SoftSpoken4,
        Self::SoftSpoken8,
    ];

    /// The name used in tables and result files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iknp => "iknp",
            Self::SoftSpoken2 => "softspoken2",
            Self::SoftSpoken4 => "softspoken4",
            Self::SoftSpoken8 => "softspoken8",
        }
    }

    pub(crate) fn groups(self) -> Groups {
        Groups::of(match self {
            Self::Iknp => 1,
            Self::SoftSpoken2 => 2,
            Self::SoftSpoken4 => 4,
            Self::SoftSpoken8 => 8,
        })
    }

    /// Traffic of [`OtExtension::setup_with`], the same for both parties.
    pub fn setup_traffic(self) -> Traffic {
        let trees = self.groups().setup_bytes();
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
    sender: Half<softspoken::Sender>,
    receiver: Half<softspoken::Receiver>,
}

/// One direction: the extension, and what makes pads of its rows.
struct Half<E> {
    extension: E,
    hash: Arc<PadHash>,
    /// Index in this connection and direction of the next OT: the tweak. It only grows.
    index: u64,
}

impl<E> Half<E> {
    fn new(extension: E, hash: PadHash) -> Self {
        Self {
            extension,
            hash: Arc::new(hash),
            index: 0,
        }
    }

    fn reserve(&mut self, n: usize) -> u64 {
        let first = self.index;
        self.index += n as u64;
        first
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
        let theirs = chan.exchange(&mine, flavour.groups().setup_bytes())?;
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

    /// Chunk by chunk, so that messages pass in bounded memory.
    fn run(
        &mut self,
        chan: &mut Channel,
        n_send: usize,
        mode: Choices,
        choices: Vec<u8>,
    ) -> Result<(RotSender, RotReceiver), OtError> {
        let n_receive = choices.len();
        let mut choices = Secret::new(choices);
        let mut sent = Secret::with_capacity(n_send);
        let mut received = Secret::with_capacity(n_receive);
        if n_send + n_receive > 0 {
            chan.begin_exchange();
        }
        let mut pieces = choices.chunks_mut(CHUNK);
        let mut columns = Vec::new();
        loop {
            let piece = pieces.next();
            let n = CHUNK.min(n_send - sent.len());
            if piece.is_none() && n == 0 {
                break;
            }
            if let Some(choices) = piece {
                columns.clear();
                let extension = &mut self.receiver.extension;
                extension.extend(mode, choices, &mut columns, &mut received);
                chan.put(&columns)?;
            }
            let due = self.sender.extension.message_bytes(n, mode);
            let theirs = chan.get(due as usize)?;
            self.sender.extension.extend(n, mode, &theirs, &mut sent)?;
        }
        let delta = self.sender.extension.delta();
        let first = self.sender.reserve(n_send);
        let sent = RotSender::new(Arc::clone(&self.sender.hash), first, delta, sent);
        let first = self.receiver.reserve(n_receive);
        let hash = Arc::clone(&self.receiver.hash);
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
        let (delta, base_receiver, points) = softspoken::start_sender(&context, rng);
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
        let (receiver, trees) = softspoken::Receiver::new(self.flavour.groups(), &pairs);
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
    receiver: softspoken::Receiver,
}

impl Keys {
    fn finish(self, trees: &[u8]) -> Result<OtExtension, OtError> {
        let groups = self.flavour.groups();
        let sender = softspoken::Sender::new(groups, *self.delta, &self.seeds, trees)?;
        let hash = |role: Role| PadHash::new(&self.session, role.sends());
        Ok(OtExtension {
            flavour: self.flavour,
            sender: Half::new(sender, hash(self.role)),
            receiver: Half::new(self.receiver, hash(self.role.peer())),
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
