use super::super::super::effective;
use super::super::super::guard::{Action, Normalize, PhraseMatch, Settings, TextMatch, Threshold};
use super::super::parse;
use super::super::tests::{problems, with_endpoint};
use super::*;

fn guard(text: &str) -> Guard {
    parse(&with_endpoint(text)).unwrap_or_else(|problems| panic!("{problems}")).guard
}

fn settings(profile: &Profile, output: bool, name: ScannerName) -> &Settings {
    let scanners = if output { &profile.output.scanners } else { &profile.input.scanners };
    &scanners.iter().find(|scanner| scanner.settings.name() == name).unwrap().settings
}

fn toxicity(profile: &Profile, output: bool) -> Threshold {
    match settings(profile, output, ScannerName::Toxicity) {
        Settings::Toxicity(own) => own.threshold,
        other => panic!("{other:?}"),
    }
}

#[test]
fn absent_is_off_and_present_is_on_with_the_stock_scanners() {
    assert!(!guard("").profiles[0].enabled);
    let on = guard("[guard]");
    let names = |scanners: &[super::super::super::guard::Scanner]| -> Vec<&str> {
        scanners.iter().map(|scanner| scanner.settings.name().name()).collect()
    };
    assert!(on.profiles[0].enabled);
    assert_eq!(
        names(&on.profiles[0].input.scanners),
        ["BanSubstrings", "TokenLimit", "Secrets", "PromptInjection", "Toxicity"]
    );
    assert_eq!(
        names(&on.profiles[0].output.scanners),
        ["BanSubstrings", "MaliciousURLs", "NoRefusal", "Toxicity", "NoCode"]
    );
    assert_eq!(toxicity(&on.profiles[0], false), Threshold::all(0.5));
    assert_eq!(toxicity(&on.profiles[0], true), Threshold::all(0.7));
}

#[test]
fn stronger_layers_win() {
    let text = r#"
[guard]
on_error = "allow"
[guard.scanner.Toxicity]
threshold = 0.4
action = "monitor"
[guard.output.scanner.Toxicity]
threshold = 0.6
thresholds = { zh = 0.3 }
match_type = "sentence"
[guard.scanner.BanSubstrings]
substrings = ["a", "b"]
match_type = "word"
redact = true
normalize = "strict"
[guard.profiles.strict]
on_error = "block"
input.scanners = ["Toxicity"]
[guard.profiles.strict.scanner.Toxicity]
threshold = 0.2
[guard.profiles.strict.output.scanner.Toxicity]
thresholds = { ja = 0.1 }
[[models]]
name = "m"
guard = "strict"
[[models]]
name = "n"
guard = "off"
"#;
    let config = parse(&with_endpoint(text)).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((config.models[0].guard, config.models[1].guard), (Some(1), None));
    let [default, strict] = config.guard.profiles.as_slice() else { panic!() };
    assert_eq!(toxicity(default, false), Threshold::all(0.4));
    let own = toxicity(default, true);
    assert_eq!((own.of(Language::Zh), own.of(Language::En)), (0.3, 0.6));
    assert_eq!(toxicity(strict, false), Threshold::all(0.2));
    let own = toxicity(strict, true);
    // The direction is stronger than the profile's own table for both.
    assert_eq!((own.of(Language::Ja), own.of(Language::En)), (0.1, 0.6));
    assert_eq!(strict.input.scanners.len(), 1);
    assert_eq!(
        (strict.input.scanners[0].action, strict.input.scanners[0].on_error),
        (Action::Monitor, OnError::Block)
    );
    match settings(default, true, ScannerName::BanSubstrings) {
        Settings::BanSubstrings(own) => {
            assert_eq!((own.match_type, own.normalize), (PhraseMatch::Word, Normalize::Strict));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(default.output.scanners[0].action, Action::Redact);
    match settings(default, true, ScannerName::Toxicity) {
        Settings::Toxicity(own) => assert_eq!(own.match_type, TextMatch::Sentence),
        other => panic!("{other:?}"),
    }
    let again = parse(&effective(&config)).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(again, config);
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, path, message) in [
        ("[guard.input]\nscanners = [\"Toxicty\"]", "guard.input.scanners[0]", "is no scanner of"),
        ("[guard.input]\nscanners = [\"NoCode\"]", "guard.input.scanners[0]", "does not scan"),
        ("[guard.input]\nscanners = [\"Secrets\", \"Secrets\"]", "guard.input.scanners[1]", "twice"),
        ("[guard.scanner.Toxicity]\naction = \"redact\"", "guard.scanner.Toxicity.action", "cannot redact"),
        ("[guard.scanner.Toxicity]\nmodel = \"x\"", "guard.scanner.Toxicity.model", "unknown key"),
        ("[guard.scanner.Toxicity]\nthreshold = 2", "guard.scanner.Toxicity.threshold", "out of range"),
        ("[guard.scanner.Regex]", "guard.scanner.Regex", "unknown key"),
        (
            "[guard.scanner.TokenLimit]\nencoding_name = \"p50k\"",
            "guard.scanner.TokenLimit.encoding_name",
            "is no encoding",
        ),
        ("[guard.profiles.off]", "guard.profiles.off", "is no name"),
        ("[[models]]\nname = \"m\"\nguard = \"none\"", "models[0].guard", "there is no guard profile"),
        ("[guard]\nlanguages = [\"de\"]", "guard.languages[0]", "is not known here"),
    ] {
        let found = problems(&with_endpoint(text));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert_eq!(found[0].path, path);
        assert!(found[0].message.contains(message), "{text}: {}", found[0].message);
    }
}
