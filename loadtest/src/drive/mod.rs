//! Sends a plan: threads that share nothing but the plan and the epoch, and the seconds they report.

mod closed;
mod h2;
mod line;
mod open;
mod worker;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::measure::{Measures, Second};
use crate::net::dial::Dial;
use crate::net::runtime::cpu_us;
use crate::plan::Plan;
pub use worker::Part;

/// From the start of the threads to the epoch, so that all are ready.
const AHEAD: Duration = Duration::from_millis(50);

/// How it is sent.
#[derive(Clone)]
pub struct Options {
    /// Where to.
    pub dial: Dial,
    /// Threads, each with its part of the connections and arrivals.
    pub threads: usize,
    /// HTTP/2 with so many requests at once on a connection; otherwise HTTP/1.1.
    pub h2: Option<usize>,
    /// Once it is set no more requests are begun, and those that run are waited for.
    pub stop: Arc<AtomicBool>,
}

/// What a run has measured.
#[derive(Debug)]
pub struct Run {
    /// All threads together.
    pub measures: Measures,
    /// The seconds of the run, answers after its end included.
    pub seconds: Vec<Second>,
    /// How long requests were begun: shorter than planned, if it was stopped.
    pub time: Duration,
    /// `io_uring` or `epoll`.
    pub driver: &'static str,
    /// User and system time of this process, in microseconds.
    pub cpu_us: u64,
}

/// Sends `plan` and waits for the answers; `on_second` sees each second once all threads have reported it.
///
/// # Errors
/// A thread or its runtime cannot be had.
pub fn run(plan: &Arc<Plan>, options: &Options, mut on_second: impl FnMut(&Second)) -> Result<Run, String> {
    let threads = options.threads.max(1);
    let (cpu_before, epoch) = (cpu_us(), Instant::now() + AHEAD);
    let (seconds_to, seconds_from) = mpsc::channel::<Second>();
    let mut running = Vec::with_capacity(threads);
    for number in 0..threads {
        let part = Part { plan: Arc::clone(plan), options: options.clone(), number, threads, epoch };
        let seconds_to = seconds_to.clone();
        let spawned =
            thread::Builder::new().name(format!("load {number}")).spawn(move || part.run(&seconds_to));
        running.push(spawned.map_err(|error| format!("a thread: {error}"))?);
    }
    drop(seconds_to);
    let mut seconds: Vec<(Second, usize)> = Vec::new();
    for second in seconds_from {
        let at = usize::try_from(second.number).unwrap_or(usize::MAX);
        match seconds.get_mut(at) {
            None => seconds.push((second, 1)), // each thread sends its own in order
            Some((sum, count)) => {
                sum.add(&second);
                *count += 1;
            }
        }
        if let Some((sum, count)) = seconds.get(at)
            && *count == threads
        {
            on_second(sum);
        }
    }
    let (mut measures, mut driver, mut time): (Option<Measures>, _, _) = (None, "", Duration::ZERO);
    for thread in running {
        let done = thread.join().map_err(|_| "a thread has panicked".to_owned())??;
        driver = done.driver;
        time = time.max(done.time);
        match &mut measures {
            Some(sum) => sum.add(&done.measures),
            None => measures = Some(done.measures),
        }
    }
    let measures = measures.ok_or("no thread")?;
    let seconds = seconds.into_iter().map(|(second, _)| second).collect();
    Ok(Run { measures, seconds, time, driver, cpu_us: cpu_us().saturating_sub(cpu_before) })
}
