//! Fallbacks, retries, breakers and the queue as the file would say them.

use std::time::Duration;

use super::{Page, list, quoted};
use crate::config::reliability::{Breaker, Fallbacks, Queue};
use crate::config::{Model, Retry, Timeouts, units};

/// What a model says of its own fallbacks and deadlines; `global` are the deadlines of those that say nothing.
pub(super) fn write_model(page: &mut Page, model: &Model, global: &Timeouts) {
    page.plain("fallbacks", list(model.fallbacks.iter()));
    page.plain("context_window_fallbacks", list(model.context_window_fallbacks.iter()));
    if model.timeouts == *global {
        page.note("timeouts are left out: as in [timeouts]");
        return;
    }
    let times =
        times(&model.timeouts).map(|(key, time)| format!("{key} = {}", quoted(units::time_text(time))));
    page.plain("timeouts", format_args!("{{ {} }}", times.join(", ")));
}

pub(super) fn write_timeouts(page: &mut Page, timeouts: &Timeouts) {
    page.header("[timeouts]");
    times(timeouts).into_iter().for_each(|(key, time)| page.time(key, time));
}

fn times(timeouts: &Timeouts) -> [(&'static str, Duration); 4] {
    [
        ("connect", timeouts.connect),
        ("first_byte", timeouts.first_byte),
        ("idle", timeouts.idle),
        ("total", timeouts.total),
    ]
}

pub(super) fn write_fallbacks(page: &mut Page, fallbacks: &Fallbacks) {
    page.header("[fallbacks]");
    page.plain("default", list(fallbacks.default.iter()));
    page.plain("models_max", fallbacks.models_max);
}

pub(super) fn write_retry(page: &mut Page, retry: &Retry) {
    page.header("[retry]");
    page.plain("attempts", retry.attempts);
    page.plain("on_timeout", retry.on_timeout);
    page.time("backoff", retry.backoff);
    page.plain("budget_percent", retry.budget_percent);
    page.plain("budget_min", retry.budget_min);
}

pub(super) fn write_breaker(page: &mut Page, breaker: &Breaker) {
    page.header("[breaker]");
    page.plain("enabled", breaker.enabled);
    page.plain("failures", breaker.failures);
    page.plain("share_percent", breaker.share_percent);
    page.plain("requests_min", breaker.requests_min);
    page.time("window", breaker.window);
    page.time("open", breaker.open);
    page.time("open_max", breaker.open_max);
    page.time("retry_after_max", breaker.retry_after_max);
    page.time("missing", breaker.missing);
}

pub(super) fn write_queue(page: &mut Page, queue: &Queue) {
    page.header("[queue]");
    page.plain("max", queue.max);
    page.time("timeout", queue.timeout);
    page.time("heartbeat", queue.heartbeat.unwrap_or_default());
}
