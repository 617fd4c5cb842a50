//! Whether any of many short phrases occurs at all, by their first bytes.
//!
//! At every place of a text a few bytes are looked up; only where a phrase may begin are phrases compared.
//! As with leaps the answer is exact, or "perhaps" when that would cost more comparisons than there are
//! bytes.

use super::quick::Trie;

/// Bytes that are looked up together, at most and at least.
const GRAM_MAX: usize = 4;
const GRAM_MIN: usize = 2;
/// Bits of a hash.
const BITS: u32 = 16;

#[derive(Debug)]
pub(super) struct Grams {
    /// Which of the four bytes at a place count.
    mask: u32,
    length: usize,
    /// Whether a phrase may begin so, by the hash of its first bytes.
    begins: Vec<bool>,
}

impl Grams {
    /// `None` if a phrase is too short.
    pub(super) fn new(phrases: &[&str]) -> Option<Self> {
        let shortest = phrases.iter().map(|phrase| phrase.len()).min()?;
        let length = Some(shortest.min(GRAM_MAX)).filter(|length| *length >= GRAM_MIN)?;
        let mask = u32::MAX >> (8 * (GRAM_MAX - length));
        let mut begins = vec![false; 1 << BITS];
        for phrase in phrases {
            let mut gram = [0; GRAM_MAX];
            gram.iter_mut().zip(phrase.bytes()).for_each(|(slot, byte)| *slot = byte);
            *begins.get_mut(hash(gram, mask))? = true;
        }
        Some(Self { mask, length, begins })
    }

    /// Whether no phrase occurs in `bytes`, for sure.
    pub(super) fn none_in(&self, bytes: &[u8], trie: &Trie) -> bool {
        let mut compared = 0;
        let mut refuses = |at: usize| {
            let steps = trie.refuse(bytes.get(at..).unwrap_or_default());
            compared += steps.unwrap_or(bytes.len() + 1);
            compared <= bytes.len()
        };
        for (at, gram) in bytes.array_windows::<GRAM_MAX>().enumerate() {
            if self.begins.get(hash(*gram, self.mask)).copied().unwrap_or(true) && !refuses(at) {
                return false;
            }
        }
        // The last places, where less than a whole window stands.
        let last = bytes.len().saturating_sub(GRAM_MAX - 1);
        (last..(bytes.len() + 1).saturating_sub(self.length)).all(refuses)
    }
}

fn hash(gram: [u8; GRAM_MAX], mask: u32) -> usize {
    ((u32::from_le_bytes(gram) & mask).wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize
}
