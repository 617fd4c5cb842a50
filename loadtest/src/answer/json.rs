//! The few things that are looked for in the JSON of answers, by search: a parser would cost more than the gateway does.
//!
//! Prompts of plans have neither quotes nor backslashes, so that a key is never found inside of a text that was said back.

use memchr::{memchr2, memmem};

/// The value behind `"name":`, from its first byte on.
fn value<'a>(json: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut from = 0;
    while let Some(found) = memmem::find(json.get(from..)?, name) {
        let end = from + found + name.len();
        let quoted = json.get((from + found).wrapping_sub(1)) == Some(&b'"') && json.get(end) == Some(&b'"');
        let behind = json.get(end + 1..).unwrap_or_default().trim_ascii_start();
        if quoted && let [b':', value @ ..] = behind {
            return Some(value.trim_ascii_start());
        }
        from = end;
    }
    None
}

/// The inside of the first string named so, escapes as they are; `None` if it is no string or has no end.
#[must_use]
pub fn string<'a>(json: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let [b'"', text @ ..] = value(json, name)? else { return None };
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return text.get(..at);
        }
        at += 2;
    }
}

/// The inside of the first array named so, up to its first closing bracket.
#[must_use]
pub fn numbers<'a>(json: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let [b'[', inside @ ..] = value(json, name)? else { return None };
    inside.get(..memchr::memchr(b']', inside)?)
}

/// Whether it can be an object: it begins and ends as one.
#[must_use]
pub fn is_object(json: &[u8]) -> bool {
    let json = json.trim_ascii();
    json.len() >= 2 && json.first() == Some(&b'{') && json.last() == Some(&b'}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_found() {
        let json = br#"{"reasoning_content":"no","content": "a \"b\\","finish_reason":null}"#;
        assert_eq!(string(json, b"content"), Some(br#"a \"b\\"#.as_slice()));
        assert_eq!(string(json, b"finish_reason"), None);
        assert_eq!(string(br#"{"content":"cut"#, b"content"), None);
        assert_eq!(string(br#"{"x":"content"}"#, b"content"), None);
        assert_eq!(numbers(br#"{"embedding":[1,-2.5]}"#, b"embedding"), Some(b"1,-2.5".as_slice()));
        assert!(is_object(b" {} ") && !is_object(b"{") && !is_object(b"[]"));
    }
}
