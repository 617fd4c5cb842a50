//! `[cache]`: answers that are given again.
//!
//! Invariants, besides those of [`super`]: `ttl` is at most `ttl_max`; an answer that may be stored fits the memory.

use std::time::Duration;

use serde::Serialize;

use super::Bytes;

/// `[cache]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// Where answers are kept.
    pub store: Store,
    /// How long an answer is given again, where the request says nothing else.
    pub ttl: Duration,
    /// The longest time that a request may ask for.
    pub ttl_max: Duration,
    /// Bytes of this process for answers, over all shards; 0 with `store = "redis"`: all of them are asked for there.
    pub memory_bytes_max: Bytes,
    /// Largest answer that is kept.
    pub answer_bytes_max: Bytes,
    /// Whether requests that say nothing of a cache use it.
    pub by_default: bool,
    /// Whether all keys share what is kept; else each has its own, but for those of one `cache_group`.
    pub shared: bool,
    /// Whether equal requests wait for the first one's answer.
    pub coalesce: bool,
    /// Whether an answer that is given again costs its caller what it cost first.
    pub charge_hits: bool,
    /// Which requests are answered so, each once, in order.
    pub tasks: Vec<Cached>,
}

/// Where answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// Nowhere.
    Off,
    /// In this process.
    Memory,
    /// In Redis, and those of late in this process too.
    Redis,
}

/// A kind of requests, whatever their dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cached {
    /// Chats.
    Chat,
    /// Completions of a prompt.
    Completions,
    /// Embeddings.
    Embeddings,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            store: Store::Off,
            ttl: Duration::from_secs(60 * 60),
            ttl_max: Duration::from_secs(24 * 60 * 60),
            memory_bytes_max: Bytes(64 << 20),
            answer_bytes_max: Bytes(1 << 20),
            by_default: true,
            shared: false,
            coalesce: true,
            charge_hits: false,
            tasks: vec![Cached::Chat, Cached::Completions, Cached::Embeddings],
        }
    }
}

impl Cache {
    /// Whether anything is kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.store != Store::Off
    }
}
