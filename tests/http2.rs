//! Promise: over HTTP/2 a client gets what it gets over HTTP/1.1: every answer, every stream as it comes, at the pace
//! that it asks for. Streams of one connection do not disturb each other, and none outlives its client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout
)] // test code

#[path = "http2/clients.rs"]
mod clients;
#[path = "http2/edge.rs"]
mod edge;
#[path = "http2/life.rs"]
mod life;
#[path = "http2/refused.rs"]
mod refused;
mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use corelane::sim::Options;
use edge::{Edge, data, metric, post, soon};
use support::fleet::{chat, model, quick, until};
use support::h2::{Event, Field};

const CHAT: &str = "/v1/chat/completions";

/// A server whose streams go on for long, an event every few milliseconds.
fn slow() -> Vec<Options> {
    vec![Options {
        slots: 1024,
        tokens: 10_000,
        token_interval: Duration::from_millis(5),
        ..Options::default()
    }]
}

/// One whose streams have no pauses and no end that matters.
fn flood() -> Vec<Options> {
    vec![Options {
        slots: 1024,
        tokens: 2_000_000,
        token_text: " a longer token than most".into(),
        ..Options::default()
    }]
}

#[test]
fn every_kind_of_answer() {
    let rest = "[guard]\n[guard.input]\nscanners = [\"BanSubstrings\"]\n[guard.output]\nscanners = []\n\
                [guard.scanner.BanSubstrings]\nsubstrings = [\"moonlight\"]\n";
    let edge = Edge::start(quick(1), "body_bytes_max = \"1MiB\"", rest);
    let mut client = edge.connect();
    let whole = client.post(CHAT, &chat("llama3.2", false));
    assert_eq!(whole.status, 200, "{}", whole.text());
    assert!(whole.text().contains("You said: hi") && whole.ended, "{}", whole.text());
    assert_eq!(whole.field("content-length"), Some(whole.body.len().to_string().as_str()));
    let stream = client.post(CHAT, &chat("llama3.2", true));
    assert_eq!((stream.status, stream.field("content-type")), (200, Some("text/event-stream")));
    assert!(stream.text().ends_with("data: [DONE]\n\n") && stream.ended);
    assert_eq!(stream.field("content-length"), None);
    let embedded = client.post("/v1/embeddings", r#"{"model":"nomic-embed-text","input":"one"}"#);
    assert_eq!(embedded.status, 200, "{}", embedded.text());
    assert!(embedded.text().contains("\"embedding\":["));
    assert_eq!(client.get("/health").status, 200);
    assert_eq!(client.get("/v1/models").status, 200);
    assert_eq!(client.get("/nothing").status, 404);
    assert_eq!(client.get(CHAT).status, 405);
    assert_eq!(client.post(CHAT, "{\"model\":").status, 400);
    assert_eq!(client.post(CHAT, &chat("unheard-of", false)).status, 404);
    let blocked = client.post(CHAT, &chat("llama3.2", false).replace("hi", "by moonlight"));
    assert_eq!((blocked.status, blocked.field("x-corelane-guard")), (400, Some("BanSubstrings")));
    let length = (2 << 20).to_string();
    let stream = client.open("POST", CHAT, &[("content-length", &length)], false).unwrap();
    let large = client.answer(stream, soon()).unwrap();
    assert_eq!((large.status, large.ended), (413, true));
    let head = client.request("HEAD", "/health", &[], b"");
    assert_eq!((head.status, head.body.len(), head.ended), (200, 0, true));
    assert!(head.field("content-length").is_some_and(|length| length != "0"), "{head:?}");
    let asking = [("origin", "https://page.example"), ("access-control-request-method", "POST")];
    let preflight = client.request("OPTIONS", CHAT, &asking, b"");
    assert_eq!(preflight.status, 204);
    assert!(preflight.field("access-control-allow-origin").is_some(), "{preflight:?}");
    assert_eq!(edge.asked(), 3, "what was refused has reached no endpoint");
    drop(client);
    edge.fleet.assert_quiet();
}

/// Fields whose values differ from answer to answer, and those that frame HTTP/1.1.
fn comparable(fields: &[Field]) -> Vec<Field> {
    let own = [
        "date",
        "x-request-id",
        "x-litellm-call-id",
        "x-corelane-overhead-us",
        "transfer-encoding",
        "connection",
    ];
    let changing = |name: &str| own.contains(&name);
    let mut kept: Vec<Field> = fields.iter().filter(|(name, _)| !changing(name)).cloned().collect();
    kept.sort();
    kept
}

#[test]
fn answers_have_the_fields_of_http1() {
    let headers = "[server.headers]\nx-frame-options = \"DENY\"";
    let edge = Edge::start(quick(1), headers, "");
    let mut client = edge.connect();
    let (good, stream, bad) = (chat("llama3.2", false), chat("llama3.2", true), chat("unheard-of", false));
    for (path, body) in [(CHAT, &good), (CHAT, &stream), (CHAT, &bad), ("/nothing", &good)] {
        let over1 = support::fleet::post(edge.fleet.gateway.addr, path, body);
        let over2 = client.post(path, body);
        assert_eq!(over2.status, over1.status, "{path} {body}");
        assert_eq!(comparable(&over2.fields), comparable(&over1.fields), "{path} {body}");
        for name in ["connection", "transfer-encoding", "keep-alive", "upgrade"] {
            assert_eq!(over2.field(name), None, "{path} {body}");
        }
        assert!(over2.fields.iter().all(|(name, _)| !name.bytes().any(|byte| byte.is_ascii_uppercase())));
        for name in ["date", "x-request-id"] {
            assert_eq!(over2.field(name).is_some(), over1.field(name).is_some(), "{name}: {path} {body}");
        }
    }
    drop(client);
    edge.fleet.assert_quiet();
}

#[test]
fn events_come_one_by_one() {
    let mut options = quick(1);
    (options[0].tokens, options[0].token_interval) = (20, Duration::from_millis(25));
    let edge = Edge::start(options, "", "");
    let mut client = edge.connect();
    let stream = post(&mut client, CHAT, &chat("llama3.2", true));
    let (mut frames, mut text, began) = (0, Vec::new(), Instant::now());
    let mut first = None;
    loop {
        let bytes = data(&mut client, stream);
        first.get_or_insert_with(|| began.elapsed());
        let events = String::from_utf8_lossy(&bytes).matches("data: ").count();
        assert!(events <= 3, "an event waited for another: {}", String::from_utf8_lossy(&bytes));
        frames += 1;
        text.extend(bytes);
        if text.ends_with(b"data: [DONE]\n\n") {
            break;
        }
    }
    assert!(frames >= 18, "{frames} frames for 20 tokens");
    assert!(first.unwrap() < began.elapsed() / 2, "the first came with the last");
    assert!(client.answer(stream, soon()).unwrap().ended);
    drop(client);
    edge.fleet.assert_quiet();
}

#[test]
fn a_tiny_window_gets_all_in_order() {
    let mut options = quick(1);
    options[0].tokens = 300;
    let edge = Edge::start(options, "", "");
    let body = chat("llama3.2", true);
    let texts = |text: &str| -> String {
        let tokens = text.lines().filter_map(|line| line.strip_prefix("data: {"));
        let delta = |line: &str| {
            let json: serde_json::Value = serde_json::from_str(&format!("{{{line}")).unwrap();
            json["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
        };
        tokens.map(delta).collect()
    };
    let wanted =
        texts(&String::from_utf8_lossy(&support::fleet::post(edge.fleet.gateway.addr, CHAT, &body).body));
    let mut client = edge.connect_with(&[(4, 97)]);
    client.polite = false;
    let stream = post(&mut client, CHAT, &body);
    let mut largest = 0;
    loop {
        match client.event(soon()).expect("an event") {
            Event::Settings(_) => client.send(support::h2::SETTINGS, support::h2::ACK, 0, b"").unwrap(),
            Event::Data { end: true, .. } => break,
            Event::Data { bytes, .. } if !bytes.is_empty() => {
                largest = largest.max(bytes.len());
                client.window_update(0, bytes.len() as u32).unwrap();
                client.window_update(stream, bytes.len() as u32).unwrap();
            }
            Event::Reset { code, .. } => panic!("reset by {code}"),
            _ => {}
        }
    }
    let answer = client.so_far(stream).unwrap();
    assert!(largest <= 97, "a frame of {largest} bytes");
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(texts(&answer.text()), wanted, "all, in order");
    drop(client);
    edge.fleet.assert_quiet();
}

#[test]
fn back_pressure_reaches_the_endpoint() {
    let edge = Edge::start(flood(), "", "");
    let stats = &edge.fleet.servers[0].stats;
    let mut client = edge.connect();
    client.polite = false; // the windows stay as they are
    let stream = post(&mut client, CHAT, &chat("llama3.2", true));
    let mut seen = 0;
    until("the endpoint stops sending", || {
        read_for(&mut client, Duration::from_millis(200));
        let now = stats.tokens_sent.load(Ordering::Relaxed);
        let same = now == seen && now > 0;
        seen = now;
        same.then_some(())
    });
    assert!(seen < 200_000, "{seen} tokens are somewhere");
    assert_eq!(
        client.so_far(stream).map(|answer| answer.body.len()),
        Some(65_535),
        "the window, no byte more"
    );
    let mut other = edge.connect();
    let small = chat("llama3.2", false).replace("\"stream\"", "\"max_tokens\":3,\"stream\"");
    assert_eq!(other.post(CHAT, &small).status, 200, "others are served");
    // It goes on as soon as the window opens.
    client.window_update(0, 1 << 20).unwrap();
    client.window_update(stream, 1 << 20).unwrap();
    until("it goes on", || {
        read_for(&mut client, Duration::from_millis(50));
        client.so_far(stream).is_some_and(|answer| answer.body.len() == 65_535 + (1 << 20)).then_some(())
    });
    drop((client, other));
    edge.fleet.assert_quiet();
}

/// Reads what comes for so long.
fn read_for(client: &mut edge::H2, time: Duration) {
    let end = Instant::now() + time;
    while client.event(end).is_ok() {}
}

#[test]
fn many_streams_at_once() {
    let mut options = quick(1);
    (options[0].slots, options[0].token_interval) = (200, Duration::from_millis(5));
    let edge = Edge::start(options, "", "");
    let mut client = edge.connect();
    let streams: Vec<(u32, String)> = (0..120)
        .map(|at| {
            let mark = format!("number{at}");
            (post(&mut client, CHAT, &chat("llama3.2", at % 2 == 0).replace("hi", &mark)), mark)
        })
        .collect();
    for (stream, mark) in streams {
        let answer = client.answer(stream, soon()).expect("an answer");
        assert_eq!((answer.status, answer.ended, answer.reset), (200, true, None), "{mark}");
        assert!(answer.text().contains(&mark), "{mark} got: {}", answer.text());
    }
    drop(client);
    edge.fleet.assert_quiet();
}

#[test]
fn a_cancelled_stream_takes_its_endpoint_and_no_other() {
    let edge = Edge::start(slow(), "", "");
    let stats = &edge.fleet.servers[0].stats;
    let mut client = edge.connect();
    let stays = post(&mut client, CHAT, &chat("llama3.2", true));
    data(&mut client, stays);
    let mut delays = Vec::new();
    for round in 0..40_u32 {
        let body = chat("llama3.2", round % 4 != 3);
        let stream = post(&mut client, CHAT, &body);
        if round % 4 == 3 {
            until("it is asked", || (stats.generating.load(Ordering::Relaxed) == 2).then_some(()));
        } else {
            data(&mut client, stream);
        }
        let before = stats.cancelled.load(Ordering::Relaxed);
        let left_us = corelane::sim::now_us();
        client.reset(stream, 8).unwrap();
        until("its endpoint is closed", || (stats.cancelled.load(Ordering::Relaxed) > before).then_some(()));
        delays.push(stats.cancelled_at.load(Ordering::Relaxed).saturating_sub(left_us));
        until("only its own ends", || (stats.generating.load(Ordering::Relaxed) == 1).then_some(()));
    }
    delays.sort_unstable();
    println!("reset to upstream closed: p50 {} us, worst {} us", delays[20], delays[39]);
    let before = client.so_far(stays).unwrap().body.len();
    data(&mut client, stays);
    assert!(client.so_far(stays).unwrap().body.len() > before, "the other goes on");
    drop(client);
    edge.fleet.assert_quiet();
}

#[test]
fn thousands_of_honest_cancels() {
    let edge = Edge::start(slow(), "", "");
    let mut client = edge.connect();
    let body = chat("llama3.2", true);
    for _ in 0..250 {
        let streams: Vec<u32> = (0..20).map(|_| post(&mut client, CHAT, &body)).collect();
        for stream in streams {
            data_or_seen(&mut client, stream);
            client.reset(stream, 8).expect("the connection lives");
        }
    }
    let answer =
        client.post(CHAT, &chat("llama3.2", false).replace("\"stream\"", "\"max_tokens\":3,\"stream\""));
    assert_eq!(answer.status, 200, "after 5000 cancels: {}", answer.text());
    assert_eq!(metric(&edge.fleet.gateway, "corelane_http2_abuses_total"), 0.0);
    assert_eq!(client.goaway, None);
    drop(client);
    edge.fleet.assert_quiet();
}

/// Waits for the first data of a stream, unless it has come.
fn data_or_seen(client: &mut edge::H2, stream: u32) {
    while client.so_far(stream).is_none_or(|answer| answer.body.is_empty()) {
        client.event(soon()).expect("data");
        assert_eq!(client.so_far(stream).and_then(|answer| answer.reset), None);
    }
}

#[test]
fn cancelled_uploads_give_their_windows_back() {
    let edge = Edge::start(quick(1), "", "");
    let mut client = edge.connect();
    // What the connection's window allows, counted by hand: 100 uploads of 128 KiB are twelve times as much.
    let mut credit = 65_535_i64;
    for _ in 0..100 {
        let stream = client.open("POST", CHAT, &[], false).unwrap();
        for _ in 0..8 {
            while credit < 16_384 {
                if let Event::Window { stream: 0, by } = client.event(soon()).expect("the window opens again")
                {
                    credit += i64::from(by);
                }
            }
            client.data(stream, &[b' '; 16_384], false).unwrap();
            credit -= 16_384;
        }
        client.reset(stream, 8).unwrap();
    }
    drop(client);
    edge.fleet.assert_quiet();
    assert_eq!(edge.asked(), 0, "no endpoint was asked for an unfinished upload");
}

#[test]
fn a_broken_stream_is_never_a_clean_end() {
    let kinds = ["cut", "nodone", "garbage", "chunk-garbage", "wrong-length"];
    let rest: String = kinds
        .iter()
        .map(|kind| model(kind, &["e0"], &format!("upstream_model = \"fault-{kind}\"")))
        .collect();
    let mut options = quick(1);
    options[0].token_interval = Duration::from_millis(5);
    let edge =
        Edge::start(options, "", &format!("[retry]\nattempts = 1\n{rest}[[models]]\nname = \"llama3.2\"\n"));
    let mut client = edge.connect();
    for kind in kinds {
        let stream = post(&mut client, CHAT, &chat(kind, true));
        let answer = client.answer(stream, soon()).expect("an end");
        let text = answer.text();
        assert_eq!(answer.status, 200, "{kind}: {text}");
        assert!(text.contains("\"error\""), "{kind}: no error event in {text}");
        assert!(!text.contains("[DONE]"), "{kind}: {text}");
        assert!(!answer.ended, "{kind}: ended as if it were whole");
        assert_eq!(answer.reset, Some(2), "{kind}: INTERNAL_ERROR; some clients take CANCEL for a clean end");
    }
    assert_eq!(client.post(CHAT, &chat("llama3.2", false)).status, 200, "the connection goes on");
    drop(client);
    edge.fleet.assert_quiet();
}

#[test]
fn an_upload_of_five_megabytes() {
    let edge = Edge::start(quick(1), "", "");
    let mut client = edge.connect();
    let text = "x".repeat(5 << 20);
    let body = chat("llama3.2", false).replace("hi", &text);
    let answer = client.post(CHAT, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let recorded = edge.fleet.servers[0].stats.take_recorded();
    let got = recorded.iter().find(|request| request.body.len() > 1 << 20).expect("it has arrived");
    assert_eq!(got.json().unwrap()["messages"][0]["content"].as_str().map(str::len), Some(5 << 20));
    // Without a length, as browsers stream it.
    let stream = client.open("POST", CHAT, &[("content-type", "application/json")], false).unwrap();
    client.send_body(stream, body.as_bytes(), soon()).unwrap();
    assert_eq!(client.answer(stream, soon()).unwrap().status, 200);
    drop(client);
    edge.fleet.assert_quiet();
}

#[test]
fn an_early_answer_overtakes_the_upload() {
    let edge = Edge::start(quick(1), "body_bytes_max = \"1MiB\"", "");
    let mut client = edge.connect();
    for announced in [None, Some((4 << 20).to_string())] {
        let fields: Vec<(&str, &str)> =
            announced.iter().map(|length| ("content-length", length.as_str())).collect();
        let stream = client.open("POST", CHAT, &fields, false).unwrap();
        client
            .send_body(stream, &vec![b' '; 4 << 20], soon())
            .expect("it may always send, or is told to stop");
        let answer = client.answer(stream, soon()).expect("an answer");
        assert_eq!(answer.status, 413, "{answer:?}");
        assert!(answer.text().contains("larger than"), "whole: {answer:?}");
        assert!(answer.ended, "it ends before it is reset");
        assert!(matches!(answer.reset, None | Some(0)), "by NO_ERROR only: {answer:?}");
    }
    assert_eq!(client.post(CHAT, &chat("llama3.2", false)).status, 200, "the connection goes on");
    drop(client);
    edge.fleet.assert_quiet();
}
