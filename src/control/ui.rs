//! `/ui`: the parts of the page, as they are in the binary, and which pages of a browser may change anything.
//!
//! The parts hold no data, so they are shown without the token; what they show is asked for by `/ui/live` and
//! `/ui/events`, which need it. The policy lets the page load and call nothing but this address, and nobody frame it.

use std::net::{IpAddr, SocketAddr};

/// One part of the page.
pub struct Part {
    /// Its content type.
    pub kind: &'static str,
    /// Its bytes.
    pub text: &'static str,
}

/// Fields of every answer below `/ui`.
pub const FIELDS: &str = "cache-control: no-store\r\nx-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\n\
     content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n";

/// The part at `path`.
#[must_use]
pub fn part(path: &str) -> Option<Part> {
    let (kind, text) = match path {
        "/ui" | "/ui/" => ("text/html; charset=utf-8", include_str!("ui/page.html")),
        "/ui/page.css" => ("text/css; charset=utf-8", include_str!("ui/page.css")),
        "/ui/page.js" => ("text/javascript; charset=utf-8", include_str!("ui/page.js")),
        "/ui/show.js" => ("text/javascript; charset=utf-8", include_str!("ui/show.js")),
        "/ui/icon.svg" => ("image/svg+xml", include_str!("ui/icon.svg")),
        _ => return None,
    };
    Some(Part { kind, text })
}

/// Whether a page of `origin` is this gateway's own: it was loaded from where the request was sent (`host`), and that is
/// this machine, or one of the `admin` addresses by the letter. A name that somebody points at this machine for a moment
/// (DNS rebinding) is neither.
#[must_use]
pub fn is_own_page(origin: &[u8], host: &[u8], admin: &[SocketAddr]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let same = origin.strip_prefix(b"http://").is_some_and(|from| from.eq_ignore_ascii_case(host.as_bytes()));
    same && (is_loopback(host) || admin.iter().any(|admin| host == admin.to_string()))
}

/// Whether the host of `host[:port]` is a loopback address, or the name that browsers never ask anybody for.
fn is_loopback(host: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let name = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(name, _)| name);
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match bare {
        Some(bare) => {
            bare.parse::<std::net::Ipv6Addr>().is_ok_and(|ip| IpAddr::V6(ip).to_canonical().is_loopback())
        }
        None => name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_address_are_own() {
        let admin = ["10.1.2.3:8001".parse().unwrap()];
        let own = |origin: &str, host: &str| is_own_page(origin.as_bytes(), host.as_bytes(), &admin);
        for host in [
            "127.0.0.1:8001",
            "127.0.0.1",
            "127.9.9.9:1",
            "localhost:8001",
            "LOCALHOST",
            "[::1]:8001",
            "[::1]",
            "10.1.2.3:8001",
        ] {
            assert!(own(&format!("http://{host}"), host), "{host}");
            assert!(!own(&format!("https://{host}"), host), "another scheme is another origin: {host}");
            assert!(!own("null", host) && !own("", host) && !own("http://", host) && !own("file://", host));
            assert!(!own(&format!("http://{host}/"), host) && !own(&format!("http://a@{host}"), host));
        }
        for (origin, host) in [
            ("http://localhost:3000", "localhost:8001"),
            ("http://127.0.0.1:3000", "127.0.0.1:8001"),
            ("http://127.0.0.1", "127.0.0.1:8001"),
            ("http://localhost:8001", "127.0.0.1:8001"),
            ("http://evil.example:8001", "evil.example:8001"),
            ("http://localhost.evil.example", "localhost.evil.example"),
            ("http://127.0.0.1.evil.example", "127.0.0.1.evil.example"),
            ("http://10.1.2.3:8002", "10.1.2.3:8002"),
            ("http://10.1.2.4:8001", "10.1.2.4:8001"),
            ("http://[::2]:8001", "[::2]:8001"),
            ("http://0.0.0.0:8001", "0.0.0.0:8001"),
            ("http://2130706433", "2130706433"),
            ("http://127.0.0.1:x", "127.0.0.1:x"),
            ("http://", ""),
        ] {
            assert!(!own(origin, host), "{origin} {host}");
        }
    }
}
