use super::category;
use crate::guard::linear::lexicon::{CONCEPTS, NAMES};

fn rule(first: &str, second: &str) -> usize {
    let index = |name: &str| NAMES.iter().position(|known| *known == name).unwrap();
    index(first) * CONCEPTS + index(second)
}

#[test]
fn the_heaviest_evidence_names_it() {
    let rules = [rule("insult", "insult"), rule("obscene", "obscene")];
    assert_eq!(category(&rules, |held| if held == rules[0] { 5 } else { 3 }), "insult");
    assert_eq!(category(&rules, |held| if held == rules[0] { 3 } else { 5 }), "obscene");
}

#[test]
fn a_threat_is_a_threat_whatever_else_is_said() {
    let rules = [rule("insult", "insult"), rule("threat", "threat")];
    assert_eq!(category(&rules, |held| if held == rules[0] { 50 } else { 1 }), "threat");
}

#[test]
fn abuse_that_names_a_group_is_an_attack_on_it() {
    assert_eq!(category(&[rule("identity", "identity"), rule("insult", "insult")], |_| 4), "identity_attack");
    assert_eq!(category(&[rule("identity", "identity")], |_| 4), "identity_attack");
}

#[test]
fn without_a_concept_it_is_just_toxic() {
    assert_eq!(category(&[], |_| 1), "toxicity");
    assert_eq!(category(&[rule("insult", "insult")], |_| -1), "insult");
}
