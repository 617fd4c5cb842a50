//! The protocol of Redis: commands to bytes, bytes to replies (RESP3 and RESP2, github.com/redis/redis-specifications).
//!
//! [`Scanner`] finds the end of a reply in bytes that come in pieces and keeps every bound of [`Limits`];
//! [`Version::decode`] then reads the whole reply with the `redis-protocol` crate, as ranges of the bytes: nothing is
//! copied. The scanner stands first because that decoder knows no bounds (it recurses as deep as it is told), reads a
//! reply from its beginning with every piece, and does not look at what stands behind a bulk. Two readers must agree on
//! the length of a reply, so that an answer is never taken for another one's.
//!
//! Refused, because nobody asks for them: pushes, attributes, and strings and arrays without a length. Whatever is
//! refused, the connection cannot be used any more. Cost: one look at each line; bulks are stepped over.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use redis_protocol::resp2::decode as resp2;
use redis_protocol::resp2::types::RangeFrame as Frame2;
use redis_protocol::resp3::decode::complete as resp3;
use redis_protocol::resp3::types::RangeFrame as Frame3;

/// Slots of a cluster.
pub const SLOTS: u16 = 16_384;

/// What a reply may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Arrays within arrays.
    pub depth_max: usize,
    /// Values in all, arrays included.
    pub elements_max: usize,
    /// Bytes of one bulk.
    pub bulk_bytes_max: usize,
    /// Bytes of a line: a simple string, an error, a length.
    pub line_bytes_max: usize,
    /// Bytes in all.
    pub reply_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth_max: 16,
            elements_max: 65_536,
            bulk_bytes_max: 64 << 20,
            line_bytes_max: 64 << 10,
            reply_bytes_max: (64 << 20) + (1 << 20),
        }
    }
}

/// Why bytes are no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A first byte that no reply has, or one that nobody asked for.
    Kind,
    /// A push: nobody has subscribed.
    Push,
    /// A length that is no number, or below what it may be.
    Length,
    /// A line without its end, or longer than it may be.
    Line,
    /// Bytes behind a bulk that do not end it.
    End,
    /// Deeper than it may be.
    Deep,
    /// More values than there may be.
    Many,
    /// Longer than it may be.
    Long,
    /// A value that the decoder refuses, or reads as longer or shorter.
    Value,
}

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Kind => "a reply of no known kind",
            Self::Push => "a push that nobody asked for",
            Self::Length => "a reply with a wrong length",
            Self::Line => "a line without its end",
            Self::End => "a string without its end",
            Self::Deep => "a reply that is too deep",
            Self::Many => "a reply of too many values",
            Self::Long => "a reply that is too long",
            Self::Value => "a value that makes no sense",
        })
    }
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Nothing there.
    Nil,
    /// A truth value; RESP3 only.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number; RESP3 only.
    Double(f64),
    /// A short text, such as `OK`; a number beyond 64 bits as well.
    Text(String),
    /// A string of any bytes, a view of the bytes that came.
    Bytes(Bytes),
    /// Values in their order.
    Array(Vec<Reply>),
    /// Pairs in their order; RESP3 only.
    Map(Vec<(Reply, Reply)>),
    /// The server's error, such as `WRONGTYPE …`.
    Error(String),
}

impl Reply {
    /// A string's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Text(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// A whole number, also one written as a string.
    #[must_use]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            other => std::str::from_utf8(other.as_bytes()?).ok()?.parse().ok(),
        }
    }

    /// Values in their order.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Reply]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// Whether it is `OK`.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Text(text) if text == "OK")
    }

    /// The first word of an error, such as `WRONGTYPE`.
    #[must_use]
    pub fn error_code(&self) -> Option<&str> {
        match self {
            Self::Error(text) => text.split(' ').next(),
            _ => None,
        }
    }
}

/// Which version of the protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Servers before 6.
    Resp2,
    /// What we ask for.
    Resp3,
}

impl Version {
    /// Reads `whole`, which [`Scanner::scan`] has found to be one reply.
    ///
    /// # Errors
    /// The decoder refuses it, or does not see its end where the scanner did.
    pub fn decode(self, whole: &Bytes) -> Result<Reply, Broken> {
        let read =
            match self {
                Self::Resp2 => resp2::decode_range(whole)
                    .map(|read| read.map(|(frame, end)| (reply2(frame, whole), end))),
                Self::Resp3 => resp3::decode_range(whole)
                    .map(|read| read.map(|(frame, end)| (reply3(frame, whole), end))),
            };
        match read {
            Ok(Some((reply, end))) if end == whole.len() => reply,
            _ => Err(Broken::Value),
        }
    }
}

fn reply2(frame: Frame2, whole: &Bytes) -> Result<Reply, Broken> {
    Ok(match frame {
        Frame2::SimpleString(range) => Reply::Text(text(whole, range)?),
        Frame2::Error(range) => Reply::Error(text(whole, range)?),
        Frame2::Integer(number) => Reply::Int(number),
        Frame2::BulkString(range) => Reply::Bytes(part(whole, range)?),
        Frame2::Array(values) => {
            Reply::Array(values.into_iter().map(|value| reply2(value, whole)).collect::<Result<_, _>>()?)
        }
        Frame2::Null => Reply::Nil,
    })
}

fn reply3(frame: Frame3, whole: &Bytes) -> Result<Reply, Broken> {
    let all = |values: Vec<Frame3>| {
        values.into_iter().map(|value| reply3(value, whole)).collect::<Result<Vec<Reply>, Broken>>()
    };
    Ok(match frame {
        Frame3::BlobString { data, .. } | Frame3::VerbatimString { data, .. } => {
            Reply::Bytes(part(whole, data)?)
        }
        Frame3::BlobError { data, .. } | Frame3::SimpleError { data, .. } => Reply::Error(text(whole, data)?),
        Frame3::SimpleString { data, .. } | Frame3::BigNumber { data, .. } => Reply::Text(text(whole, data)?),
        Frame3::Boolean { data, .. } => Reply::Bool(data),
        Frame3::Null => Reply::Nil,
        Frame3::Number { data, .. } => Reply::Int(data),
        Frame3::Double { data, .. } => Reply::Double(data),
        Frame3::Array { data, .. } => Reply::Array(all(data)?),
        Frame3::Set { data, .. } => Reply::Array(all(data.into_iter().collect())?),
        Frame3::Map { data, .. } => {
            let pair = |(key, value)| Ok((reply3(key, whole)?, reply3(value, whole)?));
            // The decoder puts the last pair first.
            Reply::Map(data.into_iter().rev().map(pair).collect::<Result<_, _>>()?)
        }
        Frame3::Push { .. } | Frame3::Hello { .. } | Frame3::ChunkedString(_) => return Err(Broken::Kind),
    })
}

fn part(whole: &Bytes, (start, end): (usize, usize)) -> Result<Bytes, Broken> {
    if start > end || end > whole.len() {
        return Err(Broken::Value); // `slice` would panic
    }
    Ok(whole.slice(start..end))
}

fn text(whole: &Bytes, range: (usize, usize)) -> Result<String, Broken> {
    part(whole, range).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Finds the end of replies, one after the other.
#[derive(Debug, Clone)]
pub struct Scanner {
    limits: Limits,
    version: Version,
    /// Where the next value of the reply begins.
    at: usize,
    /// Where the search for the end of its line goes on.
    searched: usize,
    /// Values that are still to come, by depth.
    open: Vec<usize>,
    /// Values that arrays have announced.
    elements: usize,
}

/// What a line says of the bytes behind it.
enum Line {
    /// It is a whole value.
    Value,
    /// So many bytes and an end of line follow.
    Bulk(usize),
    /// So many values follow.
    Array(usize),
}

impl Scanner {
    /// For replies of a connection that speaks `version`.
    #[must_use]
    pub fn new(version: Version, limits: Limits) -> Self {
        Self { limits, version, at: 0, searched: 0, open: Vec::new(), elements: 0 }
    }

    /// Goes on where it stood in `bytes`, which begin with a reply. `Some`: the reply's length; the next call is for
    /// the next reply.
    ///
    /// # Errors
    /// The bytes are no reply, or one beyond the bounds. What follows makes no sense.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, Broken> {
        loop {
            let Some((line, end)) = self.line(bytes)? else { return Ok(None) };
            let next = match line {
                Line::Value => end,
                Line::Array(count) => {
                    if count > 0 {
                        if self.open.len() >= self.limits.depth_max {
                            return Err(Broken::Deep);
                        }
                        self.elements = self.elements.saturating_add(count);
                        if self.elements >= self.limits.elements_max {
                            return Err(Broken::Many); // with the reply itself
                        }
                        self.open.push(count);
                        self.step(end)?;
                        continue;
                    }
                    end
                }
                Line::Bulk(length) => {
                    let next = end.saturating_add(length).saturating_add(2);
                    if next > self.limits.reply_bytes_max {
                        return Err(Broken::Long);
                    }
                    let Some(tail) = bytes.get(next - 2..next) else {
                        return Ok(None); // the line is read again, which `searched` makes short
                    };
                    if tail != b"\r\n" {
                        return Err(Broken::End);
                    }
                    next
                }
            };
            self.step(next)?;
            if self.close() {
                let length = self.at;
                (self.at, self.searched, self.elements) = (0, 0, 0);
                return Ok(Some(length));
            }
        }
    }

    fn step(&mut self, to: usize) -> Result<(), Broken> {
        (self.at, self.searched) = (to, to);
        if to > self.limits.reply_bytes_max { Err(Broken::Long) } else { Ok(()) }
    }

    /// Counts a value; whether it was the last one.
    fn close(&mut self) -> bool {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }

    /// The line at `at`, and where it ends.
    fn line(&mut self, bytes: &[u8]) -> Result<Option<(Line, usize)>, Broken> {
        let Some(&kind) = bytes.get(self.at) else { return Ok(None) };
        if !self.known(kind) {
            return Err(if kind == b'>' { Broken::Push } else { Broken::Kind });
        }
        let from = self.searched.max(self.at + 1);
        let rest = bytes.get(from..).unwrap_or_default();
        let Some(found) = memchr::memchr(b'\r', rest) else {
            self.searched = from + rest.len();
            return if self.searched - self.at > self.limits.line_bytes_max {
                Err(Broken::Line)
            } else {
                Ok(None)
            };
        };
        let end = from + found;
        self.searched = end;
        if end - self.at > self.limits.line_bytes_max {
            return Err(Broken::Line);
        }
        match bytes.get(end + 1) {
            None => return Ok(None),
            Some(b'\n') => {}
            Some(_) => return Err(Broken::Line),
        }
        let content = bytes.get(self.at + 1..end).unwrap_or_default();
        Ok(Some((self.measure(kind, content)?, end + 2)))
    }

    fn known(&self, kind: u8) -> bool {
        b"+-:$*".contains(&kind) || (self.version == Version::Resp3 && b"_#,(!=%~".contains(&kind))
    }

    fn measure(&self, kind: u8, content: &[u8]) -> Result<Line, Broken> {
        let nil = self.version == Version::Resp2 && content == b"-1";
        match kind {
            b'$' | b'*' if nil => Ok(Line::Value),
            b'_' if !content.is_empty() => Err(Broken::Value),
            b'$' | b'!' | b'=' => match length(content)? {
                length if length > self.limits.bulk_bytes_max => Err(Broken::Long),
                length if kind == b'=' && length < 4 => Err(Broken::Length),
                length => Ok(Line::Bulk(length)),
            },
            b'*' | b'~' => Ok(Line::Array(length(content)?)),
            b'%' => length(content)?.checked_mul(2).map(Line::Array).ok_or(Broken::Length),
            _ => Ok(Line::Value),
        }
    }
}

/// Digits alone: what a server writes.
fn length(content: &[u8]) -> Result<usize, Broken> {
    if content.is_empty() || content.len() > 10 || !content.iter().all(u8::is_ascii_digit) {
        return Err(Broken::Length);
    }
    Ok(content.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

/// One command: a name, then keys and other arguments, in the order in which the server wants them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    arguments: usize,
    body: Vec<u8>,
    key: Option<Range<usize>>,
}

impl Command {
    /// `name` without arguments.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { arguments: 0, body: Vec::with_capacity(64), key: None }.arg(name)
    }

    /// One more argument, any bytes.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        let argument = argument.as_ref();
        head(&mut self.body, b'$', argument.len());
        self.body.extend_from_slice(argument);
        self.body.extend_from_slice(b"\r\n");
        self.arguments += 1;
        self
    }

    /// One more argument: a key. The first one says which server of a cluster is asked.
    #[must_use]
    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        let key = key.as_ref();
        let mut this = self.arg(key);
        let end = this.body.len() - 2;
        this.key.get_or_insert(end - key.len()..end);
        this
    }

    /// One more argument: a number.
    #[must_use]
    pub fn number(self, number: i64) -> Self {
        self.arg(number.to_string())
    }

    /// Bytes it has on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.body.len() + 3 + digits(self.arguments)
    }

    /// Appends it to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        head(out, b'*', self.arguments);
        out.extend_from_slice(&self.body);
    }

    /// The slot of its first key (Redis Cluster specification, "key distribution model").
    #[must_use]
    pub fn slot(&self) -> Option<u16> {
        let key = self.body.get(self.key.clone()?)?;
        Some(redis_protocol::redis_keyslot(key) % SLOTS)
    }
}

fn head(out: &mut Vec<u8>, kind: u8, count: usize) {
    out.push(kind);
    let mut scale = 10usize.pow(u32::try_from(digits(count) - 1).unwrap_or(0));
    while scale > 0 {
        out.push(b'0' + u8::try_from(count / scale % 10).unwrap_or(0));
        scale /= 10;
    }
    out.extend_from_slice(b"\r\n");
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests;
