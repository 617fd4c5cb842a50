//! systemd's side, played by the test: sockets from descriptor 3 on, and a datagram socket that hears how the service is.
#![allow(unsafe_code)] // descriptors are placed between fork and exec

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use super::family::Family;
use super::scripted::CHAT;
use super::support::fleet::{chat, post, until};
use super::{all_by, kernel};

/// Where they are gathered first, so that none is overwritten.
const ASIDE: RawFd = 200;

/// The gateway's command, with these descriptors from 3 on. `pid`: what `LISTEN_PID` is; the shell's own number, which
/// becomes the gateway's, if empty.
fn activated(family: &Family, fds: &[RawFd], pid: &str) -> Command {
    let mut command = Command::new("sh");
    let pid = if pid.is_empty() { "$$" } else { pid };
    let script = format!("export LISTEN_PID={pid}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_corelane"), "serve", "-c"]).arg(family.config());
    command.env("LISTEN_FDS", fds.len().to_string());
    let fds = fds.to_vec();
    let place = move || {
        for (at, &fd) in fds.iter().enumerate() {
            // SAFETY: takes numbers only.
            if unsafe { libc::dup2(fd, ASIDE + at as RawFd) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        for at in 0..fds.len() as RawFd {
            // SAFETY: takes numbers only.
            unsafe {
                libc::dup2(ASIDE + at, 3 + at);
                libc::close(ASIDE + at);
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe { command.pre_exec(place) };
    command
}

/// Listens where the family's processes are to.
fn listen(addr: SocketAddr) -> TcpListener {
    TcpListener::bind(addr).unwrap()
}

#[test]
fn sockets_are_taken_by_their_addresses() {
    for shards in [1, 2] {
        let mut family = Family::unstarted();
        family.write("systemd", &format!("shards = {shards}"));
        // The admin listener first: what each is for is told by its address.
        let (admin, data) = (listen(family.admin), listen(family.addr));
        // What came before the service did waits in the socket.
        let mut early = std::net::TcpStream::connect(family.addr).unwrap();
        let command = activated(&family, &[admin.as_raw_fd(), data.as_raw_fd()], "");
        family.first = family.spawn(command);
        until("the ready line", || (family.ready_lines() == 1).then_some(()));
        drop((admin, data));
        assert!(all_by(&family, "systemd"));
        assert_eq!(family.status()["shards"].as_array().unwrap().len(), shards);
        use std::io::Write as _;
        early.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut reader = super::support::answer::Reader::new(early);
        assert_eq!(super::read(&mut reader).status, 200);
        // Activated ones are replaced like any other.
        family.write("second", &format!("shards = {}", 3 - shards));
        family.upgrade(family.first);
        until("the second answers all", || all_by(&family, "second").then_some(()));
        assert_eq!(family.ended(family.first), 0);
    }
}

#[test]
fn what_is_meant_for_others_is_not_taken() {
    let mut family = Family::unstarted();
    family.write("own", "");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    family.first = family.spawn(activated(&family, &[other.as_raw_fd()], "1"));
    until("the ready line", || (family.ready_lines() == 1).then_some(()));
    assert!(all_by(&family, "own"), "it has bound its own");
}

#[test]
fn one_that_the_configuration_does_not_name_is_told() {
    let mut family = Family::unstarted();
    family.write("own", "");
    let (data, other) = (listen(family.addr), TcpListener::bind("127.0.0.1:0").unwrap());
    family.first = family.spawn(activated(&family, &[data.as_raw_fd(), other.as_raw_fd()], ""));
    until("the ready line", || (family.ready_lines() == 1).then_some(()));
    let warning = format!("systemd's socket {} is none of server.listen", other.local_addr().unwrap());
    until("the warning", || family.log().contains(&warning).then_some(()));
    assert_eq!(family.log().matches("is none of").count(), 1, "{}", family.log());
    assert!(all_by(&family, "own"));
}

#[test]
fn what_is_no_listening_socket_ends_the_start() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for fd in [file.as_raw_fd(), datagrams.as_raw_fd()] {
        let family = Family::unstarted();
        family.write("none", "");
        let output = activated(&family, &[fd], "").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("descriptor 3"), "{said}");
    }
}

/// What the service manager hears.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn next(&self) -> String {
        let mut buffer = [0; 512];
        let count = self.socket.recv(&mut buffer).expect("to be told");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    /// Nothing is there now.
    fn is_silent(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let got = self.socket.recv(&mut [0; 512]);
        self.socket.set_nonblocking(false).unwrap();
        got.is_err()
    }
}

#[test]
fn the_service_manager_is_told() {
    let mut family = Family::unstarted();
    family.write("first", "");
    let path = family.folder.join("notify.sock");
    let manager = Manager { socket: UnixDatagram::bind(&path).unwrap() };
    manager.socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut command = family.command();
    command.env("NOTIFY_SOCKET", &path);
    family.first = family.spawn(command);
    assert_eq!(manager.next(), "READY=1");
    assert_eq!(post(family.addr, CHAT, &chat("m", false)).status, 200, "READY means that it serves");
    // A reload, a good one or not, is announced with its time, and has an end.
    for text in ["", "[retry]\nattempts = 0\n"] {
        let toml = std::fs::read_to_string(family.config()).unwrap();
        std::fs::write(family.config(), format!("{toml}{text}")).unwrap();
        kernel::signal(family.first, libc::SIGHUP);
        let begins = manager.next();
        let (word, time) = begins.split_once('\n').expect(&begins);
        assert_eq!(word, "RELOADING=1");
        let time: u64 = time.strip_prefix("MONOTONIC_USEC=").expect(time).parse().unwrap();
        assert!(time > 0);
        assert_eq!(manager.next(), "READY=1");
    }
    // An upgrade that fails is nobody's business.
    kernel::signal(family.first, libc::SIGUSR2);
    until("it has failed", || family.log().contains("the successor did not start").then_some(()));
    assert!(manager.is_silent());
    family.write("second", "");
    let new = family.upgrade(family.first);
    assert_eq!(manager.next(), format!("MAINPID={new}"));
    assert_eq!(family.ended(family.first), 0);
    assert!(manager.is_silent(), "the service goes on: nothing is stopping");
    kernel::signal(new, libc::SIGHUP);
    assert!(manager.next().starts_with("RELOADING=1"), "the new one tells, too");
    assert_eq!(manager.next(), "READY=1");
    kernel::signal(new, libc::SIGTERM);
    assert_eq!(manager.next(), "STOPPING=1");
    assert_eq!(family.ended(new), 0);
}

#[test]
fn the_watchdog_is_told_by_whoever_serves() {
    let mut family = Family::unstarted();
    family.write("first", "");
    let path = family.folder.join("notify.sock");
    let manager = Manager { socket: UnixDatagram::bind(&path).unwrap() };
    manager.socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut command = Command::new("sh");
    let script = "export WATCHDOG_PID=$$; exec \"$0\" \"$@\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_corelane"), "serve", "-c"]).arg(family.config());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "900000");
    family.first = family.spawn(command);
    assert_eq!(manager.next(), "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.next(), "WATCHDOG=1");
    }
    // The number in the environment was the first one's: the second is watched all the same.
    family.write("second", "");
    let new = family.upgrade(family.first);
    assert_eq!(family.ended(family.first), 0);
    while !manager.is_silent() {} // what both have said until now
    for _ in 0..3 {
        assert_eq!(manager.next(), "WATCHDOG=1");
    }
    kernel::signal(new, libc::SIGTERM);
    until("the end is told", || (manager.next() == "STOPPING=1").then_some(()));
    assert_eq!(family.ended(new), 0);
}

/// A manager that is gone, or never was, is no reason to fail.
#[test]
fn nobody_needs_to_listen() {
    for path in ["/nowhere/at/all.sock", "relative", "@corelane-nobody-is-here", ""] {
        let mut family = Family::unstarted();
        family.write("own", "");
        let mut command = family.command();
        command.env("NOTIFY_SOCKET", path);
        family.first = family.spawn(command);
        until("the ready line", || (family.ready_lines() == 1).then_some(()));
        kernel::signal(family.first, libc::SIGTERM);
        assert_eq!(family.ended(family.first), 0, "{path:?}");
    }
}
