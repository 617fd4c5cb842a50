//! `PromptInjection`: phrases that attacks are made of, and what a finding is called.
//!
//! The phrases are evidence beside the n-grams ([`crate::guard::linear`]), never a verdict: a sentence
//! *about* an attack has the same words as the attack. So has the list words of discussion, of play and of
//! work on texts; the training gives pairs of them the weight they have, which may be negative.

use crate::guard::linear::lexicon::{CONCEPTS, NAMES};

/// The phrases, in English, Chinese, Japanese, Korean, Russian, Arabic, Vietnamese, Spanish, French, German
/// and Portuguese.
pub const PHRASES: &str = include_str!("prompt_injection/phrases.txt");

/// The category of a finding by the rules that held; `weigh` answers a rule's weight.
#[must_use]
pub fn category(rules: &[usize], weigh: impl Fn(usize) -> i32) -> &'static str {
    let mut scores = [("override", 0), ("extraction", 0), ("role_play", 0), ("smuggling", 0), ("hijack", 0)];
    for rule in rules {
        let weight = weigh(*rule).max(1);
        for concept in [rule / CONCEPTS, rule % CONCEPTS] {
            let category = match NAMES.get(concept).copied().unwrap_or_default() {
                "override" | "prior" | "instructions" | "new_task" => 0,
                "reveal" | "system_prompt" | "secret" => 1,
                "persona" | "unbound" | "jailbreak_name" | "obey" => 2,
                "smuggling" | "encoding" => 3,
                "say_exactly" => 4,
                _ => continue,
            };
            if let Some((_, score)) = scores.get_mut(category) {
                *score += weight;
            }
        }
    }
    scores
        .iter()
        .rev()
        .max_by_key(|(_, score)| *score)
        .filter(|(_, score)| *score > 0)
        .map_or("injection", |(name, _)| name)
}

#[cfg(test)]
mod tests;
