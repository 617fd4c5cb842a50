//! The HTTP/2 frame guard: a client's floods end here, before the protocol's implementation sees them.
//!
//! [`Guard`] is shown every byte of a connection, in both directions and in order, at any split. It walks frame
//! heads (RFC 9113 section 4.1), never reads header blocks or data, and refuses what costs us more than the client:
//! CONTINUATION floods (CVE-2024-27316 and kin), rapid reset (CVE-2023-44487), resets that we are made to
//! send (CVE-2025-8671), empty and small DATA, PING, SETTINGS, PRIORITY and WINDOW_UPDATE floods (CVE-2019-9511 to
//! 9518). The numbers are those of a [`Budget`].
//!
//! It does not know streams: their states, windows and the number open are the implementation's work, and it is
//! right about those. Rapid reset without RST_STREAM (streams that end by an error, or that are refused)
//! is bounded twice: by our own RST_STREAM once it is written, and by [`Budget::opens`] while it is not, because
//! the client does not read.
//!
//! Cost: at most 200 bytes a connection, no allocation, no copy but of 9 bytes a frame. What is refused stays so.

mod budget;
pub mod frames;

#[cfg(test)]
mod tests;

pub use budget::{
    ANSWER_GIVES, Abuse, Budget, DATA_GIVES, REQUEST_GIVES, Rate, SIDE_DATA_BYTES, SMALL_DATA_BYTES,
};
pub use frames::{Frames, Head, Part};

use frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PUSH_PROMISE,
    RST_STREAM, SETTINGS,
};

/// What a client sends first (RFC 9113 section 3.4); a SETTINGS frame follows it.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// SETTINGS_HEADER_TABLE_SIZE.
const HEADER_TABLE_SIZE: u16 = 1;
/// SETTINGS_INITIAL_WINDOW_SIZE, what it is without one, and how far it may shrink in all. The implementation takes
/// each decrease from every stream it knows, but gives increases to those that still send: its signed windows must not
/// fall below what 32 bits hold.
const INITIAL_WINDOW_SIZE: u16 = 4;
const INITIAL_WINDOW: u32 = 65_535;
const SHRINKING_MAX: u32 = i32::MAX as u32;

/// One token. Fractions are kept, so that a millisecond adds its thousandth: time is in microseconds and rates are
/// tokens a second, and their product is in this unit.
const TOKEN: u64 = 1_000_000;

/// A token bucket's level, in millionths of a token.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u64,
    rate: Rate,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        Self { left: u64::from(rate.burst) * TOKEN, rate }
    }

    fn give(&mut self, millionths: u64) {
        self.left = self.left.saturating_add(millionths).min(u64::from(self.rate.burst) * TOKEN);
    }

    fn pass_us(&mut self, micros: u64) {
        self.give(micros.saturating_mul(u64::from(self.rate.per_second)));
    }

    fn take(&mut self, or: Abuse) -> Result<(), Abuse> {
        self.left = self.left.checked_sub(TOKEN).ok_or(or)?;
        Ok(())
    }
}

/// The guard of one connection.
#[derive(Debug, Clone)]
pub struct Guard {
    empty_data: Bucket,
    small_data: Bucket,
    control: Bucket,
    side: Bucket,
    resets: Bucket,
    opens: Bucket,
    /// Up to when the buckets have been filled by time.
    now_us: u64,
    from_client: Frames,
    to_client: Frames,
    frame_bytes_max: u32,
    header_block_bytes_max: u32,
    continuations_max: u32,
    header_table_bytes_max: u32,
    unanswered_max: u32,
    small_data_bytes: u32,
    /// The client's initial window, and by how much it has been lowered in all.
    initial_window: u32,
    shrunk: u32,
    /// The highest stream that the client opened.
    last_stream: u32,
    /// The stream whose header block is open; meaningless unless `in_block`.
    block_stream: u32,
    block_bytes: u32,
    continuations: u32,
    /// PING and SETTINGS that we have not answered yet.
    unanswered: u32,
    /// Bytes of the preface that have come.
    preface: u8,
    settled: bool,
    in_block: bool,
    broken: Option<Abuse>,
}

impl Guard {
    /// The guard of a new connection.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        Self {
            empty_data: Bucket::new(budget.empty_data),
            small_data: Bucket::new(budget.small_data),
            control: Bucket::new(budget.control),
            side: Bucket::new(budget.side),
            resets: Bucket::new(budget.resets),
            opens: Bucket::new(budget.opens),
            now_us: 0,
            from_client: Frames::default(),
            to_client: Frames::default(),
            frame_bytes_max: budget.frame_bytes_max,
            header_block_bytes_max: budget.header_block_bytes_max,
            continuations_max: budget.continuations_max,
            header_table_bytes_max: budget.header_table_bytes_max,
            unanswered_max: budget.unanswered_max,
            small_data_bytes: budget.small_data_bytes,
            initial_window: INITIAL_WINDOW,
            shrunk: 0,
            last_stream: 0,
            block_stream: 0,
            block_bytes: 0,
            continuations: 0,
            unanswered: 0,
            preface: 0,
            settled: false,
            in_block: false,
            broken: None,
        }
    }

    /// Bytes that came from the client, before anybody else reads them. `now_us` is any clock that does not go
    /// back, in microseconds; the same one for both directions.
    ///
    /// # Errors
    /// The rule broken. None of `bytes` may be passed on, and every later call answers the same.
    pub fn incoming(&mut self, bytes: &[u8], now_us: u64) -> Result<(), Abuse> {
        if let Some(abuse) = self.broken {
            return Err(abuse);
        }
        self.pass_time(now_us);
        let verdict = self.read(bytes);
        self.broken = verdict.err();
        verdict
    }

    /// Bytes that the client's socket has taken. What they say about the client is answered by the next
    /// [`incoming`](Guard::incoming), or by [`broken`](Guard::broken) at once.
    pub fn outgoing(&mut self, bytes: &[u8], now_us: u64) {
        self.pass_time(now_us);
        let mut rest = bytes;
        while let Some(part) = self.to_client.next(&mut rest) {
            match part {
                Part::Head(head) => self.sent(head),
                Part::Code(code) if clients_fault(code) => {
                    if let Err(abuse) = self.resets.take(Abuse::Resets) {
                        self.broken.get_or_insert(abuse);
                    }
                }
                _ => {}
            }
        }
    }

    /// The rule that was broken, if one was.
    #[must_use]
    pub fn broken(&self) -> Option<Abuse> {
        self.broken
    }

    /// The highest stream that the client opened; 0 before the first.
    #[must_use]
    pub fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Whether the client has begun something and not ended it: its preface, a frame, or a header block. A peer
    /// that stays there is slow on purpose.
    #[must_use]
    pub fn midway(&self) -> bool {
        !self.settled || self.in_block || !self.from_client.between()
    }

    /// Whether our side has begun a frame and not ended it: its payload is still to come.
    #[must_use]
    pub fn is_inside_answer(&self) -> bool {
        !self.to_client.between()
    }

    /// The GOAWAY frame that tells the client why the connection ends. `None` while no rule is broken, and while
    /// another frame is only partly written: then nothing more can be said on this connection.
    #[must_use]
    pub fn goaway(&self) -> Option<[u8; 17]> {
        let abuse = self.broken.filter(|_| self.to_client.between())?;
        let mut frame = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let numbers = self.last_stream.to_be_bytes().into_iter().chain(abuse.code().to_be_bytes());
        for (slot, byte) in frame.iter_mut().skip(9).zip(numbers) {
            *slot = byte;
        }
        Some(frame)
    }

    fn pass_time(&mut self, now_us: u64) {
        let micros = now_us.saturating_sub(self.now_us);
        self.now_us = self.now_us.max(now_us);
        for bucket in [
            &mut self.empty_data,
            &mut self.small_data,
            &mut self.control,
            &mut self.side,
            &mut self.resets,
            &mut self.opens,
        ] {
            bucket.pass_us(micros);
        }
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), Abuse> {
        let mut rest = bytes;
        while let Some(&wanted) = PREFACE.get(usize::from(self.preface)) {
            let Some((&byte, after)) = rest.split_first() else { return Ok(()) };
            if byte != wanted {
                return Err(Abuse::Preface);
            }
            self.preface += 1;
            rest = after;
        }
        while let Some(part) = self.from_client.next(&mut rest) {
            match part {
                Part::Head(head) => self.came(head)?,
                Part::Unpadded { data, end } => self.data(data, end)?,
                Part::Setting { id: HEADER_TABLE_SIZE, value } if value > self.header_table_bytes_max => {
                    return Err(Abuse::HeaderTable);
                }
                Part::Setting { id: INITIAL_WINDOW_SIZE, value } => self.resize(value)?,
                Part::Setting { .. } | Part::Code(_) => {}
            }
        }
        Ok(())
    }

    /// The client changes its initial window.
    fn resize(&mut self, value: u32) -> Result<(), Abuse> {
        self.shrunk = self.shrunk.saturating_add(self.initial_window.saturating_sub(value));
        self.initial_window = value;
        if self.shrunk > SHRINKING_MAX { Err(Abuse::Control) } else { Ok(()) }
    }

    /// A frame of the client begins.
    fn came(&mut self, head: Head) -> Result<(), Abuse> {
        if !self.settled {
            if head.kind != SETTINGS || head.has(ACK) {
                return Err(Abuse::FirstFrame);
            }
            self.settled = true;
        }
        if head.length > self.frame_bytes_max {
            return Err(Abuse::FrameSize);
        }
        let more = head.kind == CONTINUATION;
        if more != self.in_block || (more && head.stream != self.block_stream) {
            return Err(Abuse::Interleaved);
        }
        match head.kind {
            DATA if head.has(PADDED) && head.length > 0 => Ok(()), // judged when the padding is known
            DATA => self.data(head.length, head.has(END_STREAM)),
            HEADERS => self.headers(head),
            CONTINUATION => self.continuation(head),
            RST_STREAM => self.resets.take(Abuse::Resets),
            PUSH_PROMISE => Err(Abuse::PushPromise),
            SETTINGS | PING if !head.has(ACK) => {
                self.control.take(Abuse::Control)?;
                self.unanswered = self.unanswered.saturating_add(1);
                if self.unanswered > self.unanswered_max { Err(Abuse::Unanswered) } else { Ok(()) }
            }
            _ => self.side.take(Abuse::Side),
        }
    }

    fn headers(&mut self, head: Head) -> Result<(), Abuse> {
        if head.stream > self.last_stream {
            self.last_stream = head.stream;
            self.opens.take(Abuse::Opens)?;
            self.small_data.give(TOKEN);
            self.side.give(u64::from(REQUEST_GIVES) * TOKEN);
        } else {
            self.side.take(Abuse::Side)?;
        }
        self.in_block = !head.has(END_HEADERS);
        self.block_stream = head.stream;
        self.continuations = 0;
        self.block_bytes = 0;
        self.block(head.length)
    }

    fn continuation(&mut self, head: Head) -> Result<(), Abuse> {
        self.continuations = self.continuations.saturating_add(1);
        if self.continuations > self.continuations_max {
            return Err(Abuse::Continuations);
        }
        let last = head.has(END_HEADERS);
        if head.length == 0 && !last {
            return Err(Abuse::EmptyContinuation);
        }
        self.in_block = !last;
        self.block(head.length)
    }

    /// So many bytes more of a header block.
    fn block(&mut self, bytes: u32) -> Result<(), Abuse> {
        self.block_bytes = self.block_bytes.saturating_add(bytes);
        if self.block_bytes > self.header_block_bytes_max { Err(Abuse::HeaderBlock) } else { Ok(()) }
    }

    /// A DATA frame with so many bytes of data.
    fn data(&mut self, bytes: u32, end: bool) -> Result<(), Abuse> {
        if bytes == 0 && !end {
            self.empty_data.take(Abuse::EmptyData)?;
        }
        if end || bytes < self.small_data_bytes {
            self.small_data.take(Abuse::SmallData)?;
        }
        if bytes > 0 {
            self.empty_data.give(TOKEN);
            self.small_data.give(u64::from(bytes) * TOKEN / u64::from(SMALL_DATA_BYTES));
            self.side.give(u64::from(bytes) * TOKEN / u64::from(SIDE_DATA_BYTES));
        }
        Ok(())
    }

    /// A frame of ours has begun: what it pays for.
    fn sent(&mut self, head: Head) {
        match head.kind {
            DATA if head.length > 0 => {
                self.control.give(TOKEN);
                let bytes = u64::from(head.length) * TOKEN / u64::from(SIDE_DATA_BYTES);
                self.side.give(u64::from(DATA_GIVES) * TOKEN + bytes);
            }
            HEADERS => {
                self.opens.give(TOKEN);
                self.resets.give(TOKEN);
                self.control.give(TOKEN);
                self.side.give(u64::from(ANSWER_GIVES) * TOKEN);
                self.small_data.give(u64::from(ANSWER_GIVES) * TOKEN);
            }
            SETTINGS | PING if head.has(ACK) => self.unanswered = self.unanswered.saturating_sub(1),
            SETTINGS | PING => self.side.give(TOKEN), // the client acknowledges it
            _ => {}
        }
    }
}

/// Whether a reset of ours with this code (RFC 9113 section 7) answers a fault of the client: PROTOCOL_ERROR,
/// FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM. NO_ERROR, INTERNAL_ERROR
/// and CANCEL are our own doing.
fn clients_fault(code: u32) -> bool {
    matches!(code, 1 | 3 | 5 | 6 | 7 | 11)
}
