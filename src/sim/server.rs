//! Starting and stopping: a thread, its runtime, its accept loop.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use super::calendar::Calendar;
use super::connection;
use super::options::Options;
use super::rack::Rack;
use super::stats::Stats;
use crate::config::Driver;
use crate::net::buffer::Buffers;
use crate::net::clock::{self, Timers};
use crate::net::listener::{self, Listener, Rest, Role};
use crate::net::runtime::Runtime;
use crate::net::task::{self, TaskCounts};
use crate::wire::json;

const RING_ENTRIES: u32 = 1024;
/// How often a server looks whether it should stop.
const LOOK: Duration = Duration::from_millis(20);

/// All state of one server; it lives on the server's thread.
pub struct Sim {
    pub options: Options,
    pub addr: SocketAddr,
    pub stats: Arc<Stats>,
    pub rack: Rack,
    pub calendar: Calendar,
    pub timers: Rc<Timers>,
    pub buffers: Rc<Buffers>,
    pub tasks: Rc<TaskCounts>,
    /// `options.token_text` as the inside of a JSON string.
    pub padding: Vec<u8>,
    /// `options.answer` likewise, and its tokens.
    pub answer: Option<(Rc<[u8]>, usize)>,
    /// Normalized names of `options.models`.
    pub models: Vec<String>,
    /// Answers begun, for their ids.
    pub answers: Cell<u64>,
    /// Statuses given by [`super::Fault::StatusFirst`].
    pub refused: Cell<u64>,
}

/// A running server. Dropping it lets the server run on until the process ends; [`Handle::stop`] ends it.
pub struct Handle {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What it counts.
    pub stats: Arc<Stats>,
    stopping: Arc<AtomicBool>,
    thread: ArrayQueue<JoinHandle<()>>,
}

impl Handle {
    /// Closes the listener, shuts every connection, and waits for the thread to end (about 30 ms).
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.pop() {
            let _ = thread.join(); // a panic there has nothing left to harm
        }
    }
}

/// Runs a server on a thread of its own; it listens when this returns.
///
/// # Errors
/// The address cannot be bound, or no thread or runtime can be had.
pub fn start(options: Options) -> io::Result<Handle> {
    let socket = listener::bind(options.listen)?;
    let addr = socket.local_addr()?;
    let stats = Arc::new(Stats::new(options.record));
    let stopping = Arc::new(AtomicBool::new(false));
    let (built, wait) = mpsc::sync_channel(1);
    let (its_stats, its_stopping) = (Arc::clone(&stats), Arc::clone(&stopping));
    let thread = thread::Builder::new().name(options.name.clone()).spawn(move || {
        match Runtime::build(Driver::Auto, RING_ENTRIES) {
            Ok(mut runtime) => {
                let _ = built.send(Ok(()));
                let _ = runtime.block_on(serve(options, addr, socket, its_stats, &its_stopping));
            }
            Err(error) => drop(built.send(Err(error))),
        }
    })?;
    wait.recv().map_err(io::Error::other)??;
    let handle = Handle { addr, stats, stopping, thread: ArrayQueue::new(1) };
    let _ = handle.thread.push(thread);
    Ok(handle)
}

/// Runs a server on the calling thread, without end.
///
/// # Errors
/// The address cannot be bound, or no runtime can be had.
pub fn serve_forever(options: Options) -> io::Result<()> {
    let socket = listener::bind(options.listen)?;
    let addr = socket.local_addr()?;
    let stats = Arc::new(Stats::new(options.record));
    let mut runtime = Runtime::build(Driver::Auto, RING_ENTRIES)?;
    runtime.block_on(serve(options, addr, socket, stats, &AtomicBool::new(false)))
}

async fn serve(
    options: Options,
    addr: SocketAddr,
    socket: TcpListener,
    stats: Arc<Stats>,
    stopping: &AtomicBool,
) -> io::Result<()> {
    let listener = Rc::new(Listener::new(socket, Role::Plain)?);
    let sim = Rc::new(Sim::new(options, addr, stats));
    task::spawn(&sim.tasks, accept(Rc::clone(&sim), Rc::clone(&listener)));
    while !stopping.load(Ordering::Acquire) {
        clock::sleep(LOOK).await;
    }
    listener.close(Rest::Left);
    drop(listener);
    for _ in 0..100 {
        sim.timers.tick(u64::MAX); // fires every timer, set or not: whoever waits for a client stops
        clock::sleep(Duration::from_millis(2)).await;
        if sim.tasks.live.get() == 0 {
            break;
        }
    }
    Ok(())
}

async fn accept(sim: Rc<Sim>, listener: Rc<Listener>) {
    while let Some((stream, peer)) = listener.accept(|| ()).await {
        connection::begin(&sim, stream, peer);
    }
}

impl Sim {
    fn new(options: Options, addr: SocketAddr, stats: Arc<Stats>) -> Self {
        let escaped = |text: &str| {
            let mut out = Vec::new();
            json::escape_into(&mut out, text);
            out
        };
        let answer = options.answer.as_deref();
        Self {
            addr,
            stats,
            rack: Rack::new(),
            calendar: Calendar::default(),
            timers: Rc::default(),
            buffers: Rc::default(),
            tasks: Rc::default(),
            padding: escaped(&options.token_text),
            answer: answer.map(|text| (escaped(text).into(), text.split_whitespace().count())),
            models: options.models.iter().map(|name| super::rack::normalized(name)).collect(),
            answers: Cell::new(0),
            refused: Cell::new(0),
            options,
        }
    }

    /// Whether the normalized `name` is a model of this server.
    pub fn has(&self, name: &str) -> bool {
        self.models.iter().any(|model| model == name)
            || super::Fault::of_model(name).is_some()
            || name.starts_with("think")
    }

    /// A number that no other answer has.
    pub fn next_id(&self) -> u64 {
        self.answers.set(self.answers.get() + 1);
        self.answers.get()
    }
}
