//! Escapes of single characters: `%69`, `&#105;`, `\u0069`.

use super::Encoding;

/// A way to write characters.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) kind: Encoding,
    /// The byte that every escape begins with.
    pub(super) first: u8,
}

/// What an escape stands for.
#[derive(Clone, Copy)]
pub(super) enum Value {
    /// A byte of UTF-8.
    Byte(u8),
    /// A character.
    Char(char),
}

impl Style {
    /// As in addresses.
    pub(super) const PERCENT: Self = Self { kind: Encoding::Percent, first: b'%' };
    /// As in HTML.
    pub(super) const ENTITY: Self = Self { kind: Encoding::Entity, first: b'&' };
    /// As in JSON and C.
    pub(super) const BACKSLASH: Self = Self { kind: Encoding::Escape, first: b'\\' };

    /// The escape that `bytes` begin with: its value and length.
    pub(super) fn read(self, bytes: &[u8]) -> Option<(Value, usize)> {
        match self.kind {
            Encoding::Percent => Some((Value::Byte(byte_at(bytes, 1)?), 3)),
            Encoding::Entity => entity(bytes),
            _ => backslash(bytes),
        }
    }

    /// `region` with all escapes resolved.
    pub(super) fn decode(self, region: &str) -> String {
        let bytes = region.as_bytes();
        let mut text = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let byte = rest.first().copied().unwrap_or_default();
            match if byte == self.first { self.read(rest) } else { None } {
                Some((Value::Byte(byte), length)) => {
                    text.push(byte);
                    at += length;
                }
                Some((Value::Char(ch), length)) => {
                    text.extend_from_slice(ch.encode_utf8(&mut [0; 4]).as_bytes());
                    at += length;
                }
                None => {
                    // A line break or tab, written out, must not glue words together.
                    let space = self.first == b'\\'
                        && byte == b'\\'
                        && matches!(rest.get(1), Some(b'n' | b'r' | b't'));
                    text.push(if space { b' ' } else { byte });
                    at += 1 + usize::from(space);
                }
            }
        }
        String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

/// The byte that two hexadecimal digits at `at` write.
fn byte_at(bytes: &[u8], at: usize) -> Option<u8> {
    u8::try_from(hex(bytes.get(at..at + 2)?)?).ok()
}

fn hex(digits: &[u8]) -> Option<u32> {
    number(digits, 16)
}

/// A number of up to eight digits.
fn number(digits: &[u8], base: u32) -> Option<u32> {
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    digits.iter().try_fold(0_u32, |value, digit| {
        value.checked_mul(base)?.checked_add(char::from(*digit).to_digit(base)?)
    })
}

fn entity(bytes: &[u8]) -> Option<(Value, usize)> {
    let end = bytes.iter().take(12).position(|byte| *byte == b';')?;
    let ch = match bytes.get(1..end)? {
        [b'#', b'x' | b'X', digits @ ..] => char::from_u32(hex(digits)?)?,
        [b'#', digits @ ..] => char::from_u32(number(digits, 10)?)?,
        b"amp" => '&',
        b"lt" => '<',
        b"gt" => '>',
        b"quot" => '"',
        b"apos" => '\'',
        b"nbsp" | b"Tab" | b"NewLine" => ' ',
        b"shy" | b"zwnj" | b"zwj" => '\u{ad}',
        b"excl" => '!',
        b"commat" => '@',
        b"period" => '.',
        b"lowbar" => '_',
        _ => return None,
    };
    Some((Value::Char(ch), end + 1))
}

fn backslash(bytes: &[u8]) -> Option<(Value, usize)> {
    match bytes.get(1)? {
        b'x' => Some((Value::Byte(byte_at(bytes, 2)?), 4)),
        b'u' if bytes.get(2) == Some(&b'{') => {
            let end = bytes.iter().take(12).position(|byte| *byte == b'}')?;
            Some((Value::Char(char::from_u32(hex(bytes.get(3..end)?)?)?), end + 1))
        }
        b'u' => {
            let unit = hex(bytes.get(2..6)?)?;
            if let Some(ch) = char::from_u32(unit) {
                return Some((Value::Char(ch), 6));
            }
            // The first of two halves.
            let low =
                bytes.get(6..8).filter(|start| *start == b"\\u").and_then(|_| hex(bytes.get(8..12)?))?;
            let pair = [u16::try_from(unit).ok()?, u16::try_from(low).ok()?];
            let ch = char::decode_utf16(pair).next()?.ok()?;
            Some((Value::Char(ch), 12))
        }
        b'U' => Some((Value::Char(char::from_u32(hex(bytes.get(2..10)?)?)?), 10)),
        _ => None,
    }
}
