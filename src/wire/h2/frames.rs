//! The frames of one direction of an HTTP/2 connection (RFC 9113 section 4), walked at any split.
//!
//! Only heads are kept, 9 bytes at most, and of payloads the few bytes that the guard judges by: how long the
//! padding of DATA is, the parameters of SETTINGS, the code of RST_STREAM. Payloads that are too short for those
//! are passed over: whoever reads the frame refuses it. 16 bytes of state, no allocation, O(heads) work.

/// Frame types (RFC 9113 section 6).
pub const DATA: u8 = 0;
/// Opens a stream, answers it, or ends it with trailers.
pub const HEADERS: u8 = 1;
/// Deprecated, still sent.
pub const PRIORITY: u8 = 2;
/// Ends a stream at once.
pub const RST_STREAM: u8 = 3;
/// Parameters, to be acknowledged.
pub const SETTINGS: u8 = 4;
/// From servers only.
pub const PUSH_PROMISE: u8 = 5;
/// To be answered.
pub const PING: u8 = 6;
/// No new streams.
pub const GOAWAY: u8 = 7;
/// More of a header block.
pub const CONTINUATION: u8 = 9;

/// END_STREAM of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
/// ACK of SETTINGS and PING.
pub const ACK: u8 = 1;
/// END_HEADERS of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;
/// PADDED of DATA and HEADERS.
pub const PADDED: u8 = 8;

/// Bytes of a frame's head.
const HEAD_BYTES: u8 = 9;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of its payload, at most 2^24 - 1.
    pub length: u32,
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream, without the reserved bit; 0 is the connection.
    pub stream: u32,
}

impl Head {
    /// Whether all bits of `flag` are set.
    #[must_use]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag == flag
    }
}

/// What the walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A frame begins.
    Head(Head),
    /// The padding of a padded DATA frame is known: so many bytes of its payload are data.
    Unpadded {
        /// Bytes of data.
        data: u32,
        /// Whether the frame has END_STREAM.
        end: bool,
    },
    /// A parameter of SETTINGS.
    Setting {
        /// Its identifier.
        id: u16,
        /// Its value.
        value: u32,
    },
    /// The error code of RST_STREAM.
    Code(u32),
}

/// What is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    Head,
    Padding,
    Setting,
    Code,
    Nothing,
}

/// Where the walk is.
#[derive(Debug, Clone, Copy)]
pub struct Frames {
    /// Bytes of the payload that are still to come.
    left: u32,
    held: [u8; HEAD_BYTES as usize],
    have: u8,
    watch: Watch,
    end: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self { left: 0, held: [0; HEAD_BYTES as usize], have: 0, watch: Watch::Head, end: false }
    }
}

impl Frames {
    /// Whether the last byte ended a frame.
    #[must_use]
    pub fn between(&self) -> bool {
        self.watch == Watch::Head && self.have == 0
    }

    /// The next part; `bytes` becomes the rest. `None` when all bytes are used up.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Part> {
        while !bytes.is_empty() {
            let wanted = match self.watch {
                Watch::Head => HEAD_BYTES,
                Watch::Padding => 1,
                Watch::Setting => 6,
                Watch::Code => 4,
                Watch::Nothing => 0,
            };
            if self.watch != Watch::Head && self.have == 0 && self.left < u32::from(wanted) {
                self.watch = Watch::Nothing;
            }
            if self.watch == Watch::Nothing {
                self.skip(bytes);
            } else if self.collect(wanted, bytes) {
                return Some(self.found());
            }
        }
        None
    }

    fn skip(&mut self, bytes: &mut &[u8]) {
        let count = bytes.len().min(self.left as usize);
        *bytes = bytes.get(count..).unwrap_or_default();
        // At most `left`, which is a u32.
        self.left -= count as u32;
        if self.left == 0 {
            self.watch = Watch::Head;
        }
    }

    /// Moves bytes to `held` until there are `wanted`; whether there are.
    fn collect(&mut self, wanted: u8, bytes: &mut &[u8]) -> bool {
        for slot in self.held.iter_mut().take(usize::from(wanted)).skip(usize::from(self.have)) {
            let Some((&byte, rest)) = bytes.split_first() else { return false };
            *slot = byte;
            *bytes = rest;
            self.have += 1;
        }
        true
    }

    /// Reads what was collected.
    fn found(&mut self) -> Part {
        let [a, b, c, d, e, f, g, h, i] = self.held;
        let have = std::mem::take(&mut self.have);
        if self.watch == Watch::Head {
            let stream = u32::from_be_bytes([f, g, h, i]) & 0x7fff_ffff;
            let head = Head { length: u32::from_be_bytes([0, a, b, c]), kind: d, flags: e, stream };
            self.enter(head);
            return Part::Head(head);
        }
        self.left = self.left.saturating_sub(u32::from(have));
        let part = match self.watch {
            Watch::Padding => Part::Unpadded { data: self.left.saturating_sub(u32::from(a)), end: self.end },
            Watch::Setting => {
                Part::Setting { id: u16::from_be_bytes([a, b]), value: u32::from_be_bytes([c, d, e, f]) }
            }
            _ => Part::Code(u32::from_be_bytes([a, b, c, d])),
        };
        if self.left == 0 {
            self.watch = Watch::Head;
        } else if self.watch != Watch::Setting {
            self.watch = Watch::Nothing;
        }
        part
    }

    /// A frame begins: what of its payload is watched.
    fn enter(&mut self, head: Head) {
        self.left = head.length;
        self.end = head.has(END_STREAM);
        self.watch = match head.kind {
            _ if head.length == 0 => Watch::Head,
            DATA if head.has(PADDED) => Watch::Padding,
            SETTINGS if !head.has(ACK) => Watch::Setting,
            RST_STREAM => Watch::Code,
            _ => Watch::Nothing,
        };
    }
}
