//! Promise: what a scanner blocks never leaves, in either direction and every dialect, whole or streamed, however it is
//! cut; what it redacts leaves masked and nothing else is changed; what it monitors is counted and named, never quoted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use corelane::sim::Options;
use serde_json::{Value, json};
use support::answer::Answer;
use support::fleet::{Fleet, configuration, connect, json as body_of, post, quick, send, until};
use support::upstream::{Record, Reply, Then, Upstream, plain};
use support::{Gateway, assert_gauges_zero, get, metrics};

const PHRASE: &str = "operation moonlight";

/// An endpoint that says what the last message asks for, in pieces of `seed` characters.
fn parrot(record: &Record) -> Reply {
    let keep = |body: Value| Reply { writes: vec![plain(&body.to_string())], then: Then::Keep };
    if record.method == "GET" {
        return keep(json!({"object": "list", "data": [{"id": "m"}], "models": [{"name": "m"}]}));
    }
    let body = record.json().unwrap();
    let text = body["messages"]
        .as_array()
        .and_then(|all| all.last())
        .map_or(&body["prompt"], |last| &last["content"]);
    let text = text.as_str().unwrap_or("no text").to_owned();
    let size = usize::try_from(body["seed"].as_u64().unwrap_or(3)).unwrap();
    let chars: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = chars.chunks(size).map(|piece| piece.iter().collect()).collect();
    let native = record.target.starts_with("/api/");
    let streams = body["stream"].as_bool().unwrap_or(native);
    match (record.target.as_str(), streams) {
        ("/v1/chat/completions", false) => keep(json!({"model": "m", "choices": [{"index": 0,
            "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})),
        ("/v1/completions", false) => {
            keep(json!({"model": "m", "choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}))
        }
        ("/v1/messages", false) => {
            keep(json!({"type": "message", "model": "m", "content": [{"type": "text", "text": text}]}))
        }
        ("/api/chat", false) => keep(json!({"model": "m", "message": {"content": text}, "done": true})),
        ("/api/generate", false) => keep(json!({"model": "m", "response": text, "done": true})),
        (path, _) => stream(path, &pieces),
    }
}

fn stream(path: &str, pieces: &[String]) -> Reply {
    let (kind, event): (&str, fn(&str) -> String) = match path {
        "/api/chat" => ("application/x-ndjson", |text| {
            json!({"model": "m", "message": {"content": text}, "done": false}).to_string() + "\n"
        }),
        "/api/generate" => ("application/x-ndjson", |text| {
            json!({"model": "m", "response": text, "done": false}).to_string() + "\n"
        }),
        "/v1/messages" => ("text/event-stream", |text| {
            let data = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
            format!("event: content_block_delta\ndata: {data}\n\n")
        }),
        "/v1/completions" => ("text/event-stream", |text| {
            format!("data: {}\n\n", json!({"model": "m", "choices": [{"index": 0, "text": text}]}))
        }),
        _ => ("text/event-stream", |text| {
            format!(
                "data: {}\n\n",
                json!({"model": "m", "choices": [{"index": 0, "delta": {"content": text}}]})
            )
        }),
    };
    let end = match path {
        "/api/chat" | "/api/generate" => "{\"model\":\"m\",\"done\":true}\n".to_owned(),
        "/v1/messages" => "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".to_owned(),
        _ => "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\",\"text\":\"\"}]}\n\ndata: [DONE]\n\n".to_owned(),
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n");
    let mut writes = vec![head.into_bytes()];
    writes.extend(pieces.iter().map(|piece| event(piece).into_bytes()));
    writes.push(end.into_bytes());
    Reply { writes, then: Then::Close }
}

struct Stand {
    gateway: Gateway,
    upstream: Upstream,
}

fn stand(rest: &str) -> Stand {
    let upstream = Upstream::start("127.0.0.1:0".parse::<SocketAddr>().unwrap(), parrot);
    let gateway = Gateway::start(&configuration(&[upstream.addr], "", rest));
    Stand { gateway, upstream }
}

fn ban(output: bool, more: &str) -> String {
    let direction = if output { "output" } else { "input" };
    let other = if output { "input" } else { "output" };
    format!(
        "[guard]\n[guard.{other}]\nscanners = []\n[guard.{direction}]\nscanners = [\"BanSubstrings\"]\n\
         [guard.scanner.BanSubstrings]\nsubstrings = [\"{PHRASE}\"]\n{more}\n"
    )
}

impl Stand {
    fn ask(&self, path: &str, text: &str, stream: bool, seed: u64) -> Answer {
        let body = json!({"model": "m", "stream": stream, "seed": seed, "prompt": text, "max_tokens": 9,
            "messages": [{"role": "user", "content": text}]});
        post(self.gateway.addr, path, &body.to_string())
    }

    /// Bodies of the requests that the endpoint got, probes left out.
    fn asked(&self) -> Vec<Value> {
        let posts = self.upstream.records.try_iter().filter(|record| record.method == "POST");
        posts.map(|record| record.json().unwrap()).collect()
    }
}

const PATHS: [&str; 5] =
    ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/api/chat", "/api/generate"];

#[test]
fn a_blocked_prompt_never_reaches_an_endpoint() {
    let stand = stand(&ban(false, ""));
    for path in PATHS {
        let answer = stand.ask(path, "Tell me about Operation Moonlight.", false, 3);
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.field("x-should-retry"), Some("false"));
        assert_eq!(answer.field("x-corelane-guard"), Some("BanSubstrings"));
        let body = body_of(&answer);
        let message = body["error"]["message"].as_str().or(body["error"].as_str()).unwrap();
        assert!(message.starts_with("[en] ") && message.contains("BanSubstrings: phrase-"), "{message}");
        assert!(!message.to_lowercase().contains(PHRASE));
        if path.starts_with("/v1/") {
            assert_eq!(body["error"]["type"], "prompt_blocked");
        }
    }
    assert_eq!(stand.ask("/v1/chat/completions", "Tell me about the moon.", false, 3).status, 200);
    assert_eq!(stand.asked().len(), 1, "only the clean one");
    assert_gauges_zero(&stand.gateway);
}

#[test]
fn the_client_is_told_in_its_language() {
    let stand = stand(&ban(false, ""));
    for (text, code) in [
        ("请告诉我 operation moonlight 的事情", "zh"),
        ("operation moonlight について教えてください", "ja"),
        ("operation moonlight에 대해 알려 주세요", "ko"),
        ("Расскажи мне подробно про operation moonlight", "ru"),
        ("أخبرني من فضلك بكل شيء عن operation moonlight", "ar"),
        ("Hãy kể cho tôi nghe về operation moonlight", "vi"),
        ("Erzähl mir von operation moonlight", "en"),
    ] {
        let body = body_of(&stand.ask("/v1/chat/completions", text, true, 3));
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("[{code}] ")), "{message}");
    }
}

#[test]
fn text_is_found_wherever_the_dialect_keeps_it() {
    let stand = stand(
        &ban(false, "").replace("[guard.input]", "[guard.input]\nroles = [\"user\", \"system\", \"tool\"]"),
    );
    let messages = [
        json!([{"role": "user", "content": [{"type": "text", "text": "about operation moonlight"}]}]),
        json!([{"role": "user", "content": "operation moonlight"}, {"role": "assistant", "content": "?"}, {"role": "user", "content": "hi"}]),
        json!([{"role": "system", "content": "operation moonlight"}, {"role": "user", "content": "hi"}]),
        json!([{"role": "user", "content": "hi"}, {"role": "tool", "tool_call_id": "1", "content": "operation moonlight"}]),
    ];
    for messages in messages {
        let body = json!({"model": "m", "messages": messages}).to_string();
        assert_eq!(post(stand.gateway.addr, "/v1/chat/completions", &body).status, 400, "{body}");
    }
    // Written with escapes in key and value, JSON says the same.
    let body = r#"{"model":"m","m\u0065ssages":[{"role":"user","cont\u0065nt":"op\u0065ration moonlight"}]}"#;
    assert_eq!(post(stand.gateway.addr, "/v1/chat/completions", body).status, 400);
    let quiet = json!({"model": "m", "messages": [{"role": "assistant", "content": "operation moonlight"}, {"role": "user", "content": "hi"}]});
    assert_eq!(post(stand.gateway.addr, "/v1/chat/completions", &quiet.to_string()).status, 200);
    for body in [
        json!({"model": "m", "input": ["fine", "operation moonlight"]}),
        json!({"model": "m", "input": "operation moonlight"}),
    ] {
        assert_eq!(post(stand.gateway.addr, "/v1/embeddings", &body.to_string()).status, 400);
        assert_eq!(post(stand.gateway.addr, "/v1/responses", &body.to_string()).status, 400);
    }
}

#[test]
fn only_the_last_message_is_read_if_so_configured() {
    let stand = stand(&ban(false, "").replace("[guard.input]", "[guard.input]\nmessages = \"last\""));
    let body = |first: &str, last: &str| {
        json!({"model": "m", "messages": [{"role": "user", "content": first}, {"role": "user", "content": last}]}).to_string()
    };
    assert_eq!(post(stand.gateway.addr, "/v1/chat/completions", &body(PHRASE, "hi")).status, 200);
    assert_eq!(post(stand.gateway.addr, "/v1/chat/completions", &body("hi", PHRASE)).status, 400);
}

#[test]
fn secrets_are_masked_on_the_way_up_and_nothing_else_changes() {
    let rest = "[guard]\n[guard.input]\nscanners = [\"Secrets\", \"BanSubstrings\"]\n[guard.output]\nscanners = []\n\
        [guard.scanner.Secrets]\naction = \"redact\"\n[guard.scanner.BanSubstrings]\nsubstrings = [\"moonlight\"]\naction = \"redact\"\n\
        [log]\naccess = \"stderr\"\n";
    let stand = stand(rest);
    let secret = format!("ghp_{}", "x7Kq9ZpLm2Rt5Vw8Yb3Nc6Df1Gh4Js0AeQuT");
    let text = format!("first \u{e9}\n{secret} and again {secret}; moonlight \"quoted\"");
    let body =
        json!({"model": "m", "weird": [1, {"k": "v"}], "messages": [{"role": "user", "content": text}]});
    assert_eq!(post(stand.gateway.addr, "/v1/chat/completions", &body.to_string()).status, 200);
    let asked = stand.asked().pop().unwrap();
    let content = asked["messages"][0]["content"].as_str().unwrap();
    assert!(!content.contains("x7Kq9"), "{content}");
    assert_eq!(content, "first \u{e9}\n****** and again ******; [REDACTED] \"quoted\"");
    assert_eq!(asked["weird"], body["weird"]);
    until("the line names scanner and rule", || {
        let log = stand.gateway.log();
        assert!(!log.contains("x7Kq9") && !log.contains("moonlight"), "{log}");
        (log.contains(r#""scanner":"Secrets","rule":""#) && log.contains(r#""action":"redact""#))
            .then_some(())
    });
}

#[test]
fn a_blocked_answer_never_arrives() {
    let stand = stand(&ban(true, ""));
    for path in PATHS {
        let answer = stand.ask(path, "It is Operation Moonlight.", false, 3);
        assert_eq!(answer.status, 400, "{path}");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(!text.contains("Moonlight") && text.contains("BanSubstrings"), "{text}");
        if path.starts_with("/v1/") {
            assert!(text.contains("response_blocked"), "{text}");
        }
        for seed in [1, 2, 7, 40] {
            let answer = stand.ask(path, "Well then: it is Operation Moonlight.", true, seed);
            assert_eq!(answer.status, 200, "{path}");
            let text = String::from_utf8(answer.body).unwrap();
            let said = said(&text);
            assert!(!said.contains("Oper"), "{path} {seed}: {said}");
            assert!(text.contains("[en] "), "{text}");
            assert!(
                !text.contains("[DONE]") && !text.contains("\"done\":true") && !text.contains("message_stop"),
                "{text}"
            );
            let last = text.trim_end().lines().last().unwrap();
            assert!(last.contains("error") && last.contains("BanSubstrings"), "{last}");
        }
    }
    until("metrics count the blocks", || {
        let line =
            r#"corelane_guard_verdicts_total{scanner="BanSubstrings",direction="output",verdict="block"} 25"#;
        metrics(&stand.gateway).contains(line).then_some(())
    });
    assert_gauges_zero(&stand.gateway);
}

/// The text that the events or lines of a stream make.
fn said(stream: &str) -> String {
    let mut said = String::new();
    for line in stream.lines() {
        let data = line.strip_prefix("data: ").unwrap_or(line);
        let Ok(event) = serde_json::from_str::<Value>(data) else { continue };
        let parts = [
            &event["choices"][0]["delta"]["content"],
            &event["choices"][0]["text"],
            &event["delta"]["text"],
            &event["message"]["content"],
            &event["response"],
        ];
        parts.iter().filter_map(|part| part.as_str()).for_each(|part| said.push_str(part));
    }
    said
}

#[test]
fn a_clean_answer_arrives_whole_and_in_order() {
    let stand = stand(&ban(true, ""));
    let text =
        "An operation at moonrise; operations, moonlight: all fine — größer, 漢字 🙂 \"quoted\" \\ end";
    for path in PATHS {
        for seed in [1, 4, 100] {
            let answer = stand.ask(path, text, true, seed);
            assert_eq!(
                (answer.status, said(&String::from_utf8(answer.body).unwrap())),
                (200, text.to_owned()),
                "{path} {seed}"
            );
        }
        let answer = stand.ask(path, text, false, 3);
        assert!(answer.status == 200 && body_of(&answer).to_string().contains("moonrise"), "{path}");
    }
}

#[test]
fn answers_are_redacted_whole_and_streamed() {
    let stand = stand(&ban(true, "action = \"redact\""));
    for path in PATHS {
        for seed in [1, 5, 100] {
            let answer = stand.ask(
                path,
                "So \"Operation\nMoonlight\" is OPERATION MOONLIGHT, twice: operation moonlight!",
                true,
                seed,
            );
            let said = said(&String::from_utf8(answer.body).unwrap());
            assert_eq!(
                said, "So \"Operation\nMoonlight\" is [REDACTED], twice: [REDACTED]!",
                "{path} {seed}"
            );
        }
        let body = body_of(&stand.ask(path, "It is operation moonlight.", false, 3)).to_string();
        assert!(body.contains("It is [REDACTED].") && body.contains("\"m\""), "{body}");
    }
}

#[test]
fn monitor_lets_pass_and_counts() {
    let stand = stand(&(ban(true, "action = \"monitor\"") + "[log]\naccess = \"stderr\"\n"));
    let answer = stand.ask("/v1/chat/completions", PHRASE, true, 3);
    assert_eq!(said(&String::from_utf8(answer.body).unwrap()), PHRASE);
    until("counted and logged", || {
        let line = r#"corelane_guard_verdicts_total{scanner="BanSubstrings",direction="output",verdict="monitor"} 1"#;
        let logged =
            stand.gateway.log().contains(r#""guard":[{"direction":"output","scanner":"BanSubstrings""#);
        (metrics(&stand.gateway).contains(line) && logged).then_some(())
    });
    assert!(!stand.gateway.log().contains(PHRASE));
}

#[test]
fn a_model_may_have_another_profile_or_none() {
    let rest = ban(false, "")
        + "[guard.profiles.easy]\ninput.scanners = []\n[[models]]\nname = \"m\"\n[[models]]\nname = \"easy\"\nguard = \"easy\"\n\
           upstream_model = \"m\"\n[[models]]\nname = \"open\"\nguard = \"off\"\nupstream_model = \"m\"\n";
    let stand = stand(&rest);
    for (model, status) in [("m", 400), ("easy", 200), ("open", 200)] {
        let body = json!({"model": model, "messages": [{"role": "user", "content": PHRASE}]}).to_string();
        assert_eq!(post(stand.gateway.addr, "/v1/chat/completions", &body).status, status, "{model}");
    }
}

#[test]
fn tokens_of_all_messages_count_together() {
    let rest = "[guard]\n[guard.input]\nscanners = [\"TokenLimit\"]\n[guard.output]\nscanners = []\n[guard.scanner.TokenLimit]\nlimit = 10\n";
    let stand = stand(rest);
    let body = |texts: &[&str]| {
        let messages: Vec<Value> =
            texts.iter().map(|text| json!({"role": "user", "content": text})).collect();
        json!({"model": "m", "messages": messages}).to_string()
    };
    let status = |texts: &[&str]| post(stand.gateway.addr, "/v1/chat/completions", &body(texts)).status;
    assert_eq!(status(&["one two three four five six seven eight nine"]), 200);
    assert_eq!(status(&["one two three four five six seven eight nine ten"]), 400);
    assert_eq!(status(&["one two three four five", "six seven eight nine ten"]), 400);
    assert_eq!(status(&[&"word ".repeat(200_000)]), 400);
}

#[test]
fn what_was_read_before_is_remembered() {
    let stand = stand(&ban(false, ""));
    let long = "a system prompt of some length that every request repeats, word for word, again and again";
    for text in ["one", "two", "three"] {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": long}, {"role": "user", "content": text}]});
        assert_eq!(post(stand.gateway.addr, "/v1/chat/completions", &body.to_string()).status, 200);
    }
    until("remembered", || {
        let page = metrics(&stand.gateway);
        let line = page.lines().find(|line| line.starts_with("corelane_guard_remembered_total"))?;
        (line.rsplit(' ').next()?.parse::<u64>().ok()? >= 1).then_some(())
    });
}

#[test]
fn moderations_are_answered_from_the_same_scanners() {
    let stand = stand(&ban(false, ""));
    for (input, wanted) in [
        (json!("about operation moonlight"), vec![true]),
        (json!(["fine", "operation moonlight"]), vec![false, true]),
        (json!([{"type": "text", "text": "fine"}]), vec![false]),
    ] {
        let answer = post(stand.gateway.addr, "/v1/moderations", &json!({"input": input}).to_string());
        assert_eq!(answer.status, 200);
        let body = body_of(&answer);
        assert!(body["id"].as_str().unwrap().starts_with("modr-"), "{body}");
        let flagged: Vec<bool> = body["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| result["flagged"].as_bool().unwrap())
            .collect();
        assert_eq!(flagged, wanted);
        let first = &body["results"][0];
        assert!(
            first["categories"]["harassment"].is_boolean()
                && first["category_scores"]["harassment"].is_number()
        );
    }
    let answer = post(stand.gateway.addr, "/v1/moderations", r#"{"input": 5}"#);
    assert_eq!(answer.status, 400);
    assert_eq!(get(stand.gateway.addr, "/v1/moderations").0, 405);
}

#[test]
fn what_cannot_match_does_not_wait_and_a_block_closes_the_endpoint() {
    let slow = Options { tokens: 60, token_interval: Duration::from_millis(30), ..quick(1).remove(0) };
    let fleet = Fleet::start(vec![slow], "", &ban(true, "")).ready();
    let ask = |text: &str| {
        let body =
            json!({"model": "llama3.2", "stream": true, "messages": [{"role": "user", "content": text}]});
        let mut reader = connect(fleet.gateway.addr);
        send(&mut reader, "/v1/chat/completions", &body.to_string());
        reader
    };
    let mut reader = ask("good morning to all of you");
    let mut seen = Vec::new();
    let mut buffer = [0u8; 4096];
    while !String::from_utf8_lossy(&seen).contains("\"content\":\"") {
        let n = std::io::Read::read(reader.stream(), &mut buffer).unwrap();
        assert!(n > 0, "the stream ended before its first event");
        seen.extend_from_slice(&buffer[..n]);
    }
    let text = String::from_utf8_lossy(&seen).into_owned();
    assert!(
        !text.contains("[DONE]") && !text.contains("finish_reason\":\"stop"),
        "the first event waited for the last"
    );
    drop(reader);
    let cancelled = || fleet.servers[0].stats.cancelled.load(Ordering::Relaxed);
    until("the stream that was left is cancelled", || (cancelled() == 1).then_some(()));
    // The endpoint says what it was told, so it is stopped long before its last token.
    let answer = ask("operation moonlight").answer(false, Instant::now() + Duration::from_secs(20)).unwrap();
    assert!(String::from_utf8(answer.body).unwrap().contains("response_blocked"));
    until("the blocked stream is cancelled", || (cancelled() == 2).then_some(()));
    fleet.assert_quiet();
}
