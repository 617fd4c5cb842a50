//! A streamed answer on its way through: renamed, counted, and judged whether it came to its end.
//!
//! Sans-io: [`Stream::push`] takes the endpoint's bytes, cut anywhere, and appends what goes to the client. Whole
//! events that need no change are copied in one run; a partial event waits in a buffer until its rest comes.
//! A stream is complete when it said so itself (`[DONE]`, a `finish_reason`, `done:true`, `message_stop`,
//! `response.completed`); an endpoint that ends before is a failure, and nothing is invented for it.
//! Cost: one scan of each event's top level (about 150 ns for 200 bytes), no allocation a whole event.

use std::sync::LazyLock;

use memchr::memmem;

use super::speech::{self, Heard, Part, Voice};
use super::{Dialect, Failure, FailureKind, Task, Usage};
use crate::config::Price;
use crate::usage::estimate::Said;
use crate::wire::json::{self, Malformed, Member, Walk};
use crate::wire::{Span, ndjson, sse};

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It goes on.
    Open,
    /// It has said that it is complete.
    Complete,
}

/// The state of one streamed answer.
#[derive(Debug)]
pub struct Stream {
    task: Task,
    ndjson: bool,
    /// The client's name for the model, as a JSON string.
    model: Box<[u8]>,
    /// Take out the usage that only we asked for.
    strip_usage: bool,
    kept: Vec<u8>,
    progress: Progress,
    /// Choices that have said so.
    finished: u64,
    usage: Usage,
    /// What tokens cost, if the client is to see it beside them.
    price: Option<Box<Price>>,
    said: Said,
    /// Events passed on that carry data.
    events: u64,
    /// The endpoint's own name for the model, as a JSON string, if anybody wants to know.
    seen: Option<Box<[u8]>>,
    opening: Opening,
}

/// What the events of an OpenAI stream begin with: up to their choices they are the same, mostly, and what was found there once is
/// there again.
#[derive(Debug, Default)]
struct Opening {
    /// Up to the value of `choices`, without anything that matters but a model.
    bytes: Box<[u8]>,
    model: Option<Span>,
    /// How often it was another one.
    changes: u8,
}

impl Opening {
    /// Changes after which it is not looked for any more.
    const CHANGES_MAX: u8 = 8;

    fn learn(&mut self, bytes: &[u8], model: Option<Span>) {
        if self.changes < Self::CHANGES_MAX {
            self.changes += 1;
            self.bytes = bytes.into();
            self.model = model;
        }
    }
}

/// What to do with one event.
enum Verdict {
    Pass,
    Drop,
    /// Put `model` in place of the first span, and these bytes in place of the second.
    Edit(Option<Span>, Option<(Span, Vec<u8>)>),
}

impl Stream {
    /// A stream that answers `task`, of JSON lines or of events; `model` is a JSON string with its quotes.
    #[must_use]
    pub fn new(task: Task, ndjson: bool, model: Vec<u8>, strip_usage: bool) -> Self {
        // Of a path that we do not know, we cannot know how it says that it is complete.
        let progress = if task == Task::Other { Progress::Complete } else { Progress::Open };
        Self {
            task,
            ndjson,
            model: model.into(),
            strip_usage,
            kept: Vec::new(),
            progress,
            finished: 0,
            usage: Usage::default(),
            price: None,
            said: Said::default(),
            events: 0,
            seen: None,
            opening: Opening::default(),
        }
    }

    /// Shows the client the cost beside the tokens, by `price`.
    #[must_use]
    pub fn priced(mut self, price: Price) -> Self {
        self.price = Some(Box::new(price));
        self
    }

    /// Tokens counted so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// What it answers.
    #[must_use]
    pub fn task(&self) -> Task {
        self.task
    }

    /// What the model has said so far.
    #[must_use]
    pub fn said(&self) -> Said {
        self.said
    }

    /// Keeps the endpoint's own name for the model when it comes.
    pub fn remember_model(&mut self) {
        self.seen = Some(Box::default());
    }

    /// That name, as a JSON string; empty: none has come, or nobody wants to know.
    #[must_use]
    pub fn model_seen(&self) -> &[u8] {
        self.seen.as_deref().unwrap_or_default()
    }

    /// Whether it is of JSON lines, not of events.
    #[must_use]
    pub fn is_ndjson(&self) -> bool {
        self.ndjson
    }

    /// Events with data that were passed on so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Whether the stream has said that it is complete.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether so many answers beside each other are complete; of a dialect that has one, whether the stream is.
    #[must_use]
    pub fn has_finished(&self, choices: u64) -> bool {
        let counts = matches!(self.task, Task::Chat | Task::Completions);
        self.progress == Progress::Complete && (!counts || self.finished >= choices)
    }

    /// Takes bytes of the endpoint and appends what the client gets.
    ///
    /// # Errors
    /// The endpoint sent an error object, something that is no event, or an event beyond every bound. What was
    /// appended before stays valid.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        if self.kept.is_empty() {
            let used = self.events_of(input, out)?;
            self.kept.extend_from_slice(input.get(used..).unwrap_or_default());
        } else {
            let mut kept = std::mem::take(&mut self.kept);
            kept.extend_from_slice(input);
            let used = self.events_of(&kept, out)?;
            kept.drain(..used);
            self.kept = kept;
        }
        if self.kept.len() > sse::EVENT_BYTES_MAX {
            return Err(broken("sent an event that is too long"));
        }
        Ok(())
    }

    /// The endpoint has ended its body.
    ///
    /// # Errors
    /// It ended before it was complete.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let kept = std::mem::take(&mut self.kept);
        let ndjson = self.ndjson;
        let last = if ndjson { ndjson::last(&kept) } else { sse::last(&kept).map(|event| event.raw) };
        if let Some(raw) = last
            && self.one(raw, b"", out)?
        {
            out.extend_from_slice(raw);
            out.extend_from_slice(if ndjson { b"\n" } else { b"\n\n" });
        }
        match self.progress {
            Progress::Complete => Ok(()),
            Progress::Open => Err(broken("ended its stream before the answer was complete")),
        }
    }

    /// Handles the whole events at the start of `input`; returns the bytes they took.
    fn events_of(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Failure> {
        let ndjson = self.ndjson;
        let (mut at, mut run) = (0, 0);
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let next = if ndjson { ndjson::next(rest) } else { sse::next(rest).map(|event| event.raw) };
            let Some(raw) = next else { break };
            let before = at;
            at += raw.len();
            let pending = input.get(run..before).unwrap_or_default();
            match self.one(raw, pending, out) {
                Ok(true) => {}
                Ok(false) => run = at,
                Err(failure) => {
                    out.extend_from_slice(pending);
                    return Err(failure);
                }
            }
        }
        out.extend_from_slice(input.get(run..at).unwrap_or_default());
        Ok(at)
    }

    /// Handles one event. `true`: it passes unchanged, and nothing was appended; else `pending`, what came
    /// unchanged before it, has been appended first.
    fn one(&mut self, raw: &[u8], pending: &[u8], out: &mut Vec<u8>) -> Result<bool, Failure> {
        if self.ndjson {
            let line = raw.trim_ascii();
            if line.is_empty() {
                out.extend_from_slice(pending);
                return Ok(false);
            }
            let verdict = self.judge(line, None)?;
            return Ok(self.write(&verdict, line, [pending, b"", b"\n"], out));
        }
        let event = sse::Event { raw };
        if let Some(data) = event.plain_data() {
            let verdict = self.judge(data, None)?;
            return Ok(self.write(&verdict, data, [pending, b"data: ", b"\n\n"], out));
        }
        if let Some((_, error)) = event.fields().find(|(name, _)| *name == b"error") {
            return Err(Failure::of_upstream(status_of(error), error, None)); // llama.cpp's way
        }
        let Some(mut data) = event.data() else {
            return Ok(true); // a comment or blank lines
        };
        // Between JSON tokens a space does what the line end did, and the event can be written on one line.
        data.iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        let verdict = self.judge(&data, event.name())?;
        let mut before = Vec::new();
        for (name, value) in event.fields().filter(|(name, _)| *name != b"data") {
            before.extend_from_slice(name);
            before.extend_from_slice(b": ");
            before.extend_from_slice(value);
            before.push(b'\n');
        }
        before.extend_from_slice(b"data: ");
        Ok(self.write(&verdict, &data, [pending, &before, b"\n\n"], out))
    }

    /// Writes an event that changes, between `around`: what is pending, what stands before its data and after it.
    fn write(&mut self, verdict: &Verdict, data: &[u8], around: [&[u8]; 3], out: &mut Vec<u8>) -> bool {
        let (model, other) = match verdict {
            Verdict::Pass => {
                self.events += 1;
                return true;
            }
            Verdict::Drop => {
                out.extend_from_slice(around[0]);
                return false;
            }
            Verdict::Edit(model, other) => (model, other),
        };
        self.events += 1;
        out.extend_from_slice(around[0]);
        out.extend_from_slice(around[1]);
        let mut edits = [
            model.map(|span| (span, &*self.model)),
            other.as_ref().map(|(span, bytes)| (*span, bytes.as_slice())),
        ];
        edits.sort_unstable_by_key(|edit| edit.map_or(u32::MAX, |(span, _)| span.start));
        let mut at = 0;
        for (span, bytes) in edits.into_iter().flatten() {
            out.extend_from_slice(data.get(at..span.start as usize).unwrap_or_default());
            out.extend_from_slice(bytes);
            at = span.end as usize;
        }
        out.extend_from_slice(data.get(at..).unwrap_or_default());
        out.extend_from_slice(around[2]);
        false
    }

    /// Reads the JSON of one event.
    fn judge(&mut self, data: &[u8], name: Option<&[u8]>) -> Result<Verdict, Failure> {
        if data == b"[DONE]" {
            self.progress = Progress::Complete;
            return Ok(Verdict::Pass);
        }
        if !self.ndjson && data.trim_ascii_start().first() != Some(&b'{') {
            return Ok(Verdict::Pass); // a server's heartbeat, or words that are not ours to judge
        }
        let mut found = Found::default();
        let is_chunk =
            !matches!(self.task, Task::Responses | Task::Messages) && self.task.dialect() != Dialect::Ollama;
        let opening = is_chunk.then_some(&mut self.opening);
        if found.read(data, opening).is_err() {
            return Err(broken("sent an event that is not a JSON object"));
        }
        if let Some(error) = found.error {
            return Err(Failure::of_upstream(status_of(error.value.of_bytes(data)), data, None));
        }
        if is_chunk {
            return Ok(self.chunk(data, &found));
        }
        self.listen(data);
        match self.task {
            Task::Responses | Task::Messages => Ok(self.named(data, name, &found)),
            _ => Ok(self.native(data, &found)),
        }
    }

    /// An OpenAI chunk.
    fn chunk(&mut self, data: &[u8], found: &Found) -> Verdict {
        let Heard { bytes, finished } = found.heard;
        self.said.bytes += bytes;
        self.said.events += u64::from(bytes > 0);
        if finished > 0 {
            self.finished += finished;
            self.progress = Progress::Complete;
        }
        let mut edit = None;
        if let Some(usage) = found.usage {
            self.usage.read_object(data, usage.value);
            let empty = found.choices.is_none_or(|choices| is_empty_array(choices.of_bytes(data)));
            if self.strip_usage && empty {
                return Verdict::Drop;
            }
            edit = match self.strip_usage {
                true => Some((json::removal(data, usage), Vec::new())),
                false => self.cost_in(data, usage.value),
            };
        }
        self.rename(data, found.model, edit)
    }

    /// Counts what the model says in an event.
    fn listen(&mut self, data: &[u8]) {
        let before = self.said.bytes;
        speech::parts(self.task, data, &mut |part| {
            if let Part::Text(channel, span) = part
                && channel.voice != Voice::Whole
            {
                self.said.bytes += span.len() as u64;
            }
        });
        self.said.events += u64::from(self.said.bytes > before);
    }

    /// The cost, to be added to the `usage` at a place of `data`, if there is any.
    fn cost_in(&self, data: &[u8], usage: Span) -> Option<(Span, Vec<u8>)> {
        cost_member(data, usage, self.usage.cost(*self.price.as_deref()?))
    }

    /// A line of Ollama's native stream.
    fn native(&mut self, data: &[u8], found: &Found) -> Verdict {
        if found.done {
            self.progress = Progress::Complete;
            let mut walk = Walk::object(data, 0);
            while let Ok(Ok(Some(member))) = walk.as_mut().map(Walk::member) {
                self.usage.read_member(member.key.of_bytes(data), member.value.of_bytes(data));
            }
        }
        self.rename(data, found.model, None)
    }

    /// A named event of `/v1/responses` or `/v1/messages`.
    fn named(&mut self, data: &[u8], name: Option<&[u8]>, found: &Found) -> Verdict {
        let kind = found.kind.map_or(name.unwrap_or_default(), |span| {
            span.of_bytes(data)
                .strip_prefix(b"\"")
                .and_then(|text| text.strip_suffix(b"\""))
                .unwrap_or_default()
        });
        if matches!(
            kind,
            b"message_stop" | b"response.completed" | b"response.incomplete" | b"response.failed"
        ) {
            self.progress = Progress::Complete;
        }
        let mut edit = None;
        if let Some(usage) = found.usage {
            self.usage.read_object(data, usage.value);
            edit = self.cost_in(data, usage.value);
        }
        let Some(inner) = found.inner else { return self.rename(data, None, edit) };
        let object = inner.of_bytes(data);
        if let Some(usage) = json::find(object, b"usage") {
            self.usage.read_object(object, usage.value);
            if self.progress == Progress::Complete {
                let (start, end) = (inner.start + usage.value.start, inner.start + usage.value.end);
                edit = self.cost_in(data, Span { start, end });
            }
        }
        let model = json::find(object, b"model").map(|member| Span {
            start: inner.start + member.value.start,
            end: inner.start + member.value.end,
        });
        self.rename(data, model, edit)
    }

    fn rename(&mut self, data: &[u8], model: Option<Span>, other: Option<(Span, Vec<u8>)>) -> Verdict {
        if let Some((seen, span)) = self.seen.as_mut().filter(|seen| seen.is_empty()).zip(model) {
            *seen = span.of_bytes(data).into();
        }
        let model = model.filter(|span| {
            let old = span.of_bytes(data);
            old.first() == Some(&b'"') && *old != *self.model
        });
        if model.is_none() && other.is_none() { Verdict::Pass } else { Verdict::Edit(model, other) }
    }
}

/// `cost` as one more member of the `usage` object at a place of `data`: the place and what goes there.
pub(super) fn cost_member(data: &[u8], usage: Span, cost: f64) -> Option<(Span, Vec<u8>)> {
    let inside = usage.of_bytes(data).strip_prefix(b"{")?.strip_suffix(b"}")?.trim_ascii();
    let known = json::find(usage.of_bytes(data), b"cost").is_some();
    if inside.is_empty() || known || cost <= 0.0 {
        return None;
    }
    let at = usage.end.checked_sub(1)?;
    Some((Span { start: at, end: at }, format!(",\"cost\":{cost}").into_bytes()))
}

/// The members of an event that matter to anyone.
#[derive(Default)]
struct Found {
    model: Option<Span>,
    choices: Option<Span>,
    heard: Heard,
    usage: Option<Member>,
    error: Option<Member>,
    kind: Option<Span>,
    inner: Option<Span>,
    done: bool,
}

impl Found {
    /// Reads the top level, and with an `opening`, of an OpenAI chunk, its choices.
    ///
    /// # Errors
    /// It is not one whole object.
    fn read(&mut self, data: &[u8], mut opening: Option<&mut Opening>) -> Result<(), Malformed> {
        let known =
            opening.as_deref().filter(|known| !known.bytes.is_empty() && data.starts_with(&known.bytes));
        let mut walk = match known {
            Some(Opening { bytes, model, .. }) => {
                self.model = *model;
                let mut walk = Walk::at_value(data, bytes.len());
                self.choices = Some(speech::hear(data, &mut walk, bytes.len(), &mut self.heard)?);
                walk
            }
            None => Walk::object(data, 0)?,
        };
        while let Some((key, at)) = walk.key()? {
            let name = key.of_bytes(data);
            if name == b"choices"
                && let Some(opening) = &mut opening
            {
                if self.is_plain() {
                    opening.learn(data.get(..at).unwrap_or_default(), self.model);
                }
                self.choices = Some(speech::hear(data, &mut walk, at, &mut self.heard)?);
                continue;
            }
            let value = walk.skip()?;
            match name {
                b"model" => self.model = Some(value),
                b"usage" => self.usage = Some(Member { key, value }),
                b"error" if value.of_bytes(data) != b"null" => self.error = Some(Member { key, value }),
                b"type" => self.kind = Some(value),
                b"message" | b"response" => self.inner = Some(value),
                b"done" => self.done = value.of_bytes(data) == b"true",
                _ => {}
            }
        }
        if json::space(data, walk.end()) == data.len() { Ok(()) } else { Err(Malformed) }
    }

    /// Whether nothing but a model has been found so far.
    fn is_plain(&self) -> bool {
        let Self { choices, usage, error, kind, inner, done, .. } = self;
        choices.is_none() && usage.is_none() && error.is_none() && kind.is_none() && inner.is_none() && !done
    }
}

/// How many choices have a `finish_reason` that is a string. The quoted key cannot stand inside a JSON string, where
/// its quotes would be escaped.
pub(super) fn finished(choices: &[u8]) -> u64 {
    static KEY: LazyLock<memmem::Finder<'static>> =
        LazyLock::new(|| memmem::Finder::new("\"finish_reason\""));
    let finished = KEY.find_iter(choices).filter(|&at| {
        let escaped = at > 0 && choices.get(at - 1) == Some(&b'\\'); // it ends a longer key
        let colon = json::space(choices, at + KEY.needle().len());
        !escaped
            && choices.get(colon) == Some(&b':')
            && choices.get(json::space(choices, colon + 1)) == Some(&b'"')
    });
    finished.count() as u64
}

fn is_empty_array(value: &[u8]) -> bool {
    value.strip_prefix(b"[").is_some_and(|rest| rest.trim_ascii() == b"]")
}

/// The status that an error object of a stream would have had.
fn status_of(error: &[u8]) -> u16 {
    let code = json::find(error, b"code").and_then(|member| json::integer(member.value.of_bytes(error)));
    code.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code)).unwrap_or(500)
}

fn broken(what: &str) -> Failure {
    Failure::new(FailureKind::UpstreamBroken, format!("The endpoint {what}."))
}

#[cfg(test)]
mod tests;
