//! The new process as a child of the old one: started with one end of a stream, found there by its number.
//!
//! Invariants: only this child inherits the end, because close-on-exec is taken off between fork and exec.
//! The child begins with no signal blocked, whatever the parent blocks: the mask is inherited through exec
//! (signal(7)).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use super::{close_on_exec, open, option, systemd};

/// The environment variable that names the child's descriptor.
pub const FD_VARIABLE: &str = "CORELANE_HANDOVER_FD";

/// Starts `program` with this process's environment and standard streams, and one end of a stream that
/// [`inherited`] finds there; the other end is returned. Kill and wait for the child if it does not get
/// ready.
///
/// # Errors
/// The program cannot be started, or the system is out of processes or descriptors.
pub fn spawn(program: &Path, args: &[OsString]) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let fd = theirs.as_raw_fd();
    let mut command = Command::new(program);
    command.args(args).env(FD_VARIABLE, fd.to_string());
    for name in systemd::VARIABLES.into_iter().chain([systemd::WATCHED_PROCESS]) {
        command.env_remove(name); // those descriptors are not the child's
    }
    // SAFETY: between fork and exec the closure makes async-signal-safe calls only (signal-safety(7)) and
    // allocates nothing. `fd` is open: `theirs` lives until the child was started.
    unsafe { command.pre_exec(move || in_child(fd)) };
    let child = command.spawn()?;
    Ok((child, ours))
}

/// Lets `fd` through exec, nothing else, and unblocks all signals. Sockets accepted through io_uring are not
/// close-on-exec by themselves; a kernel before 5.11, which cannot mark them all at once, leaves them to the child.
fn in_child(fd: RawFd) -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: close_range and fcntl take numbers only; the set is initialised by sigemptyset before use; no pointer
    // is kept.
    unsafe {
        libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if libc::fcntl(fd, libc::F_SETFD, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

/// The stream to the old process, if this one was started by [`spawn`]. `None` as well if what the variable
/// names is no unix stream. The variable is removed, so a second call finds nothing. Call in `main`, before
/// any thread starts and before anything is opened: it changes the environment and trusts a number from it.
#[must_use]
pub fn inherited() -> Option<UnixStream> {
    let value = std::env::var_os(FD_VARIABLE)?;
    // SAFETY: no other thread runs, as the caller promises.
    unsafe { std::env::remove_var(FD_VARIABLE) };
    adopt(&value)
}

/// Takes the descriptor that `value` names, if it is a unix stream. Anything else is left alone.
pub(super) fn adopt(value: &OsStr) -> Option<UnixStream> {
    let fd: RawFd = value.to_str()?.parse().ok()?;
    let borrowed = open(fd).filter(|_| fd > libc::STDERR_FILENO)?;
    let is = |name, wanted| option(borrowed, name).is_ok_and(|value| value == wanted);
    let stream = is(libc::SO_DOMAIN, libc::AF_UNIX)
        && is(libc::SO_TYPE, libc::SOCK_STREAM)
        && is(libc::SO_ACCEPTCONN, 0);
    if !stream || close_on_exec(borrowed).is_err() {
        return None;
    }
    // SAFETY: it is open, was left for this process by its parent, and the variable that names it is gone.
    Some(UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}
