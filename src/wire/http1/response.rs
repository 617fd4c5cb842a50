//! The head of an endpoint's answer, read as strictly as a client's request.

use super::Framing;
use super::field::{self, has_token};
use super::limits::{FIELDS_MAX, Limits};
use crate::wire::Span;

/// The rule that an answer broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseError {
    /// The status line or a field line is malformed, or a line ends in a bare LF.
    Syntax,
    /// Head, field or number of fields beyond the limits.
    TooLarge,
    /// `Content-Length` is repeated with another value or not a number, or stands beside `Transfer-Encoding`.
    Framing,
    /// A status that no exchange of ours can end with (101, or below 100).
    Status,
}

/// A checked head; `fields` are the end-to-end ones that go on to the client.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code, 100 to 999.
    pub status: u16,
    /// Of the body.
    pub framing: Framing,
    /// Whether the connection may carry another exchange.
    pub keep_alive: bool,
    /// Bytes of the head.
    pub head_bytes: usize,
    /// `Content-Type`.
    pub content_type: Span,
    /// `Retry-After`.
    pub retry_after: Span,
    /// Field lines that may be passed on, in order, without their CRLF. Bounded by the table's size.
    pub passed: Vec<Span>,
}

/// Fields that end here: hop by hop, about the endpoint's own connection, or set by us. By length, which is
/// compared first.
fn is_dropped(name: &str) -> bool {
    let any = |known: &[&str]| known.iter().any(|known| name.eq_ignore_ascii_case(known));
    match name.len() {
        2 => any(&["te"]),
        4 => any(&["date"]),
        6 => any(&["server"]),
        7 => any(&["trailer", "upgrade", "alt-svc"]),
        10 => any(&["keep-alive", "request-id", "set-cookie"]),
        12 => any(&["x-request-id"]),
        13 => any(&["cache-control"]),
        16 => any(&["content-encoding", "proxy-connection"]),
        17 => any(&["x-accel-buffering"]),
        18 => any(&["proxy-authenticate"]),
        19 => any(&["proxy-authorization"]),
        _ => {
            name.len() > 20
                && name.get(..21).is_some_and(|start| start.eq_ignore_ascii_case("access-control-allow-"))
        }
    }
}

impl Response {
    /// Reads a head at the start of `buffer`. `None`: more bytes are needed.
    ///
    /// # Errors
    /// The rule broken; the connection is to be closed.
    pub fn parse(buffer: &[u8], limits: &Limits) -> Result<Option<Self>, ResponseError> {
        let mut table = [const { std::mem::MaybeUninit::uninit() }; FIELDS_MAX];
        let mut head = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut head, buffer, &mut table);
        let head_bytes = match parsed {
            Ok(httparse::Status::Complete(n)) => n,
            Ok(httparse::Status::Partial) if buffer.len() > limits.head => {
                return Err(ResponseError::TooLarge);
            }
            Ok(httparse::Status::Partial) => return bare_lf(buffer).map(|()| None),
            Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::TooLarge),
            Err(_) => return Err(ResponseError::Syntax),
        };
        if head_bytes > limits.head || head.headers.len() > limits.fields {
            return Err(ResponseError::TooLarge);
        }
        let bytes = buffer.get(..head_bytes).unwrap_or_default();
        bare_lf(bytes)?;
        if bytes.starts_with(b"\r") {
            return Err(ResponseError::Syntax);
        }
        let status = head.code.unwrap_or(0);
        if status < 100 || status == 101 {
            return Err(ResponseError::Status);
        }
        let http11 = head.version == Some(1);
        let mut gathered = Gathered::default();
        for header in &*head.headers {
            gathered.take(buffer, header, http11)?;
        }
        let framing = gathered.framing(status)?;
        gathered.drop_nominated(buffer);
        Ok(Some(Self {
            status,
            framing,
            keep_alive: framing != Framing::Close && !gathered.close && (http11 || gathered.keep_alive),
            head_bytes,
            content_type: gathered.content_type,
            retry_after: gathered.retry_after,
            passed: gathered.passed,
        }))
    }
}

#[derive(Default)]
struct Gathered {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    content_type: Span,
    retry_after: Span,
    passed: Vec<Span>,
    nominated: Vec<Span>,
}

impl Gathered {
    /// Leaves out the fields that `Connection` names (RFC 9110 section 7.6.1).
    fn drop_nominated(&mut self, buffer: &[u8]) {
        let nominated = std::mem::take(&mut self.nominated);
        for token in nominated.iter().flat_map(|span| field::list(span.of_bytes(buffer))) {
            self.passed.retain(|line| {
                let line = line.of_bytes(buffer);
                let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
                !name.eq_ignore_ascii_case(token)
            });
        }
    }

    fn take(
        &mut self,
        buffer: &[u8],
        header: &httparse::Header<'_>,
        http11: bool,
    ) -> Result<(), ResponseError> {
        let (name, value) = (header.name, header.value);
        match name.len() {
            14 if name.eq_ignore_ascii_case("content-length") => {
                let length = field::length(value).ok_or(ResponseError::Framing)?;
                return if self.length.replace(length).is_none() {
                    Ok(())
                } else {
                    Err(ResponseError::Framing)
                };
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                let fine = !self.chunked && http11 && value.eq_ignore_ascii_case(b"chunked");
                self.chunked = true;
                return if fine { Ok(()) } else { Err(ResponseError::Framing) };
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                self.close |= has_token(value, b"close");
                self.keep_alive |= has_token(value, b"keep-alive");
                if !value.eq_ignore_ascii_case(b"keep-alive") && !value.eq_ignore_ascii_case(b"close") {
                    self.nominated.push(Span::of(buffer, value));
                }
                return Ok(());
            }
            12 if name.eq_ignore_ascii_case("content-type") => {
                self.content_type = Span::of(buffer, value);
                return Ok(());
            }
            16 if name.eq_ignore_ascii_case("content-encoding")
                && !value.eq_ignore_ascii_case(b"identity") =>
            {
                return Err(ResponseError::Framing); // we asked for none and could not read it
            }
            11 if name.eq_ignore_ascii_case("retry-after") => self.retry_after = Span::of(buffer, value),
            _ => {}
        }
        if !is_dropped(name) {
            let (start, end) = (Span::of(buffer, name.as_bytes()).start, Span::of(buffer, value).end);
            self.passed.push(Span { start, end });
        }
        Ok(())
    }

    fn framing(&self, status: u16) -> Result<Framing, ResponseError> {
        if self.chunked && self.length.is_some() {
            return Err(ResponseError::Framing);
        }
        Ok(match self.length {
            _ if status < 200 || status == 204 || status == 304 => Framing::None,
            _ if self.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        })
    }
}

fn bare_lf(bytes: &[u8]) -> Result<(), ResponseError> {
    let bare = memchr::memchr_iter(b'\n', bytes).any(|at| at == 0 || bytes.get(at - 1) != Some(&b'\r'));
    if bare { Err(ResponseError::Syntax) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Response>, ResponseError> {
        Response::parse(text.as_bytes(), &Limits::default())
    }

    #[test]
    fn reads_framing_and_passes_end_to_end_fields() {
        let text =
            "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nServer: s\r\nx-y: 1\r\nContent-Length: 3\r\n\r\nabc";
        let head = parse(text).unwrap().unwrap();
        assert_eq!((head.status, head.framing, head.keep_alive), (200, Framing::Length(3), true));
        assert_eq!(head.content_type.text(text.as_bytes()), "a/b");
        let passed: Vec<_> = head.passed.iter().map(|span| span.text(text.as_bytes())).collect();
        assert_eq!(passed, ["x-y: 1"]);
    }

    #[test]
    fn without_a_length_the_end_is_the_end() {
        let head = parse("HTTP/1.0 200 OK\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.framing, head.keep_alive), (Framing::Close, false));
    }

    #[test]
    fn refuses_doubtful_framing() {
        for (text, error) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                ResponseError::Framing,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", ResponseError::Framing),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", ResponseError::Framing),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", ResponseError::Framing),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ResponseError::Framing),
            ("HTTP/1.1 101 Switching\r\n\r\n", ResponseError::Status),
            ("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", ResponseError::Syntax),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", ResponseError::Syntax),
            ("ICY 200 OK\r\n\r\n", ResponseError::Syntax),
        ] {
            assert_eq!(parse(text).err(), Some(error), "{text:?}");
        }
        assert!(parse("HTTP/1.1 200 OK\r\nConte").unwrap().is_none());
    }
}
