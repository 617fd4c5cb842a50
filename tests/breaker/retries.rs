//! How often a request is sent: within the budget, and not again if it may be what kills servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::scripted::{CHAT, Journal, config, death, good, refusal, text, value};
use super::support::fleet::{chat, json as json_of, model, post};
use super::support::upstream::{Reply, Then};
use super::support::{Gateway, assert_gauges_zero};
use super::{Pair, state};

#[test]
fn without_a_budget_nothing_is_tried_again() {
    let none = "[retry]\nbudget_percent = 0\nbudget_min = 0\n[breaker]\nenabled = false\n";
    let pair = Pair::set(none, |_| refusal(500, "", "invented", None));
    let answers: Vec<_> = (0..10).map(|_| post(pair.gateway.addr, CHAT, &chat("m", false))).collect();
    let failed = answers.iter().filter(|answer| answer.status == 500);
    assert_eq!(failed.count(), 5, "those that come to the failing one are not sent on");
    assert!(answers.iter().all(|answer| answer.field("x-corelane-attempts") == Some("1")));
    assert_eq!(pair.journal.len(), 10);
    assert!((value(&pair.gateway, "corelane_retries_refused_total") - 5.0).abs() < 0.1);
    assert!(value(&pair.gateway, "corelane_retries_total").abs() < 0.1);
}

#[test]
fn a_budget_is_a_share_of_the_requests() {
    let half = "[retry]\nbudget_percent = 50\nbudget_min = 0\nattempts = 2\nbackoff = \"1ms\"\n\
                [breaker]\nenabled = false\n";
    let journal = Journal::default();
    let addr = journal.server("a", |_| refusal(500, "", "invented", None));
    let rest = format!("{half}{}", model("m", &["a"], ""));
    let gateway = Gateway::start(&config(&[("a", addr)], "shards = 1", &rest));
    for _ in 0..40 {
        assert_eq!(post(gateway.addr, CHAT, &chat("m", false)).status, 500);
    }
    let retries = value(&gateway, "corelane_retries_total") as usize;
    let refused = value(&gateway, "corelane_retries_refused_total") as usize;
    assert_eq!((journal.len(), retries + refused), (40 + retries, 40));
    assert!((15..=20).contains(&retries), "{retries} retries of 40 requests");
}

/// Three servers that a request named `kills` takes down with it; `warm`: they have served before.
fn poisoned(warm: bool, answer: fn() -> Reply) -> (Journal, Gateway) {
    let (journal, killing) = (Journal::default(), Arc::new(AtomicBool::new(false)));
    let server = |name: &'static str| {
        let kills = Arc::clone(&killing);
        let answer = move |ask: &super::Ask| if kills.load(Ordering::SeqCst) { answer() } else { good(ask) };
        (name, journal.server(name, answer))
    };
    let servers = ["a", "b", "c"].map(server);
    let rest = format!(
        "[retry]\nattempts = 6\nbackoff = \"1ms\"\n[breaker]\nenabled = false\n{}",
        model("m", &["a", "b", "c"], "strategy = \"round_robin\"")
    );
    let gateway = Gateway::start(&config(&servers, "shards = 1", &rest));
    if warm {
        for _ in 0..6 {
            assert_eq!(post(gateway.addr, CHAT, &chat("m", false)).status, 200);
        }
        journal.take();
    }
    killing.store(true, Ordering::SeqCst);
    (journal, gateway)
}

/// How often each kind of request is sent that kills whoever gets it.
fn assert_twice(warm: bool) {
    for stream in [false, true] {
        let (journal, gateway) = poisoned(warm, death);
        let answer = post(gateway.addr, CHAT, &chat("m", stream));
        let sent = journal.take();
        assert_eq!(answer.status, 502, "{}", text(&answer));
        assert_eq!(json_of(&answer)["error"]["code"], "upstream_broken");
        assert_eq!(sent.len(), 2, "stream {stream}: {sent:?}");
        assert_gauges_zero(&gateway);
    }
}

#[test]
fn a_request_that_kills_is_not_sent_a_third_time() {
    assert_twice(false);
}

/// A connection that was kept may have been closed while the request was written: one that dies so may be sent again on a
/// fresh one, but then it has died once.
#[test]
fn nor_on_connections_that_were_kept() {
    assert_twice(true);
}

/// A server that dies while it thinks has often sent the head of its answer by then.
#[test]
fn death_behind_the_head_is_death_too() {
    let head = || Reply {
        writes: vec![
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_vec(),
        ],
        then: Then::Close,
    };
    let (journal, gateway) = poisoned(false, head);
    let answer = post(gateway.addr, CHAT, &chat("m", true));
    assert_eq!((answer.status, journal.len()), (502, 2), "{:?}", journal.take());
    assert_gauges_zero(&gateway);
}

#[test]
fn nobody_there_is_told_at_once() {
    let gone: Vec<_> =
        (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()).collect();
    let servers = [("a", gone[0]), ("b", gone[1]), ("c", gone[2])];
    let rest = format!("{}{}", super::LONG, model("m", &["a", "b", "c"], ""));
    let gateway = Gateway::start(&config(&servers, "shards = 1", &rest));
    let answers: Vec<_> = (0..30).map(|_| post(gateway.addr, CHAT, &chat("m", false))).collect();
    for answer in &answers {
        assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")), "{}", text(answer));
        assert_eq!(json_of(answer)["error"]["code"], "no_healthy_backends");
    }
    assert_eq!(state(&gateway, "a", ""), (2, "unreachable".to_owned()));
    assert!(answers.iter().any(|answer| answer.field("x-corelane-attempts") == Some("0")), "without asking");
}
