//! The small sections: how endpoints are picked, probed and waited for.

use std::time::Duration;

use super::super::problem::quote;
use super::super::reader::{Table, Value};
use super::super::render::STRATEGIES;
use super::super::{Balance, Health, Timeouts};

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
