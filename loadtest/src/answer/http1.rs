//! The reader of HTTP/1.1 answers: bytes as they come in, status and content out. Allocates nothing of its own.
//!
//! It reads what a client needs and no more: status, length or chunks, and whether the connection stays. What no server may
//! send (RFC 9112: no number where a length belongs, two lengths, bytes behind a chunk) is malformed. A head
//! and a chunk line must be there whole before they are read: the caller keeps what is left for the next time.

use memchr::{memchr, memmem};

use super::Malformed;

/// Longest head, in bytes.
const HEAD_MAX: usize = 64 * 1024;
/// Longest line of a chunk or a trailer, in bytes.
const LINE_MAX: usize = 4 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Sized(u64),
    ChunkLine,
    Chunk(u64),
    ChunkEnd,
    Trailer,
    UntilClose,
    Done,
}

/// Reads one answer after the other.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    state: State,
    status: u16,
    close: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self { state: State::Head, status: 0, close: false }
    }
}

impl Reader {
    /// The status; 0 before the head is read.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether the answer is whole.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the connection cannot be used for another one.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.close
    }

    /// The connection has ended: whether the answer is whole by that.
    #[must_use]
    pub fn ends_whole(&self) -> bool {
        matches!(self.state, State::UntilClose | State::Done)
    }

    /// Reads `raw`, appends content to `body`, and returns how many bytes were used.
    ///
    /// # Errors
    /// The answer is malformed; nothing more can be read of the connection.
    pub fn feed(&mut self, raw: &[u8], body: &mut Vec<u8>) -> Result<usize, Malformed> {
        let mut used = 0;
        loop {
            let rest = raw.get(used..).unwrap_or_default();
            let step = match self.state {
                State::Head => self.head(rest)?,
                State::Sized(left) => {
                    let (taken, left) = take(rest, left, body);
                    self.state = if left == 0 { State::Done } else { State::Sized(left) };
                    Some(taken)
                }
                State::Chunk(left) => {
                    let (taken, left) = take(rest, left, body);
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    Some(taken)
                }
                State::UntilClose => {
                    body.extend_from_slice(rest);
                    return Ok(raw.len());
                }
                State::ChunkLine => self.chunk_line(rest)?,
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        self.state = State::ChunkLine;
                        Some(2)
                    }
                    [] | [b'\r'] => None,
                    _ => return Err(Malformed("bytes behind a chunk")),
                },
                State::Trailer => self.trailer(rest)?,
                State::Done => return Ok(used),
            };
            match step {
                Some(step) => used += step,
                None => return Ok(used),
            }
            if used == raw.len() && self.state != State::Done {
                return Ok(used);
            }
        }
    }

    /// A head, if it is there whole.
    fn head(&mut self, raw: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some(end) = memmem::find(raw, b"\r\n\r\n") else {
            if raw.len() > HEAD_MAX {
                return Err(Malformed("a head without end"));
            }
            return Ok(None);
        };
        let head = raw.get(..end + 2).unwrap_or_default();
        let status = match head {
            [
                b'H',
                b'T',
                b'T',
                b'P',
                b'/',
                b'1',
                b'.',
                minor @ (b'0' | b'1'),
                b' ',
                a,
                b,
                c,
                b' ' | b'\r',
                ..,
            ] if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) => {
                self.close = *minor == b'0';
                let digit = |byte: &u8| u16::from(byte - b'0');
                digit(a) * 100 + digit(b) * 10 + digit(c)
            }
            _ => return Err(Malformed("no status line")),
        };
        let lines = memchr(b'\n', head).and_then(|line| head.get(line + 1..)).unwrap_or_default();
        let framing = self.fields(lines)?;
        self.status = status;
        self.state = match framing {
            _ if (100..200).contains(&status) => State::Head,
            _ if matches!(status, 204 | 304) => State::Done,
            (true, None) => State::ChunkLine,
            (true, Some(_)) => return Err(Malformed("a length beside chunks")),
            (false, Some(0)) => State::Done,
            (false, Some(length)) => State::Sized(length),
            (false, None) => {
                self.close = true;
                State::UntilClose
            }
        };
        Ok(Some(end + 4))
    }

    /// Whether there are chunks, and the length.
    fn fields(&mut self, mut lines: &[u8]) -> Result<(bool, Option<u64>), Malformed> {
        let (mut chunked, mut length) = (false, None);
        while let Some(end) = memchr(b'\n', lines) {
            let line = lines.get(..end).unwrap_or_default();
            lines = lines.get(end + 1..).unwrap_or_default();
            let Some(colon) = memchr(b':', line) else { return Err(Malformed("a field without colon")) };
            let (name, value) = line.split_at(colon);
            let value = || value.get(1..).unwrap_or_default().trim_ascii();
            match name.len() {
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    let number = decimal(value()).ok_or(Malformed("a length that is no number"))?;
                    if length.is_some_and(|length| length != number) {
                        return Err(Malformed("two lengths"));
                    }
                    length = Some(number);
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    if !value().eq_ignore_ascii_case(b"chunked") {
                        return Err(Malformed("an unknown transfer coding"));
                    }
                    chunked = true;
                }
                10 if name.eq_ignore_ascii_case(b"connection") => {
                    let value = value();
                    self.close = value.eq_ignore_ascii_case(b"close")
                        || (self.close && !value.eq_ignore_ascii_case(b"keep-alive"));
                }
                _ => {}
            }
        }
        Ok((chunked, length))
    }

    fn chunk_line(&mut self, raw: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some(line) = line(raw)? else { return Ok(None) };
        let digits = line.split(|byte| matches!(byte, b';' | b' ')).next().unwrap_or_default();
        if digits.is_empty() || digits.len() > 15 {
            return Err(Malformed("a chunk size that is no number"));
        }
        let mut size = 0;
        for &byte in digits {
            let digit = char::from(byte).to_digit(16).ok_or(Malformed("a chunk size that is no number"))?;
            size = size << 4 | u64::from(digit);
        }
        self.state = if size == 0 { State::Trailer } else { State::Chunk(size) };
        Ok(Some(line.len() + 2))
    }

    fn trailer(&mut self, raw: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some(line) = line(raw)? else { return Ok(None) };
        if line.is_empty() {
            self.state = State::Done;
        }
        Ok(Some(line.len() + 2))
    }
}

/// Moves at most `left` bytes of `raw` to `body`: how many, and how many are left then.
fn take(raw: &[u8], left: u64, body: &mut Vec<u8>) -> (usize, u64) {
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(raw.len());
    body.extend_from_slice(raw.get(..count).unwrap_or_default());
    (count, left - count as u64)
}

fn line(raw: &[u8]) -> Result<Option<&[u8]>, Malformed> {
    match memchr(b'\n', raw) {
        Some(end) if end > 0 && raw.get(end - 1) == Some(&b'\r') => Ok(raw.get(..end - 1)),
        Some(_) => Err(Malformed("a line that ends without CR")),
        None if raw.len() > LINE_MAX => Err(Malformed("a line without end")),
        None => Ok(None),
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits
        .iter()
        .try_fold(0u64, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, body, bytes used, done; fed in pieces of `piece` bytes.
    fn read(raw: &[u8], piece: usize) -> Result<(u16, Vec<u8>, usize, bool), Malformed> {
        let (mut reader, mut body, mut held, mut used) = (Reader::default(), Vec::new(), Vec::new(), 0);
        for piece in raw.chunks(piece) {
            held.extend_from_slice(piece);
            let count = reader.feed(&held, &mut body)?;
            held.drain(..count);
            used += count;
            if reader.is_done() {
                break;
            }
        }
        Ok((reader.status(), body, used, reader.is_done()))
    }

    #[test]
    fn answers_are_read_however_they_are_cut() {
        let sized = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nX: y\r\n\r\nhelloHTTP".as_slice();
        let chunked =
            b"HTTP/1.1 201 \r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nT: 1\r\n\r\nHTTP";
        let early =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 Bad\r\nContent-Length: 5\r\n\r\nhelloHTTP".as_slice();
        for (raw, status) in [(sized, 200), (chunked.as_slice(), 201), (early, 400)] {
            for piece in 1..raw.len() {
                let read = read(raw, piece).unwrap();
                assert_eq!(
                    (read.0, read.1.as_slice(), read.3),
                    (status, b"hello".as_slice(), true),
                    "{piece}"
                );
                assert_eq!(read.2, raw.len() - 4, "{piece}");
            }
        }
    }

    #[test]
    fn the_end_of_a_connection_ends_what_has_no_length() {
        let mut reader = Reader::default();
        let mut body = Vec::new();
        let raw = b"HTTP/1.1 200 OK\r\n\r\nall of it";
        assert_eq!(reader.feed(raw, &mut body), Ok(raw.len()));
        assert!(!reader.is_done() && reader.ends_whole() && reader.closes());
        let mut reader = Reader::default();
        assert!(reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", &mut body).is_ok());
        assert!(!reader.ends_whole());
        let mut reader = Reader::default();
        let raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(reader.feed(raw, &mut body), Ok(raw.len()));
        assert!(reader.is_done() && reader.closes());
    }

    #[test]
    fn what_no_server_may_send_is_malformed() {
        for raw in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n",
        ] {
            assert!(read(raw.as_bytes(), raw.len()).is_err(), "{raw:?}");
        }
    }
}
