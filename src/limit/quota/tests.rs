use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::*;

/// Some whole minute of 2024.
const START_MS: u64 = 1_710_000_000_000;

fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(START_MS + ms)
}

/// Splitmix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }
}

/// An admission whose estimate is `tokens`, whatever was learned.
fn take(quota: &Quota, tokens: u64, ms: u64) -> Result<Admission, Refusal> {
    quota.admit(0, Some(tokens), at(ms))
}

fn refused(kind: RefusalKind, limit: u64, retry_after_ms: u64) -> Option<Refusal> {
    Some(Refusal { kind, limit, retry_after_ms })
}

#[test]
fn who_has_no_limit_is_never_refused_and_never_counted() {
    let quota = Quota::new(0, 0, 0);
    let mut admitted: Vec<Admission> =
        (0..1000).map(|_| quota.admit(u64::MAX, Some(u64::MAX), at(0)).unwrap()).collect();
    for admission in &mut admitted {
        let _ = admission.settle(u64::MAX, u64::MAX); // without a limit nothing is reserved
    }
    assert!(quota.live.is_none());
    assert_eq!((quota.remaining(at(0)), quota.running()), (Remaining::default(), 0));
    assert!(size_of::<Live>() + 128 <= 640, "the head of the module says so");
}

#[test]
fn requests_begin_anew_on_the_minute() {
    let quota = Quota::new(3, 0, 0);
    for ms in [0, 1, 59_000] {
        drop(take(&quota, 1, ms).unwrap()); // ended, and still counted
    }
    assert_eq!(take(&quota, 1, 59_000).err(), refused(RefusalKind::Requests, 3, 1000));
    assert_eq!(take(&quota, 1, 59_999).err(), refused(RefusalKind::Requests, 3, 1));
    assert_eq!(quota.remaining(at(59_999)).remaining_requests, 0);
    assert_eq!(quota.remaining(at(60_000)).remaining_requests, 3);
    assert!(take(&quota, 1, 60_000).is_ok());
    let left = quota.remaining(at(60_500));
    assert_eq!((left.limit_requests, left.remaining_requests, left.reset_requests_ms), (3, 2, 59_500));
    assert_eq!((left.limit_tokens, left.remaining_tokens, left.reset_tokens_ms), (0, 0, 0));
}

#[test]
fn who_waits_as_long_as_told_is_let_in() {
    for micros in [0, 1, 999, 1000, 29_999_001, 59_999_000, 59_999_001, 59_999_999] {
        let quota = Quota::new(1, 0, 0);
        let now = at(0) + Duration::from_micros(micros);
        assert!(quota.admit(0, None, now).is_ok());
        let refusal = quota.admit(0, None, now).unwrap_err();
        assert!((1..=MINUTE_MS).contains(&refusal.retry_after_ms), "{refusal:?}");
        let later = now + Duration::from_millis(refusal.retry_after_ms);
        assert!(quota.admit(0, None, later).is_ok(), "after {micros} µs");
    }
}

#[test]
fn a_shard_behind_the_boundary_counts_in_the_new_minute() {
    let quota = Quota::new(2, 0, 0);
    assert!(take(&quota, 1, 60_000).is_ok());
    assert!(take(&quota, 1, 59_999).is_ok());
    assert_eq!(take(&quota, 1, 59_999).err(), refused(RefusalKind::Requests, 2, 60_001));
    assert_eq!(take(&quota, 1, 60_001).err(), refused(RefusalKind::Requests, 2, 59_999));
    assert_eq!(quota.remaining(at(59_999)).reset_requests_ms, 60_001);
}

#[test]
fn a_clock_set_back_or_forth_does_not_lock_anyone_out() {
    let quota = Quota::new(1, 100, 0);
    let hour = 3_600_000;
    let mut first = take(&quota, 60, hour).unwrap();
    assert!(take(&quota, 1, hour).is_err());
    let second = take(&quota, 60, 0).unwrap();
    assert!(take(&quota, 1, 0).is_err());
    assert!(take(&quota, 1, 2 * hour).is_ok());
    // The window of the first has come back, and holds nothing of it.
    assert!(take(&quota, 10, hour).is_ok());
    first.settle(0, 30);
    drop(second);
    assert_eq!(quota.remaining(at(hour)).remaining_tokens, 70);
    assert!(Quota::new(1, 0, 0).admit(0, None, UNIX_EPOCH - Duration::from_secs(1)).is_ok());
}

#[test]
fn a_thousand_at_once_let_exactly_so_many_through() {
    const THREADS: usize = 8;
    // Limit of requests, of tokens by 100 each, of exchanges at once; and how many pass.
    for (requests, tokens, concurrent, want) in
        [(37, 0, 0, 37), (0, 4199, 0, 41), (0, 0, 23, 23), (500, 4100, 600, 41), (12, 100_000, 12, 12)]
    {
        let (quota, barrier) = (Quota::new(requests, tokens, concurrent), Barrier::new(THREADS));
        let passed: Vec<Admission> = std::thread::scope(|scope| {
            let work = || {
                barrier.wait();
                (0..125).filter_map(|_| take(&quota, 100, 0).ok()).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(passed.len(), want, "{requests} {tokens} {concurrent}");
        let left = quota.remaining(at(0));
        assert_eq!(left.remaining_requests, u64::from(requests).saturating_sub(want as u64));
        assert_eq!(left.remaining_tokens, tokens.saturating_sub(100 * want as u64));
        drop(passed);
        assert_eq!((quota.running(), quota.remaining(at(0)).remaining_tokens), (0, tokens));
    }
}

#[test]
fn windows_are_exact_while_threads_cross_boundaries() {
    const ROUNDS: u64 = 50;
    let (minutes, barrier) = (Minutes::default(), Barrier::new(4));
    let passed: [AtomicUsize; ROUNDS as usize + 1] = [const { AtomicUsize::new(0) }; _];
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (minutes, barrier, passed) = (&minutes, &barrier, &passed);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    barrier.wait(); // nobody is more than one minute behind
                    for step in 0..60 {
                        let ahead = u64::from(thread % 2 == 0 && step >= 30);
                        if let Ok(window) = minutes.take(1, 50, (round + ahead) * MINUTE_MS) {
                            passed[window as usize].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let passed = passed.map(AtomicUsize::into_inner);
    // Of the first minute's requests some are counted in the second.
    assert!(passed[0] <= 50 && passed[1..].iter().all(|&count| count == 50), "{passed:?}");
}

#[test]
fn places_are_taken_and_left() {
    let quota = Quota::new(0, 0, 2);
    let (one, _two) = (take(&quota, 1, 0).unwrap(), take(&quota, 1, 0).unwrap());
    assert_eq!(take(&quota, 1, 0).err(), refused(RefusalKind::Concurrent, 2, 1000));
    drop(one);
    let mut three = take(&quota, 1, 0).unwrap();
    three.settle(5, 5);
    assert!(take(&quota, 1, 60_000).is_err(), "settled, but not over");
    drop(three);
    assert_eq!(quota.running(), 1);
}

#[test]
fn places_are_exact_under_contention() {
    let (quota, inside, most) = (Quota::new(0, 0, 3), AtomicUsize::new(0), AtomicUsize::new(0));
    let passed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    let Ok(admission) = take(&quota, 1, 0) else { continue };
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    passed.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(admission);
                }
            });
        }
    });
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    assert!(passed.load(Ordering::SeqCst) >= 2000);
    assert_eq!(quota.running(), 0);
}

#[test]
fn a_refusal_gives_back_what_earlier_limits_took() {
    let quota = Quota::new(2, 100, 5);
    let first = take(&quota, 90, 0).unwrap();
    for _ in 0..10 {
        assert_eq!(take(&quota, 20, 0).err(), refused(RefusalKind::Tokens, 100, 60_000));
    }
    assert_eq!((quota.running(), quota.remaining(at(0)).remaining_requests), (1, 1));
    let second = take(&quota, 10, 0).unwrap();
    for _ in 0..10 {
        assert_eq!(take(&quota, 1, 0).err(), refused(RefusalKind::Requests, 2, 60_000));
    }
    assert_eq!(quota.running(), 2);
    drop((first, second));
    assert_eq!(quota.running(), 0);
    // The first limit that is reached is the one that is told.
    let quota = Quota::new(1, 1, 1);
    let _held = take(&quota, 1, 0).unwrap();
    assert_eq!(take(&quota, 1, 0).unwrap_err().kind, RefusalKind::Concurrent);
}

#[test]
fn reservations_become_what_was_used() {
    let quota = Quota::new(0, 1000, 0);
    let left = |ms| quota.remaining(at(ms)).remaining_tokens;
    let mut one = take(&quota, 400, 0).unwrap();
    assert_eq!(left(0), 600);
    one.settle(50, 100);
    assert_eq!(left(0), 850);
    one.settle(500, 500); // the first counts
    drop(one);
    assert_eq!(left(0), 850);
    // Cancelled.
    drop(take(&quota, 800, 0).unwrap());
    assert_eq!(left(0), 850);
    // More than was reserved, and than there is.
    let mut two = take(&quota, 10, 0).unwrap();
    two.settle(2000, 3000);
    assert_eq!((left(0), take(&quota, 1, 0).is_err()), (0, true));
    assert_eq!(left(60_000), 1000);
}

#[test]
fn nothing_crosses_a_boundary() {
    let quota = Quota::new(0, 1000, 0);
    let left = |ms| quota.remaining(at(ms)).remaining_tokens;
    let (mut debt, mut credit) = (take(&quota, 100, 0).unwrap(), take(&quota, 800, 0).unwrap());
    let cancelled = take(&quota, 100, 0).unwrap();
    let _next = take(&quota, 300, 60_000).unwrap();
    debt.settle(10_000, 0);
    credit.settle(1, 0);
    drop(cancelled);
    assert_eq!(left(60_000), 700);
    // Nobody came in the new window yet.
    let mut late = take(&quota, 700, 60_000).unwrap();
    late.settle(5000, 0);
    assert_eq!((left(119_999), left(120_000)), (0, 1000));
}

#[test]
fn what_is_larger_than_the_limit_runs_alone() {
    let quota = Quota::new(0, 100, 0);
    let large = take(&quota, 5000, 0).unwrap();
    assert_eq!(quota.remaining(at(0)).remaining_tokens, 0);
    assert_eq!(take(&quota, 1, 0).err(), refused(RefusalKind::Tokens, 100, 60_000));
    drop(large);
    let _small = take(&quota, 1, 0).unwrap();
    assert_eq!(take(&quota, 101, 0).err(), refused(RefusalKind::Tokens, 100, 60_000));
    assert!(take(&quota, 101, 60_000).is_ok());
}

#[test]
fn counts_end_at_their_bounds() {
    let quota = Quota::new(u32::MAX, u64::MAX, u32::MAX);
    let left = |ms| quota.remaining(at(ms)).remaining_tokens;
    assert_eq!(left(0), COUNT_MAX);
    let mut all = quota.admit(u64::MAX, Some(u64::MAX), at(0)).unwrap();
    assert_eq!((left(0), left(60_000)), (0, COUNT_MAX));
    assert!(take(&quota, 1, 0).is_err());
    all.settle(u64::MAX, u64::MAX);
    assert_eq!((left(0), left(60_000)), (0, COUNT_MAX), "the window's number is untouched");
    // One answer of nonsense is forgotten.
    let quota = Quota::new(0, COUNT_MAX, 0);
    quota.admit(100, None, at(0)).unwrap().settle(u64::MAX, u64::MAX);
    for minute in 1..200 {
        quota.admit(100, None, at(minute * MINUTE_MS)).unwrap().settle(25, 100);
    }
    assert!(quota.live.unwrap().usual.estimate(100, None) < 160);
}

#[test]
fn new_limits_keep_what_was_used() {
    let old = Quota::new(5, 1000, 2);
    let mut running = take(&old, 300, 0).unwrap();
    let new = old.renewed(2, 0, 1);
    assert_eq!(take(&new, 1, 0).unwrap_err().kind, RefusalKind::Concurrent);
    running.settle(100, 0);
    drop(running);
    assert_eq!((new.running(), new.remaining(at(0)).remaining_requests), (0, 1));
    let again = new.renewed(0, 1000, 0);
    assert_eq!(again.remaining(at(0)).remaining_tokens, 900);
    assert!(again.renewed(0, 0, 0).renewed(1, 0, 0).admit(0, None, at(0)).is_ok());
}

/// What one caller may do, written down plainly.
struct Model {
    limits: (u64, u64, u64),
    used: HashMap<u64, (u64, u64)>,
    running: u64,
}

impl Model {
    fn admit(&mut self, tokens: u64, ms: u64) -> Result<(), Refusal> {
        let (requests, limit, concurrent) = self.limits;
        let used = self.used.entry(ms / MINUTE_MS).or_default();
        let rest = MINUTE_MS - ms % MINUTE_MS;
        let refusal = |kind, limit, retry_after_ms| Err(Refusal { kind, limit, retry_after_ms });
        if concurrent > 0 && self.running == concurrent {
            return refusal(RefusalKind::Concurrent, concurrent, CONCURRENT_RETRY_MS);
        }
        if requests > 0 && used.0 >= requests {
            return refusal(RefusalKind::Requests, requests, rest);
        }
        let alone = tokens > limit && used.1 == 0;
        if limit > 0 && used.1 + tokens > limit && !alone {
            return refusal(RefusalKind::Tokens, limit, rest);
        }
        *used = (used.0 + 1, used.1 + tokens);
        self.running += 1;
        Ok(())
    }

    fn end(&mut self, minute: u64, tokens: u64, actual: u64) {
        self.running -= 1;
        let used = self.used.entry(minute).or_default();
        used.1 = used.1 - tokens + actual;
    }

    fn left(&mut self, ms: u64) -> (u64, u64) {
        let used = *self.used.entry(ms / MINUTE_MS).or_default();
        (self.limits.0.saturating_sub(used.0), self.limits.1.saturating_sub(used.1))
    }
}

#[test]
fn it_answers_as_a_sequential_model_does() {
    let (mut passed, mut kinds) = (0, HashMap::new());
    for seed in 0..256 {
        let mut random = Random(seed);
        let mut limit = |most: u64| if random.below(4) == 0 { 0 } else { 1 + random.below(most) };
        let limits = (limit(30), limit(5000), limit(6));
        let quota = Quota::new(limits.0 as u32, limits.1, limits.2 as u32);
        let mut model = Model { limits, used: HashMap::new(), running: 0 };
        let (mut ms, mut held) = (0, Vec::new());
        for step in 0..400 {
            match random.below(8) {
                0 => ms += random.below(20_000),
                1 => ms = (ms / MINUTE_MS + 1) * MINUTE_MS - random.below(2),
                2 if random.below(20) == 0 => ms += random.below(10 * MINUTE_MS),
                2 | 3 if !held.is_empty() => {
                    let at = random.below(held.len() as u64) as usize;
                    let (mut admission, minute, tokens): (Admission, u64, u64) = held.swap_remove(at);
                    let actual = if random.below(3) == 0 { 0 } else { random.below(2000) };
                    if actual > 0 {
                        admission.settle(actual / 2, actual - actual / 2);
                    }
                    drop(admission);
                    model.end(minute, tokens, actual);
                }
                _ => {
                    let most = if random.below(10) == 0 { 8000 } else { 600 };
                    let tokens = 1 + random.below(most);
                    let (got, want) = (take(&quota, tokens, ms), model.admit(tokens, ms));
                    assert_eq!(got.as_ref().err(), want.as_ref().err(), "seed {seed} step {step}");
                    match got {
                        Ok(admission) => held.push((admission, ms / MINUTE_MS, tokens)),
                        Err(refusal) => *kinds.entry(refusal.kind).or_insert(0) += 1,
                    }
                    passed += u32::from(want.is_ok());
                }
            }
            let (left, (requests, tokens)) = (quota.remaining(at(ms)), model.left(ms));
            if quota.live.is_some() {
                let ours = (left.remaining_requests, left.remaining_tokens);
                assert_eq!(ours, (requests, tokens), "seed {seed} step {step}");
            }
        }
        drop(held);
        assert_eq!(quota.running(), 0, "seed {seed}");
    }
    assert!(passed > 1000 && kinds.len() == 3 && kinds.values().all(|&count| count > 1000), "{kinds:?}");
}

#[test]
fn estimates_begin_careful_and_follow_the_caller() {
    let usual = Usual::default();
    assert_eq!(usual.estimate(400, None), 100 + 1024);
    assert_eq!(usual.estimate(400, Some(7)), 107);
    assert_eq!(usual.estimate(0, Some(0)), 1);
    usual.learn_output(200);
    assert_eq!(usual.estimate(400, None), 100 + 400, "twice the first: nothing is known of the spread");
    for _ in 0..40 {
        usual.learn_output(200);
        usual.learn_input(400, 200);
    }
    let (same, more) = (usual.estimate(400, None), usual.estimate(4000, Some(0)));
    assert!((400..=402).contains(&same) && (2000..=2001).contains(&more), "{same} {more}");
    // A short text is mostly template; a long one says what a byte takes.
    for _ in 0..40 {
        usual.learn_input(20, 30);
        usual.learn_input(20_000, 5000);
    }
    let long = usual.estimate(20_000, Some(0));
    assert!((5000..5200).contains(&long), "{long}");
    // Embeddings have no output at all.
    let usual = Usual::default();
    usual.learn_output(0);
    assert_eq!(usual.estimate(0, None), 1);
}

#[test]
fn failures_and_bounded_requests_teach_nothing_of_output() {
    let quota = Quota::new(0, 1_000_000, 0);
    let usual = || quota.live.as_ref().unwrap().usual.estimate(400, None);
    quota.admit(400, None, at(0)).unwrap().settle(0, 0);
    assert_eq!(usual(), 1124);
    quota.admit(400, Some(5), at(0)).unwrap().settle(100, 5);
    assert_eq!(usual(), 125 + 1024, "input is learned, with a margin");
    quota.admit(400, None, at(0)).unwrap().settle(100, 50);
    assert!(usual() < 230);
}

/// Callers of like requests that ask for more than they may: tokens of each minute, by the minute they were let in.
fn minutes_of(seed: u64, limit: u64, size: (u64, u64), spread: u64, takes_ms: (u64, u64)) -> Vec<u64> {
    let (quota, mut random) = (Quota::new(0, limit, 0), Random(seed));
    let mut vary = |mean: u64| mean - mean * spread / 100 + random.below(2 * mean * spread / 100 + 1);
    let mut running: Vec<(u64, Admission, u64, u64)> = Vec::new();
    let mut minutes = vec![0; 6];
    for ms in (0..6 * MINUTE_MS).step_by(50) {
        let (over, still): (Vec<_>, Vec<_>) = running.into_iter().partition(|(end_ms, ..)| *end_ms <= ms);
        running = still;
        for (_, mut admission, input, output) in over {
            admission.settle(input, output);
        }
        for _ in 0..20 {
            let Ok(admission) = quota.admit(4 * size.0, None, at(ms)) else { break };
            let (input, output) = (vary(size.0), vary(size.1));
            minutes[(ms / MINUTE_MS) as usize] += input + output;
            let lasts_ms = takes_ms.0 + vary(takes_ms.1);
            running.push((ms + lasts_ms, admission, input, output));
        }
    }
    minutes
}

#[test]
fn a_minute_of_like_requests_stays_within_a_percent_of_its_budget() {
    let (mut worst, mut least) = (0.0f64, f64::MAX);
    for seed in 0..48 {
        // The last two: all of a minute's requests still run when it ends; ended ones give nothing back.
        for (size, spread, takes_ms) in [
            ((100, 200), 10, (1000, 4000)),
            ((1000, 50), 10, (500, 500)),
            ((20, 400), 20, (2000, 10_000)),
            ((300, 300), 0, (1000, 1000)),
            ((100, 200), 10, (61_000, 1000)),
            ((20, 400), 20, (61_000, 20_000)),
        ] {
            let budget = 60_000;
            let minutes = minutes_of(seed, budget, size, spread, takes_ms);
            let share = |&tokens: &u64| tokens as f64 / budget as f64;
            worst = minutes.iter().map(share).fold(worst, f64::max);
            if takes_ms.0 < 60_000 {
                least = minutes[1..].iter().map(share).fold(least, f64::min);
            }
        }
    }
    println!("at most {worst:.4} of the budget, at least {least:.4}");
    assert!(worst <= 1.01, "{worst}");
    assert!(least >= 0.97, "the margin comes back: {least}");
}

#[test]
fn threads_of_like_requests_stay_within_a_percent_too() {
    let (quota, used) = (Quota::new(0, 100_000, 0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (quota, used) = (&quota, &used);
            scope.spawn(move || {
                let mut random = Random(thread);
                for _ in 0..2000 {
                    let Ok(mut admission) = quota.admit(400, None, at(0)) else { continue };
                    let (input, output) = (95 + random.below(11), 190 + random.below(21));
                    std::thread::yield_now();
                    used.fetch_add(input + output, Ordering::Relaxed);
                    admission.settle(input, output);
                }
            });
        }
    });
    let used = used.into_inner();
    assert!((90_000..=101_000).contains(&used), "{used}");
    assert_eq!(quota.remaining(at(0)).remaining_tokens, 100_000u64.saturating_sub(used));
}

#[test]
fn headers_are_openais() {
    let remaining = Remaining {
        limit_requests: 60,
        remaining_requests: 59,
        reset_requests_ms: 1000,
        limit_tokens: 150_000,
        remaining_tokens: 0,
        reset_tokens_ms: 120,
    };
    let mut out = b"a: b\r\n".to_vec();
    headers(&remaining, &mut out);
    let want = "a: b\r\n\
                x-ratelimit-limit-requests: 60\r\n\
                x-ratelimit-remaining-requests: 59\r\n\
                x-ratelimit-reset-requests: 1s\r\n\
                x-ratelimit-limit-tokens: 150000\r\n\
                x-ratelimit-remaining-tokens: 0\r\n\
                x-ratelimit-reset-tokens: 120ms\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), want);
    let mut out = Vec::new();
    headers(&Remaining { limit_requests: 0, ..remaining }, &mut out);
    assert!(!String::from_utf8_lossy(&out).contains("requests") && out.starts_with(b"x-ratelimit-limit-t"));
    out.clear();
    headers(&Remaining::default(), &mut out);
    assert_eq!(out, b"");
}

#[test]
fn durations_are_written_as_go_does() {
    for (ms, want) in [
        (0, "0s"),
        (1, "1ms"),
        (120, "120ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1001, "1.001s"),
        (8640, "8.64s"),
        (59_900, "59.9s"),
        (60_000, "1m0s"),
        (86_400, "1m26.4s"),
        (360_000, "6m0s"),
        (3_600_000, "1h0m0s"),
        (3_661_050, "1h1m1.05s"),
    ] {
        let mut out = Vec::new();
        duration(&mut out, ms);
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
    for value in [0, 9, 10, u64::MAX] {
        let mut out = Vec::new();
        number(&mut out, value);
        assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
    }
}

#[test]
fn a_peek_says_what_the_admission_then_is_and_takes_nothing() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let limit = |random: &mut Random, most: u64| random.below(2) * (1 + random.below(most));
        let (requests, tokens) = (limit(&mut random, 20), limit(&mut random, 4000));
        let quota = Quota::new(requests as u32, tokens, limit(&mut random, 4) as u32);
        let (mut held, mut ms) = (Vec::new(), 0);
        for turn in 0..300 {
            ms += random.below(3000);
            let (bytes, max) = (random.below(4000), Some(random.below(500)).filter(|max| max % 2 == 0));
            let state = || (quota.remaining(at(ms)), quota.running());
            let before = state();
            let said = quota.peek(bytes, max, at(ms));
            assert_eq!(state(), before, "seed {seed}, turn {turn}: a peek takes nothing");
            match quota.admit(bytes, max, at(ms)) {
                Ok(admission) => {
                    assert_eq!(said.refusal, None, "seed {seed}, turn {turn}");
                    let reserved = admission.0.as_ref().and_then(|held| held.reserved);
                    assert_eq!(said.estimate, reserved.map_or(0, |reserved| reserved.amount));
                    held.push(admission);
                }
                Err(refusal) => assert_eq!(said.refusal, Some(refusal), "seed {seed}, turn {turn}"),
            }
            if random.below(3) == 0 && !held.is_empty() {
                let at = random.below(held.len() as u64) as usize;
                let mut admission = held.swap_remove(at);
                if random.below(2) == 0 {
                    admission.settle(random.below(900), random.below(900));
                }
            }
        }
    }
}
