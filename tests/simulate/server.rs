//! A simulated endpoint: what it does with connections and requests, well or under a fault.
//!
//! An answer is a list of pieces with times, cut anywhere (inside of chunk lines too), and an end. What was put on the wire is
//! kept beside it ([`Given`]), so that what reaches the client can be compared.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::clock::{Clock, Random};
use super::ledger::{Ledger, Record};

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// No connection.
    Refuse,
    /// Packets get lost: connecting never ends.
    Silent,
    /// It takes requests and says nothing.
    Hang,
    /// It closes the connection before it answers.
    Reset,
    Error500,
    /// 503, with or without Retry-After in seconds.
    Busy(u64),
    /// It has no such model.
    Missing,
    /// It knows no such key.
    Denied,
    /// It ends amid an answer.
    Cut,
    /// It falls silent amid an answer.
    Stall,
    Slow,
    /// The process is gone, with all its connections.
    Dead,
}

impl Fault {
    pub const ALL: [Self; 12] = [
        Self::Refuse,
        Self::Silent,
        Self::Hang,
        Self::Reset,
        Self::Error500,
        Self::Busy(0),
        Self::Missing,
        Self::Denied,
        Self::Cut,
        Self::Stall,
        Self::Slow,
        Self::Dead,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "no fault",
            Self::Refuse => "fault: refuse",
            Self::Silent => "fault: silent",
            Self::Hang => "fault: hang",
            Self::Reset => "fault: reset",
            Self::Error500 => "fault: 500",
            Self::Busy(0) => "fault: 503",
            Self::Busy(_) => "fault: 503 with Retry-After",
            Self::Missing => "fault: 404 of a model",
            Self::Denied => "fault: 401",
            Self::Cut => "fault: cut",
            Self::Stall => "fault: stall",
            Self::Slow => "fault: slow",
            Self::Dead => "fault: dead",
        }
    }
}

/// What is special about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    Good,
    /// Every endpoint answers 400.
    Bad,
    /// Too long for models that have `context_window_fallbacks`.
    Long,
    /// Takes the connection down, wherever it goes.
    Poison,
}

/// A request as it arrives at an endpoint.
pub struct Sent<'a> {
    pub record: &'a Rc<Record>,
    pub nature: Nature,
    pub stream: bool,
    /// The endpoint's name for the model.
    pub model: &'a str,
    /// The model is too small for long requests.
    pub small: bool,
    /// A short whole answer.
    pub quick: bool,
}

/// The body that an endpoint has sent, or would have.
#[derive(Default)]
pub struct Given {
    /// All of it, up to where a graceful end came too early.
    pub body: Vec<u8>,
    /// It was cut where no framing shows it.
    pub cut_unseen: bool,
}

/// Times of a good answer, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    pub first_us: u64,
    pub gap_us: u64,
    pub events: u64,
}

pub struct Server {
    pub index: usize,
    pub service: Service,
    pub fault: Cell<Fault>,
    /// Requests on it, by its own count.
    pub active: Cell<u32>,
    /// How often it has died.
    deaths: Cell<u64>,
    connections: Cell<u64>,
    readers: RefCell<BTreeMap<u64, Waker>>,
    clock: Rc<Clock>,
    random: Rc<Random>,
    ledger: Rc<Ledger>,
}

/// What comes behind the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The connection stays open.
    Open,
    Fin,
    Reset,
}

/// A connection to it.
pub struct Upstream {
    server: Rc<Server>,
    number: u64,
    life: u64,
    reused: bool,
    busy: bool,
    pieces: VecDeque<(u64, Vec<u8>)>,
    end: End,
    given: Rc<Given>,
}

impl Server {
    pub fn new(
        index: usize,
        service: Service,
        clock: &Rc<Clock>,
        random: &Random,
        ledger: &Rc<Ledger>,
    ) -> Rc<Self> {
        Rc::new(Self {
            index,
            service,
            fault: Cell::new(Fault::None),
            active: Cell::default(),
            deaths: Cell::default(),
            connections: Cell::default(),
            readers: RefCell::default(),
            clock: Rc::clone(clock),
            random: random.fork(),
            ledger: Rc::clone(ledger),
        })
    }

    /// Closes all connections.
    pub fn die(&self) {
        self.deaths.set(self.deaths.get() + 1);
        std::mem::take(&mut *self.readers.borrow_mut()).into_values().for_each(Waker::wake);
    }

    pub async fn connect(self: &Rc<Self>) -> io::Result<Upstream> {
        self.clock.sleep(self.random.within(50, 800)).await;
        match self.fault.get() {
            Fault::Refuse | Fault::Dead => Err(io::ErrorKind::ConnectionRefused.into()),
            Fault::Silent => std::future::pending().await,
            _ => {
                self.connections.set(self.connections.get() + 1);
                Ok(Upstream {
                    server: Rc::clone(self),
                    number: self.connections.get(),
                    life: self.deaths.get(),
                    reused: false,
                    busy: false,
                    pieces: VecDeque::new(),
                    end: End::Open,
                    given: Rc::default(),
                })
            }
        }
    }

    /// Whether a probe is answered in `limit_us`.
    pub async fn probe(&self, limit_us: u64) -> bool {
        let (us, well) = match self.fault.get() {
            Fault::Refuse | Fault::Dead => (300, false),
            Fault::Silent | Fault::Hang => (limit_us, false),
            _ => (2000, true),
        };
        self.clock.sleep(us).await;
        well
    }
}

impl Upstream {
    pub fn reused(&self) -> bool {
        self.reused
    }

    pub fn given(&self) -> Rc<Given> {
        Rc::clone(&self.given)
    }

    /// Whether it may be used again: as [`corelane::net::Upstream`] looks at it when it is taken.
    pub fn quiet(&mut self) -> bool {
        self.reused = true;
        self.is_alive() && self.pieces.is_empty() && self.end == End::Open
    }

    fn is_alive(&self) -> bool {
        self.life == self.server.deaths.get()
    }

    /// Sends a request; the answer is decided here.
    pub async fn write(&mut self, sent: &Sent<'_>) -> io::Result<()> {
        self.server.clock.sleep(self.server.random.within(10, 60)).await;
        if !self.is_alive() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let server = Rc::clone(&self.server);
        if self.reused && server.random.chance(2) {
            server.ledger.count("warm connection closed meanwhile");
            self.end = End::Fin;
            return Ok(());
        }
        self.busy = true;
        server.active.set(server.active.get() + 1);
        server.ledger.note(sent.record, "sent", server.index as u64, self.number);
        if sent.nature == Nature::Poison {
            server.ledger.killed(sent.record, !self.reused);
            self.end = End::Reset;
            if server.random.chance(30) {
                server.die();
            }
            return Ok(());
        }
        self.answer(sent);
        Ok(())
    }

    fn answer(&mut self, sent: &Sent<'_>) {
        let server = Rc::clone(&self.server);
        let random = &server.random;
        let now_us = server.clock.now_us();
        let error = |status: &str, field: &str, body: &str| {
            let length = body.len();
            format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{field}content-length: {length}\r\n\r\n{body}"
            )
        };
        let answered = match server.fault.get() {
            Fault::Hang => return,
            Fault::Reset => {
                self.end = if random.chance(50) { End::Reset } else { End::Fin };
                return;
            }
            Fault::Error500 => Some(error("500 Oops", "", r#"{"error":"out of memory"}"#)),
            Fault::Busy(0) => Some(error("503 Busy", "", r#"{"error":"loading"}"#)),
            Fault::Busy(seconds) => {
                Some(error("503 Busy", &format!("retry-after: {seconds}\r\n"), r#"{"error":"busy"}"#))
            }
            Fault::Missing => Some(error(
                "404 Not Found",
                "",
                r#"{"error":{"message":"model not found","code":"model_not_found"}}"#,
            )),
            Fault::Denied => Some(error("401 Unauthorized", "", r#"{"error":"no such key"}"#)),
            _ if sent.nature == Nature::Bad => {
                Some(error("400 Bad Request", "", r#"{"error":"no messages"}"#))
            }
            _ if sent.nature == Nature::Long && sent.small => {
                Some(error("400 Bad Request", "", r#"{"error":"prompt is too long"}"#))
            }
            _ => None,
        };
        if let Some(text) = answered {
            let at_us = now_us + random.within(200, 3000);
            self.pieces.push_back((at_us, text.into_bytes()));
            return;
        }
        self.content(sent, now_us);
    }

    /// An answer with content, on the wire.
    fn content(&mut self, sent: &Sent<'_>, now_us: u64) {
        let server = Rc::clone(&self.server);
        let (random, fault) = (&server.random, server.fault.get());
        let slow = if fault == Fault::Slow { random.within(10, 40) } else { 1 };
        let Service { first_us, gap_us, events } = server.service;
        let first_us = random.around(if sent.quick { 8000 } else { first_us }) * slow + 300;
        let parts = if sent.stream {
            stream_parts(sent, random.within(1, events), random.chance(20))
        } else {
            vec![whole_body(sent)]
        };
        let framing = match random.below(100) {
            0..12 => Framing::Close,
            12..60 if !sent.stream => Framing::Length,
            _ => Framing::Chunked,
        };
        let body = parts.concat();
        let mut wire: Vec<(u64, Vec<u8>)> = Vec::new();
        wire.push((now_us + first_us, head(framing, sent.stream, body.len()).into_bytes()));
        let head_bytes = wire[0].1.len();
        let mut at_us = now_us + first_us;
        for part in &parts {
            at_us += random.below(gap_us * 2) * slow;
            wire.push((at_us, framed(framing, part, random)));
        }
        if framing == Framing::Chunked {
            wire.push((at_us, b"0\r\n\r\n".to_vec()));
        }
        self.end = if framing == Framing::Close { End::Fin } else { End::Open };
        let bytes: usize = wire.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut given = Given { body, cut_unseen: false };
        let mut keep = bytes;
        if matches!(fault, Fault::Cut | Fault::Stall) {
            keep = random.below(bytes as u64) as usize;
            self.end = match random.chance(50) {
                _ if fault == Fault::Stall => End::Open,
                true => End::Fin,
                false => End::Reset,
            };
            if framing == Framing::Close && self.end == End::Fin {
                given.body.truncate(keep.saturating_sub(head_bytes));
                given.cut_unseen = true;
            }
        }
        self.given = Rc::new(given);
        self.pieces = pieces(wire, keep, random);
    }

    /// Appends what has come to `buffer`; `Ok(0)`: the connection has ended.
    pub async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let clock = Rc::clone(&self.server.clock);
        let due_us = match (self.pieces.front(), self.end) {
            (Some((at_us, _)), _) => *at_us,
            (None, End::Open) => u64::MAX,
            (None, _) => clock.now_us() + 20,
        };
        let mut sleep = pin!(clock.sleep_until(due_us));
        let (server, number, life) = (Rc::clone(&self.server), self.number, self.life);
        poll_fn(|cx| {
            if life != server.deaths.get() || sleep.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            server.readers.borrow_mut().insert(number, cx.waker().clone());
            Poll::Pending
        })
        .await;
        if !self.is_alive() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let before = buffer.len();
        while let Some((_, piece)) = self.pieces.pop_front_if(|(at_us, _)| *at_us <= clock.now_us()) {
            buffer.extend_from_slice(&piece);
            if self.server.random.chance(30) {
                break; // the rest comes with the next read
            }
        }
        if self.pieces.is_empty() && self.end == End::Open && buffer.len() > before {
            self.rest();
        }
        match self.end {
            End::Reset if buffer.len() == before => Err(io::ErrorKind::ConnectionReset.into()),
            _ => Ok(buffer.len() - before),
        }
    }

    /// Its answer has been read.
    fn rest(&mut self) {
        if std::mem::take(&mut self.busy) {
            self.server.active.set(self.server.active.get() - 1);
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.rest();
        self.server.readers.borrow_mut().remove(&self.number);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    Close,
}

fn head(framing: Framing, stream: bool, length: usize) -> String {
    let kind = if stream { "text/event-stream" } else { "application/json" };
    let framing = match framing {
        Framing::Length => format!("content-length: {length}\r\n"),
        Framing::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
        Framing::Close => "connection: close\r\n".to_owned(),
    };
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{framing}\r\n")
}

/// One part as one or two chunks.
fn framed(framing: Framing, part: &[u8], random: &Random) -> Vec<u8> {
    if framing != Framing::Chunked {
        return part.to_vec();
    }
    let cut = if random.chance(30) { random.below(part.len() as u64) as usize } else { 0 };
    let mut out = Vec::new();
    for chunk in [&part[..cut], &part[cut..]].into_iter().filter(|chunk| !chunk.is_empty()) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The first `keep` bytes of what is sent, cut at random into what is read at once.
fn pieces(wire: Vec<(u64, Vec<u8>)>, mut keep: usize, random: &Random) -> VecDeque<(u64, Vec<u8>)> {
    let mut out = VecDeque::new();
    let mut least_us = 0;
    for (at_us, mut bytes) in wire {
        bytes.truncate(keep);
        keep -= bytes.len();
        least_us = at_us.max(least_us);
        while random.chance(25) && bytes.len() > 1 {
            let rest = bytes.split_off(random.within(1, bytes.len() as u64 - 1) as usize);
            out.push_back((least_us, std::mem::replace(&mut bytes, rest)));
            least_us += random.below(300);
        }
        if !bytes.is_empty() {
            out.push_back((least_us, bytes));
        }
    }
    out
}

fn stream_parts(sent: &Sent<'_>, words: u64, comment: bool) -> Vec<Vec<u8>> {
    let (id, model) = (sent.record.id, sent.model);
    let mut parts: Vec<String> = Vec::new();
    if comment {
        parts.push(": loading\n\n".to_owned());
    }
    for word in 0..words {
        parts.push(format!(
            "data: {{\"id\":\"r{id}\",\"model\":\"{model}\",\"choices\":[{{\"delta\":{{\"content\":\"w{word} \u{e9}\"}},\"finish_reason\":null}}]}}\n\n"
        ));
    }
    parts.push(format!(
        "data: {{\"id\":\"r{id}\",\"model\":\"{model}\",\"choices\":[{{\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n"
    ));
    parts.push("data: [DONE]\n\n".to_owned());
    parts.into_iter().map(String::into_bytes).collect()
}

fn whole_body(sent: &Sent<'_>) -> Vec<u8> {
    let (id, model) = (sent.record.id, sent.model);
    format!(
        "{{\"id\":\"r{id}\",\"model\":\"{model}\",\"choices\":[{{\"message\":{{\"content\":\"all of it\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":4}}}}"
    )
    .into_bytes()
}
