//! The small sections: how endpoints are picked, probed and waited for, and what is told about it.

use std::path::PathBuf;
use std::time::Duration;

use super::super::problem::{choices, quote};
use super::super::reader::{Table, Value};
use super::super::render::{LEVELS, STRATEGIES};
use super::super::{Access, Balance, Health, Log, Metrics, Timeouts};
use super::unavailable;

const MS: Duration = Duration::from_millis(1);

pub(super) fn read_balance(table: &mut Table<'_>) -> Balance {
    Balance { strategy: table.word("strategy", &STRATEGIES, Balance::default().strategy) }
}

pub(super) fn read_health(table: &mut Table<'_>) -> Health {
    let default = Health::default();
    Health {
        enabled: table.flag("enabled", default.enabled),
        path: table.take("path").and_then(read_probe_path),
        expect_field: table.take("expect_field").and_then(read_expect_field),
        interval: table.time("interval", MS, default.interval),
        timeout: table.time("timeout", MS, default.timeout),
        unhealthy_threshold: table.integer("unhealthy_threshold", 1, 1000, default.unhealthy_threshold),
        healthy_threshold: table.integer("healthy_threshold", 1, 1000, default.healthy_threshold),
    }
}

fn read_probe_path(value: Value<'_>) -> Option<String> {
    let text = value.text()?;
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !text.starts_with('/') || text.len() > 1024 || !visible {
        let hint = r#"begins with `/`, visible ASCII only, e.g. "/api/tags"; left out: what the endpoint's kind has"#;
        value.wrong(format!("{} is no path", quote(text)), hint);
    }
    Some(text.to_owned())
}

fn read_expect_field(value: Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        value.wrong(format!("{} is no key of a JSON object", quote(text)), r#"e.g. "models""#);
    }
    Some(text.to_owned())
}

/// Deadlines, each over the one of `default`.
pub(super) fn read_timeouts(table: &mut Table<'_>, default: &Timeouts) -> Timeouts {
    Timeouts {
        connect: table.time("connect", MS, default.connect),
        first_byte: table.time("first_byte", MS, default.first_byte),
        idle: table.time("idle", MS, default.idle),
        total: table.time("total", MS, default.total),
    }
}

pub(super) fn read_log(table: &mut Table<'_>) -> Log {
    let default = Log::default();
    let log = Log {
        level: table.word("level", &LEVELS, default.level),
        access: table.take("access").and_then(read_access).unwrap_or(default.access),
    };
    unavailable::refuse_log_flags(table);
    log
}

/// `"off"`, `"stderr"` or a file. A bare word is none: it is a slip more likely than a file.
fn read_access(value: Value<'_>) -> Option<Access> {
    match value.text()? {
        "off" => Some(Access::Off),
        "stderr" => Some(Access::Stderr),
        path if path.chars().any(char::is_control) || path.ends_with('/') => {
            value.wrong(format!("{} is no file", quote(path)), r#"e.g. "/var/log/corelane/access.log""#);
            None
        }
        path if path.contains(['/', '.']) => Some(Access::File(PathBuf::from(path))),
        word => {
            let hint =
                format!("{}; a file in this folder is written `./name`", choices(word, &["off", "stderr"]));
            value.wrong(format!("{} is neither off, stderr nor a path", quote(word)), hint);
            None
        }
    }
}

pub(super) fn read_metrics(table: &mut Table<'_>) -> Metrics {
    Metrics { litellm_names: table.flag("litellm_names", Metrics::default().litellm_names) }
}
