//! Whether an endpoint, or a model of it, gets requests: a circuit breaker in two words, shared by all
//! shards.
//!
//! Closed lets through. It opens after `failures` in a row, or when a window holds at least `requests_min`
//! attempts of which `share_percent` failed. Open refuses for `open_ms << level`; then one trial may be had
//! (half-open): its success closes, its failure opens again one level higher. Who picks decides what to do
//! when nothing is closed: [`Breaker::force_trial`] gives a trial early, [`TRIAL_GAP_MS`] apart.
//!
//! Stragglers, attempts that began before it opened, change nothing while it is open: a failure does not
//! extend, a success does not close or shorten. The success speaks of the time when its attempt began; an
//! endpoint that fails one half of its requests would otherwise be closed at once by the other half, and a
//! wait that the endpoint asked for would be cut. What is lost is at most the rest of one open time. An
//! attempt has no name here: what a straggler reports while half-open is taken for the trial's verdict, and
//! the trial's own verdict, if it comes after that, for a straggler's.
//!
//! The window tumbles: the first failure begins one, which ends `window_ms` later; while none runs, successes
//! are not counted. Errors: its end is rounded up to 64 ms; it begins with a failure, so the share is too
//! high by at most one attempt; failures that lie on both sides of its end are judged apart, so up to twice
//! `requests_min` attempts may pass; successes early in it hide later failures until it ends (`failures` in a
//! row are not hidden). A window that runs keeps its end when the settings change. A failure that races with
//! the opening may be counted in the window after it, at most one a thread.
//!
//! Invariants: each transition but a reset is one compare-and-swap of the state word: one thread wins. Fields
//! saturate and never run into each other: time at 2^41 ms, level at 15, run at 2^32 − 1; the window's counts
//! are both halved when attempts reach 2^18 − 1. An open time is at most [`OPEN_MS_MAX`]. The words guard no
//! other memory, so all orderings are relaxed.
//!
//! Cost: 16 bytes, no allocation. [`Breaker::is_closed`] and [`Breaker::connected`] on a closed one: one
//! load. [`Breaker::success`] on a closed one without a run: two loads, and one compare-and-swap more while a
//! window runs. [`Breaker::failure`] on a closed one: a compare-and-swap of each word; on an open one: a
//! load. Source: Nygard, "Release It!" (circuit breaker); the run, the single trial and the doubling time are
//! those of linkerd's `consecutive_failures`, the share is that of Envoy's outlier detection.

use std::sync::atomic::{AtomicU64, Ordering};

/// Milliseconds between an opening, or an extension of it, and the first forced trial; rounded up to the next
/// multiple of 64 on the clock.
pub const TRIAL_GAP_MS: u64 = 100;
/// Longest open time; more is taken as this, 30 minutes.
pub const OPEN_MS_MAX: u64 = 30 * 60 * 1000;
/// Longest window; more is taken as this, 12 hours.
pub const WINDOW_MS_MAX: u64 = 12 * 60 * 60 * 1000;
/// Greatest `requests_min`; more is taken as this.
pub const REQUESTS_MIN_MAX: u32 = 131_071;

/// Why it is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reason {
    /// Nothing was said.
    #[default]
    None,
    /// No connection: refused, no name, no TLS.
    Unreachable,
    /// 5xx, resets, answers that were cut or make no sense.
    Answers,
    /// No first byte in time.
    Timeout,
    /// 429 or 503, with or without Retry-After.
    Busy,
    /// The endpoint says that it has no such model.
    Missing,
}

impl Reason {
    /// Word for metrics and the status page.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Unreachable => "unreachable",
            Self::Answers => "answers",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Missing => "missing",
        }
    }

    /// 1 to 6, in three bits.
    const fn code(self) -> u64 {
        match self {
            Self::None => 1,
            Self::Unreachable => 2,
            Self::Answers => 3,
            Self::Timeout => 4,
            Self::Busy => 5,
            Self::Missing => 6,
        }
    }

    const fn decode(code: u64) -> Self {
        match code {
            2 => Self::Unreachable,
            3 => Self::Answers,
            4 => Self::Timeout,
            5 => Self::Busy,
            6 => Self::Missing,
            _ => Self::None,
        }
    }
}

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// If not, failures open nothing, and a failed trial closes; [`Breaker::open_for`] still opens.
    pub enabled: bool,
    /// Failures in a row that open; 0 is taken as 1.
    pub failures: u32,
    /// Failures in a hundred attempts of a window that open.
    pub share_percent: u32,
    /// Attempts in a window from which on its share counts, up to [`REQUESTS_MIN_MAX`].
    pub requests_min: u32,
    /// Length of a window in milliseconds, up to [`WINDOW_MS_MAX`].
    pub window_ms: u64,
    /// First open time in milliseconds; doubles with each level.
    pub open_ms: u64,
    /// Longest open time in milliseconds that failures make, up to [`OPEN_MS_MAX`].
    pub open_max_ms: u64,
}

impl Rules {
    /// Open time at a level, which is at most [`LEVEL_MAX`].
    fn open_time_ms(&self, level: u32) -> u64 {
        self.open_ms.saturating_mul(1 << level).min(self.open_max_ms)
    }
}

/// What it does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Lets through.
    Closed,
    /// Refuses. Once its time has passed it is due for a trial, and stays open until one is taken.
    Open {
        /// End of the open time, in milliseconds of the process clock.
        until_ms: u64,
        /// Why it opened.
        reason: Reason,
    },
    /// Waits for the verdict of its trial and refuses all others.
    HalfOpen {
        /// Why it had opened.
        reason: Reason,
    },
}

/// One breaker, closed at first. Times are milliseconds of the process clock; threads may lag behind each
/// other.
#[derive(Debug, Default)]
pub struct Breaker {
    state: AtomicU64,
    window: Window,
}

impl Breaker {
    /// Whether it lets through: the fast path of every pick.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        is_closed(self.state.load(Ordering::Relaxed))
    }

    /// Whether it is open and its time has passed, so that a trial may be had.
    #[must_use]
    pub fn is_due(&self, now_ms: u64) -> bool {
        matches!(self.word(), Word::Open { until_ms, .. } if until_ms <= now_ms)
    }

    /// Where it stands. The time changes nothing by itself: an open one whose `until_ms` has passed is due.
    #[must_use]
    pub fn state(&self, _now_ms: u64) -> State {
        match self.word() {
            Word::Closed { .. } => State::Closed,
            Word::Open { until_ms, reason, .. } => State::Open { until_ms, reason },
            Word::HalfOpen { reason, .. } => State::HalfOpen { reason },
        }
    }

    /// Takes the trial of one that is due: of all threads one wins. Its attempt must end in
    /// [`Self::success`], [`Self::failure`], [`Self::open_for`] or [`Self::trial_dropped`], or nobody gets
    /// another.
    #[must_use]
    pub fn try_trial(&self, now_ms: u64) -> bool {
        self.trial(|until_ms, _| until_ms <= now_ms)
    }

    /// Takes the trial before its time too, but not sooner than [`TRIAL_GAP_MS`] after it opened, was
    /// extended or its last trial failed: for when nothing is closed.
    #[must_use]
    pub fn force_trial(&self, now_ms: u64) -> bool {
        self.trial(|until_ms, forced_ms| may_force(until_ms, forced_ms, now_ms))
    }

    /// Whether [`Self::force_trial`] would take the trial now.
    #[must_use]
    pub fn may_force_trial(&self, now_ms: u64) -> bool {
        matches!(self.word(), Word::Open { until_ms, forced_ms, .. } if may_force(until_ms, forced_ms, now_ms))
    }

    /// An attempt went well. Ends a run and forgets the level; closes a half-open one; an open one ignores
    /// it.
    pub fn success(&self, now_ms: u64) {
        let seen = self.state.load(Ordering::Relaxed);
        if is_closed(seen) {
            self.window.success(now_ms);
        }
        if seen != CLEAN {
            self.update(|word| match word {
                Word::Closed { level: 0, run: 0 } | Word::Open { .. } => None,
                Word::Closed { .. } | Word::HalfOpen { .. } => Some(Word::Closed { level: 0, run: 0 }),
            });
        }
    }

    /// A stream has begun to come. Closes a half-open one; a run goes on until the stream is over, which is a [`Self::success`]
    /// or a [`Self::failure`].
    pub fn begun(&self) {
        if !self.is_closed() {
            self.update(|word| match word {
                Word::HalfOpen { level, .. } => Some(Word::Closed { level, run: 0 }),
                Word::Open { .. } | Word::Closed { .. } => None,
            });
        }
    }

    /// A connection stands. Closes one that is open or half-open for [`Reason::Unreachable`]; should it open
    /// again before a success, it does so one level higher, so that one that flaps backs off.
    pub fn connected(&self, _now_ms: u64) {
        if self.is_closed() {
            return;
        }
        self.update(|word| match word {
            Word::Open { level, reason: Reason::Unreachable, .. }
            | Word::HalfOpen { level, reason: Reason::Unreachable } => {
                Some(Word::Closed { level: raised(level), run: 0 })
            }
            _ => None,
        });
    }

    /// An attempt failed. True: it opened now, a failed trial included.
    pub fn failure(&self, now_ms: u64, reason: Reason, rules: &Rules) -> bool {
        let spoiled = rules.enabled && self.is_closed() && self.window.failure(now_ms, rules);
        let open = |level| Word::open(now_ms, rules.open_time_ms(level), level, reason);
        let new = self.update(|word| match word {
            Word::Open { .. } => None,
            Word::HalfOpen { level, .. } if rules.enabled => Some(open(raised(level))),
            Word::HalfOpen { .. } => Some(Word::Closed { level: 0, run: 0 }),
            Word::Closed { .. } if !rules.enabled => None,
            Word::Closed { level, run } => {
                let run = run.saturating_add(1);
                let opens = spoiled || run >= rules.failures;
                Some(if opens { open(level) } else { Word::Closed { level, run } })
            }
        });
        self.opened(new)
    }

    /// Opens at once for `for_ms`, up to [`OPEN_MS_MAX`], whatever the rules say: Retry-After, or a missing
    /// model. Never shortens: an open one that ends later keeps its time and reason. The level stays. True:
    /// it opened now, a trial that ended so included; false: it was open.
    pub fn open_for(&self, now_ms: u64, for_ms: u64, reason: Reason) -> bool {
        let mut was_open = false;
        let new = self.update(|word| {
            was_open = matches!(word, Word::Open { .. });
            let new = Word::open(now_ms, for_ms, word.level(), reason);
            (new.until_ms() > word.until_ms() || !was_open).then_some(new)
        });
        !was_open && self.opened(new)
    }

    /// The trial ended without a verdict: the client left. The next may be had at once.
    pub fn trial_dropped(&self, now_ms: u64) {
        self.update(|word| match word {
            Word::HalfOpen { level, reason } => Some(Word::open(now_ms, 0, level, reason)),
            _ => None,
        });
    }

    /// Closed, as if new: for an endpoint that was changed, or on an operator's word.
    pub fn reset(&self) {
        self.state.store(CLEAN, Ordering::Relaxed);
        self.window.clear();
    }

    fn word(&self) -> Word {
        Word::unpack(self.state.load(Ordering::Relaxed))
    }

    /// From open to half-open, if `may` agrees to the end of the open time and the time of a forced trial.
    fn trial(&self, may: impl Fn(u64, u64) -> bool) -> bool {
        let seen = self.state.load(Ordering::Relaxed);
        match Word::unpack(seen) {
            Word::Open { level, reason, until_ms, forced_ms } if may(until_ms, forced_ms) => {
                let new = Word::HalfOpen { level, reason }.pack();
                self.state.compare_exchange(seen, new, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            }
            _ => false,
        }
    }

    /// The word that `step` made of the current one; `None`: it left that alone.
    fn update(&self, mut step: impl FnMut(Word) -> Option<Word>) -> Option<Word> {
        swap(&self.state, |seen| step(Word::unpack(seen)).map(Word::pack)).map(Word::unpack)
    }

    /// Whether this change opened it; then its window ends.
    fn opened(&self, new: Option<Word>) -> bool {
        let opened = matches!(new, Some(Word::Open { .. }));
        if opened {
            self.window.clear();
        }
        opened
    }
}

/// Whether a trial may be forced of one that is open until `until_ms`.
const fn may_force(until_ms: u64, forced_ms: u64, now_ms: u64) -> bool {
    until_ms <= now_ms || forced_ms <= now_ms
}

/// Replaces a word by what `step` makes of it, anew if another thread was faster. `None`: `step` left it
/// alone.
fn swap(word: &AtomicU64, mut step: impl FnMut(u64) -> Option<u64>) -> Option<u64> {
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        let new = step(seen)?;
        match word.compare_exchange_weak(seen, new, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Some(new),
            Err(now) => seen = now,
        }
    }
}

/// Packed: closed, no run, level 0.
const CLEAN: u64 = 0;
/// Bits 0 to 3: 0 closed, 1 to 6 open and 9 to 14 half-open, by reason.
const KIND: u64 = 0xf;
const HALF: u64 = 8;
/// Bits 4 to 7.
const LEVEL: u32 = 4;
const LEVEL_MAX: u32 = 15;
/// Closed: bits 8 to 39.
const RUN: u32 = 8;
/// Open: bits 8 to 22, ticks from the first forced trial to the end.
const EARLY: u32 = 8;
const EARLY_MAX: u64 = (1 << 15) - 1;
/// Open: bits 23 to 63, the end in milliseconds.
const UNTIL: u32 = 23;
const TIME_MAX: u64 = (1 << 41) - 1;
/// A coarse unit of time, in milliseconds.
const TICK_MS: u64 = 64;

// The longest open time can be told in ticks.
const _: () = assert!(OPEN_MS_MAX.div_ceil(TICK_MS) < EARLY_MAX);

const fn is_closed(packed: u64) -> bool {
    packed & KIND == 0
}

fn raised(level: u32) -> u32 {
    (level + 1).min(LEVEL_MAX)
}

/// The state word, unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// `level` is the one it would open with.
    Closed { level: u32, run: u32 },
    /// `forced_ms`: from when on a trial may be forced; a multiple of a tick once packed.
    Open { level: u32, reason: Reason, until_ms: u64, forced_ms: u64 },
    /// `level` is the one it was open with.
    HalfOpen { level: u32, reason: Reason },
}

impl Word {
    /// Open from now on.
    fn open(now_ms: u64, for_ms: u64, level: u32, reason: Reason) -> Self {
        let now_ms = now_ms.min(TIME_MAX);
        let until_ms = (now_ms + for_ms.min(OPEN_MS_MAX)).min(TIME_MAX);
        Self::Open { level, reason, until_ms, forced_ms: now_ms + TRIAL_GAP_MS }
    }

    fn level(self) -> u32 {
        match self {
            Self::Closed { level, .. } | Self::Open { level, .. } | Self::HalfOpen { level, .. } => level,
        }
    }

    /// End of the open time; 0 if not open.
    fn until_ms(self) -> u64 {
        if let Self::Open { until_ms, .. } = self { until_ms } else { 0 }
    }

    fn pack(self) -> u64 {
        debug_assert!(self.level() <= LEVEL_MAX && self.until_ms() <= TIME_MAX);
        let level = u64::from(self.level()) << LEVEL;
        level
            | match self {
                Self::Closed { run, .. } => u64::from(run) << RUN,
                Self::HalfOpen { reason, .. } => HALF | reason.code(),
                Self::Open { reason, until_ms, forced_ms, .. } => {
                    let early = until_ms.div_ceil(TICK_MS).saturating_sub(forced_ms.div_ceil(TICK_MS));
                    reason.code() | early.min(EARLY_MAX) << EARLY | until_ms << UNTIL
                }
            }
    }

    fn unpack(packed: u64) -> Self {
        let kind = packed & KIND;
        let level = (packed >> LEVEL) as u32 & LEVEL_MAX;
        let reason = Reason::decode(kind & !HALF);
        if kind == 0 {
            Self::Closed { level, run: (packed >> RUN) as u32 }
        } else if kind & HALF != 0 {
            Self::HalfOpen { level, reason }
        } else {
            let until_ms = packed >> UNTIL;
            let early = packed >> EARLY & EARLY_MAX;
            let forced_ms = until_ms.div_ceil(TICK_MS).saturating_sub(early) * TICK_MS;
            Self::Open { level, reason, until_ms, forced_ms }
        }
    }
}

/// Attempts and failures since the first failure; 0 while none runs.
#[derive(Debug, Default)]
struct Window(AtomicU64);

impl Window {
    /// Counts, if a window runs; clears one that has ended.
    fn success(&self, now_ms: u64) {
        swap(&self.0, |seen| {
            let counts = Counts::unpack(seen);
            let new = if counts.is_running(now_ms) { counts.plus(0).pack() } else { 0 };
            (seen != 0).then_some(new)
        });
    }

    /// Counts, in a new window if none runs. Whether enough attempts failed.
    fn failure(&self, now_ms: u64, rules: &Rules) -> bool {
        let new = swap(&self.0, |seen| {
            let counts = Counts::unpack(seen);
            let running = counts.is_running(now_ms);
            let counts = if running { counts } else { Counts::new(now_ms, rules.window_ms) };
            Some(counts.plus(1).pack())
        });
        new.is_some_and(|new| Counts::unpack(new).reach(rules))
    }

    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Bits 0 to 17 failures, 18 to 35 attempts, 36 to 63 the end in ticks, which wrap after 198 days.
const ATTEMPTS: u32 = 18;
const COUNT_MAX: u64 = (1 << 18) - 1;
const END: u32 = 36;
const TICKS_MASK: u64 = (1 << 28) - 1;
/// Ticks that an end may lie ahead; what seems to be further ahead is past. Leaves the longest window 6 h for
/// threads whose clock lags.
const AHEAD_MAX: u64 = 1 << 20;

const _: () = assert!(WINDOW_MS_MAX / TICK_MS < AHEAD_MAX && REQUESTS_MIN_MAX as u64 <= COUNT_MAX / 2);

/// The window's word, unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    end: u64,
    attempts: u64,
    failures: u64,
}

impl Counts {
    /// Nothing counted yet.
    fn new(now_ms: u64, window_ms: u64) -> Self {
        let end_ms = now_ms.saturating_add(window_ms.min(WINDOW_MS_MAX));
        Self { end: end_ms.div_ceil(TICK_MS) & TICKS_MASK, attempts: 0, failures: 0 }
    }

    fn is_running(self, now_ms: u64) -> bool {
        let ahead = self.end.wrapping_sub(now_ms / TICK_MS) & TICKS_MASK;
        self.attempts != 0 && (1..=AHEAD_MAX).contains(&ahead)
    }

    /// One attempt more, of which so many failed; halved first if there is no room.
    fn plus(self, failures: u64) -> Self {
        let half = u32::from(self.attempts >= COUNT_MAX);
        Self {
            end: self.end,
            attempts: (self.attempts >> half) + 1,
            failures: (self.failures >> half) + failures,
        }
    }

    /// Whether the share is reached.
    fn reach(self, rules: &Rules) -> bool {
        self.attempts >= u64::from(rules.requests_min.min(REQUESTS_MIN_MAX))
            && self.failures * 100 >= u64::from(rules.share_percent) * self.attempts
    }

    fn pack(self) -> u64 {
        self.failures | self.attempts << ATTEMPTS | self.end << END
    }

    fn unpack(packed: u64) -> Self {
        Self { end: packed >> END, attempts: packed >> ATTEMPTS & COUNT_MAX, failures: packed & COUNT_MAX }
    }
}

#[cfg(test)]
mod tests;
