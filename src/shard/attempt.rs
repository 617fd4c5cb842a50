//! Attempts: picking an endpoint, asking it, and going to another one until there is content to pass on.
//!
//! A retry is possible until the first content byte goes to the client, so a whole answer is read to its end here,
//! and a stream to its first event. An endpoint is not tried twice while another is left; a failed connect never
//! is. A kept-alive connection that dies before its first byte costs no attempt: it was closed while we wrote.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::access::Record;
use super::exchange::Exit;
use super::head::{Incoming, micros};
use super::relay::{Answered, Content, broken_body, fed};
use super::{Shard, reply};
use crate::api::error::Retry;
use crate::api::{Answer, Failure, FailureKind, Stream, Task, View};
use crate::catalog::{Candidate, Deployment};
use crate::net::{Client, Stop, Upstream};
use crate::registry::{EndpointState, InFlight};
use crate::wire::http1::Response;
use crate::wire::http1::body::Reader;
use crate::wire::http1::request::Name;
use crate::wire::json;
use crate::world::Reservation;

/// Requests up to this size go out in one write with their head.
const ONE_WRITE: usize = 12 * 1024;
/// What is read of an error answer.
const ERROR_BYTES_MAX: usize = 1 << 20;
/// Interim answers (1xx) before the real one.
const INTERIM_MAX: usize = 8;

/// One request on its way to some endpoint.
pub struct Attempts<'a> {
    shard: &'a Rc<Shard>,
    deployment: &'a Arc<Deployment>,
    incoming: &'a Incoming,
    body_at: usize,
    view: &'a View,
    task: Task,
    deadline_us: u64,
    tried: Vec<usize>,
    /// The endpoint being asked.
    current: Cell<usize>,
}

/// What an attempt was doing when its time ran out.
#[derive(Clone, Copy)]
pub enum Phase {
    /// Waiting for the connection.
    Connect,
    /// Writing the request.
    Send,
    /// Waiting for content.
    FirstByte,
    /// Waiting for more of an answer.
    Idle,
}

/// Why an operation on the upstream side ended early.
pub enum Stopped {
    /// The client left.
    Gone,
    /// Its own limit.
    Limit,
    /// The exchange's deadline.
    Total,
}

impl Shard {
    /// Runs `op` until the client leaves, `limit` has passed, or the exchange is over.
    ///
    /// # Errors
    /// Which of them came first.
    pub async fn limited<F: Future>(
        &self,
        client: &Client,
        limit: Duration,
        deadline_us: u64,
        op: Pin<&mut F>,
    ) -> Result<F::Output, Stopped> {
        let limit_us = self.clock.after(limit);
        client.timer().set(limit_us.min(deadline_us));
        client.race(op).await.map_err(|stop| match stop {
            Stop::ClientGone => Stopped::Gone,
            Stop::Deadline if deadline_us <= limit_us => Stopped::Total,
            Stop::Deadline => Stopped::Limit,
        })
    }

    /// Puts a connection back for the next exchange.
    pub fn keep(&self, endpoint: usize, upstream: Upstream) {
        self.pools[endpoint].borrow_mut().give(upstream, self.clock.after(Duration::ZERO));
    }
}

impl<'a> Attempts<'a> {
    /// None made yet.
    #[must_use]
    pub fn new(
        shard: &'a Rc<Shard>,
        deployment: &'a Arc<Deployment>,
        incoming: &'a Incoming,
        body_at: usize,
        view: &'a View,
        task: Task,
        deadline_us: u64,
    ) -> Self {
        Self {
            shard,
            deployment,
            incoming,
            body_at,
            view,
            task,
            deadline_us,
            tried: Vec::new(),
            current: Cell::new(0),
        }
    }

    /// Tries until an endpoint has content for the client.
    ///
    /// # Errors
    /// The last failure, or the one that says that nothing is healthy.
    pub async fn first_content(
        &mut self,
        client: &mut Client,
        held: &mut Reservation,
        record: &mut Record,
    ) -> Result<Answered, Exit> {
        let retry = &self.shard.world.config.retry;
        let mut last: Option<Failure> = None;
        let mut unreachable = true;
        for made in 0..retry.attempts {
            let Some((at, in_flight)) = self.pick() else { break };
            record.attempt(self.shard, at, &self.deployment.candidates[at]);
            let candidate = &self.deployment.candidates[at];
            let failure = match self.one(client, held, record, candidate, in_flight).await {
                Ok(answered) => {
                    record.attempt_ends(self.shard, true);
                    return Ok(answered);
                }
                Err(None) => return Err(None),
                Err(Some(failure)) => failure,
            };
            record.attempt_ends(self.shard, false);
            unreachable &= failure.kind == FailureKind::ConnectFailed;
            let again = failure.retry == Retry::OtherEndpoint
                && (retry.on_timeout || failure.kind != FailureKind::UpstreamTimeout);
            let repeats =
                failure.status >= 500 && !unreachable && failure.kind != FailureKind::UpstreamTimeout;
            last = Some(failure);
            if !again {
                break;
            }
            self.tried.push(at);
            if made + 1 < retry.attempts && self.is_exhausted() && repeats {
                self.back_off(client, made).await?;
                self.tried.clear();
            }
        }
        Err(Some(self.verdict(last, unreachable)))
    }

    /// Picks and enters; an endpoint whose last slot went to another shard meanwhile is not picked again.
    fn pick(&self) -> Option<(usize, InFlight)> {
        let registry = &self.shard.world.registry;
        let mut tried = self.tried.clone();
        loop {
            let at = self.deployment.pick(registry, self.task, &tried, self.shard.random())?;
            match registry[self.deployment.candidates[at].endpoint].enter() {
                Some(in_flight) => return Some((at, in_flight)),
                None => tried.push(at),
            }
        }
    }

    fn is_exhausted(&self) -> bool {
        self.deployment.pick(&self.shard.world.registry, self.task, &self.tried, 1).is_none()
    }

    async fn back_off(&self, client: &Client, made: u32) -> Result<(), Exit> {
        let wait = self.shard.world.config.retry.backoff.saturating_mul(1 << made.min(6));
        client.timer().set((self.shard.clock.now_us() + micros(wait)).min(self.deadline_us));
        match client.race(pin!(std::future::pending::<()>())).await {
            Err(Stop::ClientGone) => Err(None),
            _ => Ok(()),
        }
    }

    /// The failure to tell when no attempt is left.
    fn verdict(&self, last: Option<Failure>, unreachable: bool) -> Failure {
        let registry = &self.shard.world.registry;
        let retry_after =
            u32::try_from(self.shard.world.config.health.interval.as_secs()).unwrap_or(5).clamp(1, 5);
        match last {
            Some(failure) if !unreachable || !self.is_exhausted() => failure,
            None if self.deployment.all_full(registry, self.task) => {
                let text = format!("All slots of the endpoints of {} are taken.", self.deployment.name);
                Failure::new(FailureKind::SlotsTaken, text).after(1)
            }
            last => {
                let why = last.map(|failure| format!(": {}", failure.message)).unwrap_or_default();
                let text = format!("No healthy backends for model {}{why}", self.deployment.name);
                Failure::new(FailureKind::NothingHealthy, text).after(retry_after)
            }
        }
    }

    /// One endpoint; a warm connection that turns out dead is replaced by a fresh one.
    async fn one(
        &self,
        client: &mut Client,
        held: &mut Reservation,
        record: &mut Record,
        candidate: &Candidate,
        in_flight: InFlight,
    ) -> Result<Answered, Exit> {
        self.current.set(candidate.endpoint);
        let warm = self.shard.pools[candidate.endpoint].borrow_mut().take();
        if let Some(upstream) = warm {
            self.shard.metrics().upstream_reuses.add(1);
            match self.ask(client, held, record, candidate, upstream).await {
                Err(Some(failure)) if failure.retry == Retry::FreshConnection => {}
                result => return result.map(|answered| answered.with(in_flight, candidate.endpoint)),
            }
        }
        let upstream = self.connect(client, candidate).await?;
        let result = self.ask(client, held, record, candidate, upstream).await;
        result.map(|answered| answered.with(in_flight, candidate.endpoint)).map_err(|exit| {
            exit.map(|failure| {
                let fresh = failure.retry == Retry::FreshConnection;
                Failure { retry: if fresh { Retry::OtherEndpoint } else { failure.retry }, ..failure }
            })
        })
    }

    fn endpoint(&self, candidate: &Candidate) -> &Arc<EndpointState> {
        &self.shard.world.registry[candidate.endpoint]
    }

    async fn connect(&self, client: &mut Client, candidate: &Candidate) -> Result<Upstream, Exit> {
        let endpoint = self.endpoint(candidate);
        let turn = usize::try_from(self.shard.random() >> 33).unwrap_or(0);
        let failed = |why: &str| {
            endpoint.observe(false, self.shard.world.thresholds());
            endpoint.set_last_error(Some(why.to_owned()));
            Failure::new(FailureKind::ConnectFailed, format!("{}: {why}", endpoint.config.name))
        };
        let Some(address) = endpoint.address(turn) else {
            return Err(Some(failed("the name has not been resolved")));
        };
        let limit = self.shard.world.config.timeouts.connect;
        let result = self.limited(client, limit, Phase::Connect, pin!(Upstream::connect(address))).await;
        match result {
            Ok(Ok(upstream)) => {
                self.shard.metrics().upstream_connects.add(1);
                Ok(upstream)
            }
            Ok(Err(error)) => Err(Some(failed(&describe(&error)))),
            Err(Some(failure)) if failure.kind == FailureKind::ConnectFailed => {
                Err(Some(failed(&failure.message)))
            }
            Err(exit) => Err(exit),
        }
    }

    /// Sends the request and reads until there is content, or the whole answer.
    async fn ask(
        &self,
        client: &mut Client,
        held: &mut Reservation,
        record: &mut Record,
        candidate: &Candidate,
        mut upstream: Upstream,
    ) -> Result<Answered, Exit> {
        record.sent(self.shard);
        self.send(client, candidate, &mut upstream).await?;
        let mut buffer = self.shard.buffers.large();
        let head = self.read_head(client, &mut upstream, &mut buffer).await?;
        let passed = passed_lines(&buffer, &head);
        let content_type = head.content_type.of_bytes(&buffer).to_vec();
        let reader = Reader::new(head.framing);
        let mut answered = Answered::new(head.status, content_type, passed, Arc::clone(&candidate.headers));
        if head.status >= 300 {
            return Err(Some(self.error_answer(client, upstream, buffer, &head, reader).await?));
        }
        let streams = streams(&answered.content_type);
        if let Some(ndjson) = streams {
            let model = json::quoted(self.answer_name());
            let stream = Stream::new(self.task, ndjson, model, self.view.injects_usage());
            answered.content = self.first_event(client, upstream, buffer, &head, reader, stream).await?;
        } else {
            answered.content = self.whole(client, held, upstream, buffer, &head, reader).await?;
        }
        record.content(self.shard, &answered);
        Ok(answered)
    }

    /// The name that answers carry: what the client asked for; on native paths without the prefix.
    fn answer_name(&self) -> &str {
        let asked = self.view.model.as_str();
        match self.task.dialect() {
            crate::api::Dialect::Ollama => asked.strip_prefix("ollama/").unwrap_or(asked),
            _ => asked,
        }
    }

    async fn send(
        &self,
        client: &mut Client,
        candidate: &Candidate,
        upstream: &mut Upstream,
    ) -> Result<(), Exit> {
        let endpoint = self.endpoint(candidate);
        let original = self.incoming.buffer.get(self.body_at..).unwrap_or_default();
        let mut body = self.shard.buffers.large();
        self.view.splice(original, &candidate.upstream_model, endpoint.config.kind, &mut body);
        let mut head = self.shard.buffers.small();
        self.write_head(endpoint, client, body.len(), &mut head);
        let limit = self.shard.world.config.timeouts.first_byte;
        if body.len() <= ONE_WRITE {
            // The larger buffer takes both: one write, no third buffer.
            head.extend_from_slice(&body);
            self.shard.buffers.give(body);
            body = Vec::new();
        }
        let reused = upstream.reused();
        for part in [head, body] {
            if part.is_empty() {
                continue;
            }
            let (result, part) = self.limited(client, limit, Phase::Send, pin!(upstream.write(part))).await?;
            self.shard.buffers.give(part);
            result.map_err(|error| Some(lost(reused, &error)))?;
        }
        Ok(())
    }

    /// Re-serialises the head from parsed parts: the endpoint's own Host, a recomputed length, and the few fields of
    /// the client that mean something to an endpoint. Credentials of the client never pass.
    fn write_head(&self, endpoint: &EndpointState, client: &Client, body_bytes: usize, out: &mut Vec<u8>) {
        let (buffer, request) = (&self.incoming.buffer, &self.incoming.request);
        out.extend_from_slice(b"POST ");
        out.extend_from_slice(endpoint.config.url.path.as_bytes());
        match self.task.upstream_path() {
            Some(path) => out.extend_from_slice(path.as_bytes()),
            None => out.extend_from_slice(request.path.of_bytes(buffer)),
        }
        out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
        out.extend_from_slice(endpoint.authority.as_bytes());
        out.extend_from_slice(b"\r\ncontent-type: application/json\r\n");
        if let Some(key) = &endpoint.config.api_key {
            out.extend_from_slice(b"authorization: Bearer ");
            out.extend_from_slice(key.expose().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        for (name, line) in PASSED_UP {
            if let Some(value) = request.field(buffer, *name) {
                out.extend_from_slice(line);
                out.extend_from_slice(value);
                out.extend_from_slice(b"\r\n");
            }
        }
        out.extend_from_slice(b"x-forwarded-for: ");
        if let Some(before) = request.field(buffer, Name::ForwardedFor) {
            out.extend_from_slice(before);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(client.peer_text().as_bytes());
        out.extend_from_slice(b"\r\nx-forwarded-proto: http\r\n");
        reply::length(out, body_bytes);
        out.extend_from_slice(b"\r\n");
    }

    async fn read_head(
        &self,
        client: &mut Client,
        upstream: &mut Upstream,
        buffer: &mut Vec<u8>,
    ) -> Result<Response, Exit> {
        let limit = self.shard.world.config.timeouts.first_byte;
        let reused = upstream.reused();
        for _ in 0..=INTERIM_MAX {
            loop {
                match Response::parse(buffer, &self.shard.limits) {
                    Ok(Some(head)) if head.status >= 200 => return Ok(head),
                    Ok(Some(interim)) => {
                        buffer.drain(..interim.head_bytes);
                        break;
                    }
                    Ok(None) => {}
                    Err(error) => return Err(Some(broken(&format!("sent a malformed answer ({error:?})")))),
                }
                let reading = pin!(upstream.read(std::mem::take(buffer)));
                let (result, back) = self.limited(client, limit, Phase::FirstByte, reading).await?;
                *buffer = back;
                match result {
                    Ok(n) if n > 0 => {}
                    Ok(_) if buffer.is_empty() => {
                        return Err(Some(lost(reused, &io::ErrorKind::UnexpectedEof.into())));
                    }
                    Ok(_) => return Err(Some(broken("closed the connection inside an answer's head"))),
                    Err(error) => return Err(Some(lost(reused, &error))),
                }
            }
        }
        Err(Some(broken("sent too many interim answers")))
    }

    /// Reads an error answer, so that its words reach the client.
    async fn error_answer(
        &self,
        client: &mut Client,
        upstream: Upstream,
        buffer: Vec<u8>,
        head: &Response,
        reader: Reader,
    ) -> Result<Failure, Exit> {
        let retry_after = head.retry_after.text(&buffer).parse().ok();
        if head.status < 400 {
            return Ok(broken("answered with a redirect, which is not followed"));
        }
        let (buffer, start) =
            self.read_all(client, upstream, buffer, head, reader, ERROR_BYTES_MAX, None).await?;
        let failure = Failure::of_upstream(head.status, buffer.get(start..).unwrap_or_default(), retry_after);
        self.shard.buffers.give(buffer);
        Ok(failure)
    }

    /// Reads a whole answer and puts the client's name for the model into it.
    async fn whole(
        &self,
        client: &mut Client,
        held: &mut Reservation,
        upstream: Upstream,
        buffer: Vec<u8>,
        head: &Response,
        reader: Reader,
    ) -> Result<Content, Exit> {
        let bytes_max =
            usize::try_from(self.shard.world.config.server.answer_bytes_max.0).unwrap_or(usize::MAX);
        let (buffer, start) =
            self.read_all(client, upstream, buffer, head, reader, bytes_max, Some(held)).await?;
        let body = buffer.get(start..).unwrap_or_default();
        if self.task == Task::Other && Answer::read(body, self.task).is_err() {
            return Ok(Content::Whole {
                buffer,
                start,
                answer: Answer::default(),
                model: Vec::new(),
                base64: false,
            });
        }
        let answer =
            Answer::read(body, self.task).map_err(|_| Some(broken("sent an answer that is not JSON")))?;
        let model = json::quoted(self.answer_name());
        Ok(Content::Whole { buffer, start, answer, model, base64: self.view.wants_base64 })
    }

    /// Reads a body to its end into `buffer`; the connection goes back to the pool if it may. Returns where the body
    /// begins.
    async fn read_all(
        &self,
        client: &mut Client,
        mut upstream: Upstream,
        mut buffer: Vec<u8>,
        head: &Response,
        mut reader: Reader,
        bytes_max: usize,
        mut held: Option<&mut Reservation>,
    ) -> Result<(Vec<u8>, usize), Exit> {
        let start = head.head_bytes;
        let mut end = start;
        loop {
            end = reader.decode(&mut buffer, end).map_err(|error| Some(broken_body(error)))?;
            if end - start > bytes_max {
                return Err(Some(Failure {
                    retry: Retry::Never,
                    ..broken("sent an answer larger than the limit")
                }));
            }
            if reader.done() {
                break;
            }
            if buffer.len() == buffer.capacity() {
                buffer.reserve(buffer.len());
                if held.as_mut().is_some_and(|held| !held.raise_to(buffer.capacity())) {
                    return Err(Some(
                        Failure::new(
                            FailureKind::BufferFull,
                            "The gateway holds too many large answers now.",
                        )
                        .after(1),
                    ));
                }
            }
            let limit = self.shard.world.config.timeouts.idle;
            let limit = if end == start { self.shard.world.config.timeouts.first_byte } else { limit };
            let phase = if end == start { Phase::FirstByte } else { Phase::Idle };
            let (result, back) = self.limited(client, limit, phase, pin!(upstream.read(buffer))).await?;
            buffer = back;
            match result {
                Ok(n) if n > 0 => {}
                _ => reader.peer_ended().map_err(|error| Some(broken_body(error)))?,
            }
        }
        let clean = buffer.len() == end;
        buffer.truncate(end);
        if clean && head.keep_alive {
            self.shard.keep(self.current.get(), upstream);
        }
        Ok((buffer, start))
    }

    /// Reads a stream until its first event has come through, so that an error before it can still be retried.
    async fn first_event(
        &self,
        client: &mut Client,
        mut upstream: Upstream,
        mut buffer: Vec<u8>,
        head: &Response,
        mut reader: Reader,
        mut stream: Stream,
    ) -> Result<Content, Exit> {
        let mut out = self.shard.buffers.large();
        let mut from = head.head_bytes;
        loop {
            let input = buffer.get(from..).unwrap_or_default();
            let used =
                reader.feed(input, |data| stream.push(data, &mut out)).map_err(|error| Some(fed(error)))?;
            let stray = used < input.len();
            if reader.done() {
                stream.finish(&mut out).map_err(Some)?;
            }
            if reader.done() || stream.events() > 0 {
                let keep_alive = head.keep_alive && !stray;
                return Ok(Content::Stream {
                    upstream,
                    buffer,
                    out,
                    reader,
                    stream: Box::new(stream),
                    keep_alive,
                });
            }
            buffer.clear();
            from = 0;
            let limit = self.shard.world.config.timeouts.first_byte;
            let (result, back) =
                self.limited(client, limit, Phase::FirstByte, pin!(upstream.read(buffer))).await?;
            buffer = back;
            match result {
                Ok(n) if n > 0 => {}
                _ => reader.peer_ended().map_err(|error| Some(broken_body(error)))?,
            }
        }
    }

    /// Runs an operation on the upstream side under a limit of its own and the exchange's deadline.
    async fn limited<F: Future>(
        &self,
        client: &Client,
        limit: Duration,
        phase: Phase,
        op: Pin<&mut F>,
    ) -> Result<F::Output, Exit> {
        self.shard.limited(client, limit, self.deadline_us, op).await.map_err(|stopped| match stopped {
            Stopped::Gone => None,
            Stopped::Total => Some(deadline_exceeded()),
            Stopped::Limit => Some(timed_out(phase, limit)),
        })
    }
}

/// Fields of the client that go on to an endpoint.
const PASSED_UP: &[(Name, &[u8])] = &[
    (Name::Accept, b"accept: "),
    (Name::UserAgent, b"user-agent: "),
    (Name::RequestId, b"x-request-id: "),
    (Name::TraceParent, b"traceparent: "),
    (Name::TraceState, b"tracestate: "),
    (Name::AnthropicVersion, b"anthropic-version: "),
    (Name::AnthropicBeta, b"anthropic-beta: "),
];

/// Whether a content type is a stream, and then whether its lines are JSON.
fn streams(content_type: &[u8]) -> Option<bool> {
    let kind = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    if kind.eq_ignore_ascii_case(b"text/event-stream") {
        Some(false)
    } else if kind.eq_ignore_ascii_case(b"application/x-ndjson") {
        Some(true)
    } else {
        None
    }
}

fn passed_lines(buffer: &[u8], head: &Response) -> Vec<u8> {
    let mut lines = Vec::new();
    for span in &head.passed {
        lines.extend_from_slice(span.of_bytes(buffer));
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// The exchange's own time is over.
#[must_use]
pub fn deadline_exceeded() -> Failure {
    Failure::new(FailureKind::DeadlineExceeded, "The request took longer than its time limit.")
}

/// A phase took longer than its limit.
#[must_use]
pub fn timed_out(phase: Phase, limit: Duration) -> Failure {
    match phase {
        Phase::Connect => Failure::new(FailureKind::ConnectFailed, format!("no connection within {limit:?}")),
        Phase::Send => Failure::new(
            FailureKind::UpstreamTimeout,
            format!("The endpoint took no request within {limit:?}."),
        ),
        Phase::FirstByte => Failure::new(
            FailureKind::UpstreamTimeout,
            format!("The endpoint did not answer within {limit:?}."),
        ),
        Phase::Idle => {
            Failure::new(FailureKind::UpstreamTimeout, format!("The endpoint fell silent for {limit:?}."))
        }
    }
}

fn broken(what: &str) -> Failure {
    Failure::new(FailureKind::UpstreamBroken, format!("The endpoint {what}."))
}

/// The connection failed before an answer began.
fn lost(reused: bool, error: &io::Error) -> Failure {
    let failure = broken(&format!("closed the connection before it answered ({})", describe(error)));
    Failure { retry: if reused { Retry::FreshConnection } else { Retry::OtherEndpoint }, ..failure }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::UnexpectedEof => "no bytes".to_owned(),
        _ => error.to_string(),
    }
}
