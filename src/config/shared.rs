//! `[redis]`: the server that gateways share their state by.
//!
//! Invariants, besides those of [`super`]: there is at least one server; a cluster has database 0 and no unix socket has
//! TLS; `ca` is set only with TLS; a username is set only with a password.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Secret;

/// `[redis]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Redis {
    /// Where the server is, or who knows it.
    pub servers: Servers,
    /// Whether TLS is spoken, with sentinels too.
    pub tls: bool,
    /// Number of the database.
    pub database: u32,
    /// Whose rights are used; `None`: the default user's.
    pub username: Option<String>,
    /// That user's password; `None`: nothing is asked for.
    pub password: Option<Secret>,
    /// Authorities of servers with TLS, PEM; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// For one question in all, the wait for a connection included.
    pub timeout: Duration,
    /// What every key begins with.
    pub prefix: String,
}

/// A server's host, as written without brackets, and its port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Server {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Where the server is, or who knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Servers {
    /// One server.
    One(Server),
    /// One server on this machine, by its socket.
    Unix(PathBuf),
    /// Sentinels, who know the master.
    Sentinel {
        /// Asked in turn.
        sentinels: Vec<Server>,
        /// By which name they know it.
        master: String,
    },
    /// Some servers of a cluster, which know the others.
    Cluster(Vec<Server>),
}

impl Server {
    /// A server.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for Server {
    /// `host:port`, an IPv6 address in brackets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(out, "[{}]:{}", self.host, self.port),
            false => write!(out, "{}:{}", self.host, self.port),
        }
    }
}

impl Redis {
    /// The URL as the file would have it, without user and password.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let list = |servers: &[Server]| servers.iter().map(Server::to_string).collect::<Vec<_>>().join(",");
        let database = self.database;
        match &self.servers {
            Servers::One(server) => format!("{scheme}://{server}/{database}"),
            Servers::Unix(path) => format!("unix://{}?db={database}", path.display()),
            Servers::Sentinel { sentinels, master } => {
                format!("{scheme}+sentinel://{}/{master}/{database}", list(sentinels))
            }
            Servers::Cluster(servers) => format!("{scheme}+cluster://{}", list(servers)),
        }
    }
}
