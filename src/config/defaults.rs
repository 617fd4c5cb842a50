//! What a key is when the file does not say it, and the configuration without a file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::cache::Cache;
use super::check::guard::absent;
use super::edge::{Cors, Limits, Tls};
use super::fleet::Fleet;
use super::observe::{Format, Journal, Tracing, UsageRules, Writer};
use super::reliability::{Breaker, Fallbacks, Queue};
use super::{
    Access, Balance, Bytes, Config, Driver, Endpoint, Health, Kind, Level, Log, Metrics, Model, Retry,
    Server, Strategy, Timeouts, Url,
};

/// The configuration without a file: one Ollama on this host, every model it has; nobody else may connect.
pub fn builtin() -> Config {
    let url = Url { tls: false, host: "127.0.0.1".to_owned(), port: 11434, path: String::new() };
    builtin_with(vec![bare_endpoint("ollama", Kind::Ollama, url)])
}

/// An endpoint of which nothing is known but where it is and what it speaks.
#[must_use]
pub fn bare_endpoint(name: &str, kind: Kind, url: Url) -> Endpoint {
    Endpoint { name: name.to_owned(), url, kind, api_key: None, ca: None, weight: 1, slots: 0 }
}

/// [`builtin`], with these endpoints. Their names must differ.
#[must_use]
pub fn builtin_with(endpoints: Vec<Endpoint>) -> Config {
    let (balance, timeouts) = (Balance::default(), Timeouts::default());
    let weights = endpoints.iter().map(|endpoint| endpoint.weight).collect();
    Config {
        server: Server { listen: vec![address(Ipv4Addr::LOCALHOST, 8000)], ..Server::default() },
        models: vec![any_model(balance.strategy, weights, &timeouts)],
        endpoints,
        balance,
        health: Health::default(),
        timeouts,
        retry: Retry::default(),
        fallbacks: Fallbacks::default(),
        breaker: Breaker::default(),
        queue: Queue::default(),
        guard: absent(),
        limits: Limits::default(),
        keys: Vec::new(),
        cache: Cache::default(),
        redis: None,
        fleet: Fleet::default(),
        log: Log::default(),
        tracing: Tracing::default(),
        usage: UsageRules::default(),
        metrics: Metrics::default(),
    }
}

/// The model of a file that lists none: whatever an endpoint has, under its own name.
pub(super) fn any_model(strategy: Strategy, weights: Vec<u32>, timeouts: &Timeouts) -> Model {
    Model {
        name: "*".to_owned(),
        upstream_model: "*".to_owned(),
        endpoints: Vec::new(),
        strategy,
        weights,
        guard: Some(0),
        price: None,
        fallbacks: Vec::new(),
        context_window_fallbacks: Vec::new(),
        cache: true,
        timeouts: timeouts.clone(),
    }
}

const fn address(ip: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(ip), port)
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec![address(Ipv4Addr::UNSPECIFIED, 8000)],
            admin_listen: address(Ipv4Addr::LOCALHOST, 8001),
            shards: None,
            pin: None,
            driver: Driver::Auto,
            max_concurrent_requests: 1000,
            max_connections: 50_000,
            body_bytes_max: Bytes(20 << 20),
            answer_bytes_max: Bytes(64 << 20),
            buffered_bytes_max: Bytes(1 << 30),
            head_bytes_max: Bytes(32 << 10),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            upstream_keep_alive: Duration::from_secs(55),
            upstream_idle_max: 256,
            write_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
            trusted_proxies: Vec::new(),
            headers: Vec::new(),
            tls: None,
            cors: Cors::default(),
            gzip: false,
            gzip_bytes_min: Bytes(1 << 10),
            messages_max: 2048,
            admin_token: None,
            handover_socket: None,
            watch: false,
            explain: false,
        }
    }
}

/// The TLS listener where `[server.tls]` names none.
pub(super) const fn tls_listen() -> SocketAddr {
    address(Ipv4Addr::UNSPECIFIED, 8443)
}

/// What `[server.tls]` need not say. Its certificates have no default.
pub(super) fn tls() -> Tls {
    Tls {
        listen: vec![tls_listen()],
        certificates: Vec::new(),
        redirect_http: false,
        redirect_status: 308,
        redirect_port: None,
        client_ca: None,
        tls12: true,
        http2: true,
        handshake_timeout: Duration::from_secs(10),
        handshakes_max: 256,
    }
}

impl Default for Cors {
    fn default() -> Self {
        Self { origins: vec!["*".to_owned()], credentials: false, max_age: Duration::from_secs(24 * 60 * 60) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_per_client: 0,
            reject_status: 429,
            ipv6_prefix: 64,
            entries_max: 65_536,
            zones: Vec::new(),
        }
    }
}

impl Default for Balance {
    fn default() -> Self {
        Self { strategy: Strategy::LeastBusy }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            enabled: true,
            path: None,
            expect_field: None,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(300),
            idle: Duration::from_secs(300),
            total: Duration::from_secs(3600),
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            on_timeout: true,
            backoff: Duration::from_millis(100),
            budget_percent: 20,
            budget_min: 10,
        }
    }
}

impl Default for Fallbacks {
    fn default() -> Self {
        Self { default: Vec::new(), models_max: 5 }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: 3,
            share_percent: 50,
            requests_min: 20,
            window: Duration::from_secs(10),
            open: Duration::from_secs(1),
            open_max: Duration::from_secs(30),
            retry_after_max: Duration::from_secs(60),
            missing: Duration::from_secs(30),
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { max: 1000, timeout: Duration::from_secs(30), heartbeat: None }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: Level::Info,
            access: Access::Stderr,
            format: Format::Auto,
            sample_percent: 100,
            bodies: false,
            body_bytes_max: Bytes(16 << 10),
            mask: true,
            journal: Journal::default(),
        }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            writer: Writer::Auto,
            segment_bytes_max: Bytes(64 << 20),
            segment_age_max: Duration::from_secs(24 * 60 * 60),
            segments_max: 16,
            compress: false,
            sync: Duration::from_secs(1),
        }
    }
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            headers: Vec::new(),
            sample_percent: 10,
            service_name: "corelane".to_owned(),
        }
    }
}

impl Default for UsageRules {
    fn default() -> Self {
        Self { price_file: None, prices: Arc::default(), cost_in_answers: true }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { litellm_names: true, keys_max: 20, pairs: false }
    }
}
