//! The one automaton that every text passes: all keywords of all rules, ASCII case ignored.
//!
//! A dense automaton: a table look-up a byte, whatever the number of keywords.

use std::collections::BTreeMap;

use aho_corasick::automaton::Automaton;
use aho_corasick::{Anchored, MatchKind, dfa};

use super::names;
use super::rules::{Anchor, Rule};
use super::{forms::Form, names::Class};

/// What a keyword begins.
#[derive(Debug, Clone, Default)]
pub(super) struct Trigger {
    /// Rules whose shape is at the keyword.
    pub(super) tokens: Vec<usize>,
    /// Rules whose shape is the value of an assignment to it.
    pub(super) values: Vec<usize>,
    /// What it means as a name.
    pub(super) class: Option<Class>,
    /// A form of its own.
    pub(super) form: Option<Form>,
}

/// A keyword in a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit<'a> {
    /// Its first byte.
    pub(super) start: usize,
    /// Behind its last byte.
    pub(super) end: usize,
    /// What it begins.
    pub(super) trigger: &'a Trigger,
}

/// The automaton.
#[derive(Debug)]
pub(super) struct Keywords {
    automaton: dfa::DFA,
    triggers: Vec<Trigger>,
    longest: usize,
}

impl Keywords {
    /// Of all rules, names and forms.
    pub(super) fn new(rules: &[Rule]) -> Result<Self, String> {
        let mut triggers: BTreeMap<String, Trigger> = BTreeMap::new();
        for (index, rule) in rules.iter().enumerate() {
            for keyword in rule.keywords {
                let trigger = triggers.entry(keyword.to_ascii_lowercase()).or_default();
                let list =
                    if rule.anchor == Anchor::Value { &mut trigger.values } else { &mut trigger.tokens };
                list.push(index);
            }
        }
        for (class, words) in names::WORDS {
            for word in *words {
                triggers.entry(word.to_ascii_lowercase()).or_default().class = Some(*class);
            }
        }
        for (form, word) in super::forms::WORDS {
            triggers.entry(word.to_ascii_lowercase()).or_default().form = Some(*form);
        }
        let longest = triggers.keys().map(String::len).max().unwrap_or_default();
        let automaton = dfa::Builder::new()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .start_kind(aho_corasick::StartKind::Unanchored)
            .build(triggers.keys())
            .map_err(|error| format!("keywords: {error}"))?;
        Ok(Self { automaton, triggers: triggers.into_values().collect(), longest })
    }

    /// Calls `each` for every keyword that begins in `from..to` of `text`, in the order of their ends.
    pub(super) fn each<'a>(&'a self, text: &[u8], from: usize, to: usize, mut each: impl FnMut(Hit<'a>)) {
        let stop = text.len().min(to.saturating_add(self.longest));
        if from >= stop {
            return;
        }
        let Ok(mut state) = self.automaton.start_state(Anchored::No) else { return };
        for (at, byte) in text.iter().enumerate().take(stop).skip(from) {
            state = self.automaton.next_state(Anchored::No, state, *byte);
            if !self.automaton.is_match(state) {
                continue;
            }
            for index in 0..self.automaton.match_len(state) {
                let pattern = self.automaton.match_pattern(state, index);
                let start = at + 1 - self.automaton.pattern_len(pattern);
                if start < to
                    && let Some(trigger) = self.triggers.get(pattern.as_usize())
                {
                    each(Hit { start, end: at + 1, trigger });
                }
            }
        }
    }

    /// Bytes of the automaton, and keywords in it.
    #[cfg(test)]
    pub(super) fn memory(&self) -> (usize, usize) {
        (self.automaton.memory_usage(), self.triggers.len())
    }
}
