//! Promise: an exchange is one trace, from the client's own span to the endpoint's, and costs nobody anything: not where
//! tracing is off, and not where the collector is gone. Spans hold no prompts, no answers and no secrets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

#[path = "tracing/collector.rs"]
mod collector;
mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use collector::{Collector, SILENT, ask, attribute};
use corelane::sim::{Fault, Options, Recorded};
use serde_json::Value;
use support::fleet::{Fleet, chat, model, post, quick, until};
use support::tls::{Ca, ONLY_13, Terminator};
use support::{Gateway, get, metrics};

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-00";

/// Waits until the catalog has what probes have found, too.
fn fleet(servers: Vec<Options>, rest: &str) -> Fleet {
    let fleet = Fleet::start(servers, "shards = 1", rest).ready();
    until("a model is on every server", || {
        let (_, _, body) = get(fleet.gateway.admin, "/status");
        let status: Value = serde_json::from_slice(&body).unwrap();
        let everywhere =
            |model: &Value| model["endpoints"].as_array().is_some_and(|on| on.len() == fleet.servers.len());
        status["models"].as_array().unwrap().iter().any(everywhere).then_some(())
    });
    fleet
}

/// The last request that an endpoint got since it was asked this; it notes one when it has answered.
fn last(fleet: &Fleet, server: usize) -> Recorded {
    until("a request is noted", || fleet.servers[server].stats.take_recorded().pop())
}

/// The value of a field of it.
fn told(fleet: &Fleet, server: usize, name: &str) -> Option<String> {
    last(fleet, server).field(name)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn count(gateway: &Gateway, name: &str) -> u64 {
    let page = metrics(gateway);
    let line = page.lines().find(|line| line.starts_with(name) && !line.starts_with('#')).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn milliseconds(span: &Value) -> u64 {
    let at = |name: &str| text(&span[name]).parse::<u64>().unwrap();
    at("endTimeUnixNano").checked_sub(at("startTimeUnixNano")).expect("ends after it begins") / 1_000_000
}

#[test]
fn one_exchange_is_two_spans() {
    let mut collector = Collector::start();
    let rest = format!(
        "{}service_name = \"edge \\\"1\\\"\"\n[tracing.headers]\nx-tenant = \"a-secret\"\n[[keys]]\nname = \"team-a\"\n\
         secret = \"the-key-of-team-a\"\n",
        collector.toml(100)
    );
    let options = Options { prefill: Duration::from_millis(30), ..quick(1).remove(0) };
    let fleet = fleet(vec![options], &rest);
    let prompt = r#"{"model":"llama3.2","messages":[{"role":"user","content":"xyzzy"}],"stream":"#;
    for stream in [false, true] {
        collector.clear();
        let body = format!("{prompt}{stream}}}");
        let fields =
            [("authorization", "Bearer the-key-of-team-a"), ("x-request-id", "req-1"), ("cookie", "a=b")];
        let answer = ask(fleet.gateway.addr, &body, &fields);
        assert_eq!(answer.status, 200);
        let told = told(&fleet, 0, "traceparent").unwrap();
        collector.until(2);
        let (own, client) = (collector.server_span(), collector.client_spans()[0]);
        assert_eq!(own["name"], "POST /v1/chat/completions");
        assert_eq!((&own["parentSpanId"], &own["flags"]), (&Value::Null, &0x101.into()));
        for (key, want) in [
            ("http.request.method", "POST".into()),
            ("http.route", "/v1/chat/completions".into()),
            ("http.response.status_code", "200".into()),
            ("url.path", "/v1/chat/completions".into()),
            ("url.scheme", "http".into()),
            ("corelane.request_id", "req-1".into()),
            ("corelane.key", "team-a".into()),
            ("corelane.model", "llama3.2".into()),
            ("corelane.attempts", "1".into()),
            ("error.type", Value::Null),
        ] {
            assert_eq!(attribute(own, key), want, "{key} of {own:#}");
        }
        assert_eq!(
            text(&client["name"]),
            format!("chat {}", text(&attribute(client, "gen_ai.request.model")))
        );
        assert_eq!((&client["traceId"], &client["parentSpanId"]), (&own["traceId"], &own["spanId"]));
        let ids = (text(&own["traceId"]), text(&client["spanId"]));
        assert_eq!(told, format!("00-{}-{}-01", ids.0, ids.1), "the endpoint's parent is the client span");
        let server = fleet.servers[0].addr;
        for (key, want) in [
            ("gen_ai.operation.name", "chat".into()),
            ("gen_ai.provider.name", "ollama".into()),
            ("gen_ai.request.stream", if stream { true.into() } else { Value::Null }),
            ("gen_ai.usage.output_tokens", "8".into()),
            ("server.address", server.ip().to_string().into()),
            ("server.port", server.port().to_string().into()),
            ("http.request.method", "POST".into()),
            ("http.response.status_code", "200".into()),
            ("url.path", "/v1/chat/completions".into()),
            ("corelane.endpoint", "e0".into()),
            ("corelane.attempt", "1".into()),
            ("corelane.request_id", "req-1".into()),
            ("error.type", Value::Null),
        ] {
            assert_eq!(attribute(client, key), want, "{key} of {client:#}");
        }
        assert!(text(&attribute(client, "gen_ai.response.model")).starts_with("llama3.2"), "{client:#}");
        assert!(text(&attribute(client, "gen_ai.usage.input_tokens")).parse::<u64>().unwrap() > 0);
        let first = attribute(client, "gen_ai.response.time_to_first_chunk").as_f64();
        assert_eq!(first.is_some_and(|seconds| (0.03..5.0).contains(&seconds)), stream, "{client:#}");
        assert!(milliseconds(own) >= milliseconds(client) && milliseconds(client) >= 30);
        assert_eq!((&own["status"], &client["status"]), (&serde_json::json!({}), &serde_json::json!({})));
        let sent = &collector.requests[0];
        let field =
            |name: &str| sent.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!((field("x-tenant"), field("content-type")), (Some("a-secret"), Some("application/json")));
        let page = String::from_utf8_lossy(&sent.body);
        assert!(page.contains(r#"{"stringValue":"edge \"1\""}"#));
        for never in ["xyzzy", "the-key-of-team-a", "a-secret", "a=b"] {
            assert!(!page.contains(never), "{never} in {page}");
        }
    }
    // The collector has them before the gateway has its answer.
    until("all are taken", || (count(&fleet.gateway, "corelane_spans_exported_total") == 4).then_some(()));
    assert_eq!(count(&fleet.gateway, "corelane_spans_dropped_total"), 0);
    fleet.assert_quiet();
}

#[test]
fn a_retry_is_a_span_of_its_own() {
    let mut collector = Collector::start();
    let mut servers = quick(2);
    servers[0].fault = Fault::Status(503);
    let rest = format!(
        "{}[balance]\nstrategy = \"round_robin\"\n[retry]\nbackoff = \"10ms\"\n[breaker]\nenabled = false\n{}",
        collector.toml(100),
        model("m", &["e0", "e1"], "upstream_model = \"llama3.2\""),
    );
    let fleet = fleet(servers, &rest);
    let attempts = |answer: &support::answer::Answer| answer.field("x-corelane-attempts").unwrap().to_owned();
    until("the bad server was asked first", || {
        let answer = post(fleet.gateway.addr, "/v1/chat/completions", &chat("m", false));
        assert_eq!(answer.status, 200);
        collector.until(collector.spans.len() + if attempts(&answer) == "2" { 3 } else { 2 });
        let retried = attempts(&answer) == "2";
        if !retried {
            collector.clear();
        }
        retried.then_some(())
    });
    let own = collector.server_span();
    let [failed, served] = collector.client_spans()[..] else { panic!("{:#?}", collector.spans) };
    assert_eq!((attribute(own, "corelane.attempts"), &own["status"]), ("2".into(), &serde_json::json!({})));
    for (at, span, endpoint, status, error) in
        [("1", failed, "e0", "503", Value::from("503")), ("2", served, "e1", "200", Value::Null)]
    {
        assert_eq!(span["parentSpanId"], own["spanId"]);
        assert_eq!(attribute(span, "corelane.attempt"), at);
        assert_eq!(attribute(span, "corelane.endpoint"), endpoint);
        assert_eq!(attribute(span, "http.response.status_code"), status);
        assert_eq!(attribute(span, "error.type"), error);
        let failed = !error.is_null();
        assert_eq!(
            span["status"],
            if failed { serde_json::json!({"code": 2}) } else { serde_json::json!({}) }
        );
        let server = usize::from(!failed);
        let parent = told(&fleet, server, "traceparent").unwrap();
        assert_eq!(&parent[36..52], text(&span["spanId"]), "each attempt is the parent of what it asks");
    }
    assert_ne!(failed["spanId"], served["spanId"]);
    fleet.assert_quiet();
}

#[test]
fn failures_are_told_by_their_kind() {
    let mut collector = Collector::start();
    let rest = format!("{}[retry]\nattempts = 1\n[breaker]\nenabled = false\n", collector.toml(100));
    let models = ["llama3.2:latest", "fault-cut", "fault-reset", "fault-422"];
    let options = Options { models: models.map(str::to_owned).into(), ..quick(1).remove(0) };
    let fleet = fleet(vec![options], &rest);
    let failed = serde_json::json!({"code": 2});
    for (model, stream, status, own_error, error) in [
        ("fault-cut", true, "502", "upstream_broken", "upstream_broken"),
        ("fault-reset", false, "502", "upstream_broken", "upstream_broken"),
        ("fault-422", false, "422", "", "422"),
    ] {
        collector.clear();
        let _ = support::fleet::try_post(fleet.gateway.addr, "/v1/chat/completions", &chat(model, stream));
        collector.until(2);
        let (own, client) = (collector.server_span(), collector.client_spans()[0]);
        assert_eq!(attribute(own, "http.response.status_code"), status, "{model}");
        assert_eq!(text(&attribute(own, "error.type")), own_error, "{model}");
        assert_eq!(own["status"] == failed, status == "502", "4xx is no failure of ours");
        assert_eq!(text(&attribute(client, "error.type")), error, "{model}");
        assert_eq!(client["status"], failed, "{model}");
    }
    collector.clear();
    assert_eq!(post(fleet.gateway.addr, "/v1/chat/completions", &chat("nobody", false)).status, 404);
    let own = &collector.until(1)[0];
    assert_eq!((&own["status"], attribute(own, "corelane.attempts")), (&serde_json::json!({}), Value::Null));
    fleet.assert_quiet();
}

#[test]
fn a_client_decides_for_its_trace() {
    let mut collector = Collector::start();
    for percent in [100, 0] {
        collector.clear();
        let fleet = fleet(quick(1), &collector.toml(percent));
        let addr = fleet.gateway.addr;
        let state = ("tracestate", "vendor=opaque,other=1");
        let body = chat("llama3.2", false);
        // Not recorded, and nothing of it is ours to change.
        assert_eq!(ask(addr, &body, &[("traceparent", UNSAMPLED), state]).status, 200);
        let recorded = last(&fleet, 0);
        assert_eq!(recorded.field("traceparent").as_deref(), Some(UNSAMPLED));
        assert_eq!(recorded.field("tracestate").as_deref(), Some(state.1));
        // Recorded whatever our share is, and continued.
        ask(addr, &body, &[("traceparent", SAMPLED), state]);
        collector.until(2);
        let (own, client) = (collector.server_span(), collector.client_spans()[0]);
        assert_eq!(
            (&own["traceId"], &own["parentSpanId"]),
            (&SAMPLED[3..35].into(), &SAMPLED[36..52].into())
        );
        assert_eq!((&own["flags"], &own["traceState"]), (&0x301.into(), &state.1.into()));
        assert_eq!((&client["traceId"], &client["parentSpanId"]), (&own["traceId"], &own["spanId"]));
        let recorded = last(&fleet, 0);
        let parent = format!("00-{}-{}-01", &SAMPLED[3..35], text(&client["spanId"]));
        assert_eq!(recorded.field("traceparent"), Some(parent));
        assert_eq!(recorded.field("tracestate").as_deref(), Some(state.1));
        // What breaks the rules is as nothing, with all that came with it.
        collector.clear();
        ask(addr, &body, &[("traceparent", &SAMPLED.to_ascii_uppercase()), state]);
        let recorded = last(&fleet, 0);
        let parent = recorded.field("traceparent").unwrap();
        assert!(!parent.contains(&SAMPLED[3..35]) && parent.len() == SAMPLED.len(), "{parent}");
        assert_eq!(&parent[52..], if percent == 100 { "-01" } else { "-00" });
        assert_eq!(recorded.field("tracestate"), None);
        if percent == 100 {
            assert_eq!(collector.until(2)[0]["parentSpanId"], Value::Null);
        }
        fleet.assert_quiet();
    }
}

#[test]
fn a_collector_that_is_gone_costs_nobody_anything() {
    let mut collector = Collector::start();
    let fleet = fleet(quick(1), &collector.toml(100));
    let asks = |n: usize| {
        (0..n).for_each(|at| {
            assert_eq!(
                post(fleet.gateway.addr, "/v1/chat/completions", &chat("llama3.2", at % 2 == 0)).status,
                200
            );
        });
    };
    let until = |what: &str, name: &str, want: u64| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while count(&fleet.gateway, name) < want {
            assert!(Instant::now() < deadline, "{what}: {} of {want}", count(&fleet.gateway, name));
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(count(&fleet.gateway, name), want, "{what}");
    };
    // One that asks to wait is waited for, and nothing is lost by it.
    collector.says_once(503, 2);
    asks(1);
    collector.until(2);
    let begun = Instant::now();
    collector.clear();
    collector.until(2);
    assert!(begun.elapsed() > Duration::from_millis(1900), "asked again after {:?}", begun.elapsed());
    until("waited for", "corelane_spans_exported_total", 2);
    // What it refuses is lost at once.
    collector.says(400);
    asks(1);
    until("refused", "corelane_spans_dropped_total", 2);
    // One that does not answer is tried some times; clients notice nothing.
    collector.says(SILENT);
    asks(3);
    until("given up", "corelane_spans_dropped_total", 8);
    assert!(fleet.gateway.log().contains("tracing: spans are lost: the collector has answered 400"));
    collector.says(200);
    collector.clear();
    asks(2);
    collector.until(4);
    until("back again", "corelane_spans_exported_total", 6);
    assert_eq!(count(&fleet.gateway, "corelane_spans_dropped_total"), 8);
    until_logged(&fleet.gateway, "the collector takes spans again");
    fleet.assert_quiet();
}

fn until_logged(gateway: &Gateway, text: &str) {
    until(text, || gateway.log().contains(text).then_some(()));
}

/// Off, a client's context goes on as it came; a reload turns it on, and off again.
#[test]
fn off_by_default_and_follows_reloads() {
    let mut collector = Collector::start();
    let fleet = fleet(quick(1), "");
    let path = fleet.gateway.config_path();
    let off = std::fs::read_to_string(path).unwrap();
    let on = format!("{off}\n{}", collector.toml(100));
    let odd = "anything at all";
    for (toml, traced) in [(&off, false), (&on, true), (&off, false)] {
        std::fs::write(path, toml).unwrap();
        assert_eq!(post(fleet.gateway.admin, "/reload", "").status, 200);
        for parent in [SAMPLED, odd] {
            let body = chat("llama3.2", false);
            ask(fleet.gateway.addr, &body, &[("traceparent", parent), ("tracestate", "a=1")]);
            let recorded = last(&fleet, 0);
            assert_eq!(recorded.field("traceparent").as_deref() == Some(parent), !traced, "{recorded:?}");
            assert_eq!(recorded.head_text().matches("traceparent").count(), 1);
        }
        if traced {
            collector.until(4);
        }
    }
    std::thread::sleep(Duration::from_millis(1500)); // longer than a batch lingers
    collector.drain();
    assert_eq!((collector.spans.len(), count(&fleet.gateway, "corelane_spans_exported_total")), (4, 4));
    fleet.assert_quiet();
}

/// What is younger than a batch may be is not lost with the process.
#[test]
fn the_last_spans_leave_with_the_process() {
    let mut collector = Collector::start();
    let mut fleet = fleet(quick(1), &collector.toml(100));
    assert_eq!(post(fleet.gateway.addr, "/v1/chat/completions", &chat("llama3.2", true)).status, 200);
    let killed = Command::new("kill").args(["-TERM", &fleet.gateway.pid().to_string()]).status().unwrap();
    assert!(killed.success());
    collector.until(2);
    until("the process ends", || fleet.gateway.exit_code());
    assert_eq!(fleet.gateway.exit_code(), Some(0));
}

#[test]
fn a_collector_behind_tls() {
    let mut collector = Collector::start();
    let ca = Ca::new();
    let terminator = Terminator::before(
        collector.server.addr,
        &ca.issue("collector", &["localhost", "127.0.0.1"]),
        ONLY_13,
    );
    let sim = corelane::sim::start(quick(1).remove(0)).unwrap();
    let rest = format!(
        "[tracing]\notlp_endpoint = \"https://localhost:{}/otel/v1\"\nsample_percent = 100\n",
        terminator.addr.port()
    );
    let toml = support::fleet::configuration(&[sim.addr], "shards = 1", &rest);
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.env("SSL_CERT_FILE", ca.file());
    let gateway = Gateway::start_by(&toml, command);
    until("the model is known", || {
        (post(gateway.addr, "/v1/chat/completions", &chat("llama3.2", false)).status == 200).then_some(())
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    while collector.client_spans().is_empty() {
        assert!(Instant::now() < deadline, "{}", gateway.log());
        std::thread::sleep(Duration::from_millis(10));
        collector.drain();
    }
    assert!(terminator.handshakes() > 0);
}

/// The schema's own parser reads what we send: `tests/clients/otlp_proto.py`.
#[test]
fn the_schema_of_otlp_is_kept() {
    let mut collector = Collector::start();
    let fleet = fleet(quick(1), &collector.toml(0));
    let fields = [("traceparent", SAMPLED), ("tracestate", "a=1"), ("x-request-id", "\"quoted\\")];
    ask(fleet.gateway.addr, &chat("llama3.2", true), &fields);
    collector.until(2);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/test-clients/venv/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/test, which installs the clients", python.display());
    let mut child = Command::new(python)
        .arg(root.join("tests/clients/otlp_proto.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&collector.requests[0].body).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let client = collector.client_spans()[0];
    let want = format!(
        "SPAN_KIND_SERVER POST /v1/chat/completions {} b7ad6b7169203331\nSPAN_KIND_CLIENT {} {} {}\n",
        &SAMPLED[3..35],
        text(&client["name"]),
        &SAMPLED[3..35],
        text(&collector.server_span()["spanId"]),
    );
    assert_eq!(said, want);
}
