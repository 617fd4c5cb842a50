//! The text inside a JSON string, and the way back from its bytes to the bytes of the string.
//!
//! A string may come in pieces, each a whole JSON string: then the two halves of a surrogate pair may stand in two of
//! them. What is no valid UTF-8 or no valid escape becomes U+FFFD, as a lenient reader shows it; nothing is lost.
//! Cost: a copy for text without backslashes.

use std::ops::Range;

use super::Span;

/// Undoes the escapes of a text that comes in pieces.
#[derive(Debug, Clone, Default)]
pub struct Unescape {
    /// The first half of a surrogate pair, whose second half may come.
    high: Option<u16>,
}

impl Unescape {
    /// Appends the text of `raw`, the inside of a JSON string.
    pub fn push(&mut self, raw: &[u8], out: &mut String) {
        let mut at = 0;
        while let Some(rest) = raw.get(at..).filter(|rest| !rest.is_empty()) {
            let plain = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
            if plain > 0 {
                self.finish(out);
                push_lossy(rest.get(..plain).unwrap_or_default(), out);
                at += plain;
                continue;
            }
            let (unit, bytes) = escape(rest);
            at += bytes;
            self.unit(unit, out);
        }
    }

    /// The text is over: half a pair is no character.
    pub fn finish(&mut self, out: &mut String) {
        if self.high.take().is_some() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }

    fn unit(&mut self, unit: Option<u16>, out: &mut String) {
        if let (Some(high), Some(low @ 0xdc00..=0xdfff)) = (self.high, unit) {
            self.high = None;
            let code = 0x1_0000 + ((u32::from(high) & 0x3ff) << 10) + (u32::from(low) & 0x3ff);
            out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            return;
        }
        self.finish(out);
        match unit {
            Some(high @ 0xd800..=0xdbff) => self.high = Some(high),
            Some(unit) => out.push(char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER)),
            None => out.push(char::REPLACEMENT_CHARACTER),
        }
    }
}

/// The code unit of the escape at the start of `rest`, and its bytes.
fn escape(rest: &[u8]) -> (Option<u16>, usize) {
    let simple = |byte: u8| (Some(u16::from(byte)), 2);
    match rest.get(1) {
        Some(b'n') => simple(b'\n'),
        Some(b't') => simple(b'\t'),
        Some(b'r') => simple(b'\r'),
        Some(b'b') => simple(8),
        Some(b'f') => simple(12),
        Some(&byte @ (b'"' | b'\\' | b'/')) => simple(byte),
        Some(b'u') => {
            let digits = rest.get(2..6).and_then(|digits| std::str::from_utf8(digits).ok());
            let unit = digits
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
                .and_then(|digits| u16::from_str_radix(digits, 16).ok());
            (unit, if unit.is_some() { 6 } else { 2 })
        }
        _ => (None, 1),
    }
}

fn push_lossy(bytes: &[u8], out: &mut String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => out.push_str(text),
        Err(_) => out.push_str(&String::from_utf8_lossy(bytes)),
    }
}

/// Where `raw` may be cut at about `bytes`: not inside an escape or a character.
#[must_use]
pub fn cut(raw: &[u8], bytes: usize) -> usize {
    if raw.len() <= bytes {
        return raw.len();
    }
    let mut at = 0;
    while at < bytes {
        let rest = raw.get(at..bytes).unwrap_or_default();
        let Some(backslash) = memchr::memchr(b'\\', rest) else {
            at = bytes;
            break;
        };
        at += backslash;
        at += escape(raw.get(at..).unwrap_or_default()).1;
    }
    while raw.get(at).is_some_and(|byte| (0x80..0xc0).contains(byte)) {
        at += 1;
    }
    at.clamp(1, raw.len())
}

/// Where `spans`, byte ranges of the text of `raw` in rising order and apart, stand in `raw`. `pending` is the state
/// before `raw`: a character whose first half came before stands where its second half does.
#[must_use]
pub fn raw_spans(pending: &Unescape, raw: &[u8], spans: &[Range<usize>]) -> Vec<Span> {
    let (mut state, mut text) = (pending.clone(), String::new());
    let (mut at, mut done) = (0, 0);
    let mut out = Vec::with_capacity(spans.len());
    let mut spans = spans.iter();
    let mut next = spans.next();
    let mut start = None;
    while let Some(span) = next {
        if start.is_none() && done >= span.start {
            start = Some(at);
        }
        if let Some(from) = start.filter(|_| done >= span.end) {
            out.push(Span::new(from, at));
            (next, start) = (spans.next(), None);
            continue;
        }
        let Some(bytes) = char_bytes(raw, at) else {
            out.push(Span::new(start.unwrap_or(at), at));
            break;
        };
        text.clear();
        state.push(raw.get(at..at + bytes).unwrap_or_default(), &mut text);
        done += text.len();
        at += bytes;
    }
    out
}

/// Bytes of the character or escape at `at`; `None` at the end.
fn char_bytes(raw: &[u8], at: usize) -> Option<usize> {
    let rest = raw.get(at..).filter(|rest| !rest.is_empty())?;
    Some(match rest.first()? {
        b'\\' => escape(rest).1,
        0..=0xbf => 1,
        0xc0..=0xdf => 2.min(rest.len()),
        0xe0..=0xef => 3.min(rest.len()),
        0xf0..=0xff => 4.min(rest.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pieces: &[&str]) -> String {
        let (mut state, mut out) = (Unescape::default(), String::new());
        pieces.iter().for_each(|piece| state.push(piece.as_bytes(), &mut out));
        state.finish(&mut out);
        out
    }

    #[test]
    fn halves_of_a_pair_meet_across_pieces() {
        assert_eq!(text(&["a\\ud83d\\ude00b"]), "a😀b");
        assert_eq!(text(&["a\\ud83d", "\\ude00b"]), "a😀b");
        assert_eq!(text(&["a\\ud83d", "b"]), "a\u{fffd}b");
        assert_eq!(text(&["\\ud83d\\ud83d\\ude00"]), "\u{fffd}😀");
        assert_eq!(text(&["\\ude00"]), "\u{fffd}");
        assert_eq!(text(&["\\n\\t\\\"\\/\\u00e9\\uZZZZ"]), "\n\t\"/é\u{fffd}ZZZZ");
    }

    #[test]
    fn agrees_with_a_json_reader() {
        for raw in ["plain", "é漢\\u6f22\\n", "\\\\u0041", "\\u0041\\\\\\\"", "tab\\tend"] {
            let wanted: String = serde_json::from_str(&format!("\"{raw}\"")).unwrap();
            assert_eq!(text(&[raw]), wanted);
        }
    }

    #[test]
    fn cuts_fall_between_characters() {
        let raw = "ab\\\\u0041\\u0041漢字\\\"x".as_bytes();
        for bytes in 1..raw.len() {
            let (mut at, mut pieces) = (0, Vec::new());
            while at < raw.len() {
                let end = at + cut(&raw[at..], bytes);
                pieces.push(std::str::from_utf8(&raw[at..end]).unwrap());
                at = end;
            }
            assert_eq!(text(&pieces), text(&[std::str::from_utf8(raw).unwrap()]), "{bytes}");
        }
    }

    #[test]
    fn spans_go_back_to_the_escapes() {
        let raw = "a\\u00e9\\n漢\\ud83d\\ude00z";
        let whole = text(&[raw]); // a é \n 漢 😀 z at 0 1 3 4 7 11
        let at = |from: usize, to: usize| {
            let span = raw_spans(&Unescape::default(), raw.as_bytes(), std::slice::from_ref(&(from..to)))[0];
            &raw[span.start as usize..span.end as usize]
        };
        assert_eq!(whole.len(), 12);
        assert_eq!((at(1, 3), at(3, 4), at(4, 7)), ("\\u00e9", "\\n", "漢"));
        assert_eq!((at(7, 11), at(11, 12), at(0, 12)), ("\\ud83d\\ude00", "z", raw));
        let two = raw_spans(&Unescape::default(), raw.as_bytes(), &[0..1, 11..12]);
        assert_eq!(two.len(), 2);
    }
}
