//! The body of an answer, whatever frames it: fed as bytes come, or decoded in place.

use super::Framing;
use super::chunked::{ChunkError, Chunked};

/// How a body came to a bad end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The connection ended inside of it.
    Cut,
    /// The chunked coding is broken.
    Chunk(ChunkError),
}

/// Why feeding stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fed<E> {
    /// The framing is broken.
    Framing(Broken),
    /// The sink refused.
    Sink(E),
}

/// Finds the body of an answer in the bytes of its connection.
#[derive(Debug)]
pub struct Reader {
    framing: Framing,
    left: u64,
    chunked: Chunked,
    ended: bool,
}

impl Reader {
    /// At the start of a body.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let left = if let Framing::Length(length) = framing { length } else { 0 };
        Self { framing, left, chunked: Chunked::default(), ended: false }
    }

    /// Whether the body has come to its end.
    #[must_use]
    pub fn done(&self) -> bool {
        match self.framing {
            Framing::None => true,
            Framing::Length(_) => self.left == 0,
            Framing::Chunked => self.chunked.done(),
            Framing::Close => self.ended,
        }
    }

    /// Notes that the peer has closed its connection.
    ///
    /// # Errors
    /// The body was not over.
    pub fn peer_ended(&mut self) -> Result<(), Broken> {
        self.ended = true;
        if self.done() { Ok(()) } else { Err(Broken::Cut) }
    }

    /// Notes that reading has failed: unlike a proper end this ends no body.
    ///
    /// # Errors
    /// The body was not over.
    pub fn peer_failed(&self) -> Result<(), Broken> {
        if self.done() { Ok(()) } else { Err(Broken::Cut) }
    }

    /// Decodes `buffer[from..]` in place; returns the end of the data.
    ///
    /// # Errors
    /// The chunked framing is broken.
    pub fn decode(&mut self, buffer: &mut Vec<u8>, from: usize) -> Result<usize, Broken> {
        match self.framing {
            Framing::Chunked => self.chunked.decode(buffer, from).map_err(Broken::Chunk),
            _ => Ok(from + self.plain(buffer.len().saturating_sub(from))),
        }
    }

    /// Hands the data in `input` to `sink`, piece by piece; returns the bytes used, framing included.
    ///
    /// # Errors
    /// The framing is broken, or the sink's own.
    pub fn feed<E>(
        &mut self,
        input: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, Fed<E>> {
        if self.framing != Framing::Chunked {
            let used = self.plain(input.len());
            sink(input.get(..used).unwrap_or_default()).map_err(Fed::Sink)?;
            return Ok(used);
        }
        let mut at = 0;
        while at < input.len() && !self.chunked.done() {
            let step = self.chunked.next(input.get(at..).unwrap_or_default());
            let step = step.map_err(|error| Fed::Framing(Broken::Chunk(error)))?;
            at += step.skip;
            if step.data > 0 {
                sink(input.get(at..at + step.data).unwrap_or_default()).map_err(Fed::Sink)?;
                at += step.data;
            }
        }
        Ok(at)
    }

    fn plain(&mut self, available: usize) -> usize {
        if self.framing == Framing::Close {
            return available;
        }
        let taken = (available as u64).min(self.left);
        self.left -= taken;
        usize::try_from(taken).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_knows_the_end_of_each_framing() {
        for (framing, input, used, done) in [
            (Framing::None, &b"stray"[..], 0, true),
            (Framing::Length(3), b"abcdef", 3, true),
            (Framing::Length(9), b"abcdef", 6, false),
            (Framing::Chunked, b"3\r\nabc\r\n0\r\n\r\nx", 13, true),
            (Framing::Close, b"abc", 3, false),
        ] {
            let mut reader = Reader::new(framing);
            assert_eq!(reader.feed(input, |_| Ok::<(), ()>(())), Ok(used), "{framing:?}");
            assert_eq!(reader.done(), done, "{framing:?}");
            assert_eq!(reader.peer_failed().is_ok(), done, "{framing:?}");
            let ended = reader.peer_ended();
            assert_eq!(ended.is_ok(), done || framing == Framing::Close, "{framing:?}");
        }
    }
}
