//! Waiting for an endpoint, within limits: an operation's own, the exchange's deadline, and the client's patience, which
//! signs of life may prolong.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Duration;

use super::exchange::Exit;
use super::framing;
use super::head::micros;
use super::reply::Manner;
use super::{Core, Shard};
use crate::api::{Failure, FailureKind};
use crate::config::Timeouts;
use crate::net::{Client, Stop};

/// What an attempt was doing when its time ran out.
#[derive(Clone, Copy)]
pub enum Phase {
    /// Waiting for the connection.
    Connect,
    /// Writing the request.
    Send,
    /// Waiting for content.
    FirstByte,
    /// Waiting for more of an answer.
    Idle,
}

/// Why an operation on the upstream side ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// The client left.
    Gone,
    /// Its own limit.
    Limit,
    /// The exchange's deadline.
    Total,
}

impl Core {
    /// Runs `op` until the client leaves, `limit` has passed, or the exchange is over.
    ///
    /// # Errors
    /// Which of them came first.
    pub fn limited<'a, F: Future>(
        &self,
        client: &'a Client,
        limit: Duration,
        deadline_us: u64,
        op: Pin<&'a mut F>,
    ) -> impl Future<Output = Result<F::Output, Stopped>> + use<'a, F> {
        let limit_us = self.clock.after(limit);
        client.timer().set(limit_us.min(deadline_us));
        let at_limit = if deadline_us <= limit_us { Stopped::Total } else { Stopped::Limit };
        let mut racing = client.race(op);
        poll_fn(move |cx| {
            Pin::new(&mut racing).poll(cx).map_err(|stop| match stop {
                Stop::ClientGone => Stopped::Gone,
                Stop::Deadline => at_limit,
            })
        })
    }
}

/// A client that waits for content.
pub struct Patience<'a> {
    /// Where it waits.
    pub shard: &'a Shard,
    /// Who waits.
    pub client: &'a mut Client,
    /// How it is answered.
    pub manner: &'a mut Manner,
    /// When the exchange must be over.
    pub deadline_us: u64,
    /// When the next sign of life is due; `u64::MAX`: never.
    next_us: u64,
}

impl<'a> Patience<'a> {
    /// With signs of life from the first heartbeat on, if they are configured and `comments` says that the client reads
    /// events.
    #[must_use]
    pub fn new(
        shard: &'a Shard,
        client: &'a mut Client,
        manner: &'a mut Manner,
        deadline_us: u64,
        comments: bool,
    ) -> Self {
        let heartbeat = shard.world.config.queue.heartbeat.filter(|_| comments);
        let next_us = heartbeat.map_or(u64::MAX, |every| shard.clock.after(every));
        Self { shard, client, manner, deadline_us, next_us }
    }

    /// Runs `op` until the client leaves, `limit` has passed, or the exchange is over.
    ///
    /// # Errors
    /// Which of them came first.
    pub async fn limited<F: Future>(
        &mut self,
        limit: Duration,
        mut op: Pin<&mut F>,
    ) -> Result<F::Output, Stopped> {
        if self.next_us == u64::MAX {
            return pin!(self.shard.limited(self.client, limit, self.deadline_us, op)).await;
        }
        let limit_us = self.shard.clock.after(limit);
        loop {
            let end_us = limit_us.min(self.deadline_us);
            self.client.timer().set(end_us.min(self.next_us));
            match self.client.race(op.as_mut()).await {
                Ok(output) => return Ok(output),
                Err(Stop::ClientGone) => return Err(Stopped::Gone),
                Err(Stop::Deadline) if self.next_us < end_us => Box::pin(self.beat()).await?,
                Err(Stop::Deadline) if self.deadline_us <= limit_us => return Err(Stopped::Total),
                Err(Stop::Deadline) => return Err(Stopped::Limit),
            }
        }
    }

    /// Runs `op` within the limit of its phase.
    ///
    /// # Errors
    /// What the client is told; `None`: it has left.
    pub async fn phase<F: Future>(
        &mut self,
        timeouts: &Timeouts,
        phase: Phase,
        op: Pin<&mut F>,
    ) -> Result<F::Output, Exit> {
        let limit = match phase {
            Phase::Connect => timeouts.connect,
            Phase::Send | Phase::FirstByte => timeouts.first_byte,
            Phase::Idle => timeouts.idle,
        };
        pin!(self.limited(limit, op)).await.map_err(|stopped| match stopped {
            Stopped::Gone => None,
            Stopped::Total => Some(deadline_exceeded()),
            Stopped::Limit => Some(timed_out(phase, limit)),
        })
    }

    /// Sends a comment, and before the first one the head of a stream: from then on the status cannot change.
    async fn beat(&mut self) -> Result<(), Stopped> {
        const COMMENT: &[u8] = b": waiting\n\n";
        let every = self.shard.world.config.queue.heartbeat.unwrap_or(Duration::MAX);
        self.next_us = self.shard.clock.now_us().saturating_add(micros(every));
        let mut bytes = self.shard.buffers.small();
        let begins = !self.manner.begun;
        if begins {
            framing::begin_events(self.shard, self.manner, &mut bytes);
            self.manner.begun = true;
        }
        // Who does not take what it was sent is not waited for: a turn in line may come meanwhile.
        if (begins && !self.manner.is_http2()) || (!begins && self.client.takes_now(COMMENT.len())) {
            framing::frame(self.manner, COMMENT, &mut bytes);
        }
        if !bytes.is_empty() {
            bytes = self.client.write(bytes).await.map_err(|_| Stopped::Gone)?;
        }
        self.shard.buffers.give(bytes);
        Ok(())
    }
}

/// The exchange's own time is over.
#[must_use]
pub fn deadline_exceeded() -> Failure {
    Failure::new(FailureKind::DeadlineExceeded, "The request took longer than its time limit.")
}

/// A phase took longer than its limit.
#[must_use]
pub fn timed_out(phase: Phase, limit: Duration) -> Failure {
    match phase {
        Phase::Connect => Failure::new(FailureKind::ConnectFailed, format!("no connection within {limit:?}")),
        Phase::Send => Failure::new(
            FailureKind::UpstreamTimeout,
            format!("The endpoint took no request within {limit:?}."),
        ),
        Phase::FirstByte => Failure::new(
            FailureKind::UpstreamTimeout,
            format!("The endpoint did not answer within {limit:?}."),
        ),
        Phase::Idle => {
            Failure::new(FailureKind::UpstreamTimeout, format!("The endpoint fell silent for {limit:?}."))
        }
    }
}
