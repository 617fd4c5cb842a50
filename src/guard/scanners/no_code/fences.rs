//! Lines that open and close fenced blocks (`CommonMark` 0.31, section 4.5, read generously).
//!
//! Indentation, block quotes and list marks before a fence are skipped, since models fence inside lists.

use memchr::{memchr, memchr2};

use super::PREFIX_MAX;
use super::languages::{Tag, by_tag};

/// Bytes of a line that may still close a block; a longer one is content.
pub const CLOSING_MAX: usize = 64;

/// Bytes of a line from its fence on that may still open a block; a longer one is text.
pub const OPENING_MAX: usize = 256;

/// Bytes that may stand before a fence, or on a line that counts as blank.
#[must_use]
pub fn is_prefix(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'>' | b'-' | b'*')
}

/// A fence: its sign and how many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// A backtick or a tilde.
    pub sign: u8,
    /// At least 3.
    pub count: usize,
}

/// The fence that `line` begins with, and what follows it.
#[must_use]
pub fn fence(line: &[u8]) -> Option<(Fence, &[u8])> {
    let from = line.iter().position(|byte| !is_prefix(*byte))?;
    let rest = line.get(from..)?;
    let sign = *rest.first().filter(|byte| matches!(byte, b'`' | b'~'))?;
    let count = rest.iter().take_while(|byte| **byte == sign).count();
    let info = rest.get(count..)?;
    (count >= 3 && !(sign == b'`' && info.contains(&b'`'))).then_some((Fence { sign, count }, info))
}

/// Whether a line that begins with `line` may turn out to be a fence of a block, in a block.
#[must_use]
pub fn may_be_fence(line: &[u8]) -> bool {
    let sign = line.iter().find(|byte| !is_prefix(**byte));
    line.len() <= CLOSING_MAX && sign.is_none_or(|byte| matches!(byte, b'`' | b'~'))
}

/// Whether `line` closes a block that `open` opened.
#[must_use]
pub fn closes(line: &[u8], open: Fence) -> bool {
    fence(line).is_some_and(|(fence, info)| {
        fence.sign == open.sign && fence.count >= open.count && info.iter().all(u8::is_ascii_whitespace)
    })
}

/// The tag of an info string, in lower case: `python` of `{.python .numbered}`, `Python title="x"`, `lang-python`.
#[must_use]
pub fn tag(info: &[u8]) -> String {
    let text = String::from_utf8_lossy(info).to_ascii_lowercase();
    let text = text.trim_start_matches([' ', '\t', '{', '.']);
    let word =
        text.split([' ', '\t', '\r', '\n', '{', '}', ',', ':', ';', '(', '=']).next().unwrap_or_default();
    let bare = ["language-", "lang-"].iter().find_map(|head| word.strip_prefix(head)).unwrap_or(word);
    bare.to_owned()
}

/// What an info string says of its block.
#[must_use]
pub fn says(info: &[u8]) -> Tag {
    if info.trim_ascii().is_empty() { Tag::Silent } else { by_tag(&tag(info)) }
}

/// What a run of fence signs begins.
pub enum Opening {
    /// Not known yet.
    More,
    /// A block, if it may stand here; with the bytes up to its first line.
    Block(Fence, Tag, usize),
    /// Inline code of so many bytes.
    Inline(usize),
    /// Neither; so many bytes were looked at.
    Text(usize),
}

/// Judges `rest`, which begins with a backtick or tilde.
pub fn opening(rest: &[u8]) -> Opening {
    let Some(&sign) = rest.first() else { return Opening::More };
    let count = rest.iter().take(PREFIX_MAX).take_while(|byte| **byte == sign).count();
    if count == PREFIX_MAX {
        return Opening::Text(count);
    }
    if count == rest.len() {
        return Opening::More;
    }
    if count < 3 && sign != b'`' {
        return Opening::Text(count);
    }
    let window = rest.get(..rest.len().min(OPENING_MAX)).unwrap_or_default();
    let after = window.get(count..).unwrap_or_default();
    let partner = if sign == b'`' { memchr2(b'\n', sign, after) } else { memchr(b'\n', after) };
    match partner {
        None if window.len() == OPENING_MAX => Opening::Text(count),
        None => Opening::More,
        Some(at) if after.get(at) == Some(&b'\n') => {
            let info = after.get(..at).unwrap_or_default();
            if count < 3 {
                return Opening::Text(count);
            }
            Opening::Block(Fence { sign, count }, says(info), count + at + 1)
        }
        // The closing run is as long as the opening one; what is missing of it shows the text is over anyway.
        Some(at) => {
            let tail = rest.get(count + at..).unwrap_or_default();
            let run = tail.iter().take(count).take_while(|byte| **byte == sign).count();
            if run == tail.len() && run < count { Opening::More } else { Opening::Inline(count + at + run) }
        }
    }
}
