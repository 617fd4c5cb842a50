//! `http` and `server`: which server is what, where it listens, and what its locations do.

use std::net::SocketAddr;

use super::super::toml::from;
use super::limits::{Location, Scope};
use super::listen::is_tls;
use super::parse::Directive;
use super::{Reader, units};
use crate::config::units::Bytes;

/// nginx's own bounds, where its file says nothing.
const BODY_BYTES: u64 = 1 << 20;

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
        apis.sort_by_key(|server| !inside(server).any(is_tls));
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
            "if" if inside(directive).next().is_some() && inside(directive).all(is_redirect) => {
                self.changed(directive, "server.tls.redirect_http: every request to a plain listener");
                inside(directive).for_each(|redirect| self.read_return(redirect));
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
pub(super) fn inside(directive: &Directive) -> impl Iterator<Item = &Directive> {
    directive.block.iter().flatten()
}

pub(super) fn is_on(directive: &Directive) -> bool {
    directive.args.first().is_some_and(|word| word == "on")
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
    let holders = inside(server).filter(|directive| matches!(directive.name.as_str(), "location" | "if"));
    let redirects = inside(server).chain(holders.flat_map(inside)).any(is_redirect);
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
