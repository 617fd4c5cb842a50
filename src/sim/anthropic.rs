//! `/v1/messages`: content blocks, opened and closed one after the other.

use std::io::Write as _;
use std::rc::Rc;

use super::ask::Ask;
use super::server::Sim;
use super::speech::{ARGUMENTS, Speech};
use super::voice::{End, Reason, Step, Voice};
use crate::wire::json;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
    Tool,
}

/// One message.
pub struct Anthropic {
    sim: Rc<Sim>,
    id: u64,
    model: Vec<u8>,
    prompt_tokens: u64,
    block: Option<Block>,
    index: u32,
}

impl Anthropic {
    pub fn new(sim: &Rc<Sim>, ask: &Ask) -> Self {
        let mut model = Vec::with_capacity(ask.model.len());
        json::escape_into(&mut model, &ask.model);
        let prompt_tokens = ask.prompt_tokens;
        Self { sim: Rc::clone(sim), id: sim.next_id(), model, prompt_tokens, block: None, index: 0 }
    }

    fn begin(&self, out: &mut Vec<u8>) {
        let _ = write!(
            out,
            "{{\"id\":\"msg_{:024}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"",
            self.id
        );
        out.extend_from_slice(&self.model);
        out.extend_from_slice(b"\",\"content\":[");
    }

    /// Closes the open block, if it is another kind, and opens one of this kind.
    fn enter(&mut self, out: &mut Vec<u8>, block: Block) {
        if self.block == Some(block) {
            return;
        }
        self.leave(out);
        let _ = write!(
            out,
            "event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"index\":{},\"content_block\":",
            self.index
        );
        let _ = match block {
            Block::Thinking => write!(out, "{{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}"),
            Block::Text => write!(out, "{{\"type\":\"text\",\"text\":\"\"}}"),
            Block::Tool => {
                write!(
                    out,
                    "{{\"type\":\"tool_use\",\"id\":\"toolu_{:024}\",\"name\":\"get_weather\",\"input\":{{}}}}",
                    self.id
                )
            }
        };
        out.extend_from_slice(b"}\n\n");
        self.block = Some(block);
    }

    fn leave(&mut self, out: &mut Vec<u8>) {
        if self.block.take().is_some() {
            let _ = write!(
                out,
                "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{}}}\n\n",
                self.index
            );
            self.index += 1;
        }
    }

    fn delta(&self, out: &mut Vec<u8>, kind: &str, key: &str, text: &[u8]) {
        let _ = write!(
            out,
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{},\
             \"delta\":{{\"type\":\"{kind}\",\"{key}\":\"",
            self.index
        );
        out.extend_from_slice(text);
        out.extend_from_slice(b"\"}}\n\n");
    }
}

impl Voice for Anthropic {
    fn open(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
        self.begin(out);
        let _ = write!(
            out,
            "],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{{\"input_tokens\":{},\"output_tokens\":0}}}}}}\n\n",
            self.prompt_tokens
        );
        out.extend_from_slice(b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
    }

    fn step(&mut self, out: &mut Vec<u8>, _: u32, step: Step<'_>) {
        match step {
            Step::Thought(text) => {
                self.enter(out, Block::Thinking);
                self.delta(out, "thinking_delta", "thinking", text);
            }
            Step::Word(text) => {
                self.enter(out, Block::Text);
                self.delta(out, "text_delta", "text", text);
            }
            Step::CallOpen => self.enter(out, Block::Tool),
            Step::CallPart(part) => self.delta(out, "input_json_delta", "partial_json", part.as_bytes()),
        }
    }

    fn close(&mut self, out: &mut Vec<u8>, end: &End) {
        self.leave(out);
        let _ = write!(
            out,
            "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{}\",\
             \"stop_sequence\":null}},\"usage\":{{\"input_tokens\":{},\"output_tokens\":{}}}}}\n\n\
             event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n",
            stop_reason(end.reason),
            end.prompt_tokens,
            end.tokens
        );
    }

    fn failed(&mut self, out: &mut Vec<u8>, text: &str) {
        let _ = write!(
            out,
            "event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"api_error\",\"message\":\"{text}\"}}}}\n\n"
        );
    }

    fn whole(&mut self, out: &mut Vec<u8>, speech: &Speech, end: &End) {
        self.begin(out);
        let mut thoughts = Vec::new();
        if speech.thoughts_into(&mut thoughts) {
            out.extend_from_slice(b"{\"type\":\"thinking\",\"thinking\":\"");
            out.extend_from_slice(&thoughts);
            out.extend_from_slice(b"\",\"signature\":\"\"},");
        }
        if speech.calls() {
            let _ = write!(
                out,
                "{{\"type\":\"tool_use\",\"id\":\"toolu_{:024}\",\"name\":\"get_weather\",\"input\":{ARGUMENTS}}}",
                self.id
            );
        } else {
            out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"");
            speech.text_into(out, &self.sim.padding);
            out.extend_from_slice(b"\"}");
        }
        let _ = write!(
            out,
            "],\"stop_reason\":\"{}\",\"stop_sequence\":null,\"usage\":{{\"input_tokens\":{},\"output_tokens\":{}}}}}",
            stop_reason(end.reason),
            end.prompt_tokens,
            end.tokens
        );
    }
}

fn stop_reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Stop => "end_turn",
        Reason::Length => "max_tokens",
        Reason::Call => "tool_use",
    }
}
