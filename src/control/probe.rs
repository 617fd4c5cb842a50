//! Active probes: one task an endpoint, never a completion.
//!
//! A probe asks for the list of models, which also says what the endpoint serves. The first one runs at once; then
//! every interval, spread so that endpoints are not asked in the same moment.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use super::Control;
use crate::config::{Kind, Level, Secret};
use crate::net::{clock, fetch, task};
use crate::registry::{EndpointState, Facts};
use crate::shard::head::micros;
use crate::world::World;

/// Largest answer to a probe.
const PROBE_BYTES_MAX: usize = 8 << 20;
/// Models taken from one endpoint.
const MODELS_MAX: usize = 1000;
/// How soon an endpoint that failed its first probe, or whose name is not resolved yet, is asked again; and how often is
/// looked whether an endpoint is still wanted.
const LOOK: Duration = Duration::from_millis(250);

/// Endpoints that are looked after, by name.
pub type Watched = RefCell<HashSet<String>>;

/// Starts a task for each endpoint of `world` that has none yet.
pub fn start(control: &Rc<Control>, world: &World) {
    for endpoint in &world.registry {
        let name = &endpoint.config.name;
        if control.watched.borrow_mut().insert(name.clone()) {
            task::spawn(&control.tasks, watch(Rc::clone(control), name.clone()));
        }
    }
}

/// Probes one endpoint for as long as the configuration has it, by the newest settings.
async fn watch(control: Rc<Control>, name: String) {
    let (mut eager, mut due_us) = (3, 0);
    loop {
        let world = control.world();
        let Some(endpoint) = world.endpoint(&name) else { break };
        let health = &world.config.health;
        // A server that was put in another's place is unknown, and not made to wait.
        let wanted = control.clock.now_us() >= due_us || (eager == 0 && !endpoint.health().is_observed());
        let wanted_at_all = health.enabled;
        if wanted_at_all && wanted {
            let up = one(&control, &world, endpoint).await;
            // A start in the same second as the endpoint's own should not wait for a whole interval.
            eager = if up { 0 } else { eager - i32::from(eager > 0) };
            let wait = if eager > 0 { LOOK.min(health.interval) } else { health.interval };
            due_us = control.clock.now_us() + micros(wait);
        }
        drop(world);
        let left = if wanted_at_all { due_us.saturating_sub(control.clock.now_us()) } else { u64::MAX };
        clock::sleep(LOOK.min(Duration::from_micros(left))).await;
    }
    control.watched.borrow_mut().remove(&name);
}

/// Probes once and notes what was found.
async fn one(control: &Control, world: &World, endpoint: &EndpointState) -> bool {
    let timeout = world.config.health.timeout;
    let result = match within(timeout, ask(world, endpoint)).await {
        Some(result) => result,
        None => Err(format!("no answer within {timeout:?}")),
    };
    let success = result.is_ok();
    let (before, after) = endpoint.observe(success, world.thresholds());
    let name = &endpoint.config.name;
    match result {
        Ok(facts) => {
            endpoint.set_last_error(None);
            if !before.is_up() && after.is_up() {
                world.log.write(Level::Info, format_args!("endpoint {name} is healthy again"));
            }
            if endpoint.set_facts(facts) {
                control.world().rebuild_catalog(); // another one may have come since the probe began
            }
        }
        Err(why) => {
            let level = if before.is_up() && !after.is_up() { Level::Warn } else { Level::Debug };
            let state = if after.is_up() { "failed a probe" } else { "is unhealthy" };
            world.log.write(level, format_args!("endpoint {name} {state}: {why}"));
            endpoint.set_last_error(Some(why));
        }
    }
    success
}

async fn ask(world: &World, endpoint: &EndpointState) -> Result<Facts, String> {
    let health = &world.config.health;
    let ollama = endpoint.config.kind == Kind::Ollama;
    let (path, field) = if ollama { ("/api/tags", "models") } else { ("/v1/models", "data") };
    let path = health.path.as_deref().unwrap_or(path);
    let field = health.expect_field.as_deref().unwrap_or(field);
    let value = get(endpoint, path).await?;
    let Some(list) = value.get(field) else { return Err(format!("{path} has no field '{field}'")) };
    let entries = list.as_array().map_or(&[][..], Vec::as_slice);
    let key = if ollama { "name" } else { "id" };
    let named: Vec<_> = entries
        .iter()
        .filter_map(|entry| Some((entry.get(key)?.as_str()?, entry)))
        .take(MODELS_MAX)
        .collect();
    let models = named.iter().map(|(name, _)| (*name).to_owned()).collect();
    let tags = if ollama { named.iter().map(|(_, entry)| entry.to_string()).collect() } else { Vec::new() };
    let version = if ollama { get(endpoint, "/api/version").await.ok() } else { None };
    let version = version.and_then(|value| Some(value.get("version")?.as_str()?.to_owned()));
    Ok(Facts { models, tags, version })
}

async fn get(endpoint: &EndpointState, path: &str) -> Result<Value, String> {
    let address = endpoint.address(0).ok_or("the name has not been resolved")?;
    let path = format!("{}{path}", endpoint.config.url.path);
    let key = endpoint.config.api_key.as_ref().map(Secret::expose);
    let connector = endpoint.connector.as_ref();
    let target = fetch::Target { address, connector, authority: &endpoint.authority, path: &path, key };
    let (status, body) = fetch::get(target, PROBE_BYTES_MAX).await.map_err(|error| error.to_string())?;
    if status != 200 {
        return Err(format!("{path} answered {status}"));
    }
    serde_json::from_slice(&body).map_err(|_| format!("{path} answered something that is not JSON"))
}

/// Gives up after `limit`; what is dropped takes its socket with it.
pub(super) async fn within<F: Future>(limit: Duration, op: F) -> Option<F::Output> {
    let (mut op, mut limit) = (std::pin::pin!(op), std::pin::pin!(clock::sleep(limit)));
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(output) = op.as_mut().poll(cx) {
            return std::task::Poll::Ready(Some(output));
        }
        limit.as_mut().poll(cx).map(|()| None)
    })
    .await
}
