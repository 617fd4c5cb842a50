//! `router_settings`, `litellm_settings`, `load_balancing_config`, `advanced`: how an endpoint is chosen, how long it is
//! waited for, what follows a failure.

use std::time::Duration;

use super::super::field::{Candidate, Field, settle};
use super::super::plan::{Edge, Plan};
use super::super::report::Origin;
use super::super::toml::from;
use super::groups::tell_cap;
use super::models::Group;
use super::{Sections, pick};
use crate::config::render::quoted;

/// What the models are written with.
pub(super) struct Routing {
    /// The strategy of every model, if the files name one.
    pub(super) strategy: Option<&'static str>,
    pub(super) first_byte: Option<(Duration, Origin)>,
    pub(super) idle: Option<(Duration, Origin)>,
    /// USD per 1000 tokens of prompts and answers, for models that say nothing.
    pub(super) price: Option<(f64, f64)>,
    /// The file.
    pub(super) origin: Origin,
}

/// Reads everything that concerns all models, and writes the sections that hold it.
pub(super) fn read<'a>(
    sections: &mut Sections<'a>,
    groups: &[Group<'a>],
    price: Option<(f64, f64)>,
    origin: Origin,
    plan: &mut Plan,
) -> Routing {
    let weighted = groups.iter().flat_map(|group| &group.deployments).any(|deployment| {
        deployment.weight.is_some() || deployment.rpm.is_some() || deployment.tpm.is_some()
    });
    let strategy = read_strategy(sections, weighted, plan);
    let first_byte = read_time(
        &plan.edge,
        sections.fields(&[
            ("router", "timeout"),
            ("router", "request_timeout"),
            ("settings", "request_timeout"),
        ]),
        "timeouts.first_byte",
    );
    let idle = read_time(&plan.edge, sections.fields(&[("router", "stream_timeout")]), "timeouts.idle");
    read_attempts(sections, groups, plan);
    read_backoff(sections, plan);
    read_breaker(sections, plan);
    read_slots(sections, groups, plan);
    Routing { strategy, first_byte, idle, price, origin }
}

fn read_time(edge: &Edge, fields: Vec<Field<'_>>, to: &str) -> Option<(Duration, Origin)> {
    let candidates: Vec<Candidate<'_, Duration>> = fields
        .into_iter()
        .filter_map(|field| Some(Candidate { value: field.seconds()?, field, how: None }))
        .collect();
    let settled = settle(&candidates, to);
    candidates.iter().for_each(|candidate| tell_cap(&candidate.field, candidate.value, edge));
    settled
}

/// The guide's words and LiteLLM's; ours, and how it differs.
fn strategy_of(word: &str, weighted: bool) -> Option<(&'static str, Option<&'static str>)> {
    Some(match word {
        "round_robin" => ("round_robin", None),
        "least_busy" | "least-busy" => ("least_busy", None),
        "weighted" => ("weighted", None),
        "simple-shuffle" if weighted => ("weighted", Some("in turn, in proportion, not at random")),
        "simple-shuffle" => ("round_robin", Some("in turn, not at random")),
        "usage-based-routing" | "usage-based-routing-v2" => {
            ("least_busy", Some("the one with fewest requests, not with fewest tokens this minute"))
        }
        "latency-based-routing" => {
            ("least_busy", Some("the one with fewest requests: a slow one keeps its longer"))
        }
        "cost-based-routing" => {
            ("least_busy", Some("prices do not choose: let the dearer model be a fallback"))
        }
        _ => return None,
    })
}

fn read_strategy(sections: &mut Sections<'_>, weighted: bool, plan: &mut Plan) -> Option<&'static str> {
    let mut candidates = Vec::new();
    let fields =
        sections.fields(&[("balancing", "strategy"), ("top", "strategy"), ("router", "routing_strategy")]);
    for field in fields {
        let Some(text) = field.text() else { continue };
        match strategy_of(&text, weighted) {
            Some((word, how)) => {
                candidates.push(Candidate { field, value: word, how: how.map(str::to_owned) });
            }
            None => {
                field.refused("a strategy that the gateway does not have: round_robin, least_busy, weighted")
            }
        }
    }
    let to = candidates.first().map(|first| format!("balance.strategy = {}", quoted(first.value)));
    let (word, origin) = settle(&candidates, &to.unwrap_or_default())?;
    plan.doc.section("[balance]").text("strategy", word, from(&origin));
    Some(word)
}

/// Attempts are retries and the first one; one number for all models.
fn read_attempts<'a>(sections: &mut Sections<'a>, groups: &[Group<'a>], plan: &mut Plan) {
    let fields = sections.fields(&[
        ("advanced", "max_retries"),
        ("router", "num_retries"),
        ("settings", "num_retries"),
    ]);
    let mut candidates: Vec<Candidate<'_, u64>> = fields
        .into_iter()
        .filter_map(|field| Some(Candidate { value: field.integer(0, 1_000_000)?.min(99), field, how: None }))
        .collect();
    let global = candidates.len();
    let deployments = groups.iter().flat_map(|group| &group.deployments);
    candidates.extend(
        deployments.filter_map(|deployment| deployment.retries.as_ref()).map(|(count, field)| Candidate {
            field: field.clone(),
            value: (*count).min(99),
            how: None,
        }),
    );
    if let Some(own) = candidates.get_mut(global..) {
        own.sort_by_key(|candidate| std::cmp::Reverse(candidate.value));
    }
    let to = candidates.first().map(|first| format!("retry.attempts = {}", first.value + 1));
    if let Some((retries, origin)) = settle(&candidates, &to.unwrap_or_default()) {
        let note = format!("{}; the first one included", from(&origin));
        plan.doc.section("[retry]").set("attempts", retries + 1, note);
    }
}

fn read_backoff(sections: &mut Sections<'_>, plan: &mut Plan) {
    if let Some(field) = pick(&mut sections.advanced, "retry_on_timeout")
        && let Some(flag) = field.flag()
    {
        plan.doc.section("[retry]").set("on_timeout", flag, from(&field.origin()));
        field.exact(format!("retry.on_timeout = {flag}"));
    }
    let fields = sections.fields(&[("advanced", "retry_delay"), ("router", "retry_after")]);
    let mut candidates = Vec::new();
    for field in fields {
        // No time at all is one here.
        let Some(number) = field.number() else { continue };
        let value = if number > 0.0 { field.seconds() } else { Some(Duration::ZERO) };
        let how = Some(
            "before the same endpoint is asked again, doubled each time; another one is asked at once"
                .to_owned(),
        );
        candidates.extend(value.map(|value| Candidate { field, value, how }));
    }
    if let Some((time, origin)) = settle(&candidates, "retry.backoff") {
        plan.doc.section("[retry]").time("backoff", time, from(&origin));
    }
}

fn read_breaker(sections: &mut Sections<'_>, plan: &mut Plan) {
    for (section, key) in [("router", "allowed_fails"), ("settings", "allowed_fails")] {
        for field in sections.fields(&[(section, key)]) {
            let Some(fails) = field.integer(0, 999) else { continue };
            plan.doc.section("[breaker]").set("failures", fails + 1, from(&field.origin()));
            field.changed(format!("breaker.failures = {}: in a row, not within cooldown_time", fails + 1));
        }
    }
    for (section, key) in [("router", "cooldown_time"), ("settings", "cooldown_time")] {
        for field in sections.fields(&[(section, key)]) {
            let Some(time) = field.seconds() else { continue };
            let open = time.clamp(Duration::from_millis(100), Duration::from_secs(600));
            plan.doc.section("[breaker]").time("open", open, from(&field.origin()));
            field
                .changed("breaker.open: the first time; then one request tries, and each failure doubles it");
        }
    }
    if let Some(field) = pick(&mut sections.router, "disable_cooldowns")
        && let Some(off) = field.flag()
    {
        plan.doc.section("[breaker]").set("enabled", !off, from(&field.origin()));
        field.exact(format!("breaker.enabled = {}", !off));
    }
}

/// `max_parallel_requests` of an endpoint's deployments, if all of them have it: its slots.
fn read_slots<'a>(sections: &mut Sections<'a>, groups: &[Group<'a>], plan: &mut Plan) {
    let default = pick(&mut sections.router, "default_max_parallel_requests");
    let count = default.as_ref().and_then(|field| field.integer(1, 1_000_000));
    if let (Some(field), Some(count)) = (&default, count) {
        field.changed(format!("endpoints.slots: {count} for each model of an endpoint; more wait"));
    }
    for index in 0..plan.endpoints.len() {
        let mine = || {
            let all = groups.iter().flat_map(|group| &group.deployments);
            all.filter(|deployment| deployment.endpoint == index)
        };
        let counts: Option<Vec<u64>> = mine()
            .map(|deployment| deployment.parallel.as_ref().map(|(count, _)| *count).or(count))
            .map(|count| count.filter(|count| *count > 0))
            .collect();
        let sum = counts.map(|counts| counts.iter().sum::<u64>().min(1_000_000));
        for (_, field) in mine().filter_map(|deployment| deployment.parallel.as_ref()) {
            match sum {
                Some(sum) => field.changed(format!(
                    "endpoints.slots = {sum}: what all models of the endpoint may do at once; more wait"
                )),
                None => field
                    .ignored("other models of the same endpoint have no bound, and slots are the endpoint's"),
            }
        }
        if let (Some(endpoint), Some(sum)) = (plan.endpoints.get_mut(index), sum) {
            endpoint.slots = sum;
        }
    }
}

/// What is left of the sections that this file reads.
pub(super) fn rest(sections: &mut Sections<'_>) {
    if let Some(router) = &mut sections.router {
        router.ignore(&["cache_responses", "cache_kwargs"], "set [cache]");
        router.ignore(
            &["context_windows"],
            "endpoints know their windows; context_window_fallbacks follow what they say",
        );
        router.ignore(&["routing_strategy_args"], "the strategies have no settings");
        router.ignore(
            &["retry_policy", "model_group_retry_policy", "allowed_fails_policy"],
            "what is tried again is fixed by the kind of failure: docs/reliability.md",
        );
        router
            .ignore(&["enable_tag_filtering", "tag_filtering_match_any"], "requests are not routed by tags");
        router.ignore(&["enable_pre_call_checks"], "an endpoint says itself what it cannot take");
        router.ignore(&["set_verbose", "debug_level"], "set log.level");
        router.rest("LiteLLM's router does not know it, or the gateway has no such setting");
    }
    if let Some(settings) = &mut sections.settings {
        read_callbacks(settings);
        settings.ignore(
            &["drop_params", "modify_params"],
            "bodies pass as they are: endpoints skip what they do not know",
        );
        settings.rest("the gateway has no such setting");
    }
    if let Some(balancing) = &sections.balancing {
        balancing.rest("the gateway has no such setting");
    }
}

fn read_callbacks(settings: &mut super::super::field::Section<'_>) {
    for key in ["callbacks", "success_callback", "failure_callback", "service_callback", "input_callback"] {
        let Some(field) = settings.take(key) else { continue };
        for item in field.items() {
            match item.raw() {
                Some(("prometheus", _)) => item.exact("/metrics of the admin listener"),
                Some(("otel" | "arize" | "langfuse_otel" | "arize_phoenix", _)) => {
                    item.ignored("set tracing.otlp_endpoint: spans go there by OTLP/HTTP");
                }
                _ => item.ignored("no such callback: logs, /metrics and OTLP traces are there"),
            }
        }
    }
}
