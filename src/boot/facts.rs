//! What this machine says of itself, for `corelane check --production`.
//!
//! Limits are those of the calling process: a service has those of its unit. What cannot be read is told as not known,
//! or as the worse of two, never as fine.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::net::{clock, runtime};
use crate::production::Facts;
use crate::world::Made;

/// Reads everything. `alert_places` are looked at in order for a file with rules on our metrics.
#[must_use]
pub fn gather(made: &Made, alert_places: Vec<PathBuf>) -> Facts {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let expiries = made.tls.iter().flat_map(|tls| tls.expiries());
    let rules = |place: &&PathBuf| fs::read_to_string(place).is_ok_and(|text| text.contains("corelane_"));
    Facts {
        open_files: hard_limit(&limits, "Max open files").unwrap_or(0),
        memlock_bytes: hard_limit(&limits, "Max locked memory").unwrap_or(0),
        memory_bytes: memory(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        has_uring: runtime::has_uring(),
        certificates: expiries.map(|one| (one.file.clone(), one.not_after_s)).collect(),
        now_s: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        clock_is_kept: clock::is_kept(),
        alerts: alert_places.iter().find(rules).cloned(),
        alert_places,
    }
}

/// The hard limit in a line of `/proc/self/limits`: name, soft, hard, unit.
fn hard_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The machine's memory, or what this container may have of it.
fn memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let machine = line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)?;
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    Some(group.map_or(machine, |group| group.min(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_the_kernels_table() {
        let table = "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max locked memory         8388608              unlimited            bytes     \n\
                     Max open files            1024                 1048576              files     \n";
        assert_eq!(hard_limit(table, "Max open files"), Some(1_048_576));
        assert_eq!(hard_limit(table, "Max locked memory"), Some(u64::MAX));
        assert_eq!(hard_limit(table, "Max core file size"), None);
        assert!(memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
