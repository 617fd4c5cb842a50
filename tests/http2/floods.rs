//! Attacks that send too much, or what nobody may send: each ends in a closed connection.

use std::time::{Duration, Instant};

use corelane::sim::Options;

use super::edge::H2;
use super::support::fleet::chat;
use super::support::h2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Gone, HEADERS, PADDED, PING, PRIORITY, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, encode, frame,
};
use super::{CHAT, Fate, Siege};

/// How long a flood goes on if nobody stops it.
const FLOOD: Duration = Duration::from_millis(1500);

/// Whether the connection ended inside of something, which is an end too.
pub fn is_cut<T>(end: &Result<T, Gone>) -> bool {
    matches!(end, Err(Gone::Wrong(what)) if what.contains("closed inside"))
}

fn server() -> Options {
    Options { slots: 1024, tokens: 8, ..Options::default() }
}

/// Starts HTTP/2, then sends what `unit` makes until the connection breaks; how many units were sent.
fn flood(client: &mut H2, reads: bool, mut unit: impl FnMut(u32) -> Vec<u8>) -> u64 {
    client.io().sock.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    client.io().sock.set_write_timeout(Some(FLOOD)).unwrap();
    if client.start(&[]).is_err() {
        return 0;
    }
    let (end, mut sent) = (Instant::now() + FLOOD, 0_u32);
    while Instant::now() < end && sent < 400_000 {
        let batch: Vec<u8> = (0..64).flat_map(|at| unit(sent + at)).collect();
        sent += 64;
        if client.raw(&batch).is_err() {
            break;
        }
        if reads
            && sent % 1024 == 0
            && matches!(
                client.frame(Instant::now() + Duration::from_micros(1)),
                Err(Gone::Closed | Gone::Io(_))
            )
        {
            break;
        }
    }
    u64::from(sent)
}

/// The stream that a unit opens.
fn stream(at: u32) -> u32 {
    2 * at + 1
}

fn head(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "https"), (":path", path), (":authority", "localhost")];
    encode(pseudo.into_iter().chain(more.iter().copied()))
}

fn get(at: u32, end: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | end, stream(at), &head("GET", "/health", &[]))
}

impl Siege {
    fn flood(&self, name: &str, fate: Fate, reads: bool, unit: impl Fn(u32) -> Vec<u8>) {
        self.run(name, fate, |client| flood(client, reads, &unit));
    }
}

/// A siege for one test.
fn siege(attacks: impl FnOnce(&Siege)) {
    let siege = Siege::lay("", server());
    attacks(&siege);
    siege.lift();
}

#[test]
fn rapid_reset() {
    siege(|siege| {
        siege.flood("rapid reset", Fate::Abuse, true, |at| {
            [get(at, END_STREAM), frame(RST_STREAM, 0, stream(at), &8_u32.to_be_bytes())].concat()
        });
        let body = chat("hang", true);
        siege.flood("rapid reset of model requests", Fate::Abuse, true, |at| {
            [
                frame(HEADERS, END_HEADERS, stream(at), &head("POST", CHAT, &[])),
                frame(DATA, END_STREAM, stream(at), body.as_bytes()),
                frame(RST_STREAM, 0, stream(at), &8_u32.to_be_bytes()),
            ]
            .concat()
        });
        siege.flood("rapid reset, never reads", Fate::Abuse, false, |at| {
            [get(at, END_STREAM), frame(RST_STREAM, 0, stream(at), &8_u32.to_be_bytes())].concat()
        });
    });
}

#[test]
fn made_you_reset() {
    siege(|siege| {
        siege.flood("made you reset: window overflow", Fate::Abuse, true, |at| {
            let open = frame(HEADERS, END_HEADERS, stream(at), &head("POST", CHAT, &[]));
            [open, frame(WINDOW_UPDATE, 0, stream(at), &0x7fff_ffff_u32.to_be_bytes())].concat()
        });
        siege.flood("made you reset: window of 0", Fate::Closed, true, |at| {
            let open = frame(HEADERS, END_HEADERS, stream(at), &head("POST", CHAT, &[]));
            [open, frame(WINDOW_UPDATE, 0, stream(at), &[0; 4])].concat()
        });
        siege.flood("made you reset: half-closed", Fate::Closed, true, |at| {
            let body = chat("hang", false);
            let open = frame(HEADERS, END_HEADERS, stream(at), &head("POST", CHAT, &[]));
            let whole = frame(DATA, END_STREAM, stream(at), body.as_bytes());
            [open, whole, frame(DATA, 0, stream(at), b"more")].concat()
        });
        siege.flood("made you reset: content-length", Fate::Abuse, true, |at| {
            let open =
                frame(HEADERS, END_HEADERS, stream(at), &head("POST", CHAT, &[("content-length", "5")]));
            [open, frame(DATA, END_STREAM, stream(at), b"1")].concat()
        });
        siege.flood("made you reset: self-dependency", Fate::Abuse, true, |at| {
            let own = [&stream(at).to_be_bytes()[..], &[16]].concat();
            [
                frame(HEADERS, END_HEADERS, stream(at), &head("POST", CHAT, &[])),
                frame(PRIORITY, 0, stream(at), &own),
            ]
            .concat()
        });
        let block = head("GET", "/health", &[("connection", "close")]);
        siege.flood("malformed heads", Fate::Abuse, true, |at| {
            frame(HEADERS, END_HEADERS | END_STREAM, stream(at), &block)
        });
        let block = head("GET", "/health", &[("content-length", "7")]);
        siege.flood("lengths without bodies", Fate::Abuse, true, |at| {
            frame(HEADERS, END_HEADERS | END_STREAM, stream(at), &block)
        });
    });
}

/// A stream that we reset for its client's fault takes its endpoint with it at once: that is what such attacks are for.
#[test]
fn a_reset_that_we_are_made_to_send_stops_the_work() {
    let siege = Siege::lay("", server());
    let stats = &siege.edge.fleet.servers[0].stats;
    let generating = || stats.generating.load(std::sync::atomic::Ordering::Relaxed);
    let mut client = siege.edge.connect();
    for fault in ["window overflow", "self-dependency"] {
        for streams in 1..=20_usize {
            let stream = client.open("POST", CHAT, &[], false).unwrap();
            client.data(stream, chat("hang", false).as_bytes(), true).unwrap();
            super::until("it runs", || (generating() == 1).then_some(()));
            if fault == "self-dependency" {
                let own = [&stream.to_be_bytes()[..], &[16]].concat();
                client.send(PRIORITY, 0, stream, &own).unwrap();
            } else {
                client.window_update(stream, 0x7fff_ffff).unwrap();
            }
            let answer = client.answer(stream, super::edge::soon()).expect("a reset");
            assert!(answer.reset.is_some(), "{fault}: {answer:?}");
            super::until("its endpoint is closed", || (generating() == 0).then_some(()));
            assert_eq!(client.goaway, None, "{fault}, {streams} streams");
        }
    }
    drop(client);
    siege.lift();
}

#[test]
fn continuation_flood() {
    siege(|siege| {
        siege.flood("CONTINUATION, full frames", Fate::Abuse, true, |at| {
            // One field whose value is said to be of 8 MiB.
            let begin = [&[0x00, 1, b'a', 0x7f, 0x81, 0xff, 0xff, 0x03][..], &[b'x'; 16_000]].concat();
            if at == 0 { frame(HEADERS, 0, 1, &begin) } else { frame(CONTINUATION, 0, 1, &[b'x'; 16_384]) }
        });
        siege.flood("CONTINUATION, small frames", Fate::Abuse, true, |at| {
            let kind = if at == 0 { HEADERS } else { CONTINUATION };
            frame(kind, 0, 1, &head("GET", "/", &[])[..1])
        });
        siege.flood("CONTINUATION, empty", Fate::Abuse, true, |at| {
            let kind = if at == 0 { HEADERS } else { CONTINUATION };
            frame(kind, 0, 1, b"")
        });
        let block = head("GET", "/health", &[]);
        siege.flood("CONTINUATION, with an end", Fate::Abuse, true, |at| match at % 20 {
            0 => frame(HEADERS, END_STREAM, stream(at), &block),
            19 => frame(CONTINUATION, END_HEADERS, stream(at - 19), b""),
            more => frame(CONTINUATION, 0, stream(at - more), b""),
        });
    });
}

#[test]
fn empty_and_small_data() {
    siege(|siege| {
        let open = || frame(HEADERS, END_HEADERS, 1, &head("POST", CHAT, &[]));
        let first = |at: u32, then: Vec<u8>| if at == 0 { open() } else { then };
        siege.flood("DATA, empty", Fate::Abuse, true, |at| first(at, frame(DATA, 0, 1, b"")));
        siege.flood("DATA, padding alone", Fate::Abuse, true, |at| {
            first(at, frame(DATA, PADDED, 1, &[&[200][..], &[0; 200]].concat()))
        });
        siege.flood("DATA, a byte each", Fate::Abuse, true, |at| first(at, frame(DATA, 0, 1, b" ")));
        siege.flood("DATA, of no stream", Fate::Closed, true, |_| frame(DATA, 0, 7, b"x"));
    });
}

/// What comes beyond the limit of a body is dropped as fast as it comes.
#[test]
fn data_heedless_of_windows() {
    let siege = Siege::lay("body_bytes_max = \"1MiB\"", server());
    siege.run("DATA, heedless of windows", Fate::Served, |client| {
        client.start(&[]).unwrap();
        let stream = client.open("POST", CHAT, &[], false).unwrap();
        let mut sent = 0;
        while sent < 500 && client.data(stream, &[b' '; 16_384], false).is_ok() {
            sent += 1;
        }
        sent
    });
    siege.lift();
}

#[test]
fn control_frames() {
    siege(|siege| {
        siege.flood("PING", Fate::Abuse, true, |_| frame(PING, 0, 0, b"12345678"));
        siege.flood("PING, never reads", Fate::Abuse, false, |_| frame(PING, 0, 0, b"12345678"));
        siege
            .flood("PING, answers nobody asked for", Fate::Abuse, true, |_| frame(PING, ACK, 0, b"12345678"));
        siege.flood("SETTINGS", Fate::Abuse, true, |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]));
        siege.flood("SETTINGS, never reads", Fate::Abuse, false, |_| frame(SETTINGS, 0, 0, b""));
        siege.flood("SETTINGS, acknowledgements", Fate::Closed, true, |_| frame(SETTINGS, ACK, 0, b""));
    });
}

/// Decreases of the initial window reach streams that have been answered, increases do not: their windows would fall
/// below what 32 bits hold.
#[test]
fn windows_that_shrink_without_end() {
    siege(|siege| {
        siege.run("SETTINGS, shrinking windows", Fate::Abuse, |client| {
            client.start(&[]).unwrap();
            let huge = [("content-length", "99999999999")]; // answered by 413, while its body is still to come
            let stream = client.open("POST", CHAT, &huge, false).unwrap();
            while client.so_far(stream).is_none_or(|answer| answer.status == 0) {
                client.event(super::edge::soon()).expect("an answer");
            }
            let mut sent = 0;
            while sent < 40 {
                let value = if sent % 2 == 0 { 0x7fff_ffff } else { 0 };
                if client.settings(&[(4, value)]).is_err() {
                    break;
                }
                sent += 1;
            }
            sent
        });
    });
}

#[test]
fn frames_that_ask_for_nothing() {
    siege(|siege| {
        siege.flood("PRIORITY", Fate::Abuse, true, |at| frame(PRIORITY, 0, stream(at), &[0, 0, 0, 0, 16]));
        siege.flood("WINDOW_UPDATE", Fate::Abuse, true, |_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()));
        siege.flood("WINDOW_UPDATE, overflow", Fate::Closed, true, |_| {
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())
        });
        siege.flood("unknown frames", Fate::Abuse, true, |_| frame(0xee, 0xff, 0, &[1; 100]));
        siege.flood("RST_STREAM of no stream", Fate::Closed, true, |at| {
            frame(RST_STREAM, 0, stream(at), &[0, 0, 0, 8])
        });
        siege.flood("trailers without end", Fate::Closed, true, |at| {
            let block = if at == 0 { head("POST", CHAT, &[]) } else { encode([("x-a", "1")]) };
            frame(HEADERS, END_HEADERS, 1, &block)
        });
        siege.flood("GOAWAY", Fate::Closed, true, |_| frame(7, 0, 0, &[0; 8]));
    });
}

#[test]
fn what_servers_alone_may_send() {
    siege(|siege| {
        siege.flood("PUSH_PROMISE", Fate::Abuse, true, |_| {
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])
        });
        siege.flood("a frame of 16 MiB", Fate::Abuse, true, |_| {
            [&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..], &[0; 4096]].concat()
        });
        siege.flood("even streams", Fate::Closed, true, |at| {
            frame(HEADERS, END_HEADERS | END_STREAM, 2 * at + 2, &head("GET", "/health", &[]))
        });
        siege.flood("streams that go back", Fate::Closed, true, |at| {
            frame(HEADERS, END_HEADERS | END_STREAM, 2 * (400_001 - at) + 1, &head("GET", "/health", &[]))
        });
        siege.flood("SETTINGS, a huge table", Fate::Abuse, true, |_| {
            frame(SETTINGS, 0, 0, &[0, 1, 0xff, 0xff, 0xff, 0xff])
        });
        siege.flood("SETTINGS, half a parameter", Fate::Closed, true, |_| frame(SETTINGS, 0, 0, &[0, 4, 0]));
    });
}

#[test]
fn garbage() {
    let noise = |seed: u64, length: usize| -> Vec<u8> {
        let mut random = super::support::lane::Random(seed);
        (0..length).map(|_| u8::try_from(random.below(256)).unwrap()).collect()
    };
    siege(|siege| {
        let mut seed = 0;
        siege.run("garbage instead of a preface", Fate::Abuse, |client| {
            seed += 1;
            let _ = client.raw(&noise(seed, 1000));
            1
        });
        siege.run("HTTP/1.1 instead of a preface", Fate::Abuse, |client| {
            let _ = client.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            1
        });
        siege.run("no SETTINGS", Fate::Abuse, |client| {
            let _ = client.raw(super::support::h2::PREFACE);
            let _ = client.raw(&get(0, END_STREAM));
            1
        });
        siege.flood("garbage behind the preface", Fate::Closed, true, |at| noise(u64::from(at) + 77, 3000));
    });
}

#[test]
fn hpack() {
    siege(|siege| {
        let bad = |name, block: &'static [u8]| {
            siege.flood(name, Fate::Closed, true, move |at| {
                frame(HEADERS, END_HEADERS | END_STREAM, stream(at), block)
            });
        };
        bad("HPACK: a table beyond the limit", &[0x3f, 0xff, 0xff, 0x7f, 0x82]);
        bad("HPACK: an index beyond the table", &[0xff, 0xff, 0x7f]);
        bad("HPACK: index 0", &[0x80]);
        bad("HPACK: an endless number", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        bad("HPACK: a string without end", &[0x40, 0x7f, 0xff, 0xff, 0x3f, b'a']);
        bad("HPACK: padding of 32 ones", &[0x40, 0x84, 0xff, 0xff, 0xff, 0xff, 0x01, b'a']);
    });
}
