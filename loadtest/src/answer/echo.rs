//! Compares what is said with what the simulated server must say: `You said: `, the beginning of the user's text,
//! padding. Byte by byte, over any number of pieces, without a copy.

use crate::plan::request::{ECHO, Expected, PAD};

/// How far the text is, and whether it is right so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo {
    at: usize,
    wrong: bool,
}

impl Echo {
    /// Whether something was said that must not be.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.wrong
    }

    /// Whether all was said, and nothing else.
    #[must_use]
    pub fn is_whole(&self, expected: &Expected) -> bool {
        !self.wrong && self.at == ECHO.len() + expected.echo + expected.pads * PAD.len()
    }

    /// Takes the inside of a JSON string.
    pub fn take(&mut self, json: &[u8], text: &[u8], expected: &Expected) {
        let mut rest = json;
        while let Some(at) = memchr::memchr(b'\\', rest) {
            let (plain, escaped) = rest.split_at(at);
            self.compare(plain, text, expected);
            let Some((c, length)) = unescape(escaped) else {
                self.wrong = true;
                return;
            };
            let mut bytes = [0; 4];
            self.compare(c.encode_utf8(&mut bytes).as_bytes(), text, expected);
            rest = escaped.get(length..).unwrap_or_default();
        }
        self.compare(rest, text, expected);
    }

    fn compare(&mut self, mut said: &[u8], text: &[u8], expected: &Expected) {
        let echo = text.get(..expected.echo).unwrap_or_default();
        let (padding, end) = (ECHO.len() + echo.len(), ECHO.len() + echo.len() + expected.pads * PAD.len());
        while !said.is_empty() && !self.wrong {
            let due = if self.at < ECHO.len() {
                ECHO.get(self.at..)
            } else if self.at < padding {
                echo.get(self.at - ECHO.len()..)
            } else if self.at < end {
                PAD.get((self.at - padding) % PAD.len()..)
            } else {
                None
            };
            let due = due.unwrap_or_default();
            let count = due.len().min(said.len());
            let (now, later) = said.split_at(count);
            self.wrong = count == 0 || due.get(..count) != Some(now);
            self.at += count;
            said = later;
        }
    }
}

/// The character of an escape, and how long it is.
fn unescape(text: &[u8]) -> Option<(char, usize)> {
    let plain = match text.get(1)? {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'u' => {
            let high = unit(text)?;
            if !(0xd800..0xdc00).contains(&high) {
                return Some((char::from_u32(high)?, 6));
            }
            let low = unit(text.get(6..)?).filter(|low| (0xdc00..0xe000).contains(low))?;
            return Some((char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))?, 12));
        }
        other => char::from(*other),
    };
    Some((plain, 2))
}

/// The number of `\uXXXX`.
fn unit(text: &[u8]) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = text else { return None };
    digits.get(..4)?.iter().try_fold(0, |number, byte| Some(number << 4 | char::from(*byte).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Check, Kind};

    fn expected(echo: usize, pads: usize) -> Expected {
        Expected { kind: Kind::Chat, status: 200, check: Check::Sim, echo, pads }
    }

    fn said(pieces: &[&str], text: &str, echo: usize, pads: usize) -> (bool, bool) {
        let mut state = Echo::default();
        pieces.iter().for_each(|piece| state.take(piece.as_bytes(), text.as_bytes(), &expected(echo, pads)));
        (state.is_whole(&expected(echo, pads)), state.is_wrong())
    }

    #[test]
    fn what_was_said_is_compared() {
        let text = "q1 xin chào";
        assert_eq!(said(&["You said: q1 xin chào word word"], text, text.len(), 2), (true, false));
        assert_eq!(
            said(&["You", " said:", " q1", " xin", " ch", "\\u00e0o", " wo", "rd"], text, text.len(), 1),
            (true, false)
        );
        assert_eq!(said(&["You said: q1 xin"], text, 6, 0), (true, false));
        assert_eq!(said(&["You said: q1 xin"], text, text.len(), 0), (false, false), "not yet");
        assert_eq!(said(&["You said: q2 xin"], text, 6, 0), (false, true), "another one's");
        assert_eq!(said(&["You said: q1 xin word"], text, 6, 0), (false, true), "too much");
        assert_eq!(said(&["You said: \\ud83d\\ude00"], "😀", 4, 0), (true, false));
        assert_eq!(said(&["You said: \\ud83d"], "😀", 4, 0), (false, true));
    }
}
