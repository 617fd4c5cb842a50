//! What strangers can reach: TLS, keys, rates, proxies, the admin listener.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use super::{Facts, Line, named};
use crate::config::Config;
use crate::config::edge::{Key, KeySecret};

/// Shortest secret of a caller that is not warned of, and shortest that passes: 24 hexadecimal digits are 96 bits.
const SECRET_CHARS_GOOD: usize = 24;
const SECRET_CHARS_MIN: usize = 16;
/// Days before its end in which a certificate is told of.
const CERTIFICATE_DAYS: u64 = 14;
const DAY_S: u64 = 24 * 60 * 60;

fn is_near(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Whether only this machine can connect.
fn is_private(config: &Config) -> bool {
    let tls = config.server.tls.iter().flat_map(|tls| &tls.listen);
    config.server.listen.iter().chain(tls).all(is_near)
}

fn list(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    named(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(super) fn tls(config: &Config) -> Line {
    const NAME: &str = "tls";
    let server = &config.server;
    let open: Vec<SocketAddr> = server.listen.iter().filter(|address| !is_near(address)).copied().collect();
    match &server.tls {
        Some(tls) if open.is_empty() || tls.redirect_http => {
            Line::ok(NAME, format!("TLS on {}", list(&tls.listen)))
        }
        Some(_) => Line::warn(
            NAME,
            format!("prompts may also come in clear, on {}", list(&open)),
            "redirect_http = true in [server.tls], or listen = [] in [server]",
        ),
        None if open.is_empty() => Line::ok(NAME, "only this machine can connect"),
        None if !server.trusted_proxies.is_empty() => {
            Line::ok(NAME, "no TLS here; trusted_proxies says that a proxy has it")
        }
        None => Line::fail(
            NAME,
            format!("prompts and keys cross the network in clear, on {}", list(&open)),
            "[server.tls] with cert and key; or listen on loopback behind a proxy that has TLS, and name it in trusted_proxies",
        ),
    }
}

pub(super) fn certificates(facts: &Facts) -> Vec<Line> {
    const NAME: &str = "certificate";
    let remedy = "renew it, then `corelane reload`";
    let judged = facts.certificates.iter().map(|(file, end_s)| match end_s.checked_sub(facts.now_s) {
        None | Some(0) => Line::fail(NAME, format!("{file} has expired"), remedy),
        Some(left) if left < CERTIFICATE_DAYS * DAY_S => {
            Line::warn(NAME, format!("{file} expires in {} days", left / DAY_S), remedy)
        }
        Some(left) => Line::ok(NAME, format!("{file} is good for {} days", left / DAY_S)),
    });
    judged.collect()
}

pub(super) fn keys(config: &Config, now_s: u64) -> Line {
    const NAME: &str = "keys";
    const MAKE: &str =
        "make secrets with `openssl rand -hex 24`, and give them as \"env:NAME\", \"file:PATH\" or sha256";
    if config.keys.is_empty() {
        let remedy = "[[keys]] with a name and a secret for each caller";
        return match is_private(config) {
            true => Line::warn(NAME, "every process of this machine may call", remedy),
            false => Line::fail(NAME, "everyone who reaches the gateway may call", remedy),
        };
    }
    let shorter = |than: usize| -> Vec<&str> {
        let short = |key: &&Key| match &key.secret {
            KeySecret::Plain(secret) => secret.expose().len() < than,
            KeySecret::Sha256(_) => false,
        };
        config.keys.iter().filter(short).map(|key| key.name.as_str()).collect()
    };
    let now = UNIX_EPOCH + Duration::from_secs(now_s);
    let over = |key: &&Key| key.expires.is_some_and(|end| end <= now);
    let over: Vec<&str> = config.keys.iter().filter(over).map(|key| key.name.as_str()).collect();
    let (guessed, short) = (shorter(SECRET_CHARS_MIN), shorter(SECRET_CHARS_GOOD));
    if !guessed.is_empty() {
        let found = format!("secrets of fewer than {SECRET_CHARS_MIN} characters: {}", named(&guessed));
        return Line::fail(NAME, found, MAKE);
    }
    if !short.is_empty() {
        let found = format!("secrets of fewer than {SECRET_CHARS_GOOD} characters: {}", named(&short));
        return Line::warn(NAME, found, MAKE);
    }
    if !over.is_empty() {
        return Line::warn(
            NAME,
            format!("expired: {}", named(&over)),
            "remove them, or give them new secrets",
        );
    }
    Line::ok(NAME, format!("{}, each with a secret of its own", count(config.keys.len(), "key")))
}

pub(super) fn rates(config: &Config) -> Line {
    const NAME: &str = "rates";
    let bounded = |key: &Key| key.requests_per_minute > 0 || key.tokens_per_minute > 0;
    let zones = config.limits.zones.len();
    let by_key = !config.keys.is_empty() && config.keys.iter().all(bounded);
    if zones == 0 && !by_key {
        let remedy = "[[limits.zones]] with a rate, e.g. \"5r/s\", or requests_per_minute for every key";
        return match is_private(config) {
            true => Line::warn(NAME, "a client may ask as fast as it can", remedy),
            false => Line::fail(NAME, "a client may ask as fast as it can", remedy),
        };
    }
    let counted = config.limits.concurrent_per_client > 0
        || (!config.keys.is_empty() && config.keys.iter().all(|key| key.concurrent > 0));
    if !counted {
        let remedy = "concurrent_per_client in [limits], e.g. 10, or concurrent for every key";
        return Line::warn(NAME, "one client may hold every slot with long streams", remedy);
    }
    Line::ok(NAME, format!("{}, and requests at once are bounded", count(zones, "zone")))
}

pub(super) fn proxies(config: &Config) -> Line {
    const NAME: &str = "proxies";
    let trusted = &config.server.trusted_proxies;
    if trusted.iter().any(|range| range.prefix == 0) {
        let found = "trusted_proxies holds every address: any client may say that it is another one";
        return Line::fail(NAME, found, "name the proxies' own addresses");
    }
    match trusted.len() {
        0 => Line::ok(NAME, "nobody's X-Forwarded-For is believed"),
        many => Line::ok(NAME, format!("{} may say who the client is", count(many, "range"))),
    }
}

pub(super) fn admin(config: &Config) -> Line {
    const NAME: &str = "admin";
    let address = config.server.admin_listen;
    let Some(token) = &config.server.admin_token else {
        return match is_near(&address) {
            true => Line::ok(NAME, format!("{address}: this machine alone")),
            false => Line::fail(
                NAME,
                format!("{address} shows state and metrics to whoever reaches it"),
                "admin_listen on 127.0.0.1, or an admin_token and a firewall",
            ),
        };
    };
    if token.expose().len() < SECRET_CHARS_MIN {
        let found = format!("admin_token has fewer than {SECRET_CHARS_MIN} characters");
        return Line::fail(NAME, found, "make one with `openssl rand -hex 24`");
    }
    match is_near(&address) {
        true => Line::ok(NAME, format!("{address}: this machine alone, with a token")),
        false => {
            Line::ok(NAME, format!("{address}, with a token; let a firewall keep it to your monitoring"))
        }
    }
}

/// `3 keys`, `1 key`.
pub(super) fn count(number: usize, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}
