//! A text as it is meant: folded forms for matching, with the way back to the original.
//!
//! [`Folder`] is a transducer over characters: where its input is cut changes nothing. It holds back what a
//! later character may still change (a letter that a mark may follow, a word that may turn out to mix
//! scripts, letters that may turn out to be spaced out), at most [`HELD_MAX`] bytes.
//!
//! Cost: runs of plain ASCII are copied in blocks (see `ascii.rs`) and need no entry in the map back; every
//! other character costs a few table look-ups. Compatibility forms: Unicode Standard Annex 15; final sigma:
//! The Unicode Standard, section 3.13.

use std::ops::Range;

use self::cluster::Cluster;
use self::lower::Lower;
use self::words::Words;

#[path = "text/ascii.rs"]
mod ascii;
#[path = "text/cluster.rs"]
mod cluster;
#[path = "text/decode.rs"]
pub mod decode;
#[path = "text/lookalike.rs"]
pub mod lookalike;
#[path = "text/lower.rs"]
mod lower;
#[path = "text/words.rs"]
mod words;

#[cfg(test)]
#[path = "text/tests.rs"]
mod tests;

/// Bytes of input that a folder holds back at most.
pub const HELD_MAX: usize = 256;

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

    /// Appends the ASCII of `plain` in lower case, which stands at `from`; white space becomes spaces if
    /// `spaces`.
    fn put_ascii(&mut self, plain: &str, from: usize, spaces: bool) {
        self.go_on(self.end(), from);
        self.open = from + plain.len();
        ascii::append_lower(plain, spaces, &mut self.text);
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
    /// How often not to look for plain words, now and after the next failure.
    skips: u8,
    patience: u8,
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
            skips: 0,
            patience: 0,
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
        let mut at = 0;
        while let Some(rest) = piece.get(at..).filter(|rest| !rest.is_empty()) {
            let ascii = rest.as_bytes().first().is_some_and(u8::is_ascii);
            if ascii || self.level == Level::Unicode && rest.chars().next().is_some_and(cluster::is_kept) {
                self.close_cluster(folded);
                at += self.copy_plain(rest, ascii, self.taken + at, folded);
            }
            let Some(ch) = piece.get(at..).and_then(|rest| rest.chars().next()) else { return };
            let item = Item { ch, from: self.taken + at, to: self.taken + at + ch.len_utf8() };
            if !self.cluster.join(item) {
                self.close_cluster(folded);
                self.cluster.open(item);
            }
            at += ch.len_utf8();
            if self.level == Level::Strict {
                self.words.reach(item.to, &mut Sink { folded, spaced: &mut self.spaced });
            }
        }
    }

    /// Copies the plain text that `rest`, which stands at `from`, starts with, ASCII or not; says how many
    /// bytes of it. The last character always stays: a mark may follow it.
    fn copy_plain(&mut self, rest: &str, ascii: bool, from: usize, folded: &mut Folded) -> usize {
        let bytes = rest.as_bytes();
        if !ascii {
            let kept = rest.get(..cluster::kept(rest, self.spaced)).unwrap_or_default();
            let last = kept.chars().next_back().map_or(0, char::len_utf8);
            let kept = kept.get(..kept.len() - last).unwrap_or_default();
            if !kept.is_empty() {
                folded.put_text(kept, from);
                self.spaced = kept.ends_with(' ');
            }
            return kept.len();
        }
        let length = match self.level {
            Level::Strict if !self.words.is_idle() => 0,
            Level::Strict => self.calm(bytes),
            _ => ascii::single_spaced(bytes, self.spaced).saturating_sub(1),
        };
        let Some(plain) = rest.get(..length).filter(|plain| !plain.is_empty()) else { return 0 };
        folded.put_ascii(plain, from, true);
        self.spaced = plain.bytes().next_back().is_some_and(ascii::is_space);
        self.words.passed(plain);
        length
    }

    /// Bytes of words that need no closer look. Where there have been none, it is asked less often: that
    /// only costs time.
    fn calm(&mut self, bytes: &[u8]) -> usize {
        if self.skips > 0 {
            self.skips -= 1;
            return 0;
        }
        let length = ascii::calm_words(bytes, self.spaced);
        self.patience = if length > 0 { 0 } else { (2 * self.patience + 1).min(31) };
        self.skips = self.patience;
        length
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
