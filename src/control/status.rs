//! `/status`: the gateway's own state as JSON, for people and scripts.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::world::World;

/// The whole status. Holds no secret: only names, counts and states.
#[must_use]
pub fn status(world: &World) -> Value {
    let (catalog, generation) = world.catalog();
    let endpoints: Vec<_> = world
        .registry
        .iter()
        .map(|endpoint| {
            let health = endpoint.health();
            json!({
                "name": endpoint.config.name,
                "url": endpoint.config.url.to_string(),
                "kind": endpoint.config.kind,
                "health": match (health.is_observed(), health.is_up()) {
                    (false, _) => "unknown",
                    (true, true) => "healthy",
                    (true, false) => "unhealthy",
                },
                "disabled": endpoint.disabled(),
                "in_flight": endpoint.in_flight(),
                "slots": endpoint.config.slots,
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
                "tasks": shard.metrics.tasks.get(),
                "panics": shard.metrics.panics.get(),
            })
        })
        .collect();
    let models: Vec<_> = catalog
        .listed
        .iter()
        .map(|model| {
            let names =
                model.candidates.iter().map(|candidate| &world.registry[candidate.endpoint].config.name);
            json!({"name": model.name, "endpoints": names.collect::<Vec<_>>()})
        })
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": SystemTime::now().duration_since(world.started).unwrap_or_default().as_secs(),
        "draining": world.is_draining(),
        "generation": generation,
        "listen": world.listening,
        "exchanges": world.exchanges(),
        "buffered_bytes": world.buffered(),
        "log_lines_dropped": world.log.dropped(),
        "endpoints": endpoints,
        "shards": shards,
        "models": models,
    })
}
