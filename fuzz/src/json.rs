//! The JSON scanner against `serde_json`: it never refuses what is valid, and finds the same members.

use corelane::wire::Span;
use corelane::wire::json::{self, DEPTH_MAX, Member, Walk};
use serde_json::Value;

use super::value::{self, Members};

/// Reads `data` as a value, as an object and as a text.
pub fn target(data: &[u8]) {
    walk_all(data, 0);
    if let Ok(whole) = serde_json::from_slice::<Value>(data)
        && value::depth(&whole) <= DEPTH_MAX
    {
        assert!(json::is_whole(data), "valid JSON is refused");
        if let Value::Array(items) = &whole {
            elements(data, items);
        }
    }
    if let Ok(members) = value::members(data)
        && value::depth_of(&members) <= DEPTH_MAX
    {
        object(data, &members);
    }
    let text = String::from_utf8_lossy(data);
    assert_eq!(json::text_of(&json::quoted(&text)).as_deref(), Some(&*text));
    let _ = (json::integer(data), json::string_end(data, 0), json::string_end(data, data.len() + 1));
}

/// Walks whatever is there; every span lies within, every step moves on.
fn walk_all(data: &[u8], depth: usize) {
    if let Ok(mut walk) = Walk::object(data, 0) {
        let mut last = 0;
        while let Ok(Some(Member { key, value })) = walk.member() {
            assert!(last < key.start && key.end < value.start && value.end as usize <= data.len());
            last = value.end;
            if depth < 8 {
                walk_all(value.of_bytes(data), depth + 1);
            }
        }
    }
    if let Ok(mut walk) = Walk::array(data, 0) {
        let mut last = 0;
        while let Ok(Some(element)) = walk.element() {
            assert!(last < element.end && element.end as usize <= data.len());
            last = element.end;
        }
    }
}

fn elements(data: &[u8], items: &[Value]) {
    let mut walk = Walk::array(data, 0).expect("an array");
    for item in items {
        let found = walk.element().expect("valid").expect("another element");
        assert_eq!(serde_json::from_slice::<Value>(found.of_bytes(data)).ok().as_ref(), Some(item));
    }
    assert_eq!(walk.element(), Ok(None));
    assert_eq!(json::space(data, walk.end()), data.len());
}

fn object(data: &[u8], members: &Members) {
    let mut walk = Walk::object(data, 0).expect("an object");
    let mut found = Vec::new();
    while let Some(member) = walk.member().expect("valid") {
        let key = Span { start: member.key.start - 1, end: member.key.end + 1 };
        let key = json::text_of(key.of_bytes(data)).expect("a valid key");
        let inside = serde_json::from_slice::<Value>(member.value.of_bytes(data)).expect("a valid value");
        assert_eq!(json::value_after_key(data, member.key), Some(member));
        found.push((key, inside, member));
    }
    assert_eq!(
        found.iter().map(|(key, inside, _)| (key.clone(), inside.clone())).collect::<Members>(),
        *members
    );
    assert_eq!(json::space(data, walk.end()), data.len());
    if !value::distinct(members) {
        return;
    }
    for (at, (key, _, member)) in found.iter().enumerate() {
        if member.key.of_bytes(data) == key.as_bytes() {
            assert_eq!(json::find(data, key.as_bytes()), Some(*member));
        }
        let gone = json::removal(data, *member);
        let left = [&data[..gone.start as usize], &data[gone.end as usize..]].concat();
        let mut want = members.clone();
        want.remove(at);
        assert_eq!(value::members(&left).ok(), Some(want), "without {key:?}");
    }
}
