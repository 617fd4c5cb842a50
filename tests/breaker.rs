//! Promise: an endpoint that fails is left alone for a while and then tried by one request; what fails for a model only is a
//! fact about that model; nothing that is the client's fault opens anything; and retries never become a flood.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types
)] // test code

#[path = "breaker/deadlines.rs"]
mod deadlines;
#[path = "breaker/retries.rs"]
mod retries;
#[path = "fallbacks/scripted.rs"]
mod scripted;
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use scripted::{
    Ask, CHAT, Gate, Journal, config, death, events, good, posted, read, refusal, streamed, text, value,
};
use serde_json::Value;
use support::answer::Reader;
use support::fleet::{chat, model, post, until};
use support::upstream::{Reply, Then};
use support::{Gateway, assert_gauges_zero, get};

/// Two servers, `a` and `b`, for the models `m` and `n` in turn; `a` answers as a test says, `b` is well.
pub struct Pair {
    /// What both were asked.
    pub journal: Journal,
    /// In front of them.
    pub gateway: Gateway,
}

impl Pair {
    /// With more settings.
    pub fn set<F: Fn(&Ask) -> Reply + Send + Sync + 'static>(rest: &str, answer: F) -> Pair {
        let journal = Journal::default();
        let servers = [("a", journal.server("a", answer)), ("b", journal.server("b", good))];
        let both = "strategy = \"round_robin\"";
        let models = model("m", &["a", "b"], both) + &model("n", &["a", "b"], both);
        let rest = if rest.contains("[breaker]") { rest.to_owned() } else { format!("{rest}{LONG}") };
        let gateway = Gateway::start(&config(&servers, "shards = 1", &format!("{rest}\n{models}")));
        Pair { journal, gateway }
    }

    /// Asks so often, one after the other; all get their answer.
    pub fn ask(&self, model: &str, count: usize) {
        for _ in 0..count {
            let answer = post(self.gateway.addr, CHAT, &chat(model, false));
            assert_eq!(answer.status, 200, "{}", text(&answer));
        }
    }

    /// How often `a` was asked since the last look.
    pub fn of_a(&self) -> usize {
        self.journal.take().iter().filter(|ask| ask.starts_with("a/")).count()
    }
}

/// Once open, it stays so for as long as a test runs.
pub const LONG: &str = "[breaker]\nfailures = 3\nopen = \"10m\"\nopen_max = \"10m\"\n";

/// State and reason of a breaker in the metrics; of the endpoint if `model` is empty. Those of models have no series while
/// they are closed.
pub fn state(gateway: &Gateway, endpoint: &str, model: &str) -> (u32, String) {
    let page = support::metrics(gateway);
    let begins = format!("corelane_breaker_state{{endpoint=\"{endpoint}\",model=\"{model}\",reason=\"");
    let Some(rest) = page.lines().find_map(|line| line.strip_prefix(&begins)) else {
        assert!(!model.is_empty() && page.contains("\ncorelane_breaker_state{"), "{begins}");
        return closed();
    };
    let (reason, state) = rest.split_once("\"} ").unwrap();
    (state.parse().unwrap(), reason.to_owned())
}

/// Seconds to the next trial.
pub fn retry_s(gateway: &Gateway, endpoint: &str, model: &str) -> f64 {
    value(gateway, &format!("corelane_breaker_retry_seconds{{endpoint=\"{endpoint}\",model=\"{model}\"}}"))
}

fn status(gateway: &Gateway, endpoint: usize) -> Value {
    let (_, _, body) = get(gateway.admin, "/status");
    serde_json::from_slice::<Value>(&body).unwrap()["endpoints"][endpoint]["breaker"].clone()
}

fn closed() -> (u32, String) {
    (0, "none".to_owned())
}

#[test]
fn so_many_failures_in_a_row_open_it() {
    for (status_code, reason) in [(500, "answers"), (502, "answers"), (0, "answers")] {
        let pair = Pair::set("", move |_| match status_code {
            0 => death(),
            code => refusal(code, "", "invented", None),
        });
        assert_eq!(state(&pair.gateway, "a", ""), closed());
        pair.ask("m", 4);
        assert_eq!((pair.of_a(), state(&pair.gateway, "a", "")), (2, closed()), "two are not three");
        pair.ask("m", 20);
        assert_eq!(pair.of_a(), 1, "the third opens it");
        assert_eq!(state(&pair.gateway, "a", ""), (2, reason.to_owned()));
        assert_eq!(state(&pair.gateway, "b", ""), closed());
        let seconds = retry_s(&pair.gateway, "a", "");
        assert!(seconds > 0.0 && seconds <= 600.0, "{seconds}");
        assert!((value(&pair.gateway, "corelane_breaker_opened_total{endpoint=\"a\"}") - 1.0).abs() < 0.1);
        let shown = status(&pair.gateway, 0);
        assert_eq!((&shown["state"], &shown["reason"]), (&"open".into(), &reason.into()), "{shown}");
        assert!((1..=600_000).contains(&shown["retry_in_ms"].as_u64().unwrap()), "{shown}");
        assert_eq!(status(&pair.gateway, 1)["state"], "closed");
        pair.ask("n", 4);
        assert_eq!(pair.of_a(), 0, "the endpoint fails, whatever the model");
        assert_gauges_zero(&pair.gateway);
    }
}

#[test]
fn successes_between_failures_keep_it_closed() {
    let turn = AtomicU16::new(0);
    let pair = Pair::set("", move |ask| {
        if turn.fetch_add(1, Ordering::SeqCst) % 3 < 2 { refusal(500, "", "x", None) } else { good(ask) }
    });
    pair.ask("m", 30);
    assert_eq!((pair.of_a(), state(&pair.gateway, "a", "")), (15, closed()));
}

/// Whether the answer has begun to come.
fn is_answered(reader: &mut Reader) -> bool {
    let stream = reader.stream();
    stream.set_nonblocking(true).unwrap();
    let there = stream.peek(&mut [0]).is_ok();
    stream.set_nonblocking(false).unwrap();
    there
}

#[test]
fn one_trial_then_closed() {
    let (code, gate) = (Arc::new(AtomicU16::new(500)), Gate::default());
    let (seen, held) = (Arc::clone(&code), gate.clone());
    let pair = Pair::set("[breaker]\nfailures = 3\nopen = \"300ms\"\nopen_max = \"300ms\"\n", move |ask| {
        match seen.load(Ordering::SeqCst) {
            200 => held.pass(),
            _ => return refusal(500, "", "invented", None),
        }
        good(ask)
    });
    pair.ask("m", 6);
    assert_eq!(pair.of_a(), 3);
    code.store(200, Ordering::SeqCst);
    // Somebody becomes the trial once the time has passed, and is held; whoever comes now is served by the other.
    let mut trial = until("the trial", || {
        let mut reader = posted(pair.gateway.addr, CHAT, "", &chat("m", false));
        let is_held = until("it is answered or held", || match (gate.held(), is_answered(&mut reader)) {
            (1, _) => Some(true),
            (_, answered) => answered.then_some(false),
        });
        if is_held {
            return Some(reader);
        }
        assert_eq!(read(&mut reader).status, 200);
        None
    });
    assert_eq!(state(&pair.gateway, "a", ""), (1, "answers".to_owned()), "half open");
    assert_eq!(status(&pair.gateway, 0)["state"], "half_open");
    pair.journal.take();
    pair.ask("m", 10);
    assert_eq!((pair.of_a(), gate.held()), (0, 1), "one trial at a time");
    gate.open();
    assert_eq!(read(&mut trial).status, 200);
    assert_eq!(state(&pair.gateway, "a", ""), closed());
    pair.ask("m", 10);
    assert_eq!(pair.of_a(), 5);
    drop(trial);
    assert_gauges_zero(&pair.gateway);
}

#[test]
fn switched_off_nothing_opens() {
    let pair = Pair::set("[breaker]\nenabled = false\n", |_| refusal(500, "", "x", None));
    pair.ask("m", 20);
    assert_eq!((pair.of_a(), state(&pair.gateway, "a", "")), (10, closed()));
}

#[test]
fn a_server_that_asks_for_time_gets_it() {
    for code in [429, 503] {
        let pair = Pair::set("", move |ask| match &*ask.model {
            "m" => refusal(code, "Retry-After: 90\r\n", "busy", None),
            _ => good(ask),
        });
        pair.ask("m", 20);
        assert_eq!(pair.of_a(), 1, "{code}: one has heard of it for all");
        assert_eq!(state(&pair.gateway, "a", "m"), (2, "busy".to_owned()));
        assert_eq!(state(&pair.gateway, "a", ""), closed());
        let seconds = retry_s(&pair.gateway, "a", "m");
        assert!(seconds > 10.0 && seconds <= 60.0, "{code}: retry_after_max is 60s: {seconds}");
        pair.ask("n", 10);
        assert_eq!(pair.of_a(), 5, "{code}: the other model is well");
    }
}

/// RFC 9110 section 10.2.3: a date is the other form of the field.
#[test]
fn a_date_is_understood_too() {
    let pair = Pair::set("", |_| {
        let date = httpdate::fmt_http_date(std::time::SystemTime::now() + std::time::Duration::from_secs(40));
        refusal(503, &format!("Retry-After: {date}\r\n"), "busy", None)
    });
    pair.ask("m", 20);
    assert_eq!(pair.of_a(), 1);
    let seconds = retry_s(&pair.gateway, "a", "m");
    assert!(seconds > 10.0 && seconds <= 41.0, "{seconds}");
}

#[test]
fn how_long_may_be_bounded_or_ignored() {
    let busy = |_: &Ask| refusal(429, "Retry-After: 90\r\n", "busy", None);
    let pair = Pair::set("[breaker]\nfailures = 1000\nretry_after_max = \"20s\"\n", busy);
    pair.ask("m", 10);
    let seconds = retry_s(&pair.gateway, "a", "m");
    assert!(pair.of_a() == 1 && seconds > 1.0 && seconds <= 20.0, "{seconds}");
    let pair = Pair::set("[breaker]\nfailures = 1000\nretry_after_max = \"0s\"\n", busy);
    pair.ask("m", 10);
    assert_eq!((pair.of_a(), state(&pair.gateway, "a", "m")), (5, closed()), "0s: not at all");
}

fn alone(journal: &Journal, addr: SocketAddr) -> Gateway {
    let rest = format!("[retry]\nattempts = 1\n{LONG}{}", model("m", &["a"], ""));
    journal.take();
    Gateway::start(&config(&[("a", addr)], "shards = 1", &rest))
}

#[test]
fn the_last_one_is_always_tried() {
    for (code, after) in [(429, Some("30")), (503, Some("30")), (500, None)] {
        let journal = Journal::default();
        let fields = after.map(|after| format!("Retry-After: {after}\r\n")).unwrap_or_default();
        let addr = journal.server("a", move |_| refusal(code, &fields, "no", None));
        let gateway = alone(&journal, addr);
        for _ in 0..8 {
            let answer = post(gateway.addr, CHAT, &chat("m", false));
            assert_eq!((answer.status, answer.field("retry-after")), (code, after));
        }
        assert_eq!(journal.len(), 8, "{code}: nobody else is there");
        let whole = state(&gateway, "a", "").0 + state(&gateway, "a", "m").0;
        assert_eq!(whole, 2, "{code}: though it is open");
    }
}

#[test]
fn a_missing_model_is_no_fact_about_the_server() {
    for body in ["model 'm' not found", "The model `m` does not exist."] {
        let pair = Pair::set("", move |ask| match &*ask.model {
            "m" => refusal(404, "", body, None),
            _ => good(ask),
        });
        pair.ask("m", 20);
        assert_eq!(pair.of_a(), 1, "it is not asked for that model again");
        assert_eq!(state(&pair.gateway, "a", "m"), (2, "missing".to_owned()));
        assert_eq!((state(&pair.gateway, "a", ""), state(&pair.gateway, "a", "n")), (closed(), closed()));
        let seconds = retry_s(&pair.gateway, "a", "m");
        assert!(seconds > 0.0 && seconds <= 30.0, "{seconds}");
        pair.ask("n", 10);
        assert_eq!(pair.of_a(), 5);
        let (_, _, page) = get(pair.gateway.admin, "/status");
        let page: Value = serde_json::from_slice(&page).unwrap();
        let models = page["models"].as_array().unwrap();
        let breaker =
            |name: &str| models.iter().find(|model| model["name"] == name).unwrap()["breakers"].clone();
        assert_eq!(breaker("m")["a"]["reason"], "missing");
        assert!(breaker("n").as_object().unwrap().is_empty());
    }
}

#[test]
fn what_is_the_clients_opens_nothing() {
    for code in [400, 404, 408, 413, 422, 501] {
        let bad = Arc::new(AtomicU16::new(code));
        let seen = Arc::clone(&bad);
        let pair = Pair::set("", move |ask| match seen.load(Ordering::SeqCst) {
            200 => good(ask),
            code => refusal(code, "", "404 page not found", None),
        });
        for _ in 0..20 {
            post(pair.gateway.addr, CHAT, &chat("m", false));
        }
        assert_eq!((pair.of_a(), state(&pair.gateway, "a", "")), (10, closed()), "{code}");
        assert_eq!(state(&pair.gateway, "a", "m"), closed(), "{code}");
        bad.store(200, Ordering::SeqCst);
        pair.ask("m", 10);
        assert_eq!(pair.of_a(), 5, "{code}");
    }
}

/// What one endpoint denies and another grants is no fault of the client's: the one has no right key.
#[test]
fn one_that_denies_what_another_grants() {
    for code in [401, 403] {
        let pair = Pair::set("", move |ask| match &*ask.model {
            "m" => refusal(code, "", "no", None),
            _ => good(ask),
        });
        pair.ask("m", 20);
        assert_eq!((pair.of_a(), state(&pair.gateway, "a", "")), (1, closed()), "{code}");
        assert_eq!(state(&pair.gateway, "a", "m"), (2, "missing".to_owned()), "{code}");
        pair.ask("n", 10);
        assert_eq!(pair.of_a(), 5, "{code}");
        // If nobody grants it, it is the client's.
        let both = Journal::default();
        let deny = move |_: &Ask| refusal(code, "", "no", None);
        let servers = [("a", both.server("a", deny)), ("b", both.server("b", deny))];
        let rest = format!("{LONG}{}", model("m", &["a", "b"], ""));
        let gateway = Gateway::start(&config(&servers, "shards = 1", &rest));
        for _ in 0..10 {
            assert_eq!(post(gateway.addr, CHAT, &chat("m", false)).status, code);
        }
        assert_eq!((both.len(), state(&gateway, "a", "m")), (20, closed()), "{code}");
    }
}

#[test]
fn streams_that_break_off_count() {
    let pair = Pair::set("", |ask| Reply { writes: vec![events(ask, false)], then: Then::Close });
    let mut broken = 0;
    for _ in 0..20 {
        let text = streamed(pair.gateway.addr, "m");
        assert_ne!(text.contains("\"error\""), text.contains("[DONE]"), "{text}");
        broken += usize::from(text.contains("\"error\""));
    }
    assert_eq!((broken, pair.of_a()), (3, 3));
    assert_eq!(state(&pair.gateway, "a", ""), (2, "answers".to_owned()));
    let series = "corelane_requests_total{model=\"m\",status=\"502\"}";
    assert!((value(&pair.gateway, series) - 3.0).abs() < 0.1);
    assert_gauges_zero(&pair.gateway);
}

#[test]
fn silence_opens_it() {
    let pair = Pair::set(&format!("[timeouts]\nfirst_byte = \"150ms\"\n{LONG}"), |_| {
        std::thread::sleep(std::time::Duration::from_secs(5));
        death()
    });
    pair.ask("m", 12);
    assert_eq!((pair.of_a(), state(&pair.gateway, "a", "")), (3, (2, "timeout".to_owned())));
}
