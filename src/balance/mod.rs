//! Which endpoint: one small file a strategy, all pure.
//!
//! A strategy sees positions `0..n` of a deployment's candidates and two questions about each: may it be taken,
//! and how many exchanges it has in flight. What is shared between shards is one cursor per deployment.

pub mod least_busy;
pub mod round_robin;
pub mod shards;
pub mod weighted;

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::config::Strategy;

/// What a strategy may look at.
pub struct Field<'a, E, L> {
    /// Number of candidates.
    pub n: usize,
    /// Whether a candidate may be taken.
    pub eligible: E,
    /// Exchanges in flight on it.
    pub load: L,
    /// Shared by all shards.
    pub cursor: &'a AtomicUsize,
    /// Candidates in weighted order, from [`weighted::turns`].
    pub turns: &'a [u16],
}

impl<E: Fn(usize) -> bool, L: Fn(usize) -> u32> Field<'_, E, L> {
    /// The candidate to take; `random` breaks ties. `None`: none is eligible.
    #[must_use]
    pub fn pick(&self, strategy: Strategy, random: u64) -> Option<usize> {
        match strategy {
            Strategy::RoundRobin => round_robin::pick(self.n, &self.eligible, self.cursor),
            Strategy::LeastBusy => least_busy::pick(self.n, &self.eligible, &self.load, random),
            Strategy::Weighted => weighted::pick(self.turns, &self.eligible, self.cursor),
        }
    }

    /// The candidate that [`Self::pick`] would take now; no turn is taken.
    #[must_use]
    pub fn peek(&self, strategy: Strategy, random: u64) -> Option<usize> {
        let turn = self.cursor.load(Ordering::Relaxed);
        match strategy {
            Strategy::RoundRobin => round_robin::at(self.n, &self.eligible, turn),
            Strategy::LeastBusy => least_busy::pick(self.n, &self.eligible, &self.load, random),
            Strategy::Weighted => weighted::at(self.turns, &self.eligible, turn),
        }
    }
}

#[cfg(test)]
mod tests;
