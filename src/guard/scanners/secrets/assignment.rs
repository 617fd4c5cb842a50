//! The grammar of assignments: a name, an operator, a value, in programs, configuration, command lines
//! and prose.
//!
//! Parsing begins behind a keyword in the name and looks at [`REACH`] bytes until the operator and at
//! [`VALUE_MAX`] of the value, so that its cost is bounded whatever the text.

use std::ops::Range;

use memchr::{memchr, memchr2};

/// Bytes between a keyword and its operator.
const REACH: usize = 48;
/// Words between a keyword and its operator.
const WORDS_MAX: usize = 3;
/// Bytes before an operator that may belong to the name.
const NAME_MAX: usize = 64;
/// Bytes of a value.
const VALUE_MAX: usize = 1024;

/// Signs of equality in an unquoted value: with more, it is a list of assignments itself.
const SIGNS_MAX: usize = 4;

/// How a value is given to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    /// `=` and its kin.
    Sign,
    /// `:`.
    Colon,
    /// `name("value")`, `("name", "value")`, `NAME "value"`: only a quoted value counts.
    Beside,
    /// `<name>value</name>`.
    Tag,
    /// `--name value`.
    Flag,
    /// `| name | value |`, and words: the name is, was, to.
    Prose,
}

/// A name with its value.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    /// Where the operator begins.
    pub(super) at: usize,
    /// How.
    pub(super) operator: Operator,
    /// The value without its quotes.
    pub(super) value: Range<usize>,
    /// Whether it is quoted.
    pub(super) quoted: bool,
    /// Whether the operator touches both sides, as in shells and `.env` files.
    pub(super) tight: bool,
    /// Whether name and value are all of their line, as in YAML.
    pub(super) line: bool,
}

/// What follows the keyword that ends at `end` and begins at `start`.
pub(super) fn parse(text: &[u8], start: usize, end: usize) -> Option<Assignment> {
    let (operator, at, after) = operator(text, start, end)?;
    let (value, quoted) = value(text, after, operator)?;
    let tight = operator == Operator::Sign && value.start == after && at > 0 && is_word(byte(text, at - 1));
    let line = operator == Operator::Colon && !quoted && is_line(text, start, &value);
    Some(Assignment { at, operator, value, quoted, tight, line })
}

impl Assignment {
    /// What stands before the operator and may be the name: all back to the last byte that no name has.
    pub(super) fn name(&self, text: &[u8]) -> Range<usize> {
        let from = self.at.saturating_sub(NAME_MAX);
        let head = text.get(from..self.at).unwrap_or_default();
        head.iter().rposition(|byte| !in_name(*byte)).map_or(from, |found| from + found + 1)..self.at
    }
}

/// Whether the name around `start` begins its line in lower case, and `value` ends it.
fn is_line(text: &[u8], start: usize, value: &Range<usize>) -> bool {
    let begin = identifier(text, start);
    let before = text.get(begin.saturating_sub(REACH)..begin).unwrap_or_default();
    let blank = before.iter().rev().find(|byte| !matches!(byte, b' ' | b'\t'));
    byte(text, begin).is_ascii_lowercase()
        && blank.is_none_or(|byte| *byte == b'\n')
        && byte(text, value.end) == b'\n'
}

/// Whether `byte` may be part of an identifier.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// The byte at `at`; behind the end: a line break.
pub(super) fn byte(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or(b'\n')
}

/// Where the identifier begins that `at` lies in.
pub(super) fn identifier(text: &[u8], at: usize) -> usize {
    let from = at.saturating_sub(NAME_MAX);
    let head = text.get(from..at).unwrap_or_default();
    head.iter().rposition(|byte| !is_word(*byte)).map_or(from, |found| from + found + 1)
}

/// Whether `byte` may be part of a name in the widest sense: an index, a path, words in quotes.
fn in_name(byte: u8) -> bool {
    is_word(byte)
        || matches!(byte, 0x80..|b' '| b'\t' | b'"' | b'\'' | b'`' | b'\\' | b'[' | b']' | b'(' | b')')
        || matches!(byte, b'*' | b'?' | b'$' | b'/' | b'<')
}

/// The operator behind a keyword: what it is, where it begins and where it ends.
fn operator(text: &[u8], start: usize, end: usize) -> Option<(Operator, usize, usize)> {
    let stop = text.len().min(end + REACH);
    let (mut at, mut words, mut closed) = (end, 0, false);
    let mut word = end;
    while at < stop {
        let next = byte(text, at + 1);
        match byte(text, at) {
            b'-' if next == b'>' => return Some((Operator::Colon, at, at + 2)),
            b if is_word(b) => at += 1,
            b' ' | b'\t' => {
                let after = skip_blanks(text, at);
                if let Some(found) = beside(text, start, at, after, words) {
                    return Some(found);
                }
                if byte(text, after).is_ascii_alphanumeric() {
                    (words, word) = (words + 1, after);
                }
                if words > WORDS_MAX {
                    return None;
                }
                at = after;
            }
            b'"' | b'\'' | b'`' => (at, closed) = (at + 1, true),
            b'\\' | b']' | b')' | b'*' => at += 1,
            b'?' if matches!(next, b':' | b'?' | b'=') => at += 1 + usize::from(next == b'?'),
            b'=' | b':' if closed && words > 0 && !gives_value(text, word, at) => return None,
            b'=' => return sign(text, at),
            b':' => return colon(text, at),
            b',' if closed => return Some((Operator::Beside, at, at + 1)),
            b'(' => return Some((Operator::Beside, at, at + 1)),
            b'|' if next == b'|' => return Some((Operator::Sign, at, at + 2)),
            b'|' => return Some((Operator::Prose, at, at + 1)),
            b'>' => {
                let open = identifier(text, start);
                let tag = open > 0 && byte(text, open - 1) == b'<';
                return tag.then_some((Operator::Tag, at, at + 1));
            }
            0x80.. => return wide(text, at),
            _ => return None,
        }
    }
    None
}

/// Attributes that hold the value of what another attribute names.
fn gives_value(text: &[u8], word: usize, at: usize) -> bool {
    let word = text.get(word..at).unwrap_or_default().trim_ascii();
    [&b"value"[..], b"content", b"default"].iter().any(|wanted| word.eq_ignore_ascii_case(wanted))
}

fn skip_blanks(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..text.len().min(at + REACH)).unwrap_or_default();
    at + rest.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(rest.len())
}

/// Operators that are no more than a blank: flags, words, quotes.
fn beside(
    text: &[u8],
    start: usize,
    at: usize,
    after: usize,
    words: usize,
) -> Option<(Operator, usize, usize)> {
    let rest = text.get(after..).unwrap_or_default();
    if words == 0 && byte(text, identifier(text, start)) == b'-' && !rest.starts_with(b"=") {
        return Some((Operator::Flag, at, after));
    }
    if words == 0 && matches!(byte(text, start), b'p' | b'P') && is_netrc(text, start) {
        return Some((Operator::Flag, at, after));
    }
    if words == 0 && matches!(rest.first(), Some(b'"' | b'\'' | b'`')) {
        return Some((Operator::Beside, at, after));
    }
    const VERBS: &[&str] = &["is ", "was ", "are ", "to ", "as ", "ist ", "est ", "es ", "é ", "là "];
    if !matches!(rest.first(), Some(b'i' | b'w' | b'a' | b't' | b'e' | b'l' | 0xC3)) {
        return None;
    }
    let verb = VERBS.iter().find(|verb| rest.len() >= verb.len() && rest.starts_with(verb.as_bytes()))?;
    let after = after + verb.len();
    let rest = text.get(after..).unwrap_or_default();
    let skipped =
        ["now ", "currently ", "set to ", "still "].iter().find(|word| rest.starts_with(word.as_bytes()));
    Some((Operator::Prose, at, after + skipped.map_or(0, |word| word.len())))
}

/// Whether the name at `start` follows a login, as in `.netrc`.
fn is_netrc(text: &[u8], start: usize) -> bool {
    let before = text.get(start.saturating_sub(REACH)..start).unwrap_or_default();
    let mut words = before.rsplit(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    matches!(byte(text, start.wrapping_sub(1)), b' ' | b'\n' | b'\t') && words.nth(1) == Some(b"login")
}

fn sign(text: &[u8], at: usize) -> Option<(Operator, usize, usize)> {
    if at > 0 && matches!(byte(text, at - 1), b'!' | b'<' | b'>') {
        return None;
    }
    let mut after = at + 1;
    while matches!(byte(text, after), b'=' | b'>' | b'~') && after < at + 3 {
        after += 1;
    }
    Some((Operator::Sign, at, after))
}

/// A colon, or what stands behind the type that it announces.
fn colon(text: &[u8], at: usize) -> Option<(Operator, usize, usize)> {
    let rest = text.get(at..text.len().min(at + REACH)).unwrap_or_default();
    let colons = rest.iter().take(3).take_while(|byte| **byte == b':').count();
    if rest.get(colons) == Some(&b'=') {
        return Some((Operator::Sign, at, at + colons + 1));
    }
    if rest.starts_with(b"::") || rest.starts_with(b"://") {
        return None;
    }
    let kind = |byte: &u8| {
        matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b' ' | b'&' | b'\'' | b'<' | b'>' | b'[' | b']' | b'.')
            || matches!(byte, b'_' | b'|' | b'?' | b'*' | b':')
    };
    let length = rest.iter().position(|byte| !kind(byte)).unwrap_or(rest.len());
    let typed = rest.get(length) == Some(&b'=') && rest.get(length.wrapping_sub(1)) == Some(&b' ');
    if typed && rest.get(length + 1) != Some(&b'=') {
        return Some((Operator::Sign, at, at + length + 1));
    }
    Some((Operator::Colon, at, at + 1))
}

/// Full-width signs, and the particles of languages that write no blanks.
fn wide(text: &[u8], at: usize) -> Option<(Operator, usize, usize)> {
    const SIGNS: &[(&str, Operator)] = &[
        ("：", Operator::Colon),
        ("＝", Operator::Sign),
        ("是", Operator::Prose),
        ("为", Operator::Prose),
        ("為", Operator::Prose),
        ("は", Operator::Prose),
        ("는", Operator::Prose),
        ("은", Operator::Prose),
        ("가", Operator::Prose),
        ("이", Operator::Prose),
        ("—", Operator::Prose),
        ("–", Operator::Prose),
        ("هي", Operator::Prose),
    ];
    let rest = text.get(at..).unwrap_or_default();
    let (sign, operator) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign.as_bytes()))?;
    Some((*operator, at, at + sign.len()))
}

/// The value that begins at or behind `at`, and whether it is quoted.
fn value(text: &[u8], at: usize, operator: Operator) -> Option<(Range<usize>, bool)> {
    let mut start = skip_blanks(text, at);
    if byte(text, start) == b'\n' && operator != Operator::Prose {
        let below = skip_blanks(text, start + 1);
        start = if matches!(byte(text, below), b'"' | b'\'') { below } else { start };
    }
    if operator == Operator::Prose || text.get(start..).is_some_and(|rest| rest.starts_with(b"**")) {
        start += emphasis(text, start);
    }
    let opened = opening(text, start);
    let range = match (operator, opened) {
        (Operator::Tag, _) => closing(text, start, b'<')?,
        (_, Some((inside, quote, escaped))) => {
            let range = closing(text, inside, quote)?;
            if escaped { range.start..trim_escape(text, &range) } else { range }
        }
        (Operator::Beside, None) => return None,
        (_, None) => bare(text, start, operator),
    };
    let start = scheme(text, range.start);
    (start < range.end).then_some((start..range.end, opened.is_some()))
}

/// Marks that set a value off in prose.
fn emphasis(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..text.len().min(at + 8)).unwrap_or_default();
    let colon = usize::from(rest.first() == Some(&b':'));
    let rest = rest.get(colon..).unwrap_or_default();
    colon + rest.iter().position(|byte| !matches!(byte, b'*' | b' ')).unwrap_or(0)
}

/// Where a quoted value begins at `at`: inside its quotes; with the quote, and whether that is escaped.
fn opening(text: &[u8], at: usize) -> Option<(usize, u8, bool)> {
    let mut at = at;
    for _ in 0..3 {
        match byte(text, at) {
            quote @ (b'"' | b'\'' | b'`') => {
                return Some((at + 1, quote, at > 0 && byte(text, at - 1) == b'\\'));
            }
            b'\\' | b'b' | b'B' | b'r' | b'R' | b'u' | b'f' | b'L' | b'@' | b'(' | b'[' => at += 1,
            _ => return None,
        }
    }
    None
}

/// From `start` to the next `quote` of the line that is not escaped.
fn closing(text: &[u8], start: usize, quote: u8) -> Option<Range<usize>> {
    let rest = text.get(start..text.len().min(start + VALUE_MAX))?;
    let mut from = 0;
    loop {
        let found = from + memchr2(quote, b'\n', rest.get(from..)?)?;
        let escaped = found > 0 && rest.get(found - 1) == Some(&b'\\');
        let opened_escaped = start >= 2 && byte(text, start - 2) == b'\\';
        match rest.get(found) {
            Some(b'\n') => return None,
            _ if escaped && !opened_escaped => from = found + 1,
            _ => return Some(start..start + found),
        }
    }
}

fn trim_escape(text: &[u8], range: &Range<usize>) -> usize {
    let value = text.get(range.clone()).unwrap_or_default();
    range.start + value.iter().rposition(|byte| *byte != b'\\').map_or(0, |last| last + 1)
}

/// An unquoted value.
fn bare(text: &[u8], start: usize, operator: Operator) -> Range<usize> {
    let rest = text.get(start..text.len().min(start + VALUE_MAX)).unwrap_or_default();
    let foreign = operator == Operator::Prose || start > 0 && byte(text, start - 1) >= 0x80;
    let mut signs = 0;
    let ends = |byte: &u8| {
        signs += usize::from(*byte == b'=');
        byte.is_ascii_whitespace()
            || matches!(byte, b'"' | b'\'' | b'`' | b';' | b',' | b'<' | b'>')
            || (foreign && *byte >= 0x80)
            || signs > SIGNS_MAX
    };
    let mut length = rest.iter().position(ends).unwrap_or(rest.len());
    if signs > SIGNS_MAX {
        return start..start;
    }
    let value = rest.get(..length).unwrap_or_default();
    if let Some(escape) =
        memchr(b'\\', value).filter(|at| matches!(value.get(at + 1), Some(b'n' | b'r' | b't') | None))
    {
        length = escape;
    }
    if let Some(query) =
        memchr(b'&', value).filter(|at| memchr(b'=', value.get(*at..).unwrap_or_default()).is_some())
    {
        length = length.min(query);
    }
    let value = rest.get(..length).unwrap_or_default();
    let prose = operator == Operator::Prose || operator == Operator::Colon;
    let trailing = |byte: &u8| b".,:)]}|*".contains(byte) || (prose && b"?".contains(byte));
    let kept = value.iter().rposition(|byte| !trailing(byte)).map_or(0, |last| last + 1);
    let value = value.get(..kept).unwrap_or_default();
    start..start + if value.is_ascii() { kept } else { until_stop(value) }
}

/// How much of `value` is whole characters before a full stop or a comma of full width.
fn until_stop(value: &[u8]) -> usize {
    let whole = std::str::from_utf8(value).map_or_else(|error| error.valid_up_to(), str::len);
    let stops = ["。", "，"].iter().filter_map(|stop| memchr::memmem::find(value, stop.as_bytes()));
    stops.min().unwrap_or(whole).min(whole)
}

/// Where the credential begins behind an authentication scheme.
fn scheme(text: &[u8], start: usize) -> usize {
    const SCHEMES: &[&str] =
        &["bearer ", "basic ", "token ", "apikey ", "bot ", "ssws ", "negotiate ", "genie-key "];
    let rest = text.get(start..text.len().min(start + 12)).unwrap_or_default();
    let found = SCHEMES.iter().find(|scheme| {
        rest.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme.as_bytes()))
    });
    start + found.map_or(0, |scheme| scheme.len())
}
