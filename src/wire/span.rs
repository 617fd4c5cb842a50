//! A range of a buffer that outlives borrows of it.

/// `start..end` in some buffer of at most 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// From indices; saturates at 4 GiB, where no buffer of ours reaches.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        let cut = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: cut(start), end: cut(end) }
    }

    /// The span of `part` within `whole`; `part` must be a slice of `whole`.
    #[must_use]
    pub fn of(whole: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
        Self::new(start, start.saturating_add(part.len()))
    }

    /// The bytes, empty if the span does not fit `whole`.
    #[must_use]
    pub fn of_bytes(self, whole: &[u8]) -> &[u8] {
        whole.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// The text, empty if it is not UTF-8 or does not fit.
    #[must_use]
    pub fn text(self, whole: &[u8]) -> &str {
        std::str::from_utf8(self.of_bytes(whole)).unwrap_or_default()
    }

    /// Bytes covered.
    #[must_use]
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether it covers nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }
}
