//! Promise: clients that are slow are served as long as they move, cut at their limits when they don't, and never
//! take an endpoint for a request that is not whole. Out of descriptors, the gateway waits and recovers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use corelane::sim::Options;
use support::fleet::{Fleet, chat, connect, post, quick, raw, send, until};
use support::{get, metrics};

#[test]
fn a_slow_head_is_a_408() {
    let fleet = Fleet::start(quick(1), "shards = 1\nhead_timeout = \"300ms\"", "").ready();
    let mut reader = connect(fleet.gateway.addr);
    reader.stream().write_all(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n").unwrap();
    let began = Instant::now();
    let text = raw(&mut reader);
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert!(began.elapsed() >= Duration::from_millis(290), "never early: {:?}", began.elapsed());
    fleet.assert_quiet();
}

#[test]
fn a_slow_body_is_a_408_and_takes_no_endpoint() {
    let fleet = Fleet::start(quick(1), "shards = 1\nbody_timeout = \"300ms\"", "").ready();
    let before = fleet.shares()[0];
    let mut reader = connect(fleet.gateway.addr);
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"model\":";
    reader.stream().write_all(head.as_bytes()).unwrap();
    until("it is read", || {
        metrics(&fleet.gateway).contains("exchanges_in_flight{shard=\"0\"} 1").then_some(())
    });
    assert!(metrics(&fleet.gateway).contains("in_flight{endpoint=\"e0\"} 0"));
    let text = raw(&mut reader);
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert_eq!(fleet.shares()[0], before);
    fleet.assert_quiet();
}

#[test]
fn a_body_that_trickles_is_served() {
    let fleet = Fleet::start(quick(1), "shards = 1\nbody_timeout = \"400ms\"", "").ready();
    let body = chat("llama3.2", false);
    let mut reader = connect(fleet.gateway.addr);
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    reader.stream().write_all(head.as_bytes()).unwrap();
    for part in body.as_bytes().chunks(10) {
        std::thread::sleep(Duration::from_millis(100));
        reader.stream().write_all(part).unwrap();
    }
    let answer = reader.answer(false, Instant::now() + Duration::from_secs(5)).unwrap();
    assert_eq!(answer.status, 200);
}

/// A server whose stream has no pauses and no end that matters.
fn flood() -> Vec<Options> {
    vec![Options {
        tokens: 2_000_000,
        token_text: " a longer token than most".to_owned(),
        ..Options::default()
    }]
}

#[test]
fn a_stalled_reader_is_cut_and_its_upstream_closed() {
    let fleet = Fleet::start(flood(), "shards = 1\nwrite_timeout = \"400ms\"", "").ready();
    let mut reader = connect(fleet.gateway.addr);
    send(&mut reader, "/v1/chat/completions", &chat("llama3.2", true));
    until("it runs", || metrics(&fleet.gateway).contains("in_flight{endpoint=\"e0\"} 1").then_some(()));
    fleet.assert_quiet(); // although the connection is still open on this side
    drop(reader);
}

#[test]
fn a_slow_reader_that_moves_is_served_to_the_end() {
    let mut options = quick(1);
    options[0].answer = Some("x".repeat(12 << 20));
    let fleet = Fleet::start(options, "shards = 1\nwrite_timeout = \"400ms\"", "").ready();
    let mut reader = connect(fleet.gateway.addr);
    send(&mut reader, "/v1/chat/completions", &chat("llama3.2", false));
    let (mut total, mut part, began) = (0, vec![0; 256 * 1024], Instant::now());
    while total < 12 << 20 {
        match reader.stream().read(&mut part).unwrap() {
            0 => panic!("cut after {total} bytes and {:?}", began.elapsed()),
            n => total += n,
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(reader);
    fleet.assert_quiet();
}

#[test]
fn others_are_not_held_up_by_a_stalled_reader() {
    let fleet = Fleet::start(flood(), "shards = 1", "").ready();
    let mut stalled: Vec<_> = (0..8).map(|_| connect(fleet.gateway.addr)).collect();
    stalled.iter_mut().for_each(|reader| send(reader, "/v1/chat/completions", &chat("llama3.2", true)));
    let body = chat("llama3.2", false).replace("\"stream\"", "\"max_tokens\":3,\"stream\"");
    for _ in 0..20 {
        assert_eq!(get(fleet.gateway.addr, "/v1/models").0, 200);
    }
    drop(stalled);
    assert_eq!(post(fleet.gateway.addr, "/v1/chat/completions", &body).status, 200);
    fleet.assert_quiet();
}

#[test]
fn out_of_descriptors_it_waits_and_recovers() {
    let server = corelane::sim::start(quick(1).remove(0)).unwrap();
    let toml = support::fleet::configuration(&[server.addr], "shards = 1\nmax_connections = 100000", "");
    let mut gateway = support::Gateway::start_limited(&toml, 64);
    let held: Vec<_> = (0..200).map(|_| connect(gateway.addr)).collect();
    until("it has run out", || {
        std::fs::read_dir(format!("/proc/{}/fd", gateway.pid()))
            .is_ok_and(|fds| fds.count() >= 62)
            .then_some(())
    });
    assert!(gateway.alive());
    drop(held);
    until("it serves again", || {
        (post(gateway.addr, "/v1/chat/completions", &chat("llama3.2", false)).status == 200).then_some(())
    });
    assert!(
        metrics(&gateway)
            .lines()
            .any(|line| line.starts_with("corelane_accept_exhausted_total") && !line.ends_with(" 0"))
    );
    support::assert_gauges_zero(&gateway);
}
