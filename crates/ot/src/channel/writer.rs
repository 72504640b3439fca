//! The sending half of a channel.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::{BACKLOG, ChannelError};

/// The sending half: a queue, and for TCP the thread that empties it.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<Sender<Vec<u8>>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    backlog: Arc<Backlog>,
}

/// Bytes in a queue.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// How many, and whether nobody empties the queue any more.
    bytes: Mutex<(usize, bool)>,
    shorter: Condvar,
}

impl Backlog {
    pub(super) fn change(&self, f: impl FnOnce(&mut (usize, bool))) {
        f(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        self.shorter.notify_all();
    }

    /// Nobody empties the queue any more.
    pub(super) fn close(&self) {
        self.change(|(_, closed)| *closed = true);
    }

    /// Waits until it is short; false if nobody empties it any more.
    fn wait(&self) -> bool {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let long = |(bytes, closed): &mut (usize, bool)| *bytes > BACKLOG && !*closed;
        let (_, closed) = *self.shorter.wait_while(bytes, long).unwrap_or_else(PoisonError::into_inner);
        !closed
    }
}

impl Writer {
    /// The queue's other end takes its bytes off `backlog`.
    pub(super) fn memory(queue: Sender<Vec<u8>>, backlog: Arc<Backlog>) -> Self {
        Self { queue: Some(queue), thread: None, backlog }
    }

    /// Waits until at most [`BACKLOG`] bytes are queued. It is an error of its own that nobody will
    /// ever take them: a queue whose other end is going away still accepts bytes for a moment.
    pub(super) fn wait(&mut self) -> Result<(), ChannelError> {
        if self.backlog.wait() { Ok(()) } else { Err(self.failure()) }
    }

    pub(super) fn tcp(mut stream: TcpStream) -> io::Result<Self> {
        let (queue, receiver) = mpsc::channel::<Vec<u8>>();
        let backlog = Arc::<Backlog>::default();
        let ours = Arc::clone(&backlog);
        let thread = std::thread::Builder::new().name("copriv-writer".into()).spawn(move || {
            let written = receiver.into_iter().try_for_each(|bytes| {
                stream.write_all(&bytes)?;
                ours.change(|(queued, _)| *queued -= bytes.len());
                Ok(())
            });
            ours.close();
            // Half-close: the peer still reads what is under way.
            let _ = written.is_ok() && stream.shutdown(Shutdown::Write).is_ok();
            written
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), backlog })
    }

    pub(super) fn write(&mut self, bytes: Vec<u8>) -> Result<(), ChannelError> {
        let queue = self.queue.as_ref().ok_or(ChannelError::Failed)?;
        self.backlog.change(|(queued, _)| *queued += bytes.len());
        if queue.send(bytes).is_ok() {
            return Ok(());
        }
        Err(self.failure())
    }

    /// Why the receiving end is gone: it was the peer (memory) or the writer thread, which knows.
    fn failure(&mut self) -> ChannelError {
        self.close().unwrap_or(ChannelError::PeerClosed)
    }

    /// Lets the queue run dry, waits for the thread, and gives its error.
    pub(super) fn close(&mut self) -> Option<ChannelError> {
        self.queue = None;
        let result = self.thread.take()?.join();
        match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.into()),
            Err(_) => Some(ChannelError::Failed),
        }
    }
}
