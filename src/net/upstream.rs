//! A connection to an endpoint. Given up by dropping it: the endpoint sees the end at once.
//!
//! It goes back to a pool only by [`Upstream::into_idle`], which the relay calls after a whole answer with nothing
//! unread behind it; every other way out closes it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;

use super::socket::{self, Idle};

/// One upstream connection with at most one exchange on it.
pub struct Upstream {
    stream: Option<TcpStream>,
    fd: RawFd,
    /// It has carried an exchange before: a failure before the first byte may be the keep-alive race.
    reused: bool,
}

impl Upstream {
    /// Connects. May be dropped while pending: nothing leaks.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_addr(address).await?;
        let fd = stream.as_raw_fd();
        socket::nodelay(fd);
        Ok(Self { stream: Some(stream), fd, reused: false })
    }

    /// Whether it came from a pool.
    #[must_use]
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// Whether it may carry an exchange: open, and nothing unasked-for has come.
    #[must_use]
    pub fn quiet(&self) -> bool {
        socket::peek(self.fd) == Idle::Quiet
    }

    /// Marks it as used, for a pool.
    #[must_use]
    pub fn into_idle(mut self) -> Self {
        self.reused = true;
        self
    }

    /// Writes all of `bytes`; the buffer comes back with the result.
    pub async fn write(&mut self, mut bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
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

    /// Appends what comes to `bytes`, into its spare capacity; `Ok(0)`: the endpoint has ended.
    pub async fn read(&mut self, mut bytes: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
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
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if self.stream.is_some() {
            socket::shutdown(self.fd);
        }
    }
}
