//! A socket with what has been agreed on above it.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;

use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};

use super::buffer::Buffers;
use super::calls;
use super::clock::{self, Timer};
use super::socket::Socket;
use super::tls::{Session, Stage};

/// A session as both sides of a task use it: never borrowed across an await.
pub type Tls = Rc<RefCell<Session>>;

/// A connection on which nothing is pending.
pub struct Link {
    pub(super) stream: Socket,
    pub(super) tls: Option<Tls>,
    /// Plaintext that came with the end of the handshake.
    pub(super) early: Vec<u8>,
}

impl From<Socket> for Link {
    fn from(stream: Socket) -> Self {
        Self { stream, tls: None, early: Vec::new() }
    }
}

impl Link {
    /// The protocol agreed on by ALPN.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.borrow().protocol() == Some(b"h2"))
    }

    /// Whether it is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether its peer has said anything since the last call, as far as that is known.
    #[must_use]
    pub fn take_spoken(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.borrow_mut().take_spoken())
    }

    /// Runs the handshake of `session` over `link`; `None` when it fails or `timer` fires: the connection is closed.
    pub async fn accept(link: Self, session: Session, timer: &Timer, buffers: &Buffers) -> Option<Self> {
        let Self { mut stream, .. } = link;
        let (mut session, mut early) = (session, Vec::new());
        let done = {
            let shaking = pin!(handshake(&mut stream, &mut session, &mut early, buffers));
            clock::before(timer, shaking).await
        };
        if !matches!(done, Some(Ok(()))) {
            if done.is_some() {
                part(&mut stream, timer, buffers).await;
            }
            calls::shutdown(stream.as_raw_fd());
            return None;
        }
        Some(Self { stream, tls: Some(Rc::new(RefCell::new(session))), early })
    }

    /// Gives up an idle connection: the peer hears that it is over.
    pub fn dismiss(self) {
        if let Some(tls) = &self.tls {
            calls::send_now(self.stream.as_raw_fd(), &tls.borrow_mut().close_notify());
        }
    }
}

/// Time for a peer that was refused to hear it, and most that is read of it meanwhile.
const PARTING_US: u64 = 1_000_000;
const PARTING_BYTES: usize = 64 * 1024;

/// Ends our side, then drops what still comes until the peer ends its own: closed with bytes unread, the connection
/// would be reset, and the alert that says why be lost. Clients of TLS 1.3 send their request before they hear of it.
async fn part(stream: &mut Socket, timer: &Timer, buffers: &Buffers) {
    calls::shutdown_write(stream.as_raw_fd());
    timer.extend(PARTING_US);
    let hearing = pin!(async {
        let (mut dropped, mut buffer) = (0, buffers.small());
        while dropped < PARTING_BYTES {
            let end = buffer.capacity();
            let (result, slice) = stream.read(buffer.slice_mut(0..end)).await;
            buffer = slice.into_inner();
            match result {
                Ok(n) if n > 0 => dropped += n,
                _ => break,
            }
        }
        buffers.give(buffer);
    });
    clock::before(timer, hearing).await;
}

/// Drives `session` until data may pass. Sockets and session are both lost if it is dropped before its end.
///
/// # Errors
/// The peer breaks the protocol, is not trusted, or leaves. It has been told why, as far as it listens.
pub async fn handshake(
    stream: &mut Socket,
    session: &mut Session,
    early: &mut Vec<u8>,
    buffers: &Buffers,
) -> io::Result<()> {
    let mut received = session.receive(Vec::new(), early);
    loop {
        let outgoing = session.take_outgoing();
        if !outgoing.is_empty() {
            stream.write_all(outgoing).await.0?;
        }
        if let Err(error) = &received {
            return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string()));
        }
        match session.stage() {
            Stage::Open => return Ok(()),
            // A client may send its only request and its end together with the last message of the handshake.
            Stage::Ended if !early.is_empty() => return Ok(()),
            Stage::Ended => return Err(io::ErrorKind::UnexpectedEof.into()),
            Stage::Handshake => {}
        }
        let buffer = buffers.small();
        let end = buffer.capacity();
        let (result, slice) = stream.read(buffer.slice_mut(0..end)).await;
        if result? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received = session.receive(slice.into_inner(), early);
        if let Ok(Some(spare)) = &mut received {
            buffers.give(std::mem::take(spare));
        }
    }
}
