//! The time of one call, over all that it waits for.
//!
//! Kept to the millisecond, by a timer of the runtime; it is armed by the first wait, and a call that need not wait has
//! none. It ends in two steps, 1 ms before its time and at it: when a shard was held for longer than the time, the answer
//! may lie in the socket, and the turns between the steps read it. A late shard must not count as a slow server.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::net::clock;

const LAST: Duration = Duration::from_millis(1);

/// The time of one call.
pub(super) struct Deadline {
    timer: Pin<Box<dyn Future<Output = ()>>>,
    over: bool,
}

impl Deadline {
    /// `limit` from the first wait on.
    pub(super) fn after(limit: Duration) -> Self {
        let timer = Box::pin(async move {
            clock::sleep(limit.saturating_sub(LAST)).await;
            clock::sleep(LAST).await;
        });
        Self { timer, over: false }
    }

    /// Waits for `op`; `None`: the time is over. What is ready is had even then.
    pub(super) async fn limit<F: Future + Unpin>(&mut self, mut op: F) -> Option<F::Output> {
        poll_fn(|cx| {
            if let Poll::Ready(output) = Pin::new(&mut op).poll(cx) {
                return Poll::Ready(Some(output));
            }
            self.over = self.over || self.timer.as_mut().poll(cx).is_ready();
            if self.over { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}
