//! The bytes of an HTTP/2 connection: opened and sealed if it is encrypted, and walked by the frame guard.
//!
//! The crate above polls one read and one write side by side on clones of the same value, so nothing is borrowed
//! across an await and only the write sends. Bound: one read buffer, and what one write was given.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use monoio::BufResult;
use monoio::buf::{IoBuf, IoBufMut, IoVecBuf, IoVecBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;

use crate::net::buffer::Buffers;
use crate::net::clock::{Clock, Timer};
use crate::net::link::{Link, Tls};
use crate::net::socket;
use crate::net::tls::Stage;
use crate::wire::h2::{Abuse, Budget, Guard};

struct Wire {
    stream: UnsafeCell<TcpStream>,
    fd: RawFd,
    tls: Option<Tls>,
    /// Plaintext that has passed the guard and was not asked for yet.
    held: RefCell<Vec<u8>>,
    guard: RefCell<Guard>,
    abuse: Cell<Option<Abuse>>,
    clock: Clock,
    buffers: Rc<Buffers>,
    /// Set while a write is pending.
    stalled: Timer,
    write_limit_us: u64,
}

/// A guarded connection; clones are the same one.
#[derive(Clone)]
pub(super) struct Guarded(Rc<Wire>);

impl Guarded {
    pub(super) fn new(
        link: Link,
        stalled: Timer,
        clock: Clock,
        buffers: Rc<Buffers>,
        write_timeout: Duration,
    ) -> Self {
        let Link { stream, tls, early } = link;
        let fd = stream.as_raw_fd();
        let this = Self(Rc::new(Wire {
            stream: UnsafeCell::new(stream),
            fd,
            tls,
            held: RefCell::default(),
            guard: RefCell::new(Guard::new(Budget::default())),
            abuse: Cell::new(None),
            clock,
            buffers,
            stalled,
            write_limit_us: u64::try_from(write_timeout.as_micros()).unwrap_or(u64::MAX / 4),
        }));
        this.0.held.replace(early);
        let _ = this.judge(0); // remembered: the first read tells it
        this
    }

    /// Whether a write has made no progress for too long.
    pub(super) fn is_stalled(&self, cx: &Context<'_>) -> bool {
        self.0.stalled.poll_fired(cx)
    }

    pub(super) fn abuse(&self) -> Option<Abuse> {
        self.0.abuse.get()
    }

    /// Ends the connection; says why, as far as it can be said without waiting.
    pub(super) fn shut(&self, code: u32) {
        let wire = &*self.0;
        let mut last = Vec::new();
        if code != 0 {
            last.extend_from_slice(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]);
            last.extend_from_slice(&code.to_be_bytes());
        }
        match &wire.tls {
            Some(tls) => {
                let mut tls = tls.borrow_mut();
                let mut sealed = Vec::new();
                if !last.is_empty() {
                    let _ = tls.seal(&last, &mut sealed); // a session that has failed says nothing more
                }
                sealed.extend_from_slice(&tls.close_notify());
                socket::send_now(wire.fd, &sealed);
            }
            None => socket::send_now(wire.fd, &last),
        }
        socket::shutdown(wire.fd);
    }

    /// Shows `held[from..]` to the guard.
    fn judge(&self, from: usize) -> io::Result<()> {
        let wire = &*self.0;
        let held = wire.held.borrow();
        let fresh = held.get(from..).unwrap_or_default();
        let verdict = wire.guard.borrow_mut().incoming(fresh, wire.clock.now_us());
        verdict.map_err(|abuse| {
            wire.abuse.set(Some(abuse));
            io::Error::other("the client abuses the protocol")
        })
    }

    /// Reads until there is plaintext; `false`: the peer has ended.
    async fn refill(&self) -> io::Result<bool> {
        let wire = &*self.0;
        loop {
            let buffer = wire.buffers.large();
            let end = buffer.capacity();
            // SAFETY: one task; a read and a write may run side by side, nothing else uses the socket.
            let reading = unsafe { &mut *wire.stream.get() }.read(buffer.slice_mut(0..end));
            let (result, slice) = reading.await;
            let read = slice.into_inner();
            if result? == 0 {
                return Ok(false);
            }
            {
                let mut held = wire.held.borrow_mut();
                held.clear();
                match &wire.tls {
                    None => wire.buffers.give(std::mem::replace(&mut *held, read)),
                    Some(tls) => {
                        let mut tls = tls.borrow_mut();
                        let spare = tls.receive(read, &mut held);
                        let spare = spare.map_err(|error| io::Error::other(error.to_string()))?;
                        if let Some(spare) = spare {
                            wire.buffers.give(spare);
                        }
                        if held.is_empty() && tls.stage() == Stage::Ended {
                            return Ok(false);
                        }
                    }
                }
            }
            self.judge(0)?;
            if !wire.held.borrow().is_empty() {
                return Ok(true);
            }
        }
    }

    async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let wire = &*self.0;
        wire.guard.borrow_mut().outgoing(bytes, wire.clock.now_us());
        let mut ready = wire.buffers.large();
        match &wire.tls {
            None => ready.extend_from_slice(bytes),
            Some(tls) => tls
                .borrow_mut()
                .seal(bytes, &mut ready)
                .map_err(|error| io::Error::other(error.to_string()))?,
        }
        let mut sent = 0;
        while sent < ready.len() {
            wire.stalled.extend(wire.write_limit_us);
            let end = ready.len();
            // SAFETY: as in `refill`.
            let writing = unsafe { &mut *wire.stream.get() }.write(ready.slice(sent..end));
            let (result, slice) = writing.await;
            ready = slice.into_inner();
            match result? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => sent += n,
            }
        }
        wire.stalled.clear();
        wire.buffers.give(ready);
        Ok(())
    }
}

impl AsyncReadRent for Guarded {
    async fn read<T: IoBufMut>(&mut self, mut buf: T) -> BufResult<usize, T> {
        let this = self.clone();
        if this.0.abuse.get().is_some() {
            return (Err(io::Error::other("the client abuses the protocol")), buf);
        }
        if this.0.held.borrow().is_empty() {
            match this.refill().await {
                Ok(true) => {}
                Ok(false) => return (Ok(0), buf),
                Err(error) => return (Err(error), buf),
            }
        }
        let mut held = this.0.held.borrow_mut();
        let n = held.len().min(buf.bytes_total());
        // SAFETY: `n` bytes fit the buffer, which is not the one held.
        unsafe {
            std::ptr::copy_nonoverlapping(held.as_ptr(), buf.write_ptr(), n);
            buf.set_init(n);
        }
        held.drain(..n);
        if held.is_empty() {
            this.0.buffers.give(std::mem::take(&mut *held));
        }
        (Ok(n), buf)
    }

    async fn readv<T: IoVecBufMut>(&mut self, buf: T) -> BufResult<usize, T> {
        (Err(io::ErrorKind::Unsupported.into()), buf)
    }
}

impl AsyncWriteRent for Guarded {
    async fn write<T: IoBuf>(&mut self, buf: T) -> BufResult<usize, T> {
        let this = self.clone();
        // SAFETY: `buf` is owned here until the end and gives pointer and length of what is initialised.
        let bytes = unsafe { std::slice::from_raw_parts(buf.read_ptr(), buf.bytes_init()) };
        let result = this.send(bytes).await.map(|()| bytes.len());
        (result, buf)
    }

    async fn writev<T: IoVecBuf>(&mut self, buf: T) -> BufResult<usize, T> {
        (Err(io::ErrorKind::Unsupported.into()), buf)
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }
}
