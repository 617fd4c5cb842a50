//! Parts of the contract that this version does not build.
//!
//! Who configures a cache or a budget relies on it: each is a mistake rather than a silence. Only the value that
//! says "none" is accepted, and every function here goes away with the version that builds its part.

use super::super::reader::{Table, Value};

/// Refuses the sections of the whole file that are not built.
pub(super) fn refuse_sections(root: &mut Table<'_>) {
    if let Some(cache) = root.take("cache").filter(|value| !is_off(value)) {
        missing(&cache, "the cache", r#"remove [cache], or set `store = "off"` in it"#);
    }
}

/// Refuses a budget of a caller; 0 is none.
pub(super) fn refuse_budget(table: &mut Table<'_>) {
    if let Some(value) = table.take("budget")
        && value.amount().is_some_and(|amount| amount > 0.0)
    {
        value.wrong("budgets are not available in this version", "remove budget, or set it to 0.0");
    }
}

/// Refuses bodies in the log, and a log that is not masked.
pub(super) fn refuse_log_flags(table: &mut Table<'_>) {
    if let Some(value) = table.take("bodies")
        && value.flag() == Some(true)
    {
        missing(&value, "a log of bodies", "remove bodies, or set it to false");
    }
    if let Some(value) = table.take("mask")
        && value.flag() == Some(false)
    {
        missing(&value, "a log that is not masked", "remove mask, or set it to true");
    }
}

fn missing(value: &Value<'_>, what: &str, hint: &str) {
    value.wrong(format!("{what} is not available in this version"), hint);
}

/// Whether `value` is a cache's table of known keys that says `store = "off"`.
fn is_off(value: &Value<'_>) -> bool {
    let pairs = value.quiet_pairs();
    let known = ["store", "url", "ttl", "memory_bytes_max"];
    pairs.iter().all(|(key, _)| known.contains(key))
        && pairs.iter().any(|(key, value)| *key == "store" && value.as_text() == Some("off"))
}
