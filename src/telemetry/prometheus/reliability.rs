//! Families of what keeps failures from clients: breakers, retries, fallbacks, and the queue.

use std::collections::HashSet;

use super::{Model, Page, Reading};
use crate::breaker::{Breaker, Reason, State};
use crate::net::clock;
use crate::telemetry::histogram::EXCHANGE_US;
use crate::telemetry::metric::{Counter, ShardMetrics};

impl Page<'_> {
    /// Breakers, retries, fallbacks, and the queue.
    pub(super) fn reliability(&mut self) {
        self.breakers();
        let sum = |pick: fn(&ShardMetrics) -> &Counter| {
            self.world.shards.iter().map(|shard| pick(&shard.metrics).get()).sum::<u64>()
        };
        let (refused, fallbacks) = (sum(|m| &m.retries_refused), sum(|m| &m.fallbacks));
        let hall = &self.world.hall;
        for (name, kind, help, value) in [
            ("corelane_retries_refused_total", "counter", "Retries that the budget did not allow.", refused),
            (
                "corelane_fallbacks_total",
                "counter",
                "Other models asked in place of a failed one.",
                fallbacks,
            ),
            ("corelane_queue_waiting", "gauge", "Requests that wait for a place now.", hall.waiting().into()),
            (
                "corelane_running",
                "gauge",
                "Places of server.max_concurrent_requests that are taken.",
                self.world.running.taken().into(),
            ),
        ] {
            self.family(name, kind, help);
            self.line(name, &[], value);
        }
        let name = "corelane_queue_next_seconds";
        self.family(name, "gauge", "How long one more request would wait, as things go.");
        self.real(name, &[], seconds(hall.wait_ms()));
        let mut waits = Reading::new(&EXCHANGE_US);
        self.world.shards.iter().for_each(|shard| shard.metrics.queue_wait.add_to(&mut waits));
        self.family("corelane_queue_wait_seconds", "histogram", "Time in line, served or not.");
        self.histogram("corelane_queue_wait_seconds", &[], &waits);
    }

    /// Attempts by model, endpoint and outcome; there from the start for every pair that may be tried.
    pub(super) fn attempts(&mut self, models: &[Model]) {
        let world = self.world;
        let (catalog, _) = world.catalog();
        let pairs = catalog.listed.iter().flat_map(|deployment| {
            deployment.candidates.iter().map(|candidate| (deployment.slot, candidate.endpoint))
        });
        let pairs: HashSet<(usize, usize)> = pairs.collect();
        let name = "corelane_attempts_total";
        self.family(name, "counter", "Attempts by model, endpoint and outcome.");
        for model in models {
            for (at, endpoint) in world.registry.iter().enumerate() {
                let counts = model.attempts.get(endpoint.slot).copied().unwrap_or_default();
                if counts == [0, 0] && !pairs.contains(&(model.slot, at)) {
                    continue;
                }
                for (outcome, count) in ["success", "failure"].iter().zip(counts) {
                    let labels = [
                        ("model", model.name.as_str()),
                        ("endpoint", &endpoint.config.name),
                        ("outcome", outcome),
                    ];
                    self.line(name, &labels, count);
                }
            }
        }
    }

    /// The time in line under LiteLLM's name, and who stood in for whom.
    pub(super) fn litellm_queue(&mut self) {
        let mut waits = Reading::new(&EXCHANGE_US);
        self.world.shards.iter().for_each(|shard| shard.metrics.queue_wait.add_to(&mut waits));
        let name = "litellm_request_queue_time_seconds";
        self.family(name, "histogram", "Time in line, served or not.");
        self.histogram(name, &[], &waits);
        let names = self.world.models.names();
        let mut rows: Vec<(usize, usize, [u64; 2])> = Vec::new();
        for asked in 0..names.len() {
            let used: Vec<_> =
                self.world.shards.iter().filter_map(|shard| shard.metrics.model_if_used(asked)).collect();
            for served in 0..names.len() {
                let counts = used.iter().filter_map(|model| model.fallbacks.if_used(served));
                let sum =
                    counts.fold([0, 0], |[a, b], count| [a + count.success.get(), b + count.failure.get()]);
                if sum != [0, 0] {
                    rows.push((asked, served, sum));
                }
            }
        }
        for (at, name) in
            ["litellm_deployment_successful_fallbacks_total", "litellm_deployment_failed_fallbacks_total"]
                .into_iter()
                .enumerate()
        {
            self.family(
                name,
                "counter",
                "Exchanges that another model answered, or failed to, in place of the one asked for.",
            );
            for (asked, served, counts) in rows.iter().filter(|(_, _, counts)| counts[at] > 0) {
                let labels =
                    [("requested_model", names[*asked].as_str()), ("fallback_model", &names[*served])];
                self.line(name, &labels, counts[at]);
            }
        }
    }

    /// State, reason and time to the next trial of every breaker: of an endpoint, and of a model on it.
    fn breakers(&mut self) {
        let world = self.world;
        let (catalog, _) = world.catalog();
        let now_ms = clock::now_ms();
        let whole =
            world.registry.iter().map(|endpoint| (endpoint.config.name.as_str(), "", endpoint.breaker()));
        let models = catalog.listed.iter().flat_map(|model| {
            model.candidates.iter().map(|candidate| {
                let name = world.registry[candidate.endpoint].config.name.as_str();
                (name, model.name.as_str(), &*candidate.breaker)
            })
        });
        // There may be very many; only those that rest have something to say.
        let models = models.filter(|(_, _, breaker)| !breaker.is_closed());
        let all: Vec<(&str, &str, &Breaker)> = whole.chain(models).collect();
        let name = "corelane_breaker_state";
        self.family(
            name,
            "gauge",
            "0 closed, 1 half-open, 2 open; with a model: of that alone, while not closed.",
        );
        for &(endpoint, model, breaker) in &all {
            let (state, reason, _) = seen(breaker, now_ms);
            self.line(name, &[("endpoint", endpoint), ("model", model), ("reason", reason)], state);
        }
        let name = "corelane_breaker_retry_seconds";
        self.family(name, "gauge", "Time until an open breaker lets one request through.");
        for &(endpoint, model, breaker) in &all {
            let (_, _, retry_ms) = seen(breaker, now_ms);
            self.real(name, &[("endpoint", endpoint), ("model", model)], seconds(retry_ms));
        }
        let name = "corelane_breaker_opened_total";
        self.family(name, "counter", "Times that the breaker of an endpoint opened.");
        for endpoint in &world.registry {
            self.line(name, &[("endpoint", &endpoint.config.name)], endpoint.breaker_openings());
        }
    }
}

fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}

/// The number of its state, its reason, and the milliseconds to its next trial.
fn seen(breaker: &Breaker, now_ms: u64) -> (u64, &'static str, u64) {
    match breaker.state(now_ms) {
        State::Closed => (0, Reason::None.name(), 0),
        State::HalfOpen { reason } => (1, reason.name(), 0),
        State::Open { until_ms, reason } => (2, reason.name(), until_ms.saturating_sub(now_ms)),
    }
}
