//! Deadlines of connections: words in a table, walked every few milliseconds, instead of a timer a request.
//!
//! Moving a deadline is a store. When it has passed, what the connection waits for is cancelled and ends with an error; the
//! connection then looks at [`Watch::is_fired`]. Late by at most [`WALK`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use monoio::io::{CancelHandle, Canceller};

use super::clock::{Clock, sleep};
use super::task;

/// How often deadlines are looked at.
const WALK: Duration = Duration::from_millis(10);

/// The deadline of one connection.
pub struct Watch {
    at_us: Cell<u64>,
    fired: Cell<bool>,
    canceller: RefCell<Canceller>,
    waker: Cell<Option<Waker>>,
}

impl Watch {
    /// Ends what is waited for at `at_us`.
    pub fn set(&self, at_us: u64) {
        self.at_us.set(at_us.max(1));
        self.fired.set(false);
    }

    /// No deadline any more.
    pub fn clear(&self) {
        self.at_us.set(0);
    }

    /// Whether it has passed since it was set.
    #[must_use]
    pub fn is_fired(&self) -> bool {
        self.fired.get()
    }

    /// The same, for a task that is to be woken by it.
    pub fn poll_fired(&self, cx: &Context<'_>) -> bool {
        self.waker.set(Some(cx.waker().clone()));
        self.fired.get()
    }

    pub(super) fn handle(&self) -> CancelHandle {
        self.canceller.borrow().handle()
    }

    fn fire(&self) {
        self.at_us.set(0);
        self.fired.set(true);
        let canceller = self.canceller.take().cancel();
        self.canceller.replace(canceller);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The deadlines of a thread.
#[derive(Default)]
pub struct Watches {
    table: RefCell<Vec<Rc<Watch>>>,
}

impl Watches {
    /// A table that is walked as long as the thread's runtime lives.
    #[must_use]
    pub fn start(clock: Clock) -> Rc<Self> {
        let watches = Rc::new(Self::default());
        let walked = Rc::clone(&watches);
        task::spawn(async move {
            loop {
                sleep(WALK).await;
                walked.walk(clock.now_us());
            }
        });
        watches
    }

    /// A place for one more connection.
    #[must_use]
    pub fn add(&self) -> Rc<Watch> {
        let watch = Rc::new(Watch {
            at_us: Cell::new(0),
            fired: Cell::new(false),
            canceller: RefCell::new(Canceller::new()),
            waker: Cell::new(None),
        });
        self.table.borrow_mut().push(Rc::clone(&watch));
        watch
    }

    fn walk(&self, now_us: u64) {
        for watch in self.table.borrow().iter() {
            let at = watch.at_us.get();
            if at != 0 && at <= now_us {
                watch.fire();
            }
        }
    }
}
