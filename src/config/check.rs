//! From a file's text to a `Config`, or to all that is wrong with it.
//!
//! The file is parsed with the place of every value kept, then read section by section; a mistake is noted and the
//! default stands in, so that one run tells everything. Nothing is ignored: an unknown key is a mistake, and so is
//! a section that this version does not build (`unavailable`).
//! Cost: some milliseconds at start and at a reload, never on a request's way.

mod cors;
mod endpoints;
pub(super) mod guard;
mod keys;
mod limits;
mod models;
mod policy;
mod server;
#[cfg(test)]
mod tests;
mod tls;
mod unavailable;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::de::DeTable;

use super::defaults::any_model;
use super::guard::Guard;
use super::problem::{Problem, Problems};
use super::reader::{Report, Table};
use super::{Config, Endpoint, Model, Strategy};

pub use models::normalized;

/// Largest file in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads a configuration from a file. Paths inside it are relative to the working directory.
///
/// # Errors
/// Every mistake of the file, or the one reason why it could not be read.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let file = path.display().to_string();
    let result = match read_text(path) {
        Ok(text) => parse(&text),
        Err(message) => Err(whole_file(message, 0, "")),
    };
    result.map_err(|mut problems| {
        problems.0.iter_mut().for_each(|problem| problem.file.clone_from(&file));
        problems
    })
}

fn read_text(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|cause| format!("cannot be read: {cause}"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is larger than {FILE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes)
        .map_err(|cause| format!("is not UTF-8 at byte {}", cause.utf8_error().valid_up_to()))
}

fn whole_file(message: String, line: u32, hint: &str) -> Problems {
    Problems(vec![Problem { file: String::new(), path: String::new(), line, message, hint: hint.to_owned() }])
}

/// Reads a configuration from TOML text.
///
/// # Errors
/// Every mistake of the text; a mistake in its TOML syntax is reported alone.
pub fn parse(text: &str) -> Result<Config, Problems> {
    let report = Report::new(text);
    let document = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(0, |span| report.line(span.start));
        let hint = "texts, times and sizes stand in double quotes; a key or table stands once";
        whole_file(format!("not valid TOML: {}", error.message()), line, hint)
    })?;
    let config = Table::root(&report, document.get_ref(), read_file);
    match report.into_problems() {
        problems if problems.is_empty() => Ok(config),
        problems => Err(Problems(problems)),
    }
}

fn read_file(root: &mut Table<'_>) -> Config {
    let server = root.section("server", server::read);
    let balance = root.section("balance", policy::read_balance);
    let endpoints = endpoints::read(root);
    let guard = guard::read(root);
    let models = read_models(root, &endpoints, balance.strategy, &guard);
    let keys = keys::read(root, &models, &guard);
    let limits = root.section("limits", |table| limits::read(table, !keys.is_empty()));
    let config = Config {
        server,
        endpoints,
        models,
        balance,
        health: root.section("health", policy::read_health),
        timeouts: root.section("timeouts", policy::read_timeouts),
        retry: root.section("retry", policy::read_retry),
        guard,
        limits,
        keys,
        log: root.section("log", policy::read_log),
        metrics: root.section("metrics", policy::read_metrics),
    };
    unavailable::refuse_sections(root);
    config
}

/// The file's models; a file without any serves what its endpoints have.
fn read_models(
    root: &mut Table<'_>,
    endpoints: &[Endpoint],
    strategy: Strategy,
    guard: &Guard,
) -> Vec<Model> {
    match models::read(root, endpoints, strategy, guard) {
        models if models.is_empty() => {
            vec![any_model(strategy, endpoints.iter().map(|endpoint| endpoint.weight).collect())]
        }
        models => models,
    }
}
