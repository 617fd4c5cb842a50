//! What is answered: tokens, one after the other, already escaped for JSON.

use std::rc::Rc;

use super::ask::Ask;
use super::server::Sim;
use super::voice::{Reason, Step};
use crate::wire::json;

/// Tokens of reasoning that a thinking model begins with.
const THOUGHTS: [&[u8]; 4] = [b"Let", b" me", b" think", b"."];
/// The arguments of the one tool call, as text; and as the inside of a JSON string, in fragments.
pub const ARGUMENTS: &str = r#"{"city":"Paris"}"#;
const FRAGMENTS: [&str; 3] = [r#"{\"city\":"#, r#"\"Paris\""#, "}"];

/// An answer, of which every choice is the same.
#[derive(Debug)]
pub struct Speech {
    thinks: bool,
    calls: bool,
    /// The beginning of the text, and where its tokens end.
    begin: Vec<u8>,
    ends: Vec<u32>,
    /// Padding tokens behind it.
    padding: usize,
    /// The whole text instead, and its tokens.
    exact: Option<(Rc<[u8]>, usize)>,
    reason: Reason,
}

impl Speech {
    /// The answer to `ask`.
    pub fn new(sim: &Sim, ask: &Ask) -> Self {
        let mut speech = Self {
            thinks: ask.think && ask.model.to_ascii_lowercase().starts_with("think"),
            calls: ask.calls,
            begin: Vec::new(),
            ends: Vec::new(),
            padding: 0,
            exact: None,
            reason: if ask.calls { Reason::Call } else { Reason::Stop },
        };
        if ask.calls {
            return speech;
        }
        if let Some(answer) = &sim.answer
            && !ask.stream
        {
            speech.exact = Some(answer.clone());
            return speech;
        }
        let natural = if ask.json {
            let text = serde_json::json!({ "answer": format!("You said: {}", ask.last) }).to_string();
            speech.begin_with(&[&text], usize::MAX);
            speech.ends.len()
        } else {
            speech.begin_with(&["You said: ", &ask.last], sim.options.tokens);
            sim.options.tokens
        };
        let tokens = ask.limit.unwrap_or(usize::MAX).min(natural);
        if tokens < natural {
            speech.reason = Reason::Length;
        }
        speech.ends.truncate(tokens);
        speech.padding = tokens - speech.ends.len();
        speech
    }

    /// Splits the texts into tokens: white space and the word behind it.
    fn begin_with(&mut self, texts: &[&str], tokens_max: usize) {
        for text in texts {
            let bytes = text.as_bytes();
            let mut start = 0;
            while start < bytes.len() && self.ends.len() < tokens_max {
                let spaces = bytes[start..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                let word =
                    bytes[start + spaces..].iter().take_while(|byte| !byte.is_ascii_whitespace()).count();
                let end = start + spaces + word;
                json::escape_into(&mut self.begin, text.get(start..end).unwrap_or_default());
                // the space that ends "You said: " belongs to the word that follows
                if word > 0 || end < bytes.len() {
                    self.ends.push(u32::try_from(self.begin.len()).unwrap_or(u32::MAX));
                }
                start = end;
            }
        }
    }

    /// How it ends.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether it calls a tool instead of saying something.
    pub fn calls(&self) -> bool {
        self.calls
    }

    /// Steps of a stream.
    pub fn steps(&self) -> usize {
        self.thoughts() + if self.calls { 1 + FRAGMENTS.len() } else { self.spoken() }
    }

    /// One step of a stream; `at` is below [`Speech::steps`].
    pub fn step<'a>(&'a self, at: usize, padding: &'a [u8]) -> Step<'a> {
        let Some(at) = at.checked_sub(self.thoughts()) else {
            return Step::Thought(THOUGHTS.get(at).copied().unwrap_or_default());
        };
        if self.calls {
            return match at.checked_sub(1) {
                None => Step::CallOpen,
                Some(at) => Step::CallPart(FRAGMENTS.get(at).copied().unwrap_or_default()),
            };
        }
        let Some(&end) = self.ends.get(at) else { return Step::Word(padding) };
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        Step::Word(self.begin.get(start as usize..end as usize).unwrap_or_default())
    }

    /// Appends the reasoning; `false`: there is none.
    pub fn thoughts_into(&self, out: &mut Vec<u8>) -> bool {
        THOUGHTS.iter().take(self.thoughts()).for_each(|thought| out.extend_from_slice(thought));
        self.thinks
    }

    /// Appends the text.
    pub fn text_into(&self, out: &mut Vec<u8>, padding: &[u8]) {
        match &self.exact {
            Some((text, _)) => out.extend_from_slice(text),
            None => {
                let end = self.ends.last().copied().unwrap_or(0) as usize;
                out.extend_from_slice(self.begin.get(..end).unwrap_or_default());
                (0..self.padding).for_each(|_| out.extend_from_slice(padding));
            }
        }
    }

    fn thoughts(&self) -> usize {
        if self.thinks { THOUGHTS.len() } else { 0 }
    }

    fn spoken(&self) -> usize {
        self.exact.as_ref().map_or(self.ends.len() + self.padding, |(_, tokens)| *tokens)
    }
}
