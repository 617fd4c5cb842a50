//! `http` and `server`: which server is what, where it listens, and what its locations do.

use std::net::SocketAddr;

use super::super::report::Origin;
use super::super::toml::from;
use super::limits::{Location, Scope};
use super::parse::Directive;
use super::{Reader, units};
use crate::config::render::quoted;
use crate::config::units::Bytes;

/// nginx's own bounds, where its file says nothing.
const BODY_BYTES: u64 = 1 << 20;
const READ_TIMEOUT_S: u64 = 60;
/// Listeners of a kind, and certificates.
const LISTEN_MAX: usize = 16;
const CERTIFICATES_MAX: usize = 256;
/// Locations of one server.
const LOCATIONS_MAX: usize = 64;

/// What a server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// It sends clients to TLS.
    Redirect,
    /// It shows metrics.
    Metrics,
    /// It proxies.
    Api,
    /// Neither.
    Other,
}

/// Headers that pages of browsers are told, which the gateway writes itself.
const CORS: [&str; 4] = [
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-expose-headers",
    "access-control-max-age",
];
/// Headers that the gateway writes itself.
const OWN_HEADERS: [&str; 8] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

impl Reader<'_> {
    /// Everything inside of `http`.
    pub(super) fn read_http(&mut self, directives: &[&Directive]) {
        let named =
            |name: &'static str| directives.iter().copied().filter(move |directive| directive.name == name);
        named("limit_req_zone").for_each(|directive| self.read_zone(directive));
        named("limit_conn_zone").for_each(|directive| self.read_conn_zone(directive));
        let scope = Scope::default().enter(directives);
        for directive in directives {
            match directive.name.as_str() {
                "limit_req_zone" | "limit_conn_zone" | "server" | "upstream" => {}
                _ => self.read_shared(directive, false),
            }
        }
        let upstreams: Vec<&Directive> = named("upstream").collect();
        let servers: Vec<&Directive> = named("server").filter(|server| server.block.is_some()).collect();
        let mut apis: Vec<&Directive> = Vec::new();
        for server in servers {
            match purpose(server) {
                Purpose::Redirect => self.read_redirect(server),
                Purpose::Metrics => self.read_metrics(server),
                Purpose::Api => apis.push(server),
                Purpose::Other => self.ignore_all(server, "this server proxies nothing"),
            }
        }
        // The one with TLS says how requests are treated; the others where they come in.
        apis.sort_by_key(|server| !inside(server).any(|directive| is_tls(directive)));
        for (number, server) in apis.iter().enumerate() {
            match number {
                0 => self.read_api(server, &scope),
                _ => self.read_second(server),
            }
        }
        self.read_upstreams(&upstreams, apis.first().copied());
        if !apis.is_empty() {
            self.write_defaults(&scope, apis.first().copied());
        }
    }

    /// The server whose locations count.
    fn read_api(&mut self, server: &Directive, outer: &Scope<'_>) {
        self.exact(server, "[server]");
        let directives: Vec<&Directive> = inside(server).collect();
        let scope = outer.enter(&directives);
        self.read_listeners(&directives);
        for directive in &directives {
            if directive.name != "location" {
                self.read_shared(directive, false);
            }
        }
        let mut locations: Vec<Location<'_>> = Vec::new();
        for directive in directives.iter().filter(|directive| directive.name == "location") {
            self.read_location_block(directive, &scope, &mut locations);
        }
        self.write_limits(&locations, &scope);
        self.read_silence(&locations, &scope);
    }

    /// Another server that proxies: its listeners and certificates count, its locations do not.
    fn read_second(&mut self, server: &Directive) {
        let directives: Vec<&Directive> = inside(server).collect();
        self.changed(
            server,
            "its listeners; requests are treated as by the server above, whatever host they name",
        );
        self.read_listeners(&directives);
        for directive in &directives {
            match directive.name.as_str() {
                "location" => {
                    self.ignore_all(directive, "the locations of the other server count for all listeners")
                }
                _ => self.read_shared(directive, false),
            }
        }
    }

    /// `listen`, certificates and what belongs to TLS.
    fn read_listeners(&mut self, directives: &[&Directive]) {
        let http2 = directives.iter().any(|directive| directive.name == "http2" && is_on(directive))
            || directives.iter().any(|d| d.name == "listen" && d.args.iter().any(|arg| arg == "http2"));
        let tls_by_switch = directives.iter().any(|directive| directive.name == "ssl" && is_on(directive));
        for directive in directives {
            match directive.name.as_str() {
                "listen" => self.read_listen(directive, tls_by_switch),
                "http2" => self.exact(directive, "server.tls.http2"),
                "ssl" => self.exact(directive, "server.tls.listen"),
                "ssl_certificate" => self.read_certificate(directive, directives),
                "ssl_certificate_key" => self.exact(directive, "server.tls.key"),
                "ssl_protocols" => self.read_protocols(directive),
                "ssl_client_certificate" => self.read_client_ca(directive, directives),
                "ssl_verify_client" => {
                    match (directive.args.first().map(String::as_str), directives.iter().any(|d| d.name == "ssl_client_certificate")) {
                        (Some("on"), true) => self.exact(directive, "server.tls.client_ca"),
                        (Some("off"), _) => self.exact(directive, "no server.tls.client_ca"),
                        _ => self.refused(directive, "certificates of clients are asked for or not, and judged by server.tls.client_ca"),
                    }
                }
                _ => {}
            }
        }
        if self.plan.doc.has("[server.tls]") {
            let http2 = http2 || self.plan.doc.value("[server.tls]", "http2") == Some("true");
            self.plan.doc.section("[server.tls]").set("http2", http2, "");
        }
    }

    fn read_listen(&mut self, directive: &Directive, tls_by_switch: bool) {
        let text = directive.args.first().map_or("", String::as_str);
        if directive.args.iter().any(|arg| arg == "quic") {
            self.ignored(directive, "HTTP/3 is not spoken");
            return;
        }
        let Some(address) = units::listen(text) else {
            self.refused(directive, "expected a port or an IP address and a port");
            return;
        };
        let tls = tls_by_switch || is_tls(directive);
        let header = if tls { "[server.tls]" } else { "[server]" };
        self.add_listener(directive, header, address);
    }

    fn add_listener(&mut self, directive: &Directive, header: &str, address: SocketAddr) {
        let known = self
            .set
            .entry(format!("listen {header}"))
            .or_insert_with(|| (String::new(), directive.origin.clone()));
        let shown = quoted(address);
        if known.0.split(", ").count() >= LISTEN_MAX {
            self.refused(directive, "too many listeners: 16 are possible");
            return;
        }
        if !known.0.split(", ").any(|one| one == shown) {
            let between = if known.0.is_empty() { "" } else { ", " };
            known.0 = format!("{}{between}{shown}", known.0);
        }
        let value = format!("[{}]", known.0);
        self.plan.doc.section(header).set("listen", value, from(&directive.origin));
        self.plan.edge.listens = true;
        self.exact(directive, format!("{}.listen", header.trim_matches(['[', ']'])));
    }

    /// The first certificate is `cert` and `key`, the others are `certificates`.
    fn read_certificate(&mut self, directive: &Directive, directives: &[&Directive]) {
        let nth = directives
            .iter()
            .filter(|d| d.name == "ssl_certificate")
            .position(|d| std::ptr::eq(*d, directive));
        let key = directives.iter().filter(|d| d.name == "ssl_certificate_key").nth(nth.unwrap_or_default());
        let (Some(cert), Some(key)) = (directive.args.first(), key.and_then(|key| key.args.first())) else {
            self.refused(directive, "a certificate without its ssl_certificate_key");
            return;
        };
        if cert.contains('$')
            || cert.starts_with("data:")
            || cert.chars().chain(key.chars()).any(char::is_control)
        {
            self.refused(directive, "certificates are files");
            return;
        }
        let pair = format!("{{ cert = {}, key = {} }}", quoted(cert), quoted(key));
        let known = self.set.get("certificates").map(|(known, _)| known.clone());
        let place = from(&directive.origin);
        match known {
            None => {
                let section = self.plan.doc.section("[server.tls]");
                section.text("cert", cert, &place);
                section.text("key", key, "as nginx named them: copy the files, or write where they are");
                self.set.insert("certificates".to_owned(), (pair, directive.origin.clone()));
            }
            Some(known) if known.contains(&pair) => {}
            Some(known) if known.split("}, ").count() >= CERTIFICATES_MAX => {
                self.refused(directive, "too many certificates: 256 are possible");
                return;
            }
            Some(known) => {
                let all = format!("{known}, {pair}");
                let more = all.split_once("}, ").map_or("", |(_, more)| more).to_owned();
                self.plan.doc.section("[server.tls]").set("certificates", format_args!("[{more}]"), place);
                self.set.insert("certificates".to_owned(), (all, directive.origin.clone()));
            }
        }
        self.exact(directive, "server.tls.cert");
    }

    fn read_protocols(&mut self, directive: &Directive) {
        let has = |word: &str| directive.args.iter().any(|arg| arg == word);
        let least = if has("TLSv1.2") || !has("TLSv1.3") { "1.2" } else { "1.3" };
        let old = ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1"].iter().any(|word| has(word));
        let note = if old { "nothing older is spoken" } else { "" };
        let note = if note.is_empty() && !has("TLSv1.3") { "1.3 too" } else { note };
        self.once(directive, "[server.tls]", "min_version", quoted(least), note);
    }

    fn read_client_ca(&mut self, directive: &Directive, directives: &[&Directive]) {
        let asked = directives
            .iter()
            .any(|d| d.name == "ssl_verify_client" && d.args.first().is_some_and(|word| word == "on"));
        match (directive.args.first(), asked) {
            (Some(path), true) if !path.chars().any(char::is_control) => {
                self.once(directive, "[server.tls]", "client_ca", quoted(path), "");
            }
            (_, false) => self.ignored(directive, "ssl_verify_client is not on"),
            _ => self.refused(directive, "expected a file"),
        }
    }

    /// A server that sends clients to TLS.
    fn read_redirect(&mut self, server: &Directive) {
        self.exact(server, "server.tls.redirect_http");
        let directives: Vec<&Directive> = inside(server).collect();
        self.read_listeners(&directives);
        for directive in directives {
            match (directive.name.as_str(), is_redirect(directive)) {
                (_, true) => self.read_return(directive),
                ("location", false) => self.read_redirect_location(directive),
                _ => self.read_shared(directive, true),
            }
        }
    }

    fn read_redirect_location(&mut self, location: &Directive) {
        match inside(location).find(|directive| is_redirect(directive)) {
            Some(redirect) => {
                self.exact(location, "server.tls.redirect_http");
                self.read_return(redirect);
                for directive in inside(location).filter(|directive| !is_redirect(directive)) {
                    self.read_plain(directive, true);
                }
            }
            None => self.ignore_all(location, "a plain listener redirects every path"),
        }
    }

    fn read_return(&mut self, directive: &Directive) {
        let status = directive.args.first().map_or("", String::as_str);
        let target = directive.args.get(1).map_or("", String::as_str);
        let (value, note) = match status {
            "301" => ("301", "many clients repeat a POST as GET after it: 308 keeps it"),
            "308" => ("308", ""),
            _ => ("308", "301 and 308 are possible"),
        };
        let host = target.strip_prefix("https://").unwrap_or(target);
        let own = ["$host", "$http_host", "$server_name"].iter().any(|name| host.starts_with(name));
        let section = self.plan.doc.section("[server.tls]");
        section.set("redirect_http", true, from(&directive.origin));
        section.set("redirect_status", value, note);
        match (own && host.ends_with("$request_uri") && status == value, status) {
            (true, _) => self.exact(directive, format!("server.tls.redirect_status = {value}")),
            (false, _) => self.changed(
                directive,
                format!(
                    "server.tls.redirect_status = {value}: to the same host and path that were asked for"
                ),
            ),
        }
    }

    /// A server that shows metrics: the admin listener.
    fn read_metrics(&mut self, server: &Directive) {
        self.changed(
            server,
            "server.admin_listen: /metrics, and /status and /ui too; others may read, not change",
        );
        let local = inside(server)
            .chain(inside(server).filter(|d| d.name == "location").flat_map(inside))
            .any(|d| d.name == "deny" && d.args.first().is_some_and(|word| word == "all"));
        for directive in inside(server) {
            match directive.name.as_str() {
                "listen" => self.read_admin(directive, local),
                "location" => self.ignore_block(directive, local),
                "allow" | "deny" => self.tell_local(directive),
                _ => self.read_plain(directive, true),
            }
        }
    }

    fn ignore_block(&mut self, location: &Directive, local: bool) {
        self.exact(location, "the admin listener has /metrics");
        for directive in inside(location) {
            match directive.name.as_str() {
                "allow" | "deny" if local => self.tell_local(directive),
                "proxy_pass" => self.exact(directive, "the gateway answers itself"),
                _ => self.read_shared(directive, true),
            }
        }
    }

    fn tell_local(&self, directive: &Directive) {
        match directive.args.first().map(String::as_str) {
            Some("127.0.0.1" | "::1" | "all") => {
                self.exact(directive, "server.admin_listen is a loopback address")
            }
            _ => self.changed(directive, "server.admin_listen is a loopback address: only this machine"),
        }
    }

    fn read_admin(&mut self, directive: &Directive, local: bool) {
        let text = directive.args.first().map_or("", String::as_str);
        let Some(address) = units::listen(text) else {
            self.refused(directive, "expected a port or an IP address and a port");
            return;
        };
        let address = if local { SocketAddr::from(([127, 0, 0, 1], address.port())) } else { address };
        if self.plan.edge.admin.is_some() {
            self.changed(directive, "server.admin_listen has one address");
            return;
        }
        let others =
            if address.ip().is_loopback() { "" } else { "; from other machines it can only be read" };
        let note = format!("{}{others}", from(&directive.origin));
        self.plan.doc.section("[server]").text("admin_listen", address, note);
        self.plan.edge.admin = Some(directive.origin.clone());
        self.exact(directive, format!("server.admin_listen = {address}"));
    }

    /// A location of the server that counts, and those inside of it.
    fn read_location_block<'a>(
        &mut self,
        location: &'a Directive,
        outer: &Scope<'a>,
        locations: &mut Vec<Location<'a>>,
    ) {
        let directives: Vec<&Directive> = inside(location).collect();
        let scope = outer.enter(&directives);
        let proxied = directives.iter().any(|directive| directive.name == "proxy_pass");
        let nested = directives.iter().any(|directive| directive.name == "location");
        if !proxied && !nested {
            self.ignored(location, "it proxies nothing: the gateway answers this path itself, or with 404");
            directives.iter().for_each(|directive| self.read_shared(directive, true));
            return;
        }
        let paths = if proxied { self.read_paths(location) } else { Some(Vec::new()) };
        for directive in &directives {
            match directive.name.as_str() {
                "location" => self.read_location_block(directive, &scope, locations),
                "proxy_pass" => self.read_pass(directive, paths.as_deref().unwrap_or_default()),
                "rewrite" => self.read_rewrite(directive, paths.as_deref().unwrap_or_default()),
                _ => self.read_shared(directive, false),
            }
        }
        match paths {
            Some(paths) if !proxied => {
                self.exact(location, "its locations");
                drop(paths);
            }
            Some(_) if locations.len() >= LOCATIONS_MAX => self.refused(location, "too many locations"),
            Some(paths) => locations.push(Location { directive: location, paths, scope }),
            None => {}
        }
    }

    /// The paths of a location, as prefixes.
    fn read_paths(&mut self, location: &Directive) -> Option<Vec<String>> {
        let args: Vec<&str> = location.args.iter().map(String::as_str).collect();
        let allowed = |byte: u8| byte.is_ascii_graphic() && !b"?#\"\\".contains(&byte);
        let fine = |path: &str| path.starts_with('/') && path.len() <= 1024 && path.bytes().all(allowed);
        match args.as_slice() {
            [path] | ["^~", path] if fine(path) => {
                self.exact(location, format!("paths that begin with {path}"));
                Some(vec![(*path).to_owned()])
            }
            ["=", path] if fine(path) => {
                self.changed(location, format!("all paths that begin with {path}"));
                Some(vec![(*path).to_owned()])
            }
            ["~" | "~*", pattern] => match units::prefixes(pattern) {
                Some(paths) if paths.iter().all(|path| fine(path)) => {
                    self.changed(location, format!("all paths that begin with {}", paths.join(", ")));
                    Some(paths)
                }
                _ => {
                    self.refused(
                        location,
                        "an expression that is no list of paths: write its limits as routes of a zone",
                    );
                    None
                }
            },
            _ => {
                self.refused(location, "expected a path");
                None
            }
        }
    }

    /// Where a location leads: the gateway itself. Other paths there cannot be had.
    fn read_pass(&mut self, directive: &Directive, paths: &[String]) {
        let target = directive.args.first().map_or("", String::as_str);
        let (_, rest) = target.split_once("://").unwrap_or(("", target));
        let uri = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default();
        let same = |path: &String| uri.trim_end_matches('/') == path.trim_end_matches('/');
        if uri.is_empty() || paths.iter().all(same) {
            self.exact(directive, if self.litellm { "the gateway answers itself" } else { "[[endpoints]]" });
        } else {
            self.refused(
                directive,
                "requests would go to other paths: the gateway serves /v1/…, /api/… and /health… as they are",
            );
        }
    }

    fn read_rewrite(&mut self, directive: &Directive, paths: &[String]) {
        match paths.iter().all(|path| path.starts_with("/api/")) && !paths.is_empty() {
            true => self.changed(directive, "Ollama's own paths are served as they are, in its own dialect"),
            false => self.refused(directive, "paths are served as they are"),
        }
    }

    /// What may stand at every level.
    pub(super) fn read_shared(&mut self, directive: &Directive, nowhere: bool) {
        match directive.name.as_str() {
            "limit_req" | "limit_conn" if nowhere => {
                self.ignored(directive, "no such path is limited, or it is not served")
            }
            "limit_req" | "limit_conn" => self.tell_limit(directive),
            "limit_req_status" | "limit_conn_status" => self.read_status(directive),
            "limit_req_log_level" | "limit_conn_log_level" => {
                self.ignored(directive, "refusals are counted in /metrics")
            }
            "limit_req_dry_run" | "limit_conn_dry_run" if is_on(directive) => {
                self.refused(directive, "limits are obeyed, or left out");
            }
            "client_max_body_size" => self.read_body_size(directive),
            "proxy_read_timeout" => {} // told of by `read_silence`, or below
            "add_header" => self.read_header(directive),
            // Told of by `read_listeners`.
            "listen"
            | "http2"
            | "ssl"
            | "ssl_certificate"
            | "ssl_certificate_key"
            | "ssl_client_certificate"
            | "ssl_verify_client"
            | "ssl_protocols" => self.read_tls_outside(directive),
            name if name.starts_with("ssl_") => {
                self.ignored(directive, "TLS is rustls': its ciphers, tickets and curves");
            }
            "return" if nowhere => {
                self.ignored(directive, "the gateway answers this path itself, or with 404")
            }
            "return" => self.refused(directive, "answers stand in no configuration"),
            "rewrite" => self.refused(directive, "paths are served as they are"),
            _ => self.read_plain(directive, nowhere),
        }
        if directive.name == "proxy_read_timeout" && nowhere {
            self.ignored(directive, "it proxies nothing here");
        }
    }

    /// TLS settings of `http`: certificates count where a server listens.
    fn read_tls_outside(&mut self, directive: &Directive) {
        if self.report.tells(&directive.origin) {
            return;
        }
        match directive.name.as_str() {
            "ssl_protocols" => self.read_protocols(directive),
            _ => self.refused(directive, "write it into the server that listens with TLS"),
        }
    }

    /// The largest body counts.
    fn read_body_size(&mut self, directive: &Directive) {
        let Some(size) = directive.args.first().and_then(|text| units::size(text)) else {
            self.refused(directive, "expected a size");
            return;
        };
        let (bytes, note) = match size {
            0 => (4 << 30, "the most that is possible"),
            _ if !(1024..=4 << 30).contains(&size) => (size.clamp(1024, 4 << 30), "from 1 KiB to 4 GiB"),
            _ => (size, ""),
        };
        let known = self.set.get("body").and_then(|(known, _)| known.parse::<u64>().ok());
        match known {
            Some(known) if known == bytes => self.exact(directive, "server.body_bytes_max"),
            Some(known) if known > bytes => {
                self.changed(
                    directive,
                    format!("server.body_bytes_max is the largest for all paths: {}", Bytes(known)),
                );
            }
            _ => {
                let place = from(&directive.origin);
                self.plan.doc.section("[server]").text("body_bytes_max", Bytes(bytes), &place);
                if bytes > 1 << 30 {
                    self.plan.doc.section("[server]").text(
                        "buffered_bytes_max",
                        Bytes(bytes),
                        "room for one such body",
                    );
                }
                self.set.insert("body".to_owned(), (bytes.to_string(), directive.origin.clone()));
                let to = format!("server.body_bytes_max = {}", Bytes(bytes));
                match note {
                    "" => self.exact(directive, to),
                    note => self.changed(directive, format!("{to}: {note}")),
                }
            }
        }
    }

    /// `add_header`: the same on every answer.
    fn read_header(&mut self, directive: &Directive) {
        let [name, value] = [0, 1].map(|at| directive.args.get(at).map_or("", String::as_str));
        let lower = name.to_ascii_lowercase();
        let always = directive.args.get(2).is_some_and(|word| word == "always");
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let field = |byte: u8| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t';
        match lower.as_str() {
            "access-control-allow-origin" => return self.read_origin(directive, value),
            "access-control-allow-credentials" => {
                self.once(directive, "[server.cors]", "credentials", (value == "true").to_string(), "");
                return;
            }
            _ if CORS.contains(&lower.as_str()) => {
                return self.changed(directive, "[server.cors]: the gateway says what it can do");
            }
            _ if OWN_HEADERS.contains(&lower.as_str()) || lower.starts_with("x-corelane-") => {
                return self.ignored(directive, "the gateway writes this header itself");
            }
            _ if value.contains('$') => return self.refused(directive, "variables are not known here"),
            _ if value.is_empty() => return self.exact(directive, "nginx adds no empty header either"),
            _ => {}
        }
        let fine = !name.is_empty() && name.len() <= 256 && name.bytes().all(token);
        if !fine || !value.bytes().all(field) || value.trim() != value || value.len() > 4096 {
            self.refused(directive, "this is no header");
            return;
        }
        let note = if always { "" } else { "errors have it too" };
        self.once(directive, "[server.headers]", &quoted(lower), quoted(value), note);
    }

    fn read_origin(&mut self, directive: &Directive, value: &str) {
        if value.contains('$') {
            self.refused(directive, "name the origins in server.cors.origins");
            return;
        }
        self.once(directive, "[server.cors]", "origins", format!("[{}]", quoted(value)), "");
    }

    /// How long what is behind may be silent: that of the chat location, or of the largest one.
    fn read_silence(&mut self, locations: &[Location<'_>], outer: &Scope<'_>) {
        let chat = locations.iter().filter(|location| {
            location.paths.iter().any(|path| "/v1/chat/completions".starts_with(path.as_str()))
        });
        let chat = chat.max_by_key(|location| location.paths.iter().map(String::len).max());
        let chosen = chat.map_or(outer.read_timeout, |location| location.scope.read_timeout);
        let time = chosen.and_then(|directive| units::time(directive.args.first()?));
        let day = std::time::Duration::from_secs(24 * 60 * 60);
        let own = std::time::Duration::from_secs(READ_TIMEOUT_S);
        let value = time.filter(|time| !time.is_zero()).unwrap_or(own).min(day);
        self.plan.edge.read_timeout = Some((value, chosen.map(|directive| directive.origin.clone())));
        if !self.litellm {
            let note = chosen.map_or("nginx's own".to_owned(), |directive| from(&directive.origin));
            let section = self.plan.doc.section("[timeouts]");
            section.time("first_byte", value, &note);
            section.time("idle", value, note);
        }
        let all = locations.iter().map(|location| location.scope.read_timeout).chain([outer.read_timeout]);
        let mut told: Vec<&Origin> = Vec::new();
        for directive in all.flatten() {
            if told.contains(&&directive.origin) {
                continue;
            }
            told.push(&directive.origin);
            match directive.args.first().and_then(|text| units::time(text)) {
                None => self.refused(directive, "expected a time"),
                Some(_) if Some(&directive.origin) == chosen.map(|chosen| &chosen.origin) => {
                    self.exact(directive, "timeouts.idle, and the most of timeouts.first_byte");
                }
                Some(time) if time == value => self.exact(directive, "timeouts.idle"),
                Some(_) => self.changed(
                    directive,
                    format!(
                        "deadlines belong to models, not to paths: {}s, as for chat",
                        value.as_secs_f64()
                    ),
                ),
            }
        }
    }

    /// nginx's own bounds, where the file says nothing.
    fn write_defaults(&mut self, scope: &Scope<'_>, api: Option<&Directive>) {
        if !self.set.contains_key("body") {
            self.plan.doc.section("[server]").text(
                "body_bytes_max",
                Bytes(BODY_BYTES),
                "nginx's own; large prompts with images need more",
            );
        }
        if self.plan.doc.has("[server.tls]") && !self.set.contains_key("listen [server]") {
            self.plan.doc.section("[server]").set("listen", "[]", "TLS only");
        }
        // A read timeout that no location inherits.
        let unread = scope
            .read_timeout
            .into_iter()
            .chain(api.into_iter().flat_map(inside).filter(|d| d.name == "proxy_read_timeout"));
        for directive in unread {
            if !self.report.tells(&directive.origin) {
                self.ignored(directive, "every location has its own");
            }
        }
    }
}

/// The directives in a block.
fn inside(directive: &Directive) -> impl Iterator<Item = &Directive> {
    directive.block.iter().flatten()
}

fn is_on(directive: &Directive) -> bool {
    directive.args.first().is_some_and(|word| word == "on")
}

fn is_tls(directive: &Directive) -> bool {
    directive.name == "listen" && directive.args.iter().any(|arg| arg == "ssl")
}

/// Whether a directive sends the client to https.
fn is_redirect(directive: &Directive) -> bool {
    directive.name == "return"
        && directive
            .args
            .first()
            .is_some_and(|status| matches!(status.as_str(), "301" | "302" | "307" | "308"))
        && directive.args.get(1).is_some_and(|target| target.starts_with("https://"))
}

fn purpose(server: &Directive) -> Purpose {
    let locations = || inside(server).filter(|directive| directive.name == "location");
    let passes = |location: &&Directive| {
        inside(location).any(|directive| directive.name == "proxy_pass" || directive.name == "location")
    };
    let shows = |location: &&Directive| {
        inside(location).any(|directive| directive.name == "stub_status")
            || location.args.last().is_some_and(|path| path.starts_with("/metrics"))
    };
    let redirects =
        inside(server).any(is_redirect) || locations().any(|location| inside(location).any(is_redirect));
    if locations().any(|location| passes(&location) && !shows(&location)) {
        Purpose::Api
    } else if redirects {
        Purpose::Redirect
    } else if locations().any(|location| shows(&location)) {
        Purpose::Metrics
    } else {
        Purpose::Other
    }
}
