//! What happens when an endpoint or a model fails: fallbacks, breakers, and the queue of those that wait for a slot.
//!
//! Invariants, besides those of [`super`]: no name of a fallback holds a `*`; `open_max` of a breaker is not below
//! `open`; a heartbeat that is on comes at most ten times a second. Whether a fallback can work is no invariant:
//! `check::load_with_warnings` tells of those that cannot.

use std::time::Duration;

use serde::Serialize;

/// `[fallbacks]`: models that are asked in place of one that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fallbacks {
    /// For models that name none themselves, in the order in which they are asked.
    pub default: Vec<String>,
    /// Models asked after the first one at most, 0 to 20; 0: no fallback is used.
    pub models_max: u32,
}

/// `[breaker]`: when an endpoint is left alone, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Breaker {
    /// Whether failures open it.
    pub enabled: bool,
    /// Failures in a row that open it, 1 to 1000.
    pub failures: u32,
    /// Percent of the attempts within `window` whose failure opens it, 1 to 100.
    pub share_percent: u32,
    /// Attempts within `window` before `share_percent` counts, 1 to 100000.
    pub requests_min: u32,
    /// Time over which attempts are counted.
    pub window: Duration,
    /// How long it stays open the first time; each failed trial doubles it.
    pub open: Duration,
    /// Longest time that it stays open so; not below `open`.
    pub open_max: Duration,
    /// Longest time for which an endpoint's `Retry-After` is obeyed; zero: not at all.
    pub retry_after_max: Duration,
    /// How long an endpoint is not asked for a model that it says it does not have; zero: it is asked again at once.
    pub missing: Duration,
}

/// `[queue]`: requests that wait for a slot of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Requests that wait at once; 0: nobody waits, a request without a slot is refused.
    pub max: usize,
    /// How long one of them waits at most.
    pub timeout: Duration,
    /// Time between two signs of life to a client that waits for a stream; `None`: there are none.
    pub heartbeat: Option<Duration>,
}
