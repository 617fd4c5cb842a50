//! Attacks that are slow, that do not read, or that ask for more than they are worth: they end at their deadline, or are
//! served, and cost little until then.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use corelane::sim::Options;

use super::edge::{Edge, H2, metric, resident_kib, soon};
use super::support::fleet::{chat, until};
use super::support::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, encode, frame,
};
use super::{CHAT, Fate, Siege};

/// A server whose streams have no pauses and no end that matters.
fn torrent() -> Options {
    Options {
        slots: 4096,
        tokens: 2_000_000,
        token_text: " a longer token than most".into(),
        ..Options::default()
    }
}

/// One whose streams are of small events.
fn drizzle() -> Options {
    let token_interval = Duration::from_millis(6);
    Options { slots: 4096, tokens: 1_000_000, token_text: "x".into(), token_interval, ..Options::default() }
}

fn server() -> Options {
    Options { slots: 4096, tokens: 8, ..Options::default() }
}

/// The largest windows, and so many streams.
fn ask_for(client: &mut H2, path: &str, streams: u32) {
    client.start(&[(4, 0x7fff_ffff)]).unwrap();
    client.window_update(0, 0x7fff_ffff - 65_535).unwrap();
    let body = chat("llama3.2", true);
    for _ in 0..streams {
        let stream = client.open("POST", path, &[], false).unwrap();
        client.data(stream, body.as_bytes(), true).unwrap();
    }
}

/// Holds what `begin` makes of so many connections until the gateway has closed them all.
fn hold(siege: &Siege, name: &str, count: u32, begin: impl Fn(&mut H2)) {
    let (mark, began) = (siege.mark(), Instant::now());
    let clients: Vec<H2> = (0..count)
        .map(|_| {
            let mut client = siege.edge.shaken();
            begin(&mut client);
            client
        })
        .collect();
    until("all are closed", || {
        (metric(&siege.edge.fleet.gateway, "corelane_client_connections") <= 1.0).then_some(())
    });
    siege.judge(name, Fate::Closed, mark, &format!("{count:>4} connections"), began.elapsed());
    drop(clients);
}

/// One attack of that kind.
fn held(name: &str, settings: &str, options: Options, count: u32, begin: impl Fn(&mut H2)) {
    let siege = Siege::lay(settings, options);
    hold(&siege, name, count, begin);
    siege.lift();
}

#[test]
fn a_peer_that_never_reads_large_answers() {
    held("never reads 80 torrents", "write_timeout = \"1s\"", torrent(), 1, |client| {
        ask_for(client, CHAT, 80)
    });
}

#[test]
fn a_peer_that_never_reads_small_events() {
    // The shortest events there are: the crate above the guard queues small frames without asking the socket.
    held("never reads 128 drizzles", "write_timeout = \"6s\"", drizzle(), 1, |client| {
        ask_for(client, "/api/chat", 128);
    });
}

#[test]
fn a_peer_that_keeps_its_windows_shut() {
    let settings = "write_timeout = \"600ms\"\nkeep_alive = \"300ms\"";
    held("128 streams behind a window of 0", settings, torrent(), 1, |client| {
        client.start(&[(4, 0)]).unwrap();
        let body = chat("llama3.2", true);
        for _ in 0..128 {
            let stream = client.open("POST", CHAT, &[], false).unwrap();
            client.data(stream, body.as_bytes(), true).unwrap();
        }
        client.event(soon()).unwrap();
    });
}

#[test]
fn slow_prefaces_and_half_frames() {
    let settings = "head_timeout = \"500ms\"\nbody_timeout = \"500ms\"\nkeep_alive = \"60s\"";
    let siege = Siege::lay(settings, server());
    hold(&siege, "no preface", 30, |_| {});
    hold(&siege, "half a preface", 30, |client| client.raw(&PREFACE[..12]).unwrap());
    hold(&siege, "half a SETTINGS frame", 30, |client| {
        client.raw(PREFACE).unwrap();
        client.raw(&frame(SETTINGS, 0, 0, &[0; 6])[..11]).unwrap();
    });
    hold(&siege, "half a frame head", 30, |client| {
        client.start(&[]).unwrap();
        client.raw(&[0, 0, 8, 6]).unwrap();
    });
    hold(&siege, "half a header block", 30, |client| {
        client.start(&[]).unwrap();
        client.send(HEADERS, END_STREAM, 1, &encode([(":method", "GET")])).unwrap();
    });
    siege.lift();
    let settings = settings.replace("60s", "400ms");
    held("half a body", &settings, server(), 30, |client| {
        client.start(&[]).unwrap();
        let stream = client.open("POST", CHAT, &[("content-length", "100")], false).unwrap();
        client.data(stream, b"{\"model\":", false).unwrap();
    });
}

/// A field of 4000 bytes, put into the table once and named 15 000 times: 60 MB for 15 kB.
#[test]
fn hpack_bomb() {
    let big = "x".repeat(3900);
    let first =
        encode([(":method", "GET"), (":scheme", "https"), (":path", "/health"), (":authority", "localhost")]);
    // A literal with incremental indexing: 0x40, name, value.
    let mut store = vec![0x40, 1, b'a', 0x7f];
    let mut rest = big.len() - 127;
    while rest >= 128 {
        store.push(u8::try_from(rest % 128).unwrap() | 0x80);
        rest /= 128;
    }
    store.push(u8::try_from(rest).unwrap());
    store.extend(big.as_bytes());
    let siege = Siege::lay("", server());
    siege.run("HPACK bomb", Fate::Served, |client| {
        client.start(&[]).unwrap();
        for round in 0..20 {
            let stream = client.new_stream();
            let mut block = first.clone();
            if round == 0 {
                block.extend(&store);
            }
            block.extend([0xbe].repeat(15_000)); // the newest entry of the table
            if client.headers_in_pieces(stream, &block, 16_000, true).is_err() {
                break;
            }
            match client.answer(stream, soon()) {
                Ok(answer) => assert!(answer.status == 431 || answer.reset.is_some(), "{answer:?}"),
                Err(_) => break,
            }
        }
        20
    });
    siege.lift();
}

/// Blocks that change the size of the table over and over.
#[test]
fn hpack_table_games() {
    let good =
        encode([(":method", "GET"), (":scheme", "https"), (":path", "/health"), (":authority", "localhost")]);
    let siege = Siege::lay("", server());
    siege.run("HPACK: table sizes", Fate::Served, |client| {
        client.start(&[]).unwrap();
        let changes = [0x20, 0x3f, 0xe1, 0x1f].repeat(3000); // 0, then 4096
        for _ in 0..50 {
            let stream = client.new_stream();
            let block = [&changes, &good].map(|part| part.as_slice()).concat();
            if client.send(HEADERS, END_HEADERS | END_STREAM, stream, &block).is_err() {
                break;
            }
            if client.answer(stream, soon()).is_err() {
                break;
            }
        }
        50
    });
    siege.lift();
}

/// Large heads, whole and in time, as fast as they are answered.
#[test]
fn heads_of_60_kilobytes() {
    let long = "x".repeat(15_000);
    let siege = Siege::lay("", server());
    siege.run("heads of 60 kB", Fate::Served, |client| {
        client.start(&[]).unwrap();
        let mut sent = 0;
        for _ in 0..60 {
            let stream = client.new_stream();
            let fields = client.request_fields(
                "GET",
                "/health",
                &[("x-a", &long), ("x-b", &long), ("x-c", &long), ("x-d", &long)],
            );
            let block = encode(fields.iter().map(|(name, value)| (&**name, &**value)));
            if client.headers_in_pieces(stream, &block, 16_384, true).is_err() {
                break;
            }
            sent += 1;
            match client.answer(stream, soon()) {
                Ok(answer) => assert!(answer.status == 431 || answer.reset.is_some(), "{answer:?}"),
                Err(_) => break,
            }
        }
        sent
    });
    siege.lift();
}

/// The initial window goes up and down under 100 streams: every change is work for each.
#[test]
fn window_games() {
    let siege = Siege::lay("", torrent());
    siege.run("SETTINGS: windows up and down", Fate::Abuse, |client| {
        client.start(&[(4, 0)]).unwrap();
        let body = chat("llama3.2", true);
        for _ in 0..100 {
            let stream = client.open("POST", CHAT, &[], false).unwrap();
            client.data(stream, body.as_bytes(), true).unwrap();
        }
        let mut sent = 0;
        while sent < 100_000 {
            let value = if sent % 2 == 0 { 1_u32 } else { 0x7fff_ffff };
            let parameter = [&4_u16.to_be_bytes()[..], &value.to_be_bytes()].concat();
            if client.send(SETTINGS, 0, 0, &parameter).is_err() {
                break;
            }
            sent += 1;
        }
        sent
    });
    siege.lift();
}

/// Uploads that never end, on as many streams as there may be: what waits is bounded by the connection's window.
#[test]
fn uploads_that_stand_still() {
    let settings = "body_timeout = \"700ms\"\nkeep_alive = \"300ms\"";
    held("3 x 128 uploads that stand still", settings, server(), 3, |client| {
        client.start(&[]).unwrap();
        for _ in 0..128 {
            let stream = client.open("POST", CHAT, &[], false).unwrap();
            client.data(stream, &[b' '; 500], false).unwrap();
        }
    });
}

/// The same attack again and again must not cost more each time.
#[test]
fn memory_is_flat() {
    let edge = Edge::start(vec![server()], "", "");
    let block =
        encode([(":method", "GET"), (":scheme", "https"), (":path", "/health"), (":authority", "localhost")]);
    let attack = |rounds: u32| {
        for _ in 0..rounds {
            let mut client = edge.connect();
            let pairs: Vec<u8> = (0..600_u32)
                .flat_map(|at| {
                    let open = frame(HEADERS, END_HEADERS, 2 * at + 1, &block);
                    let more = frame(DATA, 0, 2 * at + 1, &[b' '; 100]);
                    [open, more, frame(3, 0, 2 * at + 1, &[0, 0, 0, 8])].concat()
                })
                .collect();
            let _ = client.raw(&pairs);
            let _ = client.send(CONTINUATION, 0, 1, b"");
            let _ = client.closed(soon());
        }
        edge.fleet.assert_quiet();
        thread::sleep(Duration::from_millis(1100)); // memory is given back once a second
        resident_kib(&edge.fleet.gateway)
    };
    let first = attack(40);
    let second = attack(120);
    println!("40 attackers: {first} KiB, 120 more: {second} KiB");
    assert!(second <= first + 2048, "it grows: {first} KiB, then {second} KiB");
    assert!(edge.fleet.servers[0].stats.connections_open.load(Ordering::Relaxed) < 64);
}
