//! Stretches of text that need no closer look, told from a table, character by character.
//!
//! What `cluster.rs` and `words.rs` would do with a stretch is worked out here from what its characters
//! are, and only stretches are taken that come out as they went in, but for case, white space and forms.
//! Where that is in doubt, the stretch ends before the word, and the long way decides.
//!
//! Cost: some 2 ns a character; what changes is noted on the way, the rest is copied at once.

use std::str::CharIndices;

use super::table::{self, Entry, Table, table};
use super::words::{APART_MIN, LENGTH_MAX};

/// Changes that are noted of a stretch.
const NOTES_MAX: usize = 256;

/// A start of a text in which nothing is disguised.
pub(super) struct Calm<'a> {
    /// Its bytes. The character behind it starts anew: it belongs to no word or character before it.
    pub(super) length: usize,
    /// Whether the last word with letters was Latin.
    pub(super) latin: bool,
    /// Whether it ends in white space.
    pub(super) spaced: bool,
    /// Whether what follows may be calm as well.
    pub(super) goes_on: bool,
    /// How many notes are of it.
    noted: usize,
    notes: Notes<'a>,
}

/// What is folded to something else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Nothing: white space behind white space.
    pub(super) folded: Option<char>,
}

impl<'a> Calm<'a> {
    /// Nothing yet: behind a word that was `latin` or not, behind white space or not; `notes` are
    /// overwritten.
    pub(super) fn new(latin: bool, spaced: bool, notes: &'a mut Vec<Note>) -> Self {
        notes.clear();
        Self {
            length: 0,
            latin,
            spaced,
            goes_on: false,
            noted: 0,
            notes: Notes { spaced, full: false, notes },
        }
    }

    /// What changes in it, in order.
    pub(super) fn notes(&self) -> &[Note] {
        self.notes.notes.get(..self.noted).unwrap_or_default()
    }

    /// The longest start of `text` that has calm characters only, or about `limit` bytes of it.
    pub(super) fn read_characters(&mut self, text: &str, limit: usize) {
        let table = table();
        for (at, ch) in text.char_indices() {
            let entry = table.of(ch);
            if entry.is_none() {
                return;
            }
            if self.reach(at, false) >= limit {
                break;
            }
            self.notes.pass(at, ch, entry);
        }
        self.goes_on = self.length > 0;
    }

    /// The longest start of `text`, which follows no word, that holds whole calm words, or about `limit`
    /// bytes of it. Nothing was joined right before it.
    pub(super) fn read_words(&mut self, text: &str, limit: usize) {
        let table = table();
        let mut latin = self.latin;
        // Single letters right before, each with the same separator behind it.
        let (mut apart, mut separator) = (0, Entry::default());
        let mut chars = text.char_indices();
        while let Some((at, ch)) = chars.next() {
            let entry = table.of(ch);
            if entry.is_none() {
                return;
            }
            if apart == 0 && self.reach(at, latin) >= limit {
                break;
            }
            if !entry.is(table::WORD) {
                self.notes.pass(at, ch, entry);
                apart = 0;
                continue;
            }
            let mut word = Word::default();
            word.add(entry, ch);
            self.notes.pass(at, ch, entry);
            let Some((end, ch, next)) = word.read(table, &mut chars, &mut self.notes) else { return };
            let single = word.count == 1;
            if !word.is_calm(end - at, &mut latin) || (single && apart + 1 >= APART_MIN) {
                return;
            }
            let goes_on = single
                && word.bits & table::SINGLE != 0
                && next.is(table::SEPARATOR)
                && (apart == 0 || separator.is_like(next));
            apart = if goes_on { apart + 1 } else { 0 };
            separator = next;
            self.notes.pass(end, ch, next);
        }
        self.goes_on = self.length > 0;
    }

    /// Everything before `at` is calm; says how far that is. Where a note was lost, it is the end.
    #[inline]
    fn reach(&mut self, at: usize, latin: bool) -> usize {
        if self.notes.full {
            return usize::MAX;
        }
        (self.length, self.latin, self.spaced, self.noted) =
            (at, latin, self.notes.spaced, self.notes.notes.len());
        at
    }
}

/// What was noted, also of what may not turn out to be calm.
struct Notes<'a> {
    /// Whether the last character is white space.
    spaced: bool,
    /// Whether a note was lost.
    full: bool,
    notes: &'a mut Vec<Note>,
}

impl Notes<'_> {
    /// Notes what becomes of `ch`, which stands at `at`.
    #[inline]
    fn pass(&mut self, at: usize, ch: char, entry: Entry) {
        let space = entry.is(table::SPACE);
        let twice = space && self.spaced;
        self.spaced = space;
        if twice || entry.is(table::CHANGES) {
            self.note(at, at + ch.len_utf8(), if twice { None } else { Some(entry.folded()) });
        }
    }

    fn note(&mut self, from: usize, to: usize, folded: Option<char>) {
        // White space of several characters goes at once.
        let full = self.notes.len() == NOTES_MAX;
        match self.notes.last_mut() {
            Some(last) if folded.is_none() && last.folded.is_none() && last.to == from => last.to = to,
            _ if full => self.full = true,
            _ => self.notes.push(Note { from, to, folded }),
        }
    }
}

/// A word as far as it has come.
#[derive(Default)]
struct Word {
    /// Its characters.
    count: usize,
    /// What they are; punctuation that letters follow is a figure.
    bits: u16,
}

impl Word {
    /// Takes the rest of the word; says what stands behind it, if that is calm.
    #[inline]
    fn read(
        &mut self,
        table: &Table,
        chars: &mut CharIndices<'_>,
        notes: &mut Notes<'_>,
    ) -> Option<(usize, char, Entry)> {
        for (at, ch) in chars {
            let entry = table.of(ch);
            if !entry.is(table::WORD) {
                return Some((at, ch, entry)).filter(|_| !entry.is_none());
            }
            self.add(entry, ch);
            if entry.is(table::CHANGES) {
                notes.pass(at, ch, entry);
            }
        }
        None
    }

    #[inline]
    fn add(&mut self, entry: Entry, ch: char) {
        self.count += 1;
        if !entry.is(table::MARK) {
            let inside = if self.bits & table::MARK == 0 { 0 } else { table::FIGURE };
            self.bits |= entry.bits | inside;
        } else if ch != '|' || self.bits & table::WORD != 0 {
            // Strokes in front do not count.
            self.bits |= table::MARK;
        }
    }

    /// Whether the word of `length` bytes is calm behind a word that is `latin` or not; says there what it
    /// is itself.
    #[inline]
    fn is_calm(&self, length: usize, latin: &mut bool) -> bool {
        let has = |bits| self.bits & bits != 0;
        // Mostly there are letters of one kind only.
        match self.bits & table::WORD {
            table::LATIN => *latin = true,
            table::FOREIGN => *latin = false,
            _ if !has(table::LETTER) => {}
            _ => {
                if !self.is_mixed_calm(length, *latin) {
                    return false;
                }
                *latin = has(table::LATIN);
            }
        }
        true
    }

    fn is_mixed_calm(&self, length: usize, latin: bool) -> bool {
        let has = |bits| self.bits & bits != 0;
        let alike = has(table::ALIKE | table::ALIKE_CAPITAL);
        let is_latin = has(table::LATIN);
        let read = alike
            && !has(table::FOREIGN)
            && (is_latin || (latin && self.count >= 3 && !has(table::ALIKE_CAPITAL)));
        let leet = is_latin && has(table::FIGURE) && !has(table::FOREIGN | table::NUMBER) && self.count >= 3;
        // A long word is judged in parts: all of them must come to the same.
        let long = length > LENGTH_MAX - 4 && (is_latin || alike);
        !read && !leet && !long
    }
}
