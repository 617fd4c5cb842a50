//! Lines of the access log on one shard: gathered, then handed over together.
//!
//! Each line is written once, into a buffer that stays in the core's cache, and copied once, with its neighbours. A line
//! that comes [`GATHER_US`] or more after the last handing over goes at once, so a gateway with few requests delays none; others
//! wait for [`BUNDLE`] bytes, or for the next tick. A crash loses what was gathered: at most [`BUNDLE`] bytes, or one line, of
//! at most a tick. Bounds: that buffer, and [`KEPT`] entries of less than 1 KiB.

use std::cell::{Cell, RefCell};

use super::entry::Entry;
use crate::telemetry::log::Log;

/// Bytes of lines that are handed over together, about: the line that passes them is in it.
const BUNDLE: usize = 16 * 1024;
/// Lines are gathered for so long.
const GATHER_US: u64 = 5_000;
/// Entries kept for the next exchanges.
const KEPT: usize = 128;

/// Lines that were written and not yet handed over, and memory for the next.
#[derive(Default)]
pub struct Lines {
    text: RefCell<Vec<u8>>,
    /// When lines were handed over last.
    handed_us: Cell<u64>,
    #[expect(clippy::vec_box, reason = "they come in boxes and go in boxes: what moves is a pointer")]
    spare: RefCell<Vec<Box<Entry>>>,
}

impl Lines {
    /// Adds what `write` appends, which has no end of a line in it, as a line of the time `now_us`.
    pub fn add(&self, log: &Log, now_us: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let mut text = self.text.borrow_mut();
        if text.capacity() == 0 {
            text.reserve(BUNDLE + 1024);
        }
        write(&mut text);
        text.push(b'\n');
        let full = text.len() >= BUNDLE || now_us >= self.handed_us.get() + GATHER_US;
        drop(text);
        if full {
            self.hand_over(log, now_us);
        }
    }

    /// Hands over what was gathered.
    pub fn hand_over(&self, log: &Log, now_us: u64) {
        let mut text = self.text.borrow_mut();
        if text.is_empty() {
            return;
        }
        log.access(&text);
        self.handed_us.set(now_us);
        text.clear();
        text.shrink_to(2 * BUNDLE); // a line may have been long
    }

    /// An empty entry.
    #[must_use]
    pub fn entry(&self) -> Box<Entry> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes an entry back.
    pub fn give(&self, mut entry: Box<Entry>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < KEPT {
            entry.clear();
            spare.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Access, Level};

    #[test]
    fn lines_go_at_once_or_together() {
        let log = Log::new(Level::Info, &Access::File("x".into()));
        let waiting = || log.journal().map(|queue| queue.waiting());
        let lines = Lines::default();
        let add = |now_us, text: &str| lines.add(&log, now_us, |out| out.extend_from_slice(text.as_bytes()));
        add(5_000, "the first");
        assert_eq!(waiting(), Some(1), "nothing came before it");
        add(5_100, "soon after");
        add(9_999, "also");
        assert_eq!(waiting(), Some(1));
        add(10_000, "five milliseconds later");
        assert_eq!(waiting(), Some(4));
        (0..3).for_each(|_| add(10_001, &"x".repeat(5_000)));
        assert_eq!(waiting(), Some(4));
        add(10_002, &"x".repeat(5_000));
        assert_eq!(waiting(), Some(8), "a bundle is full");
        add(10_003, &"x".repeat(100_000));
        assert_eq!(waiting(), Some(9));
        assert!(lines.text.borrow().capacity() <= 2 * BUNDLE, "a long line leaves no memory behind");
        add(10_004, "the last");
        lines.hand_over(&log, 60_000);
        lines.hand_over(&log, 60_000);
        assert_eq!(waiting(), Some(10));
    }
}
