//! A request head, checked: what framing, routing and forwarding need, as spans of the bytes it came in.
//!
//! Two steps. [`HeadScan`] is fed as bytes come: it finds the end of the head and refuses at once what no later
//! byte can mend (a bare LF, a line or head too long), so a slow sender costs one look at each byte.
//! [`Request::parse`] then reads the complete head once. Sources: RFC 9110, RFC 9112 and the finds named in
//! `tests/data/framing`; where the RFC leaves a choice between reading and refusing, it refuses.

use super::Framing;
use super::field::{self, has_token};
use super::limits::{FIELDS_MAX, Limits};
use crate::wire::Span;
use crate::wire::coding::Coding;

/// The rule that a request head broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// The request line is not `method SP target SP version`.
    Line,
    /// The version is neither 1.0 nor 1.1.
    Version,
    /// The target has bytes it must not have, or no form that we serve.
    Target,
    /// The target is longer than the limit.
    TargetTooLong,
    /// A field line breaks the syntax, a line ends in a bare LF, or folds.
    Field,
    /// Head, field or number of fields beyond the limits.
    TooLarge,
    /// `Host` is missing, repeated or not a host.
    Host,
    /// `Content-Length` is repeated or not a number.
    Length,
    /// `Content-Length` with `Transfer-Encoding`, or a coding in HTTP/1.0, or an impossible list of codings.
    Framing,
    /// A transfer coding other than `chunked`.
    Coding,
    /// A method that we do not know.
    Method,
    /// An expectation other than `100-continue`.
    Expect,
    /// A content coding of the body other than `identity`.
    ContentCoding,
}

impl RequestError {
    /// The status that says it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Version => 505,
            Self::TargetTooLong => 414,
            Self::TooLarge => 431,
            Self::Coding | Self::Method => 501,
            Self::Expect => 417,
            Self::ContentCoding => 415,
            _ => 400,
        }
    }

    /// One sentence for the client.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Line => "The request line is malformed.",
            Self::Version => "The HTTP version is not supported; use HTTP/1.1.",
            Self::Target => "The request target is malformed.",
            Self::TargetTooLong => "The request target is too long.",
            Self::Field => "A header line is malformed.",
            Self::TooLarge => "The request headers are too large.",
            Self::Host => "The Host header is missing, repeated or malformed.",
            Self::Length => "The Content-Length header is repeated or malformed.",
            Self::Framing => {
                "Content-Length and Transfer-Encoding contradict each other or the HTTP version."
            }
            Self::Coding => "The transfer coding is not supported; use chunked.",
            Self::Method => "The request method is not supported.",
            Self::Expect => "The expectation is not supported.",
            Self::ContentCoding => "The content coding of the request body is not supported.",
        }
    }
}

/// Methods that have a meaning here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// As it stands in a request line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    fn read(token: &str) -> Result<Self, RequestError> {
        Ok(match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => return Err(RequestError::Method),
        })
    }
}

/// Fields whose values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own name")]
pub enum Name {
    Host,
    ContentType,
    Accept,
    UserAgent,
    RequestId,
    ForwardedFor,
    TraceParent,
    TraceState,
    Origin,
    CorsHeaders,
    AnthropicVersion,
    AnthropicBeta,
    Timeout,
    AcceptEncoding,
    CacheControl,
    Authorization,
    ApiKey,
    XApiKey,
    LitellmApiKey,
}

const KEPT: usize = Name::LitellmApiKey as usize + 1;

impl Name {
    /// Fields that say who asks: two of one name could be read as either.
    fn is_credential(self) -> bool {
        matches!(self, Self::Authorization | Self::ApiKey | Self::XApiKey | Self::LitellmApiKey)
    }
}

/// The field of that name, if its value is kept. Lengths are compared first: most fields of most clients end there.
fn kept(name: &str) -> Option<Name> {
    let is = |known: &str, kept: Name| name.eq_ignore_ascii_case(known).then_some(kept);
    match name.len() {
        4 => is("host", Name::Host),
        6 => is("accept", Name::Accept).or_else(|| is("origin", Name::Origin)),
        10 => is("user-agent", Name::UserAgent).or_else(|| is("tracestate", Name::TraceState)),
        7 => is("api-key", Name::ApiKey),
        9 => is("x-api-key", Name::XApiKey),
        11 => is("traceparent", Name::TraceParent),
        13 => is("authorization", Name::Authorization).or_else(|| is("cache-control", Name::CacheControl)),
        12 => is("content-type", Name::ContentType).or_else(|| is("x-request-id", Name::RequestId)),
        14 => is("anthropic-beta", Name::AnthropicBeta),
        15 => {
            is("x-forwarded-for", Name::ForwardedFor).or_else(|| is("accept-encoding", Name::AcceptEncoding))
        }
        17 => is("anthropic-version", Name::AnthropicVersion)
            .or_else(|| is("x-litellm-timeout", Name::Timeout))
            .or_else(|| is("x-litellm-api-key", Name::LitellmApiKey)),
        30 => is("access-control-request-headers", Name::CorsHeaders),
        _ => None,
    }
}

/// A checked head. All spans are of the buffer that was parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path without query: begins with `/`, is `*`, or is empty in an absolute form without path.
    pub path: Span,
    /// After the `?`, without it.
    pub query: Span,
    /// HTTP/1.1, else 1.0.
    pub http11: bool,
    /// Of the body.
    pub framing: Framing,
    /// How the body is compressed, if it is.
    pub coding: Option<Coding>,
    /// Whether the client lets the connection live on.
    pub keep_alive: bool,
    /// Whether it waits for `100 Continue`.
    pub expects_continue: bool,
    /// Bytes of the head.
    pub head_bytes: usize,
    fields: [Span; KEPT],
}

/// What the fields say about framing, gathered before it is judged.
#[derive(Default)]
struct Gathered {
    fields: [Span; KEPT],
    hosts: u8,
    lengths: u8,
    length: Option<u64>,
    codings: u8,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    coding: Option<Coding>,
}

impl Request {
    /// Reads the complete head that [`HeadScan`] found at the start of `buffer`.
    ///
    /// # Errors
    /// The first rule broken; the connection is to be closed after the answer.
    pub fn parse(buffer: &[u8], limits: &Limits) -> Result<Self, RequestError> {
        let mut table = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
        let mut head = httparse::Request::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_request_with_uninit_headers(&mut head, buffer, &mut table);
        let head_bytes = match parsed {
            Ok(httparse::Status::Complete(n)) => n,
            Ok(httparse::Status::Partial) => return Err(RequestError::Line),
            Err(error) => return Err(refuse(error, buffer)),
        };
        if head.headers.len() > limits.fields {
            return Err(RequestError::TooLarge);
        }
        let method = Method::read(head.method.unwrap_or_default())?;
        let http11 = head.version == Some(1);
        let mut gathered = Gathered::default();
        for header in &*head.headers {
            gathered.take(buffer, header)?;
        }
        let (path, query) = target(buffer, head.path.unwrap_or_default(), method, limits)?;
        if gathered.hosts > 1 || (gathered.hosts == 0 && http11) {
            return Err(RequestError::Host);
        }
        Ok(Self {
            method,
            path,
            query,
            http11,
            framing: gathered.framing(http11)?,
            coding: gathered.coding.filter(|&coding| coding != Coding::Identity),
            keep_alive: if http11 { !gathered.close } else { gathered.keep_alive && !gathered.close },
            expects_continue: http11 && gathered.expects_continue,
            head_bytes,
            fields: gathered.fields,
        })
    }

    /// The value of a field, `None` if it is absent or empty.
    #[must_use]
    pub fn field<'a>(&self, buffer: &'a [u8], name: Name) -> Option<&'a [u8]> {
        let span = self.fields[name as usize];
        (!span.is_empty()).then(|| span.of_bytes(buffer))
    }
}

impl Gathered {
    fn take(&mut self, buffer: &[u8], header: &httparse::Header<'_>) -> Result<(), RequestError> {
        let (name, value) = (header.name, header.value);
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                self.hosts = self.hosts.saturating_add(1);
                if !field::is_host(value) {
                    return Err(RequestError::Host);
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                self.lengths = self.lengths.saturating_add(1);
                self.length = Some(field::length(value).ok_or(RequestError::Length)?);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => return self.coding(value),
            10 if name.eq_ignore_ascii_case("connection") => {
                self.close |= has_token(value, b"close");
                self.keep_alive |= has_token(value, b"keep-alive");
                return Ok(());
            }
            6 if name.eq_ignore_ascii_case("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(RequestError::Expect);
                }
                self.expects_continue = true;
                return Ok(());
            }
            16 if name.eq_ignore_ascii_case("content-encoding") => {
                // Twice is a list of two.
                let coding = Coding::read(value).filter(|_| self.coding.is_none());
                self.coding = Some(coding.ok_or(RequestError::ContentCoding)?);
                return Ok(());
            }
            _ => {}
        }
        if let Some(kept) = kept(name) {
            if kept.is_credential() && self.fields[kept as usize] != Span::default() {
                return Err(RequestError::Field);
            }
            self.fields[kept as usize] = Span::of(buffer, value);
        }
        Ok(())
    }

    fn coding(&mut self, value: &[u8]) -> Result<(), RequestError> {
        self.codings = self.codings.saturating_add(1);
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        let mut members = field::list(value);
        let tokens =
            members.all(|member| !member.is_empty() && member.iter().all(|&b| field::is_token_byte(b)));
        let chunked = field::list(value).filter(|member| member.eq_ignore_ascii_case(b"chunked")).count();
        let last = field::list(value).last().is_some_and(|member| member.eq_ignore_ascii_case(b"chunked"));
        if tokens && chunked <= 1 && (chunked == 0 || last) {
            Err(RequestError::Coding)
        } else {
            Err(RequestError::Framing)
        }
    }

    fn framing(&self, http11: bool) -> Result<Framing, RequestError> {
        if self.codings > 0 && (!http11 || self.lengths > 0 || self.codings > 1) {
            return Err(RequestError::Framing);
        }
        if self.lengths > 1 {
            return Err(RequestError::Length);
        }
        Ok(match self.length {
            _ if self.chunked => Framing::Chunked,
            None | Some(0) if self.lengths == 0 => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::None,
        })
    }
}

fn refuse(error: httparse::Error, buffer: &[u8]) -> RequestError {
    match error {
        httparse::Error::TooManyHeaders => RequestError::TooLarge,
        httparse::Error::Version => {
            let start = if buffer.starts_with(b"\r\n") { 2 } else { 0 };
            let line = buffer
                .get(start..)
                .and_then(|rest| rest.split(|&byte| byte == b'\r').next())
                .unwrap_or_default();
            let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
            match version {
                b"HTTP/1.1" | b"HTTP/1.0" => RequestError::Line, // a space too many before it
                [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                    if major.is_ascii_digit() && minor.is_ascii_digit() =>
                {
                    RequestError::Version
                }
                _ => RequestError::Line,
            }
        }
        httparse::Error::HeaderName | httparse::Error::HeaderValue => RequestError::Field,
        _ => RequestError::Line,
    }
}

/// Path and query of a target in origin form, absolute form (whose authority is checked and dropped, RFC 9112
/// section 3.2.2) or, for OPTIONS, `*`.
fn target(
    buffer: &[u8],
    target: &str,
    method: Method,
    limits: &Limits,
) -> Result<(Span, Span), RequestError> {
    let bytes = target.as_bytes();
    if bytes.len() > limits.target {
        return Err(RequestError::TargetTooLong);
    }
    if bytes.iter().any(|&byte| !(0x21..=0x7e).contains(&byte) || byte == b'#') {
        return Err(RequestError::Target);
    }
    let origin = match bytes {
        [b'/', ..] => bytes,
        b"*" if method == Method::Options => bytes,
        _ if bytes.len() > 7 && bytes[..7].eq_ignore_ascii_case(b"http://") => {
            let rest = &bytes[7..];
            let end = rest.iter().position(|&byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
            let (authority, origin) = rest.split_at(end);
            if !field::is_host(authority) || !(origin.is_empty() || origin.starts_with(b"/")) {
                return Err(RequestError::Target);
            }
            origin
        }
        _ => return Err(RequestError::Target),
    };
    let at = memchr::memchr(b'?', origin).unwrap_or(origin.len());
    let (path, query) = origin.split_at(at);
    Ok((Span::of(buffer, path), Span::of(buffer, query.get(1..).unwrap_or_default())))
}

/// Finds the end of a head as its bytes come.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadScan {
    at: usize,
    line_start: usize,
    lines: usize,
}

impl HeadScan {
    /// Looks at the bytes of `buffer` that are new since the last call. `Some(n)`: the head is the first `n` bytes.
    ///
    /// # Errors
    /// A bare LF, or a size beyond the limits.
    pub fn find(&mut self, buffer: &[u8], limits: &Limits) -> Result<Option<usize>, RequestError> {
        while let Some(at) = memchr::memchr(b'\n', buffer.get(self.at..).unwrap_or_default()) {
            let lf = self.at + at;
            let line = buffer.get(self.line_start..lf).unwrap_or_default();
            let Some((b'\r', line)) = line.split_last().map(|(last, rest)| (*last, rest)) else {
                return Err(if self.lines == 0 { RequestError::Line } else { RequestError::Field });
            };
            self.at = lf + 1;
            self.check(line.len(), limits)?;
            if line.is_empty() && self.lines > 0 {
                return if self.at > limits.head { Err(RequestError::TooLarge) } else { Ok(Some(self.at)) };
            }
            if line.is_empty() && self.line_start > 0 {
                return Err(RequestError::Line); // a second empty line before the request line
            }
            self.lines += usize::from(!line.is_empty());
            self.line_start = self.at;
        }
        self.at = buffer.len();
        let tail = buffer.get(self.line_start..).unwrap_or_default();
        self.check(tail.strip_suffix(b"\r").unwrap_or(tail).len(), limits)?; // half of a CRLF is no part of the line
        if buffer.len() > limits.head { Err(RequestError::TooLarge) } else { Ok(None) }
    }

    /// Lines completed so far.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.lines
    }

    fn check(&self, line_bytes: usize, limits: &Limits) -> Result<(), RequestError> {
        // method, two spaces and the version are at most 32 bytes beside the target
        match self.lines {
            0 if line_bytes > limits.target + 32 => Err(RequestError::TargetTooLong),
            0 => Ok(()),
            _ if line_bytes > limits.field => Err(RequestError::TooLarge),
            _ => Ok(()),
        }
    }
}

/// Whether an incomplete head can still become valid: called when a line has been completed.
///
/// # Errors
/// What [`Request::parse`] would say.
pub fn may_continue(buffer: &[u8]) -> Result<(), RequestError> {
    let mut table = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut []);
    match httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut head, buffer, &mut table) {
        Ok(_) => Ok(()),
        Err(error) => Err(refuse(error, buffer)),
    }
}
