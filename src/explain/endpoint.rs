//! From a model to the endpoint that would be asked: the guard of each model, the line, the pick, and those that stand in.

use std::sync::Arc;

use serde_json::{Value, json};

use super::judged::judge;
use super::{Ask, Report, Sight, Stage, deadlines};
use crate::api::{Failure, FailureKind, Task, Texts, View};
use crate::breaker::{Breaker, State};
use crate::cache::Plan;
use crate::catalog::pick::{Look, Outcome, Review, Standing};
use crate::catalog::{Catalog, Deployment};
use crate::config::Strategy;
use crate::guard::Profile;
use crate::reading::Turns;
use crate::refusal;
use crate::registry::EndpointState;
use crate::retry::{Fallbacks, falls_back};
use crate::world::Who;

/// Explains a request that is understood, up to the endpoint.
pub async fn explain<'a, T: Turns>(
    ask: &Ask<'a>,
    catalog: &Catalog,
    task: Task,
    (mut view, texts): (View, Texts),
    first: &Arc<Deployment>,
    turns: &mut T,
    report: &mut Report,
) {
    line(ask, report);
    let settings = &ask.world.config.fallbacks;
    let mut profile = profile_of(ask, first);
    let passed = judge(ask, profile, (&mut view, &texts), &first.name, turns, report).await;
    cache(ask, task, first, &view, report);
    let mut deployment = Arc::clone(first);
    let mut chain: Option<Fallbacks> = None;
    while let Some(failure) = endpoint(ask, task, &deployment, report) {
        let own = deployment.fallbacks_of(chain.is_none(), settings).clone();
        let chain = chain.get_or_insert_with(|| Fallbacks::new(&first.name, settings.models_max));
        let other = |wanted: Option<&'a Arc<Profile>>| {
            wanted.filter(|&new| profile.is_none_or(|old| !Arc::ptr_eq(new, old)))
        };
        // What one profile has redacted does not go to a model under another.
        let may = |one: &Deployment| view.redactions.is_empty() || other(profile_of(ask, one)).is_none();
        let next = if falls_back(&failure) { next(ask, catalog, task, chain, own, may) } else { None };
        let Some(next) = next else {
            report.refusals.push((Stage::Endpoint, failure));
            break;
        };
        if let Some(new) = other(profile_of(ask, &next)) {
            if passed && !judge(ask, Some(new), (&mut view, &texts), &next.name, turns, report).await {
                break;
            }
            profile = Some(new);
        }
        deployment = next;
    }
    let chain = chain.unwrap_or_else(|| Fallbacks::new(&first.name, settings.models_max));
    let is_first = Arc::ptr_eq(&deployment, first);
    let own = deployment.fallbacks_of(is_first, settings).clone();
    fallbacks(ask, catalog, task, chain, (own, &deployment.context_window_fallbacks), report);
    deadlines(ask, &view, first, &deployment, report);
}

fn profile_of<'a>(ask: &Ask<'a>, deployment: &Deployment) -> Option<&'a Arc<Profile>> {
    let own = ask.caller.ok().flatten().and_then(|caller| caller.guard);
    ask.world.guard.profile(own.or(deployment.guard))
}

fn who<'a>(ask: &Ask<'a>) -> Who<'a> {
    Who { caller: ask.caller.ok().flatten().map(AsRef::as_ref), address: ask.address }
}

/// What the request may do with the cache, by what its body says. Whether there is an answer, only asking says.
fn cache(ask: &Ask<'_>, task: Task, deployment: &Deployment, view: &View, report: &mut Report) {
    let settings = &ask.world.config.cache;
    if !settings.is_on() {
        return;
    }
    let Some(plan) = Plan::of(settings, task, deployment.cache, &view.cache) else {
        return report.step(
            "cache",
            "left alone",
            "its path, model or words keep the request from it",
            json!({}),
        );
    };
    let result = match (plan.reads, plan.stores.is_some()) {
        (true, true) => "read and stored",
        (true, false) => "read",
        (false, _) => "stored",
    };
    let more = json!({
        "store": settings.store, "ttl_s": plan.stores.map(|ttl| ttl.as_secs()), "coalesces": plan.coalesces,
    });
    report.step("cache", result, "a stored answer to an equal request would be given, if there is one", more);
}

/// Whether it would be one of the exchanges that run.
fn line(ask: &Ask<'_>, report: &mut Report) {
    let process = &ask.world.process;
    let (running, queue) = (&process.running, &ask.world.config.queue);
    let more = json!({
        "running": running.taken(), "limit": running.max(),
        "waiting": process.hall.waiting(), "queue_max": queue.max,
    });
    if running.has_room() && !running.is_waited_for() {
        report.step("queue", "free", "fewer exchanges run than may", more);
    } else if process.hall.has_room(process.flow(who(ask)), &process.entering, queue.max) {
        report.step("queue", "wait", "all places of the gateway are taken: it would stand in line", more);
    } else {
        let kind = FailureKind::TooManyRequests;
        let failure = refusal::line_is_full(kind, refusal::AT_ITS_LIMIT, process.hall.wait_ms());
        report.refuse(Stage::Entry, "queue", failure, more);
    }
}

/// Explains the pick of one model; why no endpoint of it would be asked, if none would.
fn endpoint(ask: &Ask<'_>, task: Task, deployment: &Arc<Deployment>, report: &mut Report) -> Option<Failure> {
    let registry = &ask.world.registry;
    let model = &deployment.name;
    if !deployment.serves(registry, task) {
        let failure = refusal::not_served(deployment, task);
        report.step("endpoint", "none", &failure.message, json!({"model": model, "candidates": []}));
        return Some(failure);
    }
    let (random, now_ms) = (ask.now.random, ask.now.ms);
    let review = deployment.review(Look { registry, task, tried: &[], random, now_ms, called: false });
    let candidates: Vec<Value> = (0..deployment.candidates.len())
        .map(|at| candidate(ask, deployment, at, review.standings.get(at).copied()))
        .collect();
    let more = json!({"model": model, "strategy": deployment.strategy(), "candidates": candidates});
    let named = |at: usize| registry[deployment.candidates[at].endpoint].config.name.as_str();
    match review.outcome {
        Outcome::Taken(at) => {
            let as_model = if report.steps.iter().any(|step| step["step"] == "endpoint") {
                format!(" for model {model}")
            } else {
                String::new()
            };
            report.would = Some((200, format!("answer from {}{as_model}", named(at))));
            report.target = Some((named(at).to_owned(), model.clone()));
            report.step("endpoint", named(at), &because(ask, deployment, at, &review), more);
            None
        }
        Outcome::Full => {
            let (hall, queue) = (&ask.world.process.hall, &ask.world.config.queue);
            let flow = ask.world.process.flow(who(ask));
            if hall.has_room(flow, &deployment.waiting, queue.max) {
                report.would = Some((200, format!("wait in line for a slot of the endpoints of {model}")));
                report.step("endpoint", "wait", &refusal::all_slots(model), more);
                return None;
            }
            let (kind, text) = (FailureKind::SlotsTaken, refusal::all_slots(model));
            let failure = refusal::line_is_full(kind, &text, hall.wait_ms());
            report.step("endpoint", "none", &failure.message, more);
            Some(failure)
        }
        Outcome::Resting | Outcome::None => {
            let failure = refusal::nothing_healthy(model, None);
            let resting = "; those that are left could not be reached a moment ago";
            let more_why = if review.outcome == Outcome::Resting { resting } else { "" };
            report.step("endpoint", "none", &format!("{}{more_why}", failure.message), more);
            Some(failure)
        }
    }
}

/// Why candidate `at` is taken.
fn because(ask: &Ask<'_>, deployment: &Deployment, at: usize, review: &Review) -> String {
    let endpoint = |at: usize| &ask.world.registry[deployment.candidates[at].endpoint];
    match review.standings.get(at) {
        Some(Standing::Trial) => return "its breaker is due for a trial".to_owned(),
        Some(Standing::LastResort) => return "all others refuse, and one is asked all the same".to_owned(),
        _ => {}
    }
    let why = match deployment.strategy() {
        Strategy::RoundRobin => "round_robin: its turn".to_owned(),
        Strategy::Weighted => format!("weighted: its turn (weight {})", deployment.turns_of(at)),
        Strategy::LeastBusy => {
            let mut why = format!("least_busy: {} in flight", endpoint(at).load());
            let others = (0..deployment.candidates.len()).filter(|&other| {
                other != at && matches!(review.standings.get(other), Some(Standing::Another))
            });
            for other in others.take(3) {
                let (name, load) = (&endpoint(other).config.name, endpoint(other).load());
                why.push_str(&format!(", {name} has {load}"));
            }
            if !review.ties.is_empty() {
                why.push_str("; of equals chance takes one");
            }
            why
        }
    };
    if endpoint(at).health().is_up() {
        why
    } else {
        format!("{why}; no endpoint is up, and a mark only delays")
    }
}

fn candidate(ask: &Ask<'_>, deployment: &Deployment, at: usize, standing: Option<Standing>) -> Value {
    let candidate = &deployment.candidates[at];
    let endpoint = &ask.world.registry[candidate.endpoint];
    let health = endpoint.health();
    let mut value = json!({
        "endpoint": endpoint.config.name,
        "health": match (health.is_observed(), health.is_up()) {
            (false, _) => "unknown",
            (true, true) => "healthy",
            (true, false) => "unhealthy",
        },
        "disabled": endpoint.disabled(),
        "breaker": breaker(endpoint.breaker(), ask.now.ms),
        "breaker_of_model": breaker(&candidate.breaker, ask.now.ms),
        "in_flight": endpoint.in_flight(),
        "slots": endpoint.config.slots,
        "weight": deployment.turns_of(at),
        "verdict": standing.map_or_else(String::new, |standing| verdict(standing, endpoint, ask.now.ms)),
    });
    if ask.sight == Sight::Operator {
        value["url"] = json!(endpoint.config.url.to_string());
        value["upstream_model"] = json!(candidate.upstream_model);
        value["last_error"] = json!(endpoint.last_error().map(|error| error.to_string()));
    }
    value
}

/// A breaker as people read it; the time of its next trial in milliseconds from `now_ms`.
#[must_use]
pub fn breaker(breaker: &Breaker, now_ms: u64) -> Value {
    match breaker.state(now_ms) {
        State::Closed => json!({"state": "closed"}),
        State::HalfOpen { reason } => json!({"state": "half_open", "reason": reason.name()}),
        State::Open { until_ms, reason } => json!({
            "state": "open",
            "reason": reason.name(),
            "retry_in_ms": until_ms.saturating_sub(now_ms),
        }),
    }
}

fn verdict(standing: Standing, endpoint: &EndpointState, now_ms: u64) -> String {
    let why = match standing {
        Standing::Taken => return "taken".to_owned(),
        Standing::Trial => return "taken: the trial of its breaker".to_owned(),
        Standing::LastResort => return "taken: the last resort, its breaker refuses".to_owned(),
        Standing::Tried => "this request has tried it".to_owned(),
        Standing::Disabled => "an operator has taken it out".to_owned(),
        Standing::WrongKind => "its kind has no such path".to_owned(),
        Standing::Refuses { of_model, state } => {
            let whose = if of_model { "its breaker for this model" } else { "its breaker" };
            match state {
                State::Open { until_ms, reason } => {
                    let left = until_ms.saturating_sub(now_ms);
                    format!("{whose} is open ({}), a trial is due in {left} ms", reason.name())
                }
                State::HalfOpen { reason } => format!("{whose} waits for its trial ({})", reason.name()),
                State::Closed => format!("{whose} has just closed"),
            }
        }
        Standing::NoRoom => format!("all {} slots are taken", endpoint.places().max()),
        Standing::WaitedFor => "others wait for its slots".to_owned(),
        Standing::Marked => "probes have marked it unhealthy".to_owned(),
        Standing::Another => format!("another is first ({} in flight here)", endpoint.in_flight()),
    };
    format!("passed over: {why}")
}

/// Why a model may not stand in, if it may not.
fn unfit(ask: &Ask<'_>, catalog: &Catalog, task: Task, model: &str) -> Result<Arc<Deployment>, &'static str> {
    let deployment = catalog.peek(model, &ask.world.registry).ok_or("there is no such model")?;
    if !deployment.serves(&ask.world.registry, task) {
        return Err("no endpoint has it, or the path for it");
    }
    if ask.caller.ok().flatten().is_some_and(|caller| !caller.may_use(model)) {
        return Err("the key is not allowed to use it");
    }
    Ok(deployment)
}

fn next(
    ask: &Ask<'_>,
    catalog: &Catalog,
    task: Task,
    chain: &mut Fallbacks,
    mut own: Vec<String>,
    may: impl Fn(&Deployment) -> bool,
) -> Option<Arc<Deployment>> {
    while let Some(model) = chain.next(&std::mem::take(&mut own)) {
        let fit = unfit(ask, catalog, task, &model).ok().filter(|deployment| may(deployment));
        if fit.is_some() {
            return fit;
        }
    }
    None
}

/// The models that would be asked, one after the other, should the endpoints fail.
fn fallbacks(
    ask: &Ask<'_>,
    catalog: &Catalog,
    task: Task,
    mut chain: Fallbacks,
    (mut own, too_long): (Vec<String>, &[String]),
    report: &mut Report,
) {
    let (mut asked, mut passed_over) = (Vec::new(), Vec::new());
    while let Some(model) = chain.next(&std::mem::take(&mut own)) {
        match unfit(ask, catalog, task, &model) {
            Ok(deployment) => {
                own = deployment.fallbacks.clone();
                asked.push(json!(model));
            }
            Err(why) => passed_over.push(json!({"model": model, "why": why})),
        }
    }
    let why = if asked.is_empty() {
        "none is left to stand in"
    } else {
        "asked in this order if all attempts on the one before fail"
    };
    let more = match ask.sight {
        Sight::Operator => json!({"passed_over": passed_over, "where_too_long": too_long}),
        Sight::Caller => json!({}),
    };
    report.step("fallbacks", asked, why, more);
}
