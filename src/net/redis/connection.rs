//! One connection: dialled, logged in, and then two pumps over it until anything is wrong.
//!
//! The writer swaps the output of the [`Fifo`] for an empty buffer and writes it whole, so what was asked meanwhile
//! leaves together. The reader cuts what comes into answers and gives them to the oldest slots. Both are one task and
//! end together; then the socket is shut down, and it is never used again. Unexpected bytes are an end, too.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};

use super::fifo::Fifo;
use super::login::{self, Account, Refusal, Talk};
use super::now_us;
use super::resolve::Resolver;
use crate::config::shared::Server;
use crate::net::buffer::{Buffers, LARGE};
use crate::net::socket::Socket;
use crate::net::tls::{Connector, Session, Stage};
use crate::net::{calls, clock, link};
use crate::wire::resp::{Broken, Command, Limits, Reply, Scanner, Version};

/// For a connection to come about, login included.
pub(super) const CONNECT: Duration = Duration::from_secs(1);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// A larger answer that fills its buffer takes it, a smaller one is copied.
const COPIED_MAX: usize = 4 * LARGE;
/// Buffers that are larger are not kept.
const KEPT_MAX: usize = 16 * LARGE;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Tcp(Server),
    Unix(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(server) => server.fmt(out),
            Self::Unix(path) => path.display().fmt(out),
        }
    }
}

/// A connection on which nothing is pending, logged in.
pub(super) struct Link {
    stream: Socket,
    tls: Option<Session>,
    pub(super) version: Version,
}

/// Connects to `place` and logs in. May be dropped while pending.
///
/// # Errors
/// What the kernel, TLS or the server says.
pub(super) async fn dial(
    place: &Place,
    connector: Option<&Connector>,
    account: &Account,
    resolver: &Resolver,
) -> Result<Link, Refusal> {
    let (mut stream, mut tls) = open(place, connector, resolver).await?;
    let version = login::run(&mut stream, &mut tls, account).await?;
    Ok(Link { stream, tls, version })
}

/// Connects to `place`, logs in, and asks one question. May be dropped while pending.
///
/// # Errors
/// As those of [`dial`], and what the server says to the question.
pub(super) async fn question(
    place: &Place,
    connector: Option<&Connector>,
    account: &Account,
    resolver: &Resolver,
    command: &Command,
) -> Result<Reply, Refusal> {
    let Link { mut stream, tls, version } = dial(place, connector, account, resolver).await?;
    let tls = tls.map(RefCell::new);
    let mut talk = Talk::new(&mut stream, tls.as_ref());
    talk.speak(version);
    talk.demand("question", command).await
}

/// Connects to `place`.
pub(super) async fn open(
    place: &Place,
    connector: Option<&Connector>,
    resolver: &Resolver,
) -> io::Result<(Socket, Option<Session>)> {
    let server = match place {
        Place::Unix(path) => return Ok((Socket::connect_unix(path).await?, None)),
        Place::Tcp(server) => server,
    };
    let addresses = resolver.resolve(server).await?;
    let tried = addresses.len().min(ADDRESSES_MAX);
    let share = CONNECT / u32::try_from(tried.max(1)).unwrap_or(1);
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for &address in addresses.iter().take(tried) {
        match clock::within(share, pin!(Socket::connect(address))).await {
            Some(Ok(mut stream)) => {
                calls::nodelay(stream.as_raw_fd());
                let Some(connector) = connector else { return Ok((stream, None)) };
                let session = shake_hands(&mut stream, &connector.for_host(&server.host)).await?;
                return Ok((stream, Some(session)));
            }
            Some(Err(error)) => last = error,
            None => {}
        }
    }
    Err(last)
}

async fn shake_hands(stream: &mut Socket, connector: &Result<Connector, String>) -> io::Result<Session> {
    let bad = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let connector = connector.as_ref().map_err(|text| bad(text.clone()))?;
    let mut session = connector.session().map_err(|error| bad(error.to_string()))?;
    let mut early = Vec::new();
    Box::pin(link::handshake(stream, &mut session, &mut early, &Buffers::default())).await?;
    if early.is_empty() { Ok(session) } else { Err(bad("the server spoke before it was asked".to_owned())) }
}

/// A session as both pumps use it: never borrowed across an await.
type Tls = Option<RefCell<Session>>;

/// Carries the commands of `fifo` over `link` until something is wrong, or `watch` ends; says what it was.
pub(super) async fn carry(link: Link, fifo: &Fifo, watch: impl Future<Output = String>) -> String {
    let Link { stream, tls, version } = link;
    let (tls, watch) = (tls.map(RefCell::new), pin!(watch));
    pump(stream, &tls, version, fifo, watch).await
}

/// Shuts the socket down before its pending operations are dropped.
struct Shut(RawFd);

impl Drop for Shut {
    fn drop(&mut self) {
        calls::shutdown(self.0);
    }
}

async fn pump(
    stream: Socket,
    tls: &Tls,
    version: Version,
    fifo: &Fifo,
    mut watch: std::pin::Pin<&mut impl Future<Output = String>>,
) -> String {
    let fd = stream.as_raw_fd();
    let (mut reader, mut writer) = stream.into_split();
    let mut reading = pin!(read(&mut reader, tls, version, fifo));
    let mut writing = pin!(write(&mut writer, tls, fifo));
    let _shut = Shut(fd);
    poll_fn(|cx| {
        if let Poll::Ready(reason) = reading.as_mut().poll(cx) {
            return Poll::Ready(reason);
        }
        if let Poll::Ready(reason) = writing.as_mut().poll(cx) {
            return Poll::Ready(reason);
        }
        watch.as_mut().poll(cx)
    })
    .await
}

async fn write(writer: &mut impl AsyncWriteRent, tls: &Tls, fifo: &Fifo) -> String {
    let mut spare = Vec::new();
    loop {
        let mut bytes = poll_fn(|cx| match fifo.poll_output(&mut spare, cx) {
            // What TLS has to say of its own.
            Poll::Pending if tls.as_ref().is_some_and(|tls| tls.borrow().has_outgoing()) => {
                Poll::Ready(Vec::new())
            }
            other => other,
        })
        .await;
        if let Some(tls) = tls {
            let mut sealed = tls.borrow_mut().take_outgoing();
            if !bytes.is_empty()
                && let Err(error) = tls.borrow_mut().seal(&bytes, &mut sealed)
            {
                return error.to_string();
            }
            keep(&mut spare, bytes);
            bytes = sealed;
        }
        let (result, bytes) = writer.write_all(bytes).await;
        if let Err(error) = result {
            return error.to_string();
        }
        if tls.is_none() {
            keep(&mut spare, bytes);
        }
    }
}

/// Keeps a buffer for the next exchange of buffers.
fn keep(spare: &mut Vec<u8>, mut buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT_MAX {
        buffer.clear();
        *spare = buffer;
    }
}

async fn read(reader: &mut impl AsyncReadRent, tls: &Tls, version: Version, fifo: &Fifo) -> String {
    let mut scanner = Scanner::new(version, Limits::default());
    let mut plain = Vec::new();
    loop {
        match receive(reader, tls.as_ref(), &mut plain).await {
            Ok(0) => return "the server closed the connection".to_owned(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
        if tls.as_ref().is_some_and(|tls| tls.borrow().has_outgoing()) {
            fifo.nudge();
        }
        if let Err(broken) = deliver(&mut plain, &mut scanner, fifo) {
            return format!("out of step: {broken}");
        }
    }
}

/// Appends what comes to `plain`; `Ok(0)`: the server has ended.
pub(super) async fn receive(
    reader: &mut impl AsyncReadRent,
    tls: Option<&RefCell<Session>>,
    plain: &mut Vec<u8>,
) -> io::Result<usize> {
    let Some(tls) = tls else {
        let mut bytes = std::mem::take(plain);
        if bytes.capacity() - bytes.len() < LARGE / 4 {
            bytes.reserve(bytes.len().max(LARGE));
        }
        let (start, end) = (bytes.len(), bytes.capacity());
        let (result, slice) = reader.read(bytes.slice_mut(start..end)).await;
        *plain = slice.into_inner();
        return result;
    };
    let before = plain.len();
    loop {
        if tls.borrow().stage() == Stage::Ended {
            return Ok(0);
        }
        let (result, slice) = reader.read(Vec::with_capacity(LARGE).slice_mut(0..LARGE)).await;
        if result? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut session = tls.borrow_mut();
        let opened = session.receive(slice.into_inner(), plain);
        opened.map_err(|error| io::Error::other(error.to_string()))?;
        if plain.len() > before || session.has_outgoing() {
            return Ok(1);
        }
    }
}

/// Gives what is whole in `plain` to those who wait for it.
fn deliver(plain: &mut Vec<u8>, scanner: &mut Scanner, fifo: &Fifo) -> Result<(), Broken> {
    let (mut at, now_us) = (0, now_us());
    while at < plain.len() {
        if fifo.waiting() == 0 {
            return Err(Broken::Kind); // nobody has asked
        }
        let rest = plain.get(at..).unwrap_or_default();
        let Some(length) = scanner.scan(rest)? else { break };
        let whole = if at == 0 && length == plain.len() && length > COPIED_MAX {
            Bytes::from(std::mem::take(plain).into_boxed_slice())
        } else {
            at += length;
            Bytes::copy_from_slice(rest.get(..length).unwrap_or_default())
        };
        fifo.answer(whole, now_us)?;
    }
    plain.drain(..at);
    if plain.is_empty() && plain.capacity() > KEPT_MAX {
        *plain = Vec::new();
    }
    Ok(())
}
