//! The endpoints as all shards see them: settings of one configuration, and beside them atomics that outlive it.
//!
//! The number in flight is the one thing that picks need from other shards; it stands on a cache line of its own. It is
//! raised by [`EndpointState::enter`] and lowered when the returned [`Place`] drops, on every path. An endpoint that a
//! new configuration still has, under its name and URL, keeps all that was learnt of it ([`EndpointState::renewed`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_utils::CachePadded;

use crate::breaker::Breaker;
use crate::config;
use crate::health::{Thresholds, Word};
use crate::net::tls::Connector;
use crate::queue::{Bell, Place, Places};

/// One endpoint under one configuration.
pub struct EndpointState {
    /// What was configured.
    pub config: config::Endpoint,
    /// `host[:port]` for the `Host` field.
    pub authority: String,
    /// Where its metrics are kept.
    pub slot: usize,
    /// Makes its TLS sessions; `None`: it is asked plainly.
    pub connector: Option<Connector>,
    live: Arc<Live>,
}

/// What is learnt of an endpoint.
struct Live {
    places: Arc<Places>,
    breaker: CachePadded<Breaker>,
    health: CachePadded<AtomicU64>,
    disabled: AtomicBool,
    marked_down: AtomicU64,
    opened: AtomicU64,
    /// When it last gave content, in milliseconds of the process clock.
    served_ms: CachePadded<AtomicU64>,
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
    /// A fresh state, for the shards whose `bells` these are; an address that needs no name service is known at once.
    #[must_use]
    pub fn new(
        config: config::Endpoint,
        slot: usize,
        connector: Option<Connector>,
        bells: &Arc<[Bell]>,
    ) -> Self {
        let bare =
            config.url.host.parse().map(|ip| vec![SocketAddr::new(ip, config.url.port)]).unwrap_or_default();
        let live = Live {
            places: Places::new(config.slots, Arc::clone(bells)),
            breaker: CachePadded::default(),
            health: CachePadded::new(AtomicU64::new(Word::UNKNOWN.0)),
            disabled: AtomicBool::new(false),
            marked_down: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            served_ms: CachePadded::default(),
            addresses: ArcSwap::from_pointee(bare),
            facts: ArcSwapOption::empty(),
            last_error: ArcSwapOption::empty(),
        };
        Self::with(config, slot, connector, Arc::new(live))
    }

    /// The same endpoint as a new configuration has it; a fresh one if it is another server.
    #[must_use]
    pub fn renewed(
        &self,
        config: config::Endpoint,
        connector: Option<Connector>,
        bells: &Arc<[Bell]>,
    ) -> Self {
        if self.config.url == config.url && self.config.kind == config.kind {
            self.live.places.set_max(config.slots);
            Self::with(config, self.slot, connector, Arc::clone(&self.live))
        } else {
            Self::new(config, self.slot, connector, bells)
        }
    }

    /// Whether connections to `other` may be used for this one.
    #[must_use]
    pub fn shares_connections(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.live, &other.live) && self.config.ca == other.config.ca
    }

    fn with(config: config::Endpoint, slot: usize, connector: Option<Connector>, live: Arc<Live>) -> Self {
        let host = &config.url.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let usual = if config.url.tls { 443 } else { 80 };
        let authority = if config.url.port == usual { host } else { format!("{host}:{}", config.url.port) };
        Self { config, authority, slot, connector, live }
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
        self.live.places.taken()
    }

    /// Exchanges on it now, those of other gateways included as far as is known.
    #[must_use]
    pub fn load(&self) -> u32 {
        self.in_flight().saturating_add(self.live.places.elsewhere())
    }

    /// Takes a slot; `None`: all `slots` are taken.
    #[must_use]
    pub fn enter(&self) -> Option<Place> {
        self.live.places.take()
    }

    /// Its slots, and who waits for them.
    #[must_use]
    pub fn places(&self) -> &Arc<Places> {
        &self.live.places
    }

    /// Whether it gets requests.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.live.breaker
    }

    /// Its health.
    #[must_use]
    pub fn health(&self) -> Word {
        Word(self.live.health.load(Ordering::Relaxed))
    }

    /// Notes an observation; answers with the health before and after.
    pub fn observe(&self, success: bool, thresholds: Thresholds) -> (Word, Word) {
        let mut before = self.health();
        loop {
            let after = before.observe(success, thresholds);
            match self.live.health.compare_exchange_weak(
                before.0,
                after.0,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    if before.is_up() && !after.is_up() {
                        self.live.marked_down.fetch_add(1, Ordering::Relaxed);
                    }
                    return (before, after);
                }
                Err(now) => before = Word(now),
            }
        }
    }

    /// It has given content, at `now_ms` of the process clock.
    pub fn served(&self, now_ms: u64) {
        if self.live.served_ms.load(Ordering::Relaxed) < now_ms {
            self.live.served_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// When it last gave content; 0: it never has.
    #[must_use]
    pub fn served_ms(&self) -> u64 {
        self.live.served_ms.load(Ordering::Relaxed)
    }

    /// Its breaker has opened.
    pub fn breaker_opened(&self) {
        self.live.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// How often its breaker has opened.
    #[must_use]
    pub fn breaker_openings(&self) -> u64 {
        self.live.opened.load(Ordering::Relaxed)
    }

    /// How often it was marked unhealthy.
    #[must_use]
    pub fn marked_down(&self) -> u64 {
        self.live.marked_down.load(Ordering::Relaxed)
    }

    /// Whether an operator has taken it out.
    #[must_use]
    pub fn disabled(&self) -> bool {
        self.live.disabled.load(Ordering::Relaxed)
    }

    /// Takes it out, or puts it back.
    pub fn set_disabled(&self, disabled: bool) {
        self.live.disabled.store(disabled, Ordering::Relaxed);
    }

    /// Where to connect; `None`: its name could not be resolved yet. Several addresses take turns by `turn`.
    #[must_use]
    pub fn address(&self, turn: usize) -> Option<SocketAddr> {
        let addresses = self.live.addresses.load();
        let index = turn.checked_rem(addresses.len())?;
        addresses.get(index).copied()
    }

    /// Replaces the addresses.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.live.addresses.store(Arc::new(addresses));
    }

    /// What the last successful probe said.
    #[must_use]
    pub fn facts(&self) -> Option<Arc<Facts>> {
        self.live.facts.load_full()
    }

    /// Replaces the facts; `true`: the models have changed.
    pub fn set_facts(&self, facts: Facts) -> bool {
        let changed = self.live.facts.load().as_ref().is_none_or(|old| old.models != facts.models);
        self.live.facts.store(Some(Arc::new(facts)));
        changed
    }

    /// Why the last probe or connect failed; `None`: it did not.
    #[must_use]
    pub fn last_error(&self) -> Option<Arc<String>> {
        self.live.last_error.load_full()
    }

    /// Replaces the reason.
    pub fn set_last_error(&self, error: Option<String>) {
        self.live.last_error.store(error.map(Arc::new));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_exact_under_threads() {
        let settings = config::Endpoint {
            name: "a".into(),
            url: config::Url { tls: false, host: "::1".into(), port: 8080, path: String::new() },
            kind: config::Kind::Openai,
            api_key: None,
            ca: None,
            weight: 1,
            slots: 3,
        };
        let bells: Arc<[Bell]> = Arc::new([Bell::default()]);
        let endpoint = EndpointState::new(settings, 1, None, &bells);
        assert_eq!(endpoint.authority, "[::1]:8080");
        let held: Vec<_> = (0..3).map(|_| endpoint.enter().unwrap()).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| assert!(endpoint.enter().is_none())));
            }
        });
        assert_eq!(endpoint.in_flight(), 3);
        let more = config::Endpoint { slots: 4, ..endpoint.config.clone() };
        let renewed = endpoint.renewed(more, None, &bells);
        let _fourth = renewed.enter().unwrap();
        assert_eq!((renewed.in_flight(), endpoint.enter().is_none()), (4, true), "they count together");
        drop(held);
        assert_eq!(endpoint.in_flight(), 1);
        let moved = config::Url { port: 8081, ..endpoint.config.url.clone() };
        let moved =
            endpoint.renewed(config::Endpoint { url: moved, ..endpoint.config.clone() }, None, &bells);
        assert_eq!((moved.in_flight(), moved.shares_connections(&endpoint)), (0, false), "another server");
    }
}
