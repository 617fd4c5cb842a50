//! Whole answers: valid ones are never refused, stay valid, and nothing but the model's name changes (and, where it
//! was asked for, number arrays of embeddings).

use corelane::api::{Answer, Task};
use corelane::wire::json::DEPTH_MAX;
use serde_json::{Value, json};

use super::cut;
use super::value::{self, Members};

/// The client's name for the model.
const ASKED: &str = "asked \"é\"";

/// The first byte chooses the task, the second whether embeddings become base64.
pub fn target(data: &[u8]) {
    let (first, rest) = cut::choice(data);
    let (second, body) = cut::choice(rest);
    let (task, base64) = (cut::task(first), second % 2 == 1);
    let read = Answer::read(body, task, None);
    let members = value::members(body).ok().filter(|members| value::depth_of(members) <= DEPTH_MAX);
    assert!(read.is_ok() || members.is_none(), "a valid answer is refused");
    let Ok(answer) = read else { return };
    let model = corelane::wire::json::quoted(ASKED);
    let mut out = Vec::new();
    answer.splice(body, &model, base64, &mut out);
    assert!(!answer.unchanged(body, &model, base64) || out == body, "unchanged, yet it changes");
    if let Some(members) = members {
        let got =
            value::members(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)));
        only_the_name(&members, &got, base64 && task == Task::Embeddings);
        assert!(
            Answer::read(&out, task, None).is_ok_and(|again| again.usage == answer.usage),
            "usage changes"
        );
    }
}

fn only_the_name(before: &Members, after: &Members, base64: bool) {
    assert_eq!(before.len(), after.len());
    let last = |name: &str, fits: fn(&Value) -> bool| {
        before.iter().rposition(|(key, value)| key == name && fits(value))
    };
    let (model, data) = (last("model", Value::is_string), last("data", |_| true));
    for (at, (old, new)) in before.iter().zip(after).enumerate() {
        assert_eq!(old.0, new.0);
        if Some(at) == model && new.1 == json!(ASKED) {
            continue;
        }
        // An escaped key is passed on as it is: no endpoint writes "mod\u0065l".
        if base64 && Some(at) == data {
            embeddings(&old.1, &new.1);
        } else {
            assert_eq!(old.1, new.1, "{} changes", old.0);
        }
    }
}

/// Each element is as before, but for arrays of numbers that have become base64 of four bytes a number.
fn embeddings(old: &Value, new: &Value) {
    let (Value::Array(old), Value::Array(new)) = (old, new) else { return assert_eq!(old, new) };
    assert_eq!(old.len(), new.len());
    for (old, new) in old.iter().zip(new) {
        let (Some(was), Some(is)) = (old.get("embedding"), new.get("embedding")) else {
            assert_eq!(old, new);
            continue;
        };
        if let (Value::Array(numbers), Value::String(text)) = (was, is) {
            assert!(numbers.iter().all(Value::is_number), "{numbers:?}");
            assert_eq!(text.len(), (numbers.len() * 4).div_ceil(3) * 4);
        } else {
            assert_eq!(was, is);
        }
        let rest = |value: &Value| {
            value.as_object().map(|map| map.iter().filter(|(key, _)| *key != "embedding").count())
        };
        assert_eq!(rest(old), rest(new));
    }
}
