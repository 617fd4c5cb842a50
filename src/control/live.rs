//! What an operator looks at: one JSON document of the last seconds, for `/ui` and `corelane top`.
//!
//! Readings are taken only when somebody asks, at most one in 0.9 s; while nobody does, nothing is computed. Holds no
//! secret and no text of a client or an endpoint: names of the configuration, counts, states, request ids and our own
//! sentences; `last_error` is the probe's own. Bounds: those of [`window`], [`failures::RING`] failures, and
//! [`WATCHERS_MAX`] watchers.

mod gather;
mod window;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::status;
use crate::config::guard::ScannerName;
use crate::net::clock;
use crate::telemetry::failures::{self, Failed};
use crate::telemetry::histogram::Reading;
use crate::telemetry::metric::{STATUSES, VERDICTS};
use crate::world::World;

use window::{History, Sample, Window, at, places, real};

/// Streams of documents at once.
pub const WATCHERS_MAX: u32 = 32;
/// How old a document may be that is shown to another who asks.
const SHARED_MS: u64 = 250;

/// What was read before, and who watches. The control core's own.
#[derive(Default)]
pub struct Live {
    history: RefCell<History>,
    failures: RefCell<VecDeque<Failed>>,
    /// The last document, and when it was made.
    last: RefCell<Option<(u64, Rc<str>)>>,
    watchers: Cell<u32>,
}

/// The right to one stream of documents; given back on drop.
pub struct Watching<'a>(&'a Cell<u32>);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Live {
    /// One more watcher; `None`: there are as many as there may be.
    #[must_use]
    pub fn watch(&self) -> Option<Watching<'_>> {
        let watchers = self.watchers.get();
        (watchers < WATCHERS_MAX).then(|| {
            self.watchers.set(watchers + 1);
            Watching(&self.watchers)
        })
    }

    /// The document now, on one line.
    #[must_use]
    pub fn document(&self, world: &World) -> Rc<str> {
        let now_ms = clock::now_ms();
        if let Some((made_ms, text)) = &*self.last.borrow()
            && now_ms < made_ms + SHARED_MS
        {
            return Rc::clone(text);
        }
        self.look(world, now_ms);
        let history = self.history.borrow();
        let windows = history.window(window::RATE_MS).zip(history.window(window::WINDOW_MS));
        let value = windows.map_or(Value::Null, |(rates, minute)| self.write(world, rates, minute));
        let text: Rc<str> = value.to_string().into();
        *self.last.borrow_mut() = Some((now_ms, Rc::clone(&text)));
        text
    }

    /// Takes a reading if it is time, and the failures that have come.
    fn look(&self, world: &World, now_ms: u64) {
        let mut history = self.history.borrow_mut();
        if history.is_due(now_ms) || history.window(window::RATE_MS).is_none() {
            history.add(gather::sample(world, now_ms));
        }
        let mut kept = self.failures.borrow_mut();
        for failed in std::iter::from_fn(|| world.failures.take()).take(2 * failures::RING) {
            kept.push_front(failed);
        }
        kept.truncate(failures::RING);
    }

    fn write(&self, world: &World, rates: Window<'_>, minute: Window<'_>) -> Value {
        let mut value = head(world, rates, minute);
        let parts = [
            ("watchers", self.watchers.get().into()),
            ("shards", shards(world)),
            ("endpoints", endpoints(world, rates)),
            ("models", models(world, rates, minute)),
            ("guard", findings(world)),
            ("keys", keys(world)),
            ("failures", self.failures.borrow().iter().map(failure).collect()),
        ];
        for (name, part) in parts {
            value[name] = part;
        }
        value
    }
}

/// What concerns all of the gateway.
fn head(world: &World, rates: Window<'_>, minute: Window<'_>) -> Value {
    let sum = |pick: fn(&crate::world::ShardShared) -> u64| world.shards.iter().map(pick).sum::<u64>();
    let counted = STATUSES.iter().enumerate().map(|(at, status)| {
        let name = if *status == 0 { "other".to_owned() } else { status.to_string() };
        (name, minute.growth(|sample| sample.by_status[at]))
    });
    let statuses: Map<_, _> =
        counted.filter(|(_, count)| *count > 0).map(|(name, count)| (name, count.into())).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "time_ms": unix_ms(SystemTime::now()),
        "uptime_s": SystemTime::now().duration_since(world.started).unwrap_or_default().as_secs(),
        "generation": world.number,
        "draining": world.is_draining(),
        "rate_s": places(rates.seconds()),
        "window_s": places(minute.seconds()),
        "requests_s": rates.rate(Sample::requests),
        "errors_s": rates.rate(Sample::errors),
        "requests": minute.growth(Sample::requests),
        "errors": minute.growth(Sample::errors),
        "statuses": statuses,
        "latency_ms": percentiles(&minute.reading(|sample| &sample.duration)),
        "first_token_ms": percentiles(&minute.reading(|sample| &sample.first_token)),
        "overhead_ms": percentiles(&minute.reading(|sample| &sample.overhead)),
        "connections": sum(|shard| shard.metrics.connections.get()),
        "exchanges": sum(|shard| shard.metrics.exchanges.get()),
        "waiting": world.hall.waiting(),
        "buffered_bytes": world.buffered(),
        "log_lines_dropped": world.log.dropped(),
    })
}

/// Percentiles in milliseconds; `null` where nothing was recorded.
fn percentiles(reading: &Reading) -> Value {
    let of = |share| reading.quantile_us(share).map(|us| places(us / 1000.0));
    json!({"p50": of(0.5), "p95": of(0.95), "p99": of(0.99), "count": reading.total()})
}

fn shards(world: &World) -> Value {
    let shard = |(index, shard): (usize, &crate::world::ShardShared)| {
        json!({
            "shard": index,
            "driver": shard.driver.get().copied().unwrap_or("starting"),
            "exchanges": shard.metrics.exchanges.get(),
            "streams": shard.metrics.streams.get(),
            "connections": shard.metrics.connections.get(),
        })
    };
    world.shards.iter().enumerate().map(shard).collect()
}

fn endpoints(world: &World, rates: Window<'_>) -> Value {
    let endpoint = |endpoint: &std::sync::Arc<crate::registry::EndpointState>| {
        let rate = |which: usize| rates.rate(|sample| at(&sample.endpoints, endpoint.slot)[which]);
        json!({
            "name": endpoint.config.name,
            "url": endpoint.config.url.to_string(),
            "health": status::word(endpoint.health()),
            "breaker": status::breaker(endpoint.breaker()),
            "in_flight": endpoint.in_flight(),
            "slots": endpoint.config.slots,
            "disabled": endpoint.disabled(),
            "success_s": rate(0),
            "failure_s": rate(1),
            "last_error": endpoint.last_error().map(|error| error.to_string()),
        })
    };
    world.registry.iter().map(endpoint).collect()
}

/// The models of the catalog, and those that were asked for before.
fn models(world: &World, rates: Window<'_>, minute: Window<'_>) -> Value {
    let (catalog, _) = world.catalog();
    let names = world.models.names();
    let model = |(slot, name): (usize, &String)| {
        let listed = catalog.listed.iter().any(|deployment| deployment.slot == slot);
        let (input, output, cost) = gather::tokens(world, slot);
        let requests = minute.growth(|sample| at(&sample.models, slot)[0]);
        let errors = minute.growth(|sample| at(&sample.models, slot)[1]);
        let share = if requests == 0 { 0.0 } else { places(real(errors) / real(requests)) };
        let used = listed || requests > 0 || input + output > 0;
        used.then(|| {
            json!({
                "name": name,
                "requests_s": rates.rate(|sample| at(&sample.models, slot)[0]),
                "requests": requests,
                "error_share": share,
                "tokens_input": input,
                "tokens_output": output,
                "cost": cost,
            })
        })
    };
    names.iter().enumerate().filter_map(model).collect()
}

/// What the guard has found since the start, by direction and scanner; scanners that have read nothing are left out.
fn findings(world: &World) -> Value {
    let mut rows = Vec::new();
    for (at, direction) in ["input", "output"].into_iter().enumerate() {
        for scanner in ScannerName::ALL {
            let count = |verdict: usize| -> u64 {
                let guards = world.shards.iter().map(|shard| &shard.metrics.guard);
                guards.map(|guard| guard.verdicts[at][scanner as usize][verdict].get()).sum()
            };
            let counts: Vec<u64> = (0..VERDICTS.len()).map(count).collect();
            if counts.iter().any(|count| *count > 0) {
                let mut row = json!({"direction": direction, "scanner": scanner.name()});
                for (verdict, count) in VERDICTS.into_iter().zip(counts) {
                    row[verdict] = count.into();
                }
                rows.push(row);
            }
        }
    }
    Value::Array(rows)
}

/// Callers and what they have used, by the order of the configuration. Without a budget its members are `null`.
#[must_use]
pub fn keys(world: &World) -> Value {
    let now = std::time::SystemTime::now();
    let key = |caller: &std::sync::Arc<crate::limit::key::Caller>| {
        let spent = caller.spend.spent();
        let budget = Some(caller.budget).filter(|budget| *budget > 0.0);
        json!({
            "name": caller.name,
            "requests": spent.requests,
            "tokens_input": spent.input,
            "tokens_output": spent.output,
            "cost": spent.cost,
            "work_s": spent.work_s,
            "budget": budget,
            "budget_left": budget.map(|budget| budget - caller.spend.in_period(caller.budget_period, now)),
        })
    };
    world.keyring.callers().iter().map(key).collect()
}

fn failure(failed: &Failed) -> Value {
    json!({
        "time_ms": unix_ms(failed.at),
        "request_id": failed.request_id,
        "status": failed.status,
        "model": failed.model,
        "endpoint": failed.endpoint,
        "key": failed.key,
        "error": failed.error,
    })
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(0)
}
