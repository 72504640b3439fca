//! The set-up's messages and keys, without any I/O.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{OtExtension, Role, Tweaks};
use crate::base_ot::{BaseReceiver, BaseSender, RECEIVER_BYTES, SENDER_BYTES};
use crate::engine::{Engine, Kind};
use crate::error::check_message;
use crate::hash::Direction;
use crate::softspoken::{self, KAPPA};
use crate::{OtError, OtFlavour, ferret};

/// Protocol name and version, then one byte of role and one of flavour.
const HELLO: &[u8; 7] = b"cpv-ot3";
const NONCE: usize = 32;
/// Bytes of each party's first message.
pub(crate) const BASE_BYTES: usize = HELLO.len() + 2 + NONCE + SENDER_BYTES + KAPPA * RECEIVER_BYTES;

/// The state between the two messages of the base OTs, without any I/O.
pub(super) struct Setup {
    role: Role,
    flavour: OtFlavour,
    delta: Zeroizing<u128>,
    base_receiver: BaseReceiver,
    base_sender: BaseSender,
}

impl Setup {
    pub(super) fn start(role: Role, flavour: OtFlavour, rng: &mut impl CryptoRng) -> (Self, Vec<u8>) {
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
        let setup = Self { role, flavour, delta, base_receiver, base_sender };
        (setup, message)
    }

    /// The keyed receiver, and the seed trees for the peer's sender.
    pub(super) fn base_done(self, mine: &[u8], theirs: &[u8]) -> Result<(Keys, Vec<u8>), OtError> {
        let hello = Hello::parse(theirs)?;
        if hello.role != self.role.peer() as u8 {
            return Err(OtError::Incompatible { what: "role" });
        }
        if hello.flavour != self.flavour as u8 {
            return Err(OtError::Incompatible { what: "flavour" });
        }
        let session = session(self.role, mine, theirs);
        let sends = self.role.sends();
        let seeds = self.base_receiver.finish(&base_key(&session, sends), hello.point)?;
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
        let keys =
            Keys { role: self.role, flavour: self.flavour, session, delta: self.delta, seeds, receiver };
        Ok((keys, trees))
    }
}

/// The state before the seed trees of the peer.
pub(super) struct Keys {
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
    pub(super) fn finish(self, trees: &[u8]) -> Result<OtExtension, OtError> {
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
            failed: false,
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
        Ok(Self { role: kind[0], flavour: kind[1], nonce, point, points })
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
