//! Promise: when a model cannot answer, those that the configuration names in its place are asked, in order, none twice and
//! not too many; nobody gets an answer by them that he may not have, and every answer says which model gave it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types
)] // test code

#[path = "fallbacks/context.rs"]
mod context;
#[path = "fallbacks/limits.rs"]
mod limits;
#[path = "fallbacks/scripted.rs"]
mod scripted;
mod support;
#[path = "fallbacks/warnings.rs"]
mod warnings;

use corelane::sim::{Fault, Options};
use scripted::{Ask, CHAT, Journal, config, death, events, good, refusal, streamed, text, value};
use serde_json::{Value, json};
use support::fleet::{Fleet, chat, json as json_of, model, post};
use support::upstream::{Reply, Then};
use support::{Gateway, assert_gauges_zero};

/// One attempt a model, unless a test says otherwise.
pub const ONCE: &str = "[retry]\nattempts = 1\n";

/// A gateway in front of one server that knows all models and fails for those named `bad-…`.
pub struct Stage {
    /// What it was asked.
    pub journal: Journal,
    /// In front of it.
    pub gateway: Gateway,
}

impl Stage {
    /// With these models and settings; the one endpoint is called `e`.
    pub fn set(rest: &str) -> Stage {
        Stage::with(rest, |ask| if ask.model.starts_with("bad") { broken() } else { good(ask) })
    }

    /// With a server that answers so.
    pub fn with<F: Fn(&Ask) -> Reply + Send + Sync + 'static>(rest: &str, answer: F) -> Stage {
        let journal = Journal::default();
        let addr = journal.server("e", answer);
        let gateway = Gateway::start(&config(&[("e", addr)], "shards = 1", rest));
        Stage { journal, gateway }
    }
}

/// A 500.
pub fn broken() -> Reply {
    refusal(500, "", "invented", None)
}

/// Models that name these fallbacks: `a > b c, b > d, d`.
pub fn models(list: &str) -> String {
    let one = |entry: &str| {
        let (name, fallbacks) = entry.split_once('>').unwrap_or((entry, ""));
        let names: Vec<&str> = fallbacks.split_whitespace().collect();
        let more = if names.is_empty() { String::new() } else { format!("fallbacks = {names:?}") };
        model(name.trim(), &["e"], &more)
    };
    list.split(',').map(one).collect()
}

#[test]
fn depth_first_in_order_and_none_twice() {
    let list = "bad-a > bad-b bad-c good-e, bad-b > bad-a bad-d, bad-c > bad-d, bad-d, good-e";
    let stage = Stage::set(&format!("{ONCE}{}", models(list)));
    for stream in [false, true] {
        let answer = post(stage.gateway.addr, CHAT, &chat("bad-a", stream));
        assert_eq!(answer.status, 200, "{}", text(&answer));
        assert_eq!(stage.journal.take(), ["e/bad-a", "e/bad-b", "e/bad-d", "e/bad-c", "e/good-e"]);
        assert_eq!(answer.field("x-corelane-model"), Some("good-e"));
        assert_eq!(answer.field("x-litellm-attempted-fallbacks"), Some("4"));
        assert_eq!(answer.field("x-corelane-attempts"), Some("5"));
    }
    assert!((value(&stage.gateway, "corelane_fallbacks_total") - 8.0).abs() < 0.1);
    assert_gauges_zero(&stage.gateway);
}

#[test]
fn only_when_all_attempts_are_spent() {
    let retry = "[retry]\nattempts = 3\nbackoff = \"1ms\"\n[breaker]\nenabled = false\n";
    let stage = Stage::set(&format!("{retry}{}", models("bad-a > good-b, good-b")));
    let answer = post(stage.gateway.addr, CHAT, &chat("bad-a", false));
    assert_eq!(stage.journal.take(), ["e/bad-a", "e/bad-a", "e/bad-a", "e/good-b"]);
    assert_eq!((answer.status, answer.field("x-corelane-attempts")), (200, Some("4")));
    assert_eq!(answer.field("x-litellm-attempted-fallbacks"), Some("1"));
    // What has served without one says so, too.
    let answer = post(stage.gateway.addr, CHAT, &chat("good-b", false));
    assert_eq!(answer.field("x-litellm-attempted-fallbacks"), Some("0"));
    assert_eq!((answer.status, answer.field("x-corelane-model")), (200, None));
}

#[test]
fn loops_end_with_the_last_failure() {
    let stage = Stage::set(&format!("{ONCE}{}", models("bad-a > bad-b, bad-b > bad-c, bad-c > bad-a bad-b")));
    for from in ["bad-a", "bad-b", "bad-c"] {
        let answer = post(stage.gateway.addr, CHAT, &chat(from, false));
        assert_eq!(answer.status, 500);
        assert_eq!(json_of(&answer)["error"]["message"], "invented");
        let mut asked = stage.journal.take();
        asked.sort_unstable();
        assert_eq!(asked, ["e/bad-a", "e/bad-b", "e/bad-c"], "from {from}");
    }
}

#[test]
fn the_default_is_for_models_that_name_none() {
    let rest = format!(
        "{ONCE}[fallbacks]\ndefault = [\"bad-d\", \"good-e\"]\n{}",
        models("bad-a, bad-b > bad-c, bad-c, bad-d, good-e")
    );
    let stage = Stage::set(&rest);
    assert_eq!(post(stage.gateway.addr, CHAT, &chat("bad-a", false)).status, 200);
    assert_eq!(stage.journal.take(), ["e/bad-a", "e/bad-d", "e/good-e"]);
    assert_eq!(post(stage.gateway.addr, CHAT, &chat("bad-b", false)).status, 500);
    assert_eq!(stage.journal.take(), ["e/bad-b", "e/bad-c"], "it names its own");
    assert_eq!(post(stage.gateway.addr, CHAT, &chat("bad-d", false)).status, 200);
    assert_eq!(stage.journal.take(), ["e/bad-d", "e/good-e"], "itself is passed over");
}

#[test]
fn so_many_models_at_most() {
    for (most, want) in [(0, 1), (1, 2), (2, 3), (5, 4)] {
        let rest = format!(
            "{ONCE}[fallbacks]\nmodels_max = {most}\n{}",
            models("bad-a > bad-b bad-c, bad-b, bad-c > bad-d, bad-d")
        );
        let stage = Stage::set(&rest);
        assert_eq!(post(stage.gateway.addr, CHAT, &chat("bad-a", false)).status, 500);
        let asked = stage.journal.take();
        assert_eq!(asked, ["e/bad-a", "e/bad-b", "e/bad-c", "e/bad-d"][..want], "models_max {most}");
    }
}

#[test]
fn whatever_keeps_a_model_from_answering() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let journal = Journal::default();
    let well = journal.server("well", good);
    for status in [401, 403, 404, 408, 429, 500, 502, 503, 529] {
        let bad = journal.server("bad", move |_| refusal(status, "", "model missing, not found", None));
        falls(&journal, &[("bad", bad), ("well", well)], &format!("status {status}"));
    }
    falls(&journal, &[("bad", journal.server("bad", |_| death())), ("well", well)], "a reset");
    let silent = journal.server("bad", |_| {
        std::thread::sleep(std::time::Duration::from_secs(3));
        death()
    });
    falls(&journal, &[("bad", silent), ("well", well)], "silence");
    falls(&journal, &[("bad", dead), ("well", well)], "nobody there");
}

/// The model `a` at `bad` falls back to `b` at `well`, in whole answers and in streams.
fn falls(journal: &Journal, servers: &[(&str, std::net::SocketAddr)], why: &str) {
    let rest = format!(
        "{ONCE}{}{}[timeouts]\nfirst_byte = \"200ms\"\n",
        model("a", &["bad"], "fallbacks = [\"b\"]"),
        model("b", &["well"], "")
    );
    let gateway = Gateway::start(&config(servers, "shards = 1", &rest));
    for stream in [false, true] {
        let answer = post(gateway.addr, CHAT, &chat("a", stream));
        assert_eq!(answer.status, 200, "{why}: {}", text(&answer));
        assert_eq!(answer.field("x-corelane-endpoint"), Some("well"), "{why}");
        assert_eq!(journal.take().last().map(String::as_str), Some("well/b"), "{why}");
    }
    assert_gauges_zero(&gateway);
}

/// A model that no endpoint has: what probes say of it is no other than an endpoint's own 404.
#[test]
fn a_model_that_no_endpoint_has() {
    let options = Options { models: vec!["there:latest".into()], ..Options::default() };
    let rest = "[[models]]\nname = \"gone\"\nfallbacks = [\"there\"]\n[[models]]\nname = \"there\"\n";
    let fleet = Fleet::start(vec![options], "shards = 1", rest).ready();
    let answer = post(fleet.gateway.addr, CHAT, &chat("gone", false));
    assert_eq!(answer.status, 200, "{}", text(&answer));
    assert_eq!(answer.field("x-corelane-model"), Some("there"));
    assert_eq!(post(fleet.gateway.addr, CHAT, &chat("unheard-of", false)).status, 404);
}

#[test]
fn answers_carry_the_model_that_gave_them() {
    let stage = Stage::set(&format!("{ONCE}{}", models("bad-a > ollama/good-b, ollama/good-b")));
    let whole = post(stage.gateway.addr, CHAT, &chat("bad-a", false));
    assert_eq!(json_of(&whole)["model"], "ollama/good-b");
    let stream = post(stage.gateway.addr, CHAT, &chat("bad-a", true));
    assert_eq!(stream.field("x-corelane-model"), Some("ollama/good-b"));
    let text = text(&stream);
    let datas = || text.lines().filter_map(|line| line.strip_prefix("data: "));
    assert_eq!(datas().next_back(), Some("[DONE]"));
    let events: Vec<Value> = datas().filter_map(|data| serde_json::from_str(data).ok()).collect();
    assert!(events.len() >= 3 && events.iter().all(|event| event["model"] == "ollama/good-b"), "{text}");
}

#[test]
fn usage_and_cost_are_the_serving_models() {
    let price = "price = { input_per_1k = 1.0, output_per_1k = 2.0 }";
    let rest = format!(
        "{ONCE}{}{}",
        model(
            "bad-a",
            &["e"],
            "fallbacks = [\"good-b\"]\nprice = { input_per_1k = 100.0, output_per_1k = 100.0 }"
        ),
        model("good-b", &["e"], price)
    );
    let stage = Stage::set(&rest);
    let whole = post(stage.gateway.addr, CHAT, &chat("bad-a", false));
    let cost: f64 = whole.field("x-litellm-response-cost").unwrap().parse().unwrap();
    assert!((cost - 0.013).abs() < 1e-9, "3 at 1, 5 at 2 a thousand: {cost}");
    assert_eq!(post(stage.gateway.addr, CHAT, &chat("bad-a", true)).status, 200);
    assert_gauges_zero(&stage.gateway);
    let of = |model: &str, kind: &str| {
        value(&stage.gateway, &format!("corelane_tokens_total{{model=\"{model}\",type=\"{kind}\"}}")) as u32
    };
    assert_eq!((of("good-b", "input"), of("good-b", "output")), (6, 10));
    assert_eq!((of("bad-a", "input"), of("bad-a", "output")), (0, 0));
    let requests = |model: &str| {
        value(&stage.gateway, &format!("corelane_requests_total{{model=\"{model}\",status=\"200\"}}")) as u32
    };
    assert_eq!((requests("good-b"), requests("bad-a")), (2, 0));
}

#[test]
fn a_stream_that_has_begun_is_nobody_elses() {
    let cut = |ask: &Ask| match &*ask.model {
        "bad-a" => Reply { writes: vec![events(ask, false)], then: Then::Close },
        _ => good(ask),
    };
    let stage = Stage::with(&format!("{ONCE}{}", models("bad-a > good-b, good-b")), cut);
    let text = streamed(stage.gateway.addr, "bad-a");
    assert_eq!(stage.journal.take(), ["e/bad-a"]);
    assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
}

#[test]
fn native_paths_of_ollama() {
    let servers = vec![
        Options { name: "e0".into(), fault: Fault::Status(500), ..Options::default() },
        Options { name: "e1".into(), ..Options::default() },
    ];
    let rest = format!(
        "{ONCE}{}{}",
        model("ollama/llama3.2", &["e0"], "fallbacks = [\"ollama/mistral\"]"),
        model("ollama/mistral", &["e1"], "")
    );
    let fleet = Fleet::start(servers, "shards = 1", &rest).ready();
    let messages = json!([{"role": "user", "content": "hi"}]);
    for (path, stream) in
        [("/api/chat", false), ("/api/chat", true), ("/api/generate", false), ("/api/generate", true)]
    {
        let body = json!({"model": "llama3.2", "messages": messages, "prompt": "hi", "stream": stream});
        let answer = post(fleet.gateway.addr, path, &body.to_string());
        assert_eq!(answer.status, 200, "{path}: {}", text(&answer));
        assert_eq!(answer.field("x-corelane-model"), Some("ollama/mistral"));
        let lines: Vec<Value> =
            text(&answer).lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert!(lines.iter().all(|line| line["model"] == "mistral"), "{path}: {}", text(&answer));
        assert_eq!(lines.last().unwrap()["done"], true);
    }
    fleet.assert_quiet();
}
