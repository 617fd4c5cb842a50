//! What each caller has used since the process began, and its budget.
//!
//! Shared by all shards; every change is one relaxed addition on words of the caller's own cache lines. A budget counts in
//! periods of fixed length from 1970 on: the first exchange that ends in a new period begins it. It is looked at when a
//! request comes and charged when its exchange ends, so what runs when it is reached is still served: it is overdrawn at most
//! by that. Money is counted in billionths of a dollar; 2^63 of them are nine billion dollars.
//!
//! Memory: 128 bytes a caller.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_utils::CachePadded;

/// Billionths of a dollar in one.
const NANO: f64 = 1e9;

/// A caller's sums.
#[derive(Debug, Default)]
pub struct Spend(CachePadded<Sums>);

#[derive(Debug, Default)]
struct Sums {
    requests: AtomicU64,
    input: AtomicU64,
    output: AtomicU64,
    cost_nano: AtomicU64,
    work_us: AtomicU64,
    period: AtomicU64,
    /// Spent before the period began.
    before_nano: AtomicU64,
    /// Spent by other processes in the period whose number is beside it.
    elsewhere_nano: AtomicU64,
    elsewhere_period: AtomicU64,
}

/// One exchange's part.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bill {
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens.
    pub output: u64,
    /// USD.
    pub cost: f64,
    /// Time of endpoints, in microseconds.
    pub work_us: u64,
}

/// What a caller has used in all.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spent {
    /// Exchanges that ended.
    pub requests: u64,
    /// Prompt tokens.
    pub input: u64,
    /// Completion tokens.
    pub output: u64,
    /// USD.
    pub cost: f64,
    /// Time of endpoints, in seconds.
    pub work_s: f64,
}

impl Spent {
    /// What has been used after `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            input: self.input.saturating_sub(before.input),
            output: self.output.saturating_sub(before.output),
            cost: (self.cost - before.cost).max(0.0),
            work_s: (self.work_s - before.work_s).max(0.0),
        }
    }

    /// Adds `more`.
    pub fn add(&mut self, more: &Self) {
        self.requests += more.requests;
        self.input += more.input;
        self.output += more.output;
        self.cost += more.cost;
        self.work_s += more.work_s;
    }
}

/// A budget that a caller is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OverBudget {
    /// USD spent in this period.
    pub spent: f64,
    /// Until the next one begins, in milliseconds; `None`: there is none.
    pub next_ms: Option<u64>,
}

impl Spend {
    /// Charges an exchange that has ended.
    pub fn charge(&self, bill: Bill, period: Duration, now: SystemTime) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        self.charge_rest(bill, period, now);
    }

    /// Charges what an exchange that was charged before has used besides.
    pub fn charge_rest(&self, bill: Bill, period: Duration, now: SystemTime) {
        let sums = &self.0;
        self.begin_period(period, now);
        sums.input.fetch_add(bill.input, Ordering::Relaxed);
        sums.output.fetch_add(bill.output, Ordering::Relaxed);
        sums.work_us.fetch_add(bill.work_us, Ordering::Relaxed);
        if bill.cost > 0.0 {
            sums.cost_nano.fetch_add(nano(bill.cost), Ordering::Relaxed);
        }
    }

    /// Whether `budget` USD a `period` still last.
    ///
    /// # Errors
    /// They do not: status 429.
    pub fn check(&self, budget: f64, period: Duration, now: SystemTime) -> Result<(), OverBudget> {
        if budget <= 0.0 {
            return Ok(());
        }
        let spent = self.in_period(period, now);
        if spent < budget {
            return Ok(());
        }
        let length_ms = millis(period);
        let next_ms = unix_ms(now).checked_rem(length_ms).map(|passed| length_ms - passed);
        Err(OverBudget { spent, next_ms })
    }

    /// USD spent in the period of `now`.
    #[must_use]
    pub fn in_period(&self, period: Duration, now: SystemTime) -> f64 {
        let (_, own) = self.own(period, now);
        usd(own.saturating_add(self.elsewhere(period, now)))
    }

    /// The number of the period of `now`, and what this process has spent in it, in billionths of a dollar.
    #[must_use]
    pub fn own(&self, period: Duration, now: SystemTime) -> (u64, u64) {
        let (sums, this) = (&self.0, number(period, now));
        let all = sums.cost_nano.load(Ordering::Relaxed);
        if sums.period.load(Ordering::Relaxed) != this {
            return (this, 0);
        }
        (this, all.saturating_sub(sums.before_nano.load(Ordering::Relaxed)))
    }

    /// What other processes, or those before this one, have spent in the period of `now`.
    fn elsewhere(&self, period: Duration, now: SystemTime) -> u64 {
        let sums = &self.0;
        let is_this = sums.elsewhere_period.load(Ordering::Acquire) == number(period, now);
        if is_this { sums.elsewhere_nano.load(Ordering::Relaxed) } else { 0 }
    }

    /// Other processes have spent so much in the period of that number. One thread may say so.
    pub fn set_elsewhere(&self, period: u64, nano: u64) {
        self.0.elsewhere_nano.store(nano, Ordering::Relaxed);
        self.0.elsewhere_period.store(period, Ordering::Release);
    }

    /// All since the process began.
    #[must_use]
    pub fn spent(&self) -> Spent {
        let get = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        let sums = &self.0;
        Spent {
            requests: get(&sums.requests),
            input: get(&sums.input),
            output: get(&sums.output),
            cost: usd(get(&sums.cost_nano)),
            work_s: real(get(&sums.work_us)) / 1e6,
        }
    }

    fn begin_period(&self, period: Duration, now: SystemTime) {
        let (sums, this) = (&self.0, number(period, now));
        let known = sums.period.load(Ordering::Relaxed);
        if known == this {
            return;
        }
        let all = sums.cost_nano.load(Ordering::Relaxed);
        if sums.period.compare_exchange(known, this, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            sums.before_nano.store(all, Ordering::Relaxed);
        }
    }
}

/// The number of a period; without end there is one.
fn number(period: Duration, now: SystemTime) -> u64 {
    unix_ms(now).checked_div(millis(period)).unwrap_or(0)
}

fn unix_ms(now: SystemTime) -> u64 {
    millis(now.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates; a cost is not negative"
)]
fn nano(usd: f64) -> u64 {
    (usd * NANO).round() as u64
}

fn usd(nano: u64) -> f64 {
    real(nano) / NANO
}

#[expect(clippy::cast_precision_loss, reason = "exact to millionths up to nine million dollars")]
fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn cost(cost: f64) -> Bill {
        Bill { input: 10, output: 5, cost, work_us: 2_000_000 }
    }

    #[test]
    fn sums() {
        let spend = Spend::default();
        (0..3).for_each(|_| spend.charge(cost(0.1), Duration::ZERO, at(1000)));
        let spent = spend.spent();
        assert_eq!((spent.requests, spent.input, spent.output), (3, 30, 15));
        assert!((spent.cost - 0.3).abs() < 1e-9 && (spent.work_s - 6.0).abs() < 1e-9);
    }

    #[test]
    fn a_budget_without_a_period_ends_for_good() {
        let spend = Spend::default();
        assert_eq!(spend.check(1.0, Duration::ZERO, at(0)), Ok(()));
        spend.charge(cost(0.6), Duration::ZERO, at(5));
        assert_eq!(spend.check(1.0, Duration::ZERO, at(5)), Ok(()));
        spend.charge(cost(0.6), Duration::ZERO, at(5));
        let over = spend.check(1.0, Duration::ZERO, at(1 << 30)).unwrap_err();
        assert!((over.spent - 1.2).abs() < 1e-9 && over.next_ms.is_none());
        assert_eq!(spend.check(0.0, Duration::ZERO, at(5)), Ok(()), "no budget");
    }

    #[test]
    fn a_period_begins_anew() {
        let (spend, day) = (Spend::default(), Duration::from_secs(86_400));
        spend.charge(cost(2.0), day, at(86_400 * 10 + 400));
        let over = spend.check(1.0, day, at(86_400 * 10 + 86_000)).unwrap_err();
        assert_eq!(over.next_ms, Some(400_000));
        assert_eq!(spend.check(1.0, day, at(86_400 * 11)), Ok(()), "nobody has charged anything yet");
        spend.charge(cost(0.4), day, at(86_400 * 11 + 5));
        assert!((spend.in_period(day, at(86_400 * 11 + 6)) - 0.4).abs() < 1e-9);
        assert!((spend.spent().cost - 2.4).abs() < 1e-9, "the sum goes on");
    }

    #[test]
    fn what_others_spend_counts_in_its_period() {
        let (spend, day) = (Spend::default(), Duration::from_secs(86_400));
        let now = at(86_400 * 10 + 5);
        spend.charge(cost(0.25), day, now);
        assert_eq!(spend.own(day, now), (10, 250_000_000));
        spend.set_elsewhere(10, 500_000_000);
        assert!((spend.in_period(day, now) - 0.75).abs() < 1e-9);
        assert!(spend.check(0.7, day, now).is_err());
        assert!(spend.in_period(day, at(86_400 * 11)).abs() < 1e-9, "another day");
        assert_eq!(spend.own(day, at(86_400 * 11)), (11, 0));
        assert!((spend.spent().cost - 0.25).abs() < 1e-9, "its own sums are its own");
    }

    #[test]
    fn threads_lose_nothing() {
        let spend = Spend::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..1000u64).for_each(|n| spend.charge(cost(0.001), Duration::from_secs(1), at(n)));
                });
            }
        });
        assert_eq!(spend.spent().requests, 4000);
        assert!((spend.spent().cost - 4.0).abs() < 1e-6);
    }
}
