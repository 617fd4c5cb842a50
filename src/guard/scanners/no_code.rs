//! `NoCode`: program code in answers, by language (LLM Guard's `Code` and `BanCode`).
//!
//! What is code: the 26 languages of LLM Guard, and Shell, SQL, Haskell, Lisp, MATLAB and what else computes ("code").
//! Prose, tables, logs, maths, JSON, YAML, TOML, HTML, XML, CSS, LaTeX and container recipes are not, unless an
//! operator names them. `languages` takes LLM Guard's names and fence tags; empty means all code. `is_blocked`: those
//! are findings; otherwise all code but those is, and prose never (LLM Guard refuses prose then).
//!
//! - A fenced block with a known tag is judged by the tag, at the end of its opening line. Other blocks are read by
//!   [`model`] every 8 lines or 400 bytes (800 within a line), half of what was known before being remembered.
//! - Inline code is read when it holds a whole statement or call.
//! - Running text is cut into units: paragraphs, at most 400 bytes to the end of a line, 800 within one. A unit is
//!   read when it ends, from the line with the first sign of code ([`structure`]) on, with a doubt in favour of prose.
//! - One finding a block or unit. Its score is the probability of the forbidden classes together.
//!
//! Delay. Plain prose: none, but the first letters of a line while they may become a keyword or a fence. After a sign
//! of code: to the end of the unit, at most 800 bytes. From a backtick: to its partner, at most 256 bytes. A block:
//! its opening line if that has a known tag, else to the next reading. A span begins at the first byte that was still
//! held: nothing that was reported as settled is ever part of a finding.
//!
//! Where the text is cut changes nothing: every decision stands at a place that the text alone determines. Memory a
//! stream: at most 8 KB. Cost: prose 1.6 ns a byte, code that is read 8, blocks with a tag 1.4; 20 ns a push.

mod features;
mod fences;
mod languages;
mod model;
mod structure;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use memchr::{memchr, memchr2, memchr3};

use crate::config::guard::{NoCode as Settings, ScannerName};
use crate::guard::verdict::{Finding, Found};

use fences::{CLOSING_MAX, Fence, Opening, closes, fence, is_prefix, may_be_fence, opening, says};
use languages::{CLASS_COUNT, CLASSES, OTHER_CODE, PROGRAM_END, Tag, by_name};
use model::{Model, Scores, probabilities};
use structure::{Mark, Word, first_word};

/// Lines after which a block is read.
const CHUNK_LINES: usize = 8;

/// Bytes after which a block or unit is read at the next end of a line.
const CHUNK: usize = 400;

/// Bytes after which it is read anywhere.
const CHUNK_MAX: usize = 800;

/// Bytes of inline code, with its backticks.
const INLINE_MAX: usize = 256;

/// Bytes before a line's first word, and signs of one fence.
const PREFIX_MAX: usize = 32;

/// Bytes that are taken in at a time.
const SLICE: usize = 4096;

/// Bytes that are dropped at a time.
const FORGET: usize = 512;

/// How much likelier prose is than code outside of fences, as a logarithm.
const DOUBT: f32 = 1.0;

/// The scanner, shared by all streams.
#[derive(Debug)]
pub struct NoCode {
    model: &'static Model,
    forbidden: [bool; CLASS_COUNT],
    threshold: f32,
}

/// Where a stream stands.
#[derive(Debug, Clone)]
pub struct State {
    /// What may still have to be read, from `base` on.
    text: Vec<u8>,
    base: usize,
    /// Everything before it has been looked at for good.
    at: usize,
    unit: Unit,
    mode: Mode,
    /// Whether a finding's reason was looked for: it costs as much as the reading, so it is done once a text.
    explained: bool,
    /// The highest probability that the model gave.
    best: f32,
}

/// A paragraph of running text, or a part of one.
#[derive(Debug, Clone, Default)]
struct Unit {
    start: usize,
    /// Where the current line starts.
    line: usize,
    held: Option<Held>,
}

/// The first sign of code in a unit.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Where it stands: nothing from here on is settled.
    from: usize,
    /// Where its line starts: the model reads from here.
    line: usize,
}

#[derive(Debug, Clone)]
enum Mode {
    /// At the start of a line of running text.
    Head,
    /// In a line of running text.
    Line,
    /// In a fenced block.
    Block(Block),
}

#[derive(Debug, Clone)]
struct Block {
    fence: Fence,
    /// Whether its parts are still read.
    open: bool,
    /// Whether it was a finding.
    found: bool,
    /// Where the span of a finding would begin.
    from: usize,
    /// Where the part to be read next starts.
    chunk: usize,
    lines: usize,
    line: usize,
    before: Option<Box<Scores>>,
}

impl NoCode {
    /// A scanner with these settings.
    ///
    /// # Errors
    /// A language is unknown.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let mut named = [settings.languages.is_empty(); CLASS_COUNT];
        if let Some(data) = named.get_mut(PROGRAM_END..) {
            data.fill(false);
        }
        for name in &settings.languages {
            let class = by_name(name).and_then(|class| named.get_mut(class));
            *class.ok_or_else(|| unknown(name))? = true;
        }
        let forbidden = std::array::from_fn(|class| {
            let named = named.get(class).copied().unwrap_or_default();
            if settings.is_blocked { named } else { !named && class < PROGRAM_END }
        });
        Ok(Self { model: shipped()?, forbidden, threshold: settings.threshold })
    }

    /// The state before the first byte.
    #[must_use]
    pub fn start(&self) -> State {
        State {
            text: Vec::new(),
            base: 0,
            at: 0,
            unit: Unit::default(),
            mode: Mode::Head,
            explained: false,
            best: 0.0,
        }
    }

    /// Reads on.
    pub fn push(&self, state: &mut State, piece: &str, found: &mut Found) {
        for slice in piece.as_bytes().chunks(SLICE) {
            state.text.extend_from_slice(slice);
            self.advance(state, found);
            state.forget();
        }
    }

    /// The text has ended.
    pub fn finish(&self, state: &mut State, found: &mut Found) {
        let (end, first) = (state.end(), found.findings.len());
        // As if the last line had its end.
        state.text.push(b'\n');
        self.advance(state, found);
        if let Mode::Block(block) = &mut state.mode {
            let mut block = block.clone();
            self.judge_block(state, &mut block, end, found);
        } else {
            self.end_unit(state, end, found);
        }
        for finding in found.findings.iter_mut().skip(first) {
            finding.span.end = finding.span.end.min(end);
        }
        *state = State { base: end, at: end, ..self.start() };
    }

    /// Bytes from the start that no finding to come can touch.
    #[must_use]
    pub fn settled(&self, state: &State) -> usize {
        match &state.mode {
            Mode::Head | Mode::Line => state.unit.held.map_or(state.at, |held| held.from.min(state.at)),
            Mode::Block(block) if block.open => block.from,
            // The line may turn out to open a block of its own.
            Mode::Block(block) if !block.found && may_be_fence(state.rest(block.line)) => block.line,
            Mode::Block(_) => state.end(),
        }
    }

    /// Takes steps until more text is needed.
    fn advance(&self, state: &mut State, found: &mut Found) {
        loop {
            let mode = std::mem::replace(&mut state.mode, Mode::Head);
            let (mode, more) = match mode {
                Mode::Head => self.head(state, found),
                Mode::Line => self.line(state, found),
                Mode::Block(block) => self.block(state, block, found),
            };
            state.mode = mode;
            if !more {
                return;
            }
        }
    }

    /// At the start of a line: blank, a fence, a keyword, or text. The mode that follows, and whether to go on.
    fn head(&self, state: &mut State, found: &mut Found) -> (Mode, bool) {
        let line = state.at;
        let rest = state.rest(line);
        let prefix = rest.iter().take(PREFIX_MAX).take_while(|byte| is_prefix(**byte)).count();
        let Some(&byte) = rest.get(prefix) else { return (Mode::Head, false) };
        let run = line + prefix;
        match byte {
            b'\n' => {
                self.end_unit(state, run + 1, found);
                (Mode::Head, true)
            }
            b'`' => self.ticks(state, run, line, found).unwrap_or((Mode::Head, false)),
            b'~' if prefix < PREFIX_MAX => match opening(rest.get(prefix..).unwrap_or_default()) {
                Opening::More => (Mode::Head, false),
                Opening::Block(fence, tag, length) => {
                    (self.open(state, line, run + length, fence, tag, found), true)
                }
                Opening::Inline(_) | Opening::Text(_) => (Mode::Line, true),
            },
            _ => {
                match first_word(rest.get(prefix..).unwrap_or_default()) {
                    Word::Open => return (Mode::Head, false),
                    Word::Keyword => state.hold(line),
                    Word::Plain => {}
                }
                state.at = run;
                (Mode::Line, true)
            }
        }
    }

    /// In a line: the next mark.
    fn line(&self, state: &mut State, found: &mut Found) -> (Mode, bool) {
        let limit = state.unit.start + CHUNK_MAX;
        let text =
            state.text.get(..limit.saturating_sub(state.base).min(state.text.len())).unwrap_or_default();
        let from = state.at - state.base;
        let mark = if state.unit.held.is_none() {
            structure::next(text, from)
        } else {
            let at = memchr2(b'\n', b'`', text.get(from..).unwrap_or_default()).map(|at| at + from);
            at.map(|at| (at, if text.get(at) == Some(&b'`') { Mark::Tick } else { Mark::Line }))
        };
        let Some((at, mark)) = mark.map(|(at, mark)| (at + state.base, mark)) else {
            return self.cut(state, limit, found);
        };
        state.at = at;
        match mark {
            Mark::Sign => {
                state.hold(at);
                (Mode::Line, true)
            }
            Mark::Tick => self.ticks(state, at, at, found).unwrap_or((Mode::Line, false)),
            Mark::Line => {
                state.at = at + 1;
                state.unit.line = at + 1;
                if state.at - state.unit.start >= CHUNK {
                    self.end_unit(state, at + 1, found);
                }
                (Mode::Head, true)
            }
        }
    }

    /// No mark before `limit`: the unit ends there, if the text goes that far.
    fn cut(&self, state: &mut State, limit: usize, found: &mut Found) -> (Mode, bool) {
        state.at = state.at.max(limit.min(state.end()));
        let rest = state.rest(state.at);
        let Some(skip) = rest.iter().position(|byte| !is_continuation(*byte)) else {
            return (Mode::Line, false);
        };
        let end = state.at + skip;
        self.end_unit(state, end, found);
        (Mode::Line, true)
    }

    /// At a run of backticks at `run`: a block (its span from `from`), inline code or text; `None`: more is needed.
    fn ticks(&self, state: &mut State, run: usize, from: usize, found: &mut Found) -> Option<(Mode, bool)> {
        let at_head = from == state.unit.line;
        match opening(state.rest(run)) {
            Opening::More => return None,
            Opening::Block(fence, tag, length) if at_head || matches!(tag, Tag::Class(_)) => {
                return Some((self.open(state, from, run + length, fence, tag, found), true));
            }
            Opening::Block(fence, ..) => state.at = run + fence.count,
            Opening::Inline(length) => {
                let end = run + length;
                self.judge_inline(state, run, end, found);
                state.at = end;
            }
            Opening::Text(length) => {
                state.hold(from);
                state.at = run + length;
            }
        }
        Some((Mode::Line, true))
    }

    /// A block was opened by a line that ends before `end`.
    fn open(
        &self,
        state: &mut State,
        from: usize,
        end: usize,
        fence: Fence,
        tag: Tag,
        found: &mut Found,
    ) -> Mode {
        self.end_unit(state, from, found);
        state.at = end;
        let open = tag == Tag::Silent;
        let mut block =
            Block { fence, open, found: false, from, chunk: end, lines: 0, line: end, before: None };
        if let Tag::Class(class) = tag
            && self.forbidden.get(class).copied().unwrap_or_default()
        {
            block.found = true;
            let tag = state.slice(from, end);
            let tag = String::from_utf8_lossy(tag)
                .trim_matches([' ', '\n', '\r', '\t', '`', '~', '>', '-'])
                .to_owned();
            let reason = format!("tag {}", tag.chars().take(24).collect::<String>().escape_debug());
            found.add(finding(class, from, end, 1.0, reason));
        }
        Mode::Block(block)
    }

    /// In a block: the next line of it.
    fn block(&self, state: &mut State, mut block: Block, found: &mut Found) -> (Mode, bool) {
        let Some(length) = memchr(b'\n', state.rest(state.at)) else {
            let limit = block.chunk + CHUNK_MAX;
            state.at = state.end();
            if block.open && state.at > limit {
                let rest = state.rest(limit);
                if let Some(skip) = rest.iter().position(|byte| !is_continuation(*byte)) {
                    state.at = limit + skip;
                    self.judge_block(state, &mut block, limit + skip, found);
                    return (Mode::Block(block), true);
                }
            }
            return (Mode::Block(block), false);
        };
        let (line, end) = (block.line, state.at + length + 1);
        if block.open && end - 1 > block.chunk + CHUNK_MAX {
            // The line is longer than a part may be: as if its end were not there yet.
            return self.cut_block(state, block, found);
        }
        state.at = end;
        if end - line <= CLOSING_MAX {
            let bytes = state.slice(line, end - 1);
            if closes(bytes, block.fence) {
                self.judge_block(state, &mut block, line, found);
                state.unit = Unit { start: end, line: end, held: None };
                return (Mode::Head, true);
            }
            if let Some((inner, info)) = fence(bytes).filter(|_| !block.found)
                && let tag @ Tag::Class(_) = says(info)
            {
                self.judge_block(state, &mut block, line, found);
                state.unit = Unit { start: line, line, held: None };
                return (self.open(state, line, end, inner, tag, found), true);
            }
        }
        block.line = end;
        block.lines += 1;
        if block.open && (block.lines >= CHUNK_LINES || end - block.chunk >= CHUNK) {
            self.judge_block(state, &mut block, end, found);
        }
        (Mode::Block(block), true)
    }

    /// Reads a part of a line that is too long.
    fn cut_block(&self, state: &mut State, mut block: Block, found: &mut Found) -> (Mode, bool) {
        let limit = block.chunk + CHUNK_MAX;
        let skip = state.rest(limit).iter().position(|byte| !is_continuation(*byte)).unwrap_or_default();
        state.at = limit + skip;
        self.judge_block(state, &mut block, limit + skip, found);
        (Mode::Block(block), true)
    }

    /// Reads the part of a block that ends at `end`.
    fn judge_block(&self, state: &mut State, block: &mut Block, end: usize, found: &mut Found) {
        let text = state.slice(block.chunk, end);
        if block.open && !text.trim_ascii().is_empty() {
            let mut scores = self.model.scores(text);
            if let Some(before) = &block.before {
                for (score, before) in scores.iter_mut().zip(before.iter()) {
                    *score += before * 0.5;
                }
            }
            block.found = self.judge(state, &scores, block.chunk..end, block.from, found);
            block.open = !block.found;
            block.before = Some(Box::new(scores));
        }
        block.from = end;
        block.chunk = end;
        block.lines = 0;
    }

    /// Reads inline code, backticks at both ends.
    fn judge_inline(&self, state: &mut State, from: usize, end: usize, found: &mut Found) {
        let text = state.slice(from, end);
        if is_statement(text) {
            let scores = doubted(self.model.scores(text));
            self.judge(state, &scores, from..end, from, found);
        }
    }

    /// The unit ends before `end`: it is read if there was a sign of code. The next one begins.
    fn end_unit(&self, state: &mut State, end: usize, found: &mut Found) {
        if let Some(held) = state.unit.held.take()
            && held.from < end
        {
            let text = state.slice(held.line, end);
            let mut scores = doubted(self.model.scores(text));
            // Nothing but a keyword speaks for code: lines of verse begin with `for` and `return` as well.
            if memchr3(b'(', b'=', b'{', text).is_none() && memchr3(b';', b'"', b'<', text).is_none() {
                scores = doubted(scores);
            }
            self.judge(state, &scores, held.line..end, held.from, found);
        }
        state.unit = Unit { start: end, line: end, held: None };
        state.at = end;
    }

    /// Whether `scores`, of the text at `read`, make a finding, which begins at `from`.
    fn judge(
        &self,
        state: &mut State,
        scores: &Scores,
        read: Range<usize>,
        from: usize,
        found: &mut Found,
    ) -> bool {
        let (class, score) = self.verdict(scores);
        state.best = state.best.max(score);
        if score <= 0.0 || score < self.threshold {
            return false;
        }
        let mut reason = String::new();
        if !state.explained {
            state.explained = true;
            reason = self.model.reason(&String::from_utf8_lossy(state.slice(read.start, read.end)), class);
        }
        found.add(finding(class, from, read.end, score, reason));
        true
    }

    /// The highest probability of forbidden code so far.
    #[must_use]
    pub fn best(&self, state: &State) -> f32 {
        state.best
    }

    /// The likeliest forbidden class, and the probability of them all.
    fn verdict(&self, scores: &Scores) -> (usize, f32) {
        let shares = probabilities(scores);
        let forbidden =
            shares.iter().zip(&self.forbidden).enumerate().filter(|(_, (_, forbidden))| **forbidden);
        let (class, best, sum) =
            forbidden.fold((OTHER_CODE, 0.0, 0.0), |(class, best, sum), (index, (share, _))| {
                if *share > best { (index, *share, sum + share) } else { (class, best, sum + share) }
            });
        (class, if best > 0.0 { sum.min(1.0) } else { 0.0 })
    }
}

impl State {
    fn end(&self) -> usize {
        self.base + self.text.len()
    }

    fn rest(&self, from: usize) -> &[u8] {
        self.text.get(from.saturating_sub(self.base)..).unwrap_or_default()
    }

    fn slice(&self, from: usize, end: usize) -> &[u8] {
        self.text.get(from.saturating_sub(self.base)..end.saturating_sub(self.base)).unwrap_or_default()
    }

    /// Nothing from `from` on is settled until the unit was read.
    fn hold(&mut self, from: usize) {
        self.unit.held.get_or_insert(Held { from, line: self.unit.line });
    }

    /// Drops what will not be read again, but for the byte before: signs are pairs.
    fn forget(&mut self) {
        let keep = match &self.mode {
            Mode::Head | Mode::Line => self.unit.held.map_or(self.unit.line, |held| held.line),
            Mode::Block(block) if block.open => block.chunk,
            Mode::Block(block) if self.end() - block.line <= CLOSING_MAX => block.line,
            Mode::Block(_) => self.end(),
        };
        let drop = keep.min(self.at).saturating_sub(self.base + 1).min(self.text.len());
        if drop >= FORGET {
            self.text.drain(..drop);
            self.base += drop;
        }
    }
}

/// Whether inline code, backticks included, says something: an assignment, a call with arguments, a statement.
fn is_statement(text: &[u8]) -> bool {
    let has = |sign: u8| memchr(sign, text).is_some();
    let call = memchr(b'(', text).is_some_and(|at| text.get(at + 1).is_some_and(|byte| *byte != b')'));
    (12..=INLINE_MAX).contains(&text.len()) && (has(b';') || has(b'=') || has(b'{') || call)
}

/// Scores of text that stands outside of blocks.
fn doubted(mut scores: Scores) -> Scores {
    for score in scores.iter_mut().skip(PROGRAM_END) {
        *score += DOUBT;
    }
    scores
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

fn finding(class: usize, from: usize, end: usize, score: f32, reason: String) -> Finding {
    let rule = Cow::Borrowed(CLASSES.get(class).copied().unwrap_or("code"));
    Finding { scanner: ScannerName::NoCode, rule, span: from..end, score, reason }
}

/// The model that ships.
fn shipped() -> Result<&'static Model, String> {
    static SHIPPED: OnceLock<Option<Model>> = OnceLock::new();
    let model = SHIPPED.get_or_init(|| Model::parse(include_bytes!("../models/code.bin")));
    model.as_ref().ok_or_else(|| "NoCode: the embedded model is damaged".to_owned())
}

fn unknown(name: &str) -> String {
    let known = CLASSES.get(..OTHER_CODE).unwrap_or_default().join(", ");
    format!("NoCode: unknown language {name:?}; known: {known}; or a fence tag such as `ts` or `bash`")
}
