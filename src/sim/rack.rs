//! The models of a server: loaded one at a time, each with a few slots and a queue in the order of arrival.
//!
//! A load goes on when the client that caused it leaves; a wait in the queue ends with it. Idle models are
//! unloaded when somebody looks after their time is over. All of it is single-threaded: cells, and wakers.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::server::Sim;
use super::stats::{add, now_us};
use crate::net::{clock, task};

/// `name` as models are compared: lower case, with a tag.
pub fn normalized(name: &str) -> String {
    let mut name = name.to_ascii_lowercase();
    if !name.rsplit('/').next().unwrap_or_default().contains(':') {
        name.push_str(":latest");
    }
    name
}

/// All models that have been used.
#[derive(Default)]
pub struct Rack {
    models: RefCell<BTreeMap<String, Rc<Model>>>,
    loader: Rc<Gate>,
}

/// One model.
pub struct Model {
    /// Its normalized name.
    pub name: String,
    slots: Rc<Gate>,
    busy: Cell<usize>,
    loaded: Cell<bool>,
    loading: Cell<bool>,
    /// By [`now_us`], while it is not busy.
    expires_us: Cell<u64>,
    waiters: RefCell<Vec<Waker>>,
}

impl Rack {
    /// A rack that loads one model at a time.
    pub fn new() -> Self {
        Self { models: RefCell::default(), loader: Rc::new(Gate::new(1)) }
    }

    /// The model with this normalized name, which the server is known to have.
    pub fn model(&self, name: &str, slots: usize) -> Rc<Model> {
        if let Some(model) = self.models.borrow().get(name) {
            return Rc::clone(model);
        }
        let model = Rc::new(Model {
            name: name.to_owned(),
            slots: Rc::new(Gate::new(slots.max(1))),
            busy: Cell::new(0),
            loaded: Cell::new(false),
            loading: Cell::new(false),
            expires_us: Cell::new(u64::MAX),
            waiters: RefCell::default(),
        });
        self.models.borrow_mut().insert(name.to_owned(), Rc::clone(&model));
        model
    }

    /// The models that are loaded, each with the microseconds it will stay.
    pub fn loaded(&self) -> Vec<(String, u64)> {
        let models = self.models.borrow();
        let loaded = models.values().filter(|model| model.is_loaded());
        loaded.map(|model| (model.name.clone(), model.expires_us.get().saturating_sub(now_us()))).collect()
    }
}

impl Model {
    /// Whether it is in memory.
    pub fn is_loaded(&self) -> bool {
        if self.loaded.get() && self.busy.get() == 0 && self.expires_us.get() <= now_us() {
            self.loaded.set(false);
        }
        self.loaded.get()
    }

    /// Takes it out of memory, at once or when its last generation ends.
    pub fn unload(&self) {
        self.expires_us.set(0);
    }

    /// A slot, if the model is loaded and one is free and nobody waits.
    pub fn slot_now(self: &Rc<Self>, keep: Duration) -> Option<Slot> {
        let permit = if self.is_loaded() { self.slots.try_enter()? } else { return None };
        Some(Slot::new(self, permit, keep))
    }

    /// Waits until it is loaded and a slot is free.
    pub async fn slot(self: Rc<Self>, sim: Rc<Sim>, keep: Duration) -> Slot {
        self.load(&sim).await;
        let permit = Gate::enter(&self.slots).await;
        Slot::new(&self, permit, keep)
    }

    /// Waits until it is loaded.
    pub async fn load(self: &Rc<Self>, sim: &Rc<Sim>) {
        if !self.is_loaded() && !self.loading.replace(true) {
            let (model, sim) = (Rc::clone(self), Rc::clone(sim));
            let tasks = Rc::clone(&sim.tasks);
            task::spawn(&tasks, async move {
                let _turn = Gate::enter(&sim.rack.loader).await;
                if !sim.options.load_time.is_zero() {
                    clock::sleep(sim.options.load_time).await;
                }
                add(&sim.stats.loads, 1);
                model.expires_us.set(expiry(sim.options.keep_alive));
                model.loaded.set(true);
                model.loading.set(false);
                model.waiters.borrow_mut().drain(..).for_each(Waker::wake);
            });
        }
        poll_fn(|cx| {
            if self.loaded.get() {
                return Poll::Ready(());
            }
            let mut waiters = self.waiters.borrow_mut();
            if !waiters.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiters.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// How long it stays if it is not used.
    pub fn keep(&self, time: Duration) {
        self.expires_us.set(expiry(time));
    }
}

fn expiry(keep: Duration) -> u64 {
    now_us().saturating_add(u64::try_from(keep.as_micros()).unwrap_or(u64::MAX))
}

/// A slot of a model, held while it generates; afterwards the model stays for `keep`.
pub struct Slot {
    model: Rc<Model>,
    keep: Duration,
    _permit: Permit,
}

impl Slot {
    fn new(model: &Rc<Model>, permit: Permit, keep: Duration) -> Self {
        model.busy.set(model.busy.get() + 1);
        Self { model: Rc::clone(model), keep, _permit: permit }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.model.busy.set(self.model.busy.get() - 1);
        self.model.keep(self.keep);
    }
}

/// So many may be inside at once; the others wait in order.
#[derive(Default)]
struct Gate {
    free: Cell<usize>,
    queue: RefCell<VecDeque<Rc<Ticket>>>,
}

#[derive(Default)]
struct Ticket {
    granted: Cell<bool>,
    gone: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Gate {
    fn new(permits: usize) -> Self {
        Self { free: Cell::new(permits), queue: RefCell::default() }
    }

    fn try_enter(self: &Rc<Self>) -> Option<Permit> {
        self.free.set(self.free.get().checked_sub(1)?);
        Some(Permit(Rc::clone(self)))
    }

    fn enter(gate: &Rc<Self>) -> Entering {
        let ticket = Rc::<Ticket>::default();
        match gate.free.get().checked_sub(1) {
            Some(left) => {
                gate.free.set(left);
                ticket.granted.set(true);
            }
            None => gate.queue.borrow_mut().push_back(Rc::clone(&ticket)),
        }
        Entering { gate: Rc::clone(gate), ticket }
    }

    fn leave(&self) {
        loop {
            let Some(next) = self.queue.borrow_mut().pop_front() else { break };
            if !next.gone.get() {
                next.granted.set(true);
                if let Some(waker) = next.waker.borrow_mut().take() {
                    waker.wake();
                }
                return;
            }
        }
        self.free.set(self.free.get() + 1);
    }
}

struct Permit(Rc<Gate>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.leave();
    }
}

struct Entering {
    gate: Rc<Gate>,
    ticket: Rc<Ticket>,
}

impl Future for Entering {
    type Output = Permit;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        if self.ticket.granted.replace(false) {
            self.ticket.gone.set(true);
            return Poll::Ready(Permit(Rc::clone(&self.gate)));
        }
        *self.ticket.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        self.ticket.gone.set(true);
        if self.ticket.granted.get() {
            self.gate.leave();
        }
    }
}
