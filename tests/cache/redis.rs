//! Answers shared by gateways through a real Redis, and what its faults cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::server::{Server, signal};
use super::support::fleet::{connect, until};
use super::support::upstream::{Reply, Then, plain};
use super::support::{Gateway, assert_gauges_zero, metrics};
use super::{CHAT, Stand, completion, configuration, hi, said, streamed, with};

fn settings(server: &Server, more: &str) -> String {
    format!("store = \"redis\"\nurl = \"{}\"\n{more}", server.url())
}

/// A stand whose answers say whose they are.
fn echoing(cache: &str, rest: &str) -> Stand {
    Stand::answering(cache, rest, |number, record| {
        let user = record.user().unwrap_or_default();
        if record.json().unwrap()["stream"] == true {
            return streamed(&[user, format!(" {number}")], true);
        }
        let text = format!("{user} {number}");
        Reply { writes: vec![plain(&completion(&text).to_string())], then: Then::Keep }
    })
}

fn sum(gateway: &Gateway, part: &str) -> f64 {
    let page = metrics(gateway);
    let lines = page.lines().filter(|line| line.starts_with(part));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

/// Every shard is connected.
fn connected(gateway: &Gateway) {
    until("it is connected", || (sum(gateway, "corelane_redis_connected{") == 2.0).then_some(()));
}

fn stored(server: &Server, count: usize) {
    until("it is stored", || {
        (server.cli(&["KEYS", "corelane:answer:*"]).lines().filter(|line| !line.is_empty()).count() == count)
            .then_some(())
    });
}

#[test]
fn gateways_share_what_they_keep() {
    let server = Server::start(&[]);
    let first = echoing(&settings(&server, ""), "");
    let second =
        Gateway::start(&configuration(&first.upstream, &settings(&server, "memory_bytes_max = 0"), ""));
    connected(&first.gateway);
    connected(&second);
    for (at, body) in [hi(), with(&hi(), "stream", json!(true))].iter().enumerate() {
        let miss = first.chat(body);
        assert_eq!((miss.status, miss.field("x-corelane-cache")), (200, Some("miss")));
        stored(&server, at + 1);
        for _ in 0..2 {
            let hit = super::ask(&second, CHAT, "", &body.to_string());
            assert_eq!((hit.status, hit.field("x-corelane-cache")), (200, Some("hit")));
            assert_eq!(hit.body, miss.body);
            assert_eq!(hit.field("content-type"), miss.field("content-type"));
        }
    }
    assert_eq!(first.asked(), 2);
    assert_eq!(
        sum(&second, "corelane_cache_redis_requests_total{result=\"found\"}"),
        4.0,
        "nothing in memory"
    );
    let ttl: u64 = {
        let key = server.cli(&["--raw", "RANDOMKEY"]);
        server.cli(&["PTTL", &key]).trim_start_matches("(integer) ").parse().unwrap()
    };
    assert!((3_500_000..=3_600_000).contains(&ttl), "{ttl}");
    // One that starts later finds them, and keeps them in memory too.
    let third = Gateway::start(&configuration(&first.upstream, &settings(&server, ""), ""));
    connected(&third);
    for _ in 0..3 {
        assert_eq!(super::ask(&third, CHAT, "", &hi().to_string()).field("x-corelane-cache"), Some("hit"));
    }
    assert_eq!(sum(&third, "corelane_cache_redis_requests_total{result=\"found\"}"), 1.0);
    // Forgotten there: the memory still knows, who has none asks the model.
    server.cli(&["FLUSHALL"]);
    assert_eq!(first.used("", &hi()), "hit");
    assert_eq!(super::ask(&second, CHAT, "", &hi().to_string()).field("x-corelane-cache"), Some("miss"));
    assert_gauges_zero(&second);
}

#[test]
fn what_is_no_answer_of_this_request_is_none() {
    let server = Server::start(&[]);
    let stand = echoing(&settings(&server, "memory_bytes_max = 0"), "");
    connected(&stand.gateway);
    let body = |user: &str| with(&hi(), "user", json!(user));
    let key = |user: &str| {
        let answer = stand.chat(&body(user));
        format!("corelane:answer:{}", answer.field("x-corelane-cache-key").unwrap())
    };
    let (one, two, three) = (key("one"), key("two"), key("three"));
    stored(&server, 3);
    assert_eq!(stand.used("", &body("one")), "hit");
    // Another's answer under this name, another kind of value, and bytes of somebody else's.
    server.cli(&["COPY", &two, &one, "REPLACE"]);
    server.cli(&["DEL", &two]);
    server.cli(&["LPUSH", &two, "x"]);
    server.cli(&["SET", &three, "nothing of ours"]);
    for user in ["one", "two", "three"] {
        let answer = stand.chat(&body(user));
        assert_eq!((answer.status, answer.field("x-corelane-cache")), (200, Some("miss")), "{user}");
        assert!(String::from_utf8_lossy(&answer.body).contains(&format!("\"content\":\"{user} ")), "{user}");
    }
    assert_eq!(sum(&stand.gateway, "corelane_cache_redis_requests_total{result=\"failed\"}"), 3.0);
    // They were stored anew.
    until("all three", || {
        ["one", "two", "three"].iter().all(|user| stand.used("", &body(user)) == "hit").then_some(())
    });
}

#[test]
fn a_redis_that_hangs_costs_little_and_nothing_fails() {
    let server = Server::start(&[]);
    let stand = echoing(&settings(&server, "memory_bytes_max = 0"), "");
    connected(&stand.gateway);
    assert_eq!(stand.used("", &hi()), "miss");
    stored(&server, 1);
    assert_eq!(stand.used("", &hi()), "hit");
    signal(server.pid(), "STOP");
    let mut slow = 0;
    for number in 0..60 {
        let begin = Instant::now();
        assert_eq!(stand.used("", &with(&hi(), "user", json!(number.to_string()))), "miss");
        slow += u32::from(begin.elapsed() > Duration::from_millis(15));
    }
    // Until the breakers of both shards have opened; not one in three later.
    assert!(slow < 30, "{slow} of 60 were slow");
    until("it rests", || (sum(&stand.gateway, "corelane_redis_breaker_open{") > 0.0).then_some(()));
    signal(server.pid(), "CONT");
    until("it serves again", || (stand.used("", &hi()) == "hit").then_some(()));
    until("both shards ask again", || {
        (sum(&stand.gateway, "corelane_redis_breaker_open{") == 0.0).then_some(())
    });
    assert_gauges_zero(&stand.gateway);
}

/// Every answer is the one of its own request, stored or not, while Redis dies, hangs and comes back.
#[test]
fn nobody_gets_anothers_answer_whatever_redis_does() {
    let mut server = Server::start(&[]);
    let key = |name: &str| format!("[[keys]]\nname = \"{name}\"\nsecret = \"secret-of-{name}\"\n");
    let keys = ["a", "b", "c", "d"].map(key).concat();
    let stand = echoing(&settings(&server, "memory_bytes_max = 0"), &keys);
    let stop = Arc::new(AtomicBool::new(false));
    let addr = stand.gateway.addr;
    let threads: Vec<_> = ["a", "b", "c", "d"]
        .into_iter()
        .enumerate()
        .map(|(at, tenant)| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut reader = connect(addr);
                let (mut asked, mut hits, mut seen) = (0u32, 0u32, std::collections::HashMap::new());
                while !stop.load(Ordering::Relaxed) {
                    // The same few questions of every tenant; an answer's number says who was answered by the endpoint.
                    let user = format!("q{}", (asked * 7 + u32::try_from(at).unwrap()) % 50);
                    let stream = asked % 3 == 0;
                    let body = with(&with(&hi(), "user", json!(user)), "stream", json!(stream));
                    let key = format!("Authorization: Bearer secret-of-{tenant}\r\n");
                    let (body, length) = (body.to_string(), body.to_string().len());
                    let request = format!(
                        "POST {CHAT} HTTP/1.1\r\nHost: gw\r\n{key}Content-Length: {length}\r\n\r\n{body}"
                    );
                    std::io::Write::write_all(reader.stream(), request.as_bytes()).unwrap();
                    let answer =
                        reader.answer(false, Instant::now() + Duration::from_secs(20)).expect("an answer");
                    assert_eq!(answer.status, 200);
                    let text = if stream {
                        let (text, done) = said(&answer);
                        assert!(done);
                        text
                    } else {
                        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                        json["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
                    };
                    let (whose, number) = text.split_once(' ').unwrap();
                    assert_eq!(whose, user);
                    if answer.field("x-corelane-cache") == Some("hit") {
                        hits += 1;
                    }
                    *seen.entry((user, stream, number.to_owned())).or_insert(0u32) += 1;
                    asked += 1;
                }
                (asked, hits, seen)
            })
        })
        .collect();
    let pause = || thread::sleep(Duration::from_millis(300));
    for round in 0..6 {
        thread::sleep(Duration::from_millis(900));
        match round % 3 {
            0 => {
                server.kill();
                pause();
                server.start_again();
            }
            1 => {
                signal(server.pid(), "STOP");
                pause();
                signal(server.pid(), "CONT");
            }
            _ => drop(server.cli(&["FLUSHALL"])),
        }
    }
    pause();
    stop.store(true, Ordering::Relaxed);
    let all: Vec<_> = threads.into_iter().map(|one| one.join().unwrap()).collect();
    let (asked, hits) = all.iter().fold((0, 0), |sum, (asked, hits, _)| (sum.0 + asked, sum.1 + hits));
    assert!(asked > 1000 && hits > asked / 10, "{asked} asked, {hits} hits");
    // An answer's number came to one tenant only.
    let mut owners = std::collections::HashMap::new();
    for (at, (_, _, seen)) in all.iter().enumerate() {
        for (user, stream, number) in seen.keys() {
            let other = owners.insert((user.clone(), *stream, number.clone()), at);
            assert!(other.is_none_or(|other| other == at), "{user} {number} went to two tenants");
        }
    }
    assert_gauges_zero(&stand.gateway);
}

#[test]
fn without_redis_each_goes_on_alone() {
    let stand = echoing("store = \"redis\"\nurl = \"redis://127.0.0.1:1\"", "[log]\nlevel = \"info\"\n");
    assert_eq!(stand.used("", &hi()), "miss");
    assert_eq!(stand.used("", &hi()), "hit", "memory is in front of it");
    until("it says so", || stand.gateway.log().contains("redis").then_some(()));
    assert!(!stand.gateway.log().contains("panicked"));
}
