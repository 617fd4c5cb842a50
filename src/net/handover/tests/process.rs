//! Children, what they inherit, and systemd.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::net::UdpSocket;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;

use super::super::{spawn as spawning, systemd};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// What tells a child that it is one, and something to compare with.
const ROLE: &str = "CORELANE_TEST_ROLE";

/// The name by which the test binary knows a test of this file.
fn full(name: &str) -> String {
    format!("{}::{name}", module_path!().split_once("::").unwrap().1)
}

fn blocked() -> Vec<libc::c_int> {
    // SAFETY: the set is written by the call before it is read; the signals are valid.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut set);
        (1..=31).filter(|&signal| libc::sigismember(&raw const set, signal) == 1).collect()
    }
}

fn block(signals: &[libc::c_int]) {
    // SAFETY: the set is initialised by sigemptyset.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

#[test]
fn a_child_takes_over() {
    alone(|| {
        let mut passing = open_fds(); // whoever runs the tests may have left some open for all
        passing.retain(|&fd| fd <= libc::STDERR_FILENO);
        // SAFETY: a copy of an open descriptor, closed below.
        let stray = unsafe { libc::dup(libc::STDERR_FILENO) };
        assert!(stray > 2 && !is_close_on_exec(&stray), "one that a child would get");
        // SAFETY: this process has one thread.
        unsafe {
            std::env::set_var(ROLE, format!("{passing:?}"));
            std::env::set_var("LISTEN_FDS", "1");
        }
        block(&[libc::SIGHUP, libc::SIGUSR2, libc::SIGTERM]);
        let sockets = [passed(Purpose::Data, listener()), passed(Purpose::Admin, listener())];
        let mut client = TcpStream::connect(sockets[0].address).unwrap();
        let program = std::env::current_exe().unwrap();
        let args = test_args(&full("child_takes_over")).map(OsString::from);
        let (mut child, stream) = spawn(&program, &args).unwrap();
        assert!(is_close_on_exec(&stream));
        assert_eq!(blocked(), [libc::SIGHUP, libc::SIGUSR2, libc::SIGTERM], "as before");
        give(&stream, &sockets).unwrap();
        assert_eq!(await_ready(&stream, 10 * SECOND), Verdict::Ready);
        drop(sockets);
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        assert_eq!(said, "from the child");
        assert!(child.wait().unwrap().success());
        // SAFETY: it is this test's own.
        unsafe { libc::close(stray) };
    });
}

#[test]
#[ignore = "is run by a_child_takes_over"]
fn child_takes_over() {
    use std::io::Write;
    let (Ok(passing), Ok(fd)) = (std::env::var(ROLE), std::env::var(FD_VARIABLE)) else {
        return;
    };
    let fd: RawFd = fd.parse().unwrap();
    let mut others = open_fds();
    others.retain(|&other| other != fd);
    assert_eq!(format!("{others:?}"), passing, "one descriptor more than any child has");
    assert_eq!(blocked(), Vec::<libc::c_int>::new());
    assert!(std::env::var_os("LISTEN_FDS").is_none());
    let stream = inherited().expect("the stream");
    assert!(is_close_on_exec(&stream));
    assert!(std::env::var_os(FD_VARIABLE).is_none(), "not for later children");
    assert!(inherited().is_none());
    let taken = take(&stream).unwrap();
    assert_eq!(taken[1].purpose, Purpose::Admin);
    say_ready(&stream).unwrap();
    let (mut client, _) = taken[0].socket.accept().unwrap();
    client.write_all(b"from the child").unwrap();
}

#[test]
fn a_child_that_fails_changes_nothing() {
    alone(|| {
        let sockets = [passed(Purpose::Data, listener())];
        let (mut child, stream) = spawn(Path::new("/bin/false"), &[]).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(give(&stream, &sockets).is_err());
        assert_eq!(await_ready(&stream, 10 * SECOND), Verdict::Failed);
        // One that lives and says nothing that was agreed on.
        let say = "printf nothing >&\"$CORELANE_HANDOVER_FD\"";
        let (mut child, stream) = spawn(Path::new("/bin/sh"), &["-c".into(), say.into()]).unwrap();
        assert_eq!(await_ready(&stream, 10 * SECOND), Verdict::Failed);
        assert!(child.wait().unwrap().success());
        assert_eq!(message(spawn(Path::new("/nonexistent"), &[])).0, io::ErrorKind::NotFound);
        let client = TcpStream::connect(sockets[0].address).unwrap();
        assert!(accepts(&sockets[0].socket, &client));
    });
}

#[test]
fn only_a_unix_stream_is_inherited() {
    alone(|| {
        let (one, other) = UnixStream::pair().unwrap();
        let datagrams = UnixDatagram::unbound().unwrap();
        let folder = Folder::new();
        let waiting = UnixListener::bind(folder.path("s")).unwrap();
        let (file, tcp) = (File::open("/dev/null").unwrap(), listener());
        let wrong = [datagrams.as_raw_fd(), waiting.as_raw_fd(), file.as_raw_fd(), tcp.as_raw_fd()];
        let texts = ["", "x", "-1", "0", "1", "2", "987654", "99999999999"].map(str::to_owned);
        for value in wrong.iter().map(ToString::to_string).chain(texts) {
            assert!(spawning::adopt(OsStr::new(&value)).is_none(), "{value:?}");
        }
        assert!(wrong.iter().all(|&fd| open(fd).is_some()), "left alone");
        // SAFETY: takes numbers only; the standard input is put back.
        unsafe {
            let input = libc::dup(0);
            libc::dup2(one.as_raw_fd(), 0);
            assert!(spawning::adopt(OsStr::new("0")).is_none(), "a stream, but a standard one");
            libc::dup2(input, 0);
            libc::close(input);
        }
        let fd = other.into_raw_fd();
        // SAFETY: takes numbers only.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }, 0);
        let stream = spawning::adopt(OsStr::new(&fd.to_string())).unwrap();
        assert_eq!(stream.as_raw_fd(), fd);
        assert!(is_close_on_exec(&stream));
        drop(one);
    });
}

#[test]
fn the_variables_name_descriptors() {
    let listed = |pid: Option<&str>, count: Option<&str>| {
        systemd::listed(pid.map(OsStr::new), count.map(OsStr::new), 42)
    };
    assert_eq!(listed(Some("42"), Some("2")).unwrap(), 3..5);
    assert_eq!(listed(Some("42"), Some("4096")).unwrap(), 3..4099);
    for (pid, count) in [(None, None), (None, Some("2")), (Some("42"), None), (Some("41"), Some("2"))] {
        assert!(listed(pid, count).unwrap().is_empty(), "{pid:?} {count:?}");
    }
    assert!(listed(Some("42"), Some("0")).unwrap().is_empty());
    for (pid, count) in
        [("x", "1"), ("", "1"), ("42", "x"), ("42", "-1"), ("42", "4097"), ("42", "4294967295")]
    {
        let error = message(listed(Some(pid), Some(count)));
        assert_eq!(error.0, io::ErrorKind::InvalidData, "{pid} {count}");
    }
}

#[test]
fn the_watchdog_is_of_one_process() {
    let watched = |every: Option<&str>, pid: Option<&str>| {
        systemd::watched(every.map(OsStr::new), pid.map(OsStr::new), 42)
    };
    let half = Some(Duration::from_millis(500));
    assert_eq!(watched(Some("500000"), Some("42")), half);
    assert_eq!(watched(Some("500000"), None), half, "a successor has no number in its environment");
    for (every, pid) in [
        (None, None),
        (None, Some("42")),
        (Some("500000"), Some("41")),
        (Some("500000"), Some("x")),
        (Some("0"), None),
        (Some("-1"), None),
        (Some("soon"), None),
    ] {
        assert_eq!(watched(every, pid), None, "{every:?} {pid:?}");
    }
}

#[test]
fn only_listeners_are_taken_from_systemd() {
    alone(|| {
        let (tcp, udp) = (listener(), UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        // SAFETY: takes numbers only; the descriptors are new and side by side, and owned here.
        let [first, second] = [tcp.as_raw_fd(), udp.as_raw_fd()]
            .map(|fd| unsafe { OwnedFd::from_raw_fd(libc::fcntl(fd, libc::F_DUPFD, 500)) });
        assert_eq!((first.as_raw_fd(), second.as_raw_fd()), (500, 501));
        let (kind, text) = message(systemd::adopt(500..502));
        assert_eq!(kind, io::ErrorKind::InvalidData);
        assert!(text.contains("descriptor 501") && text.contains("is no TCP socket"), "{text}");
        drop(second);
        let (_, text) = message(systemd::adopt(500..502));
        assert!(text.contains("descriptor 501") && text.contains("is not open"), "{text}");
        assert!(open(500).is_some(), "nothing is taken by an error");
        let _ = first.into_raw_fd();
        let taken = systemd::adopt(500..501).unwrap();
        assert!(is_close_on_exec(&taken[0]));
        assert_eq!(message(taken[0].accept()).0, io::ErrorKind::WouldBlock);
    });
}

#[test]
fn systemd_activates_a_process() {
    alone(|| {
        let sockets = [listener(), listener()];
        let client = TcpStream::connect(sockets[1].local_addr().unwrap()).unwrap();
        // Beyond the numbers that they get, so that one does not overwrite the other.
        // SAFETY: takes numbers only; the new descriptors are owned here.
        let high = [&sockets[0], &sockets[1]].map(|socket| unsafe {
            OwnedFd::from_raw_fd(libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 100))
        });
        let [one, two] = [high[0].as_raw_fd(), high[1].as_raw_fd()];
        // The shell becomes the test, so its number is the one that systemd would say.
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap());
        shell.args(test_args(&full("child_is_activated")));
        shell.env(ROLE, client.local_addr().unwrap().to_string()).env("LISTEN_FDS", "2");
        // SAFETY: dup2 takes numbers only and is async-signal-safe.
        unsafe {
            shell.pre_exec(move || {
                let done = libc::dup2(one, 3) == 3 && libc::dup2(two, 4) == 4;
                if done { Ok(()) } else { Err(io::Error::last_os_error()) }
            });
        }
        let output = shell.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}{error}");
    });
}

#[test]
#[ignore = "is run by systemd_activates_a_process"]
fn child_is_activated() {
    let Some(client) = std::env::var(ROLE).ok().and_then(|role| role.parse::<SocketAddr>().ok()) else {
        return;
    };
    assert!(std::env::var_os("LISTEN_PID").is_some());
    let sockets = activated().unwrap();
    assert_eq!(sockets.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(), [3, 4]);
    assert!(sockets.iter().all(is_close_on_exec));
    assert_eq!(message(sockets[0].accept()).0, io::ErrorKind::WouldBlock);
    assert_eq!(sockets[1].accept().unwrap().1, client);
    assert!(std::env::var_os("LISTEN_PID").is_none());
    assert!(activated().unwrap().is_empty(), "once");
}

#[test]
fn systemd_is_told() {
    alone(|| {
        let folder = Folder::new();
        let path = folder.path("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let heard = |from: &UnixDatagram| {
            let mut text = [0; 64];
            let length = from.recv(&mut text)?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&text[..length]).into_owned())
        };
        notify("READY=1");
        assert_eq!(message(heard(&manager)).0, io::ErrorKind::WouldBlock, "the variable is not set");
        // SAFETY: this process has one thread.
        unsafe { std::env::set_var("NOTIFY_SOCKET", &path) };
        notify("READY=1\nMAINPID=7");
        assert_eq!(heard(&manager).unwrap(), "READY=1\nMAINPID=7");
        drop(manager);
        notify("STOPPING=1"); // nobody there: quietly nothing
        assert!(systemd::tell(path.as_os_str(), "STOPPING=1").is_err());

        let name = format!("corelane-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&UnixAddress::from_abstract_name(&name).unwrap()).unwrap();
        // SAFETY: as above.
        unsafe { std::env::set_var("NOTIFY_SOCKET", format!("@{name}")) };
        notify("RELOADING=1");
        assert_eq!(heard(&manager).unwrap(), "RELOADING=1");
        for strange in ["", "vsock:2:1", "relative"] {
            assert_eq!(message(systemd::tell(OsStr::new(strange), "x")).0, io::ErrorKind::Unsupported);
        }
    });
}
