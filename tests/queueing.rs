//! Promise: who finds all places taken waits for one, in a fair order and within bounds, and is refused only when these are
//! reached; who leaves is forgotten, and who waits for a stream may be told that somebody is there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types
)] // test code

#[path = "http2/edge.rs"]
mod edge;
#[path = "queueing/heartbeats.rs"]
mod heartbeats;
#[path = "fallbacks/scripted.rs"]
mod scripted;
#[path = "queueing/sdk.rs"]
mod sdk;
mod support;

use scripted::{
    Ask, CHAT, Gate, Journal, config, good, posted, read, text, until_waiting, value, waiting, with_slots,
};
use support::answer::Reader;
use support::fleet::{chat, json, model, post, until};
use support::{Gateway, assert_gauges_zero};

/// One server that holds every answer until the gate lets it pass, and a gateway in front of it.
pub struct Line {
    /// What the server was asked.
    pub journal: Journal,
    /// Who passes, answers.
    pub gate: Gate,
    /// In front of it.
    pub gateway: Gateway,
}

impl Line {
    /// With so many slots, the inside of `[server]`, and more settings.
    pub fn set(slots: u32, server: &str, rest: &str) -> Line {
        let (journal, gate) = (Journal::default(), Gate::default());
        let inside = gate.clone();
        let addr = journal.server("a", move |ask: &Ask| {
            inside.pass();
            good(ask)
        });
        let rest = format!("{rest}\n{}{}", model("m", &["a"], ""), model("n", &["a"], ""));
        let toml = config(&[("a", addr)], server, &rest);
        Line { journal, gate, gateway: Gateway::start(&with_slots(&toml, slots)) }
    }

    /// A request whose answer has not been read; `user` is its mark.
    pub fn ask(&self, user: &str, fields: &str, stream: bool) -> Reader {
        let body = chat("m", stream).replace("\"stream\"", &format!("\"user\":\"{user}\",\"stream\""));
        posted(self.gateway.addr, CHAT, fields, &body)
    }

    /// Waits until so many are with the server.
    pub fn until_held(&self, count: usize) {
        until(&format!("{count} are held"), || (self.gate.held() == count).then_some(()));
    }

    /// Lets all pass, and nothing is left anywhere.
    pub fn assert_ends_clean(&self) {
        self.gate.open();
        until_waiting(&self.gateway, 0);
        assert_gauges_zero(&self.gateway);
        assert!(value(&self.gateway, "corelane_running").abs() < 0.1);
    }
}

/// Whether an answer has begun to come.
fn is_answered(reader: &mut Reader) -> bool {
    let stream = reader.stream();
    stream.set_nonblocking(true).unwrap();
    let there = stream.peek(&mut [0]).is_ok();
    stream.set_nonblocking(false).unwrap();
    there
}

/// The marks of what the server was asked, in order.
fn marks(journal: &Journal) -> Vec<String> {
    let asks = journal.take_asks();
    asks.iter().map(|ask| ask.body["user"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn it_waits_for_a_slot() {
    for shards in [1, 2] {
        let line = Line::set(2, &format!("shards = {shards}"), "");
        let mut readers: Vec<Reader> = (0..12).map(|at| line.ask(&at.to_string(), "", at % 2 == 0)).collect();
        line.until_held(2);
        until_waiting(&line.gateway, 10);
        assert_eq!(line.journal.len(), 2, "no more than its slots");
        for round in 0..10 {
            line.gate.let_pass(1);
            until("the next one is there", || (line.journal.len() == round + 3).then_some(()));
            line.until_held(2);
            until_waiting(&line.gateway, 9 - round);
        }
        line.gate.open();
        assert!(readers.iter_mut().all(|reader| read(reader).status == 200));
        drop(readers);
        line.assert_ends_clean();
        assert!(value(&line.gateway, "corelane_queue_wait_seconds_count") as usize >= 10);
    }
}

#[test]
fn it_waits_for_one_of_max_concurrent_requests() {
    for shards in [1, 2] {
        let line = Line::set(0, &format!("shards = {shards}\nmax_concurrent_requests = 3"), "");
        let mut readers: Vec<Reader> = (0..9).map(|at| line.ask(&at.to_string(), "", false)).collect();
        line.until_held(3);
        until_waiting(&line.gateway, 6);
        assert_eq!(value(&line.gateway, "corelane_running") as usize, 3);
        line.gate.let_pass(4);
        until("seven were there", || (line.journal.len() == 7).then_some(()));
        until_waiting(&line.gateway, 2);
        line.gate.open();
        assert!(readers.iter_mut().all(|reader| read(reader).status == 200));
        drop(readers);
        line.assert_ends_clean();
    }
}

#[test]
fn whichever_server_is_free_first() {
    let journal = Journal::default();
    let gates = [Gate::default(), Gate::default()];
    let server = |(name, gate): (&str, &Gate)| {
        let gate = gate.clone();
        journal.server(name, move |ask| {
            gate.pass();
            good(ask)
        })
    };
    let addrs = [("a", &gates[0]), ("b", &gates[1])].map(server);
    let rest = model("m", &["a", "b"], "");
    let toml = config(&[("a", addrs[0]), ("b", addrs[1])], "shards = 2", &rest);
    let gateway = Gateway::start(&with_slots(&toml, 1));
    let mut readers: Vec<Reader> =
        (0..5).map(|_| posted(gateway.addr, CHAT, "", &chat("m", false))).collect();
    until("both are taken", || (gates[0].held() + gates[1].held() == 2).then_some(()));
    until_waiting(&gateway, 3);
    journal.take();
    gates[1].open();
    until("b serves who waits", || (journal.len() == 3).then_some(()));
    assert_eq!(journal.take(), ["b/m"; 3], "a is still held");
    gates[0].open();
    assert!(readers.iter_mut().all(|reader| read(reader).status == 200));
    drop(readers);
    assert_gauges_zero(&gateway);
}

#[test]
fn not_longer_than_the_timeout() {
    let line = Line::set(1, "shards = 2", "[queue]\ntimeout = \"300ms\"\n");
    let mut first = line.ask("first", "", false);
    line.until_held(1);
    let mut others: Vec<Reader> = (0..4).map(|at| line.ask("late", "", at % 2 == 0)).collect();
    for reader in &mut others {
        let answer = read(reader);
        assert_eq!(answer.status, 503, "{}", text(&answer));
        let after: u32 = answer.field("retry-after").expect("when to come again").parse().unwrap();
        assert!((1..=60).contains(&after), "{after}");
        assert_eq!(json(&answer)["error"]["code"], "overloaded");
        assert!(json(&answer)["error"]["message"].as_str().unwrap().contains("in time"), "{}", text(&answer));
    }
    assert_eq!(waiting(&line.gateway), 0);
    line.gate.open();
    assert_eq!(read(&mut first).status, 200);
    assert_eq!(marks(&line.journal), ["first"], "who was refused was never sent on");
    drop((first, others));
    line.assert_ends_clean();
}

#[test]
fn not_longer_than_the_request_may_take() {
    let line = Line::set(1, "shards = 1", "");
    let first = line.ask("first", "", false);
    line.until_held(1);
    let answer = read(&mut line.ask("late", "x-litellm-timeout: 0.2\r\n", false));
    assert_eq!((answer.status, json(&answer)["error"]["code"].as_str()), (504, Some("timeout")));
    until_waiting(&line.gateway, 0);
    drop(first);
    line.assert_ends_clean();
    assert_eq!(marks(&line.journal), ["first"]);
}

/// While nothing becomes free, so no refusal can be one by time: the queue's is ten minutes.
#[test]
fn no_more_than_max() {
    for (max, waits) in [(0, 0), (1, 1), (3, 2), (30, 20)] {
        let line = Line::set(1, "shards = 2", &format!("[queue]\nmax = {max}\ntimeout = \"10m\"\n"));
        let first = line.ask("first", "", false);
        line.until_held(1);
        let kept: Vec<Reader> = (0..waits)
            .map(|at| {
                let reader = line.ask("kept", "", false);
                until_waiting(&line.gateway, at + 1);
                reader
            })
            .collect();
        for _ in 0..5 {
            let answer = post(line.gateway.addr, CHAT, &chat("m", false));
            assert_eq!(answer.status, 503, "max {max}, {waits} wait: {}", text(&answer));
            assert!(answer.field("retry-after").is_some());
            assert_eq!(json(&answer)["error"]["code"], "overloaded");
        }
        assert_eq!((waiting(&line.gateway), line.journal.len()), (waits, 1));
        drop((first, kept));
        line.assert_ends_clean();
    }
}

/// One key alone holds two thirds of the queue: there is room for others then, whatever they ask for.
#[test]
fn nobody_fills_the_queue_alone() {
    assert_room("n");
}

#[test]
fn nobody_fills_the_queue_of_a_model_alone() {
    assert_room("m");
}

/// While the key `x` has all that it may of the queue, for the model `m`, `y` waits for `model`.
fn assert_room(model: &str) {
    let keys = "[[keys]]\nname = \"x\"\nsecret = \"sk-queue-test-x\"\n[[keys]]\nname = \"y\"\nsecret = \"sk-queue-test-y\"\n";
    let line = Line::set(1, "shards = 2", &format!("[queue]\nmax = 9\ntimeout = \"10m\"\n{keys}"));
    let ask = |key: &str| line.ask(key, &format!("Authorization: Bearer sk-queue-test-{key}\r\n"), false);
    let first = ask("x");
    line.until_held(1);
    let kept: Vec<Reader> = (0..6)
        .map(|at| {
            let reader = ask("x");
            until_waiting(&line.gateway, at + 1);
            reader
        })
        .collect();
    assert_eq!(read(&mut ask("x")).status, 503);
    let mut other =
        posted(line.gateway.addr, CHAT, "Authorization: Bearer sk-queue-test-y\r\n", &chat(model, false));
    until("it waits, or has its answer", || {
        (waiting(&line.gateway) == 7 || is_answered(&mut other)).then_some(())
    });
    assert!(!is_answered(&mut other), "three places are free, and it has none: {}", text(&read(&mut other)));
    drop((first, kept, other));
    line.assert_ends_clean();
}

#[test]
fn who_leaves_is_forgotten() {
    for shards in [1, 2] {
        let line = Line::set(1, &format!("shards = {shards}"), "");
        let mut first = line.ask("first", "", false);
        line.until_held(1);
        let leaving: Vec<Reader> = (0..6).map(|at| line.ask("left", "", at % 2 == 0)).collect();
        until_waiting(&line.gateway, 6);
        let mut last = line.ask("last", "", false);
        until_waiting(&line.gateway, 7);
        drop(leaving);
        until_waiting(&line.gateway, 1);
        line.gate.open();
        assert_eq!((read(&mut first).status, read(&mut last).status), (200, 200));
        assert_eq!(marks(&line.journal), ["first", "last"]);
        drop((first, last));
        line.assert_ends_clean();
        assert_eq!(value(&line.gateway, "corelane_clients_gone_total") as usize, 6);
    }
}

#[test]
fn a_caller_with_many_does_not_hold_up_one_with_few() {
    let keys = "[[keys]]\nname = \"x\"\nsecret = \"sk-queue-test-x\"\n[[keys]]\nname = \"y\"\nsecret = \"sk-queue-test-y\"\n";
    for shards in [1, 2] {
        let line = Line::set(1, &format!("shards = {shards}"), keys);
        let ask = |key: &str| line.ask(key, &format!("Authorization: Bearer sk-queue-test-{key}\r\n"), false);
        let mut readers = vec![ask("x")];
        line.until_held(1);
        for at in 0..10 {
            readers.push(ask(if at < 8 { "x" } else { "y" }));
            until_waiting(&line.gateway, at + 1);
        }
        for served in 1..=10 {
            line.gate.let_pass(1);
            until("the next one", || (line.journal.len() == served + 1).then_some(()));
        }
        line.gate.open();
        assert!(readers.iter_mut().all(|reader| read(reader).status == 200));
        let order = marks(&line.journal);
        let places: Vec<usize> = (0..order.len()).filter(|&at| order[at] == "y").collect();
        assert!(places[0] <= 2 && places[1] <= 4, "{shards} shards, y came last and few: {order:?}");
        drop(readers);
        line.assert_ends_clean();
    }
}

/// Nobody who comes goes before those that wait.
#[test]
fn in_the_order_in_which_they_came() {
    let line = Line::set(1, "shards = 1", "");
    let mut readers = vec![line.ask("0", "", false)];
    line.until_held(1);
    for at in 1..8 {
        readers.push(line.ask(&at.to_string(), "", at % 2 == 0));
        until_waiting(&line.gateway, at);
    }
    for served in 1..8 {
        line.gate.let_pass(1);
        until("the next one", || (line.journal.len() == served + 1).then_some(()));
        readers.push(line.ask("new", "", false));
        until_waiting(&line.gateway, 7);
    }
    line.gate.open();
    assert!(readers.iter_mut().all(|reader| read(reader).status == 200));
    assert_eq!(marks(&line.journal)[..8], ["0", "1", "2", "3", "4", "5", "6", "7"]);
    drop(readers);
    line.assert_ends_clean();
}

/// A slot that a retry needs is waited for like any other.
#[test]
fn a_fallback_for_those_that_waited_in_vain() {
    let (journal, gate) = (Journal::default(), Gate::default());
    let inside = gate.clone();
    let full = journal.server("full", move |ask| {
        inside.pass();
        good(ask)
    });
    let free = journal.server("free", good);
    let rest = format!(
        "[queue]\ntimeout = \"200ms\"\n{}{}",
        model("m", &["full"], "fallbacks = [\"n\"]"),
        model("n", &["free"], "")
    );
    let toml = config(&[("full", full), ("free", free)], "shards = 1", &rest);
    let gateway = Gateway::start(&with_slots(&toml, 1));
    let mut first = posted(gateway.addr, CHAT, "", &chat("m", false));
    until("it is held", || (gate.held() == 1).then_some(()));
    let answer = post(gateway.addr, CHAT, &chat("m", false));
    assert_eq!((answer.status, answer.field("x-corelane-model")), (200, Some("n")), "{}", text(&answer));
    gate.open();
    assert_eq!(read(&mut first).status, 200);
    drop(first);
    assert_gauges_zero(&gateway);
}
