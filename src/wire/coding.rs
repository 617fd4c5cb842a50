//! Content codings (RFC 9110 section 8.4): bodies of requests are decoded, bodies of answers get gzip.
//!
//! gzip (RFC 1952) with all its members, deflate in its zlib form (RFC 1950), zstd (RFC 8878) with all its frames.
//! Nothing runs to the end by itself: [`Decoder::step`] and [`Encoder::step`] do a bounded piece of work and return,
//! so that one body never holds a shard. What is decoded, and what is refused, does not depend on where the input is
//! cut or how large the steps are.
//!
//! Bounds: the output is bounded by `bytes_max`; no ratio is judged, since texts that repeat themselves reach any ratio
//! and the bound on bytes already bounds memory and time. A zstd frame that declares more is refused at its header.
//! zstd windows end at 8 MiB (RFC 9659). Memory beside the output: gzip and deflate about 48 KiB; zstd the window and
//! a block, for a window of 8 MiB 13 MiB, and 28 MiB if its blocks are made to burst; an encoder 370 KiB.
//! One step: `step_bytes_max` of input and of output, one gzip member, one zstd block (128 KiB of output, about 1 ms).

use std::io::Read;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Largest zstd window in bytes: what RFC 9659 section 3 tells encoders to keep to.
pub const WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Level of gzip: answers and embeddings come within 3 % of the size of level 6, which takes up to four times as long.
const LEVEL: u32 = 3;
/// Window of gzip and zlib: 32 KiB, as both formats allow.
const WINDOW_BITS: u8 = 15;
/// Least and usual room for output that is offered at once, as a factor of the input at hand.
const ROOM_BYTES_MIN: usize = 4096;
const ROOM_FACTOR: usize = 8;

/// Largest zstd block in bytes (RFC 8878 section 3.1.1.2.3).
const BLOCK_BYTES_MAX: usize = 128 * 1024;
const BLOCK_HEAD_BYTES: usize = 3;
const CHECKSUM_BYTES: usize = 4;
const FRAME_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What follows the first byte, 0x50 to 0x5f, of a skippable frame.
const SKIPPABLE_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];
const SKIPPABLE_HEAD_BYTES: usize = 8;

/// How a body is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// `gzip` and its old name `x-gzip`.
    Gzip,
    /// `deflate`: a zlib stream. A bare deflate stream is refused.
    Deflate,
    /// `zstd`.
    Zstd,
}

impl Coding {
    /// Reads the value of `Content-Encoding`. `None` for a coding that is not known and for more than one: status 415.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<Self> {
        match value.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Some(Self::Identity),
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"deflate" => Some(Self::Deflate),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Why a body cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// More output than `bytes_max`, or a zstd window above [`WINDOW_BYTES_MAX`]: status 413.
    TooLarge,
    /// Not the format, a wrong checksum or length, bytes behind the end, or an empty body: status 400.
    Malformed,
    /// The body ended before its coding did: status 400.
    Truncated,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are used; the rest is offered again.
    pub used: usize,
    /// There is more to do: call again, after others had their turn, with the rest of the input, even if it is empty.
    /// Else all input is used.
    pub again: bool,
    /// The coding is complete: the body may end here. More input may follow (members, frames).
    pub done: bool,
}

/// Decodes one body that comes in pieces.
pub struct Decoder {
    kind: Kind,
    /// Output bytes that may still come.
    left: usize,
    /// A first byte has come.
    begun: bool,
    /// The last step's `done`, and not its `again`.
    complete: bool,
    broken: Option<Broken>,
}

enum Kind {
    Identity,
    Inflate(Inflate),
    Zstd(Box<Zstd>),
}

impl Decoder {
    /// A decoder whose output ends at `bytes_max`.
    #[must_use]
    pub fn new(coding: Coding, bytes_max: usize) -> Self {
        let kind = match coding {
            Coding::Identity => Kind::Identity,
            Coding::Gzip => Kind::Inflate(Inflate::new(true)),
            Coding::Deflate => Kind::Inflate(Inflate::new(false)),
            Coding::Zstd => Kind::Zstd(Box::new(Zstd::new())),
        };
        Self { kind, left: bytes_max, begun: false, complete: coding == Coding::Identity, broken: None }
    }

    /// Decodes some of `input` and appends it to `out`: at most `step_bytes_max` (0 is 1) of both.
    ///
    /// # Errors
    /// [`Broken::TooLarge`] or [`Broken::Malformed`]; `out` then holds no more than `bytes_max` of this body, and every
    /// later call says the same.
    pub fn step(&mut self, input: &[u8], out: &mut Vec<u8>, step_bytes_max: usize) -> Result<Step, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        self.begun |= !input.is_empty();
        let limit = step_bytes_max.max(1);
        let offered = input.get(..limit).unwrap_or(input);
        let start = out.len();
        let step = match &mut self.kind {
            Kind::Identity => identity(offered, out, self.left),
            Kind::Inflate(inflate) => inflate.step(offered, out, limit, self.left),
            Kind::Zstd(zstd) => zstd.step(offered, out, limit, self.left),
        };
        let wrote = out.len().saturating_sub(start);
        // A byte over the bound says more than what stands behind it.
        let step = if wrote > self.left { Err(Broken::TooLarge) } else { step };
        out.truncate(start.saturating_add(self.left));
        self.left = self.left.saturating_sub(wrote);
        self.broken = step.err();
        let mut step = step?;
        step.again |= step.used < input.len();
        self.complete = step.done && !step.again;
        Ok(step)
    }

    /// Called when the body has ended and no step asks for another.
    ///
    /// # Errors
    /// [`Broken::Truncated`] if more had to come; [`Broken::Malformed`] if nothing came at all, where the coding has no
    /// empty form; what a step said before.
    pub fn finish(&self) -> Result<(), Broken> {
        match self.broken {
            Some(broken) => Err(broken),
            None if self.complete => Ok(()),
            None if self.begun => Err(Broken::Truncated),
            None => Err(Broken::Malformed),
        }
    }
}

/// `left + 1` bytes at most, of which the last breaks the bound.
fn identity(input: &[u8], out: &mut Vec<u8>, left: usize) -> Result<Step, Broken> {
    let taken = input.get(..left.saturating_add(1)).unwrap_or(input);
    out.extend_from_slice(taken);
    Ok(Step { used: taken.len(), again: false, done: true })
}

/// gzip or zlib.
struct Inflate {
    stream: Decompress,
    gzip: bool,
    /// The stream has ended; what follows can only be another member.
    ended: bool,
}

impl Inflate {
    fn new(gzip: bool) -> Self {
        Self { stream: Self::stream(gzip), gzip, ended: false }
    }

    fn stream(gzip: bool) -> Decompress {
        if gzip { Decompress::new_gzip(WINDOW_BITS) } else { Decompress::new(true) }
    }

    fn step(&mut self, input: &[u8], out: &mut Vec<u8>, limit: usize, left: usize) -> Result<Step, Broken> {
        if self.ended {
            let Some(&first) = input.first() else {
                return Ok(Step { used: 0, again: false, done: true });
            };
            // The first byte already tells a member from rubbish.
            if !self.gzip || first != 0x1f {
                return Err(Broken::Malformed);
            }
            (self.stream, self.ended) = (Self::stream(true), false);
        }
        let start = out.len();
        let room = room(input.len(), limit).min(left.saturating_add(1));
        out.resize(start.saturating_add(room), 0);
        let (used, wrote) = (self.stream.total_in(), self.stream.total_out());
        let status =
            self.stream.decompress(input, out.get_mut(start..).unwrap_or_default(), FlushDecompress::None);
        let used = difference(self.stream.total_in(), used);
        let wrote = difference(self.stream.total_out(), wrote);
        out.truncate(start.saturating_add(wrote));
        let status = status.map_err(|_| Broken::Malformed)?;
        self.ended = status == Status::StreamEnd;
        Ok(Step { used, again: !self.ended && wrote == room, done: self.ended })
    }
}

/// How much room a step gets: enough for most inputs, little enough to be zeroed for nothing.
fn room(input_bytes: usize, limit: usize) -> usize {
    input_bytes.saturating_mul(ROOM_FACTOR).max(ROOM_BYTES_MIN).min(limit)
}

fn difference(now: u64, before: u64) -> usize {
    usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX)
}

/// zstd: frames and blocks are cut out here and decoded one by one.
struct Zstd {
    frame: FrameDecoder,
    stage: Stage,
    /// What is being collected: a frame's head, or a block with its head and the checksum behind the last.
    part: Vec<u8>,
    /// Output that the frame's head declared and that is still to come.
    declared: Option<u64>,
    checksum: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing of the first or next frame has come; whether one was there.
    Between { some: bool },
    /// In a frame's head.
    Head,
    /// In a skippable frame; bytes to drop.
    Skip(usize),
    /// In a block.
    Block,
    /// Behind the last block; its output is being handed out.
    Last,
}

impl Zstd {
    fn new() -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(WINDOW_BYTES_MAX);
        let stage = Stage::Between { some: false };
        Self { frame, stage, part: Vec::new(), declared: None, checksum: false }
    }

    /// One head or one block, then what can be handed out. All output of a block goes before the next is decoded, so
    /// that the verdict does not depend on the steps.
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>, limit: usize, left: usize) -> Result<Step, Broken> {
        let pending = self.stage == Stage::Last || self.frame.can_collect() > 0;
        let used = if pending { 0 } else { self.take(input, left)? };
        self.hand_out(out, limit, left)?;
        let again = self.stage == Stage::Last || self.frame.can_collect() > 0;
        Ok(Step { used, again, done: self.stage == Stage::Between { some: true } })
    }

    fn take(&mut self, input: &[u8], left: usize) -> Result<usize, Broken> {
        match self.stage {
            Stage::Last => Ok(0),
            Stage::Between { .. } if input.is_empty() => Ok(0),
            Stage::Between { .. } | Stage::Head => {
                self.stage = Stage::Head;
                self.head(input, left)
            }
            Stage::Skip(bytes) => {
                let taken = input.len().min(bytes);
                self.stage = skip(bytes.saturating_sub(taken));
                Ok(taken)
            }
            Stage::Block => self.block(input),
        }
    }

    /// Reads the head of a frame (RFC 8878 section 3.1.1.1).
    fn head(&mut self, input: &[u8], left: usize) -> Result<usize, Broken> {
        let (used, whole) = collect(&mut self.part, input, frame_head_bytes);
        if !magic_fits(&self.part) {
            return Err(Broken::Malformed);
        }
        if !whole {
            return Ok(used);
        }
        if is_skippable(&self.part) {
            let bytes = number(self.part.get(4..).unwrap_or_default());
            self.stage = skip(usize::try_from(bytes).unwrap_or(usize::MAX));
            self.part.clear();
            return Ok(used);
        }
        let descriptor = Descriptor(self.part.get(4).copied().unwrap_or_default());
        if descriptor.has(Descriptor::RESERVED) {
            return Err(Broken::Malformed);
        }
        self.checksum = descriptor.has(Descriptor::CHECKSUM);
        self.declared = descriptor.content_bytes(&self.part);
        if self.declared.is_some_and(|bytes| bytes > u64::try_from(left).unwrap_or(u64::MAX)) {
            return Err(Broken::TooLarge);
        }
        use FrameDecoderError::{FrameHeaderError, WindowSizeTooBig};
        self.frame.reset(self.part.as_slice()).map_err(|error| match error {
            WindowSizeTooBig { .. } | FrameHeaderError(_) => Broken::TooLarge,
            _ => Broken::Malformed,
        })?;
        self.part.clear();
        self.stage = Stage::Block;
        Ok(used)
    }

    fn block(&mut self, input: &[u8]) -> Result<usize, Broken> {
        let checksum = self.checksum;
        let (used, whole) = collect(&mut self.part, input, |part| block_bytes(part, checksum));
        if BlockHead::read(&self.part).is_some_and(|head| !head.is_valid()) {
            return Err(Broken::Malformed);
        }
        if whole {
            if literals_bytes(&self.part) > BLOCK_BYTES_MAX {
                return Err(Broken::Malformed);
            }
            let one = BlockDecodingStrategy::UptoBlocks(1);
            let last = self.frame.decode_blocks(self.part.as_slice(), one).map_err(|_| Broken::Malformed)?;
            self.part.clear();
            self.stage = if last { Stage::Last } else { Stage::Block };
        }
        Ok(used)
    }

    fn hand_out(&mut self, out: &mut Vec<u8>, limit: usize, left: usize) -> Result<(), Broken> {
        let start = out.len();
        let room = self.frame.can_collect().min(limit).min(left.saturating_add(1));
        out.resize(start.saturating_add(room), 0);
        let read = self.frame.read(out.get_mut(start..).unwrap_or_default());
        let wrote = read.map_err(|_| Broken::Malformed)?;
        out.truncate(start.saturating_add(wrote));
        if let Some(bytes) = self.declared.as_mut() {
            let fewer = bytes.checked_sub(u64::try_from(wrote).unwrap_or(u64::MAX));
            *bytes = fewer.ok_or(Broken::Malformed)?;
        }
        if self.stage == Stage::Last && self.frame.can_collect() == 0 {
            let sum = self.frame.get_checksum_from_data();
            let matches = !self.checksum || sum == self.frame.get_calculated_checksum();
            if !matches || self.declared.is_some_and(|bytes| bytes > 0) {
                return Err(Broken::Malformed);
            }
            self.stage = Stage::Between { some: true };
        }
        Ok(())
    }
}

fn skip(bytes: usize) -> Stage {
    if bytes == 0 { Stage::Between { some: true } } else { Stage::Skip(bytes) }
}

/// Moves bytes to `part` until it has as many as `need` says of it. How many were moved, and whether it is whole.
fn collect(part: &mut Vec<u8>, input: &[u8], need: impl Fn(&[u8]) -> usize) -> (usize, bool) {
    let mut used = 0;
    loop {
        let missing = need(part).saturating_sub(part.len());
        let rest = input.get(used..).unwrap_or_default();
        let moved = rest.get(..missing).unwrap_or(rest);
        if moved.is_empty() {
            return (used, missing == 0);
        }
        part.extend_from_slice(moved);
        used = used.saturating_add(moved.len());
    }
}

/// Whether `head` can be the start of a frame.
fn magic_fits(head: &[u8]) -> bool {
    let magic = head.get(..4).unwrap_or(head);
    FRAME_MAGIC.starts_with(magic) || is_skippable(head)
}

fn is_skippable(head: &[u8]) -> bool {
    head.split_first().is_some_and(|(first, rest)| {
        first & 0xf0 == 0x50 && SKIPPABLE_MAGIC.starts_with(rest.get(..3).unwrap_or(rest))
    })
}

/// Bytes of a frame's head as far as `head` tells.
fn frame_head_bytes(head: &[u8]) -> usize {
    match head.get(4) {
        _ if is_skippable(head) => SKIPPABLE_HEAD_BYTES,
        None => FRAME_MAGIC.len() + 1,
        Some(&descriptor) => Descriptor(descriptor).end(),
    }
}

/// The fifth byte of a frame: which fields follow.
struct Descriptor(u8);

impl Descriptor {
    const CHECKSUM: u8 = 0x04;
    const RESERVED: u8 = 0x08;
    const SINGLE_SEGMENT: u8 = 0x20;

    fn has(&self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    fn content_field_bytes(&self) -> usize {
        match self.0 >> 6 {
            0 => usize::from(self.has(Self::SINGLE_SEGMENT)),
            1 => 2,
            2 => 4,
            _ => 8,
        }
    }

    /// Where the content's size begins: behind window and dictionary.
    fn content_at(&self) -> usize {
        let dictionary = [0, 1, 2, 4].get(usize::from(self.0 & 3)).copied().unwrap_or(0);
        FRAME_MAGIC.len() + 1 + usize::from(!self.has(Self::SINGLE_SEGMENT)) + dictionary
    }

    fn end(&self) -> usize {
        self.content_at() + self.content_field_bytes()
    }

    /// The content's size that `head` declares.
    fn content_bytes(&self, head: &[u8]) -> Option<u64> {
        let field = head.get(self.content_at()..self.end()).filter(|field| !field.is_empty())?;
        Some(number(field).saturating_add(if field.len() == 2 { 256 } else { 0 }))
    }
}

/// The three bytes before a block.
struct BlockHead(u64);

impl BlockHead {
    const KIND: u64 = 0b110;
    const RLE: u64 = 0b010;
    const RESERVED: u64 = 0b110;

    fn read(part: &[u8]) -> Option<Self> {
        part.get(..BLOCK_HEAD_BYTES).map(|head| Self(number(head)))
    }

    fn size(&self) -> usize {
        usize::try_from(self.0 >> 3).unwrap_or(usize::MAX)
    }

    fn is_valid(&self) -> bool {
        self.0 & Self::KIND != Self::RESERVED && self.size() <= BLOCK_BYTES_MAX
    }

    /// Bytes behind the head: of an RLE block, the one that is repeated.
    fn body_bytes(&self) -> usize {
        if self.0 & Self::KIND == Self::RLE { 1 } else { self.size().min(BLOCK_BYTES_MAX) }
    }

    fn last(&self) -> bool {
        self.0 & 1 != 0
    }
}

/// Bytes of a block with its head, and the checksum if the frame ends with it.
fn block_bytes(part: &[u8], checksum: bool) -> usize {
    BlockHead::read(part).map_or(BLOCK_HEAD_BYTES, |head| {
        let behind = if checksum && head.last() { CHECKSUM_BYTES } else { 0 };
        BLOCK_HEAD_BYTES + head.body_bytes() + behind
    })
}

/// Literals that a compressed block declares in a field of 20 or 18 bits (RFC 8878 section 3.1.1.3.1.1); 0 for the
/// smaller fields and for other blocks. ruzstd bounds the rest of a block's output itself.
fn literals_bytes(part: &[u8]) -> usize {
    let head = number(part.get(BLOCK_HEAD_BYTES..BLOCK_HEAD_BYTES + 3).unwrap_or_default());
    let compressed = BlockHead::read(part).is_some_and(|block| block.0 & BlockHead::KIND == 0b100);
    let bits = if head & 0b10 == 0 { 20 } else { 18 };
    let bytes = if compressed && head & 0b1100 == 0b1100 { (head >> 4) & ((1 << bits) - 1) } else { 0 };
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Little endian, of eight bytes at most.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, &byte| (sum << 8) | u64::from(byte))
}

/// Whether `Accept-Encoding` (several fields joined by commas) lets an answer be gzip (RFC 9110 section 12.5.3).
///
/// A weight of 0 refuses, and so does one that cannot be read; what names gzip goes before `*`. Which coding is liked
/// best is not asked: only gzip is there.
#[must_use]
pub fn accepts_gzip(accept_encoding: &[u8]) -> bool {
    let (mut named, mut any) = (None, false);
    for element in accept_encoding.split(|&byte| byte == b',') {
        let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let accepted = parts.all(is_positive_weight);
        if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") {
            named = Some(accepted && named.unwrap_or(true));
        } else if name == b"*" {
            any = accepted;
        }
    }
    named.unwrap_or(any)
}

/// Whether `parameter` is `q=` and a number of up to three decimals in 0.001 to 1.
fn is_positive_weight(parameter: &[u8]) -> bool {
    let [b'q' | b'Q', b'=', whole, fraction @ ..] = parameter else {
        return false;
    };
    let digits = match fraction {
        [] => fraction,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return false,
    };
    let zeros = digits.iter().all(|&byte| byte == b'0');
    match whole {
        b'0' => !zeros && digits.iter().all(u8::is_ascii_digit),
        b'1' => zeros,
        _ => false,
    }
}

/// Writes one gzip member. Kept between answers, it allocates nothing.
pub struct Encoder {
    stream: Compress,
    finishing: bool,
    ended: bool,
}

impl Default for Encoder {
    fn default() -> Self {
        let stream = Compress::new_gzip(Compression::new(LEVEL), WINDOW_BITS);
        Self { stream, finishing: false, ended: false }
    }
}

impl Encoder {
    /// Begins another body, whatever became of the last.
    pub fn reset(&mut self) {
        self.stream.reset();
        (self.finishing, self.ended) = (false, false);
    }

    /// Encodes some of `input`, appending to `out`: at most `step_bytes_max` (0 is 1) of both. `last` says that the body
    /// ends with `input`; then `done` comes when all is written.
    ///
    /// # Errors
    /// [`Broken::Malformed`] for input behind the last.
    pub fn step(
        &mut self,
        input: &[u8],
        last: bool,
        out: &mut Vec<u8>,
        step_bytes_max: usize,
    ) -> Result<Step, Broken> {
        if self.finishing && !input.is_empty() {
            return Err(Broken::Malformed);
        }
        if self.ended {
            return Ok(Step { used: 0, again: false, done: true });
        }
        let limit = step_bytes_max.max(1);
        let offered = input.get(..limit).unwrap_or(input);
        let last = last && offered.len() == input.len();
        let flush = if last || self.finishing { FlushCompress::Finish } else { FlushCompress::None };
        let start = out.len();
        let room = offered.len().max(ROOM_BYTES_MIN).min(limit);
        out.resize(start.saturating_add(room), 0);
        let (used, wrote) = (self.stream.total_in(), self.stream.total_out());
        let status = self.stream.compress(offered, out.get_mut(start..).unwrap_or_default(), flush);
        let used = difference(self.stream.total_in(), used);
        let wrote = difference(self.stream.total_out(), wrote);
        out.truncate(start.saturating_add(wrote));
        self.ended = status.map_err(|_| Broken::Malformed)? == Status::StreamEnd;
        self.finishing |= last && used == input.len();
        let again = used < input.len() || (!self.ended && wrote == room);
        Ok(Step { used, again, done: self.ended })
    }
}

/// Appends `body` as gzip, all at once: for bodies of some KiB. `false`, which no body is known to cause, leaves `out`
/// as it was.
pub fn gzip(body: &[u8], out: &mut Vec<u8>) -> bool {
    let (mut encoder, mut rest, start) = (Encoder::default(), body, out.len());
    while let Ok(step) = encoder.step(rest, true, out, usize::MAX) {
        rest = rest.get(step.used..).unwrap_or_default();
        if !step.again {
            return step.done;
        }
    }
    out.truncate(start);
    false
}

#[cfg(test)]
mod tests;
