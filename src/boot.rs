//! From a checked configuration to a serving process, and back: bind, spawn, signals, reload, drain.
//!
//! Everything is bound before anything serves, so a taken port ends the start with exit code 1 and nothing lost.
//! Order of the end: stop accepting, let exchanges finish, write the journal's last lines, stop the control core, exit. The main thread does what is
//! slow and rare: it waits for signals, reads configurations, and starts successors.

pub mod facts;
mod made;
mod reload;
mod sockets;
mod upgrade;
mod watchdog;

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

pub use made::{make, unfit};
pub use upgrade::Inheritance;

use crate::config::{Access, Config, Level};
use crate::control;
use crate::journal;
use crate::net::listener::Rest;
use crate::net::runtime::Runtime;
use crate::net::signal::{self, Signal};
use crate::net::{clock, cpu, handover, task};
use crate::shard::{Core, line, serve};
use crate::telemetry::log::Log;
use crate::world::{Current, Process, World};
use sockets::Sockets;

/// Operations in flight at once on a shard's ring before it must be flushed.
const ENTRIES: u32 = 1024;

/// How often a shard looks whether it may begin, and the main thread whether all have.
const OPEN_LOOK: Duration = Duration::from_millis(1);

/// What a gateway is started with.
pub struct Start {
    /// The checked configuration.
    pub config: Config,
    /// Where it was read, to be read again.
    pub file: Option<PathBuf>,
    /// What a process before this one passed on.
    pub inheritance: Inheritance,
}

impl From<Config> for Start {
    /// Without a file, and without anything passed on.
    fn from(config: Config) -> Self {
        Self { config, file: None, inheritance: Inheritance::default() }
    }
}

/// A running gateway.
pub struct Gateway {
    /// What lives as long as the process.
    pub process: Arc<Process>,
    /// What is served.
    pub current: Arc<Current>,
    sockets: Sockets,
    watch: reload::Watch,
    door: upgrade::Door,
    successor: Option<upgrade::Successor>,
    watchdog: Option<watchdog::Watchdog>,
    /// Those that something may still run under.
    worlds: Vec<Arc<World>>,
    shards: Vec<JoinHandle<()>>,
    control: JoinHandle<()>,
    journal: Option<journal::Thread>,
    stop_control: Arc<AtomicBool>,
    serving: Arc<AtomicUsize>,
}

impl Gateway {
    /// Binds, spawns, and returns once every shard accepts.
    ///
    /// # Errors
    /// The guard's settings do not fit (`InvalidInput`), an address cannot be bound, the access log cannot be opened, or no runtime can be had.
    pub fn start(start: impl Into<Start>) -> io::Result<Self> {
        let Start { config, file, mut inheritance } = start.into();
        signal::block();
        let files = cpu::raise_open_files();
        let made = make(&config, None)?;
        let shards = config.server.shards.unwrap_or_else(cpu::shards_auto).max(1);
        let sockets = Sockets::open(&config.server, shards, inheritance.take_sockets()?)?;
        let bound = sockets.bound(&config, shards);
        let pin = config.server.pin.unwrap_or(cpu::usable().len() >= 3);
        let process = Process::new(shards, Log::new(config.log.level, &config.log.access));
        process.running.set_max(reload::places(&config));
        if inheritance.is_activated() {
            sockets.warn_of_unnamed(&process.log);
        }
        let current = Current::new(World::new(&process, config, made, bound, None));
        let world = current.world();
        if files < (world.config.server.max_connections as u64).saturating_mul(2) {
            process.log.write(
                Level::Warn,
                format_args!("open files are limited to {files}: fewer than max_connections may need (raise LimitNOFILE)"),
            );
        }
        // The control core has its descriptors before the first client can take them.
        let stop_control = Arc::new(AtomicBool::new(false));
        let admin = sockets.admin()?;
        let (here, stop_there) = (Arc::clone(&current), Arc::clone(&stop_control));
        let (told, running) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("control".to_owned());
        let control = thread.spawn(move || control_core(here, admin, &stop_there, &told))?;
        running.recv().unwrap_or_else(|_| Err(io::Error::other("the control core ended at its start")))?;
        let journal = start_journal(&process, &world.config)?;
        let serving = Arc::new(AtomicUsize::new(0));
        let mut handles = Vec::new();
        for index in 0..shards {
            let (process, current, serving) =
                (Arc::clone(&process), Arc::clone(&current), Arc::clone(&serving));
            let (told, ready) = std::sync::mpsc::sync_channel(1);
            let thread = std::thread::Builder::new().name(format!("shard-{index}"));
            handles.push(thread.spawn(move || shard(index, process, current, pin, &serving, &told))?);
            ready.recv().unwrap_or_else(|_| Err(io::Error::other("a shard ended at its start")))?;
        }
        // Nothing is accepted before it is certain that this process stays.
        let has_predecessor = inheritance.ready(&process.log)?;
        process.open.store(true, Ordering::Release);
        while serving.load(Ordering::Acquire) < shards && !handles.iter().any(JoinHandle::is_finished) {
            std::thread::park_timeout(OPEN_LOOK);
        }
        let door = upgrade::Door::open(&world.config.server, has_predecessor, &process.log);
        Ok(Self {
            process,
            current,
            sockets,
            watch: reload::Watch::new(file),
            door,
            successor: None,
            watchdog: watchdog::Watchdog::new(handover::watchdog(), clock::now_ns()),
            worlds: vec![world],
            shards: handles,
            control,
            journal,
            stop_control,
            serving,
        })
    }

    /// Serves until a signal or `POST /drain` ends it; `false`: a shard was lost and the process should exit with 1.
    #[must_use]
    pub fn wait(mut self) -> bool {
        let mut whole = true;
        loop {
            match signal::wait(100) {
                Some(Signal::Drain) => self.process.drain_asked.store(true, Ordering::Release),
                Some(Signal::Reload) if !self.process.is_draining() => {
                    let _ = self.reload("HUP"); // the log has said it
                }
                Some(Signal::Upgrade) => self.upgrade(),
                Some(Signal::Reload) | None => {}
            }
            if !self.process.is_draining() && self.shards.iter().any(JoinHandle::is_finished) {
                self.process.log.write(Level::Error, format_args!("a shard has ended; draining the others"));
                self.process.drain_asked.store(true, Ordering::Release);
                whole = false;
            }
            if !self.process.is_draining() && self.process.drain_asked.load(Ordering::Acquire) {
                self.abandon_successor();
                self.sockets.close(); // the shards close them when they have accepted what waits there
                self.process.draining.store(true, Ordering::Release);
            }
            self.tell_watchdog();
            // A world that nothing runs under any more ends here, not on a shard.
            self.worlds.retain(|world| Arc::strong_count(world) > 1);
            if !self.process.is_draining() {
                self.run_errands();
                self.follow_successor();
            } else if self.serving.load(Ordering::Acquire) == 0
                || self.shards.iter().all(JoinHandle::is_finished)
            {
                break;
            }
        }
        if !self.process.handed_over.load(Ordering::Acquire) {
            handover::notify("STOPPING=1"); // else the service goes on, in another process
        }
        self.process.log.write(Level::Info, format_args!("drained"));
        if self.journal.take().is_some_and(|journal| !journal.finish()) {
            self.process
                .log
                .write(Level::Error, format_args!("the journal's disk does not answer; lines are lost"));
        }
        self.stop_control.store(true, Ordering::Release);
        // Shards and control core are done with their work; their rings go with the process.
        let _ = self.control.join();
        whole
    }

    /// What others ask for: reloads by the admin listener, by the file's change, and processes at the door.
    fn run_errands(&mut self) {
        let errands: Vec<_> = std::iter::from_fn(|| self.process.errands.pop()).collect();
        if !errands.is_empty() {
            let outcome = self.reload("POST /reload");
            errands.iter().for_each(|errand| errand.done(outcome.clone()));
        }
        if self.watch.changed(self.current.world().config.server.watch) {
            let _ = self.reload("the file has changed"); // the log has said it
        }
    }

    /// The line that says where it serves.
    #[must_use]
    pub fn ready_line(&self) -> String {
        let world = self.current.world();
        let text = |all: &[SocketAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let https = match &world.bound.listening_tls[..] {
            [] => String::new(),
            some => format!(" https={}", text(some)),
        };
        format!(
            "ready http={}{https} admin={} shards={} driver={}",
            text(&world.bound.listening),
            world.bound.admin,
            self.process.shards.len(),
            self.driver()
        )
    }

    /// The kernel interface of the shards, by its name.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        self.process.shards.first().and_then(|shard| shard.driver.get()).copied().unwrap_or("unknown")
    }
}

/// Starts the journal if access lines go to a file.
fn start_journal(process: &Arc<Process>, config: &Config) -> io::Result<Option<journal::Thread>> {
    let (Access::File(path), Some(queue)) = (&config.log.access, process.log.journal()) else {
        return Ok(None);
    };
    let (queue, there) = (Arc::clone(queue), Arc::clone(process));
    let tell = move |level, text: std::fmt::Arguments<'_>| there.log.write(level, text);
    journal::start(path, &config.log.journal, config.server.driver, queue, tell).map(Some)
}

fn control_core(
    current: Arc<Current>,
    admin: TcpListener,
    stop: &AtomicBool,
    told: &SyncSender<io::Result<()>>,
) {
    let process = Arc::clone(&current.world().process);
    if let Err(error) = control::run(current, admin, stop, told) {
        process.log.write(Level::Error, format_args!("the control core has ended: {error}"));
        let _ = told.try_send(Err(error)); // nobody listens once it has run
    }
}

/// The life of a shard's thread.
fn shard(
    index: usize,
    process: Arc<Process>,
    current: Arc<Current>,
    pin: bool,
    serving: &AtomicUsize,
    told: &SyncSender<io::Result<()>>,
) {
    let cores = cpu::usable();
    if let Some(&core) = cores.get(index % cores.len().max(1)).filter(|_| pin)
        && let Err(error) = cpu::pin(core)
    {
        process.log.write(Level::Warn, format_args!("shard {index} cannot stay on core {core}: {error}"));
    }
    let mut runtime = match Runtime::build(current.world().config.server.driver, ENTRIES) {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = told.send(Err(error));
            return;
        }
    };
    let _ = process.shards[index].driver.set(runtime.driver().name());
    process.shards[index].metrics.thread.store(cpu::thread_id(), Ordering::Relaxed);
    let core = Core::new(index, process, current);
    runtime.block_on(async {
        let _ = told.send(Ok(()));
        while !core.process.open.load(Ordering::Acquire) {
            clock::sleep(OPEN_LOOK).await;
        }
        if let Err(error) = core.listen() {
            core.process.log.write(Level::Error, format_args!("shard {index}: cannot listen yet: {error}"));
        }
        task::spawn(&core.tasks, serve::receive(std::rc::Rc::clone(&core)));
        task::spawn(&core.tasks, line::usher(std::rc::Rc::clone(&core)));
        task::spawn(&core.tasks, serve::housekeeping(std::rc::Rc::clone(&core)));
        serving.fetch_add(1, Ordering::AcqRel);
        while !core.process.is_draining() {
            clock::sleep(clock::TICK).await;
        }
        drain(&core).await;
        core.lines.hand_over(&core.process.log, core.clock.now_us());
        serving.fetch_sub(1, Ordering::AcqRel);
    });
}

/// Stops accepting, then lets exchanges finish. What the kernel has queued is still accepted, and answered with
/// `connection: close`, unless another process does it.
async fn drain(core: &Core) {
    let handed_over = core.process.handed_over.load(Ordering::Acquire);
    core.stop_listening(if handed_over { Rest::Left } else { Rest::Accepted });
    let config = &core.current.world().config;
    // Nobody waits for a process whose place is taken: what runs, or comes on a connection that is idle now, has all its time.
    let limit = if handed_over {
        let totals = config.models.iter().map(|model| model.timeouts.total).max();
        let last = Duration::from_micros(serve::IDLE_HANDED_OVER_US) + totals.unwrap_or_default();
        config.server.drain_timeout.max(last)
    } else {
        config.server.drain_timeout
    };
    let end_us = core.clock.now_us().saturating_add(crate::shard::head::micros(limit));
    // A connection that has just been accepted is on its way to be counted.
    clock::sleep(clock::TICK).await;
    let door = &core.process.shards[core.index].door;
    let is_busy = || core.metrics().connections.get() > 0 || door.waiting() > 0 || core.pumps.get() > 0;
    // A socket that another shard has just pushed is served before this one ends.
    while (is_busy() || !door.close()) && core.clock.now_us() < end_us {
        clock::sleep(Duration::from_millis(10)).await;
    }
}

/// The command line of this process, to be started again with.
fn own_arguments() -> (Option<PathBuf>, Vec<OsString>) {
    let mut arguments = std::env::args_os();
    let program = arguments.next().map(PathBuf::from);
    (program, arguments.collect())
}
