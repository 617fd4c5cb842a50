//! Shapes: regular expressions that are proved at a place, never searched for.
//!
//! Each distinct one is a dense automaton over bytes with an anchored start only: a step a byte, no
//! cache, no stack, nothing allocated, shared by all threads. It stops at the first byte that cannot
//! belong to it. It is compiled when it is first needed (some 0.2 ms, once), so that neither the start
//! nor the memory pays for vendors whose credentials never come by.

use std::collections::HashMap;
use std::sync::OnceLock;

use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

/// Bytes that one automaton may take.
const SIZE_MAX: usize = 2 << 20;

/// Bytes that a shape may look at: longer secrets are cut here.
pub(super) const LENGTH_MAX: usize = 8192;

/// A set of shapes.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    shapes: Vec<Shape>,
    known: HashMap<&'static str, usize>,
}

#[derive(Debug)]
struct Shape {
    source: &'static str,
    automaton: OnceLock<Option<dense::DFA<Vec<u32>>>>,
}

impl Shapes {
    /// Adds `shape`, unless it is known, and returns its number.
    pub(super) fn add(&mut self, source: &'static str) -> usize {
        let next = self.shapes.len();
        let index = *self.known.entry(source).or_insert(next);
        if index == next {
            self.shapes.push(Shape { source, automaton: OnceLock::new() });
        }
        index
    }

    /// Where shape `index` ends if it begins at `start`.
    pub(super) fn end(&self, index: usize, text: &[u8], start: usize) -> Option<usize> {
        let stop = text.len().min(start.saturating_add(LENGTH_MAX));
        if start > stop {
            return None;
        }
        let input = Input::new(text).span(start..stop).anchored(Anchored::Yes);
        let found = self.automaton(index)?.try_search_fwd(&input).ok().flatten()?;
        Some(found.offset())
    }

    /// The automaton of shape `index`; none if the expression is wrong, which a test rules out.
    pub(super) fn automaton(&self, index: usize) -> Option<&dense::DFA<Vec<u32>>> {
        let shape = self.shapes.get(index)?;
        shape.automaton.get_or_init(|| compile(shape.source)).as_ref()
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shapes.len()
    }
}

fn compile(source: &str) -> Option<dense::DFA<Vec<u32>>> {
    let config = dense::Config::new()
        .start_kind(StartKind::Anchored)
        .accelerate(false)
        .dfa_size_limit(Some(SIZE_MAX))
        .determinize_size_limit(Some(SIZE_MAX));
    dense::Builder::new()
        .configure(config)
        .thompson(thompson::Config::new().utf8(false))
        .syntax(syntax::Config::new().unicode(false).utf8(false))
        .build(source)
        .ok()
}
