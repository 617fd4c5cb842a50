//! One configuration as it is served: what was made of it, the endpoints under it, and the catalog. A reload makes a new
//! world beside the old one; what runs goes on with the world it began with, and both count on the same [`Process`].

pub mod collector;
pub mod errand;
pub mod process;

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::cache::Answers;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::guard::Guard;
use crate::guard::mask::Masker;
use crate::health::Thresholds;
use crate::limit::Limiter;
use crate::limit::key::Keyring;
use crate::net::listener::Role;
use crate::net::tls::{Acceptor, Connector};
use crate::registry::EndpointState;

pub use collector::Collector;
pub use process::{Process, Reservation, Seat, ShardShared, Socket, Who};

/// The world that what comes next is served by.
pub struct Current {
    world: ArcSwap<World>,
    generation: AtomicU64,
}

impl Current {
    /// With the first world.
    #[must_use]
    pub fn new(world: World) -> Arc<Self> {
        Arc::new(Self { world: ArcSwap::from_pointee(world), generation: AtomicU64::new(1) })
    }

    /// The newest world.
    #[must_use]
    pub fn world(&self) -> Arc<World> {
        self.world.load_full()
    }

    /// Puts `world` in the place of the one before it.
    pub fn enter(&self, world: World) {
        self.world.store(Arc::new(world));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Grows with every world: shards compare before they load.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

/// Immutable but for the catalog, which follows the probes.
pub struct World {
    /// Counted from 1 by the worlds of a process.
    pub number: u64,
    /// What outlives it.
    pub process: Arc<Process>,
    /// As checked.
    pub config: Config,
    /// The endpoints, in the order of the configuration.
    pub registry: Vec<Arc<EndpointState>>,
    /// What is scanned, by profile.
    pub guard: Arc<Guard>,
    /// Rates and counts of clients.
    pub limiter: Limiter,
    /// Where the zones of the limiter are counted.
    pub zones: Vec<usize>,
    /// Who is told of spans; `None`: nobody.
    pub collector: Option<Collector>,
    /// Who may call.
    pub keyring: Keyring,
    /// Answers that are given again; `None`: none are.
    pub answers: Option<Arc<Answers>>,
    /// By the caller's slot: a sum of its secret.
    pub tenants: Vec<[u8; 32]>,
    /// Hides what bodies in the log must not show; `None`: they are not logged, or as they are.
    pub masker: Option<Arc<Masker>>,
    /// Lines of the access log are for people.
    pub log_is_text: bool,
    /// Makes sessions for the TLS listeners.
    pub tls: Option<Acceptor>,
    /// Makes sessions for Redis.
    pub redis: Option<Connector>,
    /// Where clients are listened to.
    pub bound: Bound,
    /// Where plain listeners send clients, if they do: a port.
    pub redirect_port: Option<u16>,
    catalog: ArcSwap<Catalog>,
    generation: AtomicU64,
}

impl Deref for World {
    type Target = Arc<Process>;

    fn deref(&self) -> &Arc<Process> {
        &self.process
    }
}

/// What was made of the configuration, with files read.
pub struct Made {
    /// What is scanned.
    pub guard: Arc<Guard>,
    /// Hides what bodies in the log must not show.
    pub masker: Option<Arc<Masker>>,
    /// Lines of the access log are for people.
    pub log_is_text: bool,
    /// Makes sessions for the TLS listeners.
    pub tls: Option<Acceptor>,
    /// Makes sessions for endpoints, by their index.
    pub connectors: Vec<Option<Connector>>,
    /// Makes sessions for the collector of spans.
    pub collector: Option<Connector>,
    /// Makes sessions for Redis.
    pub redis: Option<Connector>,
    /// Random; under it callers' keys are known.
    pub process_key: [u8; 32],
}

/// Sockets that are taken.
#[derive(Clone)]
pub struct Bound {
    /// Addresses of the plain data listeners.
    pub listening: Vec<SocketAddr>,
    /// Addresses of the TLS listeners.
    pub listening_tls: Vec<SocketAddr>,
    /// Address of the admin listener.
    pub admin: SocketAddr,
    /// By shard: what it accepts from.
    pub sockets: Vec<Vec<(Socket, Role)>>,
}

impl World {
    /// A world that nobody is served by yet; `old` is the one before it, whose endpoints, limits and callers go on as far
    /// as they are still there.
    #[must_use]
    pub fn new(process: &Arc<Process>, config: Config, made: Made, bound: Bound, old: Option<&Self>) -> Self {
        let Made { guard, masker, log_is_text, tls, connectors, collector, redis, process_key } = made;
        let redirect_port =
            config.server.tls.as_ref().filter(|tls| tls.redirect_http).and_then(|tls| {
                tls.redirect_port.or_else(|| bound.listening_tls.first().map(SocketAddr::port))
            });
        let endpoint = |(config, connector): (&crate::config::Endpoint, Option<Connector>)| {
            let known = old.and_then(|old| old.endpoint(&config.name));
            Arc::new(match known {
                Some(known) => known.renewed(config.clone(), connector, &process.bells),
                None => {
                    let slot = process.endpoints.of(&config.name);
                    EndpointState::new(config.clone(), slot, connector, &process.bells)
                }
            })
        };
        let connectors = connectors.into_iter().chain(std::iter::repeat_with(|| None));
        let registry: Vec<_> = config.endpoints.iter().zip(connectors).map(endpoint).collect();
        let before = old.map(|old| old.catalog.load_full()).unwrap_or_default();
        let catalog = Catalog::build(&config, &registry, &process.models, &before);
        Self {
            number: old.map_or(1, |old| old.number + 1),
            limiter: match old {
                Some(old) => old.limiter.renewed(&config.limits, &old.config.limits),
                None => Limiter::new(&config.limits),
            },
            collector: Collector::of(&config.tracing, collector, old),
            zones: config.limits.zones.iter().map(|zone| process.zones.of(&zone.name)).collect(),
            keyring: match old {
                Some(old) => old.keyring.renewed(&config.keys),
                None => Keyring::new(&config.keys, process_key),
            },
            answers: Answers::renewed(&config.cache, old.and_then(|old| old.answers.as_ref())),
            tenants: config.keys.iter().map(|key| key.secret.sum()).collect(),
            process: Arc::clone(process),
            config,
            registry,
            guard,
            masker,
            log_is_text,
            tls,
            redis,
            bound,
            redirect_port,
            catalog: ArcSwap::from_pointee(catalog),
            generation: AtomicU64::new(1),
        }
    }

    /// The catalog now, and its generation.
    #[must_use]
    pub fn catalog(&self) -> (Arc<Catalog>, u64) {
        let generation = self.catalog_generation();
        (self.catalog.load_full(), generation)
    }

    /// Grows with every new catalog: shards compare before they load.
    #[must_use]
    pub fn catalog_generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Builds the catalog anew from what probes have found. Called by the control core only.
    pub fn rebuild_catalog(&self) {
        let catalog = Catalog::build(&self.config, &self.registry, &self.models, &self.catalog.load());
        self.catalog.store(Arc::new(catalog));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The endpoint of that name.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> Option<&Arc<EndpointState>> {
        self.registry.iter().find(|endpoint| endpoint.config.name == name)
    }

    /// Thresholds of health marks.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        let health = &self.config.health;
        Thresholds { unhealthy: health.unhealthy_threshold, healthy: health.healthy_threshold }
    }
}
