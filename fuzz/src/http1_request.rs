//! Request heads: what is taken does not depend on cuts, and its framing is what a simple reader finds.

use corelane::route;
use corelane::wire::http1::request::{HeadScan, Name, may_continue};
use corelane::wire::http1::{Framing, Limits, Method, Request};

use super::cut;
use super::reading::{self, Body};

/// Small enough for every bound to be met by a short input.
pub const SMALL: Limits = Limits { head: 512, target: 48, field: 64, fields: 8 };

/// Reads `data` under the default limits and under small ones.
pub fn target(data: &[u8]) {
    for limits in [Limits::default(), SMALL] {
        let whole = read(&[data], &limits);
        for parts in cut::all(data) {
            assert_eq!(read(&parts, &limits), whole, "cut after {}", parts[0].len());
        }
        if let Some(request) = whole {
            agrees(data, &request, &limits);
        }
    }
}

/// As `shard::head` does it. `None`: refused, or not all there; which of them, and why, may depend on the cut.
fn read(parts: &[&[u8]], limits: &Limits) -> Option<Request> {
    let (mut buffer, mut scan) = (Vec::new(), HeadScan::default());
    for part in parts {
        buffer.extend_from_slice(part);
        let lines = scan.lines();
        if let Some(head) = scan.find(&buffer, limits).ok()? {
            let request = Request::parse(&buffer, limits).ok()?;
            assert_eq!(request.head_bytes, head, "two ends of one head");
            return Some(request);
        }
        if scan.lines() > lines {
            may_continue(&buffer).ok()?;
        }
    }
    None
}

fn agrees(data: &[u8], request: &Request, limits: &Limits) {
    let head = reading::head(data);
    assert_eq!(request.head_bytes, head.bytes);
    assert!(head.bytes <= limits.head && head.fields.len() <= limits.fields);
    let [method, target, version] = head.line.split(' ').collect::<Vec<_>>()[..] else {
        panic!("no request line")
    };
    assert_eq!(method, format!("{:?}", request.method).to_uppercase());
    assert_eq!(version, if request.http11 { "HTTP/1.1" } else { "HTTP/1.0" });
    assert!(target.len() <= limits.target);
    let framing = match head.body(request.http11) {
        Body::Chunked => Framing::Chunked,
        Body::Length(length) => Framing::Length(length),
        Body::Unsaid => Framing::None,
    };
    assert_eq!(request.framing, framing);
    let hosts = head.all("host").len();
    assert!(hosts == 1 || (hosts == 0 && !request.http11), "{hosts} hosts");
    let (close, keep) = (head.lists("connection", "close"), head.lists("connection", "keep-alive"));
    assert_eq!(request.keep_alive, !close && (request.http11 || keep));
    assert_eq!(request.expects_continue, request.http11 && !head.all("expect").is_empty());
    for (name, text) in
        [(Name::ContentType, "content-type"), (Name::RequestId, "x-request-id"), (Name::Host, "host")]
    {
        let value = head.all(text).last().copied().unwrap_or_default();
        assert_eq!(request.field(data, name).unwrap_or_default(), value, "{text}");
    }
    let (path, query) = (request.path.text(data), request.query.text(data));
    assert!(
        path.is_empty() || path.starts_with('/') || (path == "*" && request.method == Method::Options),
        "{path}"
    );
    assert!(target.contains(path) && target.ends_with(query) && !path.contains('?'));
    let _ = (route::find(request.method, path), route::dialect(path));
}
