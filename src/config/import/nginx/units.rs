//! nginx's sizes, times, rates and addresses, and which paths a location stands for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// `20M`, `8k`, `1G` or bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let scale: u64 = match unit {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// `30`, `30s`, `500ms`, `1h30m`.
pub(super) fn time(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at_checked(digits)?;
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at_checked(letters)?;
        let scale: u64 = match unit {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "M" => 2_592_000_000,
            "y" => 31_536_000_000,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(scale)?)?;
        rest = behind.trim_start();
    }
    Some(Duration::from_millis(total))
}

/// `5r/s` or `10r/m`, if it is one of ours too.
pub(super) fn rate(text: &str) -> Option<String> {
    let number = text.strip_suffix("r/s").or_else(|| text.strip_suffix("r/m"))?;
    let count = number.parse::<u64>().ok().filter(|count| (1..=1_000_000).contains(count))?;
    let unit = text.get(text.len() - 3..)?;
    Some(format!("{count}{unit}"))
}

/// The address of a `listen`; `None`: it is none (a Unix socket, a name).
pub(super) fn listen(text: &str) -> Option<SocketAddr> {
    if let Ok(port) = text.parse::<u16>() {
        return (port > 0).then_some(SocketAddr::from(([0, 0, 0, 0], port)));
    }
    let with_star = text.replacen("*:", "0.0.0.0:", 1).replacen("localhost:", "127.0.0.1:", 1);
    if let Ok(address) = with_star.parse::<SocketAddr>() {
        return (address.port() > 0).then_some(address);
    }
    let host = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 80))
}

/// Paths that a small regular expression stands for: literals, `\.`, groups of alternatives, `?` behind a group, and an end
/// of `$`, `.*`, `/?` or `(/|$)`. They are prefixes here. `None`: it is larger than that, or has no beginning.
pub(super) fn prefixes(pattern: &str) -> Option<Vec<String>> {
    let mut rest = pattern.strip_prefix('^')?;
    for end in ["(/.*)?$", "(/|$)", "(?:/|$)", "/?$", "(.*)$", ".*$", "(.*)", ".*", "$"] {
        if let Some(shorter) = rest.strip_suffix(end) {
            rest = shorter;
            break;
        }
    }
    let mut paths = vec![String::new()];
    let mut letters = rest.chars().peekable();
    while let Some(letter) = letters.next() {
        let parts: Vec<String> = match letter {
            '(' => {
                let mut group = String::new();
                loop {
                    match letters.next()? {
                        ')' => break,
                        '(' => return None,
                        inside => group.push(inside),
                    }
                }
                let group = group.strip_prefix("?:").unwrap_or(&group).to_owned();
                let mut parts = group.split('|').map(literal).collect::<Option<Vec<String>>>()?;
                if letters.next_if_eq(&'?').is_some() {
                    parts.push(String::new());
                }
                parts
            }
            '\\' => vec![letters.next().filter(|next| !next.is_alphanumeric())?.to_string()],
            plain if is_plain(plain) => vec![plain.to_string()],
            _ => return None,
        };
        if letters.peek().is_some_and(|next| matches!(next, '?' | '*' | '+' | '{')) {
            return None;
        }
        paths = paths.iter().flat_map(|path| parts.iter().map(move |part| format!("{path}{part}"))).collect();
        if paths.len() > 64 {
            return None;
        }
    }
    paths.iter().all(|path| path.starts_with('/')).then_some(paths)
}

/// A part of a group without a regular expression in it.
fn literal(part: &str) -> Option<String> {
    let unescaped = part.replace("\\.", ".").replace("\\/", "/").replace("\\-", "-");
    // A dot that was not escaped stands for itself too, which is what is meant.
    unescaped.chars().all(is_plain).then_some(unescaped)
}

fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "/-_.:~%".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_nginx_does() {
        assert_eq!(
            ["20M", "8k", "0", "1g", "x", "", "5T"].map(size),
            [Some(20 << 20), Some(8 << 10), Some(0), Some(1 << 30), None, None, None]
        );
        let seconds = Duration::from_secs;
        assert_eq!(
            ["30", "30s", "500ms", "1h30m", "1m 30s", "", "s", "5x", "99999999999999999999"].map(time),
            [
                Some(seconds(30)),
                Some(seconds(30)),
                Some(Duration::from_millis(500)),
                Some(seconds(5400)),
                Some(seconds(90)),
                None,
                None,
                None,
                None
            ]
        );
        assert_eq!(rate("5r/s").as_deref(), Some("5r/s"));
        assert_eq!(
            [rate("0r/s"), rate("5"), rate("r/s"), rate("5r/h"), rate("é")],
            [None, None, None, None, None]
        );
    }

    #[test]
    fn addresses_are_read_in_every_form() {
        for (text, address) in [
            ("80", "0.0.0.0:80"),
            ("*:8080", "0.0.0.0:8080"),
            ("[::]:443", "[::]:443"),
            ("127.0.0.1", "127.0.0.1:80"),
            ("localhost:81", "127.0.0.1:81"),
            ("[::1]", "[::1]:80"),
        ] {
            assert_eq!(listen(text).map(|address| address.to_string()).as_deref(), Some(address), "{text}");
        }
        for text in ["unix:/run/x", "0", "name:80", "70000", ""] {
            assert_eq!(listen(text), None, "{text}");
        }
    }

    #[test]
    fn small_expressions_are_paths() {
        let paths = |pattern: &str| prefixes(pattern).map(|paths| paths.join(" "));
        for (pattern, expected) in [
            ("^/v1/(chat/)?completions", "/v1/chat/completions /v1/completions"),
            ("^/v1/(a|b)$", "/v1/a /v1/b"),
            ("^/api/.*", "/api/"),
            ("^/metrics(/|$)", "/metrics"),
            ("^/a\\.b/?$", "/a.b"),
        ] {
            assert_eq!(paths(pattern).as_deref(), Some(expected), "{pattern}");
        }
        for pattern in ["/v1", "^/v[0-9]/x", "\\.php$", "^/a+", "^/(a(b))", "^(a|b)", "^/a?b", "^", "^/\\d"] {
            assert_eq!(paths(pattern), None, "{pattern}");
        }
    }
}
