//! Accepted sockets on their way to another shard.
//!
//! The kernel spreads connections over listeners by a hash; long-lived streams make that uneven. The shard that
//! accepts may push the bare descriptor to the queue of a less loaded one, before any operation is pending on it.
//! Bound: [`QUEUE`] descriptors a shard; a full queue means the acceptor keeps the socket.

use std::future::poll_fn;
use std::net::{SocketAddr, TcpStream};
use std::task::Poll;

use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;

use super::listener::Role;

const QUEUE: usize = 1024;

/// An accepted socket: itself, its peer, and what its listener is for.
pub type Handed = (TcpStream, SocketAddr, Role);

/// The door of one shard: others push, it pops.
pub struct Door {
    queue: ArrayQueue<Handed>,
    waker: AtomicWaker,
}

impl Default for Door {
    fn default() -> Self {
        Self { queue: ArrayQueue::new(QUEUE), waker: AtomicWaker::new() }
    }
}

impl Door {
    /// Hands a socket over.
    ///
    /// # Errors
    /// The queue is full: the socket comes back.
    pub fn push(&self, handed: Handed) -> Result<(), Handed> {
        self.queue.push(handed)?;
        self.waker.wake();
        Ok(())
    }

    /// Sockets on their way: they are load already.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.queue.len() as u64
    }

    /// The next socket handed to this shard.
    pub async fn pop(&self) -> Handed {
        poll_fn(|cx| {
            if let Some(handed) = self.queue.pop() {
                return Poll::Ready(handed);
            }
            self.waker.register(cx.waker());
            self.queue.pop().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Wakes the owner if something waits: called from housekeeping, so that a lost wake only delays.
    pub fn nudge(&self) {
        if !self.queue.is_empty() {
            self.waker.wake();
        }
    }
}
