//! The chunked coding (RFC 9112 section 7.1), decoded in place or only followed.
//!
//! CRLF alone ends a chunk line; extensions are dropped and bounded; trailers are checked and dropped. The state
//! machine may be fed at any split: it keeps no bytes, only numbers.

use super::field::is_token_byte;
use super::limits::{CHUNK_EXTENSION_MAX, CHUNK_EXTENSIONS_MAX, TRAILERS_MAX};

/// The rule that a chunked body broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    /// The size is empty, not hexadecimal, or beyond 2^60.
    Size,
    /// An extension has control characters, a bare LF, or is too long.
    Extension,
    /// A line or a chunk does not end in CRLF.
    LineEnd,
    /// The trailer section breaks field syntax or is too long.
    Trailer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { digits: u8 },
    Extension { length: u16, quoted: bool, escaped: bool },
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Where a chunked body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunked {
    state: State,
    left: u64,
    extensions: usize,
    trailers: usize,
}

/// What one call of [`Chunked::next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Framing bytes before the data.
    pub skip: usize,
    /// Data bytes after them.
    pub data: usize,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::Size { digits: 0 }, left: 0, extensions: 0, trailers: 0 }
    }
}

impl Chunked {
    /// Whether the last chunk and its trailers have been read.
    #[must_use]
    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    /// Data bytes of the current chunk that are still to come; its size is known once its line is read.
    #[must_use]
    pub fn left(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// Reads framing until data begins, the body is done, or `input` ends; then counts the data at hand.
    /// `skip + data` bytes are consumed; call again with the rest while it is not empty and the body not done.
    ///
    /// # Errors
    /// The rule broken; the connection cannot be used any more.
    pub fn next(&mut self, input: &[u8]) -> Result<Step, ChunkError> {
        let mut skip = self.plain_line(input);
        for &byte in input.get(skip..).unwrap_or_default() {
            if matches!(self.state, State::Data | State::Done) {
                break;
            }
            self.state = self.advance(byte)?;
            skip += 1;
        }
        let mut data = 0;
        if self.state == State::Data {
            let available = input.len().saturating_sub(skip);
            data = available.min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= data as u64;
            if self.left == 0 {
                self.state = State::DataCr;
            }
        }
        Ok(Step { skip, data })
    }

    /// Reads the end of a chunk, and a chunk line that is whole and has nothing but a size, as almost all are; the bytes that these take.
    fn plain_line(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        if self.state == State::DataCr && input.starts_with(b"\r\n") {
            self.state = State::Size { digits: 0 };
            at = 2;
        }
        if self.state != (State::Size { digits: 0 }) {
            return at;
        }
        let mut size = 0u64;
        for (digits, &byte) in input.get(at..).unwrap_or_default().iter().take(8).enumerate() {
            match char::from(byte).to_digit(16) {
                Some(value) => size = size << 4 | u64::from(value),
                None => {
                    let line = at + digits + 2;
                    if size > 0 && input.get(line - 2..line) == Some(b"\r\n") {
                        (self.left, self.state, at) = (size, State::Data, line);
                    }
                    break;
                }
            }
        }
        at
    }

    /// Decodes `buffer[from..]` in place: the data moves down to `from`, `buffer` keeps it and the rest behind the
    /// body, if the body ended. Returns the end of the data.
    ///
    /// # Errors
    /// The rule broken.
    pub fn decode(&mut self, buffer: &mut Vec<u8>, from: usize) -> Result<usize, ChunkError> {
        let (mut read, mut write) = (from, from);
        while read < buffer.len() && !self.done() {
            let step = self.next(buffer.get(read..).unwrap_or_default())?;
            read += step.skip;
            if step.data > 0 {
                buffer.copy_within(read..read + step.data, write);
                read += step.data;
                write += step.data;
            }
        }
        buffer.drain(write..read);
        Ok(write)
    }

    fn advance(&mut self, byte: u8) -> Result<State, ChunkError> {
        match (self.state, byte) {
            (State::Size { digits }, _) => self.size(digits, byte),
            (State::Extension { quoted: false, .. }, b'\r') => Ok(State::SizeLf),
            (State::Extension { length, quoted, escaped }, _) => {
                self.extension(length, quoted, escaped, byte)
            }
            (State::SizeLf, b'\n') if self.left == 0 => Ok(State::TrailerStart),
            (State::SizeLf, b'\n') => Ok(State::Data),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size { digits: 0 }),
            (State::EndLf, b'\n') => Ok(State::Done),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) => self.trailer(byte),
            _ => Err(ChunkError::LineEnd),
        }
    }

    fn size(&mut self, digits: u8, byte: u8) -> Result<State, ChunkError> {
        if let Some(value) = char::from(byte).to_digit(16) {
            if digits == 0 {
                self.left = 0;
            }
            if digits >= 16 || self.left >> 56 != 0 {
                return Err(ChunkError::Size);
            }
            self.left = self.left << 4 | u64::from(value);
            return Ok(State::Size { digits: digits + 1 });
        }
        match byte {
            _ if digits == 0 => Err(ChunkError::Size),
            b'\r' => Ok(State::SizeLf),
            b';' => Ok(State::Extension { length: 0, quoted: false, escaped: false }),
            b'\n' => Err(ChunkError::LineEnd),
            _ => Err(ChunkError::Size),
        }
    }

    fn extension(&mut self, length: u16, quoted: bool, escaped: bool, byte: u8) -> Result<State, ChunkError> {
        self.extensions += 1;
        let length = length + 1;
        let control = byte != b'\t' && (byte < 0x20 || byte == 0x7f);
        if control || usize::from(length) > CHUNK_EXTENSION_MAX || self.extensions > CHUNK_EXTENSIONS_MAX {
            return Err(ChunkError::Extension);
        }
        // Where a quoted string ends must not be open to debate either.
        let quoted = quoted != (byte == b'"' && !escaped);
        Ok(State::Extension { length, quoted, escaped: quoted && byte == b'\\' && !escaped })
    }

    fn trailer(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.trailers += 1;
        if self.trailers > TRAILERS_MAX {
            return Err(ChunkError::Trailer);
        }
        match (self.state, byte) {
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => Ok(State::TrailerName),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, b'\t' | 0x20..=0x7e | 0x80..) => Ok(State::TrailerValue),
            _ => Err(ChunkError::Trailer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(input: &[u8]) -> Result<(Vec<u8>, usize), ChunkError> {
        let (mut chunked, mut at, mut data) = (Chunked::default(), 0, Vec::new());
        while at < input.len() && !chunked.done() {
            let step = chunked.next(&input[at..])?;
            data.extend_from_slice(&input[at + step.skip..at + step.skip + step.data]);
            at += step.skip + step.data;
        }
        assert!(chunked.done(), "not done: {:?}", chunked.state);
        Ok((data, at))
    }

    #[test]
    fn decodes_at_every_split() {
        let body = b"5\r\nhello\r\nA;x=\"y z\"\r\n, chunked!\r\n000\r\nx-sum: 1\r\n\r\nNEXT";
        assert_eq!(whole(body), Ok((b"hello, chunked!".to_vec(), body.len() - 4)));
        for cut in 0..body.len() - 4 {
            let mut chunked = Chunked::default();
            let mut buffer = b"head".to_vec();
            buffer.extend_from_slice(&body[..cut]);
            let end = chunked.decode(&mut buffer, 4).unwrap();
            assert_eq!(end, buffer.len());
            buffer.extend_from_slice(&body[cut..]);
            let end = chunked.decode(&mut buffer, end).unwrap();
            assert!(chunked.done());
            assert_eq!(&buffer[4..end], b"hello, chunked!", "cut at {cut}");
            assert_eq!(&buffer[end..], b"NEXT");
        }
    }

    #[test]
    fn refuses_what_hops_read_differently() {
        let cases: [(&[u8], ChunkError); 16] = [
            (b"\r\n", ChunkError::Size),
            (b";a\r\n", ChunkError::Size),
            (b"+5\r\n", ChunkError::Size),
            (b"0x5\r\n", ChunkError::Size),
            (b" 5\r\n", ChunkError::Size),
            (b"5 \r\n", ChunkError::Size),
            (b"5_0\r\n", ChunkError::Size),
            (b"10000000000000000\r\n", ChunkError::Size),
            (b"5\nhello", ChunkError::LineEnd),
            (b"5\rhello", ChunkError::LineEnd),
            (b"5\r\nhelloX", ChunkError::LineEnd),
            (b"5\r\nhello\n", ChunkError::LineEnd),
            (b"5;a\n", ChunkError::Extension),
            (b"0\r\nbad name: x\r\n", ChunkError::Trailer),
            (b"0\r\nx: a\nb", ChunkError::Trailer),
            (b"0\r\n: x\r\n", ChunkError::Trailer),
        ];
        for (input, error) in cases {
            let (mut chunked, mut at) = (Chunked::default(), 0);
            let got = loop {
                match chunked.next(&input[at..]) {
                    Err(error) => break error,
                    Ok(step) => at += step.skip + step.data,
                }
                assert!(at < input.len(), "accepted {:?}", String::from_utf8_lossy(input));
            };
            assert_eq!(got, error, "{:?}", String::from_utf8_lossy(input));
        }
    }
}
