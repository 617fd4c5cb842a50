//! The tasks of one thread.
//!
//! A round polls what is ready, at most [`ROUND`] tasks, then gives the kernel its turn: a task that wakes itself comes again
//! behind completions and timers. Tasks are dropped with the executor, and operations that they leave are waited for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crossbeam_queue::SegQueue;
use slab::Slab;

use super::ahead;
use super::driver::Driver;
use super::sleep::Timers;
use crate::net::clock;

/// Tasks polled between two looks at the ring.
const ROUND: usize = 32;
/// The key of the future that [`Executor::block_on`] runs.
const MAIN: usize = usize::MAX;
/// Longest sleep; each wakes early enough by itself.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Looks for operations to end when an executor is dropped, and the time of one.
const END_TURNS: usize = 400;
const END_TURN: Duration = Duration::from_millis(5);

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    static READY: RefCell<VecDeque<Arc<Signal>>> = const { RefCell::new(VecDeque::new()) };
    static HERE: Cell<usize> = const { Cell::new(0) };
    static CURRENT: RefCell<Option<Rc<Executor>>> = const { RefCell::new(None) };
}

/// What other threads reach of an executor.
struct Home {
    remote: SegQueue<Arc<Signal>>,
    is_asleep: AtomicBool,
    event: OwnedFd,
}

/// What wakes one task.
struct Signal {
    key: usize,
    /// It is on its way to be polled.
    is_queued: AtomicBool,
    home: Arc<Home>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if HERE.try_with(Cell::get) == Ok(Arc::as_ptr(&self.home).addr()) {
            // Where the thread ends already, its tasks have.
            let _ = READY.try_with(|ready| ready.borrow_mut().push_back(self));
            return;
        }
        let home = Arc::clone(&self.home);
        home.remote.push(self);
        if home.is_asleep.swap(false, Ordering::SeqCst) {
            let one = 1u64.to_ne_bytes();
            // SAFETY: the pointer and length describe `one`; the descriptor lives as long as `home`.
            unsafe { libc::write(home.event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.load(Ordering::Acquire) {
            Arc::clone(self).wake();
        }
    }
}

struct Task {
    /// Away while it is polled.
    future: Option<Boxed>,
    signal: Arc<Signal>,
}

/// Tasks, timers and the ring of one thread.
pub(in crate::net) struct Executor {
    pub(in crate::net) driver: RefCell<Driver>,
    pub(super) timers: RefCell<Timers>,
    tasks: RefCell<Slab<Task>>,
    home: Arc<Home>,
}

/// The executor that runs on this thread now.
pub(in crate::net) fn current() -> Option<Rc<Executor>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Runs `future` on the executor of this thread.
///
/// # Errors
/// There is none: the future comes back.
pub(in crate::net) fn spawn<F: Future<Output = ()> + 'static>(future: F) -> Result<(), F> {
    CURRENT.with_borrow(|executor| match executor {
        Some(executor) => {
            executor.add(Box::pin(future));
            Ok(())
        }
        None => Err(future),
    })
}

/// Lets what is ready, the kernel and the timers run first.
pub(in crate::net) async fn pass() {
    let mut has_passed = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_passed, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Executor {
    /// An executor for the calling thread, with a ring of `entries`.
    ///
    /// # Errors
    /// The kernel denies the ring.
    pub fn new(entries: u32) -> io::Result<Rc<Self>> {
        let driver = Driver::new(entries)?;
        let event = driver.event()?;
        Ok(Rc::new(Self {
            driver: RefCell::new(driver),
            timers: RefCell::default(),
            tasks: RefCell::default(),
            home: Arc::new(Home { remote: SegQueue::new(), is_asleep: AtomicBool::new(false), event }),
        }))
    }

    /// Runs `future` to its end, and meanwhile all tasks.
    pub fn block_on<F: Future>(self: &Rc<Self>, future: F) -> F::Output {
        let _here = Here::enter(self);
        let mut future = pin!(future);
        let main = self.signal(MAIN);
        Arc::clone(&main).wake();
        loop {
            self.ask_for_memory();
            for _ in 0..READY.with_borrow(VecDeque::len).min(ROUND) {
                let Some(signal) = READY.with_borrow_mut(VecDeque::pop_front) else { break };
                signal.is_queued.store(false, Ordering::Release);
                if signal.key != MAIN {
                    self.poll_task(signal);
                } else if Arc::ptr_eq(&signal, &main) {
                    let waker = Waker::from(signal);
                    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                        return output;
                    }
                }
            }
            self.turn();
        }
    }

    /// Has the processor fetch the tasks of the next round: what waited has been pushed out of its caches by then, and now one wait for
    /// memory is as long as many.
    fn ask_for_memory(&self) {
        let tasks = self.tasks.borrow();
        READY.with_borrow(|ready| {
            for signal in ready.iter().take(ROUND) {
                if let Some(future) = tasks.get(signal.key).and_then(|task| task.future.as_ref()) {
                    ahead::from((&raw const **future).addr());
                }
            }
        });
    }

    /// Lets the kernel and the timers have their turn; sleeps if no task is ready.
    fn turn(&self) {
        self.take_remote();
        let mut wait = None;
        if READY.with_borrow(VecDeque::is_empty) {
            self.home.is_asleep.store(true, Ordering::SeqCst);
            if self.home.remote.is_empty() {
                wait = Some(self.timers.borrow().rest(clock::now_ns()).min(SLEEP_MAX));
            }
        }
        self.driver.borrow_mut().turn(wait);
        self.home.is_asleep.store(false, Ordering::SeqCst);
        self.take_remote();
        self.timers.borrow_mut().fire(clock::now_ns);
    }

    fn take_remote(&self) {
        while let Some(signal) = self.home.remote.pop() {
            READY.with_borrow_mut(|ready| ready.push_back(signal));
        }
    }

    fn signal(&self, key: usize) -> Arc<Signal> {
        Arc::new(Signal { key, is_queued: AtomicBool::new(false), home: Arc::clone(&self.home) })
    }

    fn add(&self, future: Boxed) {
        let mut tasks = self.tasks.borrow_mut();
        let entry = tasks.vacant_entry();
        let signal = self.signal(entry.key());
        entry.insert(Task { future: Some(future), signal: Arc::clone(&signal) });
        drop(tasks);
        signal.wake();
    }

    fn poll_task(&self, signal: Arc<Signal>) {
        let key = signal.key;
        let future = match self.tasks.borrow_mut().get_mut(key) {
            Some(task) if Arc::ptr_eq(&task.signal, &signal) => task.future.take(),
            _ => None, // it has ended, and another has its place
        };
        let Some(mut future) = future else { return };
        let waker = Waker::from(signal);
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            if let Some(task) = self.tasks.borrow_mut().get_mut(key) {
                task.future = Some(future);
            }
            return;
        }
        drop(future);
        let ended = self.tasks.borrow_mut().try_remove(key);
        drop(ended);
    }

    /// Drops all tasks, then waits for what they have left with the kernel; whether all of it has ended.
    pub fn end(self: &Rc<Self>) -> bool {
        let _here = Here::enter(self);
        loop {
            let tasks = self.tasks.take();
            if tasks.is_empty() {
                break;
            }
            drop(tasks);
        }
        READY.with_borrow_mut(VecDeque::clear);
        let mut driver = self.driver.borrow_mut();
        driver.cancel_all();
        for _ in 0..END_TURNS {
            if driver.under_way() == 0 {
                break;
            }
            driver.turn(Some(END_TURN));
        }
        driver.under_way() == 0
    }
}

/// Makes an executor the one of its thread, while it lives.
struct Here {
    before: (usize, Option<Rc<Executor>>),
}

impl Here {
    fn enter(executor: &Rc<Executor>) -> Self {
        let here = HERE.replace(Arc::as_ptr(&executor.home).addr());
        Self { before: (here, CURRENT.replace(Some(Rc::clone(executor)))) }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        HERE.set(self.before.0);
        drop(CURRENT.replace(self.before.1.take()));
    }
}
