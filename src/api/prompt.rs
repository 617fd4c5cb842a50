//! The texts of a request: what people wrote, wherever the dialect keeps it.
//!
//! Messages, parts, prompts, inputs, tool results and tool calls are walked on the parser's tape, so keys and texts
//! are unescaped and nothing can hide behind an escape. Links and base64 data are no texts. Of a key given twice both
//! values are read. Servers written in Go (Ollama) take a key in any case for its own; so it is read here. Cost: one walk of the tape and a copy of the texts.

use std::borrow::Cow;

use simd_json::Node;

use crate::config::guard::Role;
use crate::wire::{Span, json};

/// The texts of one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Texts {
    /// All texts, one behind the other.
    pub all: String,
    /// Where each is, in the order of the body.
    pub items: Vec<Text>,
}

/// One string of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Whose it is.
    pub role: Role,
    /// Counts the messages; texts outside of messages have numbers of their own.
    pub message: u32,
    /// Its bytes in [`Texts::all`].
    pub at: std::ops::Range<usize>,
    /// Where the inside of its string stands in the body.
    pub raw: Span,
}

impl Texts {
    /// The text of an item.
    #[must_use]
    pub fn text(&self, item: &Text) -> &str {
        self.all.get(item.at.clone()).unwrap_or_default()
    }
}

/// Keys of a message or part whose strings are texts.
const TEXT_KEYS: [&str; 15] = [
    "content",
    "text",
    "input",
    "input_text",
    "output",
    "output_text",
    "arguments",
    "thinking",
    "reasoning",
    "reasoning_content",
    "refusal",
    "summary",
    "prompt",
    "parts",
    "documents",
];
/// Keys of the body that hold texts, and whose they are.
const TOP_KEYS: [(&str, Role); 12] = [
    ("messages", Role::User),
    ("input", Role::User),
    ("prompt", Role::User),
    ("suffix", Role::User),
    ("system", Role::System),
    ("instructions", Role::System),
    ("template", Role::System),
    ("query", Role::User),
    ("documents", Role::User),
    ("text", Role::User),
    ("texts", Role::User),
    ("content", Role::User),
];
/// Keys whose values are links or data, whatever they look like.
const NO_TEXT: [&str; 12] = [
    "image_url",
    "images",
    "input_audio",
    "audio",
    "file",
    "url",
    "file_data",
    "image",
    "signature",
    "encrypted_content",
    "id",
    "role",
];

/// A key as Go's `encoding/json` compares it (`foldName`): without case, and two signs that fold to letters of ASCII.
pub(super) fn folded(key: &str) -> Cow<'_, str> {
    // All of them are looked at, many at a time: most keys are plain.
    if !key.bytes().fold(false, |other, byte| other | !byte.is_ascii() | byte.is_ascii_uppercase()) {
        return Cow::Borrowed(key);
    }
    let fold = |sign| match sign {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        sign => sign.to_ascii_lowercase(),
    };
    Cow::Owned(key.chars().map(fold).collect())
}

/// Reads the texts from the tape of `body`, whose strings stand at their offsets from `base`.
pub(super) fn read(nodes: &[Node<'_>], body: &[u8], base: usize, out: &mut Texts) {
    let mut reader = Reader { nodes, body, base, message: 0, out };
    let Some(Node::Object { len, .. }) = nodes.first() else { return };
    let mut at = 1;
    for _ in 0..*len {
        let (Some(Node::String(key)), next) = (nodes.get(at), reader.after(at + 1)) else { return };
        let plain = folded(key);
        if let Some((_, role)) = TOP_KEYS.iter().find(|(top, _)| *top == plain) {
            reader.message += 1;
            reader.walk(at + 1, *role, Inside::Text);
        }
        at = next;
    }
}

/// What the strings at this place are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// Texts; members of objects only under the keys that say so.
    Text,
    /// Texts, whatever the keys: arguments and results of tools.
    Everything,
    /// Structure on the way to texts.
    Structure,
}

struct Reader<'a, 'b> {
    nodes: &'a [Node<'a>],
    body: &'b [u8],
    base: usize,
    message: u32,
    out: &'b mut Texts,
}

impl Reader<'_, '_> {
    /// The index of the node behind the value at `at`.
    fn after(&self, at: usize) -> usize {
        at + 1
            + match self.nodes.get(at) {
                Some(Node::Object { count, .. } | Node::Array { count, .. }) => *count,
                _ => 0,
            }
    }

    fn walk(&mut self, at: usize, role: Role, inside: Inside) {
        match self.nodes.get(at) {
            Some(Node::String(text)) if inside != Inside::Structure => self.add(text, role),
            Some(Node::Array { len, .. }) => {
                let mut element = at + 1;
                for _ in 0..*len {
                    self.walk(element, role, inside);
                    element = self.after(element);
                }
            }
            Some(Node::Object { len, .. }) => self.object(at, *len, role, inside),
            _ => {}
        }
    }

    fn object(&mut self, at: usize, len: usize, role: Role, inside: Inside) {
        let (own, plain) = if inside == Inside::Everything { (None, false) } else { self.kind(at, len) };
        if own.is_some() {
            self.message += 1;
        }
        let role = own.unwrap_or(role);
        let mut key_at = at + 1;
        for _ in 0..len {
            let Some(Node::String(key)) = self.nodes.get(key_at) else { return };
            let key = &*folded(key);
            let value = key_at + 1;
            key_at = self.after(value);
            let is_object = matches!(self.nodes.get(value), Some(Node::Object { .. }));
            let inside = match inside {
                Inside::Everything => Inside::Everything,
                _ if NO_TEXT.contains(&key) => continue,
                _ if key == "data" && plain => Inside::Text,
                _ if matches!(key, "arguments" | "input" | "output") && is_object => Inside::Everything,
                _ if TEXT_KEYS.contains(&key) => Inside::Text,
                _ => Inside::Structure,
            };
            self.walk(value, role, inside);
        }
    }

    /// Whose the object says it is, and whether it is a part of plain text.
    fn kind(&self, at: usize, len: usize) -> (Option<Role>, bool) {
        let (mut role, mut plain) = (None, false);
        let mut key_at = at + 1;
        for _ in 0..len {
            if let (Some(Node::String(key)), Some(Node::String(value))) =
                (self.nodes.get(key_at), self.nodes.get(key_at + 1))
            {
                match (&*folded(key), *value) {
                    ("role", value) => role = Some(role_of(value)),
                    ("type", "tool_result" | "function_call_output") => role = Some(Role::Tool),
                    ("type", "tool_use" | "function_call" | "reasoning") => role = Some(Role::Assistant),
                    ("type", "text") => plain = true,
                    _ => {}
                }
            }
            key_at = self.after(key_at + 1);
        }
        (role, plain)
    }

    fn add(&mut self, text: &str, role: Role) {
        if text.is_empty() {
            return;
        }
        let start = (text.as_ptr() as usize).saturating_sub(self.base);
        let end = json::string_end(self.body, start).unwrap_or(start);
        let from = self.out.all.len();
        self.out.all.push_str(text);
        let at = from..self.out.all.len();
        self.out.items.push(Text { role, message: self.message, at, raw: Span::new(start, end) });
    }
}

fn role_of(name: &str) -> Role {
    match name {
        "system" | "developer" => Role::System,
        "assistant" | "model" => Role::Assistant,
        "tool" | "function" | "ipython" => Role::Tool,
        _ => Role::User,
    }
}

#[cfg(test)]
mod tests;
