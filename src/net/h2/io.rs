//! The bytes of an HTTP/2 connection: opened and sealed, and walked by the frame guard. There is none without TLS.
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
use monoio_http::h2::Reason;

use crate::net::buffer::Buffers;
use crate::net::calls;
use crate::net::clock::{Clock, Timer};
use crate::net::h2::pace::Pace;
use crate::net::link::{Link, Tls};
use crate::net::socket::Socket;
use crate::net::tls::Stage;
use crate::wire::h2::frames::RST_STREAM;
use crate::wire::h2::{Abuse, Budget, Guard};

struct Wire {
    stream: UnsafeCell<Socket>,
    fd: RawFd,
    tls: Tls,
    /// Plaintext that has passed the guard and was not asked for yet.
    held: RefCell<Vec<u8>>,
    guard: RefCell<Guard>,
    abuse: Cell<Option<Abuse>>,
    clock: Clock,
    buffers: Rc<Buffers>,
    /// Set while a write is pending.
    stalled: Timer,
    write_limit_us: u64,
    /// Set while the client is inside of a frame or a header block.
    midway: Timer,
    read_limit_us: u64,
    pace: Rc<Pace>,
    /// Frames for the next write; the last one may want its payload yet.
    begun: RefCell<Vec<u8>>,
}

/// What bounds a connection's reads and writes.
pub(super) struct Bounds {
    /// Its timers: for writes, and for frames of the client.
    pub timers: [Timer; 2],
    /// How long a write may make no progress.
    pub write: Duration,
    /// How long a client may leave a frame unfinished without a byte.
    pub read: Duration,
    /// Who is told that a write is pending.
    pub pace: Rc<Pace>,
}

/// A guarded connection; clones are the same one.
#[derive(Clone)]
pub(super) struct Guarded(Rc<Wire>);

impl Guarded {
    /// `None`: the link is not encrypted.
    pub(super) fn new(link: Link, clock: Clock, buffers: Rc<Buffers>, bounds: Bounds) -> Option<Self> {
        let Link { stream, tls: Some(tls), early } = link else { return None };
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 4);
        let [stalled, midway] = bounds.timers;
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
            write_limit_us: micros(bounds.write),
            midway,
            read_limit_us: micros(bounds.read),
            pace: bounds.pace,
            begun: RefCell::default(),
        }));
        this.0.held.replace(early);
        let _ = this.judge(); // remembered: the first read tells it
        Some(this)
    }

    /// Whether a write has made no progress for too long, or a frame of the client.
    pub(super) fn is_stalled(&self, cx: &Context<'_>) -> bool {
        self.0.stalled.poll_fired(cx) || self.0.midway.poll_fired(cx)
    }

    pub(super) fn abuse(&self) -> Option<Abuse> {
        self.0.abuse.get()
    }

    /// Ends the connection; says why, as far as it can be said without waiting: not behind half a record, nor inside of
    /// a frame.
    pub(super) fn shut(&self, code: u32) {
        let wire = &*self.0;
        if !wire.pace.is_writing() {
            let mut last = Vec::new();
            match wire.guard.borrow().goaway() {
                Some(frame) => last.extend_from_slice(&frame),
                None if code != 0 && wire.begun.borrow().is_empty() => {
                    last.extend_from_slice(&[0, 0, 8, 7, 0, 0, 0, 0, 0]);
                    last.extend_from_slice(&wire.guard.borrow().last_stream().to_be_bytes());
                    last.extend_from_slice(&code.to_be_bytes());
                }
                None => {}
            }
            let mut tls = wire.tls.borrow_mut();
            let mut sealed = Vec::new();
            if !last.is_empty() {
                let _ = tls.seal(&last, &mut sealed); // a session that has failed says nothing more
            }
            sealed.extend_from_slice(&tls.close_notify());
            calls::send_now(wire.fd, &sealed);
        }
        calls::shutdown(wire.fd);
    }

    /// Shows what was read to the guard.
    fn judge(&self) -> io::Result<()> {
        let wire = &*self.0;
        let mut guard = wire.guard.borrow_mut();
        let verdict = guard.incoming(&wire.held.borrow(), wire.clock.now_us());
        if guard.midway() {
            wire.midway.extend(wire.read_limit_us);
        } else {
            wire.midway.clear();
        }
        verdict.map_err(|abuse| self.abused(abuse))
    }

    fn abused(&self, abuse: Abuse) -> io::Error {
        self.0.abuse.set(Some(abuse));
        io::Error::other("the client abuses the protocol")
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
                let (mut tls, mut held) = (wire.tls.borrow_mut(), wire.held.borrow_mut());
                held.clear();
                let spare = tls.receive(read, &mut held);
                let spare = spare.map_err(|error| io::Error::other(error.to_string()))?;
                if let Some(spare) = spare {
                    wire.buffers.give(spare);
                }
                if held.is_empty() && tls.stage() == Stage::Ended {
                    return Ok(false);
                }
            }
            self.judge()?;
            if !wire.held.borrow().is_empty() {
                return Ok(true);
            }
        }
    }

    async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let wire = &*self.0;
        let Some(mut ready) = self.sealed(bytes)? else { return Ok(()) };
        let mut sent = 0;
        wire.pace.begin();
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
        wire.pace.end();
        wire.buffers.give(ready);
        Ok(())
    }

    /// Makes records of `bytes` and what was held for them. `None`: a frame's head, whose payload comes next. The crate
    /// writes one after the other; this makes one record and one call of both.
    fn sealed(&self, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let wire = &*self.0;
        let mut guard = wire.guard.borrow_mut();
        guard.outgoing(bytes, wire.clock.now_us());
        if let Some(abuse) = guard.broken() {
            return Err(self.abused(abuse));
        }
        let mut plain = wire.begun.borrow_mut();
        if plain.capacity() == 0 {
            *plain = wire.buffers.large();
        }
        plain.extend_from_slice(bytes);
        if guard.is_inside_answer() {
            return Ok(None);
        }
        note_resets(&mut plain, &wire.pace);
        let mut ready = wire.buffers.large();
        let sealed = wire.tls.borrow_mut().seal(&plain, &mut ready);
        wire.buffers.give(std::mem::take(&mut plain));
        sealed.map(|()| Some(ready)).map_err(|error| io::Error::other(error.to_string()))
    }
}

/// Looks for our resets in whole frames. The crate does not wake who works for a stream that it resets itself, so this
/// does (CVE-2025-8671: the endpoint would work on). And CANCEL becomes INTERNAL_ERROR: by the former the crate resets
/// what was dropped unfinished, behind its last data, and clients like Node's see a clean end then.
fn note_resets(frames: &mut [u8], pace: &Pace) {
    let mut rest = frames;
    while let Some((&mut [a, b, c, kind, _, stream @ ..], after)) = rest.split_first_chunk_mut::<9>() {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some((payload, next)) = after.split_at_mut_checked(length) else { return };
        if kind == RST_STREAM {
            pace.note_reset(u32::from_be_bytes(stream));
            if payload == u32::from(Reason::CANCEL).to_be_bytes() {
                payload.copy_from_slice(&u32::from(Reason::INTERNAL_ERROR).to_be_bytes());
            }
        }
        rest = next;
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
