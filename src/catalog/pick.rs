//! Which endpoint a request of a deployment goes to.
//!
//! First those that are up and whose breakers let them through, by the deployment's strategy (a retry goes to the one that has
//! given content last); one whose open time has passed
//! takes its turn with one trial. Then those that probes have marked: a mark only delays. Then, when every place of these
//! is taken, the request waits. Only if there is none of them, the last resort: an endpoint whose breaker is open is asked all the
//! same, so that a bad minute does not shut the gateway; but one that could not be reached is asked by one request at a
//! time, some ten times a second, and the others are told at once.

use std::cmp::Reverse;
use std::sync::Arc;

use super::{Deployment, Registry};
use crate::api::Task;
use crate::balance::Field;
use crate::breaker::{Breaker, Reason, State};
use crate::queue::{Place, Places};
use crate::registry::EndpointState;

/// What a pick depends on.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// The endpoints.
    pub registry: &'a Registry,
    /// What is asked for.
    pub task: Task,
    /// Candidates that this request has tried.
    pub tried: &'a [usize],
    /// Breaks ties.
    pub random: u64,
    /// Milliseconds of the process clock.
    pub now_ms: u64,
    /// The request has waited and it is its turn: it may take what others wait for.
    pub called: bool,
}

/// What a pick comes to.
pub enum Pick {
    /// A candidate, and a place on its endpoint.
    Taken(Picked),
    /// There are candidates, and all their places are taken.
    Full,
    /// All that are left could not be reached a moment ago.
    Resting,
    /// None is left.
    None,
}

/// A candidate to be asked.
pub struct Picked {
    /// Which one.
    pub at: usize,
    /// Its place on the endpoint.
    pub place: Place,
    /// It is the trial of a breaker.
    pub trial: Option<Trial>,
}

/// The trial of one or two breakers. One that has heard no verdict when this is dropped gives it to the next request.
pub struct Trial {
    endpoint: Option<Arc<EndpointState>>,
    model: Option<Arc<Breaker>>,
    since_ms: u64,
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Some(endpoint) = &self.endpoint {
            endpoint.breaker().trial_dropped(self.since_ms);
        }
        if let Some(model) = &self.model {
            model.trial_dropped(self.since_ms);
        }
    }
}

impl Deployment {
    /// The candidate to ask next.
    #[must_use]
    pub fn pick(&self, look: Look<'_>) -> Pick {
        let mut lost = Vec::new(); // went to another shard while we looked
        for up in [true, false] {
            while let Some(at) = self.choose(look, &lost, |at| self.is_ready(look, at, up)) {
                match self.take(look, at) {
                    Some(picked) => return Pick::Taken(picked),
                    None => lost.push(at),
                }
            }
        }
        if self.left(look).any(|at| self.lets_through(look, at)) {
            return Pick::Full;
        }
        self.last_resort(look)
    }

    /// Every candidate that is left refuses.
    fn last_resort(&self, look: Look<'_>) -> Pick {
        let mut lost = Vec::new();
        let may = |at: usize| !self.is_unreachable(look, at) && self.has_room(look, at);
        while let Some(at) = self.choose(look, &lost, may) {
            match look.registry[self.candidates[at].endpoint].enter() {
                Some(place) => return Pick::Taken(Picked { at, place, trial: None }),
                None => lost.push(at),
            }
        }
        let mut rests = false;
        for at in self.left(look) {
            let endpoint = &look.registry[self.candidates[at].endpoint];
            if !self.is_unreachable(look, at) {
                return Pick::Full;
            }
            rests = true;
            let Some(place) = endpoint.enter() else { continue };
            if endpoint.breaker().force_trial(look.now_ms) {
                let endpoint = Some(Arc::clone(endpoint));
                let trial = Trial { endpoint, model: None, since_ms: look.now_ms };
                return Pick::Taken(Picked { at, place, trial: Some(trial) });
            }
            place.unused();
        }
        if rests { Pick::Resting } else { Pick::None }
    }

    /// One of those that `may` be taken: by the strategy, but for a retry the one that has given content last. Where one
    /// endpoint has fallen silent another may have a moment ago, and nobody knows yet.
    fn choose(&self, look: Look<'_>, lost: &[usize], may: impl Fn(usize) -> bool) -> Option<usize> {
        let endpoint = |at: usize| &look.registry[self.candidates[at].endpoint];
        let eligible = |at: usize| !lost.contains(&at) && self.is_left(look, at) && may(at);
        if !look.tried.is_empty() {
            let alive = (0..self.candidates.len()).filter(|&at| eligible(at));
            return alive.max_by_key(|&at| (endpoint(at).served_ms(), Reverse(endpoint(at).in_flight())));
        }
        let field = Field {
            n: self.candidates.len(),
            eligible,
            load: |at: usize| endpoint(at).in_flight(),
            cursor: &self.cursor,
            turns: &self.turns,
        };
        field.pick(self.strategy, look.random)
    }

    /// Takes a place, and the trial if it takes one.
    fn take(&self, look: Look<'_>, at: usize) -> Option<Picked> {
        let candidate = &self.candidates[at];
        let endpoint = &look.registry[candidate.endpoint];
        let place = endpoint.enter()?;
        let (whole, one) = (endpoint.breaker().is_closed(), candidate.breaker.is_closed());
        if whole && one {
            return Some(Picked { at, place, trial: None });
        }
        let mut trial = Trial { endpoint: None, model: None, since_ms: look.now_ms };
        if !whole {
            if !endpoint.breaker().try_trial(look.now_ms) {
                place.unused();
                return None;
            }
            trial.endpoint = Some(Arc::clone(endpoint));
        }
        if !one {
            if !candidate.breaker.try_trial(look.now_ms) {
                place.unused();
                return None;
            }
            trial.model = Some(Arc::clone(&candidate.breaker));
        }
        Some(Picked { at, place, trial: Some(trial) })
    }

    fn is_ready(&self, look: Look<'_>, at: usize, up: bool) -> bool {
        let endpoint = &look.registry[self.candidates[at].endpoint];
        endpoint.health().is_up() == up && self.lets_through(look, at) && self.has_room(look, at)
    }

    /// Whether its breakers are closed, or due for a trial.
    fn lets_through(&self, look: Look<'_>, at: usize) -> bool {
        let candidate = &self.candidates[at];
        let lets = |breaker: &Breaker| breaker.is_closed() || breaker.is_due(look.now_ms);
        lets(look.registry[candidate.endpoint].breaker()) && lets(&candidate.breaker)
    }

    fn has_room(&self, look: Look<'_>, at: usize) -> bool {
        let places = look.registry[self.candidates[at].endpoint].places();
        places.has_room() && (look.called || !places.is_waited_for())
    }

    fn is_unreachable(&self, look: Look<'_>, at: usize) -> bool {
        let state = look.registry[self.candidates[at].endpoint].breaker().state(look.now_ms);
        matches!(
            state,
            State::Open { reason: Reason::Unreachable, .. } | State::HalfOpen { reason: Reason::Unreachable }
        )
    }

    fn is_left(&self, look: Look<'_>, at: usize) -> bool {
        let endpoint = &look.registry[self.candidates[at].endpoint];
        !look.tried.contains(&at) && !endpoint.disabled() && look.task.served_by(endpoint.config.kind)
    }

    fn left(&self, look: Look<'_>) -> impl Iterator<Item = usize> {
        (0..self.candidates.len()).filter(move |&at| self.is_left(look, at))
    }

    /// Whether a candidate is left that has not been tried.
    #[must_use]
    pub fn any_left(&self, registry: &Registry, task: Task, tried: &[usize]) -> bool {
        let look = Look { registry, task, tried, random: 0, now_ms: 0, called: false };
        self.left(look).next().is_some()
    }

    /// The places that a request may wait for.
    #[must_use]
    pub fn wanted(&self, registry: &Registry, task: Task, tried: &[usize]) -> Vec<Arc<Places>> {
        let look = Look { registry, task, tried, random: 0, now_ms: 0, called: false };
        self.left(look).map(|at| Arc::clone(registry[self.candidates[at].endpoint].places())).collect()
    }
}

#[cfg(test)]
mod tests;
