//! What the operator asked for, checked: the types every other module reads.
//!
//! A `Config` only exists when the whole file was valid (`check::load`), so its readers assert nothing. It is
//! immutable and shared by `Arc`; names are resolved to indices, times to `Duration`, secrets to `Secret`.
//! Invariants: endpoint names are unique; model names are unique after `normalized`; every index in
//! `Model::endpoints` is in range; no threshold, weight or size is zero where zero makes no sense.

mod address;
pub mod cache;
mod changes;
pub mod check;
mod defaults;
pub mod edge;
pub mod fleet;
pub mod guard;
pub mod import;
pub(crate) mod moment;
pub mod observe;
pub mod prices;
mod problem;
mod reader;
pub mod reliability;
mod render;
pub mod shared;
mod units;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

pub use changes::{changes, needs_restart};
pub use check::{load, load_with_warnings, normalized, parse, parse_with_warnings};
pub use defaults::{bare_endpoint, builtin, builtin_with};
pub use observe::{Access, Level, Log, Metrics, Price};
pub use problem::{Problem, Problems};
pub use render::effective;
pub use units::{Bytes, Secret};

/// The whole configuration of one gateway.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// Listeners and bounds of the process.
    pub server: Server,
    /// The upstream servers, in the file's order.
    pub endpoints: Vec<Endpoint>,
    /// Public model names and their policies, in the file's order.
    pub models: Vec<Model>,
    /// How an endpoint is picked where a model says nothing else.
    pub balance: Balance,
    /// Active probes.
    pub health: Health,
    /// Deadlines of an exchange.
    pub timeouts: Timeouts,
    /// Attempts before the client is told of a failure.
    pub retry: Retry,
    /// Models that are asked in place of one that failed.
    pub fallbacks: reliability::Fallbacks,
    /// When an endpoint is left alone.
    pub breaker: reliability::Breaker,
    /// Requests that wait for a slot.
    pub queue: reliability::Queue,
    /// What is scanned.
    pub guard: guard::Guard,
    /// Rates and counts of clients.
    pub limits: edge::Limits,
    /// Who may call; empty: everyone.
    pub keys: Vec<edge::Key>,
    /// Answers that are given again.
    pub cache: cache::Cache,
    /// The server by which gateways share their state; `None`: there is none.
    pub redis: Option<shared::Redis>,
    /// What gateways share.
    pub fleet: fleet::Fleet,
    /// What is logged, and where to.
    pub log: Log,
    /// Which requests are traced, and for whom.
    pub tracing: observe::Tracing,
    /// What tokens cost.
    pub usage: observe::UsageRules,
    /// What `/metrics` shows.
    pub metrics: Metrics,
}

/// `[server]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Server {
    /// Addresses of the data listener; port 0 lets the kernel choose.
    pub listen: Vec<SocketAddr>,
    /// Address of the admin listener (metrics, status).
    pub admin_listen: SocketAddr,
    /// Number of shards; `None`: one per usable core.
    pub shards: Option<usize>,
    /// `true`: a shard stays on its core. `None`: only with three or more cores.
    pub pin: Option<bool>,
    /// Which driver the shards ask the kernel for.
    pub driver: Driver,
    /// Exchanges at once over all shards; more are answered 503.
    pub max_concurrent_requests: usize,
    /// Client connections at once over all shards; more are closed as they come.
    pub max_connections: usize,
    /// Largest request body in bytes; more is 413.
    pub body_bytes_max: Bytes,
    /// Largest whole (not streamed) answer of an endpoint in bytes; more is 502.
    pub answer_bytes_max: Bytes,
    /// Bytes that bodies above 64 KiB and answers above 64 KiB may hold at once, over all shards; more is 503.
    pub buffered_bytes_max: Bytes,
    /// Largest request head in bytes; more is 431.
    pub head_bytes_max: Bytes,
    /// Time for a request head once its first byte came; then 408.
    pub head_timeout: Duration,
    /// Time between two reads of a request body; then 408.
    pub body_timeout: Duration,
    /// How long an idle client connection stays open.
    pub keep_alive: Duration,
    /// How long an idle upstream connection stays in a pool.
    pub upstream_keep_alive: Duration,
    /// Idle upstream connections kept per endpoint and shard.
    pub upstream_idle_max: usize,
    /// How long a write to a client may make no progress.
    pub write_timeout: Duration,
    /// How long running exchanges may finish after TERM or INT.
    pub drain_timeout: Duration,
    /// Peers whose `X-Forwarded-For` says who the client is.
    pub trusted_proxies: Vec<Cidr>,
    /// Headers added to every answer.
    pub headers: Vec<(String, String)>,
    /// `None`: no TLS.
    pub tls: Option<edge::Tls>,
    /// Which pages of browsers may call.
    pub cors: edge::Cors,
    /// Whether whole JSON answers are compressed for clients that ask for it.
    pub gzip: bool,
    /// Smallest such answer, in bytes.
    pub gzip_bytes_min: Bytes,
    /// Most messages of a chat; more is 400.
    pub messages_max: usize,
    /// What the admin listener asks for, as a bearer token. `None`: nothing; then it changes nothing for callers
    /// that are not on this machine.
    pub admin_token: Option<Secret>,
    /// Unix socket by which a new process takes over the listeners of this one. `None`: there is none.
    pub handover_socket: Option<PathBuf>,
    /// Whether the file is read again when it changes.
    pub watch: bool,
    /// Whether callers may ask by `x-corelane-explain` where a request would go.
    pub explain: bool,
}

/// The kernel interface of the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// io_uring where the kernel allows it, else epoll.
    Auto,
    /// io_uring with fewer flags if need be; start fails where it is denied.
    IoUring,
    /// epoll.
    Epoll,
}

/// An address range, `10.0.0.0/8` or `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cidr {
    /// The network's first address.
    pub network: std::net::IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

/// `[[endpoints]]`: one upstream server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Endpoint {
    /// Unique name, used in metrics, `/status` and headers.
    pub name: String,
    /// Host and port; `path` has no final slash and is empty or begins with one.
    pub url: Url,
    /// Which API it speaks.
    pub kind: Kind,
    /// Sent upstream as `Authorization: Bearer`; `None`: no such header.
    pub api_key: Option<Secret>,
    /// Authorities of an `https` endpoint, PEM; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Share under the `weighted` strategy, 1 to 1000.
    pub weight: u32,
    /// Exchanges in flight at most, over all shards; 0: no cap.
    pub slots: u32,
}

/// `http://host[:port][/path]`, parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Url {
    /// `https`, else `http`.
    pub tls: bool,
    /// Host as written, without brackets.
    pub host: String,
    /// Port; by default 80, of `https` 443.
    pub port: u16,
    /// Prefix of every path, e.g. `/openai`; `/v1` at the end is dropped, since paths carry it.
    pub path: String,
}

/// Which API an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Ollama: native paths and its `/v1`.
    Ollama,
    /// vLLM, llama.cpp, OpenAI: `/v1` only.
    Openai,
}

/// `[[models]]`: a public name with a policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Model {
    /// What clients ask for; one `*` at the end matches any rest.
    pub name: String,
    /// What an endpoint is asked for; a `*` at its end takes the rest that `name` matched.
    pub upstream_model: String,
    /// Indices into `Config::endpoints`; empty: every endpoint that has the model.
    pub endpoints: Vec<usize>,
    /// How one of them is picked.
    pub strategy: Strategy,
    /// Weights in the order of `endpoints` (or of `Config::endpoints` when that is empty).
    pub weights: Vec<u32>,
    /// Index into the guard's profiles; `None`: nothing is scanned.
    pub guard: Option<usize>,
    /// What its tokens cost; `None`: as `usage.price_file` says, else nothing.
    pub price: Option<Price>,
    /// Public names that are asked in turn when this one failed; empty: those of [`reliability::Fallbacks`].
    pub fallbacks: Vec<String>,
    /// Public names that are asked in turn when the prompt is too long for this one.
    pub context_window_fallbacks: Vec<String>,
    /// Whether its answers may be given again, where there is a cache.
    pub cache: bool,
    /// Its deadlines, complete: what the model does not say is as in [`Config::timeouts`].
    pub timeouts: Timeouts,
}

/// `[balance]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Balance {
    /// Strategy of models that name none.
    pub strategy: Strategy,
}

/// How an endpoint is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// In turn, exactly, over all shards.
    RoundRobin,
    /// The one with the fewest exchanges in flight; ties at random.
    LeastBusy,
    /// In turn, in proportion to the weights, evenly spread.
    Weighted,
}

/// `[health]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// Whether probes run.
    pub enabled: bool,
    /// Path of the probe for every endpoint; `None`: `/api/tags` for Ollama, `/v1/models` else.
    pub path: Option<String>,
    /// Key that the probe's JSON answer must hold; `None`: `models` for Ollama, `data` else.
    pub expect_field: Option<String>,
    /// Time between two probes of an endpoint.
    pub interval: Duration,
    /// Time for one probe.
    pub timeout: Duration,
    /// Failures in a row that mark an endpoint unhealthy.
    pub unhealthy_threshold: u32,
    /// Successes in a row that mark it healthy again.
    pub healthy_threshold: u32,
}

/// `[timeouts]`, or a model's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// Until the upstream connection stands.
    pub connect: Duration,
    /// From the request sent to the first byte of the answer's body.
    pub first_byte: Duration,
    /// Between two reads of an answer.
    pub idle: Duration,
    /// For the whole exchange.
    pub total: Duration,
}

/// `[retry]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retry {
    /// Attempts in all, the first one included.
    pub attempts: u32,
    /// Whether a timeout before the first byte is tried again.
    pub on_timeout: bool,
    /// Wait before the same endpoint is tried again.
    pub backoff: Duration,
    /// Retries in percent of the requests of the last seconds, 0 to 1000.
    pub budget_percent: u32,
    /// Retries a second that each shard has besides, 0 to 100000.
    pub budget_min: u32,
}
