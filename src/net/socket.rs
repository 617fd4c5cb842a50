//! The few system calls on sockets that the runtime does not offer.

use std::io;
use std::os::fd::RawFd;

/// Ends both directions at once: pending operations complete, the peer sees the end.
pub fn shutdown(fd: RawFd) {
    // SAFETY: shutdown takes no memory; a stale descriptor is impossible because callers own the stream.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// Ends our sending direction only.
pub fn shutdown_write(fd: RawFd) {
    // SAFETY: as above.
    unsafe { libc::shutdown(fd, libc::SHUT_WR) };
}

/// What an idle connection shows without taking anything from it.
#[derive(Debug, PartialEq, Eq)]
pub enum Idle {
    /// Nothing has come: may be used.
    Quiet,
    /// Closed by the peer, or bytes that nobody asked for: must not be used.
    Spoilt,
}

/// Looks at an idle connection, without waiting.
#[must_use]
pub fn peek(fd: RawFd) -> Idle {
    let mut byte = 0u8;
    // SAFETY: the buffer is one byte and the length says so.
    let n = unsafe { libc::recv(fd, (&raw mut byte).cast(), 1, libc::MSG_PEEK | libc::MSG_DONTWAIT) };
    if n < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
        Idle::Quiet
    } else {
        Idle::Spoilt
    }
}

/// Sets `TCP_NODELAY`; a socket that is already dead is found out by its first read.
pub fn nodelay(fd: RawFd) {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and length describe `on`.
    unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
}
