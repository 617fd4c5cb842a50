//! TLS, browsers, limits and keys as the file would say them.

use super::{Page, list, quoted};
use crate::config::edge::{Certificate, Cors, Key, KeySecret, LimitedRoute, Limits, Tls, Zone, ZoneKey};
use crate::config::guard::Guard;
use crate::config::moment;

/// Words of `server.tls.min_version`: whether 1.2 is spoken.
pub const MIN_VERSIONS: [(&str, bool); 2] = [("1.2", true), ("1.3", false)];

pub(super) fn write_tls(page: &mut Page, tls: &Tls) {
    page.header("[server.tls]");
    page.plain("listen", list(tls.listen.iter()));
    if let Some((first, more)) = tls.certificates.split_first() {
        page.text("cert", first.cert.display());
        page.text("key", first.key.display());
        if !more.is_empty() {
            page.lines("certificates", more.iter().map(certificate));
        }
    }
    page.plain("redirect_http", tls.redirect_http);
    page.plain("redirect_status", tls.redirect_status);
    match tls.redirect_port {
        None => page.note("redirect_port is left out: the port of the first TLS listener"),
        Some(port) => page.plain("redirect_port", port),
    }
    let client_ca = tls.client_ca.as_ref().map(|path| path.display().to_string());
    page.text("client_ca", client_ca.unwrap_or_default());
    page.word("min_version", &MIN_VERSIONS, tls.tls12);
    page.plain("http2", tls.http2);
    page.time("handshake_timeout", tls.handshake_timeout);
    page.plain("handshakes_max", tls.handshakes_max);
}

fn certificate(one: &Certificate) -> String {
    format!("{{ cert = {}, key = {} }}", quoted(one.cert.display()), quoted(one.key.display()))
}

pub(super) fn write_cors(page: &mut Page, cors: &Cors) {
    page.header("[server.cors]");
    page.plain("origins", list(cors.origins.iter()));
    page.plain("credentials", cors.credentials);
    page.time("max_age", cors.max_age);
}

pub(super) fn write_limits(page: &mut Page, limits: &Limits) {
    page.header("[limits]");
    page.plain("concurrent_per_client", limits.concurrent_per_client);
    page.plain("reject_status", limits.reject_status);
    page.plain("ipv6_prefix", limits.ipv6_prefix);
    page.plain("entries_max", limits.entries_max);
    limits.zones.iter().for_each(|zone| write_zone(page, zone));
}

fn write_zone(page: &mut Page, zone: &Zone) {
    page.header("[[limits.zones]]");
    page.text("name", &zone.name);
    match &zone.key {
        ZoneKey::ClientIp => page.text("key", "client_ip"),
        ZoneKey::ApiKey => page.text("key", "api_key"),
        ZoneKey::Everyone => page.text("key", "everyone"),
        ZoneKey::Header(name) => page.text("key", format_args!("header:{name}")),
    }
    page.text("rate", rate(zone.rate));
    page.lines("routes", zone.routes.iter().map(route));
}

/// `5000` as `5r/s`; else a number a minute that gives as many thousandths when it is read.
fn rate(thousandths: u32) -> String {
    match thousandths % 1000 {
        0 => format!("{}r/s", thousandths / 1000),
        _ => format!("{}r/m", (u64::from(thousandths) * 60).div_ceil(1000)),
    }
}

fn route(route: &LimitedRoute) -> String {
    let mut parts = vec![format!("path = {}", quoted(&route.path)), format!("burst = {}", route.burst)];
    match route.delay {
        None => parts.push("nodelay = true".to_owned()),
        Some(delay) => parts.push(format!("nodelay = false, delay = {delay}")),
    }
    parts.extend(route.concurrent_per_client.map(|count| format!("concurrent_per_client = {count}")));
    format!("{{ {} }}", parts.join(", "))
}

pub(super) fn write_key(page: &mut Page, key: &Key, guard: &Guard) {
    page.header("[[keys]]");
    page.text("name", &key.name);
    match &key.secret {
        KeySecret::Plain(secret) => page.text("secret", secret.masked()),
        KeySecret::Sha256(sum) => {
            page.text("sha256", sum.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        }
    }
    page.plain("models", list(key.models.iter()));
    match key.guard.and_then(|index| guard.profiles.get(index)) {
        None => page.note("guard is left out: as the model says"),
        Some(profile) => page.text("guard", &profile.name),
    }
    page.plain("requests_per_minute", key.requests_per_minute);
    page.plain("tokens_per_minute", key.tokens_per_minute);
    page.plain("concurrent", key.concurrent);
    page.plain("budget", format_args!("{:?}", key.budget));
    page.time("budget_period", key.budget_period);
    match &key.cache_group {
        None => page.note("cache_group is left out: it shares no answers"),
        Some(group) => page.text("cache_group", group),
    }
    match key.expires {
        None => page.note("expires is left out: never"),
        Some(time) => page.plain("expires", moment::text(time)),
    }
}
