//! Promise: request bodies may come in gzip, deflate or zstd: endpoints get them plain, with the bounds of plain ones;
//! a bomb costs no memory, and nobody else waits for a large one. Whole JSON answers are compressed where the operator
//! and the client want it; streams never are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)] // test code

mod support;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use corelane::sim::{self, Options};
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder, ZlibEncoder};
use support::answer::{Answer, Reader};
use support::fleet::{chat, configuration, connect, model};
use support::upstream::{Record, Reply, Then, Upstream, echo};
use support::{Gateway, assert_gauges_zero};

/// `body_bytes_max` of these gateways.
const MAX: usize = 1 << 20;

struct Site {
    gateway: Gateway,
    upstream: Upstream,
}

fn site<F>(server: &str, reply: F) -> Site
where
    F: Fn(&Record) -> Reply + Send + Sync + 'static,
{
    let upstream = Upstream::start("127.0.0.1:0".parse().unwrap(), reply);
    let rest = format!("[health]\nenabled = false\n{}", model("m", &["e0"], ""));
    let server = format!("shards = 1\nbody_bytes_max = {MAX}\n{server}");
    let gateway = Gateway::start(&configuration(&[upstream.addr], &server, &rest));
    Site { gateway, upstream }
}

impl Site {
    /// Sends a body in this coding, in chunks of `piece` bytes (0: with its length), and reads the answer.
    fn send(&self, coding: &str, body: &[u8], piece: usize) -> Answer {
        send(&mut connect(self.gateway.addr), coding, body, piece)
    }

    /// What the endpoint got since the last call.
    fn seen(&self) -> Vec<Record> {
        self.upstream.records.try_iter().collect()
    }
}

fn send(reader: &mut Reader, coding: &str, body: &[u8], piece: usize) -> Answer {
    let framing = match piece {
        0 => format!("Content-Length: {}", body.len()),
        _ => "Transfer-Encoding: chunked".to_owned(),
    };
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nContent-Type: application/json\r\n\
         Content-Encoding: {coding}\r\n{framing}\r\n\r\n"
    );
    let mut wire = head.into_bytes();
    if piece == 0 {
        wire.extend_from_slice(body);
    } else {
        for part in body.chunks(piece) {
            wire.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            wire.extend_from_slice(part);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
    }
    let _ = reader.stream().write_all(&wire); // a refusal may come before all of it is taken
    reader.answer(false, Instant::now() + Duration::from_secs(20)).expect("an answer")
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    GzEncoder::new(plain, Compression::default()).read_to_end(&mut out).unwrap();
    out
}

fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ZlibEncoder::new(plain, Compression::default()).read_to_end(&mut out).unwrap();
    out
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest)
}

fn pack(coding: &str, plain: &[u8]) -> Vec<u8> {
    match coding {
        "deflate" => deflate(plain),
        "zstd" => zstd(plain),
        _ => gzip(plain),
    }
}

/// A chat body of exactly this many bytes.
fn body_of(bytes: usize, mark: &str) -> Vec<u8> {
    let (head, tail) =
        (format!(r#"{{"model":"m","user":"{mark}","messages":[{{"role":"user","content":""#), r#""}]}"#);
    let filler = "To be, or not to be, that is the question. ".repeat(bytes / 43 + 1);
    let body = format!("{head}{}{tail}", &filler[..bytes - head.len() - tail.len()]);
    assert_eq!(body.len(), bytes);
    body.into_bytes()
}

const CODINGS: [&str; 6] = ["gzip", "x-gzip", "deflate", "zstd", "GZIP", "identity"];

#[test]
fn endpoints_get_compressed_bodies_plain() {
    let site = site("", echo);
    for coding in CODINGS {
        for (piece, size) in [(0, 300), (1, 300), (7, 5_000), (0, 200_000), (1000, 200_000)] {
            let mark = format!("{coding}-{piece}-{size}");
            let plain = body_of(size, &mark);
            let packed = if coding == "identity" { plain.clone() } else { pack(coding, &plain) };
            let answer = site.send(coding, &packed, piece);
            assert_eq!(answer.status, 200, "{mark}: {}", String::from_utf8_lossy(&answer.body));
            let seen = site.seen();
            assert_eq!(seen.len(), 1, "{mark}");
            assert_eq!(seen[0].faults, [""; 0], "{mark}");
            assert!(!seen[0].fields.iter().any(|(name, _)| name == "content-encoding"), "{mark}");
            assert_eq!(seen[0].user().as_deref(), Some(mark.as_str()));
            assert_eq!(seen[0].json(), serde_json::from_slice(&plain).ok(), "{mark}");
        }
    }
    assert_gauges_zero(&site.gateway);
}

/// A body by the zstd command (level 19: its tables are compressed), one of two gzip members, one of two zstd frames
/// with a skippable one between them.
#[test]
fn bodies_of_other_programs_and_in_parts_are_read() {
    const BY_ZSTD: &str = "KLUv/WSdAO0GABLOJxhwbwNQdpA0bVHS1nVtofb/z/KUm6X/4QVXcqnATtnPLZJg9teamZI5sSH7nNo1yZbGDOBSgSFLzWWzKdlBzRDAONhTMvtsOp3btyWZ1/Zf7CcBhyw1mB9b2fTX7Z1jlA558rf5yz7/7Xtz33SxgRyz3GS4GfvQQf/xv174nXIdlF1DtZBBnZ1150cBbW4JmPdKB4XsUQF9dFDHTD9qBRggEEaZPZkM/uzAZLgnQbhZM6BPK8UDZcUGH03aIZZBboFmqLXsUZ9BhaCqiisKCYtJm7WWNjMprb4HGa/DKw==";
    let site = site("", echo);
    let by_zstd = base64::engine::general_purpose::STANDARD.decode(BY_ZSTD).unwrap();
    assert_eq!(site.send("zstd", &by_zstd, 0).status, 200);
    assert_eq!(site.seen()[0].user().as_deref(), Some("zstd-cli"));
    let plain = body_of(3000, "parts");
    let (one, two) = plain.split_at(1234);
    let members = [gzip(one), gzip(two)].concat();
    let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let frames = [zstd(one), skipped, zstd(two)].concat();
    for (coding, packed) in [("gzip", members), ("zstd", frames)] {
        assert_eq!(site.send(coding, &packed, 11).status, 200, "{coding}");
        assert_eq!(site.seen()[0].json(), serde_json::from_slice(&plain).ok());
    }
    assert_gauges_zero(&site.gateway);
}

#[test]
fn over_http_2_too() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let place =
        |what: &str| std::env::temp_dir().join(format!("corelane-codings-{}.{what}", std::process::id()));
    let (cert, key, file) = (place("crt"), place("key"), place("body"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = format!("[server.tls]\nlisten = [\"127.0.0.1:0\"]\ncert = {cert:?}\nkey = {key:?}\n");
    let site = site(&tls, echo);
    let url = format!("https://{}/v1/chat/completions", site.gateway.tls.expect("a TLS listener"));
    for (coding, good) in [("gzip", true), ("deflate", true), ("zstd", true), ("br", false)] {
        let plain = body_of(100_000, coding);
        std::fs::write(&file, pack(coding, &plain)).unwrap();
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--insecure",
                "--http2",
                "--max-time",
                "10",
                "--output",
                "/dev/null",
            ])
            .args([
                "--write-out",
                "%{http_version} %{http_code}",
                "--header",
                &format!("content-encoding: {coding}"),
            ])
            .arg("--data-binary")
            .arg(format!("@{}", file.display()))
            .arg(&url)
            .output()
            .expect("curl");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(told, if good { "2 200" } else { "2 415" }, "{coding}");
        let seen = site.seen();
        assert_eq!(seen.len(), usize::from(good), "{coding}");
        assert!(!good || seen[0].json() == serde_json::from_slice(&plain).ok(), "{coding}");
    }
    [cert, key, file].iter().for_each(|file| std::fs::remove_file(file).unwrap());
    assert_gauges_zero(&site.gateway);
}

#[test]
fn a_body_may_be_as_large_decoded_as_plain() {
    let site = site("", echo);
    for coding in ["gzip", "deflate", "zstd", "identity"] {
        for (size, status) in [(MAX - 1, 200), (MAX, 200), (MAX + 1, 413)] {
            let plain = body_of(size, "edge");
            let packed = if coding == "identity" { plain.clone() } else { pack(coding, &plain) };
            for piece in [0, 60_000] {
                assert_eq!(site.send(coding, &packed, piece).status, status, "{coding} {size} {piece}");
                assert_eq!(site.seen().len(), usize::from(status == 200), "{coding} {size} {piece}");
            }
        }
    }
    assert_gauges_zero(&site.gateway);
}

/// A zstd frame of so many blocks of 128 KiB of zeros, four bytes each; it declares no size.
fn zstd_bomb(blocks: usize) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38]; // a window of 128 KiB
    let size: u32 = 128 * 1024;
    for at in 0..blocks {
        let head = size << 3 | 1 << 1 | u32::from(at + 1 == blocks); // a block of one repeated byte
        out.extend_from_slice(&head.to_le_bytes()[..3]);
        out.push(0);
    }
    out
}

/// Largest resident size of a process so far, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn bombs_are_413_and_cost_no_memory() {
    let site = site("", echo);
    assert_eq!(site.send("zstd", &zstd(&body_of(MAX, "warm")), 0).status, 200);
    assert_eq!(site.seen().len(), 1);
    let zeros = vec![0; 256 << 20];
    let bombs = [
        ("gzip", gzip(&zeros)),
        ("gzip", gzip(&zeros[..1 << 20]).repeat(256)), // in members
        ("deflate", deflate(&zeros)),
        ("zstd", zstd_bomb(8192)), // 1 GiB
        ("zstd", zstd_bomb(8).repeat(1000)),
    ];
    drop(zeros);
    let before = peak_kib(site.gateway.pid());
    for (coding, bomb) in &bombs {
        assert!(bomb.len() < MAX, "it is not its own size that is refused: {coding} {}", bomb.len());
        for piece in [0, 10_000] {
            let mut readers: Vec<Reader> = (0..4).map(|_| connect(site.gateway.addr)).collect();
            for reader in &mut readers {
                assert_eq!(send(reader, coding, bomb, piece).status, 413, "{coding}");
            }
        }
    }
    let grown = peak_kib(site.gateway.pid()) - before;
    println!("peak of the resident size grew by {grown} KiB for 40 bombs");
    // The body as it came, one of full size, and the largest window and block: no more at any time.
    assert!(grown < 2 * MAX as u64 / 1024 + 28 * 1024, "{grown} KiB");
    assert_eq!(site.seen().len(), 0, "no endpoint heard of it");
    assert_eq!(site.send("gzip", &gzip(&body_of(300, "after")), 0).status, 200);
    assert_gauges_zero(&site.gateway);
}

#[test]
fn broken_bodies_are_400() {
    let site = site("", echo);
    let plain = body_of(3000, "broken");
    for coding in ["gzip", "deflate", "zstd"] {
        let whole = pack(coding, &plain);
        let mut sum = whole.clone();
        let at = sum.len() - 5;
        sum[at] ^= 0x55;
        let mut bodies = vec![
            ("truncated", whole[..whole.len() - 1].to_vec()),
            ("half", whole[..whole.len() / 2].to_vec()),
            ("two bytes", whole[..2].to_vec()),
            ("garbage", b"this is not compressed at all".to_vec()),
            ("plain", plain.clone()),
            ("behind its end", [&whole[..], b"x"].concat()),
        ];
        if coding != "zstd" {
            bodies.push(("a flipped bit", sum));
        }
        for (what, body) in bodies {
            for piece in [0, 3] {
                let mut reader = connect(site.gateway.addr);
                let answer = send(&mut reader, coding, &body, piece);
                assert_eq!(answer.status, 400, "{coding}: {what}");
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                assert!(text.contains("compressed"), "{coding}: {what}: {text}");
                // The body was read to its end: the connection may go on.
                if answer.field("connection") != Some("close") {
                    assert_eq!(send(&mut reader, "gzip", &gzip(&plain), 0).status, 200, "{coding}: {what}");
                    assert_eq!(site.seen().len(), 1);
                }
            }
        }
    }
    let bare = {
        let mut out = Vec::new();
        flate2::read::DeflateEncoder::new(&plain[..], Compression::default()).read_to_end(&mut out).unwrap();
        out
    };
    assert_eq!(site.send("deflate", &bare, 0).status, 400, "deflate is the zlib form");
    assert_eq!(site.seen().len(), 0);
    assert_gauges_zero(&site.gateway);
}

#[test]
fn other_codings_are_415_before_the_body_is_read() {
    let site = site("", echo);
    for lines in [
        "Content-Encoding: br",
        "Content-Encoding: compress",
        "Content-Encoding: gzip, gzip",
        "Content-Encoding: gzip, zstd",
        "Content-Encoding: gzip\r\nContent-Encoding: zstd",
        "Content-Encoding: gzip;q=1",
        "Content-Encoding: *",
        "Content-Encoding: gzipped",
    ] {
        let mut reader = connect(site.gateway.addr);
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: gw\r\nContent-Length: 1000\r\n{lines}\r\n\r\n"
        );
        reader.stream().write_all(head.as_bytes()).unwrap();
        let answer = reader.answer(false, Instant::now() + Duration::from_secs(5)).expect("without its body");
        assert_eq!(answer.status, 415, "{lines}");
    }
    assert_eq!(site.seen().len(), 0);
    assert_gauges_zero(&site.gateway);
}

/// The longest time between two events of a stream, while `meanwhile` runs; and how many events came in that time.
fn longest_gap(addr: SocketAddr, meanwhile: impl FnOnce() + Send + 'static) -> (Duration, usize) {
    let mut reader = connect(addr);
    support::fleet::send(&mut reader, "/v1/chat/completions", &chat("llama3.2", true));
    reader.head(Instant::now() + Duration::from_secs(10)).expect("a head");
    let mut bytes = [0; 16 * 1024];
    let mut read = || {
        let n = reader.stream().read(&mut bytes).expect("the stream goes on");
        assert!(n > 0, "the stream has ended");
        bytes[..n].windows(6).filter(|window| window == b"data: ").count()
    };
    read();
    let busy = std::thread::spawn(meanwhile);
    let (mut longest, mut events, mut last) = (Duration::ZERO, 0, Instant::now());
    while !busy.is_finished() {
        events += read();
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
    }
    busy.join().unwrap();
    (longest, events)
}

#[test]
fn a_large_body_stalls_no_stream() {
    let ticking = Options { tokens: 100_000, token_interval: Duration::from_millis(5), ..Options::default() };
    let server = sim::start(ticking).unwrap();
    let upstream = Upstream::start("127.0.0.1:0".parse().unwrap(), echo);
    let rest =
        format!("[health]\nenabled = false\n{}{}", model("llama3.2", &["e0"], ""), model("m", &["e1"], ""));
    let toml = configuration(&[server.addr, upstream.addr], "shards = 1", &rest);
    let gateway = Gateway::start(&toml);
    let addr = gateway.addr;
    for coding in ["identity", "gzip", "zstd"] {
        let plain = body_of(20 << 20, coding);
        let packed = if coding == "identity" { plain } else { pack(coding, &plain) };
        let (gap, events) = longest_gap(addr, move || {
            for _ in 0..3 {
                assert_eq!(send(&mut connect(addr), coding, &packed, 0).status, 200, "{coding}");
            }
        });
        println!(
            "three bodies of 20 MiB in {coding}: longest gap {} ms, {events} events meanwhile",
            gap.as_millis()
        );
        assert!(events >= 10, "{coding}: {events} events came while the bodies were read");
    }
    let marks: Vec<_> = upstream.records.try_iter().filter_map(|record| record.user()).collect();
    assert_eq!(marks.len(), 9);
    assert_gauges_zero(&gateway);
}

/// An answer of about this many bytes of JSON, the number the client gave as `user`.
fn sized(record: &Record) -> Reply {
    let Some(size) = record.user().and_then(|user| user.parse::<usize>().ok()) else { return echo(record) };
    let content = "The quick brown fox jumps over the lazy dog. ".repeat(size / 45 + 1);
    let body = format!(
        r#"{{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}}}"#,
        &content[..size]
    );
    Reply { writes: vec![support::upstream::plain(&body)], then: Then::Keep }
}

/// One request whose answer is `size` bytes, with these field lines.
fn wants(addr: SocketAddr, method: &str, path: &str, fields: &str, size: usize) -> Answer {
    let body = match method {
        "POST" => format!(r#"{{"model":"m","user":"{size}","messages":[{{"role":"user","content":"hi"}}]}}"#),
        _ => String::new(),
    };
    let mut reader = connect(addr);
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: gw\r\n{fields}{length}\r\n{body}");
    reader.stream().write_all(request.as_bytes()).unwrap();
    reader.answer(method == "HEAD", Instant::now() + Duration::from_secs(10)).expect("an answer")
}

fn unpacked(answer: &Answer) -> Vec<u8> {
    let mut out = Vec::new();
    GzDecoder::new(&answer.body[..]).read_to_end(&mut out).expect("gzip");
    out
}

fn vary(answer: &Answer) -> String {
    let values = answer.fields.iter().filter(|(name, _)| name == "vary").map(|(_, value)| value.as_str());
    values.collect::<Vec<_>>().join(", ").to_ascii_lowercase()
}

const CHAT: &str = "/v1/chat/completions";

#[test]
fn whole_answers_are_compressed_by_choice() {
    let site = site("gzip = true\ngzip_bytes_min = \"1KiB\"", sized);
    let addr = site.gateway.addr;
    let plain = wants(addr, "POST", CHAT, "", 5000);
    assert_eq!((plain.status, plain.field("content-encoding")), (200, None));
    for accepts in ["gzip", "gzip, br", "br;q=1.0, gzip;q=0.5", "*", "x-gzip", "deflate, GZIP"] {
        let answer = wants(addr, "POST", CHAT, &format!("Accept-Encoding: {accepts}\r\n"), 5000);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("content-encoding"), Some("gzip"), "{accepts}");
        assert!(vary(&answer).contains("accept-encoding"), "{accepts}: {}", vary(&answer));
        assert_eq!(answer.field("content-length"), Some(answer.body.len().to_string().as_str()));
        assert!(answer.body.len() < plain.body.len() / 4);
        assert_eq!(unpacked(&answer), plain.body, "{accepts}");
    }
    for refuses in ["gzip;q=0", "identity", "br", "gzip;q=0.0, br", "*;q=0", "*, gzip;q=0", "", "gzipped"] {
        let answer = wants(addr, "POST", CHAT, &format!("Accept-Encoding: {refuses}\r\n"), 5000);
        assert_eq!((answer.status, answer.field("content-encoding")), (200, None), "{refuses:?}");
        assert_eq!(answer.body, plain.body);
    }
    assert!(
        site.seen().iter().all(|record| !record.fields.iter().any(|(name, _)| name == "accept-encoding")),
        "endpoints are not asked for codings"
    );
    assert_gauges_zero(&site.gateway);
}

/// RFC 9110 section 12.5.5: an answer that would have been another one for other fields says so, compressed or not.
#[test]
fn an_answer_that_could_have_been_compressed_varies() {
    let site = site("gzip = true", sized);
    let answer = wants(site.gateway.addr, "POST", CHAT, "Accept-Encoding: gzip;q=0\r\n", 5000);
    assert!(vary(&answer).contains("accept-encoding"), "{:?}", answer.fields);
}

#[test]
fn small_answers_and_streams_are_never_compressed() {
    let server = sim::start(Options { tokens: 500, ..Options::default() }).unwrap();
    let rest = format!("[health]\nenabled = false\n{}", model("*", &["e0"], ""));
    let server_lines = "shards = 1\ngzip = true\ngzip_bytes_min = \"1KiB\"";
    let gateway = Gateway::start(&configuration(&[server.addr], server_lines, &rest));
    for (path, stream, coded) in [
        (CHAT, false, Some("gzip")),
        (CHAT, true, None),
        ("/api/chat", false, Some("gzip")),
        ("/api/chat", true, None),
    ] {
        let body = chat("llama3.2", stream);
        let mut reader = connect(gateway.addr);
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: gw\r\nAccept-Encoding: gzip\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        reader.stream().write_all(request.as_bytes()).unwrap();
        let answer = reader.answer(false, Instant::now() + Duration::from_secs(10)).unwrap();
        assert_eq!((answer.status, answer.field("content-encoding")), (200, coded), "{path} stream {stream}");
        let kind = answer.field("content-type").unwrap();
        let wanted = match (path, stream) {
            (CHAT, true) => "text/event-stream",
            (_, true) => "application/x-ndjson",
            _ => "application/json",
        };
        assert!(kind.starts_with(wanted), "{path} stream {stream}: {kind}");
        let text = if coded.is_some() { unpacked(&answer) } else { answer.body };
        assert!(String::from_utf8_lossy(&text).contains("\"content\":"));
    }
    let small = site("gzip = true\ngzip_bytes_min = 2000", sized);
    let get = |size| wants(small.gateway.addr, "POST", CHAT, "Accept-Encoding: gzip\r\n", size);
    let around = get(100).body.len() - 100;
    for (size, coded) in [(1999, None), (2000, Some("gzip")), (2001, Some("gzip"))] {
        assert_eq!(get(size - around).field("content-encoding"), coded, "{size} bytes");
    }
    assert_gauges_zero(&gateway);
}

#[test]
fn the_gateways_own_answers_and_head_are_alike() {
    let site = site("gzip = true\ngzip_bytes_min = 1", echo);
    let accepts = "Accept-Encoding: gzip\r\n";
    for path in ["/v1/models", "/model/info", "/health"] {
        let plain = wants(site.gateway.addr, "GET", path, "", 0);
        let got = wants(site.gateway.addr, "GET", path, accepts, 0);
        let head = wants(site.gateway.addr, "HEAD", path, accepts, 0);
        assert_eq!((got.status, head.status), (200, 200), "{path}");
        assert!(head.body.is_empty());
        for name in ["content-encoding", "content-length", "content-type", "vary"] {
            assert_eq!(head.field(name), got.field(name), "{path} {name}");
        }
        if got.field("content-encoding") == Some("gzip") {
            assert_eq!(unpacked(&got), plain.body, "{path}");
        }
    }
    let models = wants(site.gateway.addr, "GET", "/model/info", accepts, 0);
    assert_eq!(models.field("content-encoding"), Some("gzip"), "worth it here");
}

#[test]
fn nothing_is_compressed_unless_the_operator_says_so() {
    let site = site("", sized);
    for size in [100, 5000, 100_000] {
        let answer = wants(site.gateway.addr, "POST", CHAT, "Accept-Encoding: gzip\r\n", size);
        assert_eq!((answer.status, answer.field("content-encoding")), (200, None), "{size}");
    }
}
