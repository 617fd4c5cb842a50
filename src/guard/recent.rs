//! Verdicts on texts that were read before: system prompts, and the history of a conversation.
//!
//! The key is 128 bits of two keyed hashes (SipHash 1-3, keys of the process) of the text and the profile: nobody outside
//! can make two texts meet. Only whole verdicts of at most [`FINDINGS_MAX`] findings are kept. Memory: [`ENTRIES_MAX`] entries
//! of some 100 bytes, and of 1 KiB at most, a shard; the oldest goes first.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use super::verdict::Found;

/// Verdicts that a shard remembers.
pub const ENTRIES_MAX: usize = 4096;
/// Shorter texts are read faster than they are looked up.
pub const TEXT_BYTES_MIN: usize = 64;

/// A verdict with more findings is not kept: an attacker would choose how much memory is.
pub const FINDINGS_MAX: usize = 4;

/// A text's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64, u64);

/// What a shard remembers.
#[derive(Debug, Default)]
pub struct Recent {
    hashers: (RandomState, RandomState),
    known: HashMap<Key, Arc<Found>>,
    order: VecDeque<Key>,
}

impl Recent {
    /// The key of `text` under a profile and direction.
    #[must_use]
    pub fn key(&self, profile: &str, text: &str) -> Option<Key> {
        if text.len() < TEXT_BYTES_MIN {
            return None;
        }
        let hash = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(profile.as_bytes());
            hasher.write_u8(0xff);
            hasher.write(text.as_bytes());
            hasher.finish()
        };
        Some(Key(hash(&self.hashers.0), hash(&self.hashers.1)))
    }

    /// What was found in the text of `key`, if it was read before.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<Arc<Found>> {
        self.known.get(&key).cloned()
    }

    /// Remembers what was found.
    pub fn put(&mut self, key: Key, found: Arc<Found>) {
        if found.findings.len() > FINDINGS_MAX || self.known.insert(key, found).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > ENTRIES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_so_many_and_tells_profiles_apart() {
        let mut recent = Recent::default();
        let long = |n: usize| format!("{n:0>64}");
        for n in 0..ENTRIES_MAX + 10 {
            let key = recent.key("default", &long(n)).unwrap();
            recent.put(key, Arc::default());
        }
        assert_eq!((recent.known.len(), recent.order.len()), (ENTRIES_MAX, ENTRIES_MAX));
        let get = |profile: &str, n: usize| recent.get(recent.key(profile, &long(n)).unwrap());
        assert!(get("default", 5).is_none() && get("default", ENTRIES_MAX).is_some());
        assert!(get("other", ENTRIES_MAX).is_none());
        assert!(recent.key("default", "short").is_none());
    }

    #[test]
    fn what_would_take_much_memory_is_not_kept() {
        use crate::config::guard::ScannerName;
        use crate::guard::verdict::Finding;
        let mut recent = Recent::default();
        let key = recent.key("default", &"a".repeat(64)).unwrap();
        let mut found = Found::default();
        for at in 0..=FINDINGS_MAX {
            let span = at..at + 1;
            found.add(Finding {
                scanner: ScannerName::Secrets,
                rule: "r".into(),
                span,
                score: 1.0,
                reason: String::new(),
            });
        }
        recent.put(key, Arc::new(found));
        assert!(recent.get(key).is_none() && recent.order.is_empty());
    }
}
