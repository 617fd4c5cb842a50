//! One thread of a run, and what its connections share.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::{Options, closed, h2, open};
use crate::measure::{Measures, Sample, Second};
use crate::net::clock::{Clock, sleep};
use crate::net::dial::Dial;
use crate::net::runtime::Runtime;
use crate::net::task;
use crate::net::watch::Watches;
use crate::plan::Plan;
use crate::scenario::Mode;

/// How long after the last deadline is still waited: deadlines fire a little late.
const GRACE: Duration = Duration::from_millis(500);
const SECOND_US: u64 = 1_000_000;

/// The part of a plan that one thread sends.
pub struct Part {
    /// All of it.
    pub plan: Arc<Plan>,
    /// How it is sent.
    pub options: Options,
    /// Which thread.
    pub number: usize,
    /// Of how many.
    pub threads: usize,
    /// When it begins.
    pub epoch: Instant,
}

/// What a thread has done.
pub struct Done {
    /// What it has measured.
    pub measures: Measures,
    /// The kernel interface.
    pub driver: &'static str,
    /// How long it has begun requests.
    pub time: Duration,
}

/// What the connections of a thread share.
pub struct Worker {
    pub plan: Arc<Plan>,
    pub dial: Dial,
    pub clock: Clock,
    pub watches: Rc<Watches>,
    pub measures: RefCell<Measures>,
    /// Requests that are due and have not ended.
    pub open: Cell<u64>,
    /// Where seconds go; nowhere once the run is over, so that who listens sees its end.
    seconds: RefCell<Option<Sender<Second>>>,
    pub timeout_us: u64,
    /// Lines that there are.
    pub lines: Cell<usize>,
    /// The connections of HTTP/2, if that is spoken.
    pub h2: Option<h2::Pool>,
    pub number: usize,
    pub threads: usize,
    stop: Arc<AtomicBool>,
}

impl Part {
    /// Sends it; seconds go to `seconds` while it runs.
    ///
    /// # Errors
    /// There is no runtime.
    pub fn run(self, seconds: &Sender<Second>) -> Result<Done, String> {
        let mut runtime = Runtime::build().map_err(|error| format!("no runtime: {error}"))?;
        let driver = runtime.driver();
        let (measures, time) = runtime.block_on(self.drive(seconds.clone()))?;
        Ok(Done { measures, driver, time })
    }

    async fn drive(self, seconds: Sender<Second>) -> Result<(Measures, Duration), String> {
        let (clock, load) = (Clock::new(self.epoch), &self.plan.scenario.load);
        let works = self.plan.scenario.work.len();
        let measures = Measures::new(works, self.plan.scenario.keys.len(), micros(load.warm_up));
        let worker = Rc::new(Worker {
            watches: Watches::start(clock),
            clock,
            measures: RefCell::new(measures),
            open: Cell::new(0),
            seconds: RefCell::new(Some(seconds)),
            timeout_us: micros(load.timeout),
            lines: Cell::new(0),
            h2: self.options.h2.map(h2::Pool::new),
            plan: Arc::clone(&self.plan),
            dial: self.options.dial,
            stop: self.options.stop,
            number: self.number,
            threads: self.threads,
        });
        task::spawn(Rc::clone(&worker).report());
        sleep(clock.until(0)).await;
        let end_us = match load.mode {
            Mode::Open => open::run(&worker).await?,
            Mode::Closed => closed::run(&worker).await,
        };
        worker.settle(end_us).await;
        worker.measures.borrow_mut().unfinished = worker.open.get();
        worker.report_second();
        worker.seconds.take();
        let Worker { plan, .. } = &*worker;
        let empty = Measures::new(plan.scenario.work.len(), plan.scenario.keys.len(), 0);
        Ok((worker.measures.replace(empty), Duration::from_micros(end_us)))
    }
}

impl Worker {
    /// Sends each second when it is over.
    async fn report(self: Rc<Self>) {
        for number in 1.. {
            sleep(self.clock.until(number * SECOND_US)).await;
            if !self.report_second() {
                return;
            }
        }
    }

    /// Sends the second that runs; `false`: the run is over.
    fn report_second(&self) -> bool {
        let second = self.measures.borrow_mut().turn_second(self.open.get());
        self.seconds.borrow().as_ref().is_some_and(|seconds| seconds.send(second).is_ok())
    }

    /// Waits until no request is open, or until the last deadline of those that were due until `end_us` has passed.
    pub async fn settle(&self, end_us: u64) {
        let last = end_us.saturating_add(self.timeout_us).saturating_add(micros(GRACE));
        while self.open.get() > 0 && self.clock.now_us() < last {
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Whether no more requests are to be begun.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// When the last request was begun: at the end of the plan, or now, if it was stopped.
    pub fn end_us(&self) -> u64 {
        let planned = micros(self.plan.scenario.time());
        if self.is_stopped() { planned.min(self.clock.now_us()) } else { planned }
    }

    /// A request is due.
    pub fn begin(&self) {
        self.open.set(self.open.get() + 1);
    }

    /// A request has ended.
    pub fn end(&self, sample: &Sample, hit: bool) {
        self.open.set(self.open.get().saturating_sub(1));
        self.measures.borrow_mut().note_end(sample, hit);
    }

    /// Its part of so many connections.
    pub fn share(&self, connections: usize) -> usize {
        connections / self.threads + usize::from(self.number < connections % self.threads)
    }
}

/// Whole microseconds.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 4)
}
