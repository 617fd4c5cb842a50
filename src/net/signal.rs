//! Signals of the process, waited for by the main thread.

/// What the operator asks the process to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// TERM or INT: drain and exit.
    Drain,
    /// HUP: reload the configuration.
    Reload,
    /// USR2: start the binary anew in this one's place.
    Upgrade,
}

const HEARD: [libc::c_int; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR2];

/// Keeps TERM, INT, HUP and USR2 from ending the process; call before any thread starts. SIGPIPE is ignored.
pub fn block() {
    // SAFETY: the set is initialised by sigemptyset before use; the calls keep no pointer.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in HEARD {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// Waits for the next one, at most `millis`.
#[must_use]
pub fn wait(millis: u32) -> Option<Signal> {
    // SAFETY: as in `block`; the timeout is read only.
    let got = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in HEARD {
            libc::sigaddset(&raw mut set, signal);
        }
        let timeout = libc::timespec {
            tv_sec: (millis / 1000).into(),
            tv_nsec: libc::c_long::from(millis % 1000) * 1_000_000,
        };
        libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const timeout)
    };
    match got {
        libc::SIGTERM | libc::SIGINT => Some(Signal::Drain),
        libc::SIGHUP => Some(Signal::Reload),
        libc::SIGUSR2 => Some(Signal::Upgrade),
        _ => None,
    }
}
