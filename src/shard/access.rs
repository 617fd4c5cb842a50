//! What is noted of an exchange: its numbers, and its line in the log.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::head::Incoming;
use super::relay::{Answered, Content};
use super::reply::{self, Manner};
use super::{Shard, admit};
use crate::api::{Failure, FailureKind, Usage, View};
use crate::catalog::{Candidate, Deployment};
use crate::config::guard::Action;
use crate::guard::chain::{self, Chain};
use crate::guard::verdict::Tally;
use crate::telemetry::metric;
use crate::wire::json;

const _: () = assert!(metric::SCANNERS == chain::SCANNERS, "a scanner without a counter");

/// Gathered while the exchange runs; counted by [`Record::finish`].
pub struct Record {
    /// Status told to the client; 499 if it left before.
    pub status: u16,
    deployment: Option<Arc<Deployment>>,
    line: Option<Line>,
    stream: bool,
    usage: Usage,
    events: u64,
    attempts: u32,
    fallbacks: u32,
    endpoint: Option<usize>,
    since_us: u64,
    request_end_us: u64,
    first_sent_us: u64,
    content_us: u64,
    head_us: u64,
    gone: bool,
}

/// What only the log wants.
struct Line {
    request_id: String,
    client: IpAddr,
    caller: String,
    method_and_path: String,
    model: String,
    error: Option<String>,
    guard: String,
}

impl Record {
    /// At the beginning of an exchange.
    #[must_use]
    pub fn new(shard: &Shard, incoming: &Incoming, manner: &Manner, peer: SocketAddr) -> Self {
        let line = shard.world.log.wants_access().then(|| Line {
            request_id: manner.request_id.clone(),
            client: admit::client_address(shard, incoming, peer),
            caller: String::new(),
            method_and_path: format!(
                "{:?} {}",
                incoming.request.method,
                incoming.request.path.text(&incoming.buffer)
            ),
            model: String::new(),
            error: None,
            guard: String::new(),
        });
        Self {
            status: 0,
            deployment: None,
            line,
            stream: false,
            usage: Usage::default(),
            events: 0,
            attempts: 0,
            fallbacks: 0,
            endpoint: None,
            since_us: incoming.since_us,
            request_end_us: incoming.since_us,
            first_sent_us: 0,
            content_us: 0,
            head_us: 0,
            gone: false,
        }
    }

    /// The whole request is here.
    pub fn request_ends(&mut self, shard: &Shard) {
        self.request_end_us = shard.clock.now_us();
    }

    /// The caller is known.
    pub fn caller(&mut self, name: &str) {
        if let Some(line) = &mut self.line {
            name.clone_into(&mut line.caller);
        }
    }

    /// Tokens of the exchange as far as they are known: the endpoint's own count, else an event of a stream for a
    /// token. `None`: no content has come.
    #[must_use]
    pub fn spent(&self) -> Option<(u64, u64)> {
        (self.content_us > 0).then_some((self.usage.input, self.usage.output.max(self.events)))
    }

    /// The model is known.
    pub fn model(&mut self, deployment: &Arc<Deployment>, view: &View) {
        self.deployment = Some(Arc::clone(deployment));
        self.stream = view.stream;
        if let Some(line) = &mut self.line {
            line.model.clone_from(&view.model);
        }
    }

    /// Another model is asked in its place.
    pub fn falls_back(&mut self, deployment: &Arc<Deployment>) {
        self.fallbacks += 1;
        self.deployment = Some(Arc::clone(deployment));
    }

    /// An attempt begins.
    pub fn attempt(&mut self, shard: &Shard, candidate: &Candidate) {
        self.attempts += 1;
        self.endpoint = Some(candidate.endpoint);
        if self.attempts > 1 {
            shard.metrics().retries.add(1);
        }
    }

    /// An attempt is over.
    pub fn attempt_ends(&self, shard: &Shard, success: bool) {
        let (Some(deployment), Some(endpoint)) = (&self.deployment, self.endpoint) else { return };
        let slot = shard.world.registry.get(endpoint).map_or(0, |endpoint| endpoint.slot);
        let attempts = shard.metrics().model(deployment.slot).attempts.of(slot);
        if success { attempts.success.add(1) } else { attempts.failure.add(1) }
    }

    /// The request begins to go to an endpoint.
    pub fn sent(&mut self, shard: &Shard) {
        if self.first_sent_us == 0 {
            self.first_sent_us = shard.clock.now_us();
        }
    }

    /// There is content for the client.
    pub fn content(&mut self, shard: &Shard, answered: &Answered) {
        self.content_us = shard.clock.now_us();
        if let Content::Whole { answer, .. } = &answered.content {
            self.usage = answer.usage;
        }
    }

    /// The guard has read the request, or the answer.
    pub fn guarded(&mut self, shard: &Shard, chain: &Chain, output: bool, tally: &Tally) {
        let guard = &shard.metrics().guard;
        let at = usize::from(output);
        for name in chain.scanners() {
            let number = name as usize;
            let verdict = match (tally.failed[number], tally.actions[number]) {
                (true, _) => 4,
                (_, None) => 0,
                (_, Some(Action::Monitor)) => 1,
                (_, Some(Action::Redact)) => 2,
                (_, Some(Action::Block)) => 3,
            };
            guard.verdicts[at][number][verdict].add(1);
            guard.spent_ns[at][number].add(tally.spent_ns[number]);
        }
        let Some(line) = &mut self.line else { return };
        let direction = if output { "output" } else { "input" };
        for (name, rule) in &tally.rules {
            let action = match tally.actions[*name as usize] {
                Some(Action::Block) => "block",
                Some(Action::Redact) => "redact",
                _ => "monitor",
            };
            note(&mut line.guard, direction, name.name(), rule, action);
        }
        for name in chain.scanners().filter(|name| tally.failed[*name as usize]) {
            note(&mut line.guard, direction, name.name(), "failed", "error");
        }
    }

    /// Tokens of a stream, and its events.
    pub fn usage(&mut self, usage: Usage, events: u64) {
        self.usage = usage;
        self.events = events;
    }

    /// Time between two reads of a stream; `last_us` moves on.
    pub fn gap(&self, shard: &Shard, last_us: &mut u64) {
        let now_us = shard.clock.now_us();
        if let Some(deployment) = &self.deployment {
            shard.metrics().model(deployment.slot).gap.record(now_us - *last_us);
        }
        *last_us = now_us;
    }

    /// The exchange fails before a byte of an answer went out.
    pub fn failed(&mut self, failure: &Failure) {
        if let Some(line) = &mut self.line {
            // An endpoint's words may repeat the request: they are for who asked, not for the log.
            line.error = Some(match failure.kind {
                FailureKind::UpstreamStatus => format!("The endpoint answered {}.", failure.status),
                _ => failure.message.clone(),
            });
        }
    }

    /// The answer broke after it had begun.
    pub fn broke(&mut self, failure: &Failure) {
        let judged = matches!(failure.kind, FailureKind::PromptBlocked | FailureKind::ResponseBlocked);
        self.status = if judged { failure.status } else { 502 };
        self.failed(failure);
    }

    /// The client left.
    pub fn client_gone(&mut self) {
        self.status = 499;
        self.gone = true;
    }

    /// Header lines that tell of the attempts and of our time; appended to `head`.
    pub fn lines(&mut self, shard: &Shard, request_id: &str, head: &mut Vec<u8>) {
        self.head_us = shard.clock.now_us();
        let cost = self.deployment.as_ref().map_or(0.0, |deployment| self.usage.cost(deployment.price));
        head.extend_from_slice(b"x-corelane-attempts: ");
        reply::number(head, u64::from(self.attempts));
        head.extend_from_slice(b"\r\nx-corelane-overhead-us: ");
        reply::number(head, self.overhead_us());
        head.extend_from_slice(b"\r\nx-litellm-attempted-retries: ");
        reply::number(head, u64::from(self.attempts.saturating_sub(1)));
        head.extend_from_slice(b"\r\nx-litellm-attempted-fallbacks: ");
        reply::number(head, u64::from(self.fallbacks));
        if let Some(deployment) = self.deployment.as_ref().filter(|_| self.fallbacks > 0) {
            head.extend_from_slice(b"\r\nx-corelane-model: ");
            head.extend_from_slice(deployment.name.as_bytes());
        }
        head.extend_from_slice(b"\r\nx-litellm-call-id: ");
        head.extend_from_slice(request_id.as_bytes());
        head.extend_from_slice(b"\r\nx-litellm-response-cost: ");
        if cost == 0.0 {
            head.push(b'0');
        } else {
            head.extend_from_slice(format!("{cost}").as_bytes());
        }
        head.extend_from_slice(b"\r\n");
    }

    /// The lines for an answer that tells of a failure.
    #[must_use]
    pub fn attempt_fields(&mut self, shard: &Shard, request_id: &str) -> String {
        if self.deployment.is_none() {
            return String::new();
        }
        let mut lines = Vec::new();
        if let Some(endpoint) = self.endpoint {
            let name = &shard.world.registry[endpoint].config.name;
            lines.extend_from_slice(format!("x-corelane-endpoint: {name}\r\n").as_bytes());
        }
        self.lines(shard, request_id, &mut lines);
        String::from_utf8(lines).unwrap_or_default()
    }

    fn overhead_us(&self) -> u64 {
        let before = self.first_sent_us.max(self.request_end_us) - self.request_end_us;
        let after = if self.content_us == 0 { 0 } else { self.head_us.saturating_sub(self.content_us) };
        before + after
    }

    /// Counts the exchange and writes its line.
    pub fn finish(self, shard: &Shard) {
        let now_us = shard.clock.now_us();
        let metrics = shard.metrics();
        if self.gone {
            metrics.clients_gone.add(1);
        }
        let Some(deployment) = &self.deployment else {
            metrics.local(self.status);
            return self.log(shard, now_us);
        };
        let model = metrics.model(deployment.slot);
        model.status(self.status);
        model.duration.record(now_us - self.since_us);
        if self.content_us > 0 {
            model.overhead.record(self.overhead_us());
            let upstream_us = (if self.stream { now_us } else { self.content_us }) - self.first_sent_us;
            model.upstream.record(upstream_us);
            if let Some(per_token_us) = upstream_us.checked_div(self.usage.output) {
                model.per_token.record(per_token_us);
            }
            if self.stream {
                model.first_token.record(self.content_us - self.request_end_us);
            }
        }
        model.tokens_input.add(self.usage.input);
        model.tokens_output.add(self.usage.output);
        model.cost.add(self.usage.cost(deployment.price));
        self.log(shard, now_us);
    }

    fn log(&self, shard: &Shard, now_us: u64) {
        use std::fmt::Write as _;
        let Some(line) = &self.line else { return };
        let endpoint = self.endpoint.map_or("-", |at| shard.world.registry[at].config.name.as_str());
        let text = |text: &str| visible(String::from_utf8(json::quoted(text)).unwrap_or_default());
        let mut out = String::with_capacity(384);
        let _ = write!(
            out,
            r#"{{"time":"{}","id":{},"client":"{}","request":{},"status":{},"model":{},"endpoint":{},"attempts":{},"stream":{},"ms":{:.3},"first_ms":{:.3},"overhead_us":{},"tokens_in":{},"tokens_out":{}"#,
            crate::telemetry::log::timestamp(),
            text(&line.request_id),
            line.client,
            text(&line.method_and_path),
            self.status,
            text(&line.model),
            text(endpoint),
            self.attempts,
            self.stream,
            millis(now_us - self.since_us),
            millis(self.content_us.saturating_sub(self.request_end_us)),
            if self.head_us == 0 { 0 } else { self.overhead_us() },
            self.usage.input,
            self.usage.output,
        );
        if let Some(deployment) = self.deployment.as_ref().filter(|_| self.fallbacks > 0) {
            let _ = write!(out, r#","fallbacks":{},"served_by":{}"#, self.fallbacks, text(&deployment.name));
        }
        if !line.caller.is_empty() {
            let _ = write!(out, r#","key":{}"#, text(&line.caller));
        }
        if !line.guard.is_empty() {
            let _ = write!(out, r#","guard":[{}]"#, line.guard);
        }
        if let Some(error) = &line.error {
            let _ = write!(out, r#","error":{}"#, text(error));
        }
        out.push('}');
        shard.world.log.access(out);
    }
}

/// `quoted`, with escapes for what JSON leaves as it is and a terminal or an editor obeys: DEL, the C1 controls, line
/// and paragraph separators, and marks that turn the direction of text.
fn visible(quoted: String) -> String {
    use std::fmt::Write as _;
    if quoted.bytes().all(|byte| byte.is_ascii() && byte != 0x7f) {
        return quoted;
    }
    let mut out = String::with_capacity(quoted.len() + 16);
    for c in quoted.chars() {
        match c {
            '\u{7f}'..='\u{9f}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// One finding of the guard for the line: whose and by which rule, never of what.
fn note(out: &mut String, direction: &str, scanner: &str, rule: &str, action: &str) {
    use std::fmt::Write as _;
    let comma = if out.is_empty() { "" } else { "," };
    let rule = String::from_utf8(json::quoted(rule)).unwrap_or_default();
    let _ = write!(
        out,
        r#"{comma}{{"direction":"{direction}","scanner":"{scanner}","rule":{rule},"action":"{action}"}}"#
    );
}

fn millis(us: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of one exchange")]
    let us = us as f64;
    us / 1000.0
}
