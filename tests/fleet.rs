//! Promise: several gateways before the same endpoints, with nothing between them but a Redis, keep limits and budgets as one would,
//! and see each other's load; without that Redis each goes on alone, and says so.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

#[path = "fleet/limits.rs"]
mod limits;
#[path = "fleet/loads.rs"]
mod loads;
#[path = "redis/server.rs"]
#[allow(dead_code)]
mod server;
mod support;

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use server::Server;
use support::answer::Answer;
use support::fleet::{connect, until};
use support::{Gateway, metrics};

const CHAT: &str = "/v1/chat/completions";
const HI: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

/// One of several gateways before `endpoints`.
fn gateway(redis: &str, endpoints: &[SocketAddr], server: &str, rest: &str) -> Gateway {
    Gateway::start(&configuration(redis, endpoints, server, rest))
}

fn configuration(redis: &str, endpoints: &[SocketAddr], server: &str, rest: &str) -> String {
    let mut toml = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\nshards = 1\n{server}\n\
         [health]\nenabled = false\n[redis]\nurl = \"{redis}\"\n[fleet]\nenabled = true\n[log]\naccess = \"off\"\n"
    );
    for (at, endpoint) in endpoints.iter().enumerate() {
        toml += &format!("[[endpoints]]\nname = \"e{at}\"\nurl = \"http://{endpoint}\"\nkind = \"openai\"\n");
        if rest.contains("# slots") {
            toml += "slots = 4\n";
        }
    }
    toml + rest
}

/// Three of them, connected, each hearing of the others.
fn three(redis: &Server, endpoints: &[SocketAddr], rest: &str) -> Vec<Gateway> {
    let all: Vec<Gateway> = (0..3).map(|_| gateway(&redis.url(), endpoints, "", rest)).collect();
    all.iter().for_each(|one| others(one, 2.0));
    all
}

/// Waits until a gateway is connected, and hears of so many others.
fn others(gateway: &Gateway, count: f64) {
    until("the fleet is together", || {
        (sum(gateway, "corelane_redis_connected{") == 1.0 && sum(gateway, "corelane_fleet_others ") == count)
            .then_some(())
    });
}

fn sum(gateway: &Gateway, part: &str) -> f64 {
    let page = metrics(gateway);
    let lines = page.lines().filter(|line| line.starts_with(part));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

fn ask(addr: SocketAddr, lines: &str) -> Answer {
    let mut reader = connect(addr);
    ask_on(&mut reader, lines)
}

fn ask_on(reader: &mut support::answer::Reader, lines: &str) -> Answer {
    let length = HI.len();
    let request = format!("POST {CHAT} HTTP/1.1\r\nHost: gw\r\n{lines}Content-Length: {length}\r\n\r\n{HI}");
    reader.stream().write_all(request.as_bytes()).unwrap();
    reader.answer(false, Instant::now() + Duration::from_secs(20)).expect("an answer")
}
