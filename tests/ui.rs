//! Promise: `/ui` shows an operator what is going on, and shows it to nobody else. Its numbers are those of the traffic,
//! its failures those that happened, by their request id and without a word of a client or an endpoint; whoever does not
//! read, or is one too many, costs nothing; `corelane top` shows the same. The page itself is tried in a browser.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

#[path = "ui/browser.rs"]
mod browser;
#[path = "ui/page.rs"]
mod page;
mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use corelane::sim::Options;
use serde_json::Value;
use support::answer::Answer;
use support::fleet::{Fleet, configuration, connect, json, model, quick, until};
use support::{Gateway, assert_gauges_zero};

const KEYS: &str = "[[keys]]\nname = \"team-a\"\nsecret = \"sk-canary-secret-of-a\"\n[retry]\nattempts = 1\n";
const TOKEN: &str = "canary-admin-token-77";

/// Asks on a connection of its own; `fields` are whole lines.
fn ask(addr: SocketAddr, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    let mut reader = connect(addr);
    let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\n{fields}{length}\r\n{body}");
    reader.stream().write_all(request.as_bytes()).unwrap();
    reader.answer(method == "HEAD", Instant::now() + Duration::from_secs(20)).expect("an answer")
}

/// A chat with the key of team-a, under this request id.
fn chat(gateway: &Gateway, model: &str, stream: bool, id: &str) -> u16 {
    let fields = format!("Authorization: Bearer sk-canary-secret-of-a\r\nX-Request-Id: {id}\r\n");
    let body = format!(
        r#"{{"model":"{model}","messages":[{{"role":"user","content":"canary words of a client"}}],"stream":{stream}}}"#
    );
    ask(gateway.addr, "POST", "/v1/chat/completions", &fields, &body).status
}

fn live(gateway: &Gateway) -> Value {
    let answer = ask(gateway.admin, "GET", "/ui/live", "", "");
    assert_eq!(answer.status, 200);
    json(&answer)
}

/// Two endpoints; the model `broken` is answered by an error of the second.
fn fleet(options: Vec<Options>, more: &str) -> Fleet {
    let models = model("llama3.2", &["e0", "e1"], "")
        + &model("broken", &["e1"], "upstream_model = \"fault-500\"")
        + &model("cut", &["e1"], "upstream_model = \"fault-cut\"");
    Fleet::start(options, "shards = 2", &format!("{KEYS}{models}{more}")).ready()
}

/// Ten good answers, half of them streams, and five failures.
fn traffic(gateway: &Gateway) {
    for n in 0..10 {
        assert_eq!(chat(gateway, "llama3.2", n % 2 == 0, &format!("good-{n}")), 200);
    }
    assert!(chat(gateway, "broken", false, "r-broken-1") >= 500);
    assert!(chat(gateway, "broken", true, "r-broken-2") >= 500);
    assert_eq!(chat(gateway, "canary-of-no-model", false, "r-unknown"), 404);
    let wrong = "Authorization: Bearer sk-wrong\r\nX-Request-Id: r-unauthorized\r\n";
    assert_eq!(ask(gateway.addr, "POST", "/v1/chat/completions", wrong, "{}").status, 401);
    let broken = "Authorization: Bearer sk-canary-secret-of-a\r\nX-Request-Id: r-no-json\r\n";
    assert_eq!(ask(gateway.addr, "POST", "/v1/chat/completions", broken, "{\"canary\":").status, 400);
    assert_gauges_zero(gateway); // the last one is counted after its answer
}

/// What is in the list under this name.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == name)
        .unwrap_or_else(|| panic!("{name}: {list}"))
}

#[test]
fn the_document_has_the_numbers_of_the_traffic() {
    let fleet = fleet(quick(2), "");
    traffic(&fleet.gateway);
    let live = live(&fleet.gateway);
    assert_eq!((live["requests"].as_u64(), live["errors"].as_u64()), (Some(15), Some(5)), "{live}");
    for of in ["200", "404", "401", "400"] {
        assert_eq!(live["statuses"][of], if of == "200" { 10 } else { 1 }, "{of}: {live}");
    }
    let (requests_s, errors_s) = (live["requests_s"].as_f64().unwrap(), live["errors_s"].as_f64().unwrap());
    assert!(requests_s > 0.0 && (requests_s / errors_s - 3.0).abs() < 0.1, "{live}");
    assert_eq!(live["latency_ms"]["count"], 12);
    assert_eq!(live["first_token_ms"]["count"], 5);
    for of in ["latency_ms", "first_token_ms", "overhead_ms"] {
        let at = |share: &str| live[of][share].as_f64().unwrap_or_else(|| panic!("{of} {share}: {live}"));
        assert!(at("p50") > 0.0 && at("p50") <= at("p95") && at("p95") <= at("p99") && at("p99") < 20_000.0);
    }
    let shards = live["shards"].as_array().unwrap();
    assert!(shards.len() == 2 && shards.iter().all(|shard| shard["exchanges"] == 0));
    let (e0, e1) = (named(&live["endpoints"], "e0"), named(&live["endpoints"], "e1"));
    let rate = |one: &Value, of: &str| one[of].as_f64().unwrap();
    assert!(
        rate(e0, "success_s") > 0.0 && rate(e0, "failure_s") == 0.0 && rate(e1, "failure_s") > 0.0,
        "{live}"
    );
    let seconds = live["rate_s"].as_f64().unwrap();
    let good = (rate(e0, "success_s") + rate(e1, "success_s")) * seconds;
    assert!((good - 10.0).abs() < 0.1, "{good}");
    assert_eq!(
        (&e0["health"], &e0["breaker"]["state"], &e0["disabled"]),
        (&"healthy".into(), &"closed".into(), &false.into())
    );
    let llama = named(&live["models"], "llama3.2");
    assert_eq!((llama["requests"].as_u64(), llama["tokens_output"].as_u64()), (Some(10), Some(80)), "{live}");
    assert!(rate(llama, "requests_s") > 0.0 && rate(llama, "error_share") == 0.0);
    assert_eq!(rate(named(&live["models"], "broken"), "error_share"), 1.0);
    assert_eq!(live["keys"][0]["name"], "team-a");
    fleet.assert_quiet();
}

#[test]
fn failures_are_listed_without_a_word_of_client_or_endpoint() {
    let fleet = fleet(quick(2), "");
    traffic(&fleet.gateway);
    let _ = support::fleet::try_post(fleet.gateway.addr, "/v1/models/x", ""); // no request id of its own
    assert_gauges_zero(&fleet.gateway);
    {
        let mut reader = connect(fleet.gateway.addr);
        let body = r#"{"model":"cut","messages":[{"role":"user","content":"canary"}],"stream":true}"#;
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer sk-canary-secret-of-a\r\n\
             X-Request-Id: r-cut\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        reader.stream().write_all(request.as_bytes()).unwrap();
        let _ = reader.answer(false, Instant::now() + Duration::from_secs(10));
    }
    let document = until("the broken stream is listed", || {
        let live = live(&fleet.gateway);
        live["failures"].as_array().unwrap().iter().any(|one| one["request_id"] == "r-cut").then_some(live)
    });
    let failures = document["failures"].as_array().unwrap();
    let of = |id: &str| {
        failures.iter().find(|one| one["request_id"] == id).unwrap_or_else(|| panic!("{id}: {document}"))
    };
    assert!(!failures.iter().any(|one| one["request_id"].as_str().unwrap().starts_with("good")));
    assert_eq!(failures[0]["request_id"], "r-cut", "the newest first");
    let cut = of("r-cut");
    assert_eq!(
        (&cut["status"], &cut["model"], &cut["endpoint"], &cut["key"]),
        (&502.into(), &"cut".into(), &"e1".into(), &"team-a".into())
    );
    assert!(!cut["error"].as_str().unwrap().is_empty());
    let broken = of("r-broken-1");
    assert_eq!(broken["error"], "The endpoint answered 500.");
    let unknown = of("r-unknown");
    assert_eq!((&unknown["model"], &unknown["error"]), (&Value::Null, &"The model is not known.".into()));
    let refused = of("r-unauthorized");
    assert_eq!((&refused["status"], &refused["key"]), (&401.into(), &Value::Null));
    assert_eq!(of("r-no-json")["status"], 400);
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!(now_ms.abs_diff(u128::from(broken["time_ms"].as_u64().unwrap())) < 60_000);
    for words in ["canary", "sk-wrong", "words of a client"] {
        assert!(!document.to_string().contains(words), "{words}: {document}");
    }
    // More than the ring holds: the oldest are gone, the rest is there.
    for n in 0..140 {
        assert_eq!(chat(&fleet.gateway, "none", false, &format!("more-{n}")), 404);
    }
    let more = until("the last of them", || {
        let failures = live(&fleet.gateway)["failures"].as_array().unwrap().clone();
        failures.iter().any(|one| one["request_id"] == "more-139").then_some(failures)
    });
    assert_eq!(more.len(), 128);
    assert!(more.iter().all(|one| one["request_id"].as_str().unwrap().starts_with("more-")), "{more:?}");
    fleet.assert_quiet();
}

#[test]
fn what_runs_and_what_is_disabled_shows() {
    let slow = Options { token_interval: Duration::from_millis(50), tokens: 600, ..quick(1).remove(0) };
    let fleet = Fleet::start(vec![slow], "shards = 2", "").ready();
    let gateway = &fleet.gateway;
    let mut reader = connect(gateway.addr);
    support::fleet::send(&mut reader, "/v1/chat/completions", &support::fleet::chat("llama3.2", true));
    reader.head(Instant::now() + Duration::from_secs(10)).expect("a stream");
    let of = |live: &Value, field: &str| -> u64 {
        live["shards"].as_array().unwrap().iter().map(|shard| shard[field].as_u64().unwrap()).sum()
    };
    until("the stream shows", || {
        let live = live(gateway);
        let shown = of(&live, "exchanges") == 1 && of(&live, "streams") == 1;
        let shown = shown && live["endpoints"][0]["in_flight"] == 1;
        (shown && live["exchanges"] == 1 && live["connections"].as_u64() >= Some(1)).then_some(())
    });
    let (_, _, status) = support::get(gateway.admin, "/status");
    assert_eq!(of(&serde_json::from_slice(&status).unwrap(), "streams"), 1);
    assert_eq!(ask(gateway.admin, "POST", "/endpoints/e0/disable", "", "").status, 200);
    until("disabled shows", || (live(gateway)["endpoints"][0]["disabled"] == true).then_some(()));
    assert_eq!(ask(gateway.admin, "POST", "/endpoints/e0/enable", "", "").status, 200);
    until("enabled shows", || (live(gateway)["endpoints"][0]["disabled"] == false).then_some(()));
    drop(reader);
    until("all is zero again", || {
        let live = live(gateway);
        let zero = of(&live, "exchanges") == 0 && of(&live, "streams") == 0;
        (zero && live["endpoints"][0]["in_flight"] == 0).then_some(())
    });
    fleet.assert_quiet();
}

/// A stream of documents.
struct Watch(BufReader<TcpStream>);

impl Watch {
    /// The status, and what follows the head.
    fn start(stream: TcpStream, admin: SocketAddr, fields: &str) -> (u16, Watch) {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut watch = Watch(BufReader::new(stream));
        let request = format!("GET /ui/events HTTP/1.1\r\nHost: {admin}\r\n{fields}\r\n");
        watch.0.get_mut().write_all(request.as_bytes()).unwrap();
        let head: Vec<String> = std::iter::from_fn(|| watch.line().filter(|line| !line.is_empty())).collect();
        let status = head.first().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
        if status == 200 {
            assert!(head.iter().any(|line| line == "content-type: text/event-stream"), "{head:?}");
            assert!(head.iter().any(|line| line == "cache-control: no-store"), "{head:?}");
        }
        (status, watch)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The next document; `None`: the stream has ended.
    fn next(&mut self) -> Option<Value> {
        loop {
            let line = self.line()?;
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
            assert!(line.is_empty() || line.starts_with(':'), "{line}");
        }
    }
}

fn watch(admin: SocketAddr) -> (u16, Watch) {
    Watch::start(TcpStream::connect(admin).unwrap(), admin, "")
}

#[test]
fn a_document_comes_every_second_to_some_dozens_and_no_more() {
    let fleet = fleet(quick(2), "");
    let admin = fleet.gateway.admin;
    let (status, mut first) = watch(admin);
    assert_eq!(status, 200);
    let begin = Instant::now();
    let times: Vec<u64> =
        (0..4).map(|_| first.next().expect("a document")["time_ms"].as_u64().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    assert!(begin.elapsed() > Duration::from_millis(1500), "not faster than a second: {:?}", begin.elapsed());
    assert_eq!(chat(&fleet.gateway, "llama3.2", false, "x"), 200);
    let seen = (0..5).map(|_| first.next().unwrap()).find(|live| live["requests_s"].as_f64() > Some(0.0));
    assert_eq!(seen.expect("the request is in a document")["models"][0]["name"], "llama3.2");
    let mut others: Vec<Watch> = (0..31)
        .map(|n| {
            let (status, watch) = watch(admin);
            assert_eq!(status, 200, "{n}");
            watch
        })
        .collect();
    assert_eq!(watch(admin).0, 503);
    until("all are counted", || (live(&fleet.gateway)["watchers"] == 32).then_some(()));
    assert!(others[30].next().is_some());
    drop(first);
    until("a place is free again", || (watch(admin).0 == 200).then_some(()));
    drop(others);
    until("nobody watches", || (live(&fleet.gateway)["watchers"] == 0).then_some(()));
    for (method, path) in
        [("POST", "/ui/events"), ("HEAD", "/ui/events"), ("POST", "/ui/live"), ("POST", "/ui")]
    {
        assert_eq!(ask(admin, method, path, "", "").status, 405, "{method} {path}");
    }
    fleet.assert_quiet();
}

#[test]
fn a_reader_that_does_not_read_is_cut() {
    let addresses: Vec<SocketAddr> = vec!["127.0.0.1:9".parse().unwrap(); 120];
    let gateway = Gateway::start(&configuration(&addresses, "shards = 1", ""));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.connect(&gateway.admin.into()).unwrap();
    let (status, mut deaf) = Watch::start(socket.into(), gateway.admin, "");
    assert_eq!(status, 200);
    let begin = Instant::now();
    let deadline = begin + Duration::from_secs(40);
    while live(&gateway)["watchers"] != 0 {
        assert!(Instant::now() < deadline, "it is still there");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(begin.elapsed() > Duration::from_secs(2), "it had some time: {:?}", begin.elapsed());
    let mut rest = 0;
    while let Some(line) = deaf.line() {
        rest += line.len();
    }
    assert!(rest < 1 << 20, "what waited for it was bounded: {rest}");
    assert_gauges_zero(&gateway);
}

#[test]
fn a_drain_is_told_and_ends_the_stream() {
    let slow = Options { token_interval: Duration::from_millis(50), tokens: 2000, ..quick(1).remove(0) };
    let fleet = Fleet::start(vec![slow], "shards = 1", "").ready();
    let mut reader = connect(fleet.gateway.addr);
    support::fleet::send(&mut reader, "/v1/chat/completions", &support::fleet::chat("llama3.2", true));
    reader.head(Instant::now() + Duration::from_secs(10)).expect("a stream");
    let (status, mut watcher) = watch(fleet.gateway.admin);
    assert_eq!((status, &watcher.next().unwrap()["draining"]), (200, &false.into()));
    assert_eq!(ask(fleet.gateway.admin, "POST", "/drain", "", "").status, 202);
    let mut last = Value::Null;
    while let Some(live) = watcher.next() {
        last = live;
    }
    assert_eq!(last["draining"], true, "the last word");
    assert_eq!(watch(fleet.gateway.admin).0, 503, "no new one while it drains");
    assert_eq!(live(&fleet.gateway)["draining"], true, "but one document");
}

#[test]
fn the_token_opens_the_numbers_and_the_page_needs_none() {
    let server = format!("shards = 1\nadmin_token = \"{TOKEN}\"");
    let gateway = Gateway::start(&configuration(&["127.0.0.1:9".parse().unwrap()], &server, ""));
    let admin = gateway.admin;
    for path in ["/ui", "/ui/", "/ui/page.css", "/ui/page.js", "/ui/show.js", "/ui/icon.svg"] {
        let answer = ask(admin, "GET", path, "", "");
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.field("content-security-policy").expect("a policy");
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe") && !policy.contains("http")
        );
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        let text = String::from_utf8(answer.body).unwrap().replace("http://www.w3.org/2000/svg", "");
        assert!(
            !text.contains("http://") && !text.contains("https://") && !text.contains("innerHTML"),
            "{path}"
        );
        assert!(!text.contains(TOKEN) && ask(admin, "HEAD", path, "", "").status == 200);
    }
    assert_eq!(ask(admin, "GET", "/ui", "", "").field("content-type"), Some("text/html; charset=utf-8"));
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for fields in [String::new(), bearer("wrong"), bearer(""), format!("Cookie: token={TOKEN}\r\n")] {
        for path in ["/ui/live", "/ui/events", "/ui/none"] {
            assert_eq!(ask(admin, "GET", path, &fields, "").status, 401, "{path} {fields}");
        }
        assert_eq!(ask(admin, "POST", "/ui", &fields, "").status, 401);
    }
    assert_eq!(ask(admin, "GET", &format!("/ui/live?token={TOKEN}"), "", "").status, 401);
    assert_eq!(ask(admin, "GET", "/ui/live", &bearer(TOKEN), "").status, 200);
    let (status, mut watcher) = Watch::start(TcpStream::connect(admin).unwrap(), admin, &bearer(TOKEN));
    assert_eq!(status, 200);
    assert!(!watcher.next().unwrap().to_string().contains(TOKEN));
    assert!(!gateway.log().contains(TOKEN));
}

fn top(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_corelane")).arg("top").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn top_shows_the_same_in_a_terminal() {
    let fleet = fleet(quick(2), "");
    traffic(&fleet.gateway);
    let admin = fleet.gateway.admin.to_string();
    let (code, shown, told) = top(&["--once", "--admin", &admin]);
    assert_eq!(code, Some(0), "{told}");
    let has = |parts: &[&str]| shown.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(!shown.contains('\u{1b}') && shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(has(&["e0", "healthy", "closed", "yes"]) && has(&["e1"]), "{shown}");
    assert!(has(&["llama3.2", "80"]) && has(&["team-a"]) && has(&["Latency", "12"]), "{shown}");
    assert!(has(&["500", "e1", "r-broken-1"]), "{shown}");
    let rate = shown.split(" requests/s").next().and_then(|text| text.split_whitespace().last());
    assert!(rate.and_then(|rate| rate.parse::<f64>().ok()).unwrap() > 0.0, "{shown}");
    let config = fleet.gateway.config_path().display().to_string();
    assert_eq!(top(&["-c", &config, "--admin", &admin]).0, Some(0), "a pipe gets one picture");
    let (code, _, told) = top(&["--once", "--admin", "127.0.0.1:9"]);
    assert!(code == Some(1) && told.contains("no gateway answers on 127.0.0.1:9"), "{told}");
    fleet.assert_quiet();
}
