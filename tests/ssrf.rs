//! Promise: only configured endpoints are ever connected to. Nothing in a request chooses an address, a path outside of
//! the API or the `Host` that an endpoint sees; redirects of endpoints are not followed. A canary listener, whose
//! address is put wherever one could be taken from, sees no connection.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::Gateway;
use support::answer::{Answer, Reader};
use support::fleet::{connect, until};
use support::upstream::{Record, Reply, Then, Upstream, echo, plain};

/// A listener that nobody has a reason to connect to.
struct Canary {
    addr: SocketAddr,
    touched: Arc<AtomicUsize>,
}

impl Canary {
    fn start() -> Canary {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, touched) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&touched);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                drop(stream);
            }
        });
        Canary { addr, touched }
    }

    /// Nobody came. A connection of our own goes through first, so that an earlier one has been counted.
    fn assert_untouched(&self) {
        let before = self.touched.load(Ordering::SeqCst);
        let probe = std::net::TcpStream::connect(self.addr).unwrap();
        until("the canary counts", || (self.touched.load(Ordering::SeqCst) > before).then_some(()));
        drop(probe);
        assert_eq!(self.touched.fetch_sub(1, Ordering::SeqCst), 1, "somebody connected to the canary");
    }
}

struct Site {
    gateway: Gateway,
    upstream: Upstream,
    canary: Canary,
}

/// A gateway whose one endpoint answers by `reply`; `health` is the inside of `[health]`.
fn site<F>(health: &str, reply: F) -> Site
where
    F: Fn(&Record, SocketAddr) -> Reply + Send + Sync + 'static,
{
    let canary = Canary::start();
    let address = canary.addr;
    let upstream = Upstream::start("127.0.0.1:0".parse().unwrap(), move |record| reply(record, address));
    let gateway = Gateway::start(&format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\nshards = 1\n[log]\naccess = \"off\"\n\
         [health]\n{health}\n[retry]\nattempts = 2\nbackoff = \"1ms\"\n\
         [[endpoints]]\nname = \"a\"\nurl = \"http://{}\"\nkind = \"openai\"\napi_key = \"file:{}\"\n\
         [[models]]\nname = \"*\"\nendpoints = [\"a\"]\n",
        upstream.addr,
        endpoint_key().display(),
    ));
    Site { gateway, upstream, canary }
}

/// A file with the endpoint's key.
fn endpoint_key() -> std::path::PathBuf {
    let file = std::env::temp_dir().join(format!("corelane-ssrf-{}.key", std::process::id()));
    std::fs::write(&file, "sk-endpoint").unwrap();
    file
}

impl Site {
    fn ask(&self, head: &str, body: &str) -> Answer {
        let mut reader: Reader = connect(self.gateway.addr);
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        reader.stream().write_all(format!("{head}{length}\r\n{body}").as_bytes()).unwrap();
        reader.answer(false, Instant::now() + Duration::from_secs(10)).expect("an answer")
    }

    /// What the endpoint got, each request checked: its own Host, its own key, a path of the API.
    fn seen(&self) -> Vec<Record> {
        let seen: Vec<Record> = self.upstream.records.try_iter().collect();
        for record in &seen {
            let field = |name: &str| {
                record.fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>()
            };
            assert_eq!(record.faults, [""; 0], "{}", record.summary());
            assert_eq!(field("host"), [self.upstream.addr.to_string()], "{}", record.summary());
            assert_eq!(field("authorization"), ["Bearer sk-endpoint"], "{}", record.summary());
            assert!(record.target.starts_with("/v1/"), "{}", record.summary());
            let canary = self.canary.addr.to_string();
            for name in
                ["x-forwarded-host", "forwarded", "referer", "origin", "x-original-url", "x-rewrite-url"]
            {
                assert!(!field(name).iter().any(|value| value.contains(&canary)), "{name} went on");
            }
        }
        seen
    }
}

fn chat_with(members: Value) -> String {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "user": "x"});
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

const POST: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\n";

#[test]
fn no_member_of_a_body_chooses_an_address() {
    let site = site("enabled = false", |record, _| echo(record));
    let addr = site.canary.addr;
    let url = format!("http://{addr}/v1");
    let image = json!([{"role": "user", "content": [
        {"type": "text", "text": format!("fetch {url} please")},
        {"type": "image_url", "image_url": {"url": format!("{url}/cat.png")}},
        {"type": "input_audio", "input_audio": {"data": url, "format": "wav"}},
        {"type": "file", "file": {"file_data": url, "file_id": url}},
    ]}]);
    let mut bodies = vec![chat_with(json!({"messages": image}))];
    for name in [
        "api_base",
        "base_url",
        "url",
        "endpoint",
        "host",
        "api_host",
        "proxy",
        "webhook",
        "callback_url",
        "upstream",
        "custom_llm_provider",
        "target",
        "server",
    ] {
        bodies.push(chat_with(json!({name: url})));
        bodies.push(chat_with(json!({"metadata": {name: url}, "extra_body": {name: url}})));
    }
    bodies.push(chat_with(json!({"api_base": url, "api_key": "sk-theirs", "model": "openai/m"})));
    bodies.push(chat_with(json!({"tools": [{"type": "mcp", "server_url": url, "server_label": "x"}]})));
    for (at, body) in bodies.iter().enumerate() {
        let answer = site.ask(POST, body);
        assert_eq!(answer.status, 200, "{body}");
        assert_eq!(site.seen().len(), 1, "request {at} reached its endpoint once: {body}");
    }
    site.canary.assert_untouched();
    support::assert_gauges_zero(&site.gateway);
}

#[test]
fn no_name_of_a_model_chooses_an_address() {
    let site = site("enabled = false", |record, _| echo(record));
    let addr = site.canary.addr;
    for model in [
        format!("http://{addr}/v1"),
        format!("openai/http://{addr}"),
        format!("{addr}"),
        format!("//{addr}/m"),
        format!("m@{addr}"),
        format!("m\r\nHost: {addr}"),
        format!("../../{addr}"),
        "file:///etc/passwd".to_owned(),
    ] {
        let answer = site.ask(POST, &chat_with(json!({"model": model})));
        assert!([200, 400, 404].contains(&answer.status), "{model}: {}", answer.status);
        for record in site.seen() {
            assert_eq!(record.target, "/v1/chat/completions", "{model}");
        }
        let path = model.replace(' ', "%20").replace("\r\n", "%0d%0a");
        let answer = site.ask(&format!("GET /v1/models/{path} HTTP/1.1\r\nHost: gw\r\n"), "");
        assert!([200, 400, 404].contains(&answer.status), "{model}: {}", answer.status);
        site.seen();
    }
    site.canary.assert_untouched();
}

#[test]
fn no_field_and_no_target_chooses_an_address() {
    let site = site("enabled = false", |record, _| echo(record));
    let addr = site.canary.addr;
    let body = chat_with(json!({}));
    let post = |target: &str, fields: &str| {
        site.ask(&format!("POST {target} HTTP/1.1\r\n{fields}Content-Type: application/json\r\n"), &body)
    };
    let chat = "/v1/chat/completions";
    assert_eq!(post(chat, &format!("Host: {addr}\r\n")).status, 200);
    for name in [
        "X-Forwarded-Host",
        "X-Forwarded-Server",
        "X-Host",
        "X-Original-URL",
        "X-Rewrite-URL",
        "Forwarded",
        "Referer",
        "Origin",
        "Destination",
        "X-Forwarded-For",
        "X-Real-IP",
        "OpenAI-Base-URL",
        "x-litellm-api-base",
        "api-base",
        "Proxy",
        "X-Envoy-Original-Dst-Host",
        "Location",
        "Content-Location",
        "Refresh",
        "Link",
        "Profile",
    ] {
        let answer = post(chat, &format!("Host: gw\r\n{name}: http://{addr}/v1\r\n"));
        assert!([200, 400].contains(&answer.status), "{name}: {}", answer.status);
    }
    // Absolute form: its authority is checked and dropped (RFC 9112 section 3.2.2).
    assert_eq!(post(&format!("http://{addr}{chat}"), &format!("Host: {addr}\r\n")).status, 200);
    for target in [
        format!("https://{addr}{chat}"),
        format!("ftp://{addr}{chat}"),
        format!("http://gw@{addr}{chat}"),
        format!("//{addr}{chat}"),
        format!("{addr}"),
        format!("/v1/../..//{addr}"),
        format!("{chat}@{addr}"),
        format!("{chat}/../../http://{addr}"),
        format!("/v1/chat%2f..%2fhttp:%2f%2f{addr}"),
    ] {
        let answer = post(&target, "Host: gw\r\n");
        assert!([400, 404].contains(&answer.status), "{target}: {}", answer.status);
    }
    assert_eq!(post(&format!("{chat}?api_base=http://{addr}&url=http://{addr}"), "Host: gw\r\n").status, 200);
    let tunnel = site.ask(&format!("CONNECT {addr} HTTP/1.1\r\nHost: {addr}\r\n"), "");
    assert!((400..=501).contains(&tunnel.status), "CONNECT: {}", tunnel.status);
    let seen = site.seen();
    assert!(seen.len() >= 4);
    assert!(seen.iter().all(|record| record.target == chat), "{seen:?}");
    site.canary.assert_untouched();
    support::assert_gauges_zero(&site.gateway);
}

fn redirect(status: u16, to: &str) -> Reply {
    let head = format!("HTTP/1.1 {status} Elsewhere\r\nLocation: {to}\r\nContent-Length: 2\r\n\r\n{{}}");
    Reply { writes: vec![head.into_bytes()], then: Then::Keep }
}

#[test]
fn redirects_of_an_endpoint_are_not_followed() {
    let site =
        site("enabled = false", |record, canary| match record.user().and_then(|user| user.parse().ok()) {
            Some(status) => redirect(status, &format!("http://{canary}/v1/chat/completions")),
            None => echo(record),
        });
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        for stream in [false, true] {
            let body = chat_with(json!({"user": status.to_string(), "stream": stream}));
            let answer = site.ask(POST, &body);
            assert_eq!(answer.status, 502, "{status}");
            assert_eq!(answer.field("location"), None, "{status}: the client is not sent there either");
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(!text.contains(&site.canary.addr.to_string()), "{status}: {text}");
        }
    }
    assert_eq!(site.ask(POST, &chat_with(json!({}))).status, 200, "the endpoint is still served");
    site.seen();
    site.canary.assert_untouched();
    support::assert_gauges_zero(&site.gateway);
}

#[test]
fn redirects_of_a_probe_are_not_followed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, away) = (Arc::clone(&asked), Arc::new(AtomicBool::new(true)));
    let astray = Arc::clone(&away);
    let site =
        site("interval = \"50ms\"\ntimeout = \"1s\"\nunhealthy_threshold = 2", move |record, canary| {
            if record.method != "GET" || !astray.load(Ordering::SeqCst) {
                return echo(record);
            }
            count.fetch_add(1, Ordering::SeqCst);
            redirect(302, &format!("http://{canary}{}", record.target))
        });
    until("five probes", || (asked.load(Ordering::SeqCst) >= 5).then_some(()));
    site.seen();
    site.canary.assert_untouched();
    away.store(false, Ordering::SeqCst);
    until("the endpoint is well again", || {
        (site.ask(POST, &chat_with(json!({}))).status == 200).then_some(())
    });
}

/// Addresses in what an endpoint says about its models are words, too.
#[test]
fn what_an_endpoint_lists_chooses_no_address() {
    let site = site("interval = \"50ms\"\ntimeout = \"1s\"", |record, canary| {
        if record.method != "GET" {
            return echo(record);
        }
        let url = format!("http://{canary}");
        let page = json!({"object": "list", "next": url, "data": [
            {"id": url, "object": "model", "root": url, "api_base": url, "url": url},
            {"id": "m", "object": "model", "owned_by": url},
        ]});
        Reply { writes: vec![plain(&page.to_string())], then: Then::Keep }
    });
    let url = format!("http://{}", site.canary.addr);
    until("the list is known", || {
        let answer = site.ask("GET /v1/models HTTP/1.1\r\nHost: gw\r\n", "");
        String::from_utf8_lossy(&answer.body).contains(&url).then_some(())
    });
    let answer = site.ask(POST, &chat_with(json!({"model": url})));
    assert_eq!(answer.status, 200);
    site.seen();
    site.canary.assert_untouched();
}
