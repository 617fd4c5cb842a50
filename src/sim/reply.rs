//! Heads, whole answers and errors, written to the client of one exchange.

use std::io::Write as _;
use std::rc::Rc;

use super::ask::Dialect;
use super::server::Sim;
use super::stats::Stats;
use crate::net::{Client, Stop};
use crate::wire::json;

/// `Content-Type` of what is not streamed.
pub const JSON: &str = "application/json; charset=utf-8";
pub const TEXT: &str = "text/plain; charset=utf-8";

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next request is read.
    Keep,
    /// It is closed.
    Close,
}

/// One request being answered.
pub struct Exchange<'a> {
    pub sim: &'a Rc<Sim>,
    pub client: &'a mut Client,
    /// The connection ends with it.
    pub close: bool,
    /// A HEAD request: no body.
    pub bodyless: bool,
    /// Bytes of the next request are waiting.
    pub early: bool,
}

impl Exchange<'_> {
    /// Its server's counts.
    pub fn stats(&self) -> &Stats {
        &self.sim.stats
    }

    /// Notices from now on if the client leaves. One that pipelines is not watched: a pending read would hold its
    /// next request back until still more comes.
    pub fn watch(&mut self) {
        if !self.early {
            self.client.watch();
        }
    }

    /// A head; without length the body is chunked.
    pub fn head(&self, out: &mut Vec<u8>, status: u16, mime: &str, length: Option<usize>) {
        let _ = write!(out, "HTTP/1.1 {status} {}\r\nContent-Type: {mime}\r\nDate: ", phrase(status));
        self.sim.calendar.http(out);
        if self.close {
            out.extend_from_slice(b"\r\nConnection: close");
        }
        if matches!(status, 429) {
            out.extend_from_slice(b"\r\nRetry-After: 1");
        }
        let _ = match length {
            Some(length) => write!(out, "\r\nContent-Length: {length}\r\n\r\n"),
            None => write!(out, "\r\nTransfer-Encoding: chunked\r\n\r\n"),
        };
    }

    /// A whole answer, in one write.
    pub async fn send(&mut self, status: u16, mime: &str, body: &[u8]) -> Next {
        let mut out = self.sim.buffers.large();
        self.head(&mut out, status, mime, Some(body.len()));
        if !self.bodyless {
            out.extend_from_slice(body);
        }
        self.write(out, Next::Keep).await
    }

    /// Writes `out`; then `next`, unless the client is gone or is to be closed.
    pub async fn write(&mut self, out: Vec<u8>, next: Next) -> Next {
        match self.client.write(out).await {
            Ok(out) => {
                self.sim.buffers.give(out);
                if self.close && next == Next::Keep { Next::Close } else { next }
            }
            Err(stop) => self.left(stop),
        }
    }

    /// The client left, or the server stops.
    pub fn left(&self, stop: Stop) -> Next {
        if stop == Stop::ClientGone {
            self.stats().note_cancelled();
        }
        Next::Close
    }

    /// An error in the words of a dialect.
    pub async fn fail(&mut self, dialect: Dialect, status: u16, text: &str) -> Next {
        let mut body = Vec::with_capacity(160);
        let kind = match status {
            400 => "invalid_request_error",
            404 => "not_found_error",
            401 if dialect == Dialect::Anthropic => "authentication_error",
            403 if dialect == Dialect::Anthropic => "permission_error",
            429 if dialect == Dialect::Anthropic => "rate_limit_error",
            _ => "api_error",
        };
        let (before, after) = match dialect {
            Dialect::Native => ("{\"error\":\"".to_owned(), "\"}".to_owned()),
            Dialect::OpenAi => (
                "{\"error\":{\"message\":\"".to_owned(),
                format!("\",\"type\":\"{kind}\",\"param\":null,\"code\":null}}}}"),
            ),
            Dialect::Anthropic => (
                format!("{{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":\""),
                "\"}}".to_owned(),
            ),
        };
        body.extend_from_slice(before.as_bytes());
        json::escape_into(&mut body, text);
        body.extend_from_slice(after.as_bytes());
        self.send(status, JSON, &body).await
    }
}

/// Appends `data` as one chunk.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        let _ = write!(out, "{:x}\r\n", data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Request Entity Too Large",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
