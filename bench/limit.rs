//! What a rate limit decision costs: `cargo bench --bench limit` prints the table of `bench/record/`.
//!
//! 100 000 clients are known; each decision is on the next of them, and neighbours stand far apart, so that a
//! set is rarely in the nearest cache. Every figure is the median of short rounds of a thread's own
//! decisions, wall time; with two threads both run at the same time on the same zones.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)] // a bench

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use corelane::limit::bucket::{Use, Verdict, Zone, decide};
use corelane::limit::concurrency::Concurrency;
use corelane::limit::table::Clients;

const CLIENTS: usize = 100_000;
const ENTRIES: usize = 200_000;
const ROUNDS: usize = 2001;
/// Decisions of a round: few, so that most rounds are over before the system interrupts them.
const COUNT: usize = 1000;

/// Median nanoseconds of a call, over the rounds of all threads.
fn time(threads: usize, call: impl Fn(usize) + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    let run = |thread: usize| {
        let mut at = thread * CLIENTS / threads;
        let mut round = || {
            let begin = Instant::now();
            for _ in 0..COUNT {
                at = if at + 1 < CLIENTS { at + 1 } else { 0 };
                call(at);
            }
            begin.elapsed().as_nanos() as f64 / COUNT as f64
        };
        barrier.wait();
        (0..ROUNDS).map(|_| round()).collect::<Vec<f64>>()
    };
    let mut rounds: Vec<f64> = thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn main() {
    let keys = Clients::default();
    let addresses: Vec<[u8; 16]> =
        (0..CLIENTS as u128).map(|n| (0x2001_0db8 << 96 | n << 64).to_be_bytes()).collect();
    let clients: Vec<u64> = addresses.iter().map(|address| keys.hash(0, address)).collect();
    let row = |name: &str, call: &(dyn Fn(usize) + Sync)| {
        println!("| {name} | {:.1} | {:.1} |", time(1, call), time(2, call));
    };
    println!("| {CLIENTS} clients, {ENTRIES} entries | 1 thread | 2 threads |\n|---|---|---|");
    row("hash of an address", &|at| {
        black_box(keys.hash(0, &addresses[at]));
    });
    let zone = Zone::new(5000, ENTRIES);
    let one = |client| decide(&[Use { zone: &zone, client, burst: 20, delay: None }], 1000);
    clients.iter().for_each(|client| assert!(matches!(one(*client), Verdict::Pass { .. })));
    assert_eq!(zone.table().used(), CLIENTS);
    // A rate that lets every round pass: what is timed is a charge, not a refusal.
    let fast = Zone::new(u32::MAX, ENTRIES);
    let passing = |at: usize, now_ms| {
        decide(&[Use { zone: &fast, client: clients[at], burst: 268_000, delay: None }], now_ms)
    };
    (0..CLIENTS).for_each(|at| assert!(matches!(passing(at, 1000), Verdict::Pass { .. })));
    row("let through, charged", &|at| {
        black_box(passing(at, 1001));
    });
    row("let through, charged; 1000 of the clients", &|at| {
        black_box(passing(at % 1000, 1001));
    });
    (0..60).for_each(|_| {
        clients.iter().for_each(|client| {
            assert!(one(*client) != Verdict::Pass { delay_ms: 0, remaining: 20, reset_ms: 0 })
        })
    });
    row("refused", &|at| {
        black_box(one(clients[at]));
    });
    let second = Zone::new(u32::MAX, ENTRIES);
    row("two zones, charged in both", &|at| {
        let each = |zone| Use { zone, client: clients[at], burst: 268_000, delay: None };
        black_box(decide(&[each(&fast), each(&second)], 1001));
    });
    row("one client for all threads, charged", &|_| {
        black_box(passing(0, 1001));
    });
    let counts = Concurrency::new(ENTRIES);
    let limit = NonZeroU32::MAX;
    let _known: Vec<_> = clients.iter().map(|client| counts.acquire(*client, limit)).collect();
    row("permit taken and ended", &|at| {
        black_box(counts.acquire(clients[at], limit));
    });
    row("a new client, full table", &{
        let small = Zone::new(1, 4096);
        let clients = &clients;
        move |at| {
            black_box(decide(&[Use { zone: &small, client: clients[at], burst: 0, delay: None }], 1000));
        }
    });
}
