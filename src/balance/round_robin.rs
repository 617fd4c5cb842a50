//! In turn. The cursor is one shared counter, so turns are exact over all shards: n picks of n eligible candidates
//! take each once. A candidate that may not be taken leaves its turn to the next one.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The next candidate in turn, whose turn is taken.
pub fn pick(n: usize, eligible: impl Fn(usize) -> bool, cursor: &AtomicUsize) -> Option<usize> {
    if !(0..n).any(&eligible) {
        return None;
    }
    at(n, eligible, cursor.fetch_add(1, Ordering::Relaxed))
}

/// The candidate that has this turn.
pub fn at(n: usize, eligible: impl Fn(usize) -> bool, turn: usize) -> Option<usize> {
    (0..n).map(|step| turn.wrapping_add(step) % n).find(|&at| eligible(at))
}
