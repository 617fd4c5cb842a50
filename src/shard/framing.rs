//! How answers are framed for their client: the head of a stream, chunks, its end.

use super::Shard;
use super::reply::{Manner, Version};

/// Room before the data for the longest chunk line: 16 digits and CRLF.
pub const GAP: usize = 18;

/// Appends the field that says what an answer is.
pub fn kind_line(content_type: &[u8], head: &mut Vec<u8>) {
    head.extend_from_slice(b"content-type: ");
    head.extend_from_slice(if content_type.is_empty() { b"application/json" } else { content_type });
    head.extend_from_slice(b"\r\n");
}

/// Appends the head of a stream of events that has no content yet.
pub fn begin_events(shard: &Shard, manner: &Manner, out: &mut Vec<u8>) {
    manner.begin(shard, 200, out);
    out.extend_from_slice(b"content-type: text/event-stream\r\n");
    end_stream_head(manner, out);
}

/// Appends the rest of a stream's head.
pub fn end_stream_head(manner: &Manner, out: &mut Vec<u8>) {
    out.extend_from_slice(b"cache-control: no-cache\r\nx-accel-buffering: no\r\n");
    out.extend_from_slice(if manner.version == Version::Http11 {
        b"transfer-encoding: chunked\r\n\r\n"
    } else {
        b"\r\n"
    });
}

/// Appends `data` as a chunk.
pub fn frame(manner: &Manner, data: &[u8], wire: &mut Vec<u8>) {
    if manner.version != Version::Http11 {
        wire.extend_from_slice(data);
    } else if !data.is_empty() {
        let mut line = [0u8; GAP];
        let start = chunk_line(data.len(), &mut line);
        wire.extend_from_slice(&line[start..]);
        wire.extend_from_slice(data);
        wire.extend_from_slice(b"\r\n");
    }
}

/// Makes a chunk of `out[GAP..]` where it stands; returns where the bytes to write begin.
#[must_use]
pub fn frame_in_place(manner: &Manner, out: &mut Vec<u8>) -> usize {
    if manner.version != Version::Http11 || out.len() == GAP {
        return GAP;
    }
    let data = out.len() - GAP;
    let start = chunk_line(data, &mut out[..GAP]);
    out.extend_from_slice(b"\r\n");
    start
}

/// Appends the end of a stream.
pub fn end(manner: &Manner, wire: &mut Vec<u8>) {
    if manner.version == Version::Http11 {
        wire.extend_from_slice(b"0\r\n\r\n");
    }
}

/// Writes `size` in hexadecimal and CRLF at the end of `line`; returns where it begins.
fn chunk_line(mut size: usize, line: &mut [u8]) -> usize {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut at = line.len() - 2;
    line[at..].copy_from_slice(b"\r\n");
    loop {
        at -= 1;
        line[at] = DIGITS[size & 15];
        size >>= 4;
        if size == 0 || at == 0 {
            return at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_lines_have_no_leading_zeros() {
        let mut line = [0u8; GAP];
        for (size, want) in [(1, "1\r\n"), (0xabc, "abc\r\n"), (usize::MAX, "ffffffffffffffff\r\n")] {
            let start = chunk_line(size, &mut line);
            assert_eq!(&line[start..], want.as_bytes());
        }
    }
}
