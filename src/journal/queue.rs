//! What the shards and the journal share: lines on their way, and what became of them.
//!
//! A push is lock-free and never waits: a line that does not fit is dropped and counted. Bounds: [`LINES`] lines, and
//! [`BYTES`] of text, so that long lines cannot hold more memory than many short ones. The room is there for a disk that
//! stands still: 100 000 lines of 400 bytes a second fill it in 0.65 s.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;

/// Lines that wait at most.
pub const LINES: usize = 64 * 1024;

/// Bytes of lines that wait at most.
pub const BYTES: u64 = 32 * 1024 * 1024;

/// Lines that wait for the journal, and its numbers.
#[derive(Debug)]
pub struct Queue {
    lines: ArrayQueue<String>,
    bytes: CachePadded<AtomicU64>,
    /// What became of lines.
    pub counts: Counts,
}

/// Numbers of the journal since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Lines written.
    pub lines: AtomicU64,
    /// Bytes written, ends of lines included.
    pub bytes: AtomicU64,
    /// Lines that did not fit the queue, or were lost.
    pub dropped: AtomicU64,
    /// Segments closed by size or age.
    pub segments: AtomicU64,
    /// Attempts to open, write, sync, close or compress that failed.
    pub errors: AtomicU64,
    writer: AtomicU8,
}

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InUse {
    /// Nobody yet.
    Starting,
    /// glommio, past the kernel's cache.
    Direct,
    /// The kernel's cache.
    Buffered,
}

impl InUse {
    /// Its name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Direct => "direct",
            Self::Buffered => "buffered",
        }
    }
}

impl Counts {
    /// Who writes now.
    #[must_use]
    pub fn writer(&self) -> InUse {
        [InUse::Direct, InUse::Buffered]
            .into_iter()
            .find(|writer| *writer as u8 == self.writer.load(Ordering::Relaxed))
            .unwrap_or(InUse::Starting)
    }

    /// Notes who writes.
    pub(super) fn set_writer(&self, writer: InUse) {
        self.writer.store(writer as u8, Ordering::Relaxed);
    }

    /// Adds to one of them.
    pub(super) fn add(count: &AtomicU64, more: u64) {
        count.fetch_add(more, Ordering::Relaxed);
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { lines: ArrayQueue::new(LINES), bytes: CachePadded::default(), counts: Counts::default() }
    }
}

impl Queue {
    /// Leaves a line, without its end, to the journal.
    pub fn push(&self, line: String) {
        let bytes = line.len() as u64;
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > BYTES || self.lines.push(line).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            Counts::add(&self.counts.dropped, 1);
        }
    }

    /// The oldest line.
    pub(super) fn pop(&self) -> Option<String> {
        let line = self.lines.pop()?;
        self.bytes.fetch_sub(line.len() as u64, Ordering::Relaxed);
        Some(line)
    }

    /// Lines that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lines.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_by_number_and_by_length() {
        let queue = Queue::default();
        (0..LINES + 3).for_each(|_| queue.push("x".to_owned()));
        assert_eq!((queue.waiting(), queue.counts.dropped.load(Ordering::Relaxed)), (LINES, 3));
        while queue.pop().is_some() {}
        let long = "x".repeat(1 << 20);
        (0..40).for_each(|_| queue.push(long.clone()));
        assert_eq!((queue.waiting(), queue.counts.dropped.load(Ordering::Relaxed)), (32, 11));
        assert_eq!(queue.pop().map(|line| line.len()), Some(1 << 20));
        queue.push(long);
        assert_eq!(queue.waiting(), 32, "room that was given back is taken again");
    }

    #[test]
    fn the_writer_in_use_has_a_name() {
        let counts = Counts::default();
        assert_eq!(counts.writer().name(), "starting");
        counts.set_writer(InUse::Direct);
        assert_eq!(counts.writer().name(), "direct");
        counts.set_writer(InUse::Buffered);
        assert_eq!(counts.writer().name(), "buffered");
    }
}
