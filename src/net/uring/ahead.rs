//! Asking for memory ahead of its use. It changes nothing but time: an address may be any, and nothing is read from it.

/// Addresses that what waits for an operation lies at and has at hand.
pub(super) type Touched = [usize; 2];

/// Bytes of a cache line.
const LINE: usize = 64;
/// Lines asked for before and behind an address.
const AROUND: usize = 6;
/// Lines of a task: the future of a connection.
const TASK: usize = 18;

/// Asks for what lies around `at`, if that is anything.
pub(super) fn of(at: usize) {
    if at != 0 {
        lines(at.wrapping_sub(AROUND * LINE), 2 * AROUND);
    }
}

/// Asks for a task that begins at `at`.
pub(super) fn from(at: usize) {
    lines(at, TASK);
}

#[cfg(target_arch = "x86_64")]
fn lines(at: usize, count: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for line in 0..count {
        // SAFETY: a prefetch reads nothing and faults nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(at.wrapping_add(line * LINE))) };
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn lines(_at: usize, _count: usize) {}
