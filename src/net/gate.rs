//! A bound on how many tasks of one shard do the same costly thing at once; the others wait, the oldest first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// The gate. Not shared between shards.
#[derive(Debug)]
pub struct Gate {
    inside: Cell<usize>,
    max: usize,
    waiting: RefCell<VecDeque<Waker>>,
}

/// A place inside; given up on drop.
pub struct Pass(Rc<Gate>);

impl Gate {
    /// A gate for `max` tasks.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { inside: Cell::new(0), max, waiting: RefCell::default() }
    }

    /// Waits for a place. May be dropped while pending: the place goes to the next.
    pub async fn enter(self: &Rc<Self>) -> Pass {
        poll_fn(|cx| {
            if self.inside.get() < self.max {
                self.inside.set(self.inside.get() + 1);
                return Poll::Ready(Pass(Rc::clone(self)));
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push_back(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get().saturating_sub(1));
        // All of them: one that has given up meanwhile must not keep the place from the others.
        for waker in self.0.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[test]
    fn lets_in_no_more_than_it_may_and_forgets_who_gave_up() {
        let gate = Rc::new(Gate::new(1));
        let mut cx = Context::from_waker(Waker::noop());
        let first = pin!(gate.enter()).poll(&mut cx);
        assert!(matches!(first, Poll::Ready(_)));
        {
            let mut gives_up = pin!(gate.enter());
            assert!(gives_up.as_mut().poll(&mut cx).is_pending());
        }
        let mut waits = pin!(gate.enter());
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        drop(first);
        assert!(waits.as_mut().poll(&mut cx).is_ready());
    }
}
