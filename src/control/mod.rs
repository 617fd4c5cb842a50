//! The control core: everything that is not a client's exchange, on a thread of its own.
//!
//! It probes endpoints, resolves their names, rebuilds the catalog, writes logs, and answers the admin listener.
//! It only reads what shards publish; a scrape, however slow its reader, never stops a shard.

pub mod admin;
pub mod dns;
pub mod probe;
pub mod status;

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use crate::config::{Driver, Level};
use crate::net::buffer::Buffers;
use crate::net::clock::{self, Clock, Timers};
use crate::net::runtime::Runtime;
use crate::net::task::{self, TaskCounts};
use crate::telemetry::log::Sink;
use crate::world::World;

/// Operations in flight at once on the control core's ring.
const ENTRIES: u32 = 256;
/// How long a line of the log may wait.
const LOG_TICK: Duration = Duration::from_millis(20);

/// State of the control core's own thread.
pub struct Control {
    /// What all share.
    pub world: Arc<World>,
    /// Its time.
    pub clock: Clock,
    /// Its deadlines.
    pub timers: Rc<Timers>,
    /// Its buffers.
    pub buffers: Rc<Buffers>,
    /// Its tasks.
    pub tasks: Rc<TaskCounts>,
}

/// Runs the control core until `stop` is set; writes what is left of the log then. `told` hears once that it runs.
///
/// # Errors
/// No runtime, or the access log cannot be opened.
pub fn run(
    world: Arc<World>,
    admin: TcpListener,
    stop: &AtomicBool,
    told: &SyncSender<std::io::Result<()>>,
) -> std::io::Result<()> {
    let mut sink = Sink::open(&world.config.log.access)?;
    let driver = if world.config.server.driver == Driver::Epoll { Driver::Epoll } else { Driver::Auto };
    let mut runtime = Runtime::build(driver, ENTRIES)?;
    let control = Rc::new(Control {
        world,
        clock: Clock::start(),
        timers: Rc::default(),
        buffers: Rc::default(),
        tasks: Rc::default(),
    });
    runtime.block_on(async {
        dns::start(&control.world);
        probe::start(&control);
        task::spawn(&control.tasks, admin::serve(Rc::clone(&control), admin));
        let _ = told.send(Ok(()));
        while !stop.load(Ordering::Acquire) {
            clock::sleep(LOG_TICK).await;
            control.timers.tick(control.clock.now_us());
            if !sink.drain(&control.world.log) {
                control
                    .world
                    .log
                    .write(Level::Error, format_args!("the access log cannot be written; lines are lost"));
            }
        }
        sink.drain(&control.world.log);
    });
    Ok(())
}
