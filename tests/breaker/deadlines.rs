//! Deadlines of a model and of a request, and what each dialect is told when one has passed.

use corelane::sim::{Fault, Options};

use serde_json::json;

use super::scripted::{
    CHAT, Gate, Journal, chunk_head, config, good, post_with, posted, read, streamed, text,
};
use super::support::fleet::{Fleet, chat, json as json_of, model, post, until};
use super::support::upstream::{Reply, Then};
use super::support::{Gateway, assert_gauges_zero};

/// A gateway in front of a server that holds what is asked for `held` or `own` until the gate opens.
fn held(rest: &str) -> (Journal, Gate, Gateway) {
    let (journal, gate) = (Journal::default(), Gate::default());
    let inside = gate.clone();
    let addr = journal.server("a", move |ask| {
        if ask.model != "free" {
            inside.pass();
        }
        good(ask)
    });
    let models = model("held", &["a"], "") + &model("free", &["a"], "");
    let rest = format!("[retry]\nattempts = 1\n[breaker]\nenabled = false\n{rest}{models}");
    (journal, gate, Gateway::start(&config(&[("a", addr)], "shards = 1", &rest)))
}

#[test]
fn a_model_has_deadlines_of_its_own() {
    for own in ["first_byte = \"200ms\"", "total = \"200ms\""] {
        let rest = model("own", &["a"], &format!("timeouts = {{ {own} }}"));
        let (_, gate, gateway) = held(&rest);
        let mut other = posted(gateway.addr, CHAT, "", &chat("held", false));
        for stream in [false, true] {
            let answer = post(gateway.addr, CHAT, &chat("own", stream));
            assert_eq!(answer.status, 504, "{own}: {}", text(&answer));
            assert_eq!(json_of(&answer)["error"]["code"], "timeout");
        }
        gate.open();
        assert_eq!(read(&mut other).status, 200, "{own}: the other one has all the time there is");
    }
}

#[test]
fn a_request_may_ask_for_less_and_not_for_more() {
    let (journal, gate, gateway) = held("[timeouts]\ntotal = \"700ms\"\n");
    let with = |timeout: &str| {
        chat("held", false).replace("\"stream\"", &format!("\"timeout\":{timeout},\"stream\""))
    };
    for timeout in ["0.1", "100000", "1e300", "0", "-5", "null"] {
        let answer = post(gateway.addr, CHAT, &with(timeout));
        assert_eq!(answer.status, 504, "{timeout}: {}", text(&answer));
    }
    for timeout in ["0.1", "100000", "inf", "nan", "-5", "soon", ""] {
        let fields = format!("x-litellm-timeout: {timeout}\r\n");
        assert_eq!(post_with(gateway.addr, CHAT, &fields, &chat("held", false)).status, 504, "{timeout:?}");
    }
    gate.open();
    assert!(journal.len() >= 13);
    assert_eq!(post(gateway.addr, CHAT, &with("0.5")).status, 200, "in time");
}

#[test]
fn a_short_wish_is_heard() {
    let (_, gate, gateway) = held("[timeouts]\ntotal = \"1h\"\n");
    let wish = chat("held", false).replace("\"stream\"", "\"timeout\":0.1,\"stream\"");
    assert_eq!(post(gateway.addr, CHAT, &wish).status, 504);
    assert_eq!(post_with(gateway.addr, CHAT, "x-litellm-timeout: 0.1\r\n", &chat("held", false)).status, 504);
    gate.open();
}

#[test]
fn each_dialect_is_told_in_its_own_words() {
    let options = vec![Options { fault: Fault::Hang, ..Options::default() }];
    let rest = "[timeouts]\nfirst_byte = \"150ms\"\n[retry]\nattempts = 1\n[breaker]\nenabled = false\n";
    let fleet = Fleet::start(options, "shards = 1", rest).ready();
    for stream in [false, true] {
        let ask = |path: &str| {
            post(
                fleet.gateway.addr,
                path,
                &chat("llama3.2", stream).replace("\"stream\"", "\"max_tokens\":9,\"stream\""),
            )
        };
        let openai = ask(CHAT);
        assert_eq!((openai.status, json_of(&openai)["error"]["code"].as_str()), (504, Some("timeout")));
        assert_eq!(json_of(&openai)["error"]["type"], "api_error");
        let anthropic = ask("/v1/messages");
        let body = json_of(&anthropic);
        assert_eq!((anthropic.status, body["type"].as_str()), (504, Some("error")), "{body}");
        assert_eq!(body["error"]["type"], "timeout_error", "{body}");
        assert!(body["error"]["message"].as_str().unwrap().contains("did not answer"), "{body}");
        let ollama = ask("/api/chat");
        assert_eq!(ollama.status, 504);
        assert!(json_of(&ollama)["error"].is_string(), "{}", text(&ollama));
    }
    fleet.assert_quiet();
}

#[test]
fn a_stream_that_falls_silent_ends_with_an_error() {
    for rest in ["[timeouts]\nidle = \"300ms\"\n", "[timeouts]\ntotal = \"600ms\"\n"] {
        let journal = Journal::default();
        let silent = |ask: &super::Ask| Reply { writes: vec![super::events(ask, false)], then: Then::Keep };
        let addr = journal.server("a", silent);
        let rest = format!("{rest}{}", model("m", &["a"], ""));
        let gateway = Gateway::start(&config(&[("a", addr)], "shards = 1", &rest));
        let text = streamed(gateway.addr, "m");
        assert!(text.contains("\"timeout\"") && !text.contains("[DONE]"), "{text}");
        assert!(text.contains("from "), "what came is there: {text}");
        assert_gauges_zero(&gateway);
    }
}

/// A client that stops reading holds its endpoint's slot for `write_timeout`; then who waits for it is served.
#[test]
fn a_client_that_takes_nothing_frees_its_slot() {
    let journal = Journal::default();
    let addr = journal.server("a", |ask| {
        let words = "x".repeat(60_000);
        let delta = json!({"id": "x", "choices": [{"index": 0, "delta": {"content": words}}]});
        let event = format!("data: {delta}\n\n");
        let piece = format!("{:x}\r\n{event}\r\n", event.len()).into_bytes();
        let flood = || std::iter::once(chunk_head()).chain(std::iter::repeat_n(piece, 400)).collect();
        if ask.model == "m" { Reply { writes: flood(), then: Then::Close } } else { good(ask) }
    });
    let rest = model("m", &["a"], "") + &model("n", &["a"], "");
    let toml = config(&[("a", addr)], "shards = 1\nwrite_timeout = \"400ms\"", &rest);
    let gateway = Gateway::start(&toml.replace("kind = \"openai\"", "kind = \"openai\"\nslots = 1"));
    let stalled = posted(gateway.addr, CHAT, "", &chat("m", true));
    until("it runs", || (journal.len() == 1).then_some(()));
    let mut waits = posted(gateway.addr, CHAT, "", &chat("n", false));
    assert_eq!(read(&mut waits).status, 200);
    drop(waits);
    // The connection stays open on this side, and nobody reads from it.
    assert_gauges_zero(&gateway);
    drop(stalled);
}
