//! Random OTs of a step, cut down offline to what each use will read of them.

use std::collections::VecDeque;

use copriv_ot::short::{Records, ShortReceiver, ShortSender};
use copriv_ot::{OtError, RotReceiver, RotSender, Secret, one_of_n};
use copriv_plan::linear::Side;
use copriv_plan::{Use, UseKind};
use rayon::prelude::*;

use crate::Party;
use crate::error::{Error, Result};
use crate::memory::{Kept, Memory};

/// Random OTs of one step, in the order of [`copriv_plan::Cost::uses`]; consumed from the front.
#[derive(Debug)]
pub struct OtStock {
    send: VecDeque<Batch>,
    receive: VecDeque<Batch>,
}

/// The OTs of one use.
#[derive(Debug)]
struct Batch {
    n: usize,
    kind: UseKind,
    kept: Kept,
}

impl Party {
    /// Makes random OTs with random choices for these uses: offline, one exchange.
    ///
    /// # Errors
    /// The peer or the connection failed, or the disk if correlations are kept there.
    pub fn stock(&mut self, uses: &[Use]) -> Result<OtStock> {
        let mine = if self.is_server() { Side::Server } else { Side::Client };
        let (sends, receives) = uses.iter().filter(|u| u.n > 0).partition(|u| u.sender == mine);
        let mut send = Cutter::<RotSender>::new(sends);
        let mut receive = Cutter::<RotReceiver>::new(receives);
        let memory = &self.memory;
        let mut failed = None;
        let made = self.ot.extend_in_pieces(&mut self.channel, send.ots(), receive.ots(), |s, r| {
            let fed = send.feed(s, memory).and_then(|()| receive.feed(r, memory));
            fed.map_err(|error| {
                failed = Some(error);
                OtError::Failed
            })
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(made.map(|()| OtStock { send: send.done, receive: receive.done })?),
        }
    }
}

impl OtStock {
    /// The next `n` with this party as sender, `bits` bits of their pads.
    pub(crate) fn send(&mut self, n: usize, bits: u32) -> Result<ShortSender> {
        let kind = UseKind::Strings { bits };
        Ok(ShortSender::new(bits, records(&mut self.send, n, kind, 2 * bits)?))
    }

    /// The next `n` with this party as receiver, `bits` bits of their pads.
    pub(crate) fn receive(&mut self, n: usize, bits: u32) -> Result<ShortReceiver> {
        let kind = UseKind::Strings { bits };
        Ok(ShortReceiver::new(bits, records(&mut self.receive, n, kind, 1 + bits)?))
    }

    /// The next `n` tables of `2^m` entries of `t` bits that this party offers.
    pub(crate) fn offer(&mut self, n: usize, m: u32, t: u32) -> Result<one_of_n::Sender> {
        let records = records(&mut self.send, n, UseKind::Table { m, t }, t << m)?;
        Ok(one_of_n::Sender::new(m, t, records))
    }

    /// The next `n` tables of `2^m` entries of `t` bits in which this party chooses.
    pub(crate) fn choose(&mut self, n: usize, m: u32, t: u32) -> Result<one_of_n::Receiver> {
        let records = records(&mut self.receive, n, UseKind::Table { m, t }, m + t)?;
        Ok(one_of_n::Receiver::new(m, t, records))
    }

    /// The next `n` with this party as sender, to be stretched.
    pub(crate) fn send_long(&mut self, n: usize) -> Result<RotSender> {
        Ok(RotSender::from_bytes(&next(&mut self.send, n, UseKind::Long)?)?)
    }

    /// The next `n` with this party as receiver, to be stretched.
    pub(crate) fn receive_long(&mut self, n: usize) -> Result<RotReceiver> {
        Ok(RotReceiver::from_bytes(&next(&mut self.receive, n, UseKind::Long)?)?)
    }

    /// Whether all of it is used: a step that leaves OTs behind was mispriced.
    pub fn is_used_up(&self) -> bool {
        self.send.is_empty() && self.receive.is_empty()
    }
}

fn records(queue: &mut VecDeque<Batch>, n: usize, kind: UseKind, bits: u32) -> Result<Records> {
    if n == 0 {
        return Ok(Records::with_capacity(0, bits));
    }
    Ok(Records::from_bytes(n, bits, next(queue, n, kind)?)?)
}

/// The front of a queue, which must be what is asked for.
fn next(queue: &mut VecDeque<Batch>, n: usize, kind: UseKind) -> Result<Secret<u8>> {
    match queue.pop_front() {
        Some(batch) if (batch.n, batch.kind) == (n, kind) => batch.kept.load(),
        other => {
            let made = other.map(|batch| (batch.n, batch.kind));
            Err(Error::Usage(format!("{n} random OTs for {kind:?} where the plan has {made:?}")))
        }
    }
}

/// Cuts random OTs of one direction down, as they are made.
struct Cutter<R> {
    /// What is not complete.
    uses: VecDeque<Use>,
    /// Made and not cut.
    rots: Option<R>,
    /// The part of the first use that is cut.
    records: Records,
    done: VecDeque<Batch>,
}

impl<R: Half> Cutter<R> {
    fn new(uses: Vec<Use>) -> Self {
        Self { uses: uses.into(), rots: None, records: Records::default(), done: VecDeque::new() }
    }

    fn ots(&self) -> usize {
        self.uses.iter().map(|u| u.n as usize * u.kind.ots() as usize).sum()
    }

    fn feed(&mut self, made: R, memory: &Memory) -> Result<()> {
        let mut rots = match self.rots.take() {
            Some(rots) => rots.join(made)?,
            None => made,
        };
        while let Some(&Use { n, kind, .. }) = self.uses.front() {
            let (n, per) = (n as usize, kind.ots() as usize);
            if self.records.is_empty() {
                self.records = Records::with_capacity(n, kind.kept_bits(R::SENDS));
            }
            let left = n - self.records.len();
            // Pieces of whole bytes, but for the last.
            let ready = if rots.len() / per >= left { left } else { (rots.len() / per) & !7 };
            let complete = ready == left;
            let bytes = if kind == UseKind::Long {
                if !complete {
                    break;
                }
                rots.take(n)?.into_bytes()
            } else {
                for part in
                    parts(&mut rots, ready, per)?.into_par_iter().map(|r| r.cut(kind)).collect::<Vec<_>>()
                {
                    self.records.append(&part?)?;
                }
                if !complete {
                    break;
                }
                std::mem::take(&mut self.records).into_bytes()
            };
            self.uses.pop_front();
            self.done.push_back(Batch { n, kind, kept: memory.keep(bytes)? });
        }
        self.rots = Some(rots).filter(|rots| rots.len() > 0);
        Ok(())
    }
}

/// Random OTs of `n` instances in parts of whole bytes, for the cores.
fn parts<R: Half>(rots: &mut R, n: usize, per: usize) -> Result<Vec<R>> {
    const INSTANCES: usize = 1 << 12;
    let sizes = (0..n).step_by(INSTANCES).map(|start| INSTANCES.min(n - start));
    Ok(sizes.map(|n| rots.take(n * per)).collect::<std::result::Result<_, OtError>>()?)
}

/// Either half of random OTs.
trait Half: Sized + Send {
    const SENDS: bool;
    fn len(&self) -> usize;
    fn take(&mut self, n: usize) -> std::result::Result<Self, OtError>;
    fn join(self, next: Self) -> std::result::Result<Self, OtError>;
    fn cut(self, kind: UseKind) -> std::result::Result<Records, OtError>;
    fn into_bytes(self) -> Secret<u8>;
}

macro_rules! half {
    ($rots:ty, $short:ty, $table:ty, $sends:literal) => {
        impl Half for $rots {
            const SENDS: bool = $sends;

            fn len(&self) -> usize {
                self.len()
            }

            fn take(&mut self, n: usize) -> std::result::Result<Self, OtError> {
                self.take(n)
            }

            fn join(self, next: Self) -> std::result::Result<Self, OtError> {
                self.join(next)
            }

            fn cut(self, kind: UseKind) -> std::result::Result<Records, OtError> {
                match kind {
                    UseKind::Strings { bits } => <$short>::cut(self, bits),
                    UseKind::Table { m, t } => <$table>::cut(self, m, t),
                    UseKind::Long => Err(OtError::Incompatible { what: "long pads" }),
                }
            }

            fn into_bytes(self) -> Secret<u8> {
                self.into_bytes()
            }
        }
    };
}

half!(RotSender, ShortSender, one_of_n::Sender, true);
half!(RotReceiver, ShortReceiver, one_of_n::Receiver, false);
