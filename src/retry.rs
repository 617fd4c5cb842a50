//! What follows a failed attempt: another endpoint, the same one after a while, another model, or the end.
//!
//! Only what may help is tried: never what is the client's fault, never the same endpoint while another is left, and the same
//! one only after `backoff`, doubled each time, and only for failures that may pass (5xx, broken answers). A request that has
//! twice taken its endpoint's connection down with it is not tried again: it may be what kills them. Nothing here knows
//! the time, the network, or whether a retry is within the budget: those are asked for.

use crate::api::error::Retry as Class;
use crate::api::{Failure, FailureKind};
use crate::breaker::Reason;
use crate::config;

/// Endpoints that a request may take down with it.
const DEATHS_MAX: u32 = 2;

/// What a failed attempt says of its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Nothing: the fault is the client's, or ours.
    Nobody,
    /// The endpoint fails.
    Endpoint(Reason),
    /// The endpoint does not serve this model now, for so long if it said so, in milliseconds.
    Model(Reason, Option<u64>),
}

/// Whom a failure is to be blamed on.
#[must_use]
pub fn blame(failure: &Failure) -> Blame {
    match failure.kind {
        FailureKind::ConnectFailed => Blame::Endpoint(Reason::Unreachable),
        FailureKind::UpstreamBroken | FailureKind::UpstreamDied => Blame::Endpoint(Reason::Answers),
        FailureKind::UpstreamTimeout => Blame::Endpoint(Reason::Timeout),
        FailureKind::UpstreamStatus => match failure.status {
            404 if failure.says_model_is_missing() => Blame::Model(Reason::Missing, None),
            429 | 503 | 529 => {
                Blame::Model(Reason::Busy, failure.retry_after_s.map(|seconds| u64::from(seconds) * 1000))
            }
            501 => Blame::Nobody,
            500.. => Blame::Endpoint(Reason::Answers),
            _ => Blame::Nobody,
        },
        _ => Blame::Nobody,
    }
}

/// What is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another endpoint.
    Another,
    /// Any of them again, after so many milliseconds.
    After(u64),
    /// Nothing: the last failure is told.
    Over,
}

/// One request's attempts on one model.
#[derive(Debug)]
pub struct Plan {
    attempts: u32,
    on_timeout: bool,
    backoff_ms: u64,
    made: u32,
    deaths: u32,
    /// Candidates asked since the last wait.
    tried: Vec<usize>,
    /// No endpoint could be connected to.
    unreachable: bool,
    last: Option<Failure>,
}

impl Plan {
    /// Nothing tried yet.
    #[must_use]
    pub fn new(retry: &config::Retry) -> Self {
        Self {
            attempts: retry.attempts,
            on_timeout: retry.on_timeout,
            backoff_ms: u64::try_from(retry.backoff.as_millis()).unwrap_or(u64::MAX),
            made: 0,
            deaths: 0,
            tried: Vec::new(),
            unreachable: true,
            last: None,
        }
    }

    /// Candidates that are not asked again while another is left.
    #[must_use]
    pub fn tried(&self) -> &[usize] {
        &self.tried
    }

    /// The last failure, and whether no endpoint could even be connected to.
    #[must_use]
    pub fn outcome(self) -> (Option<Failure>, bool) {
        (self.last, self.unreachable)
    }

    /// A warm connection has died with the request, and no other was to be had.
    pub fn died(&mut self) {
        self.deaths += 1;
    }

    /// The attempt on candidate `at` has failed. `is_left`: whether another is left that `tried` does not name; `may_retry` takes
    /// one retry from the budget, and is asked only if it would be used; an attempt that could not even connect needs none.
    pub fn failed(
        &mut self,
        at: usize,
        failure: Failure,
        is_left: impl FnOnce(&[usize]) -> bool,
        may_retry: impl FnOnce() -> bool,
    ) -> Next {
        self.made += 1;
        self.tried.push(at);
        self.deaths += u32::from(failure.kind == FailureKind::UpstreamDied);
        self.unreachable &= failure.kind == FailureKind::ConnectFailed;
        let timed_out = failure.kind == FailureKind::UpstreamTimeout;
        let arrived = failure.kind != FailureKind::ConnectFailed;
        let helps = failure.retry == Class::OtherEndpoint && (self.on_timeout || !timed_out);
        let passes = failure.status >= 500 && !timed_out && arrived;
        let poisons = self.deaths >= DEATHS_MAX;
        // Nor is it another model's turn to be taken down.
        self.last = Some(if poisons { failure.with_retry(Class::Never) } else { failure });
        if !helps || self.made >= self.attempts || poisons {
            return Next::Over;
        }
        if is_left(&self.tried) {
            // What has not arrived has cost no endpoint any work: going on to another adds none.
            return if !arrived || may_retry() { Next::Another } else { Next::Over };
        }
        if !passes || !may_retry() {
            return Next::Over;
        }
        self.tried.clear();
        Next::After(self.backoff_ms.saturating_mul(1 << (self.made - 1).min(6)))
    }
}

/// Whether another model may do better. What the client got wrong, and what the guard has judged, stays as it is.
#[must_use]
pub fn falls_back(failure: &Failure) -> bool {
    match failure.kind {
        FailureKind::UpstreamBroken | FailureKind::UpstreamDied => failure.retry != Class::Never,
        FailureKind::ConnectFailed
        | FailureKind::UpstreamTimeout
        | FailureKind::NothingHealthy
        | FailureKind::ModelNotServed
        | FailureKind::SlotsTaken => true,
        FailureKind::UpstreamStatus => matches!(failure.status, 401 | 403 | 404 | 408 | 429 | 500..),
        _ => false,
    }
}

/// Models that are asked one after the other: depth first, none twice, so many at most.
#[derive(Debug)]
pub struct Fallbacks {
    waiting: Vec<String>,
    seen: Vec<String>,
    left: u32,
}

impl Fallbacks {
    /// For a request that asked for `model`.
    #[must_use]
    pub fn new(model: &str, models_max: u32) -> Self {
        Self { waiting: Vec::new(), seen: vec![config::normalized(model)], left: models_max }
    }

    /// The model to ask after one has failed whose own fallbacks are `own`.
    pub fn next(&mut self, own: &[String]) -> Option<String> {
        self.waiting.extend(own.iter().rev().cloned());
        while self.left > 0 {
            let model = self.waiting.pop()?;
            let name = config::normalized(&model);
            if !self.seen.contains(&name) {
                self.seen.push(name);
                self.left -= 1;
                return Some(model);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
