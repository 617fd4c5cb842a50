//! Zero-width characters, which cut keys in two for machines and not for readers.

use std::ops::Range;

/// A text without its zero-width characters, with the way back.
#[derive(Debug, Default)]
pub(super) struct Stripped {
    /// What is left.
    pub(super) text: String,
    /// For each piece that is left: where it begins here, and there.
    pieces: Vec<(usize, usize)>,
}

/// Whether `text` has any of the characters that [`strip`] drops.
pub(super) fn has(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr::memchr3_iter(0xE2, 0xEF, 0xC2, bytes).any(|at| length(bytes.get(at..).unwrap_or_default()) > 0)
}

/// Bytes of the zero-width character that `rest` begins with, or none: U+00AD, U+200B to U+200D,
/// U+2060, U+FEFF.
fn length(rest: &[u8]) -> usize {
    match rest {
        [0xC2, 0xAD, ..] => 2,
        [0xE2, 0x80, 0x8B..=0x8D, ..] | [0xE2, 0x81, 0xA0, ..] | [0xEF, 0xBB, 0xBF, ..] => 3,
        _ => 0,
    }
}

/// `text` without zero-width characters, as far as it is `within`.
pub(super) fn strip(text: &str, within: Range<usize>) -> Stripped {
    let mut stripped = Stripped::default();
    let (mut from, end) = (within.start, within.end);
    let bytes = text.as_bytes();
    let mut at = from;
    while at < end {
        let length = length(bytes.get(at..).unwrap_or_default());
        if length > 0 {
            stripped.push(text.get(from..at).unwrap_or_default(), from);
            from = at + length;
        }
        at += length.max(1);
    }
    stripped.push(text.get(from.min(end)..end).unwrap_or_default(), from);
    stripped
}

impl Stripped {
    fn push(&mut self, piece: &str, at: usize) {
        if !piece.is_empty() {
            self.pieces.push((self.text.len(), at));
            self.text.push_str(piece);
        }
    }

    /// Where `at` of the stripped text stands in the original.
    pub(super) fn original(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|(here, _)| *here <= at).saturating_sub(1);
        self.pieces.get(piece).map_or(at, |(here, there)| there + at - here)
    }

    /// Where `at` of the original stands in the stripped text, or what follows it.
    pub(super) fn here(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|(_, there)| *there <= at).saturating_sub(1);
        let end = self.pieces.get(piece + 1).map_or(self.text.len(), |(here, _)| *here);
        self.pieces.get(piece).map_or(0, |(here, there)| (here + at.saturating_sub(*there)).min(end))
    }
}
