//! Requests of this shard that wait for a place: in the gateway, or on an endpoint.
//!
//! The order is [`crate::queue`]'s. One task a shard, the usher, hears the bell and calls the first waiter that a place is free
//! for; it takes the place itself, or declines, and the next one is called.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::Core;
use super::limited::{Patience, Stopped};
use crate::queue::{Flow, Key, Line, Places};
use crate::world::Who;

/// One that waits.
#[derive(Default)]
pub struct Waiter {
    waker: RefCell<Option<Waker>>,
    called: Cell<bool>,
}

/// The line of a shard.
pub type Waiting = RefCell<Line<Rc<Waiter>>>;

/// Why a request did not get what it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unserved {
    /// No more may wait; one more would have its turn after so many milliseconds.
    Full(u64),
    /// It has waited for `queue.timeout`; one more would have its turn after so many milliseconds.
    TooLong(u64),
    /// The client left, or the exchange's time is over.
    Stopped(Stopped),
}

/// Calls waiters whenever the bell rings, without end.
pub async fn usher(core: Rc<Core>) {
    loop {
        if core.process.bells[core.index].rung().await {
            core.line.borrow_mut().refresh(core.index);
        }
        core.call_next();
    }
}

impl Core {
    fn call_next(&self) {
        let next = self.line.borrow().next(self.index, |waiter| !waiter.called.get());
        if let Some(waiter) = next {
            waiter.called.set(true);
            if let Some(waker) = waiter.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }

    /// Rings the own bell if anybody waits: a lost wake only delays.
    pub fn nudge_line(&self) {
        if !self.line.borrow().is_empty() {
            self.process.bells[self.index].ring();
        }
    }
}

/// Stands in line; leaves it on drop.
struct Standing<'a> {
    core: &'a Core,
    key: Key,
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.core.line.borrow_mut().leave(self.core.index, self.key);
        self.core.call_next();
    }
}

/// What a request waits for.
pub struct Wanted<'a> {
    /// Those who wait for the same are counted together.
    pub thing: &'a Flow,
    /// Requests of one kind can use the same places.
    pub kind: u64,
    /// A place of any of these.
    pub places: Vec<Arc<Places>>,
}

/// Waits until `go`, asked in turn, gives something: a place, or a reason not to wait any longer.
///
/// # Errors
/// Why it got nothing.
pub async fn wait<T>(
    patience: &mut Patience<'_>,
    who: Who<'_>,
    wanted: Wanted<'_>,
    mut go: impl FnMut() -> Option<T>,
) -> Result<T, Unserved> {
    let shard = patience.shard;
    let (core, hall, queue) = (&*shard.core, &shard.process.hall, &shard.world.config.queue);
    let flow = shard.process.flow(who);
    let ticket = hall.enter(flow, wanted.thing, queue.max, core.clock.now_us());
    let ticket = ticket.ok_or_else(|| Unserved::Full(hall.wait_ms()))?;
    let since_us = core.clock.now_us();
    let waiter = Rc::new(Waiter::default());
    let Wanted { kind, places, .. } = wanted;
    let key = core.line.borrow_mut().join(core.index, ticket.tag(), kind, places, Rc::clone(&waiter));
    let standing = Standing { core, key };
    // A place may have become free just before it stood in line.
    core.call_next();
    let turn = pin!(poll_fn(|cx| {
        if waiter.called.take() {
            if let Some(got) = go() {
                return Poll::Ready(got);
            }
            core.line.borrow_mut().decline(core.index, key);
            core.call_next();
        }
        waiter.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }));
    let result = patience.limited(queue.timeout, turn).await;
    let now_us = core.clock.now_us();
    core.metrics().queue_wait.record(now_us - since_us);
    if result.is_ok() {
        ticket.served(now_us);
    }
    drop(standing);
    result.map_err(|stopped| match stopped {
        Stopped::Limit => Unserved::TooLong(hall.wait_ms()),
        stopped => Unserved::Stopped(stopped),
    })
}
