//! Frames that are well formed one by one and make no sense together: whatever state they lead to, nothing panics, hangs
//! or stays. A failure is repeated by its seed; `CORELANE_H2_NOISE_SEEDS` (default 100) is how many are tried.

use std::time::{Duration, Instant};

use corelane::sim::Options;

use super::edge::{Edge, H2, metric};
use super::support::fleet::{chat, model};
use super::support::h2::{
    ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    encode, frame,
};
use super::support::lane::Random;
use super::{CHAT, ask};

/// Frames of a connection.
const FRAMES: usize = 250;
/// Streams that frames are about: few, so that they meet.
const STREAMS: usize = 12;

/// The frames of one connection.
struct Noise {
    random: Random,
    next: u32,
}

impl Noise {
    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.below(all.len())]
    }

    /// What ends the connection at once is rare, so that there is time for the rest.
    fn is_rare(&mut self) -> bool {
        self.random.below(60) == 0
    }

    /// A stream that is open or was; rarely one that will be.
    fn stream(&mut self) -> u32 {
        let back = u32::try_from(self.random.below(STREAMS)).unwrap() * 2;
        let newest = if self.is_rare() { self.next + 4 } else { self.next.saturating_sub(2) };
        newest.saturating_sub(back).max(1)
    }

    fn number(&mut self) -> u32 {
        let any = u32::try_from(self.random.below(1 << 31)).unwrap();
        self.one_of(&[
            0,
            1,
            97,
            4096,
            16_384,
            65_535,
            65_536,
            1 << 20,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            any,
        ])
    }

    fn open(&mut self) -> Vec<u8> {
        let stream = self.next;
        self.next += 2;
        let path = self.one_of(&[CHAT, "/api/chat", "/health", "/nothing", "/v1/models", "*"]);
        let method = self.one_of(&["POST", "POST", "GET", "HEAD", "OPTIONS", "CONNECT"]);
        let model = self.one_of(&["llama3.2", "hang", "cut", "quick", "unheard-of"]);
        let body = chat(model, self.random.below(2) == 0);
        let length = self.one_of(&[body.len(), body.len(), body.len() + 1, 0]).to_string();
        let mut fields =
            vec![(":method", method), (":scheme", "https"), (":path", path), (":authority", "localhost")];
        match self.random.below(6) {
            0 => fields.push(("content-length", &length)),
            1 => fields.push(("connection", "close")),
            2 => fields.push(("te", "trailers")),
            _ => {}
        }
        if self.random.below(20) == 0 && stream > 1 {
            fields.remove(self.random.below(4));
        }
        let end = if method == "POST" { 0 } else { u8::from(self.random.below(8) != 0) };
        let mut frames = frame(HEADERS, END_HEADERS | end, stream, &encode(fields));
        if end == 0 && self.random.below(4) != 0 {
            frames.extend(frame(DATA, u8::from(self.random.below(8) != 0), stream, body.as_bytes()));
        }
        frames
    }

    fn frame(&mut self) -> Vec<u8> {
        let stream = self.stream();
        match self.random.below(24) {
            0..=9 => self.open(),
            10..=12 => frame(RST_STREAM, 0, stream, &self.number().to_be_bytes()),
            13..=15 => {
                let stream = self.one_of(&[0, stream, stream]);
                let by = if self.is_rare() { self.number() } else { self.number().min(20_000) };
                frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
            }
            16 | 17 => {
                let id = self.one_of(&[1_u16, 3, 4, 4, 4, 5, 6, 8, 99]);
                let value = if id == 5 { self.one_of(&[16_384, 20_000, 0xff_ffff]) } else { self.number() };
                frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            }
            18 => {
                frame(PING, self.one_of(&[0, 0, ACK]), 0, &[0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54])
            }
            19 => frame(PRIORITY, 0, stream, &[&self.stream().to_be_bytes()[..], &[9]].concat()),
            20 => frame(HEADERS, END_HEADERS | END_STREAM, stream, &encode([("x-end", "1")])),
            21 => frame(DATA, self.one_of(&[0, END_STREAM]), stream, &[b' '; 900]),
            22 => frame(DATA, PADDED, stream, &[&[9][..], &[b' '; 40]].concat()),
            _ if !self.is_rare() => self.open(),
            _ => frame(7, 0, 0, &[&self.stream().to_be_bytes()[..], &[0; 4]].concat()),
        }
    }
}

/// One connection of noise, which may end in any way; the frames it took.
fn make(client: &mut H2, seed: u64) -> usize {
    let mut noise = Noise { random: Random(seed), next: 1 };
    client.polite = noise.random.below(3) != 0;
    client.io().sock.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let window = noise.number().min(0x7fff_ffff);
    client.start(&[(4, window)]).unwrap();
    for at in 0..FRAMES {
        let frame = noise.frame();
        if client.raw(&frame).is_err() {
            return at;
        }
        if noise.random.below(12) == 0 {
            while client.event(Instant::now() + Duration::from_micros(300)).is_ok() {}
        }
    }
    FRAMES
}

#[test]
fn well_formed_noise() {
    let seeds =
        std::env::var("CORELANE_H2_NOISE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let rest = model("hang", &["e0"], "upstream_model = \"fault-hang\"")
        + &model("cut", &["e0"], "upstream_model = \"fault-cut\"")
        + &model("llama3.2", &["e0"], "")
        + &model("quick", &["e0"], "upstream_model = \"llama3.2\"");
    let options =
        Options { slots: 4096, tokens: 30, token_interval: Duration::from_millis(1), ..Options::default() };
    let edge = Edge::start(vec![options], "write_timeout = \"2s\"", &rest);
    let (mut clean, mut sent) = (edge.connect(), 0);
    for seed in 0..seeds {
        let mut client = edge.shaken();
        sent += make(&mut client, seed);
        drop(client);
        let panics = metric(&edge.fleet.gateway, "corelane_task_panics_total");
        assert_eq!(panics, 0.0, "seed {seed}:\n{}", edge.fleet.gateway.log());
        if let Err(what) = ask(&mut clean) {
            panic!("seed {seed}: the clean client met {what}\n{}", edge.fleet.gateway.log());
        }
    }
    println!("{seeds} connections took {sent} frames of {}", seeds * FRAMES as u64);
    drop(clean);
    edge.fleet.assert_quiet();
}
