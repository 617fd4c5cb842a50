//! What one caller may use: requests and tokens of a minute, exchanges at once.
//!
//! Fixed windows that begin at whole minutes of Unix time. A window's number and what was used in it are one
//! word ([`Minutes`]), and every change is one compare-and-swap: 1000 at once against N let exactly N
//! through, on as many shards as there are. Tokens are charged before they are known: an estimate is
//! reserved, and corrected to the real usage in the window it was made in. If that window is over, the
//! correction is dropped: no debt and no credit crosses a boundary. An [`Admission`] that is dropped
//! unsettled gives its tokens back; its request stays counted.
//!
//! Estimates are those of Jacobson for round-trip times (RFC 6298): a moving average, and above it a margin
//! of so many mean deviations. All that is in flight rests on the same estimate, so an error of it does not
//! average out: without the margin a burst passes its budget by several percent. The margin costs no budget,
//! only a place for as long as the exchange runs. Of requests that say `max_tokens` the output is known at
//! most, and that is reserved.
//!
//! Invariants: a window only goes forward, but for a clock that was set back by more than a minute; then it
//! begins anew. What is given back was taken before, in the same window. Between a refusal by a later limit
//! and the return of what the earlier ones took, others can be refused that would have fitted; never the
//! reverse.
//!
//! Memory: 640 bytes for a caller with a limit, none for others. An admission is three compare-and-swaps on
//! padded words at most, no lock, no allocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_utils::CachePadded;

/// Length of a window.
const MINUTE_MS: u64 = 60_000;
/// Who is refused for too many exchanges at once is told to come back after so long: when one ends is not
/// known.
const CONCURRENT_RETRY_MS: u64 = 1000;

/// The upper bits of [`Minutes`] are the window, 24 of them: they repeat after 31 years.
const COUNT_BITS: u32 = 40;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const WINDOW_MASK: u64 = (1 << (u64::BITS - COUNT_BITS)) - 1;

/// Output expected of a caller of whom nothing is known: more than most answers have. Until the first one has
/// ended rather too few are let in than too many: tokens that are reserved come back, tokens that were used
/// do not.
const OUTPUT_START: f32 = 1024.0;
/// Tokens of a byte of input, until the first answer says it.
const RATIO_START: f32 = 0.25;
/// Weight of the newest sample in the averages, and in the deviations (RFC 6298 section 2).
const GAIN: f32 = 1.0 / 8.0;
const DEVIATION_GAIN: f32 = 1.0 / 4.0;
/// Mean deviations above the average that are reserved.
const MARGIN: f32 = 2.0;
/// After one sample the deviation counts as this share of it: output is anything (RFC 6298), tokens of a byte
/// differ little between texts of one caller.
const OUTPUT_SPREAD: f32 = 1.0 / 2.0;
const INPUT_SPREAD: f32 = 1.0 / 8.0;
/// Larger samples count as this: an endpoint that reports nonsense is forgotten after some dozens of answers.
const SAMPLE_MAX: u64 = 1 << 24;
/// Stands in the averages until the first sample.
const UNKNOWN: f32 = -1.0;

/// A caller's limits and what is left of them. Shared by all shards.
#[derive(Debug)]
pub struct Quota {
    requests: u64,
    tokens: u64,
    concurrent: u64,
    /// `None`: no limit at all.
    live: Option<Arc<Live>>,
}

/// What changes, each word on its own cache line.
#[derive(Debug, Default)]
struct Live {
    requests: CachePadded<Minutes>,
    tokens: CachePadded<Minutes>,
    running: CachePadded<AtomicU64>,
    usual: CachePadded<Usual>,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// Exchanges at once.
    Concurrent,
    /// Requests of this minute.
    Requests,
    /// Tokens of this minute.
    Tokens,
}

/// No place left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Which limit.
    pub kind: RefusalKind,
    /// The limit itself.
    pub limit: u64,
    /// Until the window ends, in milliseconds, at least 1; of [`RefusalKind::Concurrent`] a guess.
    pub retry_after_ms: u64,
}

/// What is left, for the headers of an answer. A limit of 0 is none; what stands beside it is 0 too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remaining {
    /// Requests of a minute.
    pub limit_requests: u64,
    /// Of which are left in this one.
    pub remaining_requests: u64,
    /// Until all are there again, in milliseconds.
    pub reset_requests_ms: u64,
    /// Tokens of a minute.
    pub limit_tokens: u64,
    /// Of which are left in this one, what is reserved taken off.
    pub remaining_tokens: u64,
    /// Until all are there again, in milliseconds.
    pub reset_tokens_ms: u64,
}

/// What an admission would come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peek {
    /// Which limit it would be over; `None`: it would be let in.
    pub refusal: Option<Refusal>,
    /// Tokens that it would reserve; 0: tokens are not limited.
    pub estimate: u64,
    /// Exchanges that run.
    pub running: u64,
    /// How many may; 0: any number.
    pub concurrent: u64,
}

/// A request that was let in. Drop ends it, and gives back what is reserved and not settled.
#[derive(Debug)]
#[must_use = "dropped, it gives its place to another"]
pub struct Admission(Option<Held>);

#[derive(Debug)]
struct Held {
    live: Arc<Live>,
    /// Whether it is counted among those at once.
    running: bool,
    reserved: Option<Reserved>,
    /// The window in which its request is counted.
    counted: Option<u64>,
    input_bytes: u64,
    /// The request says how much it wants, so its answer says nothing of those that do not.
    bounded: bool,
}

/// Tokens charged to a window before they are known.
#[derive(Debug, Clone, Copy)]
struct Reserved {
    window: u64,
    amount: u64,
}

impl Quota {
    /// Limits of a minute and of exchanges at once; 0: no such limit. Tokens are counted to 2^40 − 1; a
    /// higher limit is that one.
    #[must_use]
    pub fn new(requests_per_minute: u32, tokens_per_minute: u64, concurrent: u32) -> Self {
        let limited = requests_per_minute > 0 || tokens_per_minute > 0 || concurrent > 0;
        Self {
            requests: requests_per_minute.into(),
            tokens: tokens_per_minute.min(COUNT_MAX),
            concurrent: concurrent.into(),
            live: limited.then(Arc::default),
        }
    }

    /// Other limits for the same caller: what was used stays used, and exchanges that run are still counted.
    #[must_use]
    pub fn renewed(&self, requests_per_minute: u32, tokens_per_minute: u64, concurrent: u32) -> Self {
        let mut new = Self::new(requests_per_minute, tokens_per_minute, concurrent);
        if let (Some(live), Some(known)) = (&mut new.live, &self.live) {
            *live = Arc::clone(known);
        }
        new
    }

    /// Lets a request in, or says which limit it is over: exchanges at once, then requests, then tokens. A
    /// refusal leaves nothing taken.
    ///
    /// # Errors
    /// [`Refusal`]: status 429.
    pub fn admit(
        &self,
        input_bytes: u64,
        max_tokens: Option<u64>,
        now: SystemTime,
    ) -> Result<Admission, Refusal> {
        let Some(live) = &self.live else { return Ok(Admission(None)) };
        let now_ms = unix_ms(now);
        let full = |kind, limit, window| Refusal { kind, limit, retry_after_ms: ends_in_ms(window, now_ms) };
        let mut held = Held {
            live: Arc::clone(live),
            running: false,
            reserved: None,
            counted: None,
            input_bytes,
            bounded: max_tokens.is_some(),
        };
        if self.concurrent > 0 {
            if !live.enter(self.concurrent) {
                let (kind, limit) = (RefusalKind::Concurrent, self.concurrent);
                return Err(Refusal { kind, limit, retry_after_ms: CONCURRENT_RETRY_MS });
            }
            held.running = true;
        }
        let mut counted = None;
        if self.requests > 0 {
            let taken = live.requests.take(1, self.requests, now_ms);
            counted = Some(taken.map_err(|window| full(RefusalKind::Requests, self.requests, window))?);
        }
        if self.tokens > 0 {
            let amount = live.usual.estimate(input_bytes, max_tokens);
            match live.tokens.take(amount, self.tokens, now_ms) {
                Ok(window) => held.reserved = Some(Reserved { window, amount }),
                Err(window) => {
                    if let Some(counted) = counted {
                        live.requests.correct(counted, 1, 0);
                    }
                    return Err(full(RefusalKind::Tokens, self.tokens, window));
                }
            }
        }
        held.counted = counted;
        Ok(Admission(Some(held)))
    }

    /// What [`Self::admit`] would do now; nothing is taken.
    #[must_use]
    pub fn peek(&self, input_bytes: u64, max_tokens: Option<u64>, now: SystemTime) -> Peek {
        let Some(live) = &self.live else { return Peek::default() };
        let now_ms = unix_ms(now);
        let estimate = if self.tokens > 0 { live.usual.estimate(input_bytes, max_tokens) } else { 0 };
        let running = live.running.load(Ordering::Relaxed);
        let full = |kind, minutes: &Minutes, amount, limit| {
            let (window, count) = minutes.at(now_ms);
            let is_full = limit > 0 && after(count, amount, limit).is_none();
            is_full.then(|| Refusal { kind, limit, retry_after_ms: ends_in_ms(window, now_ms) })
        };
        let crowded = self.concurrent > 0 && one_more(running, self.concurrent).is_none();
        let concurrent = crowded.then_some(Refusal {
            kind: RefusalKind::Concurrent,
            limit: self.concurrent,
            retry_after_ms: CONCURRENT_RETRY_MS,
        });
        let refusal = concurrent
            .or_else(|| full(RefusalKind::Requests, &live.requests, 1, self.requests))
            .or_else(|| full(RefusalKind::Tokens, &live.tokens, estimate, self.tokens));
        Peek { refusal, estimate, running, concurrent: self.concurrent }
    }

    /// What is left now.
    #[must_use]
    pub fn remaining(&self, now: SystemTime) -> Remaining {
        let Some(live) = &self.live else { return Remaining::default() };
        let now_ms = unix_ms(now);
        let left = |minutes: &Minutes, limit: u64| {
            let (window, count) = minutes.at(now_ms);
            if limit > 0 { (limit.saturating_sub(count), ends_in_ms(window, now_ms)) } else { (0, 0) }
        };
        let (remaining_requests, reset_requests_ms) = left(&live.requests, self.requests);
        let (remaining_tokens, reset_tokens_ms) = left(&live.tokens, self.tokens);
        Remaining {
            limit_requests: self.requests,
            remaining_requests,
            reset_requests_ms,
            limit_tokens: self.tokens,
            remaining_tokens,
            reset_tokens_ms,
        }
    }

    /// Limits of a minute, of requests and of tokens; 0: none. `None`: neither.
    #[must_use]
    pub fn per_minute(&self) -> Option<(u64, u64)> {
        (self.requests > 0 || self.tokens > 0).then_some((self.requests, self.tokens))
    }

    /// Exchanges that run now; 0 of a caller who may have any number of them.
    #[must_use]
    pub fn running(&self) -> u64 {
        self.live.as_ref().map_or(0, |live| live.running.load(Ordering::Relaxed))
    }
}

impl Admission {
    /// Replaces the reservation by what was used, and learns from it. The first call counts; not called, nothing
    /// is charged. `input_tokens` 0: not known, and estimated.
    ///
    /// What was used, as it is charged; `None`: nothing was reserved.
    pub fn settle(&mut self, input_tokens: u64, output_tokens: u64) -> Option<u64> {
        let held = self.0.as_mut()?;
        let reserved = held.reserved.take()?;
        // Who leaves before the usage is told has had its prompt read all the same.
        let input = if input_tokens > 0 { input_tokens } else { held.live.usual.input(held.input_bytes) };
        let used = input.saturating_add(output_tokens);
        held.live.tokens.correct(reserved.window, reserved.amount, used);
        // No model reads nothing: the endpoint failed, or reported no usage.
        if input_tokens > 0 {
            held.live.usual.learn_input(held.input_bytes, input_tokens);
            if !held.bounded {
                held.live.usual.learn_output(output_tokens);
            }
        }
        Some(used)
    }

    /// Another limit refuses the request: nothing is left taken.
    pub fn refused(mut self) {
        if let Some(held) = &mut self.0
            && let Some(window) = held.counted.take()
        {
            held.live.requests.correct(window, 1, 0);
        }
    }

    /// Tokens that are reserved and not settled.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.0.as_ref().and_then(|held| held.reserved).map_or(0, |reserved| reserved.amount)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(reserved) = self.reserved.take() {
            self.live.tokens.correct(reserved.window, reserved.amount, 0);
        }
        if self.running {
            self.live.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Live {
    /// Takes a place among `limit`.
    fn enter(&self, limit: u64) -> bool {
        let next = |running: u64| one_more(running, limit);
        self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

/// Those at once with one more, if it may be.
fn one_more(running: u64, limit: u64) -> Option<u64> {
    (running < limit).then_some(running + 1)
}

/// What is used of `limit` with `amount` more, if that may be taken. What is larger than the whole limit passes alone, or
/// it never could.
fn after(count: u64, amount: u64, limit: u64) -> Option<u64> {
    let after = count.saturating_add(amount);
    (after <= limit || (count == 0 && amount > limit)).then_some(after)
}

/// What was used in a window: its number in the upper 24 bits, the count in the lower 40.
#[derive(Debug, Default)]
struct Minutes(AtomicU64);

impl Minutes {
    /// Takes `amount` of `limit`.
    ///
    /// `Ok`: the window charged; `Err`: the window that is full.
    fn take(&self, amount: u64, limit: u64, now_ms: u64) -> Result<u64, u64> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (window, count) = Self::read(word, now_ms);
            let Some(after) = after(count, amount, limit) else { return Err(window) };
            match self.swap(word, window, after) {
                Ok(()) => return Ok(window),
                Err(found) => word = found,
            }
        }
    }

    /// Replaces what was `taken` from `window` by what was `used`, if the window has not changed since.
    fn correct(&self, window: u64, taken: u64, used: u64) {
        let mut word = self.0.load(Ordering::Relaxed);
        while word >> COUNT_BITS == window {
            // Less than was taken: the clock was set back and the window has begun anew.
            let count = (word & COUNT_MAX).saturating_sub(taken).saturating_add(used);
            match self.swap(word, window, count) {
                Ok(()) => return,
                Err(found) => word = found,
            }
        }
    }

    fn at(&self, now_ms: u64) -> (u64, u64) {
        Self::read(self.0.load(Ordering::Relaxed), now_ms)
    }

    /// The window that holds at `now_ms`, and what was used in it.
    fn read(word: u64, now_ms: u64) -> (u64, u64) {
        let (stored, minute) = (word >> COUNT_BITS, minute(now_ms));
        // One ahead: another shard has seen the boundary between our look at the clock and now.
        if stored.wrapping_sub(minute) & WINDOW_MASK <= 1 { (stored, word & COUNT_MAX) } else { (minute, 0) }
    }

    fn swap(&self, old: u64, window: u64, count: u64) -> Result<(), u64> {
        let new = window << COUNT_BITS | count.min(COUNT_MAX);
        // A word on its own: nothing else is published by it.
        self.0.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed).map(|_| ())
    }
}

/// What a caller's requests usually take. Words are pairs of `f32`; shards may mix their updates, each is
/// whole.
#[derive(Debug)]
struct Usual {
    /// Mean bytes and mean tokens of input: their quotient weighs long texts more than short ones, whose
    /// tokens are mostly the chat template's.
    input: AtomicU64,
    /// Mean deviation of input tokens from what that quotient says; the other half is not used.
    input_deviation: AtomicU64,
    /// Mean output, and its mean deviation.
    output: AtomicU64,
}

impl Default for Usual {
    fn default() -> Self {
        let unknown = || AtomicU64::new(pack((UNKNOWN, 0.0)));
        Self { input: unknown(), input_deviation: unknown(), output: unknown() }
    }
}

impl Usual {
    /// Tokens to reserve, 1 to [`COUNT_MAX`].
    fn estimate(&self, input_bytes: u64, max_tokens: Option<u64>) -> u64 {
        let (bytes, tokens) = unpack(self.input.load(Ordering::Relaxed));
        let (deviation, _) = unpack(self.input_deviation.load(Ordering::Relaxed));
        let ratio = if bytes > 0.0 { (tokens + MARGIN * deviation.max(0.0)) / bytes } else { RATIO_START };
        let (mean, deviation) = unpack(self.output.load(Ordering::Relaxed));
        let usual = if mean < 0.0 { OUTPUT_START } else { mean + MARGIN * deviation };
        let output = max_tokens.unwrap_or(usual.ceil() as u64);
        let input = (input_bytes as f32 * ratio).ceil() as u64;
        input.saturating_add(output).clamp(1, COUNT_MAX)
    }

    /// Tokens that so much input mostly has.
    fn input(&self, input_bytes: u64) -> u64 {
        let (bytes, tokens) = unpack(self.input.load(Ordering::Relaxed));
        let ratio = if bytes > 0.0 { tokens / bytes } else { RATIO_START };
        ((input_bytes as f32 * ratio).ceil() as u64).min(COUNT_MAX)
    }

    fn learn_input(&self, bytes: u64, tokens: u64) {
        if bytes == 0 {
            return;
        }
        let (bytes, tokens) = (bytes.min(SAMPLE_MAX) as f32, tokens.min(SAMPLE_MAX) as f32);
        let (mean_bytes, mean_tokens) = unpack(self.input.load(Ordering::Relaxed));
        let error = if mean_bytes > 0.0 { (tokens - bytes * mean_tokens / mean_bytes).abs() } else { 0.0 };
        change(&self.input_deviation, |(deviation, _)| {
            let known = deviation >= 0.0;
            (if known { toward(deviation, error, DEVIATION_GAIN) } else { tokens * INPUT_SPREAD }, 0.0)
        });
        change(&self.input, |(mean_bytes, mean_tokens)| {
            if mean_bytes < 0.0 {
                return (bytes, tokens);
            }
            (toward(mean_bytes, bytes, GAIN), toward(mean_tokens, tokens, GAIN))
        });
    }

    fn learn_output(&self, tokens: u64) {
        let tokens = tokens.min(SAMPLE_MAX) as f32;
        change(&self.output, |(mean, deviation)| {
            if mean < 0.0 {
                return (tokens, tokens * OUTPUT_SPREAD);
            }
            (toward(mean, tokens, GAIN), toward(deviation, (tokens - mean).abs(), DEVIATION_GAIN))
        });
    }
}

fn toward(mean: f32, sample: f32, gain: f32) -> f32 {
    mean + gain * (sample - mean)
}

fn change(word: &AtomicU64, new: impl Fn((f32, f32)) -> (f32, f32)) {
    // The closure never refuses, so neither does the update.
    let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| Some(pack(new(unpack(word)))));
}

fn pack((first, second): (f32, f32)) -> u64 {
    u64::from(first.to_bits()) << 32 | u64::from(second.to_bits())
}

fn unpack(word: u64) -> (f32, f32) {
    (f32::from_bits((word >> 32) as u32), f32::from_bits(word as u32))
}

/// Before 1970 is 1970.
fn unix_ms(now: SystemTime) -> u64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The number of the window at `now_ms`, as it is kept.
fn minute(now_ms: u64) -> u64 {
    (now_ms / MINUTE_MS) & WINDOW_MASK
}

/// Until `window`, this one or the next, is over. Who waits so long finds the one after it.
fn ends_in_ms(window: u64, now_ms: u64) -> u64 {
    let rest = MINUTE_MS - now_ms % MINUTE_MS;
    if window == minute(now_ms) { rest } else { rest + MINUTE_MS }
}

/// Appends the header lines by which OpenAI tells a client what is left: `x-ratelimit-limit-requests`,
/// `-remaining-requests`, `-reset-requests`, and the same of tokens. A limit that is not set has no lines.
pub fn headers(remaining: &Remaining, out: &mut Vec<u8>) {
    let Remaining { limit_requests, remaining_requests, reset_requests_ms, .. } = *remaining;
    let Remaining { limit_tokens, remaining_tokens, reset_tokens_ms, .. } = *remaining;
    group(out, "requests", limit_requests, remaining_requests, reset_requests_ms);
    group(out, "tokens", limit_tokens, remaining_tokens, reset_tokens_ms);
}

fn group(out: &mut Vec<u8>, of: &str, limit: u64, remaining: u64, reset_ms: u64) {
    if limit == 0 {
        return;
    }
    let mut line = |name: &str, value: &dyn Fn(&mut Vec<u8>)| {
        out.extend_from_slice(b"x-ratelimit-");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(of.as_bytes());
        out.extend_from_slice(b": ");
        value(out);
        out.extend_from_slice(b"\r\n");
    };
    line("limit-", &|out| number(out, limit));
    line("remaining-", &|out| number(out, remaining));
    line("reset-", &|out| duration(out, reset_ms));
}

/// As Go prints durations, which is what OpenAI sends: `120ms`, `1s`, `8.64s`, `6m0s`, `1h0m0s`.
pub fn duration(out: &mut Vec<u8>, ms: u64) {
    if ms > 0 && ms < 1000 {
        number(out, ms);
        out.extend_from_slice(b"ms");
        return;
    }
    let (hours, minutes) = (ms / 3_600_000, ms / MINUTE_MS);
    if hours > 0 {
        number(out, hours);
        out.push(b'h');
    }
    if minutes > 0 {
        number(out, minutes % 60);
        out.push(b'm');
    }
    number(out, ms / 1000 % 60);
    let (mut rest, mut unit) = (ms % 1000, 100);
    if rest > 0 {
        out.push(b'.');
    }
    while rest > 0 {
        number(out, rest / unit);
        (rest, unit) = (rest % unit, unit / 10);
    }
    out.push(b's');
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        (value, used) = (value / 10, used + 1);
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

#[cfg(test)]
mod tests;
