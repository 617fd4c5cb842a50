//! Each test runs in a process of its own: descriptors, the environment, limits and users belong to a
//! process.

mod door;
mod process;
mod wire;

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

const ALONE: &str = "CORELANE_TEST_ALONE";

/// Runs this test again in a process with one thread; there, runs `body`, which must leave as many
/// descriptors open as it found.
fn alone<F: FnOnce()>(body: F) {
    let name = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let name = name.split_once("::").unwrap().1;
    if std::env::var(ALONE).is_ok_and(|there| there == name) {
        let before = open_fds();
        body();
        assert_eq!(open_fds(), before, "descriptors were left open");
        return;
    }
    let output = this_test(name).env(ALONE, name).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && text.contains("1 passed");
    assert!(passed, "{name}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// The command that runs one test of this binary and no other.
fn this_test(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(test_args(name));
    command
}

fn test_args(name: &str) -> [String; 5] {
    [name, "--exact", "--include-ignored", "--test-threads=1", "--nocapture"].map(str::to_owned)
}

/// Numbers of the open descriptors, without the one that reads them.
fn open_fds() -> Vec<RawFd> {
    let numbers = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().file_name());
    let mut numbers: Vec<RawFd> = numbers.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
    numbers.retain(|&fd| open(fd).is_some());
    numbers.sort_unstable();
    numbers
}

fn is_close_on_exec(fd: &impl AsRawFd) -> bool {
    // SAFETY: takes numbers only.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) & libc::FD_CLOEXEC != 0 }
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

fn passed(purpose: Purpose, socket: TcpListener) -> Passed {
    Passed { purpose, address: socket.local_addr().unwrap(), socket }
}

/// Whether `socket` accepts the connection that `client` has made.
fn accepts(socket: &TcpListener, client: &TcpStream) -> bool {
    socket.accept().unwrap().1 == client.local_addr().unwrap()
}

fn message<T>(result: io::Result<T>) -> (io::ErrorKind, String) {
    let error = result.err().expect("an error");
    (error.kind(), error.to_string())
}

/// A folder that is gone with its value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("corelane-handover-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn this_user_and_root_may_take_part() {
    assert!(may(1000, 1000));
    assert!(may(0, 1000));
    assert!(may(0, 0));
    assert!(!may(1000, 0), "root trusts root only");
    assert!(!may(1001, 1000));
    assert!(!may(u32::MAX, 1000));
}
