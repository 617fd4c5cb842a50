//! HTTP/1.1 as RFC 9110 and 9112 write it, read strictly: what two hops could read differently is refused.
//!
//! `httparse` finds the tokens of a head; everything that decides framing is checked here on top of it. The same
//! rules hold towards clients and towards endpoints.

pub mod body;
pub mod chunked;
pub mod field;
pub mod limits;
pub mod request;
pub mod response;

pub use chunked::{ChunkError, Chunked};
pub use limits::Limits;
pub use request::{Method, Request, RequestError};
pub use response::{Response, ResponseError};

/// How the bytes of a message's body are told from what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// So many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the connection ends (answers only).
    Close,
}
