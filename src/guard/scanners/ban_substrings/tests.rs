use super::*;

const CASES: &str = include_str!("../../../../tests/data/guard/ban_substrings.jsonl");
const DISGUISES: &str = include_str!("../../../../tests/data/guard/disguises.jsonl");

fn settings(phrases: &[&str], match_type: PhraseMatch, normalize: Normalize) -> config::BanSubstrings {
    let substrings = Some(phrases.iter().map(ToString::to_string).collect());
    config::BanSubstrings { substrings, match_type, case_sensitive: false, contains_all: false, normalize }
}

/// Scans a text in pieces; checks on the way that nothing is found in what was settled, and forgets what it
/// may.
fn scan(scanner: &BanSubstrings, pieces: &[&str]) -> Found {
    let (mut folder, mut folded, mut found) =
        (Folder::new(scanner.level()), Folded::default(), Found::default());
    let mut state = scanner.start();
    let mut settled = 0;
    for piece in pieces {
        let count = found.findings.len();
        folder.push(piece, &mut folded);
        scanner.push(&mut state, &folded, &mut found);
        check(&found.findings[count..], settled, pieces);
        settled = settled.max(scanner.settled(&state, &folded));
        folded.forget(scanner.needs(&state, &folded));
    }
    let count = found.findings.len();
    folder.finish(&mut folded);
    scanner.finish(&mut state, &folded, &mut found);
    check(&found.findings[count..], settled, pieces);
    assert_eq!(scanner.settled(&state, &folded), pieces.iter().map(|piece| piece.len()).sum::<usize>());
    found
}

fn check(new: &[Finding], settled: usize, pieces: &[&str]) {
    for finding in new {
        assert!(
            finding.span.start >= settled || finding.span.is_empty(),
            "{finding:?} after {settled}: {pieces:?}"
        );
    }
}

/// The findings without their order.
fn spans(found: &Found) -> Vec<(usize, usize, String)> {
    let mut spans: Vec<_> = found
        .findings
        .iter()
        .map(|finding| (finding.span.start, finding.span.end, finding.rule.to_string()))
        .collect();
    spans.sort();
    spans
}

fn cut_everywhere(scanner: &BanSubstrings, text: &str) -> Vec<(usize, usize, String)> {
    let whole = spans(&scan(scanner, &[text]));
    for cut in (1..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
        assert_eq!(spans(&scan(scanner, &[&text[..cut], &text[cut..]])), whole, "{text:?} cut at {cut}");
    }
    let letters: Vec<String> = text.chars().map(String::from).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    assert_eq!(spans(&scan(scanner, &letters)), whole, "{text:?} letter by letter");
    whole
}

#[test]
fn what_llm_guard_finds_is_found() {
    let mut count = 0;
    for line in CASES.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let strings = |name: &str| {
            let list = case[name].as_array().unwrap();
            list.iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<String>>()
        };
        let settings = config::BanSubstrings {
            substrings: Some(strings("substrings")),
            match_type: if case["match_type"] == "word" { PhraseMatch::Word } else { PhraseMatch::Str },
            case_sensitive: case["case_sensitive"] == true,
            contains_all: case["contains_all"] == true,
            normalize: Normalize::None,
        };
        let scanner = BanSubstrings::new(&settings, false);
        let found = cut_everywhere(&scanner, case["text"].as_str().unwrap());
        assert_eq!(found.is_empty(), case["valid"] == true, "{line}");
        if let Some(want) = case["spans"].as_array() {
            let mut got: Vec<Vec<usize>> = found.iter().map(|(start, end, _)| vec![*start, *end]).collect();
            let mut want: Vec<Vec<usize>> =
                want.iter().map(|span| serde_json::from_value(span.clone()).unwrap()).collect();
            got.sort();
            want.sort();
            assert_eq!(got, want, "{line}");
        }
        count += 1;
    }
    assert!(count >= 300);
}

#[test]
fn disguises_are_seen_through_under_strict() {
    for match_type in [PhraseMatch::Str, PhraseMatch::Word] {
        let (mut seen, mut missed) = (0, Vec::new());
        for line in DISGUISES.lines() {
            let case: serde_json::Value = serde_json::from_str(line).unwrap();
            let (phrase, text) = (case["phrase"].as_str().unwrap(), case["text"].as_str().unwrap());
            let scanner = BanSubstrings::new(&settings(&[phrase], match_type, Normalize::Strict), false);
            let mut found = Found::default();
            scanner.scan_decoded(text, &mut found);
            if cut_everywhere(&scanner, text).is_empty() && found.findings.is_empty() {
                missed.push(text.to_owned());
            } else {
                seen += 1;
            }
        }
        assert!(seen >= 300 && 20 * missed.len() <= seen, "{seen} seen, not these: {missed:#?}");
    }
}

#[test]
fn honest_text_is_left_alone_under_strict() {
    let phrases = ["cho", "ass", "ist", "secret", "bomb", "hell", "resume", "как", "rape", "sap"];
    let scanner = BanSubstrings::new(&settings(&phrases, PhraseMatch::Str, Normalize::Strict), false);
    let texts = [
        "con chó mèo",
        "Bada$$ and @SS4_x",
        "le 1st prize",
        "la secrète",
        "b-o-m now",
        "he1lo",
        "print(reversed(parents))",
        "résumés",
        "a \u{43a}\u{430}",
    ];
    for text in texts {
        let mut found = scan(&scanner, &[text]);
        scanner.scan_decoded(text, &mut found);
        assert_eq!(spans(&found), [], "{text}");
    }
}

#[test]
fn spans_cover_the_disguise() {
    let scanner =
        BanSubstrings::new(&settings(&["ignore all", "bomb"], PhraseMatch::Word, Normalize::Strict), false);
    let cases = [
        ("say i g n o r e  a l l, ok", "i g n o r e  a l l"),
        ("say ígnóre\u{200b} áll\u{301}.", "ígnóre\u{200b} áll\u{301}"),
        ("a ｂｏｍｂ!", "ｂｏｍｂ"),
        ("the $bomb", "bomb"),
        ("b0mb", "b0mb"),
        ("so i g n o r e a l l now", "i g n o r e a l l"),
    ];
    for (text, want) in cases {
        let found = cut_everywhere(&scanner, text);
        let got: Vec<&str> = found.iter().map(|(start, end, _)| &text[*start..*end]).collect();
        assert_eq!(got, [want], "{text}");
    }
}

#[test]
fn words_of_scripts_without_spaces_have_no_borders() {
    let scanner = BanSubstrings::new(
        &settings(&["炸弹", "c++", "бомба"], PhraseMatch::Word, Normalize::Unicode),
        false,
    );
    let found = |text| cut_everywhere(&scanner, text).len();
    assert_eq!(found("怎么做炸弹吗"), 1);
    assert_eq!(found("learn C++ now, or C++11"), 2);
    assert_eq!(found("бомба! бомбардир"), 1);
}

#[test]
fn stock_lists_know_the_test_strings() {
    let settings = config::BanSubstrings {
        substrings: None,
        match_type: PhraseMatch::Str,
        case_sensitive: false,
        contains_all: false,
        normalize: Normalize::None,
    };
    for output in [false, true] {
        let scanner = BanSubstrings::new(&settings, output);
        let text = format!("a {} b", stock::INPUT[0]);
        assert_eq!(cut_everywhere(&scanner, &text), [(2, 70, "phrase-0".to_owned())]);
    }
    assert_eq!(
        cut_everywhere(&BanSubstrings::new(&settings, true), "x ![a](b)"),
        [(2, 4, "phrase-1".to_owned())]
    );
}

#[test]
fn nothing_to_look_for_finds_nothing() {
    for phrases in [&[][..], &["\u{200b}"]] {
        let scanner = BanSubstrings::new(&settings(phrases, PhraseMatch::Str, Normalize::Unicode), false);
        assert_eq!(cut_everywhere(&scanner, "any text"), []);
    }
}

#[test]
fn many_occurrences_are_bounded() {
    let phrases: Vec<String> = (1..200).map(|length| "a".repeat(length)).collect();
    let phrases: Vec<&str> = phrases.iter().map(String::as_str).collect();
    let scanner = BanSubstrings::new(&settings(&phrases, PhraseMatch::Str, Normalize::Strict), false);
    assert_eq!(scan(&scanner, &[&"a".repeat(20_000)]).findings.len(), FINDINGS_MAX);
}
