//! Attempts: picking an endpoint, asking it, and going to another one until there is content to pass on.
//!
//! A retry is possible until the first content byte goes to the client, so [`super::ask`] reads a whole answer to
//! its end and a stream to its first event. What follows a failure is [`crate::retry`]'s to say, who is picked
//! [`crate::catalog::pick`]'s. Where a kept-alive connection dies before its first byte and no other endpoint is left, a fresh one
//! to the same endpoint costs no attempt: it may have been closed while we wrote.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Shard;
use super::access::Record;
use super::answered::Answered;
use super::ask::Ask;
use super::exchange::Exit;
use super::head::Incoming;
use super::limited::{Patience, Stopped, deadline_exceeded};
use super::line::{self, Unserved, Wanted};
use crate::api::error::Retry;
use crate::api::{Failure, FailureKind, Task, View};
use crate::catalog::Deployment;
use crate::catalog::pick::{Look, Pick, Picked};
use crate::net::clock;
use crate::refusal;
use crate::retry::{Next, Plan};
use crate::world::{Reservation, Who};

/// One request on its way to some endpoint of a deployment.
pub struct Attempts<'a> {
    /// Where it runs.
    pub shard: &'a Rc<Shard>,
    /// Whom it may ask.
    pub deployment: &'a Arc<Deployment>,
    /// The client's request.
    pub incoming: &'a Incoming,
    /// Where its body begins.
    pub body_at: usize,
    /// What was read of the body.
    pub view: &'a View,
    /// What is asked for.
    pub task: Task,
    /// The name that answers carry for the model.
    pub named: &'a str,
    /// Whose requests it counts with while it waits.
    pub who: Who<'a>,
}

/// Why there is nobody to ask.
enum Nobody {
    /// No endpoint is left.
    None,
    /// None could be reached a moment ago.
    Resting,
}

impl Attempts<'_> {
    /// Tries until an endpoint has content for the client.
    ///
    /// # Errors
    /// The last failure, or the one that says that nothing is healthy.
    pub async fn first_content(
        &self,
        patience: &mut Patience<'_>,
        held: &mut Reservation,
        record: &mut Record,
    ) -> Result<Box<Answered>, Exit> {
        let shard = self.shard;
        let mut plan = Plan::new(&shard.world.config.retry);
        // Those who would not have this caller of theirs, us.
        let mut denied = Vec::new();
        loop {
            let Picked { at, place, trial } = match self.pick(&plan, patience).await? {
                Ok(picked) => picked,
                Err(nobody) => return Err(Some(self.verdict(plan, &nobody))),
            };
            let candidate = &self.deployment.candidates[at];
            record.attempt(shard, candidate);
            let result = pin!(self.one(patience, held, record, at, &mut plan)).await;
            let failure = match result {
                Ok(answered) => {
                    record.attempt_ends(shard, true);
                    shard.served_well(candidate, answered.is_stream());
                    drop(trial);
                    denied.iter().for_each(|&at| shard.denied(&self.deployment.candidates[at]));
                    return Ok(answered.with(place, candidate.endpoint));
                }
                Err(None) => return Err(None),
                Err(Some(failure)) => failure,
            };
            drop(place);
            record.attempt_ends(shard, false);
            record.spans.attempt_failed(shard, &failure);
            if matches!(failure.status, 401 | 403) && failure.kind == FailureKind::UpstreamStatus {
                denied.push(at);
            }
            shard.served_badly(candidate, &failure);
            drop(trial); // a breaker that has heard nothing of its own is due again
            let is_left = |tried: &[usize]| self.deployment.any_left(&shard.world.registry, self.task, tried);
            let may_retry = || {
                let may = shard.retries.withdraw(clock::now_ms());
                shard.metrics().retries_refused.add(u64::from(!may));
                may
            };
            match plan.failed(at, failure, is_left, may_retry) {
                Next::Another => {}
                Next::After(wait_ms) => self.back_off(patience, wait_ms).await?,
                Next::Over => return Err(Some(self.verdict(plan, &Nobody::None))),
            }
        }
    }

    /// Picks, and waits in line where all places are taken.
    async fn pick(&self, plan: &Plan, patience: &mut Patience<'_>) -> Result<Result<Picked, Nobody>, Exit> {
        let look = |called| Look {
            registry: &self.shard.world.registry,
            task: self.task,
            tried: plan.tried(),
            random: self.shard.random(),
            now_ms: self.shard.clock.here_ms(),
            called,
        };
        let of = |pick| match pick {
            Pick::Taken(picked) => Some(Ok(picked)),
            Pick::Full => None,
            Pick::Resting => Some(Err(Nobody::Resting)),
            Pick::None => Some(Err(Nobody::None)),
        };
        if let Some(found) = of(self.deployment.pick(look(false))) {
            return Ok(found);
        }
        let tried = plan.tried();
        let wanted = Wanted {
            thing: &self.deployment.waiting,
            kind: self.shard.process.hash((Arc::as_ptr(self.deployment).addr(), self.task as usize, tried)),
            places: self.deployment.wanted(&self.shard.world.registry, self.task, tried),
        };
        let go = || of(self.deployment.pick(look(true)));
        let waiting = Box::pin(line::wait(patience, self.who, wanted, go));
        waiting.await.map_err(|unserved| {
            refused(unserved, FailureKind::SlotsTaken, &refusal::all_slots(&self.deployment.name))
        })
    }

    async fn back_off(&self, patience: &mut Patience<'_>, wait_ms: u64) -> Result<(), Exit> {
        let never = pin!(std::future::pending::<()>());
        match patience.limited(Duration::from_millis(wait_ms), never).await {
            Err(Stopped::Gone) => Err(None),
            Err(Stopped::Total) => Err(Some(deadline_exceeded())),
            _ => Ok(()),
        }
    }

    /// The failure to tell when no attempt is left.
    fn verdict(&self, plan: Plan, nobody: &Nobody) -> Failure {
        let is_left = self.deployment.any_left(&self.shard.world.registry, self.task, plan.tried());
        match plan.outcome() {
            (Some(failure), unreachable) if !unreachable || (is_left && matches!(nobody, Nobody::None)) => {
                failure
            }
            (last, _) => refusal::nothing_healthy(&self.deployment.name, last.as_ref()),
        }
    }

    /// One endpoint; a warm connection that turns out dead is replaced by a fresh one.
    async fn one(
        &self,
        patience: &mut Patience<'_>,
        held: &mut Reservation,
        record: &mut Record,
        at: usize,
        plan: &mut Plan,
    ) -> Result<Box<Answered>, Exit> {
        let candidate = &self.deployment.candidates[at];
        let ask = Ask {
            shard: self.shard,
            incoming: self.incoming,
            body_at: self.body_at,
            view: self.view,
            task: self.task,
            timeouts: &self.deployment.timeouts,
            price: self.deployment.price,
            named: self.named,
            candidate,
            endpoint: &self.shard.world.registry[candidate.endpoint],
        };
        let warm = self.shard.pools[candidate.endpoint].borrow_mut().take();
        let mut died = false;
        if let Some(upstream) = warm {
            self.shard.metrics().upstream_reuses.add(1);
            let result = pin!(ask.exchange(patience, held, record, upstream)).await;
            match result {
                Err(Some(failure)) if failure.retry == Retry::FreshConnection => {
                    // It may be what takes connections down: one to another endpoint says more than one to the same.
                    let mut tried = plan.tried().to_vec();
                    tried.push(at);
                    if self.deployment.any_left(&self.shard.world.registry, self.task, &tried) {
                        return Err(Some(failure.with_retry(Retry::OtherEndpoint)));
                    }
                    died = true;
                }
                result => return result,
            }
        }
        let upstream = match Box::pin(ask.connect(patience)).await {
            Err(Some(failure)) if died && failure.kind == FailureKind::ConnectFailed => {
                plan.died(); // it was not closed for being idle: nobody is there any more
                return Err(Some(failure));
            }
            upstream => upstream?,
        };
        // Should it die too it is the same endpoint's death: a process that is being killed still takes connections.
        pin!(ask.exchange(patience, held, record, upstream)).await
    }
}

/// What a request is told that did not get what it waited for.
#[must_use]
pub fn refused(unserved: Unserved, kind: FailureKind, text: &str) -> Exit {
    Some(match unserved {
        Unserved::Full(ms) => refusal::line_is_full(kind, text, ms),
        Unserved::TooLong(ms) => refusal::waited_too_long(kind, text, ms),
        Unserved::Stopped(Stopped::Gone) => return None,
        Unserved::Stopped(_) => deadline_exceeded(),
    })
}
