//! Heads of answers to clients.

use std::rc::Rc;

use crate::api::{Dialect, Failure};
use crate::wire::coding;
use crate::wire::http1::request::Name;

use super::Shard;
use super::head::Incoming;

/// Largest body that is compressed: about a millisecond.
const SQUEEZED_MAX: usize = 64 * 1024;

/// The version of HTTP that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A stream ends with its connection.
    Http10,
    /// A stream is in chunks.
    Http11,
    /// A stream is a stream.
    Http2,
}

/// What all answers of one exchange have in common.
#[derive(Debug, Clone)]
pub struct Manner {
    /// The client's request id, or ours.
    pub request_id: String,
    /// How errors look.
    pub dialect: Dialect,
    /// Whether the connection lives on.
    pub keep_alive: bool,
    /// What its answers are framed by.
    pub version: Version,
    /// HEAD: no body is sent.
    pub head_only: bool,
    /// What a browser's page is told, ready to be sent.
    pub cors: Option<Rc<str>>,
    /// Lines about rates and quotas, ready to be sent.
    pub rates: Vec<u8>,
    /// Large JSON may be compressed.
    pub gzip: bool,
    /// The connection is encrypted.
    pub secure: bool,
    /// The head of a stream has gone out, before there was content: the status is told.
    pub begun: bool,
}

impl Manner {
    /// For a request that was read.
    #[must_use]
    pub fn of(shard: &Shard, incoming: &Incoming, secure: bool) -> Self {
        let (buffer, request) = (&incoming.buffer, &incoming.request);
        let given = request
            .field(buffer, Name::RequestId)
            .filter(|id| id.len() <= 128 && id.iter().all(u8::is_ascii_graphic));
        Self {
            request_id: given
                .map_or_else(|| request_id(shard), |id| String::from_utf8_lossy(id).into_owned()),
            dialect: crate::route::dialect(request.path.text(buffer)),
            keep_alive: request.keep_alive && (incoming.http2 || !shard.world.is_draining()),
            version: match (incoming.http2, request.http11) {
                (true, _) => Version::Http2,
                (false, true) => Version::Http11,
                (false, false) => Version::Http10,
            },
            head_only: request.method == crate::wire::http1::Method::Head,
            cors: request
                .field(buffer, Name::Origin)
                .map_or_else(|| shard.cors.of_no_page(), |origin| shard.cors.of(origin)),
            rates: Vec::new(),
            gzip: shard.world.config.server.gzip
                && request.field(buffer, Name::AcceptEncoding).is_some_and(coding::accepts_gzip),
            secure,
            begun: false,
        }
    }

    /// For bytes that are no request.
    #[must_use]
    pub fn of_nothing(shard: &Shard, secure: bool) -> Self {
        let dialect = Dialect::Openai;
        Self {
            request_id: request_id(shard),
            dialect,
            keep_alive: false,
            version: Version::Http11,
            head_only: false,
            cors: None,
            rates: Vec::new(),
            gzip: false,
            secure,
            begun: false,
        }
    }

    /// Whether the answer goes on a stream of HTTP/2.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.version == Version::Http2
    }

    /// Appends the status line and the fields of every answer; the caller goes on with its own fields, framing and
    /// the empty line.
    pub fn begin(&self, shard: &Shard, status: u16, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        number(out, u64::from(status));
        out.push(b' ');
        out.extend_from_slice(reason(status).as_bytes());
        out.extend_from_slice(b"\r\ndate: ");
        shard.date(out);
        out.extend_from_slice(b"\r\nx-request-id: ");
        out.extend_from_slice(self.request_id.as_bytes());
        if self.dialect == Dialect::Anthropic {
            out.extend_from_slice(b"\r\nrequest-id: "); // where Anthropic's SDKs look for it
            out.extend_from_slice(self.request_id.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if !self.keep_alive {
            out.extend_from_slice(b"connection: close\r\n");
        } else if self.version == Version::Http10 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        if let Some(cors) = &self.cors {
            out.extend_from_slice(cors.as_bytes());
        }
        out.extend_from_slice(&self.rates);
        out.extend_from_slice(&shard.headers);
        if self.secure {
            out.extend_from_slice(&shard.secure_headers);
        }
    }

    /// A whole answer of ours.
    #[must_use]
    pub fn whole(
        &self,
        shard: &Shard,
        status: u16,
        content_type: &str,
        fields: &str,
        body: &[u8],
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(512 + body.len());
        self.begin(shard, status, &mut out);
        out.extend_from_slice(fields.as_bytes());
        let mut squeezed = Vec::new();
        let body = if content_type == "application/json" && self.squeeze(shard, body, &mut squeezed, &mut out)
        {
            &squeezed
        } else {
            body
        };
        if status != 204 {
            out.extend_from_slice(b"content-type: ");
            out.extend_from_slice(content_type.as_bytes());
            out.extend_from_slice(b"\r\n");
            length(&mut out, body.len());
        }
        out.extend_from_slice(b"\r\n");
        if !self.head_only {
            out.extend_from_slice(body);
        }
        out
    }

    /// Compresses `body` into `out` if the client takes it and it is worth it, and says so in `head`. Bodies beyond
    /// [`SQUEEZED_MAX`] would hold the shard too long. Where another client would have got it compressed, caches must
    /// hear of it too (RFC 9110 section 12.5.5).
    #[must_use]
    pub fn squeeze(&self, shard: &Shard, body: &[u8], out: &mut Vec<u8>, head: &mut Vec<u8>) -> bool {
        let server = &shard.world.config.server;
        if !server.gzip || (body.len() as u64) < server.gzip_bytes_min.0 || body.len() > SQUEEZED_MAX {
            return false;
        }
        head.extend_from_slice(b"vary: accept-encoding\r\n");
        let squeezed = self.gzip && coding::gzip(body, out) && out.len() < body.len();
        if squeezed {
            head.extend_from_slice(b"content-encoding: gzip\r\n");
        }
        squeezed
    }

    /// The answer that tells of a failure.
    #[must_use]
    pub fn failure(&self, shard: &Shard, failure: &Failure, fields: &str) -> Vec<u8> {
        use std::fmt::Write as _;
        let mut all = String::from(fields);
        if let Some(seconds) = failure.retry_after_s {
            let _ = write!(all, "retry-after: {seconds}\r\n");
        }
        if let Some(ms) = failure.retry_after_ms {
            let _ = write!(all, "retry-after-ms: {ms}\r\n");
        }
        if failure.status == 401 {
            all.push_str("www-authenticate: Bearer\r\n");
        }
        if failure.final_for_client() {
            all.push_str("x-should-retry: false\r\n");
        }
        if let Some(scanners) = &failure.scanners {
            let _ =
                write!(all, "x-corelane-guard: {scanners}\r\nx-litellm-applied-guardrails: {scanners}\r\n");
        }
        if let Some(allow) = failure.allow {
            let _ = write!(all, "allow: {allow}\r\n");
        }
        self.whole(shard, failure.status, "application/json", &all, &failure.body(self.dialect))
    }
}

/// Where a plain request is sent: the same host and target over TLS. `None`: it names no host.
#[must_use]
pub fn secure_location(incoming: &Incoming, port: u16) -> Option<String> {
    let (buffer, request) = (&incoming.buffer, &incoming.request);
    let host = std::str::from_utf8(request.field(buffer, Name::Host)?).ok()?;
    let name_end =
        if host.starts_with('[') { host.find(']')? + 1 } else { host.find(':').unwrap_or(host.len()) };
    let name = host.get(..name_end)?;
    let path = request.path.text(buffer);
    let path = if path.starts_with('/') { path } else { "/" };
    let query = request.query.text(buffer);
    let mark = if query.is_empty() { "" } else { "?" };
    Some(match port {
        443 => format!("https://{name}{path}{mark}{query}"),
        port => format!("https://{name}:{port}{path}{mark}{query}"),
    })
}

/// `content-length: n`.
pub fn length(out: &mut Vec<u8>, bytes: usize) {
    out.extend_from_slice(b"content-length: ");
    number(out, bytes as u64);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal.
pub fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A fresh id in the form of a version 4 UUID (RFC 9562).
fn request_id(shard: &Shard) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    /// Where the 16 bytes go between the dashes.
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    let bits = u128::from(shard.random()) << 64 | u128::from(shard.random());
    let bits = bits & !(0xf << 76) | 4 << 76;
    let bits = bits & !(3 << 62) | 2 << 62;
    let mut id = [b'-'; 36];
    for (byte, at) in bits.to_be_bytes().into_iter().zip(PLACES) {
        id[at] = DIGITS[usize::from(byte >> 4)];
        id[at + 1] = DIGITS[usize::from(byte & 15)];
    }
    String::from_utf8(id.to_vec()).unwrap_or_default()
}

/// The words after a status (RFC 9110 section 15).
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}
