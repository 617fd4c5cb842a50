//! From endpoint to endpoint and from model to model: `shard::attempt`, `shard::fallback` and `shard::judge`, step by step.
//!
//! Plans, fallbacks, picks, breakers and budgets are the real ones. Left out: the guard, keys, metrics and memory reservations.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use corelane::api::error::Retry;
use corelane::api::{Failure, FailureKind, Task};
use corelane::breaker::{Breaker, Reason, State};
use corelane::catalog::Deployment;
use corelane::catalog::pick::{Look, Pick, Picked};
use corelane::registry::EndpointState;
use corelane::retry::{Blame, Fallbacks, Next, Plan, blame, falls_back};
use corelane::shard::attempt::refused;
use corelane::shard::limited::{Stopped, deadline_exceeded};

use super::ask::{Answered, Ask};
use super::gate::{Counted, Exit, Gate, Patience, Wanted, wait};
use super::run::Request;

pub const TASK: Task = Task::Chat;

/// A request and the model that it goes to, now.
pub struct Attempts<'a, 'g> {
    pub gate: &'g Gate,
    pub request: &'a Request,
    pub deployment: &'a Arc<Deployment>,
}

enum Nobody {
    None,
    Resting,
}

/// A trial of an endpoint that could not be reached.
#[derive(Clone, Copy)]
pub struct OnTrial {
    verdicts: u64,
}

/// Asks the model, then those that stand in for it.
pub async fn first_content<'g>(
    gate: &'g Gate,
    request: &Request,
    patience: &mut Patience<'_>,
) -> Result<Answered<'g>, Exit> {
    let record = &request.record;
    let settings = &gate.config.fallbacks;
    let mut deployment = gate.catalog.find(&request.model, &gate.registry).unwrap();
    let mut chain: Option<Fallbacks> = None;
    loop {
        record.plans(&deployment.name);
        let attempts = Attempts { gate, request, deployment: &deployment };
        let failure = match attempts.first_content(patience).await {
            Err(Some(failure)) => failure,
            done => return done,
        };
        let too_long = failure.says_context_is_exceeded();
        if !too_long && !falls_back(&failure) {
            return Err(Some(failure));
        }
        let own = match &*deployment {
            one if too_long && (!one.context_window_fallbacks.is_empty() || !falls_back(&failure)) => {
                &one.context_window_fallbacks
            }
            one if one.fallbacks.is_empty() && chain.is_none() => &settings.default,
            one => &one.fallbacks,
        };
        let mut own = own.clone();
        let chain = chain.get_or_insert_with(|| Fallbacks::new(&deployment.name, settings.models_max));
        let next = std::iter::from_fn(|| chain.next(&std::mem::take(&mut own)))
            .find_map(|model| gate.catalog.find(&model, &gate.registry));
        let Some(next) = next else { return Err(Some(failure)) };
        gate.ledger.count(if too_long { "fallback of a long request" } else { "fallback" });
        let asked = record.models.borrow();
        gate.ledger.must(
            !asked.contains(&next.name) && asked.len() <= settings.models_max as usize,
            record,
            || format!("{} is asked after {asked:?}, {} may be", next.name, settings.models_max),
        );
        drop(asked);
        if gate.ledger.has_problems() && record.models.borrow().len() > 20 {
            return Err(Some(failure)); // around a loop: it is told, the run must end
        }
        deployment = next;
    }
}

impl<'g> Attempts<'_, 'g> {
    async fn first_content(&self, patience: &mut Patience<'_>) -> Result<Answered<'g>, Exit> {
        let (gate, record) = (self.gate, &self.request.record);
        let mut plan = Plan::new(&gate.config.retry);
        let mut denied = Vec::new();
        loop {
            let (Picked { at, place, trial }, on_trial) = match self.pick(&plan, patience).await? {
                Ok(picked) => picked,
                Err(nobody) => return Err(Some(self.verdict(plan, &nobody))),
            };
            let candidate = &self.deployment.candidates[at];
            let running = Counted::new(&gate.watched[candidate.endpoint].running);
            let watch = Watch { gate, endpoint: candidate.endpoint, on_trial };
            let result = self.one(patience, at, &mut plan, &watch).await;
            let failure = match result {
                Ok(answered) => {
                    watch.verdict();
                    self.served_well(at);
                    drop(trial);
                    watch.ends();
                    denied.iter().for_each(|&at| self.denied(at));
                    return Ok(answered.with(place, running, candidate.endpoint, &self.deployment.name));
                }
                Err(None) => {
                    watch.verdict_if(trial.is_some());
                    watch.ends();
                    return Err(None);
                }
                Err(Some(failure)) => failure,
            };
            drop((place, running));
            gate.ledger.failed(record, failure.status);
            let tells = failure.kind == FailureKind::UpstreamStatus || blame(&failure) != Blame::Nobody;
            watch.verdict_if(trial.is_some() || tells);
            if matches!(failure.status, 401 | 403) && failure.kind == FailureKind::UpstreamStatus {
                denied.push(at);
            }
            if trial.is_some() && blame(&failure) == Blame::Nobody {
                gate.ledger.count("trial that blames nobody");
            }
            self.served_badly(at, &failure);
            drop(trial); // a breaker that has heard nothing of its own is due again
            watch.ends();
            let is_left = |tried: &[usize]| self.deployment.any_left(&gate.registry, TASK, tried);
            match plan.failed(at, failure, is_left, || self.may_retry()) {
                Next::Another => gate.ledger.count("next: another"),
                Next::After(wait_ms) => {
                    gate.ledger.count("next: the same after a while");
                    record.tried.borrow_mut().clear();
                    self.back_off(patience, wait_ms).await?;
                }
                Next::Over => return Err(Some(self.verdict(plan, &Nobody::None))),
            }
        }
    }

    fn may_retry(&self) -> bool {
        let (gate, core) = (self.gate, &self.gate.cores[self.request.shard]);
        let may = core.retries.withdraw(gate.clock.now_ms());
        core.retried.set(core.retried.get() + u64::from(may));
        gate.ledger.count(if may { "retry within the budget" } else { "retry refused by the budget" });
        may
    }

    async fn pick(
        &self,
        plan: &Plan,
        patience: &mut Patience<'_>,
    ) -> Result<Result<(Picked, Option<OnTrial>), Nobody>, Exit> {
        let gate = self.gate;
        let go = |called| {
            let unreachable: Vec<bool> = (0..gate.registry.len()).map(|at| gate.is_unreachable(at)).collect();
            let picked = self.deployment.pick(Look {
                registry: &gate.registry,
                task: TASK,
                tried: plan.tried(),
                random: gate.random.next(),
                now_ms: gate.clock.now_ms(),
                called,
            });
            match picked {
                Pick::Taken(picked) => {
                    let on_trial = self.taken(&picked, &unreachable);
                    Some(Ok((picked, on_trial)))
                }
                Pick::Full => None,
                Pick::Resting => Some(Err(Nobody::Resting)),
                Pick::None => Some(Err(Nobody::None)),
            }
        };
        if let Some(found) = go(false) {
            return Ok(found);
        }
        let mut could = Could::new(gate, self.deployment, plan.tried());
        let wanted = Wanted {
            thing: &self.deployment.waiting,
            kind: self.kind(plan.tried()),
            places: self.deployment.wanted(&gate.registry, TASK, plan.tried()),
            could: Box::new(move |gate| could.now(gate)),
        };
        let waiting = Box::pin(wait(patience, wanted, || go(true)));
        waiting.await.map_err(|unserved| refused(unserved, FailureKind::SlotsTaken, "All slots are taken"))
    }

    /// Those who wait for the same model after the same attempts; there, a hash with a key of the process.
    fn kind(&self, tried: &[usize]) -> u64 {
        let name = self.deployment.name.bytes().map(u64::from);
        let tried = tried.iter().map(|&at| 1000 + at as u64);
        name.chain(tried).fold(1, |hash, part| (hash ^ part).wrapping_mul(0x0100_0000_01b3))
    }

    /// A candidate has been picked: whether it may be, and whether it is the trial of one that could not be reached.
    fn taken(&self, picked: &Picked, unreachable: &[bool]) -> Option<OnTrial> {
        let (gate, record) = (self.gate, &self.request.record);
        let at = self.deployment.candidates[picked.at].endpoint;
        let tried = record.tried.borrow().clone();
        if tried.contains(&at) {
            let other = self.deployment.candidates.iter().find(|other| {
                let endpoint = &gate.registry[other.endpoint];
                !tried.contains(&other.endpoint)
                    && endpoint.health().is_up()
                    && endpoint.breaker().is_closed()
                    && other.breaker.is_closed()
                    && endpoint.places().has_room()
                    && !endpoint.places().is_waited_for()
            });
            gate.ledger.must(other.is_none(), record, || {
                format!("endpoint {at} is asked again, {} was up with room", other.unwrap().endpoint)
            });
        }
        gate.watched[at].asked.set(gate.watched[at].asked.get() + 1);
        gate.ledger.attempt(record, at, u64::from(gate.registry[at].in_flight()));
        if picked.trial.is_some() {
            gate.ledger.count("trial");
            gate.watched[at].trials_taken.set(gate.watched[at].trials_taken.get() + 1);
        }
        if !unreachable[at] {
            return None;
        }
        gate.ledger.must(picked.trial.is_some(), record, || format!("endpoint {at} rests, and is asked"));
        gate.ledger.count("trial of one that could not be reached");
        let watched = &gate.watched[at];
        watched.trials.set(watched.trials.get() + 1);
        Some(OnTrial { verdicts: watched.verdicts.get() })
    }

    async fn back_off(&self, patience: &mut Patience<'_>, wait_ms: u64) -> Result<(), Exit> {
        self.request.record.stage.set("left while backing off");
        let never = pin!(std::future::pending::<()>());
        match patience.limited(Duration::from_millis(wait_ms), never).await {
            Err(Stopped::Gone) => Err(None),
            Err(Stopped::Total) => Err(Some(deadline_exceeded())),
            _ => Ok(()),
        }
    }

    fn verdict(&self, plan: Plan, nobody: &Nobody) -> Failure {
        let is_left = self.deployment.any_left(&self.gate.registry, TASK, plan.tried());
        match plan.outcome() {
            (Some(failure), unreachable) if !unreachable || (is_left && matches!(nobody, Nobody::None)) => {
                failure
            }
            _ => {
                self.gate.ledger.count(match nobody {
                    Nobody::Resting => "all rest",
                    Nobody::None => "nobody could be reached",
                });
                Failure::new(FailureKind::NothingHealthy, "No healthy backends").after(1)
            }
        }
    }

    async fn one(
        &self,
        patience: &mut Patience<'_>,
        at: usize,
        plan: &mut Plan,
        watch: &Watch<'_>,
    ) -> Result<Answered<'static>, Exit> {
        let gate = self.gate;
        let candidate = &self.deployment.candidates[at];
        let ask = Ask { gate, request: self.request, deployment: self.deployment, candidate };
        let mut died = false;
        let warm = gate.cores[self.request.shard].take(candidate.endpoint);
        if let Some(upstream) = warm {
            gate.ledger.count("warm connection");
            match ask.exchange(patience, upstream).await {
                Err(Some(failure)) if failure.retry == Retry::FreshConnection => died = true,
                result => return result,
            }
        }
        let upstream = match ask.connect(patience).await {
            Err(Some(failure)) if died && failure.kind == FailureKind::ConnectFailed => {
                gate.ledger.count("warm connection died, and nobody is there");
                plan.died();
                return Err(Some(failure));
            }
            upstream => upstream?,
        };
        watch.connected();
        gate.registry[candidate.endpoint].breaker().connected(gate.clock.now_ms());
        ask.exchange(patience, upstream).await
    }

    fn served_well(&self, at: usize) {
        let candidate = &self.deployment.candidates[at];
        let endpoint = &self.gate.registry[candidate.endpoint];
        let now_ms = self.gate.clock.now_ms();
        endpoint.served(now_ms);
        endpoint.breaker().success(now_ms);
        candidate.breaker.success(now_ms);
    }

    /// It would not serve what another one served then.
    fn denied(&self, at: usize) {
        let for_ms = self.gate.config.breaker.missing.as_millis() as u64;
        let breaker = &self.deployment.candidates[at].breaker;
        if for_ms > 0 && breaker.open_for(self.gate.clock.now_ms(), for_ms, Reason::Missing) {
            self.gate.ledger.count("breaker of one that denies opens");
        }
    }

    fn served_badly(&self, at: usize, failure: &Failure) {
        let (gate, now_ms) = (self.gate, self.gate.clock.now_ms());
        let candidate = &self.deployment.candidates[at];
        let endpoint = &gate.registry[candidate.endpoint];
        let settings = &gate.config.breaker;
        let closed = endpoint.breaker().is_closed() && candidate.breaker.is_closed();
        match blame(failure) {
            Blame::Nobody if failure.kind == FailureKind::UpstreamStatus => {
                endpoint.breaker().success(now_ms);
                candidate.breaker.success(now_ms);
            }
            Blame::Nobody => {}
            Blame::Endpoint(reason) => blame_endpoint(gate, endpoint, reason),
            Blame::Model(Reason::Missing, _) => {
                endpoint.breaker().success(now_ms);
                let for_ms = settings.missing.as_millis() as u64;
                if for_ms > 0 && candidate.breaker.open_for(now_ms, for_ms, Reason::Missing) {
                    gate.ledger.count("breaker of a missing model opens");
                }
            }
            Blame::Model(reason, asked_ms) => {
                endpoint.breaker().success(now_ms);
                let most_ms = settings.retry_after_max.as_millis() as u64;
                let opened = match asked_ms.map(|asked_ms| asked_ms.min(most_ms)) {
                    Some(for_ms) if for_ms > 0 => candidate.breaker.open_for(now_ms, for_ms, reason),
                    _ => candidate.breaker.failure(now_ms, reason, &gate.rules),
                };
                if opened {
                    gate.ledger.count("breaker of a busy model opens");
                }
            }
        }
        let opened = closed && !(endpoint.breaker().is_closed() && candidate.breaker.is_closed());
        gate.ledger.must(
            !opened || !matches!(failure.status, 400 | 401 | 403 | 422),
            &self.request.record,
            || format!("a {} has opened a breaker", failure.status),
        );
    }
}

/// Whether a request that waits would get a place now. A breaker that is due has one trial for all who wait: while others take
/// them, one after the other, nobody is passed over.
struct Could {
    of: Arc<Deployment>,
    tried: Vec<usize>,
    /// Trials taken of each candidate's endpoint when it was last asked.
    trials: Vec<u64>,
}

impl Could {
    fn new(gate: &Gate, of: &Arc<Deployment>, tried: &[usize]) -> Self {
        let mut new = Self { of: Arc::clone(of), tried: tried.to_vec(), trials: Vec::new() };
        new.trials = new.taken(gate);
        new
    }

    fn taken(&self, gate: &Gate) -> Vec<u64> {
        self.of.candidates.iter().map(|one| gate.watched[one.endpoint].trials_taken.get()).collect()
    }

    fn now(&mut self, gate: &Gate) -> bool {
        let now_ms = gate.clock.now_ms();
        let taken = self.taken(gate);
        let before = std::mem::replace(&mut self.trials, taken);
        self.of.candidates.iter().enumerate().any(|(at, one)| {
            let endpoint = &gate.registry[one.endpoint];
            let own_turn = before[at] == self.trials[at];
            let lets = |breaker: &Breaker| breaker.is_closed() || (own_turn && breaker.is_due(now_ms));
            let open = lets(endpoint.breaker()) && lets(&one.breaker);
            !self.tried.contains(&at) && open && endpoint.places().has_room()
        })
    }
}

/// An endpoint is to blame.
pub fn blame_endpoint(gate: &Gate, endpoint: &EndpointState, reason: Reason) {
    if endpoint.breaker().failure(gate.clock.now_ms(), reason, &gate.rules) {
        endpoint.breaker_opened();
        gate.ledger.count(match reason {
            Reason::Unreachable => "breaker opens: unreachable",
            Reason::Timeout => "breaker opens: timeout",
            _ => "breaker opens: answers",
        });
    }
}

/// Somebody who is not the trial tells of an endpoint. A breaker that waits for a trial takes anybody's word for it (the
/// head of `breaker` says so); what is then still in flight is no trial any more.
pub fn straggler(gate: &Gate, endpoint: usize) {
    let watched = &gate.watched[endpoint];
    let state = gate.registry[endpoint].breaker().state(gate.clock.now_ms());
    if state == (State::HalfOpen { reason: Reason::Unreachable }) {
        gate.ledger.count("a straggler's verdict for a trial's");
        watched.verdicts.set(watched.verdicts.get() + 1);
        watched.trials.set(0);
    }
}

/// An attempt as the trials of its endpoint see it.
struct Watch<'a> {
    gate: &'a Gate,
    endpoint: usize,
    on_trial: Option<OnTrial>,
}

impl Watch<'_> {
    /// Whether it is the trial whose verdict is waited for.
    fn is_current(&self) -> bool {
        let now = self.gate.watched[self.endpoint].verdicts.get();
        self.on_trial.is_some_and(|trial| trial.verdicts == now)
    }

    /// It tells the breaker how it went.
    fn verdict(&self) {
        if !self.is_current() {
            straggler(self.gate, self.endpoint);
        }
    }

    fn verdict_if(&self, told: bool) {
        if told {
            self.verdict();
        }
    }

    /// The endpoint can be reached: from here on it is one attempt among others.
    fn connected(&self) {
        self.verdict();
        self.ends();
        let watched = &self.gate.watched[self.endpoint];
        watched.verdicts.set(watched.verdicts.get() + u64::from(self.on_trial.is_some()));
    }

    fn ends(&self) {
        if self.is_current() {
            let trials = &self.gate.watched[self.endpoint].trials;
            trials.set(trials.get().saturating_sub(1));
        }
    }
}
