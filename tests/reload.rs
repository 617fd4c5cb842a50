//! Promise: another configuration takes effect whole or not at all, for what begins from then on; what runs keeps what it
//! began with, and nothing that stays in the configuration is forgotten.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types
)] // test code

#[path = "reload/bad.rs"]
mod bad;
#[path = "reload/callers.rs"]
mod callers;
#[path = "reload/listeners.rs"]
mod listeners;
#[path = "fallbacks/scripted.rs"]
mod scripted;
mod support;

use std::fs;
use std::net::SocketAddr;

use scripted::{
    Ask, CHAT, Gate, Journal, config, good, posted, read, refusal, text, until_waiting, value, waiting,
    with_slots,
};
use serde_json::Value;
use support::answer::{Answer, Reader};
use support::fleet::{chat, json, model, post, until};
use support::upstream::Reply;
use support::{Gateway, assert_gauges_zero, configured, get, metrics};

/// Puts `toml` in the place of the file, and has it read.
pub fn reload(gateway: &Gateway, toml: &str) -> Answer {
    fs::write(gateway.config_path(), configured(toml)).unwrap();
    post(gateway.admin, "/reload", "")
}

/// As [`reload`], of a good file: what has changed, a line each.
pub fn changed(gateway: &Gateway, toml: &str) -> Vec<String> {
    let answer = reload(gateway, toml);
    assert_eq!(answer.status, 200, "{}", text(&answer));
    let lines = json(&answer)["changes"].clone();
    lines.as_array().expect("changes").iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// The status page.
pub fn status(gateway: &Gateway) -> Value {
    serde_json::from_slice(&get(gateway.admin, "/status").2).unwrap()
}

/// Asks for this model; the answer is right, and by this endpoint.
pub fn served_by(gateway: &Gateway, model: &str) -> String {
    let answer = post(gateway.addr, CHAT, &chat(model, false));
    assert_eq!(answer.status, 200, "{}", text(&answer));
    answer.field("x-corelane-endpoint").unwrap().to_owned()
}

/// Servers `a` to `c`; each holds what is asked for the model `held` until the gate opens, and fails for `bad`.
struct Site {
    journal: Journal,
    gate: Gate,
    servers: [(&'static str, SocketAddr); 3],
}

impl Site {
    fn new() -> Site {
        let (journal, gate) = (Journal::default(), Gate::default());
        let server = |name: &'static str| {
            let inside = gate.clone();
            let answer = move |ask: &Ask| -> Reply {
                match &*ask.model {
                    "held" => inside.pass(),
                    "bad" => return refusal(500, "", "invented", None),
                    _ => {}
                }
                good(ask)
            };
            (name, journal.server(name, answer))
        };
        let servers = ["a", "b", "c"].map(server);
        Site { journal, gate, servers }
    }

    /// With the first `count` servers, and the models `m`, `held` and `bad` at all of them.
    fn toml(&self, count: usize, server: &str, rest: &str) -> String {
        let names: Vec<&str> = self.servers[..count].iter().map(|(name, _)| *name).collect();
        let strategy = if rest.contains("weight") { "weighted" } else { "round_robin" };
        let models: String = ["m", "held", "bad"]
            .map(|name| model(name, &names, &format!("strategy = \"{strategy}\"")))
            .concat();
        config(&self.servers[..count], server, &format!("{rest}{models}"))
    }
}

/// Who was asked, counted.
fn shares(journal: &Journal) -> [usize; 3] {
    let asked = journal.take();
    ["a/", "b/", "c/"].map(|name| asked.iter().filter(|ask| ask.starts_with(name)).count())
}

fn ask(gateway: &Gateway, model: &str, count: usize) {
    (0..count).for_each(|_| drop(served_by(gateway, model)));
}

#[test]
fn endpoints_come_and_go() {
    let site = Site::new();
    let gateway = Gateway::start(&site.toml(1, "shards = 2", ""));
    ask(&gateway, "m", 6);
    assert_eq!(shares(&site.journal), [6, 0, 0]);
    let lines = changed(&gateway, &site.toml(3, "shards = 2", ""));
    assert!(lines.contains(&"endpoints.c: added".to_owned()), "{lines:?}");
    ask(&gateway, "m", 6);
    assert_eq!(shares(&site.journal), [2, 2, 2]);
    let mut held: Vec<Reader> =
        (0..3).map(|at| posted(gateway.addr, CHAT, "", &chat("held", at == 0))).collect();
    until("each has one", || (site.gate.held() == 3).then_some(()));
    site.journal.take();
    let lines = changed(&gateway, &site.toml(1, "shards = 2", ""));
    assert!(lines.contains(&"endpoints.b: removed".to_owned()), "{lines:?}");
    ask(&gateway, "m", 6);
    assert_eq!(shares(&site.journal), [6, 0, 0]);
    assert_eq!(status(&gateway)["endpoints"].as_array().unwrap().len(), 1);
    site.gate.open();
    assert!(held.iter_mut().all(|reader| read(reader).status == 200), "what ran on those goes on");
    drop(held);
    assert_gauges_zero(&gateway);
}

#[test]
fn an_endpoint_moves() {
    let site = Site::new();
    let toml = site.toml(1, "shards = 1", "");
    let gateway = Gateway::start(&toml);
    let mut keeps = support::fleet::connect(gateway.addr);
    let mut again = |model: &str| {
        support::fleet::send(&mut keeps, CHAT, &chat(model, false));
        read(&mut keeps).status
    };
    assert_eq!(again("m"), 200);
    let held = posted(gateway.addr, CHAT, "", &chat("held", false));
    until("it is held", || (site.gate.held() == 1).then_some(()));
    assert_eq!(site.journal.take(), ["a/m", "a/held"]);
    let moved = toml.replace(&site.servers[0].1.to_string(), &site.servers[1].1.to_string());
    assert_eq!(changed(&gateway, &moved).len(), 1);
    assert_eq!(again("m"), 200, "on a connection from before");
    assert_eq!(site.journal.take(), ["b/m"], "no warm connection to the old place is used");
    site.gate.open();
    let mut held = held;
    assert_eq!(read(&mut held).status, 200);
    drop((held, keeps));
    assert_gauges_zero(&gateway);
}

#[test]
fn weights_change() {
    let site = Site::new();
    let with = |weights: [u32; 2]| {
        let mut toml = site.toml(2, "shards = 1", "# weights\n");
        for (name, weight) in ["a", "b"].iter().zip(weights) {
            toml = toml.replace(
                &format!("[[endpoints]]\nname = \"{name}\"\n"),
                &format!("[[endpoints]]\nname = \"{name}\"\nweight = {weight}\n"),
            );
        }
        toml
    };
    let gateway = Gateway::start(&with([1, 1]));
    ask(&gateway, "m", 8);
    assert_eq!(shares(&site.journal), [4, 4, 0]);
    assert_eq!(changed(&gateway, &with([1, 3])), ["endpoints.b.weight: 1 -> 3"]);
    ask(&gateway, "m", 8);
    assert_eq!(shares(&site.journal), [2, 6, 0]);
}

#[test]
fn more_slots_let_in_who_waits() {
    for key in ["slots", "max_concurrent_requests"] {
        let site = Site::new();
        let with = |count: u32| match key {
            "slots" => with_slots(&site.toml(1, "shards = 2", ""), count),
            _ => site.toml(1, &format!("shards = 2\nmax_concurrent_requests = {count}"), ""),
        };
        let gateway = Gateway::start(&with(1));
        let mut readers: Vec<Reader> =
            (0..6).map(|_| posted(gateway.addr, CHAT, "", &chat("held", false))).collect();
        until_waiting(&gateway, 5);
        changed(&gateway, &with(4));
        until_waiting(&gateway, 2);
        until("they are with the server", || (site.gate.held() == 4).then_some(()));
        changed(&gateway, &with(2));
        site.gate.let_pass(2);
        until("two have gone", || (site.gate.held() == 2).then_some(()));
        assert_eq!((waiting(&gateway), site.journal.len()), (2, 4), "{key}: there is room for two only");
        site.gate.let_pass(1);
        until("one more is let in", || (site.journal.len() == 5).then_some(()));
        site.gate.open();
        assert!(readers.iter_mut().all(|reader| read(reader).status == 200), "{key}");
        drop(readers);
        assert_gauges_zero(&gateway);
        assert_eq!(waiting(&gateway), 0);
    }
}

#[test]
fn models_come_and_go() {
    let site = Site::new();
    let more = model("new", &["b"], "upstream_model = \"held\"");
    let gateway = Gateway::start(&site.toml(2, "shards = 2", ""));
    let listed = |name: &str| text_of(&gateway, "/v1/models").contains(&format!("\"{name}\""));
    assert_eq!((post(gateway.addr, CHAT, &chat("new", false)).status, listed("new")), (404, false));
    assert_eq!(changed(&gateway, &site.toml(2, "shards = 2", &more)), ["models.new: added"]);
    assert!(listed("new"));
    let mut held = posted(gateway.addr, CHAT, "", &chat("new", true));
    until("it is held", || (site.gate.held() == 1).then_some(()));
    assert_eq!(changed(&gateway, &site.toml(2, "shards = 2", "")), ["models.new: removed"]);
    assert_eq!((post(gateway.addr, CHAT, &chat("new", false)).status, listed("new")), (404, false));
    site.gate.open();
    let answer = read(&mut held);
    assert!(
        text(&answer).contains("\"model\":\"new\"") && text(&answer).contains("[DONE]"),
        "{}",
        text(&answer)
    );
    drop(held);
    assert_gauges_zero(&gateway);
}

fn text_of(gateway: &Gateway, path: &str) -> String {
    String::from_utf8(get(gateway.addr, path).2).unwrap()
}

#[test]
fn a_model_changes_while_it_is_asked() {
    let site = Site::new();
    let one = |upstream: &str| {
        site.toml(1, "shards = 1", &model("x", &["a"], &format!("upstream_model = \"{upstream}\"")))
    };
    let gateway = Gateway::start(&one("held"));
    let mut held = posted(gateway.addr, CHAT, "", &chat("x", false));
    until("it is held", || (site.gate.held() == 1).then_some(()));
    changed(&gateway, &one("other"));
    assert_eq!(served_by(&gateway, "x"), "a");
    assert_eq!(site.journal.take(), ["a/held", "a/other"]);
    site.gate.open();
    assert_eq!(json(&read(&mut held))["model"], "x");
}

#[test]
fn what_is_known_of_endpoints_survives() {
    let site = Site::new();
    let breaker = "[breaker]\nfailures = 2\nopen = \"10m\"\nopen_max = \"10m\"\n[retry]\nattempts = 1\n";
    let gateway = Gateway::start(&site.toml(3, "shards = 1", breaker));
    assert_eq!(post(gateway.admin, "/endpoints/b/disable", "").status, 200);
    for _ in 0..4 {
        assert_eq!(post(gateway.addr, CHAT, &chat("bad", false)).status, 500);
    }
    ask(&gateway, "m", 3);
    let series = |name: &str, label: &str| value(&gateway, &format!("{name}{{endpoint=\"{label}\"}}")) as u64;
    let attempts = |url: SocketAddr| {
        let page = metrics(&gateway);
        let lines = page.lines().filter(|line| line.starts_with("litellm_deployment_total_requests_total{"));
        let of = lines.filter(|line| line.contains(&format!("api_base=\"http://{url}\"")));
        of.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum::<u64>()
    };
    let urls = site.servers.map(|(_, url)| url);
    let before = (series("corelane_breaker_opened_total", "a"), urls.map(attempts));
    assert!(before.0 == 1 && before.1[0] >= 2 && before.1[1] == 0, "{before:?}");
    for round in 0..3 {
        changed(
            &gateway,
            &site.toml(3, "shards = 1", &format!("{breaker}[server.headers]\nx-round = \"{round}\"\n")),
        );
        let page = status(&gateway);
        assert_eq!(page["endpoints"][0]["breaker"]["state"], "open", "{page}");
        assert_eq!(page["endpoints"][1]["disabled"], true);
        assert_eq!(series("corelane_endpoint_disabled", "b"), 1);
        assert_eq!((series("corelane_breaker_opened_total", "a"), urls.map(attempts)), before);
    }
    site.journal.take();
    ask(&gateway, "m", 6);
    assert_eq!(shares(&site.journal)[1], 0, "what the operator took out stays out");
}

/// Counters of models only grow: what a query has seen does not go when an endpoint does.
#[test]
fn series_of_removed_endpoints_stay() {
    let site = Site::new();
    let gateway = Gateway::start(&site.toml(2, "shards = 1", ""));
    ask(&gateway, "m", 4);
    assert_gauges_zero(&gateway);
    let lines = |page: &str| -> Vec<String> {
        let about = |line: &&str| line.starts_with("corelane_requests_total");
        page.lines().filter(about).filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect()
    };
    let before = lines(&metrics(&gateway));
    assert!(!before.is_empty());
    changed(&gateway, &site.toml(1, "shards = 1", ""));
    let after = lines(&metrics(&gateway));
    let lost: Vec<&String> = before.iter().filter(|line| !after.contains(line)).collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn timeouts_and_headers_and_the_log() {
    let site = Site::new();
    let gateway = Gateway::start(&site.toml(1, "shards = 1", "[log]\nlevel = \"error\"\naccess = \"off\"\n"));
    let mut before = posted(gateway.addr, CHAT, "", &chat("held", false));
    until("it is held", || (site.gate.held() == 1).then_some(()));
    let rest = "[timeouts]\nfirst_byte = \"150ms\"\n[retry]\nattempts = 1\n[log]\nlevel = \"info\"\naccess = \"off\"\n\
                [server.headers]\nx-new = \"here\"\n[server.cors]\norigins = [\"https://page.example\"]\n";
    changed(&gateway, &site.toml(1, "shards = 1", rest));
    until("it is logged", || gateway.log().contains("configuration 2 ").then_some(()));
    let answer = post(gateway.addr, CHAT, &chat("held", false));
    assert_eq!((answer.status, answer.field("x-new")), (504, Some("here")));
    let origin = |page: &str| {
        let fields = format!("Origin: {page}\r\n");
        let answer = scripted::post_with(gateway.addr, CHAT, &fields, &chat("m", false));
        answer.field("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(origin("https://page.example").as_deref(), Some("https://page.example"));
    assert_eq!(origin("https://other.example"), None);
    changed(&gateway, &site.toml(1, "shards = 1", "[log]\nlevel = \"error\"\naccess = \"off\"\n"));
    assert_eq!(origin("https://other.example").as_deref(), Some("*"));
    assert_eq!(post(gateway.addr, CHAT, &chat("m", false)).field("x-new"), None);
    changed(&gateway, &site.toml(1, "shards = 1", rest));
    until("it is logged", || gateway.log().contains("configuration 4 ").then_some(()));
    assert!(!gateway.log().contains("configuration 3 "), "{}", gateway.log());
    site.gate.open();
    assert_eq!(read(&mut before).status, 200, "it has the time that it began with");
}
