//! The life of a connection: its limits, its end by drain or by silence, and what a request may carry along.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::edge::{Edge, data, post, resident_kib, signal, soon};
use super::support::fleet::{chat, draining, model, quick, until};
use super::support::h2::{DATA, Event, Gone, PADDED};
use super::{CHAT, slow};

#[test]
fn a_drain_lets_streams_finish_and_takes_no_more() {
    let mut options = quick(1);
    (options[0].tokens, options[0].token_interval) = (60, Duration::from_millis(50));
    let mut edge = Edge::start(options, "", "");
    let mut client = edge.connect();
    let mut idle = edge.connect();
    assert_eq!(idle.get("/health").status, 200);
    let stream = post(&mut client, CHAT, &chat("llama3.2", true));
    data(&mut client, stream);
    signal(&edge.fleet.gateway, "-TERM");
    until("it drains", || draining(&edge.fleet.gateway).then_some(()));
    assert_eq!(idle.closed(soon()), Ok(Some(0)), "an idle connection is told, and closed");
    until("the other is told", || {
        let _ = client.event(Instant::now() + Duration::from_millis(20));
        client.goaway.is_some_and(|(last, code)| last == stream && code == 0).then_some(())
    });
    assert!(!client.so_far(stream).unwrap().ended, "while its stream runs");
    let before = edge.asked();
    let late = post_unread(&mut client, &chat("llama3.2", false));
    let answer = client.answer(stream, soon()).expect("the stream is finished");
    assert!(answer.ended && answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    assert_eq!(client.closed(soon()), Ok(Some(0)));
    assert!(client.so_far(late).is_none_or(|answer| answer.status == 0), "a late request is not answered");
    assert_eq!(edge.asked(), before, "nor asked of an endpoint");
    until("it exits", || (!edge.fleet.gateway.alive()).then_some(()));
    assert_eq!(edge.fleet.gateway.exit_code(), Some(0));
}

/// A POST on a connection that may have no ear for it.
fn post_unread(client: &mut super::edge::H2, body: &str) -> u32 {
    let stream = client.open("POST", CHAT, &[], false).expect("send a head");
    let _ = client.data(stream, body.as_bytes(), true);
    stream
}

#[test]
fn silence_ends_a_connection() {
    let edge = Edge::start(slow(), "keep_alive = \"400ms\"", "");
    let began = Instant::now();
    let mut fresh = edge.connect();
    assert_eq!(fresh.closed(soon()), Ok(Some(0)), "without a request");
    assert!(began.elapsed() >= Duration::from_millis(380), "never early: {:?}", began.elapsed());
    let mut used = edge.connect();
    assert_eq!(used.get("/health").status, 200);
    assert_eq!(used.closed(soon()), Ok(Some(0)), "after one");
    // A client that answers neither the PING of the farewell nor anything else.
    let mut deaf = edge.connect();
    deaf.polite = false;
    assert_eq!(deaf.closed(soon()), Ok(Some(0)), "although it does not answer");
    // PINGs are no requests.
    let (mut pinging, began) = (edge.connect(), Instant::now());
    let gone = loop {
        let _ = pinging.ping(*b"stay--up");
        match pinging.closed(Instant::now() + Duration::from_millis(150)) {
            Err(Gone::Deadline) if began.elapsed() < Duration::from_secs(8) => {}
            other => break other,
        }
    };
    assert_eq!(gone, Ok(Some(0)), "a PING keeps nothing open");
    edge.fleet.assert_quiet();
}

#[test]
fn a_stream_keeps_its_connection() {
    let edge = Edge::start(slow(), "keep_alive = \"200ms\"", "");
    let mut client = edge.connect();
    let stream = post(&mut client, CHAT, &chat("llama3.2", true));
    let end = Instant::now() + Duration::from_millis(1200);
    while Instant::now() < end {
        data(&mut client, stream);
    }
    assert_eq!(client.goaway, None);
    client.reset(stream, 8).unwrap();
    assert_eq!(client.closed(soon()), Ok(Some(0)), "once it is over, silence counts");
    edge.fleet.assert_quiet();
}

#[test]
fn streams_at_once_are_limited() {
    let mut options = quick(1);
    options[0].slots = 1000;
    let rest = model("m", &["e0"], "upstream_model = \"fault-hang\"");
    let edge = Edge::start(options, "", &rest);
    let stats = &edge.fleet.servers[0].stats;
    let mut client = edge.connect();
    let limit = loop {
        if let Event::Settings(parameters) = client.event(soon()).expect("settings") {
            break parameters.iter().find(|(id, _)| *id == 3).expect("a limit of streams").1;
        }
    };
    assert_eq!(limit, 128);
    let streams: Vec<u32> = (0..limit).map(|_| post(&mut client, CHAT, &chat("m", false))).collect();
    until("all are running", || (stats.generating.load(Ordering::Relaxed) == 128).then_some(()));
    let one_more = post_unread(&mut client, &chat("m", false));
    let answer = client.answer(one_more, soon()).expect("it is refused");
    assert_eq!((answer.status, answer.reset), (0, Some(7)), "REFUSED_STREAM: it may be sent again");
    assert_eq!(stats.generating.load(Ordering::Relaxed), 128);
    // A stream that was reset makes room for another.
    client.reset(streams[0], 8).unwrap();
    until("its endpoint is closed", || (stats.generating.load(Ordering::Relaxed) == 127).then_some(()));
    let next = post(&mut client, CHAT, &chat("m", false));
    until("the next runs", || (stats.generating.load(Ordering::Relaxed) == 128).then_some(()));
    assert!(client.so_far(next).is_none());
    drop(client);
    edge.fleet.assert_quiet();
}

#[test]
fn trailers_padding_and_crumbs_are_taken() {
    let edge = Edge::start(quick(1), "", "");
    let mut client = edge.connect();
    let body = chat("llama3.2", false);
    let stream = client.open("POST", CHAT, &[("te", "trailers"), ("trailer", "x-end")], false).unwrap();
    client.data(stream, body.as_bytes(), false).unwrap();
    client.headers(stream, &[("x-end", "1"), ("content-length", "7")], true).unwrap();
    assert_eq!(client.answer(stream, soon()).unwrap().status, 200, "trailers");
    let stream = client.open("POST", CHAT, &[], false).unwrap();
    let padded = [&[200][..], body.as_bytes(), &[0; 200]].concat();
    client.send(DATA, PADDED | 1, stream, &padded).unwrap();
    assert_eq!(client.answer(stream, soon()).unwrap().status, 200, "padding");
    let crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")];
    let answer = client.request("POST", CHAT, &crumbs, body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    for request in edge.fleet.servers[0].stats.take_recorded() {
        assert_eq!(request.field("x-end"), None);
        assert_eq!(request.field("cookie"), None, "{}", request.head_text());
        assert_eq!(request.field("te"), None);
        assert_eq!(request.field("content-length"), Some(request.body.len().to_string()));
    }
    drop(client);
    edge.fleet.assert_quiet();
}

#[test]
fn a_head_too_large_is_told() {
    let edge = Edge::start(quick(1), "", "");
    let before = edge.asked();
    let long = "x".repeat(15_000);
    let many: Vec<(String, &str)> = (0..1000).map(|at| (format!("x-{at}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let large: Vec<(&str, &str)> = ["x-a", "x-b", "x-c"].iter().map(|name| (*name, long.as_str())).collect();
    for (what, fields) in [("1000 small fields", &many), ("45 kB in three", &large)] {
        let mut client = edge.connect();
        let stream = client.new_stream();
        let fields = client.request_fields("POST", CHAT, fields);
        let block = super::support::h2::encode(fields.iter().map(|(name, value)| (&**name, &**value)));
        client.headers_in_pieces(stream, &block, 16_000, false).unwrap();
        let _ = client.data(stream, chat("llama3.2", false).as_bytes(), true);
        let answer = client.answer(stream, soon()).unwrap_or_else(|gone| panic!("{what}: {gone:?}"));
        assert!(answer.status == 431 || answer.reset.is_some(), "{what}: {answer:?}");
        println!("{what}: status {} reset {:?}", answer.status, answer.reset);
        assert_eq!(client.post(CHAT, &chat("llama3.2", false)).status, 200, "{what}: the connection goes on");
    }
    assert_eq!(edge.asked(), before + 2);
    edge.fleet.assert_quiet();
}

#[test]
fn a_connection_without_streams_is_small() {
    let edge = Edge::start(quick(1), "", "");
    let mut first: Vec<_> = (0..20).map(|_| edge.connect()).collect();
    first.iter_mut().for_each(|client| assert_eq!(client.get("/health").status, 200));
    let before = resident_kib(&edge.fleet.gateway);
    let mut more: Vec<_> = (0..200).map(|_| edge.connect()).collect();
    more.iter_mut().for_each(|client| assert_eq!(client.get("/health").status, 200));
    let each = (resident_kib(&edge.fleet.gateway).saturating_sub(before)) as f64 / 200.0;
    println!("an idle HTTP/2 connection over TLS: {each:.1} KiB");
    assert!(each < 64.0, "{each} KiB each");
    drop((first, more));
    edge.fleet.assert_quiet();
}

#[test]
fn settings_of_the_client_are_acknowledged() {
    let edge = Edge::start(quick(1), "", "");
    let mut client =
        edge.connect_with(&[(1, 0), (2, 0), (3, 7), (4, 1 << 20), (5, 1 << 20), (6, 4096), (99, 1)]);
    until("the acknowledgement", || match client.event(soon()).expect("an event") {
        Event::SettingsAck => Some(()),
        _ => None,
    });
    assert_eq!(client.post(CHAT, &chat("llama3.2", true)).status, 200, "without an HPACK table");
    client.settings(&[(1, 4096)]).unwrap();
    assert_eq!(client.post(CHAT, &chat("llama3.2", true)).status, 200, "with one");
    drop(client);
    edge.fleet.assert_quiet();
}
