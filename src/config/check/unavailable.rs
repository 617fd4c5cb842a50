//! Parts of the contract that this version does not build.
//!
//! Who configures a cache relies on it: each is a mistake rather than a silence. Only the value that
//! says "none" is accepted, and every function here goes away with the version that builds its part.

use super::super::reader::{Table, Value};

/// Refuses the sections of the whole file that are not built.
pub(super) fn refuse_sections(root: &mut Table<'_>) {
    if let Some(cache) = root.take("cache").filter(|value| !is_off(value)) {
        missing(&cache, "the cache", r#"remove [cache], or set `store = "off"` in it"#);
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
