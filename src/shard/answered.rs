//! An answer that has begun, or is whole: what an attempt brings.

use std::sync::Arc;
use std::time::Duration;

use super::reply::Manner;
use crate::api::{Answer, Stream};
use crate::net::Upstream;
use crate::queue::Place;
use crate::wire::http1::body::Reader;

/// An answer that has begun, or is whole. In memory of its own, since it goes through many hands.
pub struct Answered {
    /// Status of the endpoint, below 300.
    pub status: u16,
    /// `Content-Type` of the endpoint.
    pub content_type: Vec<u8>,
    /// What there is so far.
    pub content: Content,
    /// Fields of the endpoint that go to the client.
    pub passed: Vec<u8>,
    /// Lines that name the endpoint.
    pub endpoint_lines: Arc<[u8]>,
    /// The endpoint's index.
    pub endpoint: usize,
    /// Its slot, until the answer is over.
    pub in_flight: Option<Place>,
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Between two reads.
    pub idle: Duration,
    /// When the exchange must be over, by the shard's clock.
    pub deadline_us: u64,
}

/// The body of an answer.
pub enum Content {
    /// Nothing yet.
    None,
    /// All of it: `buffer[start..]`.
    Whole {
        /// Holds the body.
        buffer: Vec<u8>,
        /// Where it begins.
        start: usize,
        /// What was found in it.
        answer: Answer,
        /// The client's name for the model, as a JSON string.
        model: Vec<u8>,
        /// Whether embeddings are to be base64.
        base64: bool,
    },
    /// A stream whose first events are in `out`.
    Stream {
        /// Where the rest comes from.
        upstream: Upstream,
        /// For reading it.
        buffer: Vec<u8>,
        /// What goes to the client first.
        out: Vec<u8>,
        /// Framing of the endpoint.
        reader: Reader,
        /// State of the events.
        stream: Box<Stream>,
        /// Whether the connection may be used again after its end.
        keep_alive: bool,
    },
}

impl Content {
    /// Bytes that are there to be sent.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Whole { buffer, start, .. } => buffer.len().saturating_sub(*start),
            Self::Stream { out, .. } => out.len(),
        }
    }

    /// What is wrong with it for a client to whom a stream of events has been begun.
    #[must_use]
    pub fn unfit(&self, manner: &Manner) -> Option<&'static str> {
        match self {
            _ if !manner.begun => None,
            Self::Stream { stream, .. } if stream.is_ndjson() => {
                Some("sent lines of JSON where events were asked for")
            }
            Self::Whole { .. } => Some("sent a whole answer where a stream was asked for"),
            _ => None,
        }
    }
}

impl Answered {
    /// An answer without content yet.
    #[must_use]
    pub fn new(status: u16, content_type: Vec<u8>, passed: Vec<u8>, endpoint_lines: Arc<[u8]>) -> Box<Self> {
        Box::new(Self {
            status,
            content_type,
            content: Content::None,
            passed,
            endpoint_lines,
            endpoint: 0,
            in_flight: None,
        })
    }

    /// Whether it is still coming.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.content, Content::Stream { .. })
    }

    /// Whether its stream is of JSON lines.
    #[must_use]
    pub fn is_ndjson(&self) -> bool {
        matches!(&self.content, Content::Stream { stream, .. } if stream.is_ndjson())
    }

    /// Holds the endpoint's slot until the answer is over.
    #[must_use]
    pub fn with(mut self: Box<Self>, in_flight: Place, endpoint: usize) -> Box<Self> {
        self.in_flight = Some(in_flight);
        self.endpoint = endpoint;
        self
    }
}
