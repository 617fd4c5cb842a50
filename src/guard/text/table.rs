//! What the characters of usual texts are to the folder, worked out once: a look-up for each in place of
//! many questions.
//!
//! A character has an entry if it folds to one character, whatever stands beside it: it composes with
//! nothing before it, is seen, and has an ordinary shape. The entries follow from the rules of
//! `cluster.rs`, `lookalike.rs` and `words.rs`, so that both ways come to the same. All others have none,
//! and go the long way.
//!
//! Cost: two look-ups a character, about 40 KiB, less than a millisecond at the first use.

use std::sync::LazyLock;

use super::lookalike::{Kind, kind};
use super::{cluster, words};

/// A Latin letter.
pub(super) const LATIN: u16 = 1;
/// A letter of another script that looks Latin in lower case.
pub(super) const ALIKE: u16 = 1 << 1;
/// A letter of another script that looks Latin in upper case only.
pub(super) const ALIKE_CAPITAL: u16 = 1 << 2;
/// A letter of another script.
pub(super) const FOREIGN: u16 = 1 << 3;
/// A figure that may be a letter, but punctuation.
pub(super) const FIGURE: u16 = 1 << 4;
/// Another digit.
pub(super) const NUMBER: u16 = 1 << 5;
/// Punctuation that may be a letter.
pub(super) const MARK: u16 = 1 << 6;
/// Letters of any kind.
pub(super) const LETTER: u16 = LATIN | ALIKE | ALIKE_CAPITAL | FOREIGN;
/// What words consist of.
pub(super) const WORD: u16 = LETTER | FIGURE | NUMBER | MARK;
/// May stand for a letter apart.
pub(super) const SINGLE: u16 = 1 << 7;
/// May stand between letters apart.
pub(super) const SEPARATOR: u16 = 1 << 8;
/// White space.
pub(super) const SPACE: u16 = 1 << 9;
/// Folds to something else, but not just to the small letter of ASCII.
pub(super) const CHANGES: u16 = 1 << 10;
/// Has an entry.
const KNOWN: u16 = 1 << 11;

/// Code points of a page.
const PAGE: usize = 256;
/// Pages that may have entries: those of the first two planes.
const PAGES: usize = 0x200;
/// The first pages, of which all but the last have entries: what takes up to two bytes.
const FIRST: usize = 8;
/// Where the last of them starts: it serves all that have no entries.
const NONE: u16 = 0x700;
/// The other pages with entries: alphabets, signs, Han, Hangul, wide forms, pictures. First and last.
const USED: [(usize, usize); 9] = [
    (0x09, 0x0e),
    (0x10, 0x10),
    (0x1e, 0x23),
    (0x25, 0x27),
    (0x30, 0x31),
    (0x4e, 0x9f),
    (0xac, 0xd7),
    (0xff, 0xff),
    (0x1f3, 0x1fa),
];

/// What a character is, in the bits above, and what it folds to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) bits: u16,
    folded: u16,
}

impl Entry {
    /// Whether the character has none.
    pub(super) fn is_none(self) -> bool {
        self.bits == 0
    }

    /// Whether any of `bits` is set.
    pub(super) fn is(self, bits: u16) -> bool {
        self.bits & bits != 0
    }

    /// Whether both fold to the same.
    pub(super) fn is_like(self, other: Self) -> bool {
        self.folded == other.folded
    }

    /// What it folds to, if that is another character.
    pub(super) fn folded(self) -> char {
        char::from_u32(u32::from(self.folded)).unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}

/// The entries.
pub(super) struct Table {
    /// Where the entries of a page start; pages that are alike share them. The first pages stand in order.
    starts: [u16; PAGES],
    entries: Vec<Entry>,
}

/// The table.
pub(super) fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(Table::new);
    &TABLE
}

impl Table {
    fn new() -> Self {
        let mut table = Self { starts: [NONE; PAGES], entries: vec![Entry::default(); FIRST * PAGE] };
        let letters = table.entries.iter_mut().zip('\0'..).take((FIRST - 1) * PAGE);
        letters.for_each(|(slot, ch)| *slot = entry(ch));
        for page in USED.into_iter().flat_map(|(first, last)| first..=last) {
            // All other pages of Han and of Hangul are as the one before.
            let alike = is_uniform(page) && is_uniform(page - 1);
            let start = if alike { table.entries.len() - PAGE } else { table.entries.len() };
            if !alike {
                let codes = (page * PAGE..).take(PAGE).map(|code| u32::try_from(code).unwrap_or_default());
                table.entries.extend(codes.map(|code| char::from_u32(code).map_or(Entry::default(), entry)));
            }
            if let Some(slot) = table.starts.get_mut(page) {
                *slot = u16::try_from(start).unwrap_or_default();
            }
        }
        table
    }

    /// What `ch` is.
    #[inline]
    pub(super) fn of(&self, ch: char) -> Entry {
        let code = u32::from(ch) as usize;
        let index = if code < FIRST * PAGE {
            code
        } else {
            usize::from(self.starts.get(code / PAGE).copied().unwrap_or(NONE)) + code % PAGE
        };
        self.entries.get(index).copied().unwrap_or_default()
    }
}

/// Pages of nothing but Han or nothing but Hangul.
fn is_uniform(page: usize) -> bool {
    matches!(page, 0x4e..=0x9e | 0xac..=0xd6)
}

/// Works out what `ch` is.
fn entry(ch: char) -> Entry {
    let Some(folded) = cluster::folded_alone(ch) else { return Entry::default() };
    let mut bits = KNOWN;
    if folded != ch.to_ascii_lowercase() {
        bits |= CHANGES;
    }
    if folded == ' ' {
        bits |= SPACE;
    }
    if words::is_separator(folded) {
        bits |= SEPARATOR;
    }
    if words::may_be_letter(folded) {
        bits |= SINGLE;
    }
    if words::is_word(folded) {
        bits |= match kind(folded) {
            Kind::Odd(_) => return Entry::default(),
            _ if matches!(folded, '!' | '|') => MARK,
            Kind::Latin => LATIN,
            Kind::Alike(_, true) => ALIKE,
            Kind::Alike(_, false) => ALIKE_CAPITAL,
            Kind::Foreign => FOREIGN,
            Kind::Figure => FIGURE,
            Kind::Number => NUMBER,
        };
    }
    match u16::try_from(u32::from(folded)) {
        Ok(folded) => Entry { bits, folded },
        Err(_) if bits & CHANGES == 0 => Entry { bits, folded: 0 },
        Err(_) => Entry::default(),
    }
}
