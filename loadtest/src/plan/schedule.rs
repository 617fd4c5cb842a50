//! When requests of an open loop are due.
//!
//! The rate is integrated over the phases: arrival *n* is due where the integral reaches the n-th level. With constant
//! arrivals the levels are ½, 1½, 2½, …; with Poisson arrivals they are the points of a process of rate 1 (time
//! change of a Poisson process), so that ramps cost nothing more. Bursts are merged in. Pure, and lazy: a schedule of
//! an hour takes no memory. Every thread walks the whole of it and takes its own part.

use crate::chance::Chance;
use crate::scenario::{Arrivals, Load, Phase};

/// The stream of chance that arrivals have; requests have theirs from [`crate::plan::REQUESTS`] on.
const ARRIVALS: u64 = 0;

/// A phase with what lies before it.
#[derive(Debug, Clone)]
struct Span {
    begin: f64,
    time: f64,
    rate: f64,
    slope: f64,
    /// Integral of the rate at its begin and at its end.
    level: f64,
    level_end: f64,
    burst: u32,
    every: f64,
}

impl Span {
    /// When the integral is `level`, which lies in this span.
    fn at(&self, level: f64) -> f64 {
        let area = (level - self.level).max(0.0);
        let root = (self.rate * self.rate + 2.0 * self.slope * area).max(0.0).sqrt();
        let sum = self.rate + root;
        let after = if sum > 0.0 { 2.0 * area / sum } else { 0.0 };
        self.begin + after.min(self.time)
    }
}

/// The arrivals in their order; items are microseconds from the begin.
#[derive(Debug, Clone)]
pub struct Schedule {
    spans: Vec<Span>,
    at: usize,
    level: f64,
    poisson: Option<Chance>,
    smooth: Option<f64>,
    bursts: Bursts,
}

/// The bursts: which span, which one of it, how many are left of it.
#[derive(Debug, Clone, Default)]
struct Bursts {
    span: usize,
    number: u32,
    left: u32,
}

impl Schedule {
    /// The schedule of a load.
    #[must_use]
    pub fn new(load: &Load, seed: u64) -> Self {
        let (mut begin, mut level) = (0.0, 0.0);
        let span = |phase: &Phase| {
            let time = phase.time.as_secs_f64();
            let to = phase.to.unwrap_or(phase.rate);
            let level_end = level + time * (phase.rate + to) / 2.0;
            let span = Span {
                begin,
                time,
                rate: phase.rate,
                slope: (to - phase.rate) / time,
                level,
                level_end,
                burst: phase.burst,
                every: phase.every.map_or(f64::INFINITY, |every| every.as_secs_f64()),
            };
            begin += time;
            level = level_end;
            span
        };
        let spans = load.phases.iter().map(span).collect();
        let (level, poisson) = match load.arrivals {
            Arrivals::Poisson => (0.0, Some(Chance::new(seed, ARRIVALS))),
            Arrivals::Constant => (-0.5, None),
        };
        let mut schedule = Self { spans, at: 0, level, poisson, smooth: None, bursts: Bursts::default() };
        schedule.smooth = schedule.next_smooth();
        schedule
    }

    fn next_smooth(&mut self) -> Option<f64> {
        self.level += self.poisson.as_mut().map_or(1.0, Chance::exponential);
        while self.spans.get(self.at)?.level_end <= self.level {
            self.at += 1;
        }
        self.spans.get(self.at).map(|span| span.at(self.level))
    }

    /// When the next burst is.
    fn next_burst(&mut self) -> Option<f64> {
        loop {
            let span = self.spans.get(self.bursts.span)?;
            let after = f64::from(self.bursts.number + 1) * span.every;
            if span.burst > 0 && after < span.time {
                if self.bursts.left == 0 {
                    self.bursts.left = span.burst;
                }
                return Some(span.begin + after);
            }
            self.bursts = Bursts { span: self.bursts.span + 1, ..Bursts::default() };
        }
    }

    fn take_burst(&mut self) {
        self.bursts.left = self.bursts.left.saturating_sub(1);
        if self.bursts.left == 0 {
            self.bursts.number += 1;
        }
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let due = match (self.smooth, self.next_burst()) {
            (Some(smooth), Some(burst)) if burst <= smooth => {
                self.take_burst();
                burst
            }
            (None, Some(burst)) => {
                self.take_burst();
                burst
            }
            (Some(smooth), _) => {
                self.smooth = self.next_smooth();
                smooth
            }
            (None, None) => return None,
        };
        Some((due * 1e6) as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scenario::Scenario;

    fn load(arrivals: &str, phases: &str) -> Load {
        let text = format!(
            "about = ''\n[load]\nmode = 'open'\narrivals = '{arrivals}'\nphases = [{phases}]\n[[work]]\nname = 'a'\nkind = 'chat'\nmodel = 'm'\n"
        );
        Scenario::parse(&text).unwrap().load
    }

    #[test]
    fn constant_arrivals_have_equal_gaps() {
        let due: Vec<u64> = Schedule::new(&load("constant", "{time='2s', rate=100}"), 1).collect();
        assert_eq!(due.len(), 200);
        assert_eq!(due[0], 5_000);
        assert!(due.windows(2).all(|pair| (9_999..=10_001).contains(&(pair[1] - pair[0]))));
    }

    #[test]
    fn bursts_come_in_time_and_in_order() {
        let phases = "{time='2s', rate=10}, {time='3s', rate=10, burst=7, every='1s'}, {time='1s', rate=0}";
        let due: Vec<u64> = Schedule::new(&load("constant", phases), 1).collect();
        assert_eq!(due.len(), 50 + 14);
        assert!(due.is_sorted());
        for at in [3_000_000, 4_000_000] {
            assert_eq!(due.iter().filter(|&&due| due == at).count(), 7, "{at}");
        }
    }

    #[test]
    fn a_ramp_from_and_to_nothing_ends() {
        let load = load("constant", "{time='1s', rate=0, to=100}, {time='1s', rate=100, to=0}");
        let due: Vec<u64> = Schedule::new(&load, 1).collect();
        assert_eq!(due.len(), 100);
        assert!(due.is_sorted());
        assert!(due.iter().all(|&due| due <= 2_000_000));
        let early = due.iter().filter(|&&due| due < 500_000).count();
        assert!((12..=13).contains(&early), "a quarter of the first half: {early}");
        assert_eq!(load.phases[0].time, Duration::from_secs(1));
    }
}
