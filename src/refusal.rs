//! What a request is told that is not let through: the one place for these sentences, whoever tells them.
//!
//! Each is made of the decision that it speaks of. Shapes are [`crate::api::error`]'s.

use crate::api::{BodyError, Failure, FailureKind, Task};
use crate::catalog::Deployment;
use crate::config::guard::Language;
use crate::guard::window::Blocked;
use crate::guard::{self, message};
use crate::limit::key::Refused;
use crate::limit::quota::{Refusal, RefusalKind};
use crate::route::NoRoute;
use crate::usage::spend::OverBudget;

/// What a client that cannot be told to wait is told to wait, in milliseconds.
const RETRY_MS: u64 = 1000;

/// What `server.max_concurrent_requests` keeps out is told.
pub const AT_ITS_LIMIT: &str = "The gateway is at its limit of concurrent requests";

/// Large requests, or answers, take all the memory that they may. Status 503.
#[must_use]
pub fn too_many_large(what: &str) -> Failure {
    Failure::new(FailureKind::BufferFull, format!("The gateway holds too many large {what} now.")).after(1)
}

/// There is no such route.
#[must_use]
pub fn no_route(no: NoRoute) -> Failure {
    match no {
        NoRoute::Unknown => Failure::new(FailureKind::UnknownPath, "Not Found"),
        NoRoute::Forbidden => {
            Failure::new(FailureKind::Forbidden, "This path changes an endpoint; ask the endpoint itself.")
        }
        NoRoute::Method(allow) => {
            let mut failure = Failure::new(FailureKind::MethodNotAllowed, "Method Not Allowed");
            failure.allow = Some(allow);
            failure
        }
    }
}

/// The body of a request for a model's work is missing.
#[must_use]
pub fn length_required() -> Failure {
    Failure::new(FailureKind::LengthRequired, "A Content-Length is required.")
}

/// The body is larger than `bytes_max`.
#[must_use]
pub fn too_large(bytes_max: u64) -> Failure {
    let text = format!("The body of the message is larger than {bytes_max} bytes.");
    Failure::new(FailureKind::BodyTooLarge, text)
}

/// A zone is over its rate; `status` is `limits.reject_status`.
#[must_use]
pub fn rate(status: u16, zone: &str, retry_after_ms: u64) -> Failure {
    limited(
        status,
        &format!("Rate limit reached ({zone}). Try again in {retry_after_ms} ms."),
        retry_after_ms,
    )
}

/// So many exchanges of the client are running as may; `status` is `limits.reject_status`.
#[must_use]
pub fn concurrent(status: u16, limit: u32) -> Failure {
    let text = format!("Too many requests at once: {limit} of this client are running.");
    limited(status, &text, RETRY_MS)
}

fn limited(status: u16, text: &str, retry_after_ms: u64) -> Failure {
    Failure::new(FailureKind::RateLimited, text).with_status(status).after_ms(retry_after_ms)
}

/// No key opens.
#[must_use]
pub fn key(refused: Refused) -> Failure {
    let text = match refused {
        Refused::Unknown => "Incorrect API key provided. Send it as 'Authorization: Bearer KEY'.",
        Refused::Expired => "The API key has expired.",
    };
    Failure::new(FailureKind::Unauthorized, text)
}

/// The body is not what its path takes.
#[must_use]
pub fn body(error: &BodyError) -> Failure {
    Failure::new(FailureKind::BadRequest, error.to_string()).at(error.param())
}

/// A chat has more messages than `messages_max`.
#[must_use]
pub fn too_many_messages(messages_max: usize) -> Failure {
    let text = format!("'messages' has more than {messages_max} entries.");
    Failure::new(FailureKind::BadRequest, text).at("messages")
}

/// The caller may not use the model.
#[must_use]
pub fn model_forbidden(model: &str) -> Failure {
    let text = format!("The key is not allowed to use the model '{model}'.");
    Failure::new(FailureKind::ModelForbidden, text).at("model")
}

/// The caller's quota is used up.
#[must_use]
pub fn quota(refusal: &Refusal) -> Failure {
    let what = match refusal.kind {
        RefusalKind::Concurrent => "requests at once",
        RefusalKind::Requests => "requests per minute",
        RefusalKind::Tokens => "tokens per minute",
    };
    let Refusal { limit, retry_after_ms, .. } = refusal;
    let text =
        format!("Rate limit reached: the key may use {limit} {what}. Try again in {retry_after_ms} ms.");
    Failure::new(FailureKind::RateLimited, text).after_ms(*retry_after_ms)
}

/// The caller's budget, in USD, is spent.
#[must_use]
pub fn budget(over: &OverBudget, budget: f64) -> Failure {
    let text = format!("The budget of the key is spent: {:.4} of {budget} USD.", over.spent);
    let failure = Failure::new(FailureKind::BudgetSpent, text);
    over.next_ms.map_or(failure.clone(), |next_ms| failure.after_ms(next_ms))
}

/// There is no such model. The words before the name are LiteLLM's: clients look for them.
#[must_use]
pub fn unknown_model(model: &str) -> Failure {
    let text =
        format!("Invalid model name passed in model={model}. Call `/v1/models` to view available models.");
    Failure::new(FailureKind::UnknownModel, text).at("model")
}

/// There is no model of that name to be told of.
#[must_use]
pub fn no_such_model(id: &str) -> Failure {
    Failure::new(FailureKind::UnknownModel, format!("The model '{id}' does not exist")).at("model")
}

/// No endpoint has the model, or the path for it.
#[must_use]
pub fn not_served(deployment: &Deployment, task: Task) -> Failure {
    let path = task.upstream_path().unwrap_or("this path");
    let text = if deployment.candidates.is_empty() {
        format!("Invalid model name passed in model={}: no endpoint has it.", deployment.name)
    } else {
        format!("The endpoints of {} have no {path}; use /v1/chat/completions.", deployment.name)
    };
    Failure::new(FailureKind::ModelNotServed, text).at("model")
}

/// What is told where all slots of a model are taken.
#[must_use]
pub fn all_slots(model: &str) -> String {
    format!("All slots of the endpoints of {model} are taken")
}

/// No more may wait for what `text` says is taken; one more would have its turn after so many milliseconds.
#[must_use]
pub fn line_is_full(kind: FailureKind, text: &str, wait_ms: u64) -> Failure {
    Failure::new(kind, format!("{text}, and no more requests may wait.")).after(seconds(wait_ms))
}

/// It has waited too long for what `text` says is taken.
#[must_use]
pub fn waited_too_long(kind: FailureKind, text: &str, wait_ms: u64) -> Failure {
    Failure::new(kind, format!("{text}; none became free in time.")).after(seconds(wait_ms))
}

fn seconds(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX).clamp(1, 60)
}

/// No endpoint of the model can be asked; `why`: what the last one said.
#[must_use]
pub fn nothing_healthy(model: &str, why: Option<&Failure>) -> Failure {
    let why = why.map(|failure| format!(": {}", failure.message)).unwrap_or_default();
    let text = format!("No healthy backends for model {model}{why}");
    Failure::new(FailureKind::NothingHealthy, text).after(1)
}

/// The guard does not let a request pass, or an answer if `output`.
#[must_use]
pub fn blocked(blocked: &Blocked, language: Language, output: bool) -> Failure {
    let reasons = match blocked {
        Blocked::Found(findings) => guard::reasons(findings),
        Blocked::Failed(name) => vec![(name.name(), "failed")],
        Blocked::Overflow => vec![(guard::WINDOW, "too much text is held back")],
    };
    let names: Vec<&str> = reasons.iter().map(|(name, _)| *name).collect();
    let kind = if output { FailureKind::ResponseBlocked } else { FailureKind::PromptBlocked };
    let mut failure = Failure::new(kind, message::blocked(language, output, &reasons));
    failure.scanners = Some(names.join(","));
    failure
}
