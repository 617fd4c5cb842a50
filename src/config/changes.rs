//! What a reload changes, in words for the log.
//!
//! Two configurations are compared by what `effective` writes of them, key by key; tables in an array are told apart
//! by their `name`, those without one by their `path`. Invariants: no line holds a secret or the sum of one, more than
//! 60 characters of a value, or a line break. Cost: both texts are written and read, some milliseconds a reload.

use std::collections::{BTreeSet, HashMap};

use toml::{Table, Value};

use super::reader::key_text;
use super::{Config, Secret, effective};

/// Characters of a value that a line shows at most.
const VALUE_CHARS_MAX: usize = 60;

/// What is different in `new`, a line each: `limits.zones.chat.rate: "5r/s" -> "10r/s"`, `endpoints.gpu-2: added`.
/// A key that is not there is `unset`; of a secret whose mask stays the same it is told that it has changed.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    compare_tables(&mut lines, "", &tree(old), &tree(new));
    let before: HashMap<String, &Secret> = secrets(old).collect();
    for (path, secret) in secrets(new) {
        let hidden = |other: &&Secret| **other != *secret && other.masked() == secret.masked();
        if before.get(&path).is_some_and(hidden) {
            lines.push(format!("{path}: changed"));
        }
    }
    lines
}

/// The keys that differ and that a running gateway cannot change: they need a new process.
#[must_use]
pub fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (a, b) = (&old.server, &new.server);
    let keys = [
        ("server.shards", a.shards != b.shards),
        ("server.pin", a.pin != b.pin),
        ("server.driver", a.driver != b.driver),
        ("server.admin_listen", a.admin_listen != b.admin_listen),
        ("server.handover_socket", a.handover_socket != b.handover_socket),
        ("log.access", old.log.access != new.log.access),
        ("log.journal", old.log.journal != new.log.journal),
    ];
    keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

/// The effective text as a tree. It is always TOML, as the tests of `check` show.
fn tree(config: &Config) -> Table {
    effective(config).parse().unwrap_or_default()
}

/// Every secret of a configuration under the path of its key.
fn secrets(config: &Config) -> impl Iterator<Item = (String, &Secret)> {
    let admin = config.server.admin_token.iter().map(|secret| ("server.admin_token".to_owned(), secret));
    let endpoints = config.endpoints.iter().filter_map(|endpoint| {
        let path = format!("endpoints.{}.api_key", key_text(&endpoint.name));
        endpoint.api_key.as_ref().map(|secret| (path, secret))
    });
    let keys = config.keys.iter().filter_map(|key| match &key.secret {
        super::edge::KeySecret::Plain(secret) => {
            Some((format!("keys.{}.secret", key_text(&key.name)), secret))
        }
        super::edge::KeySecret::Sha256(_) => None,
    });
    let tracing = config.tracing.headers.iter();
    let tracing = tracing.map(|(name, secret)| (format!("tracing.headers.{}", key_text(name)), secret));
    let redis = config.redis.iter().filter_map(|redis| redis.password.as_ref());
    let redis = redis.map(|secret| ("redis.password".to_owned(), secret));
    admin.chain(endpoints).chain(keys).chain(tracing).chain(redis)
}

fn compare_tables(lines: &mut Vec<String>, path: &str, old: &Table, new: &Table) {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        compare(lines, &below(path, key), old.get(key), new.get(key));
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key_text(key) } else { format!("{path}.{}", key_text(key)) }
}

fn compare(lines: &mut Vec<String>, path: &str, old: Option<&Value>, new: Option<&Value>) {
    if old == new {
        return;
    }
    if let (Some(old), Some(new)) = (entries(old), entries(new)) {
        return compare_entries(lines, path, &old, &new);
    }
    match (old, new) {
        (Some(Value::Table(old)), Some(Value::Table(new))) => compare_tables(lines, path, old, new),
        (None, Some(Value::Table(_))) => lines.push(format!("{path}: added")),
        (Some(Value::Table(_)), None) => lines.push(format!("{path}: removed")),
        _ => {
            let (before, after) = (shown(old), shown(new));
            // The sum of a weak secret tells the secret.
            if before == after || path.ends_with(".sha256") {
                lines.push(format!("{path}: changed"));
            } else {
                lines.push(format!("{path}: {before} -> {after}"));
            }
        }
    }
}

/// The tables of an array with what tells them apart; `None`: it is no such array. One that is not there has none.
fn entries(value: Option<&Value>) -> Option<Vec<(&str, &Table)>> {
    let Some(value) = value else { return Some(Vec::new()) };
    let found: Vec<(&str, &Table)> = value.as_array()?.iter().map(entry).collect::<Option<_>>()?;
    let names: BTreeSet<&str> = found.iter().map(|(name, _)| *name).collect();
    (names.len() == found.len()).then_some(found)
}

fn compare_entries(lines: &mut Vec<String>, path: &str, old: &[(&str, &Table)], new: &[(&str, &Table)]) {
    let before: HashMap<&str, &Table> = old.iter().copied().collect();
    let after: HashMap<&str, &Table> = new.iter().copied().collect();
    for (name, _) in old.iter().filter(|(name, _)| !after.contains_key(name)) {
        lines.push(format!("{}: removed", below(path, name)));
    }
    for (name, table) in new {
        match before.get(name) {
            None => lines.push(format!("{}: added", below(path, name))),
            Some(old) => compare_tables(lines, &below(path, name), old, table),
        }
    }
    let kept_before = old.iter().map(|(name, _)| *name).filter(|name| after.contains_key(name));
    let kept_after = new.iter().map(|(name, _)| *name).filter(|name| before.contains_key(name));
    if !kept_before.eq(kept_after) {
        lines.push(format!("{path}: order changed"));
    }
}

/// A table and its name; `None`: it is none, or has no name.
fn entry(item: &Value) -> Option<(&str, &Table)> {
    let table = item.as_table()?;
    let name = table.get("name").or_else(|| table.get("path"))?.as_str()?;
    Some((name, table))
}

/// A value on one line, cut if long.
fn shown(value: Option<&Value>) -> String {
    let text = value.map_or_else(|| "unset".to_owned(), text);
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Float(number) => format!("{number:?}"),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => {
            let pairs: Vec<String> =
                table.iter().map(|(key, value)| format!("{} = {}", key_text(key), text(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
