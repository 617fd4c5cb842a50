//! What the shards and the journal share: lines on their way, and what became of them.
//!
//! A push is lock-free and never waits: lines that do not fit are dropped and counted. A shard pushes lines that it has
//! gathered together, so one push, one allocation and one free by another thread serve many of them. Bounds: [`LINES`]
//! lines, and [`BYTES`] of text, so that long lines cannot hold more memory than many short ones. The room is there for a
//! disk that stands still: 100 000 lines of 400 bytes a second fill it in 0.65 s.

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
    /// Whole lines, pushed together.
    bundles: ArrayQueue<Box<[u8]>>,
    lines: CachePadded<AtomicU64>,
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
        Self {
            bundles: ArrayQueue::new(LINES),
            lines: CachePadded::default(),
            bytes: CachePadded::default(),
            counts: Counts::default(),
        }
    }
}

impl Queue {
    /// Leaves whole lines, each with its end, to the journal: all of them or none.
    pub fn push(&self, lines: &[u8]) {
        let (count, bytes) = (count(lines), lines.len() as u64);
        let before = self.lines.fetch_add(count, Ordering::Relaxed);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + count <= LINES as u64 && bytes_before + bytes <= BYTES;
        if !fits || self.bundles.push(lines.into()).is_err() {
            self.lines.fetch_sub(count, Ordering::Relaxed);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            Counts::add(&self.counts.dropped, count);
        }
    }

    /// The oldest lines that were pushed together.
    pub(super) fn pop(&self) -> Option<Box<[u8]>> {
        let lines = self.bundles.pop()?;
        self.lines.fetch_sub(count(&lines), Ordering::Relaxed);
        self.bytes.fetch_sub(lines.len() as u64, Ordering::Relaxed);
        Some(lines)
    }

    /// Lines that wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }
}

/// Ends of lines.
#[must_use]
pub fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_by_number_and_by_length() {
        let queue = Queue::default();
        let seen = |queue: &Queue| (queue.waiting(), queue.counts.dropped.load(Ordering::Relaxed));
        (0..LINES + 3).for_each(|_| queue.push(b"x\n"));
        assert_eq!(seen(&queue), (LINES as u64, 3));
        while queue.pop().is_some() {}
        let many = b"x\n".repeat(LINES - 1);
        queue.push(&many);
        queue.push(b"1\n2\n");
        queue.push(b"1\n");
        assert_eq!(
            seen(&queue),
            (LINES as u64, 5),
            "lines that were pushed together are kept or lost together"
        );
        while queue.pop().is_some() {}
        let mut long = vec![b'x'; 1 << 20];
        long[(1 << 20) - 1] = b'\n';
        (0..40).for_each(|_| queue.push(&long));
        assert_eq!(seen(&queue), (32, 13));
        assert_eq!(queue.pop().map(|lines| lines.len()), Some(1 << 20));
        queue.push(&long);
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
