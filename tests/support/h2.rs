//! A raw HTTP/2 client: every frame by hand where a test wants that, and whole requests where it does not.
//!
//! It speaks over anything that reads and writes (`Client::over`), so that TLS can be put under it, or by prior
//! knowledge over TCP (`Client::connect`). Nothing is checked before it is sent: a test may send what no
//! client would. What comes is decoded strictly. Housekeeping (acknowledging SETTINGS and PING, widening the windows)
//! is done while events are read, unless `polite` is off; what is sent with `send_body` obeys the server's windows.

mod hpack;

pub use hpack::{Decoder, Field, encode};

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long `get` and `post` wait.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long one read may block: deadlines are looked at as often.
const TICK: Duration = Duration::from_millis(10);
/// How long one write may block: a server that reads no more is not waited for.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// What a client sends first.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types and flags of RFC 9113 section 6.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn number(&self, at: usize) -> Result<u32, Gone> {
        let bytes = self.payload.get(at..at + 4).ok_or_else(|| Gone::Wrong(format!("short: {self:?}")))?;
        Ok(u32::from_be_bytes(bytes.try_into().unwrap()))
    }
}

/// What came, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A header block, its CONTINUATION frames included: the head of an answer, or trailers.
    Head {
        stream: u32,
        fields: Vec<Field>,
        end: bool,
    },
    Data {
        stream: u32,
        bytes: Vec<u8>,
        end: bool,
    },
    Reset {
        stream: u32,
        code: u32,
    },
    GoAway {
        last: u32,
        code: u32,
    },
    Settings(Vec<(u16, u32)>),
    SettingsAck,
    Ping {
        ack: bool,
        data: Vec<u8>,
    },
    Window {
        stream: u32,
        by: u32,
    },
    Other(Frame),
}

/// Why nothing more came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gone {
    /// The server closed the connection, after whole frames.
    Closed,
    /// Reading failed, most often because the server reset the connection.
    Io(ErrorKind),
    /// The deadline passed; the connection may be used further.
    Deadline,
    /// The server broke the protocol.
    Wrong(String),
}

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its status; 0 if no head came.
    pub status: u16,
    /// Its fields, without `:status`.
    pub fields: Vec<Field>,
    pub trailers: Vec<Field>,
    pub body: Vec<u8>,
    /// The code of the RST_STREAM that cut it off, if one did.
    pub reset: Option<u32>,
    /// Whether END_STREAM came.
    pub ended: bool,
}

impl Answer {
    /// The value of its first field of this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection.
pub struct Client<S> {
    io: S,
    /// `:scheme` and `:authority` of requests.
    pub scheme: String,
    pub authority: String,
    /// Whether reading events acknowledges SETTINGS and PING, and gives back the windows of DATA.
    pub polite: bool,
    input: Vec<u8>,
    decoder: Decoder,
    next_stream: u32,
    /// What we may send: on the connection, on each stream (relative to the initial window), and in one frame.
    window: i64,
    windows: BTreeMap<u32, i64>,
    initial_window: i64,
    frame_max: usize,
    answers: BTreeMap<u32, Answer>,
    /// The code of the GOAWAY that came, if one did, and its last stream.
    pub goaway: Option<(u32, u32)>,
}

impl Client<TcpStream> {
    /// Connects by prior knowledge; the preface and an empty SETTINGS frame are sent.
    ///
    /// # Panics
    /// When the server does not accept.
    pub fn connect(addr: SocketAddr) -> Self {
        let mut client = Client::over(tcp(addr));
        client.authority = addr.to_string();
        client.start(&[]).expect("send the preface");
        client
    }
}

/// A TCP stream as `Client::over` needs it, or as what a TLS stream below it needs.
///
/// # Panics
/// When the server does not accept.
pub fn tcp(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("connect");
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(TICK)).unwrap();
    stream.set_write_timeout(Some(WRITE_DEADLINE)).unwrap();
    stream
}

impl<S: Read + Write> Client<S> {
    /// A client that has sent nothing yet. Reads of `io` must give up now and then with `WouldBlock` or `TimedOut`
    /// (as those of `tcp` do), or deadlines are not kept.
    pub fn over(io: S) -> Self {
        Client {
            io,
            scheme: "http".to_owned(),
            authority: "localhost".to_owned(),
            polite: true,
            input: Vec::new(),
            decoder: Decoder::default(),
            next_stream: 1,
            window: 65_535,
            windows: BTreeMap::new(),
            initial_window: 65_535,
            frame_max: 16_384,
            answers: BTreeMap::new(),
            goaway: None,
        }
    }

    /// What is below.
    pub fn io(&mut self) -> &mut S {
        &mut self.io
    }

    /// Sends the preface and SETTINGS.
    ///
    /// # Errors
    /// As the writer.
    pub fn start(&mut self, parameters: &[(u16, u32)]) -> io::Result<()> {
        self.raw(PREFACE)?;
        self.settings(parameters)
    }

    /// Any bytes.
    ///
    /// # Errors
    /// As the writer.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes)?;
        self.io.flush()
    }

    /// Any frame.
    ///
    /// # Errors
    /// As the writer.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.raw(&frame(kind, flags, stream, payload))
    }

    pub fn settings(&mut self, parameters: &[(u16, u32)]) -> io::Result<()> {
        let one = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        self.send(SETTINGS, 0, 0, &parameters.iter().flat_map(one).collect::<Vec<u8>>())
    }

    pub fn ping(&mut self, data: [u8; 8]) -> io::Result<()> {
        self.send(PING, 0, 0, &data)
    }

    pub fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    pub fn window_update(&mut self, stream: u32, by: u32) -> io::Result<()> {
        self.send(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
    }

    pub fn data(&mut self, stream: u32, bytes: &[u8], end: bool) -> io::Result<()> {
        self.send(DATA, u8::from(end), stream, bytes)
    }

    /// A header block in one frame.
    pub fn headers(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) -> io::Result<()> {
        self.send(HEADERS, END_HEADERS | u8::from(end), stream, &encode(fields.iter().copied()))
    }

    /// A header block in pieces of at most `size` bytes: HEADERS, then CONTINUATION.
    pub fn headers_in_pieces(&mut self, stream: u32, block: &[u8], size: usize, end: bool) -> io::Result<()> {
        let pieces: Vec<&[u8]> = block.chunks(size).collect();
        for (at, piece) in pieces.iter().enumerate() {
            let last = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
            let (kind, flags) = if at == 0 { (HEADERS, last | u8::from(end)) } else { (CONTINUATION, last) };
            self.send(kind, flags, stream, piece)?;
        }
        Ok(())
    }

    /// The id of a new stream; nothing is sent.
    pub fn new_stream(&mut self) -> u32 {
        self.next_stream += 2;
        self.next_stream - 2
    }

    /// The four pseudo-fields, then `fields`.
    pub fn request_fields(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<Field> {
        let pseudo = [
            (":method", method),
            (":scheme", &self.scheme),
            (":path", path),
            (":authority", &self.authority),
        ];
        pseudo.iter().chain(fields).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// Opens a stream with the head of a request; its id.
    ///
    /// # Errors
    /// As the writer.
    pub fn open(&mut self, method: &str, path: &str, fields: &[(&str, &str)], end: bool) -> io::Result<u32> {
        let stream = self.new_stream();
        let fields = self.request_fields(method, path, fields);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.headers(stream, &fields, end)?;
        Ok(stream)
    }

    /// Sends a body as the server's windows allow, and END_STREAM.
    ///
    /// # Errors
    /// Why the windows stayed shut. A stream that the server ended meanwhile is left, without an error.
    pub fn send_body(&mut self, stream: u32, mut body: &[u8], deadline: Instant) -> Result<(), Gone> {
        loop {
            if self.answers.get(&stream).is_some_and(|answer| answer.ended || answer.reset.is_some()) {
                return Ok(());
            }
            let window = self.initial_window + self.windows.get(&stream).copied().unwrap_or(0);
            let room = usize::try_from(window.min(self.window)).unwrap_or(0).min(self.frame_max);
            if room == 0 && !body.is_empty() {
                self.event(deadline)?;
                continue;
            }
            let (part, rest) = body.split_at(room.min(body.len()));
            self.data(stream, part, rest.is_empty()).map_err(|error| Gone::Io(error.kind()))?;
            self.window -= part.len() as i64;
            *self.windows.entry(stream).or_default() -= part.len() as i64;
            if rest.is_empty() {
                return Ok(());
            }
            body = rest;
        }
    }

    /// A whole request and its answer.
    ///
    /// # Panics
    /// When none comes within 10 s.
    pub fn request(&mut self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        let deadline = Instant::now() + DEADLINE;
        let stream = self.open(method, path, fields, body.is_empty()).expect("send a head");
        if !body.is_empty() {
            self.send_body(stream, body, deadline).expect("send a body");
        }
        self.answer(stream, deadline).unwrap_or_else(|gone| panic!("{method} {path}: no answer: {gone:?}"))
    }

    /// `GET path`.
    pub fn get(&mut self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    /// `POST path` with JSON.
    pub fn post(&mut self, path: &str, json: &str) -> Answer {
        let length = json.len().to_string();
        let fields = [("content-type", "application/json"), ("content-length", length.as_str())];
        self.request("POST", path, &fields, json.as_bytes())
    }

    /// Reads until this stream has ended or was reset, and takes its answer.
    ///
    /// # Errors
    /// Why it did not; what came of it stays for the next call.
    pub fn answer(&mut self, stream: u32, deadline: Instant) -> Result<Answer, Gone> {
        loop {
            if self.answers.get(&stream).is_some_and(|answer| answer.ended || answer.reset.is_some()) {
                return Ok(self.answers.remove(&stream).unwrap_or_default());
            }
            self.event(deadline)?;
        }
    }

    /// What has come of an answer so far.
    pub fn so_far(&self, stream: u32) -> Option<&Answer> {
        self.answers.get(&stream)
    }

    /// Reads until the server closes the connection: the code of its GOAWAY, if one came.
    ///
    /// # Errors
    /// `Deadline` if it stays open, `Wrong` if what it says is not HTTP/2.
    pub fn closed(&mut self, deadline: Instant) -> Result<Option<u32>, Gone> {
        loop {
            match self.event(deadline) {
                Ok(_) => {}
                Err(Gone::Closed | Gone::Io(_)) => return Ok(self.goaway.map(|(_, code)| code)),
                Err(other) => return Err(other),
            }
        }
    }

    /// The next event, which is noted in answers and windows too.
    ///
    /// # Errors
    /// Why there is none.
    pub fn event(&mut self, deadline: Instant) -> Result<Event, Gone> {
        let frame = self.frame(deadline)?;
        let event = match frame.kind {
            DATA => self.take_data(frame),
            HEADERS => self.take_head(frame, deadline)?,
            RST_STREAM => {
                let (stream, code) = (frame.stream, frame.number(0)?);
                self.answers.entry(stream).or_default().reset = Some(code);
                Event::Reset { stream, code }
            }
            SETTINGS if frame.has(ACK) => Event::SettingsAck,
            SETTINGS => self.take_settings(&frame),
            PING => Event::Ping { ack: frame.has(ACK), data: frame.payload },
            GOAWAY => {
                let (last, code) = (frame.number(0)?, frame.number(4)?);
                self.goaway = Some((last, code));
                Event::GoAway { last, code }
            }
            WINDOW_UPDATE => {
                let (stream, by) = (frame.stream, frame.number(0)?);
                let window =
                    if stream == 0 { &mut self.window } else { self.windows.entry(stream).or_default() };
                *window += i64::from(by);
                Event::Window { stream, by }
            }
            _ => Event::Other(frame),
        };
        if self.polite {
            self.be_polite(&event);
        }
        Ok(event)
    }

    /// The next frame as it came. Header blocks that are read here are lost to the decoder.
    ///
    /// # Errors
    /// Why there is none.
    pub fn frame(&mut self, deadline: Instant) -> Result<Frame, Gone> {
        loop {
            if let Some(frame) = self.whole() {
                return Ok(frame);
            }
            if Instant::now() >= deadline {
                return Err(Gone::Deadline);
            }
            let mut bytes = [0; 16_384];
            match self.io.read(&mut bytes) {
                Ok(0) if self.input.is_empty() => return Err(Gone::Closed),
                Ok(0) => return Err(Gone::Wrong("closed inside of a frame".to_owned())),
                Ok(count) => self.input.extend(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Gone::Io(error.kind())),
            }
        }
    }

    fn whole(&mut self) -> Option<Frame> {
        let [a, b, c, kind, flags, stream @ ..] = *self.input.first_chunk::<9>()?;
        let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = self.input.get(9..end)?.to_vec();
        self.input.drain(..end);
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, payload })
    }

    fn take_data(&mut self, frame: Frame) -> Event {
        let (stream, end, mut bytes) = (frame.stream, frame.has(END_STREAM), frame.payload.clone());
        if frame.has(PADDED) {
            let padding = usize::from(bytes.remove(0));
            bytes.truncate(bytes.len().saturating_sub(padding));
        }
        let answer = self.answers.entry(stream).or_default();
        answer.body.extend(&bytes);
        answer.ended |= end;
        if self.polite && !frame.payload.is_empty() {
            let by = frame.payload.len() as u32;
            let _ = self.window_update(0, by);
            if !end {
                let _ = self.window_update(stream, by);
            }
        }
        Event::Data { stream, bytes, end }
    }

    fn take_head(&mut self, first: Frame, deadline: Instant) -> Result<Event, Gone> {
        let (stream, end) = (first.stream, first.has(END_STREAM));
        let mut block = first.payload.clone();
        if first.has(PADDED) {
            let padding = usize::from(block.remove(0));
            block.truncate(block.len().saturating_sub(padding));
        }
        let mut last = first;
        while !last.has(END_HEADERS) {
            last = self.frame(deadline)?;
            if (last.kind, last.stream) != (CONTINUATION, stream) {
                return Err(Gone::Wrong(format!("inside of a header block: {last:?}")));
            }
            block.extend(&last.payload);
        }
        let fields = self.decoder.decode(&block).map_err(Gone::Wrong)?;
        let answer = self.answers.entry(stream).or_default();
        answer.ended |= end;
        match fields.split_first() {
            Some(((name, status), rest)) if name == ":status" => {
                answer.status = status.parse().map_err(|_| Gone::Wrong(format!("status {status:?}")))?;
                answer.fields = rest.to_vec();
            }
            _ => answer.trailers = fields.clone(),
        }
        Ok(Event::Head { stream, fields, end })
    }

    fn take_settings(&mut self, frame: &Frame) -> Event {
        let (mut parameters, mut rest) = (Vec::new(), &frame.payload[..]);
        while let Some(([a, b, c, d, e, f], after)) = rest.split_first_chunk() {
            parameters.push((u16::from_be_bytes([*a, *b]), u32::from_be_bytes([*c, *d, *e, *f])));
            rest = after;
        }
        for &(id, value) in &parameters {
            match id {
                4 => self.initial_window = i64::from(value),
                5 => self.frame_max = value as usize,
                _ => {}
            }
        }
        Event::Settings(parameters)
    }

    /// A server that has closed is noticed by the next read, so failures to write are no failures here.
    fn be_polite(&mut self, event: &Event) {
        let _ = match event {
            Event::Settings(_) => self.send(SETTINGS, ACK, 0, b""),
            Event::Ping { ack: false, data } => self.send(PING, ACK, 0, data),
            _ => Ok(()),
        };
    }
}

/// The bytes of a frame; the length is the payload's.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}
