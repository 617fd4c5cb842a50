//! Promise: Prometheus reads our metrics, and the queries and dashboards made for LiteLLM find their data.
//!
//! `promtool` lints the page; a real Prometheus scrapes a gateway that serves answers and errors, and is then
//! asked every query of the deployment guide and those of LiteLLM's public dashboards. `scripts/test` installs both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use corelane::sim::{self, Handle, Options};
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::Gateway;
use support::answer::Reader;
use support::prometheus::{Prometheus, lint, number};

/// Models by their public names; one answers, one fails.
const MODELS: [&str; 2] = ["ollama/llama3.2", "ollama/fault-500"];

/// "Useful queries" of the guide, section Monitoring.
///
/// The error rate divides series of equal labels, so each is divided by itself: 1, or NaN while no error is new. No
/// page can mend that; what counts is that the query returns data. The quotient that was meant is in `DASHBOARDS`.
const GUIDE: [&str; 6] = [
    "rate(litellm_request_count[1m])",
    "rate(litellm_request_count{status=\"error\"}[1m]) / rate(litellm_request_count[1m])",
    "histogram_quantile(0.95, litellm_request_duration_seconds) * 1000",
    "sum(litellm_request_count) by (model)",
    "sum(litellm_tokens_used) by (model, type)",
    "sum(litellm_cost) by (model)",
];
/// The error rate of all requests.
const ERROR_RATE: &str =
    "sum(rate(litellm_request_count{status=\"error\"}[5m])) / sum(rate(litellm_request_count[5m]))";
/// What panels of LiteLLM's public dashboards ask.
const DASHBOARDS: [&str; 18] = [
    "sum(rate(litellm_proxy_total_requests_metric_total[1m]))",
    "sum(rate(litellm_proxy_total_requests_metric_total[1m])) by (api_key_alias)",
    "sum(rate(litellm_proxy_total_requests_metric_total[1m])) by (team_alias)",
    "sum(litellm_proxy_total_requests_metric_total) by (status_code)",
    "sum(litellm_proxy_failed_requests_metric_total) by (exception_class)",
    "sum(litellm_requests_metric_total) by (model)",
    "sum(litellm_llm_api_failed_requests_metric_total) by (model)",
    "sum(litellm_spend_metric_total) by (model)",
    "sum(litellm_spend_metric_total) by (hashed_api_key)",
    "sum(litellm_total_tokens_metric_total) by (model)",
    "sum(rate(litellm_input_tokens_metric_total[1m])) by (requested_model)",
    "sum(rate(litellm_output_tokens_metric_total[1m])) by (requested_model)",
    "rate(litellm_request_total_latency_metric_sum[1m]) / rate(litellm_request_total_latency_metric_count[1m])",
    "histogram_quantile(0.95, sum(rate(litellm_request_total_latency_metric_bucket[1m])) by (le))",
    "histogram_quantile(0.95, sum(rate(litellm_llm_api_time_to_first_token_metric_bucket[1m])) by (le, model))",
    "sum(litellm_deployment_failure_responses_total) by (api_base) / sum(litellm_deployment_total_requests_total) by (api_base)",
    "litellm_deployment_state",
    "litellm_in_flight_requests",
];
/// LiteLLM's own families that a replacement has to have: counters, histograms of latency, two gauges.
const FAMILIES: [(&str, &str); 20] = [
    ("litellm_proxy_total_requests_metric_total", "counter"),
    ("litellm_proxy_failed_requests_metric_total", "counter"),
    ("litellm_requests_metric_total", "counter"),
    ("litellm_llm_api_failed_requests_metric_total", "counter"),
    ("litellm_spend_metric_total", "counter"),
    ("litellm_total_tokens_metric_total", "counter"),
    ("litellm_input_tokens_metric_total", "counter"),
    ("litellm_output_tokens_metric_total", "counter"),
    ("litellm_deployment_success_responses_total", "counter"),
    ("litellm_deployment_failure_responses_total", "counter"),
    ("litellm_deployment_total_requests_total", "counter"),
    ("litellm_deployment_cooled_down_total", "counter"),
    ("litellm_request_total_latency_metric", "histogram"),
    ("litellm_llm_api_latency_metric", "histogram"),
    ("litellm_llm_api_time_to_first_token_metric", "histogram"),
    ("litellm_overhead_latency_metric", "histogram"),
    ("litellm_deployment_latency_per_output_token", "histogram"),
    ("litellm_request_duration_seconds", "histogram"),
    ("litellm_deployment_state", "gauge"),
    ("litellm_in_flight_requests", "gauge"),
];

#[test]
fn both_statuses_exist_before_the_first_request() {
    let stage = Stage::set();
    let page = support::metrics(&stage.gateway);
    for model in MODELS {
        for status in ["success", "error"] {
            let sample = format!("litellm_request_count{{status=\"{status}\",model=\"{model}\"}} 0");
            assert!(page.lines().any(|line| line == sample), "no line {sample}");
        }
        let cost = format!("litellm_cost{{model=\"{model}\"}} 0");
        assert!(page.lines().any(|line| line == cost), "no line {cost}");
    }
    lint(&page);
}

#[test]
fn promtool_finds_nothing() {
    let stage = Stage::set();
    stage.traffic();
    let page = support::metrics(&stage.gateway);
    lint(&page);
    let (_, fields, _) = support::get(stage.gateway.admin, "/metrics");
    let content_type = field(&fields, "content-type");
    assert!(content_type.starts_with("text/plain; version=0.0.4"), "never OpenMetrics: {content_type}");
    support::assert_gauges_zero(&stage.gateway);
}

/// LiteLLM's port was the clients' port: a scraper that still asks there is answered or sent to the admin listener.
#[test]
fn data_listener_leads_to_the_page() {
    let stage = Stage::set();
    let (status, fields, body) = support::get(stage.gateway.addr, "/metrics");
    if status == 200 {
        lint(&String::from_utf8(body).unwrap());
    } else {
        let place = format!("http://{}/metrics", stage.gateway.admin);
        assert_eq!((status, field(&fields, "location")), (307, place.as_str()));
    }
}

#[test]
fn families_of_litellm_exist() {
    let stage = Stage::set();
    let page = support::metrics(&stage.gateway);
    let missing: Vec<_> = FAMILIES
        .iter()
        .filter(|(name, kind)| !page.lines().any(|line| line == format!("# TYPE {name} {kind}")))
        .collect();
    assert!(missing.is_empty(), "families without a TYPE line of their kind: {missing:?}");
}

#[test]
fn every_query_has_data() {
    let stage = Stage::set();
    let prometheus = Prometheus::start(stage.gateway.admin);
    prometheus.until("the first scrape", "litellm_request_count", |result| !result.is_empty());
    // a rate needs a count that grows between two scrapes
    stage.traffic();
    let rate = prometheus
        .until("a rate of errors", ERROR_RATE, |result| result.iter().any(|series| number(series) > 0.0));
    assert!(number(&rate[0]) < 1.0, "some requests were answered: {rate:?}");
    for query in GUIDE.iter().chain(&DASHBOARDS) {
        prometheus.until("data", query, |result| !result.is_empty());
    }
    // the page says what the traffic was
    let count = |status: &str, model: &str| {
        let query = format!("litellm_request_count{{status=\"{status}\",model=\"{model}\"}}");
        number(&prometheus.query(&query).expect("an answer")[0])
    };
    assert_eq!((count("success", MODELS[0]), count("error", MODELS[0])), (3.0, 0.0), "{}", MODELS[0]);
    assert_eq!((count("success", MODELS[1]), count("error", MODELS[1])), (0.0, 2.0), "{}", MODELS[1]);
    let p95 = prometheus.query(GUIDE[2]).expect("an answer");
    let served = p95.iter().find(|series| series["metric"]["model"] == MODELS[0]).expect("a series");
    assert!(number(served) > 0.0 && number(served) < 60_000.0, "milliseconds: {served}");
    drop(prometheus);
    support::assert_gauges_zero(&stage.gateway);
}

/// A model server and a gateway in front of it.
struct Stage {
    sim: Handle,
    gateway: Gateway,
}

impl Stage {
    fn set() -> Stage {
        let models = MODELS.map(|name| name.replace("ollama/", "") + ":latest").into();
        let sim = sim::start(Options { models, ..Options::default() }).expect("start the simulated server");
        let models = MODELS.map(|name| format!("[[models]]\nname = \"{name}\"\n")).concat();
        let gateway = Gateway::start(&format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\nshards = 2\n\
             [[endpoints]]\nname = \"sim\"\nurl = \"http://{}\"\n{models}[retry]\nattempts = 1\n",
            sim.addr
        ));
        Stage { sim, gateway }
    }

    /// Three answers, one of them a stream, and two errors.
    fn traffic(&self) {
        for (model, stream, status) in
            [(0, false, 200), (0, false, 200), (0, true, 200), (1, false, 500), (1, true, 500)]
        {
            let messages = json!([{"role": "user", "content": "Hello"}]);
            let body = json!({"model": MODELS[model], "messages": messages, "stream": stream}).to_string();
            let mut connection = TcpStream::connect(self.gateway.addr).expect("connect");
            let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: corelane\r\nConnection: close";
            write!(connection, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            let answer = Reader::new(connection).answer(false, Instant::now() + Duration::from_secs(10));
            let answer = answer.expect("an answer");
            assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(&answer.body));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.sim.stop();
    }
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}
