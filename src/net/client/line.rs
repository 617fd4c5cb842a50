//! A client connection that carries one exchange at a time: one pump that reads, and a handle for the exchange.
//!
//! Both are polled by the same task, so they talk through plain cells. The pump is the only reader of the socket:
//! while an exchange runs it keeps one read pending, which notices a client that leaves without an extra system
//! call, and holds what a pipelining client sends early. On a connection that stays idle the pending read is
//! cancelled *and awaited* (rule 1 of [`crate::net`]) and the socket handed back, so that it can wait without all
//! this ([`readable`]); in a long stream a poll takes the read's place. Over TLS the pump opens what it has read, and
//! only the exchange's side writes.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use monoio::io::AsyncWriteRent;

use super::Stop;
use super::connection::Connection;
use crate::net::buffer::{self, Buffers};
use crate::net::calls;
use crate::net::clock::{self, Timer};
use crate::net::link::{Link, Tls};
use crate::net::socket::Socket;
use crate::net::tls::Stage;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pump {
    /// Nothing asked for.
    Rest,
    /// A read is asked for and not begun.
    Wanted,
    /// A read is with the kernel.
    Pending,
    /// The client has ended its side or failed.
    Ended,
}

pub(super) struct Inbox {
    state: Cell<Pump>,
    bytes: RefCell<Vec<u8>>,
    /// After data came, go on reading: an exchange is running.
    watching: Cell<bool>,
    /// The next read goes behind what `bytes` holds, and the bytes are away until it ends; else it has a buffer of
    /// its own, and what is held can be taken meanwhile.
    lent: Cell<bool>,
    /// Give the buffer back and wait without one.
    park: Cell<bool>,
    /// Let nothing be pending: the socket is to be taken away.
    stop: Cell<bool>,
    /// Grows by one with every change the exchange should see.
    pub(super) changes: Cell<u32>,
    /// A write is under way, or was given up in the middle: nothing else may be written.
    cut: Cell<bool>,
    fd: RawFd,
    buffers: Rc<Buffers>,
    pub(super) tls: Option<Tls>,
}

impl Inbox {
    fn set(&self, state: Pump) {
        self.state.set(state);
        self.changes.set(self.changes.get().wrapping_add(1));
    }

    /// The buffer for the next read; `None`: a small one, once there is something.
    fn take(&self) -> Option<Vec<u8>> {
        if self.tls.is_some() {
            return Some(self.buffers.large()); // a whole record fits
        }
        let lent = self.lent.get().then(|| std::mem::take(&mut *self.bytes.borrow_mut()));
        lent.filter(|lent| lent.capacity() > 0)
    }

    /// Puts what was read behind what is held.
    fn put(&self, read: Vec<u8>) {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.is_empty() && !read.is_empty() {
            self.buffers.give(std::mem::replace(&mut *bytes, read));
        } else {
            bytes.extend_from_slice(&read);
            self.buffers.give(read);
        }
    }

    /// Opens what was read and puts its plaintext behind what is held. `None`: the peer has ended or broke a rule.
    fn open(&self, tls: &Tls, read: Vec<u8>, may_write: bool) -> Option<usize> {
        let mut session = tls.borrow_mut();
        let mut bytes = self.bytes.borrow_mut();
        if bytes.capacity() == 0 {
            *bytes = self.buffers.small();
        }
        let before = bytes.len();
        let spare = session.receive(read, &mut bytes).ok()?;
        if let Some(spare) = spare {
            self.buffers.give(spare);
        }
        // What the peer waits for, e.g. that there is no renegotiation, does not wait for the next answer.
        if session.has_outgoing() && may_write && !calls::sent_now(self.fd, &session.take_outgoing()) {
            self.cut.set(true);
            return None;
        }
        let opened = bytes.len() - before;
        (opened > 0 || session.stage() != Stage::Ended).then_some(opened)
    }

    fn finish(&self, result: &io::Result<usize>, read: Vec<u8>, has_sent: bool) {
        let opened = match (&self.tls, result) {
            (Some(tls), Ok(1..)) => match self.open(tls, read, has_sent && !self.cut.get()) {
                Some(0) => return self.set(Pump::Wanted), // a part of a record, or nothing for us
                opened => opened,
            },
            (_, result) => {
                self.put(read);
                result.as_ref().ok().copied().filter(|&read| read > 0)
            }
        };
        self.lent.set(false);
        match opened {
            None => self.set(Pump::Ended),
            Some(_) if self.watching.get() && self.has_room() => self.set(Pump::Wanted),
            Some(_) => self.set(Pump::Rest),
        }
    }

    /// Whether more may be read ahead of the client's next request: bounds what a pipelining client makes us hold.
    fn has_room(&self) -> bool {
        self.bytes.borrow().len() < buffer::SMALL
    }
}

/// The exchange's hold on its client.
pub struct Line {
    inbox: Rc<Inbox>,
    stream: Shared,
    fd: RawFd,
    peer: SocketAddr,
    peer_text: Box<str>,
    timer: Timer,
    write_limit_us: Option<u64>,
}

/// A write that has waited for so long gives the read buffer back.
const STALLED_US: u64 = 1_000_000;

/// Plaintext sealed at once: its records fit a large buffer.
const SEALED_AT_ONCE: usize = buffer::LARGE - RECORD_ROOM;

/// What a record has beside its plaintext, and more.
const RECORD_ROOM: usize = 64;

/// The socket as both sides of the task use it: reads by the pump, writes by the exchange, never across an await.
pub(super) type Shared = Rc<UnsafeCell<Socket>>;

/// What becomes of a connection when its exchanges are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is closed.
    Close,
    /// Its socket is handed back; only after [`Line::rest`] said `true`.
    Rest,
}

impl From<()> for End {
    fn from((): ()) -> Self {
        Self::Close
    }
}

/// Runs `exchanges` with a [`Line`] over `link` until it returns; then the connection is closed.
pub fn run<F: Future<Output = ()>>(
    link: Link,
    peer: SocketAddr,
    timer: Timer,
    buffers: Rc<Buffers>,
    exchanges: impl FnOnce(Line) -> F,
) -> impl Future<Output = ()> {
    run_until_rest(link, peer, timer, buffers, exchanges, drop)
}

/// As [`run`], but `exchanges` may end with [`End::Rest`]: then `rested` gets the connection.
pub fn run_until_rest<F: Future<Output: Into<End>>>(
    link: Link,
    peer: SocketAddr,
    timer: Timer,
    buffers: Rc<Buffers>,
    exchanges: impl FnOnce(Line) -> F,
    rested: impl FnOnce(Link),
) -> impl Future<Output = ()> {
    let Link { stream, tls, early } = link;
    let fd = stream.as_raw_fd();
    let peer_text = peer.ip().to_string().into_boxed_str();
    let stream = Rc::new(UnsafeCell::new(stream));
    let inbox = Rc::new(Inbox {
        state: Cell::new(Pump::Rest),
        bytes: RefCell::new(early),
        watching: Cell::new(false),
        lent: Cell::new(false),
        park: Cell::new(false),
        stop: Cell::new(false),
        changes: Cell::new(0),
        cut: Cell::new(false),
        fd,
        buffers,
        tls,
    });
    let client = Line {
        inbox: Rc::clone(&inbox),
        stream: Rc::clone(&stream),
        fd,
        peer,
        peer_text,
        timer,
        write_limit_us: None,
    };
    let sides = (exchanges(client), pump(Rc::clone(&stream), Rc::clone(&inbox)));
    Connection::new(sides, inbox, (stream, rested), fd)
}

/// (An `async fn` would hold its arguments twice.)
fn pump(stream: Shared, inbox: Rc<Inbox>) -> impl Future<Output = std::convert::Infallible> {
    async move {
        loop {
            until(|| inbox.state.get() == Pump::Wanted).await;
            inbox.state.set(Pump::Pending);
            if inbox.park.get() {
                let readable = poll_readable(&stream, &inbox).await;
                if readable != Some(true) {
                    inbox.set(if readable.is_none() { Pump::Rest } else { Pump::Ended });
                    continue;
                }
            }
            inbox.park.set(false);
            let into = inbox.take();
            // SAFETY: one task; the reference lives in this future only, and a read and a write may run side by side.
            let socket = unsafe { &mut *stream.get() };
            let mut reading = socket.receive(into, &inbox.buffers);
            let mut is_given_up = false;
            let (result, read) = std::future::poll_fn(|cx| {
                let mut polled = Pin::new(&mut reading).poll(cx);
                if polled.is_pending() && inbox.park.get() && !is_given_up {
                    is_given_up = true;
                    reading.cancel();
                    polled = Pin::new(&mut reading).poll(cx);
                }
                polled
            })
            .await;
            // SAFETY: as in `poll_readable`.
            let has_sent = unsafe { &*stream.get() }.has_sent();
            if inbox.park.get()
                && matches!(&result, Err(error) if error.raw_os_error() == Some(libc::ECANCELED))
            {
                inbox.put(read);
                inbox.set(if inbox.stop.get() { Pump::Rest } else { Pump::Wanted });
            } else {
                inbox.finish(&result, read, has_sent);
            }
        }
    }
}

/// Waits without a buffer for something to read. `None`: it was told to stop; a poll takes no bytes, so dropping it
/// loses none.
async fn poll_readable(stream: &Shared, inbox: &Inbox) -> Option<bool> {
    // SAFETY: one task, and `readable` takes `&Socket`.
    let mut readable = pin!(unsafe { &*stream.get() }.readable());
    std::future::poll_fn(|cx| match readable.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result.is_ok())),
        Poll::Pending if inbox.stop.get() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Waits on a connection that nobody serves, for as little memory as there can be; `false`: the timer fired first.
pub async fn readable(link: &Link, timer: &Timer) -> bool {
    clock::before(timer, pin!(link.stream.readable())).await.is_some()
}

/// Waits for a condition that the same task changes; it is polled again whenever the other side has moved.
async fn until(mut ready: impl FnMut() -> bool) {
    std::future::poll_fn(|_| if ready() { Poll::Ready(()) } else { Poll::Pending }).await;
}

impl Line {
    /// The address of the other end.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Its IP address as text.
    #[must_use]
    pub fn peer_text(&self) -> &str {
        &self.peer_text
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.inbox.tls.is_some()
    }

    /// From now on, a write that makes no progress for `limit` is given up; the timer is set by every write.
    pub fn limit_writes(&mut self, limit: Duration) {
        self.write_limit_us = u64::try_from(limit.as_micros()).ok();
    }

    /// The connection's one deadline.
    #[must_use]
    pub fn timer(&self) -> &Timer {
        &self.timer
    }

    /// Appends at least one byte to `into`; `Ok(0)`: the client has ended its side.
    ///
    /// # Errors
    /// [`Stop::Deadline`]; `into` is lost then and the connection must be closed.
    pub async fn fill(&mut self, into: &mut Vec<u8>) -> Result<usize, Stop> {
        self.inbox.watching.set(false);
        if self.inbox.state.get() == Pump::Rest && self.inbox.bytes.borrow().is_empty() {
            let mut target = std::mem::take(into);
            if target.capacity() > 0 && target.len() == target.capacity() {
                target.reserve(buffer::SMALL);
            }
            let before = target.len();
            self.inbox.buffers.give(std::mem::replace(&mut *self.inbox.bytes.borrow_mut(), target));
            self.inbox.lent.set(true);
            self.inbox.set(Pump::Wanted);
            self.arrived(before).await?;
            *into = std::mem::take(&mut *self.inbox.bytes.borrow_mut());
            return Ok(into.len() - before);
        }
        self.arrived(0).await?;
        let mut bytes = self.inbox.bytes.borrow_mut();
        let n = bytes.len();
        if into.is_empty() {
            std::mem::swap(into, &mut bytes);
        } else {
            into.extend_from_slice(&bytes);
            bytes.clear();
        }
        Ok(n)
    }

    /// Takes the bytes that have come, if they are what is wanted.
    pub fn take_if(&mut self, is_wanted: impl FnOnce(&[u8]) -> bool) -> Option<Vec<u8>> {
        let mut bytes = self.inbox.bytes.borrow_mut();
        let takes = !self.inbox.lent.get() && is_wanted(&bytes);
        takes.then(|| {
            self.inbox.watching.set(false);
            std::mem::take(&mut *bytes)
        })
    }

    /// Waits, without a buffer if `park` says so, until there are bytes of the next request or the client is gone.
    ///
    /// # Errors
    /// [`Stop::Deadline`].
    pub async fn idle(&mut self) -> Result<bool, Stop> {
        self.inbox.watching.set(false);
        if self.inbox.state.get() == Pump::Rest && self.inbox.bytes.borrow().is_empty() {
            self.inbox.set(Pump::Wanted);
        }
        self.arrived(0).await?;
        Ok(!self.inbox.bytes.borrow().is_empty())
    }

    /// Gives back the buffer of a pending read: the connection has been idle for a while.
    pub fn park(&self) {
        if matches!(self.inbox.state.get(), Pump::Pending | Pump::Wanted) {
            self.inbox.park.set(true);
            self.inbox.changes.set(self.inbox.changes.get().wrapping_add(1));
        }
    }

    /// Gives up a pending read. `true`: nothing has come, and nothing is pending any more.
    pub async fn rest(&mut self) -> bool {
        self.inbox.stop.set(true);
        self.park();
        until(|| !matches!(self.inbox.state.get(), Pump::Pending | Pump::Wanted)).await;
        self.inbox.stop.set(false);
        self.inbox.state.get() == Pump::Rest && self.inbox.bytes.borrow().is_empty()
    }

    /// Puts back bytes that belong to the next request.
    pub fn unread(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut held = self.inbox.bytes.borrow_mut();
        if held.capacity() == 0 {
            *held = self.inbox.buffers.small();
        }
        held.splice(0..0, bytes.iter().copied());
    }

    /// Keeps a read pending from now on, so that [`Line::race`] notices a client that leaves.
    pub fn watch(&mut self) {
        self.inbox.watching.set(true);
        if self.inbox.state.get() == Pump::Rest && self.inbox.has_room() {
            self.inbox.set(Pump::Wanted);
        }
    }

    /// Whether the client has ended its side.
    #[must_use]
    pub fn gone(&self) -> bool {
        self.inbox.state.get() == Pump::Ended
    }

    /// Bytes that the kernel has taken and the client has not.
    #[must_use]
    pub fn unsent(&self) -> usize {
        calls::unsent(self.fd)
    }

    /// Whether nothing that was written is still to be sent.
    #[must_use]
    pub fn has_sent(&self) -> bool {
        // SAFETY: one task, and nothing is awaited.
        unsafe { &*self.stream.get() }.has_sent()
    }

    /// Waits until all that was written has been sent, as long as a write may take.
    ///
    /// # Errors
    /// As [`Line::write`].
    pub async fn sent(&mut self) -> Result<(), Stop> {
        if self.inbox.cut.get() { Err(Stop::Deadline) } else { self.posted().await } // what is cut has been waited for
    }

    /// Waits for what was posted.
    async fn posted(&self) -> Result<(), Stop> {
        // SAFETY: one task; a read may run beside it.
        let sent = pin!(unsafe { &*self.stream.get() }.sent());
        if self.has_sent() { Ok(()) } else { self.in_time(sent).await }
    }

    /// Writes the whole of `bytes` and gives the buffer back.
    ///
    /// # Errors
    /// The client is gone, or the timer fired with the kernel's buffer still full.
    pub async fn write(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, Stop> {
        self.write_from(bytes, 0).await
    }

    /// Writes `bytes[start..]` and gives the buffer back.
    ///
    /// # Errors
    /// As [`Line::write`].
    pub async fn write_from(&mut self, bytes: Vec<u8>, start: usize) -> Result<Vec<u8>, Stop> {
        let Some(tls) = self.inbox.tls.clone() else { return pin!(self.send(bytes, start)).await };
        for plain in bytes.get(start..).unwrap_or_default().chunks(SEALED_AT_ONCE) {
            let mut sealed = self.inbox.buffers.large();
            tls.borrow_mut().seal(plain, &mut sealed).map_err(|_| Stop::ClientGone)?;
            let sealed = self.send(sealed, 0).await?;
            self.inbox.buffers.give(sealed);
        }
        Ok(bytes)
    }

    /// Sends `bytes[start..]` while the caller goes on, if they are up to [`SEALED_AT_ONCE`]. All later writes come behind it, and
    /// before the connection is closed [`Line::sent`] is to be awaited. Who is gone shows by [`Line::gone`].
    ///
    /// # Errors
    /// They have to be written, by [`Line::write_from`]: what was posted before is still under way.
    pub fn post(&mut self, bytes: Vec<u8>, start: usize) -> Result<(), Vec<u8>> {
        let plain = bytes.get(start..).unwrap_or_default();
        // SAFETY: one task, and nothing is awaited.
        let stream = unsafe { &*self.stream.get() };
        if plain.len() > SEALED_AT_ONCE || !stream.posts() || !stream.has_sent() {
            return Err(bytes);
        }
        let Some(tls) = &self.inbox.tls else { return stream.post(bytes, start, &self.inbox.buffers) };
        let mut sealed = self.inbox.buffers.sized(plain.len() + RECORD_ROOM);
        if tls.borrow_mut().seal(plain, &mut sealed).is_err() {
            return Err(bytes);
        }
        self.inbox.buffers.give(bytes);
        stream.post(sealed, 0, &self.inbox.buffers)
    }

    /// Writes to the socket.
    async fn send(&mut self, mut bytes: Vec<u8>, start: usize) -> Result<Vec<u8>, Stop> {
        self.inbox.cut.set(true);
        self.posted().await?;
        let mut sent = start;
        while sent < bytes.len() {
            let end = bytes.len();
            let slice = monoio::buf::IoBuf::slice(bytes, sent..end);
            // SAFETY: as in the pump; a write and a read may run side by side.
            let writing = pin!(unsafe { &mut *self.stream.get() }.write(slice));
            let (result, slice) = self.in_time(writing).await?;
            bytes = slice.into_inner();
            match result {
                Ok(n) if n > 0 => sent += n,
                _ => return Err(Stop::ClientGone),
            }
        }
        self.inbox.cut.set(false);
        Ok(bytes)
    }

    /// Runs a piece of writing, within the limit of writes if there is one.
    async fn in_time<F: Future>(&self, mut writing: Pin<&mut F>) -> Result<F::Output, Stop> {
        let mut rest_us = 0;
        if let Some(limit_us) = self.write_limit_us {
            rest_us = limit_us.saturating_sub(STALLED_US);
            self.timer.extend(limit_us.min(STALLED_US));
        }
        std::future::poll_fn(|cx| match writing.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending if !self.timer.poll_fired(cx) => Poll::Pending,
            Poll::Pending if rest_us > 0 => {
                self.timer.extend(std::mem::take(&mut rest_us));
                self.park();
                Poll::Pending
            }
            Poll::Pending => Poll::Ready(Err(Stop::Deadline)),
        })
        .await
    }

    /// Says over TLS that nothing more comes, if it can be said without waiting.
    pub fn say_goodbye(&mut self) {
        if let Some(tls) = self.inbox.tls.as_ref().filter(|_| !self.inbox.cut.get() && self.has_sent()) {
            calls::send_now(self.fd, &tls.borrow_mut().close_notify());
        }
    }

    /// Ends our side, then reads and drops what still comes, so that the last answer is not lost to a reset.
    /// Stops at `bytes_max`, at the client's end, or when the timer fires.
    pub async fn linger(&mut self, bytes_max: usize) {
        self.say_goodbye();
        calls::shutdown_write(self.fd);
        let mut dropped = 0;
        let mut scratch = self.inbox.buffers.small();
        while dropped < bytes_max {
            scratch.clear();
            match self.fill(&mut scratch).await {
                Ok(n) if n > 0 => dropped += n,
                _ => return,
            }
        }
    }

    async fn arrived(&self, beyond: usize) -> Result<(), Stop> {
        std::future::poll_fn(|cx| {
            let moved = match self.inbox.state.get() {
                Pump::Ended => true,
                Pump::Rest => self.inbox.bytes.borrow().len() > beyond,
                Pump::Pending | Pump::Wanted => {
                    !self.inbox.lent.get() && !self.inbox.bytes.borrow().is_empty()
                }
            };
            match moved {
                true => Poll::Ready(Ok(())),
                false if self.timer.poll_fired(cx) => Poll::Ready(Err(Stop::Deadline)),
                false => Poll::Pending,
            }
        })
        .await
    }
}
