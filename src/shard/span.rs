//! The spans of an exchange: one of our own, and one for each attempt on an endpoint.
//!
//! Gathered while the exchange runs and handed on when it is over, so that a trace is never half there by our doing.
//! Nothing is allocated for an exchange that is not recorded. Attributes are those of OpenTelemetry's conventions for
//! HTTP servers and GenAI clients, and a few of ours; never a prompt, an answer, an error's words, or a secret.
//! Status: 5xx is our failure, 4xx too where an endpoint has answered it to us (HTTP conventions, "Status").

mod finish;
mod names;

use super::Shard;
use super::answered::{Answered, Content};
use super::head::Incoming;
use super::reply::{Manner, Version};
use crate::api::{Failure, FailureKind, Task, Usage};
use crate::catalog::Candidate;
use crate::telemetry::trace::TraceContext;
use crate::telemetry::trace::span::cut;
use crate::wire::http1::request::Name;

/// Longest `tracestate` that is kept with a span (W3C Trace Context section 3.3.1.5 asks for as much to be passed on).
const STATE_BYTES_MAX: usize = 512;

/// What becomes of the exchange's spans.
pub enum Tracing {
    /// Nothing: the client's own context goes on to the endpoint as it came.
    Off,
    /// The trace begins here and is not recorded, which the endpoint is told.
    Unrecorded(TraceContext),
    /// They are recorded.
    On(Box<Trace>),
}

/// A recorded exchange.
pub struct Trace {
    /// Our span.
    context: TraceContext,
    /// The client's.
    parent: Option<u64>,
    state: Option<String>,
    request_id: String,
    method: &'static str,
    route: Option<&'static str>,
    path: String,
    secure: bool,
    version: &'static str,
    task: Option<Task>,
    key: String,
    model: String,
    stream: bool,
    attempts: Vec<Attempt>,
    error: Option<String>,
}

/// One attempt; it is over when it has an end, or its exchange is over.
struct Attempt {
    span_id: u64,
    start_us: u64,
    end_us: Option<u64>,
    content_us: Option<u64>,
    /// By the registry of the shard's world.
    endpoint: usize,
    model: String,
    status: Option<u16>,
    /// Its answer is a stream.
    streams: bool,
    /// The name that the endpoint has for the model.
    answered_by: Option<String>,
    error: Option<String>,
}

/// What the record knows at the end.
pub struct Outcome {
    /// Status as it is counted.
    pub status: u16,
    /// Tokens, where the endpoint has counted them.
    pub usage: Usage,
    /// When the first byte of the request came.
    pub since_us: u64,
    /// When all of it was there.
    pub request_end_us: u64,
    /// When there was content, or 0.
    pub content_us: u64,
    /// Other models asked.
    pub fallbacks: u32,
    /// The client left.
    pub gone: bool,
}

/// What an endpoint is told of the trace.
#[derive(Clone, Copy)]
pub struct Passed {
    /// In place of the client's; `None`: the client's own.
    context: Option<TraceContext>,
    /// Whether the client's `tracestate` goes with it.
    state: bool,
}

impl Passed {
    /// Whether the client's field of that name goes on as it came.
    #[must_use]
    pub fn passes(self, name: Name) -> bool {
        match name {
            Name::TraceParent => self.context.is_none(),
            Name::TraceState => self.state,
            _ => true,
        }
    }

    /// Appends the field that stands for the client's.
    pub fn write(self, out: &mut Vec<u8>) {
        if let Some(context) = self.context {
            out.extend_from_slice(b"traceparent: ");
            context.write(out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl Tracing {
    /// At the beginning of an exchange.
    #[must_use]
    pub fn of(shard: &Shard, incoming: &Incoming, manner: &Manner) -> Self {
        let settings = &shard.world.config.tracing;
        if settings.otlp_endpoint.is_none() {
            return Self::Off;
        }
        let (buffer, request) = (&incoming.buffer, &incoming.request);
        let parent = request.field(buffer, Name::TraceParent).and_then(TraceContext::parse);
        let named = names::route(request.method, request.path.text(buffer));
        let random = || shard.random();
        let context = match parent {
            // It goes on unchanged: a span of ours that nobody sees would only tear the trace.
            Some(parent) if !parent.sampled => return Self::Off,
            Some(parent) => parent.child(random),
            None if named.quiet => return Self::Off,
            None => TraceContext::root(random, settings.sample_percent),
        };
        if !context.sampled {
            return Self::Unrecorded(context);
        }
        let state =
            || request.field(buffer, Name::TraceState).and_then(|state| std::str::from_utf8(state).ok());
        Self::On(Box::new(Trace {
            context,
            parent: parent.map(|parent| parent.span_id),
            state: parent
                .and_then(|_| state())
                .filter(|state| state.len() <= STATE_BYTES_MAX)
                .map(str::to_owned),
            request_id: manner.request_id.clone(),
            method: request.method.name(),
            route: named.route,
            path: cut(request.path.text(buffer)).to_owned(),
            secure: manner.secure,
            version: match manner.version {
                Version::Http10 => "1.0",
                Version::Http11 => "1.1",
                Version::Http2 => "2",
            },
            task: named.task,
            key: String::new(),
            model: String::new(),
            stream: false,
            attempts: Vec::new(),
            error: None,
        }))
    }

    fn trace(&mut self) -> Option<&mut Trace> {
        if let Self::On(trace) = self { Some(trace) } else { None }
    }

    fn attempt(&mut self) -> Option<&mut Attempt> {
        self.trace()?.attempts.last_mut().filter(|attempt| attempt.end_us.is_none())
    }

    /// Whether spans are recorded.
    #[must_use]
    pub fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }

    /// The caller is known.
    pub fn caller(&mut self, name: &str) {
        if let Some(trace) = self.trace() {
            cut(name).clone_into(&mut trace.key);
        }
    }

    /// The model is known, by the client's name for it.
    pub fn model(&mut self, name: &str, stream: bool) {
        if let Some(trace) = self.trace() {
            cut(name).clone_into(&mut trace.model);
            trace.stream = stream;
        }
    }

    /// An attempt begins.
    pub fn begins(&mut self, shard: &Shard, candidate: &Candidate) {
        if let Some(trace) = self.trace() {
            trace.attempts.push(Attempt {
                span_id: trace.context.child(|| shard.random()).span_id,
                start_us: shard.clock.now_us(),
                end_us: None,
                content_us: None,
                endpoint: candidate.endpoint,
                model: cut(&candidate.upstream_model).to_owned(),
                status: None,
                streams: false,
                answered_by: None,
                error: None,
            });
        }
    }

    /// What the endpoint of this attempt is told.
    #[must_use]
    pub fn passed(&self) -> Passed {
        match self {
            Self::Off => Passed { context: None, state: true },
            Self::Unrecorded(context) => Passed { context: Some(*context), state: false },
            Self::On(trace) => {
                let span_id = trace.attempts.last().map_or(trace.context.span_id, |attempt| attempt.span_id);
                let context = TraceContext { span_id, ..trace.context };
                Passed { context: Some(context), state: trace.parent.is_some() }
            }
        }
    }

    /// There is content.
    pub fn content(&mut self, now_us: u64, answered: &Answered) {
        if let Some(attempt) = self.attempt() {
            attempt.status = Some(answered.status);
            attempt.content_us = Some(now_us);
            attempt.streams = answered.is_stream();
            if let Content::Whole { buffer, start, answer, .. } = &answered.content {
                attempt.end_us = Some(now_us);
                attempt.answered_by = name(answer.model(buffer.get(*start..).unwrap_or_default()));
            }
        }
    }

    /// A stream is over, and soon its exchange; `model`: the endpoint's name for it, as a JSON string.
    pub fn streamed(&mut self, model: &[u8]) {
        if let Some(attempt) = self.attempt() {
            attempt.answered_by = name(model);
        }
    }

    /// The attempt has failed, and another one may follow.
    pub fn attempt_failed(&mut self, shard: &Shard, failure: &Failure) {
        if let Some(attempt) = self.attempt() {
            attempt.end_us = Some(shard.clock.now_us());
            if failure.kind == FailureKind::UpstreamStatus {
                attempt.status = Some(failure.status);
            }
            attempt.error = Some(names::error(failure));
        }
    }

    /// The exchange fails, or its answer is broken; what the guard finds is no failure of an endpoint.
    pub fn failed(&mut self, failure: &Failure) {
        let judged = matches!(failure.kind, FailureKind::PromptBlocked | FailureKind::ResponseBlocked);
        if let Some(attempt) = self.attempt().filter(|_| !judged) {
            attempt.error = Some(names::error(failure));
        }
        if let Some(trace) = self.trace() {
            trace.error = Some(names::error(failure));
        }
    }
}

/// A name in JSON as text; `None`: there is none, or it is written with escapes.
fn name(quoted: &[u8]) -> Option<String> {
    let inside = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let plain = !inside.is_empty() && !inside.contains(&b'\\');
    std::str::from_utf8(inside).ok().filter(|_| plain).map(|name| cut(name).to_owned())
}
