//! Slots, queue, loads, prefill, and clients that leave.

use std::io::Read as _;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Options, begin, chat, finish, get, load, post, server, until};
use crate::net::clock;

const CHAT: &str = "/v1/chat/completions";

fn millis(since: Instant) -> u128 {
    (clock::now() - since).as_millis()
}

#[test]
fn slots_queue_in_order_and_refuse_beyond() {
    let prefill = Duration::from_millis(150);
    let sim = server(Options { slots: 2, queue_max: 2, prefill, tokens: 4, ..Options::default() });
    let since = clock::now();
    post(sim.addr, "/api/generate", &json!({ "model": "mistral" }));
    let running: Vec<_> = (0..4).map(|_| begin(sim.addr, CHAT, &chat("mistral", "hi", false))).collect();
    until("two run, two wait", || load(&sim.stats.generating) == 2 && load(&sim.stats.waiting) == 2);
    let busy = post(sim.addr, CHAT, &chat("mistral", "hi", false));
    assert_eq!(busy.status, 503);
    let text = "server busy, please try again.  maximum pending requests exceeded";
    assert_eq!(busy.json()["error"]["message"], text);
    assert_eq!(post(sim.addr, "/api/chat", &chat("mistral", "hi", false)).json(), json!({ "error": text }));
    assert!(running.into_iter().all(|stream| finish(stream).status == 200));
    assert!((290..1000).contains(&millis(since)), "two rounds, not {} ms", millis(since));
    until("all is quiet", || sim.stats.is_quiet());
    sim.stop();
}

#[test]
fn models_load_one_after_the_other() {
    let load_time = Duration::from_millis(100);
    let sim = server(Options { load_time, ..Options::default() });
    let since = clock::now();
    let both: Vec<_> = ["mistral", "llama3.2", "mistral"]
        .map(|model| begin(sim.addr, "/api/chat", &chat(model, "hi", false)))
        .into_iter()
        .map(|stream| finish(stream).json())
        .collect();
    assert!(millis(since) >= 200, "{} ms", millis(since));
    assert!(both[1]["load_duration"].as_u64().unwrap() >= 190_000_000);
    assert_eq!(load(&sim.stats.loads), 2);
    let since = clock::now();
    post(sim.addr, CHAT, &chat("mistral", "hi", false));
    assert!(millis(since) < 80, "it is loaded");
    let brief = json!({ "model": "mistral", "keep_alive": "10ms", "prompt": "x" });
    post(sim.addr, "/api/generate", &brief);
    until("it is unloaded", || !get(sim.addr, "/api/ps").text().contains("mistral"));
    sim.stop();
}

#[test]
fn prefill_does_not_notice_a_client_that_leaves() {
    let sim = server(Options { prefill: Duration::from_millis(200), slots: 1, ..Options::default() });
    let since = clock::now();
    let leaving = begin(sim.addr, CHAT, &chat("mistral", "hi", true));
    until("it generates", || load(&sim.stats.generating) == 1);
    drop(leaving);
    let next = begin(sim.addr, CHAT, &chat("mistral", "hi", true));
    until("the slot is freed", || load(&sim.stats.cancelled) == 1);
    assert!(millis(since) >= 195, "the slot was kept through prefill, not {} ms", millis(since));
    assert_eq!(finish(next).status, 200);
    assert!(load(&sim.stats.cancelled_at) > 0);
    until("all is quiet", || sim.stats.is_quiet());
    sim.stop();
}

#[test]
fn a_client_that_leaves_frees_its_slot_at_once() {
    let token_interval = Duration::from_millis(20);
    let sim = server(Options { token_interval, tokens: 1000, slots: 1, ..Options::default() });
    for (cancelled, body) in [(1, chat("mistral", "hi", true)), (2, chat("mistral", "hi", false))] {
        let mut stream = begin(sim.addr, CHAT, &body);
        until("it generates", || load(&sim.stats.generating) == 1);
        if cancelled == 1 {
            assert!(stream.read(&mut [0; 64]).unwrap() > 0, "the first token comes at once");
        }
        let waiting = begin(sim.addr, CHAT, &body);
        until("one waits", || load(&sim.stats.waiting) == 1);
        drop(waiting);
        until("who waits is noticed too", || load(&sim.stats.waiting) == 0);
        let left = super::super::now_us();
        drop(stream);
        until("it is noticed", || load(&sim.stats.cancelled) == cancelled * 2);
        let noticed = load(&sim.stats.cancelled_at).saturating_sub(left);
        assert!(noticed < 50_000, "{noticed} µs");
        until("the slot is free", || sim.stats.is_quiet());
    }
    sim.stop();
}

#[test]
fn tokens_come_at_their_pace() {
    let token_interval = Duration::from_millis(10);
    let sim = server(Options { token_interval, tokens: 20, ..Options::default() });
    let since = clock::now();
    let answer = post(sim.addr, "/api/chat", &chat("mistral", "hi", true));
    assert_eq!(answer.lines().len(), 21);
    assert!((185..400).contains(&millis(since)), "{} ms", millis(since));
    assert_eq!(load(&sim.stats.tokens_sent), 20);
    sim.stop();
}

#[test]
fn long_streams_are_whole_and_stopping_cuts_what_runs() {
    let sim = server(Options { tokens: 20_000, ..Options::default() });
    let answer = post(sim.addr, CHAT, &chat("mistral", "hi", true));
    assert!(answer.whole);
    assert_eq!(answer.events().len(), 20_002);
    sim.stop();
    let slow =
        server(Options { token_interval: Duration::from_millis(5), tokens: 100_000, ..Options::default() });
    let stream = begin(slow.addr, CHAT, &chat("mistral", "hi", true));
    until("it generates", || load(&slow.stats.generating) == 1);
    slow.stop();
    assert!(!finish(stream).whole);
    assert!(slow.stats.is_quiet() && load(&slow.stats.connections_open) == 0);
}
