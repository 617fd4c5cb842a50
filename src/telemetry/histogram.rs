//! A histogram with fixed bounds, written by one shard and read by the control core without a lock.
//!
//! Cost of a record: a binary search in at most 20 numbers and two plain stores. A reader may see the sum of a
//! record and not yet its bucket; the next scrape has both.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bounds of times an exchange takes, in microseconds: LiteLLM's buckets.
pub const EXCHANGE_US: [u64; 17] = [
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    420_000_000,
    600_000_000,
];

/// Bounds of our own share of an exchange, and of gaps between events, in microseconds.
pub const SHORT_US: [u64; 17] = [
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    5_000_000,
];

/// Bounds in a histogram; the bucket beyond the last is the eighteenth.
const BOUNDS: usize = 17;

/// Times in microseconds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64; BOUNDS],
    counts: [AtomicU64; BOUNDS + 1],
    sum_us: AtomicU64,
}

/// What a histogram held when it was read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Upper bounds in microseconds.
    pub bounds: &'static [u64; BOUNDS],
    /// Records per bucket, not cumulative; the last one has no upper bound.
    pub counts: [u64; BOUNDS + 1],
    /// Sum of all records in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Empty.
    #[must_use]
    pub fn new(bounds: &'static [u64; BOUNDS]) -> Self {
        Self { bounds, counts: [const { AtomicU64::new(0) }; BOUNDS + 1], sum_us: AtomicU64::new(0) }
    }

    /// Counts one time. Only the shard that owns the histogram may call it.
    pub fn record(&self, us: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < us);
        bump(&self.counts[bucket], 1);
        bump(&self.sum_us, us);
    }

    /// Adds what it holds to `reading`, which must have the same bounds.
    pub fn add_to(&self, reading: &mut Reading) {
        for (sum, count) in reading.counts.iter_mut().zip(&self.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
        reading.sum_us += self.sum_us.load(Ordering::Relaxed);
    }
}

impl Reading {
    /// Nothing yet.
    #[must_use]
    pub fn new(bounds: &'static [u64; BOUNDS]) -> Self {
        Self { bounds, counts: [0; BOUNDS + 1], sum_us: 0 }
    }

    /// Number of records.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What came after `earlier`, a reading of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut later = self.clone();
        for (count, before) in later.counts.iter_mut().zip(&earlier.counts) {
            *count = count.saturating_sub(*before);
        }
        later.sum_us = later.sum_us.saturating_sub(earlier.sum_us);
        later
    }

    /// The time in microseconds that a `share` from 0 to 1 of the records did not exceed, as if those of a bucket lay
    /// evenly between its bounds; the last bound for records beyond it. `None`: there are no records.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> Option<f64> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let rank = share.clamp(0.0, 1.0) * real(total);
        let (mut before, mut lower) = (0, 0);
        for (bound, up_to) in self.cumulative() {
            let Some(bound) = bound else { break };
            if real(up_to) >= rank && up_to > before {
                let within = (rank - real(before)).max(0.0) / real(up_to - before);
                return Some(real(lower) + within * real(bound - lower));
            }
            (before, lower) = (up_to, bound);
        }
        Some(real(lower))
    }

    /// (upper bound in microseconds or `None`, records up to it).
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        bounds.zip(self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }))
    }
}

fn real(number: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts, and bounds of ten minutes at most")]
    let number = number as f64;
    number
}

/// Adds without a locked instruction: there is one writer.
pub(super) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_upper_ends() {
        let histogram = Histogram::new(&SHORT_US);
        for us in [0, 5, 6, 5_000_000, 5_000_001] {
            histogram.record(us);
        }
        let mut reading = Reading::new(&SHORT_US);
        histogram.add_to(&mut reading);
        assert_eq!(
            (reading.counts[0], reading.counts[1], reading.counts[16], reading.counts[17]),
            (2, 1, 1, 1)
        );
        assert_eq!(reading.total(), 5);
        assert_eq!(reading.cumulative().last(), Some((None, 5)));
        assert_eq!(reading.sum_us, 10_000_012);
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let histogram = Histogram::new(&EXCHANGE_US);
        let read = || {
            let mut reading = Reading::new(&EXCHANGE_US);
            histogram.add_to(&mut reading);
            reading
        };
        assert_eq!(read().quantile_us(0.5), None);
        (0..100).for_each(|_| histogram.record(20_000));
        let close = |share, expected: f64| (read().quantile_us(share).unwrap() - expected).abs() < 0.1;
        assert!(close(0.5, 17_500.0) && close(1.0, 25_000.0) && close(0.0, 10_000.0));
        let before = read();
        (0..10).for_each(|_| histogram.record(80_000));
        let later = read().since(&before);
        assert_eq!((later.total(), later.sum_us), (10, 800_000));
        assert!((later.quantile_us(0.5).unwrap() - 75_000.0).abs() < 0.1, "what came before plays no part");
        (0..1000).for_each(|_| histogram.record(3_600_000_000));
        assert!(close(0.99, 600_000_000.0), "beyond the last bound nothing is known");
    }
}
