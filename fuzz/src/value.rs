//! JSON as `serde_json` reads it, with the members of the top level in order and duplicates kept.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// Members as (key, value), in order.
pub type Members = Vec<(String, Value)>;

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Members;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut all = Vec::new();
        while let Some(pair) = map.next_entry()? {
            all.push(pair);
        }
        Ok(all)
    }
}

/// The members of the one object that `text` is.
///
/// # Errors
/// What `serde_json` says.
pub fn members(text: &[u8]) -> serde_json::Result<Members> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let all = reader.deserialize_map(Pairs)?;
    reader.end()?;
    Ok(all)
}

/// Whether no key stands twice.
pub fn distinct(members: &[(String, Value)]) -> bool {
    let mut keys: Vec<_> = members.iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.windows(2).all(|pair| pair[0] != pair[1])
}

/// The value of the first member with this key.
pub fn get<'a>(members: &'a [(String, Value)], key: &str) -> Option<&'a Value> {
    members.iter().find(|(known, _)| known == key).map(|(_, value)| value)
}

/// How deep objects and arrays nest.
pub fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// How deep an object with these members nests.
pub fn depth_of(members: &[(String, Value)]) -> usize {
    1 + members.iter().map(|(_, value)| depth(value)).max().unwrap_or(0)
}
