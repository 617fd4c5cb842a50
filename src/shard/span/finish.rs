//! An exchange that is over becomes spans.

use std::time::SystemTime;

use super::super::Shard;
use super::{Attempt, Outcome, Trace, Tracing, names};
use crate::telemetry::trace::{Kind, Span, Value};

/// `error.type` of an attempt that was given up because the client left.
const LEFT: &str = "client_gone";

impl Tracing {
    /// Hands the spans on.
    pub fn finish(&mut self, shard: &Shard, outcome: &Outcome) {
        let Self::On(trace) = std::mem::replace(self, Self::Off) else { return };
        let times = Times::now(shard);
        let last = trace.attempts.len().saturating_sub(1);
        shard.process.spans.push(trace.own(&times, outcome));
        for (at, attempt) in trace.attempts.iter().enumerate() {
            shard.process.spans.push(trace.of_attempt(shard, &times, outcome, (at, attempt), at == last));
        }
    }
}

/// Brings times of a shard's clock to the calendar.
struct Times {
    now_us: u64,
    now_ns: u64,
}

impl Times {
    fn now(shard: &Shard) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { now_us: shard.clock.now_us(), now_ns: u64::try_from(since.as_nanos()).unwrap_or(0) }
    }

    fn at(&self, us: u64) -> u64 {
        self.now_ns.saturating_sub(self.now_us.saturating_sub(us).saturating_mul(1000))
    }
}

impl Trace {
    /// Our own span.
    fn own(&self, times: &Times, outcome: &Outcome) -> Span {
        let failed = outcome.status >= 500;
        let mut attributes = vec![
            ("http.request.method", Value::Word(self.method)),
            ("url.path", Value::Text(self.path.clone())),
            ("url.scheme", Value::Word(if self.secure { "https" } else { "http" })),
            ("network.protocol.version", Value::Word(self.version)),
            ("http.response.status_code", Value::Number(outcome.status.into())),
            ("corelane.request_id", Value::text(&self.request_id)),
        ];
        attributes.extend(self.route.map(|route| ("http.route", Value::Word(route))));
        if !self.key.is_empty() {
            attributes.push(("corelane.key", Value::Text(self.key.clone())));
        }
        if !self.model.is_empty() {
            attributes.push(("corelane.model", Value::Text(self.model.clone())));
            attributes.push(("corelane.attempts", Value::Number(self.attempts.len() as u64)));
            attributes.push(("corelane.fallbacks", Value::Number(outcome.fallbacks.into())));
        }
        if self.stream && outcome.content_us > 0 {
            let waited = seconds(outcome.content_us.saturating_sub(outcome.request_end_us));
            attributes.push(("corelane.time_to_first_token", Value::Real(waited)));
        }
        if failed {
            let error = self.error.clone().unwrap_or_else(|| outcome.status.to_string());
            attributes.push(("error.type", Value::Text(error)));
        }
        Span {
            trace_id: self.context.trace_id,
            span_id: self.context.span_id,
            parent: self.parent,
            remote: self.parent.is_some(),
            state: self.state.clone(),
            name: match self.route {
                Some(route) => format!("{} {route}", self.method),
                None => self.method.to_owned(),
            },
            kind: Kind::Server,
            start_ns: times.at(outcome.since_us),
            end_ns: times.now_ns,
            attributes,
            failed,
        }
    }

    /// The span of one attempt; the `last` one has the tokens.
    fn of_attempt(
        &self,
        shard: &Shard,
        times: &Times,
        outcome: &Outcome,
        (at, attempt): (usize, &Attempt),
        last: bool,
    ) -> Span {
        let operation = names::operation(self.task);
        let mut attributes = vec![
            ("gen_ai.operation.name", Value::Word(operation)),
            ("gen_ai.request.model", Value::Text(attempt.model.clone())),
            ("http.request.method", Value::Word("POST")),
            ("url.path", Value::text(self.task.and_then(|task| task.upstream_path()).unwrap_or(&self.path))),
            ("corelane.attempt", Value::Number(at as u64 + 1)),
            ("corelane.request_id", Value::text(&self.request_id)),
        ];
        if let Some(endpoint) = shard.world.registry.get(attempt.endpoint) {
            let config = &endpoint.config;
            attributes.extend([
                ("gen_ai.provider.name", Value::Word(names::provider(config.kind))),
                ("server.address", Value::text(&config.url.host)),
                ("server.port", Value::Number(config.url.port.into())),
                ("corelane.endpoint", Value::text(&config.name)),
            ]);
        }
        if self.stream {
            attributes.push(("gen_ai.request.stream", Value::Flag(true)));
        }
        let status = attempt.status.map(|status| ("http.response.status_code", Value::Number(status.into())));
        attributes.extend(status);
        if let Some(content_us) = attempt.content_us.filter(|_| attempt.streams) {
            let waited = seconds(content_us.saturating_sub(attempt.start_us));
            attributes.push(("gen_ai.response.time_to_first_chunk", Value::Real(waited)));
        }
        let model = attempt.answered_by.clone().map(|model| ("gen_ai.response.model", Value::Text(model)));
        attributes.extend(model);
        if last && attempt.content_us.is_some() {
            let tokens = [
                ("gen_ai.usage.input_tokens", outcome.usage.input_all()),
                ("gen_ai.usage.output_tokens", outcome.usage.output),
            ];
            let counted = tokens.into_iter().filter(|(_, count)| *count > 0);
            attributes.extend(counted.map(|(name, count)| (name, Value::Number(count))));
        }
        let cut_off = outcome.gone && last && (attempt.end_us.is_none() || attempt.streams);
        let error = attempt.error.clone().map(Value::Text).or(cut_off.then_some(Value::Word(LEFT)));
        let failed = error.is_some();
        attributes.extend(error.map(|error| ("error.type", error)));
        Span {
            trace_id: self.context.trace_id,
            span_id: attempt.span_id,
            parent: Some(self.context.span_id),
            remote: false,
            state: self.state.clone(),
            name: format!("{operation} {}", attempt.model),
            kind: Kind::Client,
            start_ns: times.at(attempt.start_us),
            end_ns: attempt.end_us.map_or(times.now_ns, |end_us| times.at(end_us)),
            attributes,
            failed,
        }
    }
}

fn seconds(us: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of one exchange")]
    let us = us as f64;
    us / 1e6
}
