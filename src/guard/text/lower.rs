//! Python's `str.lower()`, in pieces: full lower case mappings, and the sigma that ends a word.

use super::{Folded, HELD_MAX, Item, cluster};

/// State of the folding.
#[derive(Debug, Clone, Default)]
pub(super) struct Lower {
    /// Whether the last character that is not ignored for case is cased.
    cased: bool,
    /// A capital sigma behind a cased character and ignored ones that follow it: what comes next decides
    /// its form.
    held: Vec<Item>,
}

/// What a character is for the rule of the final sigma.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Cased,
    Ignored,
    Neither,
}

impl Lower {
    /// Where the original is held back from.
    pub(super) fn held_from(&self) -> Option<usize> {
        self.held.first().map(|item| item.from)
    }

    /// Takes `piece`, which stands at `from`.
    pub(super) fn push(&mut self, piece: &str, from: usize, folded: &mut Folded) {
        let mut at = 0;
        while let Some(rest) = piece.get(at..).filter(|rest| !rest.is_empty()) {
            if self.held.is_empty() {
                let plain = rest.get(..ascii_start(rest.as_bytes())).unwrap_or_default();
                if !plain.is_empty() {
                    folded.put_ascii(plain, from + at, false);
                    at += plain.len();
                    continue;
                }
            }
            let Some(ch) = rest.chars().next() else { break };
            if self.held.is_empty() && !ch.is_ascii() {
                let kept = rest.get(..kept(rest)).unwrap_or_default();
                if !kept.is_empty() {
                    folded.put_text(kept, from + at);
                    at += kept.len();
                    continue;
                }
            }
            let item = Item { ch, from: from + at, to: from + at + ch.len_utf8() };
            let before = piece.get(..at).unwrap_or_default();
            self.take(item, before, folded);
            at += ch.len_utf8();
        }
        self.cased = self.cased_before(piece);
    }

    /// The text is over.
    pub(super) fn finish(&mut self, folded: &mut Folded) {
        self.release('ς', folded);
    }

    fn take(&mut self, item: Item, before: &str, folded: &mut Folded) {
        if let Some(first) = self.held.first() {
            let case = case_of(item.ch);
            if case == Case::Ignored && item.to - first.from <= HELD_MAX {
                self.held.push(item);
                return;
            }
            self.release(if case == Case::Cased { 'σ' } else { 'ς' }, folded);
        }
        if item.ch == 'Σ' && self.cased_before(before) {
            self.held.push(item);
            return;
        }
        put_lower(item, folded);
    }

    /// Hands on the held sigma in the form `sigma`, and what follows it.
    fn release(&mut self, sigma: char, folded: &mut Folded) {
        let mut form = Some(sigma);
        for item in self.held.drain(..) {
            match form.take() {
                Some(ch) => folded.put(Item { ch, ..item }),
                None => put_lower(item, folded),
            }
        }
    }

    /// Whether the last character of the text so far, which `piece` ends, that is not ignored for case is
    /// cased.
    fn cased_before(&self, piece: &str) -> bool {
        let cases = piece.chars().rev().map(case_of);
        cases.into_iter().find(|case| *case != Case::Ignored).map_or(self.cased, |case| case == Case::Cased)
    }
}

fn put_lower(item: Item, folded: &mut Folded) {
    for ch in item.ch.to_lowercase() {
        folded.put(Item { ch, ..item });
    }
}

/// Bytes of the start of `text` that have no other lower case form.
fn kept(text: &str) -> usize {
    text.find(|ch| !cluster::is_kept(ch)).unwrap_or(text.len())
}

/// Bytes of the ASCII that `bytes` start with.
fn ascii_start(bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<32>();
    let whole = 32 * blocks.iter().take_while(|block| block.is_ascii()).count();
    let more = bytes.iter().skip(whole).take_while(|byte| byte.is_ascii()).count();
    whole + more
}

/// The standard library knows the properties but does not show them: its own rule for the final sigma does.
fn case_of(ch: char) -> Case {
    if ch.is_ascii() {
        return match ch {
            'A'..='Z' | 'a'..='z' => Case::Cased,
            '\'' | '.' | ':' | '^' | '`' => Case::Ignored,
            _ => Case::Neither,
        };
    }
    if matches!(ch, '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}') {
        return Case::Neither;
    }
    let final_after = |start: &str| {
        let mut text = String::from(start);
        text.push(ch);
        text.push('Σ');
        text.to_lowercase().ends_with('ς')
    };
    match (final_after(""), final_after("a")) {
        (true, _) => Case::Cased,
        (false, true) => Case::Ignored,
        (false, false) => Case::Neither,
    }
}
