//! When a segment ends, which bytes go which way, and when to try again: decisions, the time is an argument.

/// Bytes that direct writing begins and ends at a multiple of: the page of the kernel's cache, which no block of any disk
/// in use exceeds. One page is so written in one way only.
pub const BLOCK: u64 = 4096;

/// Whether `more` bytes belong into the next segment. A line longer than a segment has one of its own.
#[must_use]
pub fn is_full(length: u64, more: u64, bytes_max: u64) -> bool {
    length > 0 && length.saturating_add(more) > bytes_max
}

/// Whether a segment whose first line came at `begun_ms` has lived long enough; an empty one ages not.
#[must_use]
pub fn is_aged(begun_ms: Option<u64>, now_ms: u64, age_max_ms: u64) -> bool {
    age_max_ms > 0 && begun_ms.is_some_and(|begun_ms| now_ms.saturating_sub(begun_ms) >= age_max_ms)
}

/// Bytes in three parts: those that fill a block begun before, whole blocks, and the begin of one that is not full yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut<'a> {
    /// Up to a multiple of [`BLOCK`].
    pub head: &'a [u8],
    /// Whole blocks.
    pub blocks: &'a [u8],
    /// Less than a block.
    pub tail: &'a [u8],
}

/// Cuts what is to stand at `at` in a file.
#[must_use]
pub fn cut(bytes: &[u8], at: u64) -> Cut<'_> {
    let to_block = usize::try_from(at.next_multiple_of(BLOCK) - at).unwrap_or(usize::MAX);
    let (head, rest) = bytes.split_at(to_block.min(bytes.len()));
    let whole = rest.len() - rest.len() % (BLOCK as usize);
    let (blocks, tail) = rest.split_at(whole);
    Cut { head, blocks, tail }
}

/// First pause after a failure, and the longest, in milliseconds.
const PAUSE_MS: (u64, u64) = (100, 5_000);

/// Something that may fail, is tried again after a pause that doubles, and recovers by itself.
#[derive(Debug, Default)]
pub struct Trial {
    failing: Option<(u64, u64)>,
}

impl Trial {
    /// Whether it may be tried.
    #[must_use]
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.failing.is_none_or(|(next_ms, _)| now_ms >= next_ms)
    }

    /// Whether the last attempt failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.is_some()
    }

    /// It failed; `true`: it did not before.
    pub fn failed(&mut self, now_ms: u64) -> bool {
        let pause_ms = self.failing.map_or(PAUSE_MS.0, |(_, pause_ms)| (pause_ms * 2).min(PAUSE_MS.1));
        self.failing.replace((now_ms + pause_ms, pause_ms)).is_none()
    }

    /// It went well; `true`: it did not before.
    pub fn went_well(&mut self) -> bool {
        self.failing.take().is_some()
    }
}

/// Something that is done so often at most.
#[derive(Debug, Default)]
pub struct Every {
    next_ms: u64,
}

impl Every {
    /// Whether it is time; the next time is `interval_ms` later.
    pub fn is_due(&mut self, now_ms: u64, interval_ms: u64) -> bool {
        let due = now_ms >= self.next_ms;
        if due {
            self.next_ms = now_ms + interval_ms;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_ends_by_size_between_lines() {
        assert!(!is_full(0, 500, 100), "a long line has a segment of its own");
        assert!(!is_full(60, 40, 100));
        assert!(is_full(60, 41, 100));
        assert!(is_full(u64::MAX - 1, 41, 100));
    }

    #[test]
    fn a_segment_ends_by_age_once_it_has_a_line() {
        assert!(!is_aged(None, 10_000, 1));
        assert!(!is_aged(Some(1_000), 10_000, 0), "zero: age closes none");
        assert!(!is_aged(Some(1_000), 1_999, 1_000));
        assert!(is_aged(Some(1_000), 2_000, 1_000));
        assert!(!is_aged(Some(3_000), 2_000, 1_000), "a clock behind its begin");
    }

    #[test]
    fn every_byte_is_cut_into_one_part() {
        let bytes: Vec<u8> = (0..20_000_u32).map(|at| at as u8).collect();
        for at in [0, 1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK - 7] {
            for length in [0, 1, 99, 4095, 4096, 4097, 8191, 8192, 8193, 20_000] {
                let parts = cut(&bytes[..length], at);
                assert_eq!([parts.head, parts.blocks, parts.tail].concat(), &bytes[..length]);
                assert!((parts.head.len() as u64) < BLOCK && (parts.tail.len() as u64) < BLOCK);
                assert_eq!(parts.blocks.len() as u64 % BLOCK, 0);
                let begins = at + parts.head.len() as u64;
                assert!(begins.is_multiple_of(BLOCK) || (parts.blocks.is_empty() && parts.tail.is_empty()));
            }
        }
    }

    #[test]
    fn pauses_double_and_changes_are_told_once() {
        let mut trial = Trial::default();
        assert!(trial.is_due(0) && !trial.is_failing() && !trial.went_well());
        assert!(trial.failed(1_000));
        assert!(!trial.is_due(1_099) && trial.is_due(1_100));
        assert!(!trial.failed(1_100), "told once");
        assert!(!trial.is_due(1_299) && trial.is_due(1_300));
        (0..20).for_each(|_| assert!(!trial.failed(10_000)));
        assert!(!trial.is_due(14_999) && trial.is_due(15_000));
        assert!(trial.went_well() && !trial.went_well());
        assert!(trial.failed(20_000) && trial.is_due(20_100), "a new failure begins with the short pause");
    }

    #[test]
    fn so_often_at_most() {
        let mut every = Every::default();
        assert!(every.is_due(5, 10) && !every.is_due(14, 10) && every.is_due(15, 10));
    }
}
