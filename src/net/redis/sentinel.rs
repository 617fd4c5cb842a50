//! Who is the master: asked of the sentinels at each connect (redis.io/docs/reference/sentinel-clients).
//!
//! They are asked one after the other, beginning with the one that knew last time; the login then checks by `ROLE` that
//! the server agrees. A lost connection, and an answer of `READONLY`, lead here again.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::pin;

use monoio::io::{AsyncReadRent, AsyncWriteRent};

use super::Ours;
use super::connection::{self, CONNECT, Place};
use super::login::{Account, Refusal, Talk};
use super::resolve::Resolver;
use crate::config::shared::Server;
use crate::net::clock;
use crate::wire::resp::{Command, Reply};

/// The sentinels of one master.
pub(super) struct Sentinels {
    servers: Vec<Server>,
    master: String,
    /// The one that is asked first.
    first: Cell<usize>,
}

impl fmt::Display for Sentinels {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "master {} of sentinels", self.master)
    }
}

impl Sentinels {
    pub(super) fn new(servers: Vec<Server>, master: String) -> Self {
        Self { servers, master, first: Cell::new(0) }
    }

    /// Where the master is. May be dropped while pending: the next one is then asked first.
    ///
    /// # Errors
    /// No sentinel knows; what the last one said.
    pub(super) async fn master(&self, ours: &Ours, resolver: &Resolver) -> Result<Server, Refusal> {
        let count = self.servers.len();
        let share = CONNECT / 2 / u32::try_from(count.max(1)).unwrap_or(1);
        let mut last = Refusal::new("there are no sentinels");
        for step in 0..count {
            let index = (self.first.get() + step) % count;
            let Some(sentinel) = self.servers.get(index) else { continue };
            match clock::within(share, pin!(self.ask(sentinel, ours, resolver))).await {
                Some(Ok(master)) => {
                    self.first.set(index);
                    return Ok(master);
                }
                Some(Err(refusal)) => last = Refusal::new(format!("sentinel {sentinel}: {}", refusal.text)),
                None => last = Refusal::new(format!("sentinel {sentinel}: no answer in time")),
            }
        }
        Err(last)
    }

    async fn ask(&self, sentinel: &Server, ours: &Ours, resolver: &Resolver) -> Result<Server, Refusal> {
        let place = Place::Tcp(sentinel.clone());
        let (mut stream, tls) = connection::open(&place, ours.connector.as_ref(), resolver).await?;
        let tls = tls.map(RefCell::new);
        self.find(Talk::new(&mut stream, tls.as_ref()), &ours.account).await
    }

    async fn find<S: AsyncReadRent + AsyncWriteRent>(
        &self,
        mut talk: Talk<'_, S>,
        account: &Account,
    ) -> Result<Server, Refusal> {
        talk.speak(crate::wire::resp::Version::Resp2); // what a connection without HELLO speaks
        let question = Command::new("SENTINEL").arg("get-master-addr-by-name").arg(&self.master);
        let mut reply = talk.ask(&question).await?;
        // Sentinels seldom ask for a password; where they do, it has to be that of the servers.
        if let (Some("NOAUTH"), Some(password)) = (reply.error_code(), &account.password) {
            let auth = account.username.iter().fold(Command::new("AUTH"), Command::arg);
            talk.demand("login", &auth.arg(password.expose())).await?;
            reply = talk.ask(&question).await?;
        }
        address(&reply).ok_or_else(|| match reply {
            Reply::Nil => Refusal::new("it does not know the master"),
            Reply::Error(text) => Refusal::new(text),
            _ => Refusal::new("an answer that makes no sense"),
        })
    }
}

fn address(reply: &Reply) -> Option<Server> {
    let [host, port] = reply.as_array()? else { return None };
    let host = std::str::from_utf8(host.as_bytes()?).ok()?;
    let port = u16::try_from(port.as_int()?).ok()?;
    (!host.is_empty()).then(|| Server::new(host, port))
}
