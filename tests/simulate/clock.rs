//! Virtual time: tasks, sleeps and chance, all decided by one seed.
//!
//! A step polls one task that has been woken, or, when none is, moves the time to the next sleeper. Tasks that are ready at the
//! same moment go in an order that the seed shuffles a little, as shards on cores of their own would. Wakers are the standard
//! ones, so the gateway's own futures (the bell) run here unchanged. Cost: a heap of sleepers, a vector of tasks.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering as Order;
use std::collections::BinaryHeap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crossbeam_queue::SegQueue;

/// A seeded generator (splitmix64).
pub struct Random(Cell<u64>);

impl Random {
    pub fn new(seed: u64) -> Rc<Self> {
        Rc::new(Self(Cell::new(seed)))
    }

    /// One that goes its own way from here.
    pub fn fork(&self) -> Rc<Self> {
        Self::new(self.next())
    }

    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// From 0 to `end` − 1.
    pub fn below(&self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// From `least` to `most`, both included.
    pub fn within(&self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn one<T: Copy>(&self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// Exponentially distributed, at most eight times its mean.
    pub fn around(&self, mean: u64) -> u64 {
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        ((-(1.0 - uniform).ln()).min(8.0) * mean as f64) as u64
    }
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Wakes {
    task: usize,
    queued: AtomicBool,
    ready: Arc<SegQueue<usize>>,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.ready.push(self.task);
        }
    }
}

struct Sleeper {
    at_us: u64,
    order: u64,
    waker: Waker,
    live: Rc<Cell<bool>>,
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Order::Equal
    }
}

impl Eq for Sleeper {}

impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for Sleeper {
    /// The soonest is the greatest: the heap gives it first.
    fn cmp(&self, other: &Self) -> Order {
        (other.at_us, other.order).cmp(&(self.at_us, self.order))
    }
}

/// The time, and all that happens in it.
pub struct Clock {
    now_us: Cell<u64>,
    order: Cell<u64>,
    sleepers: RefCell<BinaryHeap<Sleeper>>,
    woken: Arc<SegQueue<usize>>,
    ready: RefCell<Vec<usize>>,
    tasks: RefCell<Vec<Option<(Task, Arc<Wakes>)>>>,
    random: Rc<Random>,
}

impl Clock {
    pub fn new(start_us: u64, random: Rc<Random>) -> Rc<Self> {
        Rc::new(Self {
            now_us: Cell::new(start_us),
            order: Cell::default(),
            sleepers: RefCell::default(),
            woken: Arc::default(),
            ready: RefCell::default(),
            tasks: RefCell::default(),
            random,
        })
    }

    pub fn now_us(&self) -> u64 {
        self.now_us.get()
    }

    pub fn now_ms(&self) -> u64 {
        self.now_us.get() / 1000
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.tasks.borrow_mut();
        let wakes =
            Wakes { task: tasks.len(), queued: AtomicBool::new(true), ready: Arc::clone(&self.woken) };
        self.woken.push(tasks.len());
        tasks.push(Some((Box::pin(task), Arc::new(wakes))));
    }

    /// Polls one task, or moves the time. `false`: nothing will ever happen again.
    pub fn step(&self) -> bool {
        let mut ready = self.ready.borrow_mut();
        ready.extend(std::iter::from_fn(|| self.woken.pop()));
        if ready.is_empty() {
            drop(ready);
            return self.advance();
        }
        let at = self.random.below(3) as usize % ready.len();
        let task = ready.remove(at);
        drop(ready);
        let Some((mut future, wakes)) = self.tasks.borrow_mut()[task].take() else { return true };
        wakes.queued.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&wakes));
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.tasks.borrow_mut()[task] = Some((future, wakes));
        }
        true
    }

    fn advance(&self) -> bool {
        loop {
            let Some(sleeper) = self.sleepers.borrow_mut().pop() else { return false };
            if sleeper.live.get() {
                self.now_us.set(sleeper.at_us.max(self.now_us()));
                sleeper.live.set(false);
                sleeper.waker.wake();
                return true;
            }
        }
    }

    /// Ends all tasks, as dropping a runtime does.
    pub fn end(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
        self.sleepers.borrow_mut().clear();
    }

    pub async fn sleep(&self, us: u64) {
        self.sleep_until(self.now_us().saturating_add(us)).await;
    }

    pub async fn sleep_until(&self, at_us: u64) {
        let live = Live(Rc::default());
        let mut begun = false;
        poll_fn(|cx| {
            if self.now_us() >= at_us {
                return Poll::Ready(());
            }
            if !begun {
                begun = true;
                live.0.set(true);
                let order = self.order.replace(self.order.get() + 1);
                let (waker, live) = (cx.waker().clone(), Rc::clone(&live.0));
                self.sleepers.borrow_mut().push(Sleeper { at_us, order, waker, live });
            }
            Poll::Pending
        })
        .await;
    }
}

/// A sleeper that nobody waits for any more wakes nobody.
struct Live(Rc<Cell<bool>>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
