//! A client's side that is one stream of an HTTP/2 connection.
//!
//! The exchange writes the same bytes as for HTTP/1.1, without chunks: first the head, which becomes a HEADERS frame,
//! then the body, which becomes DATA as the client's windows allow. Bound: what a client does not take stays with the
//! exchange; at most [`crate::net::h2::SEND_BUFFER`] bytes of a stream wait for the socket.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use monoio_http::h2::server::SendResponse;
use monoio_http::h2::{Reason, RecvStream, SendStream};

use super::Stop;
use crate::net::clock::Timer;
use crate::net::h2::pace::{Live, Pace, Watched};

/// Header lines in an answer of ours at most.
const FIELDS_MAX: usize = 128;

/// What is read and dropped of a body that nobody wanted, before its stream is reset.
const LINGER_BYTES: usize = 64 * 1024;

enum Reply {
    Head(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
    Over,
}

/// One exchange's stream.
pub struct Stream {
    id: u32,
    body: RecvStream,
    reply: RefCell<Reply>,
    peer: SocketAddr,
    peer_text: Rc<str>,
    timer: Timer,
    write_limit_us: Option<u64>,
    head_only: bool,
    /// What is missing of an answer that has said its length.
    left: Option<u64>,
    pace: Rc<Pace>,
    _watched: Watched,
    /// The write of the connection behind which it has sent last.
    sent_behind: Option<u64>,
    _live: Live,
}

impl Stream {
    pub(in crate::net) fn new(
        body: RecvStream,
        reply: SendResponse<Bytes>,
        peer: (SocketAddr, Rc<str>),
        timer: Timer,
        head_only: bool,
        (live, pace): (Live, Rc<Pace>),
    ) -> Self {
        let id = body.stream_id().as_u32();
        Self {
            id,
            body,
            reply: RefCell::new(Reply::Head(reply)),
            peer: peer.0,
            peer_text: peer.1,
            timer,
            write_limit_us: None,
            head_only,
            left: None,
            _watched: Watched::new(id, &pace),
            pace,
            sent_behind: None,
            _live: live,
        }
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn peer_text(&self) -> &str {
        &self.peer_text
    }

    pub(super) fn timer(&self) -> &Timer {
        &self.timer
    }

    pub(super) fn limit_writes(&mut self, limit: Duration) {
        self.write_limit_us = u64::try_from(limit.as_micros()).ok();
    }

    /// Whether the client has reset the stream, or its connection is gone.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> bool {
        if self.pace.is_over() {
            return true;
        }
        self.pace.watch(self.id, cx);
        match &mut *self.reply.borrow_mut() {
            Reply::Head(reply) => reply.poll_reset(cx).is_ready(),
            Reply::Body(body) => body.poll_reset(cx).is_ready(),
            Reply::Over => false,
        }
    }

    /// Appends a part of the request's body; `Ok(0)`: it is over.
    pub(super) async fn fill(&mut self, into: &mut Vec<u8>) -> Result<usize, Stop> {
        loop {
            let Self { id, body, timer, pace, .. } = self;
            let data = poll_fn(|cx| match body.poll_data(cx) {
                Poll::Ready(data) => Poll::Ready(Ok(data)),
                Poll::Pending if pace.is_over() => Poll::Ready(Err(Stop::ClientGone)),
                Poll::Pending if timer.poll_fired(cx) => Poll::Ready(Err(Stop::Deadline)),
                Poll::Pending => {
                    pace.watch(*id, cx);
                    Poll::Pending
                }
            })
            .await?;
            match data {
                None => return Ok(0),
                Some(Err(_)) => return Err(Stop::ClientGone),
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    into.extend_from_slice(&data);
                    body.flow_control().release_capacity(data.len()).map_err(|_| Stop::ClientGone)?;
                    return Ok(data.len());
                }
            }
        }
    }

    pub(super) async fn write_from(&mut self, bytes: Vec<u8>, start: usize) -> Result<Vec<u8>, Stop> {
        let mut rest = bytes.get(start..).unwrap_or_default();
        if matches!(&*self.reply.borrow(), Reply::Head(_)) {
            if rest.starts_with(b"HTTP/1.1 1") {
                return Ok(bytes); // 100 Continue: the windows have said it
            }
            rest = self.begin(rest)?;
        }
        while !rest.is_empty() && !matches!(&*self.reply.borrow(), Reply::Over) {
            let room = self.room(rest.len()).await?.min(rest.len());
            let (now, later) = rest.split_at(room);
            self.send(Bytes::copy_from_slice(now))?;
            rest = later;
        }
        Ok(bytes)
    }

    /// Sends the head that `bytes` begin with; what follows it comes back.
    fn begin<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Stop> {
        let (response, head_bytes, length) = response(bytes).ok_or(Stop::ClientGone)?;
        let none = self.head_only || matches!(response.status().as_u16(), 204 | 304) || length == Some(0);
        self.left = length;
        let reply = self.reply.get_mut();
        let Reply::Head(head) = reply else { return Err(Stop::ClientGone) };
        let body = head.send_response(response, none).map_err(|_| Stop::ClientGone)?;
        *reply = if none { Reply::Over } else { Reply::Body(body) };
        Ok(bytes.get(head_bytes..).unwrap_or_default())
    }

    /// Whether its windows have room for so many bytes now.
    pub(super) fn takes_now(&mut self, bytes: usize) -> bool {
        let Reply::Body(body) = self.reply.get_mut() else { return false };
        body.reserve_capacity(bytes);
        body.capacity() >= bytes
    }

    /// Waits until the client's windows have room for some of `wanted` bytes.
    async fn room(&mut self, wanted: usize) -> Result<usize, Stop> {
        let Self { id, reply, timer, write_limit_us, pace, sent_behind, .. } = self;
        let Reply::Body(body) = reply.get_mut() else { return Err(Stop::ClientGone) };
        body.reserve_capacity(wanted);
        let mut waits = false;
        poll_fn(|cx| {
            let held = pace.holds(*sent_behind, cx);
            if pace.is_over() {
                return Poll::Ready(Err(Stop::ClientGone));
            }
            pace.watch(*id, cx);
            if body.capacity() > 0 && !held {
                return Poll::Ready(Ok(body.capacity()));
            }
            if let Some(limit_us) = write_limit_us.filter(|_| !waits) {
                timer.extend(limit_us);
            }
            waits = true;
            loop {
                if body.poll_reset(cx).is_ready() {
                    return Poll::Ready(Err(Stop::ClientGone));
                }
                let room = if held { Poll::Pending } else { body.poll_capacity(cx) };
                match room {
                    Poll::Ready(Some(Ok(0))) => {}
                    Poll::Ready(Some(Ok(room))) => return Poll::Ready(Ok(room)),
                    Poll::Ready(_) => return Poll::Ready(Err(Stop::ClientGone)),
                    Poll::Pending if timer.poll_fired(cx) => return Poll::Ready(Err(Stop::Deadline)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    fn send(&mut self, data: Bytes) -> Result<(), Stop> {
        let left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        let reply = self.reply.get_mut();
        let Reply::Body(body) = reply else { return Err(Stop::ClientGone) };
        body.send_data(data, left == Some(0)).map_err(|_| Stop::ClientGone)?;
        self.left = left;
        self.sent_behind = Some(self.pace.writes());
        if left == Some(0) {
            *reply = Reply::Over;
        }
        Ok(())
    }

    /// Ends the stream: properly if the answer was `whole`, else by a reset that shows that it was cut.
    pub async fn finish(mut self, whole: bool) {
        match std::mem::replace(self.reply.get_mut(), Reply::Over) {
            Reply::Body(mut body) if whole && self.left.is_none() => {
                let _ = body.send_data(Bytes::new(), true); // a client that is gone needs no end
            }
            // Dropped, it is reset behind what was sent; an explicit reset would overtake that.
            Reply::Body(body) => return drop(body),
            Reply::Head(mut reply) => return reply.send_reset(Reason::INTERNAL_ERROR),
            Reply::Over => {}
        }
        // A body that nobody wanted: what is on its way is dropped, so that the answer is not lost to a reset.
        let (mut dropped, mut scratch) = (0, Vec::new());
        while dropped < LINGER_BYTES && !self.body.is_end_stream() {
            scratch.clear();
            match self.fill(&mut scratch).await {
                Ok(n) if n > 0 => dropped += n,
                _ => break,
            }
        }
    }

    /// Refuses the stream before anything was done for it: the client may send it again.
    pub fn refuse(self) {
        if let Reply::Head(mut reply) = self.reply.into_inner() {
            reply.send_reset(Reason::REFUSED_STREAM);
        }
    }
}

/// The head at the start of `bytes` as HTTP/2 has it, its length, and the length of the body it announces.
fn response(bytes: &[u8]) -> Option<(Response<()>, usize, Option<u64>)> {
    let mut table = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut table);
    let Ok(httparse::Status::Complete(head_bytes)) = head.parse(bytes) else { return None };
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.code?).ok()?;
    let mut length = None;
    for field in &*head.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        if name == http::header::CONNECTION || name == http::header::TRANSFER_ENCODING {
            continue;
        }
        if name == http::header::CONTENT_LENGTH {
            length = std::str::from_utf8(field.value).ok()?.parse().ok();
        }
        response.headers_mut().append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some((response, head_bytes, length))
}
