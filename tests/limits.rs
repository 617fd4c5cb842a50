//! Promise: nobody gets more than the limits allow, over all shards and connections, and who is refused is told how
//! long to wait in a way that is true. Tests where counts must be exact use rates so slow that no token comes back
//! while they run; where tokens come back, the time is measured and the counts are compared with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

#[path = "limits/guide.rs"]
mod guide;
#[path = "limits/step.rs"]
mod step;
mod support;

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use corelane::sim::Options;
use support::answer::{Answer, Reader};
use support::fleet::{Fleet, chat, configuration, connect, json, model, quick, raw, until};
use support::upstream::{Upstream, echo};
use support::{Gateway, metrics};

const CHAT: &str = "/v1/chat/completions";
const DEADLINE: Duration = Duration::from_secs(20);
/// A proxy on this machine is believed, so that one test can be many clients.
const BEHIND_PROXY: &str = "shards = 2\ntrusted_proxies = [\"127.0.0.0/8\", \"::1/128\"]";

/// A zone that applies to `routes` (TOML), with more settings.
fn zone(name: &str, rate: &str, more: &str, routes: &str) -> String {
    format!("[[limits.zones]]\nname = \"{name}\"\nrate = \"{rate}\"\n{more}\nroutes = [{routes}]\n")
}

/// A zone without a second token within the test: `burst + 1` requests of one client pass.
fn still(name: &str, burst: u32, routes: &str) -> String {
    zone(name, "1r/m", &format!("burst = {burst}\nnodelay = true"), routes)
}

/// Writes a request with these field lines.
fn write(reader: &mut Reader, method: &str, path: &str, fields: &str, body: &str) {
    let (body, length) = match method {
        "POST" => (body, format!("Content-Length: {}\r\n", body.len())),
        _ => ("", String::new()),
    };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: gw\r\n{fields}{length}\r\n{body}");
    reader.stream().write_all(request.as_bytes()).unwrap();
}

fn read(reader: &mut Reader) -> Answer {
    reader.answer(false, Instant::now() + DEADLINE).expect("an answer")
}

/// Asks as the client `from` that a proxy names, on a connection that lives on.
fn ask(reader: &mut Reader, from: &str, path: &str) -> Answer {
    write(reader, "POST", path, &format!("X-Forwarded-For: {from}\r\n"), &chat("llama3.2", false));
    read(reader)
}

/// As many requests at once as asked for, each on a connection of its own, sent as fast as can be. Their answers, and
/// the time from the first byte sent to the last request answered.
fn crowd(addr: SocketAddr, count: usize, fields: &str, body: &str) -> (Vec<Answer>, Duration) {
    let mut readers: Vec<Reader> = (0..count).map(|_| connect(addr)).collect();
    let began = Instant::now();
    readers.iter_mut().for_each(|reader| write(reader, "POST", CHAT, fields, body));
    let answers = readers.iter_mut().map(read).collect();
    (answers, began.elapsed())
}

fn passed(answers: &[Answer]) -> usize {
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 429)), "only passes and refusals");
    answers.iter().filter(|answer| answer.status == 200).count()
}

fn number(answer: &Answer, name: &str) -> u64 {
    let field = answer.field(name).unwrap_or_else(|| panic!("no {name} in {:?}", answer.fields));
    field.parse().unwrap_or_else(|_| panic!("{name}: {field}"))
}

/// A counter or gauge by the beginning of its line, all label sets added up.
fn sum(gateway: &Gateway, start: &str) -> u64 {
    let page = metrics(gateway);
    let lines = page.lines().filter(|line| line.starts_with(start));
    let values: Vec<u64> = lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    assert!(!values.is_empty(), "no {start} on the page");
    values.into_iter().sum()
}

/// A server that answers slowly, one token every `ms`.
fn slow(ms: u64, tokens: usize) -> Vec<Options> {
    let token_interval = Duration::from_millis(ms);
    vec![Options { slots: 64, tokens, token_interval, record: 1024, ..Options::default() }]
}

#[test]
fn twenty_one_pass_at_once_and_then_five_a_second() {
    let limits = zone("chat", "5r/s", "burst = 20\nnodelay = true", &format!("\"{CHAT}\""));
    let fleet = Fleet::start(quick(1), "shards = 2", &limits).ready();
    let began = Instant::now();
    let (answers, _) = crowd(fleet.gateway.addr, 1000, "", &chat("llama3.2", false));
    let mut let_in = passed(&answers);
    let allowed = |time: Duration| 21 + usize::try_from(time.as_millis() * 5 / 1000).unwrap();
    assert!((21..=allowed(began.elapsed())).contains(&let_in), "{let_in} in {:?}", began.elapsed());
    // Asked without a pause: one more each 200 ms, not one less.
    let mut reader = connect(fleet.gateway.addr);
    let mut asked_last = began;
    while began.elapsed() < Duration::from_secs(3) {
        asked_last = Instant::now();
        write(&mut reader, "POST", CHAT, "", &chat("llama3.2", false));
        let_in += usize::from(read(&mut reader).status == 200);
    }
    let least = allowed(asked_last - began) - 1; // the first one was let in a little after the clock began
    assert!((least..=allowed(began.elapsed())).contains(&let_in), "{let_in} in {:?}", began.elapsed());
    assert_eq!(fleet.shares(), [let_in as u64], "what is refused is not sent on");
    drop(reader);
    fleet.assert_quiet();
}

#[test]
fn exact_over_all_shards() {
    let fleet = Fleet::start(quick(1), "shards = 2", &still("chat", 99, &format!("\"{CHAT}\""))).ready();
    let mut readers: Vec<Reader> = (0..1000).map(|_| connect(fleet.gateway.addr)).collect();
    until("both shards have half of them", || {
        let page = metrics(&fleet.gateway);
        let of = |shard: usize| {
            let start = format!("corelane_client_connections{{shard=\"{shard}\"}} ");
            page.lines().find_map(|line| line.strip_prefix(&start)?.parse::<u64>().ok()).unwrap()
        };
        (of(0) + of(1) == 1000 && of(0).min(of(1)) > 300).then_some(())
    });
    let body = chat("llama3.2", false);
    readers.iter_mut().for_each(|reader| write(reader, "POST", CHAT, "", &body));
    let answers: Vec<Answer> = readers.iter_mut().map(read).collect();
    assert_eq!(passed(&answers), 100);
    assert_eq!(fleet.shares(), [100]);
    assert_eq!(sum(&fleet.gateway, "corelane_limiter_refusals_total{zone=\"chat\""), 900);
    // The connections are as good as before: no answer was lost, none is left over.
    readers.iter_mut().for_each(|reader| write(reader, "GET", "/health/liveliness", "", ""));
    assert!(readers.iter_mut().all(|reader| read(reader).body == b"\"I'm alive!\""));
    drop(readers);
    fleet.assert_quiet();
}

#[test]
fn refusals_in_each_dialect() {
    let fleet = Fleet::start(quick(1), BEHIND_PROXY, &still("all", 1, "\"/\"")).ready();
    let mut reader = connect(fleet.gateway.addr);
    for (at, path) in
        [CHAT, "/chat/completions", "/api/chat", "/api/generate", "/v1/messages", "/v1/nothing-here"]
            .into_iter()
            .enumerate()
    {
        let from = format!("10.1.0.{at}");
        for remaining in [1, 0] {
            let answer = ask(&mut reader, &from, path);
            assert_ne!(answer.status, 429, "{path}");
            assert_eq!(number(&answer, "x-ratelimit-limit-requests"), 2, "{path}");
            assert_eq!(number(&answer, "x-ratelimit-remaining-requests"), remaining, "{path}");
            assert_eq!(answer.field("retry-after"), None);
            let reset = answer.field("x-ratelimit-reset-requests").unwrap();
            assert!(if remaining == 1 { reset == "0s" } else { reset.starts_with("1m") }, "{reset}");
        }
        let answer = ask(&mut reader, &from, path);
        assert_eq!(answer.status, 429, "{path}");
        assert_eq!(answer.field("content-type"), Some("application/json"));
        assert_eq!(answer.field("x-should-retry"), None, "another try makes sense");
        assert!(answer.field("x-request-id").is_some());
        let error = json(&answer);
        match path {
            _ if path.starts_with("/api/") => assert!(error["error"].is_string(), "{error}"),
            "/v1/messages" => {
                assert_eq!(
                    (&error["type"], &error["error"]["type"]),
                    (&"error".into(), &"rate_limit_error".into())
                );
            }
            _ => {
                let words = (&error["error"]["type"], &error["error"]["code"]);
                assert_eq!(words, (&"rate_limit_error".into(), &"rate_limit_exceeded".into()), "{error}");
                assert!(error["error"]["message"].as_str().unwrap().contains("(all)"), "{error}");
            }
        }
        let (seconds, ms) = (number(&answer, "retry-after"), number(&answer, "retry-after-ms"));
        assert_eq!(seconds, ms.div_ceil(1000).max(1));
        assert!((55_000..=62_500).contains(&ms), "16 thousandths of a request a second: {ms}");
        assert_eq!(number(&answer, "x-ratelimit-remaining-requests"), 0);
        assert_eq!(number(&answer, "x-ratelimit-limit-requests"), 2);
    }
    drop(reader);
    fleet.assert_quiet();
}

#[test]
fn who_waits_as_told_is_let_in() {
    let limits = zone("chat", "3r/s", "burst = 2\nnodelay = true", &format!("\"{CHAT}\""));
    let fleet = Fleet::start(quick(1), "shards = 2", &limits).ready();
    let mut reader = connect(fleet.gateway.addr);
    let mut refusals = 0;
    while refusals < 6 {
        write(&mut reader, "POST", CHAT, "", &chat("llama3.2", false));
        let answer = read(&mut reader);
        if answer.status == 200 {
            continue;
        }
        refusals += 1;
        let (seconds, ms) = (number(&answer, "retry-after"), number(&answer, "retry-after-ms"));
        assert!(seconds == 1 && (1..=334).contains(&ms), "{seconds} s, {ms} ms");
        std::thread::sleep(Duration::from_millis(ms));
        write(&mut reader, "POST", CHAT, "", &chat("llama3.2", false));
        let after = read(&mut reader);
        assert_eq!(after.status, 200, "after {ms} ms: {:?}", after.fields);
    }
    drop(reader);
    fleet.assert_quiet();
}

#[test]
fn refusals_may_be_nginxs_503() {
    let limits = format!(
        "[limits]\nreject_status = 503\nconcurrent_per_client = 1\n{}{}",
        still("chat", 2, &format!("\"{CHAT}\"")),
        still("messages", 0, "\"/v1/messages\""),
    );
    let fleet = Fleet::start(slow(5, 100_000), BEHIND_PROXY, &limits).ready();
    let mut stream = connect(fleet.gateway.addr);
    write(&mut stream, "POST", CHAT, "X-Forwarded-For: 10.0.0.1\r\n", &chat("llama3.2", true));
    stream.head(Instant::now() + DEADLINE).unwrap();
    let mut reader = connect(fleet.gateway.addr);
    let by_count = ask(&mut reader, "10.0.0.1", CHAT);
    assert!(json(&by_count)["error"]["message"].as_str().unwrap().contains("at once"));
    assert_eq!(ask(&mut reader, "10.0.0.1", CHAT).status, 503);
    let by_rate = ask(&mut reader, "10.0.0.1", CHAT);
    assert!(json(&by_rate)["error"]["message"].as_str().unwrap().contains("(chat)"));
    for answer in [by_count, by_rate] {
        assert_eq!(answer.status, 503);
        assert_eq!(json(&answer)["error"]["type"], "rate_limit_error");
        assert!(number(&answer, "retry-after") >= 1);
    }
    drop((stream, reader));
    fleet.assert_quiet();
}

#[test]
fn delayed_requests_arrive_at_the_rate() {
    let upstream = Upstream::start("127.0.0.1:0".parse().unwrap(), echo);
    let limits = zone("chat", "10r/s", "burst = 6\nnodelay = false\ndelay = 2", &format!("\"{CHAT}\""));
    let rest = format!("[health]\nenabled = false\n[[models]]\nname = \"m\"\n{limits}");
    let toml = configuration(&[upstream.addr], "shards = 2", &rest)
        .replace("name = \"e0\"", "name = \"e0\"\nkind = \"openai\"");
    let gateway = Gateway::start(&toml);
    let mut readers: Vec<Reader> = (0..8).map(|_| connect(gateway.addr)).collect();
    let began = Instant::now();
    readers.iter_mut().for_each(|reader| write(reader, "POST", CHAT, "", &chat("m", false)));
    let mut arrivals = Vec::new();
    while arrivals.len() < 7 {
        let record = upstream.records.recv_timeout(DEADLINE).expect("seven requests arrive");
        if record.method == "POST" {
            arrivals.push(began.elapsed());
        }
    }
    // Excess 0, 1, 2 go at once, the next ones when the bucket has drained to 2: never earlier.
    for (at, arrived) in arrivals.iter().enumerate().skip(3) {
        let due = Duration::from_millis(100 * (at as u64 - 2));
        assert!(*arrived + Duration::from_millis(5) >= due, "{at}: after {arrived:?}, due {due:?}");
    }
    let answers: Vec<Answer> = readers.iter_mut().map(read).collect();
    assert_eq!(passed(&answers), 7, "the eighth is beyond the burst");
    drop(readers);
    support::assert_gauges_zero(&gateway);
}

#[test]
fn who_leaves_while_it_waits_is_not_waited_for() {
    let limits = zone("chat", "1r/m", "burst = 5\nnodelay = false", &format!("\"{CHAT}\""));
    let fleet = Fleet::start(quick(1), "shards = 1", &limits).ready();
    let mut reader = connect(fleet.gateway.addr);
    write(&mut reader, "POST", CHAT, "", &chat("llama3.2", false));
    assert_eq!(read(&mut reader).status, 200);
    let body = chat("llama3.2", false);
    let mut waiting: Vec<Reader> = (0..2).map(|_| connect(fleet.gateway.addr)).collect();
    write(&mut waiting[0], "POST", CHAT, "", &body);
    // The other one has yet to send its body.
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: gw\r\nContent-Length: {}\r\n\r\n", body.len());
    waiting[1].stream().write_all(head.as_bytes()).unwrap();
    until("both wait", || (sum(&fleet.gateway, "corelane_exchanges_in_flight") == 2).then_some(()));
    assert_eq!(sum(&fleet.gateway, "corelane_endpoint_in_flight"), 0, "no endpoint is taken");
    drop((reader, waiting));
    fleet.assert_quiet(); // long before the minute is over
    assert_eq!(fleet.shares(), [1]);
}

#[test]
fn a_request_that_one_zone_refuses_is_charged_by_none() {
    let both = |first: &str, second: &str| {
        let zone = |name: &str| match name {
            "own" => still("own", 5, &format!("\"{CHAT}\", \"/api/\"")),
            _ => still("all", 2, &format!("\"{CHAT}\"")).replace("burst", "key = \"everyone\"\nburst"),
        };
        zone(first) + &zone(second)
    };
    for (first, second) in [("own", "all"), ("all", "own")] {
        let fleet = Fleet::start(quick(1), BEHIND_PROXY, &both(first, second)).ready();
        let mut reader = connect(fleet.gateway.addr);
        let mut left = Vec::new();
        for _ in 0..3 {
            let answer = ask(&mut reader, "10.0.0.1", CHAT);
            assert_eq!(answer.status, 200);
            left.push(number(&answer, "x-ratelimit-remaining-requests"));
        }
        assert_eq!(left, [2, 1, 0], "the narrower zone is told");
        for _ in 0..10 {
            let answer = ask(&mut reader, "10.0.0.1", CHAT);
            assert!(answer.status == 429 && json(&answer).to_string().contains("(all)"));
        }
        assert_eq!(ask(&mut reader, "10.0.0.2", CHAT).status, 429, "everyone is one");
        let answers: Vec<Answer> = (0..5).map(|_| ask(&mut reader, "10.0.0.1", "/api/chat")).collect();
        assert_eq!(passed(&answers), 3, "three of six were taken, {first} before {second}");
        let answers: Vec<Answer> = (0..8).map(|_| ask(&mut reader, "10.0.0.2", "/api/chat")).collect();
        assert_eq!(passed(&answers), 6, "the other client was not charged at all");
        drop(reader);
        fleet.assert_quiet();
    }
}

#[test]
fn routes_share_a_zone_and_have_bursts_of_their_own() {
    let routes = r#"
        { path = "/v1/completions", burst = 2 }, { path = "/v1/embeddings", burst = 5 },
        { path = "/v1/models", burst = 3 }, { path = "/", burst = 1 },
    "#;
    let limits = zone("api", "1r/m", "nodelay = true", routes)
        + &still("chat", 7, &format!("\"{CHAT}\""))
        + &still("health", 10, "\"/health\"");
    let fleet = Fleet::start(quick(1), BEHIND_PROXY, &limits).ready();
    let mut reader = connect(fleet.gateway.addr);
    let mut get = |from: &str, path: &str| {
        write(&mut reader, "GET", path, &format!("X-Forwarded-For: {from}\r\n"), "");
        read(&mut reader)
    };
    // The longest path that a request begins with is its location, as in nginx; queries don't count.
    for (at, (path, burst)) in [
        ("/v1/chat/completionsX", 7),
        ("/v1/chat/completions?x=/v1/models", 7),
        ("/v1/chat", 1),
        ("/v1/models", 3),
        ("/v1/models/llama3.2", 3),
        ("/v1/modelsfoo", 3),
        ("/v1/embeddings", 5),
        ("/V1/embeddings", 1),
        ("/v1//embeddings", 1),
        ("/health/liveliness", 10),
        ("/healthy", 10),
        ("/metrics", 1),
        ("/", 1),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = get(&format!("10.2.0.{at}"), path);
        assert_eq!(number(&answer, "x-ratelimit-limit-requests"), burst + 1, "{path}");
    }
    // One bucket: what was spent on one path is missing on the others.
    let mut statuses =
        |path: &str, n: usize| -> Vec<bool> { (0..n).map(|_| get("10.3.0.1", path).status != 429).collect() };
    assert_eq!(statuses("/v1/completions", 4), [true, true, true, false]);
    assert_eq!(statuses("/", 1), [false], "its burst of 1 is long used up");
    assert_eq!(statuses("/v1/models", 2), [true, false]);
    assert_eq!(statuses("/v1/embeddings", 3), [true, true, false]);
    assert_eq!(statuses("/health", 11), [true; 11], "/health has its own");
    assert_eq!(statuses("/health", 1), [false]);
    assert_eq!(statuses(CHAT, 8), [true; 8]);
    drop(reader);
    fleet.assert_quiet();
}

#[test]
fn probes_and_preflights_are_not_in_the_way() {
    let limits = still("all", 0, "\"/\"") + &still("health", 3, "\"/health\"");
    let fleet = Fleet::start(quick(1), "shards = 2", &limits).ready();
    let mut reader = connect(fleet.gateway.addr);
    let mut status = |method: &str, path: &str| {
        write(&mut reader, method, path, "Origin: https://a.example\r\n", &chat("llama3.2", false));
        read(&mut reader).status
    };
    for _ in 0..20 {
        assert_eq!(status("OPTIONS", CHAT), 204);
    }
    assert_eq!(status("POST", CHAT), 200, "OPTIONS took nothing");
    assert_eq!(status("POST", CHAT), 429);
    assert_eq!(status("OPTIONS", CHAT), 204, "free also for who is at its limit");
    assert_eq!((0..5).map(|_| status("GET", "/health")).collect::<Vec<_>>(), [200, 200, 200, 200, 429]);
    drop(reader);
    fleet.assert_quiet();
}

#[test]
fn clients_are_told_apart_by_address() {
    let limits = still("all", 0, "\"/\"");
    // Nobody is trusted: what a client says of itself has no effect.
    let fleet = Fleet::start(quick(1), "shards = 2", &limits).ready();
    let mut reader = connect(fleet.gateway.addr);
    let answers: Vec<Answer> = (0..20).map(|at| ask(&mut reader, &format!("10.0.0.{at}"), CHAT)).collect();
    assert_eq!(passed(&answers), 1);
    drop(reader);
    // A trusted proxy is believed, as far to the left as proxies are trusted.
    let server = "shards = 2\ntrusted_proxies = [\"127.0.0.1\", \"::1\", \"192.168.0.0/16\", \"fd99::/16\"]";
    let v6 = TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap();
    let toml = configuration(&[fleet.servers[0].addr], server, &limits);
    let gateway = Gateway::start(&toml.replacen("\"127.0.0.1:0\"", &format!("\"127.0.0.1:0\", \"{v6}\""), 1));
    let (mut by_v4, mut by_v6) = (connect(gateway.addr), connect(v6));
    for (from, status) in [
        ("10.0.0.1", 200),
        ("10.0.0.1", 429),
        ("9.9.9.9, 10.0.0.1", 429), // what the client itself put before it
        ("10.0.0.1, 192.168.3.4", 429),
        ("10.0.0.1,fd99::7,  192.168.3.4", 429),
        ("10.0.0.2", 200),
        ("::ffff:10.0.0.2", 429),
        ("fd00::1", 200),
        ("fd00::2", 429), // one household
        ("fd00:0:0:0:ffff::9", 429),
        ("fd00:0:0:1::1", 200),
        ("192.168.3.5", 200), // a trusted proxy that asks for itself
        ("10.0.0.9, 192.168.3.5", 200),
        ("not an address, 192.168.3.5", 429),
        ("10.0.0.11:5555", 200), // as some proxies write it
        ("10.0.0.12:5555", 200),
        ("10.0.0.11", 429),
        ("[fd00:0:0:2::1]:5555", 200),
        ("[fd00:0:0:2::2]", 429),
    ] {
        for reader in [&mut by_v4, &mut by_v6] {
            let answer = ask(reader, from, "/v1/nothing");
            assert_eq!(answer.status == 429, status == 429, "{from}");
            if status == 200 {
                break;
            }
        }
    }
    // Nothing that can be read: the proxy's own address. 127.0.0.1 and ::1 are two.
    for (reader, first) in [(&mut by_v4, "unknown"), (&mut by_v6, "")] {
        assert_ne!(ask(reader, first, "/v1/nothing").status, 429);
        assert_eq!(ask(reader, "10.0.0.300", "/v1/nothing").status, 429);
        assert_eq!(ask(reader, "x'; --", "/v1/nothing").status, 429);
    }
    drop((by_v4, by_v6));
    support::assert_gauges_zero(&gateway);
}

#[test]
fn clients_are_told_apart_by_a_header_of_a_trusted_proxy() {
    let limits = still("all", 1, "\"/\"").replace("burst", "key = \"header:X-User-Id\"\nburst");
    let asked = |server: &str, users: &[&str]| -> Vec<bool> {
        let fleet = Fleet::start(quick(1), server, &limits).ready();
        let mut reader = connect(fleet.gateway.addr);
        let mut one = |user: &&str| {
            write(&mut reader, "GET", "/health", user, "");
            read(&mut reader).status != 429
        };
        users.iter().map(&mut one).collect()
    };
    let users = [
        "X-User-Id: a\r\n",
        "x-user-id:  a \r\n",
        "X-USER-ID: a\r\n",
        "X-User-Id: b\r\n",
        "X-User-Id:\r\n",
        "",
    ];
    assert_eq!(asked(BEHIND_PROXY, &users), [true, true, false, true, true, true]);
    // A proxy may add its line behind one that the client has sent: the last one is the proxy's.
    let forged = [
        "X-User-Id: x\r\nX-User-Id: c\r\n",
        "X-User-Id: y\r\nX-User-Id: c\r\n",
        "X-User-Id: z\r\nx-user-id: c\r\n",
    ];
    assert_eq!(asked(BEHIND_PROXY, &forged), [true, true, false]);
    assert_eq!(asked("shards = 2", &users), [true, true, false, false, false, false], "nobody is believed");
}

#[test]
fn clients_are_told_apart_by_key() {
    let limits = still("all", 1, "\"/\"").replace("burst", "key = \"api_key\"\nburst")
        + "[[keys]]\nname = \"a\"\nsecret = \"secret-of-a\"\n[[keys]]\nname = \"b\"\nsecret = \"secret-of-b\"\n";
    let fleet = Fleet::start(quick(1), BEHIND_PROXY, &limits).ready();
    let mut reader = connect(fleet.gateway.addr);
    let mut status = |from: &str, key: &str| {
        let fields = format!("X-Forwarded-For: {from}\r\nAuthorization: Bearer {key}\r\n");
        write(&mut reader, "POST", CHAT, &fields, &chat("llama3.2", false));
        read(&mut reader).status
    };
    assert_eq!([status("10.0.0.1", "secret-of-a"), status("10.0.0.2", "secret-of-a")], [200, 200]);
    assert_eq!(status("10.0.0.3", "secret-of-a"), 429, "one key is one client, wherever it calls from");
    assert_eq!(status("10.0.0.1", "secret-of-b"), 200);
    // Guesses are charged to the address: they are no faster than asking.
    let guesses: Vec<u16> = (0..4).map(|at| status("10.0.0.1", &format!("guess-{at}"))).collect();
    assert_eq!(guesses, [401, 401, 429, 429]);
    assert_eq!(status("10.0.0.1", "secret-of-b"), 200, "who guesses from the same address takes nothing");
    drop(reader);
    fleet.assert_quiet();
}

#[test]
fn ten_at_once_and_a_place_is_free_when_one_ends() {
    let limits = format!(
        "[limits]\nconcurrent_per_client = 10\n{}{}{}",
        zone(
            "all",
            "1000r/s",
            "burst = 1000\nnodelay = true",
            "{ path = \"/v1/messages\", concurrent_per_client = 12 }, \"/\""
        ),
        model("cut", &["e0"], "upstream_model = \"fault-cut\""),
        "[[models]]\nname = \"*\"\n",
    );
    let fleet = Fleet::start(slow(20, 3000), BEHIND_PROXY, &limits).ready();
    let addr = fleet.gateway.addr;
    let begin = |path: &str, body: &str| {
        let mut reader = connect(addr);
        write(&mut reader, "POST", path, "X-Forwarded-For: 10.0.0.1\r\n", body);
        let head = reader.head(Instant::now() + DEADLINE).unwrap();
        (reader, head.status)
    };
    let stream = chat("llama3.2", true);
    let mut running: Vec<Reader> = (0..10)
        .map(|_| begin(CHAT, &stream))
        .map(|(reader, status)| {
            assert_eq!(status, 200);
            reader
        })
        .collect();
    let is_full = || {
        let mut reader = connect(addr);
        let answer = ask(&mut reader, "10.0.0.1", CHAT);
        assert!(matches!(answer.status, 200 | 429));
        (answer.status == 429).then_some(answer)
    };
    let refused = is_full().expect("the eleventh is refused");
    assert!(json(&refused)["error"]["message"].as_str().unwrap().contains("10 of this client"));
    assert!(number(&refused, "retry-after") >= 1);
    assert!(sum(&fleet.gateway, "corelane_limiter_refusals_total{zone=\"\",reason=\"concurrent\"}") >= 1);
    // Others are not in the way; what needs no model is not counted.
    let mut reader = connect(addr);
    write(&mut reader, "GET", "/v1/models", "X-Forwarded-For: 10.0.0.1\r\n", "");
    assert_eq!(read(&mut reader).status, 200);
    // A route may allow more, and counts the same exchanges.
    let messages =
        r#"{"model":"llama3.2","max_tokens":5000,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let more: Vec<(Reader, u16)> = (0..3).map(|_| begin("/v1/messages", messages)).collect();
    assert_eq!(more.iter().map(|(_, status)| *status).collect::<Vec<_>>(), [200, 200, 429]);
    drop(more);
    until("the two are gone", || (sum(&fleet.gateway, "corelane_endpoint_in_flight") == 10).then_some(()));
    // Cancelled: by a reset, and by an end of the client's side.
    running.pop();
    until("a place is free", || {
        let (reader, status) = begin(CHAT, &stream);
        (status == 200).then(|| running.push(reader))
    });
    running[0].stream().shutdown(std::net::Shutdown::Write).unwrap();
    until("a place is free", || {
        let (reader, status) = begin(CHAT, &stream);
        (status == 200).then(|| running.push(reader))
    });
    assert!(is_full().is_some(), "one place for one that left");
    drop(running);
    until("all have left", || (sum(&fleet.gateway, "corelane_endpoint_in_flight") == 0).then_some(()));
    // Broken and ended: more than ten of each, one after the other.
    let short =
        r#"{"model":"llama3.2","max_tokens":1,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    for body in [&chat("cut", true), short] {
        for _ in 0..12 {
            let mut reader = connect(addr);
            write(&mut reader, "POST", CHAT, "X-Forwarded-For: 10.0.0.1\r\nConnection: close\r\n", body);
            assert_eq!(reader.head(Instant::now() + DEADLINE).unwrap().status, 200);
            raw(&mut reader);
        }
    }
    drop(reader);
    fleet.assert_quiet();
}
