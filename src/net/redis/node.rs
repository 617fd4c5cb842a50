//! One server as a shard knows it: its connection, its breaker, and the task that keeps both.
//!
//! The keeper connects, carries commands until the connection ends, and connects again: at once (within 10 ms) if
//! the old one was of use, else after waits that double, with chance. While it connects, who asks waits for it; while it
//! waits, who asks is refused at once. It also looks every 50 ms whether the oldest command has waited too long, sends
//! the probes of an open breaker, and asks an idle server every 15 s whether it is still there.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::breaker::{Breaker, Guarded};
use super::connection::{self, CONNECT, Link, Place};
use super::deadline::Deadline;
use super::fifo::{Answer, Fifo, Promise, SLOTS_MAX, Ticket};
use super::login::Refusal;
use super::resolve::Resolver;
use super::sentinel::Sentinels;
use super::{Failure, Ours, now_us};
use crate::config::Level;
use crate::net::clock;
use crate::net::task;
use crate::wire::resp::{Command, Reply};

/// How often the keeper looks.
const STEP: Duration = Duration::from_millis(50);
/// The oldest command may wait for so many times the time of one call, and at least for so long.
const HUNG_TIMES: u32 = 10;
const HUNG_MIN: Duration = Duration::from_millis(200);
/// An idle server is asked after so long.
const IDLE_US: u64 = 15_000_000;
/// A connection that lasted for so long was of use, also if nobody asked anything.
const LASTED_US: u64 = 1_000_000;
/// Longest wait before the first attempt after a connection that had answered.
const AGAIN_US: u64 = 10_000;

/// A connection for one who waits for it, or why there is none.
type Arrival = Promise<Result<Rc<Fifo>, Failure>>;

/// How the server is found.
pub(super) enum Finder {
    At(Place),
    By(Sentinels),
}

/// One server.
pub(super) struct Node {
    ours: Rc<Ours>,
    finder: Finder,
    resolver: Resolver,
    breaker: RefCell<Guarded>,
    /// The connection that takes commands.
    live: RefCell<Option<Rc<Fifo>>>,
    /// The keeper is about to have one.
    connecting: Cell<bool>,
    /// Who waits for it.
    arrivals: RefCell<Vec<Weak<Arrival>>>,
    /// What the server said when it did not let us in.
    refused: RefCell<Option<String>>,
    /// What was told last: the same is not told again.
    told: RefCell<String>,
    /// Why the connection is to be given up, if it is.
    doubted: Cell<Option<&'static str>>,
    started: Cell<bool>,
    /// There was a connection.
    served: Cell<bool>,
    stopped: Cell<bool>,
    /// Where the last connection went.
    place: RefCell<String>,
}

impl Node {
    pub(super) fn new(ours: &Rc<Ours>, finder: Finder) -> Rc<Self> {
        let place = match &finder {
            Finder::At(place) => place.to_string(),
            Finder::By(sentinels) => sentinels.to_string(),
        };
        Rc::new(Self {
            ours: Rc::clone(ours),
            finder,
            resolver: Resolver::default(),
            breaker: RefCell::default(),
            live: RefCell::new(None),
            connecting: Cell::new(true),
            arrivals: RefCell::default(),
            refused: RefCell::new(None),
            told: RefCell::default(),
            doubted: Cell::new(None),
            started: Cell::new(false),
            served: Cell::new(false),
            stopped: Cell::new(false),
            place: RefCell::new(place),
        })
    }

    /// Begins to connect; call within the runtime. Later calls do nothing.
    pub(super) fn start(self: &Rc<Self>) {
        if !self.started.replace(true) {
            task::spawn(&self.ours.tasks, Rc::clone(self).keep());
        }
    }

    /// Ends the keeper, within 50 ms.
    pub(super) fn stop(&self) {
        self.stopped.set(true);
    }

    /// Where it is, or who knows it.
    pub(super) fn place(&self) -> String {
        self.place.borrow().clone()
    }

    pub(super) fn breaker(&self) -> Breaker {
        self.breaker.borrow().state()
    }

    /// Whether a connection takes commands.
    pub(super) fn is_connected(&self) -> bool {
        self.live.borrow().is_some()
    }

    /// Commands without an answer.
    pub(super) fn waiting(&self) -> usize {
        self.live.borrow().as_ref().map_or(0, |fifo| fifo.waiting())
    }

    /// Sends one command, behind `first` in the same write, whose answer is nobody's.
    pub(super) async fn send(
        self: &Rc<Self>,
        first: Option<&Command>,
        command: &Command,
        deadline: &mut Deadline,
    ) -> Result<Ticket<Answer>, Failure> {
        let fifo = self.connection(deadline).await.map_err(|failure| self.failed(failure))?;
        self.push(&fifo, first, command).map_err(|failure| self.failed(failure))
    }

    /// Sends several commands in one write, or none of them.
    pub(super) async fn send_all(
        self: &Rc<Self>,
        commands: &[Command],
        deadline: &mut Deadline,
    ) -> Result<Vec<Result<Ticket<Answer>, Failure>>, Failure> {
        let fifo = self.connection(deadline).await.map_err(|failure| self.failed(failure))?;
        let bytes = commands.iter().map(Command::bytes).sum();
        if !fifo.has_room(commands.len(), bytes) {
            return Err(Failure::Full);
        }
        let now_us = now_us();
        Ok(commands.iter().map(|command| fifo.push(command, now_us)).collect())
    }

    fn push(
        &self,
        fifo: &Fifo,
        first: Option<&Command>,
        command: &Command,
    ) -> Result<Ticket<Answer>, Failure> {
        let now_us = now_us();
        if let Some(first) = first {
            if !fifo.has_room(2, first.bytes() + command.bytes()) {
                return Err(Failure::Full);
            }
            fifo.push_unheard(first, now_us)?;
        }
        fifo.push(command, now_us)
    }

    /// Waits for the answer to what was sent, and counts what comes of it.
    pub(super) async fn wait(&self, ticket: Ticket<Answer>, deadline: &mut Deadline) -> Answer {
        match self.hear(ticket, deadline).await {
            Ok(reply) => {
                self.breaker.borrow_mut().success();
                Ok(reply)
            }
            Err(failure) => Err(self.failed(failure)),
        }
    }

    /// Waits for the answer, and counts nothing: several commands of one call that fail are one failure.
    pub(super) async fn hear(&self, ticket: Ticket<Answer>, deadline: &mut Deadline) -> Answer {
        let answer = deadline.limit(ticket).await.unwrap_or(Err(Failure::Timeout));
        answer.and_then(|reply| match reply.error_code() {
            Some(code) if self.is_away(code) => Err(Failure::Refused(text(reply))),
            _ => Ok(reply),
        })
    }

    /// Whether an error of this code says that the server serves nobody now, whatever it is asked.
    fn is_away(&self, code: &str) -> bool {
        match code {
            "READONLY" if matches!(self.finder, Finder::By(_)) => {
                self.doubted.set(Some("the server takes no writes: it is no master any more"));
                true
            }
            "NOAUTH" => {
                self.doubted.set(Some("the server does not know us any more"));
                true
            }
            _ => matches!(code, "LOADING" | "MASTERDOWN" | "BUSY" | "CLUSTERDOWN"),
        }
    }

    /// Counts a failure, where it speaks of the server.
    pub(super) fn failed(&self, failure: Failure) -> Failure {
        match &failure {
            Failure::Open | Failure::Full => return failure,
            Failure::Timeout => self.ours.counts.timeouts.set(self.ours.counts.timeouts.get() + 1),
            Failure::Gone | Failure::Refused(_) => {}
        }
        let opened = self.breaker.borrow_mut().failure();
        if opened {
            let why = match &failure {
                Failure::Timeout => "no answer in time".to_owned(),
                Failure::Refused(text) => text.clone(),
                _ => self.ours.last_error().unwrap_or_else(|| "no connection".to_owned()),
            };
            self.ours.note(&why);
            self.tell_opened(&why);
        }
        failure
    }

    fn tell_opened(&self, why: &str) {
        let text = format!("redis {}: not asked any more until it answers again: {why}", self.place());
        self.ours.tell(Level::Warn, &text);
    }

    /// The connection, or the next one, if it is about to come.
    async fn connection(self: &Rc<Self>, deadline: &mut Deadline) -> Result<Rc<Fifo>, Failure> {
        self.start();
        if self.breaker() != Breaker::Closed {
            return Err(Failure::Open);
        }
        if let Some(fifo) = &*self.live.borrow() {
            return Ok(Rc::clone(fifo));
        }
        if !self.connecting.get() {
            return Err(self.refused.borrow().clone().map_or(Failure::Gone, Failure::Refused));
        }
        let (ticket, waiter) = Promise::pair();
        {
            let mut arrivals = self.arrivals.borrow_mut();
            if arrivals.len() >= SLOTS_MAX {
                arrivals.retain(|waiter| waiter.strong_count() > 0);
            }
            if arrivals.len() >= SLOTS_MAX {
                return Err(Failure::Full);
            }
            arrivals.push(waiter);
        }
        deadline.limit(ticket).await.unwrap_or(Err(Failure::Timeout))
    }

    /// Tells who waits for a connection what has come of it.
    fn arrive(&self, what: &Result<Rc<Fifo>, Failure>) {
        let waiters = std::mem::take(&mut *self.arrivals.borrow_mut());
        for waiter in waiters.iter().filter_map(Weak::upgrade) {
            waiter.give(what.clone());
        }
    }

    async fn keep(self: Rc<Self>) {
        let _ended = Ended(&self);
        if self.breaker() != Breaker::Closed {
            let wait = self.breaker.borrow_mut().wait(self.ours.chance());
            self.pause(wait).await; // the keeper before this one was ended by a panic
        }
        while !self.stopped.get() {
            self.connecting.set(true);
            self.breaker.borrow_mut().begin_probe();
            let made = clock::within(CONNECT, pin!(self.connect())).await;
            let made = made.unwrap_or_else(|| Err(Refusal::new("no connection in time")));
            let answered = match made {
                Ok(link) => Box::pin(self.serve(link)).await,
                Err(refusal) => {
                    self.no_connection(refusal);
                    false
                }
            };
            let chance = self.ours.chance();
            // Who asks waits for an attempt that comes at once, and for no other.
            self.connecting.set(answered);
            let wait = match answered {
                true => Duration::from_micros(chance % AGAIN_US),
                false => self.breaker.borrow_mut().wait(chance),
            };
            self.pause(wait).await;
        }
    }

    async fn connect(&self) -> Result<Link, Refusal> {
        let found;
        let place = match &self.finder {
            Finder::At(place) => place,
            Finder::By(sentinels) => {
                found = Place::Tcp(sentinels.master(&self.ours, &self.resolver).await?);
                &found
            }
        };
        *self.place.borrow_mut() = place.to_string();
        let connector = self.ours.connector.as_ref();
        connection::dial(place, connector, &self.ours.account, &self.resolver).await
    }

    fn no_connection(&self, refusal: Refusal) {
        let (place, text) = (self.place(), refusal.text);
        self.ours.note(&text);
        *self.refused.borrow_mut() = refusal.said.then(|| text.clone());
        let mut told = self.told.borrow_mut();
        if *told != text {
            self.ours.tell(Level::Warn, &format!("redis {place}: {text}"));
            told.clone_from(&text);
        }
        drop(told);
        let opened = {
            let mut breaker = self.breaker.borrow_mut();
            breaker.end_probe(false);
            breaker.failure()
        };
        if opened {
            self.tell_opened(&text);
        }
        self.connecting.set(false);
        self.arrive(&Err(self.refused.borrow().clone().map_or(Failure::Gone, Failure::Refused)));
    }

    /// Carries commands until the connection ends; whether it was of use: answered any, or lasted.
    async fn serve(&self, link: Link) -> bool {
        let since_us = now_us();
        let fifo = Fifo::new(link.version, since_us);
        if self.served.replace(true) {
            self.ours.counts.reconnects.set(self.ours.counts.reconnects.get() + 1);
        }
        self.doubted.set(None);
        *self.refused.borrow_mut() = None;
        let closed = self.breaker.borrow_mut().end_probe(true); // the login was answered
        if closed || !self.told.borrow().is_empty() {
            self.ours.tell(Level::Info, &format!("redis {}: connected", self.place()));
            self.told.borrow_mut().clear();
        }
        *self.live.borrow_mut() = Some(Rc::clone(&fifo));
        self.arrive(&Ok(Rc::clone(&fifo)));
        let reason = connection::carry(link, &fifo, self.watch(&fifo)).await;
        *self.live.borrow_mut() = None;
        let of_use = fifo.answers() > 0 || now_us().saturating_sub(since_us) > LASTED_US;
        self.connecting.set(of_use); // before those who wait are woken
        fifo.close();
        if !self.stopped.get() {
            self.ours.note(&reason);
            let text = format!("redis {}: connection lost: {reason}", self.place());
            self.ours.tell(Level::Info, &text);
        }
        of_use
    }

    /// Ends with a reason to give the connection up.
    async fn watch(&self, fifo: &Fifo) -> String {
        let hung = self.ours.timeout.saturating_mul(HUNG_TIMES).max(HUNG_MIN);
        let ping = Command::new("PING");
        let mut probe_us = None;
        loop {
            clock::sleep(STEP).await;
            let now_us = now_us();
            if self.stopped.get() {
                return "not needed any more".to_owned();
            }
            if let Some(doubt) = self.doubted.get() {
                return doubt.to_owned();
            }
            if u128::from(fifo.oldest_us(now_us)) > hung.as_micros() {
                return format!("no answer for {} ms", hung.as_millis());
            }
            if self.breaker() == Breaker::Closed {
                probe_us = None;
                if fifo.waiting() == 0 && now_us.saturating_sub(fifo.heard_us()) > IDLE_US {
                    let _ = fifo.push_unheard(&ping, now_us); // if it is full, it is not idle
                }
                continue;
            }
            let due_us = *probe_us.get_or_insert_with(|| now_us + self.next_probe_us());
            if now_us >= due_us {
                self.probe(fifo, &ping).await;
                probe_us = None;
            }
        }
    }

    fn next_probe_us(&self) -> u64 {
        let wait = self.breaker.borrow_mut().wait(self.ours.chance());
        u64::try_from(wait.as_micros()).unwrap_or(u64::MAX / 2)
    }

    async fn probe(&self, fifo: &Fifo, ping: &Command) {
        self.breaker.borrow_mut().begin_probe();
        let answered = match fifo.push(ping, now_us()) {
            Ok(ticket) => {
                let answer = Deadline::after(self.ours.timeout).limit(ticket).await;
                matches!(answer, Some(Ok(reply)) if !reply.error_code().is_some_and(|code| self.is_away(code)))
            }
            Err(_) => false,
        };
        let closed = self.breaker.borrow_mut().end_probe(answered);
        if closed {
            self.ours.tell(Level::Info, &format!("redis {}: answers again", self.place()));
        }
    }

    /// Waits, in steps that see the end.
    async fn pause(&self, mut left: Duration) {
        while !left.is_zero() && !self.stopped.get() {
            let step = left.min(STEP);
            clock::sleep(step).await;
            left -= step;
        }
    }
}

/// Leaves a node without its keeper as one that has not begun: who asks next begins another one.
struct Ended<'a>(&'a Node);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let live = self.0.live.borrow_mut().take();
        live.iter().for_each(|fifo| fifo.close());
        self.0.connecting.set(!self.0.stopped.get());
        self.0.started.set(self.0.stopped.get());
        self.0.arrive(&Err(Failure::Gone));
    }
}

fn text(reply: Reply) -> String {
    match reply {
        Reply::Error(text) => text,
        _ => String::new(),
    }
}
