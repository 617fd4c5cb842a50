//! The effective configuration, written as the file would say it: defaults filled in, secrets masked.
//!
//! Invariant: `parse(effective(config))` gives `config` again if it holds no secret. A masked secret is refused by
//! `parse`, so that it is never sent, or asked for, in place of the real one. The SHA-256 of a key is shown: it is
//! what the file has in place of the secret.

pub(super) mod cache;
pub(super) mod edge;
pub(super) mod guard;
pub(super) mod observe;
mod reliability;
mod shared;

use std::fmt::{Display, Write};
use std::time::Duration;

use super::{Config, Driver, Endpoint, Health, Kind, Model, Secret, Server, Strategy, units};

/// Words of `server.driver`.
pub(super) const DRIVERS: [(&str, Driver); 3] =
    [("auto", Driver::Auto), ("io_uring", Driver::IoUring), ("epoll", Driver::Epoll)];
/// Words of `endpoints.kind`.
pub(super) const KINDS: [(&str, Kind); 2] = [("ollama", Kind::Ollama), ("openai", Kind::Openai)];
/// Words of `balance.strategy` and `models.strategy`.
pub(super) const STRATEGIES: [(&str, Strategy); 3] = [
    ("round_robin", Strategy::RoundRobin),
    ("least_busy", Strategy::LeastBusy),
    ("weighted", Strategy::Weighted),
];

/// The configuration as TOML in the shape of the file.
pub fn effective(config: &Config) -> String {
    let mut page = Page::default();
    write_server(&mut page, &config.server);
    config.endpoints.iter().for_each(|endpoint| write_endpoint(&mut page, endpoint));
    config.models.iter().for_each(|model| write_model(&mut page, model, config));
    page.header("[balance]");
    page.word("strategy", &STRATEGIES, config.balance.strategy);
    write_health(&mut page, &config.health);
    reliability::write_timeouts(&mut page, &config.timeouts);
    reliability::write_retry(&mut page, &config.retry);
    reliability::write_fallbacks(&mut page, &config.fallbacks);
    reliability::write_breaker(&mut page, &config.breaker);
    reliability::write_queue(&mut page, &config.queue);
    guard::write(&mut page, &config.guard);
    edge::write_limits(&mut page, &config.limits);
    config.keys.iter().for_each(|key| edge::write_key(&mut page, key, &config.guard));
    cache::write(&mut page, &config.cache);
    config.redis.iter().for_each(|redis| shared::write(&mut page, redis));
    page.header("[fleet]");
    page.plain("enabled", config.fleet.enabled);
    page.plain("limits", config.fleet.limits);
    page.plain("budgets", config.fleet.budgets);
    page.plain("in_flight", config.fleet.in_flight);
    observe::write_log(&mut page, &config.log);
    observe::write_tracing(&mut page, &config.tracing);
    observe::write_usage(&mut page, &config.usage);
    page.header("[metrics]");
    page.plain("litellm_names", config.metrics.litellm_names);
    page.plain("keys_max", config.metrics.keys_max);
    page.plain("pairs", config.metrics.pairs);
    page.0
}

fn write_server(page: &mut Page, server: &Server) {
    page.header("[server]");
    page.plain("listen", list(server.listen.iter()));
    page.text("admin_listen", server.admin_listen);
    match server.shards {
        None => page.text("shards", "auto"),
        Some(count) => page.plain("shards", count),
    }
    match server.pin {
        None => page.note("pin is left out: shards are pinned where there are three or more cores"),
        Some(pin) => page.plain("pin", pin),
    }
    page.word("driver", &DRIVERS, server.driver);
    page.plain("max_concurrent_requests", server.max_concurrent_requests);
    page.plain("max_connections", server.max_connections);
    page.text("body_bytes_max", server.body_bytes_max);
    page.text("answer_bytes_max", server.answer_bytes_max);
    page.text("buffered_bytes_max", server.buffered_bytes_max);
    page.text("head_bytes_max", server.head_bytes_max);
    page.time("head_timeout", server.head_timeout);
    page.time("body_timeout", server.body_timeout);
    page.time("keep_alive", server.keep_alive);
    page.time("upstream_keep_alive", server.upstream_keep_alive);
    page.plain("upstream_idle_max", server.upstream_idle_max);
    page.time("write_timeout", server.write_timeout);
    page.time("drain_timeout", server.drain_timeout);
    page.plain("trusted_proxies", list(server.trusted_proxies.iter()));
    page.plain("gzip", server.gzip);
    page.text("gzip_bytes_min", server.gzip_bytes_min);
    page.plain("messages_max", server.messages_max);
    page.text("admin_token", masked(server.admin_token.as_ref()));
    let handover = server.handover_socket.as_ref().map(|path| path.display().to_string());
    page.text("handover_socket", handover.unwrap_or_default());
    page.plain("watch", server.watch);
    page.plain("explain", server.explain);
    if !server.headers.is_empty() {
        page.header("[server.headers]");
        server.headers.iter().for_each(|(name, value)| page.text(&quoted(name), value));
    }
    server.tls.iter().for_each(|tls| edge::write_tls(page, tls));
    edge::write_cors(page, &server.cors);
}

/// The masked form, empty if there is none.
fn masked(secret: Option<&Secret>) -> String {
    secret.map(Secret::masked).unwrap_or_default()
}

fn write_endpoint(page: &mut Page, endpoint: &Endpoint) {
    page.header("[[endpoints]]");
    page.text("name", &endpoint.name);
    page.text("url", &endpoint.url);
    page.word("kind", &KINDS, endpoint.kind);
    page.text("api_key", masked(endpoint.api_key.as_ref()));
    endpoint.ca.iter().for_each(|path| page.text("ca", path.display()));
    page.plain("weight", endpoint.weight);
    page.plain("slots", endpoint.slots);
}

fn write_model(page: &mut Page, model: &Model, config: &Config) {
    let (endpoints, guard) = (&config.endpoints, &config.guard);
    page.header("[[models]]");
    page.text("name", &model.name);
    page.text("upstream_model", &model.upstream_model);
    let chosen = || model.endpoints.iter().filter_map(|&index| endpoints.get(index));
    let all: Vec<&Endpoint> =
        if model.endpoints.is_empty() { endpoints.iter().collect() } else { chosen().collect() };
    match model.endpoints.is_empty() {
        true => page.note("endpoints are left out: every endpoint that has the model"),
        false => page.plain("endpoints", list(chosen().map(|endpoint| &endpoint.name))),
    }
    page.word("strategy", &STRATEGIES, model.strategy);
    if !all.iter().map(|endpoint| endpoint.weight).eq(model.weights.iter().copied()) {
        let pairs = all.iter().zip(&model.weights);
        let pairs: Vec<String> =
            pairs.map(|(endpoint, weight)| format!("{} = {weight}", quoted(&endpoint.name))).collect();
        page.plain("weights", format_args!("{{ {} }}", pairs.join(", ")));
    }
    match model.guard.and_then(|index| guard.profiles.get(index)) {
        None => page.text("guard", "off"),
        Some(profile) => page.text("guard", &profile.name),
    }
    match &model.price {
        None => page.note("price is left out: as the price file says, else 0"),
        Some(price) => observe::write_price(page, price),
    }
    page.plain("cache", model.cache);
    reliability::write_model(page, model, &config.timeouts);
}

fn write_health(page: &mut Page, health: &Health) {
    page.header("[health]");
    page.plain("enabled", health.enabled);
    match &health.path {
        None => page.note("path is left out: /api/tags for ollama, /v1/models for openai"),
        Some(path) => page.text("path", path),
    }
    match &health.expect_field {
        None => page.note("expect_field is left out: models for ollama, data for openai"),
        Some(field) => page.text("expect_field", field),
    }
    page.time("interval", health.interval);
    page.time("timeout", health.timeout);
    page.plain("unhealthy_threshold", health.unhealthy_threshold);
    page.plain("healthy_threshold", health.healthy_threshold);
}

/// The text so far.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn header(&mut self, header: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.line(format_args!("{gap}{header}"));
    }

    fn note(&mut self, note: &str) {
        self.line(format_args!("# {note}"));
    }

    fn plain(&mut self, key: &str, value: impl Display) {
        self.line(format_args!("{key} = {value}"));
    }

    fn text(&mut self, key: &str, value: impl Display) {
        self.plain(key, quoted(value));
    }

    /// An array with an item a line; `items` are as TOML writes them.
    fn lines(&mut self, key: &str, items: impl Iterator<Item = String>) {
        let items: String = items.map(|item| format!("    {item},\n")).collect();
        self.line(format_args!("{key} = [\n{items}]"));
    }

    fn time(&mut self, key: &str, value: Duration) {
        self.text(key, units::time_text(value));
    }

    fn word<T: PartialEq>(&mut self, key: &str, words: &[(&str, T)], value: T) {
        let word = words.iter().find(|(_, candidate)| *candidate == value).map_or("", |&(word, _)| word);
        self.text(key, word);
    }
}

fn list(items: impl Iterator<Item = impl Display>) -> String {
    format!("[{}]", items.map(quoted).collect::<Vec<_>>().join(", "))
}

/// A basic string of TOML 1.0.
pub(super) fn quoted(value: impl Display) -> String {
    let mut out = String::from("\"");
    for letter in value.to_string().chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}
