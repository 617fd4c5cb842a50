//! Waiting for a place: who goes next, over all shards, and how many may wait.
//!
//! Fair by start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", 1996): a waiter's tag is the later of the
//! virtual time and its flow's last tag plus one; the least tag goes first, and the virtual time follows it. A flow is a caller's
//! key, or a client's address. Flows that always wait get equal shares, whatever each sends; one that comes rarely
//! waits for nobody's backlog. How many may wait is divided by dynamic thresholds (Choudhury, Hahne: "Dynamic Queue Length Thresholds",
//! 1998): a flow may hold twice as many places of the queue as are free, so one alone holds two thirds; those who wait for one
//! model may hold 32 times as many as are free, so that many callers of one do not shut out those of another.
//!
//! Each shard keeps its own waiters and publishes, for each thing waited for ([`Places`]), its least tag. Who gives a
//! place back rings the shard whose tag is least. Nothing here blocks, allocates on the way of a request that does not wait,
//! or knows the runtime; the time is an argument.
//! Invariant: `taken` is the number of [`Place`]s alive; a waiter is counted exactly while its [`Ticket`] lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use atomic_waker::AtomicWaker;
use crossbeam_utils::CachePadded;

/// Flows of clients by address; more than so many share some.
const FLOWS: usize = 1024;

/// No tag.
const NONE: u64 = u64::MAX;

/// Wakes the one task of a shard that calls waiters.
#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicBool,
    /// Something has changed; else it is only this shard's turn.
    fresh: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    /// Rings it: something has changed.
    pub fn ring(&self) {
        self.fresh.store(true, Ordering::Release);
        self.pass();
    }

    /// Rings it: what was free before is this shard's to take now.
    fn pass(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Waits until it rings; whether something has changed.
    pub async fn rung(&self) -> bool {
        std::future::poll_fn(|cx| {
            self.waker.register(cx.waker());
            match self.rung.swap(false, Ordering::AcqRel) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
        self.fresh.swap(false, Ordering::AcqRel)
    }
}

/// Things of which there are so many, and the waiters for them by shard.
#[derive(Debug)]
pub struct Places {
    /// 0: as many as are asked for.
    max: AtomicU32,
    taken: CachePadded<AtomicU32>,
    /// Taken by other gateways, as far as is known.
    elsewhere: AtomicU32,
    /// What this gateway keeps to while requests wait at others: its share of `max`; [`u32::MAX`]: none wait.
    share: AtomicU32,
    waiters: CachePadded<AtomicU32>,
    /// By shard: the least tag that waits.
    heads: Box<[CachePadded<AtomicU64>]>,
    bells: Arc<[Bell]>,
}

impl Places {
    /// `max` free places (0: without end) for the shards whose `bells` these are.
    #[must_use]
    pub fn new(max: u32, bells: Arc<[Bell]>) -> Arc<Self> {
        Arc::new(Self {
            max: AtomicU32::new(max),
            taken: CachePadded::default(),
            elsewhere: AtomicU32::new(0),
            share: AtomicU32::new(u32::MAX),
            waiters: CachePadded::default(),
            heads: bells.iter().map(|_| CachePadded::new(AtomicU64::new(NONE))).collect(),
            bells,
        })
    }

    /// So many from now on; what is taken stays taken.
    pub fn set_max(&self, max: u32) {
        self.max.store(max, Ordering::Relaxed);
        self.bells.iter().for_each(Bell::ring);
    }

    /// How many there are; 0: without end.
    #[must_use]
    pub fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// So many are taken by other gateways, as far as is known.
    #[must_use]
    pub fn elsewhere(&self) -> u32 {
        self.elsewhere.load(Ordering::Relaxed)
    }

    /// How many requests wait for one here.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiters.load(Ordering::Relaxed)
    }

    /// Of `gateways` the others have taken so many, and so many requests wait there: while some do, this one keeps to its
    /// share, so that whoever came first does not hold all for good.
    pub fn set_elsewhere(&self, taken: u32, waiting: u32, gateways: u32) {
        let share = if waiting > 0 { self.max().div_ceil(gateways.max(1)).max(1) } else { u32::MAX };
        self.share.store(share, Ordering::Relaxed);
        self.elsewhere.store(taken, Ordering::SeqCst);
        if self.is_waited_for() && self.has_room() {
            self.call();
        }
    }

    /// How many this gateway may take.
    fn free(&self, max: u32) -> u32 {
        max.saturating_sub(self.elsewhere()).min(self.share.load(Ordering::Relaxed))
    }

    /// Whether one is free.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let max = self.max();
        max == 0 || self.taken.load(Ordering::SeqCst) < self.free(max)
    }

    /// Whether somebody waits: who comes now waits behind.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) > 0
    }

    /// Takes one; `None`: all are taken. Does not look who waits.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        let max = self.max();
        let free = self.free(max);
        let take = |taken: u32| (max == 0 || taken < free).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::SeqCst, Ordering::Relaxed, take);
        taken.is_ok().then(|| Place { places: Arc::clone(self), quiet: false })
    }

    /// The shard whose waiter has waited longest, by the order of tags.
    #[must_use]
    pub fn next_shard(&self) -> Option<usize> {
        let tags = self.heads.iter().map(|head| head.load(Ordering::Acquire));
        let (tag, shard) = tags.enumerate().map(|(shard, tag)| (tag, shard)).min()?;
        (tag != NONE).then_some(shard)
    }

    /// Rings the shard whose turn it is: one is free.
    fn call(&self) {
        if let Some(bell) = self.next_shard().and_then(|shard| self.bells.get(shard)) {
            bell.ring();
        }
    }

    /// Gives the turn to another shard than this one, if it is that one's.
    fn pass(&self, shard: usize) {
        if let Some(bell) =
            self.next_shard().filter(|next| *next != shard).and_then(|next| self.bells.get(next))
        {
            bell.pass();
        }
    }
}

/// One place; given back on drop.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    /// Nobody is called when it is given back.
    quiet: bool,
}

impl Place {
    /// Gives it back without a word: it was taken a moment ago and is of no use, so nothing has changed for others.
    pub fn unused(mut self) {
        self.quiet = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let places = &*self.places;
        places.taken.fetch_sub(1, Ordering::SeqCst);
        if !self.quiet && places.waiters.load(Ordering::SeqCst) > 0 {
            places.call();
        }
    }
}

/// Requests that count together: those of one caller, or for one thing.
#[derive(Debug, Default)]
pub struct Flow {
    last: AtomicU64,
    waiting: AtomicU32,
}

/// Flows of clients that show no key, told apart by a hash.
#[derive(Debug)]
pub struct Flows(Box<[CachePadded<Flow>]>);

impl Default for Flows {
    fn default() -> Self {
        Self((0..FLOWS).map(|_| CachePadded::default()).collect())
    }
}

impl Flows {
    /// The flow of a client by the hash of its address.
    #[must_use]
    pub fn of(&self, hash: u64) -> &Flow {
        &self.0[usize::try_from(hash).unwrap_or(0) % FLOWS]
    }
}

/// All that wait, in one process.
#[derive(Debug, Default)]
pub struct Hall {
    virtual_time: CachePadded<AtomicU64>,
    waiting: CachePadded<AtomicU32>,
    /// When somebody last went, or the queue last began, in microseconds.
    went_us: AtomicU64,
    /// Mean time between two that go, in microseconds; 0: nobody has gone yet.
    interval_us: AtomicU64,
}

impl Hall {
    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Queues a request of `flow` for a `thing` if it may: at most `max` wait in all, of one flow at most twice what is
    /// free, and for one thing 32 times.
    #[must_use]
    pub fn enter<'a>(
        &'a self,
        flow: &'a Flow,
        thing: &'a Flow,
        max: usize,
        now_us: u64,
    ) -> Option<Ticket<'a>> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let own = flow.waiting.fetch_add(1, Ordering::Relaxed);
        let same = thing.waiting.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            self.went_us.store(now_us, Ordering::Relaxed);
        }
        let mut ticket = Ticket { hall: self, flow, thing, tag: NONE, served: true };
        if !may_wait(max, before, own, same) {
            return None; // dropping the ticket takes the counts back
        }
        let now = self.virtual_time.load(Ordering::Relaxed);
        let take = |last: u64| Some(last.max(now).saturating_add(1));
        let last = flow.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(now);
        (ticket.tag, ticket.served) = (last.max(now), false);
        Some(ticket)
    }

    /// Whether [`Self::enter`] would queue one more now.
    #[must_use]
    pub fn has_room(&self, flow: &Flow, thing: &Flow, max: usize) -> bool {
        let count = |waiting: &AtomicU32| waiting.load(Ordering::Relaxed);
        may_wait(max, count(&self.waiting), count(&flow.waiting), count(&thing.waiting))
    }

    /// Milliseconds after which one more would have its turn, as things go now.
    #[must_use]
    pub fn wait_ms(&self) -> u64 {
        let ahead = u64::from(self.waiting()) + 1;
        self.interval_us.load(Ordering::Relaxed).saturating_mul(ahead) / 1000
    }

    fn went(&self, tag: u64, now_us: u64) {
        self.virtual_time.fetch_max(tag, Ordering::Relaxed);
        let since_us = now_us.saturating_sub(self.went_us.swap(now_us, Ordering::Relaxed)).max(1);
        let mean = self.interval_us.load(Ordering::Relaxed);
        let mean = if mean == 0 { since_us } else { mean - mean / 8 + since_us / 8 };
        self.interval_us.store(mean.max(1), Ordering::Relaxed);
    }
}

/// Whether one more may wait besides `all`, of whom `own` are of its flow and `same` wait for the same thing.
fn may_wait(max: usize, all: u32, own: u32, same: u32) -> bool {
    let free = u32::try_from(max).unwrap_or(u32::MAX).saturating_sub(all);
    free > 0 && own < free.saturating_mul(2) && same < free.saturating_mul(32)
}

/// A place in the queue; given up on drop.
#[derive(Debug)]
pub struct Ticket<'a> {
    hall: &'a Hall,
    flow: &'a Flow,
    thing: &'a Flow,
    tag: u64,
    served: bool,
}

impl Ticket<'_> {
    /// The order in which waiters go: the least first.
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// Its turn has come, and it has what it waited for.
    pub fn served(mut self, now_us: u64) {
        self.served = true;
        self.hall.went(self.tag, now_us);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.hall.waiting.fetch_sub(1, Ordering::Relaxed);
        self.flow.waiting.fetch_sub(1, Ordering::Relaxed);
        self.thing.waiting.fetch_sub(1, Ordering::Relaxed);
        if !self.served {
            // Its flow has not had this turn; those behind it keep their tags.
            let (after, before) = (self.tag + 1, self.tag);
            let _ = self.flow.last.compare_exchange(after, before, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// The waiters of one shard, least tag first. Not shared.
///
/// A place may be free and yet of no use to some: its endpoint's breaker is open, or it has been tried. Those who are called
/// for it and decline are of one *kind* (the same model, task and endpoints tried), and nobody of that kind is called for it until the
/// bell rings anew; what they wait for elsewhere they go on waiting for.
#[derive(Debug)]
pub struct Line<W> {
    waiting: BTreeMap<Key, Waiting<W>>,
    /// Kinds, and the places that they have declined.
    declined: Vec<(u64, Arc<Places>)>,
    next: u64,
}

#[derive(Debug)]
struct Waiting<W> {
    kind: u64,
    wants: Wants,
    waiter: W,
}

/// Things of which a waiter needs one.
pub type Wants = Vec<Arc<Places>>;

/// Where a waiter stands in its line.
pub type Key = (u64, u64);

impl<W> Default for Line<W> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), declined: Vec::new(), next: 0 }
    }
}

impl<W: Clone> Line<W> {
    /// How many wait here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Stands in line on `shard` with `tag` for a place of any of `wants`. Look again whether one is free afterwards.
    pub fn join(&mut self, shard: usize, tag: u64, kind: u64, wants: Wants, waiter: W) -> Key {
        self.next += 1;
        for places in &wants {
            places.waiters.fetch_add(1, Ordering::SeqCst);
            if !self.has_declined(kind, places)
                && let Some(head) = places.heads.get(shard)
            {
                head.fetch_min(tag, Ordering::AcqRel);
            }
        }
        self.waiting.insert((tag, self.next), Waiting { kind, wants, waiter });
        (tag, self.next)
    }

    /// Leaves the line, served or not; whoever is next is called.
    pub fn leave(&mut self, shard: usize, key: Key) {
        let Some(Waiting { wants, .. }) = self.waiting.remove(&key) else { return };
        for places in &wants {
            self.publish(shard, places);
            if places.waiters.fetch_sub(1, Ordering::SeqCst) > 1 && places.has_room() {
                places.call();
            }
        }
    }

    /// The one at `key` was called and cannot use what is free; others may.
    pub fn decline(&mut self, shard: usize, key: Key) {
        let Some(Waiting { kind, wants, .. }) = self.waiting.get(&key) else { return };
        let free: Vec<_> = wants.iter().filter(|places| places.has_room()).map(Arc::clone).collect();
        let kind = *kind;
        for places in free {
            if !self.has_declined(kind, &places) {
                self.declined.push((kind, Arc::clone(&places)));
                self.publish(shard, &places);
            }
            places.pass(shard); // who declines calls the next one here by itself
        }
    }

    /// Something has changed: what was declined may be of use now.
    pub fn refresh(&mut self, shard: usize) {
        for (_, places) in std::mem::take(&mut self.declined) {
            self.publish(shard, &places);
        }
    }

    /// The first waiter of `shard` that a place is free for and that `may` be called, if it is this shard's turn; the
    /// shard whose turn it is else is rung.
    #[must_use]
    pub fn next(&self, shard: usize, may: impl Fn(&W) -> bool) -> Option<W> {
        for Waiting { kind, wants, waiter } in self.waiting.values().filter(|one| may(&one.waiter)) {
            for places in wants.iter().filter(|places| places.has_room()) {
                if self.has_declined(*kind, places) {
                    continue;
                }
                match places.next_shard() {
                    Some(other) if other != shard => places.pass(shard),
                    _ => return Some(waiter.clone()),
                }
            }
        }
        None
    }

    fn has_declined(&self, kind: u64, places: &Arc<Places>) -> bool {
        self.declined.iter().any(|(known, declined)| *known == kind && Arc::ptr_eq(declined, places))
    }

    /// Shows the other shards the least tag that waits here for `places`.
    fn publish(&self, shard: usize, places: &Arc<Places>) {
        let wants = |one: &Waiting<W>| {
            one.wants.iter().any(|wanted| Arc::ptr_eq(wanted, places)) && !self.has_declined(one.kind, places)
        };
        let least = self.waiting.iter().find(|(_, one)| wants(one));
        if let Some(head) = places.heads.get(shard) {
            head.store(least.map_or(NONE, |((tag, _), _)| *tag), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
