//! Concepts: what a word or phrase stands for, whatever the language.
//!
//! A line of a list is `concept: phrase, phrase, …`. A phrase is up to four words, a stem (`ignor*`), up to
//! four characters of a script without spaces, or five characters with a mark among them (`<|im_`). Weights
//! belong to ordered pairs of concepts that stand near each other, so evidence learnt in one language holds
//! in all.
//!
//! Cost: four bit tests a word and one or a few for its first letters; a look-up when the bits are set.

use std::sync::OnceLock;

use super::features::{Kinds, letter, mix};
use super::script::is_ideograph;
use crate::guard::scanners::prompt_injection;

/// Room for concepts.
pub const CONCEPTS: usize = 48;
const FILTER_WORDS: usize = 1 << 11;
const FILTER_SHIFT: u32 = 64 - 11;
/// Letters that are looked at to tell whether a word may begin with a stem, if no stem is shorter.
const OPENING: usize = 4;
const SLOTS: usize = 1 << 14;

/// The concepts of the lists, in the order of their rules. New ones go to the end; the models are trained
/// anew.
pub const NAMES: [&str; 41] = [
    "override",
    "prior",
    "instructions",
    "reveal",
    "system_prompt",
    "secret",
    "persona",
    "unbound",
    "jailbreak_name",
    "smuggling",
    "authority",
    "obey",
    "new_task",
    "you",
    "meta",
    "harm",
    "fiction",
    "encoding",
    "say_exactly",
    "question",
    "tool",
    "protect",
    "play",
    "text_work",
    "insult",
    "obscene",
    "threat",
    "violence",
    "identity",
    "hate",
    "sexual",
    "self",
    "third_person",
    "negation",
    "apology",
    "inability",
    "policy",
    "redirect",
    "as_ai",
    "willing",
    "wish",
];

const LISTS: [&str; 3] =
    [prompt_injection::PHRASES, include_str!("toxicity.txt"), include_str!("refusal.txt")];

/// A bit for each hash; a bit that is not set answers most questions.
#[derive(Debug)]
struct Filter(Box<[u64; FILTER_WORDS]>);

impl Default for Filter {
    fn default() -> Self {
        Self(Box::new([0; FILTER_WORDS]))
    }
}

impl Filter {
    fn bits(key: u64) -> u64 {
        (1 << ((key >> (FILTER_SHIFT - 6)) & 63)) | (1 << ((key >> (FILTER_SHIFT - 12)) & 63))
    }

    fn add(&mut self, key: u64) {
        self.0[(key >> FILTER_SHIFT) as usize % FILTER_WORDS] |= Self::bits(key);
    }

    #[inline]
    fn holds(&self, key: u64) -> bool {
        let bits = Self::bits(key);
        self.0[(key >> FILTER_SHIFT) as usize % FILTER_WORDS] & bits == bits
    }
}

/// Which phrase is which concept.
#[derive(Debug)]
pub struct Lexicon {
    words: Filter,
    stems: Filter,
    openings: Filter,
    opening: usize,
    slots: Vec<(u64, u8)>,
    kinds: Kinds,
    phrases: usize,
    dropped: Vec<String>,
}

impl Lexicon {
    /// The lists that are compiled in.
    #[must_use]
    pub fn get() -> &'static Self {
        static LEXICON: OnceLock<Lexicon> = OnceLock::new();
        LEXICON.get_or_init(|| Self::parse(&LISTS))
    }

    /// Hash of the lists, which is part of a model's fingerprint.
    #[must_use]
    pub fn fingerprint() -> u64 {
        LISTS.iter().flat_map(|list| list.bytes()).fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
        })
    }

    /// How many phrases it has.
    #[must_use]
    pub fn phrases(&self) -> usize {
        self.phrases
    }

    /// Lines and phrases that could not be taken: none, as a test sees to.
    #[must_use]
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    fn parse(lists: &[&str]) -> Self {
        let mut lexicon = Self {
            words: Filter::default(),
            stems: Filter::default(),
            openings: Filter::default(),
            opening: OPENING,
            slots: vec![(0, 0); SLOTS],
            kinds: Kinds::default(),
            phrases: 0,
            dropped: Vec::new(),
        };
        for line in lists
            .iter()
            .flat_map(|list| list.lines())
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let Some((name, phrases)) = line.split_once(": ") else {
                lexicon.dropped.push(line.to_owned());
                continue;
            };
            let Some(concept) = NAMES.iter().position(|known| *known == name) else {
                lexicon.dropped.push(line.to_owned());
                continue;
            };
            for phrase in phrases.split(", ").map(str::trim).filter(|phrase| !phrase.is_empty()) {
                match key(phrase) {
                    Some(key) => {
                        let filter =
                            if phrase.ends_with('*') { &mut lexicon.stems } else { &mut lexicon.words };
                        filter.add(key);
                        lexicon.insert(key, concept);
                    }
                    None => lexicon.dropped.push(phrase.to_owned()),
                }
            }
        }
        lexicon.note_openings(lists);
        lexicon
    }

    fn note_openings(&mut self, lists: &[&str]) {
        let words = lists.iter().flat_map(|list| list.split([':', ',', '\n'])).map(str::trim);
        let stems = words.filter_map(|word| word.strip_suffix('*')).filter(|stem| stem.is_ascii());
        self.opening = stems.clone().map(str::len).fold(OPENING, usize::min).max(1);
        for stem in stems {
            let letters = stem.chars().take(self.opening);
            self.openings.add(letters.map(|c| if c.is_ascii_digit() { '0' } else { c }).fold(0, letter));
        }
    }

    /// So many letters of a word of ASCII tell whether it may begin with a stem.
    #[inline]
    #[must_use]
    pub fn opening(&self) -> usize {
        self.opening
    }

    /// Whether a stem may begin with these [`Lexicon::opening`] letters of ASCII.
    #[inline]
    #[must_use]
    pub fn may_open(&self, key: u64) -> bool {
        self.openings.holds(key)
    }

    fn insert(&mut self, key: u64, concept: usize) {
        self.phrases += 1;
        if 2 * self.phrases > SLOTS {
            self.dropped.push(format!("too many phrases: {}", self.phrases));
            return;
        }
        let mut at = key as usize % SLOTS;
        while let Some(slot) = self.slots.get_mut(at) {
            if slot.1 == 0 || slot.0 == key {
                *slot = (key, concept as u8 + 1);
                return;
            }
            at = (at + 1) % SLOTS;
        }
    }

    /// Whether `key` may be that of a word or phrase; most are not.
    #[inline]
    #[must_use]
    pub fn may_hold(&self, key: u64) -> bool {
        self.words.holds(key)
    }

    /// Whether `key` may be that of a stem.
    #[inline]
    #[must_use]
    pub fn may_begin(&self, key: u64) -> bool {
        self.stems.holds(key)
    }

    /// The concept of a key.
    #[must_use]
    pub fn find(&self, key: u64) -> Option<usize> {
        let mut at = key as usize % SLOTS;
        while let Some((held, concept)) = self.slots.get(at) {
            if *concept == 0 {
                return None;
            }
            if *held == key {
                return Some(usize::from(*concept) - 1);
            }
            at = (at + 1) % SLOTS;
        }
        None
    }

    /// What characters are.
    #[inline]
    #[must_use]
    pub fn kinds(&self) -> &Kinds {
        &self.kinds
    }
}

/// The key of a phrase, as the pass makes it.
fn key(phrase: &str) -> Option<u64> {
    let phrase = &phrase.replace('\'', " ");
    let is_word = |c: char| {
        c.is_alphanumeric() || matches!(c, '_' | ' ' | '*' | '\u{300}'..='\u{36F}' | '\u{64B}'..='\u{65F}')
    };
    let count = phrase.chars().count();
    if phrase.chars().all(is_ideograph) {
        let packed =
            phrase.chars().fold(0_u64, |packed, c| (packed << 16) | u64::from(u32::from(c) & 0xFFFF));
        return (count <= 4).then(|| mix(count as u64 + 16, packed));
    }
    if !phrase.chars().all(is_word) {
        let packed = phrase.chars().fold(0_u64, |packed, c| (packed << 12) | u64::from(u32::from(c) & 0xFFF));
        return (count == 5).then(|| mix(5, packed));
    }
    let hash = |word: &str| word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).fold(0, letter);
    if let Some(stem) = phrase.strip_suffix('*') {
        return (!stem.contains([' ', '*'])).then(|| hash(stem));
    }
    let words: Vec<u64> = phrase.split(' ').map(|word| mix(1, hash(word))).collect();
    (words.len() <= 4).then(|| words.into_iter().reduce(mix)).flatten()
}

#[cfg(test)]
mod tests;
