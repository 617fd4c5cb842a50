//! One stream for several clients: a task of its own reads it, and each client follows at its own pace.
//!
//! The endpoint is read no faster than the fastest client takes it, and left when the last one has gone.

use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::Shard;
use super::access::Record;
use super::exchange::Exit;
use super::kept::Kept;
use super::limited::{Stopped, deadline_exceeded};
use super::relay::{self, GAP, Limits};
use super::reply::Manner;
use super::serve::After;
use super::source::Source;
use crate::api::Task;
use crate::cache::{Follower, Step};
use crate::net::clock::{self, Timer};
use crate::net::{Client, Stop, task};

/// How often a client that waits looks by itself: a wake from another shard may be lost.
pub const LOOK: Duration = Duration::from_secs(1);

/// Brings what is left of a stream to those who follow.
pub fn spawn(shard: &Rc<Shard>, source: Box<Source>, kept: Box<Kept>) {
    task::spawn(&shard.tasks, pump(Rc::clone(shard), source, kept));
}

async fn pump(shard: Rc<Shard>, mut source: Box<Source>, mut kept: Box<Kept>) {
    let timer = shard.timers.add();
    let failure = loop {
        if source.is_over() {
            kept.done(&source);
            break None;
        }
        if !wanted(&shard, &timer, &kept).await {
            break Some(None);
        }
        let buffer = source.take_buffer(&shard, 0);
        let Limits { idle, deadline_us } = source.limits;
        let limit_us = shard.clock.after(idle);
        timer.set(limit_us.min(deadline_us));
        let read = {
            let mut reading = pin!(source.upstream.read(buffer));
            std::future::poll_fn(|cx| match reading.as_mut().poll(cx) {
                Poll::Ready(read) => Poll::Ready(Ok(read)),
                Poll::Pending if kept.poll_left(cx).is_ready() => Poll::Ready(Err(Stopped::Gone)),
                Poll::Pending if !timer.poll_fired(cx) => Poll::Pending,
                Poll::Pending if deadline_us <= limit_us => Poll::Ready(Err(Stopped::Total)),
                Poll::Pending => Poll::Ready(Err(Stopped::Limit)),
            })
            .await
        };
        let failure = match source.took(read) {
            Ok(()) => None,
            Err(None) => break Some(None),
            Err(Some(failure)) => Some(failure),
        };
        let out = source.events_buffer(&shard, 0);
        let (out, failure) = source.events(&shard, out, failure).await;
        let goes_on = kept.push(&out);
        shard.buffers.give(out);
        if let Some(failure) = failure {
            kept.refused(&failure);
            break Some(Some(failure));
        }
        if !goes_on {
            break Some(None);
        }
    };
    if let Some(screen) = &source.screen {
        screen.count(&shard);
    }
    if let Some(Some(failure)) = &failure {
        source.keep_alive = false;
        shard.broke_off(source.endpoint, failure);
    }
    source.close(&shard, failure.is_none());
}

/// Waits until somebody can take more; `false`: nobody is left.
async fn wanted(shard: &Shard, timer: &Timer, kept: &Kept) -> bool {
    loop {
        timer.set(shard.clock.after(LOOK));
        let wanting = pin!(std::future::poll_fn(|cx| kept.poll_wanted(cx)));
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
                let start = relay::frame_in_place(manner, &mut out);
                let out = client.write_from(out, start).await.map_err(|_| None)?;
                shard.buffers.give(out);
            }
            Step::Done(usage, said) => {
                record.shared(usage, said);
                relay::end(manner, &mut out);
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
        match client.race(pin!(std::future::poll_fn(|cx| follower.poll_next(cx)))).await {
            Ok(step) => return Ok(step),
            Err(Stop::ClientGone) => return Err(None),
            Err(Stop::Deadline) if shard.clock.now_us() >= deadline_us => {
                return Err(Some(deadline_exceeded()));
            }
            Err(Stop::Deadline) => {}
        }
    }
}
