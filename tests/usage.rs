//! Promise: what an exchange has used and cost is what its endpoint counted, wherever it is told: in the answer, its headers, the
//! metrics, the log, and against its key's budget. What nobody counted is estimated and marked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use corelane::sim::Options;
use serde_json::{Value, json};
use support::answer::Answer;
use support::fleet::{Fleet, chat, connect, json, model, post, quick, try_post, until};
use support::upstream::{Record, Reply, Then, Upstream, plain};
use support::{Gateway, get};

const CHAT: &str = "/v1/chat/completions";
const PRICE: &str = "price = { input_per_1k = 1.0, output_per_1k = 2.0 }";

/// The sum of all samples whose name and labels hold all of `parts`.
fn sum(page: &str, parts: &[&str]) -> f64 {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let mine = lines.filter(|line| parts.iter().all(|part| line.contains(part)));
    mine.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

/// The page of metrics after nothing ran any more: an exchange is counted after its last byte, and before it is gone.
fn metrics(gateway: &Gateway) -> String {
    let running = || sum(&support::metrics(gateway), &["corelane_exchanges_in_flight{"]);
    until("every exchange is counted", || (running() == 0.0).then_some(()));
    support::metrics(gateway)
}

/// The lines of the access log, as soon as there are `n`.
fn lines(gateway: &Gateway, n: usize) -> Vec<Value> {
    until("the log has the lines", || {
        let log = gateway.log();
        let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() >= n).then_some(lines)
    })
}

/// An endpoint that answers as `reply` says, and a gateway in front of it.
fn scripted(more: &str, reply: impl Fn(&Record) -> Reply + Send + Sync + 'static) -> (Upstream, Gateway) {
    let upstream = Upstream::start("127.0.0.1:0".parse().unwrap(), reply);
    let gateway = Gateway::start(&format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\nshards = 1\n\
         [health]\nenabled = false\n[log]\nformat = \"json\"\n[[endpoints]]\nname = \"a\"\nurl = \"http://{}\"\nkind = \"openai\"\n{more}",
        upstream.addr
    ));
    (upstream, gateway)
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} is not {b}");
}

#[test]
fn every_dialect_is_counted_as_its_endpoint_says() {
    let fleet = Fleet::start(quick(1), "shards = 1", &model("*", &["e0"], "")).ready();
    let (mut input, mut output) = (0, 0);
    let mut add = |usage: &Value, names: [&str; 2]| {
        input += usage[names[0]].as_u64().unwrap_or_else(|| panic!("{usage}"));
        output += usage[names[1]].as_u64().unwrap_or_default();
    };
    let openai = ["prompt_tokens", "completion_tokens"];
    add(&json(&post(fleet.gateway.addr, CHAT, &chat("llama3.2", false)))["usage"], openai);
    let completion = r#"{"model":"llama3.2","prompt":"one two three"}"#;
    add(&json(&post(fleet.gateway.addr, "/v1/completions", completion))["usage"], openai);
    let embed = r#"{"model":"nomic-embed-text","input":["one two","three"]}"#;
    add(&json(&post(fleet.gateway.addr, "/v1/embeddings", embed))["usage"], openai);
    let native = r#"{"model":"llama3.2","messages":[{"role":"user","content":"hi"}],"stream":false}"#;
    add(&json(&post(fleet.gateway.addr, "/api/chat", native)), ["prompt_eval_count", "eval_count"]);
    let message = r#"{"model":"llama3.2","max_tokens":50,"messages":[{"role":"user","content":"hi"}]}"#;
    add(
        &json(&post(fleet.gateway.addr, "/v1/messages", message))["usage"],
        ["input_tokens", "output_tokens"],
    );
    let responses = r#"{"model":"llama3.2","input":"hi there"}"#;
    add(
        &json(&post(fleet.gateway.addr, "/v1/responses", responses))["usage"],
        ["input_tokens", "output_tokens"],
    );
    // Streams, with the usage asked for by the client and by us.
    let asked = chat("llama3.2", true)
        .replace("\"stream\":true", "\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    let usage = last_usage(&post(fleet.gateway.addr, CHAT, &asked));
    add(&usage, openai);
    let silent = post(fleet.gateway.addr, CHAT, &chat("llama3.2", true));
    assert!(!String::from_utf8(silent.body).unwrap().contains("\"usage\":{"), "nobody asked for it");
    add(&usage, openai); // the same request has the same usage
    let page = metrics(&fleet.gateway);
    close(sum(&page, &["litellm_tokens_used{", "type=\"input\""]), input as f64);
    close(sum(&page, &["litellm_tokens_used{", "type=\"output\""]), output as f64);
    close(sum(&page, &["corelane_tokens_estimated_total{"]), 0.0);
    assert!(sum(&page, &["corelane_endpoint_work_seconds_total{"]) > 0.0);
    fleet.assert_quiet();
}

fn last_usage(answer: &Answer) -> Value {
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: {"));
    let events = data.map(|data| serde_json::from_str::<Value>(&format!("{{{data}")).unwrap());
    events
        .map(|event| event["usage"].clone())
        .rfind(Value::is_object)
        .unwrap_or_else(|| panic!("no usage: {text}"))
}

#[test]
fn the_cost_is_told_everywhere() {
    let rest = format!("[log]\nformat = \"json\"\n{}", model("llama3.2", &["e0"], PRICE));
    let fleet = Fleet::start(quick(1), "shards = 1", &rest).ready();
    let answer = post(fleet.gateway.addr, CHAT, &chat("llama3.2", false));
    let usage = json(&answer)["usage"].clone();
    let expected = (usage["prompt_tokens"].as_f64().unwrap()
        + 2.0 * usage["completion_tokens"].as_f64().unwrap())
        / 1000.0;
    assert!(expected > 0.0);
    close(usage["cost"].as_f64().unwrap(), expected);
    close(answer.field("x-litellm-response-cost").unwrap().parse().unwrap(), expected);
    let asked = chat("llama3.2", true)
        .replace("\"stream\":true", "\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    let streamed = last_usage(&post(fleet.gateway.addr, CHAT, &asked))["cost"].as_f64().unwrap();
    let line = &lines(&fleet.gateway, 2)[0];
    close(line["cost"].as_f64().unwrap(), expected);
    close(sum(&metrics(&fleet.gateway), &["corelane_cost_total{", "llama3.2"]), expected + streamed);
    // Free models say nothing of it.
    let free = Fleet::start(quick(1), "shards = 1", &model("llama3.2", &["e0"], "")).ready();
    let answer = post(free.gateway.addr, CHAT, &chat("llama3.2", false));
    assert!(json(&answer)["usage"].get("cost").is_none());
    assert_eq!(answer.field("x-litellm-response-cost"), Some("0"));
}

#[test]
fn prices_come_from_litellms_list() {
    let file = std::env::temp_dir().join(format!("corelane-prices-{}.json", std::process::id()));
    let list = json!({
        "sample_spec": {"input_cost_per_token": 0},
        "ollama/llama3.2": {"input_cost_per_token": 0.001, "output_cost_per_token": 0.002, "mode": "chat"},
    });
    std::fs::write(&file, list.to_string()).unwrap();
    let usage = format!("[usage]\nprice_file = {file:?}\n");
    let fleet =
        Fleet::start(quick(1), "shards = 1", &format!("{usage}{}", model("ollama/*", &["e0"], ""))).ready();
    let usage = json(&post(fleet.gateway.addr, CHAT, &chat("ollama/llama3.2", false)))["usage"].clone();
    let expected =
        usage["prompt_tokens"].as_f64().unwrap() + 2.0 * usage["completion_tokens"].as_f64().unwrap();
    close(usage["cost"].as_f64().unwrap(), expected / 1000.0);
    let other = json(&post(fleet.gateway.addr, CHAT, &chat("ollama/mistral", false)));
    assert!(other["usage"].get("cost").is_none(), "it is not listed");
    let _ = std::fs::remove_file(file);
}

#[test]
fn cached_and_reasoning_tokens_have_their_price_and_series() {
    let body = json!({"id": "1", "model": "m", "choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100,
            "prompt_tokens_details": {"cached_tokens": 800}, "completion_tokens_details": {"reasoning_tokens": 60}}});
    let price = "[[models]]\nname = \"m\"\nprice = { input_per_1k = 1.0, output_per_1k = 2.0, cached_input_per_1k = 0.1 }\n";
    let (_upstream, gateway) =
        scripted(price, move |_| Reply { writes: vec![plain(&body.to_string())], then: Then::Keep });
    let answer = post(gateway.addr, CHAT, &chat("m", false));
    close(json(&answer)["usage"]["cost"].as_f64().unwrap(), 0.2 + 0.08 + 0.2);
    let page = metrics(&gateway);
    close(sum(&page, &["corelane_tokens_cached_total{"]), 800.0);
    close(sum(&page, &["corelane_tokens_reasoning_total{"]), 60.0);
    let line = &lines(&gateway, 1)[0];
    assert_eq!((line["tokens_cached"].as_u64(), line["tokens_reasoning"].as_u64()), (Some(800), Some(60)));
}

/// Reads a stream until it has brought so many tokens, and leaves.
fn read_some(gateway: &Gateway, body: &str, tokens: usize) -> usize {
    let mut reader = connect(gateway.addr);
    support::fleet::send(&mut reader, CHAT, body);
    let (mut text, mut chunk) = (Vec::new(), [0; 512]);
    let deadline = Instant::now() + Duration::from_secs(20);
    let seen = |text: &[u8]| String::from_utf8_lossy(text).matches("\"content\":\" word\"").count();
    while seen(&text) < tokens {
        assert!(Instant::now() < deadline, "{}", String::from_utf8_lossy(&text));
        let n = reader.stream().read(&mut chunk).unwrap();
        text.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8_lossy(&text).matches("\"delta\":{\"content\":\"").count().max(seen(&text))
}

#[test]
fn a_stream_that_its_client_leaves_is_counted_by_what_was_sent() {
    let options = Options { tokens: 400, token_interval: Duration::from_millis(5), ..quick(1).remove(0) };
    let rest = format!("[log]\nformat = \"json\"\n{}", model("llama3.2", &["e0"], PRICE));
    let fleet = Fleet::start(vec![options], "shards = 1", &rest).ready();
    let body = chat("llama3.2", true).replace("\"stream\"", "\"max_tokens\":400,\"stream\"");
    let received = read_some(&fleet.gateway, &body, 200) as f64;
    let line = &lines(&fleet.gateway, 1)[0];
    assert_eq!((line["status"].as_u64(), &line["estimated"]), (Some(499), &Value::Bool(true)), "{line}");
    let counted = line["tokens_out"].as_f64().unwrap();
    // What was on its way when the client left counts too.
    assert!(
        counted >= received * 0.98 && counted <= received * 1.02 + 3.0,
        "{counted} for {received} received"
    );
    assert!(line["tokens_in"].as_u64().unwrap() > 0 && line["cost"].as_f64().unwrap() > 0.0, "{line}");
    let page = metrics(&fleet.gateway);
    close(sum(&page, &["corelane_tokens_estimated_total{", "output"]), counted);
    close(sum(&page, &["litellm_tokens_used{", "output"]), counted);
    fleet.assert_quiet();
}

/// A stream of events with three tokens each; it breaks after `events` of them if that is less than ten.
fn by_threes(events: usize) -> Reply {
    let mut text =
        String::from("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
    for _ in 0..events {
        text += "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" three tokens here\"},\"finish_reason\":null}]}\n\n";
    }
    if events == 10 {
        text += "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
                 data: {\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":30}}\n\ndata: [DONE]\n\n";
    }
    Reply { writes: vec![text.into_bytes()], then: Then::Close }
}

#[test]
fn a_broken_stream_is_counted_as_its_endpoint_counts() {
    let (_upstream, gateway) = scripted("[[models]]\nname = \"m\"\n[retry]\nattempts = 1\n", |record| {
        by_threes(if record.user().as_deref() == Some("cut") { 4 } else { 10 })
    });
    for _ in 0..3 {
        post(gateway.addr, CHAT, &chat("m", true)); // what three tokens look like is learned here
    }
    let cut = chat("m", true).replace("\"stream\"", "\"user\":\"cut\",\"stream\"");
    assert!(try_post(gateway.addr, CHAT, &cut).is_err(), "it breaks visibly");
    let lines = lines(&gateway, 4);
    assert_eq!((lines[2]["tokens_out"].as_u64(), lines[2].get("estimated")), (Some(30), None));
    let cut = &lines[3];
    assert_eq!((cut["status"].as_u64(), cut["tokens_out"].as_u64()), (Some(502), Some(12)), "{cut}");
    let tokens_in = cut["tokens_in"].as_u64().unwrap();
    assert!((18..=26).contains(&tokens_in), "about what such requests have: {tokens_in}");
    assert_eq!(cut["estimated"], true);
}

#[test]
fn an_answer_without_usage_is_estimated() {
    let body = json!({"id": "1", "model": "m", "choices": [{"index": 0, "message": {"content": "x".repeat(400)}, "finish_reason": "stop"}]});
    let (_upstream, gateway) = scripted("[[models]]\nname = \"m\"\n", move |_| Reply {
        writes: vec![plain(&body.to_string())],
        then: Then::Keep,
    });
    post(gateway.addr, CHAT, &chat("m", false));
    let line = &lines(&gateway, 1)[0];
    assert_eq!((line["tokens_out"].as_u64(), &line["estimated"]), (Some(100), &Value::Bool(true)), "{line}");
}

fn ask(gateway: &Gateway, secret: &str) -> Answer {
    let mut reader = connect(gateway.addr);
    let body = chat("llama3.2", false);
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {secret}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    reader.stream().write_all(request.as_bytes()).unwrap();
    reader.answer(false, Instant::now() + Duration::from_secs(20)).unwrap()
}

#[test]
fn a_budget_ends_and_survives_a_reload() {
    let keys = "[[keys]]\nname = \"poor\"\nsecret = \"sk-poor-key-1\"\nbudget = 0.03\n\
                [[keys]]\nname = \"rich\"\nsecret = \"sk-rich-key-1\"\n\
                [[keys]]\nname = \"daily\"\nsecret = \"sk-daily-key\"\nbudget = 0.000001\nbudget_period = \"1d\"\n";
    let fleet =
        Fleet::start(quick(1), "shards = 2", &format!("{keys}{}", model("llama3.2", &["e0"], PRICE))).ready();
    let gateway = &fleet.gateway;
    let cost = json(&ask(gateway, "sk-poor-key-1"))["usage"]["cost"].as_f64().unwrap();
    let mut served = 1;
    let refused = loop {
        let answer = ask(gateway, "sk-poor-key-1");
        if answer.status != 200 {
            break answer;
        }
        served += 1;
        assert!(served < 100);
    };
    assert_eq!(served, (0.03 / cost).ceil() as u64, "as many as {cost} each fit into it");
    assert_eq!(refused.status, 429);
    let error = json(&refused)["error"].clone();
    assert_eq!(
        (error["type"].as_str(), error["code"].as_str()),
        (Some("insufficient_quota"), Some("insufficient_quota"))
    );
    assert_eq!(refused.field("x-should-retry"), Some("false"), "it never begins anew");
    assert_eq!(ask(gateway, "sk-rich-key-1").status, 200);
    assert_eq!(ask(gateway, "sk-daily-key").status, 200);
    let tomorrow = ask(gateway, "sk-daily-key");
    let seconds: u64 = tomorrow.field("retry-after").unwrap().parse().unwrap();
    assert!(tomorrow.status == 429 && (1..=86_400).contains(&seconds));
    let page = metrics(gateway);
    close(sum(&page, &["corelane_key_requests_total{", "poor"]), (served) as f64);
    assert!(sum(&page, &["corelane_key_budget_remaining_dollars{", "poor"]) <= 0.0);
    close(sum(&page, &["litellm_api_key_max_budget_metric{", "poor"]), 0.03);
    close(sum(&page, &["corelane_limiter_refusals_total{", "key_budget"]), 2.0);
    close(sum(&page, &["corelane_key_cost_total{"]), cost * (served + 2) as f64);
    // A larger one lets it in again; what was spent stays spent.
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    std::fs::write(gateway.config_path(), text.replace("budget = 0.03", "budget = 5.0")).unwrap();
    post(gateway.admin, "/reload", "");
    assert_eq!(ask(gateway, "sk-poor-key-1").status, 200);
    let left = sum(&metrics(gateway), &["corelane_key_budget_remaining_dollars{", "poor"]);
    close(left, 5.0 - cost * (served + 1) as f64);
    fleet.assert_quiet();
}

#[test]
fn keys_beyond_the_most_used_are_counted_as_others() {
    let keys: String =
        (0..5).map(|n| format!("[[keys]]\nname = \"k{n}\"\nsecret = \"sk-number-{n}\"\n")).collect();
    let rest = format!("[metrics]\nkeys_max = 2\n{keys}{}", model("llama3.2", &["e0"], ""));
    let fleet = Fleet::start(quick(1), "shards = 1", &rest).ready();
    for (key, times) in [(0, 1), (1, 5), (2, 3), (3, 1)] {
        (0..times).for_each(|_| assert_eq!(ask(&fleet.gateway, &format!("sk-number-{key}")).status, 200));
    }
    let page = metrics(&fleet.gateway);
    let series: Vec<&str> =
        page.lines().filter(|line| line.starts_with("corelane_key_requests_total{")).collect();
    assert_eq!(
        series,
        [
            "corelane_key_requests_total{key=\"k1\"} 5",
            "corelane_key_requests_total{key=\"k2\"} 3",
            "corelane_key_requests_total{key=\"other\"} 2"
        ]
    );
    let (status, _, _) = get(fleet.gateway.admin, "/status");
    assert_eq!(status, 200);
}

/// A reload switches it, pairs that were not used have no series, and a pair's counts are those of its own exchanges.
#[test]
fn a_model_on_an_endpoint_has_times_of_its_own_if_asked_for() {
    let both = model("both", &["e0", "e1"], "upstream_model = \"llama3.2\"\nstrategy = \"round_robin\"");
    let rest =
        format!("[metrics]\npairs = false\n{both}{}", model("one", &["e1"], "upstream_model = \"llama3.2\""));
    let fleet = Fleet::start(quick(2), "shards = 2", &rest).ready();
    let gateway = &fleet.gateway;
    let asked = |model: &str, stream| assert_eq!(post(gateway.addr, CHAT, &chat(model, stream)).status, 200);
    (0..4).for_each(|_| asked("both", true));
    assert!(!metrics(gateway).contains("corelane_model_endpoint"), "off unless it is asked for");
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    std::fs::write(gateway.config_path(), text.replace("pairs = false", "pairs = true")).unwrap();
    assert_eq!(post(gateway.admin, "/reload", "").status, 200);
    assert!(!metrics(gateway).contains("corelane_model_endpoint_duration_seconds_count"), "none is used yet");
    (0..8).for_each(|at| asked("both", at < 3));
    (0..2).for_each(|_| asked("one", false));
    let page = metrics(gateway);
    let count = |family: &str, model: &str, endpoint: &str| {
        let name = format!("corelane_model_endpoint_{family}_seconds_count{{");
        sum(&page, &[&name, &format!("model=\"{model}\""), &format!("endpoint=\"{endpoint}\"")])
    };
    let of = |family, model| (count(family, model, "e0"), count(family, model, "e1"));
    let ((a, b), (c, d)) = (of("duration", "both"), of("first_token", "both"));
    assert!(a > 0.0 && b > 0.0, "{a} and {b}: both take turns");
    close(a + b, 8.0);
    close(c + d, 3.0);
    assert_eq!((of("duration", "one"), of("first_token", "one")), ((0.0, 2.0), (0.0, 0.0)));
    let series =
        |parts: &[&str]| page.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count();
    assert_eq!(series(&["corelane_model_endpoint_duration_seconds", "model=\"one\""]), 20, "of e1 alone");
    assert_eq!(series(&["corelane_model_endpoint_first_token_seconds", "model=\"one\""]), 0);
    let last = &["corelane_model_endpoint_duration_seconds_bucket{", "model=\"one\"", "+Inf"];
    close(sum(&page, last), 2.0);
    support::prometheus::lint(&page);
    fleet.assert_quiet();
}
