//! Time of one shard: a monotonic clock and deadlines that cost one store to move.
//!
//! A [`Timer`] is one word in a table that a ticker walks every [`TICK`]; setting it is a store, no runtime
//! timer is armed, so refreshing it for every chunk of a stream is free. A timer fires at most two ticks late and
//! never early. Cost of a tick: one load a connection (50 000 connections: about 40 µs).

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::uring;

/// How often deadlines are looked at.
pub const TICK: Duration = Duration::from_millis(50);

const NEVER: u64 = u64::MAX;

/// Monotonic time of a shard in microseconds since its start.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: Instant,
    /// Between the beginning of [`now_ns`] and this one's.
    later_us: u64,
    recent_us: Cell<u64>,
    /// The poll of a task in which that was read.
    read_in: Cell<u64>,
}

thread_local! {
    /// Polls of tasks that have begun on this thread.
    static POLLS: Cell<u64> = const { Cell::new(1) };
}

/// A task is polled from here on: what time it is may have changed.
pub(super) fn poll_begins() {
    // Where the thread ends already, nobody looks.
    let _ = POLLS.try_with(|polls| polls.set(polls.get() + 1));
}

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        let later_us = now_ns() / 1000;
        Self { origin: now(), later_us, recent_us: Cell::new(0), read_in: Cell::new(0) }
    }

    /// Microseconds since the start.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        let now_us = u64::try_from(now().duration_since(self.origin).as_micros()).unwrap_or(NEVER);
        self.recent_us.set(now_us);
        self.read_in.set(POLLS.try_with(Cell::get).unwrap_or(0));
        now_us
    }

    /// As [`Clock::now_us`], but within one poll of a task, which does not wait, the clock is read once: what it does takes some
    /// microseconds, and a look at the clock the thirtieth part of one.
    #[must_use]
    pub fn here_us(&self) -> u64 {
        match POLLS.try_with(Cell::get) {
            Ok(poll) if poll == self.read_in.get() => self.recent_us.get(),
            _ => self.now_us(),
        }
    }

    /// [`now_ms`], as [`Clock::here_us`] knows it.
    #[must_use]
    pub fn here_ms(&self) -> u64 {
        (self.later_us + self.here_us()) / 1000
    }

    /// A deadline `limit` from now that never comes early and costs no look at the clock: the time last read is at
    /// most a [`TICK`] old, because housekeeping reads it every tick.
    #[must_use]
    pub fn after(&self, limit: Duration) -> u64 {
        let limit_us = u64::try_from(limit.as_micros()).unwrap_or(NEVER / 2);
        self.recent_us.get() + limit_us + TICK.as_micros() as u64
    }
}

/// Whether the kernel says that a time server holds the wall clock; `None`: it does not say.
#[must_use]
pub fn is_kept() -> Option<bool> {
    // SAFETY: an all-zero timex asks for nothing to be changed; the call writes at most its size.
    let (state, status) = unsafe {
        let mut asked: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut asked), asked.status)
    };
    (state >= 0).then_some(state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0)
}

/// The only place that reads the monotonic clock.
#[must_use]
pub fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is net::clock")]
    Instant::now()
}

/// Nanoseconds on the monotonic clock since the process first asked.
#[must_use]
pub fn now_ns() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(now().duration_since(*ORIGIN.get_or_init(now)).as_nanos()).unwrap_or(NEVER)
}

/// Microseconds of the kernel's monotonic clock, as systemd counts.
#[must_use]
pub fn since_boot_us() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec, which is there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}

/// Milliseconds on the same clock.
#[must_use]
pub fn now_ms() -> u64 {
    now_ns() / 1_000_000
}

/// Runs `op` unless `timer` fires first; the caller then drops `op`.
pub async fn before<F: Future>(timer: &Timer, mut op: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| match op.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if timer.poll_fired(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Runs `op` for at most `limit` on the runtime's own timer, to the millisecond; the caller then drops `op`.
pub async fn within<F: Future>(limit: Duration, mut op: Pin<&mut F>) -> Option<F::Output> {
    let mut timer = std::pin::pin!(sleep(limit));
    poll_fn(|cx| match op.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Waits on the runtime's own timer: for housekeeping loops, not for exchanges.
pub async fn sleep(time: Duration) {
    match uring::current() {
        Some(executor) => uring::Sleep::new(executor, time).await,
        None => monoio::time::sleep(time).await,
    }
}

/// Whether anything depends on a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Idle {
    /// An exchange does.
    No,
    /// Nothing does.
    Yes,
    /// Nothing does, and the peer can be told that no more is taken without losing what it has sent.
    Told,
}

#[derive(Debug)]
struct Slot {
    at_us: Cell<u64>,
    fired: Cell<bool>,
    idle: Cell<Idle>,
    waker: RefCell<Option<Waker>>,
}

/// All timers of a shard.
#[derive(Debug, Default)]
pub struct Timers {
    ticked_us: Cell<u64>,
    slots: RefCell<Vec<Option<Rc<Slot>>>>,
    free: RefCell<Vec<usize>>,
}

impl Timers {
    /// A timer that never fires until it is set; it leaves the table when dropped.
    #[must_use]
    pub fn add(self: &Rc<Self>) -> Timer {
        let slot = Rc::new(Slot {
            at_us: Cell::new(NEVER),
            fired: Cell::new(false),
            idle: Cell::new(Idle::No),
            waker: RefCell::default(),
        });
        let index = self.free.borrow_mut().pop();
        let mut slots = self.slots.borrow_mut();
        let index = index.unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        slots[index] = Some(Rc::clone(&slot));
        Timer { slot, index, table: Rc::clone(self) }
    }

    /// Fires what is due at `now_us`.
    pub fn tick(&self, now_us: u64) {
        self.ticked_us.set(now_us);
        self.fire(|slot| slot.at_us.get() <= now_us);
    }

    /// Fires what was set by [`Timer::set_idle`], due or not: a drain has waited long enough.
    pub fn fire_idle(&self) {
        self.fire(|slot| slot.idle.get() != Idle::No && slot.at_us.get() != NEVER);
    }

    /// Fires what was set by [`Timer::set_idle_told`], due or not: a drain begins.
    pub fn fire_idle_told(&self) {
        self.fire(|slot| slot.idle.get() == Idle::Told && slot.at_us.get() != NEVER);
    }

    fn fire(&self, due: impl Fn(&Slot) -> bool) {
        for slot in self.slots.borrow().iter().flatten().filter(|slot| due(slot)) {
            slot.at_us.set(NEVER);
            slot.fired.set(true);
            if let Some(waker) = slot.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }
}

/// One deadline of one task.
#[derive(Debug)]
pub struct Timer {
    slot: Rc<Slot>,
    index: usize,
    table: Rc<Timers>,
}

impl Timer {
    /// Fires at `at_us` of the shard's clock; forgets an earlier deadline.
    pub fn set(&self, at_us: u64) {
        self.slot.fired.set(false);
        self.slot.idle.set(Idle::No);
        self.slot.at_us.set(at_us);
    }

    /// Fires `limit_us` after the next tick: for deadlines that move with every step.
    pub fn extend(&self, limit_us: u64) {
        self.set(
            self.table.ticked_us.get().saturating_add(limit_us).saturating_add(2 * TICK.as_micros() as u64),
        );
    }

    /// As [`Timer::set`], for a wait that nothing depends on.
    pub fn set_idle(&self, at_us: u64) {
        self.set(at_us);
        self.slot.idle.set(Idle::Yes);
    }

    /// As [`Timer::set_idle`], where the peer can be told that no more is taken without losing what it has sent.
    pub fn set_idle_told(&self, at_us: u64) {
        self.set(at_us);
        self.slot.idle.set(Idle::Told);
    }

    /// Fires no more.
    pub fn clear(&self) {
        self.set(NEVER);
    }

    /// Whether the deadline has passed. Registers the task to be woken when it does.
    #[must_use]
    pub fn poll_fired(&self, cx: &Context<'_>) -> bool {
        if self.slot.fired.get() {
            return true;
        }
        let mut waker = self.slot.waker.borrow_mut();
        match waker.as_ref() {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        false
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(slot) = self.table.slots.borrow_mut().get_mut(self.index) {
            *slot = None;
        }
        self.table.free.borrow_mut().push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_once_not_early_and_leaves_the_table() {
        let table = Rc::new(Timers::default());
        let timer = table.add();
        let cx = Context::from_waker(Waker::noop());
        timer.set(100);
        table.tick(99);
        assert!(!timer.poll_fired(&cx));
        table.tick(100);
        assert!(timer.poll_fired(&cx));
        timer.set(200);
        assert!(!timer.poll_fired(&cx), "a new deadline forgets the old one");
        timer.clear();
        table.tick(10_000);
        assert!(!timer.poll_fired(&cx));
        let index = timer.index;
        drop(timer);
        assert_eq!(table.add().index, index, "the slot is used again");
    }
}
