//! How an answer is written: what every dialect must be able to say.

use std::time::Duration;

use super::speech::Speech;

/// One step of a stream. Texts are the inside of a JSON string.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// A token of reasoning.
    Thought(&'a [u8]),
    /// A token of the answer.
    Word(&'a [u8]),
    /// A tool call begins.
    CallOpen,
    /// A part of its arguments.
    CallPart(&'static str),
}

/// Why an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is complete.
    Stop,
    /// The limit of tokens is reached.
    Length,
    /// A tool is to be called.
    Call,
}

impl Reason {
    /// `finish_reason`, and `done_reason` but for calls.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Call => "tool_calls",
        }
    }
}

/// What is known at the end.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub reason: Reason,
    pub prompt_tokens: u64,
    /// Of all choices.
    pub tokens: u64,
    pub total: Duration,
    pub load: Duration,
    pub prefill: Duration,
    pub generation: Duration,
}

/// A dialect's way to write one answer. Everything is appended to `out`.
pub trait Voice {
    /// `text/event-stream`, else NDJSON.
    fn is_sse(&self) -> bool {
        true
    }
    /// What comes before the first token.
    fn open(&mut self, out: &mut Vec<u8>);
    /// Called before a batch of steps: the moment to write the time.
    fn batch(&mut self) {}
    /// One step of one choice; may write nothing.
    fn step(&mut self, out: &mut Vec<u8>, choice: u32, step: Step<'_>);
    /// What comes after the last token.
    fn close(&mut self, out: &mut Vec<u8>, end: &End);
    /// The event of a failure within the stream; `text` needs no escaping.
    fn failed(&mut self, out: &mut Vec<u8>, text: &str);
    /// The body of an answer that is not streamed.
    fn whole(&mut self, out: &mut Vec<u8>, speech: &Speech, end: &End);
}
