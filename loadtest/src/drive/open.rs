//! The open loop: requests leave when they are due, whether or not earlier ones are answered.
//!
//! A request takes the connection that was used last, or a new one while there are fewer than `connections`; else it waits
//! for the next that is free, and that time counts as its latency: users do not know why they wait.
//! Bound: [`WAITING_MAX`] requests wait; one more is `unsent`, and the run says so.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::line::Line;
use super::worker::Worker;
use crate::measure::Sample;
use crate::net::clock::Alarm;
use crate::net::task;
use crate::outcome::Outcome;
use crate::plan::Request;

/// Requests of a thread that may wait for a connection.
const WAITING_MAX: usize = 200_000;
/// How often it is looked whether the run was stopped.
const LOOK: Duration = Duration::from_millis(100);
/// Requests that are given out before answers are looked at.
const AT_ONCE: u32 = 64;

#[derive(Debug, Clone, Copy)]
struct Job {
    index: u64,
    due_us: u64,
}

/// A connection that waits for work.
#[derive(Default)]
struct Seat {
    job: Cell<Option<Job>>,
    waker: Cell<Option<Waker>>,
}

impl Seat {
    fn give(&self, job: Job) {
        self.job.set(Some(job));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn job(&self) -> Job {
        poll_fn(|cx| match self.job.take() {
            Some(job) => Poll::Ready(job),
            None => {
                self.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

/// The connections of a thread.
#[derive(Default)]
struct Pool {
    idle: RefCell<Vec<Rc<Seat>>>,
    seats: Cell<usize>,
    waiting: RefCell<VecDeque<Job>>,
}

/// Sends a thread's part of the schedule; returns when that was over.
///
/// # Errors
/// There is no timer.
pub async fn run(worker: &Rc<Worker>) -> Result<u64, String> {
    let alarm = Alarm::new().map_err(|error| format!("no timer: {error}"))?;
    let pool = Rc::new(Pool::default());
    let (plan, threads) = (&worker.plan, worker.threads as u64);
    let mut at_once = 0;
    for (index, due_us) in (0u64..).zip(plan.schedule()) {
        if index % threads != worker.number as u64 {
            continue;
        }
        if worker.clock.now_us() < due_us {
            at_once = 0;
        } else if at_once >= AT_ONCE {
            task::turn().await;
            at_once = 0;
        }
        while worker.clock.now_us() < due_us && !worker.is_stopped() {
            let wait = worker.clock.until(due_us).min(LOOK);
            alarm.wait(wait).await.map_err(|error| format!("the timer: {error}"))?;
        }
        if worker.is_stopped() {
            break;
        }
        at_once += 1;
        worker.begin();
        dispatch(worker, &pool, Job { index, due_us });
    }
    // The schedule may end before its last phase does.
    while worker.clock.now_us() < worker.end_us() {
        alarm
            .wait(worker.clock.until(worker.end_us()).min(LOOK))
            .await
            .map_err(|error| format!("the timer: {error}"))?;
    }
    Ok(worker.end_us())
}

fn dispatch(worker: &Rc<Worker>, pool: &Rc<Pool>, job: Job) {
    if let Some(seat) = pool.idle.borrow_mut().pop() {
        seat.give(job);
    } else if pool.seats.get() < worker.share(worker.plan.scenario.load.connections).max(1) {
        pool.seats.set(pool.seats.get() + 1);
        task::spawn(serve(Rc::clone(worker), Rc::clone(pool), job));
    } else if pool.waiting.borrow().len() < WAITING_MAX {
        pool.waiting.borrow_mut().push_back(job);
    } else {
        unsent(worker, job);
    }
}

/// The life of a connection.
async fn serve(worker: Rc<Worker>, pool: Rc<Pool>, first: Job) {
    let (mut line, seat, mut job) = (Line::new(&worker), Rc::new(Seat::default()), first);
    loop {
        line.run(job.index, job.due_us).await;
        let waiting = pool.waiting.borrow_mut().pop_front();
        job = match waiting {
            Some(job) => job,
            None => {
                pool.idle.borrow_mut().push(Rc::clone(&seat));
                seat.job().await
            }
        };
    }
}

fn unsent(worker: &Worker, job: Job) {
    let mut request = Request::default();
    worker.plan.write(job.index, &mut request);
    let sample = Sample {
        work: request.work,
        key: request.key,
        due_us: job.due_us,
        sent_us: job.due_us,
        end_us: worker.clock.now_us(),
        first_us: None,
        outcome: Outcome::Unsent,
        status: 0,
        resent: false,
        events: 0,
        bytes_in: 0,
    };
    worker.end(&sample, request.hit);
}
