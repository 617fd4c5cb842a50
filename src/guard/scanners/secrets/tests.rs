//! Tests of the secrets scanner. All samples are made up.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::*;

#[derive(Debug)]
struct Sample {
    rule: String,
    text: String,
    secret: Option<String>,
}

fn samples() -> Vec<Sample> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/guard/secrets.jsonl");
    let lines = std::fs::read_to_string(path).unwrap();
    let sample = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| value[name].as_str().map(str::to_owned);
        Sample { rule: field("rule").unwrap(), text: field("text").unwrap(), secret: field("secret") }
    };
    lines.lines().map(sample).collect()
}

fn scanner_with(redact_mode: RedactMode, disabled: &[&str]) -> Result<Secrets, String> {
    let disabled_rules = disabled.iter().map(|id| (*id).to_owned()).collect();
    Secrets::new(&Settings { redact_mode, disabled_rules })
}

fn scanner() -> Secrets {
    scanner_with(RedactMode::All, &[]).unwrap()
}

fn all(scanner: &Secrets, text: &str) -> Vec<Finding> {
    let mut found = Found::default();
    scanner.scan(text, 0, text.len(), &mut found);
    found.findings
}

fn spans(scanner: &Secrets, text: &str) -> BTreeSet<(String, usize, usize)> {
    let key = |finding: Finding| (finding.rule.into_owned(), finding.span.start, finding.span.end);
    all(scanner, text).into_iter().map(key).collect()
}

/// `text` with every secret replaced, as a caller does it.
fn redacted(scanner: &Secrets, text: &str) -> String {
    let mut spans: Vec<Range<usize>> = all(scanner, text).into_iter().map(|finding| finding.span).collect();
    spans.sort_by_key(|span| (span.start, span.end));
    let (mut result, mut at) = (String::new(), 0);
    for span in spans {
        if span.start >= at {
            result.push_str(&text[at..span.start]);
            result.push_str(&scanner.mask(&text[span.clone()]));
        }
        at = at.max(span.end);
    }
    result + &text[at..]
}

#[test]
fn samples_are_found_and_look_alikes_are_not() {
    let scanner = scanner();
    let mut wrong = Vec::new();
    for sample in samples() {
        let found = all(&scanner, &sample.text);
        let ours = |finding: &&Finding| finding.rule == sample.rule;
        let right = match &sample.secret {
            Some(secret) => {
                found.iter().filter(ours).any(|finding| sample.text[finding.span.clone()] == **secret)
            }
            None => !found.iter().any(|finding| ours(&finding)),
        };
        if !right {
            wrong.push((sample, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_rule_has_a_true_and_a_false_sample() {
    let mut seen: BTreeMap<String, (bool, bool)> = BTreeMap::new();
    for sample in samples() {
        let entry = seen.entry(sample.rule).or_default();
        *entry = (entry.0 || sample.secret.is_some(), entry.1 || sample.secret.is_none());
    }
    let missing = |id: &&str| seen.get(*id) != Some(&(true, true));
    let scanner = scanner();
    assert_eq!(scanner.rule_ids().filter(missing).collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!(
        seen.len(),
        scanner.rule_ids().collect::<BTreeSet<_>>().len(),
        "samples of rules that are no more"
    );
}

#[test]
fn ids_are_unique_and_shapes_compile() {
    let scanner = scanner();
    assert_eq!(scanner.rule_ids().count(), scanner.rule_ids().collect::<BTreeSet<_>>().len());
    let automata: Vec<_> = (0..scanner.shapes.len()).map(|index| scanner.shapes.automaton(index)).collect();
    assert!(automata.iter().all(Option::is_some), "{:?}", automata.iter().position(Option::is_none));
    let bytes: usize = automata.iter().flatten().map(|automaton| automaton.memory_usage()).sum();
    let (keywords, count) = scanner.keywords.memory();
    println!(
        "{} rules, {} shapes of {bytes} bytes, {count} keywords of {keywords}",
        scanner.rules.len(),
        automata.len()
    );
    assert!(bytes < 8 << 20 && keywords < 5 << 20);
}

#[test]
fn slices_of_any_size_give_the_findings_of_the_whole() {
    let scanner = scanner();
    let samples = samples();
    for part in samples.chunks(24) {
        let mut text: String = part.iter().map(|sample| sample.text.clone() + "\n\n").collect();
        text.push_str(
            "pass\u{200B}word = \"s4mpl3Pass9\", ghp_0a1B2c3D4e5F6g7H8i9J0k\u{200D}1L2m3N4o5P6q7R\n",
        );
        let whole = spans(&scanner, &text);
        for size in [1, 3, 17, 256, 4096] {
            let mut sliced = BTreeSet::new();
            for from in (0..text.len()).step_by(size) {
                let mut found = Found::default();
                scanner.scan(&text, from, from + size, &mut found);
                let key =
                    |finding: Finding| (finding.rule.into_owned(), finding.span.start, finding.span.end);
                sliced.extend(found.findings.into_iter().map(key));
            }
            assert_eq!(sliced, whole, "slices of {size}");
        }
    }
}

#[test]
fn zero_width_characters_hide_nothing() {
    let scanner = scanner();
    let secret = "ghp_0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R";
    for mark in ['\u{200B}', '\u{200C}', '\u{200D}', '\u{2060}', '\u{FEFF}', '\u{AD}'] {
        for at in 1..secret.len() {
            let disguised = format!("use {}{mark}{} now", &secret[..at], &secret[at..]);
            let found = all(&scanner, &disguised);
            let covers = |finding: &Finding| finding.span == (4..disguised.len() - 4);
            assert!(found.iter().any(covers), "{mark:?} at {at}: {found:?}");
        }
    }
    let named = "pass\u{200B}word = \"s4mpl3Pass9\"";
    assert_eq!(&named[all(&scanner, named)[0].span.clone()], "s4mpl3Pass9");
    assert!(all(&scanner, "نمی\u{200C}خواهم и 👩\u{200D}💻").is_empty());
}

#[test]
fn every_copy_is_masked_in_any_order() {
    let scanner = scanner();
    let (one, two) = ("ghp_0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R", "glpat-0a1B2c3D4e5F6g7H8i9J");
    for text in [format!("{one} {two} {one}"), format!("{two}, then {one}, {two} and {one}")] {
        let redacted = redacted(&scanner, &text);
        assert!(!redacted.contains(one) && !redacted.contains(two), "{redacted}");
        assert_eq!(redacted, text.replace(one, "******").replace(two, "******"));
    }
}

#[test]
fn marks_in_the_text_switch_nothing_off() {
    let scanner = scanner();
    let secret = "ghp_0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R";
    for mark in
        ["# pragma: allowlist secret", "# gitleaks:allow", "// pragma: allowlist nextline secret", "# nosec"]
    {
        assert_eq!(all(&scanner, &format!("{mark}\nkey = {secret} {mark}")).len(), 1, "{mark}");
    }
}

#[test]
fn long_lines_and_many_copies() {
    let scanner = scanner();
    let text = format!("{}DB_PASSWORD=s4mpl3Pass9", "a b ".repeat(40_000));
    assert_eq!(all(&scanner, &text).len(), 1);
    let many = "DB_PASSWORD=s4mpl3Pass9\n".repeat(3000);
    assert_eq!(all(&scanner, &many).len(), FINDINGS_MAX);
}

#[test]
fn texts_made_to_be_slow_end() {
    let scanner = scanner();
    let words = [
        "a",
        "A",
        "=",
        "key=",
        "password",
        "password ",
        "password='",
        "password: ",
        "password is ",
        "token token ",
        "sk-",
        "-sk-",
        "eyJ.",
        " eyJaaaaaaaaaaaa",
        "://",
        "://a:b@",
        "-----BEGIN PRIVATE KEY-----",
        " -u",
        " -p",
        "kind: Secret\n",
        "glpat-glpat-",
        " hvs.",
        "basic ",
        "Q~",
        "密码是",
        "\u{200B}",
        "pass\u{200B}word=",
        "\"password\",",
        "\\",
        "\"",
        "é",
    ];
    for word in words {
        let text = word.repeat(100_000 / word.len());
        let found = all(&scanner, &text);
        assert!(found.iter().all(|finding| text.get(finding.span.clone()).is_some()), "{word:?}");
    }
}

#[test]
fn cut_texts_never_panic() {
    let scanner = scanner();
    for sample in samples() {
        for at in (0..sample.text.len()).filter(|at| sample.text.is_char_boundary(*at)) {
            for part in [&sample.text[..at], &sample.text[at..]] {
                let spans = all(&scanner, part);
                assert!(spans.iter().all(|finding| part.get(finding.span.clone()).is_some()));
            }
        }
    }
}

#[test]
fn a_checksum_makes_up_for_missing_borders() {
    let scanner = scanner();
    let body = b"syntheticsyntheticsynthetic012";
    let sum = proof::checksum_of(body);
    let token = format!("ghp_{}{sum}", std::str::from_utf8(body).unwrap());
    assert_eq!(all(&scanner, &format!("abc{token}def")).len(), 1);
    assert_eq!(all(&scanner, &format!("abc{}def", token.replace("012", "210"))).len(), 0);
}

#[test]
fn masks_by_mode() {
    let mask = |mode, secret| scanner_with(mode, &[]).unwrap().mask(secret);
    assert_eq!(mask(RedactMode::All, "s4mpl3Pass9"), "******");
    assert_eq!(mask(RedactMode::Partial, "s4mpl3Pass9"), "s4..s9");
    assert_eq!(mask(RedactMode::Partial, "short"), "******");
    assert_eq!(mask(RedactMode::Partial, "пароль1234"), "па..34");
    assert_eq!(mask(RedactMode::Hash, "abc"), "ba7816bf8f01cfea414140de5dae2223");
}

#[test]
fn disabled_rules_are_silent_and_known() {
    let scanner = scanner_with(RedactMode::All, &["github-pat"]).unwrap();
    let text = "token = ghp_0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R";
    assert!(all(&scanner, text).is_empty());
    let error = scanner_with(RedactMode::All, &["github-pta"]).unwrap_err();
    assert!(error.contains("github-pta") && error.contains("github-pat,"), "{error}");
    assert!(scanner_with(RedactMode::All, &["nonsense"]).unwrap_err().contains("look like"));
}

#[test]
fn reasons_never_hold_the_secret() {
    let scanner = scanner();
    for sample in samples() {
        for finding in all(&scanner, &sample.text) {
            assert!(!finding.reason.contains(&sample.text[finding.span.clone()]), "{finding:?}");
        }
    }
}
