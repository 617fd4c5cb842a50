//! A text as it is meant: folded forms for matching, with the way back to the original.
//!
//! [`Folder`] is a transducer over characters: where its input is cut changes nothing. It holds back what a
//! later character may still change (a letter that a mark may follow, a word that may turn out to mix
//! scripts, letters that may turn out to be spaced out), at most [`HELD_MAX`] bytes.
//!
//! Cost: plain ASCII is judged and copied in blocks (`ascii.rs`), some 1 ns a byte; whole words of other
//! scripts in which nothing is disguised after a table look-up a character (`calm.rs`, `table.rs`), 2 to 5
//! ns a byte. What is left goes the long way, character by character (`cluster.rs`, `words.rs`). All three
//! come to the same. The first text of a process waits a millisecond for the table. Compatibility forms:
//! Unicode Standard Annex 15; final sigma: The Unicode Standard, section 3.13.

use std::ops::Range;

use self::calm::{Calm, Note};
use self::cluster::Cluster;
use self::lower::Lower;
use self::words::Words;

mod ascii;
mod calm;
mod cluster;
pub mod decode;
pub mod lookalike;
mod lower;
mod table;
mod words;

#[cfg(test)]
mod tests;

/// Bytes of input that a folder holds back at most.
pub const HELD_MAX: usize = 256;

/// Bytes that are copied in one way before another is tried.
const STRIDE_MIN: usize = 48;
const STRIDE_MAX: usize = 4096;

/// How far a text is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Not at all.
    Raw,
    /// As Python's `str.lower()`.
    Lower,
    /// Compatibility forms, case folding, white space as one space; invisible characters and stray marks
    /// are dropped.
    Unicode,
    /// Look-alikes in mixed words, leetspeak, spaced-out letters too.
    Strict,
}

/// A folded character and the bytes of the original it stands for.
#[derive(Debug, Clone, Copy)]
struct Item {
    ch: char,
    from: usize,
    to: usize,
}

/// From `at` of the folded text on, characters stand for the original at `from`: byte for byte, or, if
/// `whole` is set, all together for the bytes up to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stretch {
    at: usize,
    from: usize,
    whole: Option<usize>,
}

/// Folded text, with the way back.
#[derive(Debug, Clone, Default)]
pub struct Folded {
    text: String,
    base: usize,
    stretches: Vec<Stretch>,
    /// Where the original goes on after the last character.
    open: usize,
    /// Bytes of the original that are folded for good.
    reached: usize,
    /// Characters that were read as another letter than they are, by their offset, and whether they are
    /// signs.
    read: Vec<(usize, bool)>,
    /// What was joined from letters that stood apart.
    joined: Vec<Range<usize>>,
}

impl Folded {
    /// Folded bytes so far, those forgotten included.
    #[must_use]
    pub fn end(&self) -> usize {
        self.base + self.text.len()
    }

    /// What was folded from `from`, an offset of the folded text on a character border.
    #[must_use]
    pub fn tail(&self, from: usize) -> &str {
        self.text.get(from.saturating_sub(self.base)..).unwrap_or_default()
    }

    /// What was folded before `to`, an offset of the folded text on a character border, as far as it is not
    /// forgotten.
    #[must_use]
    pub fn head(&self, to: usize) -> &str {
        self.text.get(..to.saturating_sub(self.base)).unwrap_or_default()
    }

    /// The offset in the original of the character that stands at `at` of the folded text; at the end:
    /// where the folder has got to.
    #[must_use]
    pub fn original(&self, at: usize) -> usize {
        if at >= self.end() {
            return self.reached;
        }
        let stretch = self.stretch(at);
        if stretch.whole.is_some() { stretch.from } else { stretch.from + (at - stretch.at) }
    }

    /// The bytes of the original that `range` of the folded text stands for: characters that fold to
    /// several count whole, and what was dropped behind the last one is left out.
    #[must_use]
    pub fn span(&self, range: Range<usize>) -> Range<usize> {
        let start = self.original(range.start);
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else {
            return start..start;
        };
        let stretch = self.stretch(last);
        start..stretch.whole.unwrap_or(stretch.from + (range.end - stretch.at))
    }

    /// Whether the character at `at` of the folded text was read as a letter but is a sign (`$` as `s`).
    #[must_use]
    pub fn is_sign(&self, at: usize) -> bool {
        !self.read.is_empty() && self.read.binary_search(&(at, true)).is_ok()
    }

    /// Whether something in `range` of the folded text was read as other letters than it is, or joined.
    #[must_use]
    pub fn is_disguised(&self, range: &Range<usize>) -> bool {
        let next = self.read.partition_point(|(at, _)| *at < range.start);
        let joined = self.joined.partition_point(|joined| joined.end <= range.start);
        self.read.get(next).is_some_and(|(at, _)| *at < range.end)
            || self.joined.get(joined).is_some_and(|joined| joined.start < range.end)
    }

    /// Whether `range` of the folded text was joined from letters that stood apart.
    #[must_use]
    pub fn is_joined(&self, range: &Range<usize>) -> bool {
        let index = self.joined.partition_point(|joined| joined.end < range.end);
        self.joined.get(index).is_some_and(|joined| joined.start <= range.start && range.end <= joined.end)
    }

    /// Whether anything behind `at` of the folded text was joined from letters that stood apart.
    #[must_use]
    pub fn is_joined_from(&self, at: usize) -> bool {
        self.joined.last().is_some_and(|joined| joined.end > at)
    }

    /// Drops what stands before `at` of the folded text, and the way back from there.
    pub fn forget(&mut self, at: usize) {
        let bytes = self.text.floor_char_boundary(at.saturating_sub(self.base));
        self.text.drain(..bytes);
        self.base += bytes;
        let at = self.base;
        let index = self.stretches.partition_point(|stretch| stretch.at <= at);
        self.stretches.drain(..index.saturating_sub(1));
        self.read.drain(..self.read.partition_point(|(place, _)| *place < at));
        self.joined.drain(..self.joined.partition_point(|joined| joined.end <= at));
    }

    fn stretch(&self, at: usize) -> Stretch {
        let index = self.stretches.partition_point(|stretch| stretch.at <= at);
        index.checked_sub(1).and_then(|index| self.stretches.get(index)).copied().unwrap_or_default()
    }

    /// Appends one character.
    fn put(&mut self, item: Item) {
        let at = self.end();
        if item.to - item.from == item.ch.len_utf8() {
            self.go_on(at, item.from);
            self.open = item.to;
        } else {
            let stretch = Stretch { at, from: item.from, whole: Some(item.to) };
            let last = self.stretches.last();
            if !last.is_some_and(|last| last.from == stretch.from && last.whole == stretch.whole) {
                self.stretches.push(stretch);
            }
            self.open = usize::MAX;
        }
        self.text.push(item.ch);
    }

    /// Appends `text` as it is, which stands at `from`.
    fn put_text(&mut self, text: &str, from: usize) {
        self.go_on(self.end(), from);
        self.open = from + text.len();
        self.text.push_str(text);
    }

    /// Appends `text` as it is, but capitals of ASCII, which stands at `from`.
    fn put_kept(&mut self, text: &str, from: usize) {
        if text.is_empty() {
            return;
        }
        let start = self.text.len();
        self.put_text(text, from);
        if let Some(new) = self.text.get_mut(start..) {
            new.make_ascii_lowercase();
        }
    }

    /// Appends the ASCII of `plain` in lower case, which stands at `from`; white space becomes spaces if
    /// `spaces`.
    fn put_ascii(&mut self, plain: &str, from: usize, spaces: bool) {
        self.go_on(self.end(), from);
        self.open = from + plain.len();
        ascii::append_lower(plain, spaces, &mut self.text);
    }

    /// The same for text with white space behind white space, which is dropped; `spaced`: white space
    /// stands before it.
    fn put_doubled(&mut self, plain: &str, from: usize, spaced: bool) {
        let bytes = plain.as_bytes();
        let spaces = |at| bytes.iter().skip(at).take_while(|byte| ascii::is_space(**byte)).count();
        // Where the characters start that are not dropped.
        let mut start = if spaced { spaces(0) } else { 0 };
        while start < bytes.len() {
            let end = ascii::doubled(bytes, start + 1).unwrap_or(bytes.len());
            self.put_ascii(plain.get(start..end).unwrap_or_default(), from + start, true);
            start = end + spaces(end);
        }
    }

    /// What is appended at `at` stands byte for byte for the original at `from`.
    fn go_on(&mut self, at: usize, from: usize) {
        if self.open != from {
            self.stretches.push(Stretch { at, from, whole: None });
        }
    }
}

/// Folds a text that comes in pieces.
#[derive(Debug, Clone)]
pub struct Folder {
    level: Level,
    taken: usize,
    lower: Lower,
    cluster: Cluster,
    words: Words,
    /// Whether the last character of the folded text is a space.
    spaced: bool,
    /// Where plain ASCII is looked for again, and how far from there the next time.
    words_until: usize,
    stride: usize,
    /// Kept for its memory.
    notes: Vec<Note>,
}

impl Folder {
    /// At the start of a text.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self {
            level,
            taken: 0,
            lower: Lower::default(),
            cluster: Cluster::default(),
            words: Words::default(),
            spaced: false,
            words_until: 0,
            stride: STRIDE_MIN,
            notes: Vec::new(),
        }
    }

    /// Takes the next piece and appends what is settled to `folded`.
    pub fn push(&mut self, piece: &str, folded: &mut Folded) {
        match self.level {
            Level::Raw => folded.put_text(piece, self.taken),
            Level::Lower => self.lower.push(piece, self.taken, folded),
            Level::Unicode | Level::Strict => self.push_folding(piece, folded),
        }
        self.taken += piece.len();
        folded.reached = self.settled();
    }

    /// The text is over: appends what was held back.
    pub fn finish(&mut self, folded: &mut Folded) {
        match self.level {
            Level::Raw => {}
            Level::Lower => self.lower.finish(folded),
            Level::Unicode | Level::Strict => {
                self.close_cluster(folded);
                if self.level == Level::Strict {
                    self.words.finish(&mut Sink { folded, spaced: &mut self.spaced });
                }
            }
        }
        folded.reached = self.taken;
    }

    /// Bytes of the original that are folded for good.
    #[must_use]
    pub fn settled(&self) -> usize {
        let held = match self.level {
            Level::Raw => None,
            Level::Lower => self.lower.held_from(),
            Level::Unicode => self.cluster.held_from(),
            Level::Strict => self.words.held_from().or(self.cluster.held_from()),
        };
        held.unwrap_or(self.taken)
    }

    fn push_folding(&mut self, piece: &str, folded: &mut Folded) {
        let table = table::table();
        folded.text.reserve(piece.len());
        let mut at = 0;
        while let Some(ch) = piece.get(at..).and_then(|rest| rest.chars().next()) {
            let known = !table.of(ch).is_none();
            if known {
                self.close_cluster(folded);
                let copied = self.copy_calm(piece.get(at..).unwrap_or_default(), self.taken + at, folded);
                at += copied;
                if copied > 0 {
                    continue;
                }
            }
            let item = Item { ch, from: self.taken + at, to: self.taken + at + ch.len_utf8() };
            if known || !self.cluster.join(item) {
                self.close_cluster(folded);
                self.cluster.open(item);
            }
            at += ch.len_utf8();
            if self.level == Level::Strict {
                self.words.reach(item.to, &mut Sink { folded, spaced: &mut self.spaced });
            }
        }
    }

    /// Copies what `rest`, which stands at `from`, starts with as far as nothing in it needs a closer look;
    /// says how many bytes. The last character always stays: a mark may follow it.
    fn copy_calm(&mut self, rest: &str, from: usize, folded: &mut Folded) -> usize {
        let mut at = 0;
        loop {
            let left = rest.get(at..).unwrap_or_default();
            if from + at >= self.words_until {
                let plain = self.copy_plain(left, from + at, folded);
                at += plain;
                // Where there is little plain ASCII, it is looked for less often.
                self.stride = if plain < STRIDE_MIN { (2 * self.stride).min(STRIDE_MAX) } else { STRIDE_MIN };
                self.words_until = from + at + self.stride;
            }
            let (calm, goes_on) = self.copy_words(rest.get(at..).unwrap_or_default(), from + at, folded);
            at += calm;
            if !goes_on {
                return at;
            }
        }
    }

    /// Copies the plain ASCII that `rest`, which stands at `from`, starts with; says how many bytes of it.
    fn copy_plain(&mut self, rest: &str, from: usize, folded: &mut Folded) -> usize {
        let bytes = rest.as_bytes();
        let plain = match self.level {
            _ if bytes.len() < STRIDE_MIN || !bytes.first().is_some_and(u8::is_ascii) => return 0,
            Level::Strict if !self.words.is_idle() => return 0,
            Level::Strict => ascii::words(bytes, self.spaced),
            _ => ascii::characters(bytes, self.spaced),
        };
        let Some(text) = rest.get(..plain.length).filter(|text| !text.is_empty()) else { return 0 };
        if plain.doubled {
            folded.put_doubled(text, from, self.spaced);
        } else {
            folded.put_ascii(text, from, true);
        }
        self.spaced = text.bytes().next_back().is_some_and(ascii::is_space);
        self.words.passed(text);
        plain.length
    }

    /// Copies the calm characters that `rest`, which stands at `from`, starts with, under `Strict` whole
    /// words of them; says how many bytes, and whether what follows may be calm as well.
    fn copy_words(&mut self, rest: &str, from: usize, folded: &mut Folded) -> (usize, bool) {
        let limit = self.words_until.saturating_sub(from).max(1);
        let mut calm = Calm::new(self.words.latin(), self.spaced, &mut self.notes);
        match self.level {
            Level::Strict if !self.words.is_idle() || self.words.has_joined() => return (0, false),
            Level::Strict => calm.read_words(rest, limit),
            _ => calm.read_characters(rest, limit),
        }
        let mut start = 0;
        for note in calm.notes() {
            folded.put_kept(rest.get(start..note.from).unwrap_or_default(), from + start);
            if let Some(ch) = note.folded {
                folded.put(Item { ch, from: from + note.from, to: from + note.to });
            }
            start = note.to;
        }
        folded.put_kept(rest.get(start..calm.length).unwrap_or_default(), from + start);
        self.spaced = calm.spaced;
        self.words.passed_words(calm.latin);
        (calm.length, calm.goes_on)
    }

    /// No mark follows any more: folds the held character and hands it on.
    fn close_cluster(&mut self, folded: &mut Folded) {
        let mut sink = Sink { folded, spaced: &mut self.spaced };
        let words = &mut self.words;
        if self.level == Level::Strict {
            self.cluster.close(&mut |item| words.take(item, &mut sink));
        } else {
            self.cluster.close(&mut |item| sink.put(item));
        }
    }
}

/// Where folded characters go: runs of white space become one space.
struct Sink<'a> {
    folded: &'a mut Folded,
    spaced: &'a mut bool,
}

impl Sink<'_> {
    fn put(&mut self, item: Item) {
        let space = item.ch == ' ';
        if !(space && *self.spaced) {
            self.folded.put(item);
        }
        *self.spaced = space;
    }
}
