//! What a pick would come to now, and how each candidate stands, without taking anything.
//!
//! The decision is [`Deployment::pick`]'s own, made by a hand that only looks. How candidates stand is read behind it, so
//! under load both may differ by what other requests do in between.

use super::{Decision, Deployment, Hand, Look, Means};
use crate::balance::Field;
use crate::breaker::State;
use crate::config::Strategy;

/// What a pick would come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Candidate `at` would be asked.
    Taken(usize),
    /// All places are taken: the request would stand in line.
    Full,
    /// All that are left could not be reached a moment ago.
    Resting,
    /// None is left.
    None,
}

/// How a candidate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is taken.
    Taken,
    /// It is taken, as the trial of its breaker.
    Trial,
    /// It is taken although its breaker is open: no other is left.
    LastResort,
    /// This request has tried it.
    Tried,
    /// An operator has taken it out.
    Disabled,
    /// Its kind has no such path.
    WrongKind,
    /// Its breaker, or the model's if `of_model`, refuses.
    Refuses {
        /// The breaker is the model's on this endpoint.
        of_model: bool,
        /// What that breaker says.
        state: State,
    },
    /// All its places are taken.
    NoRoom,
    /// Others wait for its places.
    WaitedFor,
    /// Probes have marked it, and another is up.
    Marked,
    /// Another is less busy, or it is another one's turn.
    Another,
}

/// A pick that was not made.
#[derive(Debug)]
pub struct Review {
    /// What it would come to.
    pub outcome: Outcome,
    /// By candidate.
    pub standings: Vec<Standing>,
    /// Candidates with as good a claim as the one taken: chance decides.
    pub ties: Vec<usize>,
}

/// Only looks.
struct Looking;

impl Hand for Looking {
    type Got = Means;

    fn choose<E, L>(&self, field: &Field<'_, E, L>, strategy: Strategy, random: u64) -> Option<usize>
    where
        E: Fn(usize) -> bool,
        L: Fn(usize) -> u32,
    {
        field.peek(strategy, random)
    }

    fn take(&self, one: &Deployment, look: Look<'_>, at: usize, means: Means) -> Option<Means> {
        let endpoint = &look.registry[one.candidates[at].endpoint];
        let may = match means {
            Means::InTurn => one.lets_through(look, at),
            Means::AllTheSame => true,
            Means::Early => endpoint.breaker().may_force_trial(look.now_ms),
        };
        (may && endpoint.places().has_room()).then_some(means)
    }
}

impl Deployment {
    /// What [`Self::pick`] would come to now.
    #[must_use]
    pub fn review(&self, look: Look<'_>) -> Review {
        let decision = self.decide(look, &Looking);
        let taken = match decision {
            Decision::Taken(at, means) => Some((at, means)),
            _ => None,
        };
        let outcome = match decision {
            Decision::Taken(at, _) => Outcome::Taken(at),
            Decision::Full => Outcome::Full,
            Decision::Resting => Outcome::Resting,
            Decision::None => Outcome::None,
        };
        let standings = (0..self.candidates.len()).map(|at| self.standing(look, at, taken)).collect();
        Review { outcome, standings, ties: self.ties(look, taken) }
    }

    /// How one of its endpoints is picked.
    #[must_use]
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// The weight of each candidate in its turns, by how many of a cycle it has.
    #[must_use]
    pub fn turns_of(&self, at: usize) -> usize {
        self.turns.iter().filter(|&&turn| usize::from(turn) == at).count()
    }

    fn standing(&self, look: Look<'_>, at: usize, taken: Option<(usize, Means)>) -> Standing {
        let candidate = &self.candidates[at];
        let endpoint = &look.registry[candidate.endpoint];
        let closed = endpoint.breaker().is_closed() && candidate.breaker.is_closed();
        match taken {
            Some((one, Means::InTurn)) if one == at && closed => return Standing::Taken,
            Some((one, Means::InTurn | Means::Early)) if one == at => return Standing::Trial,
            Some((one, Means::AllTheSame)) if one == at => return Standing::LastResort,
            _ => {}
        }
        if look.tried.contains(&at) {
            Standing::Tried
        } else if endpoint.disabled() {
            Standing::Disabled
        } else if !self.is_left(look, at) {
            Standing::WrongKind
        } else if !self.lets_through(look, at) {
            let of_whole = endpoint.breaker().state(look.now_ms);
            let of_model = of_whole == State::Closed || endpoint.breaker().is_due(look.now_ms);
            let state = if of_model { candidate.breaker.state(look.now_ms) } else { of_whole };
            Standing::Refuses { of_model, state }
        } else if !endpoint.places().has_room() {
            Standing::NoRoom
        } else if !self.has_room(look, at) {
            Standing::WaitedFor
        } else if !endpoint.health().is_up() {
            Standing::Marked
        } else {
            Standing::Another
        }
    }

    /// Those that are as little busy as the one taken, where the least busy is.
    fn ties(&self, look: Look<'_>, taken: Option<(usize, Means)>) -> Vec<usize> {
        let Some((one, Means::InTurn)) = taken.filter(|_| self.strategy == Strategy::LeastBusy) else {
            return Vec::new();
        };
        let endpoint = |at: usize| &look.registry[self.candidates[at].endpoint];
        let (load, up) = (endpoint(one).load(), endpoint(one).health().is_up());
        let ties = |&at: &usize| {
            at != one && self.is_left(look, at) && self.is_ready(look, at, up) && endpoint(at).load() == load
        };
        (0..self.candidates.len()).filter(ties).collect()
    }
}
