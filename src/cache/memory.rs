//! Answers in this process, shared by its shards.
//!
//! `quick_cache` keeps what is asked for often (S3-FIFO with a ghost list) in [`PARTS`] parts, each behind a lock of its own
//! that a read or a write holds for some 100 ns. The bound is of bytes: bodies, content types, and about 256 bytes each for
//! what surrounds them. What is too old is not given, and goes when its place is needed, or when it is found.

use std::sync::Arc;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::key::Key;
use super::stored::Stored;

/// Parts with a lock each; the largest answer fits in one.
const PARTS: usize = 4;
/// Bytes of an answer, about, to size the index for.
const USUAL_BYTES: u64 = 4096;

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Arc<Stored>> for ByBytes {
    fn weight(&self, _: &Key, stored: &Arc<Stored>) -> u64 {
        stored.weight()
    }
}

type Answers = Cache<Key, Arc<Stored>, ByBytes, DefaultHashBuilder, DefaultLifecycle<Key, Arc<Stored>>>;

/// The answers.
pub struct Memory(Answers);

impl Memory {
    /// None yet, and at most `bytes_max` at any time.
    #[must_use]
    pub fn new(bytes_max: u64) -> Option<Self> {
        let items = usize::try_from(bytes_max / USUAL_BYTES).unwrap_or(usize::MAX).clamp(32 * PARTS, 1 << 20);
        let mut options = OptionsBuilder::new();
        options.shards(PARTS).estimated_items_capacity(items).weight_capacity(bytes_max);
        let options = options.build().ok()?;
        Some(Self(Cache::with_options(options, ByBytes, Default::default(), Default::default())))
    }

    /// The answer of `key` that may still be given at `now_ms` to who takes it up to an age of `age_max_s`.
    #[must_use]
    pub fn get(&self, key: Key, now_ms: u64, age_max_s: Option<u64>) -> Option<Arc<Stored>> {
        let stored = self.0.get(&key)?;
        if stored.left_ms(now_ms, None) == 0 {
            self.0.remove_if(&key, |old| Arc::ptr_eq(old, &stored));
            return None;
        }
        (stored.left_ms(now_ms, age_max_s) > 0).then_some(stored)
    }

    /// Keeps an answer, in the place of an older one.
    pub fn put(&self, key: Key, stored: Arc<Stored>) {
        self.0.insert(key, stored);
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.0.clear();
    }

    /// How many there are, and their bytes.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        (self.0.len(), self.0.weight())
    }

    /// Another bound from now on.
    pub fn set_bytes_max(&self, bytes_max: u64) {
        self.0.set_capacity(bytes_max);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::api::Usage;

    fn stored(bytes: usize, made_ms: u64) -> Arc<Stored> {
        Arc::new(Stored {
            is_stream: false,
            content_type: [][..].into(),
            body: Bytes::from(vec![b'x'; bytes]),
            usage: Usage::default(),
            made_ms,
            ttl_ms: 1000,
        })
    }

    fn key(number: u64) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        Key(key)
    }

    #[test]
    fn its_bytes_have_a_bound_whatever_comes() {
        let bytes_max = 4 << 20;
        let memory = Memory::new(bytes_max).unwrap();
        for number in 0..20_000u64 {
            let bytes = usize::try_from(number * 7919 % 20_000).unwrap();
            memory.put(key(number), stored(bytes, 0));
            if number % 3 == 0 {
                let _ = memory.get(key(number / 2), 1, None);
            }
            assert!(memory.size().1 <= bytes_max, "{:?} after {number}", memory.size());
        }
        assert!(memory.size().1 > bytes_max * 3 / 4, "{:?}", memory.size());
        memory.set_bytes_max(bytes_max / 2);
        memory.put(key(7), stored(10, 0));
        assert!(memory.size().1 <= bytes_max / 2, "{:?}", memory.size());
        memory.clear();
        assert_eq!(memory.size(), (0, 0));
    }

    #[test]
    fn the_largest_answer_that_may_be_configured_fits() {
        let memory = Memory::new(8 << 20).unwrap();
        for number in 0..4 {
            memory.put(key(number), stored(1 << 20, 0));
            assert!(memory.get(key(number), 0, None).is_some(), "answer {number}");
        }
    }

    #[test]
    fn what_is_too_old_is_not_given() {
        let memory = Memory::new(1 << 20).unwrap();
        memory.put(key(1), stored(10, 5000));
        assert!(memory.get(key(1), 5999, None).is_some());
        assert!(memory.get(key(1), 5999, Some(0)).is_none(), "too old for this one");
        assert!(memory.get(key(2), 5000, None).is_none());
        assert_eq!(memory.size().0, 1);
        assert!(memory.get(key(1), 6000, None).is_none());
        assert_eq!(memory.size().0, 0, "and gone");
    }
}
