//! What the tests ask of the kernel about other processes: signals, threads that stop, calls that are denied.
#![allow(unsafe_code)] // no safe interface to ptrace, seccomp and prctl is in the tree

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Sends a signal to a process that a test has started.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: `kill` keeps no pointer.
    let result = unsafe { libc::kill(pid as libc::pid_t, signal) };
    assert_eq!(result, 0, "signal {signal} to {pid}: {}", io::Error::last_os_error());
}

/// Lets the child be killed when the thread that has started it ends.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: `prctl` is a system call and nothing else, so it may be made between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
            Ok(())
        });
    }
}

/// Grandchildren whose parent ends become children of this process, so that [`reap`] can ask how they ended.
pub fn adopt_orphans() {
    // SAFETY: `prctl` with this option keeps no pointer.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as libc::c_ulong) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// How a child has ended: its exit code, or 128 and the signal. `None`: it has not, or is nobody's child here yet.
pub fn reap(pid: u32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let got = unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, libc::WNOHANG) };
    if got != pid as libc::pid_t {
        return None;
    }
    Some(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) })
}

/// Makes `io_uring_setup` fail with this error in the command's process.
pub fn deny_io_uring(command: &mut Command, errno: i32) {
    let statement = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    // The number of the call stands at the beginning of `seccomp_data`; this one is the same on every architecture.
    let mut filter = vec![
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_io_uring_setup as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    // SAFETY: only system calls are made between fork and exec; `filter` is moved into the closure and outlives them.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
            let denied = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as libc::c_ulong, 0 as libc::c_ulong, 0, 0)
                != 0
                || libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER as libc::c_ulong,
                    &raw const program,
                ) != 0;
            if denied { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
}

/// A thread of another process, held still by ptrace until this value is dropped: signals can only stop all of them.
/// Both must happen on one thread.
pub struct Frozen(libc::pid_t);

impl Frozen {
    /// Stops it, and returns when it has stopped.
    pub fn stop(thread: u32) -> io::Result<Frozen> {
        let (thread, none) = (thread as libc::pid_t, std::ptr::null_mut::<libc::c_void>());
        let mut status = 0;
        // SAFETY: seizing and interrupting pass no memory; `status` outlives the wait.
        unsafe {
            if libc::ptrace(libc::PTRACE_SEIZE, thread, none, none) != 0 {
                return Err(io::Error::last_os_error());
            }
            let frozen = Frozen(thread);
            if libc::ptrace(libc::PTRACE_INTERRUPT, thread, none, none) != 0
                || libc::waitpid(thread, &raw mut status, libc::__WALL) != thread
            {
                return Err(io::Error::last_os_error());
            }
            Ok(frozen)
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: detaching passes no memory; of a thread that is gone it is an error and nothing else.
        unsafe {
            libc::ptrace(libc::PTRACE_DETACH, self.0, none, none);
        }
    }
}

/// Threads of a process by name.
pub fn threads(pid: u32) -> Vec<(u32, String)> {
    let folder = fs::read_dir(format!("/proc/{pid}/task"));
    let name = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, comm.trim().to_owned()))
    };
    folder.into_iter().flatten().filter_map(name).collect()
}

/// Open descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// What its descriptors are, the kinds counted.
pub fn open_files(pid: u32) -> Vec<String> {
    let mut counts = std::collections::BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let target =
            fs::read_link(entry.path()).map_or_else(|error| error.to_string(), |at| at.display().to_string());
        let kind = target.split(":[").next().unwrap_or_default().to_owned();
        *counts.entry(kind).or_insert(0) += 1;
    }
    counts.into_iter().map(|(kind, count): (String, u32)| format!("  {count} {kind}")).collect()
}

/// Resident memory in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Processor time of a process so far, in hundredths of a second.
pub fn ticks(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    field(11) + field(12)
}

/// Processes whose command line holds this argument, the oldest first.
pub fn with_argument(argument: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()) {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let after = stat.rsplit(") ").next().unwrap_or_default();
            let started = after.split(' ').nth(19).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            found.push((started, pid));
        }
    }
    found.sort_unstable();
    found.into_iter().map(|(_, pid)| pid).collect()
}
