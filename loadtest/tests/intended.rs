//! Promise: latency counts from when a request was due, so that a server that stalls cannot hide it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test code

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corelane_load::measure::Times;
use corelane_load::outcome::Outcome;
use support::{Heard, Reply, right, run, serve};

const STALL: Duration = Duration::from_secs(1);

/// A server that answers at once, but for one second, in which it answers nobody.
fn stalling() -> std::net::SocketAddr {
    let begun = std::sync::OnceLock::<Instant>::new();
    let said = AtomicBool::new(false);
    serve(move |heard: &Heard| {
        let since = begun.get_or_init(Instant::now).elapsed();
        let (begin, end) = (STALL, STALL * 2);
        let wait = if since >= begin { end.saturating_sub(since) } else { Duration::ZERO };
        said.store(true, Ordering::Relaxed);
        Reply { wait, ..right(heard) }
    })
}

fn scenario(load: &str) -> String {
    format!(
        "about = ''\n[load]\n{load}\n[[work]]\nname = 'chat'\nkind = 'chat'\nmodel = 'm'\nanswer_tokens = 8\n"
    )
}

fn slow(times: &Times, ms: f64) -> f64 {
    let share = (0..=1000).map(|part| f64::from(part) / 1000.0).find(|share| times.quantile_ms(*share) > ms);
    times.count() as f64 * (1.0 - share.unwrap_or(1.0))
}

#[test]
fn a_stall_is_what_those_felt_who_were_due_in_it() {
    // With connections for everybody, and with two: who waits for a connection waits too.
    for connections in [400, 2] {
        let load = format!(
            "mode = 'open'\narrivals = 'constant'\nphases = [{{ time = '3s', rate = 100 }}]\nconnections = {connections}"
        );
        let (_, run) = run(&scenario(&load), stalling(), 1);
        assert_eq!(
            run.measures.count(Outcome::Ok),
            300,
            "{connections}: {:?}",
            run.measures.works[0].outcomes
        );
        let latency = &run.measures.works[0].latency;
        assert!(latency.quantile_ms(0.99) > 900.0, "{connections}: p99 {} ms", latency.quantile_ms(0.99));
        assert!(latency.quantile_ms(0.5) < 250.0, "{connections}: p50 {} ms", latency.quantile_ms(0.5));
        // Due in the first half of the second: 50 requests.
        let slow = slow(latency, 500.0);
        assert!((40.0..=75.0).contains(&slow), "{connections}: {slow} above 500 ms");
    }
}

#[test]
fn a_closed_loop_hides_it() {
    // Which is why objectives of users are those of open loops: one request of each connection felt the stall.
    let load = "mode = 'closed'\ntime = '3s'\nconnections = 2\nthink = '10ms'";
    let (_, run) = run(&scenario(load), stalling(), 1);
    let latency = &run.measures.works[0].latency;
    assert!(latency.count() > 100, "{}", latency.count());
    assert!(latency.quantile_ms(0.98) < 250.0 && latency.max_ms() > 900.0);
}
