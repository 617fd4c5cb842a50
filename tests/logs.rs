//! Promise: one line an exchange says what became of it, for machines or for people; it cannot be forged, holds no body unless it
//! is asked for, and then no secret, e-mail address, phone or card number.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::io::Write as _;
use std::time::{Duration, Instant};

use corelane::sim::Options;
use serde_json::Value;
use support::Gateway;
use support::answer::Answer;
use support::fleet::{Fleet, chat, connect, model, post, quick, until};

const CHAT: &str = "/v1/chat/completions";
const TOKEN: &str = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";

/// The lines for exchanges, as soon as there are `n`.
fn lines(gateway: &Gateway, n: usize) -> Vec<Value> {
    until("the log has the lines", || {
        let log = gateway.log();
        let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() >= n).then_some(lines)
    })
}

fn fleet(options: Vec<Options>, log: &str, more: &str) -> Fleet {
    Fleet::start(options, "shards = 1", &format!("[log]\n{log}\n{}{more}", model("llama3.2", &["e0"], "")))
        .ready()
}

fn ask(gateway: &Gateway, path: &str, fields: &str, body: &str) -> Answer {
    let mut reader = connect(gateway.addr);
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: gw\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len());
    reader.stream().write_all(request.as_bytes()).unwrap();
    reader.answer(false, Instant::now() + Duration::from_secs(20)).unwrap()
}

fn said(text: &str, stream: bool) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(r#"{{"model":"llama3.2","messages":[{{"role":"user","content":{text}}}],"stream":{stream}}}"#)
}

#[test]
fn a_line_says_what_became_of_an_exchange() {
    let options = Options {
        prefill: Duration::from_millis(60),
        token_interval: Duration::from_millis(5),
        ..quick(1).remove(0)
    };
    let fleet = fleet(vec![options], "format = \"json\"", "");
    let answer = ask(&fleet.gateway, CHAT, "x-request-id: my-id\r\n", &chat("llama3.2", true));
    assert_eq!(answer.status, 200);
    ask(&fleet.gateway, "/nonsense?secret=1", "", "{}");
    let lines = lines(&fleet.gateway, 2);
    let line = &lines[0];
    for (member, value) in [
        ("id", "my-id"),
        ("client", "127.0.0.1"),
        ("request", "POST /v1/chat/completions"),
        ("model", "llama3.2"),
        ("endpoint", "e0"),
    ] {
        assert_eq!(line[member], value, "{line}");
    }
    assert_eq!(
        (line["status"].as_u64(), line["attempts"].as_u64(), &line["stream"]),
        (Some(200), Some(1), &Value::Bool(true))
    );
    let seconds = |member: &str| line[member].as_f64().unwrap_or_else(|| panic!("no {member}: {line}"));
    assert!(
        seconds("uct") <= seconds("uht")
            && seconds("uht") <= seconds("urt")
            && seconds("urt") <= seconds("rt") + 0.001,
        "{line}"
    );
    assert!(seconds("first_token") >= 0.06 && seconds("rt") >= 0.09, "{line}");
    let time = line["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    assert!(line["tokens_out"].as_u64().unwrap() > 0 && line.get("request_body").is_none(), "{line}");
    assert_eq!(
        (lines[1]["request"].as_str(), lines[1]["status"].as_u64()),
        (Some("POST /nonsense"), Some(404)),
        "without its query"
    );
    assert!(lines[1].get("uct").is_none(), "no endpoint was asked: {}", lines[1]);
}

#[test]
fn words_for_people() {
    let fleet = fleet(quick(1), "format = \"text\"", "");
    ask(&fleet.gateway, CHAT, "x-request-id: my-id\r\n", &chat("llama3.2", false));
    let line = until("the line", || {
        fleet.gateway.log().lines().find(|line| line.contains("my-id")).map(str::to_owned)
    });
    for part in
        [" 200 POST /v1/chat/completions llama3.2 -> e0 ", " ms, first ", " tokens, from 127.0.0.1 id my-id"]
    {
        assert!(line.contains(part), "{line}");
    }
    // Standard error is no terminal here, so left to itself it writes JSON.
    let auto = self::fleet(quick(1), "level = \"info\"", "");
    post(auto.gateway.addr, CHAT, &chat("llama3.2", false));
    assert_eq!(lines(&auto.gateway, 1)[0]["status"], 200);
}

#[test]
fn a_sample_leaves_out_only_what_went_well() {
    let fleet = fleet(quick(1), "format = \"json\"\nsample_percent = 0", "");
    for _ in 0..20 {
        post(fleet.gateway.addr, CHAT, &chat("llama3.2", false));
    }
    post(fleet.gateway.addr, CHAT, &chat("unknown", false));
    let all = lines(&fleet.gateway, 1);
    assert_eq!((all.len(), all[0]["status"].as_u64()), (1, Some(404)), "{all:?}");
    let half = self::fleet(quick(1), "format = \"json\"\nsample_percent = 50", "");
    for _ in 0..200 {
        post(half.gateway.addr, CHAT, &chat("llama3.2", false));
    }
    post(half.gateway.addr, CHAT, &chat("unknown", false));
    let some = until("the last line", || {
        let all = lines(&half.gateway, 1);
        all.iter().any(|line| line["status"] == 404).then_some(all.len())
    });
    assert!((50..150).contains(&some), "{some} of 200");
}

#[test]
fn bodies_are_masked_however_they_come() {
    let fleet = fleet(quick(1), "format = \"json\"\nbodies = true", "");
    let prompt =
        format!("mail ann@example.org, call +49 30 1234567, card 4111 1111 1111 1111, key {TOKEN} ok");
    ask(&fleet.gateway, CHAT, "", &said(&prompt, false));
    // The simulated server says the prompt back, a word an event.
    ask(&fleet.gateway, CHAT, "", &said(&prompt, true));
    let raw =
        format!(r#"{{"model":"llama3.2","prompt":"x {TOKEN}","stream":false,"user":"ann@example.org"}}"#);
    ask(&fleet.gateway, "/v1/completions", "", &raw);
    let log = until("three lines", || {
        Some(fleet.gateway.log()).filter(|log| log.lines().filter(|line| line.starts_with('{')).count() == 3)
    });
    for hidden in [TOKEN, &TOKEN[..20], "ann@", "1234567", "4111"] {
        assert!(!log.contains(hidden), "{hidden} stands in the log:\n{log}");
    }
    for line in lines(&fleet.gateway, 3) {
        let request = line["request_body"].as_str().unwrap();
        assert!(serde_json::from_str::<Value>(request).is_ok() && request.contains("[SECRET]"), "{request}");
        assert!(line["answer_body"].is_string(), "{line}");
    }
    let first = &lines(&fleet.gateway, 3)[0];
    for word in ["[EMAIL]", "[PHONE]", "[CARD]", "[SECRET]"] {
        assert!(first["request_body"].as_str().unwrap().contains(word), "{first}");
    }
}

#[test]
fn bodies_are_cut_and_may_be_shown_as_they_are() {
    let fleet = fleet(quick(1), "format = \"json\"\nbodies = true\nmask = false\nbody_bytes_max = 100", "");
    ask(&fleet.gateway, CHAT, "", &said(&format!("ann@example.org {}", "x".repeat(500)), false));
    let line = &lines(&fleet.gateway, 1)[0];
    let body = line["request_body"].as_str().unwrap();
    assert!(body.contains("ann@example.org") && body.ends_with('…') && body.len() <= 103, "{body}");
    // What is too large is not taken apart.
    ask(&fleet.gateway, CHAT, "", &said(&"y".repeat(2 << 20), false));
    let line = &lines(&fleet.gateway, 2)[1];
    assert!(line["request_body"].as_str().unwrap().starts_with("[2097"), "{}", line["request_body"]);
}

#[test]
fn a_line_cannot_be_forged() {
    let fleet = fleet(quick(1), "format = \"json\"\nbodies = true", "");
    let evil = "x\n{\"status\":200,\"forged\":true}\r\u{1b}[31m\u{202e}\u{85}";
    ask(&fleet.gateway, CHAT, "", &said(evil, true));
    ask(&fleet.gateway, CHAT, "", &chat("a\\n{\\\"forged\\\":true}\\u001b[2J", false));
    let lines = lines(&fleet.gateway, 2);
    assert!(lines.iter().all(|line| line.get("forged").is_none()));
    let log = fleet.gateway.log();
    assert!(
        !log.contains('\u{1b}')
            && !log.contains('\u{202e}')
            && !log.contains('\u{85}')
            && !log.contains('\r')
    );
}
