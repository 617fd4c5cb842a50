//! Values that are the same for all paths here: the largest body, and the headers of answers.

use super::super::toml::from;
use super::parse::Directive;
use super::{Reader, units};
use crate::config::render::quoted;
use crate::config::units::Bytes;

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
    /// The largest body counts.
    pub(super) fn read_body_size(&mut self, directive: &Directive) {
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
    pub(super) fn read_header(&mut self, directive: &Directive) {
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

    pub(super) fn read_origin(&mut self, directive: &Directive, value: &str) {
        if value.contains('$') {
            self.refused(directive, "name the origins in server.cors.origins");
            return;
        }
        self.once(directive, "[server.cors]", "origins", format!("[{}]", quoted(value)), "");
    }
}
