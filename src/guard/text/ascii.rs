//! Plain ASCII, judged and copied in blocks.
//!
//! The loops go over arrays of fixed length without branches, so that they compile to vector instructions.
//! Anything unusual ends the plain stretch; `cluster.rs` and `words.rs` then go on character by character
//! and come to the same result for plain text.

use memchr::memchr3;

/// Bytes judged together, and with what stands around them: both whole vectors.
const BLOCK: usize = 64;
const WINDOW: usize = BLOCK + 16;

/// White space of ASCII, as far as plain text has it.
pub(super) const fn is_space(byte: u8) -> bool {
    (byte == b' ') | (byte == b'\n') | (byte == b'\t') | (byte == b'\r')
}

/// What is no plain ASCII: the other white space is left to the long way.
const fn is_strange(byte: u8) -> bool {
    (byte >= 0x80) | (byte == 0x0b) | (byte == 0x0c)
}

const fn is_letter(byte: u8) -> bool {
    (byte | 0x20).wrapping_sub(b'a') < 26
}

/// Digits and signs that may stand for letters, but the exclamation mark.
const fn is_figure(byte: u8) -> bool {
    (byte.wrapping_sub(b'0') < 10) | (byte == b'@') | (byte == b'$') | (byte == b'|')
}

/// What a word of [`super::words`] consists of.
const fn is_word(byte: u8) -> bool {
    is_letter(byte) | is_figure(byte) | (byte == b'!')
}

/// A start of a text that is plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) length: usize,
    /// Whether there may be white space behind white space in it.
    pub(super) doubled: bool,
}

/// The longest start of `bytes` that is plain ASCII, but its last character, which a mark may follow;
/// `spaced`: white space stands before it.
pub(super) fn characters(bytes: &[u8], spaced: bool) -> Plain {
    let mut doubled = spaced && bytes.first().is_some_and(|byte| is_space(*byte));
    let mut length = 0;
    while let (Some(here), Some(next)) = (chunk(bytes, length), chunk(bytes, length + 1)) {
        let (mut odd, mut double) = (0, 0);
        for index in 0..BLOCK {
            odd |= u8::from(is_strange(here[index]));
            double |= u8::from(is_space(here[index]) & is_space(next[index]));
        }
        if odd != 0 {
            break;
        }
        doubled |= double != 0;
        length += BLOCK;
    }
    let rest = bytes.get(length..).unwrap_or_default();
    let more = rest.iter().position(|byte| is_strange(*byte)).unwrap_or(rest.len());
    let rest = rest.get(..more).unwrap_or_default();
    doubled |= rest.array_windows().any(|[one, two]| is_space(*one) && is_space(*two));
    Plain { length: (length + more).saturating_sub(1), doubled }
}

fn chunk(bytes: &[u8], at: usize) -> Option<&[u8; BLOCK]> {
    bytes.get(at..)?.first_chunk()
}

/// A start of `bytes`, which follow no word, that holds whole words in which nothing is disguised, and ends
/// where a further word begins. A word that letters standing apart may begin with is left out.
pub(super) fn words(bytes: &[u8], spaced: bool) -> Plain {
    let plain = before_odd(bytes, spaced);
    let odd = plain.length.min(bytes.len().saturating_sub(1));
    let at = |index: usize| bytes.get(index).is_some_and(|byte| is_word(*byte));
    let begins = |index: usize| at(index) && (index == 0 || !at(index - 1));
    let mut end = odd;
    while end > 0 && !begins(end) {
        end -= 1;
    }
    while end >= 2 && !at(end - 1) && begins(end - 2) {
        end -= 2;
    }
    Plain { length: end, ..plain }
}

/// What stands before the first byte that needs a closer look.
fn before_odd(bytes: &[u8], spaced: bool) -> Plain {
    // A block is seen with one byte before it and three behind.
    let mut window = [0_u8; WINDOW];
    let mut before = if spaced { b' ' } else { 0 };
    let mut plain = Plain { length: 0, doubled: false };
    while plain.length < bytes.len() {
        let seen = bytes.get(plain.length..).unwrap_or_default();
        if let Some(seen) = seen.first_chunk::<{ WINDOW - 1 }>() {
            window[1..].copy_from_slice(seen);
        } else {
            window = [0; WINDOW];
            window.iter_mut().skip(1).zip(seen).for_each(|(slot, byte)| *slot = *byte);
        }
        window[0] = before;
        let (calm, doubled) = judge(&window);
        plain.doubled |= doubled;
        if !calm && let Some(odd) = first_set(&odd_bytes(&window)) {
            plain.length += odd;
            return plain;
        }
        before = window[BLOCK];
        plain.length += BLOCK;
    }
    Plain { length: bytes.len(), ..plain }
}

/// Whether the block is plain text without any figures, in which no byte needs a closer look: most blocks
/// are. And whether there is white space behind white space.
fn judge(window: &[u8; WINDOW]) -> (bool, bool) {
    let letter = classes(window, |byte| bit(is_letter(byte), 1));
    let space = classes(window, |byte| bit(is_space(byte), 1));
    let (mut odd, mut doubled) = (0, 0);
    for byte in window {
        odd |= bit(is_figure(*byte) | (*byte == b'!') | is_strange(*byte), 1);
    }
    for index in 0..BLOCK {
        let beside = letter[index] | letter[index + 2] | letter[index + 4];
        odd |= letter[index + 1] & letter[index + 3] & !beside;
        doubled |= space[index] & space[index + 1];
    }
    (odd == 0, doubled != 0)
}

/// Which bytes of the block need a closer look: no plain ASCII, a letter beside a figure, the first of two
/// word characters that stand alone with one character between them.
fn odd_bytes(window: &[u8; WINDOW]) -> [u8; BLOCK] {
    // What a byte minds beside it, and what it is to the byte behind it and to the byte before it, in the
    // same bits: a letter minds figures, an exclamation mark figures and letters behind it.
    let minds =
        classes(window, |byte| bit(is_letter(byte), 1) | bit(byte == b'!', 2) | bit(is_strange(byte), 4));
    let before = classes(window, |byte| bit(is_figure(byte) | (byte == b'!'), 1) | 4);
    let behind = classes(window, |byte| bit(is_figure(byte), 3) | bit(is_letter(byte), 2));
    let word = classes(window, |byte| bit(is_word(byte), 1));
    let between = classes(window, |byte| {
        bit(matches!(byte, b' ' | b'\n' | b'\t' | b'\r' | b'.' | b'-' | b'_' | b'*' | b'~'), 1)
    });
    let mut odd = [0_u8; BLOCK];
    for index in 0..BLOCK {
        let beside = before[index] | behind[index + 2];
        let apart = word[index + 1]
            & between[index + 2]
            & word[index + 3]
            & !(word[index] | word[index + 2] | word[index + 4]);
        odd[index] = (minds[index + 1] & beside) | apart;
    }
    odd
}

/// Where the first byte stands that is not zero.
fn first_set<const LENGTH: usize>(bytes: &[u8; LENGTH]) -> Option<usize> {
    let parts = bytes.as_chunks::<16>().0.iter().map(|part| u128::from_le_bytes(*part));
    let (index, part) = parts.enumerate().find(|(_, part)| *part != 0)?;
    Some(16 * index + part.trailing_zeros() as usize / 8)
}

/// The first white space behind white space from `at` on, if it is not the first byte.
pub(super) fn doubled(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at.max(1);
    while let (Some(before), Some(here)) = (
        bytes.get(at - 1..).and_then(<[u8]>::first_chunk::<16>),
        bytes.get(at..).and_then(<[u8]>::first_chunk::<16>),
    ) {
        let mut double = [0_u8; 16];
        for index in 0..16 {
            double[index] = u8::from(is_space(before[index]) & is_space(here[index]));
        }
        if let Some(first) = first_set(&double) {
            return Some(at + first);
        }
        at += 16;
    }
    let rest = bytes.get(at - 1..)?;
    rest.array_windows().position(|[one, two]| is_space(*one) && is_space(*two)).map(|index| at + index)
}

#[inline(always)]
fn classes(window: &[u8; WINDOW], class: impl Fn(u8) -> u8) -> [u8; WINDOW] {
    let mut classes = [0; WINDOW];
    for (slot, byte) in classes.iter_mut().zip(window) {
        *slot = class(*byte);
    }
    classes
}

const fn bit(is: bool, value: u8) -> u8 {
    0_u8.wrapping_sub(is as u8) & value
}

/// Appends the ASCII of `plain` in lower case to `text`; white space becomes spaces if `spaces`.
pub(super) fn append_lower(plain: &str, spaces: bool, text: &mut String) {
    let start = text.len();
    let mut rest = plain;
    while let Some(at) = memchr3(b'\n', b'\t', b'\r', rest.as_bytes()).filter(|_| spaces) {
        let (line, end) = rest.split_at_checked(at).unwrap_or((rest, ""));
        text.push_str(line);
        text.push(' ');
        rest = end.get(1..).unwrap_or_default();
    }
    text.push_str(rest);
    if let Some(new) = text.get_mut(start..) {
        new.make_ascii_lowercase();
    }
}
