//! Giving memory back to the system.

/// Lets the allocator of this thread return pages that have been free for a while. Cheap when there are none.
pub fn give_back() {
    // SAFETY: takes a flag, touches only the allocator's own state.
    unsafe { libmimalloc_sys::mi_collect(false) };
}

/// Keeps this process to small pages. Transparent huge pages turn every first touch of a 2 MiB range into 2 MiB of
/// memory, which costs a gateway with many small, scattered buffers more than it saves: 14 MiB at start instead of
/// 5, and twice the memory a stream (`PERFORMANCE.md`). Call before any thread starts.
pub fn small_pages() {
    // SAFETY: prctl with this option takes plain numbers.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}
