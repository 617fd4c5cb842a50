//! From a file's text to a `Config`, or to all that is wrong with it.
//!
//! The file is parsed with the place of every value kept, then read section by section; a mistake is noted and the
//! default stands in, so that one run tells everything. Nothing is ignored: an unknown key is a mistake.
//! What is allowed and still cannot do what it says is told as a warning, once nothing else is wrong (`fallbacks`).
//! Cost: some milliseconds at start and at a reload, never on a request's way.

mod cache;
mod cors;
mod endpoints;
mod fallbacks;
pub(super) mod guard;
mod keys;
mod limits;
mod models;
mod observe;
mod policy;
mod reliability;
mod server;
mod shared;
#[cfg(test)]
mod tests;
mod tls;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::de::DeTable;

use super::defaults::any_model;
use super::problem::{Problem, Problems};
use super::reader::{Report, Table};
use super::{Config, Model, Timeouts};

use models::Around;
pub use models::normalized;

/// Largest file in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads a configuration from a file. Paths inside it are relative to the working directory.
///
/// # Errors
/// Every mistake of the file, or the one reason why it could not be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_with_warnings(path).map(|(config, _)| config)
}

/// Like [`load`], with what the file says that cannot work; by line.
///
/// # Errors
/// As those of [`load`].
pub fn load_with_warnings(path: &Path) -> Result<(Config, Vec<Problem>), Problems> {
    let result = match read_text(path) {
        Ok(text) => parse_with_warnings(&text),
        Err((message, hint)) => Err(whole_file(message, 0, hint)),
    };
    let file = path.display().to_string();
    let named = |problems: &mut Vec<Problem>| {
        problems.iter_mut().for_each(|problem| problem.file.clone_from(&file));
    };
    match result {
        Ok((config, mut warnings)) => {
            named(&mut warnings);
            Ok((config, warnings))
        }
        Err(mut problems) => {
            named(&mut problems.0);
            Err(problems)
        }
    }
}

/// The text, or why there is none and what to do about it.
fn read_text(path: &Path) -> Result<String, (String, &'static str)> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|cause| (format!("cannot be read: {cause}"), unreadable(cause.kind())))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err((format!("is larger than {FILE_BYTES_MAX} bytes"), "is it a configuration?"));
    }
    String::from_utf8(bytes).map_err(|cause| {
        let at = cause.utf8_error().valid_up_to();
        (format!("is not UTF-8 at byte {at}"), "`iconv -t UTF-8 FILE` makes it so")
    })
}

fn unreadable(kind: std::io::ErrorKind) -> &'static str {
    match kind {
        std::io::ErrorKind::NotFound => {
            "`corelane import` makes one of LiteLLM's or nginx's; `corelane serve` without -c finds the model servers of this \
             machine"
        }
        std::io::ErrorKind::PermissionDenied => {
            "`ls -l FILE` shows who may read it; the gateway's user must: `chgrp` it to that user's group, mode 640"
        }
        std::io::ErrorKind::IsADirectory => "name the file in it",
        _ => "",
    }
}

fn whole_file(message: String, line: u32, hint: &str) -> Problems {
    Problems(vec![Problem { file: String::new(), path: String::new(), line, message, hint: hint.to_owned() }])
}

/// Reads a configuration from TOML text.
///
/// # Errors
/// Every mistake of the text; a mistake in its TOML syntax is reported alone.
pub fn parse(text: &str) -> Result<Config, Problems> {
    parse_with_warnings(text).map(|(config, _)| config)
}

/// Like [`parse`], with what the text says that cannot work; by line.
///
/// # Errors
/// As those of [`parse`].
pub fn parse_with_warnings(text: &str) -> Result<(Config, Vec<Problem>), Problems> {
    let report = Report::new(text);
    let document = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(0, |span| report.line(span.start));
        let hint = "texts, times and sizes stand in double quotes; a key or table stands once";
        whole_file(format!("not valid TOML: {}", error.message()), line, hint)
    })?;
    let config = Table::root(&report, document.get_ref(), read_file);
    match report.into_parts() {
        (problems, warnings) if problems.is_empty() => Ok((config, warnings)),
        (problems, _) => Err(Problems(problems)),
    }
}

fn read_file(root: &mut Table<'_>) -> Config {
    let server = root.section("server", server::read);
    let balance = root.section("balance", policy::read_balance);
    let endpoints = endpoints::read(root);
    let guard = guard::read(root);
    let timeouts = root.section("timeouts", |table| policy::read_timeouts(table, &Timeouts::default()));
    let strategy = balance.strategy;
    let around = Around { endpoints: &endpoints, strategy, timeouts: &timeouts, guard: &guard };
    let models = read_models(root, &around);
    let keys = keys::read(root, &models, &guard);
    let limits = root.section("limits", |table| limits::read(table, !keys.is_empty()));
    let (cache, store, url) = root.section("cache", cache::read);
    let redis = shared::read(root, url.as_ref());
    cache::check_store(root, &cache, store, redis.is_some());
    let fleet = root.section("fleet", |table| shared::read_fleet(table, redis.is_some()));
    let config = Config {
        server,
        endpoints,
        models,
        balance,
        health: root.section("health", policy::read_health),
        timeouts,
        retry: root.section("retry", reliability::read_retry),
        fallbacks: root.section("fallbacks", reliability::read_fallbacks),
        breaker: root.section("breaker", reliability::read_breaker),
        queue: root.section("queue", reliability::read_queue),
        guard,
        limits,
        keys,
        cache,
        redis,
        fleet,
        log: root.section("log", observe::read_log),
        tracing: root.section("tracing", observe::read_tracing),
        usage: root.section("usage", observe::read_usage),
        metrics: root.section("metrics", observe::read_metrics),
    };
    if root.report.is_clean() {
        fallbacks::warn(root, &config);
    }
    config
}

/// The file's models; a file without any serves what its endpoints have.
fn read_models(root: &mut Table<'_>, around: &Around<'_>) -> Vec<Model> {
    match models::read(root, around) {
        models if models.is_empty() => {
            let weights = around.endpoints.iter().map(|endpoint| endpoint.weight).collect();
            vec![any_model(around.strategy, weights, around.timeouts)]
        }
        models => models,
    }
}
