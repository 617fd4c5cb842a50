//! The answer's way back: framing of what the endpoint sends, and writing it to the client.
//!
//! read → stream state → write → read: one write at a time and no queue, so TCP pushes back by itself, and what
//! arrives during a write goes out in the next one. The client's head leaves with the first content.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use super::Shard;
use super::access::Record;
use super::answered::{Answered, Content, Limits};
use super::exchange::{Exit, Streaming};
use super::framing::{GAP, end, end_stream_head, frame, frame_in_place, kind_line};
use super::kept::Kept;
use super::limited::{Stopped, deadline_exceeded};
use super::reply::{self, Manner, Version};
use super::screen::Screen;
use super::serve::After;
use super::shared::{self, Following};
use super::source::{Reading, Source};
use crate::api::{Answer, Failure, FailureKind};
use crate::cache::flight;
use crate::net::Client;
use crate::wire::http1::body;

/// Room for the head of an answer, and for what grows in its body; more is made if that is not enough.
const HEAD_BYTES: usize = 1024;

/// A client that has only listened for so long is watched without a buffer.
const PARK_AFTER_US: u64 = 1_000_000;

/// An answer, and what it is brought with.
pub struct Outgoing {
    /// The answer.
    pub answered: Box<Answered>,
    /// What reads it, if anything does.
    pub screen: Option<Box<Screen>>,
    /// What becomes of it besides.
    pub kept: Option<Box<Kept>>,
    /// How long it may take.
    pub limits: Limits,
}

/// An answer that is ready to go.
pub enum Prepared<'a> {
    /// Whole, with its head.
    Whole(Vec<u8>),
    /// A stream, whose head goes with its first events.
    Stream(Box<Relay<'a>>),
}

/// Makes an answer ready to go.
///
/// # Errors
/// There is nothing to bring.
pub fn prepare<'a>(
    shard: &'a Rc<Shard>,
    outgoing: Outgoing,
    manner: &'a Manner,
    record: &mut Record,
) -> Result<Prepared<'a>, Failure> {
    let Outgoing { answered, screen, mut kept, limits } = outgoing;
    record.status = answered.status;
    let mut head = shard.buffers.sized(answered.content.bytes() + HEAD_BYTES);
    let Answered { status, content_type, content, passed, endpoint_lines, endpoint, in_flight } = *answered;
    if !manner.begun {
        manner.begin(shard, status, &mut head);
        head.extend_from_slice(&endpoint_lines);
        record.lines(shard, &manner.request_id, &mut head);
        head.extend_from_slice(&passed);
        kind_line(&content_type, &mut head);
    }
    if let Some(what) = content.unfit(manner) {
        return Err(broken(what));
    }
    let notes = flight::Head { content_type, endpoint_lines, model: record.stand_in() };
    match content {
        Content::None => Err(broken("sent nothing")),
        Content::Whole { buffer, start, answer, model, base64 } => {
            let body = buffer.get(start..).unwrap_or_default();
            let is_clean = screen.is_none_or(|screen| screen.is_clean());
            let keep = |body: &[u8]| {
                if let Some(kept) = kept {
                    kept.whole(shard, notes, body, answer.usage, status == 200 && is_clean);
                }
            };
            let out = whole(shard, head, body, &answer, (&model, base64), manner, keep);
            shard.buffers.give(buffer);
            Ok(Prepared::Whole(out))
        }
        Content::Stream { upstream, buffer, out, reader, stream, keep_alive } => {
            if !manner.begun {
                end_stream_head(manner, &mut head);
            }
            if let Some(kept) = &mut kept {
                kept.begin(notes, status == 200);
            }
            let source = Source {
                upstream: Some(upstream),
                buffer,
                reader,
                stream: *stream,
                screen,
                keep_alive,
                limits,
                endpoint,
                in_flight,
                full: 0,
            };
            let source = Some(source);
            let _streaming = Streaming::new(shard);
            let relay = Relay {
                shard,
                manner,
                head,
                first: out,
                source,
                kept,
                following: None,
                last_us: 0,
                _streaming,
            };
            Ok(Prepared::Stream(Box::new(relay)))
        }
    }
}

/// Writes a whole answer.
///
/// # Errors
/// `None`: the client is gone.
pub async fn send(
    shard: &Shard,
    client: &mut Client,
    answer: Vec<u8>,
    manner: &Manner,
) -> Result<After, Exit> {
    if let Err(answer) = client.post_from(answer, 0) {
        let spare = Box::pin(client.write_from(answer, 0)).await.map_err(|_| None)?;
        shard.buffers.give(spare);
    }
    Ok(if manner.keep_alive { After::KeepAlive } else { After::Close })
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

/// Appends a whole answer to its head `out`; `keep` is shown what the client gets, before compression.
pub fn whole(
    shard: &Shard,
    mut out: Vec<u8>,
    body: &[u8],
    answer: &Answer,
    (model, base64): (&[u8], bool),
    manner: &Manner,
    keep: impl FnOnce(&[u8]),
) -> Vec<u8> {
    let mut spliced = Vec::new();
    let unchanged = model.is_empty() || answer.unchanged(body, model, base64);
    let body = if unchanged {
        body
    } else {
        spliced = shard.buffers.sized(body.len() + HEAD_BYTES);
        answer.splice(body, model, base64, &mut spliced);
        &spliced
    };
    keep(body);
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

/// A streamed answer on its way to the client who asked for it.
pub struct Relay<'a> {
    shard: &'a Rc<Shard>,
    manner: &'a Manner,
    /// What the client gets first: the head of its answer, and events.
    head: Vec<u8>,
    first: Vec<u8>,
    /// `None`: others read it too, and it is brought to all of them.
    source: Option<Source>,
    /// What becomes of the answer besides.
    kept: Option<Box<Kept>>,
    following: Option<Box<Following>>,
    last_us: u64,
    _streaming: Streaming<'a>,
}

impl Relay<'_> {
    /// Brings it. (An `async fn` would hold all of this twice.)
    ///
    /// # Errors
    /// `None`: the client is gone. Nothing else: what fails after the first byte is shown in the answer itself.
    pub fn run(
        mut self,
        client: &mut Client,
        record: &mut Record,
    ) -> impl Future<Output = Result<After, Exit>> {
        async move {
            let result = self.bring(client, record).await;
            self.ends(record, &result);
            result
        }
    }

    fn ends(&mut self, record: &mut Record, result: &Result<After, Exit>) {
        let Some(source) = self.source.take() else { return };
        let clean = matches!(result, Ok(After::KeepAlive | After::Close));
        record.stream_ends(&source.stream, clean && source.is_over());
        if let Some(screen) = &source.screen {
            screen.note(self.shard, record);
        }
        match self.kept.take().filter(|_| matches!(result, Err(None))).and_then(|kept| kept.retire()) {
            Some(kept) => shared::spawn(self.shard, Box::new(source), None, kept.paid_by(record)), // others want the rest
            None => source.close(self.shard, clean),
        }
    }

    /// Writes the head and the first events. A failure that these end with is still to be told.
    async fn begin(&mut self, client: &mut Client, record: &mut Record) -> Result<Option<Failure>, Exit> {
        let (mut wire, first) = (std::mem::take(&mut self.head), std::mem::take(&mut self.first));
        let Some(source) = &mut self.source else { return Err(None) };
        let (first, failure) = match source.screen {
            None => (first, None),
            Some(_) => source.screened(self.shard, first, 0, None).await,
        };
        let over = source.is_over();
        self.note(record, &first, failure.as_ref());
        frame(self.manner, &first, &mut wire);
        self.shard.buffers.give(first);
        if over && failure.is_none() {
            end(self.manner, &mut wire);
        }
        if let Err(wire) = self.post(client, wire, 0, record) {
            self.write(client, wire, 0, record).await?;
        }
        Ok(failure)
    }

    fn bring(
        &mut self,
        client: &mut Client,
        record: &mut Record,
    ) -> impl Future<Output = Result<After, Exit>> {
        async move {
            if let Some(failure) = Box::pin(self.begin(client, record)).await? {
                return Box::pin(self.break_off(client, vec![0; GAP], &failure, record)).await;
            }
            let mut over = self.source.as_ref().is_some_and(Source::is_over);
            self.last_us = self.shard.clock.now_us();
            let park_us = self.last_us + PARK_AFTER_US;
            let mut parked = false;
            while !over {
                let Some(source) = &mut self.source else {
                    let Some(following) = self.following.take() else { return Err(None) };
                    return Box::pin(shared::follow(self.shard, client, self.manner, *following, record))
                        .await;
                };
                let result = match &self.kept {
                    None => read(self.shard, source, client).await,
                    Some(_) => Box::pin(self.read_kept(client, record)).await,
                };
                let failure = match result {
                    Ok(()) => None,
                    Err(None) => return Err(None),
                    Err(Some(failure)) => Some(failure),
                };
                let Some(source) = &mut self.source else {
                    let Some(failure) = failure else { continue };
                    let out = vec![0; GAP];
                    return Box::pin(break_off(self.shard, client, self.manner, out, &failure, record)).await;
                };
                record.gap(self.shard, &mut self.last_us);
                if !parked && self.last_us > park_us {
                    parked = true;
                    client.park();
                }
                let out = source.events_buffer(self.shard, GAP);
                let (out, failure) = source.events(out, failure);
                let (mut out, failure) = match source.screen {
                    None => (out, failure),
                    Some(_) => Box::pin(source.screened(self.shard, out, GAP, failure)).await,
                };
                over = source.is_over();
                self.note(record, out.get(GAP..).unwrap_or_default(), failure.as_ref());
                if let Some(failure) = failure {
                    return Box::pin(self.break_off(client, out, &failure, record)).await;
                }
                let start = frame_in_place(self.manner, &mut out);
                if over {
                    end(self.manner, &mut out);
                }
                if out.len() > start {
                    if let Err(out) = self.post(client, out, start, record) {
                        Box::pin(self.write(client, out, start, record)).await?;
                    }
                } else {
                    self.shard.buffers.give(out);
                }
            }
            Ok(after(self.manner))
        }
    }

    /// Keeps what goes to the client: for the log, if it wants bodies, and for equal requests.
    fn note(&mut self, record: &mut Record, events: &[u8], failure: Option<&Failure>) {
        let Some(source) = &self.source else { return };
        if let Some(bodies) = record.bodies() {
            bodies.events(source.stream.task(), source.stream.is_ndjson(), events);
        }
        let goes_on = self.kept.as_mut().is_none_or(|kept| kept.push(events));
        let ends = failure.is_some() || source.is_over() || !goes_on;
        let Some(kept) = self.kept.take_if(|_| ends) else { return };
        match failure {
            Some(failure) => kept.refused(failure),
            None if goes_on => kept.done(source),
            None => {}
        }
    }

    /// Shows that the answer is cut: what came before, an error in the client's dialect, and no proper end.
    async fn break_off(
        &mut self,
        client: &mut Client,
        out: Vec<u8>,
        failure: &Failure,
        record: &mut Record,
    ) -> Result<After, Exit> {
        if let Some(source) = &mut self.source {
            source.keep_alive = false;
            self.shard.broke_off(source.endpoint, failure);
            self.shard.buffers.give(std::mem::take(&mut source.buffer));
        }
        break_off(self.shard, client, self.manner, out, failure, record).await
    }

    /// Sends what goes to the client, where that needs no waiting.
    ///
    /// # Errors
    /// It is to be written.
    fn post(
        &mut self,
        client: &mut Client,
        bytes: Vec<u8>,
        start: usize,
        record: &mut Record,
    ) -> Result<(), Vec<u8>> {
        if let Some(source) = &mut self.source {
            self.shard.buffers.give(std::mem::take(&mut source.buffer));
        }
        client.post_from(bytes, start)?;
        self.share_if_joined(record);
        Ok(())
    }

    /// While it waits for the client it holds nothing but what is to be written. Should others join meanwhile, they do not
    /// wait for this client.
    async fn write(
        &mut self,
        client: &mut Client,
        bytes: Vec<u8>,
        start: usize,
        record: &mut Record,
    ) -> Result<(), Exit> {
        let mut writing = pin!(client.write_from(bytes, start));
        let early = match &self.kept {
            Some(kept) => kept.unless_joined(writing.as_mut()).await,
            None => Some(writing.as_mut().await),
        };
        let written = match early {
            Some(written) => written,
            None => {
                self.share(None, record);
                writing.await
            }
        };
        self.shard.buffers.give(written.map_err(|_| None)?);
        self.share_if_joined(record);
        Ok(())
    }

    fn share_if_joined(&mut self, record: &mut Record) {
        if self.kept.as_ref().is_some_and(|kept| kept.is_shared()) {
            self.share(None, record);
        }
    }

    /// From here on a task of its own reads the answer, going on with what `reading` has begun, and this client is one of
    /// several that follow it.
    fn share(&mut self, reading: Option<Reading>, record: &mut Record) {
        if let (Some(source), Some(kept)) = (self.source.take(), self.kept.take()) {
            record.stream_ends(&source.stream, false);
            let (task, ndjson) = (source.stream.task(), source.stream.is_ndjson());
            let deadline_us = source.limits.deadline_us;
            let following = Following { follower: kept.follow(), task, ndjson, deadline_us };
            self.following = Some(Box::new(following));
            shared::spawn(self.shard, Box::new(source), reading, kept.paid_by(record));
        }
    }

    /// Reads once, for this client and for those who may join. A read that has begun may hold bytes already: while others
    /// want them it is never given up, whatever becomes of this client.
    async fn read_kept(&mut self, client: &mut Client, record: &mut Record) -> Result<(), Exit> {
        let (Some(source), Some(kept)) = (&mut self.source, &self.kept) else { return Ok(()) };
        let buffer = source.take_buffer(self.shard, || client.unsent());
        let Limits { idle, deadline_us } = source.limits;
        let mut reading = source.read(buffer, self.shard);
        let read = poll_fn(|cx| match reading.as_mut().poll(cx) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => kept.poll_joined(cx).map(|()| None),
        });
        let stopped = match self.shard.limited(client, idle, deadline_us, pin!(read)).await {
            Ok(Some(read)) => return source.finish(Ok(read)),
            Ok(None) => {
                self.share(Some(reading), record);
                return Ok(());
            }
            Err(stopped) => stopped,
        };
        if stopped == Stopped::Limit {
            return source.finish(Err(stopped)); // it ends for all
        }
        self.kept = self.kept.take().and_then(|kept| kept.retire());
        if self.kept.is_none() {
            return source.finish(Err(stopped));
        }
        // Others have joined at this very moment: what ends here is this client's part alone.
        self.share(Some(reading), record);
        self.following = None;
        Err((stopped == Stopped::Total).then(deadline_exceeded))
    }
}

/// Reads once from the endpoint, for one client.
fn read(shard: &Shard, source: &mut Source, client: &Client) -> impl Future<Output = Result<(), Exit>> {
    async move {
        let buffer = source.take_buffer(shard, || client.unsent());
        let Limits { idle, deadline_us } = source.limits;
        let Some(upstream) = &mut source.upstream else { return Err(None) };
        let read = {
            let mut reading = upstream.receive(buffer, &shard.buffers);
            shard.limited(client, idle, deadline_us, Pin::new(&mut reading)).await
        };
        source.took(read)
    }
}

/// What becomes of the connection after a whole answer.
#[must_use]
pub fn after(manner: &Manner) -> After {
    if manner.keep_alive && manner.version != Version::Http10 { After::KeepAlive } else { After::Close }
}

/// Shows that an answer is cut: `out`, whose first [`GAP`] bytes are free, with an error in the client's dialect, and no
/// proper end but that of a guard's verdict.
///
/// # Errors
/// `None`: the client is gone.
pub async fn break_off(
    shard: &Shard,
    client: &mut Client,
    manner: &Manner,
    mut out: Vec<u8>,
    failure: &Failure,
    record: &mut Record,
) -> Result<After, Exit> {
    record.broke(failure);
    out.extend_from_slice(&failure.event(manner.dialect));
    let start = frame_in_place(manner, &mut out);
    // The guard has ended the answer, nobody has lost any of it.
    let ended = failure.kind == FailureKind::ResponseBlocked;
    if ended {
        end(manner, &mut out);
    }
    let bytes = client.write_from(out, start).await.map_err(|_| None)?;
    shard.buffers.give(bytes);
    Ok(if ended { after(manner) } else { After::Linger })
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
