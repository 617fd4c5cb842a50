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

/// Sends what fits without waiting: for last words that nobody has to hear.
pub fn send_now(fd: RawFd, bytes: &[u8]) {
    let _ = sent_now(fd, bytes);
}

/// As [`send_now`]; whether all of it went.
#[must_use]
pub fn sent_now(fd: RawFd, bytes: &[u8]) -> bool {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and length describe `bytes`.
    let n = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(n) == Ok(bytes.len())
}

/// Takes what has come without waiting; `None`: the peer has ended or failed.
#[must_use]
pub fn receive_now(fd: RawFd, into: &mut [u8]) -> Option<usize> {
    // SAFETY: the pointer and length describe `into`.
    let n = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
    match usize::try_from(n) {
        Ok(0) => None,
        Ok(n) => Some(n),
        Err(_) => (io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock).then_some(0),
    }
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

/// Sets `TCP_NOTSENT_LOWAT` (tcp(7)): writes wait while more than `bytes` have not been sent.
pub fn unsent_max(fd: RawFd, bytes: u32) {
    // SAFETY: the pointer and length describe `bytes`.
    unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
}

/// Bytes written that the peer has not acknowledged (`SIOCOUTQ`, tcp(7)).
#[must_use]
pub fn unsent(fd: RawFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes one int, which `bytes` is.
    unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) };
    usize::try_from(bytes).unwrap_or(0)
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
