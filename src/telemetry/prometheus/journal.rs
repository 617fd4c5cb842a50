//! Families of the journal. Without a file for access lines they stand at zero.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Page;
use crate::journal::queue::Counts;

/// A family's name, what it says, and where its number is.
type Family = (&'static str, &'static str, fn(&Counts) -> &AtomicU64);

const FAMILIES: [Family; 5] = [
    ("corelane_journal_lines_total", "Access lines written to the journal.", |counts| &counts.lines),
    ("corelane_journal_bytes_total", "Bytes written to the journal.", |counts| &counts.bytes),
    (
        "corelane_journal_lines_dropped_total",
        "Access lines that did not fit the journal's queue, or were lost at the end.",
        |counts| &counts.dropped,
    ),
    ("corelane_journal_segments_closed_total", "Segments closed by size or age.", |counts| &counts.segments),
    (
        "corelane_journal_write_errors_total",
        "Attempts to open, write, sync, close or compress that failed.",
        |counts| &counts.errors,
    ),
];

impl Page<'_> {
    /// What became of access lines.
    pub(super) fn journal(&mut self) {
        let counts = self.world.log.journal().map(|queue| &queue.counts);
        for (name, help, pick) in FAMILIES {
            self.family(name, "counter", help);
            self.line(name, &[], counts.map_or(0, |counts| pick(counts).load(Ordering::Relaxed)));
        }
        let writer = counts.map_or("off", |counts| counts.writer().name());
        self.family("corelane_journal_writer_info", "gauge", "How the journal is written.");
        self.line("corelane_journal_writer_info", &[("writer", writer)], 1);
    }
}
