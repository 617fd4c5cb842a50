//! What the machine has to give: files, locked memory, a kernel with io_uring, a clock; and somebody who is told.

use super::{Facts, Line};
use crate::config::observe::Writer;
use crate::config::{Access, Config, Driver};

/// Locked memory that direct writing of the journal needs (docs/logs.md).
const JOURNAL_BYTES: u64 = 512 << 10;
/// No gateway of this kind ran before 2025.
const YEAR_2025_S: u64 = 1_735_689_600;

pub(super) fn alerts(facts: &Facts) -> Line {
    const NAME: &str = "alerts";
    match &facts.alerts {
        Some(path) => Line::ok(NAME, format!("{} has rules on this gateway's metrics", path.display())),
        None => {
            let places: Vec<String> =
                facts.alert_places.iter().map(|path| path.display().to_string()).collect();
            let found = format!("no rules on this gateway's metrics in {}", places.join(", "));
            Line::warn(
                NAME,
                found,
                "config/prometheus/alerts.yml is a whole file; say where yours is by --alerts FILE",
            )
        }
    }
}

pub(super) fn open_files(config: &Config, facts: &Facts) -> Line {
    const NAME: &str = "open files";
    let connections = config.server.max_connections as u64;
    let wanted = connections.saturating_mul(2);
    let found = format!("{} may be open, max_connections is {connections}", facts.open_files);
    let remedy =
        format!("LimitNOFILE={wanted} in the unit, or `ulimit -Hn {wanted}`; or lower max_connections");
    match facts.open_files {
        files if files >= wanted => Line::ok(NAME, found),
        files if files > connections => Line::warn(NAME, found, remedy),
        _ => Line::fail(NAME, found, remedy),
    }
}

pub(super) fn memlock(config: &Config, facts: &Facts) -> Line {
    const NAME: &str = "memlock";
    let writer = config.log.journal.writer;
    let direct = matches!(config.log.access, Access::File(_)) && writer != Writer::Buffered;
    let shown = match facts.memlock_bytes {
        u64::MAX => "all memory".to_owned(),
        bytes => format!("{} KiB", bytes >> 10),
    };
    if !direct || facts.memlock_bytes >= JOURNAL_BYTES {
        return Line::ok(NAME, format!("{shown} may be locked"));
    }
    let found = format!("{shown} may be locked, and the journal's direct writer needs 512 KiB");
    let remedy = "LimitMEMLOCK=8M in the unit, or writer = \"buffered\" in [log.journal]";
    match writer {
        Writer::Direct => Line::fail(NAME, found, remedy),
        _ => Line::warn(NAME, found, remedy),
    }
}

pub(super) fn driver(config: &Config, facts: &Facts) -> Line {
    const NAME: &str = "kernel";
    let kernel = &facts.kernel;
    match (config.server.driver, facts.has_uring) {
        (Driver::Epoll, _) => Line::ok(NAME, format!("{kernel}; epoll, as configured")),
        (_, true) => Line::ok(NAME, format!("{kernel}, with io_uring")),
        (Driver::IoUring, false) => {
            let found = format!("{kernel} denies io_uring, and driver demands it");
            Line::fail(NAME, found, "driver = \"auto\" in [server], or allow it")
        }
        (Driver::Auto, false) => {
            let found = format!("{kernel} denies io_uring here: epoll is used, at some more CPU");
            Line::warn(
                NAME,
                found,
                "in a container allow io_uring_setup, _enter and _register by a seccomp profile; sysctl kernel.io_uring_disabled=0",
            )
        }
    }
}

pub(super) fn clock(facts: &Facts) -> Line {
    const NAME: &str = "clock";
    let remedy =
        "run chrony or systemd-timesyncd: expiry of keys and certificates, minutes and logs go by it";
    if facts.now_s < YEAR_2025_S {
        return Line::fail(NAME, "the clock stands before 2025", remedy);
    }
    match facts.clock_is_kept {
        Some(true) => Line::ok(NAME, "held by a time server"),
        Some(false) => Line::warn(NAME, "the kernel says that no time server holds it", remedy),
        None => Line::warn(NAME, "the kernel does not say whether a time server holds it", remedy),
    }
}
