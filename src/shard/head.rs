//! Reading a request: its head, then its body, each within its bounds.

use crate::api::{Failure, FailureKind};
use crate::net::Client;
use crate::net::client::{Line, Stop};
use crate::refusal;
use crate::wire::coding::{self, Coding, Decoder};
use crate::wire::http1::request::{HeadScan, may_continue};
use crate::wire::http1::{Chunked, Framing, Request, RequestError};
use crate::world::Reservation;

use super::{Core, Shard};

/// Bytes of a compressed body that are looked at, or made of it, before others have their turn. A zstd block, up to
/// 128 KiB, is not cut.
const DECODED_AT_ONCE: usize = 16 * 1024;

/// A request as it came: `buffer` holds head and, once read, body.
pub struct Incoming {
    /// Head and body.
    pub buffer: Vec<u8>,
    /// The checked head.
    pub request: Request,
    /// When its first byte came, by the shard's clock.
    pub since_us: u64,
    /// The length that its body has announced.
    pub announced: Option<u64>,
    /// It came on a stream of HTTP/2.
    pub http2: bool,
    /// Its body has been read to its end.
    pub consumed: bool,
}

impl Incoming {
    /// A request that came on a stream of its own, `whole` if no body follows; `head` is what HTTP/1.1 would have
    /// sent. The end of the stream ends the body, whatever length was announced.
    ///
    /// # Errors
    /// The rule it breaks.
    pub fn of_stream(shard: &Shard, head: Vec<u8>, whole: bool) -> Result<Box<Self>, RequestError> {
        let since_us = shard.clock.now_us();
        match HeadScan::default().find(&head, &shard.limits)? {
            Some(head_bytes) if head_bytes == head.len() => {}
            _ => return Err(RequestError::Field),
        }
        let mut request = Request::parse(&head, &shard.limits)?;
        let announced = announced(&request);
        request.framing = if whole { Framing::None } else { Framing::Close };
        request.keep_alive = true;
        Ok(Box::new(Self { buffer: head, request, since_us, announced, http2: true, consumed: false }))
    }
}

/// Why there is no request.
pub enum NoRequest {
    /// The client closed, or kept silent too long: nothing to say.
    Quiet,
    /// It broke a rule: say so and close.
    Refused(RequestError),
    /// Its head did not come in time.
    TimedOut,
}

/// Takes the head of a request that is there as a whole, as most are. `None`: [`read`] has to wait for the rest.
pub fn read_now(shard: &Shard, client: &mut Client) -> Option<Result<Box<Incoming>, NoRequest>> {
    let (mut scan, since_us) = (HeadScan::default(), shard.clock.now_us());
    let buffer = client.take_if(|bytes| matches!(scan.find(bytes, &shard.limits), Ok(Some(_))))?;
    client.timer().set(since_us + micros(shard.world.config.server.head_timeout));
    Some(parse(shard, buffer, since_us).map_err(NoRequest::Refused))
}

/// Reads the head of a request whose first bytes are there.
///
/// # Errors
/// See [`NoRequest`]; the connection ends in every case.
pub async fn read(shard: &Shard, client: &mut Client) -> Result<Box<Incoming>, NoRequest> {
    let since_us = shard.clock.now_us();
    let server = &shard.world.config.server;
    client.timer().set(since_us + micros(server.head_timeout));
    let (mut buffer, mut scan) = (Vec::new(), HeadScan::default());
    loop {
        match client.fill(&mut buffer).await {
            Ok(0) if buffer.is_empty() => return Err(NoRequest::Quiet),
            Ok(0) => return Err(NoRequest::Refused(RequestError::Line)),
            Ok(_) => {}
            Err(Stop::Deadline) => return Err(NoRequest::TimedOut),
            Err(Stop::ClientGone) => return Err(NoRequest::Quiet),
        }
        let lines = scan.lines();
        match scan.find(&buffer, &shard.limits).map_err(NoRequest::Refused)? {
            Some(_) => break,
            None if scan.lines() > lines => may_continue(&buffer).map_err(NoRequest::Refused)?,
            None => {}
        }
    }
    parse(shard, buffer, since_us).map_err(NoRequest::Refused)
}

fn parse(shard: &Shard, buffer: Vec<u8>, since_us: u64) -> Result<Box<Incoming>, RequestError> {
    let request = Request::parse(&buffer, &shard.limits)?;
    let announced = announced(&request);
    Ok(Box::new(Incoming { buffer, request, since_us, announced, http2: false, consumed: false }))
}

/// What a connection does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Bytes of a request are there.
    Request,
    /// It has been silent for a while; nothing is pending on it.
    Rest,
    /// The client is gone, or the gateway drains and has waited long enough.
    Close,
}

/// Silence after which a connection gives its memory back.
const REST_AFTER_US: u64 = 1_000_000;

/// Waits for the first byte of a request.
pub async fn wait(core: &Core, client: &mut Line) -> Next {
    client.timer().set_idle(core.clock.here_us() + REST_AFTER_US);
    loop {
        match client.idle().await {
            Ok(true) => return Next::Request,
            // Who has ended its side may still read the last answer; who does not read it is not waited for for ever.
            Ok(false) => {
                let _ = Box::pin(client.sent()).await;
                return Next::Close;
            }
            Err(_) if !client.has_sent() => match Box::pin(client.sent()).await {
                Ok(()) => client.timer().set_idle(core.clock.now_us() + REST_AFTER_US),
                Err(_) => return Next::Close,
            },
            Err(_) if core.closes_idle() => return Next::Close,
            Err(_) if client.rest().await => return Next::Rest,
            Err(_) => client.timer().set_idle(core.clock.now_us() + REST_AFTER_US),
        }
    }
}

/// Reads the body behind the head. Afterwards `buffer` ends with the body, and what came behind it is back with the
/// client. Returns where the body begins.
///
/// # Errors
/// 408, 413, 400, 503; `None`: the client is gone.
pub async fn read_body(
    shard: &Shard,
    client: &mut Client,
    incoming: &mut Incoming,
    held: &mut Reservation,
) -> Result<usize, Option<Failure>> {
    let head = incoming.request.head_bytes;
    let length_max = shard.world.config.server.body_bytes_max.0;
    let mut body =
        Body { chunked: Chunked::default(), end: head, framing: incoming.request.framing, ended: false };
    check_announced(shard, incoming)?;
    let mut told = !incoming.request.expects_continue;
    loop {
        let whole = body.advance(&mut incoming.buffer)?;
        // What a chunk announces counts, so that a body too large is refused before it is here.
        if (body.end - head) as u64 + body.chunked.left() > length_max {
            return Err(Some(refusal::too_large(length_max)));
        }
        if whole {
            break;
        }
        if !told {
            told = true;
            let interim = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
            Box::pin(client.write(interim)).await.map_err(|_| None)?;
        }
        grow(&mut incoming.buffer, &body, head, held)?;
        client.timer().set(shard.clock.after(shard.world.config.server.body_timeout));
        match client.fill(&mut incoming.buffer).await {
            Ok(n) if n > 0 => {}
            Ok(_) if body.framing == Framing::Close => body.ended = true,
            Ok(_) | Err(Stop::ClientGone) => return Err(None),
            Err(Stop::Deadline) => {
                return Err(Some(Failure::new(
                    FailureKind::BodyTimeout,
                    "The request body did not come in time.",
                )));
            }
        }
    }
    client.unread(incoming.buffer.get(body.end..).unwrap_or_default());
    incoming.buffer.truncate(body.end);
    incoming.consumed = true;
    if let Some(coding) = incoming.request.coding.filter(|_| body.end > head) {
        Box::pin(decode(shard, incoming, coding, held)).await?;
    }
    Ok(head)
}

/// Puts what a compressed body means in its place, a slice at a time. It may not be larger than a plain one.
async fn decode(
    shard: &Shard,
    incoming: &mut Incoming,
    coding: Coding,
    held: &mut Reservation,
) -> Result<(), Option<Failure>> {
    let head = incoming.request.head_bytes;
    let length_max = shard.world.config.server.body_bytes_max.0;
    let fail = |broken| match broken {
        coding::Broken::TooLarge => Some(refusal::too_large(length_max)),
        coding::Broken::Malformed | coding::Broken::Truncated => {
            Some(Failure::new(FailureKind::Coding, "The compressed request body is malformed."))
        }
    };
    // A decoder may take much more memory than its body.
    let _pass = shard.decoders.enter().await;
    let packed = std::mem::take(&mut incoming.buffer);
    let mut plain = packed.get(..head).unwrap_or_default().to_vec();
    let mut rest = packed.get(head..).unwrap_or_default();
    let mut decoder = Decoder::new(coding, usize::try_from(length_max).unwrap_or(usize::MAX));
    loop {
        let step = decoder.step(rest, &mut plain, DECODED_AT_ONCE).map_err(fail)?;
        rest = rest.get(step.used..).unwrap_or_default();
        if !step.again {
            break;
        }
        if !held.raise_to(packed.capacity() + plain.capacity()) {
            return Err(Some(refusal::too_many_large("bodies")));
        }
        shard.turns.pass().await;
    }
    decoder.finish().map_err(fail)?;
    incoming.buffer = plain;
    Ok(())
}

fn announced(request: &Request) -> Option<u64> {
    match request.framing {
        Framing::Length(length) => Some(length),
        _ => None,
    }
}

/// Whether the body of a request has come whole with its head, so that it can be read without waiting.
#[must_use]
pub fn body_is_here(incoming: &Incoming) -> bool {
    match incoming.request.framing {
        Framing::None => true,
        Framing::Length(length) => {
            (incoming.buffer.len() - incoming.request.head_bytes.min(incoming.buffer.len())) as u64 >= length
        }
        Framing::Chunked | Framing::Close => false,
    }
}

/// Refuses a body that has announced to be too large.
///
/// # Errors
/// 413.
pub fn check_announced(shard: &Shard, incoming: &Incoming) -> Result<(), Option<Failure>> {
    let length_max = shard.world.config.server.body_bytes_max.0;
    if incoming.announced.is_some_and(|length| length > length_max) {
        Err(Some(refusal::too_large(length_max)))
    } else {
        Ok(())
    }
}

struct Body {
    chunked: Chunked,
    end: usize,
    framing: Framing,
    /// The client's stream is over.
    ended: bool,
}

impl Body {
    /// Looks at what has come; `true`: the body ends at `self.end`.
    fn advance(&mut self, buffer: &mut Vec<u8>) -> Result<bool, Option<Failure>> {
        match self.framing {
            Framing::None => Ok(true),
            Framing::Close => {
                self.end = buffer.len();
                Ok(self.ended)
            }
            Framing::Length(length) => {
                let head = self.end;
                let whole = (buffer.len() - head) as u64 >= length;
                if whole {
                    self.end = head + usize::try_from(length).unwrap_or(0);
                }
                Ok(whole)
            }
            Framing::Chunked => {
                let end = self.chunked.decode(buffer, self.end);
                self.end = end.map_err(|_| {
                    Some(Failure::new(FailureKind::Http, "The chunked request body is malformed."))
                })?;
                Ok(self.chunked.done())
            }
        }
    }
}

/// Makes room for the next read: as much as the body still needs, at most doubling, so that a client cannot make
/// us hold memory for bytes it has only announced.
fn grow(
    buffer: &mut Vec<u8>,
    body: &Body,
    head: usize,
    held: &mut Reservation,
) -> Result<(), Option<Failure>> {
    if buffer.len() < buffer.capacity() {
        return Ok(());
    }
    let needed = match body.framing {
        Framing::Length(length) => {
            (head + usize::try_from(length).unwrap_or(usize::MAX)).saturating_sub(buffer.len())
        }
        _ => usize::MAX,
    };
    buffer.reserve_exact(needed.clamp(1024, buffer.len().max(16 * 1024)));
    if held.raise_to(buffer.capacity()) { Ok(()) } else { Err(Some(refusal::too_many_large("bodies"))) }
}

/// Microseconds of a duration.
#[must_use]
pub fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 4)
}
