//! Whether a configuration, on this machine, is fit for production: `corelane check --production`.
//!
//! Pure: what the machine says is given as [`Facts`], so that each line has its tests. A line fails where requests,
//! secrets or the service would be at risk as configured, and warns where an operator may have reasons. Nothing here
//! holds a secret: lines name keys and endpoints, and lengths.

mod edge;
mod machine;
#[cfg(test)]
mod tests;
mod work;

use std::fmt;
use std::path::PathBuf;

use crate::config::Config;

/// What a machine says of itself, gathered by whoever may look.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Open files that a process may be given (the hard limit).
    pub open_files: u64,
    /// Bytes that a process may lock; `u64::MAX`: all.
    pub memlock_bytes: u64,
    /// Bytes of memory: the machine's, or the container's if that is less. `None`: not known.
    pub memory_bytes: Option<u64>,
    /// `uname -r`.
    pub kernel: String,
    /// Whether the kernel lets this process use io_uring.
    pub has_uring: bool,
    /// Certificates of the listeners, and when they end, in seconds since 1970.
    pub certificates: Vec<(String, u64)>,
    /// Seconds since 1970.
    pub now_s: u64,
    /// Whether the kernel's clock is held by a time server; `None`: it does not say.
    pub clock_is_kept: Option<bool>,
    /// A file of alerts on the gateway's metrics, where one was found.
    pub alerts: Option<PathBuf>,
    /// Where it was looked for.
    pub alert_places: Vec<PathBuf>,
}

/// How a line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// There may be reasons for it.
    Warn,
    /// Not for production.
    Fail,
}

/// One line of the checklist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What was looked at, a word.
    pub name: &'static str,
    /// How it ends.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; empty where it is fine.
    pub remedy: String,
}

impl Line {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), remedy: String::new() }
    }

    fn warn(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, found: found.into(), remedy: remedy.into() }
    }

    fn fail(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(name, found, remedy) }
    }
}

impl fmt::Display for Line {
    /// `warn  endpoints      …`, and what to do below it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        };
        write!(out, "{verdict:<5} {:<13} {}", self.name, self.found)?;
        if !self.remedy.is_empty() {
            write!(out, "\n{:20}{}", "", self.remedy)?;
        }
        Ok(())
    }
}

/// Every line, in the order of docs/checklist.md.
#[must_use]
pub fn judge(config: &Config, facts: &Facts) -> Vec<Line> {
    let mut lines = vec![edge::tls(config)];
    lines.extend(edge::certificates(facts));
    lines.extend([
        edge::keys(config, facts.now_s),
        edge::rates(config),
        edge::proxies(config),
        edge::admin(config),
        work::guard(config),
        work::endpoints(config),
        work::endpoint_links(config),
        work::health(config),
        work::bodies(config, facts),
        work::redis(config),
        work::level(config),
        work::bodies_in_log(config),
        machine::alerts(facts),
        machine::open_files(config, facts),
        machine::memlock(config, facts),
        machine::driver(config, facts),
        machine::clock(facts),
    ]);
    lines
}

/// The last line: how many failed, warn, are fine.
#[must_use]
pub fn summary(lines: &[Line]) -> String {
    let count = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
    let (failed, warned) = (count(Verdict::Fail), count(Verdict::Warn));
    format!("{failed} failed, {warned} to look at, {} fine", count(Verdict::Ok))
}

/// Up to four names, and how many more.
fn named(names: &[&str]) -> String {
    match names.split_at_checked(4) {
        Some((first, rest)) if !rest.is_empty() => format!("{} and {} more", first.join(", "), rest.len()),
        _ => names.join(", "),
    }
}
