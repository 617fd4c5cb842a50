//! Whether any of many phrases occurs at all, by leaps (Wu and Manber, 1994).
//!
//! A window as long as the shortest phrase moves through the text. The four bytes at its end say how far it
//! may leap; where they end the start of a phrase, the phrases are compared. The answer is exact, or
//! "perhaps" when a text was made to cost more comparisons than it has bytes.

use super::quick::Trie;

/// Bytes that are looked up together.
const GRAM: usize = 4;
/// The shortest phrase for which leaps are worth it.
pub(super) const SHORTEST: usize = 7;
/// The longest window.
const WINDOW_MAX: usize = 32;
/// Bits of a hash.
const BITS: u32 = 16;

#[derive(Debug)]
pub(super) struct Skips {
    /// How far to leap, by the hash of the last bytes.
    leaps: Vec<u8>,
    window: usize,
}

impl Skips {
    /// `None` if a phrase is too short.
    pub(super) fn new(phrases: &[&str]) -> Option<Self> {
        let shortest = phrases.iter().map(|phrase| phrase.len()).min()?;
        let window = Some(shortest).filter(|length| *length >= SHORTEST)?.min(WINDOW_MAX);
        let mut leaps = vec![u8::try_from(window - GRAM + 1).ok()?; 1 << BITS];
        for phrase in phrases {
            for (index, gram) in phrase.as_bytes().array_windows::<GRAM>().enumerate().take(window - GRAM + 1)
            {
                let leap = u8::try_from(window - GRAM - index).ok()?;
                let slot = leaps.get_mut(hash(*gram))?;
                *slot = leap.min(*slot);
            }
        }
        Some(Self { leaps, window })
    }

    /// Whether no phrase occurs in `bytes`, for sure.
    pub(super) fn none_in(&self, bytes: &[u8], trie: &Trie) -> bool {
        let mut compared = 0;
        let mut at = self.window - GRAM;
        while let Some(gram) = bytes.get(at..).and_then(<[u8]>::first_chunk::<GRAM>) {
            let leap = self.leaps.get(hash(*gram)).copied().unwrap_or(0);
            if leap > 0 {
                at += usize::from(leap);
                continue;
            }
            let start = at + GRAM - self.window;
            match trie.refuse(bytes.get(start..).unwrap_or_default()) {
                Some(steps) => compared += steps,
                None => return false,
            }
            if compared > bytes.len() {
                return false;
            }
            at += 1;
        }
        true
    }
}

fn hash(gram: [u8; GRAM]) -> usize {
    (u32::from_le_bytes(gram).wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize
}
