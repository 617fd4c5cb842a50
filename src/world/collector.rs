//! The collector of spans as one configuration has it, and where its name leads to.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Url;
use crate::config::observe::Tracing;
use crate::net::tls::Connector;
use crate::world::World;

/// Whom spans are sent to.
pub struct Collector {
    /// As configured, without `/v1/traces`.
    pub url: Url,
    /// `host[:port]` for the `Host` field.
    pub authority: String,
    /// Makes its TLS sessions; `None`: it is asked plainly.
    pub connector: Option<Connector>,
    addresses: Arc<ArcSwap<Vec<SocketAddr>>>,
}

impl Collector {
    /// The one that is configured, if any; what `old` has resolved is kept where it is the same server.
    #[must_use]
    pub fn of(settings: &Tracing, connector: Option<Connector>, old: Option<&World>) -> Option<Self> {
        let url = settings.otlp_endpoint.clone()?;
        let same = old.and_then(|old| old.collector.as_ref());
        let same = same.filter(|old| (&old.url.host, old.url.port) == (&url.host, url.port));
        let addresses = same.map_or_else(
            || {
                let bare = url.host.parse().map(|ip| vec![SocketAddr::new(ip, url.port)]);
                Arc::new(ArcSwap::from_pointee(bare.unwrap_or_default()))
            },
            |old| Arc::clone(&old.addresses),
        );
        let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
        let usual = if url.tls { 443 } else { 80 };
        let authority = if url.port == usual { host } else { format!("{host}:{}", url.port) };
        Some(Self { url, authority, connector, addresses })
    }

    /// Whether its host is a name that must be resolved.
    #[must_use]
    pub fn is_name(&self) -> bool {
        self.url.host.parse::<std::net::IpAddr>().is_err()
    }

    /// An address of it, another one each `turn`; `None`: its name has not been resolved.
    #[must_use]
    pub fn address(&self, turn: usize) -> Option<SocketAddr> {
        let addresses = self.addresses.load();
        addresses.get(turn.checked_rem(addresses.len())?).copied()
    }

    /// Its name leads there.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.addresses.store(Arc::new(addresses));
    }
}
