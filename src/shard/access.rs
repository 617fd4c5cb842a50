//! What is noted of an exchange: its times and tokens, counted when it ends; its line in the log is [`super::entry`]'s.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::answered::{Answered, Content};
use super::cached::Use;
use super::entry::{self, Bodies, Entry};
use super::head::Incoming;
use super::payment::Payment;
use super::reply::{self, Manner};
use super::span::{Outcome, Tracing};
use super::{Shard, admit};
use crate::api::{Failure, FailureKind, Stream, Usage, View};
use crate::catalog::{Candidate, Deployment};
use crate::config::guard::Action;
use crate::guard::chain::{self, Chain};
use crate::guard::verdict::Tally;
use crate::limit::key::Caller;
use crate::telemetry::failures::Failed;
use crate::telemetry::metric;
use crate::usage::estimate::Said;
use crate::usage::spend::Bill;

const _: () = assert!(metric::SCANNERS == chain::SCANNERS, "a scanner without a counter");

/// Gathered while the exchange runs; counted by [`Record::finish`].
pub struct Record {
    /// Status told to the client; 499 if it left before.
    pub status: u16,
    /// Its spans.
    pub spans: Tracing,
    pub(super) deployment: Option<Arc<Deployment>>,
    pub(super) entry: Option<Box<Entry>>,
    pub(super) caller: Option<Arc<Caller>>,
    pub(super) stream: bool,
    pub(super) usage: Usage,
    said: Said,
    /// The answer came to its end: its counts are whole.
    whole: bool,
    /// What it has used is known, as well as it can be.
    counted: bool,
    /// The caller is charged, with so much work of endpoints.
    billed_us: Option<u64>,
    request_bytes: u64,
    pub(super) attempts: u32,
    pub(super) fallbacks: u32,
    /// Metrics of the model that was asked for, where another was asked in its place.
    asked: Option<usize>,
    pub(super) endpoint: Option<usize>,
    pub(super) since_us: u64,
    pub(super) request_end_us: u64,
    first_sent_us: u64,
    /// Of the last attempt: when it began, was connected, had a head, and had ended; 0: not yet.
    pub(super) attempt_us: u64,
    pub(super) connected_us: u64,
    pub(super) upstream_head_us: u64,
    upstream_end_us: u64,
    pub(super) content_us: u64,
    pub(super) head_us: u64,
    /// Time in line for places.
    pub(super) queued_us: u64,
    gone: bool,
    fault: Option<Box<Fault>>,
    /// What the cache did.
    pub cache: Option<Box<Use>>,
    /// Its answer was given before, and costs what it cost then.
    charged: bool,
    /// Tokens of that, in and out.
    given: (u64, u64),
    /// Its stream goes to others too.
    payment: Option<Rc<Payment>>,
}

/// Why an exchange failed.
struct Fault {
    kind: FailureKind,
    /// The request field at fault.
    param: Option<&'static str>,
    /// For the log.
    text: String,
}

impl Record {
    /// At the beginning of an exchange.
    #[must_use]
    pub fn new(shard: &Shard, incoming: &Incoming, manner: &Manner, peer: SocketAddr) -> Self {
        let log = &shard.world.config.log;
        let entry = shard.world.log.wants_access().then(|| {
            let mut entry = shard.lines.entry();
            entry.client = Some(admit::client_address(shard, incoming, peer));
            entry.method = incoming.request.method.name();
            entry.path.push_str(incoming.request.path.text(&incoming.buffer));
            entry.sampled =
                log.sample_percent >= 100 || (shard.random() >> 33) % 100 < u64::from(log.sample_percent);
            entry.bodies = log.bodies.then(Box::<Bodies>::default);
            entry
        });
        Self {
            status: 0,
            spans: Tracing::of(shard, incoming, manner),
            deployment: None,
            entry,
            caller: None,
            stream: false,
            usage: Usage::default(),
            said: Said::default(),
            whole: false,
            counted: false,
            billed_us: None,
            request_bytes: 0,
            attempts: 0,
            fallbacks: 0,
            asked: None,
            endpoint: None,
            since_us: incoming.since_us,
            request_end_us: incoming.since_us,
            first_sent_us: 0,
            attempt_us: 0,
            connected_us: 0,
            upstream_head_us: 0,
            upstream_end_us: 0,
            content_us: 0,
            head_us: 0,
            queued_us: 0,
            gone: false,
            fault: None,
            cache: None,
            charged: false,
            given: (0, 0),
            payment: None,
        }
    }

    /// The whole request is here.
    pub fn request_ends(&mut self, shard: &Shard) {
        self.request_end_us = shard.clock.here_us();
    }

    /// The caller is known.
    pub fn caller(&mut self, caller: &Arc<Caller>) {
        self.spans.caller(&caller.name);
        self.caller = Some(Arc::clone(caller));
    }

    /// Tokens of the exchange, as the endpoint counted them or as they are estimated. `None`: no content has come.
    #[must_use]
    pub fn spent(&self) -> Option<(u64, u64)> {
        (self.content_us > 0 || self.charged).then_some((self.usage.input_all(), self.usage.output))
    }

    /// The answer is over; once: what its endpoint did not count is estimated, and what it did is learned from.
    pub fn count(&mut self, shard: &Shard) {
        let Some(deployment) = self.deployment.as_ref().filter(|_| self.content_us > 0) else { return };
        if std::mem::replace(&mut self.counted, true) {
            return;
        }
        let mut learned = shard.learned.borrow_mut();
        if learned.len() <= deployment.slot {
            learned.resize_with(deployment.slot + 1, Default::default);
        }
        let Some(learned) = learned.get(deployment.slot) else { return };
        let usage = &mut self.usage;
        if usage.told && (self.whole || !self.stream) {
            return learned.learn(self.said, self.request_bytes, usage.input, usage.output);
        }
        let output = learned.output(self.said);
        if usage.told && usage.output >= output {
            return; // it counts as it goes
        }
        usage.output = output;
        if usage.input_all() == 0 {
            usage.input = learned.input(self.request_bytes);
        }
        usage.estimated = true;
    }

    /// The model is known.
    pub fn model(&mut self, deployment: &Arc<Deployment>, view: &View) {
        self.deployment = Some(Arc::clone(deployment));
        self.stream = view.stream;
        self.spans.model(&view.model, view.stream);
        if let Some(entry) = &mut self.entry {
            entry.model.clone_from(&view.model);
        }
    }

    /// The whole request.
    pub fn body(&mut self, body: &[u8]) {
        self.request_bytes = body.len() as u64;
        if let Some(bodies) = self.bodies() {
            bodies.request(body);
        }
    }

    /// Bodies for the log, if it wants them.
    pub fn bodies(&mut self) -> Option<&mut Bodies> {
        self.entry.as_mut()?.bodies.as_deref_mut()
    }

    /// It has waited in line for so long.
    pub fn queued(&mut self, us: u64) {
        self.queued_us += us;
    }

    /// Another model is asked in its place.
    pub fn falls_back(&mut self, deployment: &Arc<Deployment>) {
        self.fallbacks += 1;
        self.asked = self.asked.or(self.deployment.as_ref().map(|deployment| deployment.slot));
        self.deployment = Some(Arc::clone(deployment));
    }

    /// An attempt begins.
    pub fn attempt(&mut self, shard: &Shard, candidate: &Candidate) {
        self.attempts += 1;
        self.endpoint = Some(candidate.endpoint);
        self.spans.begins(shard, candidate);
        self.attempt_us = shard.clock.now_us();
        (self.connected_us, self.upstream_head_us, self.upstream_end_us) = (0, 0, 0);
        if self.attempts > 1 {
            shard.metrics().retries.add(1);
        }
    }

    /// An attempt is over.
    pub fn attempt_ends(&self, shard: &Shard, success: bool) {
        let (Some(deployment), Some(endpoint)) = (&self.deployment, self.endpoint) else { return };
        let slot = shard.world.registry.get(endpoint).map_or(0, |endpoint| endpoint.slot);
        let attempts = &shard.metrics().model(deployment.slot).attempts.of(slot).attempts;
        if success { attempts.success.add(1) } else { attempts.failure.add(1) }
    }

    /// The request begins to go to an endpoint.
    pub fn sent(&mut self, shard: &Shard) {
        let now_us = shard.clock.now_us();
        self.connected_us = now_us;
        if self.first_sent_us == 0 {
            self.first_sent_us = now_us;
        }
    }

    /// The head of an answer is here.
    pub fn upstream_head(&mut self, shard: &Shard) {
        self.upstream_head_us = shard.clock.now_us();
    }

    /// There is content for the client.
    pub fn content(&mut self, shard: &Shard, answered: &Answered) {
        self.content_us = shard.clock.here_us();
        self.spans.content(self.content_us, answered);
        if let Content::Whole { answer, buffer, start, .. } = &answered.content {
            self.usage = answer.usage;
            self.said = answer.said;
            self.upstream_end_us = self.content_us;
            if let Some(bodies) = self.bodies() {
                bodies.answer(buffer.get(*start..).unwrap_or_default());
            }
        }
    }

    /// When the endpoint had nothing more to say.
    pub(super) fn upstream_end(&self, now_us: u64) -> u64 {
        match self.upstream_end_us {
            0 if self.upstream_head_us > 0 => now_us,
            end_us => end_us,
        }
    }

    /// The guard has read the request, or the answer.
    pub fn guarded(&mut self, shard: &Shard, chain: &Chain, output: bool, tally: &Tally) {
        count_guarded(shard, chain, output, tally);
        let Some(entry) = &mut self.entry else { return };
        let direction = if output { "output" } else { "input" };
        for (name, rule) in &tally.rules {
            let action = match tally.actions[*name as usize] {
                Some(Action::Block) => "block",
                Some(Action::Redact) => "redact",
                _ => "monitor",
            };
            entry::finding(&mut entry.guard, direction, name.name(), rule, action);
        }
        for name in chain.scanners().filter(|name| tally.failed[*name as usize]) {
            entry::finding(&mut entry.guard, direction, name.name(), "failed", "error");
        }
    }

    /// A stream is over; `whole`: it came to its end.
    pub fn stream_ends(&mut self, stream: &Stream, whole: bool) {
        self.usage = stream.usage();
        self.said = stream.said();
        self.whole = whole;
        self.spans.streamed(stream.model_seen());
    }

    /// Time between two reads of a stream; `last_us` moves on.
    pub fn gap(&self, shard: &Shard, last_us: &mut u64) {
        let now_us = shard.clock.now_us();
        if let Some(deployment) = &self.deployment {
            let metrics = shard.metrics();
            metrics.model(deployment.slot).gap.record(now_us - *last_us);
            if let Some(endpoint) = self.endpoint.and_then(|at| shard.world.registry.get(at)) {
                metrics.endpoints.of(endpoint.slot).gap.record(now_us - *last_us);
            }
        }
        *last_us = now_us;
    }

    /// The answer of another exchange is given again: its tokens are charged where the configuration says so.
    pub fn given_again(&mut self, shard: &Shard, used: Use, usage: Usage) {
        if matches!(used, Use::Hit(..)) {
            self.first_sent_us = shard.clock.now_us(); // until here it was our own time
        }
        self.cache = Some(Box::new(used));
        self.charged = shard.world.config.cache.charge_hits;
        self.given = (usage.input_all(), usage.output);
        if self.charged {
            self.usage = usage;
        }
    }

    /// A stream that was shared has come to its end.
    pub fn shared(&mut self, usage: Usage, said: Said) {
        let is_leader = !matches!(self.cache.as_deref(), Some(Use::Shared(_)));
        if !is_leader {
            self.given = (usage.input_all(), usage.output);
        }
        if self.charged || is_leader {
            (self.usage, self.said, self.whole) = (usage, said, true);
        }
    }

    /// Its stream goes to several from here on: what it has used when this exchange has ended is charged all the same.
    pub fn payment(&mut self, shard: &Rc<Shard>) -> Option<Rc<Payment>> {
        let deployment = self.deployment.as_ref()?;
        let payment = Payment::new(shard, self.caller.clone(), Arc::clone(deployment));
        self.payment = Some(Rc::clone(&payment));
        Some(payment)
    }

    /// The model that stands in for the one that was asked.
    #[must_use]
    pub fn stand_in(&self) -> Option<String> {
        self.deployment.as_ref().filter(|_| self.fallbacks > 0).map(|deployment| deployment.name.clone())
    }

    /// The exchange fails before a byte of an answer went out.
    pub fn failed(&mut self, failure: &Failure) {
        self.spans.failed(failure);
        let text = entry::sentence(failure);
        if let Some(entry) = &mut self.entry {
            entry.error = Some(text.clone());
        }
        self.fault = Some(Box::new(Fault { kind: failure.kind, param: failure.param, text }));
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
        let cost = self.cost();
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
        if let Some(used) = &self.cache {
            used.lines(head);
        }
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

    /// What the tokens cost, in USD.
    pub(super) fn cost(&self) -> f64 {
        self.deployment.as_ref().map_or(0.0, |deployment| self.usage.cost(deployment.price))
    }

    pub(super) fn overhead_us(&self) -> u64 {
        let before = self.first_sent_us.max(self.request_end_us) - self.request_end_us;
        let after = if self.content_us == 0 { 0 } else { self.head_us.saturating_sub(self.content_us) };
        before + after
    }

    /// Counts the exchange and writes its line.
    pub fn finish(mut self, shard: &Shard, request_id: &str) {
        if let Some(payment) = self.payment.take() {
            payment.paid(self.usage);
        }
        let outcome = self.outcome();
        self.spans.finish(shard, &outcome);
        if self.status >= 400 || self.fault.is_some() {
            self.remember(shard, request_id);
        }
        self.bill(shard);
        let now_us = shard.clock.here_us();
        let metrics = shard.metrics();
        if self.gone {
            metrics.clients_gone.add(1);
        }
        match &self.deployment {
            Some(deployment) => self.count_model(shard, deployment, now_us),
            None => metrics.local(self.status),
        }
        if let Some(entry) = self.entry.take() {
            self.log(shard, &entry, request_id, now_us);
            shard.lines.give(entry);
        }
    }

    /// Charges the caller of a model with what is used; once. Of a whole answer that is known before it leaves, so the client
    /// cannot ask again before it counts.
    pub fn bill(&mut self, shard: &Shard) {
        let Some(caller) = self.caller.as_ref().filter(|_| self.deployment.is_some()) else { return };
        if self.billed_us.is_some() {
            return;
        }
        let (work_us, usage) = (self.work_us(shard.clock.here_us()), &self.usage);
        let bill = Bill { input: usage.input_all(), output: usage.output, cost: self.cost(), work_us };
        caller.spend.charge(bill, caller.budget_period, SystemTime::now());
        self.billed_us = Some(work_us);
    }

    /// From the request sent until the answer was here, if there is content.
    fn upstream_us(&self, now_us: u64) -> u64 {
        let end_us = if self.stream { now_us } else { self.content_us };
        end_us - self.first_sent_us
    }

    /// How long endpoints have worked, as they say themselves or as it took.
    fn work_us(&self, now_us: u64) -> u64 {
        match self.usage.work_ns {
            _ if self.content_us == 0 => 0,
            0 => self.upstream_us(now_us),
            work_ns => work_ns / 1000,
        }
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            status: self.status,
            usage: self.usage,
            since_us: self.since_us,
            request_end_us: self.request_end_us,
            content_us: self.content_us,
            fallbacks: self.fallbacks,
            gone: self.gone,
        }
    }

    /// Puts a failed exchange among the last ones.
    #[cold]
    fn remember(&self, shard: &Shard, request_id: &str) {
        let world = &shard.world;
        let error = match &self.fault {
            _ if self.gone => "The client left.",
            Some(fault) => fault.words(),
            None => "",
        };
        let endpoint = self.endpoint.and_then(|at| world.registry.get(at));
        world.failures.note(Failed {
            at: SystemTime::now(),
            request_id: request_id.to_owned(),
            status: self.status,
            model: self.deployment.as_ref().map(|deployment| deployment.name.clone()),
            endpoint: endpoint.map(|endpoint| endpoint.config.name.clone()),
            key: self.caller.as_ref().map(|caller| caller.name.clone()),
            error: error.to_owned(),
        });
    }

    fn count_model(&self, shard: &Shard, deployment: &Deployment, now_us: u64) {
        let metrics = shard.metrics();
        let (model, usage) = (metrics.model(deployment.slot), &self.usage);
        let slot = self.endpoint.and_then(|at| shard.world.registry.get(at)).map(|endpoint| endpoint.slot);
        if let Some(asked) = self.asked {
            let fallback = metrics.model(asked).fallbacks.of(deployment.slot);
            if self.status < 400 { fallback.success.add(1) } else { fallback.failure.add(1) }
        }
        model.status(self.status);
        if let Some(used) = &self.cache {
            model.cache(used.name()).add(1);
            metrics.cache.saved_input.add(self.given.0);
            metrics.cache.saved_output.add(self.given.1);
        }
        model.duration.record(now_us - self.since_us);
        let work_us = self.billed_us.unwrap_or_else(|| self.work_us(now_us));
        if self.content_us > 0 {
            model.overhead.record(self.overhead_us());
            let upstream_us = self.upstream_us(now_us);
            model.upstream.record(upstream_us);
            if let Some(per_token_us) = upstream_us.checked_div(usage.output) {
                model.per_token.record(per_token_us);
            }
            if self.stream {
                model.first_token.record(self.content_us - self.request_end_us);
            }
            if let Some(slot) = slot {
                let endpoint = metrics.endpoints.of(slot);
                endpoint.duration.record(upstream_us);
                endpoint.work_us.add(work_us);
                let first_token_us = self.stream.then(|| self.content_us - self.attempt_us);
                first_token_us.into_iter().for_each(|us| endpoint.first_token.record(us));
                if shard.world.config.metrics.pairs {
                    let pair = model.attempts.of(slot).times();
                    pair.duration.record(upstream_us);
                    first_token_us.into_iter().for_each(|us| pair.first_token.record(us));
                }
            }
        }
        if usage.estimated {
            model.estimated_input.add(usage.input_all());
            model.estimated_output.add(usage.output);
        }
        model.tokens_input.add(usage.input_all());
        model.tokens_output.add(usage.output);
        model.tokens_cached.add(usage.cached.saturating_add(usage.cache_read));
        model.tokens_reasoning.add(usage.reasoning);
        model.work_us.add(work_us);
        model.cost.add(self.cost());
    }
}

/// Counts what scanners came to.
pub fn count_guarded(shard: &Shard, chain: &Chain, output: bool, tally: &Tally) {
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
}

impl Fault {
    /// The log's words, but for those that hold a name as the client wrote it.
    fn words(&self) -> &str {
        match self.kind {
            FailureKind::UnknownModel => "The model is not known.",
            FailureKind::ModelForbidden => "The key may not use the model.",
            FailureKind::BadRequest if self.param == Some("request_body") => {
                "The request body cannot be understood."
            }
            FailureKind::Internal => "The gateway has failed.",
            _ => &self.text,
        }
    }
}
