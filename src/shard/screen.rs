//! The guard at work: reading requests before they leave, and answers before they arrive.
//!
//! `guard` decides; this module feeds it, turns what it finds into a failure or a changed body, and takes a turn
//! through the kernel whenever the shard was held for [`SLICE_NS`].

use std::sync::Arc;

use super::Shard;
use super::access::Record;
use super::relay::{Answered, Content};
use crate::api::speech::{self, Channel, Part};
use crate::api::{Failure, FailureKind, Task, Texts, View};
use crate::config::guard::{Action, Language, Messages, Role, ScannerName};
use crate::guard::chain::Chain;
use crate::guard::verdict::{Found, Tally};
use crate::guard::window::{self, Blocked, Window};
use crate::guard::{self, Profile, message};
use crate::net::clock;
use crate::wire::text::{self, Unescape};
use crate::wire::{Span, json, ndjson, sse};

/// Nanoseconds that scanning may hold the shard before others have their turn.
const SLICE_NS: u64 = 100_000;
/// Bytes that are scanned between two looks at the clock.
pub const STEP: usize = 2048;

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
    let last = texts.items.iter().rfind(|item| item.role == Role::User).or(texts.items.last());
    let language = profile.language(last.map_or("", |item| texts.text(item)));
    let mut tally = Tally::default();
    let result = read_request(shard, profile, texts, body, view, &mut tally).await;
    record.guarded(shard, &profile.input, false, &tally);
    result.map(|()| language).map_err(|blocked| failure(&blocked, language, false))
}

async fn read_request(
    shard: &Shard,
    profile: &Profile,
    texts: &Texts,
    body: &[u8],
    view: &mut View,
    tally: &mut Tally,
) -> Result<(), Blocked> {
    let chain = &profile.input;
    let last = texts.items.iter().filter(|item| profile.reads(item.role)).map(|item| item.message).max();
    let items: Vec<_> = texts
        .items
        .iter()
        .filter(|item| profile.reads(item.role))
        .filter(|item| profile.messages == Messages::All || Some(item.message) == last)
        .collect();
    let mut pace = Pace::start();
    let read = items.iter().map(|item| texts.text(item));
    count_tokens(shard, chain, read, tally, &mut pace).await?;
    for item in items {
        let text = texts.text(item);
        let found = read_text(shard, profile, text, tally, &mut pace).await?;
        let mut blocking = Vec::new();
        let mut redactions = Vec::new();
        for finding in &found.findings {
            let action = chain.action(finding.scanner, &found);
            tally.find(finding, action);
            match action {
                Action::Block => blocking.push(finding.clone()),
                Action::Redact => {
                    let secret = text.get(finding.span.clone()).unwrap_or_default();
                    redactions.push((finding.span.clone(), chain.replacement(finding, secret)));
                }
                Action::Monitor => {}
            }
        }
        if !blocking.is_empty() {
            return Err(Blocked::Found(blocking));
        }
        window::merge(&mut redactions);
        let spans: Vec<_> = redactions.iter().map(|(span, _)| span.clone()).collect();
        let raw = text::raw_spans(&Unescape::default(), item.raw.of_bytes(body), &spans);
        for (span, (_, with)) in raw.into_iter().zip(redactions) {
            let mut inside = Vec::new();
            json::escape_into(&mut inside, &with);
            let start = item.raw.start;
            view.redactions.push((Span { start: start + span.start, end: start + span.end }, inside));
        }
    }
    Ok(())
}

/// What is found in one text, now or when it was read before.
async fn read_text(
    shard: &Shard,
    profile: &Profile,
    text: &str,
    tally: &mut Tally,
    pace: &mut Pace,
) -> Result<Arc<Found>, Blocked> {
    if text.trim().is_empty() {
        return Ok(Arc::default());
    }
    let chain = &profile.input;
    let key = shard.recent.borrow().key(&profile.name, text);
    if let Some(known) = key.and_then(|key| shard.recent.borrow().get(key)) {
        shard.metrics().guard.remembered.add(1);
        return Ok(known);
    }
    let mut inspection = chain.inspect();
    while !chain.step(&mut inspection, text, STEP) {
        pace.step(shard).await;
    }
    let reading = &inspection.reading;
    tally.spent(&reading.spent_ns);
    let mut whole = true;
    for name in chain.scanners().filter(|name| chain.has_failed(reading, *name)) {
        whole = false;
        if tally.fail(name) && chain.failure_blocks(name) {
            return Err(Blocked::Failed(name));
        }
    }
    let found = Arc::new(inspection.reading.found);
    if let Some(key) = key.filter(|_| whole) {
        shard.recent.borrow_mut().put(key, Arc::clone(&found));
    }
    Ok(found)
}

/// Counts the tokens of all texts together, if they can be too many.
async fn count_tokens<'a>(
    shard: &Shard,
    chain: &Chain,
    texts: impl Iterator<Item = &'a str> + Clone,
    tally: &mut Tally,
    pace: &mut Pace,
) -> Result<(), Blocked> {
    let Some(tokens) = chain.tokens() else { return Ok(()) };
    if !tokens.may_exceed(texts.clone().map(str::len).sum()) {
        return Ok(());
    }
    let (mut state, mut found) = (tokens.start(), Found::default());
    let since_ns = clock::now_ns();
    for text in texts {
        loop {
            match chain.count(&mut state, text, STEP, &mut found) {
                Some(true) => break,
                Some(false) => pace.step(shard).await,
                None if tally.fail(ScannerName::TokenLimit)
                    && chain.failure_blocks(ScannerName::TokenLimit) =>
                {
                    return Err(Blocked::Failed(ScannerName::TokenLimit));
                }
                None => break,
            }
        }
    }
    let mut spent = [0; guard::chain::SCANNERS];
    spent[ScannerName::TokenLimit as usize] = clock::now_ns().saturating_sub(since_ns);
    tally.spent(&spent);
    let action = chain.policy(ScannerName::TokenLimit).map_or(Action::Monitor, |policy| policy.action);
    found.findings.iter().for_each(|finding| tally.find(finding, action));
    if found.findings.is_empty() || action == Action::Monitor {
        Ok(())
    } else {
        Err(Blocked::Found(found.findings))
    }
}

/// What the client is told.
fn failure(blocked: &Blocked, language: Language, output: bool) -> Failure {
    let reasons = match blocked {
        Blocked::Found(findings) => guard::reasons(findings),
        Blocked::Failed(name) => vec![(name.name(), "failed")],
        Blocked::Overflow => vec![(guard::WINDOW, "too much text is held back")],
    };
    let names: Vec<&str> = reasons.iter().map(|(name, _)| *name).collect();
    let kind = if output { FailureKind::ResponseBlocked } else { FailureKind::PromptBlocked };
    let text = message::blocked(language, output, &reasons);
    Failure { scanners: Some(names.join(",")), ..Failure::new(kind, text) }
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
        result.map_err(|blocked| failure(&blocked, self.language, true))?;
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
        result.map_err(|blocked| failure(&blocked, self.language, true))
    }

    /// The stream is over: appends what still waits.
    ///
    /// # Errors
    /// The answer is blocked.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        self.window.finish(out).map_err(|blocked| failure(&blocked, self.language, true))
    }

    /// Notes what the scanners came to.
    pub fn note(&self, shard: &Shard, record: &mut Record) {
        record.guarded(shard, &self.chain, true, &self.window.tally());
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
