//! A request body, read once and spliced, never re-serialised.
//!
//! One `simd-json` pass over a scratch copy validates the text and yields a tape whose strings stand at the
//! offsets of the original; from it come the routing fields and the places to splice. Keys that two readers could
//! take differently (duplicates, after unescaping) are refused. Everything else passes byte for byte.

mod digest;

use std::fmt;
use std::time::Duration;

use simd_json::{Buffers, Node, StaticNode, Tape};

use super::{CacheControl, Dialect, Task, Texts, prompt};
use crate::config::Kind;
use crate::wire::Span;
use crate::wire::json::{self, DEPTH_MAX};

/// Bodies above this size do not leave their scratch memory behind.
const SCRATCH_KEPT: usize = 256 * 1024;

/// Fields that steer LiteLLM and us, and mean nothing to an endpoint.
const FOR_THE_GATEWAY: [&str; 8] =
    ["fallbacks", "num_retries", "timeout", "cache", "guardrails", "tags", "mock_response", "drop_params"];

/// Why a body is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyError {
    /// Not JSON, not UTF-8, deeper than [`DEPTH_MAX`], or not an object.
    Json,
    /// The same top-level key twice.
    Duplicate(String),
    /// A top-level key that some servers take for one that the gateway reads, and others don't.
    Spelling(String),
    /// A field is missing, empty or of another type.
    Field(&'static str, &'static str),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json => write!(f, "The request body is not a valid JSON object."),
            Self::Spelling(key) => write!(f, "The request body has the key '{key}'; write it in lower case."),
            Self::Duplicate(key) => write!(f, "The request body has the key '{key}' more than once."),
            Self::Field(name, what) => write!(f, "'{name}' {what}."),
        }
    }
}

impl BodyError {
    /// The `param` of the error object.
    #[must_use]
    pub fn param(&self) -> &'static str {
        if let Self::Field(name, _) = self { name } else { "request_body" }
    }
}

/// Memory that parsing reuses; one per shard.
pub struct Scratch {
    copy: Vec<u8>,
    buffers: Buffers,
    tape: Option<Tape<'static>>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { copy: Vec::new(), buffers: Buffers::with_max_depth(4096, DEPTH_MAX), tape: None }
    }
}

/// What is read of a body beside what routing needs.
#[derive(Default)]
pub struct Also<'a> {
    /// What people wrote in it goes here.
    pub texts: Option<&'a mut Texts>,
    /// Its sum.
    pub digest: bool,
}

/// What routing needs, and where to splice. Spans are of the original body.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The model asked for.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether the client asked for usage on its stream.
    pub wants_usage: bool,
    /// Whether embeddings are to be base64.
    pub wants_base64: bool,
    /// The request's own deadline in seconds.
    pub timeout_s: Option<f64>,
    /// Messages of a chat.
    pub messages: usize,
    /// Tokens of output that the request allows.
    pub output_max: Option<u64>,
    /// Answers asked for beside each other to each prompt.
    pub choices: u64,
    /// Prompts beside each other.
    pub prompts: u64,
    /// What the body says of caches.
    pub cache: CacheControl,
    /// A sum of all that is for the endpoint, the same for bodies that mean the same; `None`: nobody wants it.
    pub digest: Option<[u8; 32]>,
    task: Task,
    model_value: Span,
    max_completion_tokens: Option<json::Member>,
    has_max_tokens: bool,
    /// The value of `max_tokens` where it is `null`.
    null_max_tokens: Option<Span>,
    stream_options: Option<Span>,
    removals: Vec<Span>,
    /// Places in texts, in rising order and apart, and what stands there instead, as the inside of a JSON string.
    pub redactions: Vec<(Span, Vec<u8>)>,
    end: usize,
}

impl View {
    /// Reads `body`.
    ///
    /// # Errors
    /// The body is not what `task` takes.
    pub fn read(scratch: &mut Scratch, body: &[u8], task: Task) -> Result<Self, BodyError> {
        Self::read_with(scratch, body, task, Also::default())
    }

    /// Reads `body`, and what `also` says.
    ///
    /// # Errors
    /// The body is not what `task` takes.
    pub fn read_with(
        scratch: &mut Scratch,
        body: &[u8],
        task: Task,
        also: Also<'_>,
    ) -> Result<Self, BodyError> {
        scratch.copy.clear();
        scratch.copy.extend_from_slice(body);
        let mut tape = scratch.tape.take().unwrap_or_else(|| Tape(Vec::with_capacity(64))).reset();
        let base = scratch.copy.as_ptr() as usize;
        let parsed = simd_json::fill_tape(&mut scratch.copy, &mut scratch.buffers, &mut tape);
        let mut view =
            if parsed.is_ok() { Reader::new(body, base, task).read(&tape.0) } else { Err(BodyError::Json) };
        if let (Some(texts), Ok(_)) = (also.texts, &view) {
            prompt::read(&tape.0, body, base, texts);
        }
        if let (true, Ok(view)) = (also.digest, &mut view) {
            let is_ours = |key: &str| task.dialect() == Dialect::Openai && FOR_THE_GATEWAY.contains(&key);
            view.digest = Some(digest::of(&tape.0, is_ours));
        }
        scratch.tape = Some(tape.reset());
        if body.len() > SCRATCH_KEPT {
            *scratch = Scratch::default();
        }
        view
    }

    /// Whether the answer's stream will carry usage only because we ask for it.
    #[must_use]
    pub fn injects_usage(&self) -> bool {
        self.stream && !self.wants_usage && self.task.asks_for_usage()
    }

    /// Time for the exchange: the model's `total`, or the request's own `timeout`, from its body or from LiteLLM's
    /// `header`, if that is less.
    #[must_use]
    pub fn total(&self, header: Option<&[u8]>, total: Duration) -> Duration {
        let header_s = header.and_then(|text| std::str::from_utf8(text).ok()?.parse::<f64>().ok());
        let own_s = self.timeout_s.or(header_s).filter(|seconds| *seconds > 0.0);
        let own = own_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        own.map_or(total, |own| own.min(total))
    }

    /// Appends the body for an endpoint of `kind`, asked for `upstream_model`.
    pub fn splice(&self, body: &[u8], upstream_model: &str, kind: Kind, out: &mut Vec<u8>) {
        let mut edits: [(Span, Edit); 4] = [(Span::default(), Edit::None); 4];
        let inside =
            Span::new(self.model_value.start as usize + 1, (self.model_value.end as usize).saturating_sub(1));
        // Equal bytes are an equal name unless a backslash makes an escape of them.
        if inside.of_bytes(body) != upstream_model.as_bytes() || upstream_model.contains('\\') {
            edits[0] = (inside, Edit::Model);
        }
        if let Some(limit) =
            self.max_completion_tokens.filter(|_| kind == Kind::Ollama && !self.has_max_tokens)
        {
            edits[1] = match self.null_max_tokens {
                Some(null) => (null, Edit::Limit(limit.value)),
                None => (limit.key, Edit::MaxTokens),
            };
        }
        if self.injects_usage() {
            edits[2] = match self.stream_options {
                Some(options) => (options, Edit::StreamOptions),
                None => (Span::new(self.end, self.end), Edit::AddStreamOptions),
            };
        }
        edits.sort_unstable_by_key(|(span, _)| span.start);
        let mut more = Vec::new();
        if !self.redactions.is_empty() {
            more.extend(edits);
            more.extend(
                self.redactions.iter().enumerate().map(|(at, (span, _))| (*span, Edit::Redaction(at))),
            );
            more.sort_by_key(|(span, _)| span.start);
        }
        let edits: &[(Span, Edit)] = if more.is_empty() { &edits } else { &more };
        let mut at = 0;
        let mut removals = self.removals.iter().peekable();
        for (span, edit) in edits.iter().filter(|(_, edit)| *edit != Edit::None) {
            while let Some(gone) = removals.next_if(|gone| gone.start < span.start) {
                copy(out, body, &mut at, *gone);
            }
            copy(out, body, &mut at, *span);
            match edit {
                Edit::Redaction(at) => {
                    out.extend_from_slice(self.redactions.get(*at).map_or(&[][..], |(_, with)| with));
                }
                edit => edit.write(*span, body, upstream_model, out),
            }
        }
        for gone in removals {
            copy(out, body, &mut at, *gone);
        }
        out.extend_from_slice(body.get(at..).unwrap_or_default());
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edit {
    None,
    Model,
    MaxTokens,
    /// A copy of this value.
    Limit(Span),
    StreamOptions,
    AddStreamOptions,
    /// One of the view's redactions.
    Redaction(usize),
}

impl Edit {
    fn write(self, span: Span, body: &[u8], upstream_model: &str, out: &mut Vec<u8>) {
        let old = span.of_bytes(body);
        match self {
            Self::None | Self::Redaction(_) => {}
            Self::Model => json::escape_into(out, upstream_model),
            Self::MaxTokens => out.extend_from_slice(b"max_tokens"),
            Self::Limit(value) => out.extend_from_slice(value.of_bytes(body)),
            Self::AddStreamOptions => out.extend_from_slice(br#","stream_options":{"include_usage":true}"#),
            Self::StreamOptions => {
                // Last wins for most readers, so an explicit `false` must go: the object is written anew.
                out.extend_from_slice(br#"{"include_usage":true"#);
                if let Ok(mut walk) = json::Walk::object(old, 0) {
                    while let Ok(Some(member)) = walk.member() {
                        let quoted = Span { start: member.key.start - 1, end: member.key.end + 1 };
                        if json::text_of(quoted.of_bytes(old)).as_deref() != Some("include_usage") {
                            out.extend_from_slice(b",\"");
                            out.extend_from_slice(member.key.of_bytes(old));
                            out.extend_from_slice(b"\":");
                            out.extend_from_slice(member.value.of_bytes(old));
                        }
                    }
                }
                out.push(b'}');
            }
        }
    }
}

/// Copies up to `gone` and skips it.
fn copy(out: &mut Vec<u8>, body: &[u8], at: &mut usize, gone: Span) {
    out.extend_from_slice(body.get(*at..gone.start as usize).unwrap_or_default());
    *at = gone.end as usize;
}

/// Keys that decide something here: servers written in Go take them in any case, so no other case is let through.
const READ: [&str; 21] = [
    "model",
    "name",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "options",
    "encoding_format",
    "messages",
    "input",
    "prompt",
    "suffix",
    "system",
    "instructions",
    "template",
    "query",
    "documents",
    "text",
    "texts",
    "content",
];

struct Reader<'a> {
    body: &'a [u8],
    base: usize,
    task: Task,
    view: View,
    model: Option<Span>,
    input: bool,
}

impl<'a> Reader<'a> {
    fn new(body: &'a [u8], base: usize, task: Task) -> Self {
        let view = View {
            model: String::new(),
            stream: matches!(task, Task::NativeChat | Task::NativeGenerate),
            wants_usage: false,
            wants_base64: false,
            timeout_s: None,
            messages: 0,
            output_max: None,
            choices: 1,
            prompts: 1,
            cache: CacheControl::default(),
            digest: None,
            task,
            model_value: Span::default(),
            max_completion_tokens: None,
            has_max_tokens: false,
            null_max_tokens: None,
            stream_options: None,
            removals: Vec::new(),
            redactions: Vec::new(),
            end: body.iter().rposition(|&byte| byte == b'}').unwrap_or(0),
        };
        Self { body, base, task, view, model: None, input: false }
    }

    fn read(mut self, nodes: &[Node<'_>]) -> Result<View, BodyError> {
        let Some(Node::Object { len, .. }) = nodes.first() else { return Err(BodyError::Json) };
        let mut few = [""; 32];
        let mut many: Vec<&str> = Vec::new();
        let mut at = 1;
        for index in 0..*len {
            let (Some(Node::String(key)), Some(value)) = (nodes.get(at), nodes.get(at + 1)) else {
                return Err(BodyError::Json);
            };
            match few.get_mut(..index + 1) {
                Some([seen @ .., _]) if *len <= 32 && seen.contains(key) => {
                    return Err(BodyError::Duplicate((*key).to_owned()));
                }
                Some([.., last]) if *len <= 32 => *last = key,
                _ => many.push(key),
            }
            let plain = super::prompt::folded(key);
            if plain != *key && READ.contains(&&*plain) {
                return Err(BodyError::Spelling((*key).to_owned()));
            }
            self.take(key, value, nodes.get(at + 2..).unwrap_or_default())?;
            at += 2 + match value {
                Node::Object { count, .. } | Node::Array { count, .. } => *count,
                _ => 0,
            };
        }
        many.sort_unstable();
        if let Some(pair) = many.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(BodyError::Duplicate(pair[0].to_owned()));
        }
        self.finish()
    }

    fn take(&mut self, key: &str, value: &Node<'_>, inside: &[Node<'_>]) -> Result<(), BodyError> {
        match key {
            "model" => self.take_model(key, value, "model")?,
            "name" if self.task.dialect() == Dialect::Ollama && self.model.is_none() => {
                self.take_model(key, value, "name")?;
            }
            "stream" => match value {
                Node::Static(StaticNode::Bool(stream)) => self.view.stream = *stream,
                Node::Static(StaticNode::Null) => {}
                _ => return Err(BodyError::Field("stream", "must be a boolean")),
            },
            "stream_options" if matches!(value, Node::Object { .. }) => {
                self.view.stream_options = self.member(key).map(|member| member.value);
                self.view.wants_usage = wants_usage(value, inside);
            }
            "stream_options" => self.remove(key),
            "max_tokens" if matches!(value, Node::Static(StaticNode::Null)) => {
                self.view.null_max_tokens = self.member(key).map(|member| member.value);
            }
            "max_tokens" => {
                self.view.has_max_tokens = true;
                self.view.output_max = count(value);
            }
            "max_completion_tokens" => {
                self.view.max_completion_tokens = self.member(key);
                self.view.output_max = count(value).or(self.view.output_max);
            }
            "max_output_tokens" => self.view.output_max = count(value),
            "options" if self.task.dialect() == Dialect::Ollama => {
                let predicted = member_of(value, inside, "num_predict").and_then(count);
                self.view.output_max = predicted.or(self.view.output_max);
            }
            "n" => self.view.choices = count(value).unwrap_or(1),
            "cache" if self.task.dialect() == Dialect::Openai => {
                self.take_cache(value, inside)?;
                self.remove(key);
            }
            "encoding_format" => self.view.wants_base64 = matches!(value, Node::String("base64")),
            "timeout" if self.task.dialect() == Dialect::Openai => {
                self.view.timeout_s = number(value);
                self.remove(key);
            }
            _ if FOR_THE_GATEWAY.contains(&key) && self.task.dialect() == Dialect::Openai => self.remove(key),
            _ => return self.take_input(key, value, inside),
        }
        Ok(())
    }

    fn take_model(&mut self, key: &str, value: &Node<'_>, name: &'static str) -> Result<(), BodyError> {
        let Node::String(model) = value else { return Err(BodyError::Field(name, "must be a string")) };
        if model.is_empty() || model.len() > 256 {
            return Err(BodyError::Field(name, "must have 1 to 256 bytes"));
        }
        self.view.model = (*model).to_owned();
        self.model = self.member(key).map(|member| member.value);
        Ok(())
    }

    fn take_cache(&mut self, value: &Node<'_>, inside: &[Node<'_>]) -> Result<(), BodyError> {
        match value {
            Node::Object { .. } => {
                let wrong = |what| BodyError::Field("cache", what);
                members(value, inside)
                    .try_for_each(|(key, value)| self.view.cache.take(key, value))
                    .map_err(wrong)
            }
            Node::Static(StaticNode::Null) => Ok(()),
            _ => Err(BodyError::Field("cache", "must be an object")),
        }
    }

    /// Checks the field that holds what the model is to read.
    fn take_input(&mut self, key: &str, value: &Node<'_>, inside: &[Node<'_>]) -> Result<(), BodyError> {
        let wanted = match self.task {
            Task::Chat | Task::Messages | Task::CountTokens => "messages",
            Task::Completions => "prompt",
            Task::Embeddings => "input",
            _ => return Ok(()),
        };
        if key != wanted {
            return Ok(());
        }
        self.input = true;
        match (wanted, value) {
            ("messages", Node::Array { len, .. }) if *len > 0 => {
                self.view.messages = *len;
                Ok(())
            }
            ("messages", Node::Array { .. }) => Err(BodyError::Field("messages", "must not be empty")),
            ("messages", _) => Err(BodyError::Field("messages", "must be an array")),
            ("prompt", Node::String(_)) => Ok(()),
            ("prompt", Node::Array { len, .. }) => {
                // Numbers are the tokens of one prompt.
                let is_one = matches!(inside.first(), None | Some(Node::Static(_)));
                self.view.prompts = if is_one { 1 } else { *len as u64 };
                Ok(())
            }
            ("prompt", _) => Err(BodyError::Field("prompt", "must be a string or an array")),
            (_, Node::String(_) | Node::Array { .. }) => Ok(()),
            _ => Err(BodyError::Field("input", "must be a string or an array")),
        }
    }

    fn finish(mut self) -> Result<View, BodyError> {
        let Some(model) = self.model else { return Err(BodyError::Field("model", "is missing")) };
        self.view.model_value = model;
        if !self.input {
            match self.task {
                Task::Chat | Task::Messages | Task::CountTokens => {
                    return Err(BodyError::Field("messages", "is missing"));
                }
                Task::Embeddings => return Err(BodyError::Field("input", "is missing")),
                Task::Completions => return Err(BodyError::Field("prompt", "is missing")),
                _ => {}
            }
        }
        Ok(self.view)
    }

    /// The bytes that `text`, a string of the tape, has in the original: from its start to its closing quote.
    fn original(&self, text: &str) -> &'a [u8] {
        let start = (text.as_ptr() as usize).saturating_sub(self.base);
        let end = json::string_end(self.body, start).unwrap_or(start);
        self.body.get(start..end).unwrap_or_default()
    }

    /// The member whose key is `key`, a string of the tape.
    fn member(&self, key: &str) -> Option<json::Member> {
        let key = Span::of(self.body, self.original(key));
        json::value_after_key(self.body, key)
    }

    /// Notes a member to be left out, with one comma.
    fn remove(&mut self, key: &str) {
        let Some(member) = self.member(key) else { return };
        let mut removal = json::removal(self.body, member);
        // The comma before it may have gone with a first member: then the one behind it goes instead.
        if self.view.removals.last().is_some_and(|last| last.end > removal.start) {
            removal = json::removal_with_next_comma(self.body, member);
        }
        self.view.removals.push(removal);
    }
}

/// Whether the object `options`, whose members are at the start of `inside`, says `include_usage: true`.
fn wants_usage(options: &Node<'_>, inside: &[Node<'_>]) -> bool {
    matches!(member_of(options, inside, "include_usage"), Some(Node::Static(StaticNode::Bool(true))))
}

/// The member `name` of `object`, whose members are at the start of `inside`; the last of several, as for most readers.
fn member_of<'a, 'n>(object: &Node<'_>, inside: &'a [Node<'n>], name: &str) -> Option<&'a Node<'n>> {
    members(object, inside).filter(|(key, _)| *key == name).map(|(_, value)| value).last()
}

/// The members of `object`, which are at the start of `inside`.
fn members<'a, 'n>(
    object: &Node<'_>,
    inside: &'a [Node<'n>],
) -> impl Iterator<Item = (&'a str, &'a Node<'n>)> {
    let len = if let Node::Object { len, .. } = object { *len } else { 0 };
    let mut at = 0;
    (0..len).map_while(move |_| {
        let (Some(Node::String(key)), Some(value)) = (inside.get(at), inside.get(at + 1)) else {
            return None;
        };
        at += 2 + match value {
            Node::Object { count, .. } | Node::Array { count, .. } => *count,
            _ => 0,
        };
        Some((*key, value))
    })
}

fn count(value: &Node<'_>) -> Option<u64> {
    match value {
        Node::Static(StaticNode::U64(count)) => Some(*count),
        Node::Static(StaticNode::I64(count)) => u64::try_from(*count).ok(),
        _ => None,
    }
}

fn number(value: &Node<'_>) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    match value {
        Node::Static(StaticNode::F64(seconds)) => Some(*seconds),
        Node::Static(StaticNode::U64(seconds)) => Some(*seconds as f64),
        Node::Static(StaticNode::I64(seconds)) => Some(*seconds as f64),
        _ => None,
    }
    .filter(|seconds| *seconds > 0.0)
}

#[cfg(test)]
mod tests;
