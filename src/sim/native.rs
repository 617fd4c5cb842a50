//! `/api/chat` and `/api/generate`: one JSON object a line. Counters that are zero are left out, as Ollama does.

use std::io::Write as _;
use std::rc::Rc;

use super::ask::{Api, Ask};
use super::server::Sim;
use super::speech::{ARGUMENTS, Speech};
use super::voice::{End, Reason, Step, Voice};
use crate::wire::json;

/// One answer of the native dialect.
pub struct Native {
    sim: Rc<Sim>,
    chat: bool,
    model: Vec<u8>,
    /// `{"model":…,"created_at":…,` of the current batch.
    begin: Vec<u8>,
}

impl Native {
    pub fn new(sim: &Rc<Sim>, api: Api, ask: &Ask) -> Self {
        let mut model = Vec::with_capacity(ask.model.len());
        json::escape_into(&mut model, &ask.model);
        let mut native = Self { sim: Rc::clone(sim), chat: api == Api::NativeChat, model, begin: Vec::new() };
        native.batch();
        native
    }

    /// The answer to a request that only loads or unloads.
    pub fn nothing_said(&mut self, out: &mut Vec<u8>, reason: &str) {
        out.extend_from_slice(&self.begin);
        out.extend_from_slice(if self.chat {
            b"\"message\":{\"role\":\"assistant\",\"content\":\"\"}"
        } else {
            b"\"response\":\"\""
        });
        let _ = write!(out, ",\"done\":true,\"done_reason\":\"{reason}\"}}");
    }

    /// What stands before the text, and behind it.
    fn around(&self) -> (&'static [u8], &'static [u8]) {
        match self.chat {
            true => (b"\"message\":{\"role\":\"assistant\",\"content\":\"", b"\"}"),
            false => (b"\"response\":\"", b"\""),
        }
    }

    fn line(&self, out: &mut Vec<u8>, text: &[u8]) {
        let (before, after) = self.around();
        out.extend_from_slice(&self.begin);
        out.extend_from_slice(before);
        out.extend_from_slice(text);
        out.extend_from_slice(after);
        out.extend_from_slice(b",\"done\":false}\n");
    }
}

impl Voice for Native {
    fn is_sse(&self) -> bool {
        false
    }

    fn open(&mut self, _: &mut Vec<u8>) {}

    fn batch(&mut self) {
        self.begin.clear();
        self.begin.extend_from_slice(b"{\"model\":\"");
        self.begin.extend_from_slice(&self.model);
        self.begin.extend_from_slice(b"\",\"created_at\":\"");
        self.sim.calendar.iso(&mut self.begin);
        self.begin.extend_from_slice(b"\",");
    }

    fn step(&mut self, out: &mut Vec<u8>, _: u32, step: Step<'_>) {
        match step {
            Step::Word(text) => self.line(out, text),
            Step::Thought(text) => {
                out.extend_from_slice(&self.begin);
                let before: &[u8] = match self.chat {
                    true => b"\"message\":{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"",
                    false => b"\"response\":\"\",\"thinking\":\"",
                };
                out.extend_from_slice(before);
                out.extend_from_slice(text);
                out.extend_from_slice(self.around().1);
                out.extend_from_slice(b",\"done\":false}\n");
            }
            Step::CallOpen => {
                out.extend_from_slice(&self.begin);
                out.extend_from_slice(b"\"message\":{\"role\":\"assistant\",\"content\":\"\"");
                calls(out);
                out.extend_from_slice(b"},\"done\":false}\n");
            }
            Step::CallPart(_) => {}
        }
    }

    fn close(&mut self, out: &mut Vec<u8>, end: &End) {
        let (before, after) = self.around();
        out.extend_from_slice(&self.begin);
        out.extend_from_slice(before);
        out.extend_from_slice(after);
        done(out, end, self.chat);
        out.push(b'\n');
    }

    fn failed(&mut self, out: &mut Vec<u8>, text: &str) {
        let _ = writeln!(out, "{{\"error\":\"{text}\"}}");
    }

    fn whole(&mut self, out: &mut Vec<u8>, speech: &Speech, end: &End) {
        out.extend_from_slice(&self.begin);
        out.extend_from_slice(self.around().0);
        if !speech.calls() {
            speech.text_into(out, &self.sim.padding);
        }
        out.push(b'"');
        let mut thoughts = Vec::new();
        if speech.thoughts_into(&mut thoughts) {
            out.extend_from_slice(b",\"thinking\":\"");
            out.extend_from_slice(&thoughts);
            out.push(b'"');
        }
        if speech.calls() {
            calls(out);
        }
        if self.chat {
            out.push(b'}');
        }
        done(out, end, self.chat);
    }
}

fn calls(out: &mut Vec<u8>) {
    let _ = write!(
        out,
        ",\"tool_calls\":[{{\"function\":{{\"name\":\"get_weather\",\"arguments\":{ARGUMENTS}}}}}]"
    );
}

/// The members behind the text of the last object, and its brace.
fn done(out: &mut Vec<u8>, end: &End, chat: bool) {
    let reason = if end.reason == Reason::Call { Reason::Stop } else { end.reason };
    let _ = write!(out, ",\"done\":true,\"done_reason\":\"{}\"", reason.name());
    if !chat {
        out.extend_from_slice(b",\"context\":[1,2,3]");
    }
    let counters = [
        ("total_duration", end.total.as_nanos()),
        ("load_duration", end.load.as_nanos()),
        ("prompt_eval_count", u128::from(end.prompt_tokens)),
        ("prompt_eval_duration", end.prefill.as_nanos()),
        ("eval_count", u128::from(end.tokens)),
        ("eval_duration", end.generation.as_nanos()),
    ];
    for (name, value) in counters.into_iter().filter(|(_, value)| *value > 0) {
        let _ = write!(out, ",\"{name}\":{value}");
    }
    out.push(b'}');
}
