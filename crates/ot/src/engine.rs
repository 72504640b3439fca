//! The messages of an extension, for each kind of flavour.

use crate::ferret::{self, params, params::Params};
use crate::softspoken::{self, CHUNK, Choices, Groups};
use crate::wire::{check_len, check_padding, pack_bits, packed_len};
use crate::{Channel, OtError, Secret};

/// What a flavour runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    SoftSpoken(Groups),
    Ferret(Params),
}

impl Kind {
    /// Bytes of seed trees exchanged at set-up.
    pub(crate) fn tree_bytes(self) -> usize {
        match self {
            Self::SoftSpoken(groups) => groups.setup_bytes(),
            // With the bootstrap, when a direction is first used.
            Self::Ferret(_) => 0,
        }
    }
}

/// Both directions of one party.
pub(crate) enum Engine {
    SoftSpoken(softspoken::Sender, softspoken::Receiver),
    Ferret(ferret::Sender, ferret::Receiver),
}

/// Rows of the OTs that we send, and of those that we receive.
pub(crate) type BothRows = (Secret<u128>, Secret<u128>);

/// A piece of an extension: rows that we send, rows that we receive and their choices, one a byte.
pub(crate) struct Piece {
    pub(crate) sent: Secret<u128>,
    pub(crate) received: Secret<u128>,
    pub(crate) choices: Secret<u8>,
}

/// The OTs that we receive.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// So many, with random choices.
    Random(usize),
    /// With these choices, one a byte.
    Chosen(&'a [u8]),
}

impl Wanted<'_> {
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Random(n) => n,
            Self::Chosen(choices) => choices.len(),
        }
    }

    fn mode(self) -> Choices {
        match self {
            Self::Random(_) => Choices::Random,
            Self::Chosen(_) => Choices::Chosen,
        }
    }
}

/// Rows that Ferret gives at a time.
const FERRET_PIECE: usize = 4 * CHUNK;

impl Engine {
    /// The difference of our rows as the sender.
    pub(crate) fn delta(&self) -> u128 {
        match self {
            Self::SoftSpoken(sender, _) => sender.delta(),
            Self::Ferret(sender, _) => sender.delta(),
        }
    }

    pub(crate) fn set_threads(&mut self, threads: usize) {
        if let Self::Ferret(sender, receiver) = self {
            sender.set_threads(threads);
            receiver.set_threads(threads);
        }
    }

    /// Runs one extension; `keep` takes the rows in order, in pieces of bounded size (but all that we chose
    /// at once from Ferret).
    pub(crate) fn extend(
        &mut self,
        chan: &mut Channel,
        n_send: usize,
        wanted: Wanted<'_>,
        keep: &mut dyn FnMut(Piece) -> Result<(), OtError>,
    ) -> Result<(), OtError> {
        match self {
            Self::SoftSpoken(sender, receiver) => {
                extend_softspoken(sender, receiver, chan, n_send, wanted, keep)
            }
            Self::Ferret(sender, receiver) => extend_ferret(sender, receiver, chan, n_send, wanted, keep),
        }
    }
}

/// One exchange, chunk by chunk, so that messages pass in bounded memory.
fn extend_softspoken(
    sender: &mut softspoken::Sender,
    receiver: &mut softspoken::Receiver,
    chan: &mut Channel,
    n_send: usize,
    wanted: Wanted<'_>,
    keep: &mut dyn FnMut(Piece) -> Result<(), OtError>,
) -> Result<(), OtError> {
    if n_send + wanted.len() > 0 {
        chan.begin_exchange();
    }
    let mode = wanted.mode();
    let mut columns = Vec::new();
    for start in (0..n_send.max(wanted.len())).step_by(CHUNK) {
        let n_receive = CHUNK.min(wanted.len().saturating_sub(start));
        let mut choices = Secret::new(match wanted {
            Wanted::Random(_) => vec![0; n_receive],
            Wanted::Chosen(all) => all[start.min(all.len())..][..n_receive].to_vec(),
        });
        let mut received = Secret::with_capacity(n_receive);
        if n_receive > 0 {
            columns.clear();
            receiver.extend(mode, &mut choices, &mut columns, &mut received);
            chan.put(&columns)?;
        }
        let n = CHUNK.min(n_send.saturating_sub(start));
        let mut sent = Secret::with_capacity(n);
        let theirs = chan.get(sender.message_bytes(n, mode) as usize)?;
        sender.extend(n, mode, &theirs, &mut sent)?;
        keep(Piece { sent, received, choices })?;
    }
    Ok(())
}

/// Up to three exchanges: bootstrap, iterations, flips.
fn extend_ferret(
    sender: &mut ferret::Sender,
    receiver: &mut ferret::Receiver,
    chan: &mut Channel,
    n_send: usize,
    wanted: Wanted<'_>,
    keep: &mut dyn FnMut(Piece) -> Result<(), OtError>,
) -> Result<(), OtError> {
    let n_receive = wanted.len();
    let mine = if n_receive > 0 { receiver.boot() } else { Vec::new() };
    if n_send > 0 && sender.wants_boot() {
        let theirs = chan.exchange(&mine, params::boot_bytes())?;
        sender.boot(&theirs)?;
    } else {
        chan.exchange(&mine, 0)?;
    }

    let mine = sender.start(n_send);
    let theirs = chan.exchange(&mine, receiver.message_bytes(n_receive))?;
    receiver.start(n_receive, &theirs)?;
    let mut receive = |n: usize| {
        let mut received = Secret::with_capacity(n);
        receiver.take(n, &mut received);
        let choices = Secret::new(received.iter().map(|row| (row & 1) as u8).collect());
        (received, choices)
    };
    let mut send = |n: usize| {
        let mut sent = Secret::with_capacity(n);
        sender.take(n, &mut sent);
        sent
    };
    let Wanted::Chosen(chosen) = wanted else {
        for start in (0..n_send.max(n_receive)).step_by(FERRET_PIECE) {
            let part = |n: usize| FERRET_PIECE.min(n.saturating_sub(start));
            let (received, choices) = receive(part(n_receive));
            keep(Piece { sent: send(part(n_send)), received, choices })?;
        }
        return Ok(());
    };

    let (received, random) = receive(n_receive);
    let flips: Vec<bool> = random.iter().zip(chosen).map(|(r, c)| r != c).collect();
    if n_send + n_receive > 0 {
        chan.begin_exchange();
    }
    chan.put(&pack_bits(&flips))?;
    chan.push()?;
    let mut sent = send(n_send);
    let theirs = chan.get(packed_len(n_send, 1))?;
    check_len(&theirs, packed_len(n_send, 1))?;
    check_padding(&theirs, n_send)?;
    ferret::apply_flips(sender.delta(), &theirs, &mut sent);
    keep(Piece { sent, received, choices: Secret::new(chosen.to_vec()) })
}
