//! Cores: how many may be used, and staying on one.

use std::io;

/// Cores that this thread may run on, from its real affinity mask (cpusets of containers included).
#[must_use]
pub fn usable() -> Vec<usize> {
    // SAFETY: an all-zero cpu_set_t is valid, and the call writes at most its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return Vec::new();
        }
        set
    };
    // SAFETY: CPU_ISSET reads inside the set for indices below its size.
    (0..size_of::<libc::cpu_set_t>() * 8).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Shards to run when the configuration says `auto`: usable cores, or the container's quota if that is less.
#[must_use]
pub fn shards_auto() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Keeps the calling thread on `cpu`.
///
/// # Errors
/// What the kernel says, e.g. a core outside of the cpuset.
pub fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is valid; CPU_SET writes inside it, and the kernel only reads it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets other threads run before the calling one, for work that nobody waits for.
pub fn give_way() {
    // SAFETY: takes a plain number, and changes the calling thread alone (nice(2), notes on NPTL).
    let _ = unsafe { libc::nice(10) };
}

/// The kernel's id of the calling thread.
#[must_use]
pub fn thread_id() -> usize {
    // SAFETY: gettid takes nothing and cannot fail.
    usize::try_from(unsafe { libc::gettid() }).unwrap_or(0)
}

/// Raises the soft limit of open files to the hard one and returns it.
#[must_use]
pub fn raise_open_files() -> u64 {
    // SAFETY: both calls only touch the struct given.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return 0;
        }
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        limit.rlim_cur
    }
}
