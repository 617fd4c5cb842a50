//! `[fallbacks]`, `[retry]`, `[breaker]` and `[queue]`: what happens when an endpoint or a model fails.

use std::collections::HashSet;
use std::time::Duration;

use super::super::Retry;
use super::super::problem::quote;
use super::super::reader::{Table, Value};
use super::super::reliability::{Breaker, Fallbacks, Queue};
use super::super::units::time_text;
use super::models::{check_name, normalized};

/// Models that one list of fallbacks may name.
const FALLBACKS_MAX: usize = 100;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Shortest time for which a breaker stays open, and shortest time between two heartbeats.
const SHORT: Duration = Duration::from_millis(100);
/// Longest time for which a breaker stays open at first.
const OPEN_MAX: Duration = Duration::from_secs(10 * 60);

pub(super) fn read_fallbacks(table: &mut Table<'_>) -> Fallbacks {
    Fallbacks {
        default: table.take("default").map(read_names).unwrap_or_default(),
        models_max: table.integer("models_max", 0, 20, Fallbacks::default().models_max),
    }
}

/// A list of models that are asked in place of another, in the file's order. A name that is served under no policy
/// is no mistake here: `fallbacks` warns of it.
pub(super) fn read_names(value: Value<'_>) -> Vec<String> {
    let items = value.items().unwrap_or_default();
    if items.len() > FALLBACKS_MAX {
        value.wrong(format!("{} fallbacks", items.len()), format!("at most {FALLBACKS_MAX}"));
        return Vec::new();
    }
    let mut names = Vec::with_capacity(items.len());
    let mut seen = HashSet::with_capacity(items.len());
    for item in items {
        let Some(name) = item.text() else { continue };
        if check_name(&item, name) && name.ends_with('*') {
            item.wrong(format!("{} is not one model", quote(name)), "write a whole name, without `*`");
        } else if !seen.insert(folded(name)) {
            item.wrong(format!("{} is listed twice", quote(name)), "remove one of them");
        }
        names.push(name.to_owned());
    }
    names
}

/// A model's name as it is compared, without `ollama/`: a name is found with and without it.
pub(super) fn folded(name: &str) -> String {
    let lower = normalized(name);
    lower.strip_prefix("ollama/").map(str::to_owned).unwrap_or(lower)
}

pub(super) fn read_retry(table: &mut Table<'_>) -> Retry {
    let default = Retry::default();
    Retry {
        attempts: table.integer("attempts", 1, 100, default.attempts),
        on_timeout: table.flag("on_timeout", default.on_timeout),
        backoff: table.time("backoff", Duration::ZERO, default.backoff),
        budget_percent: table.integer("budget_percent", 0, 1000, default.budget_percent),
        budget_min: table.integer("budget_min", 0, 100_000, default.budget_min),
    }
}

pub(super) fn read_breaker(table: &mut Table<'_>) -> Breaker {
    let default = Breaker::default();
    let open = table.time_within("open", SHORT, OPEN_MAX, default.open);
    Breaker {
        enabled: table.flag("enabled", default.enabled),
        failures: table.integer("failures", 1, 1000, default.failures),
        share_percent: table.integer("share_percent", 1, 100, default.share_percent),
        requests_min: table.integer("requests_min", 1, 100_000, default.requests_min),
        window: table.time_within("window", SECOND, HOUR, default.window),
        open,
        open_max: table.time_within("open_max", open, DAY, default.open_max.max(open)),
        retry_after_max: table.time("retry_after_max", Duration::ZERO, default.retry_after_max),
        missing: table.time("missing", Duration::ZERO, default.missing),
    }
}

pub(super) fn read_queue(table: &mut Table<'_>) -> Queue {
    let default = Queue::default();
    Queue {
        max: table.integer("max", 0, 1_000_000, default.max),
        timeout: table.time("timeout", MS, default.timeout),
        heartbeat: table.take("heartbeat").map_or(default.heartbeat, |value| read_heartbeat(&value)),
    }
}

/// A time, or zero for none.
fn read_heartbeat(value: &Value<'_>) -> Option<Duration> {
    let time = value.time(Duration::ZERO).filter(|time| !time.is_zero())?;
    if time < SHORT {
        let range = format!("0s for none, or from {} to {}", time_text(SHORT), time_text(DAY));
        value.wrong(format!("{} is out of range", quote(&time_text(time))), range);
    }
    Some(time)
}
