//! Buffers of one shard: two sizes, kept warm in two short lists.
//!
//! A buffer is a plain `Vec<u8>`: it goes into a read, comes back, is scanned in place and written. Bound: at most
//! [`KEPT`] idle buffers of each size a shard (2.4 MiB); those in use are bounded by connections and exchanges.

use std::cell::RefCell;

/// Most requests and answers, and pieces of streams. No power of two: beginnings of buffers that are one apart would compete for
/// the same few lines of the processor's caches.
pub const SMALL: usize = 3584;
/// What is larger.
pub const LARGE: usize = 16 * 1024;

const KEPT: usize = 128;

/// The lists. Not shared between shards.
#[derive(Debug, Default)]
pub struct Buffers {
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// An empty buffer of [`SMALL`] bytes.
    #[must_use]
    pub fn small(&self) -> Vec<u8> {
        self.small.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(SMALL))
    }

    /// An empty buffer of [`LARGE`] bytes.
    #[must_use]
    pub fn large(&self) -> Vec<u8> {
        self.large.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(LARGE))
    }

    /// An empty buffer with room for `bytes` if they are at most [`LARGE`]: the smaller one of the two that has it.
    #[must_use]
    pub fn sized(&self, bytes: usize) -> Vec<u8> {
        if bytes <= SMALL { self.small() } else { self.large() }
    }

    /// Frees the idle ones. What is asked for afterwards lies closer together than what has come back in any order.
    pub fn trim(&self) {
        self.small.take();
        self.large.take();
    }

    /// Takes a buffer back; one that has grown past its size is freed.
    pub fn give(&self, mut buffer: Vec<u8>) {
        let list = match buffer.capacity() {
            SMALL => &self.small,
            LARGE => &self.large,
            _ => return,
        };
        let mut list = list.borrow_mut();
        if list.len() < KEPT {
            buffer.clear();
            list.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_its_sizes_and_frees_the_rest() {
        let buffers = Buffers::default();
        let mut one = buffers.small();
        one.extend_from_slice(b"x");
        let address = one.as_ptr();
        buffers.give(one);
        let again = buffers.small();
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), address);
        buffers.give(vec![0; LARGE + 1]);
        assert!(buffers.large.borrow().is_empty());
        buffers.give(again);
        buffers.trim();
        assert!(buffers.small.borrow().is_empty());
    }
}
