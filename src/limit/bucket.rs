//! Requests a second of a client: the leaky bucket of nginx's `limit_req`, to the thousandth.
//!
//! Integers in thousandths of a request. A client's state is its `excess` and when it was `last` charged. A
//! first request has excess 0. A later one has `e = max(0, excess − rate·ms/1000 + 1000)`, divisions
//! truncate, `ms = now − last`, below −60 000 taken as 1, else below 0 as 0. `e > burst` refuses and changes
//! nothing; else `excess = e`, and `last = now` if `ms ≠ 0`. Of several zones all must let pass: those before
//! the last are looked at first, the last decides and is charged, then the others are charged, computed anew.
//! Between that look and that charge another shard may have charged an earlier zone, as nginx's workers can;
//! a zone that stands alone or last is exact under any contention.
//!
//! Differs from nginx: it forgets, on a new client, up to two clients idle for 60 s whose excess has drained;
//! if a zone is full, the one unused longest of all. Here a client is forgotten only for a new one of the
//! same sets ([`super::table`]), and first one that has drained so far that it equals a new client, which
//! changes no answer; only if all 16 candidates are short of that, the one charged longest ago. There always
//! is one, so a full zone never refuses. While live clients fill less than two thirds of a zone answers are
//! nginx's, but for rates so slow that a burst takes more than 60 s to drain: there nginx may forget up to
//! one request's worth too early, depending on which other clients come; this does not.
//!
//! Invariants: excess ≤ 2^28 − 1, hence bursts up to [`BURST_MAX`]; time is kept in 36 bits and wraps after
//! 2.1 years. A clock may lag behind another shard's by 4 h. Cost: per zone one update of the table; an
//! earlier zone a look more. Source: `ngx_http_limit_req_module.c` of nginx 1.22; `tests/limit_nginx.rs`
//! compares with that binary.

use super::table::{Full, Rank, Table, Write};

/// Greatest burst; more is taken as this.
pub const BURST_MAX: u32 = 268_000;

/// Thousandths of a request.
const REQUEST: u64 = 1000;
const EXCESS_BITS: u32 = 28;
const EXCESS_MAX: u64 = (1 << EXCESS_BITS) - 1;
/// Milliseconds wrap at 36 bits.
const TIME_MASK: u64 = (1 << (64 - EXCESS_BITS)) - 1;
/// Milliseconds that `last` may lie ahead of `now`; what seems to be further ahead is long past.
const AHEAD_MAX: u64 = 1 << 24;
/// nginx: a clock that went back by more has been set anew.
const AHEAD_TRUSTED_MS: i64 = 60_000;

/// The clients of one rate.
#[derive(Debug)]
pub struct Zone {
    table: Table,
    rate: u64,
}

impl Zone {
    /// `rate` in thousandths of a request a second (0 is taken as 1); room for `entries_max` clients, 16
    /// bytes each.
    #[must_use]
    pub fn new(rate: u32, entries_max: usize) -> Self {
        Self { table: Table::new(entries_max), rate: u64::from(rate.max(1)) }
    }

    /// Thousandths of a request a second.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.rate
    }

    /// Where its clients stand, for metrics.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Whether an entry may make room for a new client.
    fn rank(&self, state: u64, now_ms: u64) -> Rank {
        let bucket = Bucket::unpack(state);
        let idle = u64::try_from(bucket.age(now_ms)).unwrap_or(0);
        if self.drained(idle) >= bucket.excess + REQUEST { Rank::Spent } else { Rank::Idle(idle) }
    }

    /// What drains in so many milliseconds.
    fn drained(&self, ms: u64) -> u64 {
        self.rate.saturating_mul(ms) / 1000
    }

    /// Milliseconds until that much has drained.
    fn draining_ms(&self, excess: u64) -> u64 {
        (excess * 1000).div_ceil(self.rate)
    }
}

/// A location's use of a zone for one request.
#[derive(Debug, Clone, Copy)]
pub struct Use<'a> {
    /// Where the client is counted.
    pub zone: &'a Zone,
    /// The client, from [`super::table::Clients::hash`].
    pub client: u64,
    /// Requests beyond the rate that are let through, up to [`BURST_MAX`].
    pub burst: u32,
    /// Requests beyond the rate that need not wait; `None` (nginx: `nodelay`): none waits. `Some(0)` is
    /// nginx's default.
    pub delay: Option<u32>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is let through, and charged in every zone.
    Pass {
        /// Milliseconds that it has to wait first: the longest that a zone asks for.
        delay_ms: u64,
        /// Whole requests that would be let through at once after this one: the fewest of all zones.
        remaining: u32,
        /// Milliseconds until every zone has drained, if no more requests come.
        reset_ms: u64,
    },
    /// It is refused, and charged nowhere.
    Reject {
        /// Position in the list of uses.
        zone: usize,
        /// Thousandths of a request, this one included, by which the client is ahead of the rate.
        excess: u64,
        /// The least number of milliseconds after which this zone lets the client through, if nothing else is
        /// charged.
        retry_after_ms: u64,
    },
}

/// Decides on one request, at `now_ms` of a clock that all shards share (milliseconds since a common start).
/// `uses` in the order of the configuration, without zones whose key is empty for this request; none: it
/// passes.
#[must_use]
pub fn decide(uses: &[Use<'_>], now_ms: u64) -> Verdict {
    verdict::<true>(uses, now_ms)
}

/// What [`decide`] would answer now; nothing is charged.
#[must_use]
pub fn peek(uses: &[Use<'_>], now_ms: u64) -> Verdict {
    verdict::<false>(uses, now_ms)
}

fn verdict<const CHARGED: bool>(uses: &[Use<'_>], now_ms: u64) -> Verdict {
    let mut verdict = Verdict::Pass { delay_ms: 0, remaining: u32::MAX, reset_ms: 0 };
    let Some((last, before)) = uses.split_last() else {
        return verdict;
    };
    for (zone, each) in before.iter().enumerate() {
        let old = each.zone.table.get(each.client).map(Bucket::unpack);
        if let Err(refusal) = each.judge(old, now_ms) {
            return refusal.verdict(zone);
        }
    }
    match last.charge::<CHARGED>(now_ms, |old| last.judge(old, now_ms)) {
        Ok(bucket) => verdict = last.joined(verdict, bucket, now_ms),
        Err(refusal) => return refusal.verdict(before.len()),
    }
    for each in before.iter().rev() {
        if let Ok(bucket) = each.charge::<CHARGED>(now_ms, |old| Ok(Bucket::charged(old, each.zone, now_ms)))
        {
            verdict = each.joined(verdict, bucket, now_ms);
        }
    }
    verdict
}

impl Use<'_> {
    /// Thousandths of a request by which the client is ahead of the rate now, and whole requests that would be let
    /// through at once. Changes nothing.
    #[must_use]
    pub fn standing(&self, now_ms: u64) -> (u64, u32) {
        let old = self.zone.table.get(self.client).map(Bucket::unpack);
        let next = Bucket::charged(old, self.zone, now_ms).excess;
        let more = self.burst().checked_sub(next).map_or(0, |left| left / REQUEST + 1);
        (next.saturating_sub(REQUEST), u32::try_from(more).unwrap_or(u32::MAX))
    }

    /// The bucket after this request, if it may pass.
    fn judge(&self, old: Option<Bucket>, now_ms: u64) -> Result<Bucket, Refusal> {
        let new = Bucket::charged(old, self.zone, now_ms);
        let Some(old) = old.filter(|_| new.excess > self.burst()) else {
            return Ok(new);
        };
        let wait = self.zone.draining_ms((old.excess + REQUEST).saturating_sub(self.burst()));
        Err(Refusal { excess: new.excess, retry_after_ms: old.until(wait, now_ms) })
    }

    /// Stores what `judge` answers, or nothing if it refuses or the request is not to be `CHARGED`.
    fn charge<const CHARGED: bool>(
        &self,
        now_ms: u64,
        judge: impl Fn(Option<Bucket>) -> Result<Bucket, Refusal>,
    ) -> Result<Bucket, Refusal> {
        if !CHARGED {
            return judge(self.zone.table.get(self.client).map(Bucket::unpack));
        }
        let step = |state: Option<u64>| match judge(state.map(Bucket::unpack)) {
            Ok(bucket) => (Write::Put(bucket.pack()), Ok(bucket)),
            Err(refusal) => (Write::Keep, Err(refusal)),
        };
        let outcome = self.zone.table.update(self.client, |state| self.zone.rank(state, now_ms), step);
        // No entry of a zone must stay, so that a table is never full.
        outcome.unwrap_or_else(|Full| judge(None))
    }

    /// `verdict`, as far as this zone allows it.
    fn joined(&self, verdict: Verdict, bucket: Bucket, now_ms: u64) -> Verdict {
        let Verdict::Pass { delay_ms, remaining, reset_ms } = verdict else {
            return verdict;
        };
        let early = self.delay.map_or(0, |delay| bucket.excess.saturating_sub(u64::from(delay) * REQUEST));
        let left = self.burst().saturating_sub(bucket.excess) / REQUEST;
        let reset = bucket.until(self.zone.draining_ms(bucket.excess), now_ms);
        Verdict::Pass {
            delay_ms: delay_ms.max(early * 1000 / self.zone.rate),
            remaining: remaining.min(u32::try_from(left).unwrap_or(u32::MAX)),
            reset_ms: reset_ms.max(reset),
        }
    }

    /// In thousandths.
    fn burst(&self) -> u64 {
        u64::from(self.burst.min(BURST_MAX)) * REQUEST
    }
}

/// A zone's no.
struct Refusal {
    excess: u64,
    retry_after_ms: u64,
}

impl Refusal {
    fn verdict(self, zone: usize) -> Verdict {
        Verdict::Reject { zone, excess: self.excess, retry_after_ms: self.retry_after_ms }
    }
}

/// A client's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    /// 36 bits of milliseconds.
    last: u64,
    /// 28 bits.
    excess: u64,
}

impl Bucket {
    fn unpack(state: u64) -> Self {
        Self { last: state >> EXCESS_BITS, excess: state & EXCESS_MAX }
    }

    fn pack(self) -> u64 {
        self.last << EXCESS_BITS | self.excess
    }

    /// After one more request.
    fn charged(old: Option<Self>, zone: &Zone, now_ms: u64) -> Self {
        let now = now_ms & TIME_MASK;
        let Some(old) = old else {
            return Self { last: now, excess: 0 };
        };
        let age = old.age(now_ms);
        let ms = if age < -AHEAD_TRUSTED_MS { 1 } else { u64::try_from(age).unwrap_or(0) };
        let excess = (old.excess + REQUEST).saturating_sub(zone.drained(ms)).min(EXCESS_MAX);
        Self { last: if ms == 0 { old.last } else { now }, excess }
    }

    /// Milliseconds since it was last charged; negative if this clock lags behind the one that did.
    fn age(self, now_ms: u64) -> i64 {
        let age = now_ms.wrapping_sub(self.last) & TIME_MASK;
        let ahead = TIME_MASK + 1 - age;
        if ahead <= AHEAD_MAX { -(ahead as i64) } else { age as i64 }
    }

    /// Milliseconds from now until `ms` after the last charge.
    fn until(self, ms: u64, now_ms: u64) -> u64 {
        u64::try_from((ms as i64).saturating_sub(self.age(now_ms))).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
