//! `[server.tls]`: where TLS is spoken, with which certificates, and to whom.
//!
//! Files are named here, not opened: who builds the listeners reads them, at start and at a reload.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::defaults::{tls, tls_listen};
use super::super::edge::{Certificate, Tls};
use super::super::problem::quote;
use super::super::reader::{Table, Value};
use super::super::render::edge::MIN_VERSIONS;
use super::endpoints::read_path;
use super::server::{is_shared, read_listen};

/// Certificates that the listeners may choose from.
const CERTIFICATES_MAX: usize = 256;
/// Handshakes at once that a shard may be allowed.
const HANDSHAKES_MAX: i64 = 65_536;

/// The section; `None`: it is no table. `plain` and `admin` are the other listeners.
pub(super) fn read(value: &Value<'_>, plain: &[SocketAddr], admin: SocketAddr) -> Option<Tls> {
    value.as_section(|table| read_table(table, plain, admin))
}

fn read_table(table: &mut Table<'_>, plain: &[SocketAddr], admin: SocketAddr) -> Tls {
    let default = tls();
    Tls {
        listen: read_tls_listen(table, plain, admin),
        certificates: read_certificates(table),
        redirect_http: read_redirect(table, plain),
        redirect_status: table
            .take("redirect_status")
            .and_then(read_status)
            .unwrap_or(default.redirect_status),
        redirect_port: table.take("redirect_port").and_then(|value| value.integer(1, 65_535)),
        client_ca: table.take("client_ca").and_then(|value| read_path(&value)),
        tls12: table.word("min_version", &MIN_VERSIONS, default.tls12),
        http2: table.flag("http2", default.http2),
        handshake_timeout: table.time(
            "handshake_timeout",
            Duration::from_millis(1),
            default.handshake_timeout,
        ),
        handshakes_max: table.integer("handshakes_max", 1, HANDSHAKES_MAX, default.handshakes_max),
    }
}

fn read_tls_listen(table: &mut Table<'_>, plain: &[SocketAddr], admin: SocketAddr) -> Vec<SocketAddr> {
    let value = table.take("listen");
    let place = value.as_ref().map_or_else(|| table.place.clone(), |value| value.place.clone());
    let listen = value.and_then(|value| read_listen(&value, 1)).unwrap_or_else(|| vec![tls_listen()]);
    for &own in &listen {
        let other = plain.iter().map(|address| ("data", *address)).chain([("admin", admin)]);
        for (what, address) in other.filter(|&(_, address)| is_shared(own, address)) {
            let message =
                format!("the TLS listener {own} takes the address of the {what} listener {address}");
            table.report.add(&place, message, "give it a port of its own");
        }
    }
    listen
}

/// `cert` and `key` first, then `certificates`.
fn read_certificates(table: &mut Table<'_>) -> Vec<Certificate> {
    let mut all: Vec<Certificate> = Vec::new();
    if table.take("cert").is_some() || table.take("key").is_some() {
        all.extend(read_certificate(table));
    }
    let more = table.take("certificates");
    let items = more.as_ref().and_then(Value::items).unwrap_or_default();
    let count = all.len() + items.len();
    if count > CERTIFICATES_MAX {
        let message = format!("{count} certificates");
        table.report.add(&table.place, message, format!("at most {CERTIFICATES_MAX}"));
        return all;
    }
    for item in items {
        let Some(Some(certificate)) = item.as_section(read_certificate) else { continue };
        if all.contains(&certificate) {
            let shown = quote(&certificate.cert.display().to_string());
            item.wrong(format!("the certificate {shown} is listed twice"), "remove one of them");
        }
        all.push(certificate);
    }
    let named = table.take("cert").or_else(|| table.take("key")).or(more);
    if named.is_none_or(|value| value.is_empty()) {
        let hint = r#"cert = "ssl/cert.pem" and key = "ssl/key.pem""#;
        table.report.add(&table.place, "a certificate is needed", hint);
    }
    all
}

/// A chain and its key: neither is of use alone.
fn read_certificate(table: &mut Table<'_>) -> Option<Certificate> {
    let mut path = |key, hint| {
        let value = table.require(key, hint)?;
        if value.as_text() == Some("") {
            value.wrong("the path is empty", hint);
        }
        read_path(&value)
    };
    let cert = path("cert", r#"the chain in PEM, e.g. cert = "ssl/cert.pem""#);
    let key = path("key", r#"the certificate's key in PEM, e.g. key = "ssl/key.pem""#);
    cert.zip(key).map(|(cert, key)| Certificate { cert, key })
}

fn read_redirect(table: &mut Table<'_>, plain: &[SocketAddr]) -> bool {
    let Some(value) = table.take("redirect_http") else { return tls().redirect_http };
    let redirect = value.flag().unwrap_or_default();
    if redirect && plain.is_empty() {
        let hint = r#"set `listen` in [server], e.g. ["0.0.0.0:8000"], or remove redirect_http"#;
        value.wrong("there is no plain listener to redirect from", hint);
    }
    redirect
}

fn read_status(value: Value<'_>) -> Option<u16> {
    let status = value.integer(0, 999)?;
    if !matches!(status, 301 | 308) {
        let hint = "308 keeps the method; with 301 many clients repeat a POST as GET";
        value.wrong(format!("{status} is neither 301 nor 308"), hint);
    }
    Some(status)
}
