//! What a client may cost on one HTTP/2 connection: the numbers, and the names of what goes beyond them.
//!
//! Each flood that was a CVE has a number here. A [`Rate`] is a token bucket: it starts full, time fills it, and so
//! does the work that makes the frame an honest one (an answered request, data that went out). The amounts of the
//! latter are the constants below [`Budget`]. An honest client never empties a bucket; the reasons say why.

/// A token bucket: `burst` tokens at once, refilled by `per_second` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Most tokens; it starts with as many.
    pub burst: u32,
    /// Tokens that each second adds.
    pub per_second: u32,
}

/// The limits of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Longest payload of a frame in bytes: what our SETTINGS_MAX_FRAME_SIZE announces.
    pub frame_bytes_max: u32,
    /// Longest header block, HEADERS and CONTINUATION together, in bytes, padding included. An honest head is
    /// under 32 KiB.
    pub header_block_bytes_max: u32,
    /// Most CONTINUATION frames of a header block: 64 KiB are four full frames; twice that for small ones.
    pub continuations_max: u32,
    /// Largest SETTINGS_HEADER_TABLE_SIZE in bytes. Our encoder fills what the client offers, so this bounds its
    /// memory. Browsers offer 64 KiB.
    pub header_table_bytes_max: u32,
    /// Most PING and SETTINGS frames that wait for our answer. Honest clients have one or two under way; more wait
    /// only if the client does not read, and then its answers would pile up here.
    pub unanswered_max: u32,
    /// A DATA frame with less than so many bytes of data is a small one. A queued frame costs about 300 bytes, so
    /// that from here on the flow control window bounds the queue at five times its size.
    pub small_data_bytes: u32,
    /// DATA frames without data and without END_STREAM: padding alone, or nothing at all. Flow control does not
    /// count them. Some clients send one when they flush; a frame with data gives one back.
    pub empty_data: Rate,
    /// Small DATA frames, and those with END_STREAM. A request brings a token for its own last frame; data gives
    /// one for each [`SMALL_DATA_BYTES`] and an answer gives [`ANSWER_GIVES`].
    pub small_data: Rate,
    /// PING and SETTINGS, which we must answer. Keep-alives are one a second or fewer; a client that measures the
    /// path's bandwidth sends one PING at most for each DATA or HEADERS frame it gets, and that frame has paid.
    pub control: Rate,
    /// Frames that ask for nothing: WINDOW_UPDATE, PRIORITY, unknown types, acknowledgements, trailers, GOAWAY.
    /// Honest clients send two WINDOW_UPDATE for a DATA frame, or some for a long one, and a few PRIORITY a request;
    /// [`DATA_GIVES`], [`SIDE_DATA_BYTES`] and [`REQUEST_GIVES`] pay for them.
    pub side: Rate,
    /// Resets: RST_STREAM by the client (CVE-2023-44487), and RST_STREAM by us for the client's fault
    /// (CVE-2025-8671). The head of an answer gives one, so a client that cancels what it began to read never
    /// runs out. `burst` must not be less than the streams that may be open at once.
    pub resets: Rate,
    /// Streams opened; the head of an answer gives one back. `burst` is above the open streams and the resets
    /// together, so an honest client is never here first. It bounds streams that end in ways we do not see: refused,
    /// malformed, or reset by us while the client does not read.
    pub opens: Rate,
}

/// Tokens of `side` that a request gives: PRIORITY, a window for its stream, a frame of an extension.
pub const REQUEST_GIVES: u32 = 4;
/// Tokens of `side` and `small_data` that the head of an answer gives.
pub const ANSWER_GIVES: u32 = 4;
/// Tokens of `side` that each DATA frame we send gives: two WINDOW_UPDATE, twice.
pub const DATA_GIVES: u32 = 4;
/// Bytes of data, in either direction, that give one token of `side`: a client that reads in pieces of 1 KiB and
/// widens the window after each.
pub const SIDE_DATA_BYTES: u32 = 1024;
/// Bytes of data from the client that give one token of `small_data`.
pub const SMALL_DATA_BYTES: u32 = 256;

impl Default for Budget {
    fn default() -> Self {
        Self {
            frame_bytes_max: 16_384,
            header_block_bytes_max: 64 * 1024,
            continuations_max: 8,
            header_table_bytes_max: 1024 * 1024,
            unanswered_max: 64,
            small_data_bytes: 64,
            empty_data: Rate { burst: 32, per_second: 1 },
            small_data: Rate { burst: 4000, per_second: 200 },
            control: Rate { burst: 100, per_second: 10 },
            side: Rate { burst: 1000, per_second: 100 },
            resets: Rate { burst: 200, per_second: 20 },
            opens: Rate { burst: 512, per_second: 20 },
        }
    }
}

/// The rule that a client broke; the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abuse {
    /// The first bytes are not the client preface.
    Preface,
    /// The first frame is not SETTINGS.
    FirstFrame,
    /// A frame is longer than we announced.
    FrameSize,
    /// Another frame inside of a header block, or CONTINUATION outside of one.
    Interleaved,
    /// PUSH_PROMISE, which only servers send.
    PushPromise,
    /// A header block of too many CONTINUATION frames.
    Continuations,
    /// A header block of too many bytes.
    HeaderBlock,
    /// CONTINUATION that neither brings bytes nor ends the block.
    EmptyContinuation,
    /// An HPACK table is offered that would let our encoder grow too far.
    HeaderTable,
    /// Too many DATA frames without data.
    EmptyData,
    /// Too many small DATA frames.
    SmallData,
    /// PING and SETTINGS, faster than the budget.
    Control,
    /// PING and SETTINGS that wait for our answer, which the client does not read.
    Unanswered,
    /// WINDOW_UPDATE, PRIORITY and the like, faster than the budget.
    Side,
    /// Resets, faster than the budget.
    Resets,
    /// Streams opened without an answer, faster than the budget.
    Opens,
}

impl Abuse {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Abuse; 16] = [
        Abuse::Preface,
        Abuse::FirstFrame,
        Abuse::FrameSize,
        Abuse::Interleaved,
        Abuse::PushPromise,
        Abuse::Continuations,
        Abuse::HeaderBlock,
        Abuse::EmptyContinuation,
        Abuse::HeaderTable,
        Abuse::EmptyData,
        Abuse::SmallData,
        Abuse::Control,
        Abuse::Unanswered,
        Abuse::Side,
        Abuse::Resets,
        Abuse::Opens,
    ];

    /// Its name in metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Abuse::Preface => "preface",
            Abuse::FirstFrame => "first_frame",
            Abuse::FrameSize => "frame_size",
            Abuse::Interleaved => "interleaved",
            Abuse::PushPromise => "push_promise",
            Abuse::Continuations => "continuations",
            Abuse::HeaderBlock => "header_block",
            Abuse::EmptyContinuation => "empty_continuation",
            Abuse::HeaderTable => "header_table",
            Abuse::EmptyData => "empty_data",
            Abuse::SmallData => "small_data",
            Abuse::Control => "control",
            Abuse::Unanswered => "unanswered",
            Abuse::Side => "side",
            Abuse::Resets => "resets",
            Abuse::Opens => "opens",
        }
    }

    /// The error code of its GOAWAY (RFC 9113 section 7): PROTOCOL_ERROR and FRAME_SIZE_ERROR for what is not
    /// HTTP/2, ENHANCE_YOUR_CALM for what is too much of it.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Abuse::Preface | Abuse::FirstFrame | Abuse::Interleaved | Abuse::PushPromise => 1,
            Abuse::FrameSize => 6,
            Abuse::Continuations
            | Abuse::HeaderBlock
            | Abuse::EmptyContinuation
            | Abuse::HeaderTable
            | Abuse::EmptyData
            | Abuse::SmallData
            | Abuse::Control
            | Abuse::Unanswered
            | Abuse::Side
            | Abuse::Resets
            | Abuse::Opens => 11,
        }
    }
}
