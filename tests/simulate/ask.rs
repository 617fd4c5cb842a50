//! Asking one endpoint and bringing its answer to the client: `shard::ask` and `shard::relay`, step by step, on the real readers.
//!
//! Left out: the guard, compression, and the framing towards the client (that it is ended, or not, is kept beside its data).

use std::io;
use std::pin::pin;
use std::rc::Rc;

use corelane::api::error::Retry;
use corelane::api::{Answer, Dialect, Failure, FailureKind, Stream};
use corelane::catalog::{Candidate, Deployment};
use corelane::queue::Place;
use corelane::retry::{Blame, blame};
use corelane::shard::limited::{Phase, Stopped, deadline_exceeded, timed_out};
use corelane::shard::relay::{broken_body, fed};
use corelane::wire::http1::body::Reader;
use corelane::wire::http1::{Limits, Response};
use corelane::wire::json;

use super::attempt::{TASK, blame_endpoint, straggler};
use super::gate::{Client, Core, Counted, Exit, Gate, Patience};
use super::run::Request;
use super::server::{Given, Sent, Upstream};

/// One request for one endpoint.
pub struct Ask<'a> {
    pub gate: &'a Gate,
    pub request: &'a Request,
    pub deployment: &'a Deployment,
    pub candidate: &'a Candidate,
}

/// An answer that has begun, or is whole.
pub struct Answered<'a> {
    content: Content,
    given: Rc<Given>,
    /// The endpoint's name for the model, and what the client is to read.
    names: (String, String),
    place: Option<(Place, Counted<'a>)>,
    endpoint: usize,
    model: String,
}

enum Content {
    Whole {
        buffer: Vec<u8>,
        start: usize,
        answer: Answer,
    },
    Stream {
        upstream: Upstream,
        buffer: Vec<u8>,
        out: Vec<u8>,
        reader: Reader,
        stream: Box<Stream>,
        keep: bool,
    },
}

struct Raw {
    upstream: Upstream,
    buffer: Vec<u8>,
    reader: Reader,
    head: Response,
}

impl<'a> Answered<'a> {
    pub fn with<'b>(self, place: Place, running: Counted<'b>, endpoint: usize, model: &str) -> Answered<'b>
    where
        'a: 'b,
    {
        let model = model.to_owned();
        Answered { place: Some((place, running)), endpoint, model, ..self }
    }
}

impl Core {
    pub fn take(&self, endpoint: usize) -> Option<Upstream> {
        while let Some(mut upstream) = self.pools[endpoint].borrow_mut().pop() {
            if upstream.quiet() {
                return Some(upstream);
            }
        }
        None
    }

    fn keep(&self, endpoint: usize, upstream: Upstream) {
        self.pools[endpoint].borrow_mut().push(upstream);
    }
}

impl Ask<'_> {
    fn core(&self) -> &Core {
        &self.gate.cores[self.request.shard]
    }

    fn timeouts(&self) -> &corelane::config::Timeouts {
        &self.deployment.timeouts
    }

    pub async fn connect(&self, patience: &mut Patience<'_>) -> Result<Upstream, Exit> {
        let server = &self.gate.servers[self.candidate.endpoint];
        match patience.phase(self.timeouts(), Phase::Connect, pin!(server.connect())).await? {
            Ok(upstream) => Ok(upstream),
            Err(error) => {
                self.gate.ledger.count("connect refused");
                Err(Some(Failure::new(FailureKind::ConnectFailed, error.to_string())))
            }
        }
    }

    pub async fn exchange<'g>(
        &self,
        patience: &mut Patience<'_>,
        mut upstream: Upstream,
    ) -> Result<Answered<'g>, Exit> {
        let request = self.request;
        let reused = upstream.reused();
        let sent = Sent {
            record: &request.record,
            nature: request.nature,
            stream: request.stream,
            model: &self.candidate.upstream_model,
            small: !self.deployment.context_window_fallbacks.is_empty(),
            quick: request.quick,
        };
        let result = patience.phase(self.timeouts(), Phase::Send, pin!(upstream.write(&sent))).await?;
        result.map_err(|error| Some(self.lost(reused, &error)))?;
        let mut buffer = Vec::new();
        let head = self.read_head(patience, &mut upstream, &mut buffer).await?;
        let raw = Raw { upstream, buffer, reader: Reader::new(head.framing), head };
        if raw.head.status >= 300 {
            let (status, after) = (raw.head.status, raw.head.retry_after.text(&raw.buffer).parse().ok());
            let (buffer, start) = self.read_all(patience, raw).await?;
            return Err(Some(Failure::of_upstream(status, &buffer[start..], after)));
        }
        let given = raw.upstream.given();
        // The client's own name for the model it has asked for, the public one of a fallback: here they are the same.
        let names = (self.candidate.upstream_model.clone(), self.deployment.name.clone());
        let content = if raw.head.content_type.text(&raw.buffer) == "text/event-stream" {
            self.first_event(patience, raw).await?
        } else {
            let (buffer, start) = self.read_all(patience, raw).await?;
            let answer = Answer::read(&buffer[start..], TASK, None);
            let answer = answer.map_err(|_| Some(broken("sent an answer that is not JSON")))?;
            Content::Whole { buffer, start, answer }
        };
        Ok(Answered { content, given, names, place: None, endpoint: 0, model: String::new() })
    }

    async fn read_head(
        &self,
        patience: &mut Patience<'_>,
        upstream: &mut Upstream,
        buffer: &mut Vec<u8>,
    ) -> Result<Response, Exit> {
        let reused = upstream.reused();
        loop {
            match Response::parse(buffer, &Limits::default()) {
                Ok(Some(head)) => return Ok(head),
                Ok(None) => {}
                Err(error) => return Err(Some(broken(&format!("sent a malformed answer ({error:?})")))),
            }
            let result = {
                let reading = pin!(upstream.read(buffer));
                patience.phase(self.timeouts(), Phase::FirstByte, reading).await?
            };
            match result {
                Ok(n) if n > 0 => {}
                Ok(_) if buffer.is_empty() => {
                    return Err(Some(self.lost(reused, &io::ErrorKind::UnexpectedEof.into())));
                }
                Ok(_) => return Err(Some(broken("closed the connection inside an answer's head"))),
                Err(error) => return Err(Some(self.lost(reused, &error))),
            }
        }
    }

    async fn read_all(&self, patience: &mut Patience<'_>, raw: Raw) -> Result<(Vec<u8>, usize), Exit> {
        let Raw { mut upstream, mut buffer, mut reader, head } = raw;
        let start = head.head_bytes;
        let mut end = start;
        loop {
            end = reader.decode(&mut buffer, end).map_err(|error| Some(broken_body(error)))?;
            if reader.done() {
                break;
            }
            let phase = if end == start { Phase::FirstByte } else { Phase::Idle };
            match patience.phase(self.timeouts(), phase, pin!(upstream.read(&mut buffer))).await? {
                Ok(n) if n > 0 => {}
                Ok(_) => reader.peer_ended().map_err(|error| Some(broken_body(error)))?,
                Err(_) => reader.peer_failed().map_err(|error| Some(broken_body(error)))?,
            }
        }
        let clean = buffer.len() == end;
        buffer.truncate(end);
        if clean && head.keep_alive {
            self.core().keep(self.candidate.endpoint, upstream);
        }
        Ok((buffer, start))
    }

    async fn first_event(&self, patience: &mut Patience<'_>, raw: Raw) -> Result<Content, Exit> {
        let Raw { mut upstream, mut buffer, mut reader, head } = raw;
        let mut stream = Stream::new(TASK, false, json::quoted(&self.deployment.name), false);
        let (mut out, mut from) = (Vec::new(), head.head_bytes);
        loop {
            let input = &buffer[from..];
            let used =
                reader.feed(input, |data| stream.push(data, &mut out)).map_err(|error| Some(fed(error)))?;
            let stray = used < input.len();
            if reader.done() {
                stream.finish(&mut out).map_err(Some)?;
            }
            if reader.done() || stream.events() > 0 {
                let keep = head.keep_alive && !stray;
                return Ok(Content::Stream { upstream, buffer, out, reader, stream: Box::new(stream), keep });
            }
            buffer.clear();
            from = 0;
            let result = {
                let reading = pin!(upstream.read(&mut buffer));
                patience.phase(self.timeouts(), Phase::FirstByte, reading).await?
            };
            match result {
                Ok(n) if n > 0 => {}
                Ok(_) => reader.peer_ended().map_err(|error| Some(broken_body(error)))?,
                Err(_) => reader.peer_failed().map_err(|error| Some(broken_body(error)))?,
            }
        }
    }

    /// The connection failed before an answer began.
    fn lost(&self, reused: bool, error: &io::Error) -> Failure {
        self.gate.ledger.count(if reused { "warm connection died" } else { "fresh connection died" });
        let failure = Failure::new(FailureKind::UpstreamDied, error.to_string());
        failure.with_retry(if reused { Retry::FreshConnection } else { Retry::OtherEndpoint })
    }
}

fn broken(what: &str) -> Failure {
    Failure::new(FailureKind::UpstreamBroken, format!("The endpoint {what}."))
}

/// How an answer that began has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Whole,
    Broken,
}

/// What the relay works on.
struct Relay<'a> {
    gate: &'a Gate,
    request: &'a Request,
    client: &'a Client,
    upstream: Upstream,
    buffer: Vec<u8>,
    reader: Reader,
    stream: Box<Stream>,
    keep: bool,
    idle: std::time::Duration,
    endpoint: usize,
}

/// Brings an answer to the client, and compares what it got with what was sent.
pub async fn answer(
    gate: &Gate,
    request: &Request,
    client: &Client,
    answered: Answered<'_>,
) -> Result<Told, Exit> {
    let record = &request.record;
    let Answered { content, given, names, place, endpoint, model } = answered;
    gate.ledger.must(record.models.borrow().last() == Some(&model), record, || {
        format!("{model} has answered and is not who was asked last")
    });
    match content {
        Content::Whole { .. } if client.begun.get() => {
            gate.ledger.count("whole answer after a heartbeat");
            Err(Some(broken("sent a whole answer where a stream was asked for")))
        }
        Content::Whole { buffer, start, answer } => {
            drop(place);
            record.content.set(true);
            record.stage.set("left while written to");
            let (body, quoted) = (&buffer[start..], json::quoted(&names.1));
            let mut spliced = Vec::new();
            let unchanged = answer.unchanged(body, &quoted, false);
            let out = if unchanged {
                body
            } else {
                answer.splice(body, &quoted, false, &mut spliced);
                &spliced
            };
            client.write(gate, record, out).await?;
            client.ended.set(true);
            compare(gate, request, client, &given, &names, Some(Told::Whole), None);
            Ok(Told::Whole)
        }
        Content::Stream { upstream, buffer, out, reader, stream, keep } => {
            let idle = gate.catalog.find(&names.1, &gate.registry).unwrap().timeouts.idle;
            let mut relay =
                Relay { gate, request, client, upstream, buffer, reader, stream, keep, idle, endpoint };
            record.content.set(true);
            record.stage.set("left while relayed to");
            let result = relay.run(out).await;
            let told = result.as_ref().map(|failure| match failure {
                None => Told::Whole,
                Some(_) => Told::Broken,
            });
            let failure = result.as_ref().ok().cloned().flatten();
            compare(gate, request, client, &given, &names, told.as_ref().ok().copied(), failure.as_ref());
            let Relay { upstream, reader, keep, .. } = relay;
            if told.is_ok() && reader.done() && keep {
                gate.cores[request.shard].keep(endpoint, upstream);
            }
            drop(place);
            match told {
                Ok(told) => Ok(told),
                Err(_) => Err(None),
            }
        }
    }
}

impl Relay<'_> {
    /// `Ok(None)`: to its end; `Ok(Some)`: it broke off, and the client was told.
    async fn run(&mut self, first: Vec<u8>) -> Result<Option<Failure>, Exit> {
        let mut over = self.reader.done();
        self.write(&first).await?;
        self.client.ended.set(over);
        while !over {
            let failure = match self.read().await {
                Ok(()) => None,
                Err(None) => return Err(None),
                Err(Some(failure)) => Some(failure),
            };
            let mut out = Vec::new();
            let failure = match failure {
                None => self.pass(&mut out, &mut over).err(),
                failure => failure,
            };
            if let Some(failure) = failure {
                self.break_off(out, &failure).await?;
                return Ok(Some(failure));
            }
            self.write(&out).await?;
            self.client.ended.set(over);
        }
        Ok(None)
    }

    async fn read(&mut self) -> Result<(), Exit> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut patience = Patience::new(
            (self.gate, &self.gate.cores[self.request.shard]),
            &self.request.record,
            self.client,
            false,
        );
        let reading = patience.limited(self.idle, pin!(self.upstream.read(&mut buffer))).await;
        let result = reading.map_err(|stopped| match stopped {
            Stopped::Gone => None,
            Stopped::Limit => {
                self.gate.ledger.count("timeout: idle, of a stream");
                Some(timed_out(Phase::Idle, self.idle))
            }
            Stopped::Total => {
                self.gate.ledger.count("timeout: total, of a stream");
                Some(deadline_exceeded())
            }
        });
        self.buffer = buffer;
        match result? {
            Ok(n) if n > 0 => Ok(()),
            Ok(_) => self.reader.peer_ended().map_err(|broken| Some(broken_body(broken))),
            Err(_) => self.reader.peer_failed().map_err(|broken| Some(broken_body(broken))),
        }
    }

    fn pass(&mut self, out: &mut Vec<u8>, over: &mut bool) -> Result<(), Failure> {
        let Self { reader, stream, buffer, keep, .. } = self;
        let used = reader.feed(buffer, |data| stream.push(data, out)).map_err(fed)?;
        *keep &= used == buffer.len();
        if reader.done() {
            *over = true;
            stream.finish(out)?;
        }
        Ok(())
    }

    async fn break_off(&mut self, mut out: Vec<u8>, failure: &Failure) -> Result<(), Exit> {
        self.keep = false;
        if let Blame::Endpoint(reason) = blame(failure) {
            straggler(self.gate, self.endpoint);
            blame_endpoint(self.gate, &self.gate.registry[self.endpoint], reason);
        }
        out.extend_from_slice(&failure.event(Dialect::Openai));
        self.write(&out).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Exit> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.client.write(self.gate, &self.request.record, bytes).await
    }
}

/// Whether only the end of the last event was added to what was sent.
fn is_mended(got: &[u8], sent: &[u8]) -> bool {
    [&b"\n"[..], b"\n\n"].iter().any(|end| got.strip_suffix(*end) == Some(sent))
}

/// What the client has got is what the endpoint has sent, under the client's name for the model: all of it if it ended well, a
/// part of it and the failure if it broke off, a part of it if the client has left (`told` is `None`).
fn compare(
    gate: &Gate,
    request: &Request,
    client: &Client,
    given: &Given,
    (theirs, ours): &(String, String),
    told: Option<Told>,
    failure: Option<&Failure>,
) {
    let (data, record, ledger) = (client.data.borrow(), &request.record, &gate.ledger);
    let mut got = &data[..];
    while let Some(rest) = got.strip_prefix(super::gate::HEARTBEAT) {
        got = rest;
    }
    let named = |name: &str| format!("\"model\":\"{name}\"");
    let sent = String::from_utf8_lossy(&given.body).replace(&named(theirs), &named(ours));
    let text = || format!("{told:?}: got {:?}, sent {sent:?}", String::from_utf8_lossy(got));
    let ends = |tail: &[u8]| got.ends_with(tail);
    match told {
        Some(Told::Whole) => {
            // Whose end nothing shows may have lost its last blank line.
            let mended = given.cut_unseen && is_mended(got, sent.as_bytes());
            ledger.must(got == sent.as_bytes() || mended, record, text);
            ledger.must(sent.contains("\"finish_reason\":\"stop\""), record, text);
            ledger.must(client.ended.get(), record, text);
            if given.cut_unseen {
                ledger.count("cut after its last word");
                if !ends(b"data: [DONE]\n\n") && !sent.ends_with("\n\n") {
                    ledger.count("cut inside of an event, and ended well");
                }
            }
        }
        Some(Told::Broken) => {
            let event = failure.map(|failure| failure.event(Dialect::Openai)).unwrap_or_default();
            ledger.must(ends(&event) && !client.ended.get() && !event.is_empty(), record, text);
            let part = got.strip_suffix(&event[..]).unwrap_or(got);
            // Where no framing shows the cut, a last event without its blank line is let through: `api::stream` says why.
            let mended = given.cut_unseen && is_mended(part, sent.as_bytes());
            if mended {
                ledger.count("piece of an event let through before a break");
            }
            ledger.must(mended || sent.as_bytes().starts_with(part), record, text);
            ledger.must(part.is_empty() || part.ends_with(b"\n\n"), record, text);
        }
        None => ledger.must(sent.as_bytes().starts_with(got), record, text),
    }
}
