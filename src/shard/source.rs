//! A streamed answer on its way from its endpoint: reading it, and what may leave of it.
//!
//! Who reads it for one client is [`super::relay`]; for several at once, [`super::shared`].

use std::io;
use std::pin::Pin;
use std::rc::Rc;

use super::Shard;
use super::answered::Limits;
use super::limited::{Phase, Stopped, deadline_exceeded, timed_out};
use super::relay::{broken_body, fed};
use super::screen::Screen;
use crate::api::{Failure, Stream};
use crate::net::{Upstream, buffer};
use crate::queue::Place;
use crate::wire::http1::body::Reader;

/// Full reads in a row after which larger ones are worth it: twice [`BEHIND`] and more, so that a client that never reads is found out
/// before, whatever its kernel takes.
const FULL_MIN: u32 = (2 * BEHIND / buffer::SMALL) as u32 + 1;

/// Bytes that the kernel still has for a client that is behind.
const BEHIND: usize = 64 * 1024;

/// Where a stream comes from.
pub struct Source {
    /// The connection to the endpoint; `None`: a [`Reading`] has it, or had it and was given up.
    pub upstream: Option<Upstream>,
    /// For reading it.
    pub buffer: Vec<u8>,
    /// Framing of the endpoint.
    pub reader: Reader,
    /// State of the events.
    pub stream: Stream,
    /// What reads them, if anything does.
    pub screen: Option<Box<Screen>>,
    /// Whether the connection may be used again after its end.
    pub keep_alive: bool,
    /// How long it may take.
    pub limits: Limits,
    /// The endpoint's index.
    pub endpoint: usize,
    /// The endpoint's slot.
    pub in_flight: Option<Place>,
    /// So many reads in a row filled their buffer: more is there.
    pub full: u32,
}

/// A read that has begun, with the connection that it reads from: it can change hands, and when it is dropped the
/// connection is closed with it.
pub type Reading = Pin<Box<dyn Future<Output = (Upstream, io::Result<usize>, Vec<u8>)>>>;

impl Source {
    /// Begins to read. The connection comes back by [`Source::took`].
    #[must_use]
    pub fn read(&mut self, buffer: Option<Vec<u8>>, shard: &Shard) -> Reading {
        let (upstream, buffers) = (self.upstream.take(), Rc::clone(&shard.buffers));
        Box::pin(async move {
            let Some(mut upstream) = upstream else { return std::future::pending().await };
            let (result, buffer) = upstream.receive(buffer, &buffers).await;
            (upstream, result, buffer)
        })
    }

    /// Takes what a [`Reading`] has come to.
    ///
    /// # Errors
    /// As those of [`Source::took`].
    pub fn finish(
        &mut self,
        read: Result<(Upstream, io::Result<usize>, Vec<u8>), Stopped>,
    ) -> Result<(), Option<Failure>> {
        let read = read.map(|(upstream, result, buffer)| {
            self.upstream = Some(upstream);
            (result, buffer)
        });
        self.took(read)
    }

    /// Whether all of it has been read.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.reader.done()
    }

    /// The buffer for the next read, for a client that has still to get `unsent` bytes; `None`: a small one will do, when something
    /// has come. One that is behind gets small pieces, the last of which is what is held when it stops reading.
    pub fn take_buffer(&mut self, shard: &Shard, unsent: impl FnOnce() -> usize) -> Option<Vec<u8>> {
        shard.buffers.give(std::mem::take(&mut self.buffer));
        (self.full >= FULL_MIN && unsent() < BEHIND).then(|| shard.buffers.large())
    }

    /// Takes what a read has given. The end of the connection is told to the reader.
    ///
    /// # Errors
    /// The answer is broken, or has taken too long; `None`: who read it is gone.
    pub fn took(
        &mut self,
        read: Result<(io::Result<usize>, Vec<u8>), Stopped>,
    ) -> Result<(), Option<Failure>> {
        let (result, buffer) = read.map_err(|stopped| match stopped {
            Stopped::Gone => None,
            Stopped::Limit => Some(timed_out(Phase::Idle, self.limits.idle)),
            Stopped::Total => Some(deadline_exceeded()),
        })?;
        self.full = if buffer.len() == buffer.capacity() { self.full.saturating_add(1) } else { 0 };
        self.buffer = buffer;
        match result {
            Ok(n) if n > 0 => Ok(()),
            Ok(_) => self.reader.peer_ended().map_err(|broken| Some(broken_body(broken))),
            Err(_) => self.reader.peer_failed().map_err(|broken| Some(broken_body(broken))),
        }
    }

    /// A buffer for the events of what was read, which begins with `gap` bytes of zero.
    #[must_use]
    pub fn events_buffer(&self, shard: &Shard, gap: usize) -> Vec<u8> {
        let wide = self.buffer.capacity() > buffer::SMALL;
        let mut out = if wide { shard.buffers.large() } else { shard.buffers.small() };
        out.resize(gap, 0);
        out
    }

    /// Appends to `out` the events that have come; what they cannot be read for comes back, or the `failure` that there is already.
    /// If a guard reads them they go through [`Source::screened`] then.
    pub fn events(&mut self, mut out: Vec<u8>, failure: Option<Failure>) -> (Vec<u8>, Option<Failure>) {
        let failure = failure.or_else(|| self.pass(&mut out).err());
        (out, failure)
    }

    /// Brings what was read through the stream's state into `out`.
    fn pass(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Self { reader, stream, buffer, keep_alive, .. } = self;
        let used = reader.feed(buffer, |data| stream.push(data, out)).map_err(fed)?;
        *keep_alive &= used == buffer.len();
        if reader.done() {
            stream.finish(out)?;
        }
        Ok(())
    }

    /// Those of `events[gap..]` and of the ones held back that the guard lets go now, behind as wide a gap; all of them if the answer
    /// is over, or broken by `failure`. What breaks it in the end comes back.
    pub async fn screened(
        &mut self,
        shard: &Shard,
        events: Vec<u8>,
        gap: usize,
        failure: Option<Failure>,
    ) -> (Vec<u8>, Option<Failure>) {
        let over = self.is_over();
        let Some(screen) = &mut self.screen else { return (events, failure) };
        let mut out = shard.buffers.large();
        out.resize(gap, 0);
        let mut result = screen.pass(shard, events.get(gap..).unwrap_or_default(), &mut out).await;
        if result.is_ok() && (over || failure.is_some()) {
            result = screen.finish(&mut out);
        }
        shard.buffers.give(events);
        (out, result.err().or(failure))
    }

    /// The stream is over, or left: gives back what it holds. `clean`: nothing has broken it.
    pub fn close(self, shard: &Shard, clean: bool) {
        let Self { upstream, buffer, reader, keep_alive, endpoint, in_flight, .. } = self;
        shard.buffers.give(buffer);
        let whole = clean && reader.done();
        if whole {
            shard.ended_well(endpoint);
        }
        if let Some(upstream) = upstream.filter(|_| whole && keep_alive) {
            shard.keep(endpoint, upstream);
        }
        drop(in_flight);
    }
}
