//! Listening sockets and the accept loop.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use monoio::io::Canceller;
use monoio::net::TcpListener;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::socket::Socket as Connection;
use super::{calls, clock, uring};

const BACKLOG: i32 = 4096;

/// Bytes that the kernel takes for a client beyond those on their way. Without it a client that never reads is given up
/// to `tcp_wmem[2]`, 4 MiB, of the kernel's memory; with it the write waits, and `write_timeout` runs.
const UNSENT_MAX: u32 = 128 * 1024;

/// Connections let in between two looks at what else is ready.
const ROUND: u32 = 8;
/// Looks at an address that is taken, and the time between two.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(25);

/// A bound socket with `SO_REUSEPORT`: each shard has one for the same address.
///
/// # Errors
/// The address is taken or not ours.
pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = unbound(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let socket = socket.into();
    prepare(&socket)?;
    Ok(socket)
}

/// Sets what is inherited by every connection that is accepted; for sockets that others have bound, too.
///
/// # Errors
/// It is no TCP socket.
pub fn prepare(socket: &StdListener) -> io::Result<()> {
    SockRef::from(socket).set_tcp_nodelay(true)?;
    calls::unsent_max(socket.as_raw_fd(), UNSENT_MAX);
    Ok(())
}

/// Whether nobody listens on `address`. `SO_REUSEPORT` alone would not tell: a second gateway of the same user would be let in,
/// and get every second connection of the first one. Looks again for a while: the kernel gives a killed process' sockets up
/// behind it, once its io_uring has ended. Blocks the thread.
///
/// # Errors
/// The address is taken or not ours.
pub fn is_free(address: SocketAddr) -> io::Result<()> {
    for _ in 0..LOOKS {
        match unbound(address)?.bind(&address.into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            looked => return looked,
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing runs on this thread before there are listeners"
        )]
        std::thread::sleep(LOOK);
    }
    unbound(address)?.bind(&address.into())
}

fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// What a listener's connections carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Requests, plain.
    Plain,
    /// Requests, over TLS.
    Tls,
    /// Plain requests that are sent to TLS.
    Redirect,
}

/// What becomes of connections that the kernel has taken and nobody has accepted when a listener is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// They are still accepted.
    Accepted,
    /// They are left to the others that accept from the same socket.
    Left,
}

/// The accept side of one shard.
pub struct Listener {
    inner: Inner,
    role: Cell<Role>,
    closed: Cell<Option<Rest>>,
}

enum Inner {
    /// It is polled and then accepted from; who waits for it to be closed, and how many were let in this round.
    Ring(uring::Socket, RefCell<Option<Waker>>, Cell<u32>),
    Portable(TcpListener, RefCell<Canceller>),
}

impl Listener {
    /// Takes a bound socket into this shard's runtime.
    ///
    /// # Errors
    /// The driver refuses it.
    pub fn new(socket: StdListener, role: Role) -> io::Result<Self> {
        let inner = match uring::current() {
            Some(executor) => {
                Inner::Ring(uring::Socket::new(executor, socket.into()), RefCell::default(), Cell::new(0))
            }
            None => Inner::Portable(TcpListener::from_std(socket)?, RefCell::new(Canceller::new())),
        };
        Ok(Self { inner, role: Cell::new(role), closed: Cell::new(None) })
    }

    /// What its connections carry.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role.get()
    }

    /// Connections that come from now on carry something else.
    pub fn set_role(&self, role: Role) {
        self.role.set(role);
    }

    /// The next connection; `None` once [`Listener::close`] was called and nothing waits that is to be accepted still.
    /// Out of descriptors or memory it backs off (10 to 100 ms, `exhausted` is told each time)
    /// rather than spin; it never gives up. Must not be dropped while pending: the accept loop runs to the end of
    /// the shard.
    pub async fn accept(&self, exhausted: impl Fn()) -> Option<(Connection, SocketAddr)> {
        let mut wait = Duration::from_millis(10);
        loop {
            if let Some(rest) = self.closed.get() {
                return if rest == Rest::Accepted { self.accept_now().ok() } else { None };
            }
            match self.next().await {
                Ok(accepted) => return Some(accepted),
                Err(_) if self.closed.get().is_some() => {}
                Err(error) if is_exhausted(&error) => {
                    exhausted();
                    clock::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_millis(100));
                }
                Err(_) => clock::sleep(Duration::from_millis(1)).await, // the peer left before we took it
            }
        }
    }

    /// The next connection; an error of any kind once it is closed.
    async fn next(&self) -> io::Result<(Connection, SocketAddr)> {
        match &self.inner {
            Inner::Ring(socket, closing, let_in) => loop {
                match self.accept_now() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    accepted => {
                        // A few a round: a crowd that comes at once is served as it is let in, not all of it in step.
                        let_in.set(let_in.get() % ROUND + 1);
                        if let_in.get() == ROUND {
                            uring::pass().await;
                        }
                        return accepted;
                    }
                }
                let mut readable = pin!(socket.readable());
                let polled = poll_fn(|cx| match readable.as_mut().poll(cx) {
                    Poll::Pending if self.closed.get().is_some() => {
                        Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
                    }
                    Poll::Pending => {
                        closing.replace(Some(cx.waker().clone()));
                        Poll::Pending
                    }
                    ready => ready,
                });
                polled.await?;
            },
            Inner::Portable(listener, canceller) => {
                let handle = canceller.borrow().handle();
                let (stream, peer) = listener.cancelable_accept(handle).await?;
                Ok((stream.into(), peer))
            }
        }
    }

    /// What waits already; the socket does not block.
    fn accept_now(&self) -> io::Result<(Connection, SocketAddr)> {
        loop {
            match SockRef::from(self).accept() {
                Ok((stream, peer)) => {
                    if let (Ok(stream), Some(peer)) = (Connection::attach(stream.into()), peer.as_socket()) {
                        return Ok((stream, peer));
                    }
                }
                // The peer left before we took it; what follows it may still be there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Accepts nothing that comes from now on; the socket is closed here when [`Listener::accept`] has ended, and lives on
    /// where others hold it.
    pub fn close(&self, rest: Rest) {
        self.closed.set(Some(rest));
        match &self.inner {
            Inner::Ring(_, closing, _) => {
                if let Some(waker) = closing.take() {
                    waker.wake();
                }
            }
            Inner::Portable(_, canceller) => {
                let before = canceller.take();
                canceller.replace(before.cancel());
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let fd = match &self.inner {
            Inner::Ring(socket, ..) => socket.as_raw_fd(),
            Inner::Portable(listener, _) => listener.as_raw_fd(),
        };
        // SAFETY: the descriptor is open as long as `inner` is.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
