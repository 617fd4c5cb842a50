//! Promise: another process takes the place of a running one without a refused connection, by a signal, by a socket, or from
//! systemd; and one that cannot start changes nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types
)] // test code

#[path = "handover/family.rs"]
mod family;
#[path = "chaos/kernel.rs"]
#[allow(dead_code)]
mod kernel;
#[path = "fallbacks/scripted.rs"]
mod scripted;
mod support;
#[path = "handover/systemd.rs"]
mod systemd;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use family::Family;
use scripted::{CHAT, posted, read};
use support::fleet::{chat, connect, post, send, until};

/// The `x-who` of whoever answers a new connection.
fn who(family: &Family) -> String {
    let answer = post(family.addr, CHAT, &chat("m", false));
    assert_eq!(answer.status, 200);
    answer.field("x-who").expect("x-who").to_owned()
}

/// Every new connection is answered by `name`.
fn all_by(family: &Family, name: &str) -> bool {
    (0..20).all(|_| who(family) == name)
}

#[test]
fn a_process_from_elsewhere_takes_over() {
    let family = Family::start("old", "");
    let mode = |what: &str| {
        let data = fs::metadata(family.door()).expect(what);
        assert!(data.file_type().is_socket(), "{what}");
        assert_eq!(data.permissions().mode() & 0o777, 0o600, "{what}");
    };
    mode("before");
    let mut held = posted(family.addr, CHAT, "", &chat("held", true));
    until("it is held", || (family.gate.held() == 1).then_some(()));
    let new = family.take_over("new", "");
    until("the new one answers all", || all_by(&family, "new").then_some(()));
    mode("afterwards");
    until("the old one drains", || family.log().contains("the successor serves; draining").then_some(()));
    assert_eq!(family.exit_of(family.first), None, "a stream is still running");
    family.gate.open();
    let answer = read(&mut held);
    assert_eq!((answer.status, answer.field("x-who")), (200, Some("old")));
    assert!(scripted::text(&answer).contains("[DONE]"));
    drop(held);
    assert_eq!(family.ended(family.first), 0);
    kernel::signal(new, libc::SIGTERM);
    assert_eq!(family.ended(new), 0);
    assert!(!family.door().exists(), "its file goes with the last one");
}

#[test]
fn again_and_again() {
    let family = Family::start("0", "");
    let mut last = family.first;
    for round in 1..5 {
        let name = round.to_string();
        let new = family.take_over(&name, "");
        until("the new one answers all", || all_by(&family, &name).then_some(()));
        assert_eq!(family.ended(last), 0);
        last = new;
    }
}

#[test]
fn more_and_fewer_shards() {
    let family = Family::start("1", "shards = 1");
    let mut last = family.first;
    for (name, shards) in [("3", 3), ("1", 1), ("2", 2), ("4", 4), ("2", 2)] {
        family.write(name, &format!("shards = {shards}"));
        let mut idle = connect(family.addr);
        send(&mut idle, CHAT, &chat("m", false));
        assert_eq!(read(&mut idle).status, 200);
        let new = family.upgrade(last);
        // While the old one has not shut its doors, either may answer, at both addresses.
        until("the new one answers all", || {
            let status = family.status();
            (status["shards"].as_array()?.len() == shards && all_by(&family, name)).then_some(())
        });
        drop(idle);
        assert_eq!(family.ended(last), 0);
        for _ in 0..40 {
            assert_eq!(who(&family), name, "every socket is accepted from");
        }
        last = new;
    }
}

/// What keeps a successor from starting, by its configuration.
fn fails(change: impl Fn(&Family, &str) -> String) {
    let family = Family::start("old", "shards = 2");
    let good = fs::read_to_string(family.config()).unwrap();
    let mut held = posted(family.addr, CHAT, "", &chat("held", false));
    until("it is held", || (family.gate.held() == 1).then_some(()));
    fs::write(family.config(), change(&family, &good)).unwrap();
    for count in 1..3 {
        kernel::signal(family.first, libc::SIGUSR2);
        let said = "the successor did not start; nothing has changed";
        until(said, || (family.log().matches(said).count() == count).then_some(()));
        assert_eq!(family.alive(), [family.first]);
        assert!(all_by(&family, "old"));
        assert_eq!(family.ready_lines(), 1);
        assert!(fs::metadata(family.door()).unwrap().file_type().is_socket());
    }
    family.gate.open();
    assert_eq!(read(&mut held).status, 200);
    // And a good one takes over.
    fs::write(family.config(), good.replace("x-who = \"old\"", "x-who = \"new\"")).unwrap();
    drop(held);
    family.upgrade(family.first);
    until("the new one answers all", || all_by(&family, "new").then_some(()));
    assert_eq!(family.ended(family.first), 0);
}

#[test]
fn a_bad_configuration_changes_nothing() {
    fails(|_, good| format!("{good}\n[retry]\nattempts = 0\n"));
}

#[test]
fn a_missing_certificate_changes_nothing() {
    fails(|_, good| {
        format!(
            "{good}\n[server.tls]\nlisten = [\"127.0.0.1:0\"]\ncert = \"/nowhere/c\"\nkey = \"/nowhere/k\"\n"
        )
    });
}

#[test]
fn a_taken_port_changes_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    fails(move |family, good| {
        good.replace(&format!("admin_listen = \"{}\"", family.admin), &format!("admin_listen = \"{taken}\""))
    });
}

/// Whoever comes to the door and does not become a successor.
#[test]
fn visitors_change_nothing() {
    let family = Family::start("old", "");
    let said = "the successor did not start; nothing has changed";
    for (count, speech) in [&b""[..], b"ready", b"GET / HTTP/1.1\r\n\r\n", b"leave\n"].into_iter().enumerate()
    {
        let mut visitor = UnixStream::connect(family.door()).unwrap();
        visitor.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut header = [0; 16];
        visitor.read_exact(&mut header).expect("the header");
        assert!(header.starts_with(b"corelane-handove"));
        visitor.write_all(speech).unwrap();
        drop(visitor);
        until(said, || (family.log().matches(said).count() == count + 1).then_some(()));
        assert!(all_by(&family, "old"));
    }
    assert_eq!(family.exit_of(family.first), None);
    let new = family.take_over("new", "");
    until("the new one answers all", || all_by(&family, "new").then_some(()));
    assert!(family.alive().contains(&new));
}

/// A successor that never gets ready: who is told to end does so, and does not wait for it.
#[test]
fn the_end_while_a_successor_starts() {
    let family = Family::start("old", "");
    let mut visitor = UnixStream::connect(family.door()).unwrap();
    visitor.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    visitor.read_exact(&mut [0; 16]).expect("the header");
    // Nothing else may be under way meanwhile.
    kernel::signal(family.first, libc::SIGUSR2);
    until("one at a time", || family.log().contains("is under way already").then_some(()));
    assert!(all_by(&family, "old"));
    kernel::signal(family.first, libc::SIGTERM);
    assert_eq!(family.ended(family.first), 0);
    assert!(family.alive().is_empty(), "nobody is left");
    drop(visitor);
    assert!(family.log().contains("drained"));
}

#[test]
fn a_reload_while_a_successor_starts() {
    let family = Family::start("old", "");
    let visitor = UnixStream::connect(family.door()).unwrap();
    until("it is heard", || family.log().contains("asks for the sockets").then_some(()));
    family.write("later", "");
    assert_eq!(post(family.admin, "/reload", "").status, 200);
    assert!(all_by(&family, "later"));
    drop(visitor);
    until("it is over", || family.log().contains("the successor did not start").then_some(()));
    assert!(all_by(&family, "later"));
}

/// One more request may come on a connection that was idle, since the client cannot know; then it is closed.
#[test]
fn idle_connections_of_the_old_one_may_ask_once_more() {
    for by_signal in [false, true] {
        let family = Family::start("old", "shards = 2");
        let mut held = posted(family.addr, CHAT, "", &chat("held", false));
        until("it is held", || (family.gate.held() == 1).then_some(()));
        let mut idle: Vec<_> = (0..8)
            .map(|_| {
                let mut reader = connect(family.addr);
                send(&mut reader, CHAT, &chat("m", false));
                assert_eq!(read(&mut reader).field("connection"), None);
                reader
            })
            .collect();
        if by_signal {
            kernel::signal(family.first, libc::SIGTERM);
        } else {
            family.take_over("new", "");
        }
        until("it drains", || {
            let refused = std::net::TcpStream::connect(family.addr).is_err();
            (refused || family.log().contains("the successor serves; draining")).then_some(())
        });
        for reader in &mut idle {
            send(reader, CHAT, &chat("m", false));
            let answer = read(reader);
            assert_eq!((answer.status, answer.field("x-who")), (200, Some("old")), "by signal: {by_signal}");
            assert_eq!(answer.field("connection"), Some("close"));
        }
        family.gate.open();
        assert_eq!(read(&mut held).status, 200);
        drop((idle, held));
        assert_eq!(family.ended(family.first), 0);
    }
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let family = Family::start("old", "");
    let other = family.folder.join("a-file");
    fs::write(&other, "precious").unwrap();
    let toml = fs::read_to_string(family.config()).unwrap();
    let toml = toml.replace(family.door().to_str().unwrap(), other.to_str().unwrap());
    fs::write(family.config(), toml.replace("x-who = \"old\"", "x-who = \"new\"")).unwrap();
    family.upgrade(family.first);
    until("the new one answers all", || all_by(&family, "new").then_some(()));
    assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
    assert!(family.log().contains("server.handover_socket"), "{}", family.log());
}

#[test]
fn nobody_to_take_over_from() {
    let family = Family::start("old", "");
    for path in [family.folder.join("nothing-here"), family.config()] {
        let output = family.command().arg("--take-over").arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", path.display());
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
    assert!(all_by(&family, "old"));
}
