//! Whether any of many phrases occurs at all, by leaps (Wu and Manber, 1994).
//!
//! A window as long as the shortest phrase moves through the text. The four bytes at its end say how far it
//! may leap; where they end the start of a phrase, the phrases are compared. The answer is exact, or
//! "perhaps" when a text was made to cost more comparisons than it has bytes.

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::{contiguous, noncontiguous};

/// Bytes that are looked up together.
const GRAM: usize = 4;
/// The shortest phrase for which leaps are worth it.
const SHORTEST: usize = 7;
/// The longest window.
const WINDOW_MAX: usize = 32;
/// Bits of a hash.
const BITS: u32 = 16;

#[derive(Debug)]
pub(super) struct Skips {
    /// How far to leap, by the hash of the last bytes.
    leaps: Vec<u8>,
    window: usize,
    trie: contiguous::NFA,
    start: StateID,
}

impl Skips {
    /// `None` if a phrase is too short.
    pub(super) fn new(phrases: &[String], automaton: &noncontiguous::NFA) -> Option<Self> {
        let window =
            phrases.iter().map(String::len).min().filter(|length| *length >= SHORTEST)?.min(WINDOW_MAX);
        let trie = contiguous::Builder::new().prefilter(false).build_from_noncontiguous(automaton).ok()?;
        let start = trie.start_state(Anchored::Yes).ok()?;
        let mut leaps = vec![u8::try_from(window - GRAM + 1).ok()?; 1 << BITS];
        for phrase in phrases {
            for (index, gram) in phrase.as_bytes().array_windows::<GRAM>().enumerate().take(window - GRAM + 1)
            {
                let leap = u8::try_from(window - GRAM - index).ok()?;
                let slot = leaps.get_mut(hash(*gram))?;
                *slot = leap.min(*slot);
            }
        }
        Some(Self { leaps, window, trie, start })
    }

    /// Whether no phrase occurs in `bytes`, for sure.
    pub(super) fn none_in(&self, bytes: &[u8]) -> bool {
        let mut compared = 0;
        let mut at = self.window - GRAM;
        while let Some(gram) = bytes.get(at..).and_then(<[u8]>::first_chunk::<GRAM>) {
            let leap = self.leaps.get(hash(*gram)).copied().unwrap_or(0);
            if leap > 0 {
                at += usize::from(leap);
                continue;
            }
            let start = at + GRAM - self.window;
            match self.compare(bytes.get(start..).unwrap_or_default()) {
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

    /// How many bytes it takes to see that no phrase stands at the start of `bytes`.
    fn compare(&self, bytes: &[u8]) -> Option<usize> {
        let mut state = self.start;
        for (index, byte) in bytes.iter().enumerate() {
            state = self.trie.next_state(Anchored::Yes, state, *byte);
            if self.trie.is_dead(state) {
                return Some(index + 1);
            }
            if self.trie.is_match(state) {
                return None;
            }
        }
        Some(bytes.len())
    }
}

fn hash(gram: [u8; GRAM]) -> usize {
    (u32::from_le_bytes(gram).wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize
}
