//! Where requests go: `http://HOST:PORT` or `https://…`, with a path in front of those of the API if there is one.

use std::net::{SocketAddr, ToSocketAddrs as _};

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// The name or address, without port.
    pub host: String,
    /// As it stands in `Host`.
    pub authority: String,
    /// In front of every path; without a slash at its end.
    pub base: String,
    port: u16,
}

impl Target {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (tls, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(format!("{url:?}: begins neither with http:// nor with https://")),
        };
        let (authority, base) = rest.split_once('/').map_or((rest, String::new()), |(authority, path)| {
            let path = path.trim_end_matches('/');
            (authority, if path.is_empty() { String::new() } else { format!("/{path}") })
        });
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@\\\"".contains(&byte));
        if authority.is_empty() || !plain(authority) || !plain(&base) {
            return Err(format!("{url:?}: a host, perhaps a port and a path; no user, query or fragment"));
        }
        let end = authority.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match authority.get(end..).and_then(|rest| rest.rfind(':')) {
            Some(colon) => {
                let (host, port) = authority.split_at(end + colon);
                let port = port.trim_start_matches(':').parse();
                (host, port.map_err(|_| format!("{url:?}: the port is no number from 0 to 65535"))?)
            }
            None => (authority, if tls { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { tls, host, authority: authority.to_owned(), base, port })
    }

    /// Its first address.
    ///
    /// # Errors
    /// The name is not known.
    pub fn resolve(&self) -> Result<SocketAddr, String> {
        let mut found = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| format!("{}: {error}", self.authority))?;
        found.next().ok_or_else(|| format!("{}: no address", self.authority))
    }

    /// As it was written.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}{}", if self.tls { "https" } else { "http" }, self.authority, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let target = Target::parse("http://127.0.0.1:8000/").unwrap();
        assert_eq!((target.tls, target.port, target.base.as_str()), (false, 8000, ""));
        assert_eq!(target.resolve().unwrap(), "127.0.0.1:8000".parse().unwrap());
        let target = Target::parse("https://gateway.example/llm/").unwrap();
        assert_eq!((target.tls, target.port, target.base.as_str()), (true, 443, "/llm"));
        assert_eq!(target.url(), "https://gateway.example/llm");
        let target = Target::parse("http://[::1]:8000").unwrap();
        assert_eq!(
            (target.host.as_str(), target.authority.as_str(), target.port),
            ("::1", "[::1]:8000", 8000)
        );
        for bad in
            ["", "host:80", "ftp://a", "http://", "http://a:b", "http://u@a", "http://a/?q", "http://a b"]
        {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
