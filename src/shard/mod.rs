//! One core: its connections, its pools, its buffers, and the life of every request on it.
//!
//! [`serve`] accepts and keeps connections, [`streams`] those that carry many requests at once, [`exchange`] is the life of one request from top to bottom,
//! [`admit`] its door, [`attempt`] goes from endpoint to endpoint, [`ask`] asks one, [`relay`] the answer's way back, [`local`] what we answer ourselves.

pub mod access;
pub mod admit;
pub mod ask;
pub mod attempt;
pub mod cors;
pub mod exchange;
pub mod head;
pub mod limited;
pub mod local;
pub mod moderations;
pub mod relay;
pub mod reply;
pub mod screen;
pub mod serve;
pub mod streams;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use self::cors::Cors;
use crate::api::body::Scratch;
use crate::catalog::{Catalog, Deployment};
use crate::guard::recent::Recent;
use crate::net::Upstream;
use crate::net::buffer::Buffers;
use crate::net::clock::{Clock, Timers};
use crate::net::gate::Gate;
use crate::net::pool::Pool;
use crate::net::task::TaskCounts;
use crate::net::turn::Turns;
use crate::telemetry::metric::ShardMetrics;
use crate::wire::http1::Limits;
use crate::world::World;

/// Compressed bodies decoded at once: their decoders' memory is `wire::coding`'s.
const DECODERS_MAX: usize = 4;

/// Must not be said on a plain connection (RFC 6797 section 7.2).
const SECURE_ONLY: &str = "strict-transport-security";

/// All state of one core. Not shared: cells instead of locks.
pub struct Shard {
    /// Which one.
    pub index: usize,
    /// What all share.
    pub world: Arc<World>,
    /// Its time.
    pub clock: Clock,
    /// Its deadlines.
    pub timers: Rc<Timers>,
    /// Its buffers.
    pub buffers: Rc<Buffers>,
    /// Its tasks.
    pub tasks: Rc<TaskCounts>,
    /// Idle upstream connections, by endpoint.
    pub pools: Vec<RefCell<Pool>>,
    /// Bounds of request heads.
    pub limits: Limits,
    /// `server.headers`, ready to be sent.
    pub headers: Vec<u8>,
    /// Those of them that are sent over TLS only.
    pub secure_headers: Vec<u8>,
    /// Which pages may call.
    pub cors: Cors,
    /// Turns through the kernel for long work.
    pub turns: Turns,
    /// Bounds the compressed bodies that are decoded at once.
    pub decoders: Rc<Gate>,
    /// Bounds the TLS handshakes at once.
    pub handshakes: Rc<Gate>,
    /// Verdicts of the guard on texts read before.
    pub recent: RefCell<Recent>,
    scratch: RefCell<Scratch>,
    catalog: RefCell<(Arc<Catalog>, u64)>,
    random: Cell<u64>,
    date: RefCell<(u64, String)>,
}

impl Shard {
    /// A shard that has not begun to serve; call on its own thread.
    #[must_use]
    pub fn new(index: usize, world: Arc<World>) -> Self {
        let server = &world.config.server;
        let pool = || RefCell::new(Pool::new(server.upstream_idle_max, server.upstream_keep_alive));
        let head = usize::try_from(server.head_bytes_max.0).unwrap_or(usize::MAX);
        let (secure, plain): (Vec<_>, Vec<_>) =
            server.headers.iter().partition(|(name, _)| name.eq_ignore_ascii_case(SECURE_ONLY));
        let lines = |fields: Vec<&(String, String)>| {
            fields.into_iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>()
        };
        Self {
            index,
            clock: Clock::start(),
            timers: Rc::default(),
            buffers: Rc::default(),
            tasks: Rc::default(),
            pools: world.registry.iter().map(|_| pool()).collect(),
            limits: Limits { head, ..Limits::default() },
            headers: lines(plain).into_bytes(),
            secure_headers: lines(secure).into_bytes(),
            cors: Cors::new(&server.cors),
            turns: Turns::default(),
            decoders: Rc::new(Gate::new(DECODERS_MAX)),
            handshakes: Rc::new(Gate::new(server.tls.as_ref().map_or(1, |tls| tls.handshakes_max))),
            recent: RefCell::default(),
            scratch: RefCell::default(),
            catalog: RefCell::new(world.catalog()),
            random: Cell::new(seed(index)),
            date: RefCell::default(),
            world,
        }
    }

    /// Its numbers.
    #[must_use]
    pub fn metrics(&self) -> &ShardMetrics {
        &self.world.shards[self.index].metrics
    }

    /// The deployment that serves `model`, from the newest catalog.
    #[must_use]
    pub fn deployment(&self, model: &str) -> Option<Arc<Deployment>> {
        self.catalog().find(model, &self.world.registry)
    }

    /// The newest catalog.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        let mut known = self.catalog.borrow_mut();
        if known.1 != self.world.generation() {
            *known = self.world.catalog();
        }
        Arc::clone(&known.0)
    }

    /// The next of a sequence of pseudo-random numbers (xorshift64*, Vigna); not for secrets.
    #[must_use]
    pub fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Puts an upstream connection back for the next exchange.
    pub fn keep(&self, endpoint: usize, upstream: Upstream) {
        self.pools[endpoint].borrow_mut().give(upstream, self.clock.after(Duration::ZERO));
    }

    /// The time as HTTP writes it; made once a second.
    pub fn date(&self, out: &mut Vec<u8>) {
        let second = self.clock.now_us() / 1_000_000;
        let mut date = self.date.borrow_mut();
        if date.0 != second || date.1.is_empty() {
            *date = (second, httpdate::fmt_http_date(std::time::SystemTime::now()));
        }
        out.extend_from_slice(date.1.as_bytes());
    }
}

fn seed(index: usize) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(index) | 1
}
