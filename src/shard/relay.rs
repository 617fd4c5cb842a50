//! The answer's way back: framing of what the endpoint sends, and writing it to the client.
//!
//! read → stream state → write → read: one write at a time and no queue, so TCP pushes back by itself, and what
//! arrives during a write goes out in the next one. The client's head leaves with the first content.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::access::Record;
use super::exchange::Exit;
use super::limited::{Phase, Stopped, deadline_exceeded, timed_out};
use super::reply::{self, Manner, Version};
use super::screen::Screen;
use super::serve::After;
use crate::api::{Answer, Dialect, Failure, FailureKind, Stream};
use crate::net::{Client, Upstream, buffer};
use crate::queue::Place;
use crate::wire::http1::body::{self, Reader};

/// Room before the data for the longest chunk line: 16 digits and CRLF.
const GAP: usize = 18;

/// Full reads in a row after which larger ones are worth it: as much as [`BEHIND`], so that a client that never reads is
/// found out before.
const FULL_MIN: u32 = 16;

/// Bytes that the kernel still has for a client that is behind.
const BEHIND: usize = 64 * 1024;

/// A client that has only listened for so long is watched without a buffer.
const PARK_AFTER_US: u64 = 1_000_000;

/// An answer that has begun, or is whole.
pub struct Answered {
    /// Status of the endpoint, below 300.
    pub status: u16,
    /// `Content-Type` of the endpoint.
    pub content_type: Vec<u8>,
    /// What there is so far.
    pub content: Content,
    passed: Vec<u8>,
    endpoint_lines: Arc<[u8]>,
    endpoint: usize,
    in_flight: Option<Place>,
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Between two reads.
    pub idle: Duration,
    /// When the exchange must be over, by the shard's clock.
    pub deadline_us: u64,
}

/// The body of an answer.
pub enum Content {
    /// Nothing yet.
    None,
    /// All of it: `buffer[start..]`.
    Whole {
        /// Holds the body.
        buffer: Vec<u8>,
        /// Where it begins.
        start: usize,
        /// What was found in it.
        answer: Answer,
        /// The client's name for the model, as a JSON string.
        model: Vec<u8>,
        /// Whether embeddings are to be base64.
        base64: bool,
    },
    /// A stream whose first events are in `out`.
    Stream {
        /// Where the rest comes from.
        upstream: Upstream,
        /// For reading it.
        buffer: Vec<u8>,
        /// What goes to the client first.
        out: Vec<u8>,
        /// Framing of the endpoint.
        reader: Reader,
        /// State of the events.
        stream: Box<Stream>,
        /// Whether the connection may be used again after its end.
        keep_alive: bool,
    },
}

impl Content {
    /// What is wrong with it for a client to whom a stream of events has been begun.
    fn unfit(&self, manner: &Manner) -> Option<&'static str> {
        match self {
            _ if !manner.begun => None,
            Self::Stream { stream, .. } if stream.is_ndjson() => {
                Some("sent lines of JSON where events were asked for")
            }
            Self::Whole { .. } => Some("sent a whole answer where a stream was asked for"),
            _ => None,
        }
    }
}

impl Answered {
    /// An answer without content yet.
    #[must_use]
    pub fn new(status: u16, content_type: Vec<u8>, passed: Vec<u8>, endpoint_lines: Arc<[u8]>) -> Self {
        Self {
            status,
            content_type,
            content: Content::None,
            passed,
            endpoint_lines,
            endpoint: 0,
            in_flight: None,
        }
    }

    /// Whether it is still coming.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.content, Content::Stream { .. })
    }

    /// Whether its stream is of JSON lines.
    #[must_use]
    pub fn is_ndjson(&self) -> bool {
        matches!(&self.content, Content::Stream { stream, .. } if stream.is_ndjson())
    }

    /// Holds the endpoint's slot until the answer is over.
    #[must_use]
    pub fn with(mut self, in_flight: Place, endpoint: usize) -> Self {
        self.in_flight = Some(in_flight);
        self.endpoint = endpoint;
        self
    }
}

/// Brings an answer to the client.
///
/// # Errors
/// `None`: the client is gone. Nothing else: what fails after the first byte is shown in the answer itself.
pub async fn answer(
    shard: &Shard,
    client: &mut Client,
    answered: Answered,
    screen: Option<Box<Screen>>,
    manner: &Manner,
    record: &mut Record,
    limits: Limits,
) -> Result<After, Exit> {
    record.status = answered.status;
    let Answered { status, content_type, content, passed, endpoint_lines, endpoint, in_flight } = answered;
    let mut head = shard.buffers.large();
    if !manner.begun {
        manner.begin(shard, status, &mut head);
        head.extend_from_slice(&endpoint_lines);
        record.lines(shard, &manner.request_id, &mut head);
        head.extend_from_slice(&passed);
        kind_line(&content_type, &mut head);
    }
    if let Some(what) = content.unfit(manner) {
        return Err(Some(broken(what)));
    }
    match content {
        Content::None => Err(Some(broken("sent nothing"))),
        Content::Whole { buffer, start, answer, model, base64 } => {
            drop(in_flight);
            let body = buffer.get(start..).unwrap_or_default();
            let out = whole(shard, head, body, &answer, (&model, base64), manner);
            shard.buffers.give(buffer);
            let out = client.write(out).await.map_err(|_| None)?;
            shard.buffers.give(out);
            Ok(if manner.keep_alive { After::KeepAlive } else { After::Close })
        }
        Content::Stream { upstream, buffer, out, reader, stream, keep_alive } => {
            if !manner.begun {
                end_stream_head(manner, &mut head);
            }
            let mut relay = Relay {
                shard,
                manner,
                upstream,
                buffer,
                reader,
                stream,
                screen,
                keep_alive,
                limits,
                endpoint,
                last_us: 0,
                full: 0,
            };
            let result = relay.run(client, head, out, record).await;
            let whole = relay.reader.done() && matches!(result, Ok(After::KeepAlive | After::Close));
            record.stream_ends(&relay.stream, whole);
            if let Some(screen) = &relay.screen {
                screen.note(shard, record);
            }
            let Relay { upstream, buffer, reader, keep_alive, .. } = relay;
            shard.buffers.give(buffer);
            if whole {
                shard.ended_well(endpoint);
            }
            if result.is_ok() && reader.done() && keep_alive {
                shard.keep(endpoint, upstream);
            }
            drop(in_flight);
            result
        }
    }
}

/// Appends the field that says what an answer is.
fn kind_line(content_type: &[u8], head: &mut Vec<u8>) {
    head.extend_from_slice(b"content-type: ");
    head.extend_from_slice(if content_type.is_empty() { b"application/json" } else { content_type });
    head.extend_from_slice(b"\r\n");
}

/// Appends the head of a stream of events that has no content yet.
pub fn begin_events(shard: &Shard, manner: &Manner, out: &mut Vec<u8>) {
    manner.begin(shard, 200, out);
    out.extend_from_slice(b"content-type: text/event-stream\r\n");
    end_stream_head(manner, out);
}

fn end_stream_head(manner: &Manner, out: &mut Vec<u8>) {
    out.extend_from_slice(b"cache-control: no-cache\r\nx-accel-buffering: no\r\n");
    out.extend_from_slice(if manner.version == Version::Http11 {
        b"transfer-encoding: chunked\r\n\r\n"
    } else {
        b"\r\n"
    });
}

/// Appends `data` as a chunk.
pub fn frame(manner: &Manner, data: &[u8], wire: &mut Vec<u8>) {
    if manner.version != Version::Http11 {
        wire.extend_from_slice(data);
    } else if !data.is_empty() {
        let mut line = [0u8; GAP];
        let start = chunk_line(data.len(), &mut line);
        wire.extend_from_slice(&line[start..]);
        wire.extend_from_slice(data);
        wire.extend_from_slice(b"\r\n");
    }
}

/// Tells of a failure in a stream whose head has gone out before there was content: an event, and no proper end but that
/// of a guard's verdict.
pub async fn late_failure(
    shard: &Shard,
    client: &mut Client,
    manner: &Manner,
    failure: &Failure,
    record: &mut Record,
) -> After {
    record.broke(failure);
    let mut wire = shard.buffers.small();
    frame(manner, &failure.event(manner.dialect), &mut wire);
    // The guard has ended the answer, nobody has lost any of it.
    let ended = matches!(failure.kind, FailureKind::PromptBlocked | FailureKind::ResponseBlocked);
    if ended && manner.version == Version::Http11 {
        wire.extend_from_slice(b"0\r\n\r\n");
    }
    match client.write(wire).await {
        Ok(_) if ended && manner.keep_alive && manner.version != Version::Http10 => After::KeepAlive,
        Ok(_) if ended => After::Close,
        Ok(_) => After::Linger,
        Err(_) => After::Close,
    }
}

fn whole(
    shard: &Shard,
    mut out: Vec<u8>,
    body: &[u8],
    answer: &Answer,
    (model, base64): (&[u8], bool),
    manner: &Manner,
) -> Vec<u8> {
    let mut spliced = Vec::new();
    let unchanged = model.is_empty() || answer.unchanged(body, model, base64);
    let body = if unchanged {
        body
    } else {
        spliced = shard.buffers.large();
        answer.splice(body, model, base64, &mut spliced);
        &spliced
    };
    let mut squeezed = Vec::new();
    let body = if manner.squeeze(shard, body, &mut squeezed, &mut out) { &squeezed } else { body };
    reply::length(&mut out, body.len());
    out.extend_from_slice(b"\r\n");
    if !manner.head_only {
        out.extend_from_slice(body);
    }
    shard.buffers.give(spliced);
    out
}

struct Relay<'a> {
    shard: &'a Shard,
    manner: &'a Manner,
    upstream: Upstream,
    buffer: Vec<u8>,
    reader: Reader,
    stream: Box<Stream>,
    screen: Option<Box<Screen>>,
    keep_alive: bool,
    limits: Limits,
    endpoint: usize,
    last_us: u64,
    /// So many reads in a row filled their buffer: more is there.
    full: u32,
}

impl Relay<'_> {
    async fn run(
        &mut self,
        client: &mut Client,
        head: Vec<u8>,
        first: Vec<u8>,
        record: &mut Record,
    ) -> Result<After, Exit> {
        let mut wire = head;
        let mut over = self.reader.done();
        let (first, failure) = self.screened(first, Vec::new(), over, None).await;
        self.note(record, &first);
        frame(self.manner, &first, &mut wire);
        self.shard.buffers.give(first);
        if over && failure.is_none() {
            self.end(&mut wire);
        }
        self.write(client, wire, 0).await?;
        if let Some(failure) = failure {
            return self.break_off(client, vec![0; GAP], &failure, record).await;
        }
        self.last_us = self.shard.clock.now_us();
        let park_us = self.last_us + PARK_AFTER_US;
        let mut parked = false;
        while !over {
            let failure = match self.read(client).await {
                Ok(()) => None,
                Err(None) => return Err(None),
                Err(Some(failure)) => Some(failure),
            };
            record.gap(self.shard, &mut self.last_us);
            if !parked && self.last_us > park_us {
                parked = true;
                client.park();
            }
            let wide = self.buffer.capacity() > buffer::SMALL;
            let mut out = if wide { self.shard.buffers.large() } else { self.shard.buffers.small() };
            out.resize(GAP, 0);
            let failure = match failure {
                None => self.pass(&mut out, &mut over).err(),
                failure => failure,
            };
            let failure = match &self.screen {
                None => failure,
                Some(_) => {
                    let mut screened = self.shard.buffers.large();
                    screened.resize(GAP, 0);
                    let events = out.split_off(GAP);
                    self.shard.buffers.give(out);
                    let (screened, failure) = self.screened(events, screened, over, failure).await;
                    out = screened;
                    failure
                }
            };
            self.note(record, out.get(GAP..).unwrap_or_default());
            if let Some(failure) = failure {
                return self.break_off(client, out, &failure, record).await;
            }
            let start = self.frame_in_place(&mut out);
            if over {
                self.end(&mut out);
            }
            if out.len() > start {
                self.write(client, out, start).await?;
            } else {
                self.shard.buffers.give(out);
            }
        }
        Ok(self.after())
    }

    /// Keeps what goes to the client for the log, if it wants bodies.
    fn note(&self, record: &mut Record, events: &[u8]) {
        if let Some(bodies) = record.bodies() {
            bodies.events(self.stream.task(), self.stream.is_ndjson(), events);
        }
    }

    /// What becomes of the connection after a whole answer.
    fn after(&self) -> After {
        if self.manner.keep_alive && self.manner.version != Version::Http10 {
            After::KeepAlive
        } else {
            After::Close
        }
    }

    /// Reads once; the end of the connection is told to the reader.
    async fn read(&mut self, client: &Client) -> Result<(), Exit> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        if buffer.capacity() == 0 {
            // A client that is behind gets small pieces: the last one is what is held when it stops reading.
            let wide = self.full >= FULL_MIN && client.unsent() < BEHIND;
            buffer = if wide { self.shard.buffers.large() } else { self.shard.buffers.small() };
        }
        let Limits { idle: limit, deadline_us } = self.limits;
        let reading = self.shard.limited(client, limit, deadline_us, pin!(self.upstream.read(buffer))).await;
        let (result, buffer) = reading.map_err(|stopped| match stopped {
            Stopped::Gone => None,
            Stopped::Limit => Some(timed_out(Phase::Idle, limit)),
            Stopped::Total => Some(deadline_exceeded()),
        })?;
        self.full = if buffer.len() == buffer.capacity() { self.full.saturating_add(1) } else { 0 };
        self.buffer = buffer;
        match result {
            Ok(n) if n > 0 => Ok(()),
            Ok(_) => self.reader.peer_ended().map_err(|broken| Some(broken_body(broken))),
            Err(_) => self.reader.peer_failed().map_err(|broken| Some(broken_body(broken))),
        }
    }

    /// Brings what was read through the stream's state into `out`.
    fn pass(&mut self, out: &mut Vec<u8>, over: &mut bool) -> Result<(), Failure> {
        let Self { reader, stream, buffer, keep_alive, .. } = self;
        let used = reader.feed(buffer, |data| stream.push(data, out)).map_err(fed)?;
        *keep_alive &= used == buffer.len();
        if reader.done() {
            *over = true;
            stream.finish(out)?;
        }
        Ok(())
    }

    /// Appends to `out` those of `events` and of the ones held back that the guard lets go; all of them if the answer
    /// is over, or broken by `failure`. What breaks it in the end comes back.
    async fn screened(
        &mut self,
        events: Vec<u8>,
        mut out: Vec<u8>,
        over: bool,
        failure: Option<Failure>,
    ) -> (Vec<u8>, Option<Failure>) {
        let Some(screen) = &mut self.screen else { return (events, failure) };
        let mut result = screen.pass(self.shard, &events, &mut out).await;
        if result.is_ok() && (over || failure.is_some()) {
            result = screen.finish(&mut out);
        }
        self.shard.buffers.give(events);
        (out, result.err().or(failure))
    }

    /// Shows that the answer is cut: what came before, an error in the client's dialect, and no proper end.
    async fn break_off(
        &mut self,
        client: &mut Client,
        mut out: Vec<u8>,
        failure: &Failure,
        record: &mut Record,
    ) -> Result<After, Exit> {
        self.keep_alive = false;
        record.broke(failure);
        self.shard.broke_off(self.endpoint, failure);
        out.extend_from_slice(&failure.event(self.dialect()));
        let start = self.frame_in_place(&mut out);
        // The guard has ended the answer, nobody has lost any of it.
        let ended = failure.kind == FailureKind::ResponseBlocked;
        if ended {
            self.end(&mut out);
        }
        self.write(client, out, start).await?;
        Ok(if ended { self.after() } else { After::Linger })
    }

    fn dialect(&self) -> Dialect {
        self.manner.dialect
    }

    /// Makes a chunk of `out[GAP..]` where it stands; returns where the bytes to write begin.
    fn frame_in_place(&self, out: &mut Vec<u8>) -> usize {
        if self.manner.version != Version::Http11 || out.len() == GAP {
            return GAP;
        }
        let data = out.len() - GAP;
        let start = chunk_line(data, &mut out[..GAP]);
        out.extend_from_slice(b"\r\n");
        start
    }

    fn end(&self, wire: &mut Vec<u8>) {
        if self.manner.version == Version::Http11 {
            wire.extend_from_slice(b"0\r\n\r\n");
        }
    }

    /// While it waits for the client it holds nothing but what is to be written.
    async fn write(&mut self, client: &mut Client, bytes: Vec<u8>, start: usize) -> Result<(), Exit> {
        self.shard.buffers.give(std::mem::take(&mut self.buffer));
        let bytes = client.write_from(bytes, start).await.map_err(|_| None)?;
        self.shard.buffers.give(bytes);
        Ok(())
    }
}

/// Writes `size` in hexadecimal and CRLF at the end of `line`; returns where it begins.
fn chunk_line(mut size: usize, line: &mut [u8]) -> usize {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut at = line.len() - 2;
    line[at..].copy_from_slice(b"\r\n");
    loop {
        at -= 1;
        line[at] = DIGITS[size & 15];
        size >>= 4;
        if size == 0 || at == 0 {
            return at;
        }
    }
}

/// The endpoint broke the framing of its answer.
#[must_use]
pub fn broken_body(error: body::Broken) -> Failure {
    broken(match error {
        body::Broken::Cut => "closed the connection inside its answer",
        body::Broken::Chunk(_) => "broke the chunked framing",
    })
}

/// What feeding a stream ended with.
#[must_use]
pub fn fed(error: body::Fed<Failure>) -> Failure {
    match error {
        body::Fed::Framing(error) => broken_body(error),
        body::Fed::Sink(failure) => failure,
    }
}

fn broken(what: &str) -> Failure {
    Failure::new(FailureKind::UpstreamBroken, format!("The endpoint {what}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_lines_have_no_leading_zeros() {
        let mut line = [0u8; GAP];
        for (size, want) in [(1, "1\r\n"), (0xabc, "abc\r\n"), (usize::MAX, "ffffffffffffffff\r\n")] {
            let start = chunk_line(size, &mut line);
            assert_eq!(&line[start..], want.as_bytes());
        }
    }
}
