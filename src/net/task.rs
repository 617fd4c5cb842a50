//! Tasks that cannot end a shard.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::{clock, uring};

/// Counts of a shard's tasks; single writer, so plain cells.
#[derive(Debug, Default)]
pub struct TaskCounts {
    /// Tasks that have begun and not ended.
    pub live: Cell<u64>,
    /// Tasks that ended by a panic.
    pub panicked: Cell<u64>,
}

struct Caught<F> {
    future: F,
    counts: Rc<TaskCounts>,
}

impl<F: Future<Output = ()>> Future for Caught<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        clock::poll_begins();
        // SAFETY: `future` is never moved out of a pinned `Caught`; `counts` is not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        let future = unsafe { Pin::new_unchecked(&mut this.future) };
        catch_unwind(AssertUnwindSafe(|| future.poll(cx))).unwrap_or_else(|_| {
            this.counts.panicked.set(this.counts.panicked.get() + 1);
            Poll::Ready(())
        })
    }
}

impl<F> Drop for Caught<F> {
    fn drop(&mut self) {
        self.counts.live.set(self.counts.live.get().saturating_sub(1));
    }
}

/// A future in memory of its own, made where it stays: `Box::pin` makes it first and then moves all of it.
pub fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let place = Box::new_uninit();
    Box::into_pin(Box::write(place, make()))
}

/// Runs `future` on this shard. A panic ends it alone, is counted, and runs its destructors.
pub fn spawn(counts: &Rc<TaskCounts>, future: impl Future<Output = ()> + 'static) {
    counts.live.set(counts.live.get() + 1);
    let caught = Caught { future, counts: Rc::clone(counts) };
    if let Err(caught) = uring::spawn(caught) {
        #[expect(clippy::disallowed_methods, reason = "this is the wrapper")]
        drop(monoio::spawn(caught));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Driver;
    use crate::net::clock;
    use crate::net::runtime::Runtime;

    #[test]
    fn a_panic_ends_one_task_and_is_counted() {
        for driver in [Driver::Auto, Driver::Epoll] {
            let counts = Rc::new(TaskCounts::default());
            let went_on = Rc::new(Cell::new(false));
            Runtime::build(driver, 256).unwrap().block_on(async {
                spawn(&counts, async {
                    clock::sleep(Duration::from_millis(1)).await;
                    panic!("on purpose");
                });
                let neighbour = Rc::clone(&went_on);
                spawn(&counts, async move {
                    clock::sleep(Duration::from_millis(20)).await;
                    neighbour.set(true);
                });
                clock::sleep(Duration::from_millis(60)).await;
            });
            assert!(went_on.get(), "the neighbour went on");
            assert_eq!((counts.live.get(), counts.panicked.get()), (0, 1));
        }
    }
}
