//! Names of endpoints and of the collector to addresses: the system's resolver, on a thread of its own because it blocks.

use std::collections::HashMap;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Level;
use crate::net::clock;
use crate::registry::EndpointState;
use crate::world::{Collector, Current, World};

/// How long an address is used before it is looked up again.
const REFRESH: Duration = Duration::from_secs(30);
/// How soon a name that did not resolve, or is new, is tried.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether an endpoint of `world`, or its collector, has a name that must be resolved.
pub fn is_needed(world: &World) -> bool {
    world.registry.iter().any(|endpoint| is_name(endpoint))
        || world.collector.as_ref().is_some_and(Collector::is_name)
}

/// Resolves the endpoints whose host is a name, for as long as the process lives.
pub fn start(current: &Arc<Current>) {
    let here = Arc::clone(current);
    let spawned = std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
        // When each name was resolved last, by endpoint.
        let mut resolved: HashMap<String, u64> = HashMap::new();
        let mut collector_ns = None;
        loop {
            let world = here.world();
            resolved.retain(|name, _| world.endpoint(name).is_some());
            for endpoint in world.registry.iter().filter(|endpoint| is_name(endpoint)) {
                let name = &endpoint.config.name;
                let age_ns = resolved.get(name).map(|at_ns| clock::now_ns().saturating_sub(*at_ns));
                let fresh = age_ns.is_some_and(|age_ns| u128::from(age_ns) < REFRESH.as_nanos());
                // A host that was changed has no address yet.
                if (!fresh || endpoint.address(0).is_none()) && resolve(endpoint, &world) {
                    resolved.insert(name.clone(), clock::now_ns());
                }
            }
            if let Some(collector) = world.collector.as_ref().filter(|collector| collector.is_name()) {
                let fresh = collector_ns.is_some_and(|at_ns| age_ns(at_ns) < REFRESH.as_nanos());
                if (!fresh || collector.address(0).is_none()) && resolve_collector(collector, &world) {
                    collector_ns = Some(clock::now_ns());
                }
            }
            drop(world);
            std::thread::park_timeout(AGAIN);
        }
    });
    if let Err(error) = spawned {
        let world = current.world();
        world.log.write(Level::Error, format_args!("no thread for name resolution: {error}"));
    }
}

fn is_name(endpoint: &EndpointState) -> bool {
    endpoint.config.url.host.parse::<std::net::IpAddr>().is_err()
}

fn age_ns(at_ns: u64) -> u128 {
    clock::now_ns().saturating_sub(at_ns).into()
}

/// As [`resolve`].
fn resolve_collector(collector: &Collector, world: &World) -> bool {
    let url = &collector.url;
    match (url.host.as_str(), url.port).to_socket_addrs() {
        Ok(addresses) => {
            collector.set_addresses(addresses.collect());
            true
        }
        Err(error) => {
            let text = format_args!("tracing: {} does not resolve: {error}", url.host);
            world.log.write(Level::Warn, text);
            false
        }
    }
}

/// Keeps the old addresses when the resolver fails.
fn resolve(endpoint: &EndpointState, world: &World) -> bool {
    let url = &endpoint.config.url;
    match (url.host.as_str(), url.port).to_socket_addrs() {
        Ok(addresses) => {
            endpoint.set_addresses(addresses.collect());
            true
        }
        Err(error) => {
            world.log.write(
                Level::Warn,
                format_args!("endpoint {}: {} does not resolve: {error}", endpoint.config.name, url.host),
            );
            false
        }
    }
}
