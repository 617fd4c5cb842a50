//! Where URLs stand in a text, as a browser or a renderer of Markdown would see them.
//!
//! [`next`] looks at a piece of text that starts anywhere and answers with the next URL, or with what it
//! must see more of. Every decision is made on text that can change no more, so that the cuts of a stream
//! change nothing. Four characters can announce a URL: `:` (a scheme stands before it), `.` (a bare host),
//! `]` (a Markdown target, a defanged dot) and `=` (an HTML attribute); everything else is skipped by
//! vector search. Each byte is looked at a bounded number of times: at most [`BEHIND_MAX`] bytes are read
//! backwards, and a URL ends after [`URL_MAX`].

use std::ops::Range;

use memchr::{memchr, memchr3};

use super::links::End;
use super::names;

/// Bytes of a URL that are looked at.
pub(super) const URL_MAX: usize = 2048;
/// Bytes before a trigger that may matter.
pub(super) const BEHIND_MAX: usize = 256;

/// Bytes of the longest character.
pub(super) const CHAR_MAX: usize = 4;
/// Schemes that make a URL of plain text.
const SCHEMES: [&str; 7] = ["http", "https", "ftp", "ftps", "hxxp", "hxxps", "fxp"];
/// Schemes that are no addresses but actions; they count in links only.
const ACTIONS: [&str; 4] = ["javascript", "vbscript", "data", "file"];
/// How a host's dot is written by those who do not want it to be clicked.
const DEFANGED: [&str; 4] = ["[.]", "(.)", "[dot]", "(dot)"];

/// A URL in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// All of it.
    pub(super) url: Range<usize>,
    /// Where its span starts: behind the first dot of a host without scheme and `www.`, because nobody
    /// could know before that dot that there would be a URL, and holding back every word for it would delay
    /// all text.
    pub(super) span_start: usize,
    /// It is the target of a link.
    pub(super) link: bool,
    /// The text of the Markdown link.
    pub(super) label: Option<Range<usize>>,
}

/// What [`next`] saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A URL; look on behind it.
    Url(Candidate),
    /// More text must come; look on at `resume`, let nothing from `hold` on go. `run`: only a byte that
    /// [`may_end`] can change that.
    Wait { resume: usize, hold: usize, run: bool },
}

/// What a trigger turned out to be.
pub(super) enum Seen {
    Url(Candidate),
    Wait { hold: usize, run: bool },
    Skip(usize),
}

/// The next URL of `text` from `from` on; `over`: nothing comes behind `text`.
pub(super) fn next(text: &str, from: usize, over: bool) -> Step {
    let view = View { text, bytes: text.as_bytes(), over };
    let mut at = from;
    let mut bracket = find_bracket(view.bytes, at);
    loop {
        let rest = view.bytes.get(at..).unwrap_or_default();
        let other = memchr3(b':', b'.', b'=', rest).map_or(usize::MAX, |found| at + found);
        if bracket < at {
            bracket = find_bracket(view.bytes, at);
        }
        let trigger = other.min(bracket);
        let Some(here) = view.bytes.get(trigger) else { break };
        let (before, behind) =
            (trigger.checked_sub(1).and_then(|at| view.bytes.get(at)), view.bytes.get(trigger + 1));
        let seen = match here {
            // Nearly all of these: told from their neighbours.
            b'.' if behind.is_some_and(|byte| {
                byte.is_ascii() && !byte.is_ascii_alphanumeric() && !matches!(byte, b']' | b')')
            }) =>
            {
                at = trigger + 1;
                continue;
            }
            b':' if before
                .is_none_or(|byte| !matches!(byte | 0x20, b'p' | b's' | b't' | b'a' | b'e' | b'{')) =>
            {
                at = trigger + 1;
                continue;
            }
            b'=' if before.is_none_or(|byte| {
                byte.is_ascii_alphanumeric() && !matches!(byte | 0x20, b'f' | b'c' | b'n')
            }) =>
            {
                at = trigger + 1;
                continue;
            }
            b':' => view.scheme(trigger),
            b'.' => view.dot(trigger, trigger + 1),
            b'=' => view.attribute(trigger),
            _ => view.bracket(trigger),
        };
        match seen {
            Seen::Url(candidate) => return Step::Url(candidate),
            Seen::Wait { hold, run } => return Step::Wait { resume: trigger, hold, run },
            Seen::Skip(to) => at = to.max(trigger + 1),
        }
    }
    let hold = if over { text.len() } else { view.prefix_start() };
    Step::Wait { resume: text.len(), hold, run: false }
}

fn find_bracket(bytes: &[u8], at: usize) -> usize {
    memchr(b']', bytes.get(at..).unwrap_or_default()).map_or(usize::MAX, |found| at + found)
}

/// Whether a URL that is not over yet could end at this byte.
pub(super) fn may_end(byte: u8) -> bool {
    byte <= b' '
        || byte >= 0x7f
        || matches!(byte, b'<' | b'>' | b'"' | b'\'' | b'`' | b'|' | b')' | b']' | b',')
}

/// A text and what is known of its end.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) text: &'a str,
    pub(super) bytes: &'a [u8],
    pub(super) over: bool,
}

impl<'a> View<'a> {
    pub(super) fn slice(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }

    /// The character at `at`.
    pub(super) fn char_at(&self, at: usize) -> Option<char> {
        self.text.get(at..)?.chars().next()
    }

    /// The character that ends at `at`.
    pub(super) fn char_before(&self, at: usize) -> Option<char> {
        self.text.get(..at)?.chars().next_back()
    }

    /// Start of the ASCII letters and digits that end at `end`; short words are all that matters.
    pub(super) fn word_start(&self, end: usize) -> usize {
        let floor = end.saturating_sub(16);
        let word = self.bytes.get(floor..end).unwrap_or_default();
        floor + word.iter().rposition(|byte| !byte.is_ascii_alphanumeric()).map_or(0, |found| found + 1)
    }

    /// Whether the text may yet go on with `wanted` at `at`, or does: `None` when it takes more text to say.
    fn follows(&self, at: usize, wanted: &str) -> Option<bool> {
        let rest = self.bytes.get(at..).unwrap_or_default();
        let length = rest.len().min(wanted.len());
        let same = rest.iter().zip(wanted.as_bytes()).all(|(got, want)| got.eq_ignore_ascii_case(want));
        match (same, length == wanted.len(), self.over) {
            (true, true, _) => Some(true),
            (true, false, false) => None,
            _ => Some(false),
        }
    }

    /// Where what may become a scheme or `www.` starts at the end of the text.
    fn prefix_start(&self) -> usize {
        let end = self.bytes.len();
        let opened = self.bytes.last() == Some(&b'[');
        let word_end = if opened { end - 1 } else { end };
        let start = self.word_start(word_end);
        let word = self.slice(start..word_end);
        let is_start_of = |whole: &&str| {
            whole.as_bytes().get(..word.len()).is_some_and(|s| s.eq_ignore_ascii_case(word.as_bytes()))
        };
        if word.is_empty() || start + 16 <= word_end {
            return end;
        }
        let before = start.checked_sub(1).and_then(|at| self.bytes.get(at));
        let held = if opened {
            SCHEMES.iter().any(|scheme| scheme.eq_ignore_ascii_case(word))
        } else {
            SCHEMES.iter().chain(&["www"]).any(is_start_of)
                || (before == Some(&b'<') && ACTIONS.iter().any(is_start_of))
        };
        if held { start } else { end }
    }

    /// At a `:`: a URL in plain text, `<javascript:…>`, or nothing.
    fn scheme(&self, colon: usize) -> Seen {
        let defanged = colon > 0 && self.bytes.get(colon - 1) == Some(&b'[');
        let name_end = if defanged { colon - 1 } else { colon };
        let start = self.word_start(name_end);
        let name = self.slice(start..name_end);
        if !defanged && self.char_before(start) == Some('<') && contains(&ACTIONS, name) {
            return self.target(start, End::Angle, None);
        }
        if !contains(&SCHEMES, name) {
            return Seen::Skip(colon + 1);
        }
        let mut at = colon + 1;
        let mut slashes = 0;
        // `[:]//`, `[://]`, `:\\`: any mixture of at most eight such characters.
        while at < colon + 9 {
            match self.bytes.get(at) {
                Some(b'/' | b'\\') => slashes += 1,
                Some(b']') if defanged => {}
                None if !self.over => return Seen::Wait { hold: start, run: false },
                _ => break,
            }
            at += 1;
        }
        if slashes == 0 {
            return Seen::Skip(colon + 1);
        }
        self.plain(start..at, start)
    }

    /// A URL in plain text whose host starts at `head.end`.
    fn plain(&self, head: Range<usize>, span_start: usize) -> Seen {
        match self.plain_end(head.start, head.end) {
            None => Seen::Wait { hold: span_start, run: true },
            Some(end) if end <= head.end => Seen::Skip(head.end),
            Some(end) => Seen::Url(Candidate { url: head.start..end, span_start, link: false, label: None }),
        }
    }

    /// Where the URL in plain text that starts at `start` ends; its host starts at `host`.
    fn plain_end(&self, start: usize, host: usize) -> Option<usize> {
        let limit = start + URL_MAX;
        let mut run = Run { at: host, host, in_host: true, dots: 0, before: '/', round: 0, square: 0 };
        loop {
            run.skip(self.bytes, limit - CHAR_MAX);
            if run.at + CHAR_MAX > limit {
                break;
            }
            let Some(char) = self.char_at(run.at) else {
                if !self.over {
                    return None;
                }
                break;
            };
            match run.takes(self, char) {
                Some(true) => run.step(char),
                Some(false) => break,
                None => return None,
            }
        }
        Some(host + trimmed(self.slice(host..run.at)).len())
    }

    /// At a dot that ends at `next` and starts at `dot`: a host without scheme, or nothing.
    pub(super) fn dot(&self, dot: usize, next: usize) -> Seen {
        let around = (dot.checked_sub(1).and_then(|at| self.bytes.get(at)), self.bytes.get(next));
        if next == dot + 1 && matches!(around, (Some(b'['), Some(b']')) | (Some(b'('), Some(b')'))) {
            return self.dot(dot - 1, next + 1);
        }
        let Some(char) = self.char_at(next) else {
            let hold = self.www_start(dot).filter(|_| next == dot + 1).unwrap_or(next);
            return if self.over { Seen::Skip(next) } else { Seen::Wait { hold, run: false } };
        };
        if !is_name(char) {
            return Seen::Skip(next);
        }
        let floor = dot.saturating_sub(BEHIND_MAX - 2);
        let mut start = dot;
        while let Some(char) = self.char_before(start) {
            if !(is_name(char) || char == '-') || start - char.len_utf8() < floor {
                break;
            }
            start -= char.len_utf8();
        }
        if start == dot {
            return Seen::Skip(next);
        }
        self.bare(start, next)
    }

    /// A host without scheme that starts at `start`, the first dot of which ends at `next`.
    fn bare(&self, start: usize, next: usize) -> Seen {
        let www = self.slice(start..start + 3).eq_ignore_ascii_case("www") && start + 4 == next;
        let span_start = if www { start } else { next };
        let Some(host_end) = self.host_end(next) else {
            return Seen::Wait { hold: span_start, run: true };
        };
        let host = self.slice(start..host_end);
        let after = match self.bytes.get(host_end) {
            None if !self.over => return Seen::Wait { hold: span_start, run: true },
            after => after.copied(),
        };
        // Decided by what stands behind the host: mail addresses and calls are none.
        let mut behind = host_end;
        if after == Some(b':') {
            let digits = self.bytes.get(host_end + 1..).unwrap_or_default();
            behind += 1 + digits.iter().take(5).take_while(|byte| byte.is_ascii_digit()).count();
        }
        if !self.over && behind + 1 >= self.bytes.len() && matches!(after, Some(b':' | b'/')) {
            return Seen::Wait { hold: span_start, run: false };
        }
        let port = behind > host_end + 1;
        let mark = self.bytes.get(behind);
        let more = port || matches!(after, Some(b'/' | b'?' | b'#')) || www && after == Some(b'\\');
        let letter = mark == Some(&b'/') && self.bytes.get(behind + 1).is_some_and(u8::is_ascii_alphabetic);
        let before = self.char_before(start);
        let path_before = match before {
            Some('/' | '\\') => {
                !self.slice(start.saturating_sub(2)..start).bytes().all(|b| matches!(b, b'/' | b'\\'))
            }
            Some('@' | '$' | '_' | '-' | '%' | '&' | '#' | '=') => !www,
            _ => false,
        };
        if matches!(after, Some(b'@' | b'(')) || path_before || !names::is_bare_host(host, more, letter, www)
        {
            return Seen::Skip(host_end);
        }
        if !more {
            let url = start..host_end;
            return Seen::Url(Candidate { url, span_start, link: false, label: None });
        }
        match self.plain_end(start, start) {
            None => Seen::Wait { hold: span_start, run: true },
            Some(end) => {
                let end = end.max(host_end);
                Seen::Url(Candidate { url: start..end, span_start, link: false, label: None })
            }
        }
    }

    /// Start of a `www` that ends at `dot`.
    fn www_start(&self, dot: usize) -> Option<usize> {
        let start = self.word_start(dot);
        self.slice(start..dot).eq_ignore_ascii_case("www").then_some(start)
    }

    /// End of the host characters from `at` on, defanged dots among them; `None`: not seen yet.
    fn host_end(&self, from: usize) -> Option<usize> {
        let (mut at, mut end) = (from, from);
        loop {
            let Some(char) = self.char_at(at) else {
                return if self.over { Some(end) } else { None };
            };
            if is_name(char) || char == '-' {
                at += char.len_utf8();
                end = at;
            } else if matches!(char, '.' | '。' | '．' | '｡') {
                at += char.len_utf8();
                match self.char_at(at) {
                    None if !self.over => return None,
                    Some(char) if is_name(char) => {}
                    _ => return Some(end),
                }
            } else if matches!(char, '[' | '(') {
                match self.defanged_dot(at) {
                    None => return None,
                    Some(0) => return Some(end),
                    Some(length) => at += length,
                }
            } else {
                return Some(end);
            }
            if at - from > BEHIND_MAX {
                return Some(end);
            }
        }
    }

    /// Length of the defanged dot at `at`, 0 if there is none; `None`: not seen yet.
    fn defanged_dot(&self, at: usize) -> Option<usize> {
        for form in DEFANGED {
            if self.follows(at, form)? {
                return Some(form.len());
            }
        }
        Some(0)
    }
}

/// Bytes that always belong to a host.
const PLAIN_HOST: u8 = 1;
/// Bytes that always belong to what follows it.
const PLAIN_PATH: u8 = 2;
/// Which bytes these are.
const PLAIN: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => PLAIN_HOST | PLAIN_PATH,
            b'/' | b'.' | b'_' | b'%' | b'=' | b'&' | b'?' | b'#' | b'+' => PLAIN_PATH,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// Where a URL in plain text has got to.
struct Run {
    at: usize,
    host: usize,
    in_host: bool,
    dots: usize,
    before: char,
    round: usize,
    square: usize,
}

impl Run {
    /// Passes over characters that always belong to a URL.
    fn skip(&mut self, bytes: &[u8], limit: usize) {
        let rest = bytes.get(self.at..limit.min(bytes.len())).unwrap_or_default();
        let wanted = if self.in_host { PLAIN_HOST } else { PLAIN_PATH };
        let plain = |byte: &u8| PLAIN.get(usize::from(*byte)).is_some_and(|class| class & wanted != 0);
        let length = rest.iter().position(|byte| !plain(byte)).unwrap_or(rest.len());
        if let Some(last) = length.checked_sub(1).and_then(|last| rest.get(last)) {
            self.before = char::from(*last);
            self.at += length;
        }
    }

    fn step(&mut self, char: char) {
        match char {
            '/' | '?' | '#' | '\\' => self.in_host = false,
            '.' | '．' | '。' | '｡' => self.dots += 1,
            '(' => self.round += 1,
            ')' => self.round -= 1,
            '[' => self.square += 1,
            ']' => self.square -= 1,
            _ => {}
        }
        if !names::is_invisible(char) {
            self.before = char;
        }
        self.at += char.len_utf8();
    }

    /// Whether the URL goes on with `char`; `None`: not to be said yet.
    fn takes(&self, view: &View<'_>, char: char) -> Option<bool> {
        Some(match char {
            '\0'..=' ' | '<' | '>' | '"' | '`' | '|' | '\u{7f}' => false,
            ')' => self.round > 0,
            ']' => self.square > 0,
            '[' if self.in_host => {
                self.at == self.host || view.defanged_dot(self.at)? > 0 || view.follows(self.at, "[:]")?
            }
            '(' if self.in_host => view.defanged_dot(self.at)? > 0,
            ',' | ';' => !view.follows(self.at + 1, "http")?,
            '!'..='~' => true,
            // A full stop of Chinese or a dot of a host?
            '。' | '｡' | '．' => {
                if !self.in_host || self.dots > 0 && char != '．' {
                    return Some(false);
                }
                match view.char_at(self.at + char.len_utf8()) {
                    None if !view.over => return None,
                    next => next.is_some_and(char::is_alphanumeric),
                }
            }
            _ if names::is_invisible(char) => true,
            _ if !char.is_alphanumeric() && !names::is_mark(char) => false,
            _ => names::is_alphabet(char) || !self.before.is_ascii_alphanumeric(),
        })
    }
}

/// `raw` without the punctuation of the sentence around it.
fn trimmed(raw: &str) -> &str {
    let mut raw = raw;
    loop {
        let bare = raw.trim_end_matches(|char: char| {
            matches!(char, '.' | ',' | ':' | '!' | '?' | '\'' | '*' | '_' | '~' | '(' | '[' | '{' | '\\')
                || names::is_invisible(char)
        });
        let bare = match bare.strip_suffix(';') {
            Some(head) => match head.rfind('&') {
                Some(at) if head.get(at + 1..).is_some_and(is_entity) => head.get(..at).unwrap_or_default(),
                _ => head,
            },
            None => bare,
        };
        let bare = match bare.strip_suffix('}') {
            Some(head) if head.matches('}').count() >= head.matches('{').count() => head,
            _ => bare,
        };
        if bare.len() == raw.len() {
            return raw;
        }
        raw = bare;
    }
}

fn is_entity(name: &str) -> bool {
    (2..=8).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'#')
}

/// Letters and digits of hosts in plain text; scripts without spaces are not among them.
fn is_name(char: char) -> bool {
    char.is_ascii_alphanumeric() || (!char.is_ascii() && char.is_alphanumeric() && names::is_alphabet(char))
}

pub(super) fn contains(list: &[&str], name: &str) -> bool {
    list.iter().any(|entry| entry.eq_ignore_ascii_case(name))
}
