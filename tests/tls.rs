//! Promise: over TLS everything is as it is without, for every client that speaks TLS 1.2 or 1.3, and for no other.
//!
//! Judged from outside: by openssl, curl and testssl.sh, by a rustls client, and by bytes written by hand. What must
//! end ends in time, and nothing stays counted behind it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code
#![allow(clippy::disallowed_types)] // threads of a test share what they found

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use corelane::sim::Options;
use rustls::HandshakeKind;
use support::answer::Ending;
use support::fleet::{self, Fleet, chat, json, quick, send, until};
use support::metrics;
use support::tls::{
    Ca, Conn, ONLY_12, ONLY_13, Pair, Ran, ask, connect, dial, hello, outgoing, run, s_client,
};

const NAME: &str = "gw.test";
const PATIENCE: Duration = Duration::from_secs(10);
const GET: &str = "GET /v1/models HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n";

/// A gateway in front of `options` whose only certificate is for [`NAME`]; `tls` goes into `[server.tls]`.
fn edge(ca: &Ca, options: Vec<Options>, server: &str, tls: &str) -> Fleet {
    edge_with(&ca.issue("gw", &[NAME, "localhost"]), options, server, tls)
}

fn edge_with(pair: &Pair, options: Vec<Options>, server: &str, tls: &str) -> Fleet {
    let rest = format!("[server.tls]\nlisten = [\"127.0.0.1:0\"]\n{}{tls}\n", pair.toml());
    Fleet::start(options, server, &rest).ready()
}

fn tls(fleet: &Fleet) -> SocketAddr {
    fleet.gateway.tls.expect("a TLS listener")
}

/// A counter, summed over the shards.
fn counter(fleet: &Fleet, name: &str) -> u64 {
    let page = metrics(&fleet.gateway);
    let lines =
        page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// So many handshakes have failed; each is counted when its connection is done with.
fn until_failed(fleet: &Fleet, count: u64) {
    until("failures are counted", || (counter(fleet, "corelane_tls_failed_total") >= count).then_some(()));
    assert_eq!(counter(fleet, "corelane_tls_failed_total"), count);
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// `openssl s_client` that trusts `ca`, asks for the models and waits for the end.
fn openssl(ca: &Ca, addr: SocketAddr, more: &[&str]) -> Ran {
    let ca = ca.file().display().to_string();
    let mut arguments = vec!["-CAfile", &ca, "-servername", NAME, "-verify_return_error", "-ign_eof"];
    arguments.extend(more);
    s_client(addr, &arguments, GET, PATIENCE)
}

/// `curl` of `path` by the gateway's name.
fn curl(ca: &Ca, addr: SocketAddr, path: &str, more: &[&str]) -> Ran {
    let (port, ca) = (addr.port(), ca.file().display().to_string());
    let (url, resolve) = (format!("https://{NAME}:{port}{path}"), format!("{NAME}:{port}:127.0.0.1"));
    let mut arguments =
        vec!["--silent", "--show-error", "--noproxy", "*", "--cacert", &ca, "--resolve", &resolve];
    arguments.extend(more);
    arguments.push(&url);
    run("curl", &arguments, "", PATIENCE)
}

/// What comes on a bare socket until the other side closes; `None`: it is still open after `patience`.
fn rest_of(socket: &mut TcpStream, patience: Duration) -> Option<Vec<u8>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        socket.set_read_timeout(Some(left)).unwrap();
        match socket.read(&mut buffer) {
            Ok(0) => return Some(bytes),
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Some(bytes),
            Err(_) => return None,
        }
    }
}

/// The description of a fatal alert in the clear.
fn alert(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [21, 3, _, 0, 2, 2, description] => Some(*description),
        _ => None,
    }
}

#[test]
fn every_version_alone() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 2", "");
    for (flag, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let ran = openssl(&ca, tls(&fleet), &[flag]);
        assert_eq!(ran.code, Some(0), "{}", ran.text);
        ran.says("HTTP/1.1 200 OK");
        ran.says(&format!("New, {name}, Cipher is "));
        ran.says("Verify return code: 0 (ok)");
        ran.says("Secure Renegotiation IS");
        ran.never_says("unexpected eof");
        ran.never_says("error:");
    }
    for arguments in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
        let ran = curl(&ca, tls(&fleet), "/v1/models", &arguments);
        assert_eq!(ran.code, Some(0), "{}", ran.text);
        ran.says("llama3.2");
    }
    assert_eq!(counter(&fleet, "corelane_tls_handshakes_total"), 4);
    assert_eq!(counter(&fleet, "corelane_tls_failed_total"), 0);
    fleet.assert_quiet();
}

#[test]
fn old_versions_and_weak_ciphers_are_refused() {
    let ca = Ca::new();
    let pair = ca.issue_rsa("gw", &[NAME]);
    let fleet = edge_with(&pair, quick(1), "shards = 1", "");
    let refused = |arguments: &[&str]| {
        let ran = openssl(&ca, tls(&fleet), arguments);
        ran.says("Cipher is (NONE)");
        ran.never_says("200 OK");
        ran.says("alert"); // refused by the server, not by the client's own rules
    };
    refused(&["-tls1", "-cipher", "ALL:@SECLEVEL=0"]);
    refused(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    for weak in [
        "AES128-SHA:AES256-SHA:AES128-GCM-SHA256",      // keys carried by RSA
        "ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES256-SHA384", // CBC
        "DHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-SHA", // finite fields
        "AECDH-AES256-SHA:ADH-AES256-GCM-SHA384",       // nobody is named
        "ECDHE-RSA-NULL-SHA:NULL-SHA256",               // nothing is hidden
    ] {
        refused(&["-tls1_2", "-cipher", &format!("{weak}:@SECLEVEL=0")]);
    }
    until_failed(&fleet, 7);
    assert_eq!(counter(&fleet, "corelane_tls_handshakes_total"), 0);
    fleet.assert_quiet();
}

#[test]
fn version_1_3_alone_refuses_1_2() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 1", "min_version = \"1.3\"");
    let ran = openssl(&ca, tls(&fleet), &["-tls1_2"]);
    ran.says("alert protocol version");
    ran.says("Cipher is (NONE)");
    openssl(&ca, tls(&fleet), &[]).says("New, TLSv1.3");
    assert!(dial(tls(&fleet), &ca.client().versions(ONLY_12).config(), NAME).is_err());
    fleet.assert_quiet();
}

/// A ClientHello as SSL 3.0 and SSL 2.0 had it.
#[test]
fn hellos_of_the_nineties_are_refused() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 1", "");
    let mut ssl3 = vec![22, 3, 0, 0, 45, 1, 0, 0, 41, 3, 0];
    ssl3.extend([7; 32]);
    ssl3.extend([0, 0, 2, 0, 10, 1, 0]);
    let mut ssl2 = vec![0x80, 43, 1, 0, 2, 0, 18, 0, 0, 0, 16];
    ssl2.extend([1, 0, 0x80, 2, 0, 0x80, 3, 0, 0x80, 6, 0, 0x40, 7, 0, 0xc0, 4, 0, 0x80]);
    ssl2.extend([7; 16]);
    for bytes in [ssl3, ssl2] {
        let mut socket = TcpStream::connect(tls(&fleet)).unwrap();
        socket.write_all(&bytes).unwrap();
        let answer = rest_of(&mut socket, PATIENCE).expect("closed");
        assert!(alert(&answer).is_some(), "{answer:02x?}");
    }
    until_failed(&fleet, 2);
    fleet.assert_quiet();
}

#[test]
fn protocols_by_alpn() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 1", "");
    let agreed = |fleet: &Fleet, alpn| {
        let conn = dial(tls(fleet), &ca.client().alpn(alpn).config(), NAME)?;
        Ok::<_, std::io::Error>(
            conn.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        )
    };
    assert_eq!(agreed(&fleet, &[]).unwrap(), None);
    assert_eq!(agreed(&fleet, &["http/1.1"]).unwrap().as_deref(), Some("http/1.1"));
    assert_eq!(agreed(&fleet, &["http/1.1", "h2"]).unwrap().as_deref(), Some("h2"), "the server's choice");
    assert_eq!(agreed(&fleet, &["acme-tls/1", "http/1.1"]).unwrap().as_deref(), Some("http/1.1"));
    let error = agreed(&fleet, &["http/0.9"]).unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    openssl(&ca, tls(&fleet), &["-alpn", "http/1.1"]).says("ALPN protocol: http/1.1");
    openssl(&ca, tls(&fleet), &[]).says("No ALPN negotiated");
    curl(&ca, tls(&fleet), "/v1/models", &["--http2", "--write-out", "version %{http_version}"])
        .says("version 2");
    fleet.assert_quiet();

    let fleet = edge(&ca, quick(1), "shards = 1", "http2 = false");
    assert_eq!(agreed(&fleet, &["h2", "http/1.1"]).unwrap().as_deref(), Some("http/1.1"));
    let ran = curl(&ca, tls(&fleet), "/v1/models", &["--http2", "--write-out", "version %{http_version}"]);
    ran.says("version 1.1");
    fleet.assert_quiet();
}

#[test]
fn chats_and_streams() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 2", "");
    for versions in [ONLY_12, ONLY_13] {
        let mut reader = connect(tls(&fleet), &ca.client().versions(versions).config(), NAME);
        for _ in 0..3 {
            send(&mut reader, "/v1/chat/completions", &chat("llama3.2", false));
            let answer = reader.answer(false, soon()).unwrap();
            assert_eq!((answer.status, &json(&answer)["object"]), (200, &"chat.completion".into()));
            send(&mut reader, "/v1/chat/completions", &chat("llama3.2", true));
            let answer = reader.answer(false, soon()).unwrap();
            let text = String::from_utf8(answer.body).unwrap();
            assert!(text.ends_with("data: [DONE]\n\n") && text.matches("data: ").count() > 8, "{text}");
        }
    }
    for version in ["1.2", "1.3"] {
        for stream in [false, true] {
            let body = chat("llama3.2", stream);
            let flag = format!("--tlsv{version}");
            let more = [&flag, "--tls-max", version, "--http1.1", "--no-buffer", "--json", &body];
            let ran = curl(&ca, tls(&fleet), "/v1/chat/completions", &more);
            assert_eq!(ran.code, Some(0), "{}", ran.text);
            ran.says(if stream { "data: [DONE]" } else { "\"chat.completion\"" });
        }
    }
    assert_eq!(fleet.shares(), [16]);
    fleet.assert_quiet();
}

#[test]
fn names_choose_certificates() {
    let ca = Ca::new();
    let first = ca.issue("first", &["first.test"]);
    let more = [
        ca.issue("api", &["api.test", "www.api.test"]),
        ca.issue_rsa("api-rsa", &["api.test"]),
        ca.issue("star", &["*.star.test"]),
        ca.issue("exact", &["exact.star.test"]),
    ];
    let inline: Vec<_> = more.iter().map(Pair::inline).collect();
    let fleet = edge_with(&first, quick(1), "shards = 2", &format!("certificates = [{}]", inline.join(", ")));
    let shown = |name: &str, more: &[&str]| {
        let mut arguments = vec![];
        if name.is_empty() {
            arguments.push("-noservername")
        } else {
            arguments.extend(["-servername", name])
        }
        arguments.extend(more);
        let ran = s_client(tls(&fleet), &[&arguments[..], &["-ign_eof"]].concat(), GET, PATIENCE);
        ran.says("200 OK");
        let kind =
            ran.text.lines().find_map(|line| line.strip_prefix("Peer signature type: ")).map(str::to_owned);
        let kind = kind.unwrap_or_default();
        let subject = ran.text.lines().find_map(|line| line.strip_prefix("subject=CN = ")).map(str::to_owned);
        (subject.unwrap_or_else(|| panic!("{}", ran.text)), kind)
    };
    assert_eq!(shown("", &[]).0, "first.test");
    assert_eq!(shown("unknown.test", &[]).0, "first.test");
    assert_eq!(shown("first.test", &[]).0, "first.test");
    assert_eq!(shown("www.api.test", &[]).0, "api.test");
    assert_eq!(shown("WWW.Api.TEST", &[]).0, "api.test", "names have no case");
    assert_eq!(shown("one.star.test", &[]).0, "*.star.test");
    assert_eq!(shown("exact.star.test", &[]).0, "exact.star.test", "the name goes before the wildcard");
    assert_eq!(shown("two.levels.star.test", &[]).0, "first.test", "a wildcard is one level");
    assert_eq!(shown("star.test", &[]).0, "first.test");
    // One name, two keys: each client gets the one it can check.
    for version in ["-tls1_2", "-tls1_3"] {
        assert_eq!(shown("api.test", &[version]), ("api.test".into(), "ECDSA".into()));
        let rsa = "RSA-PSS+SHA256:RSA+SHA256";
        assert_eq!(shown("api.test", &[version, "-sigalgs", rsa]), ("api.test".into(), "RSA-PSS".into()));
    }
    let suite = ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"];
    assert_eq!(shown("api.test", &suite).1, "RSA-PSS", "by the suite, if the schemes leave it open");
    fleet.assert_quiet();
}

/// A client that names no host gets a certificate of the first one's names that it can check.
#[test]
fn without_a_name_the_key_is_chosen_too() {
    let ca = Ca::new();
    let (ecdsa, rsa) = (ca.issue("ecdsa", &[NAME]), ca.issue_rsa("rsa", &[NAME]));
    let fleet = edge_with(&ecdsa, quick(1), "shards = 1", &format!("certificates = [{}]", rsa.inline()));
    let arguments = ["-noservername", "-ign_eof", "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"];
    let ran = s_client(tls(&fleet), &arguments, GET, PATIENCE);
    ran.says("Peer signature type: RSA-PSS");
    ran.says("200 OK");
    fleet.assert_quiet();
}

#[test]
fn tickets_resume_on_every_shard() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 2", "");
    for versions in [ONLY_12, ONLY_13] {
        let config = ca.client().versions(versions).config();
        let mut held = Vec::new(); // connections that stay: the shards share them out evenly
        for at in 0..40 {
            let mut conn = dial(tls(&fleet), &config, NAME).unwrap();
            let kind = conn.conn.handshake_kind().unwrap();
            let wanted = if at == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
            assert_eq!(kind, wanted, "connection {at}");
            // An answer has the tickets of TLS 1.3 before it.
            conn.write_all(GET.replace("close", "keep-alive").as_bytes()).unwrap();
            let mut byte = [0];
            conn.read_exact(&mut byte).unwrap();
            held.push(conn);
        }
        let page = metrics(&fleet.gateway);
        for shard in 0..2 {
            let line = format!("corelane_client_connections{{shard=\"{shard}\"}} ");
            let count = page.lines().find_map(|l| l.strip_prefix(&line)).unwrap().parse::<u64>().unwrap();
            assert!((15..=25).contains(&count), "{count} of 40 connections on shard {shard}");
        }
    }
    fleet.assert_quiet();
}

#[test]
fn tickets_of_openssl_resume_without_early_data() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 2", "");
    for version in ["-tls1_2", "-tls1_3"] {
        let file = ca.path("session.pem").display().to_string();
        let ran = openssl(&ca, tls(&fleet), &[version, "-sess_out", &file]);
        ran.says("New, ");
        for _ in 0..8 {
            let ran = openssl(&ca, tls(&fleet), &[version, "-sess_in", &file]);
            ran.says("Reused, ");
            ran.says("200 OK");
            ran.never_says("error:");
        }
        if version == "-tls1_3" {
            run("openssl", &["sess_id", "-in", &file, "-noout", "-text"], "", PATIENCE)
                .says("Max Early Data: 0");
            let early = ca.path("early");
            fs::write(&early, GET).unwrap();
            let early = early.display().to_string();
            let ran = openssl(&ca, tls(&fleet), &[version, "-sess_in", &file, "-early_data", &early]);
            ran.says("Early data was not sent");
        }
    }
    // A ticket that is not ours, and one whose name is another: a full handshake, no failure.
    let other = edge(&ca, quick(1), "shards = 1", "");
    let file = ca.path("session.pem").display().to_string();
    openssl(&ca, tls(&other), &["-tls1_3", "-sess_in", &file]).says("New, TLSv1.3");
    fleet.assert_quiet();
}

#[test]
fn clients_show_certificates() {
    let (ca, clients, strangers) = (Ca::new(), Ca::new(), Ca::new());
    let extra = format!("client_ca = {:?}", clients.file());
    let fleet = edge(&ca, quick(1), "shards = 2", &extra);
    let (right, old) = (clients.issue("right", &["team-a"]), clients.issue_expired("old", &["team-a"]));
    let wrong = strangers.issue("wrong", &["team-a"]);
    for versions in [ONLY_12, ONLY_13] {
        let client = || ca.client().versions(versions);
        let try_it = |config| {
            let mut conn = dial(tls(&fleet), &config, NAME)?;
            let (text, end) = ask(&mut conn, GET);
            end.map(|_| text)
        };
        let text = try_it(client().identity(&right).config()).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        for (who, config) in [
            ("none", client().config()),
            ("a stranger's", client().identity(&wrong).config()),
            ("an expired one", client().identity(&old).config()),
        ] {
            assert!(try_it(config).is_err(), "{who} was let in");
        }
        // Who was let in is let in again by a ticket, on any shard.
        let config = client().identity(&right).config();
        for at in 0..6 {
            let mut conn = dial(tls(&fleet), &config, NAME).unwrap();
            let (text, end) = ask(&mut conn, GET);
            assert!(text.starts_with("HTTP/1.1 200 ") && end.is_ok());
            assert_eq!(conn.conn.handshake_kind() == Some(HandshakeKind::Resumed), at > 0);
        }
    }
    let before = fleet.shares();
    let show = |pair: &Pair| [pair.cert.display().to_string(), pair.key.display().to_string()];
    let [cert, key] = show(&right);
    let ran = curl(&ca, tls(&fleet), "/v1/models", &["--cert", &cert, "--key", &key]);
    assert_eq!(ran.code, Some(0), "{}", ran.text);
    let [cert, key] = show(&wrong);
    for more in [&["--cert", &cert, "--key", &key][..], &[], &["--tls-max", "1.2"]] {
        let ran = curl(&ca, tls(&fleet), "/v1/models", more);
        assert!(matches!(ran.code, Some(35 | 55 | 56 | 98)), "{ran:?}");
        ran.says("alert"); // the client is told why
        ran.never_says("llama3.2");
    }
    assert_eq!(fleet.shares(), before);
    // Other authorities: who was let in before is not any more, with or without a ticket.
    let config = ca.client().identity(&right).config();
    assert!(ask(&mut dial(tls(&fleet), &config, NAME).unwrap(), GET).1.is_ok());
    fs::copy(strangers.file(), clients.file()).unwrap();
    assert_eq!(reload(&fleet).0, 200);
    let let_in = |config| dial(tls(&fleet), config, NAME).is_ok_and(|mut conn| ask(&mut conn, GET).1.is_ok());
    assert!(!let_in(&config), "by a ticket from before");
    assert!(let_in(&ca.client().identity(&wrong).config()));
    fleet.assert_quiet();
}

/// Closed by the gateway no earlier than after `limit`, and not much later.
fn closed_after(socket: &mut TcpStream, since: Instant, limit: Duration) -> Vec<u8> {
    let bytes = rest_of(socket, PATIENCE).expect("closed");
    let took = since.elapsed();
    assert!(took + Duration::from_millis(20) >= limit, "closed after {took:?}, before {limit:?}");
    assert!(took < limit + Duration::from_secs(2), "closed after {took:?}, long after {limit:?}");
    bytes
}

#[test]
fn handshakes_have_a_deadline() {
    let ca = Ca::new();
    let server = "shards = 1\nhead_timeout = \"900ms\"";
    let fleet = edge(&ca, quick(1), server, "handshake_timeout = \"400ms\"");
    let (handshake, head) = (Duration::from_millis(400), Duration::from_millis(900));
    let first = outgoing(&mut hello(&ca.client().config(), NAME));
    let since = Instant::now();
    let mut silent = TcpStream::connect(tls(&fleet)).unwrap();
    let mut half = TcpStream::connect(tls(&fleet)).unwrap();
    half.write_all(&first[..first.len() / 2]).unwrap();
    let mut unfinished = TcpStream::connect(tls(&fleet)).unwrap();
    unfinished.write_all(&first).unwrap();
    closed_after(&mut half, since, handshake);
    let answer = closed_after(&mut unfinished, since, handshake);
    assert_eq!(answer.first(), Some(&22), "a ServerHello came");
    closed_after(&mut silent, since, head);
    until_failed(&fleet, 2);

    // One that sends a byte now and then gains nothing by it.
    let since = Instant::now();
    let mut slow = TcpStream::connect(tls(&fleet)).unwrap();
    slow.set_nodelay(true).unwrap();
    let mut left = first.iter();
    until("it is closed", || {
        std::thread::sleep(Duration::from_millis(50));
        slow.write_all(&[*left.next().unwrap()]).is_err().then_some(())
    });
    assert!(since.elapsed() < handshake + Duration::from_secs(2));
    fleet.assert_quiet();
}

#[test]
fn hellos_in_pieces() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 2", "");
    for versions in [ONLY_12, ONLY_13] {
        let config = ca.client().versions(versions).config();
        // One byte a segment.
        let mut state = hello(&config, NAME);
        let mut socket = TcpStream::connect(tls(&fleet)).unwrap();
        socket.set_nodelay(true).unwrap();
        for byte in outgoing(&mut state) {
            socket.write_all(&[byte]).unwrap();
        }
        let (text, _) = ask(&mut Conn::new(state, socket), GET);
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        // One byte a record, all at once and one record a segment.
        for at_once in [usize::MAX, 1] {
            let mut state = hello(&config, NAME);
            let whole = outgoing(&mut state);
            let mut socket = TcpStream::connect(tls(&fleet)).unwrap();
            socket.set_nodelay(true).unwrap();
            let records: Vec<[u8; 6]> = whole[5..].iter().map(|byte| [22, 3, 1, 0, 1, *byte]).collect();
            for some in records.chunks(at_once.min(records.len())) {
                socket.write_all(some.as_flattened()).unwrap();
            }
            let (text, _) = ask(&mut Conn::new(state, socket), GET);
            assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        }
    }
    // A hello that never ends: records without a byte in them, and a message longer than any may be.
    let mut endless = vec![22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff];
    endless.extend([22, 3, 1, 0x40, 0].into_iter().chain([0; 0x4000]).cycle().take(30 * 0x4005));
    for bytes in [[22, 3, 1, 0, 0].repeat(40_000), endless] {
        let mut socket = TcpStream::connect(tls(&fleet)).unwrap();
        let _ = socket.write_all(&bytes);
        rest_of(&mut socket, Duration::from_secs(3)).expect("closed");
    }
    fleet.assert_quiet();
}

#[test]
fn handshakes_at_once_are_bounded() {
    let ca = Ca::new();
    let limits = "handshake_timeout = \"1s\"\nhandshakes_max = 2";
    let fleet = edge(&ca, quick(1), "shards = 1", limits);
    let first = outgoing(&mut hello(&ca.client().config(), NAME));
    let since = Instant::now();
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut socket = TcpStream::connect(tls(&fleet)).unwrap();
            socket.write_all(&first[..20]).unwrap();
            socket
        })
        .collect();
    until("they are there", || (counter(&fleet, "corelane_client_connections") == 2).then_some(()));
    let pause = Duration::from_millis(600).saturating_sub(since.elapsed());
    std::thread::sleep(pause); // the next one's own deadline is later than theirs
    let mut conn = dial(tls(&fleet), &ca.client().config(), NAME).unwrap();
    assert!(since.elapsed() >= Duration::from_millis(980), "it did not wait: {:?}", since.elapsed());
    let (text, _) = ask(&mut conn, GET);
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    drop((held, conn));
    // One that leaves makes room at once.
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut socket = TcpStream::connect(tls(&fleet)).unwrap();
            socket.write_all(&first[..20]).unwrap();
            socket
        })
        .collect();
    until("they are there", || (counter(&fleet, "corelane_client_connections") == 2).then_some(()));
    drop(held);
    dial(tls(&fleet), &ca.client().config(), NAME).unwrap();
    // Many at once get through, two at a time.
    std::thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| dial(tls(&fleet), &ca.client().config(), NAME).unwrap());
        }
    });
    fleet.assert_quiet();
}

#[test]
fn the_wrong_port() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 1", "");
    let before = fleet.shares();
    let mut random = support::lane::Random(7);
    let noise: Vec<u8> = (0..4096).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
    let body = chat("llama3.2", false);
    let plain = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for bytes in [plain.as_bytes(), GET.as_bytes(), &noise, b"\x16\x03\x01\xff\xff", b"\n", &[0; 600]] {
        let mut socket = TcpStream::connect(tls(&fleet)).unwrap();
        socket.write_all(bytes).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let answer = rest_of(&mut socket, Duration::from_secs(3)).expect("closed");
        assert!(answer.is_empty() || alert(&answer).is_some(), "{answer:02x?}");
    }
    // TLS to the plain port: a short refusal in the clear, then the end.
    let mut socket = TcpStream::connect(fleet.gateway.addr).unwrap();
    socket.write_all(&outgoing(&mut hello(&ca.client().config(), NAME))).unwrap();
    let answer = String::from_utf8_lossy(&rest_of(&mut socket, PATIENCE).expect("closed")).into_owned();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(fleet.shares(), before, "something came through");
    fleet.assert_quiet();
}

#[test]
fn the_end_is_announced() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 1\nkeep_alive = \"1200ms\"\nhead_timeout = \"300ms\"", "");
    for versions in [ONLY_12, ONLY_13] {
        let config = ca.client().versions(versions).config();
        let requests = [
            ("a whole answer", GET.to_owned()),
            ("a refused request", "GET / HTTP/9.9\r\n\r\n".to_owned()),
            (
                "a body that nobody reads",
                format!(
                    "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n{}",
                    "x".repeat(300_000)
                ),
            ),
            ("a head that does not come", "GET / HTTP/1.1\r\nHost:".to_owned()),
            (
                "a body without an end",
                "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
                    .to_owned(),
            ),
            ("nothing", String::new()),
            ("silence behind an answer", GET.replace("close", "keep-alive")),
        ];
        std::thread::scope(|scope| {
            for (what, request) in &requests {
                let (config, addr) = (&config, tls(&fleet));
                scope.spawn(move || {
                    let mut conn = dial(addr, config, NAME).unwrap();
                    let (text, end) = ask(&mut conn, request);
                    assert!(end.is_ok(), "{what}: {end:?} behind {text:?}");
                    assert_eq!(text.starts_with("HTTP/1.1 "), *what != "nothing", "{what}: {text}");
                });
            }
        });
    }
    fleet.assert_quiet();
}

#[test]
fn a_cut_connection_frees_everything() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 2", "");
    let before = fleet.shares();
    let config = ca.client().config();
    let body = chat("llama3.2", false);
    let whole = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for part in [0, 1, 20, whole.len() - 1] {
        for cut in [0, 1, 5, 9] {
            let mut conn = dial(tls(&fleet), &config, NAME).unwrap();
            conn.conn.writer().write_all(&whole.as_bytes()[..part]).unwrap();
            let sealed = outgoing(&mut conn.conn);
            conn.sock.write_all(&sealed[..sealed.len().saturating_sub(cut)]).unwrap();
            let end = [Shutdown::Both, Shutdown::Write][part % 2];
            let _ = conn.sock.shutdown(end);
        }
    }
    assert_eq!(fleet.shares(), before, "an endpoint was asked for an unfinished request");
    fleet.assert_quiet();
}

#[test]
fn a_record_that_was_changed_is_refused() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 1", "");
    for versions in [ONLY_12, ONLY_13] {
        let mut conn = dial(tls(&fleet), &ca.client().versions(versions).config(), NAME).unwrap();
        conn.conn.writer().write_all(GET.as_bytes()).unwrap();
        let mut sealed = outgoing(&mut conn.conn);
        *sealed.last_mut().unwrap() ^= 1;
        conn.sock.write_all(&sealed).unwrap();
        let mut text = Vec::new();
        let error = conn.read_to_end(&mut text).unwrap_err().to_string();
        assert!(error.contains("BadRecordMac"), "{error}");
        assert!(text.is_empty());
    }
    fleet.assert_quiet();
}

#[test]
fn renegotiation_is_refused() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 1", "");
    let file = ca.file().display().to_string();
    let since = Instant::now();
    let arguments = ["-CAfile", &file, "-servername", NAME, "-tls1_2"];
    let ran = s_client(tls(&fleet), &arguments, "R\n", PATIENCE);
    ran.says("RENEGOTIATING");
    ran.says("no renegotiation");
    assert!(since.elapsed() < Duration::from_secs(3), "the refusal came after {:?}", since.elapsed());
    fleet.assert_quiet();
}

#[test]
fn key_updates_are_followed_and_their_floods_ended() {
    let ca = Ca::new();
    let options = Options { tokens: 200, token_interval: Duration::from_millis(2), ..Options::default() };
    let fleet = edge(&ca, vec![options], "shards = 1", "");
    let config = ca.client().versions(ONLY_13).config();
    // New keys in the middle of a stream, and between requests.
    let mut conn = dial(tls(&fleet), &config, NAME).unwrap();
    for _ in 0..3 {
        let body = chat("llama3.2", true);
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        conn.conn.refresh_traffic_keys().unwrap();
        conn.write_all((head + &body).as_bytes()).unwrap();
        let (mut text, mut buffer, mut next) = (Vec::new(), [0; 2048], 0);
        while !text.ends_with(b"\r\n0\r\n\r\n") {
            let n = conn.read(&mut buffer).unwrap();
            assert!(n > 0);
            text.extend_from_slice(&buffer[..n]);
            if text.len() > next {
                next += 4000;
                conn.conn.refresh_traffic_keys().unwrap();
                conn.flush().unwrap();
            }
        }
        assert!(String::from_utf8_lossy(&text).contains("data: [DONE]"));
    }
    drop(conn);
    // Updates and nothing else.
    let mut conn = dial(tls(&fleet), &config, NAME).unwrap();
    conn.write_all(GET.replace("close", "keep-alive").as_bytes()).unwrap();
    conn.read_exact(&mut [0; 100]).unwrap();
    let mut flood = Vec::new();
    for _ in 0..4000 {
        conn.conn.refresh_traffic_keys().unwrap();
        flood.append(&mut outgoing(&mut conn.conn));
    }
    let _ = conn.sock.write_all(&flood);
    let mut rest = Vec::new();
    let end = conn.read_to_end(&mut rest);
    assert!(end.is_err(), "told that it misbehaved, or reset: {end:?}");
    fleet.assert_quiet();
}

#[test]
fn large_bodies_both_ways() {
    let ca = Ca::new();
    let mut random = support::lane::Random(11);
    let letters: String =
        (0..5 << 20).map(|_| char::from(b'a' + u8::try_from(random.below(26)).unwrap())).collect();
    let mut options = quick(1);
    options[0].record = 64;
    options[0].answer = Some(letters.clone());
    let fleet = edge(&ca, options, "shards = 1", "");
    for versions in [ONLY_12, ONLY_13] {
        let _ = fleet.servers[0].stats.take_recorded();
        let mut reader = connect(tls(&fleet), &ca.client().versions(versions).config(), NAME);
        send(
            &mut reader,
            "/v1/chat/completions",
            &chat("llama3.2", false).replace("\"hi\"", &format!("\"{letters}\"")),
        );
        let answer = reader.answer(false, soon()).unwrap();
        assert_eq!(answer.status, 200);
        let content = &json(&answer)["choices"][0]["message"]["content"];
        assert!(content.as_str() == Some(&letters), "the answer was changed");
        let recorded = fleet.servers[0].stats.take_recorded();
        let asked =
            recorded.iter().find_map(|one| one.json()?["messages"][0]["content"].as_str().map(str::to_owned));
        assert!(asked.as_deref() == Some(&letters), "the request was changed");
    }
    fleet.assert_quiet();
}

#[test]
fn one_connection_many_requests() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 1", "");
    let config = ca.client().config();
    let mut reader = connect(tls(&fleet), &config, NAME);
    for at in 0..50 {
        let stream = at % 3 == 0;
        send(&mut reader, "/v1/chat/completions", &chat("llama3.2", stream));
        assert_eq!(reader.answer(false, soon()).unwrap().status, 200);
    }
    // Twenty requests in one record, then their last one in records of one byte.
    let body = chat("llama3.2", false);
    let one = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    reader.stream().write_all(one.repeat(20).as_bytes()).unwrap();
    for _ in 0..20 {
        assert_eq!(reader.answer(false, soon()).unwrap().status, 200);
    }
    assert_eq!(reader.ending(Duration::from_millis(50)), Ending::Open);
    let mut conn = dial(tls(&fleet), &config, NAME).unwrap();
    for byte in one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").bytes() {
        conn.write_all(&[byte]).unwrap();
    }
    let (text, end) = ask(&mut conn, "");
    assert!(text.starts_with("HTTP/1.1 200 ") && end.is_ok(), "{end:?} {text}");
    assert_eq!(fleet.shares(), [71]);
    drop(reader);
    fleet.assert_quiet();
}

/// Finished, a request and the end, all in one write: refused or answered, but never without a word.
#[test]
fn a_request_and_the_end_may_come_with_the_handshake() {
    let ca = Ca::new();
    let fleet = edge(&ca, quick(1), "shards = 1", "");
    for versions in [ONLY_12, ONLY_13] {
        let config = ca.client().versions(versions).config();
        if versions == ONLY_12 {
            ask(&mut dial(tls(&fleet), &config, NAME).unwrap(), GET).1.unwrap(); // resumed, the client ends the handshake
        }
        let mut state = hello(&config, NAME);
        let mut socket = TcpStream::connect(tls(&fleet)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&outgoing(&mut state)).unwrap();
        while state.is_handshaking() {
            assert!(state.read_tls(&mut socket).unwrap() > 0);
            state.process_new_packets().unwrap();
        }
        state.writer().write_all(b"GET /nowhere HTTP/1.0\r\n\r\n").unwrap();
        state.send_close_notify();
        socket.write_all(&outgoing(&mut state)).unwrap();
        let mut text = Vec::new();
        Conn::new(state, socket).read_to_end(&mut text).unwrap();
        assert!(text.starts_with(b"HTTP/1.1 40"), "{:?}", String::from_utf8_lossy(&text));
    }
    assert_eq!(counter(&fleet, "corelane_tls_failed_total"), 0);
    fleet.assert_quiet();
}

/// Each way of leaving, in a stream and before the first byte.
#[test]
fn a_client_that_leaves_is_noticed_at_once() {
    let ca = Ca::new();
    let slow =
        Options { slots: 64, tokens: 10_000, token_interval: Duration::from_millis(5), ..Options::default() };
    let fleet = edge(&ca, vec![slow], "shards = 1", "");
    let stats = &fleet.servers[0].stats;
    let mut worst = 0;
    for versions in [ONLY_12, ONLY_13] {
        let config = ca.client().versions(versions).config();
        for round in 0..16 {
            let (before, asked) =
                (stats.cancelled.load(Ordering::Relaxed), stats.model_requests.load(Ordering::Relaxed));
            let mut conn = dial(tls(&fleet), &config, NAME).unwrap();
            let body = chat("llama3.2", round % 2 == 0);
            let head = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            conn.write_all((head + &body).as_bytes()).unwrap();
            until("the request arrives", || {
                (stats.model_requests.load(Ordering::Relaxed) > asked).then_some(())
            });
            if round % 2 == 0 {
                conn.read_exact(&mut [0; 300]).unwrap();
            }
            let left_us = corelane::sim::now_us();
            match round / 2 % 4 {
                0 => drop(conn),
                1 => {
                    conn.conn.send_close_notify();
                    let _ = conn.flush();
                    drop(conn);
                }
                2 => conn.sock.shutdown(Shutdown::Write).unwrap(),
                _ => {
                    // It says that it is gone, and leaves the connection open.
                    conn.conn.send_close_notify();
                    conn.flush().unwrap();
                    until("the upstream is closed", || {
                        (stats.cancelled.load(Ordering::Relaxed) > before).then_some(())
                    });
                }
            }
            until("the upstream is closed", || {
                (stats.cancelled.load(Ordering::Relaxed) > before).then_some(())
            });
            worst = worst.max(stats.cancelled_at.load(Ordering::Relaxed).saturating_sub(left_us));
        }
    }
    println!("client gone to upstream closed: worst {worst} us");
    fleet.assert_quiet();
}

/// A byte of a record now and then is no sign of life: nothing has been asked.
#[test]
fn dripping_bytes_of_a_record_is_idleness() {
    let ca = Ca::new();
    let limits = "shards = 1\nkeep_alive = \"1500ms\"\nhead_timeout = \"1500ms\"";
    let fleet = edge(&ca, quick(1), limits, "");
    let mut conn = dial(tls(&fleet), &ca.client().config(), NAME).unwrap();
    conn.conn.writer().write_all(&[b'G'; 200]).unwrap();
    let sealed = outgoing(&mut conn.conn);
    let since = Instant::now();
    let mut left = sealed.iter();
    until("it is closed", || {
        std::thread::sleep(Duration::from_millis(100));
        conn.sock.write_all(&[*left.next().unwrap()]).is_err().then_some(())
    });
    let took = since.elapsed();
    assert!(took < Duration::from_secs(4), "closed after {took:?}");
    fleet.assert_quiet();
}

#[test]
fn plain_requests_are_sent_to_tls() {
    let ca = Ca::new();
    let location = |fleet: &Fleet, request: &str| {
        let mut reader = fleet::connect(fleet.gateway.addr);
        reader.stream().write_all(request.as_bytes()).unwrap();
        let answer = reader.answer(request.starts_with("HEAD"), soon()).unwrap();
        assert_eq!(reader.ending(PATIENCE), Ending::Closed, "behind {request:?}");
        (answer.status, answer.field("location").map(str::to_owned))
    };
    let to = |status: u16, location: &str| (status, Some(location.to_owned()));

    let fleet = edge(&ca, quick(1), "shards = 1", "redirect_http = true");
    let before = fleet.shares();
    let port = tls(&fleet).port();
    let get = |target: &str, host: &str| {
        location(&fleet, &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    };
    assert_eq!(get("/v1/models", "gw.test"), to(308, &format!("https://gw.test:{port}/v1/models")));
    assert_eq!(get("/", "gw.test:8000"), to(308, &format!("https://gw.test:{port}/")));
    assert_eq!(
        get("/a?b=c&d=%20", "10.0.0.1:8000"),
        to(308, &format!("https://10.0.0.1:{port}/a?b=c&d=%20"))
    );
    assert_eq!(get("/x", "[2001:db8::1]:8000"), to(308, &format!("https://[2001:db8::1]:{port}/x")));
    assert_eq!(get("/x", "[::1]"), to(308, &format!("https://[::1]:{port}/x")));
    assert_eq!(get("//evil.test/x", "gw.test"), to(308, &format!("https://gw.test:{port}//evil.test/x")));
    let body = chat("llama3.2", false);
    let post = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gw.test\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let wanted = to(308, &format!("https://gw.test:{port}/v1/chat/completions"));
    assert_eq!(location(&fleet, &post), wanted);
    assert_eq!(location(&fleet, "HEAD /v1/models HTTP/1.1\r\nHost: gw.test\r\n\r\n").0, 308);
    for refused in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /\r\nX HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(location(&fleet, refused), (400, None), "{refused:?}");
    }
    // curl follows it to the answer, the POST with its body.
    let (plain, ca_file) = (fleet.gateway.addr.port(), ca.file().display().to_string());
    let url = format!("http://localhost:{plain}/v1/chat/completions");
    let more = ["--silent", "--show-error", "--noproxy", "*", "--location", "--cacert", &ca_file, "--ipv4"];
    let ran = run("curl", &[&more[..], &["--json", &body, &url]].concat(), "", PATIENCE);
    ran.says("\"chat.completion\"");
    assert_eq!(fleet.shares()[0], before[0] + 1, "only what came over TLS was served");
    fleet.assert_quiet();

    let fleet =
        edge(&ca, quick(1), "shards = 1", "redirect_http = true\nredirect_status = 301\nredirect_port = 443");
    let get = |host: &str| location(&fleet, &format!("GET /x?y HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(get("gw.test:80"), to(301, "https://gw.test/x?y"));
    assert_eq!(get("[::1]:80"), to(301, "https://[::1]/x?y"));
    fleet.assert_quiet();
}

/// The certificate that a new client is shown, and whether all went well.
fn served_certificate(addr: SocketAddr, config: &Arc<rustls::ClientConfig>) -> Vec<u8> {
    let mut conn = dial(addr, config, NAME).unwrap();
    let (text, end) = ask(&mut conn, GET);
    assert!(text.starts_with("HTTP/1.1 200 ") && end.is_ok(), "{end:?} {text}");
    conn.conn.peer_certificates().unwrap()[0].to_vec()
}

fn reload(fleet: &Fleet) -> (u16, String) {
    let answer = fleet::post(fleet.gateway.admin, "/reload", "");
    (answer.status, String::from_utf8(answer.body).unwrap())
}

fn der(pair: &Pair) -> Vec<u8> {
    support::tls::chain(&pair.cert)[0].to_vec()
}

#[test]
fn certificates_change_while_all_goes_on() {
    let ca = Ca::new();
    let slow = Options {
        slots: 64,
        tokens: 100_000,
        token_interval: Duration::from_millis(2),
        ..Options::default()
    };
    let live = ca.issue("live", &[NAME]);
    let spare = [ca.issue("one", &[NAME]), ca.issue_rsa("two", &[NAME])];
    let fleet = edge_with(&live, vec![slow], "shards = 2", "");
    let addr = tls(&fleet);
    let mut streams: Vec<Conn> = (0..4).map(|_| dial(addr, &ca.client().config(), NAME).unwrap()).collect();
    for conn in &mut streams {
        let body = chat("llama3.2", true);
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        conn.write_all((head + &body).as_bytes()).unwrap();
        conn.read_exact(&mut [0; 500]).unwrap();
    }
    let resuming = ca.client().config();
    served_certificate(addr, &resuming);
    let (stop, shaken) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for at in 0..3 {
            let (ca, resuming, stop, shaken) = (&ca, &resuming, &stop, &shaken);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let fresh = ca.client().config();
                    served_certificate(addr, if at == 0 { resuming } else { &fresh });
                    shaken.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for at in 0..50 {
            let next = &spare[at % 2];
            live.replace(next);
            if at % 5 == 4 {
                let pid = fleet.gateway.pid().to_string();
                assert_eq!(run("kill", &["-HUP", &pid], "", PATIENCE).code, Some(0));
                until("the new one is shown", || {
                    (served_certificate(addr, &ca.client().config()) == der(next)).then_some(())
                });
            } else {
                assert_eq!(reload(&fleet).0, 200);
                assert_eq!(served_certificate(addr, &ca.client().config()), der(next), "swap {at}");
            }
        }
        until("others have shaken hands meanwhile", || (shaken.load(Ordering::Relaxed) > 50).then_some(()));
        stop.store(true, Ordering::Relaxed);
    });
    println!("50 certificates, {} handshakes beside them", shaken.load(Ordering::Relaxed));
    assert_eq!(counter(&fleet, "corelane_tls_failed_total"), 0);
    // A ticket from before the changes is still good.
    let mut conn = dial(addr, &resuming, NAME).unwrap();
    assert_eq!(conn.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(ask(&mut conn, GET).1.is_ok());
    for conn in &mut streams {
        conn.read_exact(&mut [0; 5000]).unwrap(); // what was open has gone on
    }
    drop(streams);
    fleet.assert_quiet();
}

#[test]
fn bad_files_change_nothing() {
    let ca = Ca::new();
    let live = ca.issue("live", &[NAME]);
    let first = ca.issue("first", &[NAME]);
    live.replace(&first);
    let fleet = edge_with(&live, quick(1), "shards = 1", "");
    let other = ca.issue("other", &[NAME]);
    let refused = |what: &str, place: &str| {
        let (status, text) = reload(&fleet);
        assert_eq!(status, 400, "{what}: {text}");
        assert!(text.contains(place), "{what}: {text}");
        assert_eq!(served_certificate(tls(&fleet), &ca.client().config()), der(&first), "{what}");
    };
    fs::copy(&other.key, &live.key).unwrap();
    refused("another's key", "server.tls.key");
    live.replace(&first);
    fs::write(&live.cert, "").unwrap();
    refused("an empty file", "server.tls.cert");
    fs::write(&live.cert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    refused("no certificate inside", "server.tls.cert");
    let half = fs::read(&first.cert).unwrap();
    fs::write(&live.cert, &half[..half.len() / 2]).unwrap();
    refused("half a file", "server.tls.cert");
    fs::remove_file(&live.key).unwrap();
    refused("no key", "server.tls.key");
    let pid = fleet.gateway.pid().to_string();
    run("kill", &["-HUP", &pid], "", PATIENCE);
    until("it is told", || fleet.gateway.log().contains("reload refused").then_some(()));
    live.replace(&other);
    assert_eq!(reload(&fleet).0, 200);
    assert_eq!(served_certificate(tls(&fleet), &ca.client().config()), der(&other));
    fleet.assert_quiet();
}

/// Findings of testssl.sh that do not apply: each suite is as strong as the others, so clients choose by what their
/// hardware is good at; our test's authority revokes nothing.
const EXCEPTIONS: [&str; 2] = ["cipher_order", "cert_revocation"];
/// What it looks for; `CORELANE_TESTSSL_ALL=1` takes everything, which is minutes of CPU time.
const CHECKS: [&str; 8] = [
    "--protocols",
    "--heartbleed",
    "--ccs-injection",
    "--ticketbleed",
    "--robot",
    "--renegotiation",
    "--crime",
    "--tls-fallback",
];

#[test]
fn testssl_finds_nothing() {
    let ca = Ca::new();
    let pair = ca.issue("gw", &["localhost", NAME]);
    let fleet = edge_with(&pair, quick(1), "shards = 2", "");
    let file = ca.path("findings.json").display().to_string();
    let (target, trust) = (format!("localhost:{}", tls(&fleet).port()), ca.file().display().to_string());
    let all = std::env::var_os("CORELANE_TESTSSL_ALL").is_some();
    let checks: &[&str] = if all { &[] } else { &CHECKS };
    let common =
        ["--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--nodns", "none", "--fast"];
    let more = ["--add-ca", &trust, "--jsonfile", &file, &target];
    let ran = run("testssl", &[&common[..], checks, &more].concat(), "", Duration::from_secs(300));
    let findings: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let findings = findings.as_array().unwrap();
    let found = |id: &str| findings.iter().any(|one| one["id"] == id && one["severity"] == "OK");
    for id in ["SSLv2", "SSLv3", "TLS1_2", "TLS1_3", "heartbleed", "ROBOT", "secure_renego", "CRIME_TLS"] {
        assert!(found(id), "{id} was not looked for, or is not well: {}", ran.text);
    }
    let bad = findings.iter().filter(|one| {
        let (id, severity) = (one["id"].as_str().unwrap(), one["severity"].as_str().unwrap());
        matches!(severity, "MEDIUM" | "HIGH" | "CRITICAL" | "FATAL") && !EXCEPTIONS.contains(&id)
    });
    let bad: Vec<_> =
        bad.map(|one| format!("{} {}: {}", one["severity"], one["id"], one["finding"])).collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    fleet.assert_quiet();
}
