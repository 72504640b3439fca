//! OT extension in both directions from one set-up, over a [`Channel`].
//!
//! Set-up is one exchange: each party sends a hello, a nonce, its base-OT receiver message for
//! the direction in which it will be the OT sender, and its base-OT sender message for the
//! other. A hash of both messages, the *session*, goes into every key. Each extension is one
//! exchange too.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::base_ot::{BaseReceiver, BaseSender, RECEIVER_BYTES, SENDER_BYTES};
use crate::error::check_message;
use crate::hash::{Direction, PadHash};
use crate::iknp::{self, IknpReceiver, IknpSender, KAPPA};
use crate::{Channel, OtError, RotReceiver, RotSender, Traffic};

/// Protocol name and version, then one byte of role.
const HELLO: &[u8; 7] = b"cpv-ot1";
const NONCE: usize = 32;
const SETUP_BYTES: usize = HELLO.len() + 1 + NONCE + SENDER_BYTES + KAPPA * RECEIVER_BYTES;

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
    Traffic { sent: SETUP_BYTES as u64, received: SETUP_BYTES as u64, rounds: 1 }
}

/// Bytes from receiver to sender for `n` random OTs in one call of [`OtExtension::extend`].
pub fn extend_bytes(n: usize) -> u64 {
    iknp::message_bytes(n)
}

/// OT extension in both directions.
pub struct OtExtension {
    sender: IknpSender,
    receiver: IknpReceiver,
}

impl OtExtension {
    /// Runs the base OTs: one exchange. The peer must play the other role.
    pub fn setup(chan: &mut Channel, role: Role, rng: &mut impl CryptoRng) -> Result<Self, OtError> {
        let (setup, mine) = Setup::start(role, rng);
        let theirs = chan.exchange(&mine, SETUP_BYTES)?;
        setup.finish(&mine, &theirs)
    }

    /// One exchange: we become sender of `n_send` random OTs and receiver of `choices.len()`
    /// random OTs with these choice bits. The peer calls it with the numbers swapped.
    pub fn extend(
        &mut self,
        chan: &mut Channel,
        n_send: usize,
        choices: &[bool],
    ) -> Result<(RotSender, RotReceiver), OtError> {
        let (mine, received) = self.receiver.extend(choices);
        let theirs = chan.exchange(&mine, iknp::message_bytes(n_send) as usize)?;
        let sent = self.sender.extend(n_send, &theirs)?;
        Ok((sent, received))
    }
}

impl std::fmt::Debug for OtExtension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OtExtension").finish_non_exhaustive()
    }
}

/// The state between the two messages of the set-up, without any I/O.
struct Setup {
    role: Role,
    delta: Zeroizing<u128>,
    base_receiver: BaseReceiver,
    base_sender: BaseSender,
}

impl Setup {
    fn start(role: Role, rng: &mut impl CryptoRng) -> (Self, Vec<u8>) {
        let mut nonce = [0; NONCE];
        rng.fill_bytes(&mut nonce);
        let context = base_context(role, &nonce);
        let (delta, base_receiver, points) = iknp::start_sender(&context, rng);
        let (base_sender, point) = BaseSender::start(rng);
        let mut message = Vec::with_capacity(SETUP_BYTES);
        message.extend_from_slice(HELLO);
        message.push(role as u8);
        message.extend_from_slice(&nonce);
        message.extend_from_slice(&point);
        message.extend_from_slice(&points);
        let setup = Self { role, delta, base_receiver, base_sender };
        (setup, message)
    }

    fn finish(self, mine: &[u8], theirs: &[u8]) -> Result<OtExtension, OtError> {
        let hello = Hello::parse(theirs)?;
        if hello.role != self.role.peer() as u8 {
            return Err(OtError::Incompatible { what: "role" });
        }
        let session = session(self.role, mine, theirs);
        let hash = |direction| PadHash::new(&session, direction);
        let sends = self.role.sends();
        let seeds = self.base_receiver.finish(&base_key(&session, sends), hello.point)?;
        let sender = IknpSender::new(self.delta, &seeds, hash(sends));
        let sends = self.role.peer().sends();
        let receiver = iknp::receiver_from_base(
            self.base_sender,
            &base_context(self.role.peer(), hello.nonce),
            &base_key(&session, sends),
            hello.points,
            hash(sends),
        )?;
        Ok(OtExtension { sender, receiver })
    }
}

/// The peer's set-up message, taken apart.
struct Hello<'a> {
    role: u8,
    nonce: &'a [u8],
    point: &'a [u8],
    points: &'a [u8],
}

impl<'a> Hello<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, OtError> {
        check_message("set-up", SETUP_BYTES, message.len())?;
        let (name, rest) = message.split_at(HELLO.len());
        if name != HELLO {
            return Err(OtError::Incompatible { what: "protocol" });
        }
        let (role, rest) = rest.split_at(1);
        let (nonce, rest) = rest.split_at(NONCE);
        let (point, points) = rest.split_at(SENDER_BYTES);
        Ok(Self { role: role[0], nonce, point, points })
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
