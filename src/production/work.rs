//! The work itself: guard, endpoints, probes, bounds, what is shared and what is logged.

use super::edge::count;
use super::{Facts, Line, named};
use crate::config::guard::{Action, Profile};
use crate::config::{Access, Config, Endpoint, Level, Model};

/// Largest request body that is not asked about.
const BODY_BYTES_MAX: u64 = 64 << 20;
/// Longest time between two probes that is not asked about.
const INTERVAL_S: u64 = 60;

pub(super) fn guard(config: &Config) -> Line {
    const NAME: &str = "guard";
    let remedy =
        "[guard]: the section alone switches the scanners on; docs/guards.md says which to leave out";
    let profiles = &config.guard.profiles;
    let Some(first) = profiles.first().filter(|profile| profile.enabled) else {
        return Line::warn(NAME, "nothing is scanned", remedy);
    };
    let off =
        |model: &&Model| !model.guard.and_then(|at| profiles.get(at)).is_some_and(|profile| profile.enabled);
    let unread: Vec<&str> = config.models.iter().filter(off).map(|model| model.name.as_str()).collect();
    if !unread.is_empty() {
        let found = format!("not scanned: {}", named(&unread));
        return Line::warn(NAME, found, "give these models a profile, unless that is meant");
    }
    if !stops(first) {
        let found = "findings are counted, and stop nothing";
        return Line::warn(NAME, found, "action = \"block\" or \"redact\" once the thresholds fit");
    }
    let (input, output) = (first.input.scanners.len(), first.output.scanners.len());
    Line::ok(NAME, format!("{} of requests, {output} of answers", count(input, "scanner")))
}

fn stops(profile: &Profile) -> bool {
    let mut all = profile.input.scanners.iter().chain(&profile.output.scanners);
    all.any(|scanner| scanner.action != Action::Monitor)
}

pub(super) fn endpoints(config: &Config) -> Line {
    const NAME: &str = "endpoints";
    let serving = |model: &Model| match model.endpoints.len() {
        0 => config.endpoints.len(),
        some => some,
    };
    let alone: Vec<&str> =
        config.models.iter().filter(|model| serving(model) < 2).map(|model| model.name.as_str()).collect();
    if !alone.is_empty() {
        let found = format!("one endpoint alone serves {}", named(&alone));
        return Line::warn(NAME, found, "add a second one: no retry helps when the only one is down");
    }
    Line::ok(
        NAME,
        format!("{} for {}", count(config.endpoints.len(), "endpoint"), count(config.models.len(), "model")),
    )
}

/// Keys of endpoints, on the way to them.
pub(super) fn endpoint_links(config: &Config) -> Line {
    const NAME: &str = "upstream keys";
    let near = |host: &str| {
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let bare =
        |endpoint: &&Endpoint| endpoint.api_key.is_some() && !endpoint.url.tls && !near(&endpoint.url.host);
    let bare: Vec<&str> =
        config.endpoints.iter().filter(bare).map(|endpoint| endpoint.name.as_str()).collect();
    if !bare.is_empty() {
        let found = format!("api_key goes over plain http to {}", named(&bare));
        return Line::warn(NAME, found, "https:// in their URLs, unless the network between is yours alone");
    }
    Line::ok(NAME, "none crosses the network in clear")
}

pub(super) fn health(config: &Config) -> Line {
    const NAME: &str = "health";
    let health = &config.health;
    if !health.enabled {
        let found = "no probes: an endpoint that is away is found by requests that fail";
        return Line::fail(NAME, found, "enabled = true in [health]");
    }
    let every_s = health.interval.as_secs();
    if every_s > INTERVAL_S {
        let found = format!(
            "a probe every {every_s} s: an endpoint that is away is marked after {} s",
            every_s * u64::from(health.unhealthy_threshold)
        );
        return Line::warn(NAME, found, "interval = \"30s\" or less in [health]");
    }
    Line::ok(
        NAME,
        format!(
            "a probe every {every_s} s, marked after {}",
            count(health.unhealthy_threshold as usize, "failure")
        ),
    )
}

pub(super) fn bodies(config: &Config, facts: &Facts) -> Line {
    const NAME: &str = "bounds";
    let server = &config.server;
    if server.body_bytes_max.0 > BODY_BYTES_MAX {
        let found = format!("a request may have {}", server.body_bytes_max);
        return Line::warn(NAME, found, "body_bytes_max in [server]: 20MiB is enough for images in a chat");
    }
    let cache = if config.cache.is_on() { config.cache.memory_bytes_max.0 } else { 0 };
    let held = server.buffered_bytes_max.0.saturating_add(cache);
    if let Some(memory) = facts.memory_bytes.filter(|memory| held > memory / 2) {
        let found = format!(
            "bodies and stored answers may take {} MiB of the {} MiB that there are",
            held >> 20,
            memory >> 20
        );
        return Line::warn(
            NAME,
            found,
            "lower buffered_bytes_max in [server]: past it requests are told 503, and nothing is lost",
        );
    }
    let found =
        format!("a request up to {}, {} at once", server.body_bytes_max, server.max_concurrent_requests);
    Line::ok(NAME, found)
}

pub(super) fn redis(config: &Config) -> Line {
    const NAME: &str = "redis";
    let Some(redis) = &config.redis else { return Line::ok(NAME, "not used") };
    let near = match &redis.servers {
        crate::config::shared::Servers::Unix(_) => true,
        crate::config::shared::Servers::One(server) => {
            matches!(server.host.as_str(), "127.0.0.1" | "localhost" | "::1")
        }
        _ => false,
    };
    if near {
        return Line::ok(NAME, "on this machine");
    }
    if redis.password.is_none() {
        let remedy = "a password, and rights for its keys alone (docs/redis.md)";
        return Line::warn(NAME, "whoever reaches it reads stored answers and changes budgets", remedy);
    }
    if !redis.tls {
        return Line::warn(
            NAME,
            "its password and stored answers cross the network in clear",
            "rediss:// in url",
        );
    }
    Line::ok(NAME, "with a password, over TLS")
}

pub(super) fn level(config: &Config) -> Line {
    const NAME: &str = "log";
    match (config.log.level, &config.log.access) {
        (Level::Debug, _) => {
            Line::warn(NAME, "level is debug: a line for every decision", "level = \"info\" in [log]")
        }
        (_, Access::Off) => {
            let found = "no line of an exchange is written";
            Line::warn(NAME, found, "access = \"stderr\", or a file (docs/logs.md)")
        }
        (_, Access::Stderr) => Line::ok(NAME, "lines of exchanges go to standard error"),
        (_, Access::File(path)) => Line::ok(NAME, format!("lines of exchanges go to {}", path.display())),
    }
}

pub(super) fn bodies_in_log(config: &Config) -> Line {
    const NAME: &str = "privacy";
    match (config.log.bodies, config.log.mask) {
        (false, _) => Line::ok(NAME, "no prompt or answer is logged"),
        (true, true) => {
            let found = "prompts and answers stand in the log, with secrets and addresses masked";
            Line::warn(NAME, found, "bodies = false in [log], unless those who read it may")
        }
        (true, false) => {
            let found = "prompts and answers stand in the log as they are, secrets too";
            Line::fail(NAME, found, "bodies = false, or mask = true, in [log]")
        }
    }
}
