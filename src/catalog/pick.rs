//! Which endpoint a request of a deployment goes to.
//!
//! First those that are up and whose breakers let them through, by the deployment's strategy (a retry goes to the one that has
//! given content last); one whose open time has passed
//! takes its turn with one trial. Then those that probes have marked: a mark only delays. Then, when every place of these
//! is taken, the request waits. Only if there is none of them, the last resort: an endpoint whose breaker is open is asked all the
//! same, so that a bad minute does not shut the gateway; but one that could not be reached is asked by one request at a
//! time, some ten times a second, and the others are told at once.

mod review;

pub use review::{Outcome, Review, Standing};

use std::cmp::Reverse;
use std::sync::Arc;

use super::{Deployment, Registry};
use crate::api::Task;
use crate::balance::Field;
use crate::breaker::{Breaker, Reason, State};
use crate::config::Strategy;
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

/// How a candidate is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// In turn: a place, and the trial of a breaker that is due.
    InTurn,
    /// Although its breaker is open: a place.
    AllTheSame,
    /// Although it could not be reached: a place, and a trial before its time.
    Early,
}

/// What does what [`Deployment::decide`] has decided: it takes, or only looks whether it could.
trait Hand {
    type Got;

    /// The candidate of a field, by its strategy.
    fn choose<E, L>(&self, field: &Field<'_, E, L>, strategy: Strategy, random: u64) -> Option<usize>
    where
        E: Fn(usize) -> bool,
        L: Fn(usize) -> u32;

    /// Candidate `at`; `None`: another request was faster.
    fn take(&self, one: &Deployment, look: Look<'_>, at: usize, means: Means) -> Option<Self::Got>;
}

/// What is decided.
enum Decision<G> {
    Taken(usize, G),
    Full,
    Resting,
    None,
}

impl Deployment {
    /// The candidate to ask next.
    #[must_use]
    pub fn pick(&self, look: Look<'_>) -> Pick {
        match self.decide(look, &Taking) {
            Decision::Taken(at, (place, trial)) => Pick::Taken(Picked { at, place, trial }),
            Decision::Full => Pick::Full,
            Decision::Resting => Pick::Resting,
            Decision::None => Pick::None,
        }
    }

    fn decide<H: Hand>(&self, look: Look<'_>, hand: &H) -> Decision<H::Got> {
        let mut lost = Vec::new(); // went to another shard while we looked
        for up in [true, false] {
            while let Some(at) = self.choose(look, &lost, hand, |at| self.is_ready(look, at, up)) {
                match hand.take(self, look, at, Means::InTurn) {
                    Some(got) => return Decision::Taken(at, got),
                    None => lost.push(at),
                }
            }
        }
        if self.left(look).any(|at| self.lets_through(look, at)) {
            return Decision::Full;
        }
        self.last_resort(look, hand)
    }

    /// Every candidate that is left refuses.
    fn last_resort<H: Hand>(&self, look: Look<'_>, hand: &H) -> Decision<H::Got> {
        let mut lost = Vec::new();
        let may = |at: usize| !self.is_unreachable(look, at) && self.has_room(look, at);
        while let Some(at) = self.choose(look, &lost, hand, may) {
            match hand.take(self, look, at, Means::AllTheSame) {
                Some(got) => return Decision::Taken(at, got),
                None => lost.push(at),
            }
        }
        let mut rests = false;
        for at in self.left(look) {
            if !self.is_unreachable(look, at) {
                return Decision::Full;
            }
            rests = true;
            if let Some(got) = hand.take(self, look, at, Means::Early) {
                return Decision::Taken(at, got);
            }
        }
        if rests { Decision::Resting } else { Decision::None }
    }

    /// One of those that `may` be taken: by the strategy, but for a retry the one that has given content last. Where one
    /// endpoint has fallen silent another may have a moment ago, and nobody knows yet.
    fn choose<H: Hand>(
        &self,
        look: Look<'_>,
        lost: &[usize],
        hand: &H,
        may: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let endpoint = |at: usize| &look.registry[self.candidates[at].endpoint];
        let eligible = |at: usize| !lost.contains(&at) && self.is_left(look, at) && may(at);
        if !look.tried.is_empty() {
            let alive = (0..self.candidates.len()).filter(|&at| eligible(at));
            return alive.max_by_key(|&at| (endpoint(at).served_ms(), Reverse(endpoint(at).load())));
        }
        let field = Field {
            n: self.candidates.len(),
            eligible,
            load: |at: usize| endpoint(at).load(),
            cursor: &self.cursor,
            turns: &self.turns,
        };
        hand.choose(&field, self.strategy, look.random)
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

/// Takes.
struct Taking;

impl Hand for Taking {
    type Got = (Place, Option<Trial>);

    fn choose<E, L>(&self, field: &Field<'_, E, L>, strategy: Strategy, random: u64) -> Option<usize>
    where
        E: Fn(usize) -> bool,
        L: Fn(usize) -> u32,
    {
        field.pick(strategy, random)
    }

    fn take(&self, one: &Deployment, look: Look<'_>, at: usize, means: Means) -> Option<Self::Got> {
        let candidate = &one.candidates[at];
        let endpoint = &look.registry[candidate.endpoint];
        let place = endpoint.enter()?;
        let mut trial = Trial { endpoint: None, model: None, since_ms: look.now_ms };
        let (whole, model) = (endpoint.breaker(), &candidate.breaker);
        let has = match means {
            Means::AllTheSame => true,
            Means::Early => {
                trial.endpoint = whole.force_trial(look.now_ms).then(|| Arc::clone(endpoint));
                trial.endpoint.is_some()
            }
            Means::InTurn => {
                let (of_whole, of_model) = (!whole.is_closed(), !model.is_closed());
                if of_whole && whole.try_trial(look.now_ms) {
                    trial.endpoint = Some(Arc::clone(endpoint));
                }
                let has_whole = trial.endpoint.is_some() == of_whole;
                if has_whole && of_model && model.try_trial(look.now_ms) {
                    trial.model = Some(Arc::clone(model));
                }
                has_whole && trial.model.is_some() == of_model
            }
        };
        if !has {
            place.unused();
            return None;
        }
        let trial = (trial.endpoint.is_some() || trial.model.is_some()).then_some(trial);
        Some((place, trial))
    }
}

#[cfg(test)]
mod tests;
