//! A turn through the kernel's queue, for work that would hold the shard too long.
//!
//! On the ring of a shard a task that wakes itself comes behind all that is ready, and costs next to nothing. On the portable
//! runtime it is polled again before anything else, timers included, so a yield must go through the
//! driver: a byte goes into a socket pair after its read has begun, and the read completes when the driver has looked at
//! everything that is ready. Cost: about 14 µs, so work is sliced at some 100 µs.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::UnixStream;

use super::uring;

type Pair = (UnixStream, UnixStream);

/// Turns of one shard.
#[derive(Debug, Default)]
pub struct Turns {
    idle: RefCell<Vec<Pair>>,
}

impl Turns {
    /// Lets everything that is ready run first. Where the process has no descriptor left it returns at once.
    pub async fn pass(&self) {
        if uring::current().is_some() {
            return uring::pass().await;
        }
        let idle = self.idle.borrow_mut().pop();
        let Some((mut near, mut far)) = idle.or_else(|| UnixStream::pair().ok()) else { return };
        let (written, read) = {
            let mut reading = pin!(far.read(vec![0u8; 1]));
            // The read is under way before its byte is: it cannot complete within this poll.
            let early = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await;
            let (written, _) = near.write(vec![0u8; 1]).await;
            match early {
                Poll::Ready((read, _)) => (written, read),
                Poll::Pending => (written, reading.await.0),
            }
        };
        if written.is_ok() && read.is_ok() {
            self.idle.borrow_mut().push((near, far));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::config::Driver;
    use crate::net::clock;
    use crate::net::runtime::Runtime;
    use crate::net::task::{TaskCounts, spawn};

    #[test]
    fn timers_and_neighbours_run_between_turns() {
        for driver in [Driver::Auto, Driver::Epoll] {
            let (counts, ticks) = (Rc::new(TaskCounts::default()), Rc::new(Cell::new(0)));
            Runtime::build(driver, 256).unwrap().block_on(async {
                let neighbour = Rc::clone(&ticks);
                spawn(&counts, async move {
                    loop {
                        clock::sleep(Duration::from_millis(2)).await;
                        neighbour.set(neighbour.get() + 1);
                    }
                });
                let turns = Turns::default();
                let begin = clock::now();
                while clock::now().duration_since(begin) < Duration::from_millis(100) {
                    turns.pass().await;
                }
                assert!(turns.idle.borrow().len() <= 1, "one pair serves one task");
            });
            assert!(ticks.get() > 5, "{} ticks", ticks.get());
        }
    }
}
