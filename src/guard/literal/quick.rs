//! Whether any of the phrases occurs at all.
//!
//! The phrases are shared out by their number and length: few go to vector instructions (Teddy), the
//! shortest of them to searches of their own, since they would make it find too much; of many the long ones
//! go to leaps (`skip.rs`), the short ones to a look-up of their first bytes (`gram.rs`).

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::{contiguous, noncontiguous};
use aho_corasick::packed::{self, Searcher};
use memchr::memmem::Finder;

use super::gram::Grams;
use super::skip::{SHORTEST, Skips};

/// Phrases up to which there are few.
const FEW_MAX: usize = 48;
/// Bytes up to which a phrase is looked for on its own, and how many there may be.
const TINY_LENGTH: usize = 2;
const TINY_MAX: usize = 4;

/// The searches for all phrases.
#[derive(Debug)]
pub(super) struct Quick {
    awake: Searches,
    dormant: Searches,
    trie: Trie,
}

impl Quick {
    /// `None` if there is no quick way. The searches for the phrases that are `dormant` are apart.
    pub(super) fn new(
        phrases: &[String],
        dormant: &dyn Fn(usize) -> bool,
        automaton: &noncontiguous::NFA,
    ) -> Option<Self> {
        let some = |asleep: bool| -> Vec<&str> {
            let all = phrases.iter().enumerate().filter(|(index, _)| dormant(*index) == asleep);
            all.map(|(_, phrase)| phrase.as_str()).collect()
        };
        let (awake, dormant) = (Searches::new(&some(false))?, Searches::new(&some(true))?);
        Some(Self { awake, dormant, trie: Trie::new(automaton)? })
    }

    /// Whether no phrase occurs in `bytes`, for sure; `all`: the dormant ones count.
    pub(super) fn none_in(&self, bytes: &[u8], all: bool) -> bool {
        self.awake.none_in(bytes, &self.trie) && (!all || self.dormant.none_in(bytes, &self.trie))
    }
}

/// The searches for some of the phrases.
#[derive(Debug, Default)]
struct Searches {
    tiny: Vec<Finder<'static>>,
    few: Option<Searcher>,
    leaps: Option<Skips>,
    grams: Option<Grams>,
}

impl Searches {
    fn new(phrases: &[&str]) -> Option<Self> {
        let few = phrases.len() <= FEW_MAX;
        let (long, short): (Vec<&str>, Vec<&str>) =
            phrases.iter().partition(|phrase| !few && phrase.len() >= SHORTEST);
        let mut searches = Self::default();
        if !long.is_empty() {
            searches.leaps = Some(Skips::new(&long)?);
        }
        if short.len() > FEW_MAX || !searches.add_few(&short) {
            searches.grams = Some(Grams::new(&short)?);
        }
        Some(searches)
    }

    /// Whether there is a vector search for these.
    fn add_few(&mut self, phrases: &[&str]) -> bool {
        let (tiny, others): (Vec<&str>, Vec<&str>) =
            phrases.iter().partition(|phrase| phrase.len() <= TINY_LENGTH);
        let apart = tiny.len() <= TINY_MAX;
        let packed = if apart { others.as_slice() } else { phrases };
        if !packed.is_empty() {
            self.few = searcher(packed);
            if self.few.is_none() {
                return false;
            }
        }
        if apart {
            self.tiny = tiny.iter().map(|phrase| Finder::new(phrase).into_owned()).collect();
        }
        true
    }

    fn none_in(&self, bytes: &[u8], trie: &Trie) -> bool {
        self.tiny.iter().all(|finder| finder.find(bytes).is_none())
            && self.few.as_ref().is_none_or(|searcher| searcher.find(bytes).is_none())
            && self.leaps.as_ref().is_none_or(|leaps| leaps.none_in(bytes, trie))
            && self.grams.as_ref().is_none_or(|grams| grams.none_in(bytes, trie))
    }
}

fn searcher(phrases: &[&str]) -> Option<Searcher> {
    packed::Config::new().match_kind(packed::MatchKind::LeftmostFirst).builder().extend(phrases).build()
}

/// The phrases by their first bytes.
#[derive(Debug)]
pub(super) struct Trie {
    automaton: contiguous::NFA,
    start: StateID,
}

impl Trie {
    fn new(automaton: &noncontiguous::NFA) -> Option<Self> {
        let automaton =
            contiguous::Builder::new().prefilter(false).build_from_noncontiguous(automaton).ok()?;
        let start = automaton.start_state(Anchored::Yes).ok()?;
        Some(Self { automaton, start })
    }

    /// How many bytes it takes to see that no phrase stands at the start of `bytes`.
    pub(super) fn refuse(&self, bytes: &[u8]) -> Option<usize> {
        let mut state = self.start;
        for (index, byte) in bytes.iter().enumerate() {
            state = self.automaton.next_state(Anchored::Yes, state, *byte);
            if self.automaton.is_dead(state) {
                return Some(index + 1);
            }
            if self.automaton.is_match(state) {
                return None;
            }
        }
        Some(bytes.len())
    }
}
