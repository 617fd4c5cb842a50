//! One request as bytes, and what its answer must be.

use std::io::Write as _;
use std::ops::Range;

use crate::scenario::{Check, Kind, Work};

/// What the simulated server says before it says back.
pub const ECHO: &[u8] = b"You said: ";
/// Tokens of [`ECHO`].
const ECHO_TOKENS: usize = 2;
/// The token that fills an answer up.
pub const PAD: &[u8] = b" word";

/// What an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The API.
    pub kind: Kind,
    /// The status.
    pub status: u16,
    /// How much is looked at.
    pub check: Check,
    /// Bytes of the user's text that are said back.
    pub echo: usize,
    /// [`PAD`]s behind them.
    pub pads: usize,
}

/// A request, and the buffers it is written into. It keeps them for the next one.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which work of the scenario it is.
    pub work: usize,
    /// Which key asks; 0 if there are none.
    pub key: usize,
    /// Whether a guard must refuse it.
    pub hit: bool,
    /// What its answer must be.
    pub expected: Expected,
    bytes: Vec<u8>,
    body: Vec<u8>,
    body_at: usize,
    text: Range<usize>,
    chat: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            work: 0,
            key: 0,
            hit: false,
            expected: Expected { kind: Kind::Chat, status: 200, check: Check::None, echo: 0, pads: 0 },
            bytes: Vec::new(),
            body: Vec::new(),
            body_at: 0,
            text: 0..0,
            chat: true,
        }
    }
}

impl Request {
    /// Head and body, as HTTP/1.1 sends them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The body alone.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.body_at..).unwrap_or_default()
    }

    /// The user's text.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        self.bytes.get(self.text.clone()).unwrap_or_default()
    }

    /// Takes the bytes to be sent. They come back by [`Request::give_back`]; until then there is no text.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// The bytes that were sent.
    pub fn give_back(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }

    pub(super) fn begin(&mut self, kind: Kind, begin: &str) {
        self.chat = kind != Kind::Embeddings;
        self.body.clear();
        self.body.extend_from_slice(begin.as_bytes());
    }

    pub(super) fn system(&mut self, text: &str) {
        self.body.extend_from_slice(b"{\"role\":\"system\",\"content\":\"");
        self.body.extend_from_slice(text.as_bytes());
        self.body.extend_from_slice(b"\"},");
    }

    pub(super) fn user(&mut self, index: u64, text: &str) {
        if self.chat {
            self.body.extend_from_slice(b"{\"role\":\"user\",\"content\":\"");
        }
        let begin = self.body.len();
        let _ = write!(self.body, "q{index:x} "); // a Vec takes everything
        self.body.extend_from_slice(text.as_bytes());
        self.text = begin..self.body.len();
    }

    pub(super) fn end(&mut self, end: &str, head: &[u8]) {
        self.body.extend_from_slice(end.as_bytes());
        self.bytes.clear();
        self.bytes.extend_from_slice(head);
        let _ = write!(self.bytes, "{}\r\n\r\n", self.body.len());
        self.body_at = self.bytes.len();
        self.bytes.extend_from_slice(&self.body);
        self.text = self.text.start + self.body_at..self.text.end + self.body_at;
    }

    pub(super) fn decide(&mut self, work: &Work) {
        let said = (work.answer_tokens as usize).saturating_sub(ECHO_TOKENS);
        let (echo, pads) = if work.check == Check::Sim { said_back(self.text(), said) } else { (0, 0) };
        let status = if self.hit { work.hit_status } else { 200 };
        self.expected = Expected { kind: work.kind, status, check: work.check, echo, pads };
    }
}

/// How much of a text its first `words` words are, and how many words it lacks.
fn said_back(text: &[u8], words: usize) -> (usize, usize) {
    let mut found = 1;
    for space in memchr::memchr_iter(b' ', text) {
        if found == words {
            return (space, 0);
        }
        found += 1;
    }
    (text.len(), words.saturating_sub(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_as_the_server_does() {
        assert_eq!(said_back(b"q1 a bc def", 3), (7, 0));
        assert_eq!(said_back(b"q1 a bc def", 4), (11, 0));
        assert_eq!(said_back(b"q1 a bc def", 9), (11, 5));
        assert_eq!(said_back(b"q1", 1), (2, 0));
    }
}
