use super::category;
use crate::config::guard::{PromptInjection, TextMatch, Threshold};
use crate::guard::linear::Classifiers;
use crate::guard::linear::lexicon::{CONCEPTS, NAMES};

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    label: u8,
}

#[test]
fn attacks_are_found_and_what_looks_like_them_is_not() {
    let threshold = Threshold { base: 0.92, by_language: [None; 7] };
    let injection = PromptInjection { threshold, match_type: TextMatch::Full };
    let classifiers = Classifiers::new(Some(&injection), None, None).unwrap();
    let cases = include_str!("../../../../tests/data/guard/injection.jsonl");
    let (mut missed, mut wrong, mut attacks) = (Vec::new(), Vec::new(), 0);
    for line in cases.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        attacks += usize::from(case.label);
        let flagged = classifiers.score(&case.text)[0] > 0.92;
        match (case.label, flagged) {
            (1, false) => missed.push(case.text),
            (0, true) => wrong.push(case.text),
            _ => {}
        }
    }
    assert!(4 * missed.len() <= attacks, "{missed:#?}");
    assert!(wrong.len() <= 1, "{wrong:#?}");
}

#[test]
fn the_heaviest_rules_name_the_category() {
    let at = |name: &str| NAMES.iter().position(|known| *known == name).unwrap();
    let pair = |first: &str, second: &str| at(first) * CONCEPTS + at(second);
    let rules = [pair("reveal", "system_prompt"), pair("override", "prior")];
    assert_eq!(category(&rules, |rule| if rule == rules[0] { 50 } else { 10 }), "extraction");
    assert_eq!(category(&rules, |rule| if rule == rules[0] { 10 } else { 50 }), "override");
    assert_eq!(category(&[], |_| 1), "injection");
}
