//! Families under the names of the LiteLLM deployment guide, and of LiteLLM itself.

use std::collections::HashMap;

use super::{Model, Page, STATUSES, label_text, word};
use crate::telemetry::histogram::Reading;

impl Page<'_> {
    /// The names of the LiteLLM deployment guide.
    pub(super) fn guide(&mut self, models: &[Model]) {
        self.family("litellm_request_count", "untyped", "Requests by model and outcome.");
        for model in models {
            for (status, count) in [("success", model.by_status[0]), ("error", model.errors())] {
                self.line("litellm_request_count", &[("status", status), ("model", &model.name)], count);
            }
        }
        self.family("litellm_tokens_used", "untyped", "Tokens by model and direction.");
        for model in models {
            for (direction, count) in ["input", "output"].iter().zip(model.tokens) {
                self.line("litellm_tokens_used", &[("model", &model.name), ("type", direction)], count);
            }
        }
        self.family("litellm_cost", "untyped", "Cost in US dollars by model.");
        for model in models {
            self.real("litellm_cost", &[("model", &model.name)], model.cost);
        }
        let name = "litellm_request_duration_seconds";
        self.family(
            name,
            "histogram",
            "Duration of requests; also as bare samples for queries that name no bucket.",
        );
        for model in models {
            self.histogram(name, &[("model", &model.name)], &model.duration);
        }
        for model in models {
            let before = format!("{name}{{{},", label_text(&[("model", &model.name)]));
            self.buckets(&before, &model.duration);
        }
    }

    /// LiteLLM's own families.
    pub(super) fn litellm(&mut self, models: &[Model]) {
        self.litellm_requests(models);
        for (name, help, pick) in [
            ("litellm_input_tokens_metric_total", "Prompt tokens.", (|m| m.tokens[0]) as fn(&Model) -> u64),
            ("litellm_output_tokens_metric_total", "Completion tokens.", |m| m.tokens[1]),
            ("litellm_total_tokens_metric_total", "All tokens.", |m| m.tokens[0] + m.tokens[1]),
        ] {
            self.family(name, "counter", help);
            for model in models {
                self.line(name, &labels(model), pick(model));
            }
        }
        self.family("litellm_spend_metric_total", "counter", "Cost in US dollars.");
        for model in models {
            self.real("litellm_spend_metric_total", &labels(model), model.cost);
        }
        for (name, help, pick) in [
            (
                "litellm_request_total_latency_metric",
                "Duration of requests.",
                (|m| &m.duration) as fn(&Model) -> &Reading,
            ),
            ("litellm_llm_api_latency_metric", "Time spent on endpoints.", |m| &m.upstream),
            ("litellm_llm_api_time_to_first_token_metric", "Time to first token of streams.", |m| {
                &m.first_token
            }),
            ("litellm_overhead_latency_metric", "The gateway's own share.", |m| &m.overhead),
            ("litellm_deployment_latency_per_output_token", "Endpoint time by completion token.", |m| {
                &m.per_token
            }),
        ] {
            self.family(name, "histogram", help);
            for model in models {
                self.histogram(name, &labels(model), pick(model));
            }
        }
        self.litellm_deployments(models);
        self.litellm_queue();
        self.family("litellm_in_flight_requests", "gauge", "Exchanges running now.");
        let running: u64 = self.world.shards.iter().map(|shard| shard.metrics.exchanges.get()).sum();
        self.line("litellm_in_flight_requests", &[], running);
    }

    fn litellm_requests(&mut self, models: &[Model]) {
        let name = "litellm_proxy_total_requests_metric_total";
        self.family(name, "counter", "Requests by model and status code.");
        for model in models {
            for (status, count) in
                STATUSES.iter().zip(&model.by_status).filter(|(s, n)| **n > 0 || **s == 200)
            {
                self.line(name, &[("requested_model", &model.name), ("status_code", &word(*status))], *count);
            }
        }
        let name = "litellm_proxy_failed_requests_metric_total";
        self.family(name, "counter", "Failed requests by model, exception class and status.");
        for model in models {
            for (status, count) in
                STATUSES.iter().zip(&model.by_status).filter(|(s, n)| **s != 200 && (**n > 0 || **s == 500))
            {
                let labels = [
                    ("requested_model", model.name.as_str()),
                    ("exception_class", exception(*status)),
                    ("exception_status", &word(*status)),
                ];
                self.line(name, &labels, *count);
            }
        }
        let name = "litellm_requests_metric_total";
        self.family(name, "counter", "Requests by model.");
        for model in models {
            self.line(name, &labels(model), model.total());
        }
        let name = "litellm_llm_api_failed_requests_metric_total";
        self.family(name, "counter", "Attempts that failed on an endpoint.");
        for model in models {
            self.line(name, &labels(model), model.attempts.iter().map(|attempts| attempts[1]).sum());
        }
    }

    /// Deployments: a model on an endpoint.
    fn litellm_deployments(&mut self, models: &[Model]) {
        let (catalog, _) = self.world.catalog();
        let world = self.world;
        let by_slot: HashMap<usize, &Model> = models.iter().map(|model| (model.slot, model)).collect();
        let bases: Vec<String> =
            world.registry.iter().map(|endpoint| endpoint.config.url.to_string()).collect();
        let mut rows: Vec<(String, [u64; 5])> = Vec::new();
        for deployment in &catalog.listed {
            let counted = by_slot.get(&deployment.slot);
            for candidate in &deployment.candidates {
                let endpoint = &world.registry[candidate.endpoint];
                let base = bases.get(candidate.endpoint).map_or("", String::as_str);
                let labels = label_text(&[
                    ("litellm_model_name", candidate.upstream_model.as_str()),
                    ("model_id", &candidate.id),
                    ("api_base", base),
                    ("requested_model", &deployment.name),
                ]);
                let attempts = counted.and_then(|model| model.attempts.get(endpoint.slot));
                let [success, failure] = attempts.copied().unwrap_or_default();
                let rested = endpoint.marked_down() + endpoint.breaker_openings();
                let state = if !endpoint.health().is_up() || !endpoint.breaker().is_closed() {
                    2
                } else {
                    u64::from(endpoint.health().run() > 0)
                };
                rows.push((labels, [success, failure, success + failure, rested, state]));
            }
        }
        for (at, (name, kind, help)) in DEPLOYMENTS.into_iter().enumerate() {
            self.family(name, kind, help);
            for (labels, values) in &rows {
                self.out.push_str(name);
                self.out.push('{');
                self.out.push_str(labels);
                self.out.push('}');
                self.end(values[at]);
            }
        }
    }
}

/// Families of deployments, in the order of their values.
const DEPLOYMENTS: [(&str, &str, &str); 5] = [
    ("litellm_deployment_success_responses_total", "counter", "Attempts answered by a deployment."),
    ("litellm_deployment_failure_responses_total", "counter", "Attempts failed by a deployment."),
    ("litellm_deployment_total_requests_total", "counter", "Attempts on a deployment."),
    (
        "litellm_deployment_cooled_down_total",
        "counter",
        "Times a deployment was marked unhealthy, or rested.",
    ),
    ("litellm_deployment_state", "gauge", "0 healthy, 1 partial outage, 2 complete outage."),
];

fn labels(model: &Model) -> [(&str, &str); 2] {
    let upstream = model.name.strip_prefix("ollama/").unwrap_or(&model.name);
    [("requested_model", &model.name), ("model", upstream)]
}

/// The class that LiteLLM raises for a status.
fn exception(status: u16) -> &'static str {
    match status {
        400 | 422 => "BadRequestError",
        401 => "AuthenticationError",
        403 => "PermissionDeniedError",
        404 => "NotFoundError",
        408 | 504 => "Timeout",
        429 => "RateLimitError",
        499 => "ClientDisconnected",
        503 => "ServiceUnavailableError",
        500..=599 => "InternalServerError",
        _ => "APIError",
    }
}
