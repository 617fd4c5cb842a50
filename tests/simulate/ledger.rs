//! What happened, and what must not have: the trace, the counts, and the invariants that concern one request.
//!
//! It counts by itself, from the events, and asks no state machine for what it has counted. A broken invariant is kept with the
//! request that broke it; the run goes on, so that the first one is always told.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use corelane::net::clock::TICK;

use super::clock::Clock;

/// Deadlines are looked at once a tick.
pub const TICK_US: u64 = TICK.as_micros() as u64;
/// Writes that an answer may take: its events, each in a few pieces.
const RELAYED_MAX: u64 = 48;
/// Connections that a request may take down, for one model.
const KILLS_MAX: u32 = 2;

/// How a request ended, for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer.
    Whole,
    /// An answer that has broken after it began, and shows it.
    Broken,
    /// An error with this status.
    Failed(u16),
    /// The client left.
    Gone,
}

/// One attempt.
pub struct Tried {
    pub plan: u32,
    /// Status of the failure, and whether it blames the client.
    pub failed: Option<u16>,
}

/// One request, as it is seen from outside.
pub struct Record {
    pub id: u64,
    pub caller: usize,
    pub since_us: u64,
    pub deadline_us: Cell<u64>,
    /// When it had passed the zones. Their delays do not end with the deadline, which nobody knows before the body is read: one
    /// that comes in too late ends at the next tick.
    pub let_in_us: Cell<u64>,
    /// Time that the client itself takes for a write.
    pub slow_us: u64,
    /// Models asked, by their public names.
    pub models: RefCell<Vec<String>>,
    pub attempts: RefCell<Vec<Tried>>,
    /// Endpoints tried since the last wait of this plan.
    pub tried: RefCell<Vec<usize>>,
    pub content: Cell<bool>,
    /// It gets signs of life.
    pub beats: Cell<bool>,
    pub outcome: Cell<Option<Outcome>>,
    pub stage: Cell<&'static str>,
    kills: Cell<u32>,
    fresh_kills: Cell<u32>,
    /// Fresh ones, over all models.
    kills_in_all: Cell<u32>,
}

impl Record {
    pub fn new(id: u64, caller: usize, since_us: u64, slow_us: u64) -> Rc<Self> {
        Rc::new(Self {
            id,
            caller,
            since_us,
            deadline_us: Cell::new(u64::MAX),
            let_in_us: Cell::default(),
            slow_us,
            models: RefCell::default(),
            attempts: RefCell::default(),
            tried: RefCell::default(),
            content: Cell::default(),
            beats: Cell::default(),
            outcome: Cell::default(),
            stage: Cell::new("new"),
            kills: Cell::default(),
            fresh_kills: Cell::default(),
            kills_in_all: Cell::default(),
        })
    }

    /// From when on nothing more may be done for it.
    fn last_us(&self) -> u64 {
        self.deadline_us.get().max(self.let_in_us.get())
    }

    /// Another model is asked.
    pub fn plans(&self, model: &str) {
        self.models.borrow_mut().push(model.to_owned());
        self.tried.borrow_mut().clear();
        self.kills.set(0);
        self.fresh_kills.set(0);
    }

    fn plan(&self) -> u32 {
        self.models.borrow().len() as u32
    }

    /// Whether an answer to the last attempt blames the client.
    fn was_blamed(&self) -> bool {
        let attempts = self.attempts.borrow();
        let last = attempts.last();
        last.is_some_and(|last| {
            last.plan == self.plan() && last.failed.is_some_and(|status| matches!(status, 400 | 422))
        })
    }
}

/// The whole run's.
pub struct Ledger {
    clock: Rc<Clock>,
    hash: Cell<u64>,
    lines: Option<RefCell<Vec<(u64, String)>>>,
    counts: RefCell<BTreeMap<&'static str, u64>>,
    problems: RefCell<Vec<(u64, String)>>,
}

/// What is left of it.
pub struct Report {
    pub hash: u64,
    pub counts: BTreeMap<&'static str, u64>,
    /// Broken invariants, by request (0: none in particular).
    pub problems: Vec<(u64, String)>,
    pub lines: Vec<(u64, String)>,
    /// Jain's index of the flows that always waited, if there were two.
    pub jain: Option<f64>,
}

impl Ledger {
    pub fn new(clock: &Rc<Clock>, traced: bool) -> Rc<Self> {
        Rc::new(Self {
            clock: Rc::clone(clock),
            hash: Cell::new(0xcbf2_9ce4_8422_2325),
            lines: traced.then(RefCell::default),
            counts: RefCell::default(),
            problems: RefCell::default(),
        })
    }

    pub fn report(&self, jain: Option<f64>) -> Report {
        Report {
            hash: self.hash.get(),
            counts: self.counts.take(),
            problems: self.problems.take(),
            lines: self.lines.as_ref().map(RefCell::take).unwrap_or_default(),
            jain,
        }
    }

    /// An event of a request: hashed always, written down if asked for.
    pub fn note(&self, record: &Record, what: &'static str, a: u64, b: u64) {
        self.event(record.id, what, a, b);
    }

    /// An event of a request, or of none (0).
    pub fn event(&self, id: u64, what: &'static str, a: u64, b: u64) {
        let now_us = self.clock.now_us();
        let mut hash = self.hash.get();
        let word = what.bytes().fold(0u64, |word, byte| word.rotate_left(7) ^ u64::from(byte));
        for part in [now_us, id, word, a, b] {
            hash = (hash ^ part).wrapping_mul(0x0100_0000_01b3);
            hash ^= hash >> 29;
        }
        self.hash.set(hash);
        if let Some(lines) = &self.lines {
            let line = format!("{:>10}.{:03} ms  {what} {a} {b}", now_us / 1000, now_us % 1000);
            lines.borrow_mut().push((id, line));
        }
    }

    pub fn count(&self, what: &'static str) {
        *self.counts.borrow_mut().entry(what).or_default() += 1;
    }

    /// An invariant is broken.
    pub fn broken(&self, id: u64, what: String) {
        self.event(id, "BROKEN", 0, 0);
        let mut problems = self.problems.borrow_mut();
        if problems.len() < 5 {
            problems.push((id, what));
        }
    }

    pub fn must(&self, holds: bool, record: &Record, what: impl FnOnce() -> String) {
        if !holds {
            self.broken(record.id, what());
        }
    }

    pub fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// A request begins to be tried on an endpoint.
    pub fn attempt(&self, record: &Record, endpoint: usize, slots: u64) {
        self.note(record, "attempt", endpoint as u64, slots);
        self.count("attempt");
        let now_us = self.clock.now_us();
        let deadline_us = record.last_us();
        self.must(now_us <= deadline_us.saturating_add(2 * TICK_US), record, || {
            format!("an attempt began {} us after the deadline", now_us - deadline_us)
        });
        if now_us > record.deadline_us.get() {
            self.count("attempt after the deadline, within its ticks");
        }
        self.must(!record.content.get(), record, || "an attempt began after content had gone out".to_owned());
        self.must(!record.was_blamed(), record, || "what the client got wrong was tried again".to_owned());
        self.must(record.kills.get() < 2 * KILLS_MAX && record.fresh_kills.get() < KILLS_MAX, record, || {
            format!("it has killed {} connections, and is sent again", record.kills.get())
        });
        let plan = record.plan();
        let again = record.attempts.borrow().iter().filter(|tried| tried.plan == plan).count();
        if again > 0 {
            self.count("retry");
        }
        record.tried.borrow_mut().push(endpoint);
        record.attempts.borrow_mut().push(Tried { plan, failed: None });
    }

    /// An attempt has failed.
    pub fn failed(&self, record: &Record, status: u16) {
        self.note(record, "failed", u64::from(status), 0);
        self.ends(record);
        if let Some(last) = record.attempts.borrow_mut().last_mut() {
            last.failed = Some(status);
        }
    }

    /// Something that works on the request's answer has ended: the deadline is kept.
    pub fn ends(&self, record: &Record) {
        let late_us = self.clock.now_us().saturating_sub(record.last_us());
        // What comes to its end in the tick that the timer fires in is done, and the next step has a tick of its own; a sign
        // of life that is due just before the deadline takes the timer too.
        let ticks = if record.beats.get() { 3 } else { 2 };
        // Writes have a limit of their own: a relay whose next read is ready at once goes on writing to a slow client.
        let writes = if record.content.get() { RELAYED_MAX } else { 2 };
        let may_us = ticks * TICK_US + writes * record.slow_us;
        self.must(late_us <= may_us, record, || format!("it ended {late_us} us after the deadline"));
    }

    /// It has taken a connection down.
    pub fn killed(&self, record: &Record, fresh: bool) {
        record.kills.set(record.kills.get() + 1);
        record.fresh_kills.set(record.fresh_kills.get() + u32::from(fresh));
        record.kills_in_all.set(record.kills_in_all.get() + u32::from(fresh));
        self.note(record, "killed", u64::from(record.kills.get()), u64::from(fresh));
        self.count("a request killed a connection");
        // Deaths are counted by model: one that was asked once may be followed by others.
        let (kills, models) = (record.kills_in_all.get(), record.plan());
        self.must(kills <= models + 1, record, || {
            format!("it has killed {kills} connections of {models} models")
        });
        if kills > KILLS_MAX && fresh {
            self.count("poison that killed a third connection");
        }
    }

    /// The client has its answer, or is gone.
    pub fn outcome(&self, record: &Record, outcome: Outcome) {
        let before = record.outcome.replace(Some(outcome));
        self.must(before.is_none(), record, || format!("answered twice: {before:?}, then {outcome:?}"));
        let (name, status) = match outcome {
            Outcome::Whole => ("answered", 200),
            Outcome::Broken => ("answer broke off", 200),
            Outcome::Failed(status) => ("refused", status),
            Outcome::Gone => ("client gone", 0),
        };
        self.note(record, name, u64::from(status), self.clock.now_us() - record.since_us);
        self.count(name);
        if let Outcome::Failed(status) = outcome {
            self.count(status_name(status));
        } else if outcome == Outcome::Gone {
            self.count(record.stage.get());
        }
        self.ends(record);
    }
}

fn status_name(status: u16) -> &'static str {
    match status {
        400 => "400",
        401 => "401",
        404 => "404",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        _ => "another status",
    }
}
