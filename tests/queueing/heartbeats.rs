//! Signs of life to clients that wait for a stream: comments, in every version of HTTP, and only where they are comments.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use corelane::sim::Options;
use serde_json::json;

use super::scripted::{CHAT, posted, read, until_waiting, value};
use super::support::answer::Reader;
use super::support::fleet::{Fleet, chat, connect, model, raw, until};
use super::support::{assert_gauges_zero, h2};
use super::{Line, marks};
use crate::edge::{Certificate, H2};

const BEAT: &str = "[queue]\nheartbeat = \"100ms\"\n";

/// Reads until `mark` has come `count` times, for at most 10 s; all bytes so far.
fn until_seen(reader: &mut Reader, mark: &str, count: usize) -> String {
    let stream = reader.stream();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if text.matches(mark).count() >= count {
            return text;
        }
        let read = stream.read(&mut buffer).unwrap_or(0);
        assert!(read > 0, "no {count} of {mark:?} in {text:?}");
        seen.extend_from_slice(&buffer[..read]);
    }
}

/// Bytes that are there now; `None`: none.
fn now(reader: &mut Reader) -> Option<Vec<u8>> {
    let (stream, mut buffer) = (reader.stream(), vec![0; 4096]);
    stream.set_nonblocking(true).unwrap();
    let got = stream.read(&mut buffer);
    stream.set_nonblocking(false).unwrap();
    match got {
        Ok(count) => Some(buffer[..count].to_vec()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

/// What may not come between the comments and the first event.
fn assert_stream(text: &str) {
    assert!(text.starts_with("HTTP/1.1 200 ") || text.starts_with("HTTP/1.0 200 "), "{text}");
    assert!(text.to_ascii_lowercase().contains("content-type: text/event-stream\r\n"), "{text}");
    assert_eq!(text.matches("HTTP/1.").count(), 1, "one head: {text}");
}

#[test]
fn comments_while_it_waits_for_a_slot() {
    for server in ["shards = 2", "shards = 2\nmax_concurrent_requests = 1"] {
        let line = Line::set(1, server, BEAT);
        let first = line.ask("first", "", false);
        line.until_held(1);
        let mut waits = line.ask("waits", "Connection: close\r\n", true);
        let before = until_seen(&mut waits, ": waiting\n\n", 3);
        assert_stream(&before);
        assert!(!before.contains("data:"), "{before}");
        assert_eq!(line.journal.len(), 1);
        line.gate.open();
        let rest = raw(&mut waits);
        assert!(rest.contains("data: [DONE]") && rest.contains("from "), "{rest}");
        assert!(rest.ends_with("0\r\n\r\n"), "{rest}");
        drop((first, waits));
        line.assert_ends_clean();
    }
}

#[test]
fn comments_while_the_server_thinks() {
    let options = vec![Options { load_time: Duration::from_millis(700), ..Options::default() }];
    let fleet = Fleet::start(options, "shards = 1", BEAT).ready();
    let mut reader = posted(fleet.gateway.addr, CHAT, "Connection: close\r\n", &chat("llama3.2", true));
    let text = raw(&mut reader);
    assert_stream(&text);
    let (comment, data) = (text.find(": waiting"), text.find("data: {"));
    assert!(comment.is_some() && comment < data, "{text}");
    assert!(text.contains("data: [DONE]"));
    drop(reader);
    fleet.assert_quiet();
}

#[test]
fn none_where_they_would_be_no_comments() {
    let options = || vec![Options { load_time: Duration::from_millis(500), ..Options::default() }];
    for (path, stream) in [(CHAT, false), ("/api/chat", true), ("/api/chat", false), ("/v1/messages", false)]
    {
        let fleet = Fleet::start(options(), "shards = 1", BEAT).ready();
        let body = chat("llama3.2", stream).replace("\"stream\"", "\"max_tokens\":9,\"stream\"");
        let mut reader = posted(fleet.gateway.addr, path, "Connection: close\r\n", &body);
        let text = raw(&mut reader);
        assert!(text.starts_with("HTTP/1.1 200 ") && !text.contains(": waiting"), "{path} {stream}: {text}");
        assert!(text.contains("x-corelane-endpoint: e0"), "the head has waited for the answer: {text}");
        drop(reader);
        fleet.assert_quiet();
    }
}

#[test]
fn none_unless_they_are_asked_for() {
    for rest in ["", "[queue]\nheartbeat = \"0s\"\n"] {
        let line = Line::set(1, "shards = 1", rest);
        let first = line.ask("first", "", false);
        line.until_held(1);
        let mut waits = line.ask("waits", "", true);
        until_waiting(&line.gateway, 1);
        // As long as it takes others to hear three: by a gateway that beats.
        let other = Line::set(1, "shards = 1", BEAT);
        let held = other.ask("first", "", false);
        other.until_held(1);
        let mut beats = other.ask("waits", "", true);
        until_seen(&mut beats, ": waiting\n\n", 3);
        assert_eq!(now(&mut waits), None);
        drop((held, beats));
        other.assert_ends_clean();
        line.gate.open();
        assert_eq!(read(&mut waits).status, 200);
        drop((first, waits));
        line.assert_ends_clean();
    }
}

#[test]
fn http_1_0_gets_them_without_chunks() {
    let line = Line::set(1, "shards = 1", BEAT);
    let first = line.ask("first", "", false);
    line.until_held(1);
    let body = chat("m", true);
    let mut waits = connect(line.gateway.addr);
    let request = format!("POST {CHAT} HTTP/1.0\r\nHost: gw\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    waits.stream().write_all(request.as_bytes()).unwrap();
    let before = until_seen(&mut waits, ": waiting\n\n", 2);
    assert_stream(&before);
    let (head, content) = before.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    assert!(content.starts_with(": waiting\n\n"), "{content:?}");
    line.gate.open();
    let rest = raw(&mut waits);
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest:?}");
    drop((first, waits));
    line.assert_ends_clean();
}

#[test]
fn http_2_gets_them_as_data() {
    let certificate = Certificate::new();
    let line = Line::set(1, "shards = 1", &format!("{BEAT}{}", certificate.table()));
    let first = line.ask("first", "", false);
    line.until_held(1);
    let mut client = certificate.shaken(line.gateway.tls.unwrap());
    client.start(&[]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let body = chat("m", true);
    let length = body.len().to_string();
    let fields = [("content-type", "application/json"), ("content-length", length.as_str())];
    let stream = client.open("POST", CHAT, &fields, false).unwrap();
    client.send_body(stream, body.as_bytes(), deadline).unwrap();
    let beats = |client: &H2| {
        client.so_far(stream).map_or(0, |answer: &h2::Answer| answer.text().matches(": waiting\n\n").count())
    };
    while beats(&client) < 2 {
        client.event(deadline).expect("comments");
    }
    line.gate.open();
    let answer = client.answer(stream, deadline).expect("the whole stream");
    assert_eq!((answer.status, answer.reset), (200, None));
    assert!(answer.text().starts_with(": waiting\n\n"), "{}", answer.text());
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    drop((first, client));
    line.assert_ends_clean();
}

/// A failure that the client is told of when comments have gone out already.
fn fails_late(path: &str, rest: &str, prompt: &str) -> String {
    let line = Line::set(1, "shards = 1", rest);
    let first = line.ask("first", "", false);
    line.until_held(1);
    let body = chat("m", true).replace("hi", prompt).replace("\"stream\"", "\"max_tokens\":9,\"stream\"");
    let mut waits = posted(line.gateway.addr, path, "", &body);
    let before = until_seen(&mut waits, ": waiting\n\n", 1);
    if rest.contains("[guard]") {
        line.gate.let_pass(1); // so that it gets in, and is read
    }
    let text = before + &raw(&mut waits);
    assert_stream(&text);
    assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{text}");
    assert!(!text.ends_with("0\r\n\r\n"), "a cut stream has no proper end: {text}");
    assert_eq!(marks(&line.journal).len(), 1);
    drop((first, waits));
    line.assert_ends_clean();
    assert_eq!(value(&line.gateway, "corelane_requests_total{model=\"m\",status=\"502\"}") as usize, 1);
    text
}

#[test]
fn a_late_failure_is_an_event() {
    let rest = "[queue]\nheartbeat = \"100ms\"\ntimeout = \"400ms\"\n";
    let text = fails_late(CHAT, rest, "hi");
    let event = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("an event");
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["error"]["code"], "overloaded", "{event}");
}

/// The sim speaks Anthropic's dialect; it holds the one slot by its load.
#[test]
fn a_late_failure_in_anthropics_words() {
    let options = vec![Options { load_time: Duration::from_secs(3), slots: 1, ..Options::default() }];
    let rest = "[queue]\nheartbeat = \"100ms\"\n[timeouts]\nfirst_byte = \"500ms\"\n[retry]\nattempts = 1\n";
    let fleet = Fleet::start(options, "shards = 1", rest).ready();
    let body = json!({"model": "llama3.2", "max_tokens": 9, "stream": true,
        "messages": [{"role": "user", "content": "hi"}]});
    let mut reader = posted(fleet.gateway.addr, "/v1/messages", "", &body.to_string());
    let text = raw(&mut reader);
    assert_stream(&text);
    assert!(text.contains(": waiting\n\n"), "{text}");
    assert!(text.contains("event: error\ndata: {\"type\":\"error\""), "{text}");
    assert!(!text.contains("message_stop") && !text.contains("[DONE]"), "{text}");
    drop(reader);
    assert_gauges_zero(&fleet.gateway);
}

#[test]
fn who_leaves_between_two_comments_is_forgotten() {
    let line = Line::set(1, "shards = 1", BEAT);
    let first = line.ask("first", "", false);
    line.until_held(1);
    let mut waits = line.ask("left", "", true);
    until_seen(&mut waits, ": waiting\n\n", 1);
    drop(waits);
    until_waiting(&line.gateway, 0);
    drop(first);
    line.assert_ends_clean();
    assert_eq!(marks(&line.journal), ["first"]);
}

/// What the guard finds in a request that has waited for its turn.
#[test]
fn the_guard_still_blocks() {
    let guard = "[guard]\n[guard.input]\nscanners = [\"BanSubstrings\"]\n[guard.output]\nscanners = []\n\
                 [guard.scanner.BanSubstrings]\nsubstrings = [\"moonlight\"]\n";
    let line = Line::set(0, "shards = 1\nmax_concurrent_requests = 1", &format!("{BEAT}{guard}"));
    let first = line.ask("first", "", false);
    line.until_held(1);
    let body = chat("m", true).replace("hi", "moonlight");
    let mut waits = posted(line.gateway.addr, CHAT, "Connection: close\r\n", &body);
    let before = until_seen(&mut waits, ": waiting\n\n", 1);
    line.gate.let_pass(1);
    let text = before + &raw(&mut waits);
    assert!(text.contains("prompt_blocked") && !text.contains("[DONE]"), "{text}");
    assert_eq!(marks(&line.journal), ["first"]);
    drop((first, waits));
    line.assert_ends_clean();
}

/// The stream of another model goes on behind the comments.
#[test]
fn a_fallback_behind_comments() {
    use super::scripted::{Journal, config, death, good};
    let journal = Journal::default();
    let bad = journal.server("bad", |_| {
        std::thread::sleep(Duration::from_millis(400));
        death()
    });
    let well = journal.server("well", good);
    let rest = format!(
        "{BEAT}[retry]\nattempts = 1\n{}{}",
        model("m", &["bad"], "fallbacks = [\"n\"]"),
        model("n", &["well"], "")
    );
    let gateway = super::Gateway::start(&config(&[("bad", bad), ("well", well)], "shards = 1", &rest));
    let mut reader = posted(gateway.addr, CHAT, "Connection: close\r\n", &chat("m", true));
    let text = raw(&mut reader);
    assert_stream(&text);
    assert!(text.contains(": waiting") && text.contains("[DONE]"), "{text}");
    assert!(text.contains("\"model\":\"n\"") && !text.contains("\"model\":\"m\""), "{text}");
    until("both were asked", || (journal.len() == 2).then_some(()));
    drop(reader);
    assert_gauges_zero(&gateway);
}
