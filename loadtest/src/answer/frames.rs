//! Frames of HTTP/2 (RFC 9113), as a client reads and writes them.

use super::{Malformed, hpack};

/// What a client begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest frame that is read and written: the default of both sides.
pub const FRAME_MAX: usize = 16 * 1024;
/// The window of each stream and of the connection, as it is asked for.
pub const WINDOW: u32 = 1 << 30;
/// Longest block of fields.
const BLOCK_MAX: usize = 64 * 1024;

/// `RST_STREAM` with this says that nobody waits any more.
const CANCEL: u32 = 8;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// What a frame says.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The fields of an answer (with its status) or its trailers.
    Fields {
        /// Which stream.
        stream: u32,
        /// The status; `None` for trailers.
        status: Option<u16>,
        /// Nothing follows.
        end: bool,
    },
    /// Content.
    Data {
        /// Which stream.
        stream: u32,
        /// The content.
        data: &'a [u8],
        /// What it takes of the windows, padding included.
        size: u32,
        /// Nothing follows.
        end: bool,
    },
    /// The stream is over, without its end.
    Reset {
        /// Which stream.
        stream: u32,
    },
    /// The settings of the peer, to be acknowledged: the window that streams begin with, if it says.
    Settings {
        /// Bytes.
        window: Option<u32>,
    },
    /// To be sent back.
    Ping([u8; 8]),
    /// No new streams; those above this one were not looked at.
    GoAway {
        /// The last one.
        last: u32,
    },
    /// More may be sent on a stream, or on all (0).
    Window {
        /// Which stream.
        stream: u32,
        /// Bytes.
        more: u32,
    },
    /// Nothing for us.
    Other,
}

/// Reads frames. A block of fields over several frames is kept until it is whole.
#[derive(Debug, Default)]
pub struct Frames {
    block: Vec<u8>,
    /// The stream whose block is not whole, and whether it ends with it.
    open: Option<(u32, bool)>,
}

impl Frames {
    /// The first frame of `raw` and its length; `None` if it is not there whole.
    ///
    /// # Errors
    /// The peer breaks the protocol.
    pub fn next<'a>(&mut self, raw: &'a [u8]) -> Result<Option<(Event<'a>, usize)>, Malformed> {
        let [a, b, c, kind, flags, stream @ ..] = raw else { return Ok(None) };
        let Some((stream, rest)) = stream.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if length > FRAME_MAX {
            return Err(Malformed("a frame that is too long"));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let stream = u32::from_be_bytes(*stream) & 0x7fff_ffff;
        Ok(Some((self.event(*kind, *flags, stream, payload)?, 9 + length)))
    }

    fn event<'a>(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &'a [u8],
    ) -> Result<Event<'a>, Malformed> {
        if self.open.is_some_and(|(open, _)| kind != CONTINUATION || open != stream) {
            return Err(Malformed("a frame inside of a block of fields"));
        }
        let word = |at: usize| {
            payload.get(at..).and_then(|rest| rest.first_chunk::<4>()).map(|word| u32::from_be_bytes(*word))
        };
        let short = Malformed("a frame that is too short");
        let end = flags & END_STREAM != 0;
        Ok(match kind {
            DATA => {
                let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                Event::Data { stream, data: unpadded(payload, flags & PADDED != 0)?, size, end }
            }
            HEADERS => {
                let fields = unpadded(payload, flags & PADDED != 0)?;
                let fields = if flags & PRIORITY != 0 { fields.get(5..).ok_or(short)? } else { fields };
                self.block.clear();
                self.open = Some((stream, end));
                self.fields(fields, flags)?
            }
            CONTINUATION => {
                if self.open.is_none() {
                    return Err(Malformed("a continuation of nothing"));
                }
                self.fields(payload, flags)?
            }
            RST_STREAM => Event::Reset { stream },
            SETTINGS if flags & ACK == 0 => {
                let window = payload.chunks_exact(6).rfind(|setting| setting.starts_with(&[0, 4]));
                let window = window
                    .and_then(|setting| setting.last_chunk::<4>())
                    .map(|word| u32::from_be_bytes(*word));
                Event::Settings { window }
            }
            PING if flags & ACK == 0 => Event::Ping(*payload.first_chunk().ok_or(short)?),
            GOAWAY => Event::GoAway { last: word(0).ok_or(short)? & 0x7fff_ffff },
            WINDOW_UPDATE => Event::Window { stream, more: word(0).ok_or(short)? & 0x7fff_ffff },
            PUSH_PROMISE => return Err(Malformed("a push")),
            _ => Event::Other,
        })
    }

    fn fields<'a>(&mut self, part: &[u8], flags: u8) -> Result<Event<'a>, Malformed> {
        self.block.extend_from_slice(part);
        if self.block.len() > BLOCK_MAX {
            return Err(Malformed("a block of fields without end"));
        }
        if flags & END_HEADERS == 0 {
            return Ok(Event::Other);
        }
        let Some((stream, end)) = self.open.take() else { return Ok(Event::Other) };
        Ok(Event::Fields { stream, status: hpack::status(&self.block)?, end })
    }
}

fn unpadded(payload: &[u8], padded: bool) -> Result<&[u8], Malformed> {
    if !padded {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(Malformed("a frame that is too short"))?;
    let length = rest.len().checked_sub(usize::from(*padding)).ok_or(Malformed("more padding than frame"))?;
    Ok(rest.get(..length).unwrap_or_default())
}

fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let length = u32::try_from(length).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// Appends the preface: no table of fields, no pushes, wide windows.
pub fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(PREFACE);
    head(out, 18, SETTINGS, 0, 0);
    for (setting, value) in [(1u16, 0u32), (2, 0), (4, WINDOW)] {
        out.extend_from_slice(&setting.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
    window(out, WINDOW - 65_535);
}

/// Appends that so much more may come on the connection.
pub fn window(out: &mut Vec<u8>, more: u32) {
    head(out, 4, WINDOW_UPDATE, 0, 0);
    out.extend_from_slice(&more.to_be_bytes());
}

/// Appends the fields of a request; a body follows.
pub fn fields(out: &mut Vec<u8>, stream: u32, block: &[u8]) {
    head(out, block.len(), HEADERS, END_HEADERS, stream);
    out.extend_from_slice(block);
}

/// Appends content.
pub fn data(out: &mut Vec<u8>, stream: u32, data: &[u8], end: bool) {
    head(out, data.len(), DATA, if end { END_STREAM } else { 0 }, stream);
    out.extend_from_slice(data);
}

/// Appends that nobody waits for a stream any more.
pub fn cancel(out: &mut Vec<u8>, stream: u32) {
    head(out, 4, RST_STREAM, 0, stream);
    out.extend_from_slice(&CANCEL.to_be_bytes());
}

/// Appends the answer to settings, and to a ping.
pub fn acknowledge(out: &mut Vec<u8>, ping: Option<[u8; 8]>) {
    head(out, ping.map_or(0, |_| 8), if ping.is_some() { PING } else { SETTINGS }, ACK, 0);
    out.extend_from_slice(ping.as_ref().map_or(&[], |bytes| bytes));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        begin(&mut out);
        let (mut frames, mut at, mut seen) = (Frames::default(), PREFACE.len(), 0);
        data(&mut out, 5, b"hello", true);
        acknowledge(&mut out, Some([7; 8]));
        fields(&mut out, 3, &[0x88]);
        for cut in at..out.len() {
            assert!(frames.next(&out[at..cut.min(at + 8)]).unwrap().is_none());
        }
        while let Some((event, length)) = frames.next(&out[at..]).unwrap() {
            match seen {
                0 => assert_eq!(event, Event::Settings { window: Some(WINDOW) }),
                1 => assert_eq!(event, Event::Window { stream: 0, more: WINDOW - 65_535 }),
                2 => assert_eq!(event, Event::Data { stream: 5, data: b"hello", size: 5, end: true }),
                3 => assert_eq!(event, Event::Other, "an acknowledgement"),
                _ => assert_eq!(event, Event::Fields { stream: 3, status: Some(200), end: false }),
            }
            (at, seen) = (at + length, seen + 1);
        }
        assert_eq!((at, seen), (out.len(), 5));
    }

    #[test]
    fn a_block_over_frames_is_one() {
        let mut frames = Frames::default();
        let first = [0, 0, 2, HEADERS, END_STREAM, 0, 0, 0, 1, 0x48, 0x03];
        assert_eq!(frames.next(&first), Ok(Some((Event::Other, 11))));
        let rest = [0, 0, 3, CONTINUATION, END_HEADERS, 0, 0, 0, 1, b'5', b'0', b'3'];
        assert_eq!(
            frames.next(&rest),
            Ok(Some((Event::Fields { stream: 1, status: Some(503), end: true }, 12)))
        );
        assert!(frames.next(&rest).is_err(), "a continuation of nothing");
        assert!(frames.next(&[0, 0x40, 1, DATA, 0, 0, 0, 0, 1]).is_err(), "too long");
        assert!(frames.next(&[0, 0, 1, DATA, PADDED, 0, 0, 0, 1, 9]).is_err(), "padding");
        assert!(frames.next(&first).is_ok() && frames.next(&[0, 0, 0, DATA, 0, 0, 0, 0, 1]).is_err());
    }
}
