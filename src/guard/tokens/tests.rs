use super::*;

/// Counts by tiktoken's algorithm (crate `bpe-openai` 0.3.2, which is tested against tiktoken).
const CASES: &str = include_str!("../../../tests/data/guard/tokens.jsonl");

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    cl100k: usize,
    o200k: usize,
}

fn cases() -> Vec<Case> {
    CASES.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn counts_are_those_of_tiktoken() {
    let (cl100k, o200k) = (cl100k().unwrap(), o200k().unwrap());
    let cases = cases();
    assert!(cases.len() > 200);
    for case in cases {
        assert_eq!(cl100k.count(&case.text), case.cl100k, "cl100k of {:?}", case.text);
        assert_eq!(o200k.count(&case.text), case.o200k, "o200k of {:?}", case.text);
    }
}

#[test]
fn pieces_are_the_text() {
    let tokenizer = o200k().unwrap();
    for case in cases() {
        assert_eq!(tokenizer.pieces(&case.text).collect::<String>(), case.text);
    }
}

#[test]
fn a_limit_ends_the_count() {
    let tokenizer = cl100k().unwrap();
    for case in cases() {
        // The whole text as one piece: merges then cross the borders of words.
        let all = tokenizer.count_piece(&case.text, usize::MAX).unwrap();
        assert_eq!(tokenizer.count_piece(&case.text, all), Some(all));
        assert_eq!(all.checked_sub(1).and_then(|less| tokenizer.count_piece(&case.text, less)), None);
    }
    let long = "ab".repeat(1 << 20);
    assert_eq!(tokenizer.count_piece(&long, 100), None);
}
