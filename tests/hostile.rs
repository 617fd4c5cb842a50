//! Promise: thousands of clients that dawdle or never read take a few kilobytes each, no endpoint, and no time of the
//! others, and are cut at their limits; each size limit is exact, is told by its own status as soon as it is passed,
//! and leaves the connection in a known state.
//!
//! `scripts/hostile` measures the same with ten thousand clients of each sort.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout
)] // test code

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use corelane::sim::Options;
use support::answer::{Ending, Reader};
use support::fleet::{Fleet, chat, configuration, connect, model, post, quick, until};
use support::upstream::{Record, Reply, Then, Upstream, echo, plain};
use support::{Gateway, assert_gauges_zero, metrics};

/// Hostile clients of one sort.
const CLIENTS: usize = 2000;
/// What each may cost, in bytes of resident memory: one that has no whole head yet, one that has, and one whose answer
/// has begun. The last is not yet what it should be: the buffers of an exchange's beginning stay with the allocator.
const BYTES_EACH: usize = 8 * 1024;
const BYTES_EACH_BODY: usize = 9 * 1024;
const BYTES_EACH_STREAM: usize = 40 * 1024;

/// Resident size in bytes.
fn resident(gateway: &Gateway) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// The sum of a metric over its samples.
fn sum(gateway: &Gateway, name: &str) -> f64 {
    let page = metrics(gateway);
    let samples = page.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
    });
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// `n` connections on which `bytes` have been written.
fn crowd(gateway: &Gateway, n: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let join = |_| {
        let mut stream = TcpStream::connect(gateway.addr).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    (0..n).map(join).collect()
}

/// 99th percentile of the time that clean requests take, in milliseconds; each must succeed.
fn clean(gateway: &Gateway, n: usize) -> f64 {
    let mut reader = connect(gateway.addr);
    let body = chat("m", false);
    let mut times: Vec<f64> = (0..n)
        .map(|_| {
            let began = Instant::now();
            support::fleet::send(&mut reader, "/v1/chat/completions", &body);
            let answer = reader.answer(false, began + Duration::from_secs(10)).expect("a clean answer");
            assert_eq!(answer.status, 200);
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() * 99 / 100]
}

/// A gateway, and the size it has once it has served requests of every sort.
fn warm(fleet: Fleet) -> (Fleet, usize) {
    clean(&fleet.gateway, 200);
    let idle = crowd(&fleet.gateway, 200, b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
    until("they are served", || (sum(&fleet.gateway, "corelane_client_connections") >= 200.0).then_some(()));
    drop(idle);
    fleet.assert_quiet();
    let size = resident(&fleet.gateway);
    (fleet, size)
}

/// What each client costs once the size has been the same for a third of a second: memory is given back when
/// connections have been silent for a while. It is looked at for two seconds at most.
fn settled(gateway: &Gateway, before: usize, clients: usize) -> usize {
    let (deadline, mut same, mut last) = (Instant::now() + Duration::from_secs(2), 0, 0);
    while same < 16 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        let now = resident(gateway);
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last.saturating_sub(before) / clients
}

fn server(more: &str) -> String {
    format!("shards = 1\nmax_concurrent_requests = 100000\nmax_connections = 100000\n{more}")
}

fn models() -> String {
    model("m", &["e0"], "upstream_model = \"llama3.2\"")
}

/// Two thousand clients that have sent `bytes` are there; `limit` is what cuts them.
fn dawdlers(what: &str, bytes: &[u8], limit: &str, each_max: usize) {
    let limits = format!("head_timeout = \"{limit}\"\nbody_timeout = \"{limit}\"\nkeep_alive = \"{limit}\"");
    let (fleet, before) = warm(Fleet::start(quick(1), &server(&limits), &models()).ready());
    let gateway = &fleet.gateway;
    let unloaded = clean(gateway, 300);
    let asked = fleet.shares()[0];
    let began = Instant::now();
    let mut crowd = crowd(gateway, CLIENTS, bytes);
    let last = Instant::now();
    until("all are in", || (sum(gateway, "corelane_client_connections") >= CLIENTS as f64).then_some(()));
    let each = settled(gateway, before, CLIENTS);
    let held = sum(gateway, "corelane_endpoint_in_flight");
    let p99 = clean(gateway, 300);
    let early = sum(gateway, "corelane_client_connections");
    println!("{CLIENTS} {what}: {each} bytes each, p99 of others {p99:.2} ms (unloaded {unloaded:.2} ms)");
    assert!(
        began.elapsed() > Duration::from_secs(3) || early >= CLIENTS as f64,
        "{what}: cut before the limit"
    );
    for stream in &mut crowd {
        let mut told = Vec::new();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _ = stream.read_to_end(&mut told); // to the end of the gateway's side
        let told = String::from_utf8_lossy(&told);
        let status = told.get(9..12).unwrap_or_default();
        assert_eq!(status, if bytes.is_empty() { "" } else { "408" }, "{what}: {told}");
    }
    let cut = last.elapsed().as_secs_f64();
    println!("{CLIENTS} {what}: the last one was cut {cut:.1} s after it came, at a limit of {limit}");
    assert_eq!(fleet.shares()[0], asked + 300, "{what}: an endpoint was asked for an unfinished request");
    assert!(held == 0.0, "{what}: an endpoint was held");
    assert!(each <= each_max, "{what}: {each} bytes each");
    drop(crowd);
    fleet.assert_quiet();
}

#[test]
fn slow_heads_are_cheap_and_cut() {
    dawdlers("slow heads", b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: ", "3s", BYTES_EACH);
}

#[test]
fn connections_that_say_nothing_are_cheap_and_cut() {
    dawdlers("silent connections", b"", "3s", BYTES_EACH);
}

#[test]
fn slow_bodies_are_cheap_and_cut() {
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n{\"model\":\"m\"";
    dawdlers("slow bodies", head.as_bytes(), "3s", BYTES_EACH_BODY);
}

#[test]
fn slow_chunked_bodies_are_cheap_and_cut() {
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n{\"model\"";
    dawdlers("slow chunked bodies", head.as_bytes(), "3s", BYTES_EACH_BODY);
}

/// A server whose streams have no pauses and no end that matters.
fn flood() -> Vec<Options> {
    vec![Options {
        slots: 100_000,
        tokens: 2_000_000,
        token_text: " a longer token than most".to_owned(),
        ..Options::default()
    }]
}

/// `n` requests on connections that take little and are never read.
fn deaf(gateway: &Gateway, n: usize, body: &str) -> Vec<TcpStream> {
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let join = |_| {
        let mut stream = TcpStream::connect(gateway.addr).unwrap();
        socket2::SockRef::from(&stream).set_recv_buffer_size(4096).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    (0..n).map(join).collect()
}

#[test]
fn readers_that_stop_inside_a_stream_are_cheap_and_cut() {
    const READERS: usize = 500;
    let rest = format!("{}{}", models(), model("quick", &["e1"], "upstream_model = \"llama3.2\""));
    let options = flood().into_iter().chain(quick(1)).collect();
    let fleet = Fleet::start(options, &server("write_timeout = \"4s\""), &rest).ready();
    let gateway = &fleet.gateway;
    assert_eq!(post(gateway.addr, "/v1/chat/completions", &chat("quick", false)).status, 200);
    let before = resident(gateway);
    let stalled = deaf(gateway, READERS, &chat("m", true));
    until("all run", || (sum(gateway, "corelane_endpoint_in_flight") >= READERS as f64).then_some(()));
    let sent = || fleet.servers[0].stats.tokens_sent.load(std::sync::atomic::Ordering::Relaxed);
    let mut last = (Instant::now(), sent());
    until("all have stalled", || {
        if last.1 != sent() {
            last = (Instant::now(), sent());
        }
        (last.0.elapsed() > Duration::from_millis(300)).then_some(())
    });
    let each = settled(gateway, before, READERS);
    println!("{READERS} readers that stopped inside a stream: {each} bytes each");
    assert_eq!(post(gateway.addr, "/v1/chat/completions", &chat("quick", false)).status, 200);
    until("all are cut", || (sum(gateway, "corelane_client_connections") == 0.0).then_some(()));
    fleet.assert_quiet(); // although they are all still connected on this side
    drop(stalled);
    assert!(each <= BYTES_EACH_STREAM, "{each} bytes each");
}

/// A whole answer is held until it is taken; `buffered_bytes_max` bounds all of them together, and who finds no room
/// is told so.
#[test]
fn readers_that_never_take_a_whole_answer_are_bounded_and_cut() {
    const READERS: usize = 600;
    const HELD: usize = 32 << 20;
    const ANSWER: usize = 4 << 20; // more than the kernel takes off our hands
    let body = format!(
        r#"{{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}]}}"#,
        "x".repeat(ANSWER)
    );
    let reply = move |_: &Record| Reply { writes: vec![plain(&body)], then: Then::Keep };
    let upstream = Upstream::start("127.0.0.1:0".parse().unwrap(), reply);
    let bounds = format!(
        "write_timeout = \"2s\"\nbuffered_bytes_max = {HELD}\nanswer_bytes_max = {HELD}\nbody_bytes_max = {HELD}"
    );
    let rest = format!("[health]\nenabled = false\n{}", model("m", &["e0"], ""));
    let gateway = Gateway::start(&configuration(&[upstream.addr], &server(&bounds), &rest));
    assert_eq!(post(gateway.addr, "/v1/chat/completions", &chat("m", false)).status, 200);
    let before = resident(&gateway);
    let stalled = deaf(&gateway, READERS, &chat("m", false));
    let mut most = 0;
    until("no room is left", || {
        most = most.max(resident(&gateway).saturating_sub(before));
        (sum(&gateway, "corelane_buffered_bytes") + ANSWER as f64 > HELD as f64).then_some(())
    });
    until("all are answered or cut", || {
        most = most.max(resident(&gateway).saturating_sub(before));
        (sum(&gateway, "corelane_exchanges_in_flight") == 0.0).then_some(())
    });
    println!(
        "{READERS} readers of {ANSWER} bytes: at most {} KiB in all, bound {} KiB",
        most / 1024,
        HELD / 1024
    );
    // Beside what is held: one answer put together anew at a time, and each connection's own.
    assert!(most <= 2 * HELD + 2 * ANSWER + READERS * BYTES_EACH, "{most}");
    drop(stalled);
    assert_gauges_zero(&gateway);
}

// --- Limits, to the byte.

/// What came of a request: the status, and whether the connection served another one behind it.
fn outcome(gateway: &Gateway, request: &[u8]) -> (u16, bool) {
    let mut reader = connect(gateway.addr);
    let _ = reader.stream().write_all(request);
    let answer = reader.answer(false, Instant::now() + Duration::from_secs(10)).expect("an answer");
    let closes = answer.field("connection") == Some("close");
    if closes {
        assert_eq!(reader.ending(Duration::from_secs(5)), Ending::Closed, "status {}", answer.status);
        return (answer.status, false);
    }
    reader.stream().write_all(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let next = reader.answer(false, Instant::now() + Duration::from_secs(10)).expect("a second answer");
    assert_eq!(next.status, 200);
    (answer.status, true)
}

/// A GET of exactly this many bytes, its fields none above 8000 bytes.
fn head_of(bytes: usize) -> Vec<u8> {
    let mut head = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n".to_vec();
    while bytes - head.len() > 2 {
        let left = bytes - head.len() - 2;
        // A field takes at least 5 bytes; nothing shorter may remain.
        let line = if left > 8000 { 4000 } else { left };
        head.extend_from_slice(format!("a: {}\r\n", "x".repeat(line - 5)).as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    assert_eq!(head.len(), bytes);
    head
}

fn limits_site(server: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start("127.0.0.1:0".parse().unwrap(), echo);
    let rest = format!("[health]\nenabled = false\n{}", model("m", &["e0"], ""));
    (Gateway::start(&configuration(&[upstream.addr], &format!("shards = 1\n{server}"), &rest)), upstream)
}

#[test]
fn limits_of_heads_are_exact() {
    let (gateway, upstream) = limits_site("");
    for (bytes, want) in [(32_767, 200), (32_768, 200), (32_769, 431), (40_000, 431)] {
        assert_eq!(outcome(&gateway, &head_of(bytes)), (want, want == 200), "a head of {bytes} bytes");
    }
    let field = |n: usize| format!("GET /v1/models HTTP/1.1\r\nHost: x\r\na: {}\r\n\r\n", "x".repeat(n - 3));
    for (bytes, want) in [(16_383, 200), (16_384, 200), (16_385, 431)] {
        assert_eq!(
            outcome(&gateway, field(bytes).as_bytes()),
            (want, want == 200),
            "a field of {bytes} bytes"
        );
    }
    let fields = |n: usize| format!("GET /v1/models HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(n - 1));
    for (count, want) in [(99, 200), (100, 200), (101, 431)] {
        assert_eq!(outcome(&gateway, fields(count).as_bytes()), (want, want == 200), "{count} fields");
    }
    let target = |n: usize| format!("GET /v1/models?{} HTTP/1.1\r\nHost: x\r\n\r\n", "q".repeat(n - 11));
    for (bytes, want) in [(8191, 200), (8192, 200), (8193, 414), (30_000, 414)] {
        assert_eq!(
            outcome(&gateway, target(bytes).as_bytes()),
            (want, want == 200),
            "a target of {bytes} bytes"
        );
    }
    assert_eq!(upstream.records.try_iter().count(), 0);
    assert_gauges_zero(&gateway);
}

/// Without a line's end, without the empty line: the limit is told when it is passed, not when the head is whole.
#[test]
fn limits_of_heads_do_not_wait_for_their_end() {
    let (gateway, _upstream) = limits_site("head_timeout = \"30s\"");
    for (start, want) in [
        (format!("GET /{}", "q".repeat(8300)), 414),
        (format!("GET / HTTP/1.1\r\nHost: x\r\na: {}", "x".repeat(16_400)), 431),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{}", "a: b\r\n".repeat(120)), 431),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{}", format!("a: {}\r\n", "x".repeat(4000)).repeat(9)), 431),
    ] {
        assert_eq!(outcome(&gateway, start.as_bytes()).0, want, "{}", &start[..20]);
    }
    assert_gauges_zero(&gateway);
}

/// A chat body of exactly this many bytes.
fn body_of(bytes: usize) -> String {
    let (head, tail) = (r#"{"model":"m","user":"u","messages":[{"role":"user","content":""#, r#""}]}"#);
    format!("{head}{}{tail}", "x".repeat(bytes - head.len() - tail.len()))
}

fn chunked(body: &str, piece: usize) -> String {
    let chunks = body
        .as_bytes()
        .chunks(piece)
        .map(|part| format!("{:x}\r\n{}\r\n", part.len(), std::str::from_utf8(part).unwrap()));
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunks.collect::<String>()
    )
}

#[test]
fn limits_of_bodies_are_exact() {
    const MAX: usize = 100_000;
    let (gateway, upstream) = limits_site(&format!("body_bytes_max = {MAX}"));
    for (bytes, want) in [(MAX - 1, 200), (MAX, 200), (MAX + 1, 413), (MAX + 5000, 413)] {
        let body = body_of(bytes);
        let whole =
            format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {bytes}\r\n\r\n{body}");
        let ways = [whole, chunked(&body, 4096), chunked(&body, 999_999), chunked(&body, 17)];
        for (way, request) in ways.iter().enumerate() {
            assert_eq!(
                outcome(&gateway, request.as_bytes()),
                (want, want == 200),
                "{bytes} bytes, way {way}"
            );
            let seen = upstream.records.try_iter().count();
            assert_eq!(seen, usize::from(want == 200), "{bytes} bytes, way {way}");
        }
    }
    assert_gauges_zero(&gateway);
}

#[test]
fn a_body_that_announces_too_much_is_refused_unread() {
    let (gateway, upstream) = limits_site("body_bytes_max = 100000\nbody_timeout = \"30s\"");
    let post = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n";
    for request in [
        format!("{post}Content-Length: 100001\r\n\r\n"),
        format!("{post}Content-Length: 100001\r\nExpect: 100-continue\r\n\r\n"),
        format!("{post}Content-Length: 9223372036854775807\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n186a1\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n186a0\r\n"),
    ] {
        let mut reader: Reader = connect(gateway.addr);
        reader.stream().write_all(request.as_bytes()).unwrap();
        let answer = reader.answer(false, Instant::now() + Duration::from_secs(5)).expect("without the body");
        assert_eq!((answer.status, &answer.interim[..]), (413, &[][..]), "{request}");
        assert_eq!(answer.field("connection"), Some("close"), "{request}");
    }
    assert_eq!(upstream.records.try_iter().count(), 0);
    assert_gauges_zero(&gateway);
}

#[test]
fn limits_of_messages_and_of_depth_are_exact() {
    let (gateway, upstream) = limits_site("messages_max = 50");
    let ask = |body: &str| {
        let length = body.len();
        let head =
            format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        let outcome = outcome(&gateway, format!("{head}{body}").as_bytes());
        assert!(outcome.1, "the body was read: the connection goes on ({})", outcome.0);
        assert_eq!(upstream.records.try_iter().count(), usize::from(outcome.0 == 200));
        outcome.0
    };
    let messages = |n: usize| {
        let one = r#"{"role":"user","content":"x"}"#;
        format!(r#"{{"model":"m","messages":[{}]}}"#, vec![one; n].join(","))
    };
    for (count, want) in [(1, 200), (49, 200), (50, 200), (51, 400), (100_000, 400)] {
        assert_eq!(ask(&messages(count)), want, "{count} messages");
    }
    // The object itself is the first level.
    let deep = |levels: usize, open: &str, close: &str| {
        let chat = r#""model":"m","messages":[{"role":"user","content":"x"}]"#;
        format!("{{{chat},\"deep\":{}1{}}}", open.repeat(levels - 1), close.repeat(levels - 1))
    };
    for (levels, want) in [(63, 200), (64, 200), (65, 400), (100_000, 400)] {
        assert_eq!(ask(&deep(levels, "[", "]")), want, "arrays {levels} deep");
        assert_eq!(ask(&deep(levels, "{\"a\":", "}")), want, "objects {levels} deep");
    }
    let open = format!("{{\"model\":\"m\",\"messages\":{}", "[".repeat(1_000_000));
    assert_eq!(ask(&open), 400, "never closed");
    assert_gauges_zero(&gateway);
}
