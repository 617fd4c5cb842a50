//! Families of the cache, there where a cache is.

use super::{Model, Page};
use crate::cache::Answers;
use crate::telemetry::metric::{CACHE_USES, Counter, RedisMetrics};

impl Page<'_> {
    /// What was answered without an endpoint, and what is kept for it.
    pub(super) fn cache(&mut self, models: &[Model]) {
        let world = self.world;
        let Some(answers) = &world.answers else { return };
        let uses = |model: &Model, at: usize| -> u64 {
            let used = world.shards.iter().filter_map(|shard| shard.metrics.model_if_used(model.slot));
            used.map(|metrics| metrics.cache[at].get()).sum()
        };
        let name = "corelane_cache_requests_total";
        self.family(name, "counter", "Requests that may use the cache, by what it did for them.");
        for model in models {
            for (at, what) in CACHE_USES.iter().enumerate() {
                self.line(name, &[("model", &model.name), ("result", what)], uses(model, at));
            }
        }
        for (name, help, at) in [
            ("litellm_cache_hits_metric_total", "Requests answered from the cache.", &[0, 2][..]),
            ("litellm_cache_misses_metric_total", "Requests that the cache had no answer for.", &[1]),
        ] {
            self.family(name, "counter", help);
            for model in models {
                self.line(name, &[("model", &model.name)], at.iter().map(|&at| uses(model, at)).sum());
            }
        }
        self.kept(answers);
    }

    fn kept(&mut self, answers: &Answers) {
        let world = self.world;
        let name = "corelane_cache_saved_tokens_total";
        self.family(name, "counter", "Tokens of answers that were given again, by direction.");
        let cache = || world.shards.iter().map(|shard| &shard.metrics.cache);
        let saved = [
            ("input", cache().map(|cache| cache.saved_input.get()).sum()),
            ("output", cache().map(|cache| cache.saved_output.get()).sum::<u64>()),
        ];
        for (direction, tokens) in saved {
            self.line(name, &[("type", direction)], tokens);
        }
        let (kept, bytes) = answers.memory.as_ref().map_or((0, 0), |memory| memory.size());
        for (name, kind, help, value) in [
            (
                "corelane_cache_stored_total",
                "counter",
                "Answers stored.",
                cache().map(|cache| cache.stored.get()).sum::<u64>(),
            ),
            ("corelane_cache_answers", "gauge", "Answers in memory.", kept as u64),
            ("corelane_cache_bytes", "gauge", "Bytes of memory that they take.", bytes),
            (
                "corelane_cache_flights",
                "gauge",
                "Requests in flight that equal ones may share.",
                answers.flights.count() as u64,
            ),
        ] {
            self.family(name, kind, help);
            self.line(name, &[], value);
        }
        let name = "corelane_cache_redis_requests_total";
        self.family(name, "counter", "Questions for an answer in Redis, by what came of them.");
        for (what, count) in [
            ("found", cache().map(|cache| cache.redis_found.get()).sum()),
            ("missed", cache().map(|cache| cache.redis_missed.get()).sum()),
            ("failed", cache().map(|cache| cache.redis_failed.get()).sum::<u64>()),
        ] {
            self.line(name, &[("result", what)], count);
        }
    }

    /// How the shards stand with Redis, where one is.
    pub(super) fn redis(&mut self) {
        type Pick = fn(&RedisMetrics) -> &Counter;
        let world = self.world;
        if world.config.redis.is_none() {
            return;
        }
        let families: [(&str, &str, &str, Pick); 6] = [
            ("corelane_redis_connected", "gauge", "1 while a shard is connected to Redis.", |m| &m.connected),
            ("corelane_redis_breaker_open", "gauge", "1 while a shard asks Redis nothing.", |m| &m.open),
            ("corelane_redis_reconnects_total", "counter", "Connections to Redis made anew.", |m| {
                &m.reconnects
            }),
            (
                "corelane_redis_timeouts_total",
                "counter",
                "Questions to Redis without an answer in time.",
                |m| &m.timeouts,
            ),
            (
                "corelane_fleet_limits_alone_total",
                "counter",
                "Limits of the fleet that were decided without it.",
                |m| &m.alone,
            ),
            ("corelane_redis_waiting", "gauge", "Questions to Redis without an answer now.", |m| &m.waiting),
        ];
        for (name, kind, help, pick) in families {
            self.family(name, kind, help);
            for (index, shard) in world.shards.iter().enumerate() {
                self.line(name, &[("shard", &index.to_string())], pick(&shard.metrics.redis).get());
            }
        }
    }
}
