//! Time since a run began, and waiting for a moment of it.
//!
//! The runtime's timers count milliseconds, which is as long as ten answers take. Arrivals wait by a timer of the kernel
//! (`timerfd_create`), which the ring or epoll polls as it does a socket: some 50 µs late at the worst where a core is free.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::time::{Duration, Instant};

use monoio::net::UnixStream;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Microseconds since an epoch that all threads share.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// Counts from `epoch` on, which may lie ahead.
    #[must_use]
    pub fn new(epoch: Instant) -> Self {
        Self { epoch }
    }

    /// Now; 0 before the epoch.
    #[must_use]
    pub fn now_us(self) -> u64 {
        u64::try_from(Instant::now().saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }

    /// How long it is until `at_us`; before the epoch the way to it counts too.
    #[must_use]
    pub fn until(self, at_us: u64) -> Duration {
        (self.epoch + Duration::from_micros(at_us)).saturating_duration_since(Instant::now())
    }
}

/// Waits at least so long; to the millisecond.
pub async fn sleep(time: Duration) {
    monoio::time::sleep(time).await;
}

/// A timer of the kernel.
pub struct Alarm {
    /// The same timer twice: one descriptor sets it, the other one is polled.
    timer: OwnedFd,
    polled: UnixStream,
}

impl Alarm {
    /// Makes one.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let polled = UnixStream::from_std(Socket::from(timer.try_clone()?))?;
        Ok(Self { timer, polled })
    }

    /// Waits so long.
    ///
    /// # Errors
    /// The kernel refuses; nothing that was seen yet.
    pub async fn wait(&self, time: Duration) -> io::Result<()> {
        if time.is_zero() {
            return Ok(());
        }
        let value = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Setting it also forgets that it has fired before.
        let setting = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(self.timer.as_fd(), TimerfdTimerFlags::empty(), &setting)?;
        self.polled.readable(false).await
    }
}
