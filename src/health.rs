//! Whether an endpoint is well: a pure state machine in one word.
//!
//! Probes and failed connects are observations. `unhealthy_threshold` failures in a row mark an endpoint down,
//! `healthy_threshold` successes in a row mark it up; before the first observation it counts as up. A mark only
//! delays an endpoint while another is up: who picks decides that ([`crate::catalog`]).

/// The state in one `u64`, so that shards read it with one load: bit 0 up or down, bit 1 observed, the rest the
/// length of the current run against the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word(pub u64);

const DOWN: u64 = 1;
const OBSERVED: u64 = 2;
const RUN: u32 = 2;

/// Observations in a row that change the state.
#[derive(Debug, Clone, Copy)]
pub struct Thresholds {
    /// Failures until down, at least 1.
    pub unhealthy: u32,
    /// Successes until up, at least 1.
    pub healthy: u32,
}

impl Word {
    /// Nothing is known yet.
    pub const UNKNOWN: Self = Self(0);

    /// Whether it may be picked first.
    #[must_use]
    pub fn is_up(self) -> bool {
        self.0 & DOWN == 0
    }

    /// Whether anything has been observed.
    #[must_use]
    pub fn is_observed(self) -> bool {
        self.0 & OBSERVED != 0
    }

    /// Observations in a row that speak against the state.
    #[must_use]
    pub fn run(self) -> u32 {
        u32::try_from(self.0 >> RUN).unwrap_or(u32::MAX)
    }

    /// The state after one more observation.
    #[must_use]
    pub fn observe(self, success: bool, thresholds: Thresholds) -> Self {
        if success == self.is_up() {
            return Self(self.0 & DOWN | OBSERVED);
        }
        let run = self.run().saturating_add(1);
        let needed = if success { thresholds.healthy } else { thresholds.unhealthy };
        if run >= needed {
            Self(OBSERVED | if success { 0 } else { DOWN })
        } else {
            Self(self.0 & DOWN | OBSERVED | u64::from(run) << RUN)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_runs_not_totals() {
        let thresholds = Thresholds { unhealthy: 3, healthy: 2 };
        let mut word = Word::UNKNOWN;
        let ups: Vec<bool> = [false, false, true, false, false, false, true, false, true, true]
            .into_iter()
            .map(|success| {
                word = word.observe(success, thresholds);
                word.is_up()
            })
            .collect();
        assert_eq!(ups, [true, true, true, true, true, false, false, false, false, true]);
        assert!(word.is_observed());
    }
}
