//! The client's side of an exchange: a connection of its own ([`line`]), or one stream of a shared one
//! ([`stream`]). Exchanges do not know which.

mod connection;
pub mod line;
pub mod stream;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

pub use line::{End, Line, readable, run, run_until_rest};
pub use stream::Stream;

use super::clock::Timer;

/// Bytes that the kernel still has for a client that does not read.
const BEHIND: usize = 16 * 1024;

/// Why an operation was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The client closed or reset its connection, or its stream.
    ClientGone,
    /// The timer of the connection fired.
    Deadline,
}

/// The exchange's hold on its client.
pub enum Client {
    /// HTTP/1.1: the connection is the exchange's alone.
    Line(Line),
    /// HTTP/2: one of many streams.
    Stream(Box<Stream>),
}

impl Client {
    /// The address of the other end.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        match self {
            Self::Line(line) => line.peer(),
            Self::Stream(stream) => stream.peer(),
        }
    }

    /// Its IP address as text.
    #[must_use]
    pub fn peer_text(&self) -> &str {
        match self {
            Self::Line(line) => line.peer_text(),
            Self::Stream(stream) => stream.peer_text(),
        }
    }

    /// Whether its connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Line(line) => line.is_tls(),
            Self::Stream(_) => true,
        }
    }

    /// The exchange's one deadline.
    #[must_use]
    pub fn timer(&self) -> &Timer {
        match self {
            Self::Line(line) => line.timer(),
            Self::Stream(stream) => stream.timer(),
        }
    }

    /// From now on, a write that makes no progress for `limit` is given up; the timer is set by every write.
    pub fn limit_writes(&mut self, limit: Duration) {
        match self {
            Self::Line(line) => line.limit_writes(limit),
            Self::Stream(stream) => stream.limit_writes(limit),
        }
    }

    /// Appends at least one byte of the request to `into`; `Ok(0)`: the client has ended its side.
    ///
    /// # Errors
    /// [`Stop::Deadline`]; `into` is lost then and the connection must be closed. [`Stop::ClientGone`] of a stream
    /// that was reset.
    pub async fn fill(&mut self, into: &mut Vec<u8>) -> Result<usize, Stop> {
        match self {
            Self::Line(line) => line.fill(into).await,
            Self::Stream(stream) => stream.fill(into).await,
        }
    }

    /// Takes the bytes that have come on a connection of its own, if they are what is wanted.
    pub fn take_if(&mut self, is_wanted: impl FnOnce(&[u8]) -> bool) -> Option<Vec<u8>> {
        match self {
            Self::Line(line) => line.take_if(is_wanted),
            Self::Stream(_) => None,
        }
    }

    /// Puts back bytes that belong to the next request.
    pub fn unread(&mut self, bytes: &[u8]) {
        if let Self::Line(line) = self {
            line.unread(bytes);
        }
    }

    /// Keeps watch from now on, so that [`Client::race`] notices a client that leaves.
    pub fn watch(&mut self) {
        if let Self::Line(line) = self {
            line.watch();
        }
    }

    /// Gives back the buffer of a pending read: the client has only listened for a while.
    pub fn park(&self) {
        if let Self::Line(line) = self {
            line.park();
        }
    }

    /// Runs `op` unless the client leaves or the timer fires first; the caller then drops `op` with all it works on.
    /// It is taken pinned, because each `async fn` that takes a future by value holds it twice.
    ///
    /// # Errors
    /// The reason for stopping.
    pub fn race<'a, F: Future>(
        &'a self,
        mut op: Pin<&'a mut F>,
    ) -> impl Future<Output = Result<F::Output, Stop>> + Unpin + use<'a, F> {
        std::future::poll_fn(move |cx| match op.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if self.poll_gone(cx) => Poll::Ready(Err(Stop::ClientGone)),
            Poll::Pending if self.timer().poll_fired(cx) => Poll::Ready(Err(Stop::Deadline)),
            Poll::Pending => Poll::Pending,
        })
    }

    /// Whether a client with a connection of its own has ended its side; needs [`Client::watch`].
    #[must_use]
    pub fn gone(&self) -> bool {
        matches!(self, Self::Line(line) if line.gone())
    }

    /// Bytes that the kernel has still to bring to a client with a connection of its own.
    #[must_use]
    pub fn unsent(&self) -> usize {
        match self {
            Self::Line(line) => line.unsent(),
            Self::Stream(_) => 0,
        }
    }

    /// Whether so many bytes of an answer that has begun can be written without waiting.
    #[must_use]
    pub fn takes_now(&mut self, bytes: usize) -> bool {
        match self {
            Self::Line(line) => line.unsent() < BEHIND,
            Self::Stream(stream) => stream.takes_now(bytes),
        }
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Line(line) => line.gone(),
            Self::Stream(stream) => stream.poll_gone(cx),
        }
    }

    /// Writes the whole of `bytes` and gives the buffer back.
    ///
    /// # Errors
    /// The client is gone, or the timer fired with nothing taken.
    pub fn write(&mut self, bytes: Vec<u8>) -> impl Future<Output = Result<Vec<u8>, Stop>> {
        self.write_from(bytes, 0)
    }

    /// Writes `bytes[start..]` and gives the buffer back. The first bytes of an answer are its head, whole.
    ///
    /// # Errors
    /// As [`Client::write`].
    pub async fn write_from(&mut self, bytes: Vec<u8>, start: usize) -> Result<Vec<u8>, Stop> {
        match self {
            Self::Line(line) => pin!(line.write_from(bytes, start)).await,
            Self::Stream(stream) => pin!(stream.write_from(bytes, start)).await,
        }
    }

    /// Sends `bytes[start..]` while the caller goes on; a client that has left shows by the next wait.
    ///
    /// # Errors
    /// They have to be written, by [`Client::write_from`]: they are many, or what was posted before is still under way, or the
    /// connection is shared.
    pub fn post_from(&mut self, bytes: Vec<u8>, start: usize) -> Result<(), Vec<u8>> {
        match self {
            Self::Line(line) => line.post(bytes, start),
            Self::Stream(_) => Err(bytes),
        }
    }
}
