//! Cuts a text into the pieces that tiktoken encodes one by one.
//!
//! The negative look-ahead of tiktoken's `\s+(?!\S)` is a pattern of its own here, `\s+\s`, whose last character is given back;
//! the end of a text is `\s+$`. So the patterns are regular, and the automaton is linear.

use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};

/// What GPT-3.5 and GPT-4 call words.
pub const CL100K: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    r"|[^\r\n\p{L}\p{N}]?\p{L}+",
    r"|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+",
    r"|\s+$",
);

/// What GPT-4o calls words.
pub const O200K: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"|\s*[\r\n]+",
    r"|\s+$",
);

/// Of the patterns the one whose last character belongs to the next piece.
const GIVES_BACK: usize = 1;

pub struct Pieces(Regex);

impl Pieces {
    /// With one of the two patterns above; `None`: it is none.
    pub fn new(words: &str) -> Option<Self> {
        Regex::new_many(&[words, r"\s+\s", r"\s+"]).ok().map(Self)
    }

    pub fn split<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let found = self.0.find(Input::new(rest).anchored(Anchored::Yes))?;
            let mut end = found.end();
            if found.pattern().as_usize() == GIVES_BACK {
                end -= rest.get(..end)?.chars().next_back()?.len_utf8();
            }
            let (piece, after) = rest.split_at_checked(end).filter(|(piece, _)| !piece.is_empty())?;
            rest = after;
            Some(piece)
        })
    }
}
