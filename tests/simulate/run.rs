//! One seed from its first request to its last check.
//!
//! Requests come while faults begin and end; then all faults end, and every endpoint must be asked again; then, in seeds for it,
//! callers that always ask are counted; at last, good requests until every breaker is closed, and nothing may be left.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use corelane::api::FailureKind;
use corelane::catalog::Deployment;
use corelane::health::Thresholds;
use corelane::limit::concurrency::Permit;
use corelane::limit::{Asker, Rate};
use corelane::queue::Place;
use corelane::shard::attempt::refused;

use super::ask::{Told, answer};
use super::attempt::first_content;
use super::clock::{Clock, Random};
use super::gate::{Client, Counted, Exit, Gate, Patience, Wanted, housekeeping, micros, usher, wait};
use super::ledger::{Ledger, Outcome, Record, Report, TICK_US};
use super::scene::Scene;
use super::server::{Fault, Nature};

/// Steps after which a run is taken to be caught in a loop.
const STEPS_MAX: u64 = 1_000_000;
/// Time for which fairness is looked at, once everybody waits.
const FAIR_US: u64 = 2_000_000;
const LIMITED: &str = "/v1/chat/completions";
const UNLIMITED: &str = "/v1/completions";

/// A client's request.
pub struct Request {
    pub record: Rc<Record>,
    pub shard: usize,
    pub model: String,
    pub stream: bool,
    pub nature: Nature,
    pub quick: bool,
    /// The client's own limit for all of it.
    pub timeout_us: u64,
    pub path: &'static str,
}

/// What is shared by the tasks of a run.
struct Stage {
    gate: Rc<Gate>,
    scene: Scene,
    random: Rc<Random>,
    records: RefCell<Vec<Rc<Record>>>,
    open: Cell<u32>,
    /// By caller: served while fairness is looked at, and whether it ever had nobody waiting then.
    served: Vec<Cell<u64>>,
    at_work: Vec<Cell<u32>>,
    idled: Vec<Cell<bool>>,
    looking: Cell<bool>,
    /// By caller and in all: what the zones have let in.
    let_in: RefCell<Vec<u64>>,
    jain: Cell<Option<f64>>,
}

/// Says which seed it was, should the run panic.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "panicked in seed {0}; alone: CORELANE_SIM_SEED={0} cargo test --test simulate",
                self.0
            );
        }
    }
}

/// Runs a seed. `traced`: the events are written down too.
pub fn run(seed: u64, traced: bool) -> Report {
    let _named = Named(seed);
    let random = Random::new(seed);
    let scene = Scene::new(&random);
    let start_us = random.one(&[0, 1_000_000, 77_777_777_777]);
    let clock = Clock::new(start_us, random.fork());
    let ledger = Ledger::new(&clock, traced);
    let gate = Gate::new(&scene, &clock, &random, &ledger);
    let callers = scene.callers.len();
    let stage = Rc::new(Stage {
        gate: Rc::clone(&gate),
        random: random.fork(),
        records: RefCell::default(),
        open: Cell::default(),
        served: (0..callers).map(|_| Cell::default()).collect(),
        at_work: (0..callers).map(|_| Cell::default()).collect(),
        idled: (0..callers).map(|_| Cell::default()).collect(),
        looking: Cell::default(),
        let_in: RefCell::new(vec![0; callers + 1]),
        jain: Cell::default(),
        scene,
    });
    for index in 0..gate.cores.len() {
        clock.spawn(usher(Rc::clone(&gate), index));
        clock.spawn(housekeeping(Rc::clone(&gate), index));
    }
    for at in 0..gate.servers.len() {
        clock.spawn(probes(Rc::clone(&gate), at));
    }
    clock.spawn(conduct(Rc::clone(&stage)));
    let mut steps = 0;
    while !gate.over.get() {
        steps += 1;
        let goes_on = clock.step();
        gate.check();
        if stage.looking.get() {
            stage.look();
        }
        if !goes_on || steps > STEPS_MAX {
            ledger.broken(0, format!("stuck after {steps} steps at {} us", clock.now_us()));
            break;
        }
        if ledger.has_problems() && !traced {
            break; // the first one is enough; with a trace the request may end
        }
        if ledger.has_problems() && steps % 50_000 == 0 {
            break;
        }
    }
    clock.end();
    gate.cores.iter().for_each(|core| core.pools.iter().for_each(|pool| pool.borrow_mut().clear()));
    ledger.report(stage.jain.get())
}

/// The course of a run.
async fn conduct(stage: Rc<Stage>) {
    let (gate, clock) = (&stage.gate, &stage.gate.clock);
    let began_us = clock.now_us();
    let ill = Rc::new(Cell::new(true));
    for at in 0..gate.servers.len() {
        clock.spawn(faults(Rc::clone(&stage), Rc::clone(&ill), at));
    }
    arrivals(&stage, u64::MAX, stage.scene.requests).await;
    ill.set(false);
    for server in &gate.servers {
        server.fault.set(Fault::None);
    }
    gate.ledger.event(0, "all faults end", 0, 0);
    // Every open time and every mark must run out.
    let (breaker, health) = (&gate.config.breaker, &gate.config.health);
    let rest = breaker.open_max.max(breaker.retry_after_max).max(breaker.missing);
    let marks = (health.interval + health.timeout) * (health.healthy_threshold + 1);
    arrivals(&stage, clock.now_us() + micros(rest + marks), u64::MAX).await;
    gate.watched.iter().for_each(|watched| watched.asked.set(0));
    calm(&stage).await;
    for (at, watched) in gate.watched.iter().enumerate() {
        if watched.asked.get() == 0 {
            gate.ledger.broken(0, format!("endpoint {at} is well again and gets no requests"));
        }
    }
    fairness(&stage).await;
    stage.settled().await;
    stage.last_checks(began_us);
    gate.over.set(true);
}

/// Lets requests come until `until_us`, or so many.
async fn arrivals(stage: &Rc<Stage>, until_us: u64, requests: u64) {
    let (gate, random, scene) = (&stage.gate, &stage.random, &stage.scene);
    let sum: u64 = scene.callers.iter().sum();
    let mut left = requests;
    while left > 0 && gate.clock.now_us() < until_us {
        gate.clock.sleep(random.around(scene.between_us)).await;
        let mut part = random.below(sum);
        let caller = scene.callers.iter().position(|&weight| {
            let here = part < weight;
            part = part.wrapping_sub(weight);
            here
        });
        let burst = if random.chance(3) { random.within(2, 12) } else { 1 };
        for _ in 0..burst {
            left = left.saturating_sub(1);
            let own_us = if random.chance(8) { random.within(30_000, 800_000) } else { u64::MAX };
            let request = stage.request(caller.unwrap_or(0), LIMITED, |random| match random.below(200) {
                0..4 => Nature::Bad,
                4..10 => Nature::Long,
                10 => Nature::Poison,
                _ => Nature::Good,
            });
            let stays = !random.chance(8);
            let leaves_us = if stays { u64::MAX } else { random.around(100_000) };
            stage.begin(Request { timeout_us: own_us, ..request }, leaves_us);
        }
    }
}

/// Good requests, one after the other, until every breaker is closed and every endpoint was asked.
async fn calm(stage: &Rc<Stage>) {
    let gate = &stage.gate;
    stage.settled().await;
    let most = 60 * gate.registry.len();
    for model in 0..stage.scene.models {
        let name = format!("m{model}");
        let deployment = gate.catalog.find(&name, &gate.registry).unwrap();
        let all = |deployment: &Deployment| {
            deployment.candidates.iter().all(|one| {
                one.breaker.is_closed()
                    && gate.registry[one.endpoint].breaker().is_closed()
                    && gate.watched[one.endpoint].asked.get() > 0
            })
        };
        for _ in 0..most {
            if all(&deployment) {
                break;
            }
            let request = stage.request(0, UNLIMITED, |_| Nature::Good);
            stage.serve(Request { model: name.clone(), ..request }, u64::MAX).await;
            gate.clock.sleep(5000).await;
        }
        let closed = deployment.candidates.iter().all(|one| one.breaker.is_closed());
        if !closed || gate.registry.iter().any(|endpoint| !endpoint.breaker().is_closed() && model == 0) {
            let states: Vec<_> = deployment
                .candidates
                .iter()
                .map(|one| (gate.registry[one.endpoint].breaker().state(0), one.breaker.state(0)))
                .collect();
            let text = format!("a breaker of {name} stays open after {most} good requests: {states:?}");
            gate.ledger.broken(0, text);
        }
    }
}

/// Callers that always ask get equal shares.
async fn fairness(stage: &Rc<Stage>) {
    let (gate, greedy) = (&stage.gate, &stage.scene.greedy);
    if greedy.is_empty() {
        return;
    }
    let working = Rc::new(Cell::new(true));
    for (caller, &clients) in greedy.iter().enumerate() {
        for _ in 0..clients {
            let (of, working) = (Rc::clone(stage), Rc::clone(&working));
            gate.clock.spawn(async move {
                while working.get() {
                    let request = of.request(caller, UNLIMITED, |_| Nature::Good);
                    let request = Request { model: "m0".to_owned(), stream: false, quick: true, ..request };
                    let outcome = of.serve(request, u64::MAX).await;
                    if outcome == Outcome::Whole && of.looking.get() {
                        of.served[caller].set(of.served[caller].get() + 1);
                    }
                }
            });
        }
    }
    gate.clock.sleep(200_000).await;
    stage.looking.set(true);
    gate.clock.sleep(FAIR_US).await;
    stage.looking.set(false);
    working.set(false);
    let waited = |caller: &usize| !stage.idled[*caller].get();
    let served: Vec<f64> =
        (0..greedy.len()).filter(waited).map(|caller| stage.served[caller].get() as f64).collect();
    let (sum, squares) = served.iter().fold((0.0, 0.0), |(sum, squares), n| (sum + n, squares + n * n));
    if served.len() > 1 {
        let jain = if squares > 0.0 { sum * sum / (served.len() as f64 * squares) } else { 0.0 };
        stage.jain.set(Some(jain));
        gate.ledger.count("fairness looked at");
        if jain < 0.9 {
            gate.ledger.broken(0, format!("callers that always wait were served {served:?}: Jain {jain:.3}"));
        }
    }
}

/// Faults of an endpoint begin and end.
async fn faults(stage: Rc<Stage>, ill: Rc<Cell<bool>>, at: usize) {
    let (gate, random, scene) = (&stage.gate, stage.random.fork(), &stage.scene);
    let server = &gate.servers[at];
    loop {
        gate.clock.sleep(random.around(scene.well_us)).await;
        if !ill.get() {
            return;
        }
        let fault = match random.one(&Fault::ALL) {
            Fault::Busy(_) => Fault::Busy(random.below(3)),
            fault => fault,
        };
        server.fault.set(fault);
        gate.ledger.event(0, fault.name(), at as u64, 0);
        gate.ledger.count(fault.name());
        if fault == Fault::Dead {
            server.die();
        }
        gate.clock.sleep(random.around(scene.ill_us)).await;
        if !ill.get() {
            return;
        }
        server.fault.set(Fault::None);
        gate.ledger.event(0, "well", at as u64, 0);
    }
}

/// Asks an endpoint how it is; the marks are counted again beside the state machine.
async fn probes(gate: Rc<Gate>, at: usize) {
    let health = &gate.config.health;
    let thresholds = Thresholds { unhealthy: health.unhealthy_threshold, healthy: health.healthy_threshold };
    let (mut up, mut run) = (true, 0);
    gate.clock.sleep(gate.random.below(micros(health.interval))).await;
    loop {
        let well = gate.servers[at].probe(micros(health.timeout)).await;
        gate.registry[at].observe(well, thresholds);
        run = if well == up { 0 } else { run + 1 };
        if run >= if well { thresholds.healthy } else { thresholds.unhealthy } {
            (up, run) = (well, 0);
            gate.ledger.count(if up { "marked up" } else { "marked down" });
        }
        gate.ledger.event(0, "probe", at as u64, u64::from(well));
        if gate.registry[at].health().is_up() != up {
            gate.ledger.broken(0, format!("endpoint {at} is marked up: {}", !up));
        }
        gate.clock.sleep(micros(health.interval)).await;
    }
}

impl Stage {
    fn request(&self, caller: usize, path: &'static str, nature: impl FnOnce(&Random) -> Nature) -> Request {
        let (gate, random) = (&self.gate, &self.random);
        let mut records = self.records.borrow_mut();
        let slow_us = if random.chance(5) { random.within(1000, 20_000) } else { 0 };
        let record = Record::new(records.len() as u64 + 1, caller, gate.clock.now_us(), slow_us);
        records.push(Rc::clone(&record));
        Request {
            record,
            shard: random.below(gate.cores.len() as u64) as usize,
            model: format!("m{}", random.below(self.scene.models as u64)),
            stream: random.chance(60),
            nature: nature(random),
            quick: false,
            timeout_us: u64::MAX,
            path,
        }
    }

    fn begin(self: &Rc<Self>, request: Request, leaves_us: u64) {
        let stage = Rc::clone(self);
        self.gate.clock.spawn(async move {
            stage.serve(request, leaves_us).await;
        });
    }

    /// A request from its arrival to its end.
    async fn serve(&self, request: Request, leaves_us: u64) -> Outcome {
        let (gate, record) = (&self.gate, &request.record);
        let _open = Counted::new(&self.open);
        let at_work = &self.at_work[record.caller];
        let _at_work = Counted::new(at_work);
        let core = &gate.cores[request.shard];
        let client = core.client(record.id);
        gate.ledger.note(record, "arrives", record.caller as u64, request.shard as u64);
        gate.ledger.count(if request.stream { "request for a stream" } else { "request for a whole answer" });
        if leaves_us != u64::MAX {
            let (client, of) = (Rc::clone(&client), Rc::clone(gate));
            let weak = Rc::downgrade(record);
            gate.clock.spawn(async move {
                of.clock.sleep(leaves_us).await;
                if weak.upgrade().is_some_and(|record| record.outcome.get().is_none()) {
                    client.leave();
                }
            });
        }
        let outcome = match exchange(self, &request, &client).await {
            Ok(Told::Whole) => Outcome::Whole,
            Ok(Told::Broken) => Outcome::Broken,
            Err(None) => Outcome::Gone,
            Err(Some(failure)) => {
                gate.ledger.must(!record.content.get(), record, || "told twice".to_owned());
                Outcome::Failed(failure.status)
            }
        };
        core.forget(record.id);
        gate.ledger.outcome(record, outcome);
        outcome
    }

    /// Who always has somebody waiting while fairness is looked at.
    fn look(&self) {
        // Whoever is not on an endpoint waits: with so many clients, fewer than one waits only if they are nearly all there.
        let held: u32 = self.gate.watched.iter().map(|watched| watched.running.get()).sum();
        for (caller, work) in self.at_work.iter().enumerate() {
            if work.get() <= held {
                self.idled[caller].set(true);
            }
        }
    }

    /// All requests have ended: within their deadlines, or never.
    async fn settled(&self) {
        let gate = &self.gate;
        let most_us = micros(gate.config.timeouts.total) + 10 * TICK_US + 1_000_000;
        let until_us = gate.clock.now_us() + most_us;
        gate.clock.sleep(1).await; // whoever has just come has begun
        while self.open.get() > 0 && gate.clock.now_us() < until_us {
            gate.clock.sleep(1000).await;
        }
        for record in self.records.borrow().iter().filter(|record| record.outcome.get().is_none()) {
            gate.ledger.broken(record.id, format!("never answered; {}", record.stage.get()));
        }
    }

    /// What must be left in the end: nothing.
    fn last_checks(&self, began_us: u64) {
        let (gate, ledger) = (&self.gate, &self.gate.ledger);
        let none = |what: &str, left: u64| {
            if left > 0 {
                ledger.broken(0, format!("{left} {what} left at the end"));
            }
        };
        for (at, endpoint) in gate.registry.iter().enumerate() {
            none("places", endpoint.in_flight().into());
            none("waiters", endpoint.places().is_waited_for().into());
            none("heads", endpoint.places().next_shard().is_some().into());
            none("requests there", gate.servers[at].active.get().into());
            none("breakers open", (!endpoint.breaker().is_closed()).into());
        }
        none("running", gate.running.taken().into());
        none("waiters", gate.running.is_waited_for().into());
        none("tickets", gate.hall.waiting().into());
        let seconds = (gate.clock.now_us() - began_us).div_ceil(1_000_000);
        let retry = &gate.config.retry;
        for core in &gate.cores {
            none("in line", core.line.borrow().len() as u64);
            let most = core.requests.get() * u64::from(retry.budget_percent) / 100
                + u64::from(retry.budget_min) * (seconds + 1);
            if core.retried.get() > most {
                ledger.broken(
                    0,
                    format!("{} retries, {most} may be: shard {}", core.retried.get(), core.index),
                );
            }
        }
        self.check_limits(seconds);
    }

    /// The zones let in no more than their rates, and their counts are given back.
    fn check_limits(&self, seconds: u64) {
        let (gate, let_in) = (&self.gate, self.let_in.borrow());
        for zone in &gate.config.limits.zones {
            let burst = zone.routes.first().map_or(0, |route| u64::from(route.burst));
            let most = u64::from(zone.rate) * (seconds + 1) / 1000 + burst + 1;
            let counts = if zone.name == "all" {
                &let_in[self.scene.callers.len()..]
            } else {
                &let_in[..self.scene.callers.len()]
            };
            for count in counts.iter().filter(|&&count| count > most) {
                gate.ledger.broken(0, format!("zone {} let in {count}, {most} may be", zone.name));
            }
            let concurrent = zone.routes.first().and_then(|route| route.concurrent_per_client).unwrap_or(0);
            for caller in 0..self.scene.callers.len() {
                let held: Vec<_> =
                    (0..concurrent).map(|_| gate.limiter.enter(LIMITED, address(caller))).collect();
                if held.iter().any(Result::is_err) {
                    gate.ledger.broken(0, format!("caller {caller} is counted as running at the end"));
                }
            }
        }
    }
}

fn address(caller: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, caller as u8).into()
}

/// A request's way through the door, the gateway's limit, the models and the relay: `shard::exchange`.
async fn exchange(stage: &Stage, request: &Request, client: &Client) -> Result<Told, Exit> {
    let (gate, record) = (&stage.gate, &request.record);
    let core = &gate.cores[request.shard];
    let _permit = admit(stage, request, client).await?;
    let model = gate.catalog.find(&request.model, &gate.registry).unwrap();
    let total_us = micros(model.timeouts.total).min(request.timeout_us);
    record.deadline_us.set(record.since_us + total_us);
    record.let_in_us.set(gate.clock.now_us());
    if gate.clock.now_us() > record.deadline_us.get() {
        gate.ledger.count("let in after its deadline");
    }
    let mut patience = Patience::new((gate, core), record, client, request.stream);
    let (_running, _held) = enter(gate, &mut patience).await?;
    core.requests.set(core.requests.get() + 1);
    core.retries.deposit(gate.clock.now_ms());
    let answered = first_content(gate, request, &mut patience).await;
    let answered = match answered {
        Err(Some(failure)) if client.begun.get() => {
            // The head has gone out: the failure is an event, and there is no proper end.
            gate.ledger.count("failure after a heartbeat");
            client.write(gate, record, &failure.event(corelane::api::Dialect::Openai)).await?;
            return Err(Some(failure));
        }
        answered => answered?,
    };
    answer(gate, request, client, answered).await
}

/// The zones, and the count of the client's exchanges.
async fn admit(stage: &Stage, request: &Request, client: &Client) -> Result<Option<Permit>, Exit> {
    let (gate, record) = (&stage.gate, &request.record);
    let address = address(record.caller);
    let asker = Asker { address, caller: None, header: &|_| None };
    let limited = || Some(corelane::api::Failure::new(FailureKind::RateLimited, "Rate limit reached."));
    match gate.limiter.rate(request.path, &asker, gate.clock.now_ms()) {
        Rate::Free => {}
        Rate::Reject { retry_after_ms, .. } => {
            gate.ledger.note(record, "rejected by a zone", retry_after_ms, 0);
            gate.ledger.count("rejected by a zone");
            return Err(limited());
        }
        Rate::Pass { delay_ms, .. } => {
            let mut let_in = stage.let_in.borrow_mut();
            let all = let_in.len() - 1;
            let_in[record.caller] += 1;
            let_in[all] += 1;
            drop(let_in);
            if delay_ms > 0 {
                gate.ledger.count("delayed by a zone");
                record.stage.set("left while delayed");
                client.unless_gone(pin!(gate.clock.sleep(delay_ms * 1000))).await?;
            }
        }
    }
    gate.limiter.enter(request.path, address).map_err(|_| {
        gate.ledger.count("too many of one client");
        limited()
    })
}

/// Takes one of `server.max_concurrent_requests`, in turn.
async fn enter<'a>(gate: &'a Gate, patience: &mut Patience<'_>) -> Result<(Place, Counted<'a>), Exit> {
    let running = &gate.running;
    if !running.is_waited_for()
        && let Some(place) = running.take()
    {
        return Ok((place, Counted::new(&gate.held)));
    }
    gate.ledger.count("wait for the gateway");
    let go = || running.take().map(|place| (place, Counted::new(&gate.held)));
    let could = Box::new(|gate: &Gate| gate.running.has_room());
    let wanted = Wanted { thing: &gate.entering, kind: 0, places: vec![Arc::clone(running)], could };
    let waiting = Box::pin(wait(patience, wanted, go));
    waiting.await.map_err(|unserved| refused(unserved, FailureKind::TooManyRequests, "At the limit"))
}
