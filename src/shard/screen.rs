//! The guard at work: reading requests before they leave, and answers before they arrive.
//!
//! `guard` decides; this module feeds it, turns what it finds into a failure or a changed body, and takes a turn
//! through the kernel whenever the shard was held for [`SLICE_NS`].

use std::sync::Arc;

use super::Shard;
use super::access::{self, Record};
use super::answered::{Answered, Content};
use crate::api::speech::{self, Channel, Part};
use crate::api::{Failure, Task, Texts, View};
use crate::config::guard::Language;
use crate::guard::chain::{Chain, Inspection};
use crate::guard::verdict::{Found, Tally};
use crate::guard::window::{self, Blocked, Window};
use crate::guard::{Profile, recent};
use crate::net::clock;
use crate::reading::{self, Ground, STEP, Turns};
use crate::refusal;
use crate::wire::text;
use crate::wire::{Span, ndjson, sse};

/// Nanoseconds that scanning may hold the shard before others have their turn.
const SLICE_NS: u64 = 100_000;

/// Takes turns in long work.
pub struct Pace {
    since_ns: u64,
}

impl Pace {
    /// Begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { since_ns: clock::now_ns() }
    }

    /// Takes a turn if the shard was held for long.
    pub async fn step(&mut self, shard: &Shard) {
        if clock::now_ns().saturating_sub(self.since_ns) > SLICE_NS {
            shard.turns.pass().await;
            self.since_ns = clock::now_ns();
        }
    }
}

/// A shard that reads: verdicts are remembered, and it is never held for long.
pub struct Here<'a> {
    /// Which.
    pub shard: &'a Shard,
    /// Its turns.
    pub pace: Pace,
}

impl Turns for Here<'_> {
    fn now_ns(&self) -> u64 {
        clock::now_ns()
    }

    async fn step(&mut self) {
        self.pace.step(self.shard).await;
    }
}

impl Ground for Here<'_> {
    type Key = recent::Key;

    fn key(&self, profile: &Profile, text: &str) -> Option<recent::Key> {
        self.shard.recent.borrow().key(&profile.name, text)
    }

    fn known(&self, key: &recent::Key) -> Option<Arc<Found>> {
        let known = self.shard.recent.borrow().get(*key)?;
        self.shard.metrics().guard.remembered.add(1);
        Some(known)
    }

    fn learn(&self, key: recent::Key, found: &Arc<Found>) {
        self.shard.recent.borrow_mut().put(key, Arc::clone(found));
    }

    fn note(&mut self, _: &Chain, _: &Inspection) {}
}

/// Reads the texts of a request; redactions are noted in `view`. Returns the language to answer the client in.
///
/// # Errors
/// The request is blocked.
pub async fn request(
    shard: &Shard,
    profile: &Profile,
    texts: &Texts,
    body: &[u8],
    view: &mut View,
    record: &mut Record,
) -> Result<Language, Failure> {
    let mut here = Here { shard, pace: Pace::start() };
    let mut tally = Tally::default();
    let result = reading::request(&mut here, profile, texts, body, view, &mut tally).await;
    record.guarded(shard, &profile.input, false, &tally);
    result
}

/// An answer under the eyes of the guard.
pub struct Screen {
    window: Window,
    chain: Arc<Chain>,
    task: Task,
    ndjson: bool,
    language: Language,
    parts: Vec<Part>,
}

impl Screen {
    /// For the answer to a request of `task`; `None`: no scanner reads answers.
    #[must_use]
    pub fn new(profile: &Profile, task: Task, language: Language) -> Option<Box<Self>> {
        if profile.output.is_empty() {
            return None;
        }
        let chain = Arc::clone(&profile.output);
        let window = Window::new(Arc::clone(&chain));
        Some(Box::new(Self { window, chain, task, ndjson: false, language, parts: Vec::new() }))
    }

    /// Reads a whole answer; an answer that is a stream is left for [`Screen::pass`].
    ///
    /// # Errors
    /// The answer is blocked.
    pub async fn answer(&mut self, shard: &Shard, answered: &mut Answered) -> Result<(), Failure> {
        self.ndjson = answered.is_ndjson();
        let Content::Whole { buffer, start, answer, .. } = &mut answered.content else { return Ok(()) };
        let body = buffer.get(*start..).unwrap_or_default();
        let mut out = Vec::new();
        let result = self.read_whole(shard, body, &mut out).await;
        result.map_err(|blocked| refusal::blocked(&blocked, self.language, true))?;
        if !self.window.is_unchanged() {
            *answer = answer.again(&out, self.task).unwrap_or_default();
            shard.buffers.give(std::mem::replace(buffer, out));
            *start = 0;
        }
        Ok(())
    }

    async fn read_whole(&mut self, shard: &Shard, body: &[u8], out: &mut Vec<u8>) -> Result<(), Blocked> {
        let mut pace = Pace::start();
        self.read_parts(shard, body, body, &mut pace).await?;
        self.window.end(|_| true)?;
        if self.window.is_unchanged() { Ok(()) } else { self.window.event(body, out) }
    }

    /// Takes whole events and appends to `out` those that may leave.
    ///
    /// # Errors
    /// The answer is blocked: nothing more may leave.
    pub async fn pass(&mut self, shard: &Shard, events: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let result = self.read_events(shard, events, out).await;
        result.map_err(|blocked| refusal::blocked(&blocked, self.language, true))
    }

    /// The stream is over: appends what still waits.
    ///
    /// # Errors
    /// The answer is blocked.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.window.finish(out).map_err(|blocked| refusal::blocked(&blocked, self.language, true))
    }

    /// Notes what the scanners came to.
    pub fn note(&self, shard: &Shard, record: &mut Record) {
        record.guarded(shard, &self.chain, true, &self.window.tally());
    }

    /// Counts what the scanners came to, of an answer that is nobody's alone.
    pub fn count(&self, shard: &Shard) {
        access::count_guarded(shard, &self.chain, true, &self.window.tally());
    }

    /// Whether every scanner has done its work.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        !self.window.tally().failed.iter().any(|failed| *failed)
    }

    async fn read_events(&mut self, shard: &Shard, events: &[u8], out: &mut Vec<u8>) -> Result<(), Blocked> {
        let mut pace = None;
        let mut rest = events;
        while !rest.is_empty() {
            let next = if self.ndjson { ndjson::next(rest) } else { sse::next(rest).map(|event| event.raw) };
            let raw = next.unwrap_or(rest);
            rest = rest.get(raw.len()..).unwrap_or_default();
            let data = if self.ndjson { raw.trim_ascii() } else { data_of(raw) };
            self.read_parts(shard, raw, data, pace.get_or_insert_with(Pace::start)).await?;
            self.window.event(raw, out)?;
        }
        Ok(())
    }

    /// Reads the texts of `data`, which is a part of `event`.
    async fn read_parts(
        &mut self,
        shard: &Shard,
        event: &[u8],
        data: &[u8],
        pace: &mut Pace,
    ) -> Result<(), Blocked> {
        let offset = Span::of(event, data).start;
        let mut parts = std::mem::take(&mut self.parts);
        parts.clear();
        speech::parts(self.task, data, &mut |part| parts.push(part));
        for part in &parts {
            match part {
                Part::Text(channel, span) => {
                    let at = Span { start: offset + span.start, end: offset + span.end };
                    self.window.piece(key(*channel), at)?;
                    let mut raw = span.of_bytes(data);
                    while !raw.is_empty() {
                        let (now, later) = raw.split_at(text::cut(raw, STEP));
                        self.window.read(now)?;
                        raw = later;
                        if !raw.is_empty() {
                            pace.step(shard).await;
                        }
                    }
                }
                Part::End(choice) => self.window.end(|key| key >> 16 == *choice)?,
                Part::EndAll => self.window.end(|_| true)?,
            }
        }
        self.parts = parts;
        Ok(())
    }
}

/// A channel as the window's key.
fn key(channel: Channel) -> window::Key {
    channel.choice << 16 | (channel.voice as u32) << 8 | channel.index
}

/// The data of an event as our stream writes it, on one line.
fn data_of(raw: &[u8]) -> &[u8] {
    let event = sse::Event { raw };
    if let Some(data) = event.plain_data() {
        return data;
    }
    event.fields().find(|(name, _)| *name == b"data").map_or(&[], |(_, data)| data)
}
