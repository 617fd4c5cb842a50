//! A successor in place: another process gets the listening sockets, serves, and only then this one drains.
//!
//! USR2 starts the same command line anew, so a binary or a unit file replaced meanwhile is taken; `serve --take-over` comes
//! from elsewhere through `server.handover_socket`. Both end in the same exchange over a unix socket ([`handover`]). A
//! successor that does not say that it serves within [`READY_WITHIN`] has changed nothing.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Gateway, own_arguments};
use crate::config::{Level, Server};
use crate::net::handover::{self, Passed, Purpose, Verdict};
use crate::net::listener;
use crate::telemetry::log::Log;

/// Time for a successor to start.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// What this process was given by the one before it, or by systemd.
#[derive(Default)]
pub struct Inheritance {
    from: Option<UnixStream>,
    sockets: Vec<Passed>,
}

impl Inheritance {
    /// What the environment and the command line say: a predecessor that started us, one at `door`, or systemd. Call before any
    /// thread starts.
    ///
    /// # Errors
    /// A predecessor was named and does not answer, or sockets were passed that are none.
    pub fn find(door: Option<&Path>, server: &Server) -> io::Result<Self> {
        let from = match (handover::inherited(), door) {
            (Some(stream), _) => Some(stream),
            (None, Some(path)) => {
                let unanswered = |error: io::Error| {
                    let hint = "it must be the `server.handover_socket` of a gateway that runs";
                    let text = format!("--take-over {}: {error} (hint: {hint})", path.display());
                    io::Error::new(error.kind(), text)
                };
                Some(handover::connect(path).map_err(unanswered)?)
            }
            (None, None) => None,
        };
        let sockets = match &from {
            Some(stream) => handover::take(stream)?,
            None => {
                let activated = handover::activated()?;
                activated.into_iter().map(|socket| purposed(socket, server)).collect::<io::Result<_>>()?
            }
        };
        Ok(Self { from, sockets })
    }

    pub(super) fn take_sockets(&mut self) -> io::Result<Vec<Passed>> {
        Ok(std::mem::take(&mut self.sockets))
    }

    /// Whether the sockets are of systemd, which knows nothing of the configuration.
    pub(super) fn is_activated(&self) -> bool {
        self.from.is_none()
    }

    /// Tells the predecessor, or systemd, that this process serves; `true`: there was a predecessor.
    ///
    /// # Errors
    /// The predecessor has waited too long and goes on serving: this process must end.
    pub(super) fn ready(self, log: &Log) -> io::Result<bool> {
        let Some(stream) = &self.from else {
            handover::notify("READY=1");
            return Ok(false);
        };
        match handover::say_ready(stream) {
            Ok(()) => log.write(Level::Info, format_args!("serving in the place of another process")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let text = "the process before this one has waited too long and goes on";
                return Err(io::Error::new(error.kind(), text));
            }
            Err(error) => {
                log.write(Level::Warn, format_args!("the process before this one is gone: {error}"));
            }
        }
        Ok(true)
    }
}

/// A socket of systemd's, by the address that the configuration has for it.
fn purposed(socket: std::net::TcpListener, server: &Server) -> io::Result<Passed> {
    let address = socket.local_addr()?;
    listener::prepare(&socket)?;
    let tls = server.tls.as_ref().is_some_and(|tls| tls.listen.contains(&address));
    let purpose = match (tls, address == server.admin_listen) {
        (true, _) => Purpose::Tls,
        (_, true) => Purpose::Admin,
        _ => Purpose::Data,
    };
    Ok(Passed { purpose, address, socket })
}

/// Where another process may ask for the sockets.
pub(super) struct Door(Option<handover::Door>);

impl Door {
    /// Opens the door that the configuration names. What fails is logged: the gateway serves without it.
    pub(super) fn open(server: &Server, has_predecessor: bool, log: &Log) -> Self {
        // A predecessor stands at its door until it hears that we serve.
        let open = if has_predecessor { handover::Door::take_over } else { handover::Door::bind };
        let door = server.handover_socket.as_deref().map(open).transpose().map_err(|error| {
            log.write(Level::Error, format_args!("server.handover_socket: {error}"));
        });
        Self(door.ok().flatten())
    }
}

/// One that is starting.
pub(super) struct Successor {
    child: Option<Child>,
    verdict: JoinHandle<Verdict>,
}

impl Gateway {
    /// Starts the own command line anew and passes the sockets on.
    pub(super) fn upgrade(&mut self) {
        let log = &self.process.log;
        if self.successor.is_some() || self.process.is_draining() {
            return log.write(Level::Warn, format_args!("an upgrade or a drain is under way already"));
        }
        let (program, arguments) = own_arguments();
        let started = match program {
            Some(program) => handover::spawn(&program, &arguments),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        match started {
            Ok((child, stream)) => {
                log.write(Level::Info, format_args!("upgrade: process {} starts", child.id()));
                self.pass_to(Some(child), stream);
            }
            Err(error) => log.write(Level::Error, format_args!("upgrade: no process: {error}")),
        }
    }

    /// Looks whether somebody is at the door, and what has become of a successor.
    pub(super) fn follow_successor(&mut self) {
        if self.successor.is_none()
            && let Some(door) = &self.door.0
        {
            let log = &self.process.log;
            match door.accept(Duration::ZERO) {
                Ok(None) => {}
                Ok(Some(stream)) => {
                    log.write(Level::Info, format_args!("upgrade: a process asks for the sockets"));
                    self.pass_to(None, stream);
                }
                Err(error) => log.write(Level::Warn, format_args!("server.handover_socket: {error}")),
            }
        }
        if let Some(Successor { child, verdict }) = self.successor.take_if(|one| one.verdict.is_finished()) {
            self.succeeded(child, verdict.join().unwrap_or(Verdict::Failed));
        }
    }

    /// Passes the sockets on and waits for the verdict, on a thread of its own: signals go on being heard.
    fn pass_to(&mut self, child: Option<Child>, stream: UnixStream) {
        let (passed, process) = (self.sockets.passed(), Arc::clone(&self.process));
        let thread = std::thread::Builder::new().name("handover".to_owned()).spawn(move || {
            match passed.and_then(|sockets| handover::give(&stream, &sockets)) {
                Ok(()) => handover::await_ready(&stream, READY_WITHIN),
                Err(error) => {
                    process.log.write(Level::Error, format_args!("upgrade: sockets not passed: {error}"));
                    Verdict::Failed
                }
            }
        });
        match thread {
            Ok(verdict) => self.successor = Some(Successor { child, verdict }),
            Err(error) => {
                self.process.log.write(Level::Error, format_args!("upgrade: no thread: {error}"));
                end(child);
            }
        }
    }

    /// Ends a successor that starts, since the service is to end.
    pub(super) fn abandon_successor(&mut self) {
        if let Some(Successor { child, .. }) = self.successor.take() {
            self.process.log.write(Level::Warn, format_args!("upgrade: given up for the drain"));
            end(child);
        }
    }

    fn succeeded(&mut self, child: Option<Child>, verdict: Verdict) {
        let log = &self.process.log;
        match verdict {
            Verdict::Ready => {
                log.write(Level::Info, format_args!("upgrade: the successor serves; draining"));
                self.door.0 = None;
                if let Some(child) = &child {
                    handover::notify(&format!("MAINPID={}", child.id()));
                }
                self.sockets.close();
                self.process.handed_over.store(true, Ordering::Release);
                self.process.draining.store(true, Ordering::Release);
            }
            Verdict::Failed => {
                log.write(
                    Level::Error,
                    format_args!("upgrade: the successor did not start; nothing has changed"),
                );
                end(child);
            }
        }
    }
}

/// Ends a successor that does not serve, and waits for its end.
fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill(); // it may have ended by itself
        let _ = child.wait();
    }
}
