//! Addresses in the file: endpoint URLs, and ranges of proxies.
//!
//! Only what a gateway can use is accepted: no user, query or fragment in a URL (RFC 3986), no bits behind the
//! prefix of a range. Messages never repeat the URL, it may hold a password.
//! Invariant: `parse` of what `Display` printed gives the same value.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Cidr, Url};

/// What is wrong with an address, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) message: &'static str,
    pub(super) hint: &'static str,
}

pub(super) const fn mistake<T>(message: &'static str, hint: &'static str) -> Result<T, Mistake> {
    Err(Mistake { message, hint })
}

impl Url {
    /// Reads `http[s]://host[:port][/path]`; slashes and `/v1` at the end of the path are dropped.
    pub(super) fn parse(text: &str) -> Result<Self, Mistake> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return mistake("the URL has no scheme", r#"write it as "http://host:port""#);
        };
        let tls = scheme.eq_ignore_ascii_case("https");
        if !tls && !scheme.eq_ignore_ascii_case("http") {
            let hint = r#"write it as "http://host:port" or "https://host""#;
            return mistake("the URL's scheme is neither http nor https", hint);
        }
        if rest.contains('#') {
            return mistake("the URL has a fragment", "remove what begins with `#`");
        }
        if rest.contains('?') {
            return mistake("the URL has a query", "remove what begins with `?`");
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return mistake("the URL holds a user or password", "put the key into `api_key`");
        }
        let (host, port) = parse_authority(authority)?;
        let port = port.unwrap_or(default_port(tls));
        Ok(Self { tls, host, port, path: parse_path(path)? })
    }
}

const fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// Reads an origin as browsers write it (RFC 6454 section 6.2): lower case, without the scheme's own port.
pub(super) fn parse_origin(text: &str) -> Result<String, Mistake> {
    let hint = r#"scheme://host[:port], e.g. "https://chat.example"; "*" is every one"#;
    let Some((scheme, rest)) = text.split_once("://") else {
        return mistake("this is no origin", hint);
    };
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(inside) {
        return mistake("the origin's scheme is not valid", hint);
    }
    if rest.contains(['/', '?', '#', '@']) {
        return mistake("an origin ends behind its host and port", hint);
    }
    let (host, port) = parse_authority(rest)?;
    let (scheme, host) = (scheme.to_ascii_lowercase(), host.to_ascii_lowercase());
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let usual = matches!((scheme.as_str(), port), (_, None) | ("http", Some(80)) | ("https", Some(443)));
    Ok(match port.filter(|_| !usual) {
        None => format!("{scheme}://{host}"),
        Some(port) => format!("{scheme}://{host}:{port}"),
    })
}

/// Reads `host[:port]`.
pub(super) fn parse_authority(authority: &str) -> Result<(String, Option<u16>), Mistake> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inside) => {
            let Some((host, rest)) = inside.split_once(']') else {
                return mistake("the URL's host has no closing bracket", r#"e.g. "http://[::1]:11434""#);
            };
            if host.parse::<Ipv6Addr>().is_err() {
                return mistake("the URL's host is no IPv6 address", r#"e.g. "http://[::1]:11434""#);
            }
            (host, rest)
        }
        None => {
            let (host, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            if !is_host(host) {
                let hint = "a name, an IPv4 address, or an IPv6 address in brackets";
                return mistake("the URL's host is missing or not valid", hint);
            }
            (host, rest)
        }
    };
    Ok((host.to_owned(), parse_port(rest)?))
}

/// Reads `:8000`; nothing is `None`.
fn parse_port(text: &str) -> Result<Option<u16>, Mistake> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(port) if port > 0 => Ok(Some(port)),
        _ => mistake("the URL's port is not valid", "a number from 1 to 65535"),
    }
}

/// Whether `host` is an IPv4 address or a DNS name; a name's last label is never all digits.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit());
    match numeric {
        true => host.parse::<Ipv4Addr>().is_ok(),
        false => host.len() <= 253 && host.split('.').all(is_label),
    }
}

fn parse_path(path: &str) -> Result<String, Mistake> {
    let trimmed = path.trim_end_matches('/');
    let trimmed = trimmed.strip_suffix("/v1").unwrap_or(trimmed).trim_end_matches('/');
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    if !path.bytes().all(allowed) {
        return mistake("the URL's path holds a character that has to be escaped", "write it as %XX");
    }
    let mut segments = trimmed.split('/').skip(1);
    if segments.any(|segment| matches!(segment, "" | "." | "..")) {
        return mistake("the URL's path has an empty or dotted segment", r#"e.g. "http://host:port/openai""#);
    }
    Ok(trimmed.to_owned())
}

impl fmt::Display for Url {
    /// `http://host:port/path`, or `https`; the port always, an IPv6 host in brackets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        match self.host.contains(':') {
            true => write!(out, "{scheme}://[{}]:{}{}", self.host, self.port, self.path),
            false => write!(out, "{scheme}://{}:{}{}", self.host, self.port, self.path),
        }
    }
}

impl Cidr {
    /// Reads `10.0.0.0/8`, `fd00::/8` or a single address.
    pub(super) fn parse(text: &str) -> Result<Self, Mistake> {
        let hint = r#"e.g. "10.0.0.0/8", "fd00::/8" or "192.168.1.5""#;
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(left, right)| (left, Some(right)));
        let Ok(network) = address.parse::<IpAddr>() else {
            return mistake("this is no address range", hint);
        };
        let bits: u8 = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => Some(bits),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
            Some(_) => None,
        };
        let Some(prefix) = prefix.filter(|&prefix| prefix <= bits) else {
            return mistake("the range's prefix is not valid", "0 to 32 for IPv4, 0 to 128 for IPv6");
        };
        if has_host_bits(network, prefix) {
            return mistake("the range's address has bits set behind its prefix", hint);
        }
        Ok(Self { network, prefix })
    }
}

fn has_host_bits(network: IpAddr, prefix: u8) -> bool {
    let host_bits = |bits: u128, width: u32| {
        let hidden = width.saturating_sub(u32::from(prefix));
        hidden > 0 && bits << (128 - hidden) != 0
    };
    match network {
        IpAddr::V4(address) => host_bits(u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => host_bits(address.to_bits(), 128),
    }
}

impl Cidr {
    /// Whether `address` is in the range; an IPv4 address in IPv6 form counts as itself.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let shared = |a: u128, b: u128, width: u32| {
            let free = width - u32::from(self.prefix).min(width);
            a.checked_shr(free).unwrap_or(0) == b.checked_shr(free).unwrap_or(0)
        };
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => shared(u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => shared(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_should() {
        let range = |network: &str, prefix| Cidr { network: network.parse().unwrap(), prefix };
        for (cidr, inside, outside) in [
            (range("10.0.0.0", 8), "10.255.1.2", "11.0.0.0"),
            (range("10.0.0.0", 8), "::ffff:10.1.1.1", "::1"),
            (range("0.0.0.0", 0), "9.9.9.9", "::1"),
            (range("127.0.0.1", 32), "127.0.0.1", "127.0.0.2"),
            (range("fd00::", 8), "fdff::1", "fe00::"),
            (range("::", 0), "fe00::", "1.2.3.4"),
        ] {
            assert!(cidr.contains(inside.parse().unwrap()), "{cidr} {inside}");
            assert!(!cidr.contains(outside.parse().unwrap()), "{cidr} {outside}");
        }
    }

    #[test]
    fn urls_are_read_and_shown_again() {
        let cases = [
            ("http://192.168.1.2:11434", "192.168.1.2", 11434, "", "http://192.168.1.2:11434"),
            ("http://gpu-1.lan", "gpu-1.lan", 80, "", "http://gpu-1.lan:80"),
            ("HTTP://Host_a:1/", "Host_a", 1, "", "http://Host_a:1"),
            ("http://[fd00::1]:8000/v1", "fd00::1", 8000, "", "http://[fd00::1]:8000"),
            ("http://h:80/openai/v1/", "h", 80, "/openai", "http://h:80/openai"),
            ("http://h:80/a/b%20c//", "h", 80, "/a/b%20c", "http://h:80/a/b%20c"),
            ("http://h/xv1", "h", 80, "/xv1", "http://h:80/xv1"),
            ("https://api.example/v1", "api.example", 443, "", "https://api.example:443"),
            ("HTTPS://[::1]/x", "::1", 443, "/x", "https://[::1]:443/x"),
            ("https://h:80", "h", 80, "", "https://h:80"),
        ];
        for (text, host, port, path, shown) in cases {
            let url = Url::parse(text).unwrap();
            let tls = shown.starts_with("https");
            assert_eq!(url, Url { tls, host: host.to_owned(), port, path: path.to_owned() }, "{text}");
            assert_eq!(url.to_string(), shown);
            assert_eq!(Url::parse(shown).unwrap(), url);
        }
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        let cases = [
            ("192.168.1.2:11434", "no scheme"),
            ("https:api.example", "no scheme"),
            ("https://", "host is missing"),
            ("httpss://h", "scheme is neither http nor https"),
            ("unix://x", "scheme is neither http nor https"),
            ("http://", "host is missing"),
            ("http://:80", "host is missing"),
            ("http:///v1", "host is missing"),
            ("http://a..b", "not valid"),
            ("http://-a", "not valid"),
            ("http://a b", "not valid"),
            ("http://gpü", "not valid"),
            ("http://192.168.1.300", "not valid"),
            ("http://a\r\nb", "not valid"),
            ("http://h:0", "port"),
            ("http://h:", "port"),
            ("http://h:65536", "port"),
            ("http://h:+80", "port"),
            ("http://h:80:80", "port"),
            ("http://[::1", "closing bracket"),
            ("http://[h]", "IPv6"),
            ("http://[::1]x", "port"),
            ("http://user:secret@h", "user or password"),
            ("http://h/?a=b", "query"),
            ("http://h/#a", "fragment"),
            ("http://h/a b", "escaped"),
            ("http://h/a\r\n", "escaped"),
            ("http://h/../a", "dotted"),
            ("http://h//a", "empty"),
        ];
        for (text, part) in cases {
            let message = Url::parse(text).unwrap_err().message;
            assert!(message.contains(part), "{text}: {message}");
        }
        assert!(!is_host(&format!("{}.b", "a".repeat(64))));
        assert!(!is_host(&["abc"; 64].join(".")));
    }

    #[test]
    fn origins_are_written_as_browsers_do() {
        for (text, origin) in [
            ("https://chat.example", "https://chat.example"),
            ("HTTPS://Chat.Example:443", "https://chat.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://a:80", "http://a"),
            ("https://a:80", "https://a:80"),
            ("http://[::1]:80", "http://[::1]"),
            ("app://obsidian.md", "app://obsidian.md"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(parse_origin(text).unwrap(), origin);
            assert_eq!(parse_origin(origin).unwrap(), origin);
        }
        for (text, part) in [
            ("", "no origin"),
            ("null", "no origin"),
            ("chat.example", "no origin"),
            ("://h", "scheme"),
            ("1a://h", "scheme"),
            ("ht tp://h", "scheme"),
            ("https://", "host"),
            ("https://*.example", "host"),
            ("https://h/", "ends behind"),
            ("https://h?x", "ends behind"),
            ("https://u@h", "ends behind"),
            ("https://h:99999", "port"),
            ("https://h\r\nx: y", "not valid"),
        ] {
            let message = parse_origin(text).unwrap_err().message;
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn ranges_are_read_and_shown_again() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("fd00::/8", "fd00::/8"),
            ("192.168.1.5", "192.168.1.5/32"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(Cidr::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn bad_ranges_say_what_is_wrong() {
        for (text, part) in [
            ("", "no address range"),
            ("lan", "no address range"),
            ("10.0.0.0/33", "prefix"),
            ("::/129", "prefix"),
            ("10.0.0.0/", "prefix"),
            ("10.0.0.0/+8", "prefix"),
            ("10.0.0.1/8", "bits set"),
            ("fd00::1/64", "bits set"),
            ("0.0.0.1/0", "bits set"),
        ] {
            let message = Cidr::parse(text).unwrap_err().message;
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
