//! Handing the listening sockets to a new process: a new binary takes over, and no connection is refused or
//! lost.
//!
//! 1. The two processes have a unix stream between them: the new one was started by the old one ([`spawn`],
//!    [`inherited`]) or came to its [`Door`] ([`connect`]).
//! 2. The old one sends all its listening sockets ([`give`]); the new one checks each ([`take`]) and starts
//!    completely.
//! 3. The new one says so ([`say_ready`]); the old one hears it ([`await_ready`]) and only then stops
//!    accepting.
//!
//! Invariants: whatever fails before the last step leaves the old process as it was. Both sides agree about
//! the last step: "ready" is answered, and a new process that is told to leave has not taken over. A
//! descriptor that was received is owned at once and closed by every error. What is received is close-on-exec
//! from the start.
//!
//! Both processes hold the *same* sockets, with one queue and one set of flags: the old one must close its
//! descriptors and must not shutdown(2) them, which would end them for the new one too.
//!
//! All calls block, each with a time limit: for the main thread or a thread of its own, never for a shard.
//! Cost: a line of text and 4 bytes of control data a socket, at most [`SOCKETS_MAX`] of them. systemd's
//! socket activation ([`activated`]) brings the same kind of sockets from another giver.
//!
//! Source: unix(7), cmsg(3); as in HAProxy (`expose-fd listeners`), sozu and pingora.

mod door;
mod spawn;
mod systemd;
mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::net::clock;

pub use door::{Door, connect};
pub use spawn::{FD_VARIABLE, inherited, spawn};
pub use systemd::{activated, notify, watchdog};
pub use wire::{Verdict, await_ready, give, say_ready, take};

/// Most sockets of one handover.
pub const SOCKETS_MAX: usize = 4096;

/// What a listening socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Requests, plain.
    Data,
    /// Requests, over TLS.
    Tls,
    /// The admin listener.
    Admin,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::Data, Self::Tls, Self::Admin];

    fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Tls => "tls",
            Self::Admin => "admin",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }
}

/// A listening socket on its way. Several may have the same address: one a shard, by `SO_REUSEPORT`.
#[derive(Debug)]
pub struct Passed {
    /// What it is for.
    pub purpose: Purpose,
    /// Where it listens: what `getsockname` says, so never port 0.
    pub address: SocketAddr,
    /// The socket.
    pub socket: TcpListener,
}

/// When `limit` from now is over; a limit beyond the clock's range is a year.
fn end_of(limit: Duration) -> Instant {
    let now = clock::now();
    now.checked_add(limit).unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 3600))
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

/// An option of `SOL_SOCKET` that is an int.
fn option(fd: BorrowedFd<'_>, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is an int, `length` says so, and both outlive the call.
    let done = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length)
    };
    if done == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Takes a descriptor that is a listening TCP socket.
///
/// # Errors
/// `InvalidData`: it is something else; it is closed.
fn listening(fd: OwnedFd) -> io::Result<TcpListener> {
    check_listening(fd.as_fd())?;
    Ok(TcpListener::from(fd))
}

fn check_listening(fd: BorrowedFd<'_>) -> io::Result<()> {
    let domain = option(fd, libc::SO_DOMAIN).map_err(|error| invalid(format!("is no socket: {error}")))?;
    if domain != libc::AF_INET && domain != libc::AF_INET6 {
        return Err(invalid("is no internet socket"));
    }
    if option(fd, libc::SO_PROTOCOL)? != libc::IPPROTO_TCP {
        return Err(invalid("is no TCP socket"));
    }
    if option(fd, libc::SO_ACCEPTCONN)? == 0 {
        return Err(invalid("does not listen"));
    }
    Ok(())
}

/// A number that another process says is a descriptor of ours: whether it is open and may be looked at.
fn open(fd: RawFd) -> Option<BorrowedFd<'static>> {
    // SAFETY: takes a number; one that is not open is EBADF.
    let flags = (fd >= 0).then(|| unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: it is open. Callers run before any thread starts, so nobody closes it while it is looked at.
    (flags >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Keeps `fd` from processes that are started later.
fn close_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes numbers only.
    let done = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Refuses a peer that is neither this user nor root (`SO_PEERCRED`: the user as the connection was made).
fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `peer` is a ucred, `length` says so, and both outlive the call.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes nothing and cannot fail.
    let own = unsafe { libc::geteuid() };
    if may(peer.uid, own) {
        return Ok(());
    }
    let message =
        format!("the peer is user {}, which is neither this process's user {own} nor root", peer.uid);
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

/// Whether user `peer` may take part in a handover with user `own`.
fn may(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

#[cfg(test)]
mod tests;
