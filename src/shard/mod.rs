//! One core: its connections, its pools, its buffers, and the life of every request on it. [`Core`] is what stays, [`Shard`]
//! a core under one configuration: a request has one for its whole life, whatever is reloaded meanwhile.
//!
//! [`listen`] follows the listeners, [`serve`] accepts and keeps connections, [`streams`] those that carry many requests at once, [`exchange`] is the life of one request from top to bottom,
//! [`admit`] its door, [`attempt`] goes from endpoint to endpoint, [`ask`] asks one, [`relay`] the answer's way back, [`local`] what we answer ourselves.

pub mod access;
pub mod admit;
pub mod answered;
pub mod ask;
pub mod attempt;
pub mod cached;
pub mod cors;
pub mod entry;
pub mod exchange;
pub mod explained;
pub mod fallback;
pub mod fleet;
pub mod framing;
pub mod head;
pub mod judge;
pub mod kept;
pub mod limited;
pub mod line;
pub mod lines;
pub mod listen;
pub mod local;
pub mod moderations;
pub mod payment;
pub mod relay;
pub mod reply;
pub mod screen;
pub mod serve;
pub mod shared;
pub mod source;
pub mod span;
pub mod streams;

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use self::cors::Cors;
use crate::api::body::Scratch;
use crate::breaker::Rules;
use crate::budget::RetryBudget;
use crate::catalog::{Catalog, Deployment};
use crate::config::Level;
use crate::config::cache::Store;
use crate::guard::recent::Recent;
use crate::net::Upstream;
use crate::net::buffer::Buffers;
use crate::net::clock::{Clock, Timers};
use crate::net::gate::Gate;
use crate::net::pool::Pool;
use crate::net::redis::Redis;
use crate::net::task::TaskCounts;
use crate::net::turn::Turns;
use crate::registry::EndpointState;
use crate::telemetry::metric::ShardMetrics;
use crate::usage::estimate::Learned;
use crate::wire::http1::Limits;
use crate::world::{Current, Process, World};

/// Compressed bodies decoded at once: their decoders' memory is `wire::coding`'s.
const DECODERS_MAX: usize = 4;

/// Must not be said on a plain connection (RFC 6797 section 7.2).
const SECURE_ONLY: &str = "strict-transport-security";

/// What one core has for as long as it runs. Not shared: cells instead of locks.
pub struct Core {
    /// Which one.
    pub index: usize,
    /// Where the newest world is found.
    pub current: Arc<Current>,
    /// What all share.
    pub process: Arc<Process>,
    /// Its time.
    pub clock: Clock,
    /// Its deadlines.
    pub timers: Rc<Timers>,
    /// Its buffers.
    pub buffers: Rc<Buffers>,
    /// Streams that it reads for several clients now.
    pub pumps: Cell<u64>,
    /// Its tasks.
    pub tasks: Rc<TaskCounts>,
    /// Turns through the kernel for long work.
    pub turns: Turns,
    /// Bounds the compressed bodies that are decoded at once.
    pub decoders: Rc<Gate>,
    /// Bounds the requests that are explained at once.
    pub explaining: Rc<Gate>,
    /// What it accepts from.
    pub listening: listen::Listening,
    /// Requests that wait for a place.
    pub line: line::Waiting,
    /// Lines of the access log.
    pub lines: lines::Lines,
    /// While the gateway drains: when idle connections are closed.
    idle_until_us: Cell<u64>,
    scratch: RefCell<Scratch>,
    newest: RefCell<Option<(u64, Rc<Shard>)>>,
    random: Cell<u64>,
    date: RefCell<(u64, String)>,
    stamp: RefCell<entry::Stamp>,
    /// By the model's slot: what is known of its tokens.
    learned: RefCell<Vec<Learned>>,
}

/// A core under one configuration. What runs keeps the one it began with.
pub struct Shard {
    /// The core.
    pub core: Rc<Core>,
    /// The configuration.
    pub world: Arc<World>,
    /// Idle upstream connections, by endpoint.
    pub pools: Vec<Rc<RefCell<Pool>>>,
    /// Bounds of request heads.
    pub limits: Limits,
    /// `server.headers`, ready to be sent.
    pub headers: Vec<u8>,
    /// Those of them that are sent over TLS only.
    pub secure_headers: Vec<u8>,
    /// Which pages may call.
    pub cors: Cors,
    /// Bounds the TLS handshakes at once.
    pub handshakes: Rc<Gate>,
    /// Verdicts of the guard on texts read before.
    pub recent: RefCell<Recent>,
    /// When breakers open.
    pub rules: Rules,
    /// Retries that may still be made.
    pub retries: Rc<RetryBudget>,
    /// What gateways share their state by; `None`: nothing is shared.
    pub redis: Option<Rc<Redis>>,
    catalog: RefCell<(Arc<Catalog>, u64)>,
}

impl Deref for Shard {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl Core {
    /// A core that has not begun to serve; call on its own thread.
    #[must_use]
    pub fn new(index: usize, process: Arc<Process>, current: Arc<Current>) -> Rc<Self> {
        Rc::new(Self {
            index,
            current,
            process,
            clock: Clock::start(),
            timers: Rc::default(),
            buffers: Rc::default(),
            pumps: Cell::new(0),
            tasks: Rc::default(),
            turns: Turns::default(),
            decoders: Rc::new(Gate::new(DECODERS_MAX)),
            explaining: Rc::new(Gate::new(explained::EXPLAINED_MAX)),
            listening: listen::Listening::default(),
            line: line::Waiting::default(),
            lines: lines::Lines::default(),
            idle_until_us: Cell::new(u64::MAX),
            scratch: RefCell::default(),
            newest: RefCell::default(),
            random: Cell::new(seed(index)),
            date: RefCell::default(),
            stamp: RefCell::default(),
            learned: RefCell::default(),
        })
    }

    /// The shard under the newest configuration: what a request that begins now is served by.
    #[must_use]
    pub fn shard(self: &Rc<Self>) -> Rc<Shard> {
        let generation = self.current.generation();
        let mut newest = self.newest.borrow_mut();
        let old = match &*newest {
            Some((known, shard)) if *known == generation => return Rc::clone(shard),
            old => old.as_ref().map(|(_, shard)| Rc::clone(shard)),
        };
        let shard = Rc::new(Shard::new(Rc::clone(self), self.current.world(), old.as_deref()));
        *newest = Some((generation, Rc::clone(&shard)));
        shard
    }

    /// Its numbers.
    #[must_use]
    pub fn metrics(&self) -> &ShardMetrics {
        &self.process.shards[self.index].metrics
    }

    /// Whether idle connections are closed now: the gateway drains, and they had time to send one more request.
    #[must_use]
    pub fn closes_idle(&self) -> bool {
        self.process.is_draining() && self.clock.now_us() >= self.idle_until_us.get()
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

impl Shard {
    /// A core under `world`; connections to endpoints that `old` had too are kept.
    #[must_use]
    pub fn new(core: Rc<Core>, world: Arc<World>, old: Option<&Self>) -> Self {
        let server = &world.config.server;
        let pool = |endpoint: &Arc<EndpointState>| {
            let known = old.and_then(|old| {
                let at = old.world.registry.iter().position(|known| known.shares_connections(endpoint))?;
                old.pools.get(at).map(Rc::clone)
            });
            let pool = known.unwrap_or_default();
            pool.borrow_mut().limit(server.upstream_idle_max, server.upstream_keep_alive);
            pool
        };
        let head = usize::try_from(server.head_bytes_max.0).unwrap_or(usize::MAX);
        let (secure, plain): (Vec<_>, Vec<_>) =
            server.headers.iter().partition(|(name, _)| name.eq_ignore_ascii_case(SECURE_ONLY));
        let lines = |fields: Vec<&(String, String)>| {
            fields.into_iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>()
        };
        Self {
            pools: world.registry.iter().map(pool).collect(),
            limits: Limits { head, ..Limits::default() },
            headers: lines(plain).into_bytes(),
            secure_headers: lines(secure).into_bytes(),
            cors: Cors::new(&server.cors),
            handshakes: {
                let max =
                    |world: &World| world.config.server.tls.as_ref().map_or(1, |tls| tls.handshakes_max);
                let kept = old.filter(|old| max(&old.world) == max(&world));
                kept.map_or_else(|| Rc::new(Gate::new(max(&world))), |old| Rc::clone(&old.handshakes))
            },
            recent: RefCell::default(),
            rules: judge::rules(&world.config.breaker),
            retries: {
                let numbers =
                    |world: &World| (world.config.retry.budget_percent, world.config.retry.budget_min);
                let (percent, min) = numbers(&world);
                let kept = old.filter(|old| numbers(&old.world) == (percent, min));
                kept.map_or_else(|| Rc::new(RetryBudget::new(percent, min)), |old| Rc::clone(&old.retries))
            },
            redis: match old.filter(|old| old.world.config.redis == world.config.redis) {
                Some(old) => old.redis.clone(),
                None => Self::redis(&core, &world),
            },
            catalog: RefCell::new(world.catalog()),
            core,
            world,
        }
    }

    /// A client of Redis, if it is configured. It connects when it is asked first.
    fn redis(core: &Core, world: &World) -> Option<Rc<Redis>> {
        let settings = world.config.redis.as_ref()?;
        let process = Arc::clone(&core.process);
        let tell = Box::new(move |level, text: &str| process.log.write(level, format_args!("{text}")));
        let made = Redis::new(settings, world.redis.as_ref(), &core.tasks, tell);
        made.map_err(|error| core.process.log.write(Level::Error, format_args!("redis: {error}"))).ok()
    }

    /// Where answers are kept besides memory, if they are.
    #[must_use]
    pub fn answers_in_redis(&self) -> Option<&Rc<Redis>> {
        self.redis.as_ref().filter(|_| self.world.config.cache.store == Store::Redis)
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
        if known.1 != self.world.catalog_generation() {
            *known = self.world.catalog();
        }
        Arc::clone(&known.0)
    }

    /// Puts an upstream connection back for the next exchange.
    pub fn keep(&self, endpoint: usize, upstream: Upstream) {
        if let Some(pool) = self.pools.get(endpoint) {
            pool.borrow_mut().give(upstream, self.clock.after(Duration::ZERO), &self.buffers);
        }
    }
}

fn seed(index: usize) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(index) | 1
}
