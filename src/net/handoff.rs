//! Accepted sockets on their way to another shard.
//!
//! The kernel spreads connections over listeners by a hash; long-lived streams make that uneven. The shard that
//! accepts may push the bare descriptor to the queue of a less loaded one, before any operation is pending on it.
//! Bound: [`QUEUE`] descriptors a shard; a full queue, or a shard that ends, means the acceptor keeps the socket.

use std::future::poll_fn;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
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
    is_closed: AtomicBool,
}

impl Default for Door {
    fn default() -> Self {
        Self { queue: ArrayQueue::new(QUEUE), waker: AtomicWaker::new(), is_closed: AtomicBool::new(false) }
    }
}

impl Door {
    /// Hands a socket over.
    ///
    /// # Errors
    /// The queue is full, or nobody is behind the door any more: the socket comes back, or another one that waited there.
    pub fn push(&self, handed: Handed) -> Result<(), Handed> {
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(handed);
        }
        self.queue.push(handed)?;
        // Closed between the two: whoever finds a socket takes it.
        if self.is_closed.load(Ordering::SeqCst)
            && let Some(left) = self.queue.pop()
        {
            return Err(left);
        }
        self.waker.wake();
        Ok(())
    }

    /// The owner ends: what is pushed from now on goes back. Whether nothing waits.
    pub fn close(&self) -> bool {
        self.is_closed.store(true, Ordering::SeqCst);
        self.queue.is_empty()
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_door_that_closes_loses_no_socket() {
        for _ in 0..20 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap(); // its backlog takes all of a round
            let addr = listener.local_addr().unwrap();
            let (door, back, taken) = (Door::default(), AtomicUsize::new(0), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for _ in 0..20 {
                            let socket = TcpStream::connect(addr).unwrap();
                            if door.push((socket, addr, Role::Plain)).is_err() {
                                back.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
                scope.spawn(|| {
                    for _ in 0..5 {
                        taken.fetch_add(usize::from(door.queue.pop().is_some()), Ordering::Relaxed);
                        std::thread::yield_now();
                    }
                    while !door.close() {
                        taken.fetch_add(usize::from(door.queue.pop().is_some()), Ordering::Relaxed);
                    }
                });
            });
            let left = door.queue.len();
            assert_eq!((back.into_inner() + taken.into_inner(), left), (40, 0));
        }
    }
}
