//! The cache as the file would say it.

use super::{Page, list};
use crate::config::cache::{Cache, Cached, Store};

/// Words of `cache.store`.
pub(crate) const STORES: [(&str, Store); 3] =
    [("off", Store::Off), ("memory", Store::Memory), ("redis", Store::Redis)];
/// Words of `cache.mode`.
pub(crate) const MODES: [(&str, bool); 2] = [("default_on", true), ("default_off", false)];
/// Words of `cache.tasks`.
pub(crate) const CACHED: [(&str, Cached); 3] =
    [("chat", Cached::Chat), ("completions", Cached::Completions), ("embeddings", Cached::Embeddings)];

pub(super) fn write(page: &mut Page, cache: &Cache) {
    page.header("[cache]");
    page.word("store", &STORES, cache.store);
    page.time("ttl", cache.ttl);
    page.time("ttl_max", cache.ttl_max);
    page.text("memory_bytes_max", cache.memory_bytes_max);
    page.text("answer_bytes_max", cache.answer_bytes_max);
    page.word("mode", &MODES, cache.by_default);
    page.plain("shared", cache.shared);
    page.plain("coalesce", cache.coalesce);
    page.plain("charge_hits", cache.charge_hits);
    let names = CACHED.iter().filter(|(_, task)| cache.tasks.contains(task)).map(|(name, _)| *name);
    page.plain("tasks", list(names));
}
