//! JSON without building it: where the members of an object are, in one forward pass.
//!
//! The scanner checks structure (brackets, strings, separators) and leaves the inside of numbers and escapes
//! alone: it reads answers of endpoints, which are passed on byte for byte. Requests are validated in full by
//! `simd-json` in [`crate::api::body`]. Cost: one look at each byte outside of strings, `memchr` inside them; no
//! allocation. Depth is bounded by [`DEPTH_MAX`].

use memchr::memchr2;

use super::Span;

/// Deepest nesting of objects and arrays.
pub const DEPTH_MAX: usize = 64;

/// The text is not JSON, ends too early, or is too deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// A member of an object: the key without quotes, as written, and the value with its quotes or brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The key between its quotes.
    pub key: Span,
    /// The whole value.
    pub value: Span,
}

/// Walks the members of an object, or the elements of an array.
#[derive(Debug, Clone)]
pub struct Walk<'a> {
    text: &'a [u8],
    at: usize,
    first: bool,
    ended: bool,
    close: u8,
}

impl<'a> Walk<'a> {
    /// The members of the object that begins at or after `at`, white space skipped.
    ///
    /// # Errors
    /// There is no object.
    pub fn object(text: &'a [u8], at: usize) -> Result<Self, Malformed> {
        Self::open(text, at, b'{', b'}')
    }

    /// The elements of the array that begins at or after `at`.
    ///
    /// # Errors
    /// There is no array.
    pub fn array(text: &'a [u8], at: usize) -> Result<Self, Malformed> {
        Self::open(text, at, b'[', b']')
    }

    /// The members of an object from the one on whose value begins at `at`: [`Walk::skip`] comes next.
    #[must_use]
    pub fn at_value(text: &'a [u8], at: usize) -> Self {
        Self { text, at, first: false, ended: false, close: b'}' }
    }

    fn open(text: &'a [u8], at: usize, open: u8, close: u8) -> Result<Self, Malformed> {
        let at = space(text, at);
        if text.get(at) != Some(&open) {
            return Err(Malformed);
        }
        Ok(Self { text, at: at + 1, first: true, ended: false, close })
    }

    /// The next member of an object.
    ///
    /// # Errors
    /// The text breaks the grammar.
    pub fn member(&mut self) -> Result<Option<Member>, Malformed> {
        let Some((key, _)) = self.key()? else { return Ok(None) };
        Ok(Some(Member { key, value: self.skip()? }))
    }

    /// The next element of an array.
    ///
    /// # Errors
    /// The text breaks the grammar.
    pub fn element(&mut self) -> Result<Option<Span>, Malformed> {
        if self.start()?.is_none() {
            return Ok(None);
        }
        self.skip().map(Some)
    }

    /// As [`Walk::member`], but the value is not looked at: [`Walk::skip`] or [`Walk::go_on`] comes next. The key, and where the value
    /// begins.
    ///
    /// # Errors
    /// The text breaks the grammar.
    pub fn key(&mut self) -> Result<Option<(Span, usize)>, Malformed> {
        if !self.step()? {
            return Ok(None);
        }
        let key = string(self.text, self.at)?;
        let mut colon = key.end as usize + 1;
        if self.text.get(colon) != Some(&b':') {
            colon = space(self.text, colon);
            if self.text.get(colon) != Some(&b':') {
                return Err(Malformed);
            }
        }
        self.at = space(self.text, colon + 1);
        Ok(Some((key, self.at)))
    }

    /// As [`Walk::element`], but the element is not looked at: where it begins.
    ///
    /// # Errors
    /// The text breaks the grammar.
    pub fn start(&mut self) -> Result<Option<usize>, Malformed> {
        Ok(self.step()?.then_some(self.at))
    }

    /// Walks over the value that stands here.
    ///
    /// # Errors
    /// It is none.
    pub fn skip(&mut self) -> Result<Span, Malformed> {
        let value = value(self.text, self.at)?;
        self.at = value.end as usize;
        Ok(value)
    }

    /// Goes on behind the value that another walk has been to the end of.
    pub fn go_on(&mut self, inner: &Walk<'_>) {
        self.at = inner.at;
    }

    /// One past the closing bracket, once the walk has ended.
    #[must_use]
    pub fn end(&self) -> usize {
        self.at
    }

    /// Moves to the next key or element; `false` at the closing bracket.
    fn step(&mut self) -> Result<bool, Malformed> {
        if self.ended {
            return Ok(false);
        }
        let at = space(self.text, self.at);
        let next = match self.text.get(at) {
            Some(&byte) if byte == self.close => {
                self.ended = true;
                self.at = at + 1;
                return Ok(false);
            }
            Some(b',') if !self.first => space(self.text, at + 1),
            Some(_) if self.first => at,
            _ => return Err(Malformed),
        };
        self.first = false;
        self.at = next;
        Ok(true)
    }
}

/// The first member of the object in `text` with this key.
#[must_use]
pub fn find(text: &[u8], key: &[u8]) -> Option<Member> {
    let mut walk = Walk::object(text, 0).ok()?;
    while let Ok(Some(member)) = walk.member() {
        if member.key.of_bytes(text) == key {
            return Some(member);
        }
    }
    None
}

/// Whether `text` is one JSON value, structurally, with nothing but white space around it.
#[must_use]
pub fn is_whole(text: &[u8]) -> bool {
    value(text, space(text, 0)).is_ok_and(|found| space(text, found.end as usize) == text.len())
}

/// A number without sign, fraction or exponent.
#[must_use]
pub fn integer(text: &[u8]) -> Option<u64> {
    super::http1::field::length(text)
}

/// The index of the first byte at or after `at` that is not white space.
#[must_use]
#[inline]
pub fn space(text: &[u8], mut at: usize) -> usize {
    if text.get(at).is_some_and(|byte| *byte > b' ') {
        return at; // what is sent is tight, mostly
    }
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = text.get(at) {
        at += 1;
    }
    at
}

/// Where the closing quote is of the string whose inside begins at `start`.
#[must_use]
pub fn string_end(text: &[u8], start: usize) -> Option<usize> {
    quote(text, start)
}

/// The member whose key (between its quotes) is `key`.
#[must_use]
pub fn value_after_key(text: &[u8], key: Span) -> Option<Member> {
    let colon = space(text, key.end as usize + 1);
    let at = (text.get(colon) == Some(&b':')).then(|| space(text, colon + 1))?;
    value(text, at).ok().map(|value| Member { key, value })
}

/// What to leave out so that `member` is gone and the object stays well formed: the comma before it, or the one
/// behind it if it is the first.
#[must_use]
pub fn removal(text: &[u8], member: Member) -> Span {
    let (start, end) = (member.key.start as usize - 1, member.value.end as usize);
    let before = text.get(..start).unwrap_or_default().trim_ascii_end();
    if before.last() == Some(&b',') {
        return Span::new(before.len() - 1, end);
    }
    removal_with_next_comma(text, member)
}

/// As [`removal`], for a member that no comma stands before.
#[must_use]
pub fn removal_with_next_comma(text: &[u8], member: Member) -> Span {
    let (start, end) = (member.key.start as usize - 1, member.value.end as usize);
    let comma = space(text, end);
    Span::new(start, if text.get(comma) == Some(&b',') { comma + 1 } else { end })
}

/// The inside of the string whose opening quote is at `at`.
fn string(text: &[u8], at: usize) -> Result<Span, Malformed> {
    if text.get(at) != Some(&b'"') {
        return Err(Malformed);
    }
    quote(text, at + 1).map(|end| Span::new(at + 1, end)).ok_or(Malformed)
}

/// Where the quote is that ends the string whose inside begins at `start`.
#[inline]
fn quote(text: &[u8], start: usize) -> Option<usize> {
    let mut from = start;
    loop {
        let found = quote_or_backslash(text, from)?;
        if text.get(found) == Some(&b'"') {
            return Some(found);
        }
        from = found + 2;
    }
}

/// The first quote or backslash at or after `at`: eight bytes at a time for the length of a key, since most strings
/// are keys, then by `memchr`.
#[inline]
fn quote_or_backslash(text: &[u8], mut at: usize) -> Option<usize> {
    const QUOTES: u64 = u64::from_le_bytes([b'"'; 8]);
    const BACKSLASHES: u64 = u64::from_le_bytes([b'\\'; 8]);
    for _ in 0..2 {
        let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk) else { break };
        let word = u64::from_le_bytes(*word);
        let hit = zero_bytes(word ^ QUOTES) | zero_bytes(word ^ BACKSLASHES);
        if hit != 0 {
            return Some(at + (hit.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    memchr2(b'"', b'\\', text.get(at..)?).map(|found| at + found)
}

/// The high bit of each zero byte; right for the lowest one, which is all that is read (Mycroft 1987).
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(u64::from_le_bytes([0x01; 8])) & !word & u64::from_le_bytes([0x80; 8])
}

/// The value that begins at `at`.
#[inline]
fn value(text: &[u8], at: usize) -> Result<Span, Malformed> {
    match text.get(at) {
        Some(b'"') => string(text, at).map(|inside| Span::new(at, inside.end as usize + 1)),
        Some(b'{' | b'[') => nested(text, at),
        Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
            let rest = text.get(at..).unwrap_or_default();
            let length = rest.iter().position(|byte| !is_scalar(*byte)).unwrap_or(rest.len());
            Ok(Span::new(at, at + length))
        }
        _ => Err(Malformed),
    }
}

#[inline]
fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// The object or array that begins at `at`: brackets are matched, strings skipped. The kinds of the open brackets
/// are the bits of one word.
fn nested(text: &[u8], at: usize) -> Result<Span, Malformed> {
    let (mut objects, mut depth) = (0u64, 0usize);
    let mut here = at;
    loop {
        let rest = text.get(here..).ok_or(Malformed)?;
        let step = rest.iter().position(|&byte| STRUCTURAL[usize::from(byte)]).ok_or(Malformed)?;
        here += step;
        let byte = rest.get(step).copied().unwrap_or_default();
        match byte {
            b'"' => here = quote(text, here + 1).ok_or(Malformed)?,
            b'{' | b'[' if depth == DEPTH_MAX => return Err(Malformed),
            b'{' | b'[' => {
                objects = objects << 1 | u64::from(byte == b'{');
                depth += 1;
            }
            _ if (objects & 1 == 1) == (byte == b'}') => {
                objects >>= 1;
                depth -= 1;
                if depth == 0 {
                    return Ok(Span::new(at, here + 1));
                }
            }
            _ => return Err(Malformed),
        }
        here += 1;
    }
}

/// Bytes that matter outside of strings: quotes and brackets.
const STRUCTURAL: [bool; 256] = {
    let mut table = [false; 256];
    table[b'"' as usize] = true;
    table[b'{' as usize] = true;
    table[b'}' as usize] = true;
    table[b'[' as usize] = true;
    table[b']' as usize] = true;
    table
};

/// The text of a string value (quotes included in `value`), unescaped; `None` if it is no valid JSON string.
#[must_use]
pub fn text_of(value: &[u8]) -> Option<String> {
    serde_json::from_slice(value).ok()
}

/// Appends `text` as the inside of a JSON string; runs without an escape are copied whole.
pub fn escape_into(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    loop {
        let clean = rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\');
        let (run, after) = rest.split_at(clean.unwrap_or(rest.len()));
        out.extend_from_slice(run);
        let Some((&byte, after)) = after.split_first() else { return };
        rest = after;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let digits = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(digits[usize::from(byte >> 4)]);
                out.push(digits[usize::from(byte & 15)]);
            }
        }
    }
}

/// `text` as a JSON string with its quotes.
#[must_use]
pub fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    out.push(b'"');
    escape_into(&mut out, text);
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Result<Vec<(String, String)>, Malformed> {
        let bytes = text.as_bytes();
        let mut walk = Walk::object(bytes, 0)?;
        let mut all = Vec::new();
        while let Some(member) = walk.member()? {
            all.push((member.key.text(bytes).to_owned(), member.value.text(bytes).to_owned()));
        }
        Ok(all)
    }

    #[test]
    fn finds_members_and_their_values() {
        let text = r#" { "a" : 1 , "b\"":"x\\", "c":{"d":[1,{"e":"}"}]}, "f":null,"g":-1.5e3}"#;
        let found = members(text).unwrap();
        let values: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            values,
            [
                ("a", "1"),
                (r#"b\""#, r#""x\\""#),
                ("c", r#"{"d":[1,{"e":"}"}]}"#),
                ("f", "null"),
                ("g", "-1.5e3")
            ]
        );
        assert!(is_whole(text.as_bytes()));
        assert_eq!(find(text.as_bytes(), b"f").unwrap().value.text(text.as_bytes()), "null");
    }

    #[test]
    fn refuses_broken_structure_at_every_cut() {
        let text = r#"{"a":[1,"b",{"c":"d\u00e9"}],"e":true}"#;
        for cut in 0..text.len() {
            assert!(!is_whole(&text.as_bytes()[..cut]), "cut at {cut}");
            let _ = members(&text[..cut]);
        }
        for bad in [
            "{]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "{,}",
            "[1}",
            "{\"a\" 1}",
            "",
            "{\"a\":1 \"b\":2}",
        ] {
            assert!(members(bad).is_err(), "{bad}");
        }
        let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
        assert!(!is_whole(deep.as_bytes()));
    }

    #[test]
    fn escapes_round_trip() {
        let text = "a\"b\\c\n\t\u{1}é\u{1F600}";
        assert_eq!(text_of(&quoted(text)).unwrap(), text);
    }
}
