//! The texts of an answer, whole or an event of a stream: what a model said, and on which channel.
//!
//! A channel is one running text: the content of a choice, its reasoning, its refusal, the arguments of one tool call.
//! The walk is of raw JSON; spans are of the insides of strings. Cost: about 100 ns an event.

use super::{Dialect, Task};
use crate::wire::Span;
use crate::wire::json::{self, Malformed, Walk};

/// One running text of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel {
    /// The choice or output item.
    pub choice: u32,
    /// What is said.
    pub voice: Voice,
    /// The tool call or content part in it.
    pub index: u32,
}

/// What a text of an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Voice {
    Content,
    Reasoning,
    Refusal,
    Arguments,
    /// A text said again, whole.
    Whole,
}

/// What an event holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The inside of a string that continues a channel.
    Text(Channel, Span),
    /// All channels of a choice are over.
    End(u32),
    /// All channels are over.
    EndAll,
}

/// Choices, tool calls and parts that are told apart; those beyond share the last number.
pub const NUMBERS_MAX: u32 = 127;

/// Walks `data`, an answer of `task` or the data of an event.
pub fn parts(task: Task, data: &[u8], each: &mut dyn FnMut(Part)) {
    if data == b"[DONE]" {
        return each(Part::EndAll);
    }
    match task {
        Task::Messages => anthropic(data, each),
        Task::Responses => responses(data, each),
        _ if task.dialect() == Dialect::Ollama => native(data, each),
        _ => chunk(data, each),
    }
}

/// The members of the object at `at`.
fn members(data: &[u8], at: usize, mut each: impl FnMut(&[u8], Span)) {
    let Ok(mut walk) = Walk::object(data, at) else { return };
    while let Ok(Some(member)) = walk.member() {
        each(member.key.of_bytes(data), member.value);
    }
}

/// The elements of the array at `at`, numbered.
fn elements(data: &[u8], at: usize, mut each: impl FnMut(u32, Span)) {
    let Ok(mut walk) = Walk::array(data, at) else { return };
    let mut number = 0;
    while let Ok(Some(element)) = walk.element() {
        each(number, element);
        number = (number + 1).min(NUMBERS_MAX);
    }
}

/// The inside of a string value.
fn inside(data: &[u8], value: Span) -> Option<Span> {
    (data.get(value.start as usize) == Some(&b'"') && value.len() >= 2)
        .then(|| Span { start: value.start + 1, end: value.end - 1 })
}

fn number(data: &[u8], value: Span) -> Option<u32> {
    let number = json::integer(value.of_bytes(data))?;
    u32::try_from(number).ok().map(|number| number.min(NUMBERS_MAX))
}

/// An OpenAI chunk or whole answer.
fn chunk(data: &[u8], each: &mut dyn FnMut(Part)) {
    members(data, 0, |key, value| {
        if key == b"choices" {
            elements(data, value.start as usize, |position, choice| {
                one_choice(data, choice, position, each);
            });
        }
    });
}

fn one_choice(data: &[u8], choice: Span, position: u32, each: &mut dyn FnMut(Part)) {
    let mut index = position;
    let mut spoken = [None, None];
    let mut finished = false;
    members(data, choice.start as usize, |key, value| match key {
        b"index" => index = number(data, value).unwrap_or(position),
        b"delta" | b"message" => spoken[0] = Some(value),
        b"text" => spoken[1] = inside(data, value),
        b"finish_reason" => finished = inside(data, value).is_some(),
        _ => {}
    });
    if let Some(text) = spoken[1] {
        each(Part::Text(Channel { choice: index, voice: Voice::Content, index: 0 }, text));
    }
    if let Some(message) = spoken[0] {
        message_parts(data, message, index, each);
    }
    if finished {
        each(Part::End(index));
    }
}

/// A message or delta of a choice, OpenAI's or Ollama's.
fn message_parts(data: &[u8], message: Span, choice: u32, each: &mut dyn FnMut(Part)) {
    members(data, message.start as usize, |key, value| message_part(data, key, value, choice, each));
}

/// A member of a message or delta.
fn message_part(data: &[u8], key: &[u8], value: Span, choice: u32, each: &mut dyn FnMut(Part)) {
    let voice = match key {
        b"content" => Voice::Content,
        b"reasoning_content" | b"reasoning" | b"thinking" => Voice::Reasoning,
        b"refusal" => Voice::Refusal,
        b"tool_calls" => {
            return elements(data, value.start as usize, |position, call| {
                tool_call(data, call, Channel { choice, voice: Voice::Arguments, index: position }, each);
            });
        }
        b"function_call" => {
            let channel = Channel { choice, voice: Voice::Arguments, index: NUMBERS_MAX };
            return arguments(data, value, channel, each);
        }
        _ => return,
    };
    texts(data, value, Channel { choice, voice, index: 0 }, each);
}

/// What the choices of an OpenAI chunk come to, for who does not want their texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// Bytes of texts, as they stand in their strings.
    pub bytes: u64,
    /// Choices that have come to their end.
    pub finished: u64,
}

/// Walks over the value of `choices`, which begins at `at`, where `outer` stands. Unlike [`parts`] it looks at each byte once.
///
/// # Errors
/// The text breaks the grammar.
pub fn hear(data: &[u8], outer: &mut Walk<'_>, at: usize, heard: &mut Heard) -> Result<Span, Malformed> {
    if data.get(at) != Some(&b'[') {
        return outer.skip();
    }
    let mut choices = Walk::array(data, at)?;
    while let Some(at) = choices.start()? {
        if data.get(at) == Some(&b'{') {
            let mut choice = Walk::object(data, at)?;
            hear_choice(data, &mut choice, heard)?;
            choices.go_on(&choice);
        } else {
            choices.skip()?;
        }
    }
    outer.go_on(&choices);
    Ok(Span::new(at, choices.end()))
}

fn hear_choice(data: &[u8], choice: &mut Walk<'_>, heard: &mut Heard) -> Result<(), Malformed> {
    while let Some((key, at)) = choice.key()? {
        match key.of_bytes(data) {
            b"delta" | b"message" if data.get(at) == Some(&b'{') => {
                let mut message = Walk::object(data, at)?;
                while let Some(member) = message.member()? {
                    message_part(data, member.key.of_bytes(data), member.value, 0, &mut |part| {
                        if let Part::Text(_, text) = part {
                            heard.bytes += text.len() as u64;
                        }
                    });
                }
                choice.go_on(&message);
            }
            b"text" => {
                let text = inside(data, choice.skip()?);
                heard.bytes += text.map_or(0, |text| text.len() as u64);
            }
            b"finish_reason" => {
                let reason = inside(data, choice.skip()?);
                heard.finished += u64::from(reason.is_some());
            }
            _ => drop(choice.skip()?),
        }
    }
    Ok(())
}

/// A string, or an array of parts with a `text`.
fn texts(data: &[u8], value: Span, channel: Channel, each: &mut dyn FnMut(Part)) {
    if let Some(text) = inside(data, value) {
        return each(Part::Text(channel, text));
    }
    elements(data, value.start as usize, |_, part| {
        members(data, part.start as usize, |key, value| {
            if let (b"text" | b"refusal", Some(text)) = (key, inside(data, value)) {
                each(Part::Text(channel, text));
            }
        });
    });
}

fn tool_call(data: &[u8], call: Span, mut channel: Channel, each: &mut dyn FnMut(Part)) {
    let mut function = None;
    members(data, call.start as usize, |key, value| match key {
        b"index" => channel.index = number(data, value).unwrap_or(channel.index),
        b"function" => function = Some(value),
        _ => {}
    });
    if let Some(function) = function {
        arguments(data, function, channel, each);
    }
}

fn arguments(data: &[u8], function: Span, channel: Channel, each: &mut dyn FnMut(Part)) {
    members(data, function.start as usize, |key, value| {
        if key == b"arguments" {
            strings(data, value, channel, 0, each);
        }
    });
}

/// Every string of a value: the arguments of Ollama's tool calls are objects.
fn strings(data: &[u8], value: Span, channel: Channel, depth: usize, each: &mut dyn FnMut(Part)) {
    if let Some(text) = inside(data, value) {
        return each(Part::Text(channel, text));
    }
    if depth >= json::DEPTH_MAX {
        return;
    }
    match data.get(value.start as usize) {
        Some(b'{') => members(data, value.start as usize, |_, value| {
            strings(data, value, channel, depth + 1, each);
        }),
        Some(b'[') => elements(data, value.start as usize, |_, value| {
            strings(data, value, channel, depth + 1, each);
        }),
        _ => {}
    }
}

/// A line or answer of Ollama's own paths.
fn native(data: &[u8], each: &mut dyn FnMut(Part)) {
    let mut done = false;
    members(data, 0, |key, value| match key {
        b"message" => message_parts(data, value, 0, each),
        b"response" => texts(data, value, Channel { choice: 0, voice: Voice::Content, index: 0 }, each),
        b"thinking" => texts(data, value, Channel { choice: 0, voice: Voice::Reasoning, index: 0 }, each),
        b"done" => done = value.of_bytes(data) == b"true",
        _ => {}
    });
    if done {
        each(Part::EndAll);
    }
}

/// An event or answer of `/v1/messages`.
fn anthropic(data: &[u8], each: &mut dyn FnMut(Part)) {
    let (mut index, mut kind, mut block) = (0, None, None);
    let mut content = None;
    members(data, 0, |key, value| match key {
        b"index" => index = number(data, value).unwrap_or(0),
        b"type" => kind = inside(data, value),
        b"delta" | b"content_block" => block = Some(value),
        b"content" => content = Some(value),
        _ => {}
    });
    if let Some(block) = block {
        anthropic_block(data, block, index, each);
    }
    if let Some(content) = content {
        elements(data, content.start as usize, |position, block| {
            anthropic_block(data, block, position, each);
        });
    }
    match kind.map(|kind| kind.of_bytes(data)) {
        Some(b"content_block_stop") => each(Part::End(index)),
        Some(b"message_stop" | b"message") => each(Part::EndAll),
        _ => {}
    }
}

fn anthropic_block(data: &[u8], block: Span, index: u32, each: &mut dyn FnMut(Part)) {
    members(data, block.start as usize, |key, value| {
        let voice = match key {
            b"text" => Voice::Content,
            b"thinking" => Voice::Reasoning,
            b"partial_json" => Voice::Arguments,
            b"input" => {
                let channel = Channel { choice: index, voice: Voice::Arguments, index: 0 };
                return strings(data, value, channel, 0, each);
            }
            _ => return,
        };
        if let Some(text) = inside(data, value) {
            each(Part::Text(Channel { choice: index, voice, index: 0 }, text));
        }
    });
}

/// An event or answer of `/v1/responses`.
fn responses(data: &[u8], each: &mut dyn FnMut(Part)) {
    let (mut item, mut part) = (0, 0);
    let (mut kind, mut delta, mut said) = (None, None, None);
    let mut whole = Vec::new();
    members(data, 0, |key, value| match key {
        b"type" => kind = inside(data, value),
        b"output_index" => item = number(data, value).unwrap_or(0),
        b"content_index" | b"summary_index" => part = number(data, value).unwrap_or(0),
        b"delta" => delta = inside(data, value),
        b"text" | b"arguments" | b"refusal" => said = inside(data, value),
        b"item" | b"part" | b"response" | b"output" => whole.push(value),
        _ => {}
    });
    let kind = kind.map_or(b"".as_slice(), |kind| kind.of_bytes(data));
    let channel = Channel { choice: item, voice: voice_of(kind), index: part };
    if let Some(delta) = delta {
        each(Part::Text(channel, delta));
    }
    if kind.ends_with(b".done") {
        each(Part::End(item));
    }
    let again = Channel { choice: item, voice: Voice::Whole, index: part };
    if let Some(said) = said {
        each(Part::Text(again, said));
    }
    for value in whole {
        said_again(data, value, again, 0, each);
    }
    if matches!(kind, b"response.completed" | b"response.incomplete" | b"response.failed" | b"") {
        each(Part::EndAll);
    } else if kind.ends_with(b".done") {
        each(Part::End(item));
    }
}

fn voice_of(kind: &[u8]) -> Voice {
    let has = |part: &[u8]| memchr::memmem::find(kind, part).is_some();
    if has(b"reasoning") {
        Voice::Reasoning
    } else if has(b"refusal") {
        Voice::Refusal
    } else if has(b"arguments") || has(b"input") {
        Voice::Arguments
    } else {
        Voice::Content
    }
}

/// The texts of items and parts that `/v1/responses` gives whole.
fn said_again(data: &[u8], value: Span, channel: Channel, depth: usize, each: &mut dyn FnMut(Part)) {
    if depth >= json::DEPTH_MAX {
        return;
    }
    match data.get(value.start as usize) {
        Some(b'{') => members(data, value.start as usize, |key, value| match (key, inside(data, value)) {
            (b"text" | b"arguments" | b"refusal", Some(text)) => each(Part::Text(channel, text)),
            (b"content" | b"summary" | b"output" | b"item" | b"part", None) => {
                said_again(data, value, channel, depth + 1, each);
            }
            _ => {}
        }),
        Some(b'[') => elements(data, value.start as usize, |position, value| {
            let channel = if depth == 0 { Channel { choice: position, ..channel } } else { channel };
            said_again(data, value, channel, depth + 1, each);
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
