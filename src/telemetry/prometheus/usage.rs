//! Families of what is used and spent: tokens by kind, endpoints' work, and callers' keys.

use std::time::SystemTime;

use super::{Model, Page};
use crate::telemetry::histogram::{EXCHANGE_US, Histogram, Reading, SHORT_US};
use crate::telemetry::metric::{EndpointMetrics, PairMetrics, PairTimes};
use crate::usage::spend::Spent;

impl Page<'_> {
    /// Tokens that are more than a count in and out, costs and work of models.
    pub(super) fn usage(&mut self, models: &[Model]) {
        let name = "corelane_tokens_cached_total";
        self.family(name, "counter", "Prompt tokens that endpoints had in their caches.");
        for model in models {
            self.line(name, &[("model", &model.name)], model.cached);
        }
        let name = "corelane_tokens_reasoning_total";
        self.family(name, "counter", "Completion tokens spent on reasoning.");
        for model in models {
            self.line(name, &[("model", &model.name)], model.reasoning);
        }
        let name = "corelane_tokens_estimated_total";
        self.family(
            name,
            "counter",
            "Tokens that no endpoint counted: of answers cut short, or without usage.",
        );
        for model in models {
            for (direction, count) in ["input", "output"].iter().zip(model.estimated) {
                self.line(name, &[("model", &model.name), ("type", direction)], count);
            }
        }
        let name = "corelane_cost_total";
        self.family(name, "counter", "Cost in US dollars by model.");
        for model in models {
            self.real(name, &[("model", &model.name)], model.cost);
        }
        let name = "corelane_model_work_seconds_total";
        self.family(
            name,
            "counter",
            "Time that endpoints have worked for a model, as they say themselves or as it took.",
        );
        for model in models {
            self.real(name, &[("model", &model.name)], super::seconds(model.work_us));
        }
    }

    /// Times of endpoints, whatever the model.
    pub(super) fn endpoint_times(&mut self) {
        type Pick = fn(&EndpointMetrics) -> &Histogram;
        let families: [(&str, &str, &'static [u64; 17], Pick); 3] = [
            (
                "corelane_endpoint_duration_seconds",
                "First byte sent to an endpoint to the end of its answer.",
                &EXCHANGE_US,
                |m| &m.duration,
            ),
            (
                "corelane_endpoint_first_token_seconds",
                "Begin of an attempt to its first content, streams only.",
                &EXCHANGE_US,
                |m| &m.first_token,
            ),
            ("corelane_endpoint_chunk_gap_seconds", "Time between two reads of a stream.", &SHORT_US, |m| {
                &m.gap
            }),
        ];
        let world = self.world;
        for (name, help, bounds, pick) in families {
            self.family(name, "histogram", help);
            for endpoint in &world.registry {
                let mut reading = Reading::new(bounds);
                for metrics in world.shards.iter().filter_map(|s| s.metrics.endpoints.if_used(endpoint.slot))
                {
                    pick(metrics).add_to(&mut reading);
                }
                self.histogram(name, &[("endpoint", &endpoint.config.name)], &reading);
            }
        }
        let name = "corelane_endpoint_work_seconds_total";
        self.family(name, "counter", "Time that an endpoint has worked, as it says itself or as it took.");
        for endpoint in &world.registry {
            let used = world.shards.iter().filter_map(|shard| shard.metrics.endpoints.if_used(endpoint.slot));
            let work_us = used.map(|metrics| metrics.work_us.get()).sum();
            self.real(name, &[("endpoint", &endpoint.config.name)], super::seconds(work_us));
        }
    }

    /// Times of each model on each endpoint, where `metrics.pairs` is on: of pairs that were used.
    pub(super) fn pairs(&mut self, models: &[Model]) {
        type Pick = fn(&PairTimes) -> &Histogram;
        let world = self.world;
        if !world.config.metrics.pairs {
            return;
        }
        let families: [(&str, &str, Pick); 2] = [
            (
                "corelane_model_endpoint_duration_seconds",
                "First byte sent to an endpoint to the end of its answer, by model.",
                |times| &times.duration,
            ),
            (
                "corelane_model_endpoint_first_token_seconds",
                "Begin of an attempt to its first content by model, streams only.",
                |times| &times.first_token,
            ),
        ];
        for (name, help, pick) in families {
            self.family(name, "histogram", help);
            for model in models {
                let used: Vec<_> =
                    world.shards.iter().filter_map(|shard| shard.metrics.model_if_used(model.slot)).collect();
                for endpoint in &world.registry {
                    let pairs = used.iter().filter_map(|metrics| metrics.attempts.if_used(endpoint.slot));
                    let mut reading = Reading::new(&EXCHANGE_US);
                    pairs
                        .filter_map(PairMetrics::times_if_used)
                        .for_each(|times| pick(times).add_to(&mut reading));
                    if reading.total() > 0 {
                        let labels = [("model", model.name.as_str()), ("endpoint", &endpoint.config.name)];
                        self.histogram(name, &labels, &reading);
                    }
                }
            }
        }
    }

    /// What callers have used, those with most requests by name.
    pub(super) fn keys(&mut self) {
        let world = self.world;
        if world.keyring.is_empty() {
            return;
        }
        let callers = world.keyring.callers();
        let now = callers.iter().map(|caller| (caller.name.as_str(), caller.spend.spent())).collect();
        let shown = world.key_series(|series| series.update(now, world.config.metrics.keys_max));
        let mut rows: Vec<(String, Spent)> = shown.keys;
        let named = rows.len();
        rows.extend(shown.other.map(|other| ("other".to_owned(), other)));
        let name = "corelane_key_requests_total";
        self.family(
            name,
            "counter",
            "Exchanges of models by caller's key; those without series of their own are `other`.",
        );
        for (key, spent) in &rows {
            self.line(name, &[("key", key)], spent.requests);
        }
        let name = "corelane_key_tokens_total";
        self.family(name, "counter", "Tokens by caller's key and direction.");
        for (key, spent) in &rows {
            self.line(name, &[("key", key), ("type", "input")], spent.input);
            self.line(name, &[("key", key), ("type", "output")], spent.output);
        }
        for (name, help, pick) in [
            (
                "corelane_key_cost_total",
                "Cost in US dollars by caller's key.",
                (|spent| spent.cost) as fn(&Spent) -> f64,
            ),
            (
                "corelane_key_work_seconds_total",
                "Time that endpoints have worked by caller's key.",
                |spent| spent.work_s,
            ),
        ] {
            self.family(name, "counter", help);
            for (key, spent) in &rows {
                self.real(name, &[("key", key)], pick(spent));
            }
        }
        rows.truncate(named);
        self.budgets(&rows);
    }

    /// Budgets of the keys in `rows`.
    fn budgets(&mut self, rows: &[(String, Spent)]) {
        let world = self.world;
        let now = SystemTime::now();
        let with_budget: Vec<(&str, f64, f64)> = rows
            .iter()
            .filter_map(|(key, _)| world.keyring.callers().iter().find(|caller| caller.name == *key))
            .filter(|caller| caller.budget > 0.0)
            .map(|caller| {
                let spent = caller.spend.in_period(caller.budget_period, now);
                (caller.name.as_str(), caller.budget, caller.budget - spent)
            })
            .collect();
        let mut families = vec![
            ("corelane_key_budget_dollars", "key", true),
            ("corelane_key_budget_remaining_dollars", "key", false),
        ];
        if world.config.metrics.litellm_names {
            families.push(("litellm_api_key_max_budget_metric", "api_key_alias", true));
            families.push(("litellm_remaining_api_key_budget_metric", "api_key_alias", false));
        }
        for (name, label, whole) in families {
            let help = if whole {
                "Budget of a key in US dollars."
            } else {
                "What is left of a key's budget in this period."
            };
            self.family(name, "gauge", help);
            for (key, budget, left) in &with_budget {
                self.real(name, &[(label, key)], if whole { *budget } else { *left });
            }
        }
    }
}
