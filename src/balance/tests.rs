use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::*;

fn field<'a>(
    loads: &'a [AtomicU32],
    up: u64,
    cursor: &'a AtomicUsize,
    turns: &'a [u16],
) -> Field<'a, impl Fn(usize) -> bool, impl Fn(usize) -> u32> {
    Field {
        n: loads.len(),
        eligible: move |at: usize| up >> at & 1 == 1,
        load: move |at: usize| loads[at].load(Ordering::Relaxed),
        cursor,
        turns,
    }
}

fn loads(n: usize) -> Vec<AtomicU32> {
    (0..n).map(|_| AtomicU32::new(0)).collect()
}

#[test]
fn two_to_one_gives_a_a_b() {
    assert_eq!(weighted::turns(&[2, 1]), [0, 0, 1]);
    assert_eq!(weighted::turns(&[1, 2]), [1, 1, 0]);
    assert_eq!(weighted::turns(&[200, 100]), [0, 0, 1]);
    assert_eq!(weighted::turns(&[1, 1, 1]).len(), 3);
    assert_eq!(weighted::turns(&[]), [0u16; 0]);
    assert!(weighted::turns(&[1000, 999, 997, 991, 983]).len() <= 4100);
}

#[test]
fn weighted_is_exact_and_smooth() {
    let weights = [5, 1, 1];
    let turns = weighted::turns(&weights);
    assert_eq!(turns.iter().filter(|&&turn| turn == 0).count(), 5);
    let twice: Vec<u16> = turns.iter().chain(&turns).copied().collect();
    let longest = twice.split(|&turn| turn != 0).map(<[u16]>::len).max();
    assert!(longest <= Some(4), "5:1:1 has at most 4 in a row, as nginx lays them out: {turns:?}");
}

#[test]
fn turns_are_exact_over_threads() {
    for (strategy, weights, want) in [
        (Strategy::RoundRobin, [1, 1, 1], [4000, 4000, 4000]),
        (Strategy::Weighted, [3, 2, 1], [6000, 4000, 2000]),
    ] {
        let (cursor, turns, loads) = (AtomicUsize::new(0), weighted::turns(&weights), loads(3));
        let counts = [const { AtomicU32::new(0) }; 3];
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..3000 {
                        let at = field(&loads, 0b111, &cursor, &turns).pick(strategy, 0).unwrap();
                        counts[at].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(counts.map(AtomicU32::into_inner), want, "{strategy:?}");
    }
}

#[test]
fn least_busy_never_takes_a_busier_one() {
    // Unequal service times and endpoints that come and go, driven by a seed; one shard, so counts are exact.
    for seed in 0..256u64 {
        let mut random = Random(seed);
        let (loads, cursor) = (loads(5), AtomicUsize::new(0));
        let mut running: Vec<(u64, usize)> = Vec::new();
        for now in 0..400u64 {
            running.retain(|&(end, at)| {
                let done = end <= now;
                if done {
                    loads[at].fetch_sub(1, Ordering::Relaxed);
                }
                !done
            });
            let up = random.next() & 0b11111;
            let picked = field(&loads, up, &cursor, &[]).pick(Strategy::LeastBusy, random.next());
            assert_eq!(picked.is_none(), up == 0);
            let Some(at) = picked else { continue };
            assert!(up >> at & 1 == 1, "seed {seed}: took one that may not be taken");
            let least =
                (0..5).filter(|at| up >> at & 1 == 1).map(|at| loads[at].load(Ordering::Relaxed)).min();
            assert_eq!(Some(loads[at].load(Ordering::Relaxed)), least, "seed {seed}, now {now}");
            loads[at].fetch_add(1, Ordering::Relaxed);
            running.push((now + 1 + random.next() % (3 * (at as u64 + 1)), at));
        }
    }
}

#[test]
fn least_busy_breaks_ties_evenly() {
    let (loads, cursor, mut random) = (loads(4), AtomicUsize::new(0), Random(7));
    let mut counts = [0u32; 4];
    for _ in 0..40_000 {
        counts[field(&loads, 0b1111, &cursor, &[]).pick(Strategy::LeastBusy, random.next()).unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| (9_000..11_000).contains(count)), "{counts:?}");
}

#[test]
fn least_busy_over_threads_stays_within_the_shards() {
    let (loads, cursor) = (loads(6), AtomicUsize::new(0));
    const SHARDS: u32 = 4;
    std::thread::scope(|scope| {
        for shard in 0..u64::from(SHARDS) {
            let (loads, cursor) = (&loads, &cursor);
            scope.spawn(move || {
                let mut random = Random(shard + 1);
                for _ in 0..600 {
                    let at = field(loads, 0b11_1111, cursor, &[])
                        .pick(Strategy::LeastBusy, random.next())
                        .unwrap();
                    loads[at].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let (min, max) = loads
        .iter()
        .map(|load| load.load(Ordering::Relaxed))
        .fold((u32::MAX, 0), |(low, high), load| (low.min(load), high.max(load)));
    assert!(max - min <= 2 * SHARDS, "{min}..{max}");
}

#[test]
fn a_turn_that_cannot_be_taken_goes_to_the_next() {
    let (loads, cursor, turns) = (loads(3), AtomicUsize::new(0), weighted::turns(&[2, 1, 1]));
    for strategy in [Strategy::RoundRobin, Strategy::Weighted, Strategy::LeastBusy] {
        for _ in 0..20 {
            let at = field(&loads, 0b010, &cursor, &turns).pick(strategy, 3);
            assert_eq!(at, Some(1), "{strategy:?}");
        }
        assert_eq!(field(&loads, 0, &cursor, &turns).pick(strategy, 3), None);
    }
}

/// A seeded generator for tests (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}
