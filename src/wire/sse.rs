//! Server-sent events (WHATWG HTML, section 9.2.5), found in bytes that may be cut anywhere.
//!
//! [`next`] finds the first whole event of a buffer; what is left is kept by the caller and offered again with
//! more. Lines end in LF, CRLF or CR; a CR at the very end of what has come may be half of a CRLF, so it waits.
//! An event is handed out with its bytes as they came, so that it can be passed on unchanged.

use memchr::{memchr2, memchr2_iter};

/// Longest event; a longer one is an endpoint's failure.
pub const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A whole event at the start of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its bytes, the blank line included.
    pub raw: &'a [u8],
}

/// The first whole event of `buffer`, if there is one. Its `raw` may be only blank lines or comments.
#[must_use]
pub fn next(buffer: &[u8]) -> Option<Event<'_>> {
    // The common form first: lines end in LF and nothing else.
    let mut before = None;
    for at in memchr2_iter(b'\n', b'\r', buffer) {
        if buffer.get(at) == Some(&b'\r') {
            return next_of_any(buffer);
        }
        if before.is_some_and(|before| before + 1 == at) {
            return buffer.get(..=at).map(|raw| Event { raw });
        }
        before = Some(at);
    }
    None
}

/// The same where lines end in anything.
fn next_of_any(buffer: &[u8]) -> Option<Event<'_>> {
    let mut line = 0;
    loop {
        let end = memchr2(b'\n', b'\r', buffer.get(line..)?)? + line;
        let after = match (buffer.get(end), buffer.get(end + 1)) {
            (Some(b'\r'), Some(b'\n')) => end + 2,
            (Some(b'\r'), None) => return None,
            _ => end + 1,
        };
        if end == line {
            return buffer.get(..after).map(|raw| Event { raw });
        }
        line = after;
    }
}

/// Bytes at the end of a stream that make an event although the last blank line is missing.
///
/// The standard drops such an event; a gateway that dropped a model's last words would be blamed, so it is taken.
#[must_use]
pub fn last(buffer: &[u8]) -> Option<Event<'_>> {
    buffer.iter().any(|byte| !matches!(byte, b'\r' | b'\n')).then_some(Event { raw: buffer })
}

impl<'a> Event<'a> {
    /// The `data` of an event that has exactly one `data` line and nothing else: almost all of them.
    #[must_use]
    pub fn plain_data(&self) -> Option<&'a [u8]> {
        let rest = self.raw.strip_prefix(b"data:")?;
        let rest = rest.strip_prefix(b" ").unwrap_or(rest);
        let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let blank = rest.get(end..)?.iter().all(|byte| matches!(byte, b'\n' | b'\r'));
        blank.then(|| rest.get(..end).unwrap_or_default())
    }

    /// The lines as (name, value); comments have an empty name.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        lines(self.raw).filter(|line| !line.is_empty()).map(|line| {
            let colon = memchr::memchr(b':', line).unwrap_or(line.len());
            let (name, value) = line.split_at(colon);
            let value = value.strip_prefix(b":").unwrap_or(value);
            (name, value.strip_prefix(b" ").unwrap_or(value))
        })
    }

    /// All `data` lines joined by LF; `None` if there is none: a comment, or a blank line.
    #[must_use]
    pub fn data(&self) -> Option<Vec<u8>> {
        let mut data: Option<Vec<u8>> = None;
        for (name, value) in self.fields() {
            if name == b"data" {
                match data.as_mut() {
                    Some(data) => {
                        data.push(b'\n');
                        data.extend_from_slice(value);
                    }
                    None => data = Some(value.to_vec()),
                }
            }
        }
        data
    }

    /// The value of its last `event` line.
    #[must_use]
    pub fn name(&self) -> Option<&'a [u8]> {
        self.fields().filter(|(name, _)| *name == b"event").last().map(|(_, value)| value)
    }
}

fn lines(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let end = memchr2(b'\n', b'\r', text).unwrap_or(text.len());
        let (line, rest) = text.split_at(end);
        text = rest.strip_prefix(b"\r\n").or_else(|| rest.get(1..)).unwrap_or_default();
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(mut text: &[u8]) -> Vec<Option<Vec<u8>>> {
        let mut all = Vec::new();
        while let Some(event) = next(text) {
            all.push(event.data());
            text = &text[event.raw.len()..];
        }
        all.extend(last(text).map(|event| event.data()));
        all
    }

    #[test]
    fn every_line_end_and_every_cut() {
        for end in ["\n", "\r\n", "\r"] {
            let text = format!(
                ": hi{end}{end}data: a{end}{end}event: e{end}data:b{end}data:  c{end}id: 1{end}{end}data: é{end}{end}"
            );
            let want =
                vec![None, Some(b"a".to_vec()), Some(b"b\n c".to_vec()), Some("é".as_bytes().to_vec())];
            assert_eq!(events(text.as_bytes()), want, "{end:?}");
            for cut in 0..text.len() {
                let (mut kept, mut got) = (Vec::new(), Vec::new());
                for part in [&text.as_bytes()[..cut], &text.as_bytes()[cut..]] {
                    kept.extend_from_slice(part);
                    while let Some(event) = next(&kept) {
                        got.push(event.data());
                        let n = event.raw.len();
                        kept.drain(..n);
                    }
                }
                got.extend(last(&kept).map(|event| event.data()));
                assert_eq!(got, want, "{end:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn plain_events_are_recognised() {
        let event = next(b"data: {\"a\":1}\n\nrest").unwrap();
        assert_eq!(event.plain_data(), Some(&b"{\"a\":1}"[..]));
        assert_eq!(next(b"event: x\ndata: 1\n\n").unwrap().plain_data(), None);
        assert_eq!(next(b"event: x\ndata: 1\n\n").unwrap().name(), Some(&b"x"[..]));
        assert_eq!(next(b"data: 1\ndata: 2\n\n").unwrap().plain_data(), None);
        assert!(next(b"data: 1\n").is_none());
        assert_eq!(last(b"data: 1").unwrap().plain_data(), Some(&b"1"[..]));
    }
}
