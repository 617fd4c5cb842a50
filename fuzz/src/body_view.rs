//! Request bodies: what is accepted is what `serde_json` reads, and the splice changes what it documents, no more.

use corelane::api::body::Scratch;
use corelane::api::{BodyError, Dialect, Task, View};
use corelane::config::Kind;
use serde_json::{Value, json};

use super::cut;
use super::value::{self, Members, distinct, get};

/// Names that an endpoint may be asked for, some of them unpleasant.
const UPSTREAM: [&str; 8] =
    ["m", "llama3.2:1b", "a\"b\\c", "a\\u0062", "é\u{1F600}", "org/model", "tab\there", "\u{7f}\u{1}"];

/// Fields that are for the gateway alone.
const OURS: [&str; 8] =
    ["fallbacks", "num_retries", "timeout", "cache", "guardrails", "tags", "mock_response", "drop_params"];

/// The first byte chooses the task, the second the endpoint's kind and its name for the model.
pub fn target(data: &[u8]) {
    let (first, rest) = cut::choice(data);
    let (second, body) = cut::choice(rest);
    let task = cut::task(first);
    let kind = if second % 2 == 0 { Kind::Openai } else { Kind::Ollama };
    let upstream = UPSTREAM[second / 2 % UPSTREAM.len()];
    let mut scratch = Scratch::default();
    let view = View::read(&mut scratch, body, task);
    assert_eq!(View::read(&mut scratch, body, task), view, "memory used again reads otherwise");
    let members = match value::members(body) {
        Ok(members) => members,
        Err(error) => {
            let number = error.to_string().starts_with("number out of range");
            return assert!(view.is_err() || number, "accepted, but: {error}");
        }
    };
    if !distinct(&members) {
        return assert!(view.is_err(), "a duplicate is accepted");
    }
    match view {
        Ok(view) => {
            reads(&view, &members, task);
            splices(&view, body, &members, (task, kind, upstream));
        }
        Err(BodyError::Json) => assert!(beyond(&members, body), "valid JSON is refused"),
        Err(BodyError::Duplicate(key)) => panic!("{key} stands once"),
        Err(BodyError::Spelling(key)) => {
            assert!(
                !key.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()),
                "{key} is in lower case"
            );
        }
        Err(BodyError::Field(..)) => {}
    }
}

/// Whether valid JSON may be refused: it nests too deep, or has a whole number beyond 64 bits, which `simd-json`
/// does not take.
fn beyond(members: &Members, body: &[u8]) -> bool {
    value::depth_of(members) >= 60
        || body.split(|byte| !byte.is_ascii_digit()).any(|digits| digits.len() >= 19)
}

fn reads(view: &View, members: &Members, task: Task) {
    let native = task.dialect() == Dialect::Ollama;
    let name = get(members, "model").or_else(|| get(members, "name").filter(|_| native));
    assert_eq!(name, Some(&json!(view.model)));
    let default = matches!(task, Task::NativeChat | Task::NativeGenerate);
    assert_eq!(view.stream, get(members, "stream").and_then(Value::as_bool).unwrap_or(default));
    let asked = get(members, "stream_options")
        .is_some_and(|options| options.get("include_usage") == Some(&json!(true)));
    assert_eq!(view.wants_usage, asked, "wants_usage");
    assert_eq!(view.wants_base64, get(members, "encoding_format") == Some(&json!("base64")));
}

fn splices(view: &View, body: &[u8], members: &Members, (task, kind, upstream): (Task, Kind, &str)) {
    let mut out = b"before".to_vec();
    view.splice(body, upstream, kind, &mut out);
    let out = out.strip_prefix(b"before").expect("what stood there stays");
    let got = value::members(out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(out)));
    assert!(distinct(&got), "a duplicate is made: {}", String::from_utf8_lossy(out));
    let (mut got, mut want) = (sorted(got), sorted(edited(view, members, task, upstream)));
    if let Some(limit) = limit_for_ollama(members).filter(|_| kind == Kind::Ollama) {
        assert_eq!(get(&got, "max_tokens"), Some(limit), "the limit is lost");
        // Whether its old name stays beside it is free.
        let named =
            |(key, _): &(String, Value)| !matches!(key.as_str(), "max_tokens" | "max_completion_tokens");
        got.retain(named);
        want.retain(named);
    }
    assert_eq!(got, want);
}

/// The limit that Ollama knows by its older name only, unless that name is there with a value.
fn limit_for_ollama(members: &Members) -> Option<&Value> {
    get(members, "max_completion_tokens").filter(|_| get(members, "max_tokens").is_none_or(Value::is_null))
}

/// The edits as `DESIGN.md` names them, on values.
fn edited(view: &View, members: &Members, task: Task, upstream: &str) -> Members {
    let mut want = members.clone();
    let name = if get(members, "model").is_some() { "model" } else { "name" };
    want.retain(|(key, value)| match key.as_str() {
        "stream_options" => value.is_object(),
        key => task.dialect() != Dialect::Openai || !OURS.contains(&key),
    });
    for (key, value) in &mut want {
        match key.as_str() {
            known if known == name => *value = json!(upstream),
            "stream_options" if view.injects_usage() => value["include_usage"] = json!(true),
            _ => {}
        }
    }
    if view.injects_usage() && get(&want, "stream_options").is_none() {
        want.push(("stream_options".to_owned(), json!({"include_usage": true})));
    }
    want
}

fn sorted(mut members: Members) -> Members {
    members.sort_by(|a, b| a.0.cmp(&b.0));
    members
}
