//! A duplex byte channel that counts what passes.
//!
//! Sends never block: a TCP channel hands its bytes to a writer thread through an unbounded
//! queue, so two parties that both send before they receive cannot deadlock; only
//! [`Channel::stream`], for long messages whose receiver is known to read, waits for the queue to
//! run low. Small sends are coalesced and leave before any [`Channel::recv`] or [`Channel::exchange`], on
//! [`Channel::flush`], and when the channel is dropped.
//!
//! There is no framing: both parties know every length from the protocol state. The counter
//! therefore counts payload, and payload is all there is.

use std::io::{self, BufReader, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

mod writer;

use writer::{Backlog, Writer};

pub use crate::traffic::Traffic;

/// Bytes kept back before they go to the writer.
const COALESCE: usize = 1 << 16;
/// Bytes that [`Channel::stream`] leaves in the queue.
pub const BACKLOG: usize = 4 << 20;
/// Most bytes allocated ahead of what has arrived.
const READ_STEP: usize = 1 << 20;

/// Why the channel failed. Every failure is final: afterwards the two parties are out of step,
/// and each further call gives [`ChannelError::Failed`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The peer closed the connection, or died.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// Nothing arrived, or nothing could be written, within the time limit.
    #[error("the peer was silent for longer than the time limit")]
    Timeout,
    /// The transport failed.
    #[error("transport: {0}")]
    Io(io::Error),
    /// An earlier call failed.
    #[error("the channel failed before")]
    Failed,
}

impl From<io::Error> for ChannelError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::UnexpectedEof
            | Kind::BrokenPipe
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected => Self::PeerClosed,
            Kind::WouldBlock | Kind::TimedOut => Self::Timeout,
            _ => Self::Io(error),
        }
    }
}

/// A duplex byte channel to the other party. See the [module documentation](self).
#[derive(Debug)]
pub struct Channel {
    pending: Vec<u8>,
    writer: Writer,
    reader: Reader,
    traffic: Traffic,
    flow: Flow,
    failed: bool,
}

/// What the last call did, for counting rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Idle,
    Sending,
    Receiving,
}

impl Channel {
    /// A channel over a connected TCP stream, with `TCP_NODELAY` and a writer thread.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let writer = Writer::tcp(stream.try_clone()?)?;
        let reader = Reader::Tcp(BufReader::with_capacity(COALESCE, stream));
        Ok(Self::new(writer, reader))
    }

    /// Two ends of an in-memory channel.
    pub fn pair() -> (Self, Self) {
        let (to_b, from_a) = mpsc::channel();
        let (to_a, from_b) = mpsc::channel();
        let backlogs = [Arc::<Backlog>::default(), Arc::default()];
        let end = |queue, out: &Arc<Backlog>, receiver, into: &Arc<Backlog>| {
            let reader = Reader::Memory(Incoming {
                receiver,
                backlog: Arc::clone(into),
                current: Vec::new(),
                position: 0,
                timeout: None,
            });
            Self::new(Writer::memory(queue, Arc::clone(out)), reader)
        };
        let [a, b] = &backlogs;
        (end(to_b, a, from_b, b), end(to_a, b, from_a, a))
    }

    fn new(writer: Writer, reader: Reader) -> Self {
        Self {
            pending: Vec::new(),
            writer,
            reader,
            traffic: Traffic::default(),
            flow: Flow::Idle,
            failed: false,
        }
    }

    /// Sets how long a call may wait without any progress; `None`, the initial state, is for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), ChannelError> {
        match &mut self.reader {
            Reader::Tcp(stream) => {
                stream.get_ref().set_read_timeout(timeout)?;
                stream.get_ref().set_write_timeout(timeout)?;
            }
            Reader::Memory(incoming) => incoming.timeout = timeout,
        }
        Ok(())
    }

    /// Sends bytes; they may be kept back until the next flush.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.count(Flow::Sending);
        self.guard(|chan| chan.enqueue(bytes))
    }

    /// As [`Self::send`], but waits until at most [`BACKLOG`] bytes are queued: for the pieces of a long
    /// message that the peer reads as they come, so that they pass in bounded memory.
    pub fn stream(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        self.send(bytes)?;
        self.guard(|chan| chan.writer.wait())
    }

    /// Receives exactly `len` bytes, after flushing what was sent. Memory grows as bytes arrive,
    /// so a large `len` costs nothing until the peer has paid for it.
    pub fn recv(&mut self, len: usize) -> Result<Vec<u8>, ChannelError> {
        if len == 0 {
            return Ok(Vec::new());
        }
        self.count(Flow::Receiving);
        self.guard(|chan| {
            chan.push_pending()?;
            chan.read(len)
        })
    }

    /// Sends `mine` and receives `theirs` bytes: both parties call this at once, and it counts
    /// as one round.
    pub fn exchange(&mut self, mine: &[u8], theirs: usize) -> Result<Vec<u8>, ChannelError> {
        if mine.is_empty() && theirs == 0 {
            return Ok(Vec::new());
        }
        self.traffic.rounds += 1;
        self.flow = Flow::Idle;
        self.guard(|chan| {
            chan.enqueue(mine)?;
            chan.push_pending()?;
            chan.read(theirs)
        })
    }

    /// Counts the round of an exchange in pieces: [`Self::put`] and [`Self::get`] follow, as many
    /// as wanted, and the peer does the same. Lets long messages pass in bounded memory.
    pub(crate) fn begin_exchange(&mut self) {
        self.traffic.rounds += 1;
        self.flow = Flow::Idle;
    }

    /// Sends a piece of an exchange.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        self.guard(|chan| chan.enqueue(bytes))
    }

    /// Lets the pieces put so far go.
    pub(crate) fn push(&mut self) -> Result<(), ChannelError> {
        self.guard(Self::push_pending)
    }

    /// Receives a piece of an exchange.
    pub(crate) fn get(&mut self, len: usize) -> Result<Vec<u8>, ChannelError> {
        self.guard(|chan| {
            chan.push_pending()?;
            chan.read(len)
        })
    }

    /// Hands everything sent so far to the transport.
    pub fn flush(&mut self) -> Result<(), ChannelError> {
        self.guard(Self::push_pending)
    }

    /// Says that nothing more will be sent: the peer can read what is under way and then finds
    /// the channel closed. Receiving goes on.
    pub fn close_sending(&mut self) -> Result<(), ChannelError> {
        self.guard(|chan| {
            chan.push_pending()?;
            chan.writer.close().map_or(Ok(()), Err)
        })
    }

    /// What passed since the channel was made.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Starts a new phase: the next call begins a new flow, so that the rounds of phases add up.
    pub fn mark_phase(&mut self) {
        self.flow = Flow::Idle;
    }

    fn count(&mut self, flow: Flow) {
        if self.flow != flow {
            self.traffic.rounds += 1;
            self.flow = flow;
        }
    }

    /// Runs one step and remembers whether it failed.
    fn guard<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, ChannelError>,
    ) -> Result<T, ChannelError> {
        if self.failed {
            return Err(ChannelError::Failed);
        }
        let result = step(self);
        self.failed = result.is_err();
        result
    }

    fn enqueue(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        self.traffic.sent += bytes.len() as u64;
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= COALESCE {
            self.push_pending()?;
        }
        Ok(())
    }

    fn push_pending(&mut self) -> Result<(), ChannelError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.writer.write(std::mem::take(&mut self.pending))
    }

    fn read(&mut self, len: usize) -> Result<Vec<u8>, ChannelError> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let start = bytes.len();
            // At most doubles, and at most what has been paid for plus one step.
            let step = (len - start).min(READ_STEP.max(start));
            bytes.resize(start + step, 0);
            self.reader.read_exact(&mut bytes[start..])?;
        }
        self.traffic.received += len as u64;
        Ok(bytes)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if !self.failed {
            // The peer may be gone already; there is nobody left to tell.
            let _ = self.push_pending();
        } else if let Reader::Tcp(stream) = &self.reader {
            // A writer stuck on a dead peer must not keep us.
            let _ = stream.get_ref().shutdown(Shutdown::Both);
        }
        self.writer.close();
    }
}

#[derive(Debug)]
enum Reader {
    Tcp(BufReader<TcpStream>),
    Memory(Incoming),
}

/// The receiving half of an in-memory channel.
#[derive(Debug)]
struct Incoming {
    receiver: Receiver<Vec<u8>>,
    backlog: Arc<Backlog>,
    current: Vec<u8>,
    position: usize,
    timeout: Option<Duration>,
}

impl Reader {
    fn read_exact(&mut self, out: &mut [u8]) -> Result<(), ChannelError> {
        match self {
            Self::Tcp(stream) => Ok(stream.read_exact(out)?),
            Self::Memory(incoming) => incoming.read_exact(out),
        }
    }
}

impl Incoming {
    fn read_exact(&mut self, mut out: &mut [u8]) -> Result<(), ChannelError> {
        while !out.is_empty() {
            if self.position == self.current.len() {
                self.current = next_chunk(&self.receiver, self.timeout)?;
                self.position = 0;
                self.backlog.change(|(queued, _)| *queued -= self.current.len());
            }
            let n = out.len().min(self.current.len() - self.position);
            out[..n].copy_from_slice(&self.current[self.position..self.position + n]);
            self.position += n;
            out = &mut out[n..];
        }
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.backlog.close();
    }
}

fn next_chunk(receiver: &Receiver<Vec<u8>>, timeout: Option<Duration>) -> Result<Vec<u8>, ChannelError> {
    match timeout {
        None => receiver.recv().map_err(|_| ChannelError::PeerClosed),
        Some(limit) => receiver.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => ChannelError::Timeout,
            RecvTimeoutError::Disconnected => ChannelError::PeerClosed,
        }),
    }
}
