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

    /// Runs one extension; `choices` are given if chosen and filled in if random.
    pub(crate) fn extend(
        &mut self,
        chan: &mut Channel,
        n_send: usize,
        mode: Choices,
        choices: &mut [u8],
    ) -> Result<BothRows, OtError> {
        match self {
            Self::SoftSpoken(sender, receiver) => {
                extend_softspoken(sender, receiver, chan, n_send, mode, choices)
            }
            Self::Ferret(sender, receiver) => extend_ferret(sender, receiver, chan, n_send, mode, choices),
        }
    }
}

/// One exchange, chunk by chunk, so that messages pass in bounded memory.
fn extend_softspoken(
    sender: &mut softspoken::Sender,
    receiver: &mut softspoken::Receiver,
    chan: &mut Channel,
    n_send: usize,
    mode: Choices,
    choices: &mut [u8],
) -> Result<BothRows, OtError> {
    let mut sent = Secret::with_capacity(n_send);
    let mut received = Secret::with_capacity(choices.len());
    if n_send + choices.len() > 0 {
        chan.begin_exchange();
    }
    let mut pieces = choices.chunks_mut(CHUNK);
    let mut columns = Vec::new();
    loop {
        let piece = pieces.next();
        let n = CHUNK.min(n_send - sent.len());
        if piece.is_none() && n == 0 {
            return Ok((sent, received));
        }
        if let Some(choices) = piece {
            columns.clear();
            receiver.extend(mode, choices, &mut columns, &mut received);
            chan.put(&columns)?;
        }
        let theirs = chan.get(sender.message_bytes(n, mode) as usize)?;
        sender.extend(n, mode, &theirs, &mut sent)?;
    }
}

/// Up to three exchanges: bootstrap, iterations, flips.
fn extend_ferret(
    sender: &mut ferret::Sender,
    receiver: &mut ferret::Receiver,
    chan: &mut Channel,
    n_send: usize,
    mode: Choices,
    choices: &mut [u8],
) -> Result<BothRows, OtError> {
    let n_receive = choices.len();
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
    let mut sent = Secret::with_capacity(n_send);
    let mut received = Secret::with_capacity(n_receive);
    receiver.take(n_receive, &mut received);
    let random = received.iter().map(|row| (row & 1) as u8);
    if mode == Choices::Random {
        for (choice, random) in choices.iter_mut().zip(random) {
            *choice = random;
        }
        sender.take(n_send, &mut sent);
        return Ok((sent, received));
    }

    let flips: Vec<bool> = random.zip(choices).map(|(r, c)| r != *c).collect();
    if n_send + n_receive > 0 {
        chan.begin_exchange();
    }
    chan.put(&pack_bits(&flips))?;
    chan.push()?;
    sender.take(n_send, &mut sent);
    let theirs = chan.get(packed_len(n_send, 1))?;
    check_len(&theirs, packed_len(n_send, 1))?;
    check_padding(&theirs, n_send)?;
    ferret::apply_flips(sender.delta(), &theirs, &mut sent);
    Ok((sent, received))
}
