//! Who may ask for how much: rates and counts of clients ([`bucket`], [`concurrency`]), callers and their quotas
//! ([`key`], [`quota`]).
//!
//! [`Limiter`] finds a path's location as nginx does, by the longest prefix, and asks every zone that applies there.
//! All state is shared by the shards and lock-free; the time is an argument. Bound: 16 bytes × `entries_max` a zone,
//! and as many for the counts.

pub mod bucket;
pub mod client;
pub mod concurrency;
pub mod key;
pub mod quota;
pub mod shared;
pub mod table;

use std::borrow::Cow;
use std::hash::RandomState;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use bucket::{Use, Verdict, Zone};
use concurrency::{Concurrency, Permit};
use shared::SharedUse;
use table::Clients;

use crate::config::edge::{self, Limits, ZoneKey};

/// What one request is told apart by.
pub struct Asker<'a> {
    /// The client's address.
    pub address: IpAddr,
    /// Name of the caller's key.
    pub caller: Option<&'a str>,
    /// The value of a header by its name, if it may be believed.
    pub header: &'a dyn Fn(&str) -> Option<&'a [u8]>,
}

/// A location's share of a zone.
struct Share {
    zone: usize,
    burst: u32,
    delay: Option<u32>,
}

struct Location {
    path: String,
    shares: Vec<Share>,
    concurrent: u32,
}

/// How a request stands to the rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// No zone applies.
    Free,
    /// It is let through.
    Pass {
        /// Milliseconds it has to wait first.
        delay_ms: u64,
        /// Requests that would be let through at once by a client that has been silent.
        limit: u32,
        /// Requests that would be let through at once now.
        remaining: u32,
        /// Milliseconds until all of `limit` would be.
        reset_ms: u64,
    },
    /// It is refused.
    Reject {
        /// Which zone.
        zone: usize,
        /// As in [`Rate::Pass`].
        limit: u32,
        /// Milliseconds after which it would be let through.
        retry_after_ms: u64,
    },
}

/// How a request stands to one zone.
#[derive(Debug, Clone, Copy)]
pub struct ZoneView {
    /// Which zone.
    pub zone: usize,
    /// Requests beyond the rate that are let through.
    pub burst: u32,
    /// Thousandths of a request by which the client is ahead of the rate now.
    pub excess: u64,
    /// Requests that would be let through at once now.
    pub remaining: u32,
    /// What the zone alone would say to one request more.
    pub verdict: Verdict,
}

/// All zones, and where they apply.
pub struct Limiter {
    zones: Vec<(Arc<Zone>, ZoneKey)>,
    /// The longest path first.
    locations: Vec<Location>,
    concurrent: u32,
    concurrency: Option<Arc<Concurrency>>,
    clients: Clients,
    ipv6_prefix: u8,
}

/// The paths under limits, the longest first.
fn locations(limits: &Limits) -> Vec<Location> {
    let mut locations: Vec<Location> = Vec::new();
    for (at, zone) in limits.zones.iter().enumerate() {
        for route in &zone.routes {
            let known = locations.iter().position(|location| location.path == route.path);
            let place = known.unwrap_or_else(|| {
                let (path, shares) = (route.path.clone(), Vec::new());
                locations.push(Location { path, shares, concurrent: limits.concurrent_per_client });
                locations.len() - 1
            });
            let Some(location) = locations.get_mut(place) else { continue };
            location.shares.push(Share { zone: at, burst: route.burst, delay: route.delay });
            if let Some(own) = route.concurrent_per_client {
                location.concurrent = own;
            }
        }
    }
    locations.sort_by_key(|location| std::cmp::Reverse(location.path.len()));
    locations
}

impl Limiter {
    /// With nothing counted yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self::with(limits, None)
    }

    /// For other limits. A zone that keeps its name, key and rate keeps its clients, and so do the counts; `known` is what
    /// this limiter was made of.
    #[must_use]
    pub fn renewed(&self, limits: &Limits, known: &Limits) -> Self {
        Self::with(limits, Some((self, known)))
    }

    fn with(limits: &Limits, old: Option<(&Self, &Limits)>) -> Self {
        let old = old.filter(|(_, known)| known.entries_max == limits.entries_max);
        let locations = locations(limits);
        let zone = |zone: &edge::Zone| {
            let same = |known: &edge::Zone| {
                (&known.name, &known.key, known.rate) == (&zone.name, &zone.key, zone.rate)
            };
            let kept = old.and_then(|(old, known)| {
                let at = known.zones.iter().position(same)?;
                Some(Arc::clone(&old.zones.get(at)?.0))
            });
            (kept.unwrap_or_else(|| Arc::new(Zone::new(zone.rate, limits.entries_max))), zone.key.clone())
        };
        let counts = limits.concurrent_per_client > 0 || locations.iter().any(|one| one.concurrent > 0);
        Self {
            zones: limits.zones.iter().map(zone).collect(),
            locations,
            concurrent: limits.concurrent_per_client,
            concurrency: counts.then(|| {
                let kept = old.and_then(|(old, _)| old.concurrency.as_ref().map(Arc::clone));
                kept.unwrap_or_else(|| Concurrency::new(limits.entries_max))
            }),
            clients: old.map_or_else(|| Clients::new(RandomState::new()), |(old, _)| old.clients.clone()),
            ipv6_prefix: limits.ipv6_prefix,
        }
    }

    /// Whether anything is limited at all.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.locations.is_empty() && self.concurrency.is_none()
    }

    fn location(&self, path: &str) -> Option<&Location> {
        self.locations.iter().find(|location| path.starts_with(&location.path))
    }

    /// Asks the zones of the location of `path`, at `now_ms` of a clock that all shards share.
    #[must_use]
    pub fn rate(&self, path: &str, asker: &Asker<'_>, now_ms: u64) -> Rate {
        self.rate_by(path, asker, |uses| bucket::decide(uses, now_ms))
    }

    /// What [`Self::rate`] would answer now; nothing is charged.
    #[must_use]
    pub fn peek_rate(&self, path: &str, asker: &Asker<'_>, now_ms: u64) -> Rate {
        self.rate_by(path, asker, |uses| bucket::peek(uses, now_ms))
    }

    fn rate_by(&self, path: &str, asker: &Asker<'_>, decide: impl Fn(&[Use<'_>]) -> Verdict) -> Rate {
        let Some(location) = self.location(path) else { return Rate::Free };
        let limit_of = |share: &Share| share.burst.saturating_add(1);
        let verdict = match &location.shares[..] {
            [] => return Rate::Free,
            [only] => decide(&[self.use_of(only, asker)]),
            all => decide(&all.iter().map(|share| self.use_of(share, asker)).collect::<Vec<_>>()),
        };
        match verdict {
            Verdict::Pass { delay_ms, remaining, reset_ms } => {
                let limit = location.shares.iter().map(limit_of).min().unwrap_or(u32::MAX);
                Rate::Pass { delay_ms, limit, remaining, reset_ms }
            }
            Verdict::Reject { zone: at, retry_after_ms, .. } => {
                let share = &location.shares[at];
                Rate::Reject { zone: share.zone, limit: limit_of(share), retry_after_ms }
            }
        }
    }

    /// How a request stands to each zone of the location of `path`; nothing is charged.
    #[must_use]
    pub fn zones(&self, path: &str, asker: &Asker<'_>, now_ms: u64) -> Vec<ZoneView> {
        let shares = self.location(path).map_or(&[][..], |location| &location.shares);
        let view = |share: &Share| {
            let one = self.use_of(share, asker);
            let (excess, remaining) = one.standing(now_ms);
            let verdict = bucket::peek(&[one], now_ms);
            ZoneView { zone: share.zone, burst: share.burst, excess, remaining, verdict }
        };
        shares.iter().map(view).collect()
    }

    fn use_of(&self, share: &Share, asker: &Asker<'_>) -> Use<'_> {
        let (zone, key) = &self.zones[share.zone];
        Use { zone, client: self.client(key, asker), burst: share.burst, delay: share.delay }
    }

    /// What the location of `path` asks of its zones, for Redis, in their order.
    #[must_use]
    pub fn shared(&self, path: &str, asker: &Asker<'_>) -> Vec<SharedUse> {
        let shares = self.location(path).map_or(&[][..], |location| &location.shares);
        let shared = |share: &Share| {
            let (zone, key) = &self.zones[share.zone];
            let (kind, shown) = self.shown(key, asker);
            let client = shared::name_of(kind, &shown);
            SharedUse { zone: share.zone, client, rate: zone.rate(), burst: share.burst, delay: share.delay }
        };
        shares.iter().map(shared).collect()
    }

    /// Counts one more exchange of the client's address. `Err`: as many as may are running.
    ///
    /// # Errors
    /// The limit.
    pub fn enter(&self, path: &str, address: IpAddr) -> Result<Option<Permit>, u32> {
        let Some((counts, limit)) = self.counted(path) else { return Ok(None) };
        counts.acquire(self.address(address), limit).map(Some).ok_or(limit.get())
    }

    /// Exchanges of the client's address that run, their limit at `path`, and whether [`Self::enter`] would let one more
    /// in. `None`: they are not counted.
    #[must_use]
    pub fn peek_enter(&self, path: &str, address: IpAddr) -> Option<(u64, u32, bool)> {
        let (counts, limit) = self.counted(path)?;
        let running = counts.count(self.address(address));
        Some((running, limit.get(), concurrency::fits(running, limit)))
    }

    fn counted(&self, path: &str) -> Option<(&Arc<Concurrency>, NonZeroU32)> {
        let concurrent = self.location(path).map_or(self.concurrent, |location| location.concurrent);
        self.concurrency.as_ref().zip(NonZeroU32::new(concurrent))
    }

    fn client(&self, key: &ZoneKey, asker: &Asker<'_>) -> u64 {
        match key {
            ZoneKey::ClientIp => self.address(asker.address), // without an allocation
            key => {
                let (kind, shown) = self.shown(key, asker);
                self.clients.hash(kind, &shown)
            }
        }
    }

    /// What tells a client apart under `key`: its kind, and what it shows.
    fn shown<'a>(&self, key: &ZoneKey, asker: &Asker<'a>) -> (u8, Cow<'a, [u8]>) {
        let own = match key {
            ZoneKey::Everyone => return (4, Cow::Borrowed(b"")),
            ZoneKey::ClientIp => None,
            ZoneKey::ApiKey => asker.caller.map(|name| (2, Cow::Borrowed(name.as_bytes()))),
            ZoneKey::Header(name) => (asker.header)(name).map(|value| (3, Cow::Borrowed(value))),
        };
        own.unwrap_or_else(|| {
            let (kind, bytes, length) = self.address_bytes(asker.address);
            (kind, Cow::Owned(bytes.get(..length).unwrap_or_default().to_vec()))
        })
    }

    fn address(&self, address: IpAddr) -> u64 {
        let (kind, bytes, length) = self.address_bytes(address);
        self.clients.hash(kind, bytes.get(..length).unwrap_or_default())
    }

    /// An address as clients are told apart by it: its kind, and how many of the bytes count.
    fn address_bytes(&self, address: IpAddr) -> (u8, [u8; 16], usize) {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&address.octets());
                (0, bytes, 4)
            }
            IpAddr::V6(address) => {
                let hidden = 128_u32.saturating_sub(u32::from(self.ipv6_prefix));
                let bits = address.to_bits().checked_shr(hidden).unwrap_or(0);
                (1, bits.to_be_bytes(), 16)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::edge::{LimitedRoute, Zone as ZoneSettings};

    fn route(path: &str, burst: u32, concurrent: Option<u32>) -> LimitedRoute {
        LimitedRoute { path: path.to_owned(), burst, delay: None, concurrent_per_client: concurrent }
    }

    fn limiter(key: ZoneKey, routes: Vec<LimitedRoute>) -> Limiter {
        let zone = ZoneSettings { name: "one".to_owned(), key, rate: 1000, routes };
        Limiter::new(&Limits {
            concurrent_per_client: 2,
            reject_status: 429,
            ipv6_prefix: 64,
            entries_max: 1024,
            zones: vec![zone],
        })
    }

    fn asker(address: &str) -> Asker<'static> {
        Asker { address: address.parse().unwrap(), caller: None, header: &|_| None }
    }

    #[test]
    fn the_longest_prefix_is_the_location() {
        let limiter = limiter(
            ZoneKey::ClientIp,
            vec![route("/", 0, None), route("/v1/chat/completions", 2, Some(1)), route("/v1/", 1, None)],
        );
        let burst = |path| match limiter.rate(path, &asker("10.0.0.1"), 0) {
            Rate::Pass { limit, .. } | Rate::Reject { limit, .. } => limit - 1,
            Rate::Free => panic!("{path} has no location"),
        };
        for (path, want) in
            [("/v1/chat/completionsX", 2), ("/v1/models", 1), ("/health", 0), ("/v1/chat", 1), ("/V1/", 0)]
        {
            assert_eq!(burst(path), want, "{path}");
        }
        let address = "10.0.0.1".parse().unwrap();
        let held = limiter.enter("/v1/chat/completions", address).unwrap();
        assert!(held.is_some());
        assert_eq!(limiter.enter("/v1/chat/completions", address).err(), Some(1), "its own limit");
        let second = limiter.enter("/v1/models", address).unwrap();
        assert_eq!(limiter.enter("/v1/models", address).err(), Some(2), "counted together");
        drop((held, second));
        let again: Vec<_> = (0..2).map(|_| limiter.enter("/v1/models", address).unwrap()).collect();
        assert!(again.iter().all(Option::is_some), "both places are free again");
    }

    #[test]
    fn a_look_at_the_counts_says_what_entering_then_comes_to() {
        let limiter = limiter(ZoneKey::ClientIp, vec![route("/v1/", 0, Some(3))]);
        let address = "10.0.0.1".parse().unwrap();
        let mut held = Vec::new();
        for path in ["/a", "/v1/b", "/v1/b", "/a", "/v1/c", "/v1/c"] {
            let (running, limit, fits) = limiter.peek_enter(path, address).unwrap();
            assert_eq!((running as usize, limit), (held.len(), if path == "/a" { 2 } else { 3 }));
            let entered = limiter.enter(path, address);
            assert_eq!(entered.is_ok(), fits, "{path}");
            held.extend(entered);
        }
        assert_eq!(held.len(), 3);
    }

    #[test]
    fn clients_are_told_apart_as_configured() {
        let pass =
            |limiter: &Limiter, asker: &Asker<'_>| matches!(limiter.rate("/", asker, 0), Rate::Pass { .. });
        let by_address = limiter(ZoneKey::ClientIp, vec![route("/", 0, None)]);
        assert!(pass(&by_address, &asker("10.0.0.1")));
        assert!(!pass(&by_address, &asker("::ffff:10.0.0.1")), "the same client");
        assert!(pass(&by_address, &asker("10.0.0.2")));
        assert!(pass(&by_address, &asker("fd00::1")));
        assert!(!pass(&by_address, &asker("fd00::2")), "one /64");
        assert!(pass(&by_address, &asker("fd00:0:0:1::1")));

        let by_key = limiter(ZoneKey::ApiKey, vec![route("/", 0, None)]);
        assert!(pass(&by_key, &Asker { caller: Some("a"), ..asker("10.0.0.1") }));
        assert!(!pass(&by_key, &Asker { caller: Some("a"), ..asker("10.0.0.2") }));
        assert!(pass(&by_key, &Asker { caller: Some("b"), ..asker("10.0.0.1") }));
        assert!(pass(&by_key, &asker("10.0.0.1")), "nobody's key is nobody's name");

        let by_header = limiter(ZoneKey::Header("x-user".to_owned()), vec![route("/", 0, None)]);
        let from = |name: &str| (name == "x-user").then_some(&b"u1"[..]);
        assert!(pass(&by_header, &Asker { header: &from, ..asker("10.0.0.1") }));
        assert!(!pass(&by_header, &Asker { header: &from, ..asker("10.0.0.2") }));

        let all = limiter(ZoneKey::Everyone, vec![route("/", 0, None)]);
        assert!(pass(&all, &asker("10.0.0.1")) && !pass(&all, &asker("fd00::1")));
    }
}
