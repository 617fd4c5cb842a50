//! Promise: an answer is given again only to a request that is equal in all that can change it, byte for byte as it was, for as
//! long as everybody agreed to; requests that are equal at the same time ask the model once; and nobody gets less than without
//! a cache.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

#[path = "cache/equal.rs"]
mod equal;
#[path = "cache/flights.rs"]
mod flights;
#[path = "cache/kept.rs"]
mod kept;
#[path = "cache/redis.rs"]
mod redis;
#[path = "redis/server.rs"]
#[allow(dead_code)]
mod server;
mod support;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::Gateway;
use support::answer::Answer;
use support::fleet::connect;
use support::upstream::{Record, Reply, Then, Upstream, plain};

const CHAT: &str = "/v1/chat/completions";

/// An endpoint whose every answer is another one, and a gateway with a cache before it.
struct Stand {
    gateway: Gateway,
    asked: Arc<AtomicUsize>,
    upstream: Upstream,
}

impl Stand {
    /// `cache`: more of `[cache]`; `rest`: the end of the file.
    fn new(cache: &str, rest: &str) -> Self {
        Self::answering(cache, rest, |number, _| numbered(number))
    }

    /// With answers of its own; they are told how many were asked for before.
    fn answering(
        cache: &str,
        rest: &str,
        reply: impl Fn(usize, &Record) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let upstream = Upstream::start("127.0.0.1:0".parse().unwrap(), move |record| {
            reply(counted.fetch_add(1, Ordering::SeqCst), record)
        });
        let gateway = Gateway::start(&configuration(&upstream, cache, rest));
        Self { gateway, asked, upstream }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn chat(&self, body: &Value) -> Answer {
        self.post(CHAT, "", body)
    }

    /// POSTs with more header lines.
    fn post(&self, path: &str, lines: &str, body: &Value) -> Answer {
        ask(&self.gateway, path, lines, &body.to_string())
    }

    /// Posts and says what the cache did.
    fn used(&self, lines: &str, body: &Value) -> String {
        let answer = self.post(CHAT, lines, body);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.field("x-corelane-cache").unwrap_or("none").to_owned()
    }
}

fn configuration(upstream: &Upstream, cache: &str, rest: &str) -> String {
    let store = if cache.contains("store =") { "" } else { "store = \"memory\"\n" };
    let log = if rest.contains("[log]") { "" } else { "[log]\naccess = \"off\"\n" };
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\nshards = 2\n\
         [health]\nenabled = false\n{log}[cache]\n{store}{cache}\n[[endpoints]]\nname = \"e\"\n\
         url = \"http://{}\"\nkind = \"openai\"\n{rest}",
        upstream.addr
    )
}

fn ask(gateway: &Gateway, path: &str, lines: &str, body: &str) -> Answer {
    let mut reader = connect(gateway.addr);
    let length = body.len();
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: gw\r\n{lines}Content-Length: {length}\r\n\r\n{body}");
    reader.stream().write_all(request.as_bytes()).unwrap();
    reader.answer(false, Instant::now() + Duration::from_secs(20)).expect("an answer")
}

fn hi() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
}

/// The same with one more member, or another one.
fn with(body: &Value, name: &str, value: Value) -> Value {
    let mut body = body.clone();
    body[name] = value;
    body
}

fn completion(text: &str) -> Value {
    json!({
        "id": text, "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    })
}

fn numbered(number: usize) -> Reply {
    Reply { writes: vec![plain(&completion(&format!("answer {number}")).to_string())], then: Then::Keep }
}

/// A stream of these texts, a write each, about 5 ms apart; `done`: it comes to its end.
fn streamed(texts: &[String], done: bool) -> Reply {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut writes = vec![head.as_bytes().to_vec()];
    let event = |data: &str| {
        let event = format!("data: {data}\n\n");
        format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
    };
    for text in texts {
        let delta = json!({"id": "s", "object": "chat.completion.chunk", "model": "m",
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
        writes.push(event(&delta.to_string()));
    }
    if done {
        let last =
            json!({"id": "s", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
        writes.push(event(&last.to_string()));
        let usage = json!({"id": "s", "model": "m", "choices": [],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}});
        writes.push(event(&usage.to_string()));
        writes.push([event("[DONE]"), b"0\r\n\r\n".to_vec()].concat());
    }
    Reply { writes, then: if done { Then::Keep } else { Then::Close } }
}

/// An answer of this status without content to speak of.
fn status(status: u16) -> Reply {
    let body = "{\"error\":{\"message\":\"no\"}}";
    let head = format!(
        "HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Reply { writes: vec![head.into_bytes()], then: Then::Keep }
}

/// What a stream has said, and whether it came to its end.
fn said(answer: &Answer) -> (String, bool) {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let mut all = String::new();
    for data in text.lines().filter_map(|line| line.strip_prefix("data: {")) {
        let event: Value = serde_json::from_str(&format!("{{{data}")).unwrap();
        all.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    (all, text.ends_with("data: [DONE]\n\n"))
}
