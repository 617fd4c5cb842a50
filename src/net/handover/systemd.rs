//! systemd's side: sockets that it has opened for this process, and what it wants to be told.
//!
//! Source: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3); the protocols are environment variables and a datagram.

use std::ffi::OsStr;
use std::io;
use std::net::TcpListener;
use std::ops::Range;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use super::{SOCKETS_MAX, check_listening, close_on_exec, invalid, open};

/// What systemd sets; none of it is for a child.
pub(super) const VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

/// The watchdog's interval in microseconds.
const WATCHED_EVERY: &str = "WATCHDOG_USEC";
/// Whom the watchdog listens to. Not for a child: what takes this process's place has another number.
pub(super) const WATCHED_PROCESS: &str = "WATCHDOG_PID";

/// The first descriptor (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// The listening sockets that systemd has opened for this process, in the order of its units; none if it has
/// not. They are close-on-exec and do not block. The variables are removed, so a second call finds none. Call
/// in `main`, before any thread starts and before anything is opened: it changes the environment and trusts
/// numbers from it.
///
/// # Errors
/// `InvalidData`: a variable is no number, or a descriptor is no listening TCP socket.
pub fn activated() -> io::Result<Vec<TcpListener>> {
    let [pid, count, ..] = VARIABLES.map(std::env::var_os);
    for name in VARIABLES {
        // SAFETY: no other thread runs, as the caller promises.
        unsafe { std::env::remove_var(name) };
    }
    adopt(listed(pid.as_deref(), count.as_deref(), std::process::id())?)
}

/// The descriptors that the variables name: none unless they are meant for process `own`.
pub(super) fn listed(pid: Option<&OsStr>, count: Option<&OsStr>, own: u32) -> io::Result<Range<RawFd>> {
    let (Some(pid), Some(count)) = (pid, count) else {
        return Ok(FIRST..FIRST);
    };
    let number = |name: &str, value: &OsStr| {
        let number = value.to_str().and_then(|text| text.parse::<u32>().ok());
        number.ok_or_else(|| invalid(format!("{name} is no number: {}", value.display())))
    };
    if number("LISTEN_PID", pid)? != own {
        return Ok(FIRST..FIRST); // for a process before this one
    }
    let count = number("LISTEN_FDS", count)?;
    match RawFd::try_from(count) {
        Ok(count) if usize::try_from(count).is_ok_and(|count| count <= SOCKETS_MAX) => {
            Ok(FIRST..FIRST + count)
        }
        _ => Err(invalid(format!("LISTEN_FDS={count}: at most {SOCKETS_MAX} are taken"))),
    }
}

/// Takes the descriptors if each is a listening TCP socket, else none.
pub(super) fn adopt(fds: Range<RawFd>) -> io::Result<Vec<TcpListener>> {
    for fd in fds.clone() {
        let wrong = |what: String| invalid(format!("descriptor {fd}, said to be from systemd, {what}"));
        let borrowed = open(fd).ok_or_else(|| wrong("is not open".to_owned()))?;
        check_listening(borrowed).map_err(|error| wrong(error.to_string()))?;
        close_on_exec(borrowed)?;
    }
    let sockets = fds.map(|fd| {
        // SAFETY: it is open, was left for this process by systemd, and the variables that name it are gone.
        let socket = TcpListener::from(unsafe { OwnedFd::from_raw_fd(fd) });
        socket.set_nonblocking(true).map(|()| socket)
    });
    sockets.collect()
}

/// Within how much time systemd's watchdog wants to hear `WATCHDOG=1` from this process; `None`: there is none, or it
/// listens to another process. The variables stay, for a successor.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    let [every, pid] = [WATCHED_EVERY, WATCHED_PROCESS].map(std::env::var_os);
    watched(every.as_deref(), pid.as_deref(), std::process::id())
}

/// What is no number, or zero, is no watchdog: the service must not fail for it.
pub(super) fn watched(every: Option<&OsStr>, pid: Option<&OsStr>, own: u32) -> Option<Duration> {
    let meant = pid.is_none_or(|pid| pid.to_str().and_then(|text| text.parse().ok()) == Some(own));
    let micros: u64 = every.filter(|_| meant)?.to_str()?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros))
}

/// Tells systemd how this process is (`READY=1`, `RELOADING=1`, `STOPPING=1`, `WATCHDOG=1`, `MAINPID=…`; lines may be
/// joined by newlines), if it wants to know. Nobody who is told is no error. Waits a second at most.
pub fn notify(state: &str) {
    if let Some(address) = std::env::var_os("NOTIFY_SOCKET") {
        let _ = tell(&address, state); // a service manager that is gone must not end the service
    }
}

pub(super) fn tell(address: &OsStr, state: &str) -> io::Result<()> {
    let to = match address.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        Some((b'/', _)) => SocketAddr::from_pathname(address)?,
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(Duration::from_secs(1)))?;
    socket.send_to_addr(state.as_bytes(), &to)?;
    Ok(())
}
