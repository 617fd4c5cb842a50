//! The process's memory: where it comes from, and giving it back.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys as mi;

/// The allocator: mimalloc. It aligns to 16 bytes by itself, and to 8 what is smaller, so that only what wants more is asked for
/// with an alignment: mimalloc looks for such memory with more than ten times the work for the sizes of futures.
pub struct Allocator;

fn is_plain(layout: Layout) -> bool {
    layout.align() <= 8 || (layout.align() == 16 && layout.size() >= 16)
}

// SAFETY: each function is mimalloc's own of that meaning; both kinds of memory are freed alike.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: any size will do; the alignment is a power of two.
        let at = unsafe {
            if is_plain(layout) { mi::mi_malloc(size) } else { mi::mi_malloc_aligned(size, align) }
        };
        at.cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as above.
        let at = unsafe {
            if is_plain(layout) { mi::mi_zalloc(size) } else { mi::mi_zalloc_aligned(size, align) }
        };
        at.cast()
    }

    unsafe fn dealloc(&self, at: *mut u8, _: Layout) {
        // SAFETY: by this trait's contract it is ours, and live.
        unsafe { mi::mi_free(at.cast()) };
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let wanted = Layout::from_size_align(size, layout.align());
        // SAFETY: as above.
        let at = unsafe {
            match wanted.is_ok_and(is_plain) {
                true => mi::mi_realloc(at.cast(), size),
                false => mi::mi_realloc_aligned(at.cast(), size, layout.align()),
            }
        };
        at.cast()
    }
}

/// Lets the allocator of this thread return pages that have been free for a while. Cheap when there are none.
pub fn give_back() {
    // SAFETY: takes a flag, touches only the allocator's own state.
    unsafe { mi::mi_collect(false) };
}

/// How long a page that has become free may stay, in milliseconds.
const PURGE_MS: std::ffi::c_long = 100;

/// Options of mimalloc 3 that its bindings do not name (`mi_option_e` in its `mimalloc.h`).
const ARENA_EAGER_COMMIT: mi::mi_option_t = 4;
const PURGE_DELAY: mi::mi_option_t = 15;

/// Sets the allocator's options before its first use, which is before `main`: what is reserved at once is in use by then.
#[used]
#[unsafe(link_section = ".init_array.00101")]
static SET_OPTIONS: extern "C" fn() = {
    /// An arena that is committed as a whole costs 3.5 MiB at start (`PERFORMANCE.md`).
    extern "C" fn set() {
        // SAFETY: options are numbers in static memory.
        unsafe {
            mi::mi_option_set(ARENA_EAGER_COMMIT, 0);
            mi::mi_option_set(PURGE_DELAY, PURGE_MS);
        }
    }
    set
};

/// Keeps this process to small pages. Transparent huge pages turn every first touch of a 2 MiB range into 2 MiB of
/// memory, which costs a gateway with many small, scattered buffers more than it saves: 14 MiB at start instead of
/// 5, and twice the memory a stream (`PERFORMANCE.md`). Call before any thread starts.
pub fn small_pages() {
    // SAFETY: prctl with this option takes plain numbers.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_keeps_what_it_holds() {
        for align in [1, 2, 4, 8, 16, 32, 64, 4096] {
            for size in [1, 7, 8, 9, 15, 16, 17, 24, 40, 1000, 5000, 70_000, 3_000_000] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: what is written lies within what was asked for, and is freed once.
                unsafe {
                    let at = Allocator.alloc_zeroed(layout);
                    assert_eq!(at.addr() % align, 0, "{layout:?}");
                    assert!(std::slice::from_raw_parts(at, size).iter().all(|byte| *byte == 0));
                    at.write_bytes(7, size);
                    let at = Allocator.realloc(at, layout, size + 9);
                    assert_eq!(at.addr() % align, 0, "{layout:?}, grown");
                    assert!(std::slice::from_raw_parts(at, size).iter().all(|byte| *byte == 7));
                    Allocator.dealloc(at, Layout::from_size_align(size + 9, align).unwrap());
                    let at = Allocator.alloc(layout);
                    assert_eq!(at.addr() % align, 0, "{layout:?}");
                    Allocator.dealloc(at, layout);
                }
            }
        }
    }
}
