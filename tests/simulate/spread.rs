//! How evenly connections, and the work they bring, lie on the shards of a large machine.
//!
//! Connections come and go at random, in equal numbers, until each place has been taken anew several times. The kernel's hash is
//! a uniform choice; the rule that hands over is the gateway's own. Work is one a connection, or as heavy-tailed as that of callers
//! is (Pareto, α 1.5, at most 100): no rule that counts connections can level that.
//!
//! A machine is full when its hottest shard is, so the share of it that can be used is mean / hottest.

use corelane::balance::shards;

const SHARDS: [usize; 6] = [2, 4, 8, 16, 32, 64];
const EACH: [usize; 3] = [8, 64, 512];
const TURNOVERS: usize = 4;
const SEEDS: u64 = 5;

/// Of one machine.
#[derive(Clone, Copy, Default)]
struct Spread {
    /// Connections of the fullest shard by their mean.
    fullest: f64,
    /// The same of unequal work.
    hottest: f64,
    /// Of new connections those that went to another shard.
    moved: f64,
}

struct Random(u64);

impl Random {
    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn work(&mut self) -> f64 {
        let uniform = ((self.next() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        uniform.powf(-1.0 / 1.5).min(100.0)
    }
}

fn simulate(shards: usize, each: usize, hand_over: bool, seed: u64) -> Spread {
    let (mut random, all) = (Random(seed), shards * each);
    let mut counts = vec![0u64; shards];
    let mut open: Vec<(usize, f64)> = Vec::with_capacity(all);
    let (mut came, mut moved) = (0u64, 0u64);
    for _ in 0..all * TURNOVERS {
        if open.len() == all {
            let (shard, _) = open.swap_remove(random.below(all));
            counts[shard] -= 1;
        }
        let mut at = random.below(shards);
        came += 1;
        if hand_over && let Some(other) = shards::elsewhere(at, shards, |at| counts[at]) {
            (at, moved) = (other, moved + 1);
        }
        counts[at] += 1;
        open.push((at, random.work()));
    }
    let mut work = vec![0.0; shards];
    open.iter().for_each(|(shard, own)| work[*shard] += own);
    let most =
        |all: &[f64]| all.iter().copied().fold(0.0, f64::max) * shards as f64 / all.iter().sum::<f64>();
    let counts: Vec<f64> = counts.iter().map(|count| *count as f64).collect();
    Spread { fullest: most(&counts), hottest: most(&work), moved: moved as f64 / came as f64 }
}

/// Means over the seeds.
fn mean(shards: usize, each: usize, hand_over: bool) -> Spread {
    let mut sum = Spread::default();
    for seed in 0..SEEDS {
        let one = simulate(shards, each, hand_over, seed);
        sum.fullest += one.fullest / SEEDS as f64;
        sum.hottest += one.hottest / SEEDS as f64;
        sum.moved += one.moved / SEEDS as f64;
    }
    sum
}

#[test]
fn connections_lie_evenly_on_up_to_64_shards() {
    println!(
        "| shards | connections each | fullest / mean by the hash | handed over | of new ones moved | hottest / mean, unequal work: hash | handed over |"
    );
    println!("|---|---|---|---|---|---|---|");
    for shards in SHARDS {
        for each in EACH {
            let (hash, ours) = (mean(shards, each, false), mean(shards, each, true));
            println!(
                "| {shards} | {each} | {:.2} | **{:.2}** | {:.0} % | {:.2} | {:.2} |",
                hash.fullest,
                ours.fullest,
                ours.moved * 100.0,
                hash.hottest,
                ours.hottest
            );
            // An eighth above the least, and two connections: the mean stays, so what leaves elsewhere adds nothing.
            assert!(
                ours.fullest <= 1.125 + 2.0 / each as f64 + 1e-9,
                "{shards} shards of {each}: {:.3}",
                ours.fullest
            );
            assert!(ours.fullest <= hash.fullest + 0.01, "{shards} shards of {each}");
        }
    }
}
