//! Promise: endpoints behind TLS are as good as others, and one that is not who it should be gets nothing.
//!
//! Terminators of the test's own stand in front of simulated servers. What a server received is asserted as much as
//! what the client was told; a refused certificate is told by its reason.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use corelane::sim::{self, Handle, Options};
use support::answer::Trouble;
use support::fleet::{chat, connect, json, post, quick, send, try_post, until};
use support::tls::{Ca, ONLY_12, ONLY_13, Served, Terminator};
use support::{Gateway, get};

const CHAT: &str = "/v1/chat/completions";
const HERE: &[&str] = &["localhost", "127.0.0.1"];
const HEALTHY: &str =
    "[health]\ninterval = \"200ms\"\ntimeout = \"2s\"\nunhealthy_threshold = 1\nhealthy_threshold = 1\n";
const UNPROBED: &str = "[health]\nenabled = false\n[[models]]\nname = \"m\"\nendpoints = [\"e0\"]\n";

/// A gateway in front of `addr`; `endpoint` goes into `[[endpoints]]`, `rest` at the end.
fn gateway(addr: SocketAddr, endpoint: &str, rest: &str) -> Gateway {
    Gateway::start(&format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_listen = \"127.0.0.1:0\"\nshards = 1\n[log]\naccess = \"off\"\n\
         [[endpoints]]\nname = \"e0\"\nurl = \"https://{addr}\"\n{endpoint}\n{rest}"
    ))
}

/// A server that does not mind by which name it is called: that is the terminator's.
fn start(options: Options) -> Handle {
    sim::start(Options { check_host: false, ..options }).unwrap()
}

fn trusting(ca: &Ca) -> String {
    format!("ca = {:?}", ca.file())
}

/// What `/status` says of the endpoint: its health and its last error.
fn status(gateway: &Gateway) -> (String, String) {
    let (_, _, body) = get(gateway.admin, "/status");
    let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let text = |name: &str| status["endpoints"][0][name].as_str().unwrap_or_default().to_owned();
    (text("health"), text("last_error"))
}

fn until_healthy(gateway: &Gateway) {
    until("a probe has succeeded", || (status(gateway).0 == "healthy").then_some(()));
}

fn quiet(gateway: &Gateway, server: &Handle) {
    support::assert_gauges_zero(gateway);
    until("the server is quiet", || server.stats.is_quiet().then_some(()));
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[test]
fn chats_streams_and_probes() {
    for versions in [ONLY_12, ONLY_13] {
        let ca = Ca::new();
        let server = start(quick(1).remove(0));
        let terminator = Terminator::before(server.addr, &ca.issue("server", HERE), versions);
        let gateway = gateway(terminator.addr, &trusting(&ca), HEALTHY);
        until_healthy(&gateway);
        let (_, _, models) = get(gateway.addr, "/v1/models");
        assert!(String::from_utf8_lossy(&models).contains("llama3.2"), "a probe has found the models");
        let mut reader = connect(gateway.addr);
        for _ in 0..5 {
            send(&mut reader, CHAT, &chat("llama3.2", false));
            let answer = reader.answer(false, soon()).unwrap();
            assert_eq!((answer.status, &json(&answer)["object"]), (200, &"chat.completion".into()));
            send(&mut reader, CHAT, &chat("llama3.2", true));
            let text = String::from_utf8(reader.answer(false, soon()).unwrap().body).unwrap();
            assert!(text.ends_with("data: [DONE]\n\n") && text.matches("data: ").count() > 8, "{text}");
        }
        assert_eq!(server.stats.model_requests.load(Ordering::Relaxed), 10);
        drop(reader);
        quiet(&gateway, &server);
    }
}

#[test]
fn connections_and_sessions_are_used_again() {
    for versions in [ONLY_12, ONLY_13] {
        let ca = Ca::new();
        let server = start(Options { prefill: Duration::from_millis(50), ..quick(1).remove(0) });
        let terminator = Terminator::before(server.addr, &ca.issue("server", HERE), versions);
        let rest = UNPROBED.replace("\"m\"", "\"llama3.2\"");
        let gateway = gateway(terminator.addr, &trusting(&ca), &rest);
        for at in 0..10 {
            assert_eq!(post(gateway.addr, CHAT, &chat("llama3.2", at % 2 == 0)).status, 200);
        }
        assert_eq!(terminator.connections(), 1, "tickets behind the handshake spoil no idle connection");
        // Ten at once need more connections: they resume the session of the first.
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| assert_eq!(post(gateway.addr, CHAT, &chat("llama3.2", false)).status, 200));
            }
        });
        let (handshakes, resumed) = (terminator.handshakes(), terminator.resumed());
        println!("{handshakes} handshakes, {resumed} resumed");
        assert_eq!(handshakes, terminator.connections());
        assert!((2..=10).contains(&handshakes) && resumed > 0, "{handshakes} handshakes, {resumed} resumed");
        quiet(&gateway, &server);
    }
}

/// An idle connection that the endpoint has ended, politely or not, is not used again; nothing is lost by it.
#[test]
fn idle_connections_that_ended_are_left() {
    for polite in [true, false] {
        let ca = Ca::new();
        let pair = ca.issue("server", HERE);
        let (ended, wait) = mpsc::channel();
        let server = Terminator::start(&pair, rustls::ALL_VERSIONS, move |mut served: Served| {
            if request(&mut served).is_some() {
                answer_whole(&mut served);
                if polite {
                    served.conn.send_close_notify();
                    let _ = served.flush();
                }
                let _ = served.sock.shutdown(Shutdown::Both);
                let _ = ended.send(());
            }
        });
        let gateway = gateway(server.addr, &format!("{}\nkind = \"openai\"", trusting(&ca)), UNPROBED);
        for at in 1..=5 {
            assert_eq!(post(gateway.addr, CHAT, &chat("m", false)).status, 200, "request {at}");
            wait.recv_timeout(Duration::from_secs(5)).unwrap();
            assert_eq!(server.connections(), at, "each connection is good for one request");
        }
        support::assert_gauges_zero(&gateway);
    }
}

/// Who is refused, and what is said of it.
#[test]
fn endpoints_that_are_not_who_they_should_be() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let server = start(quick(1).remove(0));
    let cases = [
        ("an unknown authority", stranger.issue("server", HERE), trusting(&ca), "UnknownIssuer"),
        ("the system's authorities", ca.issue("server", HERE), String::new(), "UnknownIssuer"),
        (
            "another's name",
            ca.issue("other", &["other.test", "127.0.0.2"]),
            trusting(&ca),
            "not valid for name",
        ),
        ("an old certificate", ca.issue_expired("old", HERE), trusting(&ca), "expired"),
    ];
    for (what, pair, trust, reason) in cases {
        let terminator = Terminator::before(server.addr, &pair, rustls::ALL_VERSIONS);
        let told = gateway(terminator.addr, &trust, &format!("{HEALTHY}[[models]]\nname = \"llama3.2\"\n"));
        until(what, || (status(&told).0 == "unhealthy").then_some(()));
        assert!(status(&told).1.contains(reason), "{what}: {:?}", status(&told));
        let (_, _, body) = get(told.addr, "/health");
        let health: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let error = health["unhealthy_endpoints"][0]["error"].as_str().unwrap_or_default();
        assert!(error.contains(reason), "{what}: {health}");
        let answer = post(told.addr, CHAT, &chat("llama3.2", false));
        assert_eq!(answer.status, 503, "{what}");
        until("the log says so", || told.log().contains(reason).then_some(()));
        support::assert_gauges_zero(&told);

        // Without probes a request finds out.
        let rest = UNPROBED.replace("\"m\"", "\"llama3.2\"");
        let asked = gateway(terminator.addr, &trust, &rest);
        let answer = post(asked.addr, CHAT, &chat("llama3.2", false));
        assert!(matches!(answer.status, 502 | 503), "{what}: {}", answer.status);
        support::assert_gauges_zero(&asked);
        assert_eq!(terminator.handshakes(), 0, "{what}");
    }
    assert_eq!(server.stats.requests.load(Ordering::Relaxed), 0, "nothing came through");
}

/// Endpoints on whose port there is no TLS, or only half of it.
#[test]
fn endpoints_that_do_not_shake_hands() {
    let ca = Ca::new();
    let plain = start(quick(1).remove(0));
    let limits = "[timeouts]\nconnect = \"400ms\"\n[retry]\nattempts = 1\n";
    let gateway_at = |addr| gateway(addr, &trusting(&ca), &format!("{limits}{UNPROBED}"));
    let speaks_plain = gateway_at(plain.addr);
    assert!(matches!(post(speaks_plain.addr, CHAT, &chat("m", false)).status, 502 | 503));
    support::assert_gauges_zero(&speaks_plain);
    assert_eq!(plain.stats.model_requests.load(Ordering::Relaxed), 0);

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = gateway_at(silent.local_addr().unwrap());
    let since = Instant::now();
    let answer = post(gateway.addr, CHAT, &chat("m", false));
    assert!(matches!(answer.status, 502..=504), "{}", answer.status);
    assert!(since.elapsed() >= Duration::from_millis(390), "{:?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(3), "connect is the limit: {:?}", since.elapsed());
    let (mut socket, _) = silent.accept().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut came = Vec::new();
    let end = socket.read_to_end(&mut came);
    assert!(came.first() == Some(&22) && end.is_ok(), "a hello, and then the end: {end:?}");
    // A client that leaves meanwhile takes the handshake with it.
    let mut reader = connect(gateway.addr);
    send(&mut reader, CHAT, &chat("m", false));
    let (mut socket, _) = silent.accept().unwrap();
    drop(reader);
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(socket.read_to_end(&mut Vec::new()).is_ok(), "still open");
    support::assert_gauges_zero(&gateway);
}

/// Reads a request with a body; `None`: the connection has ended.
fn request(served: &mut Served) -> Option<Vec<u8>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let n = served.read(&mut buffer).ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&buffer[..n]);
        let Some(head) = support::answer::find(&bytes, b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |n| n.parse().unwrap());
        if bytes.len() >= head + 4 + length {
            return Some(bytes);
        }
    }
}

fn answer_whole(served: &mut Served) {
    let body = support::upstream::completion("x").to_string();
    served.write_all(&support::upstream::plain(&body)).unwrap();
}

const EVENT: &str = "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";

/// An answer that only its connection's end delimits is whole if `close_notify` ends it; any other end is a cut.
#[test]
fn an_end_without_close_notify_is_a_cut() {
    let ca = Ca::new();
    let pair = ca.issue("server", HERE);
    let polite = Arc::new(AtomicUsize::new(0));
    let how = Arc::clone(&polite);
    let server = Terminator::start(&pair, rustls::ALL_VERSIONS, move |mut served: Served| {
        let Some(asked) = request(&mut served) else { return };
        let stream = support::answer::find(&asked, b"\"stream\":true").is_some();
        if stream {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
            served.write_all(format!("{head}{EVENT}{EVENT}").as_bytes()).unwrap();
        } else {
            let body = support::upstream::completion("x").to_string();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
            served.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
        match how.load(Ordering::Relaxed) {
            0 => {}
            _ => {
                if stream {
                    served.write_all(b"data: [DONE]\n\n").unwrap();
                }
                served.conn.send_close_notify();
                let _ = served.flush();
            }
        }
        let _ = served.sock.shutdown(Shutdown::Both);
    });
    let rest = format!("[retry]\nattempts = 1\n{UNPROBED}");
    let gateway = gateway(server.addr, &format!("{}\nkind = \"openai\"", trusting(&ca)), &rest);

    match try_post(gateway.addr, CHAT, &chat("m", false)) {
        Ok(answer) => assert!(answer.status >= 500, "a cut answer was passed off as whole: {answer:?}"),
        Err(trouble) => assert!(matches!(trouble, Trouble::Broken(_)), "{trouble:?}"),
    }
    match try_post(gateway.addr, CHAT, &chat("m", true)) {
        Ok(answer) => {
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(text.contains("\"error\""), "a cut stream was passed off as whole: {text}");
        }
        Err(trouble) => assert!(matches!(trouble, Trouble::Broken(_)), "{trouble:?}"),
    }
    polite.store(1, Ordering::Relaxed);
    let answer = post(gateway.addr, CHAT, &chat("m", false));
    assert_eq!((answer.status, &json(&answer)["object"]), (200, &"chat.completion".into()));
    let text = String::from_utf8(post(gateway.addr, CHAT, &chat("m", true)).body).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n") && !text.contains("\"error\""), "{text}");
    support::assert_gauges_zero(&gateway);
}

/// With a length the end of the connection does not matter.
#[test]
fn a_whole_answer_needs_no_close_notify() {
    let ca = Ca::new();
    let server = Terminator::start(&ca.issue("server", HERE), rustls::ALL_VERSIONS, |mut served: Served| {
        if request(&mut served).is_some() {
            answer_whole(&mut served);
            let _ = served.sock.shutdown(Shutdown::Both);
        }
    });
    let gateway = gateway(server.addr, &format!("{}\nkind = \"openai\"", trusting(&ca)), UNPROBED);
    assert_eq!(post(gateway.addr, CHAT, &chat("m", false)).status, 200);
    support::assert_gauges_zero(&gateway);
}

/// An endpoint that changes keys in the middle of its answer, and one that sends it in records of one byte.
#[test]
fn odd_records_of_endpoints() {
    let ca = Ca::new();
    let server = Terminator::start(&ca.issue("server", HERE), ONLY_13, |mut served: Served| {
        while request(&mut served).is_some() {
            let body = support::upstream::completion("x").to_string();
            for byte in support::upstream::plain(&body).chunks(1) {
                served.write_all(byte).unwrap();
            }
            served.conn.refresh_traffic_keys().unwrap();
            served.flush().unwrap();
        }
    });
    let gateway = gateway(server.addr, &format!("{}\nkind = \"openai\"", trusting(&ca)), UNPROBED);
    for _ in 0..4 {
        let answer = post(gateway.addr, CHAT, &chat("m", false));
        assert_eq!((answer.status, &json(&answer)["object"]), (200, &"chat.completion".into()));
    }
    assert_eq!(server.connections(), 1, "new keys do not spoil the connection");
    support::assert_gauges_zero(&gateway);
}

#[test]
fn large_bodies_both_ways() {
    let ca = Ca::new();
    let mut random = support::lane::Random(3);
    let letters: String =
        (0..5 << 20).map(|_| char::from(b'a' + u8::try_from(random.below(26)).unwrap())).collect();
    let mut options = quick(1).remove(0);
    options.record = 8;
    options.answer = Some(letters.clone());
    let server = start(options);
    for versions in [ONLY_12, ONLY_13] {
        let terminator = Terminator::before(server.addr, &ca.issue("server", HERE), versions);
        let gateway = gateway(terminator.addr, &trusting(&ca), &UNPROBED.replace("\"m\"", "\"llama3.2\""));
        let answer =
            post(gateway.addr, CHAT, &chat("llama3.2", false).replace("\"hi\"", &format!("\"{letters}\"")));
        assert_eq!(answer.status, 200);
        assert!(
            json(&answer)["choices"][0]["message"]["content"].as_str() == Some(&letters),
            "the answer was changed"
        );
        let recorded = server.stats.take_recorded();
        let asked =
            recorded.iter().find_map(|one| one.json()?["messages"][0]["content"].as_str().map(str::to_owned));
        assert!(asked.as_deref() == Some(&letters), "the request was changed");
        quiet(&gateway, &server);
    }
}

#[test]
fn a_client_that_leaves_closes_the_endpoints_connection() {
    let ca = Ca::new();
    let slow =
        Options { slots: 64, tokens: 10_000, token_interval: Duration::from_millis(5), ..Options::default() };
    let server = start(slow);
    let terminator = Terminator::before(server.addr, &ca.issue("server", HERE), rustls::ALL_VERSIONS);
    let gateway = gateway(terminator.addr, &trusting(&ca), &UNPROBED.replace("\"m\"", "\"llama3.2\""));
    for _ in 0..20 {
        let before = server.stats.cancelled.load(Ordering::Relaxed);
        let mut reader = connect(gateway.addr);
        send(&mut reader, CHAT, &chat("llama3.2", true));
        reader.head(soon()).expect("a head");
        drop(reader);
        until("the server is told", || {
            (server.stats.cancelled.load(Ordering::Relaxed) > before).then_some(())
        });
    }
    quiet(&gateway, &server);
}
