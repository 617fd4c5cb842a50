//! The closed loop: every connection sends its next request when it has the last answer.
//!
//! It measures what a server can do, not what users feel: while the server stalls, nothing is sent.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::line::Line;
use super::worker::{Worker, micros};
use crate::net::clock::sleep;
use crate::net::task;

/// Pause after a request that was lost, so that a dead server is not stormed.
const LOST_PAUSE: Duration = Duration::from_millis(10);

/// How often it is looked whether the run was stopped.
const LOOK: Duration = Duration::from_millis(100);

/// Numbers of the requests of a thread: every n-th one of all.
struct Numbers {
    next: Cell<u64>,
    step: u64,
}

impl Numbers {
    fn take(&self) -> u64 {
        let number = self.next.get();
        self.next.set(number + self.step);
        number
    }
}

/// Runs all connections of a thread until the time is over; returns when that was.
pub async fn run(worker: &Rc<Worker>) -> u64 {
    let load = &worker.plan.scenario.load;
    let end_us = micros(worker.plan.scenario.time());
    let numbers = Rc::new(Numbers { next: Cell::new(worker.number as u64), step: worker.threads as u64 });
    let share = worker.share(load.connections);
    for place in 0..share {
        let begin_us = micros(load.ramp_up) * place as u64 / share as u64;
        let (worker, numbers) = (Rc::clone(worker), Rc::clone(&numbers));
        task::spawn(async move { connection(&worker, &numbers, begin_us, end_us).await });
    }
    while worker.clock.now_us() < end_us && !worker.is_stopped() {
        sleep(worker.clock.until(end_us).min(LOOK)).await;
    }
    worker.end_us()
}

async fn connection(worker: &Rc<Worker>, numbers: &Numbers, begin_us: u64, end_us: u64) {
    let think = worker.plan.scenario.load.think;
    if begin_us > 0 {
        sleep(worker.clock.until(begin_us)).await;
    }
    let mut line = Line::new(worker);
    loop {
        let now = worker.clock.now_us();
        if now >= end_us || worker.is_stopped() {
            return;
        }
        worker.begin();
        let outcome = line.run(numbers.take(), now).await;
        let pause = if outcome.is_lost() { think.max(LOST_PAUSE) } else { think };
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
}
