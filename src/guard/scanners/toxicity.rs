//! `Toxicity`: what a finding is called.
//!
//! Whether something is one is the linear model's matter ([`crate::guard::linear`]); the category is that
//! of the concepts whose rules held. A threat is called one whatever else is said, and abuse that names a
//! group is an attack on the group: naming the graver thing is what an operator filters by.
//! Otherwise the heaviest evidence names it.

use crate::guard::linear::lexicon::{CONCEPTS, NAMES};

/// Categories in the order in which they win when evidence is equal.
const CATEGORIES: [&str; 5] = ["threat", "identity_attack", "sexual", "insult", "obscene"];

/// The category of a finding by the rules that held; `weigh` answers a rule's weight.
#[must_use]
pub fn category(rules: &[usize], weigh: impl Fn(usize) -> i32) -> &'static str {
    let mut scores = [0_i32; CATEGORIES.len()];
    let (mut group, mut hurt) = (false, None);
    for rule in rules {
        let weight = weigh(*rule).max(0);
        for concept in [rule / CONCEPTS, rule % CONCEPTS] {
            let category = match NAMES.get(concept).copied().unwrap_or_default() {
                "threat" => 0,
                "hate" => 1,
                "identity" => {
                    group = true;
                    continue;
                }
                "sexual" => 2,
                "insult" => 3,
                "obscene" => 4,
                _ => continue,
            };
            hurt = Some(hurt.map_or(category, |known: usize| known.min(category)));
            if let Some(score) = scores.get_mut(category) {
                *score = score.saturating_add(weight);
            }
        }
    }
    let [threat, hate, ..] = scores;
    if threat > 0 {
        return "threat";
    }
    if hate > 0 || group {
        return "identity_attack";
    }
    // Evidence that pairs with other words took over may weigh nothing by itself: it still names the finding.
    let best = CATEGORIES.iter().zip(scores).rev().max_by_key(|(_, score)| *score);
    let held = hurt.and_then(|category| CATEGORIES.get(category));
    best.filter(|(_, score)| *score > 0).map(|(name, _)| name).or(held).map_or("toxicity", |name| *name)
}

#[cfg(test)]
mod tests;
