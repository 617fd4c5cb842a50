//! `[limits]`: how fast and how many at once, in nginx's numbers.
//!
//! Rates are counted as in `ngx_http_limit_req_module.c`: thousandths of a request a second, `N` a minute as
//! `N · 1000 / 60` truncated.

use std::collections::HashMap;

use super::super::edge::{LimitedRoute, Limits, Zone, ZoneKey};
use super::super::problem::{choices, quote};
use super::super::reader::{Table, Value};
use super::endpoints::read_name;
use super::server::is_header_name;

/// Zones, and routes of one.
const ZONES_MAX: usize = 64;
const ROUTES_MAX: usize = 64;
/// Largest burst: 28 bits hold a thousand times as much.
const BURST_MAX: i64 = 268_000;
/// Fastest rate, in requests a second.
const RATE_MAX: u64 = 1_000_000;
/// Exchanges of one client at once that may be asked for.
const CONCURRENT_MAX: i64 = 1_000_000;
/// Bytes of a route's path.
const PATH_BYTES_MAX: usize = 1024;

/// Words of `key`, but `header:NAME`.
const KEYS: [(&str, ZoneKey); 3] =
    [("client_ip", ZoneKey::ClientIp), ("api_key", ZoneKey::ApiKey), ("everyone", ZoneKey::Everyone)];
/// Headers of one connection (RFC 9110 section 7.6.1): they say nothing of a client behind a proxy.
const HOP_HEADERS: [&str; 9] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
];
/// Headers that carry what nobody else should see.
const CREDENTIALS: [&str; 7] = [
    "api-key",
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-api-key",
    "x-litellm-api-key",
];

/// What the routes of all zones have said so far of one path's `concurrent_per_client`, and in which zone.
type Said = HashMap<String, (u32, String)>;

/// The section. `keys`: whether the file has any.
pub(super) fn read(table: &mut Table<'_>, keys: bool) -> Limits {
    let default = Limits::default();
    let mut first_lines: HashMap<String, u32> = HashMap::new();
    let mut said = Said::new();
    let zones = table.sections("zones", |table| {
        let zone = read_zone(table, keys, &mut said);
        if !zone.name.is_empty()
            && let Some(line) = first_lines.insert(zone.name.clone(), table.place.line)
        {
            let message = format!("{} is also the name of the zone in line {line}", quote(&zone.name));
            let place = table.take("name").map_or_else(|| table.place.clone(), |value| value.place);
            table.report.add(&place, message, "give it a name of its own");
        }
        zone
    });
    if let Some(value) = table.take("zones").filter(|_| zones.len() > ZONES_MAX) {
        value.wrong(format!("{} zones", zones.len()), format!("at most {ZONES_MAX}"));
    }
    Limits {
        concurrent_per_client: table.integer(
            "concurrent_per_client",
            0,
            CONCURRENT_MAX,
            default.concurrent_per_client,
        ),
        reject_status: table.take("reject_status").and_then(read_status).unwrap_or(default.reject_status),
        ipv6_prefix: table.integer("ipv6_prefix", 1, 128, default.ipv6_prefix),
        entries_max: table.integer("entries_max", 1024, 16_777_216, default.entries_max),
        zones,
    }
}

fn read_status(value: Value<'_>) -> Option<u16> {
    let status = value.integer(0, 999)?;
    if !matches!(status, 429 | 503) {
        value
            .wrong(format!("{status} is neither 429 nor 503"), "429, which clients wait for; nginx says 503");
    }
    Some(status)
}

fn read_zone(table: &mut Table<'_>, keys: bool, said: &mut Said) -> Zone {
    let name = table.require("name", r#"e.g. name = "chat""#);
    let rate = table.require("rate", r#"e.g. rate = "5r/s""#);
    let pace = Pace::default().read(table);
    let zone = Zone {
        name: name.and_then(|value| read_name(&value, "zone")).unwrap_or_default(),
        key: table.take("key").and_then(|value| read_key(&value, keys)).unwrap_or(ZoneKey::ClientIp),
        rate: rate.and_then(|value| read_rate(&value)).unwrap_or(1),
        routes: Vec::new(),
    };
    let routes = match table.take("routes") {
        None => {
            let place = table.place.clone();
            let route = pace.at("/".to_owned());
            let conflict = conflict(&route, &zone.name, said);
            conflict.into_iter().for_each(|message| table.report.add(&place, message, CONFLICT_HINT));
            vec![route]
        }
        Some(value) => read_routes(&value, &pace, &zone.name, said),
    };
    Zone { routes, ..zone }
}

/// `5r/s` or `10r/m`, in thousandths a second.
fn read_rate(value: &Value<'_>) -> Option<u32> {
    let text = value.text()?;
    let hint = r#"requests a second or a minute: "5r/s", "10r/m""#;
    let (number, per) = match (text.strip_suffix("r/s"), text.strip_suffix("r/m")) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 60),
        _ => ("", 1),
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let Some(number) = digits.then(|| number.parse::<u64>().unwrap_or(u64::MAX)) else {
        value.wrong(format!("{} is no rate", quote(text)), hint);
        return None;
    };
    let rate = number.checked_mul(1000).map(|thousandths| thousandths / per);
    match rate.filter(|rate| (1..=RATE_MAX * 1000).contains(rate)).and_then(|rate| u32::try_from(rate).ok()) {
        None => {
            value.wrong(format!("{} is out of range", quote(text)), format!("from 1r/m to {RATE_MAX}r/s"));
            None
        }
        rate => rate,
    }
}

fn read_key(value: &Value<'_>, keys: bool) -> Option<ZoneKey> {
    let text = value.text()?;
    if let Some(name) = text.strip_prefix("header:") {
        let name = name.to_ascii_lowercase();
        if !is_header_name(&name) {
            value.wrong("this is no header name", r#"e.g. "header:x-tenant""#);
        } else if HOP_HEADERS.contains(&name.as_str()) {
            value.wrong(
                format!("`{name}` belongs to a connection, not to a client"),
                r#"e.g. "header:x-tenant""#,
            );
        } else if CREDENTIALS.contains(&name.as_str()) {
            value.wrong(format!("`{name}` carries a secret"), r#"use key = "api_key", with [[keys]]"#);
        }
        return Some(ZoneKey::Header(name));
    }
    let found = KEYS.into_iter().find(|(word, _)| *word == text).map(|(_, key)| key);
    match &found {
        None => {
            let hint = choices(text, &["client_ip", "api_key", "everyone", "header:NAME"]);
            value.wrong(format!("{} is not known here", quote(text)), hint);
        }
        Some(ZoneKey::ApiKey) if !keys => {
            value.wrong("there are no [[keys]] to tell callers apart by", r#"add them, or use "client_ip""#);
        }
        Some(_) => {}
    }
    found
}

/// What a zone says for its routes, or a route for itself.
#[derive(Default)]
struct Pace {
    burst: u32,
    delay: Option<u32>,
    concurrent_per_client: Option<u32>,
}

impl Pace {
    /// What `table` says, over `self`.
    fn read(&self, table: &mut Table<'_>) -> Self {
        let nodelay = table.flag("nodelay", self.delay.is_none());
        let delay = match table.take("delay") {
            Some(value) if nodelay => {
                value.wrong(
                    "`delay` counts only where `nodelay` is false",
                    "add nodelay = false, or remove delay",
                );
                None
            }
            given => given.and_then(|value| value.integer(0, BURST_MAX)).or(self.delay),
        };
        let concurrent = table.take("concurrent_per_client");
        Self {
            burst: table.integer("burst", 0, BURST_MAX, self.burst),
            delay: (!nodelay).then_some(delay.unwrap_or(0)),
            concurrent_per_client: concurrent
                .and_then(|value| value.integer(0, CONCURRENT_MAX))
                .or(self.concurrent_per_client),
        }
    }

    fn at(&self, path: String) -> LimitedRoute {
        LimitedRoute {
            path,
            burst: self.burst,
            delay: self.delay,
            concurrent_per_client: self.concurrent_per_client,
        }
    }
}

fn read_routes(value: &Value<'_>, pace: &Pace, zone: &str, said: &mut Said) -> Vec<LimitedRoute> {
    let Some(items) = value.items() else { return Vec::new() };
    if items.is_empty() || items.len() > ROUTES_MAX {
        value.wrong(format!("{} routes", items.len()), format!(r#"from 1 to {ROUTES_MAX}; left out: ["/"]"#));
        return Vec::new();
    }
    let mut routes: Vec<LimitedRoute> = Vec::with_capacity(items.len());
    for item in items {
        let Some(route) = read_route(&item, pace) else { continue };
        if routes.iter().any(|other| other.path == route.path) {
            item.wrong(format!("{} is listed twice", quote(&route.path)), "remove one of them");
        }
        conflict(&route, zone, said).into_iter().for_each(|message| item.wrong(message, CONFLICT_HINT));
        routes.push(route);
    }
    routes
}

/// A path, or a table with one.
fn read_route(item: &Value<'_>, pace: &Pace) -> Option<LimitedRoute> {
    if item.as_text().is_some() {
        return read_path(item).map(|path| pace.at(path));
    }
    item.as_section(|table| {
        let path = table.require("path", r#"e.g. path = "/v1/chat/completions""#);
        let own = pace.read(table);
        path.and_then(|path| read_path(&path)).map(|path| own.at(path))
    })?
}

/// The beginning of a path, as it is compared: without a query.
fn read_path(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"?#\"\\".contains(&byte);
    if !text.starts_with('/') || text.len() > PATH_BYTES_MAX || !text.bytes().all(allowed) {
        let hint = r#"begins with `/`, visible ASCII without `?` and `#`, e.g. "/v1/chat/completions""#;
        value.wrong(format!("{} is no path", quote(text)), hint);
        return None;
    }
    Some(text.to_owned())
}

const CONFLICT_HINT: &str = "write concurrent_per_client in one of the zones";

/// A path has one `concurrent_per_client`: what is wrong if two zones differ.
fn conflict(route: &LimitedRoute, zone: &str, said: &mut Said) -> Option<String> {
    let count = route.concurrent_per_client?;
    match said.get(&route.path) {
        Some((other, in_zone)) if *other != count && in_zone != zone => {
            let path = quote(&route.path);
            Some(format!(
                "concurrent_per_client of {path} is {count} here and {other} in zone {}",
                quote(in_zone)
            ))
        }
        Some(_) => None,
        None => {
            said.insert(route.path.clone(), (count, zone.to_owned()));
            None
        }
    }
}
