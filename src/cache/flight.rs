//! Equal requests at the same time: one asks the model, the others wait for its answer, streams included.
//!
//! The first is the leader of a flight, those who come before the answer is over follow it: they get what has come so far,
//! then what comes, each at its own pace. Where the leader fails or leaves before there is an answer, one of those who
//! wait leads in its place; where that one fails too, each goes on alone. A failure that would be everybody's (a refusal
//! of the request itself, a verdict of the guard) is told to all.
//!
//! What has come is held once, in the flight, up to `bytes_max`: beyond that nobody may join, what all have read is dropped,
//! and a follower that is further behind is broken off. Locks are held for a copy of bytes at most, and only by requests that
//! no stored answer was found for. Wakers may be lost: who waits looks again now and then.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use atomic_waker::AtomicWaker;

use super::key::Key;
use super::stored::Stored;
use crate::api::{Failure, FailureKind, Usage};
use crate::usage::estimate::Said;

/// Parts of the table, each with a lock.
const PARTS: usize = 16;
/// Bytes that a follower takes at once.
const PIECE: usize = 32 * 1024;
/// Least bytes that a flight may hold: the fastest who follows must fit.
pub const HELD_MIN: usize = 4 * AHEAD as usize;
/// Bytes that a stream is read ahead of the fastest who follows.
const AHEAD: u64 = 64 * 1024;
/// Leaders that may fail before each goes on alone.
const LEADERS_MAX: u32 = 2;

#[expect(clippy::disallowed_types, reason = "held for a copy of bytes, by requests that miss")]
type Mutex<T> = std::sync::Mutex<T>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds it panics half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keys are sums already.
#[derive(Default)]
struct ByHead(u64);

impl Hasher for ByHead {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(5) ^ u64::from_le_bytes(word);
        }
    }
}

type Table = HashMap<Key, Arc<Flight>, BuildHasherDefault<ByHead>>;

/// All flights of a process.
pub struct Flights {
    parts: [Mutex<Table>; PARTS],
    bytes_max: AtomicUsize,
}

/// What is known when an answer begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// `Content-Type` of the endpoint.
    pub content_type: Vec<u8>,
    /// Header lines that name the endpoint.
    pub endpoint_lines: Arc<[u8]>,
    /// The model that stood in for the one that was asked.
    pub model: Option<String>,
}

/// How a flight ended.
#[derive(Debug, Clone)]
enum End {
    Whole(Arc<Head>, Arc<Stored>),
    Done(Usage, Said),
    Failed(Box<Failure>),
    /// Nobody leads any more.
    Alone,
}

#[derive(Default)]
struct State {
    head: Option<Arc<Head>>,
    bytes: Vec<u8>,
    /// Bytes that were dropped before those in `bytes`.
    dropped: u64,
    /// More than `bytes_max` have come: nobody may join, and the answer is not kept.
    is_long: bool,
    end: Option<End>,
    failed: u32,
    /// The leader has left, and nobody has taken its place yet.
    vacant: bool,
    seats: Vec<Option<Seat>>,
}

struct Seat {
    /// Bytes that this follower has taken.
    at: u64,
    waker: Option<Waker>,
}

impl State {
    /// A seat for one who has taken `at` bytes.
    fn sit(&mut self, at: u64) -> usize {
        let seat = Some(Seat { at, waker: None });
        let index = self.seats.iter().position(Option::is_none).unwrap_or(self.seats.len());
        match self.seats.get_mut(index) {
            Some(place) => *place = seat,
            None => self.seats.push(seat),
        }
        index
    }

    fn wake_all(&mut self) {
        self.seats.iter_mut().flatten().filter_map(|seat| seat.waker.take()).for_each(Waker::wake);
    }

    fn wake_one(&mut self) {
        if let Some(waker) = self.seats.iter_mut().flatten().find_map(|seat| seat.waker.take()) {
            waker.wake();
        }
    }

    /// Drops what all followers have, if the answer is too long to be held.
    fn trim(&mut self) {
        if self.is_long {
            let end = self.dropped + self.bytes.len() as u64;
            let least = self.seats.iter().flatten().map(|seat| seat.at).min().unwrap_or(end);
            let gone = usize::try_from(least.saturating_sub(self.dropped)).unwrap_or(0).min(self.bytes.len());
            self.bytes.drain(..gone);
            self.dropped += gone as u64;
        }
    }
}

/// One answer on its way to all who want it.
struct Flight {
    key: Key,
    state: Mutex<State>,
    followers: AtomicUsize,
    /// The leader, which wants to know when others join.
    leader: AtomicWaker,
}

impl Flight {
    fn new(key: Key) -> Arc<Self> {
        let (state, followers, leader) = (Mutex::default(), AtomicUsize::new(0), AtomicWaker::new());
        Arc::new(Self { key, state, followers, leader })
    }
}

/// What a request does.
pub enum Boarding {
    /// It asks the model.
    Lead(Lead),
    /// It waits for the answer of one that does.
    Follow(Follower),
}

impl Flights {
    /// None yet; each holds at most `bytes_max`, which is [`HELD_MIN`] or more where streams are read ahead.
    #[must_use]
    pub fn new(bytes_max: usize) -> Arc<Self> {
        let parts = std::array::from_fn(|_| Mutex::default());
        Arc::new(Self { parts, bytes_max: AtomicUsize::new(bytes_max) })
    }

    /// Another bound from now on.
    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    fn part(&self, key: Key) -> &Mutex<Table> {
        &self.parts[usize::from(key.0[0]) % PARTS]
    }

    /// Joins the flight of `key`, or begins one: who leads must look once more for a stored answer, which another leader may
    /// have put there a moment ago.
    #[must_use]
    pub fn board(self: &Arc<Self>, key: Key) -> Boarding {
        let mut table = lock(self.part(key));
        if let Some(flight) = table.get(&key) {
            let mut state = lock(&flight.state);
            if state.end.is_none() && !state.is_long {
                let seat = state.sit(0);
                flight.followers.fetch_add(1, Ordering::AcqRel);
                drop(state);
                flight.leader.wake();
                let (flights, flight) = (Arc::clone(self), Arc::clone(flight));
                return Boarding::Follow(Follower { flights, flight, seat, begun: false });
            }
        }
        let flight = Flight::new(key);
        table.insert(key, Arc::clone(&flight));
        Boarding::Lead(Lead { flights: Arc::clone(self), flight, over: false })
    }

    /// A flight that nobody can join.
    #[must_use]
    pub fn alone(self: &Arc<Self>, key: Key) -> Lead {
        Lead { flights: Arc::clone(self), flight: Flight::new(key), over: false }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.parts.iter().map(|part| lock(part).len()).sum()
    }

    fn remove(&self, flight: &Arc<Flight>) {
        let mut table = lock(self.part(flight.key));
        if table.get(&flight.key).is_some_and(|known| Arc::ptr_eq(known, flight)) {
            table.remove(&flight.key);
        }
    }

    fn end(&self, flight: &Arc<Flight>, end: End) {
        self.remove(flight);
        let mut state = lock(&flight.state);
        state.end.get_or_insert(end);
        state.wake_all();
    }
}

/// The one that asks the model. Dropped before the end it has failed.
pub struct Lead {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    over: bool,
}

impl Lead {
    /// Whose answer it is.
    #[must_use]
    pub fn key(&self) -> Key {
        self.flight.key
    }

    /// Whether anybody follows.
    #[must_use]
    pub fn has_followers(&self) -> bool {
        self.flight.followers.load(Ordering::Acquire) > 0
    }

    /// Waits until anybody follows. One task may.
    pub fn poll_joined(&self, cx: &Context<'_>) -> Poll<()> {
        self.flight.leader.register(cx.waker());
        if self.has_followers() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits until nobody follows any more. One task may.
    pub fn poll_left(&self, cx: &Context<'_>) -> Poll<()> {
        self.flight.leader.register(cx.waker());
        if self.has_followers() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Waits until one of those who follow is less than [`AHEAD`] behind; `false`: nobody follows. One task may.
    pub fn poll_wanted(&self, cx: &Context<'_>) -> Poll<bool> {
        self.flight.leader.register(cx.waker());
        let state = lock(&self.flight.state);
        let end = state.dropped + state.bytes.len() as u64;
        let mut seats = state.seats.iter().flatten().peekable();
        if seats.peek().is_none() {
            return Poll::Ready(false);
        }
        let is_near = |seat: &Seat| seat.at <= end && end - seat.at < AHEAD;
        if seats.any(is_near) { Poll::Ready(true) } else { Poll::Pending }
    }

    /// Whether a stream has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        lock(&self.flight.state).head.is_some()
    }

    /// One that follows from what comes next on.
    #[must_use]
    pub fn follow(&self) -> Follower {
        let mut state = lock(&self.flight.state);
        let at = state.dropped + state.bytes.len() as u64;
        let seat = state.sit(at);
        self.flight.followers.fetch_add(1, Ordering::AcqRel);
        drop(state);
        let (flights, flight) = (Arc::clone(&self.flights), Arc::clone(&self.flight));
        Follower { flights, flight, seat, begun: true }
    }

    /// A stream begins.
    pub fn begin(&self, head: Head) {
        let mut state = lock(&self.flight.state);
        state.head = Some(Arc::new(head));
        state.wake_all();
    }

    /// More of the stream; `false`: nobody needs to hear of it any more, and it is not kept.
    #[must_use]
    pub fn push(&self, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return true;
        }
        let bytes_max = self.flights.bytes_max.load(Ordering::Relaxed);
        let mut state = lock(&self.flight.state);
        let grows_long = !state.is_long && state.bytes.len() + bytes.len() > bytes_max;
        if grows_long {
            // Nobody may join from here on: first out of the table, whose lock comes before this one.
            drop(state);
            self.flights.remove(&self.flight);
            state = lock(&self.flight.state);
            state.is_long = true;
        }
        state.trim();
        if state.is_long && state.seats.iter().all(Option::is_none) {
            state.bytes = Vec::new();
            return false;
        }
        state.bytes.extend_from_slice(bytes);
        if state.is_long && state.bytes.len() > bytes_max {
            // Who is that far behind is left behind.
            let over = (state.bytes.len() - bytes_max) as u64;
            let least = state.dropped + over;
            state.seats.iter_mut().flatten().filter(|seat| seat.at < least).for_each(|seat| {
                seat.at = u64::MAX;
                seat.waker.take().into_iter().for_each(Waker::wake);
            });
            state.trim();
        }
        state.wake_all();
        true
    }

    /// Bytes that are held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        lock(&self.flight.state).bytes.len()
    }

    /// Holds no more than followers need: nobody may join, and the answer is not kept.
    pub fn hold_little(&self) {
        self.flights.remove(&self.flight);
        let mut state = lock(&self.flight.state);
        state.is_long = true;
        state.trim();
    }

    /// All that was streamed, if it was held.
    #[must_use]
    pub fn streamed(&self) -> Option<Vec<u8>> {
        let state = lock(&self.flight.state);
        (!state.is_long).then(|| state.bytes.clone())
    }

    /// Gives it up, unless somebody follows: then it comes back. Nobody can join in between.
    #[must_use]
    pub fn retire(mut self) -> Option<Self> {
        let mut table = lock(self.flights.part(self.flight.key));
        let mut state = lock(&self.flight.state);
        if state.seats.iter().any(Option::is_some) {
            drop((state, table));
            return Some(self);
        }
        if table.get(&self.flight.key).is_some_and(|known| Arc::ptr_eq(known, &self.flight)) {
            table.remove(&self.flight.key);
        }
        state.end = Some(End::Alone);
        drop((state, table));
        self.over = true;
        None
    }

    /// The stream has come to its end. Store it before.
    pub fn done(mut self, usage: Usage, said: Said) {
        self.over = true;
        self.flights.end(&self.flight, End::Done(usage, said));
    }

    /// The answer is whole. Store it before.
    pub fn whole(mut self, head: Head, stored: Arc<Stored>) {
        self.over = true;
        self.flights.end(&self.flight, End::Whole(Arc::new(head), stored));
    }

    /// It has failed as each of those who follow would, or has broken on the way to all of them.
    pub fn refused(mut self, failure: &Failure) {
        self.over = true;
        self.flights.end(&self.flight, End::Failed(Box::new(failure.clone())));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut state = lock(&self.flight.state);
        state.failed += 1;
        let begun = state.head.is_some();
        if !begun && state.failed < LEADERS_MAX && state.seats.iter().any(Option::is_some) {
            state.vacant = true;
            return state.wake_one();
        }
        drop(state);
        let end = match begun {
            true => End::Failed(Box::new(broken_off())),
            false => End::Alone,
        };
        self.flights.end(&self.flight, end);
    }
}

fn broken_off() -> Failure {
    Failure::new(FailureKind::UpstreamBroken, "The answer that this request shared was broken off.")
}

/// What a follower gets.
pub enum Step {
    /// It asks the model now, for all.
    Lead(Lead),
    /// It goes on as if it had never followed.
    Alone,
    /// A stream has begun.
    Begin(Arc<Head>),
    /// More of it; never empty.
    More(Vec<u8>),
    /// The stream has come to its end.
    Done(Usage, Said),
    /// A whole answer.
    Whole(Arc<Head>, Arc<Stored>),
    /// No answer, or no more of it.
    Failed(Failure),
}

/// One that waits.
pub struct Follower {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    seat: usize,
    begun: bool,
}

impl Follower {
    /// What comes next; nothing comes after an end.
    pub fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Step> {
        let mut state = lock(&self.flight.state);
        let state = &mut *state;
        let Some(seat) = state.seats.get_mut(self.seat).and_then(Option::as_mut) else {
            return Poll::Ready(Step::Failed(broken_off()));
        };
        if !self.begun
            && let Some(head) = &state.head
        {
            self.begun = true;
            return Poll::Ready(Step::Begin(Arc::clone(head)));
        }
        if seat.at == u64::MAX {
            return Poll::Ready(Step::Failed(Failure::new(
                FailureKind::UpstreamBroken,
                "This request shared an answer and read it too slowly.",
            )));
        }
        let from = usize::try_from(seat.at.saturating_sub(state.dropped)).unwrap_or(usize::MAX);
        if let Some(more) = state.bytes.get(from..).filter(|more| !more.is_empty() && self.begun) {
            let more = more.get(..PIECE).unwrap_or(more).to_vec();
            seat.at += more.len() as u64;
            self.flight.leader.wake(); // there may be room now
            return Poll::Ready(Step::More(more));
        }
        match &state.end {
            Some(End::Whole(head, stored)) => {
                return Poll::Ready(Step::Whole(Arc::clone(head), Arc::clone(stored)));
            }
            Some(End::Done(usage, said)) => return Poll::Ready(Step::Done(*usage, *said)),
            Some(End::Failed(failure)) => return Poll::Ready(Step::Failed((**failure).clone())),
            Some(End::Alone) => return Poll::Ready(Step::Alone),
            None => {}
        }
        if state.vacant {
            state.vacant = false;
            let (flights, flight) = (Arc::clone(&self.flights), Arc::clone(&self.flight));
            return Poll::Ready(Step::Lead(Lead { flights, flight, over: false }));
        }
        seat.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = lock(&self.flight.state);
        if let Some(seat) = state.seats.get_mut(self.seat) {
            *seat = None;
        }
        state.trim();
        let left = self.flight.followers.fetch_sub(1, Ordering::AcqRel) == 1;
        if state.vacant && left {
            drop(state);
            self.flights.end(&self.flight, End::Alone);
        } else if state.vacant {
            state.wake_one();
        } else if left {
            drop(state);
            self.flight.leader.wake(); // it may stop working for others
        }
    }
}

#[cfg(test)]
mod tests;
