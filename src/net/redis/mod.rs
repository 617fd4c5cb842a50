//! A client of Redis: one pipelined connection a shard and server, for state that gateways share.
//!
//! Redis only accelerates: whoever asks has to go on without it. So a call takes at most `redis.timeout` in all, a
//! breaker refuses at once while the server is away, every queue has a bound that refuses at once, and nothing is tried
//! twice in silence: after [`Failure::Timeout`] and [`Failure::Gone`] the command may have been carried out, or may be
//! still. An answer can reach nobody but who asked for it (`fifo`), and on any doubt the connection is closed.
//!
//! `node` is one server with its keeper, `connection` its socket, `login` the first words, `sentinel` finds a master,
//! `cluster` the one of many servers that has a key. Bounds of one server: 1024 commands without an answer, 16 MiB of
//! output, an answer of 65 MiB. Cost of a call: its bytes once into the output, its answer once out of the input (a large
//! one not even that), a timer if it has to wait, and allocations for its timer, its slot and its answer.

mod breaker;
mod cluster;
mod connection;
mod deadline;
mod fifo;
mod login;
mod node;
mod resolve;
mod script;
mod sentinel;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

pub use self::breaker::Breaker;
pub use self::script::Script;
pub use crate::wire::resp::{Command, Reply};

use self::cluster::Cluster;
use self::connection::Place;
use self::deadline::Deadline;
use self::login::Account;
use self::node::{Finder, Node};
use self::sentinel::Sentinels;
use super::clock;
use super::task::TaskCounts;
use super::tls::{self, Connector};
use crate::config::shared;
use crate::config::{Level, Secret};

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The breaker is open: nothing was sent.
    Open,
    /// No answer in time. The command may be carried out.
    Timeout,
    /// Too much waits already: nothing was sent.
    Full,
    /// There is no connection, or it was lost. The command may have been carried out.
    Gone,
    /// The server serves nobody: it does not let us in, or loads, or is busy. Its words, without a secret.
    Refused(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => out.write_str("the breaker is open"),
            Self::Timeout => out.write_str("no answer in time"),
            Self::Full => out.write_str("too much waits already"),
            Self::Gone => out.write_str("no connection"),
            Self::Refused(text) => out.write_str(text),
        }
    }
}

/// How it stands, for `/status` and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Of several servers the worst one's.
    pub breaker: Breaker,
    /// Servers with a connection.
    pub connected: usize,
    /// Servers known; of a cluster its masters.
    pub servers: usize,
    /// Where it is, or who knows it.
    pub place: String,
    /// The last thing that went wrong; never a secret.
    pub last_error: Option<String>,
    /// Connections made after the first one of each server.
    pub reconnects: u64,
    /// Calls without an answer in time.
    pub timeouts: u64,
    /// Commands without an answer now.
    pub waiting: usize,
}

/// Where lines for the log go.
pub type Tell = Box<dyn Fn(Level, &str)>;

/// What the servers of one client share.
struct Ours {
    timeout: Duration,
    connector: Option<Connector>,
    account: Account,
    tasks: Rc<TaskCounts>,
    tell: Tell,
    counts: Counts,
    last_error: RefCell<Option<String>>,
    random: Cell<u64>,
}

#[derive(Default)]
struct Counts {
    /// Connections after the first one of a server.
    reconnects: Cell<u64>,
    timeouts: Cell<u64>,
}

impl Ours {
    fn tell(&self, level: Level, text: &str) {
        (self.tell)(level, &self.hidden(text));
    }

    /// Keeps what went wrong.
    fn note(&self, text: &str) {
        *self.last_error.borrow_mut() = Some(self.hidden(text));
    }

    fn last_error(&self) -> Option<String> {
        self.last_error.borrow().clone()
    }

    /// A server's words may repeat ours.
    fn hidden(&self, text: &str) -> String {
        let password = self.account.password.as_ref().map_or("", Secret::expose);
        if password.is_empty() { text.to_owned() } else { text.replace(password, "…") }
    }

    /// Marsaglia's xorshift64.
    fn chance(&self) -> u64 {
        let mut state = self.random.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.set(state);
        state >> 11
    }
}

/// Whom commands go to.
enum Servers {
    One(Rc<Node>),
    Many(Rc<Cluster>),
}

/// The client of one shard: not shared between threads.
pub struct Redis {
    ours: Rc<Ours>,
    servers: Servers,
    prefix: String,
}

impl Redis {
    /// What connections with TLS need; files are read, so call it once and not on a shard. `None`: there is no TLS.
    ///
    /// # Errors
    /// A sentence for the operator: no authorities, or a host that is no name of a certificate.
    pub fn connector(settings: &shared::Redis) -> Result<Option<Connector>, String> {
        if !settings.tls {
            return Ok(None);
        }
        let host = match &settings.servers {
            shared::Servers::One(server) => Some(server),
            shared::Servers::Unix(_) => None,
            shared::Servers::Sentinel { sentinels: servers, .. } | shared::Servers::Cluster(servers) => {
                servers.first()
            }
        };
        let host = host.map_or("localhost", |server| server.host.as_str());
        Connector::new(host, settings.ca.as_deref())?.for_host(host).map(Some)
    }

    /// A client that has not begun to connect: [`Redis::start`] does, and so does the first call. `connector` is that of
    /// [`Redis::connector`], `tell` gets lines for the log. Its connections end with its value.
    ///
    /// # Errors
    /// The settings ask for TLS, and there is no `connector`.
    pub fn new(
        settings: &shared::Redis,
        connector: Option<&Connector>,
        tasks: &Rc<TaskCounts>,
        tell: Tell,
    ) -> Result<Rc<Self>, String> {
        if settings.tls && connector.is_none() {
            return Err("no TLS was made for redis".to_owned());
        }
        let master = matches!(settings.servers, shared::Servers::Sentinel { .. });
        let ours = Rc::new(Ours {
            timeout: settings.timeout,
            connector: connector.filter(|_| settings.tls).cloned(),
            account: Account {
                username: settings.username.clone(),
                password: settings.password.clone(),
                database: settings.database,
                master,
            },
            tasks: Rc::clone(tasks),
            tell,
            counts: Counts::default(),
            last_error: RefCell::new(None),
            random: Cell::new(seed()),
        });
        let at = |place| Servers::One(Node::new(&ours, Finder::At(place)));
        let servers = match &settings.servers {
            shared::Servers::One(server) => at(Place::Tcp(server.clone())),
            shared::Servers::Unix(path) => at(Place::Unix(path.clone())),
            shared::Servers::Sentinel { sentinels, master } => {
                let sentinels = Sentinels::new(sentinels.clone(), master.clone());
                Servers::One(Node::new(&ours, Finder::By(sentinels)))
            }
            shared::Servers::Cluster(seeds) => Servers::Many(Cluster::new(&ours, seeds.clone())),
        };
        Ok(Rc::new(Self { servers, ours, prefix: settings.prefix.clone() }))
    }

    /// Begins to connect, so that the first call need not wait; call within the runtime.
    pub fn start(&self) {
        match &self.servers {
            Servers::One(node) => node.start(),
            Servers::Many(cluster) => cluster.start(),
        }
    }

    /// What every key begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// One command, at most `redis.timeout` in all: the wait for a connection and the answer included.
    ///
    /// # Errors
    /// There is no reply. An error of the server is a [`Reply::Error`] and no failure, but for those that say that it
    /// serves nobody.
    pub async fn call(self: &Rc<Self>, command: &Command) -> Result<Reply, Failure> {
        self.ask(command, &mut Deadline::after(self.ours.timeout)).await
    }

    /// Several, in one write a server; answers in their order.
    ///
    /// # Errors
    /// Nothing was sent. What fails later is in the list, and of a cluster all that fails.
    pub async fn call_all(
        self: &Rc<Self>,
        commands: &[Command],
    ) -> Result<Vec<Result<Reply, Failure>>, Failure> {
        let mut deadline = Deadline::after(self.ours.timeout);
        let node = match &self.servers {
            Servers::One(node) => node,
            Servers::Many(cluster) => return Ok(cluster.ask_all(commands, &mut deadline).await),
        };
        let tickets = node.send_all(commands, &mut deadline).await?;
        let (mut answers, mut failed) = (Vec::with_capacity(tickets.len()), false);
        for ticket in tickets {
            answers.push(match ticket {
                Ok(ticket) if failed => node.hear(ticket, &mut deadline).await,
                Ok(ticket) => node.wait(ticket, &mut deadline).await,
                Err(failure) => Err(failure),
            });
            failed = failed || answers.last().is_some_and(Result::is_err);
        }
        Ok(answers)
    }

    /// A script by its name, and by its text where the server does not know it.
    ///
    /// # Errors
    /// As those of [`Redis::call`].
    pub async fn script(
        self: &Rc<Self>,
        script: &'static Script,
        keys: &[&[u8]],
        args: &[&[u8]],
    ) -> Result<Reply, Failure> {
        let mut deadline = Deadline::after(self.ours.timeout);
        let reply = self.ask(&script.by_sum(keys, args), &mut deadline).await?;
        if reply.error_code() == Some("NOSCRIPT") {
            return self.ask(&script.by_text(keys, args), &mut deadline).await;
        }
        Ok(reply)
    }

    async fn ask(self: &Rc<Self>, command: &Command, deadline: &mut Deadline) -> Result<Reply, Failure> {
        match &self.servers {
            Servers::One(node) => {
                let ticket = node.send(None, command, deadline).await?;
                node.wait(ticket, deadline).await
            }
            Servers::Many(cluster) => cluster.ask(command, deadline).await,
        }
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        let (place, breaker, nodes) = match &self.servers {
            Servers::One(node) => (node.place(), node.breaker(), vec![Rc::clone(node)]),
            Servers::Many(cluster) => (cluster.to_string(), cluster.breaker(), cluster.nodes()),
        };
        State {
            breaker,
            connected: nodes.iter().filter(|node| node.is_connected()).count(),
            servers: nodes.len(),
            place,
            last_error: self.ours.last_error(),
            reconnects: self.ours.counts.reconnects.get(),
            timeouts: self.ours.counts.timeouts.get(),
            waiting: nodes.iter().map(|node| node.waiting()).sum(),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        match &self.servers {
            Servers::One(node) => node.stop(),
            Servers::Many(cluster) => cluster.stop(),
        }
    }
}

/// Microseconds on the monotonic clock.
fn now_us() -> u64 {
    clock::now_ns() / 1000
}

/// Never zero.
fn seed() -> u64 {
    let bits = tls::random().unwrap_or([7; 32]);
    bits.first_chunk().map_or(1, |bits| u64::from_le_bytes(*bits)) | 1
}
