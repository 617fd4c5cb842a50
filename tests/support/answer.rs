//! A strict reader of HTTP/1.1 answers, as a suspicious client would write it.
//!
//! It tells an answer that is whole from one that was cut, and refuses what RFC 9112 forbids a server
//! to send: two lengths, a length with a coding, bare LF, chunk lines that are not hex CRLF.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A whole final answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Fields in order, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The content, chunks joined.
    pub body: Vec<u8>,
    /// The 1xx answers that came before.
    pub interim: Vec<u16>,
}

impl Answer {
    /// The first field of this (lower case) name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Why there is no whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The deadline passed before the first byte; the connection is open.
    Silent,
    /// The connection was closed before the first byte.
    Closed,
    /// The answer began and then the connection was closed, or nothing more came.
    Broken(String),
    /// The answer breaks the rules.
    Malformed(String),
}

/// What became of a connection that nothing more was asked on.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// Closed or reset.
    Closed,
    /// Still open at the deadline.
    Open,
    /// Bytes nobody asked for.
    Bytes(Vec<u8>),
}

/// The reading half of a client connection, with the bytes read ahead.
pub struct Reader {
    stream: TcpStream,
    ahead: Vec<u8>,
}

/// Why a read ended without bytes.
enum Stop {
    Closed,
    Late,
}

impl Reader {
    /// Reads from this connection.
    pub fn new(stream: TcpStream) -> Reader {
        Reader { stream, ahead: Vec::new() }
    }

    /// The connection itself, for writing.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads interim answers and the final one.
    ///
    /// # Errors
    /// `Trouble` says what came instead.
    pub fn answer(&mut self, to_head: bool, deadline: Instant) -> Result<Answer, Trouble> {
        let mut interim = Vec::new();
        loop {
            let mut answer = self.head(deadline)?;
            if (100..200).contains(&answer.status) {
                interim.push(answer.status);
                continue;
            }
            answer.interim = interim;
            if !to_head && answer.status != 204 && answer.status != 304 {
                self.content(&mut answer, deadline)?;
            }
            return Ok(answer);
        }
    }

    /// Reads one head, interim or final, without content.
    ///
    /// # Errors
    /// `Trouble` says what came instead.
    pub fn head(&mut self, deadline: Instant) -> Result<Answer, Trouble> {
        let end = loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                break end;
            }
            if self.ahead.len() > 1 << 20 {
                return Err(Trouble::Malformed("a head over 1 MiB".into()));
            }
            if let Err(stop) = self.more(deadline) {
                return Err(self.without_head(&stop));
            }
        };
        let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
        parse_head(&head[..end]).map_err(Trouble::Malformed)
    }

    /// Whether the peer closes the connection within this time, sending nothing more.
    pub fn ending(&mut self, wait: Duration) -> Ending {
        if self.ahead.is_empty() {
            match self.more(Instant::now() + wait) {
                Err(Stop::Closed) => return Ending::Closed,
                Err(Stop::Late) => return Ending::Open,
                Ok(()) => {}
            }
        }
        Ending::Bytes(std::mem::take(&mut self.ahead))
    }

    fn without_head(&self, stop: &Stop) -> Trouble {
        match (stop, self.ahead.is_empty()) {
            (Stop::Closed, true) => Trouble::Closed,
            (Stop::Late, true) => Trouble::Silent,
            _ if !self.ahead.starts_with(b"HTTP/1.1 ") => {
                Trouble::Malformed(format!("not an answer: {}", show(&self.ahead)))
            }
            _ => Trouble::Broken("cut within the head".into()),
        }
    }

    fn content(&mut self, answer: &mut Answer, deadline: Instant) -> Result<(), Trouble> {
        let coding = answer.field("transfer-encoding").map(str::to_owned);
        let length = answer.field("content-length").map(str::to_owned);
        match (coding, length) {
            (Some(_), Some(_)) => Err(Trouble::Malformed("a length and a coding".into())),
            (Some(coding), None) if coding == "chunked" => self.chunks(&mut answer.body, deadline),
            (Some(coding), None) => Err(Trouble::Malformed(format!("coding {coding:?}"))),
            (None, Some(length)) => {
                let bad = length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit());
                let count = length.parse::<usize>().ok().filter(|_| !bad);
                let count = count.ok_or_else(|| Trouble::Malformed(format!("length {length:?}")))?;
                answer.body = self.exactly(count, deadline)?;
                Ok(())
            }
            (None, None) => loop {
                match self.more(deadline) {
                    Ok(()) => {}
                    Err(Stop::Closed) => {
                        answer.body = std::mem::take(&mut self.ahead);
                        return Ok(());
                    }
                    Err(Stop::Late) => return Err(Trouble::Broken("content without an end".into())),
                }
            },
        }
    }

    fn chunks(&mut self, body: &mut Vec<u8>, deadline: Instant) -> Result<(), Trouble> {
        loop {
            let line = self.line(deadline)?;
            let size = std::str::from_utf8(&line).ok().filter(|l| l.bytes().all(|b| b.is_ascii_hexdigit()));
            let size = size.and_then(|l| usize::from_str_radix(l, 16).ok());
            let size = size.ok_or_else(|| Trouble::Malformed(format!("chunk line {}", show(&line))))?;
            if size == 0 {
                while !self.line(deadline)?.is_empty() {}
                return Ok(());
            }
            body.extend(self.exactly(size, deadline)?);
            if !self.line(deadline)?.is_empty() {
                return Err(Trouble::Malformed("bytes behind a chunk".into()));
            }
        }
    }

    /// A line without its CRLF.
    fn line(&mut self, deadline: Instant) -> Result<Vec<u8>, Trouble> {
        loop {
            if let Some(end) = find(&self.ahead, b"\n") {
                let line: Vec<u8> = self.ahead.drain(..=end).collect();
                let bare = || Trouble::Malformed("bare LF in a chunk line".into());
                return line.strip_suffix(b"\r\n").map(<[u8]>::to_vec).ok_or_else(bare);
            }
            self.more(deadline).map_err(|_| Trouble::Broken("cut between chunks".into()))?;
        }
    }

    fn exactly(&mut self, count: usize, deadline: Instant) -> Result<Vec<u8>, Trouble> {
        while self.ahead.len() < count {
            self.more(deadline).map_err(|_| Trouble::Broken("cut within the content".into()))?;
        }
        Ok(self.ahead.drain(..count).collect())
    }

    fn more(&mut self, deadline: Instant) -> Result<(), Stop> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Stop::Late);
            }
            let _ = self.stream.set_read_timeout(Some(left));
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Stop::Closed),
                Ok(count) => {
                    self.ahead.extend_from_slice(&buffer[..count]);
                    return Ok(());
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(Stop::Late);
                }
                Err(_) => return Err(Stop::Closed),
            }
        }
    }
}

/// The status line and fields, without the last CRLFs.
fn parse_head(head: &[u8]) -> Result<Answer, String> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| format!("status line {status_line:?}"))?;
    if text.replace("\r\n", "").contains(|c: char| c.is_control() && c != '\t') {
        return Err(format!("control characters in {text:?}"));
    }
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("field line {line:?}"))?;
        if name.is_empty() || name.contains([' ', '\t']) {
            return Err(format!("field name {name:?}"));
        }
        let name = name.to_ascii_lowercase();
        let single = ["content-length", "transfer-encoding"].contains(&name.as_str());
        if single && fields.iter().any(|(n, _)| *n == name) {
            return Err(format!("two {name}"));
        }
        fields.push((name, value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok(Answer { status, fields, body: Vec::new(), interim: Vec::new() })
}

/// The first place of `needle`.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w == needle)
}

/// Bytes for a message, at most 120 of them.
pub fn show(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(120)];
    format!("\"{}\"{}", cut.escape_ascii(), if cut.len() < bytes.len() { "…" } else { "" })
}
