//! Promise: whatever endpoints, clients and time do, no request is lost or answered twice, no place or turn leaks, no deadline
//! is passed and nobody starves.
//!
//! A discrete-event simulation: the real state machines (picks, plans, breakers, budgets, queue, marks, zones, streams) under a shell
//! that follows `src/shard` step by step (`gate`, `attempt`, `ask`), with simulated endpoints (`server`), a virtual clock (`clock`)
//! and one seed that decides everything (`scene`, `run`). No sockets, no threads, no wall clock. `ledger` holds the invariants.
//!
//! 256 seeds a run; `CORELANE_SIM_SEEDS=10000` for a night. A seed that fails prints itself and the trace of the request that broke
//! an invariant; `CORELANE_SIM_SEED=n` runs it alone. The idea is that of TigerBeetle's simulator and of sozu's UDP tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)] // test code
#![allow(clippy::type_complexity, clippy::await_holding_refcell_ref)] // one thread, and the guard is not kept over a wait

#[path = "simulate/ask.rs"]
mod ask;
#[path = "simulate/attempt.rs"]
mod attempt;
#[path = "simulate/clock.rs"]
mod clock;
#[path = "simulate/gate.rs"]
mod gate;
#[path = "simulate/ledger.rs"]
mod ledger;
#[path = "simulate/run.rs"]
mod run;
#[path = "simulate/scene.rs"]
mod scene;
#[path = "simulate/server.rs"]
mod server;
#[path = "simulate/spread.rs"]
mod spread;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ledger::Report;

/// Seeds of every run.
const SEEDS: u64 = 256;
/// Tests that share them, so that they can run beside each other.
const PARTS: u64 = 4;

#[test]
fn seeds_of_part_0() {
    part(0);
}

#[test]
fn seeds_of_part_1() {
    part(1);
}

#[test]
fn seeds_of_part_2() {
    part(2);
}

#[test]
fn seeds_of_part_3() {
    part(3);
}

#[test]
fn a_seed_replays_exactly() {
    let mut hashes = Vec::new();
    for seed in [number("CORELANE_SIM_SEED").unwrap_or(3), 1_000_003, 1_000_004] {
        let (first, second, silent) = (run::run(seed, true), run::run(seed, true), run::run(seed, false));
        assert!(first.lines.len() > 1000, "seed {seed} has only {} events", first.lines.len());
        assert!(first.lines == second.lines, "seed {seed} took two courses");
        assert_eq!((first.hash, &first.counts), (second.hash, &second.counts), "seed {seed}");
        assert_eq!(first.hash, silent.hash, "seed {seed} goes another way when it is watched");
        hashes.push(first.hash);
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 3, "other seeds take other courses");
}

/// Runs every fourth seed.
fn part(of: u64) {
    let alone = number("CORELANE_SIM_SEED");
    let seeds = number("CORELANE_SIM_SEEDS").unwrap_or(SEEDS);
    let mine = (0..seeds).filter(|seed| seed % PARTS == of);
    let mine: Vec<u64> = match alone {
        Some(seed) => [seed].into_iter().filter(|seed| seed % PARTS == of).collect(),
        None => mine.collect(),
    };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut fair = Vec::new();
    for &seed in &mine {
        let report = run::run(seed, false);
        if !report.problems.is_empty() {
            panic!("{}", story(seed, &report));
        }
        report.counts.iter().for_each(|(what, n)| *counts.entry(what).or_default() += n);
        fair.extend(report.jain);
    }
    let mean = fair.iter().sum::<f64>() / fair.len().max(1) as f64;
    if !mine.is_empty() {
        println!("{} seeds, Jain of {}: {mean:.4}, {counts:#?}", mine.len(), fair.len());
    }
    if mine.len() >= (SEEDS / PARTS) as usize {
        assert!(mean >= 0.95 && fair.len() >= 20, "Jain's index in {} seeds: {mean}", fair.len());
        is_full(&counts);
    }
}

/// Every interesting thing has happened.
fn is_full(counts: &BTreeMap<&str, u64>) {
    let few: Vec<_> = INTERESTING
        .iter()
        .map(|&(what, least)| (what, counts.get(what).copied().unwrap_or(0), least))
        .filter(|&(_, n, least)| n < least)
        .collect();
    assert!(few.is_empty(), "too seldom (what, how often, at least): {few:#?}");
}

/// What is wrong with a seed, and the events of the request that it is wrong with.
fn story(seed: u64, report: &Report) -> String {
    let again = run::run(seed, true);
    let same = again.problems.first() == report.problems.first();
    let mut text = format!(
        "seed {seed} (alone: CORELANE_SIM_SEED={seed} cargo test --test simulate), replays: {same}\n"
    );
    for (id, what) in &again.problems {
        let _ = writeln!(text, "  request {id}: {what}");
    }
    let Some(&(id, _)) = again.problems.first() else { return text };
    let mine: Vec<_> = again.lines.iter().filter(|(of, _)| *of == id || *of == 0 && id == 0).collect();
    let from = mine.len().saturating_sub(if id == 0 { 40 } else { 200 });
    mine[from..].iter().for_each(|(_, line)| {
        let _ = writeln!(text, "{line}");
    });
    text
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What must have happened in 64 seeds, and how often at least.
const INTERESTING: &[(&str, u64)] = &[
    ("fault: refuse", 20),
    ("fault: silent", 20),
    ("fault: hang", 20),
    ("fault: reset", 20),
    ("fault: 500", 20),
    ("fault: 503", 5),
    ("fault: 503 with Retry-After", 10),
    ("fault: 404 of a model", 20),
    ("fault: 401", 20),
    ("fault: cut", 20),
    ("fault: stall", 20),
    ("fault: slow", 20),
    ("fault: dead", 20),
    ("answered", 50_000),
    ("answer broke off", 150),
    ("400", 500),
    ("429", 5000),
    ("503", 1500),
    ("504", 100),
    ("retry within the budget", 1500),
    ("retry refused by the budget", 500),
    ("next: another", 1000),
    ("next: the same after a while", 300),
    ("fallback", 1000),
    ("fallback of a long request", 100),
    ("a request killed a connection", 300),
    ("warm connection died", 500),
    ("warm connection died, and nobody is there", 10),
    ("fresh connection died", 500),
    ("connect refused", 300),
    ("trial", 500),
    ("trial of one that could not be reached", 100),
    ("trial that blames nobody", 20),
    ("all rest", 100),
    ("breaker opens: unreachable", 100),
    ("breaker opens: answers", 200),
    ("breaker opens: timeout", 20),
    ("breaker of a busy model opens", 50),
    ("breaker of a missing model opens", 50),
    ("breaker of one that denies opens", 25),
    ("marked down", 25),
    ("marked up", 25),
    ("wait", 20_000),
    ("wait for the gateway", 1500),
    ("declined", 100),
    ("waited too long", 10),
    ("queue full", 1500),
    ("heartbeat", 3000),
    ("failure after a heartbeat", 50),
    ("timeout: connect", 50),
    ("timeout: first byte", 100),
    ("timeout: idle", 15),
    ("timeout: idle, of a stream", 20),
    ("timeout: total", 20),
    ("timeout: total, of a stream", 5),
    ("left before content", 250),
    ("left while backing off", 8),
    ("left while connecting", 2),
    ("left while delayed", 150),
    ("left while relayed to", 80),
    ("left while waiting", 250),
    ("delayed by a zone", 4000),
    ("rejected by a zone", 4000),
    ("too many of one client", 300),
    ("fairness looked at", 10),
];
