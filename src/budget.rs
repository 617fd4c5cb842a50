//! How many retries a shard may make: a share of its requests, and a few a second besides.
//!
//! Each request deposits `percent` hundredths of a retry, each retry withdraws a whole one. So when
//! everything fails, upstream attempts stay below `1 + percent/100` of the requests, where a fixed number of
//! retries each would multiply them. `min_per_s` retries a second are allowed besides, for a shard with
//! little traffic.
//!
//! Deposits lie in ten buckets of a second, the current one included, so each lives for more than 9 and at
//! most 10 s; the oldest are spent first. The allowance is a bucket of one second's worth, full at first, in
//! thousandths, hence exact at milliseconds; it is spent before the deposits, as it fills again. What is left
//! of either is not put together to a whole retry.
//!
//! Invariant, over any run of `s` seconds with `n` requests: retries ≤ `n·percent/100 + min_per_s·(s + 1)`
//! and what was in store at its start, at most the deposits of the 10 s before. A second's deposits end at
//! 2^32 − 1 hundredths. A time before the latest one is taken as that.
//!
//! Cost: not shared, one a shard; 80 bytes, no allocation. A deposit is a compare and an add, but for the
//! first of a second; a retry at most two walks over ten numbers. Source: Finagle's `RetryBudget`, whose
//! ideas linkerd and tower took over; there the allowance of all 10 s may be spent at once, here that of one.

use std::array;
use std::cell::Cell;

/// Seconds that a deposit lives at most.
const SECONDS: u64 = 10;
/// A retry in the unit of deposits, and in that of the allowance.
const HUNDREDTHS: u32 = 100;
const THOUSANDTHS: u64 = 1000;

/// The retries of one shard.
#[derive(Debug)]
pub struct RetryBudget {
    /// Hundredths that a request deposits.
    percent: u32,
    /// Also the thousandths that the allowance gains in a millisecond.
    min_per_s: u64,
    /// Hundredths, each by its second modulo [`SECONDS`].
    deposits: [Cell<u32>; SECONDS as usize],
    /// The latest second seen.
    second: Cell<u64>,
    /// Thousandths.
    allowance: Cell<u64>,
    /// When the allowance was last added to, in milliseconds.
    filled_ms: Cell<u64>,
}

impl RetryBudget {
    /// `percent` retries for a hundred requests, and `min_per_s` a second whatever the traffic; both 0: none.
    #[must_use]
    pub fn new(percent: u32, min_per_s: u32) -> Self {
        let min_per_s = u64::from(min_per_s);
        Self {
            percent,
            min_per_s,
            deposits: array::from_fn(|_| Cell::new(0)),
            second: Cell::new(0),
            allowance: Cell::new(min_per_s * THOUSANDTHS),
            filled_ms: Cell::new(0),
        }
    }

    /// A request has come, at `now_ms` of the process clock. Once a request, not once an attempt.
    pub fn deposit(&self, now_ms: u64) {
        self.expire(now_ms);
        if let Some(bucket) = self.bucket(self.second.get()) {
            bucket.set(bucket.get().saturating_add(self.percent));
        }
    }

    /// Takes one retry. False: there is none, and nothing is taken.
    #[must_use]
    pub fn withdraw(&self, now_ms: u64) -> bool {
        self.withdraw_allowance(now_ms) || self.withdraw_deposits(now_ms)
    }

    fn withdraw_allowance(&self, now_ms: u64) -> bool {
        let gained = now_ms.saturating_sub(self.filled_ms.get()).saturating_mul(self.min_per_s);
        let allowance = self.allowance.get().saturating_add(gained).min(self.min_per_s * THOUSANDTHS);
        self.filled_ms.set(self.filled_ms.get().max(now_ms));
        let left = allowance.checked_sub(THOUSANDTHS);
        self.allowance.set(left.unwrap_or(allowance));
        left.is_some()
    }

    fn withdraw_deposits(&self, now_ms: u64) -> bool {
        self.expire(now_ms);
        let stored: u64 = self.deposits.iter().map(|bucket| u64::from(bucket.get())).sum();
        if stored < u64::from(HUNDREDTHS) {
            return false;
        }
        let mut due = HUNDREDTHS;
        for bucket in (1..=SECONDS).filter_map(|after| self.bucket(self.second.get() + after)) {
            let taken = due.min(bucket.get());
            bucket.set(bucket.get() - taken);
            due -= taken;
        }
        true
    }

    /// Empties the buckets of seconds that have come since the latest one.
    fn expire(&self, now_ms: u64) {
        let (latest, second) = (self.second.get(), now_ms / 1000);
        if second > latest {
            let come = (second - latest).min(SECONDS);
            (1..=come).filter_map(|after| self.bucket(latest + after)).for_each(|bucket| bucket.set(0));
            self.second.set(second);
        }
    }

    fn bucket(&self, second: u64) -> Option<&Cell<u32>> {
        self.deposits.get((second % SECONDS) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn withdrawn(budget: &RetryBudget, now_ms: u64) -> usize {
        (0..100_000).take_while(|_| budget.withdraw(now_ms)).count()
    }

    #[test]
    fn requests_pay_for_retries() {
        let (mut made, want) = (Vec::new(), [0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
        let budget = RetryBudget::new(20, 0);
        for now in 0..10 {
            budget.deposit(now);
            made.push(withdrawn(&budget, now));
        }
        assert_eq!(made, want);
        for (percent, requests, retries) in
            [(0, 1000, 0), (1, 99, 0), (1, 100, 1), (30, 10, 3), (1000, 3, 30)]
        {
            let budget = RetryBudget::new(percent, 0);
            (0..requests).for_each(|_| budget.deposit(5));
            assert_eq!(withdrawn(&budget, 5), retries, "{percent} % of {requests}");
        }
    }

    #[test]
    fn the_allowance_fills_in_a_second_and_no_further() {
        for start in [0, 1 << 40] {
            let budget = RetryBudget::new(0, 10);
            assert_eq!(withdrawn(&budget, start), 10);
            assert_eq!(withdrawn(&budget, start + 99), 0);
            assert_eq!(withdrawn(&budget, start + 100), 1);
            assert_eq!(withdrawn(&budget, start + 50), 0, "a time that has been");
            assert_eq!(withdrawn(&budget, start + 650), 5);
            assert_eq!(withdrawn(&budget, start + 100_000), 10);
        }
        let one = RetryBudget::new(0, 1);
        let made = (0..=10_000).step_by(7).map(|now| withdrawn(&one, now)).sum::<usize>();
        assert_eq!(made, 10, "one at first, then one at the first look after each whole second");
    }

    #[test]
    fn deposits_live_for_ten_buckets() {
        for (deposited, last) in [(0, 9999), (999, 9999), (1000, 10_999), (123_456, 132_999)] {
            for (now, left) in [(last, 2), (last + 1, 0), (last + 20_000, 0), (u64::MAX, 0)] {
                let budget = RetryBudget::new(100, 0);
                budget.deposit(deposited);
                budget.deposit(deposited);
                assert_eq!(withdrawn(&budget, now), left, "of {deposited} ms at {now} ms");
            }
        }
        // The oldest is spent first.
        let budget = RetryBudget::new(100, 0);
        budget.deposit(0);
        budget.deposit(5000);
        assert!(budget.withdraw(6000));
        assert_eq!(withdrawn(&budget, 14_999), 1);
    }

    #[test]
    fn the_store_is_bounded() {
        let budget = RetryBudget::new(u32::MAX, 0);
        for second in 0..30 {
            budget.deposit(second * 1000);
            budget.deposit(second * 1000);
        }
        let stored: u64 = budget.deposits.iter().map(|bucket| u64::from(bucket.get())).sum();
        assert_eq!(stored, 10 * u64::from(u32::MAX));
        assert!(size_of::<RetryBudget>() <= 80);
    }

    /// What happened at one time of a random run.
    struct Event {
        now_ms: u64,
        deposits: u64,
        retries: u64,
    }

    #[test]
    fn no_part_of_a_run_exceeds_the_budget() {
        let (mut refused, mut made) = (0, 0);
        for seed in 0..256 {
            let mut random = Random(seed);
            let percent = [0, 1, 20, 33, 100, 1000][random.below(6)];
            let min_per_s = [0, 1, 3, 10, 50][random.below(5)];
            let budget = RetryBudget::new(percent as u32, min_per_s as u32);
            let pace = [5, 50, 500, 4000][random.below(4)];
            let mut now_ms = [0, 1 << 40][random.below(2)] + random.below(20_000) as u64;
            let (mut events, mut model) = (Vec::<Event>::new(), Model::new(percent, min_per_s));
            for _ in 0..300 {
                now_ms += random.below(pace) as u64;
                let (deposits, wanted) = (random.below(6) as u64, random.below(8));
                (0..deposits).for_each(|_| budget.deposit(now_ms));
                (0..deposits).for_each(|_| model.deposits.push(now_ms));
                let mut retries = 0;
                for _ in 0..wanted {
                    let allowed = budget.withdraw(now_ms);
                    assert_eq!(allowed, model.withdraw(now_ms), "seed {seed} at {now_ms} ms");
                    retries += u64::from(allowed);
                    *if allowed { &mut made } else { &mut refused } += 1;
                }
                events.push(Event { now_ms, deposits, retries });
            }
            hold_bound(&events, percent, min_per_s, seed);
        }
        assert!(made > 10_000 && refused > 10_000, "{made} made, {refused} refused");
    }

    /// Each part of the run against the bound of the module's head, in thousandths of a retry.
    fn hold_bound(events: &[Event], percent: u64, min_per_s: u64, seed: u64) {
        for (at, first) in events.iter().enumerate() {
            let young = |event: &&Event| event.now_ms + 10_000 > first.now_ms;
            let store: u64 =
                events[..at].iter().filter(young).map(|event| event.deposits * percent * 10).sum();
            let (mut deposits, mut retries) = (0, 0);
            for last in &events[at..] {
                deposits += last.deposits * percent * 10;
                retries += last.retries * 1000;
                let allowance = min_per_s * (last.now_ms - first.now_ms + 1000);
                let bound = store + deposits + allowance;
                assert!(retries <= bound, "seed {seed}: {} to {} ms", first.now_ms, last.now_ms);
            }
        }
    }

    /// The same budget told plainly: when each request came, the oldest first.
    struct Model {
        percent: u64,
        min_per_s: u64,
        deposits: Vec<u64>,
        /// Hundredths spent of the first deposit in the list.
        spent: u64,
        /// When the allowance will be full again, in milliseconds / `min_per_s` (generic cell rate
        /// algorithm).
        full_at: u64,
    }

    impl Model {
        fn new(percent: u64, min_per_s: u64) -> Self {
            Self { percent, min_per_s, deposits: Vec::new(), spent: 0, full_at: 0 }
        }

        fn withdraw(&mut self, now_ms: u64) -> bool {
            let now = now_ms * self.min_per_s;
            let full_at = self.full_at.max(now) + 1000;
            if self.min_per_s > 0 && full_at - now <= 1000 * self.min_per_s {
                self.full_at = full_at;
                return true;
            }
            while self.deposits.first().is_some_and(|at| at / 1000 + 10 <= now_ms / 1000) {
                self.deposits.remove(0);
                self.spent = 0;
            }
            if self.deposits.len() as u64 * self.percent < self.spent + 100 {
                return false;
            }
            self.spent += 100;
            while self.percent > 0 && self.spent >= self.percent && !self.deposits.is_empty() {
                self.deposits.remove(0);
                self.spent -= self.percent;
            }
            true
        }
    }

    /// A seeded generator for tests (splitmix64).
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ z >> 31) as usize % end
        }
    }
}
