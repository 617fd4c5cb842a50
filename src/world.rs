//! What all threads share: the configuration, the endpoints, the catalog, and a few counters.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;

use crate::catalog::Catalog;
use crate::config::Config;
use crate::guard::Guard;
use crate::health::Thresholds;
use crate::limit::Limiter;
use crate::limit::key::Keyring;
use crate::net::handoff::Door;
use crate::net::tls::{Acceptor, Connector};
use crate::registry::EndpointState;
use crate::telemetry::log::Log;
use crate::telemetry::metric::{ShardMetrics, Slots};

/// Everything that is not owned by one thread. Lives as long as the process.
pub struct World {
    /// As checked at start.
    pub config: Config,
    /// The endpoints, in the order of the configuration.
    pub registry: Vec<Arc<EndpointState>>,
    /// Names that have metrics.
    pub slots: Slots,
    /// What is scanned, by profile.
    pub guard: Guard,
    /// Rates and counts of clients.
    pub limiter: Limiter,
    /// Who may call.
    pub keyring: Keyring,
    /// Per shard.
    pub shards: Vec<ShardShared>,
    /// Lines for people.
    pub log: Log,
    /// No new work is taken.
    pub draining: AtomicBool,
    /// When the process began to serve.
    pub started: SystemTime,
    /// Data listeners as bound.
    pub listening: Vec<SocketAddr>,
    /// TLS listeners as bound.
    pub listening_tls: Vec<SocketAddr>,
    /// Where plain listeners send clients, if they do: a port.
    pub redirect_port: Option<u16>,
    /// The admin listener as bound.
    pub admin: SocketAddr,
    /// Makes sessions for the TLS listeners.
    pub tls: Option<Acceptor>,
    /// Makes sessions for endpoints, by their index; `None`: plain.
    pub connectors: Vec<Option<Connector>>,
    catalog: ArcSwap<Catalog>,
    generation: AtomicU64,
    exchanges: CachePadded<AtomicUsize>,
    connections: CachePadded<AtomicUsize>,
    buffered: CachePadded<AtomicU64>,
}

/// What a shard shows to others.
pub struct ShardShared {
    /// Its numbers; only the shard writes.
    pub metrics: ShardMetrics,
    /// Where others hand sockets to it.
    pub door: Door,
    /// Its driver's name, once it runs.
    pub driver: std::sync::OnceLock<&'static str>,
}

/// What was made of the configuration, with files read.
pub struct Made {
    /// What is scanned.
    pub guard: Guard,
    /// Makes sessions for the TLS listeners.
    pub tls: Option<Acceptor>,
    /// Makes sessions for endpoints, by their index.
    pub connectors: Vec<Option<Connector>>,
    /// Random; under it callers' keys are known.
    pub process_key: [u8; 32],
}

/// Addresses that are taken.
pub struct Bound {
    /// Plain data listeners.
    pub listening: Vec<SocketAddr>,
    /// TLS listeners.
    pub listening_tls: Vec<SocketAddr>,
    /// The admin listener.
    pub admin: SocketAddr,
}

impl World {
    /// A world of `shards` shards that has not begun to serve.
    #[must_use]
    pub fn new(config: Config, made: Made, shards: usize, bound: Bound) -> Self {
        let (Made { guard, tls, connectors, process_key }, Bound { listening, listening_tls, admin }) =
            (made, bound);
        let redirect_port = config
            .server
            .tls
            .as_ref()
            .filter(|tls| tls.redirect_http)
            .and_then(|tls| tls.redirect_port.or_else(|| listening_tls.first().map(SocketAddr::port)));
        let registry: Vec<_> =
            config.endpoints.iter().map(|e| Arc::new(EndpointState::new(e.clone()))).collect();
        let slots = Slots::default();
        let catalog = Catalog::build(&config, &registry, &slots, &Catalog::default());
        let shared = || ShardShared {
            metrics: ShardMetrics::new(registry.len(), config.limits.zones.len()),
            door: Door::default(),
            driver: std::sync::OnceLock::new(),
        };
        Self {
            shards: (0..shards).map(|_| shared()).collect(),
            limiter: Limiter::new(&config.limits),
            keyring: Keyring::new(&config.keys, process_key),
            log: Log::new(config.log.level, &config.log.access),
            config,
            registry,
            slots,
            guard,
            draining: AtomicBool::new(false),
            started: SystemTime::now(),
            listening,
            listening_tls,
            redirect_port,
            admin,
            tls,
            connectors,
            catalog: ArcSwap::from_pointee(catalog),
            generation: AtomicU64::new(1),
            exchanges: CachePadded::default(),
            connections: CachePadded::default(),
            buffered: CachePadded::default(),
        }
    }

    /// The catalog now, and its generation.
    #[must_use]
    pub fn catalog(&self) -> (Arc<Catalog>, u64) {
        let generation = self.generation();
        (self.catalog.load_full(), generation)
    }

    /// Grows with every new catalog: shards compare before they load.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Builds the catalog anew from what probes have found. Called by the control core only.
    pub fn rebuild_catalog(&self) {
        let catalog = Catalog::build(&self.config, &self.registry, &self.slots, &self.catalog.load());
        self.catalog.store(Arc::new(catalog));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Makes sessions for `endpoint`; `None`: it is asked plainly.
    #[must_use]
    pub fn connector(&self, endpoint: &EndpointState) -> Option<&Connector> {
        let at = self.registry.iter().position(|one| one.config.name == endpoint.config.name)?;
        self.connectors.get(at)?.as_ref()
    }

    /// Reads the certificates of the TLS listeners again; connections go on with what they began with.
    ///
    /// # Errors
    /// What is wrong with the files: nothing has changed then.
    pub fn reload_certificates(&self) -> Result<(), String> {
        let (Some(acceptor), Some(tls)) = (&self.tls, &self.config.server.tls) else {
            return Err("there is no [server.tls]; other settings need a restart in this version".to_owned());
        };
        acceptor.reload(tls).map_err(|unfit| {
            let lines = unfit.into_iter().map(|unfit| format!("{}: {}", unfit.path, unfit.message));
            lines.collect::<Vec<_>>().join("; ")
        })
    }

    /// Thresholds of health marks.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        let health = &self.config.health;
        Thresholds { unhealthy: health.unhealthy_threshold, healthy: health.healthy_threshold }
    }

    /// Whether no new work is taken.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Exchanges of all shards that hold a permit.
    #[must_use]
    pub fn exchanges(&self) -> usize {
        self.exchanges.load(Ordering::Relaxed)
    }

    /// Bytes that large bodies and answers hold.
    #[must_use]
    pub fn buffered(&self) -> u64 {
        self.buffered.load(Ordering::Relaxed)
    }

    /// Takes one of `max_concurrent_requests`; `None`: all are taken.
    #[must_use]
    pub fn permit(self: &Arc<Self>) -> Option<Permit> {
        let before = self.exchanges.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(Arc::clone(self));
        (before < self.config.server.max_concurrent_requests).then_some(permit)
    }

    /// Takes one of `max_connections`; `None`: all are taken.
    #[must_use]
    pub fn seat(self: &Arc<Self>) -> Option<Seat> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(self));
        (before < self.config.server.max_connections).then_some(seat)
    }

    /// A reservation of no bytes yet.
    #[must_use]
    pub fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation { world: Arc::clone(self), bytes: 0 }
    }
}

/// One running exchange; released on drop.
pub struct Permit(Arc<World>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.exchanges.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One client connection; released on drop.
pub struct Seat(Arc<World>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes below which a buffer is not counted: its owner is bounded by number.
pub const UNCOUNTED: u64 = 64 * 1024;

/// Bytes that one exchange holds of `buffered_bytes_max`; released on drop.
pub struct Reservation {
    world: Arc<World>,
    bytes: u64,
}

impl Reservation {
    /// Raises the reservation to `bytes` in all; the first [`UNCOUNTED`] are free. `false`: the bound is reached.
    pub fn raise_to(&mut self, bytes: usize) -> bool {
        let wanted = (bytes as u64).saturating_sub(UNCOUNTED);
        let more = wanted.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let before = self.world.buffered.fetch_add(more, Ordering::Relaxed);
        if before + more > self.world.config.server.buffered_bytes_max.0 {
            self.world.buffered.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.bytes = wanted;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.world.buffered.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}
