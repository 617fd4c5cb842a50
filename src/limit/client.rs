//! Who the client is: the peer of the connection, or whom trusted proxies name.

use std::net::{IpAddr, SocketAddr};

use crate::config::Cidr;

/// Whether what `address` says of others is believed.
#[must_use]
pub fn is_trusted(trusted: &[Cidr], address: IpAddr) -> bool {
    trusted.iter().any(|range| range.contains(address))
}

/// The peer, or where a trusted proxy says the client is, by the value of `X-Forwarded-For`: read from the right as far as
/// proxies are trusted (nginx, `real_ip_recursive`).
#[must_use]
pub fn address(trusted: &[Cidr], peer: IpAddr, forwarded_for: Option<&[u8]>) -> IpAddr {
    let mut client = peer;
    if !is_trusted(trusted, client) {
        return client;
    }
    for hop in forwarded_for.unwrap_or_default().rsplit(|&byte| byte == b',') {
        let address = std::str::from_utf8(hop.trim_ascii()).ok().and_then(hop_address);
        match address.filter(|_| is_trusted(trusted, client)) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// An address as proxies write it: alone, in brackets, or with a port behind it.
fn hop_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}
