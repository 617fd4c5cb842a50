//! Chat and text completions in the OpenAI dialect, as Ollama writes them.

use std::io::Write as _;
use std::rc::Rc;

use super::ask::{Api, Ask};
use super::server::Sim;
use super::speech::{ARGUMENTS, Speech};
use super::voice::{End, Step, Voice};
use crate::wire::json;

/// One answer of `/v1/chat/completions` or `/v1/completions`.
pub struct OpenAi {
    sim: Rc<Sim>,
    chat: bool,
    id: u64,
    choices: u32,
    include_usage: bool,
    /// `"created":…` up to and with the comma before `choices`.
    common: Vec<u8>,
    /// An event up to where a choice begins.
    event: Vec<u8>,
}

impl OpenAi {
    pub fn new(sim: &Rc<Sim>, api: Api, ask: &Ask) -> Self {
        let (chat, id) = (api == Api::Chat, sim.next_id());
        let mut common = Vec::with_capacity(128);
        let _ = write!(common, "\"created\":{},\"model\":\"", sim.calendar.unix());
        json::escape_into(&mut common, &ask.model);
        common.extend_from_slice(b"\",\"system_fingerprint\":\"fp_ollama\",");
        let mut event = Vec::with_capacity(256);
        if ask.stream {
            let (prefix, object) =
                if chat { ("chatcmpl", "chat.completion.chunk") } else { ("cmpl", "text_completion") };
            let _ = write!(event, "data: {{\"id\":\"{prefix}-{id}\",\"object\":\"{object}\",");
            event.extend_from_slice(&common);
            event.extend_from_slice(b"\"choices\":[");
        }
        Self {
            sim: Rc::clone(sim),
            chat,
            id,
            choices: ask.choices,
            include_usage: ask.include_usage,
            common,
            event,
        }
    }

    fn event(&self, out: &mut Vec<u8>, choice: u32, parts: [&[u8]; 3]) {
        out.extend_from_slice(&self.event);
        if self.chat {
            out.extend_from_slice(b"{\"index\":");
            number(out, choice);
            out.extend_from_slice(b",\"delta\":{");
        } else {
            out.extend_from_slice(b"{\"text\":\"");
        }
        parts.iter().for_each(|part| out.extend_from_slice(part));
        if self.chat {
            out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
        } else {
            out.extend_from_slice(b"\",\"index\":");
            number(out, choice);
            out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":null}]}\n\n");
        }
    }

    fn message(&self, out: &mut Vec<u8>, choice: u32, speech: &Speech) {
        out.extend_from_slice(b"\"message\":{\"role\":\"assistant\",\"content\":\"");
        if !speech.calls() {
            speech.text_into(out, &self.sim.padding);
        }
        out.push(b'"');
        let mut thoughts = Vec::new();
        if speech.thoughts_into(&mut thoughts) {
            out.extend_from_slice(b",\"reasoning\":\"");
            out.extend_from_slice(&thoughts);
            out.push(b'"');
        }
        if speech.calls() {
            let _ = write!(
                out,
                ",\"tool_calls\":[{{\"id\":\"call_{}_{choice}\",\"index\":0,\"type\":\"function\",",
                self.id
            );
            out.extend_from_slice(b"\"function\":{\"name\":\"get_weather\",\"arguments\":\"");
            json::escape_into(out, ARGUMENTS);
            out.extend_from_slice(b"\"}}]");
        }
        out.extend_from_slice(b"},\"logprobs\":null,");
    }
}

impl Voice for OpenAi {
    fn open(&mut self, _: &mut Vec<u8>) {}

    fn step(&mut self, out: &mut Vec<u8>, choice: u32, step: Step<'_>) {
        match step {
            Step::Word(text) if self.chat => {
                self.event(out, choice, [b"\"role\":\"assistant\",\"content\":\"", text, b"\""]);
            }
            Step::Word(text) => self.event(out, choice, [text, b"", b""]),
            Step::Thought(text) => {
                self.event(
                    out,
                    choice,
                    [b"\"role\":\"assistant\",\"content\":\"\",\"reasoning\":\"", text, b"\""],
                );
            }
            Step::CallOpen => {
                let mut call = Vec::with_capacity(160);
                let _ = write!(
                    call,
                    "\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{{\"index\":0,\"id\":\"call_{}_{choice}\",\
                     \"type\":\"function\",\"function\":{{\"name\":\"get_weather\",\"arguments\":\"\"}}}}]",
                    self.id
                );
                self.event(out, choice, [&call, b"", b""]);
            }
            Step::CallPart(part) => {
                let before = b"\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"";
                self.event(out, choice, [before, part.as_bytes(), b"\"}}]"]);
            }
        }
    }

    fn close(&mut self, out: &mut Vec<u8>, end: &End) {
        for choice in 0..self.choices {
            out.extend_from_slice(&self.event);
            let reason = end.reason.name();
            let _ = if self.chat {
                write!(
                    out,
                    "{{\"index\":{choice},\"delta\":{{\"role\":\"assistant\",\"content\":\"\"}},\"logprobs\":null,\
                     \"finish_reason\":\"{reason}\"}}]}}\n\n"
                )
            } else {
                write!(
                    out,
                    "{{\"text\":\"\",\"index\":{choice},\"logprobs\":null,\"finish_reason\":\"{reason}\"}}]}}\n\n"
                )
            };
        }
        if self.include_usage {
            out.extend_from_slice(&self.event);
            out.extend_from_slice(b"],");
            usage(out, end);
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn failed(&mut self, out: &mut Vec<u8>, text: &str) {
        let _ = write!(
            out,
            "data: {{\"error\":{{\"message\":\"{text}\",\"type\":\"api_error\",\"param\":null,\"code\":null}}}}\n\n"
        );
    }

    fn whole(&mut self, out: &mut Vec<u8>, speech: &Speech, end: &End) {
        let (prefix, object) =
            if self.chat { ("chatcmpl", "chat.completion") } else { ("cmpl", "text_completion") };
        let _ = write!(out, "{{\"id\":\"{prefix}-{}\",\"object\":\"{object}\",", self.id);
        out.extend_from_slice(&self.common);
        out.extend_from_slice(b"\"choices\":[");
        for choice in 0..self.choices {
            out.extend_from_slice(if choice == 0 { b"{" } else { b",{" });
            if self.chat {
                out.extend_from_slice(b"\"index\":");
                number(out, choice);
                out.push(b',');
                self.message(out, choice, speech);
            } else {
                out.extend_from_slice(b"\"text\":\"");
                speech.text_into(out, &self.sim.padding);
                out.extend_from_slice(b"\",\"index\":");
                number(out, choice);
                out.extend_from_slice(b",\"logprobs\":null,");
            }
            let _ = write!(out, "\"finish_reason\":\"{}\"}}", end.reason.name());
        }
        out.extend_from_slice(b"],");
        usage(out, end);
        out.push(b'}');
    }
}

fn usage(out: &mut Vec<u8>, end: &End) {
    let (prompt, completion) = (end.prompt_tokens, end.tokens);
    let _ = write!(
        out,
        "\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"total_tokens\":{}}}",
        prompt + completion
    );
}

fn number(out: &mut Vec<u8>, number: u32) {
    match u8::try_from(number) {
        Ok(digit @ 0..10) => out.push(b'0' + digit),
        _ => {
            let _ = write!(out, "{number}");
        }
    }
}
