//! Answer heads: monotone in what has come, framed as a simple reader finds, nothing of one hop passed on.

use corelane::wire::http1::{Framing, Limits, Response};

use super::cut;
use super::http1_request::SMALL;
use super::reading::{self, Body};

/// Fields that must not reach a client.
const ENDS_HERE: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "set-cookie",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Reads `data` under the default limits and under small ones.
pub fn target(data: &[u8]) {
    for limits in [Limits::default(), SMALL] {
        let whole = Response::parse(data, &limits);
        for at in cut::places(data.len()) {
            let part = Response::parse(&data[..at], &limits);
            match (&part, &whole) {
                (Ok(Some(part)), Ok(Some(whole))) => assert_eq!(format!("{part:?}"), format!("{whole:?}")),
                (Ok(Some(_)), _) => panic!("{at} bytes are a head, more are none"),
                (Ok(None), Ok(Some(whole))) => assert!(at < whole.head_bytes, "{at} bytes hold the head"),
                (Ok(None), _) | (Err(_), Err(_)) => {}
                (Err(error), _) => panic!("{at} bytes are refused ({error:?}), more are not"),
            }
        }
        if let Ok(Some(response)) = whole {
            agrees(data, &response, &limits);
        }
    }
}

fn agrees(data: &[u8], response: &Response, limits: &Limits) {
    let head = reading::head(data);
    assert_eq!(response.head_bytes, head.bytes);
    assert!(head.bytes <= limits.head && head.fields.len() <= limits.fields);
    let http11 = head.line.starts_with("HTTP/1.1 ");
    assert!(http11 || head.line.starts_with("HTTP/1.0 "), "{}", head.line);
    let status: u16 = head.line[9..12].parse().expect("a status of three digits");
    assert_eq!(response.status, status);
    let framing = match head.body(http11) {
        _ if status < 200 || status == 204 || status == 304 => Framing::None,
        Body::Chunked => Framing::Chunked,
        Body::Length(length) => Framing::Length(length),
        Body::Unsaid => Framing::Close,
    };
    assert_eq!(response.framing, framing);
    let (close, keep) = (head.lists("connection", "close"), head.lists("connection", "keep-alive"));
    assert_eq!(response.keep_alive, framing != Framing::Close && !close && (http11 || keep));
    let lines: Vec<_> = data[..head.bytes].split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end).collect();
    for passed in &response.passed {
        let passed = passed.of_bytes(data);
        assert!(!passed.is_empty() && lines.contains(&passed.trim_ascii_end()), "no line: {passed:?}");
        let name = passed.split(|&byte| byte == b':').next().unwrap_or_default().to_ascii_lowercase();
        let name = std::str::from_utf8(&name).expect("a name of text");
        assert!(!ENDS_HERE.contains(&name), "{name} goes on");
        assert!(!head.lists("connection", name), "{name} goes on although Connection names it");
    }
}
