//! Names of endpoints to addresses: the system's resolver, on a thread of its own because it blocks.

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Level;
use crate::registry::EndpointState;
use crate::world::World;

/// How long an address is used before it is looked up again.
const REFRESH: Duration = Duration::from_secs(30);
/// How soon a name that did not resolve is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Resolves the endpoints whose host is a name, for as long as the process lives. No thread if there is none.
pub fn start(world: &Arc<World>) {
    let named: Vec<_> = world.registry.iter().filter(|endpoint| is_name(endpoint)).cloned().collect();
    if named.is_empty() {
        return;
    }
    let log = Arc::clone(world);
    let spawned = std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
        loop {
            let failed = named.iter().filter(|endpoint| !resolve(endpoint, &log)).count();
            std::thread::park_timeout(if failed > 0 { AGAIN } else { REFRESH });
        }
    });
    if let Err(error) = spawned {
        world.log.write(Level::Error, format_args!("no thread for name resolution: {error}"));
    }
}

fn is_name(endpoint: &EndpointState) -> bool {
    endpoint.config.url.host.parse::<std::net::IpAddr>().is_err()
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
