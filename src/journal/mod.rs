//! The journal: access lines into files, by a thread of its own.
//!
//! ```text
//! shards ─► queue (bounded, drops counted) ─► recorder ─┬─ direct: glommio, O_DIRECT ─► open segment ─► closed ones ─► archive
//!                                                       └─ buffered: write(2)           (the path)      (numbered)   (gzip, delete)
//! ```
//!
//! A shard's push never waits, and nothing that happens to the disk reaches it. `writer = "auto"` takes the direct writer
//! where io_uring, the limit of locked memory and the file system allow it, and says once why not; a panic of glommio
//! ends in the buffered writer too. `driver = "epoll"` keeps io_uring out of the process, so `auto` is buffered then.
//! Memory: the queue (2 MiB and at most 32 MiB of lines), a batch of 1 MiB, and glommio's 6.5 MiB.

mod archive;
mod buffered;
mod direct;
mod names;
mod plan;
pub mod queue;
mod recorder;
mod segment;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::config::observe::{Journal, Writer as Wanted};
use crate::config::{Driver, Level};
use crate::net::{clock, runtime};
use buffered::{Buffered, Writer as _};
use direct::Direct;
use names::Names;
use queue::{InUse, Queue};
use recorder::{Recorder, Rules, Tell};
use segment::Segment;

/// How long the end of a process waits for the disk.
const LAST: Duration = Duration::from_secs(10);

/// The journal's thread.
#[derive(Debug)]
pub struct Thread {
    handle: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

/// Starts writing the lines of `queue` to `path`, once the first segment is open. `tell` hears what people should know.
///
/// # Errors
/// The path cannot be opened, or direct writing was demanded and is denied.
pub fn start(
    path: &Path,
    config: &Journal,
    driver: Driver,
    queue: Arc<Queue>,
    tell: impl Fn(Level, std::fmt::Arguments<'_>) + Send + 'static,
) -> io::Result<Thread> {
    // A link is followed: segments are beside the file itself. A file that is not there yet has no link to follow.
    let absolute = std::path::absolute(path)?;
    let names = Names::of(fs::canonicalize(&absolute).unwrap_or(absolute));
    let (rules, wanted) = (Rules::of(config), config.writer);
    let stop = Arc::new(AtomicBool::new(false));
    let stop_there = Arc::clone(&stop);
    let (told, ready) = sync_channel(1);
    let tell: Box<Tell> = Box::new(tell);
    let run = move || match Segment::first(&names, recorder::now()) {
        Ok(segment) => {
            let recorder = Recorder::new(&queue, &*tell, &names, rules, segment);
            work(recorder, wanted, driver, &stop_there, &told);
        }
        Err(error) => {
            let _ = told.send(Err(error)); // the caller waits for it
        }
    };
    let handle = thread::Builder::new().name("journal".to_owned()).spawn(run)?;
    let outcome = ready.recv().unwrap_or_else(|_| Err(io::Error::other("the journal ended at its start")));
    let named = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => " (hint: make its folder first: `mkdir -p`)",
            io::ErrorKind::PermissionDenied => " (hint: the gateway's user must be able to write there)",
            _ => "",
        };
        io::Error::new(error.kind(), format!("log.access: {}: {error}{hint}", path.display()))
    };
    outcome.map_err(named)?;
    Ok(Thread { handle, stop })
}

impl Thread {
    /// Writes and syncs what waits, and ends; `false`: the disk has not answered in ten seconds.
    pub fn finish(self) -> bool {
        self.stop.store(true, Ordering::Release);
        let end = clock::now() + LAST;
        while !self.handle.is_finished() && clock::now() < end {
            self.handle.thread().unpark();
            thread::park_timeout(Duration::from_millis(2));
        }
        self.handle.is_finished() && self.handle.join().is_ok()
    }
}

/// The life of the journal's thread, by the best writer there is.
fn work(
    mut recorder: Recorder<'_>,
    wanted: Wanted,
    driver: Driver,
    stop: &AtomicBool,
    told: &SyncSender<io::Result<()>>,
) {
    let denied = match wanted {
        Wanted::Buffered => None,
        Wanted::Auto if !runtime::wants_uring(driver) => Some("the driver is epoll".to_owned()),
        Wanted::Auto | Wanted::Direct => match direct(&mut recorder, stop, told) {
            Ok(()) => return,
            Err(reason) => Some(reason),
        },
    };
    if let (Wanted::Direct, Some(reason)) = (wanted, &denied) {
        let text = format!("log.journal.writer is direct, and that is denied: {reason}");
        if told.try_send(Err(io::Error::new(io::ErrorKind::Unsupported, text))).is_ok() {
            return; // else it has run, and the lines matter more
        }
    }
    if let Some(reason) = denied {
        (recorder.tell)(Level::Info, format_args!("the journal is written by the kernel's cache: {reason}"));
    }
    recorder.queue.counts.set_writer(InUse::Buffered);
    let _ = told.try_send(Ok(())); // after a panic nobody waits
    buffered::run(recorder.run(&mut Buffered::default(), stop));
}

/// Writes directly until the end.
///
/// # Errors
/// Why that cannot begin, or go on.
fn direct(
    recorder: &mut Recorder<'_>,
    stop: &AtomicBool,
    told: &SyncSender<io::Result<()>>,
) -> Result<(), String> {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let executor = direct::executor(&recorder.segment.file)?;
        executor.run(async {
            let mut writer = Direct::default();
            writer.open(&recorder.segment.file).await.map_err(|error| error.to_string())?;
            recorder.queue.counts.set_writer(InUse::Direct);
            let _ = told.send(Ok(())); // the caller waits for it
            recorder.run(&mut writer, stop).await;
            Ok(())
        })
    }));
    ran.unwrap_or_else(|panic| {
        recorder.recover();
        let text =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("glommio has panicked: {}", text.unwrap_or("no message")))
    })
}
