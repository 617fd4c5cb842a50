//! Listeners that come, go, and change what they are for.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::scripted::{CHAT, posted, read};
use super::support::answer::{Answer, Trouble};
use super::support::fleet::{chat, connect, post, send};
use super::support::tls::{self, Ca};
use super::support::{Gateway, assert_gauges_zero};
use super::{Site, changed, served_by, status, until};

/// A port that is free now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What a GET to a new connection gets; `None`: nobody listens, or only until now.
fn seen(addr: SocketAddr) -> Option<Answer> {
    use std::io::Write as _;
    TcpStream::connect(addr).ok()?;
    let mut reader = connect(addr);
    let _ = reader
        .stream()
        .write_all(b"GET /health/liveliness HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n");
    match reader.answer(false, Instant::now() + Duration::from_secs(5)) {
        Ok(answer) => Some(answer),
        Err(Trouble::Closed) => None,
        Err(other) => panic!("{addr}: {other:?}"),
    }
}

#[test]
fn one_comes_and_the_first_one_goes() {
    let site = Site::new();
    let (first, second) = (free(), free());
    let with = |listen: &[SocketAddr]| {
        let names: Vec<String> = listen.iter().map(ToString::to_string).collect();
        site.toml(1, "shards = 2", "").replace("listen = [\"127.0.0.1:0\"]", &format!("listen = {names:?}"))
    };
    let gateway = Gateway::start(&with(&[first]));
    assert!(seen(second).is_none());
    changed(&gateway, &with(&[first, second]));
    until("it is there", || seen(second).is_some().then_some(()));
    assert_eq!(status(&gateway)["listen"].as_array().unwrap().len(), 2);
    let mut held = posted(first, CHAT, "", &chat("held", true));
    let mut idle = connect(first);
    send(&mut idle, CHAT, &chat("m", false));
    assert_eq!(read(&mut idle).status, 200);
    until("it is held", || (site.gate.held() == 1).then_some(()));
    changed(&gateway, &with(&[second]));
    until("it is gone", || TcpStream::connect(first).is_err().then_some(()));
    assert_eq!(seen(second).unwrap().status, 200);
    send(&mut idle, CHAT, &chat("m", false));
    assert_eq!(read(&mut idle).status, 200, "who was there before goes on");
    site.gate.open();
    assert_eq!(read(&mut held).status, 200);
    drop((held, idle));
    assert_gauges_zero(&gateway);
    // And the address is free for others.
    let other = until("the port is free", || TcpListener::bind(first).ok());
    drop(other);
}

#[test]
fn plain_becomes_a_redirect_and_tls_comes_and_goes() {
    let site = Site::new();
    let ca = Ca::new();
    let pair = ca.issue("gw", &["gw.test"]);
    let secure = free();
    let with = |redirect: bool| {
        format!("[server.tls]\nlisten = [\"{secure}\"]\n{}redirect_http = {redirect}\n", pair.toml())
    };
    let gateway = Gateway::start(&site.toml(1, "shards = 2", ""));
    let over_tls = |model: &str| {
        let mut reader = tls::connect(secure, &ca.client().config(), "gw.test");
        send(&mut reader, CHAT, &chat(model, false));
        read(&mut reader).status
    };
    assert!(TcpStream::connect(secure).is_err());
    changed(&gateway, &site.toml(1, "shards = 2", &with(false)));
    until("TLS is there", || TcpStream::connect(secure).is_ok().then_some(()));
    assert_eq!((over_tls("m"), served_by(&gateway, "m").as_str()), (200, "a"));
    let mut plain = connect(gateway.addr);
    send(&mut plain, CHAT, &chat("m", false));
    assert_eq!(read(&mut plain).status, 200);
    changed(&gateway, &site.toml(1, "shards = 2", &with(true)));
    // Each shard follows by itself, and each may accept.
    let all = |status: u16| (0..20).all(|_| seen(gateway.addr).unwrap().status == status).then_some(());
    until("it redirects", || all(308));
    let to = seen(gateway.addr).unwrap();
    assert_eq!(
        to.field("location"),
        Some(format!("https://gw.test:{}/health/liveliness", secure.port()).as_str())
    );
    assert_eq!(over_tls("m"), 200);
    changed(&gateway, &site.toml(1, "shards = 2", ""));
    until("TLS is gone", || TcpStream::connect(secure).is_err().then_some(()));
    until("plain again", || all(200));
    assert_eq!(post(gateway.addr, CHAT, &chat("m", false)).status, 200);
    drop(plain);
    assert_gauges_zero(&gateway);
}

/// An address that was plain speaks TLS, and the other way round.
#[test]
fn an_address_changes_what_it_speaks() {
    let site = Site::new();
    let ca = Ca::new();
    let pair = ca.issue("gw", &["gw.test"]);
    let (one, two) = (free(), free());
    let with = |plain: SocketAddr, secure: SocketAddr| {
        let tls = format!("[server.tls]\nlisten = [\"{secure}\"]\n{}", pair.toml());
        let toml = site.toml(1, "shards = 2", &tls);
        toml.replacen("listen = [\"127.0.0.1:0\"]", &format!("listen = [\"{plain}\"]"), 1)
    };
    let gateway = Gateway::start(&with(one, two));
    let both = |plain: SocketAddr, secure: SocketAddr| {
        let is_tls = tls::dial(secure, &ca.client().config(), "gw.test").is_ok();
        is_tls && matches!(seen_or_none(plain), Some(200))
    };
    assert!(both(one, two));
    for round in 0..4 {
        let (plain, secure) = if round % 2 == 0 { (two, one) } else { (one, two) };
        changed(&gateway, &with(plain, secure));
        until("they have changed", || both(plain, secure).then_some(()));
    }
    assert_gauges_zero(&gateway);
}

/// As [`seen`], but an alert of TLS is no answer.
fn seen_or_none(addr: SocketAddr) -> Option<u16> {
    use std::io::Write as _;
    let mut reader = connect(addr);
    let _ = reader
        .stream()
        .write_all(b"GET /health/liveliness HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n");
    reader.answer(false, Instant::now() + Duration::from_secs(5)).ok().map(|answer| answer.status)
}
