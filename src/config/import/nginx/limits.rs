//! `limit_req`, `limit_conn` and locations: `[limits]` and its zones.
//!
//! A location is the longest prefix that fits, here as there. One without limits under one with limits needs a zone that
//! refuses nobody. Of exact locations (`=`) and small expressions the beginning counts.

use super::super::toml::from;
use super::parse::Directive;
use super::{Reader, units};
use crate::config::render::quoted;

/// A zone that refuses nobody.
const FREE: &str = "paths-without-limits";
const FREE_RATE: &str = "1000000r/s";
/// Zones that a gateway may have; one of them is [`FREE`].
const ZONES_MAX: usize = 63;
/// Most requests beyond a rate.
const BURST_MAX: u64 = 268_000;

/// A `limit_req_zone`.
pub(super) struct Zone {
    name: String,
    key: String,
    rate: String,
    note: String,
    routes: Vec<Route>,
}

/// Where a zone applies.
struct Route {
    path: String,
    burst: u64,
    /// `None`: `nodelay`.
    delay: Option<u64>,
    concurrent: Option<u64>,
    note: String,
}

/// What a level of blocks says of limits; inherited unless a level below says its own.
#[derive(Clone, Default)]
pub(super) struct Scope<'a> {
    pub(super) requests: Vec<&'a Directive>,
    pub(super) connections: Vec<&'a Directive>,
    pub(super) read_timeout: Option<&'a Directive>,
    pub(super) headers: Vec<&'a Directive>,
}

/// A location that is proxied.
pub(super) struct Location<'a> {
    pub(super) directive: &'a Directive,
    pub(super) paths: Vec<String>,
    pub(super) scope: Scope<'a>,
}

impl<'a> Scope<'a> {
    /// What holds inside of these directives.
    pub(super) fn enter(&self, directives: &[&'a Directive]) -> Self {
        let all = |name: &str| -> Vec<&'a Directive> {
            directives.iter().copied().filter(|directive| directive.name == name).collect()
        };
        let or = |own: Vec<&'a Directive>, outer: &Vec<&'a Directive>| {
            if own.is_empty() { outer.clone() } else { own }
        };
        Self {
            requests: or(all("limit_req"), &self.requests),
            connections: or(all("limit_conn"), &self.connections),
            headers: or(all("add_header"), &self.headers),
            read_timeout: all("proxy_read_timeout").pop().or(self.read_timeout),
        }
    }
}

/// An argument by its name: `zone=x`.
fn named<'d>(directive: &'d Directive, name: &str) -> Option<&'d str> {
    directive.args.iter().find_map(|arg| arg.strip_prefix(name)?.strip_prefix('='))
}

impl Reader<'_> {
    /// `limit_req_zone`.
    pub(super) fn read_zone(&mut self, directive: &Directive) {
        let zone = named(directive, "zone").map(|zone| zone.split_once(':').unwrap_or((zone, "")));
        let Some((name, size)) = zone.filter(|(name, _)| !name.is_empty()) else {
            self.refused(directive, "expected zone=NAME:SIZE");
            return;
        };
        let Some(rate) = named(directive, "rate").and_then(units::rate) else {
            self.refused(directive, "expected rate=Nr/s or rate=Nr/m, up to a million");
            return;
        };
        let written = directive.args.first().map_or("", String::as_str);
        let Some((key, how)) = key_of(written) else {
            self.refused(directive, "clients are told apart by their address, a header, or not at all");
            return;
        };
        self.read_zone_size(size);
        let name = zone_name(name);
        if self.zones.len() >= ZONES_MAX {
            self.refused(directive, "too many zones: 64 are possible");
            return;
        }
        if self.zones.iter().any(|zone| zone.name == name) {
            self.refused(directive, "a zone of this name stands above");
            return;
        }
        let to = format!("limits.zones {} with rate = {}", quoted(&name), quoted(&rate));
        match how {
            "" => self.exact(directive, &to),
            how => self.changed(directive, format!("{to}: {how}")),
        }
        let note = from(&directive.origin);
        self.zones.push(Zone { name, key, rate, note, routes: Vec::new() });
    }

    /// Clients that a zone remembers: nginx has 16 384 of 64 bytes in a megabyte. The largest zone counts.
    fn read_zone_size(&mut self, size: &str) {
        let Some(bytes) = units::size(size) else { return };
        let entries = (bytes / 64).clamp(1024, 16_777_216);
        let known =
            self.set.get("entries").and_then(|(known, _)| known.parse::<u64>().ok()).unwrap_or_default();
        if entries > known {
            let origin = super::Origin { file: "".into(), line: 0 };
            self.set.insert("entries".to_owned(), (entries.to_string(), origin));
        }
    }

    /// `limit_conn_zone`.
    pub(super) fn read_conn_zone(&mut self, directive: &Directive) {
        let name = named(directive, "zone").and_then(|zone| zone.split(':').next());
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            self.refused(directive, "expected zone=NAME:SIZE");
            return;
        };
        let written = directive.args.first().map_or("", String::as_str);
        match written {
            "$binary_remote_addr" | "$remote_addr" => {
                self.conn_zones.insert(name.to_owned(), true);
                self.changed(
                    directive,
                    "limits.concurrent_per_client: requests for models are counted, others are not",
                );
            }
            "$server_name" | "$host" | "$http_host" => {
                self.conn_zones.insert(name.to_owned(), false);
                self.changed(directive, "server.max_concurrent_requests: all requests together");
            }
            _ => {
                self.refused(directive, "requests at once are counted by a client's address, or all together")
            }
        }
    }

    /// Statuses of refusals; 503 where nothing is said, as in nginx.
    pub(super) fn read_status(&mut self, directive: &Directive) {
        let status = directive.args.first().and_then(|text| text.parse::<u16>().ok()).unwrap_or_default();
        let (value, note) = match status {
            429 | 503 => (status, ""),
            _ => (429, "429 and 503 are possible"),
        };
        self.once(directive, "[limits]", "reject_status", value.to_string(), note);
    }

    /// Writes zones with the routes of these locations.
    pub(super) fn write_limits(&mut self, locations: &[Location<'_>], outer: &Scope<'_>) {
        if self.zones.is_empty() && self.conn_zones.is_empty() {
            return;
        }
        let root = locations.iter().find(|location| location.paths.iter().any(|path| path == "/"));
        let base = self.concurrent(root.map_or(outer, |root| &root.scope));
        for location in locations {
            self.read_location(location, base, locations);
        }
        if root.is_none() && !outer.requests.is_empty() {
            let routes = self.routes(outer, "/", None, "the server's own limits");
            self.add(routes);
        }
        self.write_zones(base);
    }

    /// Requests at once of one client in this scope.
    fn concurrent(&self, scope: &Scope<'_>) -> u64 {
        let count = |directive: &&Directive| {
            let zone = directive.args.first()?;
            let count = directive.args.get(1)?.parse::<u64>().ok()?.min(1_000_000);
            (self.conn_zones.get(zone) == Some(&true)).then_some(count)
        };
        scope.connections.iter().filter_map(count).min().unwrap_or_default()
    }

    fn read_location(&mut self, location: &Location<'_>, base: u64, all: &[Location<'_>]) {
        let own = self.concurrent(&location.scope);
        let concurrent = (own != base).then_some(own);
        for path in &location.paths {
            let under = |other: &Location<'_>| {
                let limits = !other.scope.requests.is_empty();
                limits && other.paths.iter().any(|outer| outer != path && path.starts_with(outer.as_str()))
            };
            let note = from(&location.directive.origin);
            if !location.scope.requests.is_empty() {
                let routes = self.routes(&location.scope, path, concurrent, &note);
                self.add(routes);
            } else if all.iter().any(under) || concurrent.is_some() {
                let route = Route { path: path.clone(), burst: BURST_MAX, delay: None, concurrent, note };
                self.add(vec![(FREE.to_owned(), route)]);
            }
        }
    }

    /// One route for each zone of the scope.
    fn routes(
        &self,
        scope: &Scope<'_>,
        path: &str,
        concurrent: Option<u64>,
        note: &str,
    ) -> Vec<(String, Route)> {
        let mut routes = Vec::new();
        for directive in &scope.requests {
            let Some(zone) = named(directive, "zone").map(zone_name) else { continue };
            let number = |name: &str| named(directive, name).and_then(|text| text.parse::<u64>().ok());
            let nodelay = directive.args.iter().any(|arg| arg == "nodelay");
            let burst = number("burst").unwrap_or_default().min(BURST_MAX);
            let delay = (!nodelay).then(|| number("delay").unwrap_or_default().min(BURST_MAX));
            let route = Route { path: path.to_owned(), burst, delay, concurrent, note: note.to_owned() };
            routes.push((zone, route));
        }
        routes
    }

    fn add(&mut self, routes: Vec<(String, Route)>) {
        for (name, route) in routes {
            let known = self.zones.iter_mut().find(|zone| zone.name == name);
            let zone = match known {
                Some(zone) => zone,
                None if name == FREE => {
                    let note = "paths that nginx does not limit".to_owned();
                    let (key, rate) = ("client_ip".to_owned(), FREE_RATE.to_owned());
                    self.zones.push(Zone { name, key, rate, note, routes: Vec::new() });
                    let Some(zone) = self.zones.last_mut() else { continue };
                    zone
                }
                None => continue, // refused where it is named
            };
            if zone.routes.iter().all(|known| known.path != route.path) {
                zone.routes.push(route);
            }
        }
    }

    /// `limit_req` and `limit_conn` are told of once, wherever they are inherited to.
    pub(super) fn tell_limit(&mut self, directive: &Directive) {
        if directive.name == "limit_req" {
            let name = named(directive, "zone").map(zone_name).unwrap_or_default();
            match self.zones.iter().any(|zone| zone.name == name) {
                true => self.exact(directive, format!("limits.zones {}", quoted(&name))),
                false => self.refused(directive, "no limit_req_zone that can be had is called so"),
            }
            return;
        }
        let zone = directive.args.first().map_or("", String::as_str);
        let count = directive.args.get(1).and_then(|text| text.parse::<u64>().ok());
        match (self.conn_zones.get(zone), count) {
            (_, None) => self.refused(directive, "expected a zone and a number"),
            (Some(true), Some(count)) => self.exact(directive, format!("concurrent_per_client = {count}")),
            (Some(false), Some(count)) => {
                let value = count.clamp(1, 1_000_000).to_string();
                self.once(directive, "[server]", "max_concurrent_requests", value, "all requests together");
            }
            (None, _) => self.refused(directive, "no limit_conn_zone that can be had is called so"),
        }
    }

    fn write_zones(&mut self, base: u64) {
        let entries = self.set.get("entries").map(|(entries, _)| entries.clone());
        let status = self.was_set("limits.reject_status").is_some();
        let section = self.plan.doc.section("[limits]");
        if base > 0 {
            section.set("concurrent_per_client", base, "limit_conn");
        }
        if !status {
            section.set("reject_status", 503, "nginx's own; clients know better what to do after 429");
        }
        section.set("ipv6_prefix", 128, "nginx counts each address; 64 bits are a household's");
        if let Some(entries) = entries {
            section.set("entries_max", entries, "clients that a zone remembers");
        }
        for zone in self.zones.iter().filter(|zone| !zone.routes.is_empty()) {
            let section = self.plan.doc.push("[[limits.zones]]");
            section.text("name", &zone.name, &zone.note);
            section.text("key", &zone.key, "");
            section.text("rate", &zone.rate, "");
            let routes: Vec<String> = zone.routes.iter().map(route).collect();
            section.set("routes", format_args!("[\n{}]", routes.concat()), "");
        }
        for zone in self.zones.iter().filter(|zone| zone.routes.is_empty()) {
            self.plan.doc.foot(format!("{}: zone {} is used nowhere", zone.note, zone.name));
        }
    }
}

/// A route as a line of TOML.
fn route(route: &Route) -> String {
    let mut parts = vec![format!("path = {}", quoted(&route.path)), format!("burst = {}", route.burst)];
    if let Some(delay) = route.delay {
        parts.push(format!("nodelay = false, delay = {delay}"));
    }
    parts.extend(route.concurrent.map(|count| format!("concurrent_per_client = {count}")));
    format!("    {{ {} }}, # {}\n", parts.join(", "), route.note)
}

/// What tells clients apart, and how it differs.
fn key_of(variable: &str) -> Option<(String, &'static str)> {
    let header = |name: &str| name.replace('_', "-").to_ascii_lowercase();
    match variable {
        "$binary_remote_addr" | "$remote_addr" => Some(("client_ip".to_owned(), "")),
        "$server_name" | "$host" | "$http_host" | "$server_port" => {
            Some(("everyone".to_owned(), "one bucket for all names of the server"))
        }
        _ => {
            let name = variable.strip_prefix("$http_").map(header)?;
            let secret = ["authorization", "x-api-key", "api-key", "x-litellm-api-key", "cookie"];
            let fine =
                name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') && !name.is_empty();
            (fine && !secret.contains(&name.as_str())).then(|| {
                (format!("header:{name}"), "believed from server.trusted_proxies only, else the address")
            })
        }
    }
}

/// A zone's name as ours may be.
fn zone_name(name: &str) -> String {
    let name = name.split(':').next().unwrap_or_default();
    let fine =
        |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '-' };
    let name: String = name.chars().take(60).map(fine).collect();
    if name.starts_with(|first: char| first.is_ascii_alphanumeric()) { name } else { format!("z{name}") }
}
