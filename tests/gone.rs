//! Promise: a client that leaves takes its work with it, in every phase, at once, and nothing stays counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::io::Write as _;
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::Duration;

use corelane::sim::{self, Options};
use support::fleet::{Fleet, chat, connect, model, quick, send, until};

fn slow() -> Options {
    Options { slots: 64, tokens: 10_000, token_interval: Duration::from_millis(5), ..Options::default() }
}

#[test]
fn inside_a_stream() {
    let fleet = Fleet::start(vec![slow()], "shards = 1", "").ready();
    let stats = &fleet.servers[0].stats;
    let mut delays = Vec::new();
    for round in 0..60 {
        let mut reader = connect(fleet.gateway.addr);
        send(&mut reader, "/v1/chat/completions", &chat("llama3.2", true));
        reader.head(std::time::Instant::now() + Duration::from_secs(10)).expect("a head");
        let before = stats.cancelled.load(Ordering::Relaxed);
        let left_us = sim::now_us();
        match round % 3 {
            0 => drop(reader), // a reset: events are unread
            1 => reader.stream().shutdown(Shutdown::Both).unwrap(),
            _ => reader.stream().shutdown(Shutdown::Write).unwrap(),
        }
        until("the upstream is closed", || (stats.cancelled.load(Ordering::Relaxed) > before).then_some(()));
        delays.push(stats.cancelled_at.load(Ordering::Relaxed).saturating_sub(left_us));
    }
    delays.sort_unstable();
    let (p50, worst) = (delays[delays.len() / 2], delays[delays.len() - 1]);
    println!("client gone to upstream closed: p50 {p50} us, worst {worst} us");
    fleet.assert_quiet();
}

#[test]
fn while_the_first_byte_is_awaited() {
    let rest = model("m", &["e0"], "upstream_model = \"fault-hang\"");
    let fleet = Fleet::start(quick(1), "shards = 1", &rest).ready();
    let stats = &fleet.servers[0].stats;
    for _ in 0..20 {
        let before = stats.model_requests.load(Ordering::Relaxed);
        let mut reader = connect(fleet.gateway.addr);
        send(&mut reader, "/v1/chat/completions", &chat("m", false));
        until("the request arrives", || {
            (stats.model_requests.load(Ordering::Relaxed) > before).then_some(())
        });
        drop(reader);
    }
    fleet.assert_quiet();
}

#[test]
fn while_connecting() {
    // A listener whose queue is full: connects stay pending.
    let full = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = full.local_addr().unwrap();
    let held: Vec<_> = (0..200)
        .map_while(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50)).ok())
        .collect();
    let toml = support::fleet::configuration(
        &[address],
        "shards = 1",
        "[health]\nenabled = false\n[timeouts]\nconnect = \"60s\"\n[[models]]\nname = \"m\"\nendpoints = [\"e0\"]\n",
    );
    let gateway = support::Gateway::start(&toml);
    let mut reader = connect(gateway.addr);
    send(&mut reader, "/v1/chat/completions", &chat("m", false));
    until("it is connecting", || {
        support::metrics(&gateway).contains("corelane_endpoint_in_flight{endpoint=\"e0\"} 1").then_some(())
    });
    drop(reader);
    support::assert_gauges_zero(&gateway);
    drop(held);
}

#[test]
fn inside_its_own_request() {
    let fleet = Fleet::start(quick(1), "shards = 1", "").ready();
    let body = chat("llama3.2", false);
    let whole = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let before = fleet.shares()[0];
    for cut in [1, 10, 60, whole.len() - body.len(), whole.len() - 1] {
        let mut reader = connect(fleet.gateway.addr);
        reader.stream().write_all(&whole.as_bytes()[..cut]).unwrap();
        drop(reader);
    }
    fleet.assert_quiet();
    assert_eq!(fleet.shares()[0], before, "an endpoint was asked for an unfinished request");
}

#[test]
fn a_thousand_times_at_once() {
    let fleet = Fleet::start(vec![slow(), slow()], "", "").ready();
    let mut readers: Vec<_> = (0..1000).map(|_| connect(fleet.gateway.addr)).collect();
    for (at, reader) in readers.iter_mut().enumerate() {
        send(reader, "/v1/chat/completions", &chat("llama3.2", at % 2 == 0));
    }
    drop(readers);
    fleet.assert_quiet();
}
