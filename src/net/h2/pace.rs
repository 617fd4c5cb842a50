//! What the streams of one connection have in common: how many live, who works for each, and when they may send.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Waker};

/// What the connection's writes allow its streams. The crate counts what it has been given, not what the socket has
/// taken, and it takes small frames without end: so while a write is pending, each stream may add to it once.
#[derive(Default)]
pub struct Pace {
    writing: Cell<bool>,
    writes: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
    /// Who works for a stream: the crate does not tell them of a reset that it makes itself.
    working: RefCell<BTreeMap<u32, Waker>>,
    over: Cell<bool>,
}

impl Pace {
    /// A write begins.
    pub fn begin(&self) {
        self.writing.set(true);
        self.writes.set(self.writes.get() + 1);
    }

    /// It is over: whoever waits may go on.
    pub fn end(&self) {
        self.writing.set(false);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Writes begun so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes.get()
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Whether one is pending.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.writing.get()
    }

    /// A stream has been reset by us: whoever works for it may stop.
    pub fn note_reset(&self, stream: u32) {
        if let Some(waker) = self.working.borrow_mut().remove(&stream) {
            waker.wake();
        }
    }

    /// The connection is over for all its streams.
    pub fn note_end(&self) {
        self.over.set(true);
        self.end();
        self.working.take().into_values().for_each(Waker::wake);
    }

    /// The task to be woken when the stream is reset by us, or the connection ends.
    pub fn watch(&self, stream: u32, cx: &Context<'_>) {
        let mut working = self.working.borrow_mut();
        match working.get_mut(&stream) {
            Some(known) => known.clone_from(cx.waker()),
            None => drop(working.insert(stream, cx.waker().clone())),
        }
    }

    /// Whether a stream that has sent behind this write must wait; it is woken then.
    pub fn holds(&self, behind: Option<u64>, cx: &Context<'_>) -> bool {
        if !self.writing.get() || behind != Some(self.writes.get()) {
            return false;
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        true
    }
}

/// Exchanges of one connection that live.
#[derive(Default)]
pub struct LiveCount {
    count: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl LiveCount {
    /// How many.
    #[must_use]
    pub fn get(&self) -> usize {
        self.count.get()
    }

    /// The task to be woken when none is left.
    pub fn wake_when_none(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// One of them, until it is dropped.
pub struct Live(Rc<LiveCount>);

impl Live {
    /// One more.
    #[must_use]
    pub fn new(all: &Rc<LiveCount>) -> Self {
        all.count.set(all.count.get() + 1);
        Self(Rc::clone(all))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get().saturating_sub(1));
        if self.0.count.get() == 0
            && let Some(waker) = self.0.waker.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }
}

/// Forgets who works for a stream when it is dropped.
pub struct Watched {
    id: u32,
    pace: Rc<Pace>,
}

impl Watched {
    /// For the stream `id`.
    #[must_use]
    pub fn new(id: u32, pace: &Rc<Pace>) -> Self {
        Self { id, pace: Rc::clone(pace) }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.pace.working.borrow_mut().remove(&self.id);
    }
}
