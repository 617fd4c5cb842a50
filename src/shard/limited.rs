//! Waiting for an endpoint, within limits: an operation's own, the exchange's deadline, and the client's patience.

use std::pin::Pin;
use std::time::Duration;

use super::Shard;
use crate::api::{Failure, FailureKind};
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
pub enum Stopped {
    /// The client left.
    Gone,
    /// Its own limit.
    Limit,
    /// The exchange's deadline.
    Total,
}

impl Shard {
    /// Runs `op` until the client leaves, `limit` has passed, or the exchange is over.
    ///
    /// # Errors
    /// Which of them came first.
    pub async fn limited<F: Future>(
        &self,
        client: &Client,
        limit: Duration,
        deadline_us: u64,
        op: Pin<&mut F>,
    ) -> Result<F::Output, Stopped> {
        let limit_us = self.clock.after(limit);
        client.timer().set(limit_us.min(deadline_us));
        client.race(op).await.map_err(|stop| match stop {
            Stop::ClientGone => Stopped::Gone,
            Stop::Deadline if deadline_us <= limit_us => Stopped::Total,
            Stop::Deadline => Stopped::Limit,
        })
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
