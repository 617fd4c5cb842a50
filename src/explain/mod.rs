//! What would become of a request, and why: every decision of an exchange, asked without effect.
//!
//! The route, the key, the zones, the quota, the guard, the line and the endpoint are decided by the functions that an
//! exchange calls, in their forms that only look; sentences and statuses are [`crate::refusal`]'s. Nothing is counted or
//! taken: no token of a bucket or a quota, no slot, no trial of a breaker, no turn of a strategy, and nothing is remembered of
//! a text or a name. What no one knows without asking, whether an endpoint answers, an explanation does not know either.
//!
//! All steps that make sense are explained; of several refusals the one counts that an exchange would have come to first
//! ([`Stage`]). Cost: one reading of the body, and the guard's of its texts, in slices. The answer's shape is the contract of
//! `docs/explain.md`.

mod ask;
mod door;
mod endpoint;
mod judged;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::api::body::{Also, Scratch};
use crate::api::{Failure, FailureKind, Task, Texts, View};
use crate::catalog::{Catalog, Deployment};
use crate::limit::key::{Caller, Refused};
use crate::reading::Turns;
use crate::refusal;
use crate::route::{self, NoRoute, Route};
use crate::wire::http1::Method;
use crate::world::World;

pub use ask::{Asked, parse};
pub use endpoint::breaker;

/// Who reads the explanation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Everything.
    Operator,
    /// Names, but no addresses of endpoints and none of their errors, and nothing of models that are not the caller's.
    Caller,
}

/// The moment of which is spoken.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Milliseconds of the process clock.
    pub ms: u64,
    /// The time of day.
    pub wall: SystemTime,
    /// Breaks ties.
    pub random: u64,
}

/// A request that is asked about.
pub struct Ask<'a> {
    /// The configuration, and what is known of the endpoints.
    pub world: &'a World,
    /// Its method.
    pub method: Method,
    /// Its path, without a query.
    pub path: &'a str,
    /// Whose key it shows; `Ok(None)`: it needs none.
    pub caller: Result<Option<&'a Arc<Caller>>, Refused>,
    /// The client's address.
    pub address: IpAddr,
    /// The value of a header by its name, if it may be believed; for the zones.
    pub header: &'a dyn Fn(&str) -> Option<&'a [u8]>,
    /// The value of `x-litellm-timeout`.
    pub timeout: Option<&'a [u8]>,
    /// Its body; `None`: it has none.
    pub body: Option<&'a [u8]>,
    /// It has been let through for real: its zones are charged, and it is counted among those of its client.
    pub admitted: bool,
    /// Who reads the answer.
    pub sight: Sight,
    /// When.
    pub now: Now,
}

/// Refusals in the order in which an exchange comes to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Size,
    Rate,
    Key,
    Concurrency,
    Route,
    Length,
    Body,
    Forbidden,
    Quota,
    Model,
    Entry,
    Guard,
    Endpoint,
}

/// What has been explained so far.
#[derive(Default)]
struct Report {
    steps: Vec<Value>,
    refusals: Vec<(Stage, Failure)>,
    /// What would happen to a request that nothing refuses, and its status.
    would: Option<(u16, String)>,
    /// Which endpoint would be asked, and for which model.
    target: Option<(String, String)>,
}

impl Report {
    /// Adds a step; `more` is an object of what else there is to say.
    fn step(&mut self, step: &str, result: impl Into<Value>, why: &str, more: Value) {
        let mut one = json!({"step": step, "result": result.into(), "why": why});
        if let (Value::Object(one), Value::Object(more)) = (&mut one, more) {
            one.extend(more);
        }
        self.steps.push(one);
    }

    /// Adds a step that refuses.
    fn refuse(&mut self, stage: Stage, step: &str, failure: Failure, mut more: Value) {
        if let Value::Object(more) = &mut more {
            more.insert("status".to_owned(), json!(failure.status));
        }
        self.step(step, "refused", &failure.message, more);
        self.refusals.push((stage, failure));
    }

    fn finish(self) -> Value {
        let first = self.refusals.into_iter().min_by_key(|(stage, _)| *stage);
        let Some((_, failure)) = first else {
            let (status, would) = self.would.unwrap_or((200, "be answered by the gateway".to_owned()));
            let (endpoint, model) = self.target.unzip();
            return json!({
                "would": would, "status": status, "endpoint": endpoint, "model": model, "steps": self.steps,
            });
        };
        json!({
            "would": format!("be refused with {}", failure.status),
            "status": failure.status,
            "error": failure.message,
            "endpoint": null,
            "model": null,
            "steps": self.steps,
        })
    }
}

/// Explains `ask`.
pub async fn explain<T: Turns>(ask: &Ask<'_>, turns: &mut T) -> Value {
    let mut report = Report::default();
    let (catalog, _) = ask.world.catalog();
    let route = route::find(ask.method, ask.path);
    let task = task(ask, &route);
    route_step(ask, &catalog, &route, task, &mut report);
    if matches!(route, Ok(Route::Options)) {
        return report.finish();
    }
    door::key(ask, &route, &mut report);
    door::limits(ask, &mut report);
    if matches!(route, Ok(Route::Model(_) | Route::Moderations)) {
        door::concurrency(ask, &mut report);
    }
    match task {
        Some(task) => model(ask, &catalog, task, turns, &mut report).await,
        None if matches!(route, Ok(Route::Moderations)) => {
            let _ = door::quota(ask, None, 0, &mut report);
        }
        None => {}
    }
    report.finish()
}

/// What a model is asked for, if one is.
fn task(ask: &Ask<'_>, route: &Result<Route<'_>, NoRoute>) -> Option<Task> {
    match route {
        Ok(Route::Model(task)) => Some(*task),
        Ok(Route::Moderations) if ask.world.guard.profile(Some(0)).is_none() => Some(Task::Other),
        _ => None,
    }
}

fn route_step(
    ask: &Ask<'_>,
    catalog: &Catalog,
    route: &Result<Route<'_>, NoRoute>,
    task: Option<Task>,
    report: &mut Report,
) {
    let named = |what: &str| format!("{} {}: {what}", ask.method.name(), ask.path);
    let own = |report: &mut Report, what: &str| {
        report.step("route", named(what), "the gateway answers this itself", json!({}));
    };
    match (route, task) {
        (Err(no), _) => report.refuse(Stage::Route, "route", refusal::no_route(*no), json!({})),
        (_, Some(task)) => report.step("route", named(word(task)), "a model's work", json!({})),
        (Ok(Route::ModelById(id)), None) => {
            let id = route::percent_decoded(id);
            let may = ask.caller.ok().flatten().is_none_or(|caller| caller.may_use(&id));
            let found = catalog.peek(&id, &ask.world.registry);
            if found.is_some_and(|model| !model.candidates.is_empty() && may) {
                own(report, "one model");
            } else {
                // An exchange looks for it where it looks for models.
                report.refuse(Stage::Model, "route", refusal::no_such_model(&id), json!({}));
            }
        }
        (Ok(Route::Moderations), None) => own(report, "moderations, by the guard"),
        (Ok(Route::Options), None) => own(report, "what browsers ask before they ask"),
        (Ok(route), None) => {
            if *route == Route::Readiness && ask.world.is_draining() {
                report.would = Some((503, "be answered by the gateway with 503".to_owned()));
            }
            own(report, &format!("{route:?}").to_lowercase());
        }
    }
}

/// A request for a model's work.
async fn model<T: Turns>(ask: &Ask<'_>, catalog: &Catalog, task: Task, turns: &mut T, report: &mut Report) {
    let mut texts = Texts::default();
    let body = ask.body.unwrap_or_default();
    let view = match read(ask, task, &mut texts) {
        Ok(view) => view,
        Err(failure) => {
            let stage = match failure.kind {
                FailureKind::BodyTooLarge => Stage::Size,
                FailureKind::LengthRequired => Stage::Length,
                _ => Stage::Body,
            };
            return report.refuse(stage, "body", failure, json!({"bytes": body.len()}));
        }
    };
    let may = door::quota(ask, Some(&view), body.len(), report);
    let asks = json!({
        "model": view.model, "stream": view.stream, "bytes": body.len(), "messages": view.messages,
        "tokens_asked": view.output_max,
    });
    report.step("body", "ok", "it is what the path takes", asks);
    if !may {
        report.refuse(Stage::Forbidden, "model", refusal::model_forbidden(&view.model), json!({}));
        if ask.sight == Sight::Caller {
            return; // whether there is such a model is not the caller's to know
        }
    }
    let found = catalog.peek(&view.model, &ask.world.registry);
    let Some(deployment) = found else {
        if may {
            report.refuse(Stage::Model, "model", refusal::unknown_model(&view.model), json!({}));
        }
        return;
    };
    if may {
        model_step(ask, &view, &deployment, report);
    }
    if !deployment.serves(&ask.world.registry, task) && !deployment.has_fallbacks(&ask.world.config.fallbacks)
    {
        let failure = refusal::not_served(&deployment, task);
        return report.refuse(Stage::Model, "endpoint", failure, json!({"model": deployment.name}));
    }
    endpoint::explain(ask, catalog, task, (view, texts), &deployment, turns, report).await;
}

/// Reads the body as an exchange does.
fn read(ask: &Ask<'_>, task: Task, texts: &mut Texts) -> Result<View, Failure> {
    let server = &ask.world.config.server;
    let Some(body) = ask.body else { return Err(refusal::length_required()) };
    if body.len() as u64 > server.body_bytes_max.0 {
        return Err(refusal::too_large(server.body_bytes_max.0));
    }
    let mut scratch = Scratch::default();
    let texts = ask.world.guard.is_on().then_some(texts);
    let also = Also { texts, digest: ask.world.config.cache.is_on() };
    let view = View::read_with(&mut scratch, body, task, also).map_err(|error| refusal::body(&error))?;
    if view.messages > server.messages_max {
        return Err(refusal::too_many_messages(server.messages_max));
    }
    Ok(view)
}

fn model_step(ask: &Ask<'_>, view: &View, deployment: &Deployment, report: &mut Report) {
    let mut upstream: Vec<&str> =
        deployment.candidates.iter().map(|candidate| candidate.upstream_model.as_str()).collect();
    upstream.sort_unstable();
    upstream.dedup();
    let named = |name: &str| crate::config::normalized(name);
    let rules = &ask.world.config.models;
    let rule = rules.iter().find(|rule| named(&rule.name) == named(&deployment.name));
    let star = || {
        let fits =
            |name: &str| name.strip_suffix('*').is_some_and(|start| deployment.name.starts_with(start));
        let covers = rules.iter().filter(|rule| fits(&rule.name));
        covers.max_by_key(|rule| rule.name.len()).map_or("", |rule| rule.name.as_str())
    };
    let why = match rule {
        Some(_) if deployment.name == view.model => "exact name".to_owned(),
        Some(rule) => format!("another spelling of {}", rule.name),
        None => format!("matches {}", star()),
    };
    let result = format!("{} → {}", view.model, upstream.join(", "));
    report.step("model", result, &why, json!({"name": deployment.name}));
}

/// Limits of the exchange's phases, in milliseconds.
fn deadlines(ask: &Ask<'_>, view: &View, first: &Deployment, last: &Deployment, report: &mut Report) {
    let total = view.total(ask.timeout, first.timeouts.total);
    let why = if total < first.timeouts.total {
        "the request's own timeout is less than the model's"
    } else {
        "the model's"
    };
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let phases = json!({
        "connect_ms": ms(last.timeouts.connect),
        "first_byte_ms": ms(last.timeouts.first_byte),
        "idle_ms": ms(last.timeouts.idle),
        "total_ms": ms(total),
    });
    report.step("deadlines", format!("{total:?} in all"), why, phases);
}

fn word(task: Task) -> &'static str {
    match task {
        Task::Chat => "chat",
        Task::Completions => "completions",
        Task::Embeddings => "embeddings",
        Task::Responses => "responses",
        Task::Messages => "messages",
        Task::CountTokens => "count_tokens",
        Task::NativeChat => "native chat",
        Task::NativeGenerate => "native generate",
        Task::NativeEmbed => "native embed",
        Task::NativeEmbeddings => "native embeddings",
        Task::NativeShow => "native show",
        Task::Other => "another path with a model",
    }
}
