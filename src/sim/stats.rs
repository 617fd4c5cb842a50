//! What a simulated server counts: read by tests and load tests while it runs.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_queue::ArrayQueue;

use crate::net::clock;

static ORIGIN: LazyLock<Instant> = LazyLock::new(clock::now);

/// Microseconds of the clock that [`Stats::cancelled_at`] is in; it begins with the first server of the process.
#[must_use]
pub fn now_us() -> u64 {
    u64::try_from(clock::now().saturating_duration_since(*ORIGIN).as_micros()).unwrap_or(u64::MAX)
}

/// A request as it arrived, chunked coding removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Request line and fields, up to and with the empty line.
    pub head: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
}

impl Recorded {
    /// The head as text.
    #[must_use]
    pub fn head_text(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }

    /// The value of the first field called `name`, in any case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        let head = self.head_text();
        let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Counts and gauges. Written by the server's thread only.
#[derive(Debug)]
pub struct Stats {
    /// Connections open now.
    pub connections_open: AtomicU64,
    /// Connections accepted.
    pub connections_total: AtomicU64,
    /// Requests whose head was valid, of any kind.
    pub requests: AtomicU64,
    /// Requests to models: generations and embeddings, refused ones too.
    pub model_requests: AtomicU64,
    /// Slots in use now.
    pub generating: AtomicU64,
    /// Requests that wait for a load or a slot now.
    pub waiting: AtomicU64,
    /// Models loaded so far, reloads counted.
    pub loads: AtomicU64,
    /// Requests whose client left before the answer was complete.
    pub cancelled: AtomicU64,
    /// When the last of them was noticed, by [`now_us`]; 0: never.
    pub cancelled_at: AtomicU64,
    /// Tokens sent, of all choices.
    pub tokens_sent: AtomicU64,
    /// Requests refused for their `Host`.
    pub foreign_hosts: AtomicU64,
    /// The last POST requests; a full queue drops the oldest.
    pub recorded: ArrayQueue<Recorded>,
}

impl Stats {
    pub(super) fn new(record: usize) -> Self {
        LazyLock::force(&ORIGIN);
        Self {
            connections_open: AtomicU64::default(),
            connections_total: AtomicU64::default(),
            requests: AtomicU64::default(),
            model_requests: AtomicU64::default(),
            generating: AtomicU64::default(),
            waiting: AtomicU64::default(),
            loads: AtomicU64::default(),
            cancelled: AtomicU64::default(),
            cancelled_at: AtomicU64::default(),
            tokens_sent: AtomicU64::default(),
            foreign_hosts: AtomicU64::default(),
            recorded: ArrayQueue::new(record.max(1)),
        }
    }

    /// Takes what has been recorded, oldest first.
    #[must_use]
    pub fn take_recorded(&self) -> Vec<Recorded> {
        std::iter::from_fn(|| self.recorded.pop()).collect()
    }

    /// The gauges that must be zero when nothing runs: slots in use and requests waiting.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        get(&self.generating) == 0 && get(&self.waiting) == 0
    }

    pub(super) fn note_cancelled(&self) {
        self.cancelled_at.store(now_us().max(1), Ordering::Relaxed);
        add(&self.cancelled, 1);
    }
}

/// The value of a counter.
pub(super) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Counts; the only writer is the server's thread, so load and store are enough.
pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Release);
}

/// Holds a gauge up by one while it lives.
pub(super) struct Held<'a>(&'a AtomicU64);

impl<'a> Held<'a> {
    pub(super) fn new(gauge: &'a AtomicU64) -> Self {
        add(gauge, 1);
        Self(gauge)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        add(self.0, 1u64.wrapping_neg());
    }
}
