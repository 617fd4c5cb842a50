//! Families of the cache, there where a cache is.

use super::{Model, Page};
use crate::cache::Answers;
use crate::telemetry::metric::CACHE_USES;

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
    }
}
