//! Asking one endpoint: connecting, sending the request made anew, and reading until there is content.

use std::borrow::Cow;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use super::access::Record;
use super::answered::{Answered, Content};
use super::exchange::Exit;
use super::head::Incoming;
use super::limited::{Patience, Phase};
use super::relay::{broken_body, fed};
use super::span::Passed;
use super::{Shard, reply};
use crate::api::error::Retry;
use crate::api::{Answer, Failure, FailureKind, Stream, Task, View};
use crate::catalog::Candidate;
use crate::config::{Price, Timeouts};
use crate::net::{Client, Upstream, buffer, clock, upstream};
use crate::refusal;
use crate::registry::EndpointState;
use crate::wire::http1::Response;
use crate::wire::http1::body::{Broken, Reader};
use crate::wire::http1::request::Name;
use crate::wire::json;
use crate::world::Reservation;

/// Requests up to this size go out in one write with their head.
const ONE_WRITE: usize = 12 * 1024;
/// Room for the head of a request, and for what grows in its body; more is made if that is not enough.
const GROWTH: usize = 1024;
/// What stands for our key where an endpoint repeats it.
const MASK: &[u8] = b"***";
/// What is read of an error answer.
const ERROR_BYTES_MAX: usize = 1 << 20;
/// Interim answers (1xx) before the real one.
const INTERIM_MAX: usize = 8;

/// One request for one endpoint.
pub struct Ask<'a> {
    /// Where it runs.
    pub shard: &'a Rc<Shard>,
    /// The client's request.
    pub incoming: &'a Incoming,
    /// Where its body begins.
    pub body_at: usize,
    /// What was read of the body.
    pub view: &'a View,
    /// What is asked for.
    pub task: Task,
    /// Limits of its phases.
    pub timeouts: &'a Timeouts,
    /// What the model's tokens cost.
    pub price: Price,
    /// The name that answers carry for the model.
    pub named: &'a str,
    /// Whom to ask, and for which model.
    pub candidate: &'a Candidate,
    /// The same endpoint's state.
    pub endpoint: &'a EndpointState,
}

/// An answer whose head has been read: `buffer` begins with it.
struct Raw {
    upstream: Upstream,
    buffer: Vec<u8>,
    reader: Reader,
    head: Response,
}

impl Ask<'_> {
    /// Connects to the endpoint.
    ///
    /// # Errors
    /// What kept it from connecting.
    pub async fn connect(&self, patience: &mut Patience<'_>) -> Result<Upstream, Exit> {
        let endpoint = self.endpoint;
        let turn = usize::try_from(self.shard.random() >> 33).unwrap_or(0);
        let failed = |why: &str| {
            endpoint.set_last_error(Some(why.to_owned()));
            Failure::new(FailureKind::ConnectFailed, format!("{}: {why}", endpoint.config.name))
        };
        let Some(address) = endpoint.address(turn) else {
            return Err(Some(failed("the name has not been resolved")));
        };
        let connecting = pin!(Upstream::connect(address, endpoint.connector.as_ref()));
        let result = patience.phase(self.timeouts, Phase::Connect, connecting).await;
        match result {
            Ok(Ok(upstream)) => {
                self.shard.metrics().upstream_connects.add(1);
                endpoint.breaker().connected(clock::now_ms());
                Ok(upstream)
            }
            Ok(Err(error)) if upstream::is_our_want(&error) => {
                let text = "The gateway has no descriptor left for another connection.";
                let failure = Failure::new(FailureKind::TooManyRequests, text).after(1);
                Err(Some(failure.with_retry(Retry::OtherEndpoint)))
            }
            Ok(Err(error)) => Err(Some(failed(&describe(&error)))),
            Err(Some(failure)) if failure.kind == FailureKind::ConnectFailed => {
                Err(Some(failed(&failure.message)))
            }
            Err(exit) => Err(exit),
        }
    }

    /// Sends the request and reads until there is content, or the whole answer.
    ///
    /// # Errors
    /// What was wrong with the answer, or with getting it.
    pub async fn exchange(
        &self,
        patience: &mut Patience<'_>,
        held: &mut Reservation,
        record: &mut Record,
        mut upstream: Upstream,
    ) -> Result<Box<Answered>, Exit> {
        record.sent(self.shard);
        pin!(self.send(patience, &mut upstream, record.spans.passed())).await?;
        let mut buffer = Vec::new();
        let head = pin!(self.read_head(patience, &mut upstream, &mut buffer)).await?;
        record.upstream_head(self.shard);
        let passed = passed_lines(&buffer, &head);
        let content_type = head.content_type.of_bytes(&buffer).to_vec();
        let mut answered =
            Answered::new(head.status, content_type, passed, Arc::clone(&self.candidate.headers));
        let raw = Raw { upstream, buffer, reader: Reader::new(head.framing), head };
        if raw.head.status >= 300 {
            return Err(Some(Box::pin(self.error_answer(patience, raw)).await?));
        }
        answered.content = match streams(&answered.content_type) {
            Some(ndjson) => {
                let model = json::quoted(self.answer_name());
                let mut stream = Stream::new(self.task, ndjson, model, self.view.injects_usage());
                if record.spans.is_on() {
                    stream.remember_model();
                }
                if let Some(price) = self.shown_price() {
                    stream = stream.priced(price);
                }
                pin!(self.first_event(patience, raw, stream)).await?
            }
            None => pin!(self.whole(patience, held, raw)).await?,
        };
        record.content(self.shard, &answered);
        Ok(answered)
    }

    /// On native paths the name has no prefix.
    fn answer_name(&self) -> &str {
        let asked = self.named;
        match self.task.dialect() {
            crate::api::Dialect::Ollama => asked.strip_prefix("ollama/").unwrap_or(asked),
            _ => asked,
        }
    }

    /// What tokens cost, if answers are to say so.
    fn shown_price(&self) -> Option<Price> {
        self.shard.world.config.usage.cost_in_answers.then_some(self.price)
    }

    async fn send(
        &self,
        patience: &mut Patience<'_>,
        upstream: &mut Upstream,
        trace: Passed,
    ) -> Result<(), Exit> {
        let endpoint = self.endpoint;
        let original = self.incoming.buffer.get(self.body_at..).unwrap_or_default();
        let mut body = self.shard.buffers.sized(original.len() + GROWTH);
        self.view.splice(original, &self.candidate.upstream_model, endpoint.config.kind, &mut body);
        let mut head = self.shard.buffers.sized(body.len() + GROWTH);
        self.write_head(patience.client, body.len(), trace, &mut head);
        if body.len() <= ONE_WRITE {
            head.extend_from_slice(&body);
            self.shard.buffers.give(body);
            body = Vec::new();
        }
        let reused = upstream.reused();
        for part in [head, body] {
            if part.is_empty() {
                continue;
            }
            let Err(part) = upstream.post(part, &self.shard.buffers) else { continue };
            let (result, part) =
                pin!(patience.phase(self.timeouts, Phase::Send, pin!(upstream.write(part)))).await?;
            self.shard.buffers.give(part);
            result.map_err(|error| Some(lost(reused, &error)))?;
        }
        Ok(())
    }

    /// Re-serialises the head from parsed parts: the endpoint's own Host, a recomputed length, and the few fields of
    /// the client that mean something to an endpoint. Credentials of the client never pass.
    fn write_head(&self, client: &Client, body_bytes: usize, trace: Passed, out: &mut Vec<u8>) {
        let endpoint = self.endpoint;
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
            if let Some(value) = request.field(buffer, *name).filter(|_| trace.passes(*name)) {
                out.extend_from_slice(line);
                out.extend_from_slice(value);
                out.extend_from_slice(b"\r\n");
            }
        }
        trace.write(out);
        out.extend_from_slice(b"x-forwarded-for: ");
        if let Some(before) = request.field(buffer, Name::ForwardedFor) {
            out.extend_from_slice(before);
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(client.peer_text().as_bytes());
        out.extend_from_slice(if client.is_tls() {
            b"\r\nx-forwarded-proto: https\r\n"
        } else {
            b"\r\nx-forwarded-proto: http\r\n"
        });
        reply::length(out, body_bytes);
        out.extend_from_slice(b"\r\n");
    }

    async fn read_head(
        &self,
        patience: &mut Patience<'_>,
        upstream: &mut Upstream,
        buffer: &mut Vec<u8>,
    ) -> Result<Response, Exit> {
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
                // What waits for an answer holds no buffer.
                let into = (buffer.capacity() > 0).then(|| std::mem::take(buffer));
                let reading = pin!(upstream.receive(into, &self.shard.buffers));
                let (result, back) = pin!(patience.phase(self.timeouts, Phase::FirstByte, reading)).await?;
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
    async fn error_answer(&self, patience: &mut Patience<'_>, raw: Raw) -> Result<Failure, Exit> {
        let status = raw.head.status;
        let retry_after = seconds_until(raw.head.retry_after.text(&raw.buffer));
        if status < 400 {
            return Ok(broken("answered with a redirect, which is not followed"));
        }
        let (buffer, start) = self.read_all(patience, raw, ERROR_BYTES_MAX, None).await?;
        let words = buffer.get(start..).unwrap_or_default();
        let failure = match &self.endpoint.config.api_key {
            Some(key) => Failure::of_upstream(status, &without(words, key.expose().as_bytes()), retry_after),
            None => Failure::of_upstream(status, words, retry_after),
        };
        self.shard.buffers.give(buffer);
        Ok(failure)
    }

    /// Reads a whole answer and finds the endpoint's name for the model in it.
    async fn whole(
        &self,
        patience: &mut Patience<'_>,
        held: &mut Reservation,
        raw: Raw,
    ) -> Result<Content, Exit> {
        let bytes_max =
            usize::try_from(self.shard.world.config.server.answer_bytes_max.0).unwrap_or(usize::MAX);
        let (buffer, start) = pin!(self.read_all(patience, raw, bytes_max, Some(held))).await?;
        let answer = Answer::read(buffer.get(start..).unwrap_or_default(), self.task, self.shown_price());
        if self.task == Task::Other && answer.is_err() {
            return Ok(Content::Whole {
                buffer,
                start,
                answer: Answer::default(),
                model: Vec::new(),
                base64: false,
            });
        }
        let answer = answer.map_err(|_| Some(broken("sent an answer that is not JSON")))?;
        let model = json::quoted(self.answer_name());
        Ok(Content::Whole { buffer, start, answer, model, base64: self.view.wants_base64 })
    }

    /// Reads a body to its end; the connection goes back to the pool if it may. Returns the buffer and where the body
    /// begins in it.
    async fn read_all(
        &self,
        patience: &mut Patience<'_>,
        raw: Raw,
        bytes_max: usize,
        mut held: Option<&mut Reservation>,
    ) -> Result<(Vec<u8>, usize), Exit> {
        let Raw { mut upstream, mut buffer, mut reader, head } = raw;
        let start = head.head_bytes;
        let mut end = start;
        loop {
            end = reader.decode(&mut buffer, end).map_err(|error| Some(broken_body(error)))?;
            if end - start > bytes_max {
                let failure = broken("sent an answer larger than the limit");
                return Err(Some(failure.with_retry(Retry::Never)));
            }
            if reader.done() {
                break;
            }
            if buffer.len() == buffer.capacity() {
                if buffer.capacity() < buffer::LARGE {
                    let small = std::mem::replace(&mut buffer, self.shard.buffers.large());
                    buffer.extend_from_slice(&small);
                    self.shard.buffers.give(small);
                } else {
                    buffer.reserve(buffer.len());
                }
                if held.as_mut().is_some_and(|held| !held.raise_to(buffer.capacity())) {
                    return Err(Some(refusal::too_many_large("answers")));
                }
            }
            let phase = if end == start { Phase::FirstByte } else { Phase::Idle };
            let (result, back) =
                pin!(patience.phase(self.timeouts, phase, pin!(upstream.read(buffer)))).await?;
            buffer = back;
            match result {
                Ok(n) if n > 0 => {}
                Ok(_) => reader.peer_ended().map_err(|error| Some(ended(error, end == start)))?,
                Err(_) => reader.peer_failed().map_err(|error| Some(ended(error, end == start)))?,
            }
        }
        let clean = buffer.len() == end;
        buffer.truncate(end);
        if clean && head.keep_alive {
            self.shard.keep(self.candidate.endpoint, upstream);
        }
        Ok((buffer, start))
    }

    /// Reads a stream until its first event has come through, so that an error before it can still be retried.
    async fn first_event(
        &self,
        patience: &mut Patience<'_>,
        raw: Raw,
        mut stream: Stream,
    ) -> Result<Content, Exit> {
        let Raw { mut upstream, mut buffer, mut reader, head } = raw;
        let mut out = self.shard.buffers.small();
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
            self.shard.buffers.give(buffer);
            from = 0;
            let reading = pin!(upstream.receive(None, &self.shard.buffers));
            let (result, back) = pin!(patience.phase(self.timeouts, Phase::FirstByte, reading)).await?;
            buffer = back;
            match result {
                Ok(n) if n > 0 => {}
                Ok(_) => reader.peer_ended().map_err(|error| Some(ended(error, true)))?,
                Err(_) => reader.peer_failed().map_err(|error| Some(ended(error, true)))?,
            }
        }
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

/// What `Retry-After` says: seconds, or a date (RFC 9110 section 10.2.3).
fn seconds_until(text: &str) -> Option<u32> {
    text.parse().ok().or_else(|| {
        let left = httpdate::parse_http_date(text).ok()?.duration_since(std::time::SystemTime::now());
        u32::try_from(left.unwrap_or_default().as_millis().div_ceil(1000)).ok()
    })
}

fn passed_lines(buffer: &[u8], head: &Response) -> Vec<u8> {
    let mut lines = Vec::new();
    for span in &head.passed {
        lines.extend_from_slice(span.of_bytes(buffer));
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

fn broken(what: &str) -> Failure {
    Failure::new(FailureKind::UpstreamBroken, format!("The endpoint {what}."))
}

/// The connection ended inside an answer; `early`: before any content, so the request may be what has ended it.
fn ended(error: Broken, early: bool) -> Failure {
    let kind = if early { FailureKind::UpstreamDied } else { FailureKind::UpstreamBroken };
    let mut failure = broken_body(error);
    failure.kind = kind;
    failure
}

/// The connection failed before an answer began.
fn lost(reused: bool, error: &io::Error) -> Failure {
    let text = format!("The endpoint closed the connection before it answered ({}).", describe(error));
    let failure = Failure::new(FailureKind::UpstreamDied, text);
    failure.with_retry(if reused { Retry::FreshConnection } else { Retry::OtherEndpoint })
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::UnexpectedEof => "no bytes".to_owned(),
        _ => error.to_string(),
    }
}

/// `words` without our `key`: servers repeat it where they refuse it, and their words go to the client.
fn without<'a>(words: &'a [u8], key: &[u8]) -> Cow<'a, [u8]> {
    let mut out = Vec::new();
    let mut rest = 0;
    for at in memchr::memmem::find_iter(words, key).filter(|_| !key.is_empty()) {
        out.extend_from_slice(words.get(rest..at).unwrap_or_default());
        out.extend_from_slice(MASK);
        rest = at + key.len();
    }
    if rest == 0 {
        return Cow::Borrowed(words);
    }
    out.extend_from_slice(words.get(rest..).unwrap_or_default());
    Cow::Owned(out)
}
