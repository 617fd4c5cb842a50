//! Targets of links: of Markdown, of its reference definitions, of HTML attributes.
//!
//! A target counts when it has a host or does something; relative ones are passed over after their first
//! characters. Like all of [`super::extract`], what is decided here is decided on text that can change no
//! more.

use std::ops::Range;

use super::extract::{BEHIND_MAX, CHAR_MAX, Candidate, Seen, URL_MAX, View, contains};
use super::names;
use super::parse::{Opening, opening};

/// Attributes whose value is a URL.
const ATTRIBUTES: [&str; 4] = ["href", "src", "action", "formaction"];

impl View<'_> {
    /// At a `]`: a Markdown target, a reference definition, a defanged dot, or nothing.
    pub(super) fn bracket(&self, close: usize) -> Seen {
        let wait = Seen::Wait { hold: self.bytes.len(), run: false };
        match self.bytes.get(close + 1) {
            None if !self.over => wait,
            Some(b'(') => {
                let Some(start) = self.past_space(close + 2) else { return wait };
                let label = self.label(close);
                if self.bytes.get(start) == Some(&b'<') {
                    return self.target(start + 1, End::Angle, label);
                }
                self.target(start, End::Round, label)
            }
            Some(b':') => {
                let Some(start) = self.past_space(close + 2) else { return wait };
                let start = start + usize::from(self.bytes.get(start) == Some(&b'<'));
                self.target(start, End::Space, None)
            }
            _ => {
                let dot = close.saturating_sub(4);
                if self.bytes.get(dot..close).is_some_and(|word| word.eq_ignore_ascii_case(b"[dot")) {
                    return self.dot(dot, close + 1);
                }
                Seen::Skip(close + 1)
            }
        }
    }

    /// The first character from `at` on that is no white space, of which there may be a little.
    fn past_space(&self, at: usize) -> Option<usize> {
        let rest = self.bytes.get(at..).unwrap_or_default();
        match rest.iter().take(8).position(|byte| !byte.is_ascii_whitespace()) {
            Some(found) => Some(at + found),
            None if rest.len() >= 8 || self.over => Some(at + rest.len().min(8)),
            None => None,
        }
    }

    /// The text of the Markdown link whose `]` stands at `close`.
    fn label(&self, close: usize) -> Option<Range<usize>> {
        let floor = close.saturating_sub(BEHIND_MAX - 8);
        let mut depth = 0_usize;
        for at in (floor..close).rev() {
            match self.bytes.get(at) {
                Some(b']') => depth += 1,
                Some(b'[') if depth == 0 => return Some(at + 1..close),
                Some(b'[') => depth -= 1,
                _ => {}
            }
        }
        None
    }

    /// At a `=`: the value of an HTML attribute, or nothing.
    pub(super) fn attribute(&self, equals: usize) -> Seen {
        let floor = equals.saturating_sub(4);
        let space = self.bytes.get(floor..equals).unwrap_or_default();
        let spaces = space.iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
        let end = equals - spaces;
        if !contains(&ATTRIBUTES, self.slice(self.word_start(end)..end)) {
            return Seen::Skip(equals + 1);
        }
        let Some(start) = self.past_space(equals + 1) else {
            return Seen::Wait { hold: self.bytes.len(), run: false };
        };
        match self.bytes.get(start) {
            Some(quote @ (b'"' | b'\'')) => match self.past_space(start + 1) {
                Some(start) => self.target(start, End::Quote(char::from(*quote)), None),
                None => Seen::Wait { hold: self.bytes.len(), run: false },
            },
            _ => self.target(start, End::Attribute, None),
        }
    }

    /// The target of a link, which starts at `start`.
    pub(super) fn target(&self, start: usize, end: End, label: Option<Range<usize>>) -> Seen {
        let head = self.slice(start..names::floor_char(self.text, start + 96));
        let whole = self.over || head.len() >= 90;
        match opening(head, matches!(end, End::Quote(_)), whole) {
            Opening::Unfinished => return Seen::Wait { hold: start, run: false },
            Opening::Relative => return Seen::Skip(start),
            Opening::Absolute => {}
        }
        let mut round = 0_usize;
        let limit = start + URL_MAX;
        let mut at = start;
        while at + CHAR_MAX <= limit {
            let Some(char) = self.char_at(at) else {
                if !self.over {
                    return Seen::Wait { hold: start, run: true };
                }
                break;
            };
            match char {
                '(' => round += 1,
                ')' if end == End::Round && round == 0 => break,
                ')' => round = round.saturating_sub(1),
                _ if end.is_end(char) => break,
                _ => {}
            }
            at += char.len_utf8();
        }
        if at == start {
            return Seen::Skip(start);
        }
        Seen::Url(Candidate { url: start..at, span_start: start, link: true, label })
    }
}

/// What ends the target of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// `(target)`.
    Round,
    /// `<target>`.
    Angle,
    /// `[name]: target`.
    Space,
    /// `href="target"`.
    Quote(char),
    /// `href=target`.
    Attribute,
}

impl End {
    fn is_end(self, char: char) -> bool {
        match self {
            Self::Round | Self::Space => char.is_whitespace() || char == '>',
            Self::Angle => matches!(char, '>' | '<' | '\n' | '\r'),
            Self::Quote(quote) => char == quote,
            Self::Attribute => char.is_ascii_whitespace() || matches!(char, '>' | '"' | '\'' | '`'),
        }
    }
}
