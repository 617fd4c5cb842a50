//! A set of phrases as one automaton that walks through a text in pieces (Aho and Corasick, 1975).
//!
//! Every occurrence of every phrase is reported, overlapping ones too; where the text is cut changes
//! nothing. How far back an occurrence that is not complete may begin is known exactly: it is the depth of
//! the automaton's state.
//!
//! Cost: a look-up a byte. Pieces of some length are first looked over for any occurrence at all
//! (`quick.rs`); mostly there is none, and only the ends of the piece are walked.

use std::collections::HashMap;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::{contiguous, noncontiguous};
use aho_corasick::{Anchored, dfa};

use self::quick::Quick;

mod gram;
mod quick;
mod skip;
#[cfg(test)]
mod tests;

/// Bytes of all phrases up to which the automaton is the fast and large kind.
const LARGE_MAX: usize = 4096;
/// Bytes of a piece from which on that pays.
const PIECE_MIN: usize = 64;

/// The phrases.
#[derive(Debug)]
pub struct Literals {
    automaton: Kind,
    start: StateID,
    lengths: Vec<usize>,
    depths: HashMap<StateID, usize>,
    longest: usize,
    /// Finds any occurrence at all.
    quick: Option<Quick>,
}

#[derive(Debug)]
enum Kind {
    Large(dfa::DFA),
    Small(contiguous::NFA),
}

/// Where the walk through a text has got to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    state: StateID,
    at: usize,
}

impl Walk {
    /// Bytes walked.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether both go on in the same way.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

/// An occurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// The phrase, by its index.
    pub phrase: usize,
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
}

impl Literals {
    /// An automaton of `phrases`; `None` if there is none, one is empty, or they are too many for any
    /// automaton.
    #[must_use]
    pub fn new(phrases: &[String]) -> Option<Self> {
        Self::with_dormant(phrases, &|_| false)
    }

    /// The same; [`Literals::walk_for`] may overlook the phrases that are `dormant`, by index.
    #[must_use]
    pub fn with_dormant(phrases: &[String], dormant: &dyn Fn(usize) -> bool) -> Option<Self> {
        if phrases.is_empty() || phrases.iter().any(String::is_empty) {
            return None;
        }
        let bytes: usize = phrases.iter().map(String::len).sum();
        let plain = noncontiguous::Builder::new().prefilter(false).build(phrases).ok()?;
        let automaton = if bytes <= LARGE_MAX {
            Kind::Large(dfa::Builder::new().prefilter(false).build_from_noncontiguous(&plain).ok()?)
        } else {
            Kind::Small(contiguous::Builder::new().prefilter(false).build_from_noncontiguous(&plain).ok()?)
        };
        let start = match &automaton {
            Kind::Large(large) => large.start_state(Anchored::No).ok()?,
            Kind::Small(small) => small.start_state(Anchored::No).ok()?,
        };
        let lengths: Vec<usize> = phrases.iter().map(String::len).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let quick = Quick::new(phrases, dormant, &plain);
        let mut literals = Self { automaton, start, lengths, depths: HashMap::new(), longest, quick };
        for phrase in phrases {
            let mut state = start;
            for (depth, byte) in phrase.bytes().enumerate() {
                state = literals.next(state, byte);
                literals.depths.insert(state, depth + 1);
            }
        }
        Some(literals)
    }

    /// At the start of a text.
    #[must_use]
    pub fn start(&self) -> Walk {
        Walk { state: self.start, at: 0 }
    }

    /// Walks through the next `piece` of the text and shows every occurrence that ends in it.
    pub fn walk(&self, walk: &mut Walk, piece: &str, hit: &mut dyn FnMut(Hit)) {
        self.walk_for(walk, piece, true, hit);
    }

    /// The same; unless `all` are looked for, occurrences of dormant phrases that begin in the piece may be
    /// missed.
    pub fn walk_for(&self, walk: &mut Walk, piece: &str, all: bool, hit: &mut dyn FnMut(Hit)) {
        let bytes = piece.as_bytes();
        let ends = 2 * self.longest;
        let skips = bytes.len() > ends.max(PIECE_MIN)
            && self.quick.as_ref().is_some_and(|quick| quick.none_in(bytes, all));
        if !skips {
            self.step(walk, bytes, hit);
            return;
        }
        // Nothing occurs in the piece, but something may have begun before it.
        let begun = if walk.state == self.start { 0 } else { self.longest };
        let (first, rest) = bytes.split_at(begun);
        self.step(walk, first, hit);
        let (_, last) = rest.split_at(rest.len() - self.longest);
        *walk = Walk { state: self.start, at: walk.at + rest.len() - last.len() };
        self.step(walk, last, hit);
    }

    /// Bytes back to where an occurrence that is not complete may begin.
    #[must_use]
    pub fn pending(&self, walk: &Walk) -> usize {
        self.depths.get(&walk.state).copied().unwrap_or(0)
    }

    fn next(&self, state: StateID, byte: u8) -> StateID {
        match &self.automaton {
            Kind::Large(large) => large.next_state(Anchored::No, state, byte),
            Kind::Small(small) => small.next_state(Anchored::No, state, byte),
        }
    }

    fn step(&self, walk: &mut Walk, bytes: &[u8], hit: &mut dyn FnMut(Hit)) {
        match &self.automaton {
            Kind::Large(large) => step(large, &self.lengths, walk, bytes, hit),
            Kind::Small(small) => step(small, &self.lengths, walk, bytes, hit),
        }
    }
}

fn step<A: Automaton>(
    automaton: &A,
    lengths: &[usize],
    walk: &mut Walk,
    bytes: &[u8],
    hit: &mut dyn FnMut(Hit),
) {
    let mut state = walk.state;
    for (index, byte) in bytes.iter().enumerate() {
        state = automaton.next_state(Anchored::No, state, *byte);
        if automaton.is_match(state) {
            let end = walk.at + index + 1;
            for index in 0..automaton.match_len(state) {
                let phrase = automaton.match_pattern(state, index).as_usize();
                let length = lengths.get(phrase).copied().unwrap_or(0);
                hit(Hit { phrase, start: end.saturating_sub(length), end });
            }
        }
    }
    *walk = Walk { state, at: walk.at + bytes.len() };
}
