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

use crate::engine::{BothRows, Engine, Piece, Wanted};
use crate::hash::{Direction, PadHash};
use crate::{Channel, OtError, OtFlavour, OtMeter, RotReceiver, RotSender, Secret, Traffic};

mod setup;

pub(crate) use setup::BASE_BYTES;
use setup::Setup;

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
    failed: bool,
}

/// What makes pads of one direction's rows.
struct Tweaks {
    hash: Arc<PadHash>,
    /// Index in this connection and direction of the next OT: the tweak. It only grows.
    index: u64,
}

impl Tweaks {
    fn new(session: &[u8; 32], direction: Direction) -> Self {
        Self { hash: Arc::new(PadHash::new(session, direction)), index: 0 }
    }

    fn reserve(&mut self, n: usize) -> (Arc<PadHash>, u64) {
        let first = self.index;
        self.index += n as u64;
        (Arc::clone(&self.hash), first)
    }
}

impl OtExtension {
    /// Sets up the default flavour, IKNP: one exchange. The peer must play the other role.
    pub fn setup(chan: &mut Channel, role: Role, rng: &mut impl CryptoRng) -> Result<Self, OtError> {
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

    /// We become sender of `n_send` random OTs and receiver of `choices.len()`
    /// random OTs with these choice bits. The peer calls it with the
    /// numbers swapped.
    ///
    /// An error is final: every later call gives [`OtError::Failed`].
    pub fn extend(
        &mut self,
        chan: &mut Channel,
        n_send: usize,
        choices: &[bool],
    ) -> Result<(RotSender, RotReceiver), OtError> {
        let choices = Secret::new(choices.iter().map(|&c| u8::from(c)).collect());
        self.collect(chan, n_send, Wanted::Chosen(&choices))
    }

    /// As [`Self::extend`], for `n_receive` random OTs with choice bits that the protocol draws:
    /// a little cheaper.
    pub fn extend_random(
        &mut self,
        chan: &mut Channel,
        n_send: usize,
        n_receive: usize,
    ) -> Result<(RotSender, RotReceiver), OtError> {
        self.collect(chan, n_send, Wanted::Random(n_receive))
    }

    /// As [`Self::extend_random`], but `keep` takes the random OTs in order, in pieces of bounded size
    /// that need not be as large in one direction as in the other.
    pub fn extend_in_pieces(
        &mut self,
        chan: &mut Channel,
        n_send: usize,
        n_receive: usize,
        mut keep: impl FnMut(RotSender, RotReceiver) -> Result<(), OtError>,
    ) -> Result<(), OtError> {
        let Self { engine, sends, receives, failed, .. } = self;
        let delta = engine.delta();
        rows(engine, failed, chan, n_send, Wanted::Random(n_receive), &mut |piece| {
            let (hash, first) = sends.reserve(piece.sent.len());
            let sent = RotSender::new(hash, first, delta, piece.sent);
            let (hash, first) = receives.reserve(piece.received.len());
            keep(sent, RotReceiver::new(hash, first, piece.choices, piece.received))
        })
    }

    /// Lets each of our two roles use this many threads where the flavour can (Ferret can).
    pub fn set_threads(&mut self, threads: usize) {
        self.engine.set_threads(threads);
    }

    /// Correlated OTs as they are, not hashed: rows `q` of ours as the sender, and `t = q ^ c Delta` of
    /// ours as the receiver with these choices `c`, one a byte.
    pub(crate) fn correlate(
        &mut self,
        chan: &mut Channel,
        n_send: usize,
        choices: &Secret<u8>,
    ) -> Result<BothRows, OtError> {
        let Piece { sent, received, .. } = self.all(chan, n_send, Wanted::Chosen(choices))?;
        Ok((sent, received))
    }

    /// The difference of our rows as the sender.
    pub(crate) fn delta(&self) -> u128 {
        self.engine.delta()
    }

    /// A public value that no other session has, the same for both parties.
    pub(crate) fn session_key(&self) -> [u8; 16] {
        self.sends.hash.key()
    }

    fn collect(
        &mut self,
        chan: &mut Channel,
        n_send: usize,
        wanted: Wanted<'_>,
    ) -> Result<(RotSender, RotReceiver), OtError> {
        let Piece { sent, received, choices } = self.all(chan, n_send, wanted)?;
        let (hash, first) = self.sends.reserve(sent.len());
        let sent = RotSender::new(hash, first, self.engine.delta(), sent);
        let (hash, first) = self.receives.reserve(received.len());
        Ok((sent, RotReceiver::new(hash, first, choices, received)))
    }

    /// All pieces together.
    fn all(&mut self, chan: &mut Channel, n_send: usize, wanted: Wanted<'_>) -> Result<Piece, OtError> {
        let mut sent = Secret::with_capacity(n_send);
        let mut received = Secret::with_capacity(wanted.len());
        let mut choices = Secret::with_capacity(wanted.len());
        rows(&mut self.engine, &mut self.failed, chan, n_send, wanted, &mut |piece| {
            sent.extend_from_slice(&piece.sent);
            received.extend_from_slice(&piece.received);
            choices.extend_from_slice(&piece.choices);
            Ok(())
        })?;
        Ok(Piece { sent, received, choices })
    }
}

/// Runs one extension; an error is final.
fn rows(
    engine: &mut Engine,
    failed: &mut bool,
    chan: &mut Channel,
    n_send: usize,
    wanted: Wanted<'_>,
    keep: &mut dyn FnMut(Piece) -> Result<(), OtError>,
) -> Result<(), OtError> {
    if *failed {
        return Err(OtError::Failed);
    }
    let result = engine.extend(chan, n_send, wanted, keep);
    *failed = result.is_err();
    result
}

impl std::fmt::Debug for OtExtension {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OtExtension").field("flavour", &self.flavour).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    #[test]
    fn tweaks_never_repeat_within_a_connection() {
        let calls = [(5, 7), (0, 300), (200, 0), (0, 0), (128, 128), (5, 7)];
        for flavour in [OtFlavour::Iknp, OtFlavour::SoftSpoken4, OtFlavour::Ferret] {
            let (a, b) = Channel::pair();
            let party = |mut chan: Channel, role: Role| {
                let mut rng = ChaCha20Rng::seed_from_u64(role as u64);
                let mut ot = OtExtension::setup_with(&mut chan, role, flavour, &mut rng).unwrap();
                let (mut sent, mut received) = (0, 0);
                for (call, (s, r)) in calls.into_iter().enumerate() {
                    let (s, r) = if role == Role::Server { (s, r) } else { (r, s) };
                    let (mut sender, receiver) = if call % 2 == 0 {
                        ot.extend(&mut chan, s, &vec![true; r]).unwrap()
                    } else {
                        ot.extend_random(&mut chan, s, r).unwrap()
                    };
                    // Indices go on where the last call, of whatever kind, ended.
                    assert_eq!((sender.first(), receiver.first()), (sent, received));
                    assert_eq!(sender.take(s / 2).unwrap().first(), sent);
                    assert_eq!(sender.first(), sent + s as u64 / 2);
                    sent += s as u64;
                    received += r as u64;
                }
            };
            std::thread::scope(|scope| {
                scope.spawn(|| party(b, Role::Client));
                party(a, Role::Server);
            });
        }
    }
}
