//! Field values and their grammar (RFC 9110 section 5), as far as framing and routing need it.

/// The members of a comma-separated list, trimmed; empty members are kept as empty slices.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether the comma-separated `value` holds `token`, in any case.
#[must_use]
pub fn has_token(value: &[u8], token: &[u8]) -> bool {
    list(value).any(|member| member.eq_ignore_ascii_case(token))
}

/// The last value of the field `name` in a checked head of `head_bytes`, of any name: a proxy adds its own line behind
/// the client's.
#[must_use]
pub fn find<'a>(buffer: &'a [u8], head_bytes: usize, name: &str) -> Option<&'a [u8]> {
    let head = buffer.get(..head_bytes)?;
    let (_, fields) = head.split_at_checked(memchr::memchr(b'\n', head)? + 1)?;
    fields.rsplit(|&byte| byte == b'\n').find_map(|line| {
        let (own, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
        own.eq_ignore_ascii_case(name.as_bytes()).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

/// `1*DIGIT` that fits; signs, spaces, lists and empty values are `None`.
#[must_use]
pub fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    value.iter().try_fold(0u64, |sum, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte & 0x0f))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// `uri-host [":" port]` (RFC 9112 section 3.2): a name, an IPv4 address, or `[IPv6]`; never user information,
/// path, query or fragment, and never empty.
#[must_use]
pub fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let (inside, after) = rest.split_at(end);
            let literal =
                std::str::from_utf8(inside).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
            if !literal {
                return false;
            }
            match after {
                [b']'] => return true,
                [b']', b':', port @ ..] => (inside, Some(port)),
                _ => return false,
            }
        }
        _ => match memchr::memchr(b':', value) {
            Some(at) => (value.get(..at).unwrap_or_default(), value.get(at + 1..)),
            None => (value, None),
        },
    };
    let host_ok = value.starts_with(b"[") || (!host.is_empty() && is_name(host));
    let port_ok = port.is_none_or(|port| port.len() <= 5 && port.iter().all(u8::is_ascii_digit));
    host_ok && port_ok
}

/// Host characters; a percent sign only before two hexadecimal digits (RFC 3986 section 3.2.2).
fn is_name(host: &[u8]) -> bool {
    host.iter().enumerate().all(|(at, &byte)| {
        let pair = || host.get(at + 1..at + 3).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        is_host_byte(byte) || (byte == b'%' && pair())
    })
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}

/// A token character (RFC 9110 section 5.6.2).
#[must_use]
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_digits_only() {
        assert_eq!(length(b"0"), Some(0));
        assert_eq!(length(b"0042"), Some(42));
        for bad in
            [&b""[..], b"+1", b"-1", b" 1", b"1 ", b"0x1", b"1,1", b"1.0", b"99999999999999999999", b"\xb2"]
        {
            assert_eq!(length(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn fields_are_found_by_name() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nX-User:  u 1 \r\nx-user: u2\r\n\r\n";
        let body = [&head[..], b"x-late: no\r\n"].concat();
        assert_eq!(find(&body, head.len(), "x-user"), Some(&b"u2"[..]));
        assert_eq!(find(&body, head.len(), "x-late"), None);
        assert_eq!(find(&body, head.len(), "x-use"), None);
    }

    #[test]
    fn hosts_follow_the_grammar() {
        for good in ["a", "a.b-c:80", "127.0.0.1:8000", "[::1]", "[::1]:8000", "a:", "xn--x_y", "a%20b"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a/b", "a?b", "a#b", "u@a", "a b", "[::1", "[::1]x", "[a]", "a:8x", "a:123456",
            "a\\b", "a%zz", "a%2",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
