//! A connection of whichever runtime runs here: the ring of a shard ([`crate::net::uring`]), or the portable one.
//!
//! It has the portable runtime's traits, so what reads and writes by them knows of neither. The portable runtime's operations are in
//! boxes: they are large, and every future above would have room for them on the ring too.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut, IoVecBuf, IoVecBufMut, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, CancelableAsyncReadRent, Canceller, Split};
use monoio::net::{TcpStream, UnixStream};

use super::buffer::Buffers;
use super::uring;

/// A TCP or unix connection.
pub struct Socket(Kind);

enum Kind {
    Ring(uring::Socket),
    Tcp(Box<TcpStream>),
    Unix(Box<UnixStream>),
}

// SAFETY: one read and one write may run side by side, on the ring as on the portable runtime.
unsafe impl Split for Socket {}

impl Socket {
    /// Connects to a TCP address. May be dropped while pending.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(match uring::current() {
            Some(executor) => Kind::Ring(uring::Socket::connect(executor, address).await?),
            None => Kind::Tcp(Box::new(Box::pin(TcpStream::connect_addr(address)).await?)),
        }))
    }

    /// Connects to a unix socket. May be dropped while pending.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Self(match uring::current() {
            Some(executor) => Kind::Ring(uring::Socket::connect_unix(executor, path).await?),
            None => Kind::Unix(Box::new(Box::pin(UnixStream::connect(path)).await?)),
        }))
    }

    /// Takes a TCP connection into this thread's runtime.
    ///
    /// # Errors
    /// The driver refuses it.
    pub fn attach(stream: std::net::TcpStream) -> io::Result<Self> {
        Ok(Self(match uring::current() {
            Some(executor) => {
                stream.set_nonblocking(false)?;
                Kind::Ring(uring::Socket::new(executor, stream.into()))
            }
            None => Kind::Tcp(Box::new(TcpStream::from_std(stream)?)),
        }))
    }

    /// Takes it out of this thread's runtime; nothing may be pending on it.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn detach(self) -> io::Result<std::net::TcpStream> {
        let fd = match self.0 {
            Kind::Ring(socket) => return socket.into_fd().map(Into::into),
            Kind::Tcp(stream) => stream.into_raw_fd(),
            Kind::Unix(stream) => stream.into_raw_fd(),
        };
        // SAFETY: into_raw_fd gives up ownership, from_raw_fd takes it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
    }

    /// Waits, without a buffer, until there is something to read or the peer has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> + Unpin {
        match &self.0 {
            Kind::Ring(socket) => Readable::Ring(socket.readable()),
            Kind::Tcp(stream) => Readable::Portable(Box::pin(stream.readable(true))),
            Kind::Unix(stream) => Readable::Portable(Box::pin(stream.readable(true))),
        }
    }

    /// Reads once, into `into` behind what it holds or into a small buffer of `buffers`; can be given up without losing what came.
    pub(super) fn receive<'a>(
        &'a mut self,
        into: Option<Vec<u8>>,
        buffers: &'a Rc<Buffers>,
    ) -> Receiving<'a> {
        match &mut self.0 {
            Kind::Ring(socket) => Receiving::Ring(socket.receive(into, buffers)),
            Kind::Tcp(stream) => Receiving::portable(&mut **stream, into.unwrap_or_else(|| buffers.small())),
            Kind::Unix(stream) => Receiving::portable(&mut **stream, into.unwrap_or_else(|| buffers.small())),
        }
    }
}

impl Socket {
    /// Sends `bytes[start..]` while the sender goes on; the memory goes to `buffers`. Writes come behind it. If it fails the
    /// connection is shut down.
    ///
    /// # Errors
    /// It has to be written: what was posted before is under way, or the runtime has no such thing.
    pub(super) fn post(&self, bytes: Vec<u8>, start: usize, buffers: &Rc<Buffers>) -> Result<(), Vec<u8>> {
        match &self.0 {
            Kind::Ring(socket) => socket.post(bytes, start, buffers),
            Kind::Tcp(_) | Kind::Unix(_) => Err(bytes),
        }
    }

    /// Whether the runtime can post.
    pub(super) fn posts(&self) -> bool {
        matches!(self.0, Kind::Ring(_))
    }

    /// Whether nothing that was posted is under way.
    pub(super) fn has_sent(&self) -> bool {
        match &self.0 {
            Kind::Ring(socket) => socket.has_sent(),
            Kind::Tcp(_) | Kind::Unix(_) => true,
        }
    }

    /// Begins to read before anybody wants what comes, where the runtime can: [`Socket::receive`] goes on with it.
    pub(super) fn listen(&self, buffers: &Rc<Buffers>) {
        if let Kind::Ring(socket) = &self.0 {
            socket.listen(buffers);
        }
    }

    /// Whether neither bytes nor an end have come since [`Socket::listen`]; `None`: that is not known.
    pub(super) fn is_quiet(&self) -> Option<bool> {
        match &self.0 {
            Kind::Ring(socket) => socket.is_quiet(),
            Kind::Tcp(_) | Kind::Unix(_) => None,
        }
    }

    /// Waits until what was posted is not under way any more.
    pub(super) async fn sent(&self) {
        if let Kind::Ring(socket) = &self.0 {
            socket.sent().await;
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self(Kind::Tcp(Box::new(stream)))
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        match &self.0 {
            Kind::Ring(socket) => socket.as_raw_fd(),
            Kind::Tcp(stream) => stream.as_raw_fd(),
            Kind::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl AsyncReadRent for Socket {
    async fn read<T: IoBufMut>(&mut self, buf: T) -> BufResult<usize, T> {
        match &mut self.0 {
            Kind::Ring(socket) => socket.read(buf).await,
            Kind::Tcp(stream) => Box::pin(stream.read(buf)).await,
            Kind::Unix(stream) => Box::pin(stream.read(buf)).await,
        }
    }

    async fn readv<T: IoVecBufMut>(&mut self, buf: T) -> BufResult<usize, T> {
        (Err(io::ErrorKind::Unsupported.into()), buf)
    }
}

impl AsyncWriteRent for Socket {
    async fn write<T: IoBuf>(&mut self, buf: T) -> BufResult<usize, T> {
        match &mut self.0 {
            Kind::Ring(socket) => socket.write(buf).await,
            Kind::Tcp(stream) => Box::pin(stream.write(buf)).await,
            Kind::Unix(stream) => Box::pin(stream.write(buf)).await,
        }
    }

    async fn writev<T: IoVecBuf>(&mut self, buf: T) -> BufResult<usize, T> {
        (Err(io::ErrorKind::Unsupported.into()), buf)
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        super::calls::shutdown_write(self.as_raw_fd());
        Ok(())
    }
}

/// A wait for something to read; may be dropped at any time.
enum Readable<'a> {
    /// On the ring.
    Ring(uring::Readable<'a>),
    /// On the portable runtime.
    Portable(Pin<Box<dyn Future<Output = io::Result<()>> + 'a>>),
}

impl Future for Readable<'_> {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Ring(waiting) => Pin::new(waiting).poll(cx),
            Self::Portable(waiting) => waiting.as_mut().poll(cx),
        }
    }
}

type Boxed<'a> = Pin<Box<dyn Future<Output = BufResult<usize, SliceMut<Vec<u8>>>> + 'a>>;

/// A read that is under way.
pub(super) enum Receiving<'a> {
    /// On the ring.
    Ring(uring::Receiving<'a>),
    /// On the portable runtime.
    Portable(Boxed<'a>, Option<Canceller>),
}

impl<'a> Receiving<'a> {
    fn portable(stream: &'a mut impl CancelableAsyncReadRent, bytes: Vec<u8>) -> Self {
        let canceller = Canceller::new();
        let (start, end) = (bytes.len(), bytes.capacity());
        let reading = stream.cancelable_read(bytes.slice_mut(start..end), canceller.handle());
        Self::Portable(Box::pin(reading), Some(canceller))
    }

    /// Asks for its end: it has still to be awaited, and has what had come.
    pub fn cancel(&mut self) {
        match self {
            Self::Ring(reading) => reading.cancel(),
            Self::Portable(_, canceller) => drop(canceller.take().map(Canceller::cancel)),
        }
    }
}

impl Future for Receiving<'_> {
    type Output = BufResult<usize, Vec<u8>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Ring(reading) => Pin::new(reading).poll(cx),
            Self::Portable(reading, _) => {
                reading.as_mut().poll(cx).map(|(result, bytes)| (result, bytes.into_inner()))
            }
        }
    }
}
