//! Buffers that the kernel takes one of when bytes have come (io_uring_register_buf_ring(3)): who waits to read holds none.
//!
//! Each has a number. One that has been filled leaves for good, and another takes its number at once, so that the kernel has as
//! many as before. There are few at first; where they have not been enough there are twice as many from then on, at most
//! [`ENTRIES`] of [`buffer::SMALL`] bytes, 0.4 MiB a ring.

use std::cell::UnsafeCell;
use std::mem;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::net::buffer::{self, Buffers};

/// Places of the ring of buffers: a power of two.
pub(super) const ENTRIES: u16 = 128;
/// Buffers that there are at first.
const FIRST: usize = 32;

/// The ring that the kernel reads: 16 bytes a place, one page.
#[repr(C, align(4096))]
struct Page(UnsafeCell<[[u64; 2]; ENTRIES as usize]>);

/// The buffers of one ring.
pub(super) struct Group {
    page: Box<Page>,
    /// With the kernel, by number.
    held: Vec<Vec<u8>>,
    /// Buffers handed over so far.
    tail: u16,
}

impl Group {
    /// An empty one; to be dropped after the ring that it is registered with.
    pub fn new() -> Self {
        Self { page: Box::new(Page(UnsafeCell::new([[0; 2]; ENTRIES as usize]))), held: Vec::new(), tail: 0 }
    }

    /// Where it lies as long as it lives.
    pub fn address(&self) -> u64 {
        self.first() as u64
    }

    /// Hands the kernel more buffers, if it may have more.
    pub fn grow(&mut self, buffers: &Buffers) {
        let more = self.held.len().max(FIRST).min(usize::from(ENTRIES) - self.held.len());
        for _ in 0..more {
            self.held.push(Vec::new());
            self.offer(self.held.len() - 1, buffers.small());
        }
    }

    /// The buffer `number`, into which the kernel has written `bytes`.
    pub fn take(&mut self, number: usize, bytes: usize, buffers: &Buffers) -> Vec<u8> {
        let Some(held) = self.held.get_mut(number) else { return Vec::new() };
        let mut filled = mem::take(held);
        if bytes <= filled.capacity() {
            // SAFETY: the kernel has written so many bytes to its beginning.
            unsafe { filled.set_len(bytes) };
        }
        self.offer(number, buffers.small());
        filled
    }

    /// Lets the kernel have buffer `number` again, whose bytes nobody wants.
    pub fn give_back(&mut self, number: usize) {
        if let Some(held) = self.held.get_mut(number) {
            let memory = mem::take(held);
            self.offer(number, memory);
        }
    }

    fn first(&self) -> *mut BufRingEntry {
        self.page.0.get().cast()
    }

    fn offer(&mut self, number: usize, mut memory: Vec<u8>) {
        debug_assert_eq!(memory.capacity(), buffer::SMALL);
        // SAFETY: the place is within the page; the kernel does not look at it before the tail has passed it, and `held` has
        // the memory until it comes back. The fields that are set leave the tail, which lies in the first entry, alone.
        unsafe {
            let entry = &mut *self.first().add(usize::from(self.tail % ENTRIES));
            entry.set_addr(memory.as_mut_ptr() as u64);
            entry.set_len(u32::try_from(memory.capacity()).unwrap_or(0));
            entry.set_bid(number as u16);
        }
        if let Some(held) = self.held.get_mut(number) {
            *held = memory;
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is two bytes of the page, aligned, and read by the kernel as one.
        unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.first()).cast_mut()) }
            .store(self.tail, Ordering::Release);
    }
}
