//! systemd's watchdog hears of this process as long as all its threads go on.
//!
//! A shard that stands still keeps its clients waiting, and nobody else notices at once. Every shard and the control core
//! count their ticks; the main thread looks three times an interval (sd_watchdog_enabled(3) asks for two) and tells the
//! watchdog only if each count has moved since. One that does not move for a whole interval has the service ended and
//! started anew. The journal's thread is left out: a disk may be slow, and nobody waits for it. While the process drains,
//! the main thread alone counts: shards end when their work does.
//!
//! Cost: a load a thread each look; a shard adds one to a word of its own each tick.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Gateway;
use crate::net::{clock, handover};

/// When the watchdog is told next, and what had been counted before.
pub(super) struct Watchdog {
    every_ns: u64,
    next_ns: u64,
    seen: Vec<u64>,
}

impl Watchdog {
    /// One that wants to hear within `interval`; `None`: nobody wants to.
    pub(super) fn new(interval: Option<Duration>, now_ns: u64) -> Option<Self> {
        let every_ns = u64::try_from((interval? / 3).as_nanos()).unwrap_or(u64::MAX);
        Some(Self { every_ns, next_ns: now_ns.saturating_add(every_ns), seen: Vec::new() })
    }

    /// Whether it is told now, by the counts of all threads that must go on.
    fn is_told(&mut self, now_ns: u64, counts: impl Iterator<Item = u64>) -> bool {
        if now_ns < self.next_ns {
            return false;
        }
        self.next_ns = now_ns.saturating_add(self.every_ns);
        let counts: Vec<u64> = counts.collect();
        let all_move = counts.iter().zip(&self.seen).all(|(now, before)| now != before);
        if all_move {
            self.seen = counts;
        }
        all_move
    }
}

impl Gateway {
    /// Tells systemd's watchdog, if there is one, that it is time and everything goes on.
    pub(super) fn tell_watchdog(&mut self) {
        let Some(watchdog) = &mut self.watchdog else { return };
        if self.process.handed_over.load(Ordering::Acquire) {
            return; // it listens to the successor now
        }
        let counts = if self.process.is_draining() { Vec::new() } else { self.process.ticks() };
        if watchdog.is_told(clock::now_ns(), counts.into_iter()) {
            handover::notify("WATCHDOG=1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn it_is_told_three_times_an_interval() {
        let mut watchdog = Watchdog::new(Some(Duration::from_secs(30)), 0).unwrap();
        let told =
            (0..100).filter(|&at| watchdog.is_told(at * SECOND_NS, [at].into_iter())).collect::<Vec<_>>();
        assert_eq!(told, [10, 20, 30, 40, 50, 60, 70, 80, 90]);
        assert!(Watchdog::new(None, 0).is_none());
    }

    #[test]
    fn one_that_stands_still_makes_it_silent() {
        let mut watchdog = Watchdog::new(Some(Duration::from_secs(3)), 0).unwrap();
        let mut look = |at: u64, counts: [u64; 3]| watchdog.is_told(at * SECOND_NS, counts.into_iter());
        assert!(look(1, [1, 1, 1]), "nothing is known of before");
        assert!(look(2, [2, 2, 2]));
        assert!(!look(3, [3, 2, 3]) && !look(4, [4, 2, 4]), "the second stands still");
        assert!(look(5, [5, 3, 5]), "it goes on");
        assert!(!look(6, [6, 4, 5]));
    }

    #[test]
    fn who_drains_counts_alone() {
        let mut watchdog = Watchdog::new(Some(Duration::from_secs(3)), 0).unwrap();
        assert!(watchdog.is_told(SECOND_NS, [1].into_iter()));
        assert!((2..9).all(|at| watchdog.is_told(at * SECOND_NS, [].into_iter())));
    }
}
