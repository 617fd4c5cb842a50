//! `/status`: the gateway's own state as JSON, for people and scripts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::breaker::Breaker;
use crate::catalog::Candidate;
use crate::explain;
use crate::health::Word;
use crate::net::clock;
use crate::world::World;

/// The whole status. Holds no secret: only names, counts and states.
#[must_use]
pub fn status(world: &World) -> Value {
    let (catalog, generation) = world.catalog();
    let endpoints: Vec<_> = world
        .registry
        .iter()
        .map(|endpoint| {
            json!({
                "name": endpoint.config.name,
                "url": endpoint.config.url.to_string(),
                "kind": endpoint.config.kind,
                "health": word(endpoint.health()),
                "disabled": endpoint.disabled(),
                "in_flight": endpoint.in_flight(),
                "in_flight_elsewhere": endpoint.places().elsewhere(),
                "slots": endpoint.config.slots,
                "breaker": breaker(endpoint.breaker()),
                "models": endpoint.facts().map(|facts| facts.models.clone()),
                "last_error": endpoint.last_error().map(|error| error.to_string()),
            })
        })
        .collect();
    let shards: Vec<_> = world
        .shards
        .iter()
        .enumerate()
        .map(|(index, shard)| {
            json!({
                "shard": index,
                "driver": shard.driver.get().copied().unwrap_or("starting"),
                "connections": shard.metrics.connections.get(),
                "exchanges": shard.metrics.exchanges.get(),
                "streams": shard.metrics.streams.get(),
                "tasks": shard.metrics.tasks.get(),
                "panics": shard.metrics.panics.get(),
            })
        })
        .collect();
    let models: Vec<_> = catalog
        .listed
        .iter()
        .map(|model| {
            let name = |candidate: &Candidate| world.registry[candidate.endpoint].config.name.clone();
            let names: Vec<_> = model.candidates.iter().map(name).collect();
            let open = model.candidates.iter().filter(|candidate| !candidate.breaker.is_closed());
            let resting: Map<_, _> =
                open.map(|candidate| (name(candidate), breaker(&candidate.breaker))).collect();
            json!({"name": model.name, "endpoints": names, "breakers": resting})
        })
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": SystemTime::now().duration_since(world.started).unwrap_or_default().as_secs(),
        "draining": world.is_draining(),
        "generation": world.number,
        "catalog_generation": generation,
        "listen": world.bound.listening,
        "exchanges": world.running.taken(),
        "waiting": world.hall.waiting(),
        "buffered_bytes": world.buffered(),
        "log_lines_dropped": world.log.dropped(),
        "journal": journal(world),
        "cache": cache(world),
        "redis": redis(world),
        "fleet": fleet(world),
        "endpoints": endpoints,
        "shards": shards,
        "models": models,
    })
}

/// What the cache holds; `null`: there is none.
fn cache(world: &World) -> Value {
    let Some(answers) = &world.answers else { return Value::Null };
    let (kept, bytes) = answers.memory.as_ref().map_or((0, 0), |memory| memory.size());
    json!({
        "store": world.config.cache.store,
        "answers": kept,
        "bytes": bytes,
        "bytes_max": world.config.cache.memory_bytes_max.0,
        "flights": answers.flights.count(),
    })
}

/// What is known of other gateways; `null`: nothing is shared.
fn fleet(world: &World) -> Value {
    if !world.config.fleet.enabled {
        return Value::Null;
    }
    json!({
        "id": world.fleet.id,
        "others": world.fleet.others.load(Ordering::Relaxed),
        "alone": world.fleet.is_alone.load(Ordering::Relaxed),
    })
}

/// How the shards stand with Redis; `null`: there is none.
fn redis(world: &World) -> Value {
    let Some(settings) = &world.config.redis else { return Value::Null };
    let shards = || world.shards.iter().map(|shard| &shard.metrics.redis);
    json!({
        "url": settings.url(),
        "connected": shards().filter(|redis| redis.connected.get() > 0).count(),
        "breakers_open": shards().filter(|redis| redis.open.get() > 0).count(),
        "timeouts": shards().map(|redis| redis.timeouts.get()).sum::<u64>(),
    })
}

/// Health in a word.
#[must_use]
pub fn word(health: Word) -> &'static str {
    match (health.is_observed(), health.is_up()) {
        (false, _) => "unknown",
        (true, true) => "healthy",
        (true, false) => "unhealthy",
    }
}

/// The journal's numbers; `null`: access lines go to no file.
fn journal(world: &World) -> Option<Value> {
    let queue = world.log.journal()?;
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    Some(json!({
        "writer": queue.counts.writer().name(),
        "lines": read(&queue.counts.lines),
        "waiting": queue.waiting(),
        "dropped": read(&queue.counts.dropped),
        "segments_closed": read(&queue.counts.segments),
        "errors": read(&queue.counts.errors),
    }))
}

/// A breaker as people read it; the time of its next trial in milliseconds from now.
#[must_use]
pub fn breaker(breaker: &Breaker) -> Value {
    explain::breaker(breaker, clock::now_ms())
}
