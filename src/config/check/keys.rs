//! `[[keys]]`: who may call, for what, and how much.
//!
//! Secrets are compared by their SHA-256, so that one given as text and one given as its sum are found to be the
//! same; no message holds either.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use super::super::edge::{Key, KeySecret};
use super::super::guard::Guard;
use super::super::problem::{choices, quote};
use super::super::reader::{Place, Table, Value};
use super::super::{Model, Secret, moment};
use super::cache::read_group;
use super::endpoints::{read_name, read_secret};
use super::models::{PROVIDER_PREFIXES, check_name, normalized};

/// Keys that a gateway may have, and models that one may name.
const KEYS_MAX: usize = 10_000;
const KEY_MODELS_MAX: usize = 1000;
/// Shortest secret: what is shorter can be guessed.
const SECRET_BYTES_MIN: usize = 8;
/// Largest limits: a minute's count has its bits beside the minute's number.
const PER_MINUTE_MAX: i64 = 1_000_000_000;
const CONCURRENT_MAX: i64 = 1_000_000;
/// Longest period of a budget.
const PERIOD_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Every key in the file's order.
pub(super) fn read(root: &mut Table<'_>, models: &[Model], guard: &Guard) -> Vec<Key> {
    let served = Served::new(models);
    let mut names: HashMap<String, u32> = HashMap::new();
    let mut sums: HashMap<[u8; 32], u32> = HashMap::new();
    let keys: Vec<Key> = root
        .sections("keys", |table| {
            let (name, secret) = read_identity(table, &mut names, &mut sums);
            read_key(table, name, secret, &served, guard)
        })
        .into_iter()
        .flatten()
        .collect();
    if let Some(value) = root.take("keys").filter(|_| keys.len() > KEYS_MAX) {
        value.wrong(format!("{} keys", keys.len()), format!("at most {KEYS_MAX}"));
    }
    keys
}

/// `None` only where the file has a mistake.
fn read_key(
    table: &mut Table<'_>,
    name: String,
    secret: Option<KeySecret>,
    served: &Served<'_>,
    guard: &Guard,
) -> Option<Key> {
    let models =
        table.take("models").map_or_else(|| vec!["*".to_owned()], |value| read_models(&value, served));
    let guard = table.take("guard").and_then(|value| read_guard(&value, guard));
    let requests_per_minute = table.integer("requests_per_minute", 0, PER_MINUTE_MAX, 0);
    let tokens_per_minute = table.integer("tokens_per_minute", 0, PER_MINUTE_MAX, 0);
    let concurrent = table.integer("concurrent", 0, CONCURRENT_MAX, 0);
    let budget = table.take("budget").and_then(|value| value.amount()).unwrap_or(0.0);
    let budget_period = table.time_within("budget_period", Duration::ZERO, PERIOD_MAX, Duration::ZERO);
    let cache_group = table.take("cache_group").and_then(|value| read_group(&value));
    let expires = table.take("expires").and_then(|value| read_expires(&value));
    let secret = secret?;
    Some(Key {
        name,
        secret,
        models,
        guard,
        requests_per_minute,
        tokens_per_minute,
        concurrent,
        budget,
        budget_period,
        cache_group,
        expires,
    })
}

/// Name and secret, both unlike those of the keys before.
fn read_identity(
    table: &mut Table<'_>,
    names: &mut HashMap<String, u32>,
    sums: &mut HashMap<[u8; 32], u32>,
) -> (String, Option<KeySecret>) {
    let line = table.place.line;
    let name_value = table.require("name", r#"e.g. name = "team-a""#);
    let name = name_value.as_ref().and_then(|value| read_name(value, "key")).unwrap_or_default();
    if let Some(value) = name_value.filter(|_| !name.is_empty())
        && let Some(other) = names.insert(name.clone(), line)
    {
        let message = format!("{} is also the name of the key in line {other}", quote(&name));
        value.wrong(message, "give it a name of its own");
    }
    let Some((place, secret)) = read_key_secret(table) else { return (name, None) };
    if let Some(other) = sums.insert(secret.sum(), line) {
        let message = format!("the key in line {other} has the same secret");
        table.report.add(&place, message, "give each key a secret of its own");
    }
    (name, Some(secret))
}

/// `secret` or `sha256`, and where it stands.
fn read_key_secret(table: &mut Table<'_>) -> Option<(Place, KeySecret)> {
    match (table.take("secret"), table.take("sha256")) {
        (None, None) => {
            let hint = r#"secret = "env:NAME", or sha256 = the sum of the secret in hex"#;
            table.report.add(&table.place, "`secret` or `sha256` is needed", hint);
            None
        }
        (Some(_), Some(sum)) => {
            sum.wrong("`secret` and `sha256` are both given", "remove one of them");
            None
        }
        (Some(value), None) => {
            let secret = read_plain(&value)?;
            Some((value.place, KeySecret::Plain(secret)))
        }
        (None, Some(value)) => {
            let sum = read_sum(&value)?;
            Some((value.place, KeySecret::Sha256(sum)))
        }
    }
}

fn read_plain(value: &Value<'_>) -> Option<Secret> {
    if value.as_text() == Some("") {
        value.wrong("the secret is empty", r#"the secret itself, "env:NAME" or "file:PATH""#);
        return None;
    }
    let secret = read_secret(value)?;
    if secret.expose().len() < SECRET_BYTES_MIN {
        let hint = "make one that nobody guesses, e.g. with `openssl rand -hex 24`";
        value.wrong(format!("the secret is shorter than {SECRET_BYTES_MIN} characters"), hint);
        return None;
    }
    Some(secret)
}

/// 64 hex digits. The text is not repeated: it may be a secret by mistake.
fn read_sum(value: &Value<'_>) -> Option<[u8; 32]> {
    let text = value.text()?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut sum = [0; 32];
    let pairs = text.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    let read = sum.iter_mut().zip(pairs).map(|(slot, byte)| byte.map(|byte| *slot = byte));
    if text.len() != 64 || read.collect::<Option<Vec<()>>>().is_none() {
        let hint = "64 hex digits: `printf %s \"$KEY\" | sha256sum`";
        value.wrong("this is no SHA-256", hint);
        return None;
    }
    Some(sum)
}

/// A profile's name. A key may not turn the guard off by a word.
fn read_guard(value: &Value<'_>, guard: &Guard) -> Option<usize> {
    let name = value.text()?;
    let found = guard.profiles.iter().position(|profile| profile.name == name);
    if found.is_none() {
        let known: Vec<&str> = guard.profiles.iter().map(|profile| profile.name.as_str()).collect();
        let hint = match name {
            "off" => "name a profile with `enabled = false`; left out: what the model says".to_owned(),
            _ => choices(name, &known),
        };
        value.wrong(format!("there is no guard profile {}", quote(name)), hint);
    }
    found
}

fn read_expires(value: &Value<'_>) -> Option<SystemTime> {
    let moment = moment::parse(&value.datetime()?);
    if moment.is_none() {
        let hint = "a date, a time and an offset: 2030-12-31T23:59:59Z or 2030-12-31T23:59:59+07:00";
        value.wrong("this is no moment from 1970 on", hint);
    }
    moment
}

fn read_models(value: &Value<'_>, served: &Served<'_>) -> Vec<String> {
    let Some(items) = value.items() else { return Vec::new() };
    if items.is_empty() || items.len() > KEY_MODELS_MAX {
        value.wrong(
            format!("{} models", items.len()),
            format!(r#"from 1 to {KEY_MODELS_MAX}; left out: ["*"]"#),
        );
        return Vec::new();
    }
    let mut models: Vec<String> = Vec::with_capacity(items.len());
    let mut seen = HashSet::with_capacity(items.len());
    for item in items {
        let Some(name) = item.text() else { continue };
        let valid = check_name(&item, name);
        if !seen.insert(name) {
            item.wrong(format!("{} is listed twice", quote(name)), "remove one of them");
        } else if valid && !served.matches(name) {
            item.wrong(format!("no model is called {}", quote(name)), choices(bare(name), &served.names));
        }
        models.push(name.to_owned());
    }
    models
}

/// The names that the models' policies serve.
struct Served<'a> {
    /// As the file has them, but for the provider's prefix.
    names: Vec<&'a str>,
    /// As they are compared: whole names, and what stands before a `*`.
    exact: BTreeSet<String>,
    beginnings: BTreeSet<String>,
}

impl<'a> Served<'a> {
    fn new(models: &'a [Model]) -> Self {
        let names: Vec<&str> =
            models.iter().map(|model| bare(&model.name)).filter(|name| !name.is_empty()).collect();
        let (wild, whole): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.ends_with('*'));
        Self {
            exact: whole.into_iter().map(folded).collect(),
            beginnings: wild.into_iter().map(beginning).collect(),
            names,
        }
    }

    /// Whether `name`, which may end with `*`, is or holds a name that is served.
    fn matches(&self, name: &str) -> bool {
        let wild = name.ends_with('*');
        let own = if wild { beginning(name) } else { folded(name) };
        let holds = |names: &BTreeSet<String>| {
            names.range(own.clone()..).next().is_some_and(|next| next.starts_with(&own))
        };
        let begins = |end| own.get(..end).is_some_and(|part| self.beginnings.contains(part));
        let held =
            if wild { holds(&self.exact) || holds(&self.beginnings) } else { self.exact.contains(&own) };
        held || (0..=own.len()).any(begins)
    }
}

/// A name without its provider: the catalog finds it with and without.
fn bare(name: &str) -> &str {
    PROVIDER_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// A name as it is compared here.
fn folded(name: &str) -> String {
    let lower = normalized(name);
    bare(&lower).to_owned()
}

/// What stands before the `*`.
fn beginning(name: &str) -> String {
    let mut own = folded(name);
    own.pop();
    own
}
