use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;

use super::super::table::Clients;
use super::*;

const CHAT: u32 = 5000; // 5r/s

fn one(zone: &Zone, burst: u32, delay: Option<u32>, now_ms: u64) -> Verdict {
    decide(&[Use { zone, client: 77, burst, delay }], now_ms)
}

fn passes(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Pass { .. })
}

/// How many of `count` requests at one instant pass.
fn passing(zone: &Zone, burst: u32, count: usize, now_ms: u64) -> usize {
    (0..count).filter(|_| passes(one(zone, burst, None, now_ms))).count()
}

#[test]
fn burst_20_passes_21_at_once_then_one_per_200_ms() {
    let zone = Zone::new(CHAT, 100);
    assert_eq!(passing(&zone, 20, 60, 1_000_000), 21);
    assert_eq!(passing(&zone, 20, 60, 1_000_199), 0);
    for turn in 1..=50 {
        assert_eq!(passing(&zone, 20, 60, 1_000_000 + turn * 200), 1, "after {turn} times 200 ms");
    }
    assert_eq!(passing(&zone, 20, 60, 1_000_000 + 50 * 200 + 4200), 21, "drained");
}

#[test]
fn without_a_burst_one_passes_per_interval() {
    let zone = Zone::new(CHAT, 100);
    let passed: Vec<u64> = (1000..2001).filter(|now| passes(one(&zone, 0, None, *now))).collect();
    assert_eq!(passed, [1000, 1200, 1400, 1600, 1800, 2000]);
}

#[test]
fn verdicts_tell_what_is_left_and_what_to_wait_for() {
    let zone = Zone::new(CHAT, 100);
    let pass = |remaining, reset_ms| Verdict::Pass { delay_ms: 0, remaining, reset_ms };
    assert_eq!(one(&zone, 2, None, 5000), pass(2, 0));
    assert_eq!(one(&zone, 2, None, 5000), pass(1, 200));
    assert_eq!(one(&zone, 2, None, 5000), pass(0, 400));
    assert_eq!(one(&zone, 2, None, 5000), Verdict::Reject { zone: 0, excess: 3000, retry_after_ms: 200 });
    assert_eq!(one(&zone, 2, None, 5150), Verdict::Reject { zone: 0, excess: 2250, retry_after_ms: 50 });
    assert_eq!(one(&zone, 2, None, 5200), pass(0, 400));
}

#[test]
fn divisions_truncate() {
    let zone = Zone::new(166, 100); // 10r/m
    assert!(passes(one(&zone, 0, None, 10)));
    // 166 · 6024 / 1000 is 999.98
    assert_eq!(one(&zone, 0, None, 10 + 6024), Verdict::Reject { zone: 0, excess: 1, retry_after_ms: 1 });
    assert!(passes(one(&zone, 0, None, 10 + 6025)));
}

#[test]
fn delays_are_nginxs() {
    let delays = |delay: Option<u32>| -> Vec<u64> {
        let zone = Zone::new(3000, 100); // 3r/s
        let verdicts = (0..6).map(|_| one(&zone, 4, delay, 9000));
        verdicts
            .filter_map(
                |verdict| if let Verdict::Pass { delay_ms, .. } = verdict { Some(delay_ms) } else { None },
            )
            .collect()
    };
    assert_eq!(delays(None), [0, 0, 0, 0, 0]);
    assert_eq!(delays(Some(0)), [0, 333, 666, 1000, 1333]);
    assert_eq!(delays(Some(2)), [0, 0, 0, 333, 666]);
    assert_eq!(delays(Some(9)), [0, 0, 0, 0, 0]);
}

#[test]
fn a_refusal_changes_nothing() {
    let zone = Zone::new(CHAT, 100);
    passing(&zone, 3, 4, 1000);
    let before = zone.table.get(77);
    assert_eq!(passing(&zone, 3, 100, 1199), 0);
    assert_eq!(zone.table.get(77), before);
    assert!(passes(one(&zone, 3, None, 1200)), "the refused ones took nothing");
}

#[test]
fn a_clock_that_goes_back_drains_nothing() {
    let zone = Zone::new(CHAT, 100);
    passing(&zone, 20, 5, 100_000);
    let state = || Bucket::unpack(zone.table.get(77).unwrap());
    assert_eq!(state(), Bucket { last: 100_000, excess: 4000 });
    assert!(passes(one(&zone, 20, None, 99_000)));
    assert_eq!(state(), Bucket { last: 100_000, excess: 5000 }, "ms is 0: last stays");
    assert!(passes(one(&zone, 20, None, 40_000)));
    assert_eq!(state(), Bucket { last: 100_000, excess: 6000 }, "60 000 back is not too far");
    assert!(passes(one(&zone, 20, None, 39_999)));
    assert_eq!(state(), Bucket { last: 39_999, excess: 6995 }, "further: ms is 1");
}

#[test]
fn a_retry_after_is_the_least_that_passes() {
    let mut random = Random(11);
    for round in 0..300 {
        let rate = [1, 16, 166, 3000, 5000, 90_001][random.below(6) as usize];
        let burst = random.below(30) as u32;
        let zone = Zone::new(rate, 8);
        let mut now = 1 + random.below(1 << 30);
        let wait = loop {
            now += random.below(1 + 1_000_000 / u64::from(rate)); // twice the rate
            if let Verdict::Reject { retry_after_ms, .. } = one(&zone, burst, None, now) {
                break retry_after_ms;
            }
        };
        assert!(!passes(one(&zone, burst, None, now + wait - 1)), "round {round}: {rate} {burst} {wait}");
        assert!(passes(one(&zone, burst, None, now + wait)), "round {round}: {rate} {burst} {wait}");
    }
}

#[test]
fn routes_of_a_zone_share_the_excess_and_have_their_own_bursts() {
    let zone = Zone::new(CHAT, 100);
    assert_eq!(passing(&zone, 10, 11, 500), 11);
    assert_eq!(passing(&zone, 4, 1, 500), 0);
    assert_eq!(one(&zone, 4, None, 500), Verdict::Reject { zone: 0, excess: 11_000, retry_after_ms: 1400 });
    assert_eq!(passing(&zone, 4, 1, 1899), 0);
    assert_eq!(passing(&zone, 4, 1, 1900), 1);
}

#[test]
fn all_zones_must_pass_and_a_refused_request_is_charged_nowhere() {
    let (wide, narrow) = (Zone::new(CHAT, 100), Zone::new(1000, 100));
    let both = |now_ms| {
        let wide = Use { zone: &wide, client: 1, burst: 5, delay: Some(1) };
        let narrow = Use { zone: &narrow, client: 2, burst: 1, delay: None };
        decide(&[wide, narrow], now_ms)
    };
    let pass = |delay_ms, remaining, reset_ms| Verdict::Pass { delay_ms, remaining, reset_ms };
    assert_eq!(both(10), pass(0, 1, 0));
    assert_eq!(both(10), pass(0, 0, 1000));
    for _ in 0..10 {
        assert_eq!(both(10), Verdict::Reject { zone: 1, excess: 2000, retry_after_ms: 1000 });
    }
    let excess = |zone: &Zone, client| zone.table.get(client).map(|state| Bucket::unpack(state).excess);
    assert_eq!((excess(&wide, 1), excess(&narrow, 2)), (Some(1000), Some(1000)));
    passing_of(&wide, 1, 4, 10);
    assert_eq!(
        both(10),
        Verdict::Reject { zone: 0, excess: 6000, retry_after_ms: 200 },
        "the first that refuses"
    );
    assert_eq!(excess(&narrow, 2), Some(1000));
    assert_eq!(both(1100), pass(0, 0, 910), "wide: 550, narrow: 910");
}

fn passing_of(zone: &Zone, client: u64, count: usize, now_ms: u64) {
    for _ in 0..count {
        assert!(passes(decide(&[Use { zone, client, burst: 9, delay: None }], now_ms)));
    }
}

#[test]
fn the_longest_delay_of_all_zones_counts() {
    let zones = [Zone::new(2000, 100), Zone::new(1000, 100), Zone::new(4000, 100)];
    let uses: Vec<Use<'_>> =
        zones.iter().map(|zone| Use { zone, client: 3, burst: 9, delay: Some(0) }).collect();
    let delay = |uses: &[Use<'_>]| match decide(uses, 50) {
        Verdict::Pass { delay_ms, .. } => delay_ms,
        Verdict::Reject { .. } => panic!("burst 9"),
    };
    assert_eq!([delay(&uses), delay(&uses), delay(&uses)], [0, 1000, 2000]);
    assert_eq!(decide(&[], 50), Verdict::Pass { delay_ms: 0, remaining: u32::MAX, reset_ms: 0 });
}

#[test]
fn the_greatest_burst_fits_and_more_is_taken_as_it() {
    let zone = Zone::new(1, 8);
    let greatest = passing(&zone, u32::MAX, 268_100, 0);
    assert_eq!(greatest, BURST_MAX as usize + 1);
    let full = Bucket::unpack(zone.table.get(77).unwrap());
    assert_eq!(full, Bucket { last: 0, excess: 268_000_000 });
    let charged = Bucket::charged(Some(Bucket { last: 0, excess: EXCESS_MAX }), &zone, 0);
    assert_eq!(charged.excess, EXCESS_MAX, "it does not run over into the time");
}

#[test]
fn time_wraps_after_two_years() {
    let zone = Zone::new(u32::MAX, 8);
    let wrap = TIME_MASK + 1;
    assert!(passes(one(&zone, 0, None, wrap - 1)));
    assert!(!passes(one(&zone, 0, None, wrap - 1)));
    assert!(passes(one(&zone, 0, None, wrap)), "a millisecond later");
    assert_eq!(Bucket { last: 5, excess: 0 }.age(wrap + 9), 4);
    assert_eq!(Bucket { last: 9, excess: 0 }.age(5), -4);
    assert_eq!(Bucket { last: 0, excess: 0 }.age(wrap - 1 - AHEAD_MAX), (wrap - 1 - AHEAD_MAX) as i64);
}

#[test]
fn only_an_entry_that_equals_a_new_client_is_spent() {
    let zone = Zone::new(CHAT, 8);
    let state = Bucket { last: 1000, excess: 4000 }.pack();
    assert_eq!(zone.rank(state, 1999), Rank::Idle(999));
    assert_eq!(zone.rank(state, 2000), Rank::Spent);
    assert_eq!(zone.rank(state, 900), Rank::Idle(0), "a clock that lags");
    for now in 1990..2010 {
        let as_new = Bucket::charged(None, &zone, now);
        let spent = zone.rank(state, now) == Rank::Spent;
        assert_eq!(Bucket::charged(Some(Bucket::unpack(state)), &zone, now) == as_new, spent, "at {now}");
    }
}

#[test]
fn a_full_zone_forgets_the_client_charged_longest_ago() {
    let zone = Zone::new(1, 16);
    let client = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let charge =
        |n, now_ms| passes(decide(&[Use { zone: &zone, client: client(n), burst: 0, delay: None }], now_ms));
    for n in 1..=16 {
        assert!(charge(n, 100 + n));
    }
    assert!(!charge(1, 120));
    assert!(charge(17, 120), "a full zone refuses nobody");
    assert!((2..=17).all(|n| !charge(n, 121)), "these were kept");
    assert!(charge(1, 122), "it was the oldest");
}

#[test]
fn a_thousand_at_once_on_threads_pass_burst_and_one() {
    const THREADS: usize = 8;
    let barrier = Barrier::new(THREADS);
    for burst in [0, 1, 20, 998] {
        let zone = Zone::new(CHAT, 64);
        let passed: usize = thread::scope(|scope| {
            let run = || {
                barrier.wait();
                passing(&zone, burst, 125, 4000)
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, burst as usize + 1);
    }
}

#[test]
fn threads_with_many_clients_pass_what_each_may() {
    const CLIENTS: u64 = 3000;
    let keys = Clients::default();
    let zone = Zone::new(CHAT, 4096);
    let passed: usize = thread::scope(|scope| {
        let run = |start: u64| {
            let each = (0..CLIENTS * 4).map(|n| keys.hash(0, &((start + n) % CLIENTS).to_ne_bytes()));
            let uses = each.map(|client| Use { zone: &zone, client, burst: 6, delay: None });
            uses.filter(|each| passes(decide(std::slice::from_ref(each), 7000))).count()
        };
        let threads: Vec<_> = [0, 0, 1500, 2900].map(|start| scope.spawn(move || run(start))).into();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed as u64, CLIENTS * 7, "each asks 16 times and has burst 6");
    assert_eq!(zone.table.used() as u64, CLIENTS);
}

#[test]
fn evictions_on_threads_refuse_no_first_request_and_keep_to_the_bound() {
    let zone = Zone::new(1, 64);
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (zone, keys) = (&zone, Clients::default());
            scope.spawn(move || {
                for n in 0..20_000_u64 {
                    let client = keys.hash(thread as u8, &n.to_ne_bytes());
                    let first = decide(&[Use { zone, client, burst: 0, delay: None }], n);
                    assert!(passes(first), "client {n} of thread {thread} is new");
                }
            });
        }
    });
    assert!(zone.table.used() <= zone.table.capacity());
}

/// nginx's module as its C code reads, on one map a zone.
struct Model {
    zones: Vec<(i64, HashMap<u64, Node>)>,
}

/// `last` and `excess`.
type Node = (i64, i64);

#[derive(Debug, PartialEq)]
enum Said {
    Busy { limit: usize, excess: i64 },
    Delay(i64),
}

impl Model {
    fn lookup(&mut self, zone: usize, client: u64, burst: i64, now: i64, account: bool) -> (bool, i64) {
        let (rate, nodes) = &mut self.zones[zone];
        let Some((last, excess)) = nodes.get_mut(&client) else {
            nodes.insert(client, (if account { now } else { 0 }, 0));
            return (true, 0);
        };
        let ms = match now - *last {
            ms if ms < -60_000 => 1,
            ms if ms < 0 => 0,
            ms => ms,
        };
        let e = (*excess - *rate * ms / 1000 + 1000).max(0);
        if e > burst {
            return (false, e);
        }
        if account {
            *excess = e;
            if ms != 0 {
                *last = now;
            }
        }
        (true, e)
    }

    /// Limits are zone, client, burst and delay, the latter in thousandths.
    fn handle(&mut self, limits: &[(usize, u64, i64, i64)], now: i64) -> Said {
        let (mut excess, last) = (0, limits.len() - 1);
        for (n, (zone, client, burst, _)) in limits.iter().enumerate() {
            let (ok, e) = self.lookup(*zone, *client, *burst, now, n == last);
            if !ok {
                return Said::Busy { limit: n, excess: e };
            }
            excess = e;
        }
        let late = |e: i64, delay: i64, rate: i64| if e <= delay { 0 } else { (e - delay) * 1000 / rate };
        let mut most = late(excess, limits[last].3, self.zones[limits[last].0].0);
        for (zone, client, _, delay) in limits[..last].iter().rev() {
            let (_, e) = self.lookup(*zone, *client, i64::MAX, now, true);
            most = most.max(late(e, *delay, self.zones[*zone].0));
        }
        Said::Delay(most)
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % n
    }
}

#[test]
fn a_simulation_agrees_with_the_c_code() {
    let rates = [5000, 166, 20_000, 16];
    // Zone, burst, delay of each location.
    let locations: [&[(usize, u32, Option<u32>)]; 6] = [
        &[(0, 20, None)],
        &[(0, 5, Some(2))],
        &[(1, 5, Some(0))],
        &[(0, 7, Some(3)), (2, 12, None)],
        &[(2, 9, None), (1, 30, Some(9)), (0, 11, Some(0))],
        &[(3, 3, None)],
    ];
    let (mut refused, mut delayed) = (0, 0);
    for seed in 1..=40 {
        let mut random = Random(seed);
        let zones = rates.map(|rate| Zone::new(rate, 256));
        let mut model =
            Model { zones: rates.iter().map(|rate| (i64::from(*rate), HashMap::new())).collect() };
        let mut now = 1_000_000_000;
        for _ in 0..5000 {
            now += match random.below(1000) {
                0 => random.below(200_000),
                1..30 => random.below(5000),
                30..300 => random.below(120),
                _ => 0,
            };
            now -= if random.below(500) == 0 { random.below(70_000) } else { 0 };
            let location = locations[random.below(6) as usize];
            let client = random.below(30).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let each = |&(zone, burst, delay): &(usize, u32, Option<u32>)| Use {
                zone: &zones[zone],
                client,
                burst,
                delay,
            };
            let uses: Vec<Use<'_>> = location.iter().map(each).collect();
            let late = |delay: Option<u32>| delay.map_or(i64::MAX, |delay| i64::from(delay) * 1000);
            let limits: Vec<_> =
                location.iter().map(|l| (l.0, client, i64::from(l.1) * 1000, late(l.2))).collect();
            let said = match decide(&uses, now) {
                Verdict::Pass { delay_ms, .. } => Said::Delay(delay_ms as i64),
                Verdict::Reject { zone, excess, .. } => Said::Busy { limit: zone, excess: excess as i64 },
            };
            let expected = model.handle(&limits, now as i64);
            assert_eq!(said, expected, "seed {seed}, at {now}, location {location:?}");
            refused += usize::from(matches!(said, Said::Busy { .. }));
            delayed += usize::from(matches!(said, Said::Delay(1..)));
        }
    }
    assert!(
        refused > 10_000 && delayed > 10_000,
        "{refused} refused, {delayed} delayed: the mix has every case"
    );
}

#[test]
fn a_peek_says_what_the_decision_then_is_and_changes_nothing() {
    for seed in 1..=200 {
        let mut random = Random(seed);
        let zones = [Zone::new(1000, 16), Zone::new(3000, 16), Zone::new(250, 16)];
        let mut now_ms = 1_000_000;
        for turn in 0..300 {
            now_ms += random.below(900);
            let client = 1 + random.below(3);
            let uses: Vec<Use<'_>> = zones
                .iter()
                .take(1 + random.below(3) as usize)
                .map(|zone| Use {
                    zone,
                    client,
                    burst: random.below(4) as u32,
                    delay: Some(random.below(3) as u32).filter(|_| random.below(2) == 0),
                })
                .collect();
            let states = || zones.iter().map(|zone| zone.table.get(client)).collect::<Vec<_>>();
            let before = states();
            let said = peek(&uses, now_ms);
            let more: Vec<u32> = uses.iter().map(|one| one.standing(now_ms).1).collect();
            assert_eq!(states(), before, "seed {seed}, turn {turn}: a peek charges nothing");
            assert_eq!(decide(&uses, now_ms), said, "seed {seed}, turn {turn}");
            let passes = passes(said);
            assert_eq!(passes, more.iter().all(|&more| more > 0), "seed {seed}, turn {turn}: {more:?}");
            if let Verdict::Pass { remaining, .. } = said {
                assert_eq!(Some(remaining + 1), more.into_iter().min(), "this one was one of them");
            }
        }
    }
}
