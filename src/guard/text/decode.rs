//! What is encoded in a text, decoded.
//!
//! Runs of base64 and hexadecimal digits are found in windows that skip most of a text, escapes by their
//! first byte, so that ordinary prose costs little more than one pass. A run counts only if it decodes to
//! readable text. Escapes are decoded together with the words around them; letters turned by 13 places and
//! reversed text only if the text names that. At most [`RUNS_MAX`] runs of [`RUN_MAX`] bytes are decoded.

use std::ops::Range;

use memchr::{memchr, memmem};

use self::escape::Style;

mod escape;
#[cfg(test)]
mod tests;

/// Runs that are decoded of one text.
pub const RUNS_MAX: usize = 16;
/// Bytes of a run that are decoded.
pub const RUN_MAX: usize = 4096;
/// Digits of a run that is looked at.
const DIGITS_MIN: usize = 16;
/// Digits of a run that may be a word as well.
const DIGITS_SURE: usize = 24;
/// Bytes around escapes that are decoded with them.
const AROUND: usize = 64;

/// How a run was encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Base64, either alphabet.
    Base64,
    /// Hexadecimal digits.
    Hex,
    /// `%69`.
    Percent,
    /// `&#105;`.
    Entity,
    /// `\u0069`, `\x69`.
    Escape,
    /// Letters turned by 13 places.
    Rot13,
    /// Written backwards.
    Reversed,
}

/// A decoded run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// What it says.
    pub text: String,
    /// Where it stands in the original.
    pub span: Range<usize>,
    /// How it was encoded.
    pub kind: Encoding,
}

/// Shows what is encoded in `text`, one level deep.
pub fn decoded(text: &str, each: &mut dyn FnMut(Decoded)) {
    decoded_to(text, 1, each);
}

/// Shows what is encoded in `text`, and, if `depth` is 2, in what was decoded.
pub fn decoded_to(text: &str, depth: usize, each: &mut dyn FnMut(Decoded)) {
    let mut left = RUNS_MAX;
    let mut show = |decoded: Decoded| {
        if left == 0 {
            return false;
        }
        left -= 1;
        if depth > 1 {
            let span = decoded.span.clone();
            decoded_to(&decoded.text, 1, &mut |inner| each(Decoded { span: span.clone(), ..inner }));
        }
        each(decoded);
        true
    };
    let _ = digit_runs(text, &mut show)
        && escaped_runs(text, Style::PERCENT, &mut show)
        && escaped_runs(text, Style::ENTITY, &mut show)
        && escaped_runs(text, Style::BACKSLASH, &mut show)
        && turned(text, &mut show);
}

/// Runs of base64 and hexadecimal digits.
fn digit_runs(text: &str, show: &mut dyn FnMut(Decoded) -> bool) -> bool {
    let bytes = text.as_bytes();
    let is_digit = |index: usize| bytes.get(index).is_some_and(|byte| DIGITS[usize::from(*byte)]);
    let mut start = 0;
    while let Some(window) = bytes.get(start..start + DIGITS_MIN) {
        // The window is looked at from its end: what stands before its last other byte need not be looked
        // at.
        if let Some(other) = window.iter().rposition(|byte| !DIGITS[usize::from(*byte)]) {
            start += other + 1;
            continue;
        }
        let mut end = start + DIGITS_MIN;
        while is_digit(end) {
            end += 1;
        }
        let padding = bytes.iter().skip(end).take(2).take_while(|byte| **byte == b'=').count();
        let run = text.get(start..end).unwrap_or_default();
        if let Some((text, kind)) = read_digits(run, padding > 0)
            && !show(Decoded { text, span: start..end + padding, kind })
        {
            return false;
        }
        start = end;
    }
    true
}

/// What a run of digits says, if it says something.
fn read_digits(run: &str, padded: bool) -> Option<(String, Encoding)> {
    let run = run.get(..run.len().min(RUN_MAX))?;
    if run.len().is_multiple_of(2) && run.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or(0) as u8;
        let bytes =
            run.as_bytes().as_chunks::<2>().0.iter().map(|[high, low]| (digit(high) << 4) | digit(low));
        return readable(bytes.collect()).map(|text| (text, Encoding::Hex));
    }
    if run.len() < DIGITS_SURE && !padded {
        return None;
    }
    readable(base64(run)).map(|text| (text, Encoding::Base64))
}

/// The bytes of base64 digits; a rest of one digit is dropped.
fn base64(run: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(run.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in run.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            _ => 63,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// `bytes` as text, if it is text that people write: letters for the most part, no control characters.
fn readable(bytes: Vec<u8>) -> Option<String> {
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.utf8_error().error_len().is_none() => {
            // Cut in the middle of a character.
            let whole = error.utf8_error().valid_up_to();
            let mut bytes = error.into_bytes();
            bytes.truncate(whole);
            String::from_utf8(bytes).ok()?
        }
        Err(_) => return None,
    };
    let is_space = |ch: char| matches!(ch, ' ' | '\n' | '\r' | '\t');
    let good = text.chars().filter(|ch| ch.is_alphanumeric() || is_space(*ch)).count();
    let bad = text.chars().any(|ch| ch.is_control() && !is_space(ch));
    let count = text.chars().count();
    (!bad && count >= 4 && 4 * good >= 3 * count).then_some(text)
}

/// Regions with escapes of one style, with the words around them.
fn escaped_runs(text: &str, style: Style, show: &mut dyn FnMut(Decoded) -> bool) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(first) = next_escape(text, style, at) {
        let mut last = first;
        while let Some(next) = next_escape(text, style, last + 1) {
            if next - last > AROUND || next - first > RUN_MAX - 2 * AROUND {
                break;
            }
            last = next;
        }
        let is_space = |index: usize| bytes.get(index).is_none_or(u8::is_ascii_whitespace);
        let mut start = text.floor_char_boundary(first.saturating_sub(AROUND).max(at));
        // Whole words: at the edge the rest of a word is left out, unless the escape belongs to it.
        if let Some(skip) =
            (start..first).find(|index| *index == 0 || is_space(index - 1)).filter(|_| start > 0)
        {
            start = text.floor_char_boundary(skip);
        }
        let end = text.ceil_char_boundary((last + AROUND).min(bytes.len()));
        let region = text.get(start..end).unwrap_or_default();
        if !show(Decoded { text: style.decode(region), span: start..end, kind: style.kind }) {
            return false;
        }
        at = end;
    }
    true
}

/// The next valid escape from `at` on.
fn next_escape(text: &str, style: Style, mut at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    loop {
        at += memchr(style.first, bytes.get(at..)?)?;
        if style.read(bytes.get(at..)?).is_some() {
            return Some(at);
        }
        at += 1;
    }
}

/// The whole text turned or reversed, if it names that.
fn turned(text: &str, show: &mut dyn FnMut(Decoded) -> bool) -> bool {
    let start = text.get(..text.floor_char_boundary(RUN_MAX)).unwrap_or_default();
    let rot = named(start, "13", &["rot13", "rot-13", "rot 13", "caesar 13"]);
    let back = named(start, "evers", &["revers"])
        || named(start, "EVERS", &["revers"])
        || named(start, "kward", &["backward"])
        || named(start, "KWARD", &["backward"]);
    let mut ok = true;
    if rot {
        let turn = |ch: char| match ch {
            'a'..='z' => char::from((ch as u8 - b'a' + 13) % 26 + b'a'),
            'A'..='Z' => char::from((ch as u8 - b'A' + 13) % 26 + b'A'),
            _ => ch,
        };
        let text = start.chars().map(turn).collect();
        ok = show(Decoded { text, span: 0..start.len(), kind: Encoding::Rot13 });
    }
    if ok && back {
        let text = start.chars().rev().collect();
        ok = show(Decoded { text, span: 0..start.len(), kind: Encoding::Reversed });
    }
    ok
}

/// Whether one of `words` stands in `text` around its `part`, in any case.
fn named(text: &str, part: &str, words: &[&str]) -> bool {
    memmem::find_iter(text.as_bytes(), part).take(RUNS_MAX).any(|at| {
        let start = text.floor_char_boundary(at.saturating_sub(8));
        let end = text.ceil_char_boundary((at + 10).min(text.len()));
        let around = text.get(start..end).unwrap_or_default().to_ascii_lowercase();
        words.iter().any(|word| around.contains(word))
    })
}

/// Digits of base64 in either alphabet, and so of hexadecimal.
static DIGITS: [bool; 256] = {
    let mut digits = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let value = byte as u8;
        digits[byte] = value.is_ascii_alphanumeric() || matches!(value, b'+' | b'/' | b'-' | b'_');
        byte += 1;
    }
    digits
};
