//! The simulated gateway around the real state machines: shards with their lines, timers and pools, and clients that wait.
//!
//! `wait`, `usher`, `limited` and `beat` are those of `shard::line` and `shard::limited`, step by step. They differ in this: the
//! clock is virtual and read at every call (there: at most a tick old); a client is a record in memory whose writes take the time
//! that the scene gives it; a place is looked after by [`Gate::check`] after every step.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use corelane::api::Failure;
use corelane::breaker::{Reason, Rules, State};
use corelane::budget::RetryBudget;
use corelane::catalog::Catalog;
use corelane::config::{self, Config, Timeouts};
use corelane::limit::Limiter;
use corelane::queue::{Bell, Flow, Flows, Hall, Key, Line, Places};
use corelane::registry::EndpointState;
use corelane::shard::judge;
use corelane::shard::limited::{Phase, Stopped, deadline_exceeded, timed_out};
use corelane::shard::line::Unserved;
use corelane::telemetry::metric::Slots;

use super::clock::{Clock, Random};
use super::ledger::{Ledger, Record, TICK_US};
use super::scene::Scene;
use super::server::{Server, Upstream};

/// What a step may end with: a failure to tell, or `None` when nobody is left to be told.
pub type Exit = Option<Failure>;

/// What is counted of an endpoint, beside the state machines.
#[derive(Default)]
pub struct Watched {
    /// Attempts and answers on it.
    pub running: Cell<u32>,
    /// Attempts since the faults have ended.
    pub asked: Cell<u64>,
    /// Trials of its breaker, or of a model's on it, that were ever taken.
    pub trials_taken: Cell<u64>,
    /// Trials on their way to a connection, of an endpoint that could not be reached.
    pub trials: Cell<u32>,
    /// Grows when somebody else's verdict was taken for a trial's: those in flight are then no trials any more.
    pub verdicts: Cell<u64>,
}

pub struct Gate {
    pub clock: Rc<Clock>,
    pub random: Rc<Random>,
    pub ledger: Rc<Ledger>,
    pub config: Config,
    pub rules: Rules,
    pub registry: Vec<Arc<EndpointState>>,
    pub catalog: Catalog,
    pub hall: Hall,
    pub flows: Flows,
    pub running: Arc<Places>,
    /// Who waits for `running`.
    pub entering: Flow,
    pub bells: Arc<[Bell]>,
    pub limiter: Limiter,
    pub servers: Vec<Rc<Server>>,
    pub cores: Vec<Core>,
    pub watched: Vec<Watched>,
    /// Requests that hold a place of `running`.
    pub held: Cell<u32>,
    pub waiting: Cell<u32>,
    pub over: Cell<bool>,
}

/// One shard.
pub struct Core {
    pub index: usize,
    pub line: RefCell<Line<Rc<Waiter>>>,
    pub retries: RetryBudget,
    pub pools: Vec<RefCell<Vec<Upstream>>>,
    timers: RefCell<BTreeMap<u64, Rc<Slot>>>,
    /// Those in line, by request.
    waiters: RefCell<BTreeMap<u64, Rc<Waiter>>>,
    /// Requests that have come, and retries that were allowed.
    pub requests: Cell<u64>,
    pub retried: Cell<u64>,
}

pub struct Waiter {
    waker: RefCell<Option<Waker>>,
    called: Cell<bool>,
    /// Whether it could go now, as far as can be seen without going.
    could: RefCell<Box<dyn FnMut(&Gate) -> bool>>,
    /// Ticks in a row at which it could.
    passed_over: Cell<u32>,
}

/// What a request waits for.
pub struct Wanted<'a> {
    pub thing: &'a Flow,
    pub kind: u64,
    pub places: Vec<Arc<Places>>,
    pub could: Box<dyn FnMut(&Gate) -> bool>,
}

/// Ticks in a row at which a place may be free for one that waits: it is called at once, so one would be chance.
const PASSED_OVER_MAX: u32 = 5;

struct Slot {
    at_us: Cell<u64>,
    fired: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Whoever asks, and what has reached it.
pub struct Client {
    slot: Rc<Slot>,
    gone: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    pub begun: Cell<bool>,
    pub data: RefCell<Vec<u8>>,
    pub ended: Cell<bool>,
}

/// Why a race was lost.
enum Stop {
    Gone,
    Deadline,
}

pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Gate {
    pub fn new(scene: &Scene, clock: &Rc<Clock>, random: &Random, ledger: &Rc<Ledger>) -> Rc<Self> {
        let config =
            config::parse(&scene.toml).unwrap_or_else(|problems| panic!("{problems}\n{}", scene.toml));
        let bells: Arc<[Bell]> = (0..scene.shards).map(|_| Bell::default()).collect();
        let endpoint = |one: &config::Endpoint| Arc::new(EndpointState::new(one.clone(), 0, None, &bells));
        let registry: Vec<_> = config.endpoints.iter().map(endpoint).collect();
        let catalog = Catalog::build(&config, &registry, &Slots::new(16), &Catalog::default());
        let core = |index: usize| Core {
            index,
            line: RefCell::default(),
            retries: RetryBudget::new(config.retry.budget_percent, config.retry.budget_min),
            pools: registry.iter().map(|_| RefCell::default()).collect(),
            timers: RefCell::default(),
            waiters: RefCell::default(),
            requests: Cell::default(),
            retried: Cell::default(),
        };
        let servers = scene.service.iter().enumerate();
        Rc::new(Self {
            clock: Rc::clone(clock),
            random: random.fork(),
            ledger: Rc::clone(ledger),
            rules: judge::rules(&config.breaker),
            hall: Hall::default(),
            flows: Flows::default(),
            running: Places::new(config.server.max_concurrent_requests as u32, Arc::clone(&bells)),
            entering: Flow::default(),
            limiter: Limiter::new(&config.limits),
            servers: servers.map(|(at, &service)| Server::new(at, service, clock, random, ledger)).collect(),
            cores: (0..scene.shards).map(core).collect(),
            watched: registry.iter().map(|_| Watched::default()).collect(),
            bells,
            registry,
            catalog,
            config,
            held: Cell::default(),
            waiting: Cell::default(),
            over: Cell::default(),
        })
    }

    /// What must hold after every step.
    pub fn check(&self) {
        for (at, endpoint) in self.registry.iter().enumerate() {
            let (taken, slots) = (endpoint.in_flight(), endpoint.config.slots);
            let (running, active) = (self.watched[at].running.get(), self.servers[at].active.get());
            if taken != running || active > taken || (slots > 0 && taken > slots) {
                let text =
                    format!("endpoint {at}: {taken} of {slots} places, {running} attempts, {active} there");
                self.ledger.broken(0, text);
            }
            if self.watched[at].trials.get() > 1 {
                self.ledger.broken(0, format!("endpoint {at}, which cannot be reached, has two trials"));
            }
        }
        let (waiting, max) = (self.hall.waiting(), self.config.queue.max as u32);
        if waiting > max || waiting != self.waiting.get() {
            self.ledger.broken(0, format!("{waiting} wait, {} counted, {max} may", self.waiting.get()));
        }
        let (taken, max) = (self.running.taken(), self.running.max());
        if taken != self.held.get() || taken > max {
            self.ledger.broken(0, format!("{taken} of {max} run, {} counted", self.held.get()));
        }
    }

    /// Whether an endpoint's breaker keeps requests away because it could not be reached.
    pub fn is_unreachable(&self, endpoint: usize) -> bool {
        matches!(
            self.registry[endpoint].breaker().state(self.clock.now_ms()),
            State::Open { reason: Reason::Unreachable, .. } | State::HalfOpen { reason: Reason::Unreachable }
        )
    }

    /// A deadline `limit` from now that never comes early.
    fn after(&self, limit: Duration) -> u64 {
        self.clock.now_us().saturating_add(micros(limit)).saturating_add(TICK_US)
    }
}

/// Counts one while it lives.
pub struct Counted<'a>(&'a Cell<u32>);

impl<'a> Counted<'a> {
    pub fn new(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Calls waiters whenever the bell rings.
pub async fn usher(gate: Rc<Gate>, index: usize) {
    loop {
        let anew = gate.bells[index].rung().await;
        let core = &gate.cores[index];
        if anew {
            core.line.borrow_mut().refresh(index);
        }
        core.call_next();
    }
}

/// Every tick: deadlines, and a nudge for the line.
pub async fn housekeeping(gate: Rc<Gate>, index: usize) {
    gate.clock.sleep(gate.random.below(TICK_US)).await;
    loop {
        gate.clock.sleep(TICK_US).await;
        let (core, now_us) = (&gate.cores[index], gate.clock.now_us());
        for slot in core.timers.borrow().values().filter(|slot| slot.at_us.get() <= now_us) {
            slot.at_us.set(u64::MAX);
            slot.fired.set(true);
            if let Some(waker) = slot.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
        if !core.line.borrow().is_empty() {
            core.look_for_idle_places(&gate);
            gate.bells[index].ring();
        }
    }
}

impl Core {
    /// Nobody waits for long while something that it could have is free.
    fn look_for_idle_places(&self, gate: &Gate) {
        for (id, waiter) in self.waiters.borrow().iter() {
            waiter.passed_over.set(if (waiter.could.borrow_mut())(gate) {
                waiter.passed_over.get() + 1
            } else {
                0
            });
            if waiter.passed_over.get() >= PASSED_OVER_MAX {
                gate.ledger.broken(
                    *id,
                    format!("it waits, and could have gone at the last {PASSED_OVER_MAX} ticks"),
                );
            }
        }
    }

    fn call_next(&self) {
        let next = self.line.borrow().next(self.index, |waiter| !waiter.called.get());
        if let Some(waiter) = next {
            waiter.called.set(true);
            if let Some(waker) = waiter.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }

    pub fn client(&self, id: u64) -> Rc<Client> {
        let slot = Slot { at_us: Cell::new(u64::MAX), fired: Cell::default(), waker: RefCell::default() };
        let slot = Rc::new(slot);
        self.timers.borrow_mut().insert(id, Rc::clone(&slot));
        Rc::new(Client {
            slot,
            gone: Cell::default(),
            waker: RefCell::default(),
            begun: Cell::default(),
            data: RefCell::default(),
            ended: Cell::default(),
        })
    }

    pub fn forget(&self, id: u64) {
        self.timers.borrow_mut().remove(&id);
    }
}

impl Client {
    pub fn leave(&self) {
        self.gone.set(true);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn set_timer(&self, at_us: u64) {
        self.slot.fired.set(false);
        self.slot.at_us.set(at_us);
    }

    pub fn clear_timer(&self) {
        self.set_timer(u64::MAX);
    }

    async fn race<F: Future>(&self, mut op: Pin<&mut F>) -> Result<F::Output, Stop> {
        poll_fn(|cx| {
            if let Poll::Ready(output) = op.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if self.gone.get() {
                return Poll::Ready(Err(Stop::Gone));
            }
            if self.slot.fired.get() {
                return Poll::Ready(Err(Stop::Deadline));
            }
            self.waker.replace(Some(cx.waker().clone()));
            self.slot.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    /// Runs `op` unless the client leaves first.
    pub async fn unless_gone<F: Future>(&self, op: Pin<&mut F>) -> Result<F::Output, Exit> {
        self.clear_timer();
        self.race(op).await.map_err(|_| None)
    }

    /// Brings data to the client.
    pub async fn write(&self, gate: &Gate, record: &Record, bytes: &[u8]) -> Result<(), Exit> {
        if record.slow_us > 0 {
            self.unless_gone(pin!(gate.clock.sleep(record.slow_us))).await?;
        }
        if self.gone.get() {
            return Err(None);
        }
        self.data.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }
}

/// A client that waits for content.
pub struct Patience<'a> {
    pub gate: &'a Gate,
    pub core: &'a Core,
    pub record: &'a Rc<Record>,
    pub client: &'a Client,
    pub deadline_us: u64,
    next_us: u64,
}

impl<'a> Patience<'a> {
    pub fn new(
        (gate, core): (&'a Gate, &'a Core),
        record: &'a Rc<Record>,
        client: &'a Client,
        comments: bool,
    ) -> Self {
        let heartbeat = gate.config.queue.heartbeat.filter(|_| comments);
        let next_us = heartbeat.map_or(u64::MAX, |every| gate.after(every));
        record.beats.set(record.beats.get() || heartbeat.is_some());
        Self { gate, core, record, client, deadline_us: record.deadline_us.get(), next_us }
    }

    pub async fn limited<F: Future>(
        &mut self,
        limit: Duration,
        mut op: Pin<&mut F>,
    ) -> Result<F::Output, Stopped> {
        let limit_us = self.gate.after(limit);
        loop {
            let end_us = limit_us.min(self.deadline_us);
            self.client.set_timer(end_us.min(self.next_us));
            match self.client.race(op.as_mut()).await {
                Ok(output) => return Ok(output),
                Err(Stop::Gone) => return Err(Stopped::Gone),
                Err(Stop::Deadline) if self.next_us < end_us => self.beat().await?,
                Err(Stop::Deadline) if self.deadline_us <= limit_us => return Err(Stopped::Total),
                Err(Stop::Deadline) => return Err(Stopped::Limit),
            }
        }
    }

    pub async fn phase<F: Future>(
        &mut self,
        timeouts: &Timeouts,
        phase: Phase,
        op: Pin<&mut F>,
    ) -> Result<F::Output, Exit> {
        let (limit, stage, name) = match phase {
            Phase::Connect => (timeouts.connect, "left while connecting", "timeout: connect"),
            Phase::Send => (timeouts.first_byte, "left while sending", "timeout: send"),
            Phase::FirstByte => (timeouts.first_byte, "left before content", "timeout: first byte"),
            Phase::Idle => (timeouts.idle, "left while reading", "timeout: idle"),
        };
        self.record.stage.set(stage);
        self.limited(limit, op).await.map_err(|stopped| match stopped {
            Stopped::Gone => None,
            Stopped::Total => {
                self.gate.ledger.count("timeout: total");
                Some(deadline_exceeded())
            }
            Stopped::Limit => {
                self.gate.ledger.count(name);
                Some(timed_out(phase, limit))
            }
        })
    }

    async fn beat(&mut self) -> Result<(), Stopped> {
        let every = self.gate.config.queue.heartbeat.unwrap_or(Duration::MAX);
        self.next_us = self.gate.clock.now_us().saturating_add(micros(every));
        let begins = !self.client.begun.replace(true);
        // A slow client is one that does not take at once what it is sent.
        if begins || self.record.slow_us == 0 {
            self.gate.ledger.count("heartbeat");
            self.client.write(self.gate, self.record, HEARTBEAT).await.map_err(|_| Stopped::Gone)?;
        }
        Ok(())
    }
}

/// A sign of life.
pub const HEARTBEAT: &[u8] = b": waiting\n\n";

struct Standing<'a> {
    core: &'a Core,
    key: Key,
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.core.line.borrow_mut().leave(self.core.index, self.key);
        self.core.call_next();
    }
}

/// Waits until `go`, asked in turn, gives something.
pub async fn wait<T>(
    patience: &mut Patience<'_>,
    wanted: Wanted<'_>,
    mut go: impl FnMut() -> Option<T>,
) -> Result<T, Unserved> {
    let (gate, core, record) = (patience.gate, patience.core, patience.record);
    let (hall, queue, ledger) = (&gate.hall, &gate.config.queue, &gate.ledger);
    let flow = gate.flows.of(record.caller as u64);
    let ticket = hall.enter(flow, wanted.thing, queue.max, gate.clock.now_us()).ok_or_else(|| {
        ledger.count("queue full");
        Unserved::Full(hall.wait_ms())
    })?;
    let counted = Counted::new(&gate.waiting);
    let since_us = gate.clock.now_us();
    ledger.note(record, "waits", ticket.tag(), u64::from(gate.waiting.get()));
    ledger.count("wait");
    record.stage.set("left while waiting");
    let Wanted { kind, places, could, .. } = wanted;
    let passed_over = Cell::default();
    let waiter = Rc::new(Waiter {
        waker: RefCell::default(),
        called: Cell::default(),
        could: RefCell::new(could),
        passed_over,
    });
    core.waiters.borrow_mut().insert(record.id, Rc::clone(&waiter));
    let key = core.line.borrow_mut().join(core.index, ticket.tag(), kind, places, Rc::clone(&waiter));
    let standing = Standing { core, key };
    core.call_next();
    let turn = pin!(poll_fn(|cx| {
        if waiter.called.take() {
            if let Some(got) = go() {
                return Poll::Ready(got);
            }
            ledger.count("declined");
            core.line.borrow_mut().decline(core.index, key);
            core.call_next();
        }
        waiter.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }));
    let result = patience.limited(queue.timeout, turn).await;
    let now_us = gate.clock.now_us();
    core.waiters.borrow_mut().remove(&record.id);
    let waited_us = now_us - since_us;
    // The limit is a tick longer than it says and looked at once a tick; a sign of life may take the timer for one more.
    let may_us = micros(queue.timeout) + 3 * TICK_US + 2 * record.slow_us;
    ledger.must(waited_us <= may_us, record, || format!("it waited {waited_us} us and was not told"));
    if result.is_ok() {
        ticket.served(now_us);
    } else {
        drop(ticket);
    }
    drop(counted);
    drop(standing);
    ledger.note(record, "waited", waited_us, u64::from(result.is_ok()));
    result.map_err(|stopped| match stopped {
        Stopped::Limit => {
            ledger.count("waited too long");
            Unserved::TooLong(hall.wait_ms())
        }
        stopped => Unserved::Stopped(stopped),
    })
}
