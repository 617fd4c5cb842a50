//! `/v1/responses`: a stream of named, numbered events around one output item.

use std::io::Write as _;
use std::rc::Rc;

use super::ask::Ask;
use super::server::Sim;
use super::speech::{ARGUMENTS, Speech};
use super::voice::{End, Reason, Step, Voice};
use crate::wire::json;

/// One response.
pub struct Responses {
    sim: Rc<Sim>,
    id: u64,
    created: u64,
    model: Vec<u8>,
    sequence: u64,
    /// The item is open; `Some(true)`: it is a call.
    item: Option<bool>,
    text: Vec<u8>,
}

impl Responses {
    pub fn new(sim: &Rc<Sim>, ask: &Ask) -> Self {
        let mut model = Vec::with_capacity(ask.model.len());
        json::escape_into(&mut model, &ask.model);
        let created = sim.calendar.unix();
        Self {
            sim: Rc::clone(sim),
            id: sim.next_id(),
            created,
            model,
            sequence: 0,
            item: None,
            text: Vec::new(),
        }
    }

    /// `event: …` up to the comma behind the sequence number.
    fn event(&mut self, out: &mut Vec<u8>, name: &str) {
        let _ =
            write!(out, "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{},", self.sequence);
        self.sequence += 1;
    }

    /// The event of a part, up to where its own members begin.
    fn part(&mut self, out: &mut Vec<u8>, name: &str) {
        let kind = self.kind();
        self.event(out, name);
        let _ = write!(out, "\"item_id\":\"{kind}_{}\",\"output_index\":0,", self.id);
        if self.item != Some(true) {
            out.extend_from_slice(b"\"content_index\":0,");
        }
    }

    fn kind(&self) -> &'static str {
        if self.item == Some(true) { "fc" } else { "msg" }
    }

    fn response(&self, out: &mut Vec<u8>, status: &str) {
        let _ = write!(
            out,
            "{{\"id\":\"resp_{}\",\"object\":\"response\",\"created_at\":{},\"status\":\"{status}\",\"error\":null,\
             \"incomplete_details\":{},\"model\":\"",
            self.id,
            self.created,
            if status == "incomplete" { "{\"reason\":\"max_output_tokens\"}" } else { "null" }
        );
        out.extend_from_slice(&self.model);
        out.extend_from_slice(b"\",\"output\":[");
    }

    /// The item, with what has been said of it.
    fn item(&self, out: &mut Vec<u8>, status: &str, done: bool) {
        let id = self.id;
        if self.item == Some(true) {
            let _ = write!(
                out,
                "{{\"id\":\"fc_{id}\",\"type\":\"function_call\",\"status\":\"{status}\",\"call_id\":\"call_{id}\",\
                 \"name\":\"get_weather\",\"arguments\":\""
            );
            if done {
                json::escape_into(out, ARGUMENTS);
            }
            out.extend_from_slice(b"\"}");
            return;
        }
        let _ = write!(
            out,
            "{{\"id\":\"msg_{id}\",\"type\":\"message\",\"status\":\"{status}\",\"role\":\"assistant\",\"content\":["
        );
        if done {
            self.output_text(out);
        }
        out.extend_from_slice(b"]}");
    }

    fn output_text(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"output_text\",\"text\":\"");
        out.extend_from_slice(&self.text);
        out.extend_from_slice(b"\",\"annotations\":[],\"logprobs\":[]}");
    }

    fn enter(&mut self, out: &mut Vec<u8>, call: bool) {
        if self.item.is_some() {
            return;
        }
        self.item = Some(call);
        self.event(out, "response.output_item.added");
        out.extend_from_slice(b"\"output_index\":0,\"item\":");
        self.item(out, "in_progress", false);
        out.extend_from_slice(b"}\n\n");
        if !call {
            self.part(out, "response.content_part.added");
            let empty =
                b"\"part\":{\"type\":\"output_text\",\"text\":\"\",\"annotations\":[],\"logprobs\":[]}}\n\n";
            out.extend_from_slice(empty);
        }
    }

    fn leave(&mut self, out: &mut Vec<u8>) {
        if self.item == Some(true) {
            self.part(out, "response.function_call_arguments.done");
            out.extend_from_slice(b"\"arguments\":\"");
            json::escape_into(out, ARGUMENTS);
            out.extend_from_slice(b"\"}\n\n");
        } else {
            self.part(out, "response.output_text.done");
            out.extend_from_slice(b"\"text\":\"");
            out.extend_from_slice(&self.text);
            out.extend_from_slice(b"\",\"logprobs\":[]}\n\n");
            self.part(out, "response.content_part.done");
            out.extend_from_slice(b"\"part\":");
            self.output_text(out);
            out.extend_from_slice(b"}\n\n");
        }
        self.event(out, "response.output_item.done");
        out.extend_from_slice(b"\"output_index\":0,\"item\":");
        self.item(out, "completed", true);
        out.extend_from_slice(b"}\n\n");
    }
}

impl Voice for Responses {
    fn open(&mut self, out: &mut Vec<u8>) {
        for name in ["response.created", "response.in_progress"] {
            self.event(out, name);
            out.extend_from_slice(b"\"response\":");
            self.response(out, "in_progress");
            out.extend_from_slice(b"],\"usage\":null}}\n\n");
        }
    }

    fn step(&mut self, out: &mut Vec<u8>, _: u32, step: Step<'_>) {
        let (name, text) = match step {
            Step::Thought(_) => return,
            Step::CallOpen => return self.enter(out, true),
            Step::CallPart(part) => ("response.function_call_arguments.delta", part.as_bytes()),
            Step::Word(text) => {
                self.enter(out, false);
                self.text.extend_from_slice(text);
                ("response.output_text.delta", text)
            }
        };
        self.part(out, name);
        out.extend_from_slice(b"\"delta\":\"");
        out.extend_from_slice(text);
        out.extend_from_slice(if self.item == Some(true) { b"\"}\n\n" } else { b"\",\"logprobs\":[]}\n\n" });
    }

    fn close(&mut self, out: &mut Vec<u8>, end: &End) {
        self.leave(out);
        let status = status(end.reason);
        self.event(out, if status == "completed" { "response.completed" } else { "response.incomplete" });
        out.extend_from_slice(b"\"response\":");
        self.response(out, status);
        self.item(out, "completed", true);
        usage(out, end);
        out.extend_from_slice(b"}\n\n");
    }

    fn failed(&mut self, out: &mut Vec<u8>, text: &str) {
        self.event(out, "error");
        let _ = write!(out, "\"code\":\"server_error\",\"message\":\"{text}\",\"param\":null}}\n\n");
    }

    fn whole(&mut self, out: &mut Vec<u8>, speech: &Speech, end: &End) {
        self.item = Some(speech.calls());
        self.text.clear();
        speech.text_into(&mut self.text, &self.sim.padding);
        self.response(out, status(end.reason));
        self.item(out, "completed", true);
        usage(out, end);
    }
}

fn status(reason: Reason) -> &'static str {
    if reason == Reason::Length { "incomplete" } else { "completed" }
}

/// Closes the output and the response.
fn usage(out: &mut Vec<u8>, end: &End) {
    let (input, output) = (end.prompt_tokens, end.tokens);
    let _ = write!(
        out,
        "],\"usage\":{{\"input_tokens\":{input},\"input_tokens_details\":{{\"cached_tokens\":0}},\
         \"output_tokens\":{output},\"output_tokens_details\":{{\"reasoning_tokens\":0}},\"total_tokens\":{}}}}}",
        input + output
    );
}
