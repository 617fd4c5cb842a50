//! A whole (not streamed) answer of an endpoint: checked, read for usage, given the client's name for the model.

use base64::Engine as _;

use super::speech::{self, Part, Voice};
use super::stream::{cost_member, finished};
use super::{Dialect, Task, Usage};
use crate::config::Price;
use crate::usage::estimate::Said;
use crate::wire::Span;
use crate::wire::json::{self, Walk};

/// What a whole answer says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// Tokens counted by the endpoint.
    pub usage: Usage,
    /// What the model has said, of an answer that does not count its tokens.
    pub said: Said,
    model: Option<Span>,
    data: Option<Span>,
    /// The cost as a member of `usage`, and its place there.
    cost: Option<(Span, Vec<u8>)>,
    price: Option<Price>,
}

/// The answer is not one JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

impl Answer {
    /// Reads `body`; with a `price` the cost is shown beside the tokens.
    ///
    /// # Errors
    /// It is not one whole JSON object: the endpoint's failure.
    pub fn read(body: &[u8], task: Task, price: Option<Price>) -> Result<Self, Broken> {
        let mut answer = Self { price, ..Self::default() };
        let mut usage = None;
        let mut walk = Walk::object(body, 0).map_err(|_| Broken)?;
        while let Some(member) = walk.member().map_err(|_| Broken)? {
            match member.key.of_bytes(body) {
                b"model" if body.get(member.value.start as usize) == Some(&b'"') => {
                    answer.model = Some(member.value)
                }
                b"usage" => {
                    answer.usage.read_object(body, member.value);
                    usage = Some(member.value);
                }
                b"data" if task == Task::Embeddings => answer.data = Some(member.value),
                key if task.dialect() == Dialect::Ollama => {
                    answer.usage.read_member(key, member.value.of_bytes(body));
                }
                _ => {}
            }
        }
        if json::space(body, walk.end()) != body.len() {
            return Err(Broken);
        }
        if let Some((price, usage)) = price.zip(usage) {
            answer.cost = cost_member(body, usage, answer.usage.cost(price));
        }
        if !answer.usage.told && task != Task::Embeddings {
            speech::parts(task, body, &mut |part| {
                if let Part::Text(channel, span) = part
                    && channel.voice != Voice::Whole
                {
                    answer.said.bytes += span.len() as u64;
                }
            });
        }
        Ok(answer)
    }

    /// Reads what has become of it.
    ///
    /// # Errors
    /// As [`Answer::read`].
    pub fn again(&self, body: &[u8], task: Task) -> Result<Self, Broken> {
        Self::read(body, task, self.price)
    }

    /// Appends the answer with `model` (a JSON string) in place of the endpoint's name, and number arrays of
    /// embeddings as base64 if `base64` says so.
    pub fn splice(&self, body: &[u8], model: &[u8], base64: bool, out: &mut Vec<u8>) {
        let mut at = 0;
        let mut edits = [
            self.model.map(|span| (span, Some(model))),
            self.data.filter(|_| base64).map(|span| (span, None)),
            self.cost.as_ref().map(|(span, bytes)| (*span, Some(bytes.as_slice()))),
        ];
        edits.sort_unstable_by_key(|edit| edit.map_or(u32::MAX, |(span, _)| span.start));
        for (span, bytes) in edits.into_iter().flatten() {
            out.extend_from_slice(body.get(at..span.start as usize).unwrap_or_default());
            match bytes {
                Some(bytes) => out.extend_from_slice(bytes),
                None => encode_embeddings(span.of_bytes(body), out),
            }
            at = span.end as usize;
        }
        out.extend_from_slice(body.get(at..).unwrap_or_default());
    }

    /// The endpoint's own name for the model, as a JSON string; empty: it gives none.
    #[must_use]
    pub fn model<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        self.model.map(|span| span.of_bytes(body)).unwrap_or_default()
    }

    /// Whether [`Answer::splice`] would change nothing.
    #[must_use]
    pub fn unchanged(&self, body: &[u8], model: &[u8], base64: bool) -> bool {
        self.cost.is_none()
            && self.model.is_none_or(|span| span.of_bytes(body) == model)
            && (!base64 || self.data.is_none())
    }
}

/// Whether a whole answer is one that could be given again: so many choices, each come to its end.
#[must_use]
pub fn is_complete(body: &[u8], task: Task, choices: u64) -> bool {
    let member = |name: &[u8]| json::find(body, name).map(|member| member.value.of_bytes(body));
    let is_text = |value: Option<&[u8]>| value.is_some_and(|value| value.first() == Some(&b'"'));
    match task {
        Task::Chat | Task::Completions => {
            member(b"choices").is_some_and(|all| choices > 0 && finished(all) >= choices)
        }
        Task::Messages => is_text(member(b"stop_reason")),
        Task::NativeChat | Task::NativeGenerate => {
            // What loads or unloads a model is no answer.
            let reason = member(b"done_reason").unwrap_or_default();
            member(b"done") == Some(b"true") && !matches!(reason, b"\"load\"" | b"\"unload\"")
        }
        Task::Embeddings => member(b"data").is_some_and(|data| data.starts_with(b"[")),
        Task::NativeEmbed => member(b"embeddings").is_some_and(|data| data.starts_with(b"[")),
        Task::NativeEmbeddings => member(b"embedding").is_some_and(|data| data.starts_with(b"[")),
        _ => false,
    }
}

/// Rewrites `[{"embedding":[…]},…]`: both OpenAI SDKs ask for base64 and the one for Node decodes without looking.
fn encode_embeddings(data: &[u8], out: &mut Vec<u8>) {
    let Ok(mut items) = Walk::array(data, 0) else { return out.extend_from_slice(data) };
    let mut at = 0;
    while let Ok(Some(item)) = items.element() {
        let object = item.of_bytes(data);
        let Some(member) = json::find(object, b"embedding") else { continue };
        let Some(floats) = floats(member.value.of_bytes(object)) else { continue };
        let start = (item.start + member.value.start) as usize;
        out.extend_from_slice(data.get(at..start).unwrap_or_default());
        out.push(b'"');
        out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(floats).as_bytes());
        out.push(b'"');
        at = (item.start + member.value.end) as usize;
    }
    out.extend_from_slice(data.get(at..).unwrap_or_default());
}

/// The numbers of a JSON array as little-endian 32-bit floats; `None` if it is no array of numbers.
fn floats(array: &[u8]) -> Option<Vec<u8>> {
    let mut walk = Walk::array(array, 0).ok()?;
    let mut bytes = Vec::with_capacity(array.len() / 3);
    while let Some(number) = walk.element().ok()? {
        let value: f32 = number.text(array).parse().ok()?;
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spliced(body: &str, task: Task, base64: bool) -> String {
        let answer = Answer::read(body.as_bytes(), task, None).unwrap();
        let mut out = Vec::new();
        answer.splice(body.as_bytes(), b"\"asked\"", base64, &mut out);
        assert_eq!(answer.unchanged(body.as_bytes(), b"\"asked\"", base64), out == body.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn only_the_name_changes() {
        let body = r#"{"id":"x","model":"m","choices":[{"model":"n"}],"usage":{"prompt_tokens":3,"completion_tokens":4}} "#;
        assert_eq!(spliced(body, Task::Chat, false), body.replace("\"m\"", "\"asked\""));
        assert_eq!(
            Answer::read(body.as_bytes(), Task::Chat, None).unwrap().usage,
            Usage { input: 3, output: 4, told: true, ..Usage::default() }
        );
        let native = r#"{"model":"asked","done":true,"prompt_eval_count":5,"eval_count":6}"#;
        assert_eq!(spliced(native, Task::NativeChat, false), native);
        assert_eq!(
            Answer::read(native.as_bytes(), Task::NativeChat, None).unwrap().usage,
            Usage { input: 5, output: 6, told: true, ..Usage::default() }
        );
    }

    #[test]
    fn the_cost_stands_beside_the_tokens() {
        let price = Price { input_per_1k: 1.0, output_per_1k: 2.0, cached_input_per_1k: None };
        let read = |body: &str| {
            let answer = Answer::read(body.as_bytes(), Task::Chat, Some(price)).unwrap();
            let mut out = Vec::new();
            answer.splice(body.as_bytes(), b"\"m\"", false, &mut out);
            (answer, String::from_utf8(out).unwrap())
        };
        let body = r#"{"usage":{"prompt_tokens":1,"completion_tokens":2 },"model":"m"}"#;
        assert_eq!(read(body).1, body.replace("2 }", r#"2 ,"cost":0.005}"#));
        for same in [
            r#"{"usage":{"prompt_tokens":0},"model":"m"}"#,
            r#"{"usage":{},"model":"m"}"#,
            r#"{"usage":null,"model":"m"}"#,
            r#"{"usage":{"prompt_tokens":1,"cost":7},"model":"m"}"#,
        ] {
            assert_eq!(read(same).1, same);
        }
        let silent = r#"{"model":"m","choices":[{"message":{"content":"four"}}]}"#;
        assert_eq!(read(silent).0.said, Said { events: 0, bytes: 4 });
        assert_eq!(read(body).0.said, Said::default(), "nobody needs to know");
    }

    #[test]
    fn embeddings_become_base64() {
        let body =
            r#"{"data":[{"index":0,"embedding":[1.0, -0.5]},{"embedding":[2e0],"index":1}],"model":"m"}"#;
        let want = r#"{"data":[{"index":0,"embedding":"AACAPwAAAL8="},{"embedding":"AAAAQA==","index":1}],"model":"asked"}"#;
        assert_eq!(spliced(body, Task::Embeddings, true), want);
        let already = r#"{"data":[{"embedding":"AACAPw=="}],"model":"asked"}"#;
        assert_eq!(spliced(already, Task::Embeddings, false), already);
    }

    #[test]
    fn broken_answers_are_seen_at_every_cut() {
        let body = r#"{"id":"x","model":"m","choices":[{"a":"b"}]}"#;
        for cut in 0..body.len() {
            assert_eq!(Answer::read(&body.as_bytes()[..cut], Task::Chat, None), Err(Broken), "{cut}");
        }
        for bad in ["null", "\"text\"", "[]", "{} {}", "{}x"] {
            assert_eq!(Answer::read(bad.as_bytes(), Task::Chat, None), Err(Broken), "{bad}");
        }
    }
}
