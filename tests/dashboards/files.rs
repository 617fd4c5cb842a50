//! What stands in `config/grafana/` and `config/prometheus/`, read for its rules and its queries.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The dashboards, by the names of their files.
pub const DASHBOARDS: [&str; 5] = ["overview", "models", "endpoints", "guards", "cost"];

/// A file of the repository.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Its text.
pub fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A dashboard.
pub fn dashboard(name: &str) -> Value {
    serde_json::from_str(&text(&format!("config/grafana/dashboards/{name}.json"))).unwrap()
}

/// Its members at `key`.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// A text at `key`, which must be there.
pub fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text at {key}: {value}"))
}

/// The panels that ask something.
pub fn asking(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "panels").iter().filter(|panel| panel["type"] != "row")
}

/// Every query of every panel, with the panel's title.
pub fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let of = |panel: &Value| {
        let title = word(panel, "title").to_owned();
        let targets = list(panel, "targets").iter();
        targets.map(move |target| (title.clone(), word(target, "expr").to_owned())).collect::<Vec<_>>()
    };
    asking(dashboard).flat_map(of).collect()
}

/// Names after a `$`, Grafana's own among them.
pub fn variables(query: &str) -> BTreeSet<String> {
    let names = query.split('$').skip(1);
    names.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
}

/// The query as Grafana sends it when all is chosen and little time is shown.
pub fn substituted(query: &str, chosen: &[&str]) -> String {
    let mut query = query.to_owned();
    for (name, value) in [("__rate_interval", "10s"), ("__range", "30s"), ("__interval", "5s")] {
        query = query.replace(&format!("${name}"), value);
    }
    for name in chosen {
        query = query.replace(&format!("${name}"), ".*");
    }
    query
}

/// The values of all lines `key: value` of a YAML file.
pub fn values(yaml: &str, key: &str) -> Vec<String> {
    let keys = [format!("{key}: "), format!("- {key}: ")];
    let value = |line: &str| {
        keys.iter().find_map(|key| line.trim_start().strip_prefix(key.as_str())).map(str::to_owned)
    };
    yaml.lines().filter_map(value).collect()
}
