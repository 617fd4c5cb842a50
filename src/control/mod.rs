//! The control core: everything that is not a client's exchange, on a thread of its own.
//!
//! It probes endpoints, resolves their names, rebuilds the catalog, exports spans, writes logs, and answers the admin listener.
//! It only reads what shards publish; a scrape, however slow its reader, never stops a shard.

pub mod admin;
pub mod dns;
pub mod explain;
pub mod export;
pub mod fleet;
pub mod live;
pub mod probe;
pub mod status;
mod ui;
mod watch;

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use crate::config::Driver;
use crate::net::buffer::Buffers;
use crate::net::clock::{self, Clock, Timers};
use crate::net::gate::Gate;
use crate::net::listener::{Listener, Rest, Role};
use crate::net::runtime::Runtime;
use crate::net::task::{self, TaskCounts};
use crate::net::turn::Turns;
use crate::world::{Current, World};

/// Operations in flight at once on the control core's ring.
const ENTRIES: u32 = 256;
/// How long a line of the log may wait.
const LOG_TICK: Duration = Duration::from_millis(20);

/// State of the control core's own thread.
pub struct Control {
    /// Where the newest world is found.
    pub current: Arc<Current>,
    /// Its time.
    pub clock: Clock,
    /// Its deadlines.
    pub timers: Rc<Timers>,
    /// Its buffers.
    pub buffers: Rc<Buffers>,
    /// Its tasks.
    pub tasks: Rc<TaskCounts>,
    /// Turns through the kernel for long work.
    pub turns: Turns,
    /// Bounds the questions that are explained at once.
    pub explaining: Rc<Gate>,
    watched: probe::Watched,
    live: live::Live,
    exporting: export::Exporting,
    sharing: fleet::Sharing,
}

impl Control {
    /// The newest world.
    #[must_use]
    pub fn world(&self) -> Arc<World> {
        self.current.world()
    }
}

/// Runs the control core until `stop` is set; writes what is left of the log then. `told` hears once that it runs.
///
/// # Errors
/// No runtime.
pub fn run(
    current: Arc<Current>,
    admin: TcpListener,
    stop: &AtomicBool,
    told: &SyncSender<std::io::Result<()>>,
) -> std::io::Result<()> {
    let world = current.world();
    let driver = if world.config.server.driver == Driver::Epoll { Driver::Epoll } else { Driver::Auto };
    let mut runtime = Runtime::build(driver, ENTRIES)?;
    let control = Rc::new(Control {
        current,
        clock: Clock::start(),
        timers: Rc::default(),
        buffers: Rc::default(),
        tasks: Rc::default(),
        turns: Turns::default(),
        explaining: Rc::new(Gate::new(explain::AT_ONCE)),
        watched: probe::Watched::default(),
        live: live::Live::default(),
        exporting: export::Exporting::default(),
        sharing: fleet::Sharing::default(),
    });
    let process = Arc::clone(&world.process);
    drop(world);
    runtime.block_on(async {
        let (mut known, mut resolves) = (0, false);
        follow(&control, &mut known, &mut resolves);
        let listener = match Listener::new(admin, Role::Plain) {
            Ok(listener) => Rc::new(listener),
            Err(error) => return Err(error),
        };
        task::spawn(&control.tasks, admin::serve(Rc::clone(&control), Rc::clone(&listener)));
        export::start(&control);
        fleet::start(&control);
        let _ = told.send(Ok(()));
        while !stop.load(Ordering::Acquire) {
            clock::sleep(LOG_TICK).await;
            process.control_ticks.fetch_add(1, Ordering::Relaxed);
            control.timers.tick(control.clock.now_us());
            follow(&control, &mut known, &mut resolves);
            if process.handed_over.load(Ordering::Relaxed) {
                listener.close(Rest::Left); // the successor answers there
            }
            process.log.drain();
        }
        export::flush(&control).await;
        fleet::leave(&control).await;
        process.log.drain();
        Ok(())
    })
}

/// Begins to probe and resolve what a new world has.
fn follow(control: &Rc<Control>, known: &mut u64, resolves: &mut bool) {
    let generation = control.current.generation();
    if *known == generation {
        return;
    }
    *known = generation;
    let world = control.world();
    world.rebuild_catalog(); // what probes found while it was made
    probe::start(control, &world);
    if !*resolves && dns::is_needed(&world) {
        *resolves = true;
        dns::start(&control.current);
    }
}
