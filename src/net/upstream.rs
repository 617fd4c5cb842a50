//! A connection to an endpoint. Given up by dropping it: the endpoint sees the end at once.
//!
//! It goes back to a pool only by [`Upstream::into_idle`], which the relay calls after a whole answer with nothing
//! unread behind it; every other way out closes it. Over TLS an end without `close_notify` is a cut.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent};

use super::buffer::{Buffers, LARGE};
use super::calls::{self, Idle};
use super::link;
use super::socket::{self, Socket};
use super::tls::{Connector, Session, Stage};

/// Whether a connection failed for want of something of ours: it says nothing of the endpoint.
#[must_use]
pub fn is_our_want(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// One upstream connection with at most one exchange on it.
pub struct Upstream {
    stream: Option<Socket>,
    fd: RawFd,
    tls: Option<Box<Session>>,
    /// It has carried an exchange before: a failure before the first byte may be the keep-alive race.
    reused: bool,
}

impl Upstream {
    /// Connects, and runs the handshake if there is a `connector`. May be dropped while pending: nothing leaks.
    ///
    /// # Errors
    /// What the kernel says, or what is wrong with the endpoint's certificate.
    pub async fn connect(address: SocketAddr, connector: Option<&Connector>) -> io::Result<Self> {
        let stream = Socket::connect(address).await?;
        let fd = stream.as_raw_fd();
        calls::nodelay(fd);
        let mut this = Self { stream: Some(stream), fd, tls: None, reused: false };
        if let Some(connector) = connector {
            Box::pin(this.shake_hands(connector)).await?;
        }
        Ok(this)
    }

    async fn shake_hands(&mut self, connector: &Connector) -> io::Result<()> {
        let bad = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        let mut session = connector.session().map_err(bad)?;
        let Some(stream) = self.stream.as_mut() else { return Err(io::ErrorKind::NotConnected.into()) };
        let mut early = Vec::new();
        link::handshake(stream, &mut session, &mut early, &Buffers::default()).await?;
        if !early.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the endpoint spoke before it was asked"));
        }
        self.tls = Some(Box::new(session));
        Ok(())
    }

    /// Whether it came from a pool.
    #[must_use]
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// Whether it may carry an exchange: open, and nothing unasked-for has come. Over TLS tickets may have.
    #[must_use]
    pub fn quiet(&mut self) -> bool {
        let Some(session) = &mut self.tls else {
            let known = self.stream.as_ref().and_then(Socket::is_quiet);
            return known.unwrap_or_else(|| calls::peek(self.fd) == Idle::Quiet);
        };
        let mut chunk = [0; 2048];
        loop {
            let Some(n) = calls::receive_now(self.fd, &mut chunk) else { return false };
            let Some(came) = chunk.get(..n).filter(|came| !came.is_empty()) else { return true };
            let mut plain = Vec::new();
            let opened = session.receive(came.to_vec(), &mut plain);
            if opened.is_err() || !plain.is_empty() || session.stage() != Stage::Open {
                return false;
            }
        }
    }

    /// Marks it as used, for a pool. The read of its next answer begins at once, so that nobody has to ask whether the endpoint has
    /// closed it.
    #[must_use]
    pub fn into_idle(mut self, buffers: &Rc<Buffers>) -> Self {
        self.reused = true;
        if let Some(stream) = self.stream.as_ref().filter(|_| self.tls.is_none()) {
            stream.listen(buffers);
        }
        self
    }

    /// Sends a whole request of up to [`LARGE`] bytes while the caller goes on to wait for its answer, by which a failure shows.
    ///
    /// # Errors
    /// It has to be written, by [`Upstream::write`].
    pub fn post(&mut self, bytes: Vec<u8>, buffers: &Rc<Buffers>) -> Result<(), Vec<u8>> {
        let Some(stream) = self.stream.as_ref().filter(|_| bytes.len() <= LARGE && self.tls.is_none()) else {
            return Err(bytes);
        };
        stream.post(bytes, 0, buffers)
    }

    /// Whether nothing of a request is still to be sent.
    #[must_use]
    pub fn has_sent(&self) -> bool {
        self.stream.as_ref().is_none_or(Socket::has_sent)
    }

    /// Writes all of `bytes`; the buffer comes back with the result.
    pub async fn write(&mut self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let Some(session) = &mut self.tls else { return pin!(self.send(bytes)).await };
        let mut sealed = Vec::new();
        if let Err(error) = session.seal(&bytes, &mut sealed) {
            return (Err(io::Error::other(error.to_string())), bytes);
        }
        (pin!(self.send(sealed)).await.0, bytes)
    }

    async fn send(&mut self, mut bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let Some(stream) = self.stream.as_mut() else {
            return (Err(io::ErrorKind::NotConnected.into()), bytes);
        };
        let mut sent = 0;
        while sent < bytes.len() {
            let end = bytes.len();
            let (result, slice) = stream.write(bytes.slice(sent..end)).await;
            bytes = slice.into_inner();
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), bytes),
                Ok(n) => sent += n,
                Err(error) => return (Err(error), bytes),
            }
        }
        (Ok(()), bytes)
    }

    /// Appends what comes to `bytes`, plain into its spare capacity; `Ok(0)`: the endpoint has ended.
    pub async fn read(&mut self, mut bytes: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        if self.tls.is_some() {
            let result = Box::pin(self.read_sealed(&mut bytes)).await;
            return (result, bytes);
        }
        let Some(stream) = self.stream.as_mut() else {
            return (Err(io::ErrorKind::NotConnected.into()), bytes);
        };
        if bytes.len() == bytes.capacity() {
            bytes.reserve(bytes.len().max(1024));
        }
        let (start, end) = (bytes.len(), bytes.capacity());
        let (result, slice) = stream.read(bytes.slice_mut(start..end)).await;
        (result, slice.into_inner())
    }

    /// Reads once into `into`, behind what it holds, or into a small buffer that is had only when something has come;
    /// `Ok(0)`: the endpoint has ended.
    pub fn receive<'a>(
        &'a mut self,
        into: Option<Vec<u8>>,
        buffers: &'a Rc<Buffers>,
    ) -> impl Future<Output = Received> + Unpin + use<'a> {
        if into.is_some() || self.tls.is_some() || self.stream.is_none() {
            return Receiving::Into(Box::pin(self.read(into.unwrap_or_else(|| buffers.small()))));
        }
        match &mut self.stream {
            Some(stream) => Receiving::Any(stream.receive(None, buffers)),
            None => Receiving::Into(Box::pin(std::future::ready((
                Err(io::ErrorKind::NotConnected.into()),
                Vec::new(),
            )))),
        }
    }

    async fn read_sealed(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let before = bytes.len();
        let mut buffer = Vec::with_capacity(LARGE);
        loop {
            let (Some(stream), Some(session)) = (self.stream.as_mut(), self.tls.as_mut()) else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            if session.stage() == Stage::Ended {
                return Ok(0);
            }
            let (result, slice) = stream.read(buffer.slice_mut(0..LARGE)).await;
            if result? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let spare = session.receive(slice.into_inner(), bytes);
            buffer = spare.map_err(|error| io::Error::other(error.to_string()))?.unwrap_or_default();
            buffer.clear();
            buffer.reserve(LARGE);
            let outgoing = session.take_outgoing();
            if !outgoing.is_empty() {
                self.send(outgoing).await.0?;
            }
            if bytes.len() > before {
                return Ok(bytes.len() - before);
            }
        }
    }
}

/// How much has come, and where it is.
type Received = (io::Result<usize>, Vec<u8>);

/// A read that is under way. Named, so that who waits for it holds no more than what it needs.
enum Receiving<'a> {
    /// Into a buffer that is had when something has come.
    Any(socket::Receiving<'a>),
    /// Into one of its own.
    Into(Pin<Box<dyn Future<Output = Received> + 'a>>),
}

impl Future for Receiving<'_> {
    type Output = Received;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Any(reading) => Pin::new(reading).poll(cx),
            Self::Into(reading) => reading.as_mut().poll(cx),
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if self.stream.is_some() {
            if let Some(session) = &mut self.tls {
                calls::send_now(self.fd, &session.close_notify());
            }
            calls::shutdown(self.fd);
        }
    }
}
