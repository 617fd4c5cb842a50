//! The commands of one connection: what waits for the writer, and who waits for the answers, oldest first.
//!
//! A connection has one of its own, which ends with it: no slot outlives the bytes that will fill it. Who waits may
//! leave at any time; the slot stays, and the late answer that fills it is thrown away. So the n-th answer always
//! belongs to the n-th command, whatever became of those before it.
//!
//! Bounds: [`SLOTS_MAX`] commands without an answer, [`OUTPUT_BYTES_MAX`] bytes not yet written.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::Failure;
use crate::wire::resp::{Broken, Command, Reply, Version};

/// Commands that wait for an answer, those included that nobody waits for any more.
pub(super) const SLOTS_MAX: usize = 1024;
/// Bytes that wait to be written, those included that the writer has in hand.
pub(super) const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// Something that one task gives and another one takes, once.
pub(super) struct Promise<T> {
    value: RefCell<Option<T>>,
    waker: RefCell<Option<Waker>>,
}

impl<T> Promise<T> {
    /// The end that takes, and the end that gives; that one is dead as soon as nobody takes.
    pub(super) fn pair() -> (Ticket<T>, Weak<Self>) {
        let promise = Rc::new(Self { value: RefCell::new(None), waker: RefCell::new(None) });
        let weak = Rc::downgrade(&promise);
        (Ticket(promise), weak)
    }

    pub(super) fn give(&self, value: T) {
        *self.value.borrow_mut() = Some(value);
        let waker = self.waker.borrow_mut().take();
        waker.into_iter().for_each(Waker::wake);
    }
}

/// The end that takes.
pub(super) struct Ticket<T>(Rc<Promise<T>>);

impl<T> Future for Ticket<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(value) = self.0.value.borrow_mut().take() {
            return Poll::Ready(value);
        }
        let mut waker = self.0.waker.borrow_mut();
        match waker.as_ref() {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// What comes of a command.
pub(super) type Answer = Result<Reply, Failure>;

struct Slot {
    since_us: u64,
    waiter: Weak<Promise<Answer>>,
}

/// The commands of one connection.
pub(super) struct Fifo {
    version: Version,
    slots: RefCell<VecDeque<Slot>>,
    output: RefCell<Vec<u8>>,
    /// Bytes that the writer has in hand.
    in_hand: Cell<usize>,
    writer: RefCell<Option<Waker>>,
    closed: Cell<bool>,
    /// Answers that came, and when the last one did.
    answers: Cell<u64>,
    heard_us: Cell<u64>,
}

impl Fifo {
    /// For a new connection.
    pub(super) fn new(version: Version, now_us: u64) -> Rc<Self> {
        Rc::new(Self {
            version,
            slots: RefCell::default(),
            output: RefCell::default(),
            in_hand: Cell::new(0),
            writer: RefCell::new(None),
            closed: Cell::new(false),
            answers: Cell::new(0),
            heard_us: Cell::new(now_us),
        })
    }

    /// Puts `command` behind those before it. Several in a row leave in one write.
    pub(super) fn push(&self, command: &Command, now_us: u64) -> Result<Ticket<Answer>, Failure> {
        let (ticket, waiter) = Promise::pair();
        self.put(command, Slot { since_us: now_us, waiter })?;
        Ok(ticket)
    }

    /// As [`Fifo::push`], for an answer that nobody waits for.
    pub(super) fn push_unheard(&self, command: &Command, now_us: u64) -> Result<(), Failure> {
        self.put(command, Slot { since_us: now_us, waiter: Weak::new() })
    }

    fn put(&self, command: &Command, slot: Slot) -> Result<(), Failure> {
        if self.closed.get() {
            return Err(Failure::Gone);
        }
        let (mut slots, mut output) = (self.slots.borrow_mut(), self.output.borrow_mut());
        let bytes = output.len() + self.in_hand.get() + command.bytes();
        if slots.len() >= SLOTS_MAX || bytes > OUTPUT_BYTES_MAX {
            return Err(Failure::Full);
        }
        command.encode(&mut output);
        slots.push_back(slot);
        drop((slots, output));
        self.nudge();
        Ok(())
    }

    /// Whether so many commands, of so many bytes in all, have room.
    pub(super) fn has_room(&self, commands: usize, bytes: usize) -> bool {
        let used = self.output.borrow().len() + self.in_hand.get();
        self.slots.borrow().len() + commands <= SLOTS_MAX && used.saturating_add(bytes) <= OUTPUT_BYTES_MAX
    }

    /// Commands without an answer.
    pub(super) fn waiting(&self) -> usize {
        self.slots.borrow().len()
    }

    /// For how long the oldest of them has waited.
    pub(super) fn oldest_us(&self, now_us: u64) -> u64 {
        self.slots.borrow().front().map_or(0, |slot| now_us.saturating_sub(slot.since_us))
    }

    /// When the server was heard last.
    pub(super) fn heard_us(&self) -> u64 {
        self.heard_us.get()
    }

    /// Answers that came.
    pub(super) fn answers(&self) -> u64 {
        self.answers.get()
    }

    /// Gives a whole answer to who waits for it, if anybody does. `Err`: the connection cannot be used any more.
    pub(super) fn answer(&self, whole: Bytes, now_us: u64) -> Result<(), Broken> {
        let Some(slot) = self.slots.borrow_mut().pop_front() else { return Err(Broken::Kind) };
        self.answers.set(self.answers.get() + 1);
        self.heard_us.set(now_us);
        let Some(waiter) = slot.waiter.upgrade() else { return Ok(()) };
        match self.version.decode(&whole) {
            Ok(reply) => waiter.give(Ok(reply)),
            Err(broken) => {
                waiter.give(Err(Failure::Gone));
                return Err(broken);
            }
        }
        Ok(())
    }

    /// Ends it: who waits is told, and nothing is taken any more.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.output.borrow_mut().clear();
        let slots = std::mem::take(&mut *self.slots.borrow_mut());
        for waiter in slots.iter().filter_map(|slot| slot.waiter.upgrade()) {
            waiter.give(Err(Failure::Gone));
        }
    }

    /// Wakes the writer.
    pub(super) fn nudge(&self) {
        let waker = self.writer.borrow_mut().take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// All that waits to be written, in exchange for `spare`, which is empty. `Pending`: nothing does.
    pub(super) fn poll_output(&self, spare: &mut Vec<u8>, cx: &Context<'_>) -> Poll<Vec<u8>> {
        let mut output = self.output.borrow_mut();
        self.in_hand.set(output.len());
        if output.is_empty() {
            *self.writer.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(std::mem::replace(&mut *output, std::mem::take(spare)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polled(ticket: &mut Ticket<Answer>) -> Poll<Answer> {
        Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_leaves_keeps_the_slot_and_answers_go_to_their_own() {
        let fifo = Fifo::new(Version::Resp3, 0);
        let get = Command::new("GET").key("k");
        let mut first = fifo.push(&get, 1).unwrap();
        let second = fifo.push(&get, 2).unwrap();
        let mut third = fifo.push(&get, 3).unwrap();
        drop(second);
        assert_eq!((fifo.waiting(), fifo.oldest_us(11)), (3, 10));
        for number in 1..=3 {
            fifo.answer(Bytes::from(format!(":{number}\r\n")), 20).unwrap();
        }
        assert_eq!(polled(&mut first), Poll::Ready(Ok(Reply::Int(1))));
        assert_eq!(polled(&mut third), Poll::Ready(Ok(Reply::Int(3))));
        assert_eq!(fifo.answer(Bytes::from_static(b":4\r\n"), 20), Err(Broken::Kind), "nobody asked");
        assert_eq!((fifo.answers(), fifo.heard_us(), fifo.oldest_us(50)), (3, 20, 0));
    }

    #[test]
    fn it_is_bounded_and_ends_for_all() {
        let fifo = Fifo::new(Version::Resp3, 0);
        let ping = Command::new("PING");
        let mut last = None;
        for _ in 0..SLOTS_MAX {
            last = Some(fifo.push(&ping, 0).unwrap());
        }
        assert!(matches!(fifo.push(&ping, 0), Err(Failure::Full)), "slots of those who left count");
        let mut last = last.unwrap();
        fifo.close();
        assert_eq!(polled(&mut last), Poll::Ready(Err(Failure::Gone)));
        assert!(matches!(fifo.push(&ping, 0), Err(Failure::Gone)));

        let fifo = Fifo::new(Version::Resp3, 0);
        let large = Command::new("SET").key("k").arg(vec![0; OUTPUT_BYTES_MAX / 2]);
        fifo.push_unheard(&large, 0).unwrap();
        let cx = Context::from_waker(Waker::noop());
        assert!(fifo.poll_output(&mut Vec::new(), &cx).is_ready());
        assert!(matches!(fifo.push(&large, 0), Err(Failure::Full)), "what is being written counts");
        assert!(!fifo.has_room(1, large.bytes()) && fifo.has_room(1, 100));
        assert!(fifo.poll_output(&mut Vec::new(), &cx).is_pending());
        assert!(fifo.push(&large, 0).is_ok());
    }
}
