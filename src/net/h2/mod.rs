//! HTTP/2 from clients: monoio-http's connection behind our frame guard ([`io`]).
//!
//! The crate keeps the protocol's state; every byte passes [`crate::wire::h2::Guard`] first, because it lacks what
//! later finds taught (rapid reset, CONTINUATION floods and the like: `ARCHITECTURE.md`). A request comes out as the
//! bytes of an HTTP/1.1 head, so that one strict parser judges both. Bound of a connection: [`STREAMS_MAX`] exchanges,
//! [`WINDOW`] bytes of bodies that nobody has taken yet, [`HEADERS_MAX`] of heads, and [`SEND_BUFFER`] a stream.

mod io;
pub mod pace;

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Version};
use monoio_http::h2::server::{self, SendResponse};
use monoio_http::h2::{Reason, RecvStream};

use super::buffer::Buffers;
use super::client::stream::Stream;
use super::clock::{Clock, Timer, Timers};
use super::link::Link;
use crate::wire::h2::Abuse;
use io::{Bounds, Guarded};
use pace::{Live, LiveCount, Pace};

/// Exchanges of one connection at once.
pub const STREAMS_MAX: usize = 128;
/// What a connection may send ahead of what is taken, over all its streams, in bytes.
pub const WINDOW: u32 = 1 << 20;
/// The same of one stream.
const STREAM_WINDOW: u32 = 256 << 10;
/// Head of one request after HPACK, in bytes.
pub const HEADERS_MAX: u32 = 32 * 1024;
/// What of one stream's answer may wait for the socket, in bytes.
pub const SEND_BUFFER: usize = 16 * 1024;
/// Streams that we have reset and still know, so that what is on its way to them is no fault of the client.
const RESET_STREAMS_MAX: usize = 128;
/// How long a client may take to say farewell.
const FAREWELL_US: u64 = 1_000_000;
/// Requests after which a connection is asked to end, so that load can move to other shards.
const REQUESTS_MAX: u64 = 100_000;

/// What a connection needs of its shard.
pub struct Place<'a> {
    /// Its deadlines.
    pub timers: &'a Rc<Timers>,
    /// Its time.
    pub clock: &'a Clock,
    /// Its buffers.
    pub buffers: &'a Rc<Buffers>,
    /// How long a connection without exchanges stays open.
    pub keep_alive: Duration,
    /// How long a write may make no progress.
    pub write_timeout: Duration,
    /// Time for the client's preface.
    pub preface_timeout: Duration,
    /// How long a client may leave a frame unfinished without a byte.
    pub frame_timeout: Duration,
}

/// A request that has come.
pub struct Arrived {
    /// Its head as HTTP/1.1 writes it.
    pub head: Vec<u8>,
    /// Whether no body follows.
    pub whole: bool,
    /// Where the answer goes.
    pub stream: Stream,
}

/// One connection.
pub struct Connection {
    inner: server::Connection<Guarded, Bytes>,
    wire: Guarded,
    timers: Rc<Timers>,
    peer: (SocketAddr, Rc<str>),
    idle: Timer,
    keep_alive_us: u64,
    live: Rc<LiveCount>,
    pace: Rc<Pace>,
    /// The idle timer runs: no exchange lives.
    resting: bool,
    requests: u64,
    ending: bool,
}

impl Connection {
    /// Exchanges the prefaces.
    ///
    /// # Errors
    /// The client does not speak HTTP/2, or is gone; what the guard has closed it for, if it has.
    pub async fn begin(link: Link, peer: SocketAddr, place: Place<'_>) -> Result<Self, Option<Abuse>> {
        let pace = Rc::default();
        let bounds = Bounds {
            timers: [place.timers.add(), place.timers.add()],
            write: place.write_timeout,
            read: place.frame_timeout,
            pace: Rc::clone(&pace),
        };
        let wire = Guarded::new(link, place.clock.clone(), Rc::clone(place.buffers), bounds).ok_or(None)?;
        let idle = place.timers.add();
        idle.set(place.clock.after(place.preface_timeout));
        let mut builder = server::Builder::new();
        builder
            .max_concurrent_streams(STREAMS_MAX as u32)
            .max_concurrent_reset_streams(RESET_STREAMS_MAX)
            .max_header_list_size(HEADERS_MAX)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buffer_size(SEND_BUFFER);
        let mut shaking = builder.handshake::<_, Bytes>(wire.clone());
        let inner = poll_fn(|cx| match std::pin::Pin::new(&mut shaking).poll(cx) {
            Poll::Ready(result) => Poll::Ready(result.ok()),
            Poll::Pending if idle.poll_fired(cx) || wire.is_stalled(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        let Some(inner) = inner else {
            wire.shut(Reason::PROTOCOL_ERROR.into());
            return Err(wire.abuse());
        };
        let peer = (peer, peer.ip().to_string().into());
        let keep_alive_us = u64::try_from(place.keep_alive.as_micros()).unwrap_or(u64::MAX / 4);
        Ok(Self {
            inner,
            wire,
            timers: Rc::clone(place.timers),
            peer,
            idle,
            keep_alive_us,
            live: Rc::default(),
            pace,
            resting: false,
            requests: 0,
            ending: false,
        })
    }

    /// The next request; `None`: the connection is over. Must go on being called while exchanges run: it is what moves
    /// their bytes.
    pub async fn accept(&mut self, now_us: impl Fn() -> u64, draining: impl Fn() -> bool) -> Option<Arrived> {
        loop {
            let Self { inner, wire, idle, live, resting, ending, keep_alive_us, .. } = self;
            let next = poll_fn(|cx| {
                let next = inner.poll_accept(cx);
                if (live.get() == 0) != *resting {
                    *resting = !*resting;
                    match (*resting, *ending) {
                        (true, false) => idle.set_idle_told(now_us().saturating_add(*keep_alive_us)),
                        (false, false) => idle.set_idle_told(u64::MAX - 1), // a drain fires it
                        (true, true) => idle.set(now_us().saturating_add(FAREWELL_US)),
                        (false, true) => idle.clear(),
                    }
                }
                live.wake_when_none(cx);
                match next {
                    Poll::Ready(next) => Poll::Ready(Some(next)),
                    Poll::Pending if wire.is_stalled(cx) => Poll::Ready(Some(None)),
                    Poll::Pending if idle.poll_fired(cx) => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await;
            match next {
                Some(Some(Ok((request, reply)))) => {
                    if let Some(arrived) = self.arrived(request, reply) {
                        return Some(arrived);
                    }
                }
                Some(Some(Err(_)) | None) => return None,
                None if self.ending => return None,
                None if self.live.get() == 0 || draining() => self.end(now_us()),
                None => self.resting = true, // the timer has forgotten that it waits for nothing
            }
        }
    }

    /// Whether the guard has closed it, and for what.
    #[must_use]
    pub fn abuse(&self) -> Option<Abuse> {
        self.wire.abuse()
    }

    /// Lets running exchanges finish and takes no more.
    fn end(&mut self, now_us: u64) {
        self.ending = true;
        self.inner.graceful_shutdown();
        if self.live.get() == 0 {
            self.idle.set(now_us.saturating_add(FAREWELL_US));
        } else {
            self.idle.clear();
        }
    }

    fn arrived(&mut self, request: Request<RecvStream>, reply: SendResponse<Bytes>) -> Option<Arrived> {
        self.requests += 1;
        if self.requests == REQUESTS_MAX {
            self.ending = true;
            self.idle.clear();
            self.inner.graceful_shutdown();
        }
        let (parts, body) = request.into_parts();
        let mut reply = reply;
        let whole = body.is_end_stream();
        let Some(head) = head(&parts).filter(|_| !whole || announces_nothing(&parts)) else {
            reply.send_reset(Reason::PROTOCOL_ERROR);
            return None;
        };
        let head_only = parts.method == Method::HEAD;
        let too_many = self.live.get() >= STREAMS_MAX;
        let held = (Live::new(&self.live), Rc::clone(&self.pace));
        let stream = Stream::new(body, reply, self.peer.clone(), self.timers.add(), head_only, held);
        if too_many {
            stream.refuse(); // reset streams whose exchanges have not ended yet
            return None;
        }
        Some(Arrived { head, whole, stream })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let code = self.wire.abuse().map_or(0, Abuse::code);
        self.wire.shut(code);
        self.pace.note_end();
    }
}

/// Whether a request without a body says so (RFC 9113 section 8.1.1); of one with a body the crate knows.
fn announces_nothing(parts: &http::request::Parts) -> bool {
    let mut lengths = parts.headers.get_all(http::header::CONTENT_LENGTH).iter();
    lengths.all(|length| length.as_bytes().iter().all(|&digit| digit == b'0'))
}

/// The request's head as HTTP/1.1 writes it. `None`: it names two hosts, or none of its parts has a form there.
fn head(parts: &http::request::Parts) -> Option<Vec<u8>> {
    debug_assert_eq!(parts.version, Version::HTTP_2);
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(parts.uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    if let Some(authority) = authority {
        out.extend_from_slice(b"host: ");
        out.extend_from_slice(authority.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in &parts.headers {
        match (name, authority) {
            (&http::header::HOST, Some(authority)) => {
                if !value.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) {
                    return None;
                }
                continue;
            }
            (&http::header::EXPECT | &http::header::TE, _) => continue,
            (&http::header::CONNECTION | &http::header::TRANSFER_ENCODING | &http::header::UPGRADE, _) => {
                return None;
            }
            _ => {}
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Some(out)
}
