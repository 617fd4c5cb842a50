//! A connection on the ring.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::{opcode, squeue, types};
use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut, SliceMut};
use socket2::{Domain, SockAddr, Type};

use super::Executor;
use super::operation::Pending;
use crate::net::buffer::Buffers;

/// A socket, TCP or unix, whose operations are the executor's.
pub(in crate::net) struct Socket {
    pub(super) executor: Rc<Executor>,
    pub(super) fd: Rc<OwnedFd>,
    /// The last send that was posted, until it is known to have ended.
    posted: Cell<Option<usize>>,
    /// A read that has begun before anybody wants what comes.
    ahead: Cell<Option<usize>>,
}

/// `IORING_RECVSEND_POLL_FIRST` (io_uring_enter(2)): what is read is not there yet, so that trying at once is in vain.
const POLL_FIRST: u16 = 1;

/// Largest piece of one operation.
const PIECE_MAX: usize = 1 << 30;

fn piece(bytes: usize) -> u32 {
    bytes.min(PIECE_MAX) as u32
}

impl Socket {
    /// Takes a descriptor in. It must be in blocking mode.
    pub fn new(executor: Rc<Executor>, fd: OwnedFd) -> Self {
        Self { executor, fd: Rc::new(fd), posted: Cell::new(None), ahead: Cell::new(None) }
    }

    /// Connects to a TCP address.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn connect(executor: Rc<Executor>, address: SocketAddr) -> io::Result<Self> {
        Self::reach(executor, Domain::for_address(address), address.into()).await
    }

    /// Connects to a unix socket.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn connect_unix(executor: Rc<Executor>, path: &Path) -> io::Result<Self> {
        Self::reach(executor, Domain::UNIX, SockAddr::unix(path)?).await
    }

    async fn reach(executor: Rc<Executor>, domain: Domain, address: SockAddr) -> io::Result<Self> {
        let this = Self::new(executor, socket2::Socket::new(domain, Type::STREAM, None)?.into());
        {
            let mut connecting = Pending::new(&this, Box::new(address));
            let fd = types::Fd(this.as_raw_fd());
            let connected = poll_fn(|cx| {
                // SAFETY: the address is in memory of its own.
                unsafe {
                    connecting.poll(cx, |address| {
                        opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build()
                    })
                }
            });
            connected.await.0?;
        }
        Ok(this)
    }

    /// Gives the descriptor back; nothing may be pending on it.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        let fd = Rc::clone(&self.fd);
        drop(self);
        match Rc::try_unwrap(fd) {
            Ok(fd) => Ok(fd),
            Err(shared) => shared.try_clone(), // something was given up on it a moment ago
        }
    }

    /// Waits until there is something to read, or the peer has ended.
    pub fn readable(&self) -> Readable<'_> {
        Readable { pending: Pending::new(self, ()) }
    }

    /// Begins to read, though nobody wants what comes yet: [`Socket::receive`] without a buffer goes on with it.
    pub fn listen(&self, buffers: &Rc<Buffers>) {
        if self.ahead.get().is_none() {
            let nobody = Context::from_waker(Waker::noop());
            self.ahead.set(self.executor.driver.borrow_mut().receive(&self.fd, buffers, [0; 2], &nobody));
        }
    }

    /// Whether nothing has come since [`Socket::listen`], neither bytes nor an end; `None`: that is not known.
    pub fn is_quiet(&self) -> Option<bool> {
        let mut driver = self.executor.driver.borrow_mut();
        let key = self.ahead.get()?;
        match driver.received(key) {
            None => Some(true),
            Some(result) if result != -libc::ENOBUFS => Some(false),
            Some(_) => {
                driver.leave(key, || Box::new(()));
                self.ahead.set(None);
                None
            }
        }
    }

    /// Reads once into `buf`.
    pub fn read<T: IoBufMut>(&self, buf: T) -> Reading<'_, T> {
        debug_assert!(self.ahead.get().is_none(), "what comes goes to another read");
        Reading { pending: Pending::new(self, buf) }
    }

    /// Reads once, into `into` behind what it holds or into a buffer that is had when bytes have come.
    pub fn receive<'a>(&'a self, into: Option<Vec<u8>>, buffers: &'a Rc<Buffers>) -> Receiving<'a> {
        let step = match into {
            Some(bytes) => Step::Into(Box::new(self.read(spare(bytes)))),
            None => Step::Any(self.ahead.take()),
        };
        Receiving { socket: self, buffers, is_cancelled: false, step }
    }

    /// Sends `bytes[start..]` without anybody waiting for it; the memory goes to `buffers`. One that fails shuts the connection
    /// down.
    ///
    /// # Errors
    /// What was posted before is still under way: the bytes come back.
    pub fn post(&self, bytes: Vec<u8>, start: usize, buffers: &Rc<Buffers>) -> Result<(), Vec<u8>> {
        if !self.has_sent() {
            return Err(bytes);
        }
        let key = self.executor.driver.borrow_mut().post(bytes, start, &self.fd, buffers);
        self.posted.set(Some(key));
        Ok(())
    }

    /// Whether nothing that was posted is under way.
    pub fn has_sent(&self) -> bool {
        let Some(key) = self.posted.get() else { return true };
        let has_ended = self.executor.driver.borrow_mut().has_ended(key);
        if has_ended {
            self.posted.set(None);
        }
        has_ended
    }

    /// Waits until it has been sent, or the connection is shut down because it could not be.
    pub async fn sent(&self) {
        let Some(key) = self.posted.get() else { return };
        poll_fn(|cx| self.executor.driver.borrow_mut().poll(key, cx)).await;
        self.posted.set(None);
    }

    /// Writes once from `buf`, behind what was posted.
    pub async fn write<T: IoBuf>(&self, buf: T) -> BufResult<usize, T> {
        if !self.has_sent() {
            self.sent().await;
        }
        let mut sending = Pending::new(self, buf);
        let fd = types::Fd(self.as_raw_fd());
        poll_fn(|cx| {
            let send = |buf: &mut T| {
                let entry = opcode::Send::new(fd, buf.read_ptr(), piece(buf.bytes_init()));
                entry.flags(libc::MSG_NOSIGNAL).build()
            };
            // SAFETY: buffers of the runtime's traits do not move what they own.
            unsafe { sending.poll(cx, send) }
        })
        .await
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        for key in [self.posted.take(), self.ahead.take()].into_iter().flatten() {
            self.executor.driver.borrow_mut().leave(key, || Box::new(()));
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Sets the flag, which the crate has no name for, where the kernel looks for it: `ioprio`, the third and fourth byte.
pub(super) fn poll_first(mut entry: squeue::Entry) -> squeue::Entry {
    // SAFETY: an entry is what the kernel reads, 64 bytes, and any value of these two is one.
    unsafe { (&raw mut entry).cast::<u16>().add(1).write(POLL_FIRST) };
    entry
}

/// A wait for something to read.
pub(in crate::net) struct Readable<'a> {
    pending: Pending<'a, ()>,
}

impl Future for Readable<'_> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let fd = types::Fd(self.pending.fd());
        let poll = |(): &mut ()| opcode::PollAdd::new(fd, libc::POLLIN as u32).build();
        // SAFETY: a poll names no memory.
        unsafe { self.pending.poll(cx, poll) }.map(|(result, ())| result.map(drop))
    }
}

/// A read that is under way.
pub(in crate::net) struct Reading<'a, T: IoBufMut> {
    pending: Pending<'a, T>,
}

impl<T: IoBufMut> Reading<'_, T> {
    /// Asks for its end; what has come is still had.
    pub fn cancel(&self) {
        self.pending.cancel();
    }
}

impl<T: IoBufMut> Future for Reading<'_, T> {
    type Output = BufResult<usize, T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let pending = &mut self.pending;
        let fd = types::Fd(pending.fd());
        let receive = |buf: &mut T| {
            poll_first(opcode::Recv::new(fd, buf.write_ptr(), piece(buf.bytes_total())).build())
        };
        // SAFETY: as in `Socket::write`.
        unsafe { pending.poll(cx, receive) }.map(|(result, mut buf)| {
            if let Ok(n) = result {
                // SAFETY: the kernel has written so many bytes.
                unsafe { buf.set_init(n) };
            }
            (result, buf)
        })
    }
}

/// The capacity of `bytes` behind what it holds.
fn spare(bytes: Vec<u8>) -> SliceMut<Vec<u8>> {
    let (start, end) = (bytes.len(), bytes.capacity());
    bytes.slice_mut(start..end)
}

/// A read that is under way, into a buffer that it has or that the ring has for it.
pub(in crate::net) struct Receiving<'a> {
    socket: &'a Socket,
    buffers: &'a Rc<Buffers>,
    is_cancelled: bool,
    step: Step<'a>,
}

enum Step<'a> {
    /// The kernel takes a buffer when there is something.
    Any(Option<usize>),
    /// Seldom: who only waits has no room for it.
    Into(Box<Reading<'a, SliceMut<Vec<u8>>>>),
}

impl Receiving<'_> {
    /// Asks for its end; what has come is still had.
    pub fn cancel(&mut self) {
        self.is_cancelled = true;
        match &self.step {
            Step::Any(Some(key)) => self.socket.executor.driver.borrow_mut().cancel(*key),
            Step::Any(None) => {}
            Step::Into(reading) => reading.cancel(),
        }
    }
}

impl Future for Receiving<'_> {
    type Output = BufResult<usize, Vec<u8>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let touched = [(&raw const *self).addr(), (&raw const *self.socket).addr()];
        let this = &mut *self;
        loop {
            let has_one = match &mut this.step {
                Step::Into(reading) => {
                    return Pin::new(&mut **reading)
                        .poll(cx)
                        .map(|(result, bytes)| (result, bytes.into_inner()));
                }
                Step::Any(Some(key)) => {
                    let polled = this.socket.executor.driver.borrow_mut().poll_received(*key, touched, cx);
                    let Poll::Ready((result, bytes)) = polled else { return Poll::Pending };
                    this.step = Step::Any(None);
                    if result != -libc::ENOBUFS {
                        let error = || io::Error::from_raw_os_error(-result);
                        return Poll::Ready((usize::try_from(result).map_err(|_| error()), bytes));
                    }
                    false
                }
                Step::Any(key) => {
                    let mut driver = this.socket.executor.driver.borrow_mut();
                    *key = driver.receive(&this.socket.fd, this.buffers, touched, cx);
                    key.is_some()
                }
            };
            match has_one {
                true => return Poll::Pending,
                false if this.is_cancelled => {
                    return Poll::Ready((Err(io::Error::from_raw_os_error(libc::ECANCELED)), Vec::new()));
                }
                false => this.step = Step::Into(Box::new(this.socket.read(spare(this.buffers.small())))),
            }
        }
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        if let Step::Any(Some(key)) = self.step {
            self.socket.executor.driver.borrow_mut().leave(key, || Box::new(()));
        }
    }
}
