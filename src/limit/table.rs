//! Clients and 64 bits of state each, shared by all shards: a table of fixed size, without a lock for whoever
//! is known.
//!
//! An entry is 16 bytes, read and replaced at once: 64 bits of the client's keyed hash, 64 bits of state;
//! zero is free. A client may stand in two sets of 8 entries, as in cuckoo tables, but never moves: a new one
//! goes to its first set while that is less than half in use, else to the set with fewer live entries. So
//! entries are dropped only when the table is nearly full: of live clients up to two thirds of `entries_max`
//! none is (held by a test up to 200 000 entries; a simulation met the first at 0.69 to 0.75).
//!
//! Invariants. A client has one entry at most: entries are made only under the insertion lock of the client's
//! stripe, after both sets were searched under it, and never move. A state is a complete account, so that a
//! compare-and-swap which meets the same 16 bytes again is right whatever happened between. Whoever waits for
//! the insertion lock waits for a search of 16 entries; known clients take no lock.
//!
//! Cost: a known client is 1 to 16 loads, mostly one or two, and one compare-and-swap. Memory: 16 bytes ×
//! `entries_max` rounded up to sets, and 256 bytes of locks. The choice of two sets: Azar, Broder, Karlin,
//! Upfal, "Balanced Allocations".

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};

use portable_atomic::AtomicU128;

/// Entries of a set: two cache lines.
const WAYS: usize = 8;
/// A new client takes its first set without looking for a better one while fewer entries of it are live.
const CROWDED: usize = WAYS / 2;
/// Insertion locks of a table.
const STRIPES: usize = 256;
/// Turns of waiting for an insertion lock before the thread gives up its time slice.
const SPINS: u32 = 64;

/// Tells clients apart by a hash that nobody outside the process can foresee (SipHash 1-3 with random keys).
#[derive(Debug, Clone, Default)]
pub struct Clients(RandomState);

impl Clients {
    /// With these keys, so that several tables may share them.
    #[must_use]
    pub fn new(keys: RandomState) -> Self {
        Self(keys)
    }

    /// The client that `value` names among those of its kind; never 0.
    #[must_use]
    pub fn hash(&self, kind: u8, value: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write_u8(kind);
        hasher.write(value);
        remapped(hasher.finish())
    }
}

/// What a step does with its client's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Nothing; an unknown client stays unknown.
    Keep,
    /// The new state.
    Put(u64),
    /// The entry becomes free.
    Free,
}

/// What a new client's insertion may do with the entry of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// It says no more than no entry would: it may be replaced.
    Spent,
    /// It may be replaced when both sets are full of live entries, the greatest number first.
    Idle(u64),
    /// It must stay.
    Held,
}

/// Both sets of a new client are full of entries that must stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The table.
pub struct Table {
    sets: Box<[Set]>,
    locks: Box<[AtomicBool; STRIPES]>,
}

impl Table {
    /// Room for `entries_max` clients, rounded up to whole sets, at least one.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        let sets = entries_max.div_ceil(WAYS).clamp(1, u32::MAX as usize);
        let sets = std::iter::repeat_with(Set::default).take(sets).collect();
        Self { sets, locks: Box::new([const { AtomicBool::new(false) }; STRIPES]) }
    }

    /// Clients that it can hold at most; 16 bytes each.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// Entries that are not free, counted one by one: for metrics, not for a request's path.
    #[must_use]
    pub fn used(&self) -> usize {
        self.words().filter(|word| *word != 0).count()
    }

    /// The client's state, if it has an entry.
    #[must_use]
    pub fn get(&self, client: u64) -> Option<u64> {
        let place = self.place(client)?;
        place.find().map(|(_, word)| state_of(word))
    }

    /// Changes a client's state at one instant. `step` sees the state (`None`: no entry) and may be called
    /// again when another thread was faster, so it must do nothing but compute; its last answer counts.
    /// `rank` is asked of other clients' states when an unknown client needs an entry.
    ///
    /// # Errors
    /// [`Full`]: the client is unknown and must stay so; nothing has changed.
    pub fn update<T>(
        &self,
        client: u64,
        rank: impl Fn(u64) -> Rank,
        mut step: impl FnMut(Option<u64>) -> (Write, T),
    ) -> Result<T, Full> {
        let place = self.place(client).ok_or(Full)?;
        loop {
            let done = match place.find() {
                Some((slot, word)) => place.change(slot, word, &mut step).map(Ok),
                None => self.insert(&place, &rank, &mut step),
            };
            if let Some(result) = done {
                return result;
            }
        }
    }

    /// Makes an entry; `None`: another thread made it first.
    fn insert<T>(
        &self,
        place: &Place<'_>,
        rank: &impl Fn(u64) -> Rank,
        step: &mut impl FnMut(Option<u64>) -> (Write, T),
    ) -> Option<Result<T, Full>> {
        let _held = self.lock(place.client);
        if place.find().is_some() {
            return None;
        }
        let (write, out) = step(None);
        let Write::Put(state) = write else {
            return Some(Ok(out));
        };
        loop {
            let Some((slot, word)) = place.room(rank) else {
                return Some(Err(Full));
            };
            if swap(slot, word, packed(place.client, state)).is_ok() {
                return Some(Ok(out));
            }
        }
    }

    /// The two sets of a client; they are the same one only if there is no other. Always there: a table has
    /// sets.
    fn place(&self, client: u64) -> Option<Place<'_>> {
        let client = remapped(client);
        let count = self.sets.len();
        let scaled = |bits: u64| (bits.wrapping_mul(count as u64) >> 32) as usize;
        let (first, mut second) = (scaled(client >> 32), scaled(client & u64::from(u32::MAX)));
        if second == first {
            second = if first + 1 == count { 0 } else { first + 1 };
        }
        let (first, second) = (self.sets.get(first)?, self.sets.get(second)?);
        Some(Place { client, first, second })
    }

    /// Waits for the client's insertion lock; it is released on drop.
    fn lock(&self, client: u64) -> Held<'_> {
        let lock = &self.locks[(client >> 3) as usize % STRIPES];
        let mut turns = 0;
        while lock.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            turns += 1;
            if turns % SPINS == 0 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        Held(lock)
    }

    fn words(&self) -> impl Iterator<Item = u128> {
        self.sets.iter().flat_map(|set| &set.0).map(|slot| slot.load(Ordering::Acquire))
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}

/// Entries that are searched together.
#[derive(Default)]
#[repr(align(128))]
struct Set([AtomicU128; WAYS]);

impl Set {
    /// The entries, from the client's own place on, so that a search mostly ends at its first entry.
    fn slots(&self, client: u64) -> impl Iterator<Item = (&AtomicU128, u128)> {
        let home = client as usize % WAYS;
        (0..WAYS).map(move |way| {
            let slot = &self.0[(home + way) % WAYS];
            (slot, slot.load(Ordering::Acquire))
        })
    }

    fn survey(&self, client: u64, rank: impl Fn(u64) -> Rank) -> Survey<'_> {
        let mut survey = Survey { live: 0, free: None, idle: None };
        for (slot, word) in self.slots(client) {
            let rank = if word == 0 { Rank::Spent } else { rank(state_of(word)) };
            survey.live += usize::from(rank != Rank::Spent);
            match rank {
                Rank::Spent => survey.free = survey.free.or(Some((slot, word))),
                Rank::Idle(age) if survey.idle.is_none_or(|(most, _)| age > most) => {
                    survey.idle = Some((age, (slot, word)));
                }
                Rank::Idle(_) | Rank::Held => {}
            }
        }
        survey
    }
}

/// An entry, and what it held when it was read.
type Seen<'a> = (&'a AtomicU128, u128);

/// What a new client finds in a set.
struct Survey<'a> {
    /// Entries that say something.
    live: usize,
    free: Option<Seen<'a>>,
    idle: Option<(u64, Seen<'a>)>,
}

/// Where a client may stand.
struct Place<'a> {
    client: u64,
    first: &'a Set,
    second: &'a Set,
}

impl<'a> Place<'a> {
    fn find(&self) -> Option<Seen<'a>> {
        let own = |(_, word): &Seen<'_>| client_of(*word) == self.client;
        self.first.slots(self.client).find(own).or_else(|| self.second.slots(self.client).find(own))
    }

    /// Changes the entry that was found; `None`: it has become another client's, or free.
    fn change<T>(
        &self,
        slot: &AtomicU128,
        mut word: u128,
        step: &mut impl FnMut(Option<u64>) -> (Write, T),
    ) -> Option<T> {
        loop {
            let (write, out) = step(Some(state_of(word)));
            let new = match write {
                Write::Keep => return Some(out),
                Write::Put(state) => packed(self.client, state),
                Write::Free => 0,
            };
            match swap(slot, word, new) {
                Ok(_) => return Some(out),
                Err(found) if client_of(found) == self.client => word = found,
                Err(_) => return None,
            }
        }
    }

    /// The entry that a new client gets.
    fn room(&self, rank: impl Fn(u64) -> Rank) -> Option<Seen<'a>> {
        let first = self.first.survey(self.client, &rank);
        if first.live < CROWDED {
            return first.free;
        }
        let second = self.second.survey(self.client, &rank);
        let (better, other) = if first.live <= second.live { (first, second) } else { (second, first) };
        let oldest = [better.idle, other.idle].into_iter().flatten().max_by_key(|(age, _)| *age);
        better.free.or(other.free).or(oldest.map(|(_, seen)| seen))
    }
}

/// A stripe's insertion lock.
struct Held<'a>(&'a AtomicBool);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn swap(slot: &AtomicU128, old: u128, new: u128) -> Result<u128, u128> {
    slot.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
}

/// A word of zeros is a free entry.
fn remapped(client: u64) -> u64 {
    client.max(1)
}

fn packed(client: u64, state: u64) -> u128 {
    u128::from(client) << 64 | u128::from(state)
}

fn client_of(word: u128) -> u64 {
    (word >> 64) as u64
}

fn state_of(word: u128) -> u64 {
    word as u64
}

#[cfg(test)]
mod tests;
