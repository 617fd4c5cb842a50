//! The driver ladder: io_uring with the best flags, io_uring plain, epoll.
//!
//! `COOP_TASKRUN` and `SINGLE_ISSUER` spare interrupts and locks; `DEFER_TASKRUN` is left out because monoio
//! submits without waiting while tasks are ready, and would then see no completions. Kernels that lack a flag, and
//! containers that deny io_uring, fail ring creation; the next rung is taken.

use std::future::Future;
use std::io;

use monoio::time::TimeDriver;
use monoio::{FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder};

use crate::config;

/// The kernel interface a runtime ended up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// io_uring, cooperative task work and single issuer.
    UringCoop,
    /// io_uring without flags.
    Uring,
    /// epoll.
    Epoll,
}

impl Driver {
    /// The name in metrics, logs and `/status`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UringCoop | Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

type Fusion = FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>;

/// Whether `wanted` leaves io_uring to those who can do without it.
#[must_use]
pub fn wants_uring(wanted: config::Driver) -> bool {
    effective(wanted) != config::Driver::Epoll
}

/// Whether the kernel lets this process use io_uring.
#[must_use]
pub fn has_uring() -> bool {
    monoio::utils::detect_uring()
}

/// The environment may forbid io_uring.
fn effective(wanted: config::Driver) -> config::Driver {
    match std::env::var("MONOIO_FORCE_LEGACY_DRIVER").as_deref() {
        Ok("1") => config::Driver::Epoll,
        _ => wanted,
    }
}

/// A runtime of the calling thread.
pub struct Runtime {
    fusion: Fusion,
    driver: Driver,
}

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
        self.driver
    }

    /// Runs `future` to its end on this thread.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        self.fusion.block_on(future)
    }

    fn uring(entries: u32) -> io::Result<Self> {
        if !has_uring() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel denies io_uring"));
        }
        let mut flags = io_uring::IoUring::builder();
        flags.setup_coop_taskrun().setup_single_issuer();
        let rungs = [(flags, Driver::UringCoop), (io_uring::IoUring::builder(), Driver::Uring)];
        let mut last = io::Error::from(io::ErrorKind::Unsupported);
        for (flags, driver) in rungs {
            let builder = RuntimeBuilder::<IoUringDriver>::new().uring_builder(flags).with_entries(entries);
            match builder.enable_timer().build() {
                Ok(runtime) => return Ok(Self { fusion: FusionRuntime::Uring(runtime), driver }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn epoll(entries: u32) -> io::Result<Self> {
        let builder = RuntimeBuilder::<LegacyDriver>::new().with_entries(entries);
        let runtime = builder.enable_timer().build()?;
        Ok(Self { fusion: FusionRuntime::Legacy(runtime), driver: Driver::Epoll })
    }
}
