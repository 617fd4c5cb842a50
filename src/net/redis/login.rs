//! The first words on a connection, one question after the other: who we are, which database, and whether it is the
//! master.
//!
//! RESP3 is asked for; a server that does not know it (before Redis 6) is spoken to in RESP2. No text of an error that
//! may repeat what was sent is kept: old servers quote the arguments of commands that they do not know.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};

use super::connection::receive;
use crate::config::Secret;
use crate::net::tls::Session;
use crate::wire::resp::{Command, Limits, Reply, Scanner, Version};

/// The name by which `CLIENT LIST` shows our connections.
const NAME: &str = "corelane";
/// Longest text of an error that is kept.
const TEXT_CHARS_MAX: usize = 200;

/// Who we are, and what we expect.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: u32,
    /// The server has to be a master.
    pub(super) master: bool,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// For a person, without a secret.
    pub(super) text: String,
    /// The server has said so itself, so that waiting will not help.
    pub(super) said: bool,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { text: error.to_string(), said: false }
    }
}

impl Refusal {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), said: false }
    }

    /// What the server has said to `what`.
    fn said(what: &str, text: &str) -> Self {
        let text = text.split(", with args").next().unwrap_or_default();
        let text: String = text.chars().filter(|letter| !letter.is_control()).take(TEXT_CHARS_MAX).collect();
        Self { text: format!("{what}: {text}"), said: true }
    }
}

/// Logs in on a connection where nothing has been said; which version it speaks.
///
/// # Errors
/// The server does not let us in, or ends, or is out of step.
pub(super) async fn run<S: AsyncReadRent + AsyncWriteRent>(
    stream: &mut S,
    tls: &mut Option<Session>,
    account: &Account,
) -> Result<Version, Refusal> {
    let session = tls.take().map(RefCell::new);
    let mut talk = Talk::new(stream, session.as_ref());
    let done = enter(&mut talk, account).await;
    *tls = session.map(RefCell::into_inner);
    done
}

async fn enter<S: AsyncReadRent + AsyncWriteRent>(
    talk: &mut Talk<'_, S>,
    account: &Account,
) -> Result<Version, Refusal> {
    let mut hello = Command::new("HELLO").arg("3");
    if let Some(password) = &account.password {
        hello =
            hello.arg("AUTH").arg(account.username.as_deref().unwrap_or("default")).arg(password.expose());
    }
    if let Reply::Error(text) = talk.ask(&hello.arg("SETNAME").arg(NAME)).await? {
        let unknown = ["unknown command", "unsupported", "not supported", "NOPROTO"];
        if !unknown.iter().any(|words| text.contains(words)) {
            return Err(Refusal::said("login", &text));
        }
        talk.speak(Version::Resp2);
        if let Some(password) = &account.password {
            let auth = account.username.iter().fold(Command::new("AUTH"), Command::arg);
            talk.demand("login", &auth.arg(password.expose())).await?;
        }
    }
    if account.database > 0 {
        talk.demand("SELECT", &Command::new("SELECT").number(account.database.into())).await?;
    }
    if account.master {
        let reply = talk.demand("ROLE", &Command::new("ROLE")).await?;
        let role = reply.as_array().and_then(|values| values.first()).and_then(Reply::as_bytes);
        if role != Some(b"master") {
            return Err(Refusal::new("the server is no master"));
        }
    }
    talk.end()
}

/// Questions and answers on a connection, one at a time.
pub(super) struct Talk<'a, S> {
    stream: &'a mut S,
    tls: Option<&'a RefCell<Session>>,
    version: Version,
    scanner: Scanner,
    bytes: Vec<u8>,
}

impl<'a, S: AsyncReadRent + AsyncWriteRent> Talk<'a, S> {
    pub(super) fn new(stream: &'a mut S, tls: Option<&'a RefCell<Session>>) -> Self {
        let version = Version::Resp3;
        Self { stream, tls, version, scanner: Scanner::new(version, Limits::default()), bytes: Vec::new() }
    }

    pub(super) fn speak(&mut self, version: Version) {
        self.version = version;
        self.scanner = Scanner::new(version, Limits::default());
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&mut self, command: &Command) -> Result<Reply, Refusal> {
        let mut out = Vec::with_capacity(command.bytes());
        command.encode(&mut out);
        self.send(out).await?;
        loop {
            let broken = |broken| Refusal::new(format!("out of step: {broken}"));
            if let Some(length) = self.scanner.scan(&self.bytes).map_err(broken)? {
                let whole: Vec<u8> = self.bytes.drain(..length).collect();
                return self.version.decode(&Bytes::from(whole)).map_err(broken);
            }
            if receive(self.stream, self.tls, &mut self.bytes).await? == 0 {
                return Err(Refusal::new("the server closed the connection"));
            }
            self.send(Vec::new()).await?;
        }
    }

    /// As [`Talk::ask`], for a question that has to be answered without an error.
    pub(super) async fn demand(&mut self, what: &str, command: &Command) -> Result<Reply, Refusal> {
        match self.ask(command).await? {
            Reply::Error(text) => Err(Refusal::said(what, &text)),
            reply => Ok(reply),
        }
    }

    /// Nothing may be left over.
    fn end(&self) -> Result<Version, Refusal> {
        if self.bytes.is_empty() {
            Ok(self.version)
        } else {
            Err(Refusal::new("out of step: more than was asked for"))
        }
    }

    /// Sends `plain`, behind what TLS has to say of its own.
    async fn send(&mut self, plain: Vec<u8>) -> io::Result<()> {
        let out = match self.tls {
            None => plain,
            Some(tls) => {
                let mut session = tls.borrow_mut();
                let mut out = session.take_outgoing();
                if !plain.is_empty() {
                    let sealed = session.seal(&plain, &mut out);
                    sealed.map_err(|error| io::Error::other(error.to_string()))?;
                }
                out
            }
        };
        if out.is_empty() { Ok(()) } else { self.stream.write_all(out).await.0.map(|_| ()) }
    }
}
