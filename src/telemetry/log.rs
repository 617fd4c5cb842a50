//! Lines for people: a bounded queue that any thread may push to, written to standard error by the control core. Lines of
//! exchanges that belong into a file go to the journal's queue instead.
//!
//! A line that does not fit is dropped and counted; nobody waits. Bound: [`QUEUE`] lines.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::SystemTime;

use crossbeam_queue::ArrayQueue;

use crate::config::{Access, Level};
use crate::journal::queue::Queue;

const QUEUE: usize = 16 * 1024;

/// The queue and what may enter it.
#[derive(Debug)]
pub struct Log {
    level: AtomicU8,
    access: bool,
    queue: ArrayQueue<String>,
    journal: Option<Arc<Queue>>,
    dropped: AtomicU64,
}

impl Log {
    /// An empty queue.
    #[must_use]
    pub fn new(level: Level, access: &Access) -> Self {
        Self {
            level: AtomicU8::new(level as u8),
            access: *access != Access::Off,
            queue: ArrayQueue::new(QUEUE),
            journal: matches!(access, Access::File(_)).then(Arc::default),
            dropped: AtomicU64::new(0),
        }
    }

    /// Sets the least level that is written.
    pub fn set_level(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Notes an event of the process.
    pub fn write(&self, level: Level, text: fmt::Arguments<'_>) {
        if level as u8 <= self.level.load(Ordering::Relaxed) {
            let name = match level {
                Level::Error => "error",
                Level::Warn => "warn",
                Level::Info => "info",
                Level::Debug => "debug",
            };
            let mut line = format!("{} {name} ", timestamp());
            push_clean(&mut line, &text.to_string());
            self.push(line);
        }
    }

    /// Whether exchanges are to be noted.
    #[must_use]
    pub fn wants_access(&self) -> bool {
        self.access
    }

    /// Notes exchanges; `lines` are whole ones, each with its end.
    pub fn access(&self, lines: &[u8]) {
        match &self.journal {
            Some(journal) => journal.push(lines),
            None => lines
                .split_inclusive(|&byte| byte == b'\n')
                .for_each(|line| self.push(String::from_utf8_lossy(line.trim_ascii_end()).into_owned())),
        }
    }

    /// The lines of exchanges, if they go to a file.
    #[must_use]
    pub fn journal(&self) -> Option<&Arc<Queue>> {
        self.journal.as_ref()
    }

    /// Writes what has gathered to standard error; where that refuses, the lines are lost.
    pub fn drain(&self) {
        let mut text = Vec::new();
        for line in std::iter::from_fn(|| self.queue.pop()).take(QUEUE) {
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        let _ = std::io::stderr().write_all(&text); // there is nowhere else to tell it
    }

    /// Lines that did not fit; those of the journal are counted there.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn push(&self, line: String) {
        if self.queue.push(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// UTC in RFC 3339 with milliseconds.
#[must_use]
pub fn timestamp() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs(), since.subsec_millis())
}

/// Seconds and milliseconds since 1970 in RFC 3339 (days to date after Hinnant, "chrono-compatible low-level date
/// algorithms").
#[must_use]
pub fn rfc3339(seconds: u64, millis: u32) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let era_day = z % 146_097;
    let era_year = (era_day - era_day / 1_460 + era_day / 36_524 - era_day / 146_096) / 365;
    let year_day = era_day - (365 * era_year + era_year / 4 - era_year / 100);
    let month_index = (5 * year_day + 2) / 153;
    let day = year_day - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = era_year + z / 146_097 * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Appends `text` without control characters: a log line cannot be forged.
fn push_clean(line: &mut String, text: &str) {
    line.extend(text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400, 5), "2000-02-29T00:00:00.005Z");
        assert_eq!(rfc3339(1_795_375_480, 999), "2026-11-22T19:24:40.999Z");
    }

    #[test]
    fn lines_cannot_be_forged_and_the_queue_is_bounded() {
        let log = Log::new(Level::Info, &Access::Off);
        log.write(Level::Warn, format_args!("a\nb\x1b[31m"));
        log.write(Level::Debug, format_args!("not wanted"));
        let line = log.queue.pop().unwrap();
        assert!(line.ends_with("warn a\u{fffd}b\u{fffd}[31m"));
        assert!(log.queue.is_empty());
        log.access(&b"a\nb\n".repeat(QUEUE / 2 + 2));
        assert_eq!((log.dropped(), log.queue.pop().as_deref()), (4, Some("a")));
    }
}
