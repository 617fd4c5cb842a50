//! The driver ladder: the ring of [`crate::net::uring`], then epoll by monoio.
//!
//! Kernels that lack what the ring needs (Linux 6.1), and containers that deny io_uring, fail its creation; the next rung is taken.

use std::future::Future;
use std::io;
use std::rc::Rc;

use monoio::time::TimeDriver;
use monoio::{LegacyDriver, RuntimeBuilder};

use super::uring::Executor;
use crate::config;

/// The kernel interface a runtime ended up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// io_uring.
    Uring,
    /// epoll.
    Epoll,
}

impl Driver {
    /// The name in metrics, logs and `/status`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Whether `wanted` leaves io_uring to those who can do without it.
#[must_use]
pub fn wants_uring(wanted: config::Driver) -> bool {
    effective(wanted) != config::Driver::Epoll
}

/// Whether the kernel lets this process use io_uring as shards do.
#[must_use]
pub fn has_uring() -> bool {
    Executor::new(8).is_ok()
}

/// The environment may forbid io_uring.
fn effective(wanted: config::Driver) -> config::Driver {
    match std::env::var("MONOIO_FORCE_LEGACY_DRIVER").as_deref() {
        Ok("1") => config::Driver::Epoll,
        _ => wanted,
    }
}

enum Kind {
    Ring(Rc<Executor>),
    Portable(Box<monoio::Runtime<TimeDriver<LegacyDriver>>>),
}

/// A runtime of the calling thread.
pub struct Runtime(Kind);

impl Runtime {
    /// Builds the best runtime that `wanted` and the kernel allow; `entries` sizes the ring.
    ///
    /// # Errors
    /// io_uring was demanded and is denied, or not even epoll works.
    pub fn build(wanted: config::Driver, entries: u32) -> io::Result<Self> {
        match effective(wanted) {
            config::Driver::Epoll => Self::epoll(entries),
            config::Driver::IoUring => Self::uring(entries),
            config::Driver::Auto => Self::uring(entries).or_else(|_| Self::epoll(entries)),
        }
    }

    /// Which rung was taken.
    #[must_use]
    pub fn driver(&self) -> Driver {
        match self.0 {
            Kind::Ring(_) => Driver::Uring,
            Kind::Portable(_) => Driver::Epoll,
        }
    }

    /// Runs `future` to its end on this thread.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match &mut self.0 {
            Kind::Ring(executor) => executor.block_on(future),
            Kind::Portable(runtime) => runtime.block_on(future),
        }
    }

    fn uring(entries: u32) -> io::Result<Self> {
        let why = |what: &str| {
            let text = format!("{what} (hint: server.driver = \"auto\" takes epoll then)");
            io::Error::new(io::ErrorKind::Unsupported, text)
        };
        Executor::new(entries).map(|executor| Self(Kind::Ring(executor))).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EINVAL) => why("io_uring is used from Linux 6.1 on"),
                Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => why("the kernel denies io_uring"),
                _ => error,
            }
        })
    }

    fn epoll(entries: u32) -> io::Result<Self> {
        let builder = RuntimeBuilder::<LegacyDriver>::new().with_entries(entries);
        Ok(Self(Kind::Portable(Box::new(builder.enable_timer().build()?))))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Kind::Ring(executor) = &self.0
            && !executor.end()
        {
            // The kernel may still write to what operations hold: never freed.
            let _ = Rc::into_raw(Rc::clone(executor));
        }
    }
}
