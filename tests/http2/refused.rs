//! What no client may send: it is refused, and no endpoint sees any of it.

use std::time::{Duration, Instant};

use super::CHAT;
use super::edge::{Edge, soon};
use super::support::fleet::{chat, quick};
use super::support::h2::{Answer, Field, Gone};

/// How a request was refused.
enum Refusal {
    Status(u16),
    Reset(u32),
    Closed(Option<u32>),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Status(status) => write!(f, "answered {status}"),
            Refusal::Reset(code) => write!(f, "reset by {code}"),
            Refusal::Closed(Some(code)) => write!(f, "closed by GOAWAY {code}"),
            Refusal::Closed(None) => write!(f, "closed"),
        }
    }
}

/// A head that is malformed. Each comes with the body of a good chat.
struct Case {
    what: &'static str,
    fields: Vec<Field>,
}

/// The good head with `change` made.
fn case(what: &'static str, change: impl FnOnce(&mut Vec<Field>)) -> Case {
    let good = [(":method", "POST"), (":scheme", "https"), (":path", CHAT), (":authority", "localhost")];
    let mut fields: Vec<Field> =
        good.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    fields.push(("content-type".to_owned(), "application/json".to_owned()));
    change(&mut fields);
    Case { what, fields }
}

fn with(what: &'static str, name: &str, value: &str) -> Case {
    case(what, |fields| fields.push((name.to_owned(), value.to_owned())))
}

fn set(what: &'static str, name: &str, value: &str) -> Case {
    case(what, |fields| {
        let field = fields.iter_mut().find(|(n, _)| n == name).unwrap();
        field.1 = value.to_owned();
    })
}

fn without(what: &'static str, name: &str) -> Case {
    case(what, |fields| fields.retain(|(n, _)| n != name))
}

/// Fields of one connection, and what frames a body in HTTP/1.1.
fn of_connections() -> Vec<Case> {
    vec![
        with("connection", "connection", "close"),
        with("connection that names a field", "connection", "x-a"),
        with("transfer-encoding", "transfer-encoding", "chunked"),
        with("upgrade", "upgrade", "h2c"),
        with("keep-alive", "keep-alive", "timeout=5"),
        with("proxy-connection", "proxy-connection", "keep-alive"),
        with("te: gzip", "te", "gzip"),
        with("te: trailers, gzip", "te", "trailers, gzip"),
        with("a length that is no number", "content-length", "0x10"),
        with("a signed length", "content-length", "+10"),
        with("an empty length", "content-length", ""),
        case("two lengths", |fields| {
            let length = body().len().to_string();
            fields.push(("content-length".to_owned(), length));
            fields.push(("content-length".to_owned(), "5".to_owned()));
        }),
        with("a length too small", "content-length", "5"),
        with("a length too large", "content-length", "5000"),
        with("a length of 0", "content-length", "0"),
        with("a length beyond 64 bits", "content-length", "99999999999999999999999999"),
    ]
}

/// Names and values that could be read as more than one field, or as none.
fn of_fields() -> Vec<Case> {
    vec![
        with("upper case", "X-Upper", "1"),
        with("a blank in a name", "x a", "1"),
        with("a colon in a name", "x:a", "1"),
        with("CR LF in a name", "x\r\nhost", "evil"),
        with("an empty name", "", "1"),
        with("CR LF in a value", "x-a", "1\r\nx-evil: 1"),
        with("CR LF CR LF in a value", "x-a", "1\r\n\r\nGET /evil HTTP/1.1\r\nhost: x\r\n\r\n"),
        with("LF in a value", "x-a", "1\nx-evil: 1"),
        with("CR in a value", "x-a", "1\rx-evil: 1"),
        with("NUL in a value", "x-a", "1\0"),
        with("DEL in a value", "x-a", "1\u{7f}"),
        with("CR LF in a forwarded value", "x-request-id", "1\r\nx-evil: 1"),
        with("CR LF in the user agent", "user-agent", "1\r\nx-evil: 1"),
        with("a doubled credential", "authorization", "Bearer a").and("authorization", "Bearer b"),
        with("two hosts that differ", "host", "elsewhere"),
        with("two host fields", "host", "localhost").and("host", "elsewhere"),
    ]
}

impl Case {
    fn and(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }
}

fn of_pseudo_fields() -> Vec<Case> {
    vec![
        case("a pseudo-field after a field", |fields| fields.swap(3, 4)),
        with("an unknown pseudo-field", ":evil", "1").moved_up(),
        with(":status", ":status", "200").moved_up(),
        with(":protocol", ":protocol", "websocket").moved_up(),
        with("two methods", ":method", "GET").moved_up(),
        with("two paths", ":path", "/health").moved_up(),
        with("two authorities", ":authority", "elsewhere").moved_up(),
        with("two schemes", ":scheme", "http").moved_up(),
        without("no method", ":method"),
        without("no scheme", ":scheme"),
        without("no path", ":path"),
        without("no authority and no host", ":authority"),
        set("an empty method", ":method", ""),
        set("an empty path", ":path", ""),
        set("a path without a slash", ":path", "v1/chat/completions"),
        set("an absolute path", ":path", "https://elsewhere/v1/chat/completions"),
        set("a path of two slashes and a host", ":path", "//elsewhere/v1/chat/completions"),
        set("a star", ":path", "*"),
        set("a blank in the path", ":path", "/v1/chat/completions HTTP/1.1"),
        set("CR LF in the path", ":path", "/v1/chat/completions HTTP/1.1\r\nx-evil: 1\r\nx:"),
        set("a tab in the path", ":path", "/v1/chat/completions\tx"),
        set("NUL in the path", ":path", "/v1/chat/completions\0"),
        set("a path beyond ASCII", ":path", "/v1/chat/completions\u{e9}"),
        set("a blank in the method", ":method", "POST /evil HTTP/1.1"),
        set("CR LF in the method", ":method", "POST\r\nx:"),
        set("a method in lower case", ":method", "post"),
        set("CONNECT", ":method", "CONNECT"),
        set("an unknown method", ":method", "BREW"),
        set("an empty authority", ":authority", ""),
        set("an authority with a user", ":authority", "user@localhost"),
        set("an authority with a path", ":authority", "localhost/evil"),
        set("an authority with a blank", ":authority", "local host"),
        set("CR LF in the authority", ":authority", "localhost\r\nx-evil: 1"),
        set("a port that is none", ":authority", "localhost:99999999"),
        set("a scheme that is none", ":scheme", "ht tp"),
        set("CR LF in the scheme", ":scheme", "https\r\nx: 1"),
    ]
}

impl Case {
    /// Its last field comes first.
    fn moved_up(mut self) -> Self {
        let last = self.fields.pop().unwrap();
        self.fields.insert(0, last);
        self
    }
}

fn body() -> String {
    chat("llama3.2", false)
}

/// Sends a case on a connection of its own; how it was refused, or the answer if it was not.
fn sent(edge: &Edge, case: &Case) -> Result<Refusal, Answer> {
    let mut client = edge.connect();
    let stream = client.new_stream();
    let fields: Vec<(&str, &str)> = case.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    client.headers(stream, &fields, false).unwrap();
    let _ = client.data(stream, body().as_bytes(), true); // it may be closed by now
    match client.answer(stream, soon()) {
        Ok(answer) if answer.status >= 400 => Ok(Refusal::Status(answer.status)),
        Ok(answer) => answer.reset.filter(|_| answer.status == 0).map(Refusal::Reset).ok_or(answer),
        Err(Gone::Closed | Gone::Io(_)) => Ok(Refusal::Closed(client.goaway.map(|(_, code)| code))),
        Err(gone) => panic!("{}: {gone:?}", case.what),
    }
}

#[test]
fn malformed_heads_reach_no_endpoint() {
    let edge = Edge::start(quick(1), "", "");
    let stats = &edge.fleet.servers[0].stats;
    let requests = || stats.requests.load(std::sync::atomic::Ordering::Relaxed);
    let mut wrong = Vec::new();
    for case in of_connections().iter().chain(&of_fields()).chain(&of_pseudo_fields()) {
        let before = edge.asked();
        match sent(&edge, case) {
            Ok(refusal) => println!("{}: {refusal}", case.what),
            Err(answer) => {
                wrong.push(format!("{}: answered {} reset {:?}", case.what, answer.status, answer.reset))
            }
        }
        if edge.asked() != before {
            let seen = stats.take_recorded().pop().map(|request| request.head_text());
            wrong.push(format!("{}: the endpoint got {seen:?}", case.what));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let before = requests();
    let mut client = edge.connect();
    assert_eq!(client.post(CHAT, &body()).status, 200);
    assert!(requests() > before);
    let recorded = stats.take_recorded();
    assert!(recorded.iter().all(|request| request.field("x-evil").is_none()));
    drop(client);
    edge.fleet.assert_quiet();
}

#[test]
fn a_malformed_head_leaves_other_streams_alone() {
    let edge = Edge::start(quick(1), "", "");
    let mut client = edge.connect();
    for case in [with("connection", "connection", "close"), set("a blank in the path", ":path", "/health x")]
    {
        let stream = client.new_stream();
        let fields: Vec<(&str, &str)> = case.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        client.headers(stream, &fields, true).unwrap();
        let answer = client.answer(stream, soon()).unwrap();
        assert_eq!(
            (answer.status, answer.reset),
            (0, Some(1)),
            "{}: PROTOCOL_ERROR of its stream",
            case.what
        );
        assert_eq!(client.post(CHAT, &body()).status, 200, "{}", case.what);
    }
    drop(client);
    edge.fleet.assert_quiet();
}

#[test]
fn a_length_without_a_body_is_refused() {
    let edge = Edge::start(quick(1), "", "");
    for path in [CHAT, "/health"] {
        let method = if path == CHAT { "POST" } else { "GET" };
        let mut client = edge.connect();
        let stream = client.open(method, path, &[("content-length", "10")], true).unwrap();
        let answer = client.answer(stream, soon()).unwrap();
        let refused = answer.reset == Some(1) || answer.status == 400;
        assert!(refused, "{path}: 10 bytes announced, none sent: {answer:?}");
    }
    assert_eq!(edge.asked(), 0);
    edge.fleet.assert_quiet();
}

/// The parser of URIs drops fragments, and RFC 3986 allows a comma in a host: neither reaches an endpoint.
#[test]
fn what_is_read_is_all_that_is_sent() {
    let edge = Edge::start(quick(1), "", "");
    for case in [
        set("a fragment", ":path", "/v1/chat/completions#/../evil"),
        set("a comma in the authority", ":authority", "localhost,elsewhere"),
        with("a field of nobody", "x-evil", "1"),
        with("a cookie", "cookie", "x-evil"),
    ] {
        let refused = sent(&edge, &case);
        for request in edge.fleet.servers[0].stats.take_recorded() {
            let head = request.head_text();
            assert!(refused.is_err(), "{}: refused, but sent: {head}", case.what);
            assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{}: {head}", case.what);
            assert!(!head.contains("evil") && !head.contains("elsewhere"), "{}: {head}", case.what);
        }
    }
    edge.fleet.assert_quiet();
}

#[test]
fn a_host_instead_of_an_authority_is_taken() {
    let edge = Edge::start(quick(1), "", "");
    let mut client = edge.connect();
    for case in [
        without("host alone", ":authority").and("host", "localhost"),
        with("the same host twice", "host", "LOCALHOST"),
        set("a query", ":path", "/v1/chat/completions?a=b%20c&d"),
    ] {
        let stream = client.new_stream();
        let fields: Vec<(&str, &str)> = case.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        client.headers(stream, &fields, false).unwrap();
        client.data(stream, body().as_bytes(), true).unwrap();
        let answer = client.answer(stream, soon()).unwrap();
        assert_eq!(answer.status, 200, "{}: {answer:?}", case.what);
    }
    for request in edge.fleet.servers[0].stats.take_recorded() {
        let own = edge.fleet.servers[0].addr.to_string();
        assert_eq!(request.field("host"), Some(own), "the endpoint's own");
    }
    drop(client);
    edge.fleet.assert_quiet();
}

#[test]
fn a_body_that_stays_away_is_a_408() {
    let edge = Edge::start(quick(1), "body_timeout = \"300ms\"", "");
    let mut client = edge.connect();
    let stream = client.open("POST", CHAT, &[("content-length", "100")], false).unwrap();
    client.data(stream, b"{\"model\":", false).unwrap();
    let began = Instant::now();
    let answer = client.answer(stream, soon()).unwrap();
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(began.elapsed() >= Duration::from_millis(250));
    assert_eq!(edge.asked(), 0);
    assert_eq!(client.post(CHAT, &body()).status, 200, "the connection goes on");
    drop(client);
    edge.fleet.assert_quiet();
}
