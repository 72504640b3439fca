use copriv_ot::kkot;
use copriv_ot::short::{ReceivePads, ShortReceiver, ShortSender};
use copriv_ot::wire::packed_len;
use copriv_ot::{Channel, OtExtension, OtFlavour, Role, RotReceiver, RotSender, cot};
use copriv_plan::Choice;
use copriv_plan::Plan;
use copriv_plan::baseline::KEY_OTS;
use copriv_plan::ot::Flavour;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::OtStock;
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::trees::Garden;

/// One party of a connection: its channel, its OT extension, its randomness.
pub struct Party {
    /// Which one.
    pub role: Role,
    /// The connection.
    pub channel: Channel,
    pub(crate) ot: OtExtension,
    choice: Choice,
    pub(crate) rng: StdRng,
    pub(crate) garden: Option<Garden>,
    kkot: Option<Kkot>,
    pub(crate) memory: Memory,
}

/// This party's end of the baselines' 1-of-N OTs: the client chooses.
pub(crate) enum Kkot {
    Sender(kkot::Sender),
    Receiver(kkot::Receiver),
}

impl Party {
    /// Runs the base OTs over `channel`, and keys the baselines' 1-of-N OTs. `rng` must be freshly seeded by the operating system.
    ///
    /// # Errors
    /// The peer or the connection failed.
    pub fn connect(mut channel: Channel, role: Role, choice: Choice, mut rng: StdRng) -> Result<Self> {
        let flavour = extension(choice.flavour);
        let mut ot = OtExtension::setup_with(&mut channel, role, flavour, &mut rng)?;
        let kkot =
            if choice.preset.is_baseline() { Some(Kkot::key(role, &mut ot, &mut channel)?) } else { None };
        Ok(Self { role, channel, ot, choice, rng, garden: None, kkot, memory: Memory::default() })
    }

    /// What both parties agreed on.
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// Whether this is the server.
    pub fn is_server(&self) -> bool {
        self.role == Role::Server
    }

    /// Bounds what is held at a time, for the inferences of a plan from now on.
    ///
    /// # Errors
    /// The plan needs more, or there is no temporary file.
    pub fn limit_memory(&mut self, bytes: u64, plan: &Plan) -> Result<()> {
        self.memory = Memory::limited(bytes, plan, &mut self.rng)?;
        Ok(())
    }

    /// Bytes of correlations that went to a temporary file.
    pub fn spilled(&self) -> u64 {
        self.memory.spilled()
    }

    /// Random OTs in which the server's choices are chosen: offline, one exchange. The server
    /// passes its `choices`, the client only their number.
    ///
    /// # Errors
    /// The peer or the connection failed.
    pub(crate) fn chosen_by_server(
        &mut self,
        n: usize,
        choices: &[bool],
    ) -> Result<(RotSender, RotReceiver)> {
        let sends = if self.is_server() { 0 } else { n };
        Ok(self.ot.extend(&mut self.channel, sends, choices)?)
    }

    /// Random OTs in which the client's choices are chosen, as [`Self::chosen_by_server`].
    ///
    /// # Errors
    /// The peer or the connection failed.
    pub(crate) fn chosen_by_client(
        &mut self,
        n: usize,
        choices: &[bool],
    ) -> Result<(RotSender, RotReceiver)> {
        let sends = if self.is_server() { n } else { 0 };
        Ok(self.ot.extend(&mut self.channel, sends, choices)?)
    }

    /// The baselines' 1-of-N OTs.
    pub(crate) fn kkot(&mut self) -> Result<(&mut Channel, &mut Kkot)> {
        let missing = || Error::Usage("this preset has no 1-of-N extension".into());
        Ok((&mut self.channel, self.kkot.as_mut().ok_or_else(missing)?))
    }

    /// Uniform bits, `n` times `bits` of them.
    pub(crate) fn random_bits(&mut self, n: usize, bits: u32) -> Vec<u8> {
        (0..n).map(|_| self.rng.random::<u8>() & ((1u16 << bits) - 1) as u8).collect()
    }

    /// Uniform elements of `Z_2^ring`.
    pub(crate) fn random_ring(&mut self, n: usize, ring: u32) -> Vec<u64> {
        (0..n).map(|_| self.rng.random::<u64>() & copriv_model::kernel::mask(ring)).collect()
    }
}

impl Kkot {
    fn key(role: Role, ot: &mut OtExtension, channel: &mut Channel) -> Result<Self> {
        let n = KEY_OTS as usize;
        Ok(match role {
            Role::Server => Self::Sender(kkot::Sender::new(ot.extend_random(channel, 0, n)?.1)?),
            Role::Client => Self::Receiver(kkot::Receiver::new(ot.extend_random(channel, n, 0)?.0)?),
        })
    }
}

/// The extension of a flavour.
pub fn extension(flavour: Flavour) -> OtFlavour {
    match flavour {
        Flavour::Iknp => OtFlavour::Iknp,
        Flavour::SoftSpoken2 => OtFlavour::SoftSpoken2,
        Flavour::SoftSpoken4 => OtFlavour::SoftSpoken4,
        Flavour::SoftSpoken8 => OtFlavour::SoftSpoken8,
        Flavour::Ferret => OtFlavour::Ferret,
    }
}

/// Correlated OTs with the server as sender: shares of `choice * delta` modulo `2^width`.
/// The server passes its `deltas`, the client its `choices`.
pub(crate) fn server_cot(
    party: &mut Party,
    stock: &mut OtStock,
    width: u32,
    mine: Cot<'_>,
) -> Result<Vec<u64>> {
    match mine {
        Cot::Deltas(deltas) => {
            let flips = party.channel.recv(packed_len(deltas.len(), 1))?;
            let (message, shares) = cot::sender(stock.send(deltas.len(), width)?, &flips, width, deltas)?;
            party.channel.send(&message)?;
            Ok(shares)
        }
        Cot::Choices(choices) => {
            let rots = stock.receive(choices.len(), width)?;
            party.channel.send(&rots.flips_for(choices)?)?;
            let message = party.channel.recv(packed_len(choices.len(), width))?;
            Ok(cot::receiver(rots, choices, width, &message)?)
        }
    }
}

/// One party's input to a correlated OT.
pub(crate) enum Cot<'a> {
    /// The sender's.
    Deltas(&'a [u64]),
    /// The receiver's.
    Choices(&'a [bool]),
}

/// Correlated OTs in both directions at once: the sum of this party's two shares, of
/// `peer's choice * my delta + my choice * peer's delta`.
pub(crate) fn cross_cot(
    party: &mut Party,
    stock: &mut OtStock,
    width: u32,
    deltas: &[u64],
    choices: &[bool],
) -> Result<Vec<u64>> {
    Ok(cross_cot_with(party, stock, width, deltas, choices, None)?.0)
}

/// [`cross_cot`], and in the same messages [`server_cot`] with its own width and input; the
/// shares of both.
pub(crate) fn cross_cot_with(
    party: &mut Party,
    stock: &mut OtStock,
    width: u32,
    deltas: &[u64],
    choices: &[bool],
    rider: Option<(u32, Cot<'_>)>,
) -> Result<(Vec<u64>, Vec<u64>)> {
    let n = deltas.len();
    let (send, receive) = (stock.send(n, width)?, stock.receive(n, width)?);
    let mut flips = receive.flips_for(choices)?;
    // The client's flips, and the server's messages, are followed by the rider's.
    let mut rider = match rider {
        Some((width, Cot::Deltas(deltas))) => Rider::Sends(width, stock.send(deltas.len(), width)?, deltas),
        Some((width, Cot::Choices(choices))) => {
            let rots = stock.receive(choices.len(), width)?;
            flips.extend(rots.flips_for(choices)?);
            Rider::Receives(width, rots, choices)
        }
        None => Rider::None,
    };
    let mut theirs = party.channel.exchange(&flips, packed_len(n, 1) + rider.flips_due())?;
    let rider_flips = theirs.split_off(packed_len(n, 1));
    let (mut message, mut shares) = cot::sender(send, &theirs, width, deltas)?;
    let sent = rider.send(&rider_flips, &mut message)?;
    let mut theirs = party.channel.exchange(&message, packed_len(n, width) + rider.message_due())?;
    let rider_message = theirs.split_off(packed_len(n, width));
    for (share, other) in shares.iter_mut().zip(cot::receiver(receive, choices, width, &theirs)?) {
        *share = share.wrapping_add(other) & copriv_model::kernel::mask(width);
    }
    Ok((shares, rider.receive(&rider_message)?.unwrap_or(sent)))
}

/// A correlated OT that rides on the messages of others.
enum Rider<'a> {
    Sends(u32, ShortSender, &'a [u64]),
    Receives(u32, ShortReceiver, &'a [bool]),
    None,
}

impl Rider<'_> {
    fn flips_due(&self) -> usize {
        if let Self::Sends(_, _, deltas) = self { packed_len(deltas.len(), 1) } else { 0 }
    }

    fn message_due(&self) -> usize {
        if let Self::Receives(width, _, choices) = self { packed_len(choices.len(), *width) } else { 0 }
    }

    /// The sender's shares; its message is appended.
    fn send(&mut self, flips: &[u8], message: &mut Vec<u8>) -> Result<Vec<u64>> {
        match std::mem::replace(self, Self::None) {
            Self::Sends(width, rots, deltas) => {
                let (mine, shares) = cot::sender(rots, flips, width, deltas)?;
                message.extend(mine);
                Ok(shares)
            }
            other => {
                *self = other;
                Ok(Vec::new())
            }
        }
    }

    /// The receiver's shares, if this party is the receiver.
    fn receive(self, message: &[u8]) -> Result<Option<Vec<u64>>> {
        match self {
            Self::Receives(width, rots, choices) => Ok(Some(cot::receiver(rots, choices, width, message)?)),
            _ => Ok(None),
        }
    }
}
