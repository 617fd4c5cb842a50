//! Promise: shares are exact over all shards, busy endpoints are spared, and caps hold.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::thread;
use std::time::Duration;

use support::fleet::{Fleet, chat, connect, model, post, quick, send, until};
use support::metrics;

fn shares_of(strategy: &str, weights: &str, requests: usize) -> Vec<u64> {
    let rest = model(
        "m",
        &["e0", "e1", "e2"],
        &format!("upstream_model = \"llama3.2\"\nstrategy = \"{strategy}\"\n{weights}"),
    );
    let fleet = Fleet::start(quick(3), "shards = 2", &rest).ready();
    let addr = fleet.gateway.addr;
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..requests / 6 {
                    assert_eq!(post(addr, "/v1/chat/completions", &chat("m", false)).status, 200);
                }
            });
        }
    });
    fleet.assert_quiet();
    fleet.shares()
}

#[test]
fn round_robin_is_exact_over_shards() {
    assert_eq!(shares_of("round_robin", "", 300), [100, 100, 100]);
}

#[test]
fn weights_are_exact_over_shards() {
    assert_eq!(shares_of("weighted", "weights = { e0 = 3, e1 = 2, e2 = 1 }", 300), [150, 100, 50]);
}

#[test]
fn two_to_one_is_a_a_b() {
    let rest = model(
        "m",
        &["e0", "e1"],
        "upstream_model = \"llama3.2\"\nstrategy = \"weighted\"\nweights = { e0 = 2, e1 = 1 }",
    );
    let fleet = Fleet::start(quick(2), "shards = 1", &rest).ready();
    let order: Vec<_> = (0..6)
        .map(|_| {
            post(fleet.gateway.addr, "/v1/chat/completions", &chat("m", false))
                .field("x-corelane-endpoint")
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(order, ["e0", "e0", "e1", "e0", "e0", "e1"]);
}

#[test]
fn least_busy_spares_the_slow() {
    let mut options = quick(3);
    options[2].prefill = Duration::from_millis(150);
    let rest = model("m", &["e0", "e1", "e2"], "upstream_model = \"llama3.2\"");
    let fleet = Fleet::start(options, "", &rest).ready();
    let addr = fleet.gateway.addr;
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                for _ in 0..40 {
                    assert_eq!(post(addr, "/v1/chat/completions", &chat("m", false)).status, 200);
                }
            });
        }
    });
    let shares = fleet.shares();
    assert!(shares[2] * 3 < shares[0] && shares[2] * 3 < shares[1], "the slow one got {shares:?}");
    fleet.assert_quiet();
}

#[test]
fn an_idle_pool_is_shared_evenly() {
    let rest = model("m", &["e0", "e1", "e2"], "upstream_model = \"llama3.2\"");
    let fleet = Fleet::start(quick(3), "shards = 1", &rest).ready();
    for _ in 0..300 {
        let _ = post(fleet.gateway.addr, "/v1/chat/completions", &chat("m", false));
    }
    let shares = fleet.shares();
    assert!(shares.iter().all(|share| (60..=140).contains(share)), "ties are broken at random: {shares:?}");
}

#[test]
fn slots_are_never_exceeded() {
    let rest = model("m", &["e0"], "upstream_model = \"fault-hang\"");
    let rest = format!("slots = 3\n{rest}\n[queue]\nmax = 0\n");
    let fleet = Fleet::start(quick(1), "shards = 2", &rest).ready();
    let mut held: Vec<_> = (0..3).map(|_| connect(fleet.gateway.addr)).collect();
    held.iter_mut().for_each(|reader| send(reader, "/v1/chat/completions", &chat("m", false)));
    until("three are running", || {
        metrics(&fleet.gateway).contains("in_flight{endpoint=\"e0\"} 3").then_some(())
    });
    let refused = post(fleet.gateway.addr, "/v1/chat/completions", &chat("m", false));
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    assert!(String::from_utf8_lossy(&refused.body).contains("slots"));
    drop(held);
    fleet.assert_quiet();
}

#[test]
fn the_whole_gateway_has_a_cap() {
    let rest = model("m", &["e0"], "upstream_model = \"fault-hang\"") + "\n[queue]\nmax = 0\n";
    let fleet = Fleet::start(quick(1), "shards = 2\nmax_concurrent_requests = 5", &rest).ready();
    let mut held: Vec<_> = (0..5).map(|_| connect(fleet.gateway.addr)).collect();
    held.iter_mut().for_each(|reader| send(reader, "/v1/chat/completions", &chat("m", false)));
    until("five are running", || {
        metrics(&fleet.gateway).contains("in_flight{endpoint=\"e0\"} 5").then_some(())
    });
    let refused = post(fleet.gateway.addr, "/v1/chat/completions", &chat("m", false));
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    drop(held);
    fleet.assert_quiet();
}
