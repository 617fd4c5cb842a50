//! Promise: the dashboards and rules of `config/` are good as they are: Grafana's form, alerts that fire when they
//! should and only then, and no query without data.
//!
//! `promtool` checks and tests the rules. A real Prometheus with the shipped configuration, quicker only, scrapes a
//! gateway under load, and is asked every query of every dashboard. Grafana is not run: its files are checked for
//! what it would stumble over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

#[path = "dashboards/files.rs"]
mod files;
#[path = "dashboards/stage.rs"]
mod stage;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use files::{DASHBOARDS, asking, dashboard, list, path, queries, substituted, text, values, variables, word};
use serde_json::Value;
use stage::Stage;
use support::fleet::{configuration, post};
use support::prometheus::{Prometheus, lint, number};
use support::{Gateway, metrics};

/// Panels that Grafana 10 and 11 have and do not warn of.
const KINDS: [&str; 7] = ["timeseries", "stat", "gauge", "table", "heatmap", "bargauge", "row"];
/// Grafana's own, in queries.
const BUILT_IN: [&str; 3] = ["__rate_interval", "__range", "__interval"];
const RULES: [&str; 2] = ["config/prometheus/recording.yml", "config/prometheus/alerts.yml"];

/// What the clients of the stage bring about: a page of zeros would have data too.
const NOT_ZERO: [&str; 10] = [
    "model:corelane_error_share:ratio_rate5m",
    "endpoint:corelane_failure_share:ratio_rate5m",
    "scanner:corelane_guard_block_share:ratio_rate5m{direction=\"input\"}",
    "scanner:corelane_guard_block_share:ratio_rate5m{direction=\"output\"}",
    "corelane_fallbacks_total",
    "corelane_breaker_opened_total",
    "corelane_keys_refused_total",
    "corelane_limiter_refusals_total{reason=\"key_budget\"}",
    "corelane_queue_wait_seconds_sum",
    "corelane_journal_lines_total",
];

#[test]
fn promtool_accepts_and_tests_the_rules() {
    promtool(&["check", "config", "config/prometheus/prometheus.yml"]);
    promtool(&[&["check", "rules"], &RULES[..]].concat());
    let tests = rule_tests();
    let tests: Vec<&str> = tests.iter().map(String::as_str).collect();
    promtool(&[&["test", "rules"], &tests[..]].concat());
}

#[test]
fn every_alert_is_tested_both_ways_and_explained() {
    let alerts = text(RULES[1]);
    let names = values(&alerts, "alert");
    let tests: String = rule_tests().iter().map(|name| text(name)).collect();
    let page = text("docs/monitoring.md");
    for name in &names {
        let cases = tests.split("alertname: ").filter_map(|case| case.strip_prefix(&format!("{name}\n")));
        let (quiet, loud): (Vec<&str>, Vec<&str>) =
            cases.partition(|case| case.trim_start().starts_with("exp_alerts: []"));
        assert!(!quiet.is_empty() && !loud.is_empty(), "{name}: {} and {}", quiet.len(), loud.len());
        assert!(
            page.lines().any(|line| line == format!("### {name}")),
            "docs/monitoring.md has no ### {name}"
        );
        let place = format!("docs/monitoring.md#{}", name.to_lowercase());
        assert!(values(&alerts, "runbook_url").contains(&place), "{place}");
    }
    for key in ["severity", "summary", "description", "runbook_url"] {
        assert_eq!(values(&alerts, key).len(), names.len(), "{key}");
    }
}

#[test]
fn dashboards_are_of_grafanas_form() {
    let source = values(&text("config/grafana/provisioning/datasources/prometheus.yml"), "uid");
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        assert_eq!(word(&dashboard, "uid"), format!("corelane-{name}"));
        assert!(dashboard["schemaVersion"].as_u64() >= Some(38), "{name}: Grafana 10 begins at 38");
        assert!(dashboard["id"].is_null(), "{name}: the id is Grafana's to give");
        let mut ids = BTreeSet::new();
        for panel in list(&dashboard, "panels") {
            let title = format!("{name}, {}", word(panel, "title"));
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: its id is another's");
            assert!(KINDS.contains(&word(panel, "type")), "{title}: {}", panel["type"]);
        }
        apart(name, list(&dashboard, "panels"));
        for panel in asking(&dashboard) {
            let title = format!("{name}, {}", word(panel, "title"));
            assert!(word(panel, "description").ends_with('.'), "{title}: no description");
            let mut letters = BTreeSet::new();
            for asked in list(panel, "targets").iter().chain([panel]) {
                assert_eq!(asked["datasource"]["uid"], source[0].as_str(), "{title}");
            }
            for target in list(panel, "targets") {
                assert!(letters.insert(word(target, "refId")) && !word(target, "expr").is_empty(), "{title}");
            }
            assert!(!letters.is_empty(), "{title}: asks nothing");
            let unit = &panel["fieldConfig"]["defaults"]["unit"];
            assert!(unit.is_string() || panel["options"]["yAxis"]["unit"].is_string(), "{title}: no unit");
        }
        let defined: BTreeSet<String> =
            list(&dashboard["templating"], "list").iter().map(|one| word(one, "name").to_owned()).collect();
        assert!(defined.contains("model"), "{name}: {defined:?}");
        let mut used: BTreeSet<String> =
            queries(&dashboard).iter().flat_map(|(_, query)| variables(query)).collect();
        used.retain(|name| !BUILT_IN.contains(&name.as_str()));
        assert_eq!(used, defined, "{name}: what is used, and what is defined");
    }
}

#[test]
fn no_query_is_empty() {
    let mut stage = Stage::set();
    let shipped = text("config/prometheus/prometheus.yml");
    let quicker = shipped.replace(": 15s", ": 1s").replace(": 10s", ": 1s");
    let config = quicker.replace("127.0.0.1:8001", &stage.gateway.admin.to_string());
    assert_eq!(values(&config, "scrape_interval"), ["1s"]);
    let rules = RULES.map(path);
    let prometheus = Prometheus::configured(&config, &[&rules[0], &rules[1]]);
    prometheus.until("the first scrape", "corelane_attempts_total", |result| !result.is_empty());
    stage.load();
    let finite = |result: &[Value]| result.iter().any(|series| number(series).is_finite());
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        let variables = list(&dashboard["templating"], "list");
        let chosen: Vec<&str> = variables.iter().map(|one| word(one, "name")).collect();
        for variable in variables {
            let asked = word(&variable["query"], "query");
            let (family, label) =
                asked.strip_prefix("label_values(").unwrap().trim_end_matches(')').split_once(", ").unwrap();
            prometheus.until("values", &format!("group by ({label}) ({family}{{{label}!=\"\"}})"), finite);
        }
        for (title, query) in queries(&dashboard) {
            prometheus.until(&format!("data for {name}, {title}"), &substituted(&query, &chosen), finite);
        }
    }
    for record in values(&text(RULES[0]), "record") {
        prometheus.until("recorded", &record, finite);
    }
    for name in values(&text(RULES[1]), "alert") {
        let rules = prometheus.api("rules?type=alert").expect("rules");
        let rule = list(&rules, "groups").iter().flat_map(|group| list(group, "rules"));
        let rule = rule.into_iter().find(|rule| rule["name"] == name.as_str()).expect("the alert");
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    for query in NOT_ZERO {
        prometheus
            .until("what the load was", query, |result| result.iter().any(|series| number(series) > 0.0));
    }
    let spent = "ALERTS{alertname=\"CorelaneBudgetSpent\",alertstate=\"firing\"}";
    let spent = prometheus.until("an alert", spent, |result| !result.is_empty());
    assert_eq!(spent[0]["metric"]["key"], "poor");
    lint(&metrics(&stage.gateway));
    stage.rest();
    drop(prometheus);
    support::assert_gauges_zero(&stage.gateway);
}

/// The gauge is what the file says, and follows it with a reload.
#[test]
fn the_end_of_a_certificate_is_told() {
    let folder = std::env::temp_dir().join(format!("corelane-expiry-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let write = |year| {
        let pair = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 6, 3);
        fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
    };
    write(2031);
    let server = format!("[server.tls]\nlisten = [\"127.0.0.1:0\"]\ncert = {cert:?}\nkey = {key:?}\n");
    let gateway = Gateway::start(&configuration(&["127.0.0.1:1".parse().unwrap()], &server, ""));
    let line = |seconds: u64| format!("corelane_certificate_expiry_seconds{{name={cert:?}}} {seconds}\n");
    assert!(metrics(&gateway).contains(&line(1_938_211_200)), "2031-06-03");
    write(2061);
    assert!(
        metrics(&gateway).contains(&line(1_938_211_200)),
        "what is shown to clients, not what is on disk"
    );
    assert_eq!(post(gateway.admin, "/reload", "").status, 200);
    let page = metrics(&gateway);
    assert!(page.contains(&line(2_884_982_400)), "2061-06-03: {page}");
    let _ = fs::remove_dir_all(folder);
}

/// Panels lie within 24 columns, and none on another.
fn apart(name: &str, panels: &[Value]) {
    let mut taken = BTreeSet::new();
    for panel in panels {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a place"));
        assert!(w > 0 && h > 0 && x + w <= 24, "{name}, {}: {x} + {w}", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{name}, {}: on another panel at {cell:?}", panel["title"]);
        }
    }
}

/// The files of rule tests.
fn rule_tests() -> Vec<String> {
    let entries = fs::read_dir(path("config/prometheus/tests")).unwrap();
    let name =
        |entry: fs::DirEntry| format!("config/prometheus/tests/{}", entry.file_name().to_str().unwrap());
    entries.map(|entry| name(entry.unwrap())).filter(|name| name.ends_with(".yml")).collect()
}

fn promtool(arguments: &[&str]) {
    let made = Command::new("promtool").args(arguments).current_dir(path("")).output();
    let made = made.expect("promtool: run scripts/test, which installs it");
    let said = [made.stdout, made.stderr].concat();
    assert!(made.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
}
