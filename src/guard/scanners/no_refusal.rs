//! `NoRefusal`: what a finding is called.
//!
//! Whether an answer refuses is the linear model's matter ([`crate::guard::linear`]), which reads the opening only: the first
//! 400 characters, decided at each sentence end. An apology that goes on to help is none; it is told by what follows.

use crate::guard::linear::lexicon::{CONCEPTS, NAMES};

/// Reasons to refuse, in the order in which they win when evidence is equal.
const CATEGORIES: [(&str, &str); 4] =
    [("policy", "policy"), ("inability", "inability"), ("as_ai", "inability"), ("apology", "apology")];

/// The category of a finding by the rules that held; `weigh` answers a rule's weight.
#[must_use]
pub fn category(rules: &[usize], weigh: impl Fn(usize) -> i32) -> &'static str {
    let mut best = ("refusal", 0);
    for (concept, category) in CATEGORIES {
        let held = |rule: &&usize| {
            [*rule / CONCEPTS, *rule % CONCEPTS]
                .iter()
                .any(|at| NAMES.get(*at).is_some_and(|name| *name == concept))
        };
        let score: i32 = rules.iter().filter(held).map(|rule| weigh(*rule).max(1)).sum();
        if score > best.1 {
            best = (category, score);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_reason_names_it() {
        let rule = |name: &str| {
            let index = NAMES.iter().position(|known| *known == name).unwrap();
            index * CONCEPTS + index
        };
        assert_eq!(category(&[], |_| 1), "refusal");
        assert_eq!(category(&[rule("apology"), rule("policy")], |_| 2), "policy");
        assert_eq!(
            category(&[rule("apology"), rule("inability")], |at| if at == rule("apology") { 9 } else { 1 }),
            "apology"
        );
    }
}
