//! What an answer is: right, or in which way not. Streams are judged event by event, so that nothing of them is kept.

use memchr::memchr;

use super::echo::Echo;
use super::{json, vector};
use crate::outcome::Outcome;
use crate::plan::request::Expected;
use crate::scenario::{Check, Kind};

/// Longest line of a stream, and longest whole answer, in bytes.
pub const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// The verdict on one answer while it comes.
#[derive(Debug, Clone, Copy)]
pub struct Judge {
    expected: Expected,
    echo: Echo,
    /// Events so far.
    events: u64,
    finished: bool,
    done: bool,
    failed: bool,
    malformed: bool,
}

impl Judge {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(expected: Expected) -> Self {
        Self {
            expected,
            echo: Echo::default(),
            events: 0,
            finished: false,
            done: false,
            failed: false,
            malformed: false,
        }
    }

    /// Events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Whether an answer of this status comes as events.
    #[must_use]
    pub fn streams(&self, status: u16) -> bool {
        self.expected.kind == Kind::Stream && status == 200
    }

    /// Reads the whole lines of `body` and takes them out; returns how many events they were. `text` is the user's.
    pub fn read_events(&mut self, body: &mut Vec<u8>, text: &[u8]) -> u64 {
        let (mut used, before) = (0, self.events);
        while let Some(end) = body.get(used..).and_then(|rest| memchr(b'\n', rest)) {
            let line = body.get(used..used + end).unwrap_or_default();
            if let Some(data) = line.strip_prefix(b"data:") {
                self.events += 1;
                self.event(data.trim_ascii(), text);
            }
            used += end + 1;
        }
        if used == body.len() {
            body.clear();
        } else {
            body.drain(..used);
        }
        self.malformed |= body.len() > ANSWER_MAX;
        self.events - before
    }

    fn event(&mut self, data: &[u8], text: &[u8]) {
        if data == b"[DONE]" {
            self.malformed |= self.done;
            self.done = true;
            return;
        }
        if self.expected.check == Check::None {
            return;
        }
        self.malformed |= self.done || !json::is_object(data);
        if data.starts_with(b"{\"error\"") {
            self.failed = true;
            return;
        }
        if let Some(piece) = json::string(data, b"content")
            && self.expected.check == Check::Sim
        {
            self.echo.take(piece, text, &self.expected);
        }
        self.finished |= json::string(data, b"finish_reason").is_some();
    }

    /// The verdict when the connection ended, or the time, before the answer did. `fallback` is what that is called.
    #[must_use]
    pub fn cut(&self, fallback: Outcome) -> Outcome {
        if self.malformed {
            Outcome::Malformed
        } else if self.echo.is_wrong() {
            Outcome::Wrong
        } else if self.failed {
            Outcome::ErrorEvent
        } else {
            fallback
        }
    }

    /// The verdict on an answer that is whole. `body` is what [`Judge::read_events`] has left; `shed` are the statuses
    /// that refuse load.
    #[must_use]
    pub fn end(&mut self, status: u16, body: &[u8], text: &[u8], shed: &[u16]) -> Outcome {
        let expected = self.expected;
        if status != expected.status {
            return if shed.contains(&status) { Outcome::Shed } else { Outcome::BadStatus };
        }
        if self.streams(status) {
            return self.end_of_stream(body);
        }
        if expected.check == Check::None {
            return Outcome::Ok;
        }
        if !json::is_object(body) {
            return Outcome::Malformed;
        }
        let right = if status != 200 {
            memchr::memmem::find(body, b"\"error\"").is_some()
        } else if expected.kind == Kind::Embeddings {
            json::numbers(body, b"embedding").is_some_and(|numbers| {
                expected.check == Check::Shape && !numbers.is_empty() || vector::is_of(numbers, text)
            })
        } else {
            json::string(body, b"content").is_some_and(|content| {
                self.echo.take(content, text, &expected);
                expected.check == Check::Shape || self.echo.is_whole(&expected)
            })
        };
        if right { Outcome::Ok } else { Outcome::Wrong }
    }

    fn end_of_stream(&self, left: &[u8]) -> Outcome {
        let whole = self.expected.check != Check::Sim || self.echo.is_whole(&self.expected);
        let finished = self.finished || self.expected.check == Check::None;
        match self.cut(Outcome::Ok) {
            Outcome::Ok if !self.done || !left.is_empty() => Outcome::Cut,
            Outcome::Ok if whole && finished => Outcome::Ok,
            Outcome::Ok => Outcome::Wrong,
            bad => bad,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"q1 hello";

    fn expected(kind: Kind, status: u16) -> Expected {
        Expected { kind, status, check: Check::Sim, echo: TEXT.len(), pads: 1 }
    }

    fn event(content: &str) -> String {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{content}\"}},\"finish_reason\":null}}]}}\n\n"
        )
    }

    const STOP: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"stop\"}]}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn stream(text: &str) -> Outcome {
        let mut judge = Judge::new(expected(Kind::Stream, 200));
        let mut body = Vec::new();
        for piece in text.as_bytes().chunks(7) {
            body.extend_from_slice(piece);
            judge.read_events(&mut body, TEXT);
        }
        judge.end(200, &body, TEXT, &[])
    }

    #[test]
    fn streams_are_told_apart() {
        let said = event("You said: q1") + ": a comment\n\n" + &event(" hello") + &event(" word");
        assert_eq!(stream(&format!("{said}{STOP}{DONE}")), Outcome::Ok);
        assert_eq!(stream(&format!("{said}{STOP}")), Outcome::Cut, "without its end");
        assert_eq!(stream(&format!("{said}{DONE}")), Outcome::Wrong, "without a reason");
        assert_eq!(stream(&format!("{}{STOP}{DONE}", event("You said: q1"))), Outcome::Wrong, "too short");
        assert_eq!(
            stream(&format!("{}{STOP}{DONE}", event("You said: q2 hello"))),
            Outcome::Wrong,
            "another one's"
        );
        assert_eq!(stream(&format!("{said}{DONE}{said}")), Outcome::Malformed, "behind the end");
        assert_eq!(
            stream(&format!("{}data: {{broken\n\n{STOP}{DONE}", event("You said:"))),
            Outcome::Malformed
        );
        assert_eq!(
            stream(&format!("{}data: {{\"error\":{{}}}}\n\n", event("You said:"))),
            Outcome::ErrorEvent
        );
        assert_eq!(stream(""), Outcome::Cut);
    }

    #[test]
    fn whole_answers_are_told_apart() {
        let end = |kind, wanted, status, body: &str| {
            Judge::new(expected(kind, wanted)).end(status, body.as_bytes(), TEXT, &[429])
        };
        let right = r#"{"choices":[{"message":{"role":"assistant","content":"You said: q1 hello word"}}]}"#;
        assert_eq!(end(Kind::Chat, 200, 200, right), Outcome::Ok);
        assert_eq!(end(Kind::Chat, 200, 200, &right.replace("q1", "q7")), Outcome::Wrong);
        assert_eq!(end(Kind::Chat, 200, 200, &right.replace(" word", "")), Outcome::Wrong);
        assert_eq!(end(Kind::Chat, 200, 200, "{\"choices\":"), Outcome::Malformed);
        assert_eq!(end(Kind::Chat, 200, 429, "{}"), Outcome::Shed);
        assert_eq!(end(Kind::Chat, 200, 503, "{}"), Outcome::BadStatus);
        assert_eq!(end(Kind::Chat, 400, 400, r#"{"error":{"type":"prompt_blocked"}}"#), Outcome::Ok, "a hit");
        assert_eq!(end(Kind::Chat, 400, 200, right), Outcome::BadStatus, "a guard that sleeps");
        assert_eq!(end(Kind::Embeddings, 200, 200, r#"{"data":[{"embedding":[0.5,0.5]}]}"#), Outcome::Wrong);
    }
}
