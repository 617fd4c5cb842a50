//! Promise: a stream arrives as it was sent, under the name that was asked for, and a stream that breaks is seen to
//! break: an error in the client's dialect, no invented `[DONE]` or `finish_reason`, no proper end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::answer::{Answer, Trouble};
use support::fleet::{Fleet, chat, connect, model, post, quick, send, until};

/// The data of the events of a body.
fn events(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8(body.to_vec()).expect("UTF-8");
    text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).map(str::to_owned).collect()
}

fn chunks(body: &[u8]) -> Vec<Value> {
    events(body)
        .iter()
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).expect(data))
        .collect()
}

fn faults(names: &[&str]) -> String {
    names.iter().map(|name| model(name, &["e0"], &format!("upstream_model = \"{name}\""))).collect()
}

#[test]
fn chat_stream_is_whole_and_renamed() {
    let fleet = Fleet::start(quick(1), "", "[[models]]\nname = \"ollama/*\"\n").ready();
    for asked in ["ollama/llama3.2", "llama3.2", "ollama/llama3.2:latest"] {
        let answer = post(fleet.gateway.addr, "/v1/chat/completions", &chat(asked, true));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("content-type"), Some("text/event-stream"));
        assert_eq!(answer.field("cache-control"), Some("no-cache"));
        let events = events(&answer.body);
        assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
        assert_eq!(events.iter().filter(|data| *data == "[DONE]").count(), 1);
        let chunks = chunks(&answer.body);
        assert!(chunks.iter().all(|chunk| chunk["model"] == asked), "every chunk carries the name asked for");
        assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()), "usage that was not asked for");
        let finished = chunks.iter().filter(|chunk| chunk["choices"][0]["finish_reason"].is_string()).count();
        assert_eq!(finished, 1);
        let text: String =
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert!(text.starts_with("You said: hi"), "{text}");
    }
    fleet.assert_quiet();
}

#[test]
fn usage_comes_when_asked_for_and_is_counted_when_not() {
    let fleet = Fleet::start(quick(1), "shards = 1", "").ready();
    let with = chat("llama3.2", true)
        .replace("\"stream\":true", "\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    let answer = post(fleet.gateway.addr, "/v1/chat/completions", &with);
    let last = chunks(&answer.body).pop().unwrap();
    assert_eq!(last["choices"], serde_json::json!([]));
    let counted = last["usage"]["completion_tokens"].as_u64().unwrap();
    let _ = post(fleet.gateway.addr, "/v1/chat/completions", &chat("llama3.2", true));
    let line = format!("litellm_tokens_used{{model=\"llama3.2:latest\",type=\"output\"}} {}", 2 * counted);
    // Counted when the last byte has gone out, which the client may see first.
    until("both streams are counted", || support::metrics(&fleet.gateway).contains(&line).then_some(()));
}

#[test]
fn native_streams_are_lines() {
    let fleet = Fleet::start(quick(1), "", "[[models]]\nname = \"ollama/*\"\n").ready();
    for path in ["/api/chat", "/api/generate"] {
        let body = r#"{"model":"ollama/llama3.2","prompt":"hi","messages":[{"role":"user","content":"hi"}]}"#;
        let answer = post(fleet.gateway.addr, path, body);
        assert_eq!(answer.field("content-type"), Some("application/x-ndjson"));
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.ends_with('\n'), "the last line is ended");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(
            lines.iter().all(|line| line["model"] == "llama3.2"),
            "native answers have no prefix: {text}"
        );
        assert_eq!(lines.iter().filter(|line| line["done"] == true).count(), 1);
        assert_eq!(lines.last().unwrap()["done"], true);
    }
    fleet.assert_quiet();
}

/// What a client sees of a stream that breaks after it began.
fn broken(answer: Result<Answer, Trouble>) -> String {
    match answer {
        Ok(answer) => panic!("a proper end: {} {}", answer.status, String::from_utf8_lossy(&answer.body)),
        Err(trouble) => format!("{trouble:?}"),
    }
}

#[test]
fn every_break_is_visible() {
    let names = [
        "fault-cut",
        "fault-nodone",
        "fault-error-event",
        "fault-garbage",
        "fault-wrong-length",
        "fault-chunk-garbage",
    ];
    // A break that comes in one read with the first event could still be told by a status: let time pass between.
    let mut options = quick(1);
    options[0].token_interval = Duration::from_millis(10);
    let fleet = Fleet::start(options, "shards = 1", &faults(&names)).ready();
    for name in names {
        for (path, proof) in
            [("/v1/chat/completions", "data: {\\\"error\\\":"), ("/api/chat", "{\\\"error\\\":")]
        {
            let mut reader = connect(fleet.gateway.addr);
            send(&mut reader, path, &chat(name, true));
            let seen = broken(reader.answer(false, Instant::now() + Duration::from_secs(10)));
            let mut rest = connect(fleet.gateway.addr);
            send(&mut rest, path, &chat(name, true));
            let raw = support::fleet::raw(&mut rest);
            assert!(
                raw.escape_debug().to_string().contains(proof),
                "{name} {path}: no error event: {seen} {raw}"
            );
            assert!(!raw.contains("[DONE]"), "{name} {path}: invented [DONE]");
            assert!(!raw.ends_with("0\r\n\r\n"), "{name} {path}: a proper end of the chunks");
        }
    }
    fleet.assert_quiet();
}

#[test]
fn a_whole_answer_that_breaks_is_a_502() {
    let names =
        ["fault-cut", "fault-garbage", "fault-chunk-garbage", "fault-cut-head", "fault-reset", "fault-close"];
    let fleet =
        Fleet::start(quick(1), "shards = 1", &("[retry]\nattempts = 1\n".to_owned() + &faults(&names)))
            .ready();
    for name in names {
        let answer = post(fleet.gateway.addr, "/v1/chat/completions", &chat(name, false));
        let body = support::fleet::json(&answer);
        assert_eq!(answer.status, 502, "{name}: {body}");
        assert_eq!(body["error"]["type"], "api_error");
    }
    fleet.assert_quiet();
}

#[test]
fn the_first_event_waits_for_nobody() {
    let mut options = quick(1);
    options[0].token_interval = Duration::from_secs(2);
    let fleet = Fleet::start(options, "shards = 1", "").ready();
    let mut reader = connect(fleet.gateway.addr);
    send(&mut reader, "/v1/chat/completions", &chat("llama3.2", true));
    let began = Instant::now();
    reader.head(began + Duration::from_secs(5)).unwrap();
    assert!(began.elapsed() < Duration::from_millis(1500), "the head waited for the second token");
}

#[test]
fn http10_clients_get_a_stream_without_chunks() {
    let fleet = Fleet::start(quick(1), "shards = 1", "").ready();
    let mut reader = connect(fleet.gateway.addr);
    let body = chat("llama3.2", true);
    let request =
        format!("POST /v1/chat/completions HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    std::io::Write::write_all(reader.stream(), request.as_bytes()).unwrap();
    let raw = support::fleet::raw(&mut reader);
    assert!(raw.contains("connection: close\r\n") && !raw.contains("transfer-encoding"), "{raw}");
    assert!(raw.ends_with("data: [DONE]\n\n"), "{raw}");
}
