//! Where a server listens, and how it speaks TLS.

use std::net::SocketAddr;

use super::super::toml::from;
use super::parse::Directive;
use super::server::is_on;
use super::{Reader, units};
use crate::config::render::quoted;

/// Listeners of a kind, and certificates.
const LISTEN_MAX: usize = 16;
const CERTIFICATES_MAX: usize = 256;

impl Reader<'_> {
    /// `listen`, certificates and what belongs to TLS.
    pub(super) fn read_listeners(&mut self, directives: &[&Directive]) {
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

    pub(super) fn read_listen(&mut self, directive: &Directive, tls_by_switch: bool) {
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

    pub(super) fn add_listener(&mut self, directive: &Directive, header: &str, address: SocketAddr) {
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
    pub(super) fn read_certificate(&mut self, directive: &Directive, directives: &[&Directive]) {
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

    pub(super) fn read_protocols(&mut self, directive: &Directive) {
        let has = |word: &str| directive.args.iter().any(|arg| arg == word);
        let least = if has("TLSv1.2") || !has("TLSv1.3") { "1.2" } else { "1.3" };
        let old = ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1"].iter().any(|word| has(word));
        let note = if old { "nothing older is spoken" } else { "" };
        let note = if note.is_empty() && !has("TLSv1.3") { "1.3 too" } else { note };
        self.once(directive, "[server.tls]", "min_version", quoted(least), note);
    }

    pub(super) fn read_client_ca(&mut self, directive: &Directive, directives: &[&Directive]) {
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

    /// TLS settings of `http`: certificates count where a server listens.
    pub(super) fn read_tls_outside(&mut self, directive: &Directive) {
        if self.report.tells(&directive.origin) {
            return;
        }
        match directive.name.as_str() {
            "ssl_protocols" => self.read_protocols(directive),
            _ => self.refused(directive, "write it into the server that listens with TLS"),
        }
    }
}

/// Whether a `listen` is one of TLS.
pub(super) fn is_tls(directive: &Directive) -> bool {
    directive.name == "listen" && directive.args.iter().any(|arg| arg == "ssl")
}
