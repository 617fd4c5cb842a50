//! Attempts: picking an endpoint, asking it, and going to another one until there is content to pass on.
//!
//! A retry is possible until the first content byte goes to the client, so [`super::ask`] reads a whole answer to
//! its end and a stream to its first event. An endpoint is not tried twice while another is left; a failed connect
//! never is. A kept-alive connection that dies before its first byte costs no attempt: it was closed while we wrote.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use super::Shard;
use super::access::Record;
use super::ask::Ask;
use super::exchange::Exit;
use super::head::{Incoming, micros};
use super::relay::Answered;
use crate::api::error::Retry;
use crate::api::{Failure, FailureKind, Task, View};
use crate::catalog::Deployment;
use crate::net::{Client, Stop};
use crate::registry::InFlight;
use crate::world::Reservation;

/// One request on its way to some endpoint.
pub struct Attempts<'a> {
    shard: &'a Rc<Shard>,
    deployment: &'a Arc<Deployment>,
    incoming: &'a Incoming,
    body_at: usize,
    view: &'a View,
    task: Task,
    deadline_us: u64,
    tried: Vec<usize>,
}

impl<'a> Attempts<'a> {
    /// None made yet.
    #[must_use]
    pub fn new(
        shard: &'a Rc<Shard>,
        deployment: &'a Arc<Deployment>,
        incoming: &'a Incoming,
        body_at: usize,
        view: &'a View,
        task: Task,
        deadline_us: u64,
    ) -> Self {
        Self { shard, deployment, incoming, body_at, view, task, deadline_us, tried: Vec::new() }
    }

    /// Tries until an endpoint has content for the client.
    ///
    /// # Errors
    /// The last failure, or the one that says that nothing is healthy.
    pub async fn first_content(
        &mut self,
        client: &mut Client,
        held: &mut Reservation,
        record: &mut Record,
    ) -> Result<Answered, Exit> {
        let retry = &self.shard.world.config.retry;
        let mut last: Option<Failure> = None;
        let mut unreachable = true;
        for made in 0..retry.attempts {
            let Some((at, in_flight)) = self.pick() else { break };
            record.attempt(self.shard, &self.deployment.candidates[at]);
            let failure = match self.one(client, held, record, at, in_flight).await {
                Ok(answered) => {
                    record.attempt_ends(self.shard, true);
                    return Ok(answered);
                }
                Err(None) => return Err(None),
                Err(Some(failure)) => failure,
            };
            record.attempt_ends(self.shard, false);
            unreachable &= failure.kind == FailureKind::ConnectFailed;
            let again = failure.retry == Retry::OtherEndpoint
                && (retry.on_timeout || failure.kind != FailureKind::UpstreamTimeout);
            let repeats =
                failure.status >= 500 && !unreachable && failure.kind != FailureKind::UpstreamTimeout;
            last = Some(failure);
            if !again {
                break;
            }
            self.tried.push(at);
            if made + 1 < retry.attempts && self.is_exhausted() && repeats {
                self.back_off(client, made).await?;
                self.tried.clear();
            }
        }
        Err(Some(self.verdict(last, unreachable)))
    }

    /// Picks and enters; an endpoint whose last slot went to another shard meanwhile is not picked again.
    fn pick(&self) -> Option<(usize, InFlight)> {
        let registry = &self.shard.world.registry;
        let mut tried = self.tried.clone();
        loop {
            let at = self.deployment.pick(registry, self.task, &tried, self.shard.random())?;
            match registry[self.deployment.candidates[at].endpoint].enter() {
                Some(in_flight) => return Some((at, in_flight)),
                None => tried.push(at),
            }
        }
    }

    fn is_exhausted(&self) -> bool {
        !self.deployment.any_left(&self.shard.world.registry, self.task, &self.tried)
    }

    async fn back_off(&self, client: &Client, made: u32) -> Result<(), Exit> {
        let wait = self.shard.world.config.retry.backoff.saturating_mul(1 << made.min(6));
        client.timer().set((self.shard.clock.now_us() + micros(wait)).min(self.deadline_us));
        match client.race(pin!(std::future::pending::<()>())).await {
            Err(Stop::ClientGone) => Err(None),
            _ => Ok(()),
        }
    }

    /// The failure to tell when no attempt is left.
    fn verdict(&self, last: Option<Failure>, unreachable: bool) -> Failure {
        let registry = &self.shard.world.registry;
        let retry_after =
            u32::try_from(self.shard.world.config.health.interval.as_secs()).unwrap_or(5).clamp(1, 5);
        match last {
            Some(failure) if !unreachable || !self.is_exhausted() => failure,
            None if self.deployment.all_full(registry, self.task) => {
                let text = format!("All slots of the endpoints of {} are taken.", self.deployment.name);
                Failure::new(FailureKind::SlotsTaken, text).after(1)
            }
            last => {
                let why = last.map(|failure| format!(": {}", failure.message)).unwrap_or_default();
                let text = format!("No healthy backends for model {}{why}", self.deployment.name);
                Failure::new(FailureKind::NothingHealthy, text).after(retry_after)
            }
        }
    }

    /// One endpoint; a warm connection that turns out dead is replaced by a fresh one.
    async fn one(
        &self,
        client: &mut Client,
        held: &mut Reservation,
        record: &mut Record,
        at: usize,
        in_flight: InFlight,
    ) -> Result<Answered, Exit> {
        let candidate = &self.deployment.candidates[at];
        let ask = Ask {
            shard: self.shard,
            incoming: self.incoming,
            body_at: self.body_at,
            view: self.view,
            task: self.task,
            deadline_us: self.deadline_us,
            candidate,
            endpoint: &self.shard.world.registry[candidate.endpoint],
        };
        let warm = self.shard.pools[candidate.endpoint].borrow_mut().take();
        if let Some(upstream) = warm {
            self.shard.metrics().upstream_reuses.add(1);
            match ask.exchange(client, held, record, upstream).await {
                Err(Some(failure)) if failure.retry == Retry::FreshConnection => {}
                result => return result.map(|answered| answered.with(in_flight, candidate.endpoint)),
            }
        }
        let upstream = ask.connect(client).await?;
        let result = ask.exchange(client, held, record, upstream).await;
        result.map(|answered| answered.with(in_flight, candidate.endpoint))
    }
}
