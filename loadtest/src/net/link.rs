//! One connection to the target, in the clear or by TLS.
//!
//! Reads append to a buffer that goes to the kernel and comes back, and everything that waits ends when the deadline of
//! the connection's [`Watch`] has passed.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use monoio::buf::{IoBuf as _, IoBufMut as _};
use monoio::io::{
    AsyncReadRent as _, AsyncWriteRentExt as _, CancelableAsyncReadRent as _, CancelableAsyncWriteRent as _,
    OwnedReadHalf, OwnedWriteHalf, Splitable as _,
};
use monoio::net::TcpStream;

use super::secure::Session;
use super::watch::Watch;

/// Room that a read has at least.
const READ_MIN: usize = 4 * 1024;
/// Ciphertext that is read at once: a record and a little.
const SEALED: usize = 17 * 1024;

/// A connection.
pub struct Link {
    pub(super) tcp: TcpStream,
    pub(super) tls: Option<Tls>,
}

/// Its TLS session and buffers.
pub(super) struct Tls {
    pub session: Session,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Link {
    pub(super) fn new(tcp: TcpStream, session: Option<Session>) -> Self {
        let tls = session.map(|session| Tls { session, incoming: Vec::new(), outgoing: Vec::new() });
        Self { tcp, tls }
    }

    /// Writes all of `bytes`, which come back.
    pub async fn write(&mut self, bytes: Vec<u8>, watch: &Watch) -> (io::Result<()>, Vec<u8>) {
        let Self { tcp, tls } = self;
        let Some(tls) = tls else { return send(tcp, bytes, watch).await };
        let sealed = tls.session.seal(&bytes);
        if let Err(error) = sealed {
            return (Err(error), bytes);
        }
        (flush(tcp, tls, watch).await, bytes)
    }

    /// Reads what there is and appends it to `into`; 0: the peer has ended.
    pub async fn read(&mut self, mut into: Vec<u8>, watch: &Watch) -> (io::Result<usize>, Vec<u8>) {
        let Self { tcp, tls } = self;
        let Some(tls) = tls else { return receive(tcp, into, READ_MIN, watch).await };
        loop {
            let mut buffer = std::mem::take(&mut tls.incoming);
            buffer.clear();
            let (result, sealed) = receive(tcp, buffer, SEALED, watch).await;
            let opened = match result {
                Ok(0) => Ok(0),
                Ok(_) => tls.session.open(&sealed, &mut into),
                Err(error) => Err(error),
            };
            let ended = sealed.is_empty();
            tls.incoming = sealed;
            match opened {
                Ok(0) if !ended => {} // a ticket, or half a record
                opened => return (opened, into),
            }
        }
    }

    /// Whether the peer agreed to speak HTTP/2; in the clear it is assumed to know.
    #[must_use]
    pub fn speaks_h2(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.session.protocol() == Some(b"h2"))
    }

    /// Both directions apart, for several requests at once. Nothing of them is cancelled: who waits no longer lets go.
    #[must_use]
    pub fn split(self) -> (Reading, Writing) {
        let (reading, writing) = self.tcp.into_split();
        let session = self.tls.map(|tls| Rc::new(RefCell::new(tls.session)));
        (
            Reading { tcp: reading, session: session.clone(), sealed: Vec::new() },
            Writing { tcp: writing, session, sealed: Vec::new() },
        )
    }

    /// The TLS handshake; nothing in the clear.
    pub(super) async fn handshake(&mut self, watch: &Watch) -> io::Result<()> {
        let Self { tcp, tls } = self;
        let Some(tls) = tls else { return Ok(()) };
        let mut early = Vec::new();
        while tls.session.is_handshaking() {
            flush(tcp, tls, watch).await?;
            let mut buffer = std::mem::take(&mut tls.incoming);
            buffer.clear();
            let (result, sealed) = receive(tcp, buffer, SEALED, watch).await;
            if result? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let opened = tls.session.open(&sealed, &mut early);
            tls.incoming = sealed;
            opened?;
        }
        flush(tcp, tls, watch).await
    }
}

/// The direction from the target.
pub struct Reading {
    tcp: OwnedReadHalf<TcpStream>,
    session: Option<Rc<RefCell<Session>>>,
    sealed: Vec<u8>,
}

impl Reading {
    /// As [`Link::read`].
    pub async fn read(&mut self, mut into: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let Some(session) = &self.session else {
            into.reserve(SEALED);
            let (begin, end) = (into.len(), into.capacity());
            let (result, slice) = self.tcp.read(into.slice_mut(begin..end)).await;
            return (result, slice.into_inner());
        };
        loop {
            let mut buffer = std::mem::take(&mut self.sealed);
            buffer.clear();
            buffer.reserve(SEALED);
            let (result, buffer) = self.tcp.read(buffer).await;
            self.sealed = buffer;
            let opened = match result {
                Ok(0) => return (Ok(0), into),
                Ok(_) => session.borrow_mut().open(&self.sealed, &mut into),
                Err(error) => Err(error),
            };
            match opened {
                Ok(0) => {}
                opened => return (opened, into),
            }
        }
    }
}

/// The direction to the target.
pub struct Writing {
    tcp: OwnedWriteHalf<TcpStream>,
    session: Option<Rc<RefCell<Session>>>,
    sealed: Vec<u8>,
}

impl Writing {
    /// As [`Link::write`].
    pub async fn write(&mut self, bytes: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let Some(session) = &self.session else {
            let (result, bytes) = self.tcp.write_all(bytes).await;
            return (result.map(drop), bytes);
        };
        let mut sealed = std::mem::take(&mut self.sealed);
        sealed.clear();
        let ready = {
            let mut session = session.borrow_mut();
            session.seal(&bytes).and_then(|()| session.take_outgoing(&mut sealed))
        };
        if let Err(error) = ready {
            return (Err(error), bytes);
        }
        let (result, sealed) = self.tcp.write_all(sealed).await;
        self.sealed = sealed;
        (result.map(drop), bytes)
    }
}

async fn flush(tcp: &mut TcpStream, tls: &mut Tls, watch: &Watch) -> io::Result<()> {
    let mut outgoing = std::mem::take(&mut tls.outgoing);
    outgoing.clear();
    if !tls.session.take_outgoing(&mut outgoing)? {
        tls.outgoing = outgoing;
        return Ok(());
    }
    let (result, outgoing) = send(tcp, outgoing, watch).await;
    tls.outgoing = outgoing;
    result
}

async fn send(tcp: &mut TcpStream, mut bytes: Vec<u8>, watch: &Watch) -> (io::Result<()>, Vec<u8>) {
    let mut sent = 0;
    while sent < bytes.len() {
        let end = bytes.len();
        let (result, slice) = tcp.cancelable_write(bytes.slice(sent..end), watch.handle()).await;
        bytes = slice.into_inner();
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), bytes),
            Ok(count) => sent += count,
            Err(error) => return (Err(error), bytes),
        }
    }
    (Ok(()), bytes)
}

async fn receive(
    tcp: &mut TcpStream,
    mut into: Vec<u8>,
    room: usize,
    watch: &Watch,
) -> (io::Result<usize>, Vec<u8>) {
    if into.capacity() - into.len() < room {
        into.reserve(room);
    }
    let (begin, end) = (into.len(), into.capacity());
    let (result, slice) = tcp.cancelable_read(into.slice_mut(begin..end), watch.handle()).await;
    (result, slice.into_inner())
}
