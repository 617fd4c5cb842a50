//! Timers for waits that are few: a heap by time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::Executor;
use crate::net::clock;

/// All timers of a thread. Entries of the heap whose sleep was dropped go when their time comes.
#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    wakers: Slab<(u64, Waker)>,
    next: u64,
}

impl Timers {
    /// Time from `now_ns` to the next one.
    pub fn rest(&self, now_ns: u64) -> Duration {
        self.heap
            .peek()
            .map_or(Duration::MAX, |Reverse((at_ns, ..))| Duration::from_nanos(at_ns.saturating_sub(now_ns)))
    }

    /// Wakes those whose time has come.
    pub fn fire(&mut self, now_ns: impl Fn() -> u64) {
        if self.heap.is_empty() {
            return;
        }
        let now_ns = now_ns();
        while let Some(&Reverse((at_ns, id, key))) = self.heap.peek() {
            if at_ns > now_ns {
                break;
            }
            self.heap.pop();
            if let Some((_, waker)) = self.wakers.get(key).filter(|(owner, _)| *owner == id) {
                waker.wake_by_ref();
            }
        }
    }

    fn add(&mut self, at_ns: u64, waker: &Waker) -> usize {
        self.next += 1;
        let key = self.wakers.insert((self.next, waker.clone()));
        self.heap.push(Reverse((at_ns, self.next, key)));
        key
    }
}

/// A wait.
pub(in crate::net) struct Sleep {
    executor: Rc<Executor>,
    at_ns: u64,
    key: Option<usize>,
}

impl Sleep {
    /// Ends `time` from now.
    pub fn new(executor: Rc<Executor>, time: Duration) -> Self {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self { executor, at_ns: clock::now_ns().saturating_add(time_ns), key: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if clock::now_ns() >= self.at_ns {
            return Poll::Ready(());
        }
        let executor = Rc::clone(&self.executor);
        let mut timers = executor.timers.borrow_mut();
        match self.key {
            None => self.key = Some(timers.add(self.at_ns, cx.waker())),
            Some(key) => {
                if let Some((_, waker)) = timers.wakers.get_mut(key) {
                    waker.clone_from(cx.waker());
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.executor.timers.borrow_mut().wakers.try_remove(key);
        }
    }
}
