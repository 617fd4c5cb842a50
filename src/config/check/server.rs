//! `[server]`: listeners, bounds, and the headers of every answer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::super::problem::quote;
use super::super::reader::{Table, Value};
use super::super::render::DRIVERS;
use super::super::{Bytes, Cidr, Server};
use super::endpoints::{read_path, read_secret};
use super::{cors, tls};

/// Listeners that a gateway may have, plain and TLS each.
const LISTEN_MAX: usize = 16;
/// Messages of a chat that may be allowed.
const MESSAGES_MAX: i64 = 100_000;
/// Address ranges that a request's peer is compared with.
const PROXIES_MAX: usize = 256;
/// Headers that may be added to an answer, and the bytes of one of them.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 4096;
/// Longest path of a Unix socket, in bytes: `sun_path` of Linux without its final zero.
const SOCKET_BYTES_MAX: usize = 107;

/// Headers that say how an answer is framed, what it is, or which one it is: the gateway's own.
const RESERVED_HEADERS: [&str; 13] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

pub(super) fn read(table: &mut Table<'_>) -> Server {
    let default = Server::default();
    let ms = Duration::from_millis(1);
    let (kib, mib, gib) = (Bytes(1 << 10), Bytes(1 << 20), Bytes(1 << 30));
    let (listen, tls) = (table.take("listen"), table.take("tls"));
    let least = usize::from(tls.is_none());
    let listen = listen.and_then(|value| read_listen(&value, least)).unwrap_or(default.listen);
    let admin_listen = read_admin_listen(table, &listen, default.admin_listen);
    let server = Server {
        tls: tls.and_then(|value| tls::read(&value, &listen, admin_listen)),
        admin_listen,
        listen,
        shards: table.take("shards").and_then(read_shards),
        pin: table.take("pin").and_then(|value| value.flag()),
        driver: table.word("driver", &DRIVERS, default.driver),
        max_concurrent_requests: table.integer(
            "max_concurrent_requests",
            1,
            1_000_000,
            default.max_concurrent_requests,
        ),
        max_connections: table.integer("max_connections", 1, 1_000_000, default.max_connections),
        body_bytes_max: table.size("body_bytes_max", kib, Bytes(4 * gib.0), default.body_bytes_max),
        answer_bytes_max: table.size("answer_bytes_max", kib, Bytes(4 * gib.0), default.answer_bytes_max),
        buffered_bytes_max: table.size(
            "buffered_bytes_max",
            mib,
            Bytes(1024 * gib.0),
            default.buffered_bytes_max,
        ),
        head_bytes_max: table.size("head_bytes_max", kib, mib, default.head_bytes_max),
        head_timeout: table.time("head_timeout", ms, default.head_timeout),
        body_timeout: table.time("body_timeout", ms, default.body_timeout),
        keep_alive: table.time("keep_alive", ms, default.keep_alive),
        upstream_keep_alive: table.time("upstream_keep_alive", ms, default.upstream_keep_alive),
        upstream_idle_max: table.integer("upstream_idle_max", 0, 65_536, default.upstream_idle_max),
        write_timeout: table.time("write_timeout", ms, default.write_timeout),
        drain_timeout: table.time("drain_timeout", Duration::ZERO, default.drain_timeout),
        trusted_proxies: table.take("trusted_proxies").map(read_proxies).unwrap_or_default(),
        headers: table.take("headers").map(read_headers).unwrap_or_default(),
        cors: table.section("cors", cors::read),
        gzip: table.flag("gzip", default.gzip),
        gzip_bytes_min: table.size("gzip_bytes_min", Bytes(1), gib, default.gzip_bytes_min),
        messages_max: table.integer("messages_max", 1, MESSAGES_MAX, default.messages_max),
        admin_token: table.take("admin_token").and_then(|value| read_secret(&value)),
        handover_socket: table.take("handover_socket").and_then(|value| read_socket(&value)),
        watch: table.flag("watch", default.watch),
        explain: table.flag("explain", default.explain),
    };
    check_bounds(table, &server);
    server
}

/// Addresses of listeners, `least` of them at least.
pub(super) fn read_listen(value: &Value<'_>, least: usize) -> Option<Vec<SocketAddr>> {
    if value.as_text().is_some() {
        value.wrong("expected an array, found a string", r#"e.g. ["0.0.0.0:8000"]"#);
        return None;
    }
    let items = value.items()?;
    if items.len() < least || items.len() > LISTEN_MAX {
        value.wrong(format!("{} listeners", items.len()), format!("from {least} to {LISTEN_MAX}"));
        return None;
    }
    let mut listen = Vec::with_capacity(items.len());
    for item in items {
        let Some(address) = read_address(&item) else { continue };
        if address.port() != 0 && listen.contains(&address) {
            item.wrong(format!("{address} is listed twice"), "remove one of them");
        }
        listen.push(address);
    }
    Some(listen)
}

fn read_address(value: &Value<'_>) -> Option<SocketAddr> {
    let text = value.text()?;
    let address = text.parse().ok();
    if address.is_none() {
        let hint = r#"an IP address and a port, e.g. "0.0.0.0:8000" or "[::]:8000""#;
        value.wrong(format!("{} is no address to listen on", quote(text)), hint);
    }
    address
}

fn read_admin_listen(table: &mut Table<'_>, listen: &[SocketAddr], default: SocketAddr) -> SocketAddr {
    let value = table.take("admin_listen");
    let admin = value.as_ref().and_then(read_address).unwrap_or(default);
    if let Some(data) = listen.iter().find(|data| is_shared(admin, **data)) {
        let place = value.map_or_else(|| table.place.clone(), |value| value.place);
        let message = format!("the admin listener {admin} takes the address of the data listener {data}");
        table.report.add(&place, message, "give `admin_listen` a port of its own");
    }
    admin
}

/// Whether two listeners would take the same connections.
pub(super) fn is_shared(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || any && one.is_ipv4() == other.is_ipv4())
}

/// `"auto"` or a number.
fn read_shards(value: Value<'_>) -> Option<usize> {
    match value.as_text() {
        Some("auto") => None,
        Some(text) => {
            value.wrong(
                format!("{} is no number of shards", quote(text)),
                r#""auto", or 1 to 256 without quotes"#,
            );
            None
        }
        None => value.integer(1, 256),
    }
}

fn read_proxies(value: Value<'_>) -> Vec<Cidr> {
    let items = value.items().unwrap_or_default();
    if items.len() > PROXIES_MAX {
        value.wrong(format!("{} ranges", items.len()), format!("at most {PROXIES_MAX}"));
        return Vec::new();
    }
    let read = |item: Value<'_>| {
        let text = item.text()?;
        Cidr::parse(text).map_err(|mistake| item.wrong(mistake.message, mistake.hint)).ok()
    };
    items.into_iter().filter_map(read).collect()
}

fn read_headers(value: Value<'_>) -> Vec<(String, String)> {
    let pairs = value.pairs().unwrap_or_default();
    if pairs.len() > HEADERS_MAX {
        value.wrong(format!("{} headers", pairs.len()), format!("at most {HEADERS_MAX}"));
        return Vec::new();
    }
    let mut headers: Vec<(String, String)> = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        check_header_name(name, &value);
        if headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            value.wrong("this header is listed twice", "names are the same in upper and lower case");
        }
        if let Some(text) = value.text() {
            check_header_value(text, &value);
            headers.push((name.to_owned(), text.to_owned()));
        }
    }
    headers
}

/// RFC 9110 section 5.6.2: a name is a token.
pub(super) fn is_header_name(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=256).contains(&name.len()) && name.bytes().all(inside)
}

fn check_header_name(name: &str, value: &Value<'_>) {
    if !is_header_name(name) {
        value.wrong("this is no header name", "letters, digits and `-`, at most 256");
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED_HEADERS.contains(&lower.as_str()) || lower.starts_with("x-corelane-") {
        value.wrong("this header is the gateway's own", "remove it");
    }
}

/// RFC 9110 section 5.5: visible ASCII, with blanks and tabs between.
fn check_header_value(text: &str, value: &Value<'_>) {
    let is_field = |byte: u8| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t';
    let hint = "visible ASCII, with blanks between only";
    if text.is_empty() || !text.bytes().all(is_field) || text.trim() != text {
        value.wrong("this is no header value", hint);
    } else if text.len() > HEADER_BYTES_MAX {
        value.wrong(format!("a header value of {} bytes", text.len()), format!("at most {HEADER_BYTES_MAX}"));
    }
}

/// A socket's path; `None`: empty, or none.
fn read_socket(value: &Value<'_>) -> Option<PathBuf> {
    let path = read_path(value)?;
    let bytes = path.as_os_str().len();
    if bytes > SOCKET_BYTES_MAX {
        value.wrong(format!("a socket's path of {bytes} bytes"), format!("at most {SOCKET_BYTES_MAX}"));
    }
    Some(path)
}

/// A body that may never be held must not be promised.
fn check_bounds(table: &mut Table<'_>, server: &Server) {
    let total = server.buffered_bytes_max;
    for (key, size) in
        [("body_bytes_max", server.body_bytes_max), ("answer_bytes_max", server.answer_bytes_max)]
    {
        if size > total {
            let value = table.take(key).or_else(|| table.take("buffered_bytes_max"));
            let place = value.map_or_else(|| table.place.clone(), |value| value.place);
            let message = format!("{key} of {size} is more than buffered_bytes_max of {total}");
            table.report.add(&place, message, "lower the first or raise the second");
        }
    }
}
