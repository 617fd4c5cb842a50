//! A character with its marks, folded: compatibility composition (NFKC), then case folding.
//!
//! Invisible characters vanish, tag characters are read as the ASCII they stand for, marks that do not
//! compose are dropped where they are no letters of their own (Latin, Greek, Cyrillic, Hebrew and Arabic
//! points).

use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

use super::Item;
use super::table::{self, table};

/// Marks of one character that are looked at; text in earnest has up to five.
const MARKS_MAX: usize = 30;
/// Bytes of one character with its marks and what is invisible among them.
const LENGTH_MAX: usize = 128;

/// A character whose marks may still follow.
#[derive(Debug, Clone, Default)]
pub(super) struct Cluster {
    base: Option<Item>,
    marks: Vec<char>,
}

impl Cluster {
    /// Where the original is held back from.
    pub(super) fn held_from(&self) -> Option<usize> {
        self.base.map(|base| base.from)
    }

    /// Takes `item` if it belongs to the character that is held, or is invisible.
    pub(super) fn join(&mut self, item: Item) -> bool {
        let fits = self.base.is_none_or(|base| item.to - base.from <= LENGTH_MAX);
        if is_invisible(item.ch) {
            // A held character is let go before it is held for too long.
            return fits || self.base.is_none();
        }
        if !fits || !joins(item.ch) {
            return false;
        }
        let Some(base) = &mut self.base else { return false };
        base.to = item.to;
        if self.marks.len() < MARKS_MAX {
            self.marks.push(item.ch);
        }
        true
    }

    /// Starts a new character; the one before is closed. An invisible one is taken by nobody.
    pub(super) fn open(&mut self, item: Item) {
        if !is_invisible(item.ch) {
            let ch = untagged(item.ch);
            self.base = Some(Item { ch, ..item });
        }
    }

    /// Hands the held character on.
    pub(super) fn close(&mut self, put: &mut dyn FnMut(Item)) {
        let Some(base) = self.base.take() else { return };
        let known = table().of(base.ch);
        if !known.is_none() && self.marks.iter().all(|mark| is_point(*mark)) {
            self.marks.clear();
            let ch = if known.is(table::CHANGES) { known.folded() } else { base.ch.to_ascii_lowercase() };
            put(Item { ch, ..base });
            return;
        }
        self.close_unknown(base, put);
    }

    /// Hands on `base`, of which no table tells what it is.
    fn close_unknown(&mut self, base: Item, put: &mut dyn FnMut(Item)) {
        if self.marks.is_empty() && (base.ch.is_ascii() || is_inert(base.ch)) {
            fold_case(base, put);
            return;
        }
        for ch in std::iter::once(base.ch).chain(self.marks.drain(..)).nfkc() {
            if !is_stray(ch) {
                fold_case(Item { ch, ..base }, put);
            }
        }
    }
}

/// The one character that `ch` folds to wherever no mark follows it; `None` if it may vanish, belong to the
/// character before it, or come to more than one.
pub(super) fn folded_alone(ch: char) -> Option<char> {
    if is_invisible(ch) || joins(ch) {
        return None;
    }
    let item = Item { ch: untagged(ch), from: 0, to: 0 };
    let (mut folded, mut count) = (None, 0);
    let mut put = |item: Item| {
        folded = Some(item.ch);
        count += 1;
    };
    // Most characters are their own compatibility form: told more quickly than worked out.
    if is_nfkc_quick(std::iter::once(item.ch)) == IsNormalized::Yes && !is_stray(item.ch) {
        fold_case(item, &mut put);
    } else {
        Cluster::default().close_unknown(item, &mut put);
    }
    folded.filter(|_| count == 1)
}

/// Simple case folding, white space as a space.
fn fold_case(item: Item, put: &mut dyn FnMut(Item)) {
    if item.ch.is_ascii() {
        let ch = if item.ch.is_whitespace() { ' ' } else { item.ch.to_ascii_lowercase() };
        put(Item { ch, ..item });
        return;
    }
    match item.ch {
        'ς' => put(Item { ch: 'σ', ..item }),
        // Old forms of Cyrillic letters, and the capital sharp s, whose simple folding std does not have.
        'ᲀ'..='ᲈ' => {
            item.ch.to_uppercase().flat_map(char::to_lowercase).for_each(|ch| put(Item { ch, ..item }));
        }
        ch if ch.is_whitespace() => put(Item { ch: ' ', ..item }),
        ch => ch.to_lowercase().filter(|ch| !is_stray(*ch)).for_each(|ch| put(Item { ch, ..item })),
    }
}

/// Characters that are not seen: joiners, directions, variation selectors, the lengthening stroke of
/// Arabic.
fn is_invisible(ch: char) -> bool {
    matches!(ch,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{640}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e001f}'
        | '\u{e007f}' | '\u{e0100}'..='\u{e01ef}')
}

/// The ASCII character that a tag character stands for.
fn untagged(ch: char) -> char {
    match ch {
        '\u{e0020}'..='\u{e007e}' => char::from_u32(u32::from(ch) - 0xe0000).unwrap_or(ch),
        _ => ch,
    }
}

/// Whether `ch` may compose with what stands before it, or is a mark on it.
fn joins(ch: char) -> bool {
    match ch {
        '\0'..='\u{2ff}' => false,
        // Vowels and finals of Hangul, also in their compatibility forms; half-width sound marks.
        '\u{1160}'..='\u{11ff}'
        | '\u{314f}'..='\u{3163}'
        | '\u{ff9e}'
        | '\u{ff9f}'
        | '\u{ffc2}'..='\u{ffdc}' => true,
        _ if is_inert(ch) => false,
        _ => canonical_combining_class(ch) != 0 || is_nfkc_quick(std::iter::once(ch)) == IsNormalized::Maybe,
    }
}

/// Letters that are their own compatibility form and compose with nothing before them: a short way for most
/// text.
fn is_inert(ch: char) -> bool {
    matches!(ch,
        '\u{c0}'..='\u{131}' | '\u{391}'..='\u{3a1}' | '\u{3a3}'..='\u{3ce}' | '\u{400}'..='\u{482}'
        | '\u{48a}'..='\u{52f}' | '\u{5d0}'..='\u{5ea}' | '\u{621}'..='\u{63f}' | '\u{641}'..='\u{64a}'
        | '\u{e01}'..='\u{e32}' | '\u{1ea0}'..='\u{1ef9}' | '\u{3001}'..='\u{3020}' | '\u{3041}'..='\u{3096}'
        | '\u{30a1}'..='\u{30fe}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}

/// Letters that are inert and have no other lower case form, and what folding leaves as it is in ASCII.
pub(super) fn is_kept(ch: char) -> bool {
    match ch {
        '\u{1ea1}'..='\u{1ef9}' => u32::from(ch) % 2 == 1,
        _ => matches!(ch,
            ' '..='@' | '['..='~' | '\u{df}'..='\u{f6}' | '\u{f8}'..='\u{ff}' | '\u{103}' | '\u{111}'
            | '\u{129}'
            | '\u{3ac}'..='\u{3c1}' | '\u{3c3}'..='\u{3ce}' | '\u{430}'..='\u{45f}' | '\u{5d0}'..='\u{5ea}'
            | '\u{621}'..='\u{63f}' | '\u{641}'..='\u{64a}' | '\u{e01}'..='\u{e32}' | '\u{3001}'..='\u{3020}'
            | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fe}' | '\u{4e00}'..='\u{9fff}'
            | '\u{ac00}'..='\u{d7a3}'),
    }
}

/// Points of Hebrew and Arabic: they compose with nothing and are dropped.
fn is_point(ch: char) -> bool {
    matches!(ch, '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}' | '\u{5c2}' | '\u{64b}'..='\u{652}')
}

/// Marks that change no letter where they have not composed.
fn is_stray(ch: char) -> bool {
    matches!(ch,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}'
        | '\u{5c2}'
        | '\u{5c4}' | '\u{5c5}' | '\u{5c7}' | '\u{64b}'..='\u{652}' | '\u{670}' | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}
