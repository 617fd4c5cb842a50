//! `/metrics`: the text format, version 0.0.4, never OpenMetrics, which would force other names.
//!
//! Shards are read, never asked. LiteLLM's names stand beside ours so that its dashboards and the queries of
//! existing guides work; series of a model exist with zero from the moment the model is known, or a query for
//! errors would be empty until the first one. Families that break Prometheus' naming rules are untyped, which
//! `rate` does not mind and `promtool check metrics` accepts.
//!
//! Cost: shards are merged once a model, labels are written once a histogram, bounds once a process, and nothing passes through
//! `format!` but real numbers. The page's memory is reserved by the length of the last one.

mod cache;
mod certificates;
mod guard;
mod journal;
mod limiter;
mod litellm;
mod reliability;
mod traces;
mod usage;

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::histogram::{EXCHANGE_US, Histogram, Reading, SHORT_US};
use super::metric::{Counter, ModelMetrics, STATUSES, ShardMetrics};
use crate::world::World;

/// The whole page.
#[must_use]
pub fn render(world: &World) -> String {
    static LAST: AtomicUsize = AtomicUsize::new(64 * 1024);
    let last = LAST.load(Ordering::Relaxed);
    let mut page = Page { out: String::with_capacity(last + last / 16), world };
    let models = page.models();
    page.own(&models);
    page.usage(&models);
    page.cache(&models);
    page.redis();
    page.endpoints();
    page.endpoint_times();
    page.keys();
    page.shards();
    page.reliability();
    page.attempts(&models);
    page.pairs(&models);
    page.limiter();
    page.guard();
    page.traces();
    if world.config.metrics.litellm_names {
        page.guide(&models);
        page.litellm(&models);
        page.guardrails();
    }
    LAST.store(page.out.len(), Ordering::Relaxed);
    page.out
}

/// One model over all shards.
struct Model {
    /// The name clients ask for.
    name: String,
    slot: usize,
    by_status: [u64; STATUSES.len()],
    tokens: [u64; 2],
    /// Of these, input and output that are estimates.
    estimated: [u64; 2],
    cached: u64,
    reasoning: u64,
    work_us: u64,
    cost: f64,
    duration: Reading,
    first_token: Reading,
    upstream: Reading,
    gap: Reading,
    overhead: Reading,
    per_token: Reading,
    /// Success and failure by the endpoint's slot.
    attempts: Vec<[u64; 2]>,
}

impl Model {
    fn errors(&self) -> u64 {
        STATUSES
            .iter()
            .zip(&self.by_status)
            .filter(|(status, _)| **status != 200)
            .map(|(_, count)| count)
            .sum()
    }

    fn total(&self) -> u64 {
        self.by_status.iter().sum()
    }
}

struct Page<'a> {
    out: String,
    world: &'a World,
}

impl Page<'_> {
    fn models(&self) -> Vec<Model> {
        let names = self.world.models.names();
        let listed = names.iter().enumerate().filter(|(slot, _)| *slot > 0 || self.used(0));
        listed.map(|(slot, name)| self.model(slot, name)).collect()
    }

    fn used(&self, slot: usize) -> bool {
        self.world.shards.iter().any(|shard| shard.metrics.model_if_used(slot).is_some())
    }

    fn model(&self, slot: usize, name: &str) -> Model {
        let used: Vec<&ModelMetrics> =
            self.world.shards.iter().filter_map(|shard| shard.metrics.model_if_used(slot)).collect();
        let read = |bounds, pick: fn(&ModelMetrics) -> &Histogram| {
            let mut reading = Reading::new(bounds);
            used.iter().for_each(|metrics| pick(metrics).add_to(&mut reading));
            reading
        };
        let sum = |pick: fn(&ModelMetrics) -> &Counter| used.iter().map(|metrics| pick(metrics).get()).sum();
        let mut by_status = [0; STATUSES.len()];
        let mut attempts = vec![[0; 2]; self.world.endpoints.names().len()];
        for metrics in &used {
            for (sum, count) in by_status.iter_mut().zip(&metrics.by_status) {
                *sum += count.get();
            }
            for (slot, sum) in attempts.iter_mut().enumerate() {
                let Some(count) = metrics.attempts.if_used(slot) else { continue };
                sum[0] += count.attempts.success.get();
                sum[1] += count.attempts.failure.get();
            }
        }
        Model {
            name: name.to_owned(),
            slot,
            by_status,
            tokens: [sum(|m| &m.tokens_input), sum(|m| &m.tokens_output)],
            estimated: [sum(|m| &m.estimated_input), sum(|m| &m.estimated_output)],
            cached: sum(|m| &m.tokens_cached),
            reasoning: sum(|m| &m.tokens_reasoning),
            work_us: sum(|m| &m.work_us),
            cost: used.iter().map(|metrics| metrics.cost.get()).fold(0.0, |sum, cost| sum + cost),
            duration: read(&EXCHANGE_US, |metrics| &metrics.duration),
            first_token: read(&EXCHANGE_US, |metrics| &metrics.first_token),
            upstream: read(&EXCHANGE_US, |metrics| &metrics.upstream),
            gap: read(&SHORT_US, |metrics| &metrics.gap),
            overhead: read(&SHORT_US, |metrics| &metrics.overhead),
            per_token: read(&SHORT_US, |metrics| &metrics.per_token),
            attempts,
        }
    }

    /// Our own families of models.
    fn own(&mut self, models: &[Model]) {
        self.family(
            "corelane_requests_total",
            "counter",
            "Answers of models by status; a broken stream counts as 502.",
        );
        for model in models {
            for (status, count) in
                STATUSES.iter().zip(&model.by_status).filter(|(s, n)| **n > 0 || **s == 200 || **s >= 500)
            {
                self.line(
                    "corelane_requests_total",
                    &[("model", &model.name), ("status", &word(*status))],
                    *count,
                );
            }
        }
        self.family("corelane_tokens_total", "counter", "Tokens by direction, as endpoints counted them.");
        for model in models {
            for (direction, count) in ["input", "output"].iter().zip(model.tokens) {
                self.line("corelane_tokens_total", &[("model", &model.name), ("type", direction)], count);
            }
        }
        self.histograms(
            models,
            "corelane_request_duration_seconds",
            "First byte of the request to last of the answer.",
            |m| &m.duration,
        );
        self.histograms(
            models,
            "corelane_first_token_seconds",
            "Request complete to first content, streams only.",
            |m| &m.first_token,
        );
        self.histograms(models, "corelane_upstream_duration_seconds", "Time spent on endpoints.", |m| {
            &m.upstream
        });
        self.histograms(models, "corelane_chunk_gap_seconds", "Time between two reads of a stream.", |m| {
            &m.gap
        });
        self.histograms(
            models,
            "corelane_overhead_seconds",
            "The gateway's own share of an exchange.",
            |m| &m.overhead,
        );
    }

    fn endpoints(&mut self) {
        let world = self.world;
        let endpoints = || world.registry.iter().map(|endpoint| (endpoint.config.name.as_str(), endpoint));
        self.family("corelane_endpoint_in_flight", "gauge", "Exchanges on an endpoint now.");
        for (name, endpoint) in endpoints() {
            self.line("corelane_endpoint_in_flight", &[("endpoint", name)], u64::from(endpoint.in_flight()));
        }
        if world.config.fleet.enabled {
            let name = "corelane_endpoint_in_flight_elsewhere";
            self.family(name, "gauge", "Exchanges that other gateways have on an endpoint.");
            for (endpoint, state) in endpoints() {
                self.line(name, &[("endpoint", endpoint)], u64::from(state.places().elsewhere()));
            }
            let fleet = &world.fleet;
            let name = "corelane_fleet_others";
            self.family(name, "gauge", "Other gateways that are heard of.");
            self.line(name, &[], fleet.others.load(Ordering::Relaxed));
            let name = "corelane_fleet_alone";
            self.family(
                name,
                "gauge",
                "1 while the fleet is not heard of, and limits are this gateway's own.",
            );
            self.line(name, &[], u64::from(fleet.is_alone.load(Ordering::Relaxed)));
        }
        self.family("corelane_endpoint_healthy", "gauge", "1 while an endpoint counts as healthy.");
        for (name, endpoint) in endpoints() {
            self.line(
                "corelane_endpoint_healthy",
                &[("endpoint", name)],
                u64::from(endpoint.health().is_up()),
            );
        }
        self.family("corelane_endpoint_disabled", "gauge", "1 while an operator has taken an endpoint out.");
        for (name, endpoint) in endpoints() {
            self.line("corelane_endpoint_disabled", &[("endpoint", name)], u64::from(endpoint.disabled()));
        }
    }

    fn shards(&mut self) {
        type Pick = fn(&ShardMetrics) -> u64;
        let families: [(&str, &str, &str, Pick); 16] = [
            ("corelane_client_connections", "gauge", "Client connections open now.", |m| m.connections.get()),
            ("corelane_exchanges_in_flight", "gauge", "Exchanges running now.", |m| m.exchanges.get()),
            ("corelane_streams_in_flight", "gauge", "Streams running now that have had content.", |m| {
                m.streams.get()
            }),
            ("corelane_connections_accepted_total", "counter", "Client connections accepted.", |m| {
                m.accepted.get()
            }),
            (
                "corelane_connections_handed_over_total",
                "counter",
                "Client connections given to a less loaded shard.",
                |m| m.handed_over.get(),
            ),
            ("corelane_tls_handshakes_total", "counter", "TLS handshakes that succeeded.", |m| {
                m.tls_handshakes.get()
            }),
            ("corelane_tls_failed_total", "counter", "TLS handshakes that failed or took too long.", |m| {
                m.tls_failed.get()
            }),
            ("corelane_http2_abuses_total", "counter", "HTTP/2 connections closed for abuse.", |m| {
                m.http2_abuses.get()
            }),
            (
                "corelane_accept_exhausted_total",
                "counter",
                "Accepts that failed for want of descriptors or memory.",
                |m| m.exhausted.get(),
            ),
            ("corelane_retries_total", "counter", "Attempts after the first.", |m| m.retries.get()),
            ("corelane_clients_gone_total", "counter", "Clients that left during an exchange.", |m| {
                m.clients_gone.get()
            }),
            ("corelane_upstream_connects_total", "counter", "Upstream connections opened.", |m| {
                m.upstream_connects.get()
            }),
            ("corelane_upstream_reuses_total", "counter", "Exchanges on a warm upstream connection.", |m| {
                m.upstream_reuses.get()
            }),
            ("corelane_upstream_idle_connections", "gauge", "Upstream connections idle in pools.", |m| {
                m.upstream_idle.get()
            }),
            ("corelane_task_panics_total", "counter", "Tasks that ended by a panic.", |m| m.panics.get()),
            ("corelane_tasks", "gauge", "Tasks alive.", |m| m.tasks.get()),
        ];
        let world = self.world;
        for (name, kind, help, pick) in families {
            self.family(name, kind, help);
            for (index, shard) in world.shards.iter().enumerate() {
                self.line(name, &[("shard", &index.to_string())], pick(&shard.metrics));
            }
        }
        self.shard_threads();
        self.process();
        self.journal();
        self.certificates();
    }

    /// CPU time and kernel interface of the shards.
    fn shard_threads(&mut self) {
        let world = self.world;
        self.family("corelane_shard_busy_seconds_total", "counter", "CPU time of a shard's thread.");
        for (index, shard) in world.shards.iter().enumerate() {
            let seconds = busy_seconds(shard.metrics.thread.load(Ordering::Relaxed));
            self.real("corelane_shard_busy_seconds_total", &[("shard", &index.to_string())], seconds);
        }
        self.family("corelane_driver_info", "gauge", "The kernel interface of a shard.");
        for (index, shard) in world.shards.iter().enumerate() {
            let driver = shard.driver.get().copied().unwrap_or("starting");
            self.line("corelane_driver_info", &[("shard", &index.to_string()), ("driver", driver)], 1);
        }
    }

    /// What belongs to no shard.
    fn process(&mut self) {
        let world = self.world;
        self.family(
            "corelane_local_requests_total",
            "counter",
            "Answers that no model gave: own paths and refusals.",
        );
        for (at, status) in STATUSES.iter().enumerate() {
            let sum: u64 = world.shards.iter().map(|shard| shard.metrics.local_by_status[at].get()).sum();
            if sum > 0 || *status == 200 {
                self.line("corelane_local_requests_total", &[("status", &word(*status))], sum);
            }
        }
        for (name, kind, help, value) in [
            (
                "corelane_buffered_bytes",
                "gauge",
                "Bytes that large bodies and answers hold.",
                world.buffered(),
            ),
            (
                "corelane_log_lines_dropped_total",
                "counter",
                "Log lines that did not fit the queue.",
                world.log.dropped(),
            ),
            (
                "corelane_catalog_generation",
                "gauge",
                "Grows with each change of the models served.",
                world.catalog_generation(),
            ),
            ("corelane_config_generation", "gauge", "Grows with each reload.", world.number),
            (
                "corelane_reloads_total",
                "counter",
                "Configurations taken since the start.",
                world.reloads.load(Ordering::Relaxed),
            ),
            (
                "corelane_reloads_refused_total",
                "counter",
                "Configurations refused since the start.",
                world.reloads_refused.load(Ordering::Relaxed),
            ),
            ("corelane_draining", "gauge", "1 while no new work is taken.", u64::from(world.is_draining())),
        ] {
            self.family(name, kind, help);
            self.line(name, &[], value);
        }
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn histograms(&mut self, models: &[Model], name: &str, help: &str, pick: fn(&Model) -> &Reading) {
        self.family(name, "histogram", help);
        for model in models {
            self.histogram(name, &[("model", &model.name)], pick(model));
        }
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], reading: &Reading) {
        let mut labels = label_text(labels);
        let (mut bucket, mut sum) = (format!("{name}_bucket{{{labels}"), format!("{name}_sum"));
        let mut count = format!("{name}_count");
        if !labels.is_empty() {
            bucket.push(',');
            labels = format!("{{{labels}}}");
            sum.push_str(&labels);
            count.push_str(&labels);
        }
        self.buckets(&bucket, reading);
        self.out.push_str(&sum);
        self.end_real(seconds(reading.sum_us));
        self.out.push_str(&count);
        self.end(reading.total());
    }

    /// The buckets of a histogram; `before` is all that stands before the label `le`.
    fn buckets(&mut self, before: &str, reading: &Reading) {
        let bounds = bound_words(reading.bounds);
        self.out.reserve((before.len() + 24) * bounds.len());
        for ((_, count), bound) in reading.cumulative().zip(bounds) {
            self.out.push_str(before);
            self.out.push_str(bound);
            self.end(count);
        }
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.sample(name, labels);
        self.end(value);
    }

    fn real(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.sample(name, labels);
        self.end_real(value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)]) {
        self.out.push_str(name);
        if !labels.is_empty() {
            self.out.push('{');
            push_labels(&mut self.out, labels);
            self.out.push('}');
        }
    }

    /// The value of a sample, and the end of its line.
    fn end(&mut self, value: u64) {
        self.out.push(' ');
        push_number(&mut self.out, value);
        self.out.push('\n');
    }

    fn end_real(&mut self, value: f64) {
        if value == 0.0 {
            self.out.push_str(" 0\n");
        } else {
            let _ = writeln!(self.out, " {value}");
        }
    }
}

/// Labels as they stand between braces.
fn label_text(labels: &[(&str, &str)]) -> String {
    let mut text = String::new();
    push_labels(&mut text, labels);
    text
}

fn push_labels(out: &mut String, labels: &[(&str, &str)]) {
    for (at, (label, value)) in labels.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(label);
        out.push_str("=\"");
        if value.contains(['\\', '"', '\n']) {
            out.push_str(&value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
        } else {
            out.push_str(value);
        }
        out.push('"');
    }
}

/// Appends a number in decimal. Most are 0.
fn push_number(out: &mut String, mut value: u64) {
    if value == 0 {
        return out.push('0');
    }
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while value > 0 {
        at -= 1;
        digits[at] += u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

fn word(status: u16) -> String {
    if status == 0 { "other".to_owned() } else { status.to_string() }
}

fn seconds(us: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of all exchanges stay below 2^52 for a century"
    )]
    let us = us as f64;
    us / 1e6
}

/// Bounds of a histogram as the label `le`, with the brace after it; made once.
fn bound_words(bounds: &'static [u64; 17]) -> &'static [String] {
    static WORDS: [OnceLock<Vec<String>>; 2] = [OnceLock::new(), OnceLock::new()];
    WORDS[usize::from(*bounds == SHORT_US)].get_or_init(|| {
        let words = bounds.iter().map(|&us| seconds(us).to_string());
        words.chain(["+Inf".to_owned()]).map(|word| format!("le=\"{word}\"}}")).collect()
    })
}

/// CPU time of a thread, from the scheduler's own count.
fn busy_seconds(thread: usize) -> f64 {
    let path = format!("/proc/self/task/{thread}/schedstat");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0);
    seconds(nanos / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_labels_are_written_as_the_format_wants_them() {
        for value in [0, 1, 9, 10, 4_096, u64::MAX] {
            let mut out = String::new();
            push_number(&mut out, value);
            assert_eq!(out, value.to_string());
        }
        assert_eq!(label_text(&[("a", "x"), ("b", "q\"\\\n")]), "a=\"x\",b=\"q\\\"\\\\\\n\"");
        assert_eq!(bound_words(&SHORT_US)[0], "le=\"0.000005\"}");
        assert_eq!(bound_words(&EXCHANGE_US)[17], "le=\"+Inf\"}");
    }
}
