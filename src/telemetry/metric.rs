//! Counters of a shard: one writer, plain stores, read by the control core whenever it is asked.
//!
//! A block per shard, and in it a block per model, made when the model is first used. Labels come from closed
//! sets: models from the configuration and the probes (at most [`SLOTS_MAX`], then `other`), endpoints from the
//! configuration, statuses and reasons from tables here.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::histogram::{EXCHANGE_US, Histogram, SHORT_US, bump};

/// Models that have metrics of their own.
pub const SLOTS_MAX: usize = 512;

/// Statuses that are counted apart; any other counts as the last, 0.
pub const STATUSES: [u16; 20] =
    [200, 400, 401, 403, 404, 405, 408, 409, 411, 413, 422, 429, 431, 499, 500, 501, 502, 503, 504, 0];

/// What the cache may do for an exchange, in the order of [`ModelMetrics::cache`].
pub const CACHE_USES: [&str; 3] = ["hit", "miss", "shared"];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `by`; only the owner may.
    pub fn add(&self, by: u64) {
        bump(&self.0, by);
    }

    /// Sets it; for gauges and copies, only the owner may.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads it.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// US dollars; only the owner adds.
#[derive(Debug, Default)]
pub struct Dollars(AtomicU64);

impl Dollars {
    /// Adds `by`.
    pub fn add(&self, by: f64) {
        if by != 0.0 {
            self.0.store((self.get() + by).to_bits(), Ordering::Relaxed);
        }
    }

    /// Reads it.
    #[must_use]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Endpoints, and zones of limits, that have metrics of their own.
pub const NUMBERS_MAX: usize = 2048;

/// Names that have metrics, and where. Slot 0 is `other`. A name keeps its slot for as long as the process lives,
/// whatever the configuration becomes.
#[derive(Debug)]
pub struct Slots {
    names: ArcSwap<Vec<String>>,
    max: usize,
}

impl Slots {
    /// Only `other` yet, and at most `max` with it.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { names: ArcSwap::from_pointee(vec!["other".to_owned()]), max }
    }

    /// The slot of `name`, taken now if it has none; 0 when all are taken.
    #[must_use]
    pub fn of(&self, name: &str) -> usize {
        let place = |names: &[String]| names.iter().position(|known| known == name);
        if let Some(slot) = place(&self.names.load()) {
            return slot;
        }
        let names = self.names.rcu(|names| {
            let mut longer = Vec::clone(names);
            if place(&longer).is_none() && longer.len() < self.max {
                longer.push(name.to_owned());
            }
            longer
        });
        place(&names).or_else(|| place(&self.names.load())).unwrap_or(0)
    }

    /// All names, by slot.
    #[must_use]
    pub fn names(&self) -> std::sync::Arc<Vec<String>> {
        self.names.load_full()
    }
}

/// Things by their slot, made in groups of [`GROUP`] when first used: slots may come while others read.
#[derive(Debug)]
pub struct Numbered<T> {
    groups: Box<[OnceLock<Box<[T; GROUP]>>]>,
}

const GROUP: usize = 16;

impl<T: Default> Default for Numbered<T> {
    fn default() -> Self {
        Self { groups: (0..NUMBERS_MAX / GROUP).map(|_| OnceLock::new()).collect() }
    }
}

impl<T: Default> Numbered<T> {
    /// The one at `slot`; those beyond the last share the first.
    #[must_use]
    pub fn of(&self, slot: usize) -> &T {
        let slot = if slot < NUMBERS_MAX { slot } else { 0 };
        let group = self.groups[slot / GROUP].get_or_init(|| Box::new(std::array::from_fn(|_| T::default())));
        &group[slot % GROUP]
    }

    /// The one at `slot`, if its group was ever used.
    #[must_use]
    pub fn if_used(&self, slot: usize) -> Option<&T> {
        self.groups.get(slot / GROUP)?.get().map(|group| &group[slot % GROUP])
    }
}

/// Numbers of one model on one shard.
#[derive(Debug)]
pub struct ModelMetrics {
    /// Answers by status, in the order of [`STATUSES`]; a stream that broke counts as 502.
    pub by_status: [Counter; STATUSES.len()],
    /// Prompt tokens.
    pub tokens_input: Counter,
    /// Completion tokens.
    pub tokens_output: Counter,
    /// Those of the prompt that the endpoint had in its cache.
    pub tokens_cached: Counter,
    /// Completion tokens spent on reasoning.
    pub tokens_reasoning: Counter,
    /// Prompt tokens that are estimates.
    pub estimated_input: Counter,
    /// Completion tokens that are estimates.
    pub estimated_output: Counter,
    /// Time that endpoints have worked, in microseconds.
    pub work_us: Counter,
    /// What they cost.
    pub cost: Dollars,
    /// From the first byte of the request to the last of the answer.
    pub duration: Histogram,
    /// From the request's end to the endpoint's first content.
    pub first_token: Histogram,
    /// From the request sent to the endpoint until its answer is complete.
    pub upstream: Histogram,
    /// Between two reads of a stream.
    pub gap: Histogram,
    /// Our own share of an exchange.
    pub overhead: Histogram,
    /// Endpoint time by completion token.
    pub per_token: Histogram,
    /// What the cache did: hits, misses, answers shared by equal requests.
    pub cache: [Counter; CACHE_USES.len()],
    /// Attempts and times by the endpoint's slot.
    pub attempts: Numbered<PairMetrics>,
    /// Exchanges that fell back, by the slot of the model that was asked last.
    pub fallbacks: Numbered<AttemptMetrics>,
}

/// One model on one endpoint.
#[derive(Debug, Default)]
pub struct PairMetrics {
    /// Attempts.
    pub attempts: AttemptMetrics,
    times: OnceLock<Box<PairTimes>>,
}

impl PairMetrics {
    /// Its times, made when first asked for.
    #[must_use]
    pub fn times(&self) -> &PairTimes {
        self.times.get_or_init(Box::default)
    }

    /// Its times, if there are any.
    #[must_use]
    pub fn times_if_used(&self) -> Option<&PairTimes> {
        self.times.get().map(AsRef::as_ref)
    }
}

/// Times of one model on one endpoint: 320 bytes.
#[derive(Debug)]
pub struct PairTimes {
    /// From the first byte sent to the endpoint until its answer is complete.
    pub duration: Histogram,
    /// From the attempt's begin to its first content, of streams.
    pub first_token: Histogram,
}

const _: () = assert!(size_of::<PairTimes>() == 320, "docs/monitoring.md says how large it is");

impl Default for PairTimes {
    fn default() -> Self {
        Self { duration: Histogram::new(&EXCHANGE_US), first_token: Histogram::new(&EXCHANGE_US) }
    }
}

/// Attempts that were made.
#[derive(Debug, Default)]
pub struct AttemptMetrics {
    /// Answered below 400.
    pub success: Counter,
    /// Failed, whatever the reason.
    pub failure: Counter,
}

/// Numbers of one endpoint on one shard, whatever the model.
#[derive(Debug)]
pub struct EndpointMetrics {
    /// From the first byte sent to it until its answer is complete.
    pub duration: Histogram,
    /// From the attempt's begin to its first content, of streams.
    pub first_token: Histogram,
    /// Between two reads of a stream.
    pub gap: Histogram,
    /// Time that it has worked, in microseconds.
    pub work_us: Counter,
}

impl Default for EndpointMetrics {
    fn default() -> Self {
        Self {
            duration: Histogram::new(&EXCHANGE_US),
            first_token: Histogram::new(&EXCHANGE_US),
            gap: Histogram::new(&SHORT_US),
            work_us: Counter::default(),
        }
    }
}

impl Default for ModelMetrics {
    fn default() -> Self {
        Self {
            by_status: Default::default(),
            tokens_input: Counter::default(),
            tokens_output: Counter::default(),
            tokens_cached: Counter::default(),
            tokens_reasoning: Counter::default(),
            estimated_input: Counter::default(),
            estimated_output: Counter::default(),
            work_us: Counter::default(),
            cost: Dollars::default(),
            duration: Histogram::new(&EXCHANGE_US),
            first_token: Histogram::new(&EXCHANGE_US),
            upstream: Histogram::new(&EXCHANGE_US),
            gap: Histogram::new(&SHORT_US),
            overhead: Histogram::new(&SHORT_US),
            per_token: Histogram::new(&SHORT_US),
            cache: Default::default(),
            attempts: Numbered::default(),
            fallbacks: Numbered::default(),
        }
    }
}

impl ModelMetrics {
    /// Counts an answer.
    pub fn status(&self, status: u16) {
        let last = STATUSES.len() - 1;
        let known = STATUSES
            .iter()
            .position(|&known| known == status || (known == 200 && (200..400).contains(&status)));
        self.by_status[known.unwrap_or(last)].add(1);
    }

    /// The counter of what the cache did, by its word in [`CACHE_USES`].
    #[must_use]
    pub fn cache(&self, used: &str) -> &Counter {
        &self.cache[CACHE_USES.iter().position(|known| *known == used).unwrap_or(0)]
    }
}

/// Scanners of the guard.
pub const SCANNERS: usize = 8;
/// What a scanner comes to in one exchange; the order of [`GuardMetrics::verdicts`].
pub const VERDICTS: [&str; 5] = ["pass", "monitor", "redact", "block", "error"];

/// Numbers of the guard on one shard: requests first, then answers.
#[derive(Debug, Default)]
pub struct GuardMetrics {
    /// Exchanges by direction, scanner and verdict.
    pub verdicts: [[[Counter; VERDICTS.len()]; SCANNERS]; 2],
    /// Nanoseconds by direction and scanner.
    pub spent_ns: [[Counter; SCANNERS]; 2],
    /// Texts whose verdict was remembered.
    pub remembered: Counter,
}

/// Requests that the door refused, on one shard.
#[derive(Debug, Default)]
pub struct LimiterMetrics {
    /// By their rate, by the zone's slot.
    pub zones: Numbered<Counter>,
    /// By the count of their client.
    pub concurrent: Counter,
    /// By the count of their key.
    pub key_concurrent: Counter,
    /// By the requests of their key.
    pub key_requests: Counter,
    /// By the tokens of their key.
    pub key_tokens: Counter,
    /// By the budget of their key.
    pub key_budget: Counter,
    /// For want of a key.
    pub keys_refused: Counter,
}

/// Numbers of the cache on one shard.
#[derive(Debug, Default)]
pub struct CacheMetrics {
    /// Answers stored.
    pub stored: Counter,
    /// Prompt tokens that no endpoint had to read.
    pub saved_input: Counter,
    /// Completion tokens that no endpoint had to make.
    pub saved_output: Counter,
    /// Answers found in Redis.
    pub redis_found: Counter,
    /// Answers that Redis did not have.
    pub redis_missed: Counter,
    /// Questions to Redis, and answers for it, that failed.
    pub redis_failed: Counter,
}

/// How a shard stands with Redis.
#[derive(Debug, Default)]
pub struct RedisMetrics {
    /// 1: it is connected to all servers that it needs.
    pub connected: Counter,
    /// 1: its breaker is open.
    pub open: Counter,
    /// Connections made anew.
    pub reconnects: Counter,
    /// Questions without an answer in time.
    pub timeouts: Counter,
    /// Questions without an answer now.
    pub waiting: Counter,
    /// Limits that this gateway has decided alone.
    pub alone: Counter,
}

/// Numbers of one shard.
#[derive(Debug)]
pub struct ShardMetrics {
    models: Box<[OnceLock<Box<ModelMetrics>>]>,
    /// By the endpoint's slot.
    pub endpoints: Numbered<EndpointMetrics>,
    /// Client connections open now.
    pub connections: Counter,
    /// Client connections accepted.
    pub accepted: Counter,
    /// Client connections handed to another shard.
    pub handed_over: Counter,
    /// TLS handshakes that succeeded.
    pub tls_handshakes: Counter,
    /// TLS handshakes that failed or took too long.
    pub tls_failed: Counter,
    /// HTTP/2 connections closed by the frame guard.
    pub http2_abuses: Counter,
    /// Accepts that failed for want of descriptors or memory.
    pub exhausted: Counter,
    /// Exchanges running now.
    pub exchanges: Counter,
    /// Of these, streams that have had content.
    pub streams: Counter,
    /// Requests that no model answered: own paths and refusals, by status as in [`STATUSES`].
    pub local_by_status: [Counter; STATUSES.len()],
    /// Attempts after the first.
    pub retries: Counter,
    /// Retries that the budget did not allow.
    pub retries_refused: Counter,
    /// Times that another model was asked in place of one that failed.
    pub fallbacks: Counter,
    /// How long requests waited in line, served or not.
    pub queue_wait: Histogram,
    /// Clients that left during an exchange.
    pub clients_gone: Counter,
    /// Upstream connections opened.
    pub upstream_connects: Counter,
    /// Exchanges that found a warm connection.
    pub upstream_reuses: Counter,
    /// Upstream connections idle in the pools now.
    pub upstream_idle: Counter,
    /// What the guard did.
    pub guard: GuardMetrics,
    /// What was not asked twice.
    pub cache: CacheMetrics,
    /// How it stands with Redis.
    pub redis: RedisMetrics,
    /// What the door refused.
    pub limiter: LimiterMetrics,
    /// Tasks that ended by a panic.
    pub panics: Counter,
    /// Tasks alive now.
    pub tasks: Counter,
    /// Kernel thread id, for its CPU time.
    pub thread: AtomicUsize,
}

impl Default for ShardMetrics {
    fn default() -> Self {
        Self {
            models: (0..SLOTS_MAX).map(|_| OnceLock::new()).collect(),
            endpoints: Numbered::default(),
            connections: Counter::default(),
            accepted: Counter::default(),
            handed_over: Counter::default(),
            tls_handshakes: Counter::default(),
            tls_failed: Counter::default(),
            http2_abuses: Counter::default(),
            exhausted: Counter::default(),
            exchanges: Counter::default(),
            streams: Counter::default(),
            local_by_status: Default::default(),
            retries: Counter::default(),
            retries_refused: Counter::default(),
            fallbacks: Counter::default(),
            queue_wait: Histogram::new(&EXCHANGE_US),
            clients_gone: Counter::default(),
            upstream_connects: Counter::default(),
            upstream_reuses: Counter::default(),
            upstream_idle: Counter::default(),
            guard: GuardMetrics::default(),
            cache: CacheMetrics::default(),
            redis: RedisMetrics::default(),
            limiter: LimiterMetrics::default(),
            panics: Counter::default(),
            tasks: Counter::default(),
            thread: AtomicUsize::new(0),
        }
    }
}

impl ShardMetrics {
    /// The numbers of a model, made when first asked for.
    #[must_use]
    pub fn model(&self, slot: usize) -> &ModelMetrics {
        let cell = &self.models[if slot < SLOTS_MAX { slot } else { 0 }];
        cell.get_or_init(Box::default)
    }

    /// The numbers of a model, if it was ever used on this shard.
    #[must_use]
    pub fn model_if_used(&self, slot: usize) -> Option<&ModelMetrics> {
        self.models.get(slot)?.get().map(AsRef::as_ref)
    }

    /// Counts an answer that came from no model.
    pub fn local(&self, status: u16) {
        let known = STATUSES
            .iter()
            .position(|&known| known == status || (known == 200 && (200..400).contains(&status)));
        self.local_by_status[known.unwrap_or(STATUSES.len() - 1)].add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_and_stable() {
        let slots = Slots::new(SLOTS_MAX);
        assert_eq!(slots.of("a"), 1);
        for n in 0..SLOTS_MAX {
            let _ = slots.of(&format!("m{n}"));
        }
        assert_eq!(slots.of("a"), 1);
        assert_eq!(slots.of("one too many"), 0);
        assert_eq!(slots.names().len(), SLOTS_MAX);
        let metrics = ShardMetrics::default();
        metrics.model(7).status(204);
        metrics.model(7).status(418);
        assert_eq!(metrics.model(7).by_status[0].get(), 1);
        assert_eq!(metrics.model(7).by_status[STATUSES.len() - 1].get(), 1);
        assert!(metrics.model_if_used(8).is_none());
    }
}
