//! What stands between the network and an exchange: TLS, browsers, rate limits, keys.
//!
//! Invariants, besides those of [`super`]: names of zones and of keys are unique; every path of a limit begins with
//! `/`; a rate is at least one request an hour and fits the integers of nginx's algorithm; secrets of keys differ.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Secret;

/// `[server.tls]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tls {
    /// Addresses of the TLS listeners.
    pub listen: Vec<SocketAddr>,
    /// Certificates with their keys; the first is for clients that name no host, or one that none is made for.
    pub certificates: Vec<Certificate>,
    /// Plain listeners answer every request by a redirect to TLS.
    pub redirect_http: bool,
    /// Status of that redirect: 308 (keeps the method) or 301.
    pub redirect_status: u16,
    /// Port that the redirect names; `None`: the first TLS listener's.
    pub redirect_port: Option<u16>,
    /// Certificates of authorities, PEM: clients must show a certificate of one of them.
    pub client_ca: Option<PathBuf>,
    /// Whether TLS 1.2 is spoken beside 1.3.
    pub tls12: bool,
    /// Whether HTTP/2 is offered by ALPN.
    pub http2: bool,
    /// Time for a handshake; then the connection is closed.
    pub handshake_timeout: Duration,
    /// Handshakes at once on one shard; a connection beyond them waits.
    pub handshakes_max: usize,
}

/// A certificate chain and its key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// `[server.cors]`: which pages of browsers may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cors {
    /// Origins, e.g. `https://chat.example`; `*` is every one; empty: no page of another origin.
    pub origins: Vec<String>,
    /// Whether pages may send cookies and credentials of their own; not with `*`.
    pub credentials: bool,
    /// How long a browser may remember the answer.
    pub max_age: Duration,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limits {
    /// Exchanges at once of one client address (nginx `limit_conn`); 0: no limit.
    pub concurrent_per_client: u32,
    /// Status of a refusal: 429 or 503.
    pub reject_status: u16,
    /// IPv6 clients are told apart by so many leading bits, 1 to 128.
    pub ipv6_prefix: u8,
    /// Clients remembered by each zone at most; 16 bytes each.
    pub entries_max: usize,
    /// nginx `limit_req_zone`s, with where they apply.
    pub zones: Vec<Zone>,
}

/// One leaky bucket a key, shared by all routes of the zone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Zone {
    /// Unique name, used in metrics and logs.
    pub name: String,
    /// What tells clients apart.
    pub key: ZoneKey,
    /// Thousandths of a request a second (nginx: `rate`): `5r/s` is 5000, `10r/m` is 166.
    pub rate: u32,
    /// Where it applies, and how.
    pub routes: Vec<LimitedRoute>,
}

/// What a zone tells clients apart by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ZoneKey {
    /// The client's address; behind trusted proxies the one they name.
    ClientIp,
    /// The name of the caller's key; who has none is told apart by address.
    ApiKey,
    /// The value of a header, believed from trusted proxies only; else the address. Lower case.
    Header(String),
    /// All together.
    Everyone,
}

/// A path prefix under a zone. Of all prefixes of all zones the longest that fits a path is its location, as in nginx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitedRoute {
    /// Begins with `/`.
    pub path: String,
    /// Requests beyond the rate that are let through.
    pub burst: u32,
    /// Requests beyond the rate that are let through at once; the others up to `burst` wait their turn. `None`
    /// (nginx: `nodelay`): all of them at once.
    pub delay: Option<u32>,
    /// Overrides [`Limits::concurrent_per_client`] here.
    pub concurrent_per_client: Option<u32>,
}

/// `[[keys]]`: a caller.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Key {
    /// Unique name, used in metrics and logs.
    pub name: String,
    /// What the caller shows.
    pub secret: KeySecret,
    /// Models that may be asked for; `*` at the end of a name matches the rest.
    pub models: Vec<String>,
    /// Index into the guard's profiles; `None`: as the model says.
    pub guard: Option<usize>,
    /// 0: no limit.
    pub requests_per_minute: u32,
    /// Input and output together; 0: no limit.
    pub tokens_per_minute: u64,
    /// Exchanges at once; 0: no limit.
    pub concurrent: u32,
    /// USD of a period; 0: no limit.
    pub budget: f64,
    /// After which `budget` begins anew, counted from 1970 on; zero: never.
    pub budget_period: Duration,
    /// Keys of one group share what the cache keeps; `None`: it has its own.
    pub cache_group: Option<String>,
    /// From then on it is refused.
    pub expires: Option<SystemTime>,
}

impl KeySecret {
    /// Its SHA-256.
    #[must_use]
    pub fn sum(&self) -> [u8; 32] {
        match self {
            Self::Plain(secret) => Sha256::digest(secret.expose()).into(),
            Self::Sha256(sum) => *sum,
        }
    }
}

/// How a key's secret is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySecret {
    /// Itself.
    Plain(Secret),
    /// Its SHA-256.
    Sha256([u8; 32]),
}
