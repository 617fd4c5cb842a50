//! Another configuration for a running gateway: all of it, or nothing.
//!
//! Whatever can fail is done first: the file is checked whole, certificates and lists are read, new addresses are bound.
//! Only then the new world takes the place of the old one, for what begins from then on; what runs keeps the world it
//! began with. Endpoints, limits and callers that stay keep what is known of them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Gateway, make};
use crate::config::{self, Config, Level};
use crate::net::{clock, handover};
use crate::world::World;
use crate::world::errand::Outcome;

impl Gateway {
    /// Reads the configuration again; `cause` is for the log. Says what has changed, a line each.
    ///
    /// # Errors
    /// Why nothing has changed.
    pub fn reload(&mut self, cause: &str) -> Outcome {
        handover::notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::since_boot_us()));
        let outcome = self.reloaded();
        handover::notify("READY=1");
        let process = &self.process;
        match &outcome {
            Ok(changes) => {
                process.reloads.fetch_add(1, Ordering::Relaxed);
                let number = self.current.world().number;
                process.log.write(Level::Info, format_args!("configuration {number} ({cause})"));
                changes.iter().for_each(|line| process.log.write(Level::Info, format_args!("  {line}")));
            }
            Err(why) => {
                process.reloads_refused.fetch_add(1, Ordering::Relaxed);
                process
                    .log
                    .write(Level::Error, format_args!("reload refused ({cause}), nothing has changed:"));
                why.lines().for_each(|line| process.log.write(Level::Error, format_args!("  {line}")));
            }
        }
        outcome
    }

    fn reloaded(&mut self) -> Outcome {
        let file =
            self.watch.file.clone().ok_or("there is no configuration file: the gateway has its default")?;
        self.watch.seen();
        let (mut config, warnings) =
            config::load_with_warnings(&file).map_err(|problems| problems.to_string())?;
        let old = self.current.world();
        let fixed = config::needs_restart(&old.config, &config);
        keep_fixed(&mut config, &old.config);
        let mut lines = config::changes(&old.config, &config);
        let made = make(&config, Some(&old)).map_err(|error| error.to_string())?;
        let shards = self.process.shards.len();
        let sockets = self.sockets.reopened(&config.server, shards).map_err(|error| error.to_string())?;
        if config.server.tls.is_some() {
            lines.push("server.tls: certificates read again".to_owned());
        }
        lines.extend(fixed.iter().map(|key| format!("{key}: needs a restart or an upgrade; left as it was")));
        lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
        let bound = sockets.bound(&config, shards);
        self.process.log.set_level(config.log.level);
        self.process.running.set_max(places(&config));
        self.current.enter(World::new(&self.process, config, made, bound, Some(&old)));
        self.worlds.push(self.current.world());
        self.sockets = sockets;
        Ok(lines)
    }
}

/// Exchanges that may run at once.
pub(super) fn places(config: &Config) -> u32 {
    u32::try_from(config.server.max_concurrent_requests).unwrap_or(u32::MAX)
}

/// Keeps what the threads of the process were started with.
fn keep_fixed(config: &mut Config, old: &Config) {
    config.server.shards = old.server.shards;
    config.server.pin = old.server.pin;
    config.server.driver = old.server.driver;
    config.server.admin_listen = old.server.admin_listen;
    config.server.handover_socket.clone_from(&old.server.handover_socket);
    config.log.access.clone_from(&old.log.access);
    config.log.journal.clone_from(&old.log.journal);
}

/// How often the file is looked at, and how long it must have been left alone: a file half written is not read.
const LOOK: Duration = Duration::from_secs(1);

/// The configuration's file, and when it was last looked at.
pub(super) struct Watch {
    file: Option<PathBuf>,
    read: Option<Stamp>,
    last: Option<Stamp>,
    next_ns: u64,
}

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64);

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let data = fs::metadata(file).ok()?;
        Some(Self(data.ino(), data.len(), data.mtime(), data.mtime_nsec()))
    }
}

impl Watch {
    /// The path is made absolute: the working directory may change.
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        let file = file.map(|file| std::path::absolute(&file).unwrap_or(file));
        let read = file.as_deref().and_then(Stamp::of);
        Self { file, read, last: read, next_ns: 0 }
    }

    /// The file is about to be read.
    fn seen(&mut self) {
        self.read = self.file.as_deref().and_then(Stamp::of);
        self.last = self.read;
    }

    /// Whether the file is another one than was read last, and has been left alone since the last look. `wanted`: whether
    /// anybody wants to know.
    pub(super) fn changed(&mut self, wanted: bool) -> bool {
        let now_ns = clock::now_ns();
        if !wanted || now_ns < self.next_ns {
            return false;
        }
        self.next_ns = now_ns + u64::try_from(LOOK.as_nanos()).unwrap_or(u64::MAX);
        let Some(stamp) = self.file.as_deref().and_then(Stamp::of) else { return false };
        let settled = self.last.replace(stamp) == Some(stamp);
        settled && self.read != Some(stamp)
    }
}
