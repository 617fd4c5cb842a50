//! What a checked configuration asks for and only making can prove: scanners, certificates, keys.

use std::io;
use std::sync::Arc;

use crate::config::Config;
use crate::config::guard::Settings;
use crate::guard::mask::Masker;
use crate::guard::{self, Guard};
use crate::net::clock;
use crate::net::redis::Redis;
use crate::net::tls::{self, Acceptor, Connector};
use crate::shard::entry::for_people;
use crate::world::{Made, World};

/// What is wrong with the guard's settings, a line each.
#[must_use]
pub fn unfit(unfit: Vec<guard::Unfit>) -> io::Error {
    unfit_lines(unfit.into_iter().map(|unfit| (unfit.path, unfit.message)))
}

fn unfit_lines(lines: impl Iterator<Item = (String, String)>) -> io::Error {
    let lines: Vec<String> = lines.map(|(path, message)| format!("{path}: {message}")).collect();
    io::Error::new(io::ErrorKind::InvalidInput, lines.join("\n"))
}

/// Makes it. A guard whose settings are those of `old` is not built again, and tickets of its TLS sessions stay good.
///
/// # Errors
/// All that does not fit, as one `InvalidInput`.
pub fn make(config: &Config, old: Option<&World>) -> io::Result<Made> {
    let mut lines = Vec::new();
    let same = old.filter(|old| old.config.guard == config.guard && !reads_files(&config.guard));
    let guard = match same {
        Some(old) => Ok(Arc::clone(&old.guard)),
        None => Guard::new(&config.guard, clock::now_ns).map(Arc::new),
    };
    let guard =
        guard.map_err(|unfit| lines.extend(unfit.into_iter().map(|unfit| (unfit.path, unfit.message))));
    let acceptor = config.server.tls.as_ref().map(|tls| match old.and_then(|old| old.tls.as_ref()) {
        Some(old) => old.renewed(tls),
        None => Acceptor::new(tls),
    });
    let acceptor = acceptor
        .transpose()
        .map_err(|unfit| lines.extend(unfit.into_iter().map(|unfit| (unfit.path, unfit.message))));
    let mut connectors = Vec::new();
    for (at, endpoint) in config.endpoints.iter().enumerate() {
        let made = endpoint.url.tls.then(|| Connector::new(&endpoint.url.host, endpoint.ca.as_deref()));
        match made.transpose() {
            Ok(connector) => connectors.push(connector),
            Err(message) => lines.push((format!("endpoints[{at}]"), message)),
        }
    }
    let collector = config.tracing.otlp_endpoint.as_ref().filter(|url| url.tls);
    let collector =
        collector.map(|url| Connector::new(&url.host, None)).transpose().unwrap_or_else(|message| {
            lines.push(("tracing.otlp_endpoint".to_owned(), message));
            None
        });
    let redis = config.redis.as_ref().map(Redis::connector).transpose().unwrap_or_else(|message| {
        lines.push(("redis".to_owned(), message));
        None
    });
    let masker = (config.log.bodies && config.log.mask).then(|| {
        let known = old.and_then(|old| old.masker.as_ref()).map(Arc::clone);
        known.map_or_else(|| Masker::new().map(Arc::new), Ok)
    });
    let masker = masker.transpose().map_err(|message| lines.push(("log.mask".to_owned(), message)));
    let log_is_text = for_people(config);
    match (guard, acceptor, masker) {
        (Ok(guard), Ok(tls), Ok(masker)) if lines.is_empty() => {
            let (redis, process_key) = (redis.flatten(), tls::random()?);
            Ok(Made { guard, masker, log_is_text, tls, connectors, collector, redis, process_key })
        }
        _ => Err(unfit_lines(lines.into_iter())),
    }
}

/// Whether files decide too, which may have changed while the settings have not.
fn reads_files(guard: &crate::config::guard::Guard) -> bool {
    let scanners =
        guard.profiles.iter().flat_map(|one| one.input.scanners.iter().chain(&one.output.scanners));
    let mut lists = scanners.map(|scanner| match &scanner.settings {
        Settings::MaliciousUrls(urls) => urls.deny_list.is_some(),
        _ => false,
    });
    lists.any(|list| list)
}
