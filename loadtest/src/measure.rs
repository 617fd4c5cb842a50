//! What is measured of requests: one set of counts and histograms a thread, added up at the end.
//!
//! Times are microseconds, in HDR histograms with three digits (error at most 0.1 %), from 1 µs to an hour.
//! A set takes about 600 KiB a kind of work; recording is an index and an addition.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::outcome::Outcome;

/// Longest time that is told apart, in microseconds.
const TIME_MAX_US: u64 = 3_600_000_000;
/// Examples that are kept of each outcome by each thread, and bytes of an answer in one.
const EXAMPLES_MAX: usize = 3;
const EXAMPLE_BYTES: usize = 240;
/// Statuses that are told apart; there are no more in practice.
const STATUSES_MAX: usize = 64;

/// A histogram of microseconds.
#[derive(Debug, Clone)]
pub struct Times(Histogram<u64>);

impl Times {
    /// An empty one with so many significant digits, from 1 to 4.
    #[must_use]
    pub fn new(digits: u8) -> Self {
        match Histogram::new_with_bounds(1, TIME_MAX_US, digits.clamp(1, 4)) {
            Ok(histogram) => Self(histogram),
            Err(_) => unreachable!("bounds and digits are in range"),
        }
    }

    /// Adds a time.
    pub fn record(&mut self, time_us: u64) {
        self.0.saturating_record(time_us.max(1));
    }

    /// Adds another histogram.
    pub fn add(&mut self, other: &Self) {
        let _ = self.0.add(&other.0); // same bounds
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// Times that were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Milliseconds that `share` of the times do not exceed; 0 if there are none.
    #[must_use]
    pub fn quantile_ms(&self, share: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(share) as f64 / 1e3 }
    }

    /// Their mean, in milliseconds.
    #[must_use]
    pub fn mean_ms(&self) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.mean() / 1e3 }
    }

    /// The longest one, in milliseconds.
    #[must_use]
    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

/// One request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Which work.
    pub work: usize,
    /// Which key.
    pub key: usize,
    /// When it was due, when its first byte left, and when it ended; microseconds of the run.
    pub due_us: u64,
    /// As above; equal to `due_us` if it never left.
    pub sent_us: u64,
    /// As above.
    pub end_us: u64,
    /// When the first event came.
    pub first_us: Option<u64>,
    /// What became of it.
    pub outcome: Outcome,
    /// The status; 0: none came.
    pub status: u16,
    /// A kept connection was found closed, and it was sent again over a new one.
    pub resent: bool,
    /// Events that came.
    pub events: u64,
    /// Bytes that came.
    pub bytes_in: u64,
}

/// Measures of one kind of work.
#[derive(Debug, Clone)]
pub struct WorkMeasure {
    /// By [`Outcome`].
    pub outcomes: [u64; Outcome::COUNT],
    /// Due to last byte, of right answers that were not a guard's refusal.
    pub latency: Times,
    /// Due to first event.
    pub first: Times,
    /// Between events.
    pub gap: Times,
}

/// Measures of one key.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyMeasure {
    /// Requests that were due.
    pub offered: u64,
    /// Right answers.
    pub served: u64,
}

/// Measures of one status.
#[derive(Debug, Clone)]
pub struct StatusMeasure {
    /// The status.
    pub status: u16,
    /// Due to last byte.
    pub latency: Times,
}

/// One request that went wrong, to begin looking with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// What became of it.
    pub outcome: Outcome,
    /// Its number: its text begins with `q` and this in hexadecimal.
    pub index: u64,
    /// Its work.
    pub work: String,
    /// The status; 0: none came.
    pub status: u16,
    /// Milliseconds of the run when it was due.
    pub due_ms: u64,
    /// How the answer begins, as far as it was kept.
    pub answer: String,
}

/// What one second was like; times and counts of requests that ended in it.
#[derive(Debug, Clone)]
pub struct Second {
    /// Which one, from 0.
    pub number: u64,
    /// Requests that left.
    pub sent: u64,
    /// Right answers.
    pub ok: u64,
    /// Honest refusals.
    pub shed: u64,
    /// Errors.
    pub errors: u64,
    /// Requests that have left or wait, and have not ended.
    pub open: u64,
    /// Events of streams.
    pub events: u64,
    /// Due to last byte.
    pub latency: Times,
    /// Due to first event.
    pub first: Times,
}

impl Second {
    fn new(number: u64) -> Self {
        let (latency, first) = (Times::new(2), Times::new(2));
        Self { number, sent: 0, ok: 0, shed: 0, errors: 0, open: 0, events: 0, latency, first }
    }

    /// Adds what another thread saw of the same second.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.ok += other.ok;
        self.shed += other.shed;
        self.errors += other.errors;
        self.open += other.open;
        self.events += other.events;
        self.latency.add(&other.latency);
        self.first.add(&other.first);
    }
}

/// Everything that a thread measures.
#[derive(Debug, Clone)]
pub struct Measures {
    /// Requests that were due before are not judged.
    warm_up_us: u64,
    /// By work.
    pub works: Vec<WorkMeasure>,
    /// By key; one if there are none.
    pub keys: Vec<KeyMeasure>,
    /// In the order of their first.
    pub statuses: Vec<StatusMeasure>,
    /// Due to first byte sent: how late the load test itself was.
    pub lag: Times,
    /// Connections that were made, and how long that took.
    pub connects: Times,
    /// Requests that were sent again over a new connection.
    pub resent: u64,
    /// Events of streams.
    pub events: u64,
    /// Bytes that came.
    pub bytes_in: u64,
    /// Requests that had no outcome when the last deadline was over: a fault of the load test, never to be hidden.
    pub unfinished: u64,
    /// Requests that went wrong, the first ones of each outcome.
    pub examples: Vec<Example>,
    /// The second that runs.
    second: Second,
}

impl Measures {
    /// Nothing yet, of so many kinds of work and keys.
    #[must_use]
    pub fn new(works: usize, keys: usize, warm_up_us: u64) -> Self {
        let work = WorkMeasure {
            outcomes: [0; _],
            latency: Times::new(3),
            first: Times::new(3),
            gap: Times::new(3),
        };
        Self {
            warm_up_us,
            works: vec![work; works],
            keys: vec![KeyMeasure::default(); keys.max(1)],
            statuses: Vec::new(),
            lag: Times::new(3),
            connects: Times::new(3),
            resent: 0,
            events: 0,
            bytes_in: 0,
            unfinished: 0,
            examples: Vec::new(),
            second: Second::new(0),
        }
    }

    /// Whether a request that was due then is judged.
    #[must_use]
    pub fn is_judged(&self, due_us: u64) -> bool {
        due_us >= self.warm_up_us
    }

    /// A request leaves.
    pub fn note_sent(&mut self, due_us: u64, sent_us: u64) {
        self.second.sent += 1;
        if self.is_judged(due_us) {
            self.lag.record(sent_us.saturating_sub(due_us));
        }
    }

    /// Events have come: `count` at once, so long after those before; `None`: they are the first.
    pub fn note_events(
        &mut self,
        work: usize,
        due_us: u64,
        gap_us: Option<u64>,
        count: u64,
        since_due_us: u64,
    ) {
        self.second.events += count;
        if gap_us.is_none() {
            self.second.first.record(since_due_us);
        }
        if !self.is_judged(due_us) {
            return;
        }
        self.events += count;
        if let Some(work) = self.works.get_mut(work) {
            match gap_us {
                Some(gap) => work.gap.record(gap),
                None => work.first.record(since_due_us),
            }
            (1..count).for_each(|_| work.gap.record(0)); // they came together
        }
    }

    /// A request has ended.
    pub fn note_end(&mut self, sample: &Sample, hit: bool) {
        let latency = sample.end_us.saturating_sub(sample.due_us);
        match sample.outcome {
            Outcome::Ok => {
                self.second.ok += 1;
                self.second.latency.record(latency);
            }
            Outcome::Shed => self.second.shed += 1,
            _ => self.second.errors += 1,
        }
        if !self.is_judged(sample.due_us) {
            return;
        }
        self.resent += u64::from(sample.resent);
        self.bytes_in += sample.bytes_in;
        let ok = sample.outcome == Outcome::Ok;
        if let Some(work) = self.works.get_mut(sample.work) {
            work.outcomes[sample.outcome as usize] += 1;
            if ok && !hit {
                work.latency.record(latency);
            }
        }
        if let Some(key) = self.keys.get_mut(sample.key) {
            key.offered += 1;
            key.served += u64::from(ok);
        }
        if sample.status > 0 {
            self.status(sample.status, latency);
        }
    }

    /// Keeps a request that went wrong, if there are not enough of its outcome.
    pub fn note_example(&mut self, sample: &Sample, index: u64, work: &str, answer: &[u8]) {
        let alike = self.examples.iter().filter(|example| example.outcome == sample.outcome).count();
        if alike < EXAMPLES_MAX {
            let begin = answer.get(..EXAMPLE_BYTES.min(answer.len())).unwrap_or_default();
            self.examples.push(Example {
                outcome: sample.outcome,
                index,
                work: work.to_owned(),
                status: sample.status,
                due_ms: sample.due_us / 1000,
                answer: String::from_utf8_lossy(begin).into_owned(),
            });
        }
    }

    fn status(&mut self, status: u16, latency_us: u64) {
        let found = self.statuses.iter_mut().find(|known| known.status == status);
        if let Some(known) = found {
            known.latency.record(latency_us);
        } else if self.statuses.len() < STATUSES_MAX {
            let mut latency = Times::new(3);
            latency.record(latency_us);
            self.statuses.push(StatusMeasure { status, latency });
        }
    }

    /// Ends the second that runs; `open` requests have not ended.
    pub fn turn_second(&mut self, open: u64) -> Second {
        let next = Second::new(self.second.number + 1);
        let mut second = std::mem::replace(&mut self.second, next);
        second.open = open;
        second
    }

    /// Adds what another thread has measured.
    pub fn add(&mut self, other: &Self) {
        for (work, more) in self.works.iter_mut().zip(&other.works) {
            work.outcomes.iter_mut().zip(more.outcomes).for_each(|(count, more)| *count += more);
            work.latency.add(&more.latency);
            work.first.add(&more.first);
            work.gap.add(&more.gap);
        }
        for (key, more) in self.keys.iter_mut().zip(&other.keys) {
            key.offered += more.offered;
            key.served += more.served;
        }
        for more in &other.statuses {
            match self.statuses.iter_mut().find(|known| known.status == more.status) {
                Some(known) => known.latency.add(&more.latency),
                None => self.statuses.push(more.clone()),
            }
        }
        self.lag.add(&other.lag);
        self.connects.add(&other.connects);
        self.examples.extend_from_slice(&other.examples);
        self.unfinished += other.unfinished;
        self.resent += other.resent;
        self.events += other.events;
        self.bytes_in += other.bytes_in;
    }

    /// Requests with this outcome, over all work.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.works.iter().map(|work| work.outcomes[outcome as usize]).sum()
    }

    /// Requests that a condition on outcomes chooses.
    #[must_use]
    pub fn count_if(&self, chosen: impl Fn(Outcome) -> bool) -> u64 {
        Outcome::ALL.into_iter().filter(|outcome| chosen(*outcome)).map(|outcome| self.count(outcome)).sum()
    }
}
