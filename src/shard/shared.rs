//! One stream for several clients: a task of its own reads it, and each client follows at its own pace.
//!
//! The endpoint is read no faster than the fastest client takes it, and left when the last one has gone.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::Shard;
use super::access::Record;
use super::exchange::Exit;
use super::framing::{self, GAP};
use super::kept::Kept;
use super::limited::{Stopped, deadline_exceeded};
use super::relay;
use super::reply::Manner;
use super::serve::After;
use super::source::{Reading, Source};
use crate::api::{Failure, Task};
use crate::cache::{Follower, Step};
use crate::net::clock::{self, Timer};
use crate::net::{Client, Stop, Upstream, task};

/// How often a client that waits looks by itself: a wake from another shard may be lost.
pub const LOOK: Duration = Duration::from_secs(1);

/// Brings what is left of a stream to those who follow; `reading` is a read of it that has begun.
pub fn spawn(shard: &Rc<Shard>, source: Box<Source>, reading: Option<Reading>, kept: Box<Kept>) {
    task::spawn(&shard.tasks, pump(Rc::clone(shard), source, reading, kept));
}

/// How a pump ended.
enum Ended {
    Whole,
    Broken(Failure),
    /// Nobody was left to read for.
    Left,
}

async fn pump(shard: Rc<Shard>, mut source: Box<Source>, reading: Option<Reading>, kept: Box<Kept>) {
    let _pumping = Pumping::new(&shard);
    let payment = kept.payment();
    let ended = read_on(&shard, &mut source, reading, kept).await;
    if let Some(payment) = payment {
        payment.used(source.stream.usage());
    }
    if let Some(screen) = &source.screen {
        screen.count(&shard);
    }
    if let Ended::Broken(failure) = &ended {
        source.keep_alive = false;
        shard.broke_off(source.endpoint, failure);
    }
    source.close(&shard, matches!(ended, Ended::Whole));
}

async fn read_on(
    shard: &Rc<Shard>,
    source: &mut Source,
    mut reading: Option<Reading>,
    mut kept: Box<Kept>,
) -> Ended {
    let timer = shard.timers.add();
    loop {
        if source.is_over() {
            kept.done(source);
            return Ended::Whole;
        }
        if reading.is_none() && !wanted(shard, &timer, &kept).await {
            match kept.retire() {
                Some(still) => kept = still, // somebody has just come
                None => return Ended::Left,
            }
        }
        let mut pending = reading.take().unwrap_or_else(|| {
            let buffer = source.take_buffer(shard, || 0);
            source.read(buffer, shard)
        });
        let read = one_read(shard, &timer, source.limits.idle, &kept, &mut pending).await;
        let failure = match source.finish(read) {
            Ok(()) => None,
            Err(None) => match kept.retire() {
                Some(still) => {
                    (kept, reading) = (still, Some(pending));
                    continue;
                }
                None => return Ended::Left,
            },
            Err(Some(failure)) => Some(failure),
        };
        let out = source.events_buffer(shard, 0);
        let (out, failure) = source.events(out, failure);
        let (out, failure) = match source.screen {
            None => (out, failure),
            Some(_) => Box::pin(source.screened(shard, out, 0, failure)).await,
        };
        let goes_on = kept.push(&out);
        shard.buffers.give(out);
        if let Some(failure) = failure {
            kept.refused(&failure);
            return Ended::Broken(failure);
        }
        if !goes_on {
            return Ended::Left;
        }
    }
}

/// Waits for a read as long as anybody follows. Of the exchanges' deadlines each follower minds its own.
async fn one_read(
    shard: &Shard,
    timer: &Timer,
    idle: Duration,
    kept: &Kept,
    reading: &mut Reading,
) -> Result<(Upstream, io::Result<usize>, Vec<u8>), Stopped> {
    let limit_us = shard.clock.after(idle);
    loop {
        timer.set(limit_us.min(shard.clock.after(LOOK)));
        let read = poll_fn(|cx| match reading.as_mut().poll(cx) {
            Poll::Ready(read) => Poll::Ready(Some(Ok(read))),
            Poll::Pending if kept.poll_left(cx).is_ready() => Poll::Ready(Some(Err(Stopped::Gone))),
            Poll::Pending if timer.poll_fired(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        if let Some(read) = read.await {
            return read;
        }
        if shard.clock.now_us() >= limit_us {
            return Err(Stopped::Limit);
        }
    }
}

/// Counts a pump while it runs: a drain waits for it.
struct Pumping(Rc<Shard>);

impl Pumping {
    fn new(shard: &Rc<Shard>) -> Self {
        shard.pumps.set(shard.pumps.get() + 1);
        Self(Rc::clone(shard))
    }
}

impl Drop for Pumping {
    fn drop(&mut self) {
        self.0.pumps.set(self.0.pumps.get().saturating_sub(1));
    }
}

/// Waits until somebody can take more; `false`: nobody is left.
async fn wanted(shard: &Shard, timer: &Timer, kept: &Kept) -> bool {
    loop {
        timer.set(shard.clock.after(LOOK));
        let wanting = pin!(poll_fn(|cx| kept.poll_wanted(cx)));
        if let Some(wanted) = clock::before(timer, wanting).await {
            return wanted;
        }
    }
}

/// A stream that has begun, for one of several clients: its head has been written.
pub struct Following {
    /// Where it comes from.
    pub follower: Follower,
    /// What it answers.
    pub task: Task,
    /// Whether it is of JSON lines.
    pub ndjson: bool,
    /// When the exchange must be over.
    pub deadline_us: u64,
}

/// Brings it to the client.
///
/// # Errors
/// `None`: the client is gone.
pub async fn follow(
    shard: &Rc<Shard>,
    client: &mut Client,
    manner: &Manner,
    following: Following,
    record: &mut Record,
) -> Result<After, Exit> {
    let Following { mut follower, task, ndjson, deadline_us } = following;
    let mut last_us = shard.clock.now_us();
    loop {
        let step = match next(shard, client, &mut follower, deadline_us).await {
            Ok(step) => step,
            Err(None) => return Err(None),
            Err(Some(failure)) => Step::Failed(failure),
        };
        record.gap(shard, &mut last_us);
        let mut out = shard.buffers.large();
        out.resize(GAP, 0);
        match step {
            Step::More(events) => {
                if let Some(bodies) = record.bodies() {
                    bodies.events(task, ndjson, &events);
                }
                out.extend_from_slice(&events);
                drop(events); // while it waits for the client it holds one piece
                let start = framing::frame_in_place(manner, &mut out);
                let out = client.write_from(out, start).await.map_err(|_| None)?;
                shard.buffers.give(out);
            }
            Step::Done(usage, said) => {
                record.shared(usage, said);
                framing::end(manner, &mut out);
                let out = client.write_from(out, GAP).await.map_err(|_| None)?;
                shard.buffers.give(out);
                return Ok(relay::after(manner));
            }
            Step::Failed(failure) => {
                return relay::break_off(shard, client, manner, out, &failure, record).await;
            }
            // None of them comes after a begin.
            Step::Begin(_) | Step::Lead(_) | Step::Alone | Step::Whole(..) => shard.buffers.give(out),
        }
    }
}

/// The next step of a flight, unless the client leaves or its time is over.
async fn next(
    shard: &Shard,
    client: &Client,
    follower: &mut Follower,
    deadline_us: u64,
) -> Result<Step, Exit> {
    loop {
        client.timer().set(shard.clock.after(LOOK).min(deadline_us));
        match client.race(pin!(poll_fn(|cx| follower.poll_next(cx)))).await {
            Ok(step) => return Ok(step),
            Err(Stop::ClientGone) => return Err(None),
            Err(Stop::Deadline) if shard.clock.now_us() >= deadline_us => {
                return Err(Some(deadline_exceeded()));
            }
            Err(Stop::Deadline) => {}
        }
    }
}
