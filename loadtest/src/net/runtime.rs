//! A runtime of the calling thread: io_uring with the best flags, io_uring plain, epoll.

use std::future::Future;
use std::io;

use monoio::time::TimeDriver;
use monoio::{FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder};

/// Entries of a ring.
const ENTRIES: u32 = 4096;

/// The runtime of one thread.
pub struct Runtime {
    fusion: FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>,
    driver: &'static str,
}

impl Runtime {
    /// Builds the best one that the kernel and the environment (`MONOIO_FORCE_LEGACY_DRIVER=1`) allow.
    ///
    /// # Errors
    /// Not even epoll works.
    pub fn build() -> io::Result<Self> {
        let legacy = std::env::var("MONOIO_FORCE_LEGACY_DRIVER").is_ok_and(|value| value == "1");
        if !legacy && monoio::utils::detect_uring() {
            let mut flags = io_uring::IoUring::builder();
            flags.setup_coop_taskrun().setup_single_issuer();
            for flags in [flags, io_uring::IoUring::builder()] {
                let builder =
                    RuntimeBuilder::<IoUringDriver>::new().uring_builder(flags).with_entries(ENTRIES);
                if let Ok(runtime) = builder.enable_timer().build() {
                    return Ok(Self { fusion: FusionRuntime::Uring(runtime), driver: "io_uring" });
                }
            }
        }
        let builder = RuntimeBuilder::<LegacyDriver>::new().with_entries(ENTRIES);
        Ok(Self { fusion: FusionRuntime::Legacy(builder.enable_timer().build()?), driver: "epoll" })
    }

    /// The kernel interface it ended up with.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        self.driver
    }

    /// Runs `future` to its end on this thread.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        self.fusion.block_on(future)
    }
}

/// Allows as many open files as the system does; returns how many that are.
#[must_use]
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    limit.current.unwrap_or(u64::MAX)
}

/// User and system time of this process so far, in microseconds.
#[must_use]
pub fn cpu_us() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}
