//! Cases as data (`tests/data/guard/urls.jsonl`), cuts of streams, held bytes, cost of hostile texts.

use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::guard::verdict::FINDINGS_MAX;

const LIST: &str =
    "# comment\nbad.listed.example\nlisted.tk # more\n0.0.0.0 hostsfile.example\n66.77.88.99\nтест.example\n";

fn cases(kind: &str) -> Vec<Value> {
    let all = include_str!("../../../../tests/data/guard/urls.jsonl").lines();
    let all = all.map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|case| case.get("kind").and_then(Value::as_str) == Some(kind)).collect()
}

fn text(case: &Value) -> &str {
    case.get("text").and_then(Value::as_str).unwrap()
}

fn scanner() -> MaliciousUrls {
    let settings = Settings { threshold: 0.5, deny_list: None, allow: vec!["fine.evil.com".into()] };
    let mut scanner = MaliciousUrls::new(&settings).unwrap();
    scanner.denied.extend(LIST.lines().filter_map(listed_host));
    scanner
}

fn judge(scanner: &MaliciousUrls, pieces: &[&str]) -> Found {
    let (mut state, mut found) = (scanner.start(), Found::default());
    let mut taken = 0;
    for piece in pieces {
        let before = scanner.settled(&state);
        let count = found.findings.len();
        scanner.push(&mut state, piece, &mut found);
        taken += piece.len();
        let after = scanner.settled(&state);
        assert!(before <= after && after <= taken, "{pieces:?}");
        assert!(taken - after <= extract::URL_MAX, "{pieces:?}");
        assert!(found.findings.iter().skip(count).all(|finding| finding.span.start >= before), "{pieces:?}");
    }
    let before = scanner.settled(&state);
    let count = found.findings.len();
    scanner.finish(&mut state, &mut found);
    assert!(found.findings.iter().skip(count).all(|finding| finding.span.start >= before), "{pieces:?}");
    assert_eq!(scanner.settled(&state), taken);
    found
}

fn urls(text: &str) -> Vec<(String, String)> {
    let mut at = 0;
    let mut urls = Vec::new();
    while let Step::Url(candidate) = extract::next(text, at, true) {
        at = candidate.url.end;
        let raw = text.get(candidate.url).unwrap();
        if let Some(url) = Url::parse(raw, candidate.link) {
            urls.push((raw.to_owned(), url.defanged_host().replace(['[', ']'], "")));
        }
    }
    urls
}

#[test]
fn awkward_forms_are_found_and_read_as_browsers_do() {
    let (mut right, mut wrong) = (0, Vec::new());
    for case in cases("extract") {
        let wanted: Vec<(String, String)> =
            serde_json::from_value(case.get("urls").cloned().unwrap()).unwrap();
        let got = urls(text(&case));
        if got == wanted { right += 1 } else { wrong.push((text(&case).to_owned(), got)) }
    }
    assert!(right >= 200 && wrong.is_empty(), "{right} right, wrong: {wrong:#?}");
}

#[test]
fn attacks_are_found_by_their_rule() {
    let scanner = scanner();
    let mut wrong = Vec::new();
    for case in cases("attack") {
        let found = judge(&scanner, &[text(&case)]);
        // Without a rule: any will do.
        let rule = case.get("rule").and_then(Value::as_str).unwrap_or_default();
        if !found.findings.iter().any(|finding| finding.reason.contains(rule)) {
            wrong.push(format!("{} {rule} {:?}", text(&case), found.findings));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn ordinary_links_pass() {
    let scanner = scanner();
    for case in cases("benign") {
        let found = judge(&scanner, &[text(&case)]);
        assert!(found.findings.is_empty(), "{} {:?}", text(&case), found.findings);
    }
}

#[test]
fn cuts_change_nothing() {
    let scanner = scanner();
    let all: Vec<Value> = ["attack", "extract", "cut"].into_iter().flat_map(cases).collect();
    for case in &all {
        let text = format!("Zu {} ende. See hxxp://listed[.]tk/x, too", text(case));
        let whole = judge(&scanner, &[&text]);
        assert!(!whole.findings.is_empty());
        let borders: Vec<usize> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
        if text.len() < 500 {
            for at in &borders {
                let (head, tail) = text.split_at(*at);
                assert_eq!(judge(&scanner, &[head, tail]), whole, "{head:?} {tail:?}");
            }
        }
        let single: Vec<&str> = borders.windows(2).map(|pair| text.get(pair[0]..pair[1]).unwrap()).collect();
        assert_eq!(judge(&scanner, &single), whole, "{text:?}");
    }
}

#[test]
fn long_texts_are_cut_anywhere() {
    let scanner = scanner();
    let part =
        "Words of prose, e.g. 3.14 or foo.bar(x). [t](https://paypal.com@evil.com/a) <a href=\"x\"> 你好。";
    let attacks: String = cases("attack").iter().map(|case| format!("{} {part}\n", text(case))).collect();
    let whole = judge(&scanner, &[&attacks]);
    assert!(whole.findings.len() > 150);
    for size in [1, 2, 3, 7, 50, 333, 2047, 4095, 5000] {
        let mut pieces = Vec::new();
        let mut rest = attacks.as_str();
        while !rest.is_empty() {
            let mut at = size.min(rest.len());
            while !rest.is_char_boundary(at) {
                at += 1;
            }
            let (head, tail) = rest.split_at(at);
            pieces.push(head);
            rest = tail;
        }
        assert_eq!(judge(&scanner, &pieces), whole, "{size}");
    }
}

#[test]
fn prose_is_not_held() {
    let scanner = scanner();
    let prose =
        "Nothing here can be a URL: neither this word. nor that one, e.g. pi = 3.14 (more or less) [or so]. ";
    let (mut state, mut found) = (scanner.start(), Found::default());
    let mut taken = 0;
    for word in prose.repeat(20).split_inclusive(' ') {
        scanner.push(&mut state, word, &mut found);
        taken += word.len();
        assert_eq!(scanner.settled(&state), taken, "{word}");
    }
    scanner.push(&mut state, "see ht", &mut found);
    assert_eq!(scanner.settled(&state), taken + 4);
    assert!(found.findings.is_empty());
    assert!(state.tail.len() < 1024);
}

#[test]
fn spans_are_the_urls() {
    let scanner = scanner();
    let text = "a [b](https://paypal.com@evil.com/x) c www.paypal-login.com/y d paypal-login.com/z";
    let found = judge(&scanner, &[text]);
    let spans: Vec<&str> =
        found.findings.iter().map(|finding| text.get(finding.span.clone()).unwrap()).collect();
    assert_eq!(spans, ["https://paypal.com@evil.com/x", "www.paypal-login.com/y", "com/z"]);
    let first = found.findings.first().unwrap();
    assert_eq!(first.rule, "userinfo_host");
    assert!(first.reason.contains("evil[.]com") && first.score > 0.5, "{first:?}");
}

#[test]
fn allowed_hosts_pass_and_listed_ones_never() {
    let scanner = scanner();
    assert!(judge(&scanner, &["https://fine.evil.com/invoice.pdf.exe"]).findings.is_empty());
    assert!(judge(&scanner, &["https://a.fine.evil.com/invoice.pdf.exe"]).findings.is_empty());
    assert!(!judge(&scanner, &["https://notfine.evil.com/invoice.pdf.exe"]).findings.is_empty());
    assert!(!judge(&scanner, &["https://paypal.com@fine.evil.com/"]).findings.is_empty());
    assert!(judge(&scanner, &["https://notlisted.tk/"]).findings.is_empty());
    let missing = Settings { threshold: 0.5, deny_list: Some("/nowhere/list".into()), allow: vec![] };
    assert!(MaliciousUrls::new(&missing).unwrap_err().contains("/nowhere/list"));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn hostile_texts_cost_linear_time() {
    let scanner = scanner();
    let size = 100_000;
    for unit in [
        "a.",
        "](",
        "](<",
        "href=\"",
        "href='",
        "http://",
        "http:",
        "[",
        "]",
        "a[.]",
        "[[.]]",
        "&#106;",
        "www.",
        "](&",
        ":",
        "](http://",
        "(",
        "https://a/(",
        "https://a/)",
        "%41",
        "。",
        "a。",
        "é.",
        "<javascript:",
        "](javascript:(",
        "a.com,",
        "https://p-a-y-p-a-l.",
        "]:",
        "https://a@",
        "\u{200b}",
        "a.com/",
        "https://x.y/?=http://x.y/",
    ] {
        let text = unit.repeat(size / unit.len());
        let start = Instant::now();
        let found = judge(&scanner, &[&text]);
        assert!(found.findings.len() <= FINDINGS_MAX);
        assert!(start.elapsed().as_millis() < 1500, "{unit:?} {:?}", start.elapsed());
    }
}
