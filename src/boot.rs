//! From a checked configuration to a serving process, and back: bind, spawn, signals, drain.
//!
//! Everything is bound before anything serves, so a taken port ends the start with exit code 1 and nothing lost.
//! Order of the end: stop accepting, let exchanges finish, stop the control core, exit.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::{Config, Level};
use crate::control;
use crate::guard::{self, Guard};
use crate::net::listener::{self, Listener, Role};
use crate::net::runtime::Runtime;
use crate::net::signal::{self, Signal};
use crate::net::tls::{self, Acceptor, Connector};
use crate::net::{clock, cpu, task};
use crate::shard::{Shard, serve};
use crate::world::{Bound, Made, World};

/// Operations in flight at once on a shard's ring before it must be flushed.
const ENTRIES: u32 = 1024;

/// What is wrong with the guard's settings, a line each.
#[must_use]
pub fn unfit(unfit: Vec<guard::Unfit>) -> io::Error {
    unfit_lines(unfit.into_iter().map(|unfit| (unfit.path, unfit.message)))
}

fn unfit_lines(lines: impl Iterator<Item = (String, String)>) -> io::Error {
    let lines: Vec<String> = lines.map(|(path, message)| format!("{path}: {message}")).collect();
    io::Error::new(io::ErrorKind::InvalidInput, lines.join("\n"))
}

/// Makes what a checked configuration asks for and only making can prove: scanners, certificates, keys.
///
/// # Errors
/// All that does not fit, as one `InvalidInput`.
pub fn make(config: &Config) -> io::Result<Made> {
    let mut lines = Vec::new();
    let guard = Guard::new(&config.guard, clock::now_ns)
        .map_err(|unfit| lines.extend(unfit.into_iter().map(|unfit| (unfit.path, unfit.message))));
    let acceptor = config.server.tls.as_ref().map(Acceptor::new).transpose();
    let acceptor =
        acceptor.map_err(|unfit| lines.extend(unfit.into_iter().map(|unfit| (unfit.path, unfit.message))));
    let mut connectors = Vec::new();
    for (at, endpoint) in config.endpoints.iter().enumerate() {
        let made = endpoint.url.tls.then(|| Connector::new(&endpoint.url.host, endpoint.ca.as_deref()));
        match made.transpose() {
            Ok(connector) => connectors.push(connector),
            Err(message) => lines.push((format!("endpoints[{at}]"), message)),
        }
    }
    match (guard, acceptor) {
        (Ok(guard), Ok(tls)) if lines.is_empty() => {
            Ok(Made { guard, tls, connectors, process_key: tls::random()? })
        }
        _ => Err(unfit_lines(lines.into_iter())),
    }
}

/// A running gateway.
pub struct Gateway {
    /// What all share.
    pub world: Arc<World>,
    shards: Vec<JoinHandle<()>>,
    control: JoinHandle<()>,
    stop_control: Arc<AtomicBool>,
    serving: Arc<AtomicUsize>,
}

impl Gateway {
    /// Binds, spawns, and returns once every shard accepts.
    ///
    /// # Errors
    /// The guard's settings do not fit (`InvalidInput`), an address cannot be bound, the access log cannot be opened, or no runtime can be had.
    pub fn start(config: Config) -> io::Result<Self> {
        signal::block();
        let files = cpu::raise_open_files();
        let made = make(&config)?;
        let shards = config.server.shards.unwrap_or_else(cpu::shards_auto).max(1);
        let tls = config.server.tls.as_ref();
        let plain = if tls.is_some_and(|tls| tls.redirect_http) { Role::Redirect } else { Role::Plain };
        let mut sockets: Vec<Vec<_>> = (0..shards).map(|_| Vec::new()).collect();
        let listening = bind(&config.server.listen, plain, &mut sockets)?;
        let listening_tls = tls.map_or(Ok(Vec::new()), |tls| bind(&tls.listen, Role::Tls, &mut sockets))?;
        let admin_socket = bind_one(config.server.admin_listen)?;
        let admin = admin_socket.local_addr()?;
        let pin = config.server.pin.unwrap_or(cpu::usable().len() >= 3);
        let world = Arc::new(World::new(config, made, shards, Bound { listening, listening_tls, admin }));
        if files < (world.config.server.max_connections as u64).saturating_mul(2) {
            world.log.write(
                Level::Warn,
                format_args!("open files are limited to {files}: fewer than max_connections may need (raise LimitNOFILE)"),
            );
        }
        // The control core has its descriptors before the first client can take them.
        let stop_control = Arc::new(AtomicBool::new(false));
        let (world_there, stop_there) = (Arc::clone(&world), Arc::clone(&stop_control));
        let (told, running) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("control".to_owned());
        let control = thread.spawn(move || control_core(world_there, admin_socket, &stop_there, &told))?;
        running.recv().unwrap_or_else(|_| Err(io::Error::other("the control core ended at its start")))?;
        let serving = Arc::new(AtomicUsize::new(0));
        let mut handles = Vec::new();
        for (index, sockets) in sockets.into_iter().enumerate() {
            let (world, serving) = (Arc::clone(&world), Arc::clone(&serving));
            let (told, ready) = std::sync::mpsc::sync_channel(1);
            let thread = std::thread::Builder::new().name(format!("shard-{index}"));
            handles.push(thread.spawn(move || shard(index, world, sockets, pin, &serving, &told))?);
            ready.recv().unwrap_or_else(|_| Err(io::Error::other("a shard ended at its start")))?;
        }
        Ok(Self { world, shards: handles, control, stop_control, serving })
    }

    /// Serves until a signal or `POST /drain` ends it; `false`: a shard was lost and the process should exit with 1.
    #[must_use]
    pub fn wait(self) -> bool {
        let mut whole = true;
        loop {
            match signal::wait(100) {
                Some(Signal::Drain) => self.world.draining.store(true, Ordering::Release),
                Some(Signal::Reload) => match self.world.reload_certificates() {
                    Ok(()) => self.world.log.write(Level::Info, format_args!("certificates read again")),
                    Err(why) => self.world.log.write(Level::Error, format_args!("reload refused: {why}")),
                },
                None => {}
            }
            if !self.world.is_draining() && self.shards.iter().any(JoinHandle::is_finished) {
                self.world.log.write(Level::Error, format_args!("a shard has ended; draining the others"));
                self.world.draining.store(true, Ordering::Release);
                whole = false;
            }
            if self.world.is_draining() && self.serving.load(Ordering::Acquire) == 0 {
                break;
            }
        }
        self.world.log.write(Level::Info, format_args!("drained"));
        self.stop_control.store(true, Ordering::Release);
        // Shards and control core are done with their work; their rings go with the process.
        let _ = self.control.join();
        whole
    }

    /// The line that says where it serves.
    #[must_use]
    pub fn ready_line(&self) -> String {
        let text = |all: &[SocketAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let https = match &self.world.listening_tls[..] {
            [] => String::new(),
            some => format!(" https={}", text(some)),
        };
        let driver =
            self.world.shards.first().and_then(|shard| shard.driver.get()).copied().unwrap_or("unknown");
        format!(
            "ready http={}{https} admin={} shards={} driver={driver}",
            text(&self.world.listening),
            self.world.admin,
            self.world.shards.len()
        )
    }
}

/// A socket per shard for each address; port 0 is chosen once and shared.
fn bind(
    addresses: &[SocketAddr],
    role: Role,
    sockets: &mut [Vec<(TcpListener, Role)>],
) -> io::Result<Vec<SocketAddr>> {
    let mut listening = Vec::new();
    for &address in addresses {
        let mut bound = address;
        for shard in sockets.iter_mut() {
            let socket = bind_one(bound)?;
            bound = socket.local_addr()?;
            shard.push((socket, role));
        }
        listening.push(bound);
    }
    Ok(listening)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    listener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

fn control_core(world: Arc<World>, admin: TcpListener, stop: &AtomicBool, told: &SyncSender<io::Result<()>>) {
    let here = Arc::clone(&world);
    if let Err(error) = control::run(world, admin, stop, told) {
        here.log.write(Level::Error, format_args!("the control core has ended: {error}"));
        let _ = told.try_send(Err(error)); // nobody listens once it has run
    }
}

/// The life of a shard's thread.
fn shard(
    index: usize,
    world: Arc<World>,
    sockets: Vec<(TcpListener, Role)>,
    pin: bool,
    serving: &AtomicUsize,
    told: &std::sync::mpsc::SyncSender<io::Result<()>>,
) {
    let cores = cpu::usable();
    if let Some(&core) = cores.get(index % cores.len().max(1)).filter(|_| pin)
        && let Err(error) = cpu::pin(core)
    {
        world.log.write(Level::Warn, format_args!("shard {index} cannot stay on core {core}: {error}"));
    }
    let mut runtime = match Runtime::build(world.config.server.driver, ENTRIES) {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = told.send(Err(error));
            return;
        }
    };
    let _ = world.shards[index].driver.set(runtime.driver().name());
    world.shards[index].metrics.thread.store(cpu::thread_id(), Ordering::Relaxed);
    let drain_timeout = world.config.server.drain_timeout;
    let shard = Rc::new(Shard::new(index, world));
    runtime.block_on(async {
        let listeners = sockets.into_iter().map(|(socket, role)| Listener::new(socket, role));
        let listeners = listeners.collect::<io::Result<Vec<_>>>();
        let listeners: Vec<_> = match listeners {
            Ok(listeners) => listeners.into_iter().map(Rc::new).collect(),
            Err(error) => {
                let _ = told.send(Err(error));
                return;
            }
        };
        for listener in &listeners {
            task::spawn(&shard.tasks, serve::accept(Rc::clone(&shard), Rc::clone(listener)));
        }
        task::spawn(&shard.tasks, serve::receive(Rc::clone(&shard)));
        task::spawn(&shard.tasks, serve::housekeeping(Rc::clone(&shard)));
        serving.fetch_add(1, Ordering::AcqRel);
        let _ = told.send(Ok(()));
        while !shard.world.is_draining() {
            clock::sleep(clock::TICK).await;
        }
        drain(&shard, &listeners, drain_timeout).await;
        serving.fetch_sub(1, Ordering::AcqRel);
    });
}

/// Stops accepting once nothing waits to be accepted, then lets exchanges finish.
async fn drain(shard: &Shard, listeners: &[Rc<Listener>], limit: Duration) {
    // What the kernel has queued is still accepted, and answered with `connection: close`.
    clock::sleep(Duration::from_millis(100)).await;
    listeners.iter().for_each(|listener| listener.close());
    let end_us = shard.clock.now_us().saturating_add(crate::shard::head::micros(limit));
    while shard.metrics().connections.get() > 0 && shard.clock.now_us() < end_us {
        clock::sleep(Duration::from_millis(10)).await;
    }
}
