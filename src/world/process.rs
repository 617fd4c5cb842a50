//! What lives as long as the process, whatever its configuration becomes: the shards' numbers, names of metrics, the log,
//! and counts of what is going on.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use crossbeam_queue::SegQueue;
use crossbeam_utils::CachePadded;

use crate::limit::key::Caller;
use crate::net::handoff::Door;
use crate::queue::{Bell, Flow, Flows, Hall, Places};
use crate::telemetry::failures::Failures;
use crate::telemetry::keys::KeySeries;
use crate::telemetry::log::Log;
use crate::telemetry::metric::{NUMBERS_MAX, SLOTS_MAX, ShardMetrics, Slots};

use crate::telemetry::trace::Spans;

use super::errand::Errand;

/// One running gateway.
pub struct Process {
    /// Per shard.
    pub shards: Vec<ShardShared>,
    /// Models that have metrics.
    pub models: Slots,
    /// Endpoints that have metrics.
    pub endpoints: Slots,
    /// Zones of limits that have metrics.
    pub zones: Slots,
    /// Lines for people.
    pub log: Log,
    /// The last exchanges that failed.
    pub failures: Failures,
    /// Spans for the collector.
    pub spans: Spans,
    /// The shards may accept.
    pub open: AtomicBool,
    /// Somebody asks for a drain; the main thread begins it.
    pub drain_asked: AtomicBool,
    /// No new work is taken.
    pub draining: AtomicBool,
    /// Another process serves the same sockets: they are left, not emptied.
    pub handed_over: AtomicBool,
    /// When the process began to serve.
    pub started: SystemTime,
    /// Configurations taken since the start.
    pub reloads: AtomicU64,
    /// Configurations refused since the start.
    pub reloads_refused: AtomicU64,
    /// Ticks of the control core.
    pub control_ticks: AtomicU64,
    /// What the main thread is asked for.
    pub errands: SegQueue<Arc<Errand>>,
    /// What is known of other gateways.
    pub fleet: Fleet,
    /// Exchanges of all shards that may run at once.
    pub running: Arc<Places>,
    /// By shard: who wakes its waiters.
    pub bells: Arc<[Bell]>,
    /// Who waits.
    pub hall: Hall,
    /// Those of them who wait to be one of the exchanges that run.
    pub entering: Flow,
    #[expect(
        clippy::disallowed_types,
        reason = "whoever renders the page of metrics takes it, never a shard"
    )]
    key_series: std::sync::Mutex<KeySeries>,
    flows: Flows,
    hasher: RandomState,
    connections: CachePadded<AtomicUsize>,
    buffered: CachePadded<AtomicU64>,
}

/// Gateways before the same endpoints, as far as this one knows.
pub struct Fleet {
    /// This process, by a random name.
    pub id: String,
    /// How many others are heard of.
    pub others: AtomicU64,
    /// They were heard of, or should be, and are not.
    pub is_alone: AtomicBool,
}

impl Default for Fleet {
    fn default() -> Self {
        let id = RandomState::new().hash_one((std::process::id(), SystemTime::now()));
        Self { id: format!("{id:016x}"), others: AtomicU64::new(0), is_alone: AtomicBool::new(false) }
    }
}

/// What a shard shows to others.
pub struct ShardShared {
    /// Its numbers; only the shard writes.
    pub metrics: ShardMetrics,
    /// Where others hand sockets to it.
    pub door: Door,
    /// Ticks of its housekeeping: it goes on.
    pub ticks: AtomicU64,
    /// Its driver's name, once it runs.
    pub driver: std::sync::OnceLock<&'static str>,
}

/// A listening socket that the main thread holds: when that lets go of it, it is closed where nobody accepts from it.
pub type Socket = Weak<TcpListener>;

impl Process {
    /// A process of `shards` shards that has no world yet.
    #[must_use]
    pub fn new(shards: usize, log: Log) -> Arc<Self> {
        let shared = || ShardShared {
            metrics: ShardMetrics::default(),
            door: Door::default(),
            ticks: AtomicU64::new(0),
            driver: std::sync::OnceLock::new(),
        };
        let bells: Arc<[Bell]> = (0..shards).map(|_| Bell::default()).collect();
        Arc::new(Self {
            shards: (0..shards).map(|_| shared()).collect(),
            models: Slots::new(SLOTS_MAX),
            endpoints: Slots::new(NUMBERS_MAX),
            zones: Slots::new(NUMBERS_MAX),
            log,
            spans: Spans::default(),
            failures: Failures::default(),
            open: AtomicBool::new(false),
            drain_asked: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
            started: SystemTime::now(),
            reloads: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            control_ticks: AtomicU64::new(0),
            errands: SegQueue::new(),
            fleet: Fleet::default(),
            running: Places::new(0, Arc::clone(&bells)),
            bells,
            hall: Hall::default(),
            entering: Flow::default(),
            key_series: Default::default(),
            flows: Flows::default(),
            hasher: RandomState::new(),
            connections: CachePadded::default(),
            buffered: CachePadded::default(),
        })
    }

    /// Ticks of every thread that must go on: the shards, then the control core.
    #[must_use]
    pub fn ticks(&self) -> Vec<u64> {
        let shards = self.shards.iter().map(|shard| &shard.ticks);
        shards.chain([&self.control_ticks]).map(|ticks| ticks.load(Ordering::Relaxed)).collect()
    }

    /// Whether no new work is taken.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// What the requests of somebody count on while they wait.
    #[must_use]
    pub fn flow<'a>(&'a self, who: Who<'a>) -> &'a Flow {
        match (who.caller, who.address.to_canonical()) {
            (Some(caller), _) => &caller.flow,
            (None, IpAddr::V4(address)) => self.flows.of(self.hash(address)),
            // A network of one client, as the limiter takes it by default.
            (None, IpAddr::V6(address)) => self.flows.of(self.hash(u64::from_be_bytes(network(address)))),
        }
    }

    /// A hash that nobody outside can foresee.
    #[must_use]
    pub fn hash(&self, value: impl Hash) -> u64 {
        self.hasher.hash_one(value)
    }

    /// Works on the series of callers' keys. For the control core.
    pub fn key_series<T>(&self, work: impl FnOnce(&mut KeySeries) -> T) -> T {
        // A page that was not finished has left nothing half done.
        work(&mut self.key_series.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Bytes that large bodies and answers hold.
    #[must_use]
    pub fn buffered(&self) -> u64 {
        self.buffered.load(Ordering::Relaxed)
    }

    /// Takes one of `max` connections; `None`: all are taken.
    #[must_use]
    pub fn seat(self: &Arc<Self>, max: usize) -> Option<Seat> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(self));
        (before < max).then_some(seat)
    }

    /// A reservation of no bytes yet, of `bytes_max` for all.
    #[must_use]
    pub fn reservation(self: &Arc<Self>, bytes_max: u64) -> Reservation {
        Reservation { process: Arc::clone(self), bytes_max, bytes: 0 }
    }
}

/// Who asks: a caller by its key, else an address.
#[derive(Clone, Copy)]
pub struct Who<'a> {
    /// Whose key was shown, if one was.
    pub caller: Option<&'a Caller>,
    /// The client's address.
    pub address: IpAddr,
}

/// The first half of an address.
fn network(address: Ipv6Addr) -> [u8; 8] {
    let mut network = [0; 8];
    network.iter_mut().zip(address.octets()).for_each(|(to, from)| *to = from);
    network
}

/// One client connection; released on drop.
pub struct Seat(Arc<Process>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes below which a buffer is not counted: its owner is bounded by number.
pub const UNCOUNTED: u64 = 64 * 1024;

/// Bytes that one exchange holds of `buffered_bytes_max`; released on drop.
pub struct Reservation {
    process: Arc<Process>,
    bytes_max: u64,
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
        let before = self.process.buffered.fetch_add(more, Ordering::Relaxed);
        if before + more > self.bytes_max {
            self.process.buffered.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.bytes = wanted;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.process.buffered.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}
