//! One connection to the target, in the clear or by TLS.
//!
//! Reads append to a buffer that goes to the kernel and comes back, and everything that waits ends when the deadline of
//! the connection's [`Watch`] has passed.

use std::io;

use monoio::buf::{IoBuf as _, IoBufMut as _};
use monoio::io::{CancelableAsyncReadRent as _, CancelableAsyncWriteRent as _};
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
