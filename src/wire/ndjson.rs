//! Newline-delimited JSON: one object a line, as Ollama streams it.

/// Longest line; a longer one is an endpoint's failure.
pub const LINE_BYTES_MAX: usize = super::sse::EVENT_BYTES_MAX;

/// The first whole line of `buffer`, its line end included.
#[must_use]
pub fn next(buffer: &[u8]) -> Option<&[u8]> {
    memchr::memchr(b'\n', buffer).and_then(|at| buffer.get(..=at))
}

/// A last line without its line end, unless it is blank.
#[must_use]
pub fn last(buffer: &[u8]) -> Option<&[u8]> {
    (!buffer.trim_ascii().is_empty()).then_some(buffer)
}
