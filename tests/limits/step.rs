//! What refused requests leave behind: connections that stay in step, and no memory.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::support::answer::Ending;
use super::support::fleet::{Fleet, connect, quick};
use super::{BEHIND_PROXY, CHAT, ask, read, still, zone};

/// What no honest reading finds in these tests: it stands in bodies of refused requests.
const EVIL: &str = "GET /evil HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n";

/// Requests refused by `status`: the connection stays usable if they are whole, else it is closed, and no byte of
/// their bodies is read as a request.
fn stays_in_step(rest: &str, status: u16) {
    let fleet = Fleet::start(quick(1), "shards = 2", rest).ready();
    let addr = fleet.gateway.addr;
    ask(&mut connect(addr), "-", CHAT); // takes the only token, if there are any
    let shares = fleet.shares();
    let head = |more: &str| format!("POST {CHAT} HTTP/1.1\r\nHost: gw\r\n{more}\r\n");
    let length = |bytes: usize| format!("Content-Length: {bytes}\r\n");
    // Whole, also if compressed or broken: answered, and the next request is the one behind its body.
    for coding in ["", "Content-Encoding: gzip\r\n"] {
        let mut reader = connect(addr);
        let next = "GET /health/liveliness HTTP/1.1\r\nHost: gw\r\n\r\n";
        let whole = head(&(length(EVIL.len()) + coding)) + EVIL + next;
        reader.stream().write_all(whole.as_bytes()).unwrap();
        assert_eq!(read(&mut reader).status, status, "{coding}");
        let answer = read(&mut reader);
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"\"I'm alive!\"".as_slice()));
        assert_eq!(reader.ending(Duration::from_millis(20)), Ending::Open, "no third answer");
    }
    // Not whole, or of unknown length: answered at once, then closed.
    let cut = head(&length(EVIL.len() + 10));
    let chunked = head("Transfer-Encoding: chunked\r\n") + &format!("{:x}\r\n{EVIL}\r\n", EVIL.len());
    let waits = head(&(length(EVIL.len()) + "Expect: 100-continue\r\n"));
    for start in [cut, chunked, waits] {
        let mut reader = connect(addr);
        reader.stream().write_all(start.as_bytes()).unwrap();
        let answer = read(&mut reader);
        assert_eq!((answer.status, answer.interim.len()), (status, 0), "{start}");
        assert_eq!(answer.field("connection"), Some("close"));
        let _ = reader.stream().write_all(EVIL.repeat(2).as_bytes());
        let _ = reader.stream().shutdown(std::net::Shutdown::Write);
        assert_eq!(reader.ending(Duration::from_secs(5)), Ending::Closed, "{start}");
    }
    assert_eq!(fleet.shares(), shares);
    fleet.assert_quiet();
}

#[test]
fn requests_refused_by_a_rate_leave_the_connection_in_step() {
    stays_in_step(&still("all", 0, "\"/v1/\""), 429);
}

#[test]
fn requests_refused_for_their_key_leave_the_connection_in_step() {
    stays_in_step("[[keys]]\nname = \"a\"\nsecret = \"secret-of-a\"\n", 401);
}

#[test]
fn two_hundred_thousand_clients_take_no_more_memory_than_the_first() {
    let limits = "[limits]\nentries_max = 16384\n".to_owned()
        + &zone("ip", "1r/s", "burst = 5\nnodelay = true", "\"/\"")
        + &zone("user", "1r/s", "key = \"header:x-user\"\nburst = 5\nnodelay = true", "\"/\"");
    let fleet = Fleet::start(quick(1), BEHIND_PROXY, &limits).ready();
    let resident_kib = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", fleet.gateway.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let mut readers = [connect(fleet.gateway.addr), connect(fleet.gateway.addr)];
    let mut clients = 0_u32;
    let mut come = |count: u32| {
        for batch in 0..count / 100 {
            let reader = &mut readers[batch as usize % 2];
            let one = |at: u32| {
                let [_, a, b, c] = at.to_be_bytes();
                format!(
                    "GET /health/liveliness HTTP/1.1\r\nHost: gw\r\nX-Forwarded-For: 10.{a}.{b}.{c}\r\nX-User: u{at}\r\n\r\n"
                )
            };
            let requests: String = (clients..clients + 100).map(one).collect();
            clients += 100;
            reader.stream().write_all(requests.as_bytes()).unwrap();
            assert_eq!(passes(reader.stream()), 100, "a new client is never refused");
        }
    };
    come(40_000); // more than fit
    let before = resident_kib();
    come(200_000);
    let after = resident_kib();
    println!("resident: {before} KiB after 40 000 clients, {after} KiB after 240 000");
    assert!(after < before + 2048, "from {before} to {after} KiB");
    drop(readers);
    fleet.assert_quiet();
}

/// Reads a hundred answers, and counts those that are 200. They are small and many: read without a parser.
fn passes(stream: &mut TcpStream) -> usize {
    let (mut text, mut part) = (Vec::new(), vec![0; 64 * 1024]);
    let count = |text: &[u8], what: &str| String::from_utf8_lossy(text).matches(what).count();
    while count(&text, "\r\n\r\n") < 100 || !text.ends_with(b"\"I'm alive!\"") {
        match stream.read(&mut part).unwrap() {
            0 => break,
            n => text.extend_from_slice(&part[..n]),
        }
    }
    count(&text, "HTTP/1.1 200 ")
}
