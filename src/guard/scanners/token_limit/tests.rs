use super::*;

fn scanner(limit: usize, encoding_name: Encoding) -> TokenLimit {
    TokenLimit::new(&guard::TokenLimit { limit, encoding_name }).unwrap()
}

/// Whether `text` has as many tokens as the limit, counted `bytes` at a time.
fn exceeds(scanner: &TokenLimit, texts: &[&str], bytes: usize) -> bool {
    let (mut state, mut found) = (scanner.start(), Found::default());
    for text in texts {
        while !scanner.count(&mut state, text, bytes, &mut found) {}
    }
    !found.findings.is_empty()
}

#[test]
fn equal_to_the_limit_is_too_many() {
    // tiktoken: "hello world" is [15339, 1917] in cl100k_base and [24912, 2375] in o200k_base
    for encoding in [Encoding::Cl100k, Encoding::O200k] {
        assert!(exceeds(&scanner(2, encoding), &["hello world"], 64));
        assert!(!exceeds(&scanner(3, encoding), &["hello world"], 64));
        assert!(exceeds(&scanner(4, encoding), &["hello world", "hello world"], 64));
        assert!(!exceeds(&scanner(5, encoding), &["hello world", "hello world"], 64));
    }
}

#[test]
fn special_tokens_are_text() {
    // tiktoken with disallowed_special=(): [27, 91, 8862, 728, 428, 91, 29]
    assert!(exceeds(&scanner(7, Encoding::Cl100k), &["<|endoftext|>"], 64));
    assert!(!exceeds(&scanner(8, Encoding::Cl100k), &["<|endoftext|>"], 64));
}

#[test]
fn slices_count_as_the_whole_does() {
    let text = "Größe:   12345 and\n\n  some\tcode(); 漢字かな交じり文。 it's we'll — ok? ".repeat(9);
    for encoding in [Encoding::Cl100k, Encoding::O200k] {
        let tokenizer = if encoding == Encoding::Cl100k { tokens::cl100k() } else { tokens::o200k() };
        let tokens = tokenizer.unwrap().count(&text);
        for bytes in [1, 2, 7, 30, 1000, usize::MAX] {
            assert!(exceeds(&scanner(tokens, encoding), &[&text], bytes), "{bytes}");
            assert!(!exceeds(&scanner(tokens + 1, encoding), &[&text], bytes), "{bytes}");
        }
    }
}

#[test]
fn what_has_fewer_bytes_needs_no_count() {
    let exact = scanner(100, Encoding::Cl100k);
    assert!(!exact.may_exceed(99) && exact.may_exceed(100));
    let estimate = scanner(100, Encoding::Bytes(0.5));
    assert!(!estimate.may_exceed(49) && estimate.may_exceed(50));
    assert!(
        exceeds(&estimate, &["x".repeat(50).as_str()], 8)
            && !exceeds(&estimate, &["x".repeat(49).as_str()], 8)
    );
}

#[test]
fn no_text_is_over_before_its_tokens_are_counted() {
    let long = "a".repeat(1 << 20);
    assert!(exceeds(&scanner(4096, Encoding::Cl100k), &[&long], 4096));
    assert!(!exceeds(&scanner(usize::MAX / 2, Encoding::Cl100k), &[&long[..1 << 16]], 4096));
}
