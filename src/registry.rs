//! The endpoints as all shards see them: shared atomics that outlive every configuration snapshot.
//!
//! `in_flight` is the one number that picks need from other shards; it stands on a cache line of its own. It is
//! raised by [`EndpointState::enter`] and lowered when the returned [`InFlight`] drops, on every path.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_utils::CachePadded;

use crate::config;
use crate::health::{Thresholds, Word};

/// One endpoint.
pub struct EndpointState {
    /// What was configured.
    pub config: config::Endpoint,
    /// `host[:port]` for the `Host` field.
    pub authority: String,
    in_flight: CachePadded<AtomicU32>,
    health: CachePadded<AtomicU64>,
    disabled: AtomicBool,
    marked_down: AtomicU64,
    addresses: ArcSwap<Vec<SocketAddr>>,
    facts: ArcSwapOption<Facts>,
    last_error: ArcSwapOption<String>,
}

/// What the last successful probe said.
#[derive(Debug, Default, PartialEq)]
pub struct Facts {
    /// Model names as the endpoint spells them.
    pub models: Vec<String>,
    /// The entries of `/api/tags` in the order of `models`, as JSON; empty for other kinds.
    pub tags: Vec<String>,
    /// `/api/version`, if it has one.
    pub version: Option<String>,
}

impl EndpointState {
    /// A fresh state; an address that needs no name service is known at once.
    #[must_use]
    pub fn new(config: config::Endpoint) -> Self {
        let bare =
            config.url.host.parse().map(|ip| vec![SocketAddr::new(ip, config.url.port)]).unwrap_or_default();
        let host = &config.url.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let usual = if config.url.tls { 443 } else { 80 };
        let authority = if config.url.port == usual { host } else { format!("{host}:{}", config.url.port) };
        Self {
            config,
            authority,
            in_flight: CachePadded::default(),
            health: CachePadded::new(AtomicU64::new(Word::UNKNOWN.0)),
            disabled: AtomicBool::new(false),
            marked_down: AtomicU64::new(0),
            addresses: ArcSwap::from_pointee(bare),
            facts: ArcSwapOption::empty(),
            last_error: ArcSwapOption::empty(),
        }
    }

    /// Its URL as answers and pages show it.
    #[must_use]
    pub fn base(&self) -> String {
        let scheme = if self.config.url.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.config.url.path)
    }

    /// Exchanges on it now, over all shards.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Takes a slot; `None`: all `slots` are taken.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Option<InFlight> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let guard = InFlight(Arc::clone(self));
        (self.config.slots == 0 || before < self.config.slots).then_some(guard)
    }

    /// Whether its slots are all taken.
    #[must_use]
    pub fn full(&self) -> bool {
        self.config.slots > 0 && self.in_flight() >= self.config.slots
    }

    /// Its health.
    #[must_use]
    pub fn health(&self) -> Word {
        Word(self.health.load(Ordering::Relaxed))
    }

    /// Notes an observation; answers with the health before and after.
    pub fn observe(&self, success: bool, thresholds: Thresholds) -> (Word, Word) {
        let mut before = self.health();
        loop {
            let after = before.observe(success, thresholds);
            match self.health.compare_exchange_weak(before.0, after.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    if before.is_up() && !after.is_up() {
                        self.marked_down.fetch_add(1, Ordering::Relaxed);
                    }
                    return (before, after);
                }
                Err(now) => before = Word(now),
            }
        }
    }

    /// How often it was marked unhealthy.
    #[must_use]
    pub fn marked_down(&self) -> u64 {
        self.marked_down.load(Ordering::Relaxed)
    }

    /// Whether an operator has taken it out.
    #[must_use]
    pub fn disabled(&self) -> bool {
        self.disabled.load(Ordering::Relaxed)
    }

    /// Takes it out, or puts it back.
    pub fn set_disabled(&self, disabled: bool) {
        self.disabled.store(disabled, Ordering::Relaxed);
    }

    /// Where to connect; `None`: its name could not be resolved yet. Several addresses take turns by `turn`.
    #[must_use]
    pub fn address(&self, turn: usize) -> Option<SocketAddr> {
        let addresses = self.addresses.load();
        let index = turn.checked_rem(addresses.len())?;
        addresses.get(index).copied()
    }

    /// Replaces the addresses.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.addresses.store(Arc::new(addresses));
    }

    /// What the last successful probe said.
    #[must_use]
    pub fn facts(&self) -> Option<Arc<Facts>> {
        self.facts.load_full()
    }

    /// Replaces the facts; `true`: the models have changed.
    pub fn set_facts(&self, facts: Facts) -> bool {
        let changed = self.facts.load().as_ref().is_none_or(|old| old.models != facts.models);
        self.facts.store(Some(Arc::new(facts)));
        changed
    }

    /// Why the last probe or connect failed; `None`: it did not.
    #[must_use]
    pub fn last_error(&self) -> Option<Arc<String>> {
        self.last_error.load_full()
    }

    /// Replaces the reason.
    pub fn set_last_error(&self, error: Option<String>) {
        self.last_error.store(error.map(Arc::new));
    }
}

/// One exchange on an endpoint; the count falls when it drops.
pub struct InFlight(Arc<EndpointState>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_exact_under_threads() {
        let endpoint = Arc::new(EndpointState::new(config::Endpoint {
            name: "a".into(),
            url: config::Url { tls: false, host: "::1".into(), port: 8080, path: String::new() },
            kind: config::Kind::Openai,
            api_key: None,
            ca: None,
            weight: 1,
            slots: 3,
        }));
        assert_eq!(endpoint.authority, "[::1]:8080");
        let held: Vec<_> = (0..3).map(|_| endpoint.enter().unwrap()).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| assert!(endpoint.enter().is_none())));
            }
        });
        assert_eq!(endpoint.in_flight(), 3);
        drop(held);
        assert_eq!(endpoint.in_flight(), 0);
    }
}
