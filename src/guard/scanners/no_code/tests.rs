//! Cuts change nothing, blocks, inline code and prose, settings, data cases.

use super::*;
use structure::next;

fn scanner(languages: &[&str], is_blocked: bool) -> NoCode {
    let languages = languages.iter().map(|name| (*name).to_owned()).collect();
    NoCode::new(&Settings { languages, is_blocked, threshold: 0.5 }).unwrap()
}

/// Scans `pieces`, and checks that no finding covers what was settled.
fn scan_pieces(scanner: &NoCode, pieces: &[&str]) -> Vec<Finding> {
    let (mut state, mut found) = (scanner.start(), Found::default());
    let (mut end, mut settled) = (0, 0);
    let check = |found: &Found, before: usize, settled: usize| {
        for finding in &found.findings[before..] {
            assert!(finding.span.start >= settled, "{finding:?} covers what was settled: {settled}");
        }
    };
    for piece in pieces {
        let before = found.findings.len();
        scanner.push(&mut state, piece, &mut found);
        check(&found, before, settled);
        end += piece.len();
        let now = scanner.settled(&state);
        assert!(settled <= now && now <= end, "settled went from {settled} to {now} of {end}");
        settled = now;
    }
    let before = found.findings.len();
    scanner.finish(&mut state, &mut found);
    check(&found, before, settled);
    assert_eq!(scanner.settled(&state), end);
    found.findings
}

fn scan(scanner: &NoCode, text: &str) -> Vec<Finding> {
    let findings = scan_pieces(scanner, &[text]);
    for finding in &findings {
        assert!(text.get(finding.span.clone()).is_some(), "{finding:?} of {text:?}");
    }
    findings
}

fn rules(scanner: &NoCode, text: &str) -> Vec<String> {
    scan(scanner, text).into_iter().map(|finding| finding.rule.into_owned()).collect()
}

const PYTHON: &str = "def add(a, b):\n    return a + b\n\nprint(add(1, 2))\n";
const PROSE: &str = "The committee met on Tuesday. It agreed to build a new library near the river.\n";

#[test]
fn cuts_change_nothing() {
    let texts = [
        format!("Here it is:\n\n```python\n{PYTHON}```\nDone; `x = f(1, 2);` too.\n"),
        format!(
            "1. So:\n   ```\n{PYTHON}   ```\n> ~~~~ Rust\n> fn f() {{}}\n> ~~~~\nÜ *x_y* — `a` ``b``` c\n"
        ),
        format!("{PROSE}\nimport os\nfor x in range(10):\n    print(os.getcwd(), x)\n\n{PROSE}"),
        "```markdown\nText\n```js\nlet x = 1;\n```\nafter\n```json\n{\"a\": [1, 2]}\n```".to_owned(),
        format!("```\n{}\n```\n{}", "é".repeat(500) + "x = 1;\n", "日本語".repeat(120)),
        format!("{}\n{}", "a = b; ".repeat(150), "word ".repeat(200) + "f(x) = y;"),
        "`unclosed\n```\nno end `````` x\n~~~ a\nint main() { return 0; }\n~~".to_owned(),
        "SELECT name FROM users\nWHERE age > 3;\r\n\r\n  \t- \n#!/bin/sh\necho $HOME;".to_owned(),
        format!("{}```py\n{}", " ".repeat(40), "`".repeat(40)),
    ];
    for scanner in [scanner(&[], true), scanner(&["JavaScript"], true), scanner(&["Python"], false)] {
        for text in &texts {
            let whole = scan(&scanner, text);
            for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
                assert_eq!(
                    scan_pieces(&scanner, &[&text[..cut], &text[cut..]]),
                    whole,
                    "{text:?} cut at {cut}"
                );
            }
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(scan_pieces(&scanner, &letters), whole, "{text:?} in letters");
        }
    }
}

#[test]
fn random_texts_cut_at_random_are_read_alike() {
    let scanner = scanner(&[], true);
    let parts = [
        "```",
        "`",
        "\n",
        "\n\n",
        "~~~",
        " ",
        "python",
        "x = 1;",
        "def f(x):",
        "word ",
        "```js\n",
        "é",
        "{",
        "}",
        "\n```\n",
        "import ",
        "    ",
        "> ",
        "- ",
        "(",
        "))",
        "return x",
        "The answer is clear. ",
        ";\n",
        "日本",
        "<div>",
        "\r\n",
    ];
    let mut seed = 12_345_u64;
    let mut next = |end: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % end
    };
    for _ in 0..1500 {
        let text: String = (0..next(120) + 1).map(|_| parts[next(parts.len())]).collect();
        let whole = scan(&scanner, &text);
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.ceil_char_boundary((next(30) + 1).min(rest.len())));
            pieces.push(piece);
            rest = after;
        }
        assert_eq!(scan_pieces(&scanner, &pieces), whole, "{text:?}");
    }
}

#[test]
fn tags_decide() {
    let all = scanner(&[], true);
    assert_eq!(rules(&all, "```py\nx\n```"), ["Python"]);
    assert_eq!(rules(&all, "~~~ {.cpp .numbered}\nx\n~~~"), ["C++"]);
    assert_eq!(rules(&all, "   ````C#\nx"), ["C#"]);
    assert_eq!(rules(&all, "so: ```bash\nls\n```"), ["Shell"]);
    assert_eq!(rules(&all, "```json\n{\"a\": 1}\n```"), [""; 0]);
    assert_eq!(rules(&all, "```text\nhello there\n```"), [""; 0]);
    assert_eq!(rules(&scanner(&["json"], true), "```json\n{\"a\": 1}\n```"), ["JSON"]);
    assert_eq!(rules(&scanner(&["JavaScript"], true), "```ts\nx\n```\n```py\nx\n```"), ["JavaScript"]);
    let found = scan(&all, "Hi\n```python\nx = 1\n```\n");
    assert_eq!((found[0].span.clone(), found[0].score, found[0].reason.as_str()), (3..13, 1.0, "tag python"));
}

#[test]
fn blocks_within_blocks_are_seen() {
    let text = "```markdown\n# Title\n\n```python\nprint(1)\n```\n```\n";
    assert_eq!(rules(&scanner(&["Python"], true), text), ["Python"]);
}

#[test]
fn untagged_blocks_are_read() {
    let all = scanner(&[], true);
    assert_eq!(rules(&all, &format!("So:\n\n```\n{PYTHON}```\n")), ["Python"]);
    assert_eq!(rules(&all, &format!("```\n{PROSE}```\n")), [""; 0]);
    assert_eq!(rules(&all, "```\nname,age\nAnn,30\nBob,25\n```\n"), [""; 0]);
}

#[test]
fn code_without_fences_is_found() {
    let all = scanner(&[], true);
    assert!(!scan(&all, PYTHON).is_empty());
    assert!(
        !scan(&all, &format!("{PROSE}\n#include <stdio.h>\nint main(void) {{\n  return 0;\n}}\n\n{PROSE}"))
            .is_empty()
    );
    assert!(!scan(&all, "Run `for (int i = 0; i < n; i++) sum += a[i];` first.").is_empty());
    assert_eq!(rules(&all, "Call `foo()` or set `max_size`, see `git`."), [""; 0]);
}

#[test]
fn prose_is_not_held() {
    let all = scanner(&[], true);
    let (mut state, mut found) = (all.start(), Found::default());
    all.push(&mut state, "The plan is simple: we meet, we talk, we eat", &mut found);
    assert_eq!(all.settled(&state), 44);
    all.push(&mut state, ".\nThen we go home. x = 1", &mut found);
    assert_eq!(all.settled(&state), 65);
}

#[test]
fn settings_say_what_is_forbidden() {
    let python = format!("```python\n{PYTHON}```\n");
    assert_eq!(rules(&scanner(&["Java", "Go"], true), &python), [""; 0]);
    assert_eq!(rules(&scanner(&["Java", "Go"], false), &python), ["Python"]);
    assert_eq!(rules(&scanner(&["Python"], false), &python), [""; 0]);
    assert_eq!(rules(&scanner(&["Python"], false), PROSE), [""; 0]);
    assert_eq!(rules(&scanner(&[], false), &python), [""; 0]);
    let settings = Settings { languages: vec!["Pyton".to_owned()], is_blocked: true, threshold: 0.5 };
    let error = NoCode::new(&settings).unwrap_err();
    assert!(error.contains("Pyton") && error.contains("Visual Basic .NET"), "{error}");
}

#[test]
fn llm_guards_names_and_the_tags_are_classes() {
    for class in CLASSES {
        assert_eq!(by_name(class).map(|class| CLASSES[class]), Some(class));
    }
    for (alias, class) in
        [("c++", "C++"), ("ts", "JavaScript"), ("cs", "C#"), ("zsh", "Shell"), ("vb", CLASSES[24])]
    {
        assert_eq!(by_name(alias).map(|class| CLASSES[class]), Some(class), "{alias}");
    }
}

#[test]
fn keywords_are_sorted_and_known() {
    assert!(structure::KEYWORDS.is_sorted());
    for keyword in structure::KEYWORDS {
        assert_eq!(first_word(format!("{keyword} x").as_bytes()), Word::Keyword, "{keyword}");
    }
    assert_eq!(first_word(b"Th"), Word::Plain);
    assert_eq!(first_word(b"imp"), Word::Open);
}

#[test]
fn signs_are_few_in_prose() {
    assert_eq!(next(b"a (b) [c]: \"d\"; $5 - e/f, 3 > 2, x: y", 0), None);
    for text in ["f(x)", "a_b", "x = y", "a[0]", "->", "std::x", "$x", "#include", "</p>", "x;\n", "i++", "{"]
    {
        assert!(matches!(next(text.as_bytes(), 0), Some((_, Mark::Sign))), "{text}");
    }
}

#[test]
fn long_and_odd_texts_are_bounded() {
    let all = scanner(&[], true);
    for unit in ["`", "```", "\n", " ", "x = ", "~~~\n", "> ", "é", "{};\n", "-", "``` "] {
        let text = unit.repeat(100_000 / unit.len());
        let (mut state, mut found) = (all.start(), Found::default());
        for piece in text.as_bytes().chunks(unit.len() * 7) {
            all.push(&mut state, std::str::from_utf8(piece).unwrap(), &mut found);
            assert!(state.text.len() < 3000, "{unit:?} {}", state.text.len());
        }
        all.finish(&mut state, &mut found);
    }
}

#[test]
fn a_damaged_model_is_refused() {
    let bytes = include_bytes!("../../models/code.bin");
    assert!(Model::parse(bytes).is_some());
    for length in [0, 3, 4, 100, bytes.len() - 1] {
        assert!(Model::parse(&bytes[..length]).is_none());
    }
}

#[test]
fn cases() {
    let data = include_str!("../../../../tests/data/guard/code.jsonl");
    let all = scanner(&[], true);
    let mut wrong = Vec::new();
    for line in data.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = row["text"].as_str().unwrap();
        let expected: Vec<&str> =
            row["rules"].as_array().unwrap().iter().map(|rule| rule.as_str().unwrap()).collect();
        let mut found = rules(&all, text);
        found.dedup();
        if found != expected {
            wrong.push((text.to_owned(), found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
