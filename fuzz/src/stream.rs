//! Streamed answers: the same at every cut; every event comes from one of the endpoint's, changed only in model and
//! usage; completeness is never invented.

use corelane::api::stream::Progress;
use corelane::api::{Dialect, Stream, Task};
use serde_json::{Value, json};

use super::{cut, sse};

/// The client's name for the model.
const ASKED: &str = "asked";

/// What a client gets, and what is known behind it.
#[derive(Debug, PartialEq)]
struct Got {
    out: Vec<u8>,
    failure: Option<String>,
    seen: (u64, u64, u64, Progress),
}

/// The first byte chooses the task, the second whether usage is taken out.
pub fn target(data: &[u8]) {
    let (first, rest) = cut::choice(data);
    let (second, input) = cut::choice(rest);
    let (task, strip) = (cut::task(first), second % 2 == 1);
    let whole = run(task, strip, &[input]);
    for parts in cut::all(input) {
        assert_eq!(run(task, strip, &parts), whole, "cut after {}", parts[0].len());
    }
    let native = task.dialect() == Dialect::Ollama;
    let (came, left) = (events(input, native), events(&whole.out, native));
    assert_eq!(left.len() as u64, whole.seen.2, "events are miscounted");
    traced(&came, &left, strip);
    if whole.failure.is_none() {
        assert_eq!(whole.seen.3, Progress::Complete, "a stream without an end is fine");
        assert!(strip || came.len() == left.len(), "{} events came, {} went", came.len(), left.len());
        if matches!(task, Task::Chat | Task::Completions | Task::Embeddings) {
            assert!(came.iter().any(ends), "nobody said that it is complete");
        }
    }
}

fn run(task: Task, strip: bool, parts: &[&[u8]]) -> Got {
    let model = corelane::wire::json::quoted(ASKED);
    let mut stream = Stream::new(task, task.dialect() == Dialect::Ollama, model, strip);
    let mut out = Vec::new();
    let result =
        parts.iter().try_for_each(|part| stream.push(part, &mut out)).and_then(|()| stream.finish(&mut out));
    let usage = stream.usage();
    let seen = (usage.input, usage.output, stream.events(), stream.progress());
    Got { out, failure: result.err().map(|failure| format!("{failure:?}")), seen }
}

/// An event's data, and the JSON it is, if it is.
type Seen = (Vec<u8>, Option<Value>);

fn events(text: &[u8], native: bool) -> Vec<Seen> {
    let data: Vec<Vec<u8>> = if native {
        let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
    } else {
        sse::events(&[text]).0.into_iter().filter_map(|(_, data, _)| data).collect()
    };
    data.into_iter()
        .map(|data| data.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }).collect())
        .map(json_of)
        .collect()
}

fn json_of(data: Vec<u8>) -> Seen {
    let value = serde_json::from_slice(&data).ok();
    (data, value)
}

/// Each event that left is, in order, one that came.
fn traced(came: &[Seen], left: &[Seen], strip: bool) {
    let mut came = came.iter();
    for (data, value) in left {
        let found =
            came.any(|(old, was)| old == data || alike(was.as_ref(), value.as_ref(), strip) || was.is_none());
        assert!(found, "invented: {}", String::from_utf8_lossy(data));
    }
}

fn alike(was: Option<&Value>, is: Option<&Value>, strip: bool) -> bool {
    let (Some(was), Some(is)) = (was, is) else { return false };
    neutral(was, strip) == neutral(is, strip)
}

/// Without what may change.
fn neutral(event: &Value, strip: bool) -> Value {
    let mut event = event.clone();
    for inner in ["message", "response"] {
        if let Some(model) =
            event.get_mut(inner).and_then(|inner| inner.get_mut("model")).filter(|model| model.is_string())
        {
            *model = json!(ASKED);
        }
    }
    if let Some(members) = event.as_object_mut() {
        if let Some(model) = members.get_mut("model").filter(|model| model.is_string()) {
            *model = json!(ASKED);
        }
        if strip {
            members.remove("usage");
        }
    }
    event
}

/// Whether an event of the endpoint says that the answer is complete; unreadable ones might.
fn ends((data, value): &Seen) -> bool {
    let Some(value) = value else { return true };
    data == b"[DONE]" || value.get("choices").is_some_and(finishes)
}

fn finishes(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(finishes),
        Value::Object(map) => {
            map.get("finish_reason").is_some_and(Value::is_string) || map.values().any(finishes)
        }
        _ => false,
    }
}
