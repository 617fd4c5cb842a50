//! The last minute in numbers: readings of all shards, a second apart, and what happened between two of them.
//!
//! Pure: the time is an argument. Counters only grow, so the difference of two readings is what came between. Where
//! nobody has watched for longer than the window, the newest reading before it is the base, and the length that is told is
//! the true one. Bound: [`SAMPLES_MAX`] readings, each of 16 bytes a model and endpoint and half a KiB.

use std::collections::VecDeque;

use crate::telemetry::histogram::{EXCHANGE_US, Reading, SHORT_US};
use crate::telemetry::metric::STATUSES;

/// Least time between two readings, in milliseconds.
const APART_MS: u64 = 900;
/// Window of percentiles, in milliseconds.
pub const WINDOW_MS: u64 = 60_500;
/// Window of rates, in milliseconds.
pub const RATE_MS: u64 = 5_500;
/// Readings that are kept: a window of them, the newest before it, and some room.
const SAMPLES_MAX: usize = 72;

/// All counters at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When, in milliseconds of the process clock.
    pub at_ms: u64,
    /// Answers by status, in the order of [`STATUSES`].
    pub by_status: [u64; STATUSES.len()],
    /// Durations of exchanges with models.
    pub duration: Reading,
    /// Times to first content of streams.
    pub first_token: Reading,
    /// The gateway's own share.
    pub overhead: Reading,
    /// Answers, and those of them that were errors, by the model's slot.
    pub models: Vec<[u64; 2]>,
    /// Attempts that succeeded and failed, by the endpoint's slot.
    pub endpoints: Vec<[u64; 2]>,
}

impl Sample {
    /// Nothing has happened yet at `at_ms`.
    #[must_use]
    pub fn none(at_ms: u64) -> Self {
        Self {
            at_ms,
            by_status: [0; STATUSES.len()],
            duration: Reading::new(&EXCHANGE_US),
            first_token: Reading::new(&EXCHANGE_US),
            overhead: Reading::new(&SHORT_US),
            models: Vec::new(),
            endpoints: Vec::new(),
        }
    }

    /// Answers in all.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.by_status.iter().sum()
    }

    /// Answers that told of a failure.
    #[must_use]
    pub fn errors(&self) -> u64 {
        let statuses = STATUSES.iter().zip(&self.by_status);
        statuses.filter(|(status, _)| **status != 200).map(|(_, count)| count).sum()
    }
}

/// Readings in the order of their time; never empty.
#[derive(Debug)]
pub struct History(VecDeque<Sample>);

impl Default for History {
    fn default() -> Self {
        Self(VecDeque::from([Sample::none(0)]))
    }
}

impl History {
    /// Whether it is time for another reading.
    #[must_use]
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.0.back().is_none_or(|last| now_ms >= last.at_ms.saturating_add(APART_MS))
    }

    /// Adds a reading, and forgets those that no window needs.
    pub fn add(&mut self, sample: Sample) {
        let from_ms = sample.at_ms.saturating_sub(WINDOW_MS);
        self.0.push_back(sample);
        // One that is older than the window stays only while there is no other to look back to.
        while self.0.len() > 2
            && (self.0.len() > SAMPLES_MAX || self.0.front().is_some_and(|old| old.at_ms < from_ms))
        {
            self.0.pop_front();
        }
    }

    /// The newest reading, and the one that a window of `span_ms` begins with.
    #[must_use]
    pub fn window(&self, span_ms: u64) -> Option<Window<'_>> {
        let end = self.0.back()?;
        let from_ms = end.at_ms.saturating_sub(span_ms);
        let earlier = || self.0.iter().take(self.0.len() - 1);
        let begin = earlier().find(|sample| sample.at_ms >= from_ms).or_else(|| earlier().next_back())?;
        Some(Window { begin, end })
    }
}

/// What lies between two readings.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    begin: &'a Sample,
    end: &'a Sample,
}

impl Window<'_> {
    /// Its length in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        real(self.end.at_ms.saturating_sub(self.begin.at_ms)) / 1000.0
    }

    /// The growth of a counter.
    pub fn growth(&self, pick: impl Fn(&Sample) -> u64) -> u64 {
        pick(self.end).saturating_sub(pick(self.begin))
    }

    /// The growth of a counter in a second, to three places.
    pub fn rate(&self, pick: impl Fn(&Sample) -> u64) -> f64 {
        let seconds = self.seconds();
        if seconds > 0.0 { places(real(self.growth(pick)) / seconds) } else { 0.0 }
    }

    /// The records of a histogram.
    pub fn reading(&self, pick: impl Fn(&Sample) -> &Reading) -> Reading {
        pick(self.end).since(pick(self.begin))
    }
}

/// The pair of a slot; slots that came later had nothing before.
#[must_use]
pub fn at(pairs: &[[u64; 2]], slot: usize) -> [u64; 2] {
    pairs.get(slot).copied().unwrap_or_default()
}

/// Rounded to three places.
#[must_use]
pub fn places(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A count as a real number.
#[must_use]
pub fn real(count: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of requests and milliseconds of uptime stay below 2^52"
    )]
    let count = count as f64;
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: u64, good: u64, bad: u64) -> Sample {
        let mut sample = Sample::none(at_ms);
        sample.by_status[0] = good;
        sample.by_status[1] = bad;
        sample.models = vec![[0, 0], [good + bad, bad]];
        sample
    }

    #[test]
    fn the_first_window_begins_with_the_process() {
        let mut history = History::default();
        assert!(history.window(WINDOW_MS).is_none() && history.is_due(900) && !history.is_due(899));
        history.add(sample(4000, 6, 2));
        let window = history.window(RATE_MS).unwrap();
        assert_eq!((window.growth(Sample::requests), window.growth(Sample::errors)), (8, 2));
        assert!((window.rate(Sample::requests) - 2.0).abs() < 1e-9 && (window.seconds() - 4.0).abs() < 1e-9);
        assert_eq!(window.growth(|sample| at(&sample.models, 1)[0]), 8);
        assert_eq!(window.growth(|sample| at(&sample.models, 9)[0]), 0);
    }

    #[test]
    fn windows_slide_and_readings_are_bounded() {
        let mut history = History::default();
        for second in 1..=200 {
            assert!(history.is_due(second * 1000));
            history.add(sample(second * 1000, second * 10, 0));
        }
        assert!(history.0.len() <= SAMPLES_MAX);
        let long = history.window(WINDOW_MS).unwrap();
        assert!((long.seconds() - 60.0).abs() < 1e-9 && (long.rate(Sample::requests) - 10.0).abs() < 1e-9);
        assert!((history.window(RATE_MS).unwrap().seconds() - 5.0).abs() < 1e-9);
        // Nobody watches for an hour: the length that is told is the true one, and the next second is itself.
        history.add(sample(3_800_000, 2000, 36_000));
        let gap = history.window(RATE_MS).unwrap();
        assert!((gap.seconds() - 3600.0).abs() < 1e-9 && (gap.rate(Sample::errors) - 10.0).abs() < 1e-9);
        history.add(sample(3_801_000, 2007, 36_000));
        let next = history.window(WINDOW_MS).unwrap();
        assert!((next.seconds() - 1.0).abs() < 1e-9 && (next.rate(Sample::requests) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn a_counter_that_falls_counts_nothing() {
        let mut history = History::default();
        history.add(sample(1000, 5, 0));
        history.add(sample(2000, 3, 0));
        assert_eq!(history.window(1500).unwrap().growth(Sample::requests), 0);
    }
}
