//! An answer on its way to the client: nothing leaves that a finding may still touch.
//!
//! An answer is a row of events (a whole answer is one), each with pieces of running texts in it. An event leaves, in
//! its place in the row, when every piece in it is settled, that is when no scanner that holds streams back can take it
//! back any more. A finding that blocks ends the row; one that redacts is written into the events it touches, which
//! are all still here. Where a stream is cut into events or reads changes no verdict.
//! Memory: at most [`HELD_BYTES_MAX`] and [`TEXTS_MAX`] texts a stream; beyond, the guard has failed.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::chain::{Chain, Reading, SCANNERS};
use super::verdict::{Finding, Tally};
use crate::config::guard::{Action, ScannerName};
use crate::wire::Span;
use crate::wire::text::{Unescape, raw_spans};

/// Bytes of events that wait at most.
pub const HELD_BYTES_MAX: usize = 1 << 20;
/// Running texts of one answer at most.
pub const TEXTS_MAX: usize = 256;

/// Which running text of an answer; chosen by the caller.
pub type Key = u32;

/// Why an answer ends here.
#[derive(Debug, Clone, PartialEq)]
pub enum Blocked {
    /// Findings that block.
    Found(Vec<Finding>),
    /// A scanner failed, and its failure blocks.
    Failed(ScannerName),
    /// More is held back, or said at once, than there may be.
    Overflow,
}

/// An answer on its way.
pub struct Window {
    chain: Arc<Chain>,
    texts: Vec<Line>,
    queue: VecDeque<Held>,
    held: Vec<u8>,
    /// Pieces of the event that is being read.
    pieces: Vec<Piece>,
    decoded: String,
    tally: Tally,
}

/// One running text.
struct Line {
    key: Key,
    reading: Reading,
    unescape: Unescape,
    bytes: usize,
    settled: usize,
    over: bool,
    judged: usize,
    /// Places that are replaced, in bytes of the text, and by what.
    redactions: Vec<(Range<usize>, String)>,
    /// The text itself from `kept_from` on, where redactions ask for it.
    kept: String,
    kept_from: usize,
}

struct Held {
    bytes: usize,
    pieces: Vec<Piece>,
}

/// A piece of a text in an event.
#[derive(Debug, Clone)]
struct Piece {
    line: usize,
    at: Range<usize>,
    raw: Span,
    before: Unescape,
}

impl Window {
    /// An answer that has not begun.
    #[must_use]
    pub fn new(chain: Arc<Chain>) -> Self {
        Self {
            chain,
            texts: Vec::new(),
            queue: VecDeque::new(),
            held: Vec::new(),
            pieces: Vec::new(),
            decoded: String::new(),
            tally: Tally::default(),
        }
    }

    /// A piece of the text `key` stands at `raw` (the inside of a JSON string) of the event being read. Returns it, for
    /// [`Window::read`].
    ///
    /// # Errors
    /// Too many texts.
    pub fn piece(&mut self, key: Key, raw: Span) -> Result<usize, Blocked> {
        let line = match self.texts.iter().position(|line| line.key == key && !line.over) {
            Some(line) => line,
            None if self.texts.len() >= TEXTS_MAX => return Err(Blocked::Overflow),
            None => {
                self.texts.push(Line::new(key, self.chain.start()));
                self.texts.len() - 1
            }
        };
        let (bytes, before) =
            self.texts.get(line).map_or((0, Unescape::default()), |line| (line.bytes, line.unescape.clone()));
        self.pieces.push(Piece { line, at: bytes..bytes, raw, before });
        Ok(line)
    }

    /// Reads `raw`, the next part of the piece that was begun last, which no escape and no character crosses.
    ///
    /// # Errors
    /// The answer ends here.
    pub fn read(&mut self, raw: &[u8]) -> Result<(), Blocked> {
        let Some(piece) = self.pieces.last_mut() else { return Ok(()) };
        let Some(line) = self.texts.get_mut(piece.line) else { return Ok(()) };
        self.decoded.clear();
        line.unescape.push(raw, &mut self.decoded);
        line.take(&self.chain, &self.decoded);
        piece.at.end = line.bytes;
        line.judge(&self.chain, &mut self.tally)
    }

    /// The texts that `which` accepts are over.
    ///
    /// # Errors
    /// The answer ends here.
    pub fn end(&mut self, which: impl Fn(Key) -> bool) -> Result<(), Blocked> {
        for line in self.texts.iter_mut().filter(|line| !line.over && which(line.key)) {
            self.decoded.clear();
            line.unescape.finish(&mut self.decoded);
            line.take(&self.chain, &self.decoded);
            self.chain.finish(&mut line.reading);
            line.over = true;
            line.judge(&self.chain, &mut self.tally)?;
            line.settled = line.bytes;
        }
        Ok(())
    }

    /// The event whose pieces were read is `event`: appends to `out` what may leave now.
    ///
    /// # Errors
    /// More is held back than may be.
    pub fn event(&mut self, event: &[u8], out: &mut Vec<u8>) -> Result<(), Blocked> {
        if self.queue.is_empty() && self.may_leave(&self.pieces) {
            let pieces = std::mem::take(&mut self.pieces);
            self.write(event, &pieces, out);
            self.pieces = pieces;
            self.pieces.clear();
            if self.texts.len() > TEXTS_MAX / 4 {
                self.drop_ended();
            }
            return Ok(());
        }
        if self.held.len() + event.len() > HELD_BYTES_MAX.max(event.len()) {
            return Err(Blocked::Overflow);
        }
        self.held.extend_from_slice(event);
        self.queue.push_back(Held { bytes: event.len(), pieces: std::mem::take(&mut self.pieces) });
        self.release(out);
        Ok(())
    }

    /// Whether no finding changes the answer.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.texts.iter().all(|line| line.redactions.is_empty())
    }

    /// The answer is over: all of it leaves.
    ///
    /// # Errors
    /// The answer ends here instead.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Blocked> {
        self.end(|_| true)?;
        self.release(out);
        Ok(())
    }

    /// What every scanner has come to, over all texts.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = self.tally.clone();
        for line in &self.texts {
            tally.spent(&line.reading.spent_ns);
        }
        tally
    }

    /// Bytes that wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Drops the texts that are over; nothing waits that points to one.
    fn drop_ended(&mut self) {
        for line in self.texts.iter().filter(|line| line.over) {
            self.tally.spent(&line.reading.spent_ns);
        }
        self.texts.retain(|line| !line.over);
    }

    fn may_leave(&self, pieces: &[Piece]) -> bool {
        pieces.iter().all(|piece| self.texts.get(piece.line).is_none_or(|line| piece.at.end <= line.settled))
    }

    fn release(&mut self, out: &mut Vec<u8>) {
        let mut at = 0;
        while let Some(front) = self.queue.front() {
            if !self.may_leave(&front.pieces) {
                break;
            }
            let Some(front) = self.queue.pop_front() else { break };
            let event = self.held.get(at..at + front.bytes).unwrap_or_default();
            self.write(event, &front.pieces, out);
            at += front.bytes;
        }
        self.held.drain(..at);
        if self.held.is_empty() {
            self.held.shrink_to(4096);
        }
    }

    /// Appends `event` with the redactions of its pieces.
    fn write(&self, event: &[u8], pieces: &[Piece], out: &mut Vec<u8>) {
        let mut edits: Vec<(Span, &str)> = Vec::new();
        for piece in pieces {
            if let Some(line) = self.texts.get(piece.line).filter(|line| !line.redactions.is_empty()) {
                line.edits(piece, event, &mut edits);
            }
        }
        edits.sort_by_key(|(span, _)| span.start);
        let mut at = 0;
        for (span, with) in edits {
            out.extend_from_slice(event.get(at..span.start as usize).unwrap_or_default());
            crate::wire::json::escape_into(out, with);
            at = span.end as usize;
        }
        out.extend_from_slice(event.get(at..).unwrap_or_default());
    }
}

impl Line {
    fn new(key: Key, reading: Reading) -> Self {
        Self {
            key,
            reading,
            unescape: Unescape::default(),
            bytes: 0,
            settled: 0,
            over: false,
            judged: 0,
            redactions: Vec::new(),
            kept: String::new(),
            kept_from: 0,
        }
    }

    fn take(&mut self, chain: &Chain, text: &str) {
        self.bytes += text.len();
        if chain.redacts() {
            self.kept.push_str(text);
        }
        chain.push(&mut self.reading, text);
        self.settled = chain.settled(&self.reading).max(self.settled).min(self.bytes);
        // Redactions are found while their text is unsettled: what is settled need not be kept.
        let settled = self.settled.saturating_sub(self.kept_from);
        if settled > 1024 && self.kept.is_char_boundary(settled) {
            self.kept.drain(..settled);
            self.kept_from += settled;
        }
    }

    /// Judges what was found since the last time.
    fn judge(&mut self, chain: &Chain, tally: &mut Tally) -> Result<(), Blocked> {
        let new = self.judged < self.reading.found.findings.len();
        if !new && self.reading.failed == [false; SCANNERS] {
            return Ok(());
        }
        for name in chain.scanners() {
            let holds = chain.policy(name).is_some_and(|policy| policy.holds);
            let fails = chain.has_failed(&self.reading, name) && tally.fail(name);
            if fails && holds && chain.failure_blocks(name) {
                return Err(Blocked::Failed(name));
            }
        }
        let mut blocking = Vec::new();
        let findings = self.reading.found.findings.get(self.judged..).unwrap_or_default();
        for finding in findings {
            let Some(policy) = chain.policy(finding.scanner) else { continue };
            let action = chain.action(finding.scanner, &self.reading.found);
            let action = if policy.holds { action } else { Action::Monitor };
            tally.find(finding, action);
            match action {
                Action::Block => blocking.push(finding.clone()),
                Action::Redact => {
                    let from = finding.span.start.saturating_sub(self.kept_from);
                    let to = finding.span.end.saturating_sub(self.kept_from);
                    let text = self.kept.get(from..to).unwrap_or_default();
                    self.redactions.push((finding.span.clone(), chain.replacement(finding, text)));
                }
                Action::Monitor => {}
            }
        }
        self.judged = self.reading.found.findings.len();
        merge(&mut self.redactions);
        if blocking.is_empty() { Ok(()) } else { Err(Blocked::Found(blocking)) }
    }

    /// The places of `piece` in `event` that are replaced. A place that began in an earlier event is only taken out.
    fn edits<'a>(&'a self, piece: &Piece, event: &[u8], edits: &mut Vec<(Span, &'a str)>) {
        let raw = piece.raw.of_bytes(event);
        let touched =
            self.redactions.iter().filter(|(span, _)| span.start < piece.at.end && span.end > piece.at.start);
        let (mut spans, mut withs) = (Vec::new(), Vec::new());
        for (span, with) in touched {
            let starts_here = span.start >= piece.at.start;
            spans.push(
                span.start.max(piece.at.start) - piece.at.start..span.end.min(piece.at.end) - piece.at.start,
            );
            withs.push(if starts_here { with.as_str() } else { "" });
        }
        for (span, with) in raw_spans(&piece.before, raw, &spans).into_iter().zip(withs) {
            let start = piece.raw.start;
            edits.push((Span { start: start + span.start, end: start + span.end }, with));
        }
    }
}

/// Sorts redactions and makes one of those that overlap: the first one's words stand for all.
pub fn merge(redactions: &mut Vec<(Range<usize>, String)>) {
    redactions.sort_by(|(a, _), (b, _)| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
    redactions.dedup_by(|(next, _), (kept, _)| {
        let overlaps = next.start < kept.end || next == kept;
        if overlaps {
            kept.end = kept.end.max(next.end);
        }
        overlaps
    });
}

#[cfg(test)]
mod tests;
