//! `[cache]`.

use std::time::Duration;

use super::super::Bytes;
use super::super::cache::{Cache, Cached, Store};
use super::super::problem::quote;
use super::super::reader::{Place, Table, Value};
use super::super::render::cache::{CACHED, MODES, STORES};

/// Longest time that an answer is kept.
const TTL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Largest answer: a read of it holds the shard.
const ANSWER_MAX: Bytes = Bytes(16 << 20);
/// The memory is kept in parts, and an answer must fit one beside others.
const PARTS: u64 = 8;

/// The section, where its store stands, and the URL in it that is a short form of `redis.url`.
pub(super) fn read<'a>(table: &mut Table<'a>) -> (Cache, Option<Place>, Option<Value<'a>>) {
    let default = Cache::default();
    let stands = table.take("store");
    let store = stands.as_ref().and_then(|value| value.word(&STORES)).unwrap_or(default.store);
    let ttl_max = table.time_within("ttl_max", Duration::from_secs(1), TTL_MAX, default.ttl_max);
    let ttl_value = table.take("ttl");
    let ttl = ttl_value.as_ref().and_then(|value| value.time_within(Duration::from_secs(1), TTL_MAX));
    let ttl = ttl.unwrap_or_else(|| default.ttl.min(ttl_max));
    if let Some(value) = ttl_value.filter(|_| ttl > ttl_max) {
        value.wrong("`ttl` is longer than `ttl_max`", "raise `ttl_max`, or lower `ttl`");
    }
    let none = if store == Store::Redis { Bytes(0) } else { Bytes(1 << 20) };
    let memory = table.take("memory_bytes_max");
    let memory_bytes_max = memory.as_ref().and_then(|value| value.size(none, Bytes(1 << 40)));
    let memory_bytes_max = memory_bytes_max.unwrap_or(default.memory_bytes_max);
    let answer = table.take("answer_bytes_max");
    let answer_bytes_max = answer.as_ref().and_then(|value| value.size(Bytes(1024), ANSWER_MAX));
    let fits = Bytes(memory_bytes_max.0 / PARTS);
    let answer_bytes_max = match answer_bytes_max {
        Some(asked) if memory_bytes_max.0 > 0 && asked > fits => {
            if let Some(value) = answer {
                let hint = format!("at most {fits}: an eighth of `memory_bytes_max`");
                value.wrong("an answer of that size does not fit the memory", hint);
            }
            asked
        }
        Some(asked) => asked,
        None if memory_bytes_max.0 > 0 => default.answer_bytes_max.min(fits),
        None => default.answer_bytes_max,
    };
    let cache = Cache {
        store,
        ttl,
        ttl_max,
        memory_bytes_max,
        answer_bytes_max,
        by_default: table.word("mode", &MODES, default.by_default),
        shared: table.flag("shared", default.shared),
        coalesce: table.flag("coalesce", default.coalesce),
        charge_hits: table.flag("charge_hits", default.charge_hits),
        tasks: table.take("tasks").map(read_tasks).unwrap_or(default.tasks),
    };
    (cache, stands.map(|value| value.place), table.take("url"))
}

/// What is kept in Redis needs one.
pub(super) fn check_store(root: &Table<'_>, cache: &Cache, place: Option<Place>, has_redis: bool) {
    if let Some(place) = place.filter(|_| cache.store == Store::Redis && !has_redis && root.report.is_clean())
    {
        root.report.add(&place, "no Redis is named", r#"add url = "redis://127.0.0.1:6379/0" under [redis]"#);
    }
}

fn read_tasks(value: Value<'_>) -> Vec<Cached> {
    let items = value.items().unwrap_or_default();
    if items.is_empty() {
        value.wrong("no task is left", r#"e.g. ["chat", "embeddings"], or store = "off""#);
    }
    let mut tasks = Vec::new();
    for item in items {
        match item.word(&CACHED) {
            Some(task) if tasks.contains(&task) => item.wrong("it is listed twice", "list it once"),
            Some(task) => tasks.push(task),
            None => {}
        }
    }
    tasks.sort_unstable();
    tasks
}

/// `keys.cache_group`: keys of one group share what is kept.
pub(super) fn read_group(value: &Value<'_>) -> Option<String> {
    let text = value.text().filter(|text| !text.is_empty())?;
    if text.len() > 64 || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        let hint = "letters, digits, `-`, `_` and `.`, 64 at most";
        value.wrong(format!("{} is no name of a group", quote(text)), hint);
        return None;
    }
    Some(text.to_owned())
}
