//! Promise: an endpoint that fails costs no request while another one is well, and when none is, the answer says so
//! at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::time::{Duration, Instant};

use corelane::sim::{Fault, Options};
use support::fleet::{Fleet, chat, configuration, json, model, post, quick, until};
use support::{Gateway, get, metrics};

#[test]
fn failures_go_to_another_endpoint() {
    for fault in [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(429),
        Fault::Status(404),
        Fault::ResetBeforeAnswer,
        Fault::CloseBeforeAnswer,
        Fault::CutHead,
        Fault::GarbageEvent,
        Fault::CutBody,
    ] {
        let mut options = quick(2);
        options[0].fault = fault;
        options[0].fault_after = 0;
        let rest = model("m", &["e0", "e1"], "upstream_model = \"llama3.2\"\nstrategy = \"round_robin\"");
        let fleet = Fleet::start(options, "shards = 1", &rest).ready();
        for stream in [false, true] {
            for _ in 0..6 {
                let answer = post(fleet.gateway.addr, "/v1/chat/completions", &chat("m", stream));
                assert_eq!(
                    answer.status,
                    200,
                    "{fault:?} stream {stream}: {}",
                    String::from_utf8_lossy(&answer.body)
                );
                assert_eq!(answer.field("x-corelane-endpoint"), Some("e1"));
            }
        }
        fleet.assert_quiet();
    }
}

#[test]
fn what_is_the_clients_fault_is_not_tried_again() {
    for status in [400, 422] {
        let mut options = quick(2);
        options.iter_mut().for_each(|options| options.fault = Fault::Status(status));
        let rest = model("m", &["e0", "e1"], "upstream_model = \"llama3.2\"");
        let fleet = Fleet::start(options, "shards = 1", &rest).ready();
        let answer = post(fleet.gateway.addr, "/v1/chat/completions", &chat("m", false));
        assert_eq!(answer.status, status);
        assert_eq!(answer.field("x-corelane-attempts"), Some("1"));
        assert_eq!(fleet.shares().iter().sum::<u64>(), 1);
    }
}

#[test]
fn nothing_healthy_is_said_at_once() {
    // Ports that nobody listens on: bound and closed again.
    let gone: Vec<_> =
        (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()).collect();
    let rest = format!("{}\n[health]\ninterval = \"100ms\"\n", model("m", &["e0", "e1"], ""));
    let mut gateway = Gateway::start(&configuration(&gone, "shards = 1", &rest));
    for round in 0..2 {
        let began = Instant::now();
        let answer = post(gateway.addr, "/v1/chat/completions", &chat("m", false));
        assert_eq!(answer.status, 503, "round {round}");
        assert!(answer.field("retry-after").is_some());
        let body = json(&answer);
        assert!(body["error"]["message"].as_str().unwrap().contains("No healthy backends"), "{body}");
        assert!(began.elapsed() < Duration::from_millis(1500), "took {:?}", began.elapsed());
        until("both are marked", || metrics(&gateway).contains("healthy{endpoint=\"e1\"} 0").then_some(()));
    }
    let (_, _, health) = get(gateway.addr, "/health");
    let health: serde_json::Value = serde_json::from_slice(&health).unwrap();
    assert_eq!((health["healthy_count"].as_u64(), health["unhealthy_count"].as_u64()), (Some(0), Some(2)));
    assert!(health["unhealthy_endpoints"][0]["error"].as_str().unwrap().contains("refused"), "{health}");
    assert!(gateway.alive());
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    let rest = format!(
        "{}\n[health]\ninterval = \"100ms\"\nunhealthy_threshold = 1\nhealthy_threshold = 1\n",
        model("m", &["e0"], "upstream_model = \"llama3.2\"")
    );
    let fleet = Fleet::start(quick(1), "shards = 1", &rest).ready();
    let address = fleet.servers[0].addr;
    assert_eq!(post(fleet.gateway.addr, "/v1/chat/completions", &chat("m", false)).status, 200);
    fleet.servers[0].stop();
    until("it is marked", || metrics(&fleet.gateway).contains("healthy{endpoint=\"e0\"} 0").then_some(()));
    assert_eq!(post(fleet.gateway.addr, "/v1/chat/completions", &chat("m", false)).status, 503);
    let again = until("the port is free again", || {
        corelane::sim::start(Options { listen: address, ..Options::default() }).ok()
    });
    let began = Instant::now();
    until("it serves again", || {
        (post(fleet.gateway.addr, "/v1/chat/completions", &chat("m", false)).status == 200).then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(5), "the last one is always tried: {:?}", began.elapsed());
    again.stop();
}

#[test]
fn a_silent_server_is_left_at_its_limit() {
    let mut options = quick(2);
    options[0].fault = Fault::Hang;
    let rest = format!(
        "{}\n[timeouts]\nfirst_byte = \"300ms\"\n[breaker]\nenabled = false\n",
        model("m", &["e0", "e1"], "upstream_model = \"llama3.2\"\nstrategy = \"round_robin\"")
    );
    let fleet = Fleet::start(options, "shards = 1", &rest).ready();
    for _ in 0..4 {
        assert_eq!(post(fleet.gateway.addr, "/v1/chat/completions", &chat("m", true)).status, 200);
    }
    let hung = chat("m", false).replace("\"stream\"", "\"timeout\":0.1,\"stream\"");
    let answers: Vec<_> = (0..2).map(|_| post(fleet.gateway.addr, "/v1/chat/completions", &hung)).collect();
    let timed_out =
        answers.iter().find(|answer| answer.status != 200).expect("one of two meets the silent server");
    assert_eq!(timed_out.status, 504, "the request's own timeout ends it");
    assert_eq!(json(timed_out)["error"]["code"], "timeout");
    fleet.assert_quiet();
}

#[test]
fn disabled_endpoints_get_nothing() {
    let fleet = Fleet::start(quick(2), "", "").ready();
    let switch = |verb: &str| {
        let answer = post(fleet.gateway.admin, &format!("/endpoints/e0/{verb}"), "");
        assert_eq!(answer.status, 200);
    };
    switch("disable");
    let before = fleet.shares()[0];
    for _ in 0..10 {
        assert_eq!(post(fleet.gateway.addr, "/v1/chat/completions", &chat("llama3.2", false)).status, 200);
    }
    assert_eq!(fleet.shares()[0], before);
    assert_eq!(post(fleet.gateway.admin, "/endpoints/e1/disable", "").status, 200);
    let answer = post(fleet.gateway.addr, "/v1/chat/completions", &chat("llama3.2", false));
    assert_eq!(answer.status, 503, "what the operator took out is not tried");
    switch("enable");
    assert_eq!(post(fleet.gateway.addr, "/v1/chat/completions", &chat("llama3.2", false)).status, 200);
    assert_eq!(post(fleet.gateway.admin, "/endpoints/nobody/disable", "").status, 404);
}
