//! Whether a server is asked: closed lets through, open refuses, half-open has one probe under way.
//!
//! Opened by [`FAILURES`] in a row, closed by an answered probe. Pure: chance is an argument. The breaker of endpoints
//! (`crate::breaker`) is another one: shared by shards, it lets a request be the trial, and here nobody's request is.

use std::time::Duration;

/// Failures in a row that open it.
const FAILURES: u32 = 5;
/// Shortest and longest wait before a probe or an attempt to connect.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Whether a server is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breaker {
    /// It is.
    #[default]
    Closed,
    /// A probe asks it.
    HalfOpen,
    /// It is not.
    Open,
}

impl Breaker {
    /// The word in `/status` and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// A breaker, and the waits that grow while nothing answers.
#[derive(Debug, Default)]
pub(super) struct Guarded {
    state: Breaker,
    failures: u32,
    level: u32,
}

impl Guarded {
    pub(super) fn state(&self) -> Breaker {
        self.state
    }

    /// A question was answered. Of an open one it says nothing: it may be an answer from before.
    pub(super) fn success(&mut self) {
        if self.state == Breaker::Closed {
            (self.failures, self.level) = (0, 0);
        }
    }

    /// A question was not answered, or no connection came about. Whether this has opened it.
    pub(super) fn failure(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        let opens = self.state == Breaker::Closed && self.failures >= FAILURES;
        if opens {
            self.state = Breaker::Open;
        }
        opens
    }

    /// A probe begins.
    pub(super) fn begin_probe(&mut self) {
        if self.state == Breaker::Open {
            self.state = Breaker::HalfOpen;
        }
    }

    /// A probe ends. Whether this has closed it.
    pub(super) fn end_probe(&mut self, answered: bool) -> bool {
        let closes = answered && self.state != Breaker::Closed;
        match (answered, self.state) {
            (true, _) => (self.state, self.failures, self.level) = (Breaker::Closed, 0, self.level),
            (false, Breaker::Closed) => {}
            (false, _) => self.state = Breaker::Open,
        }
        closes
    }

    /// The next wait: twice the one before, from a half of it to all of it by `chance`.
    pub(super) fn wait(&mut self, chance: u64) -> Duration {
        let whole = WAIT_MIN.saturating_mul(1 << self.level.min(16)).min(WAIT_MAX);
        self.level = self.level.saturating_add(1);
        let half = whole / 2;
        half + Duration::from_micros(chance % u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_five_in_a_row_and_closes_by_a_probe() {
        let mut breaker = Guarded::default();
        for _ in 0..3 {
            assert_eq!([(); 4].map(|()| breaker.failure()), [false; 4]);
            breaker.success();
        }
        assert_eq!([(); 5].map(|()| breaker.failure()), [false, false, false, false, true]);
        assert!(!breaker.failure(), "it is open already");
        breaker.success();
        assert_eq!(breaker.state(), Breaker::Open, "a late answer closes nothing");
        breaker.begin_probe();
        assert_eq!(breaker.state(), Breaker::HalfOpen);
        assert!(!breaker.end_probe(false));
        assert_eq!(breaker.state(), Breaker::Open);
        breaker.begin_probe();
        assert!(breaker.end_probe(true) && breaker.state() == Breaker::Closed);
        assert!(!breaker.failure(), "the count begins anew");
    }

    #[test]
    fn waits_grow_and_have_an_end() {
        let mut breaker = Guarded::default();
        let longest: Vec<u128> = (0..9).map(|_| breaker.wait(u64::MAX - 3).as_millis()).collect();
        assert!(
            longest[0] >= 25 && longest[0] < 50 && longest[8] >= 2500 && longest[8] < 5000,
            "{longest:?}"
        );
        breaker.success();
        assert_eq!(breaker.wait(0).as_millis(), 25);
        assert_eq!((0..100).map(|_| breaker.wait(0)).last(), Some(WAIT_MAX / 2));
    }
}
