//! Directives that need no context: a value to a key, or nothing at all.

use super::super::report::Origin;
use super::super::toml::from;
use super::parse::Directive;
use super::{Reader, units};
use crate::config::render::quoted;
use crate::config::units::Bytes;

/// Bytes of the list of trusted proxies.
const PROXIES_BYTES_MAX: usize = 8192;

/// What the gateway always does, when they say so.
const ALWAYS: [(&str, &str, &str); 9] = [
    ("proxy_buffering", "off", "answers leave as they come"),
    ("proxy_cache", "off", "nothing is kept without [cache]"),
    ("proxy_http_version", "1.1", "endpoints are spoken to by HTTP/1.1"),
    ("tcp_nodelay", "on", "always so"),
    ("chunked_transfer_encoding", "on", "always so"),
    ("server_tokens", "off", "answers name no server"),
    ("proxy_ssl_verify", "on", "always so"),
    ("ignore_invalid_headers", "on", "what is no header is refused"),
    ("absolute_redirect", "on", "always so"),
];

/// What is nginx's own work.
const PLUMBING: [&str; 50] = [
    "accept_mutex",
    "aio",
    "aio_write",
    "charset",
    "client_body_buffer_size",
    "client_body_in_file_only",
    "client_body_temp_path",
    "client_header_buffer_size",
    "connection_pool_size",
    "daemon",
    "default_type",
    "directio",
    "env",
    "etag",
    "events",
    "keepalive_requests",
    "keepalive_time",
    "lingering_close",
    "lingering_timeout",
    "load_module",
    "log_format",
    "log_not_found",
    "master_process",
    "output_buffers",
    "pcre_jit",
    "pid",
    "postpone_output",
    "proxy_buffer_size",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_headers_hash_bucket_size",
    "proxy_headers_hash_max_size",
    "proxy_max_temp_file_size",
    "proxy_socket_keepalive",
    "proxy_temp_path",
    "request_pool_size",
    "reset_timedout_connection",
    "resolver",
    "resolver_timeout",
    "sendfile",
    "sendfile_max_chunk",
    "server_names_hash_bucket_size",
    "server_names_hash_max_size",
    "tcp_nopush",
    "types",
    "types_hash_bucket_size",
    "types_hash_max_size",
    "user",
    "variables_hash_bucket_size",
    "variables_hash_max_size",
];

/// Who may come in: without them more would.
const ACCESS: [&str; 16] = [
    "auth_basic",
    "auth_basic_user_file",
    "auth_delay",
    "auth_jwt",
    "auth_jwt_key_file",
    "auth_request",
    "auth_request_set",
    "internal",
    "js_access",
    "limit_except",
    "modsecurity",
    "modsecurity_rules_file",
    "satisfy",
    "secure_link",
    "secure_link_md5",
    "valid_referers",
];

impl Reader<'_> {
    /// Sets a key of `[server]` once; a second value is told of.
    pub(super) fn once(
        &mut self,
        directive: &Directive,
        header: &str,
        key: &str,
        value: String,
        note: &str,
    ) -> bool {
        let to = format!("{}.{key}", header.trim_matches(['[', ']']));
        if let Some((known, origin)) = self.set.get(&to) {
            match *known == value {
                true => self.exact(directive, format!("{to} = {value}")),
                false => {
                    self.changed(directive, format!("{to}: one value for all, that of {}", from(origin)))
                }
            }
            return false;
        }
        let note = if note.is_empty() && self.in_location { "for all paths" } else { note };
        let place = from(&directive.origin);
        let note_text = if note.is_empty() { place } else { format!("{place}; {note}") };
        self.plan.doc.section(header).set(key, &value, note_text);
        self.set.insert(to.clone(), (value.clone(), directive.origin.clone()));
        // A header may hold what is nobody's business.
        let told = if header == "[server.headers]" { to } else { format!("{to} = {value}") };
        match note {
            "" => self.exact(directive, told),
            note => self.changed(directive, format!("{told}: {note}")),
        }
        true
    }

    /// A directive that no other reader knows. `nowhere`: its location serves nothing.
    pub(super) fn read_plain(&mut self, directive: &Directive, nowhere: bool) {
        let name = directive.name.as_str();
        let first = directive.args.first().map_or("", String::as_str);
        if let Some((_, word, why)) = ALWAYS.iter().find(|(known, _, _)| *known == name) {
            match first == *word {
                true => self.exact(directive, *why),
                false => self.ignored(directive, format!("{why}, whatever stands here")),
            }
            return;
        }
        match name {
            "keepalive_timeout" => self.read_time(directive, "keep_alive"),
            "client_header_timeout" => self.read_time(directive, "head_timeout"),
            "client_body_timeout" => self.read_time(directive, "body_timeout"),
            "send_timeout" => self.read_time(directive, "write_timeout"),
            "large_client_header_buffers" => self.read_head_size(directive),
            "gzip" => match first {
                "on" => {
                    self.once(
                        directive,
                        "[server]",
                        "gzip",
                        "true".to_owned(),
                        "whole JSON answers only, never a stream",
                    );
                }
                _ if self.was_set("server.gzip").is_some() => {
                    self.changed(directive, "server.gzip is the same for all paths");
                }
                _ => self.exact(directive, "server.gzip = false"),
            },
            "gzip_min_length" => match units::size(first).filter(|size| (1..=1 << 30).contains(size)) {
                Some(size) => {
                    let value = quoted(Bytes(size));
                    self.once(directive, "[server]", "gzip_bytes_min", value, "");
                }
                None => self.refused(directive, "expected a size"),
            },
            _ if name.starts_with("gzip_") => {
                self.ignored(directive, "whole JSON answers are compressed, at one level")
            }
            "set_real_ip_from" | "real_ip_header" | "real_ip_recursive" => self.read_real_ip(directive),
            "access_log" => self.read_access_log(directive),
            "error_log" => self.ignored(directive, "errors go to standard error; log.level says which"),
            "proxy_request_buffering" => {
                self.changed(
                    directive,
                    "a body is read whole before an endpoint is asked: the guard reads it",
                );
            }
            _ => self.read_proxied(directive, nowhere),
        }
    }

    /// What concerns the way to what is behind.
    fn read_proxied(&mut self, directive: &Directive, nowhere: bool) {
        match directive.name.as_str() {
            "proxy_set_header" => self.read_set_header(directive),
            "proxy_connect_timeout" | "proxy_send_timeout" => self.read_hop(directive),
            "proxy_next_upstream" | "proxy_next_upstream_tries" | "proxy_next_upstream_timeout" => {
                self.changed(
                    directive,
                    "[retry]: another endpoint is asked until the first byte of an answer",
                );
            }
            "proxy_redirect"
            | "proxy_pass_header"
            | "proxy_hide_header"
            | "proxy_cache_bypass"
            | "proxy_no_cache"
            | "proxy_intercept_errors"
            | "proxy_pass_request_headers"
            | "proxy_ignore_client_abort"
            | "proxy_ssl_server_name"
            | "proxy_ssl_session_reuse" => {
                self.ignored(directive, "answers of endpoints are the gateway's to judge");
            }
            _ => self.read_guarded(directive, nowhere),
        }
    }

    /// Who may come in, and what is known nowhere else.
    fn read_guarded(&mut self, directive: &Directive, nowhere: bool) {
        let name = directive.name.as_str();
        let first = directive.args.first().map_or("", String::as_str);
        match name {
            "map" | "geo" | "split_clients" => {
                self.ignore_all(directive, "variables are not known here: what uses this one is told of");
            }
            "server_name" => match first {
                "_" | "" => self.exact(directive, "every host name is answered"),
                _ => self.changed(directive, "every host name is answered"),
            },
            "allow" if first == "all" => self.exact(directive, "everybody"),
            "deny" | "allow" if nowhere => self.ignored(directive, "no such path is served"),
            "deny" | "allow" => {
                self.refused(
                    directive,
                    "clients are not chosen by address: let a firewall do it, or ask for [[keys]]",
                );
            }
            "if" => {
                self.refused(directive, "conditions are not known here");
                let block = directive.block.iter().flatten();
                block.for_each(|inside| self.ignore_all(inside, "its condition is refused"));
            }
            _ if ACCESS.contains(&name) || name.starts_with("access_by_lua") || name.starts_with("js_") => {
                self.refused(
                    directive,
                    "the gateway cannot ask for it: [[keys]] and server.tls.client_ca are there",
                );
                directive.block.iter().flatten().for_each(|inside| self.ignore_all(inside, "as its block"));
            }
            _ if name.contains("_by_lua") => self.refused(directive, "the gateway runs no scripts"),
            _ if PLUMBING.contains(&name)
                || name.starts_with("worker_")
                || name.starts_with("open_file_cache") =>
            {
                self.ignore_all(directive, "the gateway has no need of it");
            }
            _ if nowhere => self.ignore_all(directive, "no such path is served"),
            "root" | "index" | "alias" | "try_files" | "autoindex" | "expires" => {
                self.ignored(directive, "the gateway serves no files");
            }
            _ => self.ignore_all(directive, "the gateway has no such setting"),
        }
    }

    fn read_time(&mut self, directive: &Directive, key: &str) {
        let day = std::time::Duration::from_secs(24 * 60 * 60);
        let time = directive.args.first().and_then(|text| units::time(text));
        match time {
            Some(time) if time.is_zero() => self.ignored(directive, "none at all is not possible"),
            Some(time) => {
                let value = quoted(crate::config::units::time_text(time.min(day)));
                self.once(directive, "[server]", key, value, "");
            }
            None => self.refused(directive, "expected a time"),
        }
    }

    fn read_head_size(&mut self, directive: &Directive) {
        let number = directive.args.first().and_then(|text| text.parse::<u64>().ok());
        let size = directive.args.get(1).and_then(|text| units::size(text));
        match number.zip(size).and_then(|(number, size)| number.checked_mul(size)) {
            Some(bytes) => {
                let value = quoted(Bytes(bytes.clamp(1 << 10, 1 << 20)));
                self.once(directive, "[server]", "head_bytes_max", value, "all buffers together");
            }
            None => self.refused(directive, "expected a number and a size"),
        }
    }

    /// Behind which proxies clients are.
    fn read_real_ip(&mut self, directive: &Directive) {
        let first = directive.args.first().map_or("", String::as_str);
        match directive.name.as_str() {
            "set_real_ip_from" => match crate::config::Cidr::parse(first) {
                Ok(range) => {
                    let known = self
                        .set
                        .entry("proxies".to_owned())
                        .or_insert_with(|| (String::new(), directive.origin.clone()));
                    if known.0.len() > PROXIES_BYTES_MAX {
                        self.refused(directive, "too many ranges");
                        return;
                    }
                    if !known.0.is_empty() {
                        known.0.push_str(", ");
                    }
                    known.0.push_str(&quoted(range));
                    let value = format!("[{}]", known.0);
                    self.plan.doc.section("[server]").set("trusted_proxies", value, from(&directive.origin));
                    self.exact(directive, "server.trusted_proxies");
                }
                Err(mistake) => self.refused(directive, mistake.message),
            },
            "real_ip_header" if first.eq_ignore_ascii_case("x-forwarded-for") => {
                self.exact(directive, "server.trusted_proxies");
            }
            "real_ip_header" => self.refused(directive, "proxies are believed by X-Forwarded-For only"),
            _ if first == "on" => self.exact(directive, "server.trusted_proxies"),
            _ => self.changed(directive, "the last address that no trusted proxy has counts"),
        }
    }

    fn read_access_log(&mut self, directive: &Directive) {
        let off = directive.args.first().is_some_and(|word| word == "off");
        if self.plan.edge.access || self.in_location {
            self.changed(directive, "log.access is the same for all paths");
        } else if off {
            self.plan.edge.access = true;
            self.plan.doc.section("[log]").text("access", "off", from(&directive.origin));
            self.exact(directive, "log.access = \"off\"");
        } else {
            self.plan.edge.access = true;
            self.changed(
                directive,
                "log.access = \"stderr\", the default; a file's name there writes it to that file",
            );
        }
    }

    /// Headers for what is behind.
    fn read_set_header(&mut self, directive: &Directive) {
        let name = directive.args.first().map(|name| name.to_ascii_lowercase()).unwrap_or_default();
        match name.as_str() {
            "host" => self.exact(directive, "endpoints are asked under their own name"),
            "authorization" | "x-api-key" | "api-key" | "x-litellm-api-key"
                if directive.args.get(1).is_some_and(|value| value.starts_with("$http_")) =>
            {
                self.changed(directive, "clients' keys are asked for by [[keys]], and reach no endpoint");
            }
            "authorization" | "x-api-key" | "api-key" | "x-litellm-api-key" => {
                self.refused(
                    directive,
                    "a key for what is behind stands in endpoints.api_key; clients' keys are in [[keys]]",
                );
            }
            _ => self.ignored(directive, "endpoints get no headers of clients or proxies"),
        }
    }

    /// Times of the way to what is behind. With LiteLLM's file that way is gone.
    fn read_hop(&mut self, directive: &Directive) {
        if self.litellm {
            self.ignored(directive, "the way from nginx to LiteLLM is gone");
            return;
        }
        let time = directive.args.first().and_then(|text| units::time(text));
        match (directive.name.as_str(), time) {
            ("proxy_connect_timeout", Some(time)) if !time.is_zero() => {
                let day = std::time::Duration::from_secs(24 * 60 * 60);
                let value = quoted(crate::config::units::time_text(time.min(day)));
                self.once(directive, "[timeouts]", "connect", value, "");
            }
            (_, Some(_)) => self.ignored(directive, "timeouts.first_byte bounds it"),
            (_, None) => self.refused(directive, "expected a time"),
        }
    }

    /// Where a key was set, if it was.
    pub(super) fn was_set(&self, key: &str) -> Option<Origin> {
        self.set.get(key).map(|(_, origin)| origin.clone())
    }
}
