//! Families of the door: what rates, counts, quotas and keys have refused.

use super::Page;
use crate::telemetry::metric::{Counter, LimiterMetrics};

impl Page<'_> {
    /// What the door has refused.
    pub(super) fn limiter(&mut self) {
        let shards = &self.world.shards;
        let sum = |pick: &dyn Fn(&LimiterMetrics) -> u64| {
            shards.iter().map(|shard| pick(&shard.metrics.limiter)).sum()
        };
        let mut refusals: Vec<(String, &str, u64)> = Vec::new();
        for (slot, zone) in self.world.process.zones.names().iter().enumerate().skip(1) {
            let count = sum(&|limiter| limiter.zones.if_used(slot).map_or(0, Counter::get));
            refusals.push((zone.clone(), "rate", count));
        }
        refusals.push((String::new(), "concurrent", sum(&|limiter| limiter.concurrent.get())));
        refusals.push((String::new(), "key_concurrent", sum(&|limiter| limiter.key_concurrent.get())));
        refusals.push((String::new(), "key_requests", sum(&|limiter| limiter.key_requests.get())));
        refusals.push((String::new(), "key_tokens", sum(&|limiter| limiter.key_tokens.get())));
        refusals.push((String::new(), "key_budget", sum(&|limiter| limiter.key_budget.get())));
        let keys = sum(&|limiter| limiter.keys_refused.get());
        self.family(
            "corelane_limiter_refusals_total",
            "counter",
            "Requests refused by a rate, count or quota.",
        );
        for (zone, reason, count) in refusals {
            self.line("corelane_limiter_refusals_total", &[("zone", &zone), ("reason", reason)], count);
        }
        self.family("corelane_keys_refused_total", "counter", "Requests refused for want of a key.");
        self.line("corelane_keys_refused_total", &[], keys);
    }
}
