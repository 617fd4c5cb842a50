//! `[log]`, `[tracing]`, `[metrics]` and `[usage]`: what is told, to whom, and what tokens cost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::observe::{Journal, Tracing, UsageRules};
use super::super::prices::Prices;
use super::super::problem::{choices, quote};
use super::super::reader::{Table, Value};
use super::super::render::observe::{FORMATS, LEVELS, WRITERS};
use super::super::{Access, Bytes, Log, Metrics, Price, Secret};
use super::endpoints::{read_path, read_secret, read_url};
use super::server::is_header_name;

/// Fields of a request to the collector.
const HEADERS_MAX: usize = 16;
/// Closed segments that may be kept.
const SEGMENTS_MAX: i64 = 10_000;
/// Keys that may have series of their own: each is a label in the metrics.
const KEYS_MAX: i64 = 1000;
/// Largest price list; LiteLLM's has two megabytes.
const PRICE_BYTES_MAX: u64 = 32 << 20;
/// Longest age of a segment.
const AGE_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

pub(super) fn read_log(table: &mut Table<'_>) -> Log {
    let default = Log::default();
    Log {
        level: table.word("level", &LEVELS, default.level),
        access: table.take("access").and_then(read_access).unwrap_or(default.access),
        format: table.word("format", &FORMATS, default.format),
        sample_percent: table.integer("sample_percent", 0, 100, default.sample_percent),
        bodies: table.flag("bodies", default.bodies),
        body_bytes_max: table.size("body_bytes_max", Bytes(1), Bytes(1 << 20), default.body_bytes_max),
        mask: table.flag("mask", default.mask),
        journal: table.section("journal", read_journal),
    }
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

fn read_journal(table: &mut Table<'_>) -> Journal {
    let default = Journal::default();
    let (mib, tib) = (Bytes(1 << 20), Bytes(1 << 40));
    Journal {
        writer: table.word("writer", &WRITERS, default.writer),
        segment_bytes_max: table.size("segment_bytes_max", mib, tib, default.segment_bytes_max),
        segment_age_max: table.time_within(
            "segment_age_max",
            Duration::ZERO,
            AGE_MAX,
            default.segment_age_max,
        ),
        segments_max: table.integer("segments_max", 1, SEGMENTS_MAX, default.segments_max),
        compress: table.flag("compress", default.compress),
        sync: table.time("sync", Duration::ZERO, default.sync),
    }
}

pub(super) fn read_tracing(table: &mut Table<'_>) -> Tracing {
    let default = Tracing::default();
    let endpoint = table.take("otlp_endpoint").filter(|value| value.as_text() != Some(""));
    Tracing {
        otlp_endpoint: endpoint.and_then(read_url),
        headers: table.take("headers").map(read_headers).unwrap_or_default(),
        sample_percent: table.integer("sample_percent", 0, 100, default.sample_percent),
        service_name: table.take("service_name").and_then(read_service).unwrap_or(default.service_name),
    }
}

fn read_headers(value: Value<'_>) -> Vec<(String, Secret)> {
    let pairs = value.pairs().unwrap_or_default();
    if pairs.len() > HEADERS_MAX {
        value.wrong(format!("{} headers", pairs.len()), format!("at most {HEADERS_MAX}"));
        return Vec::new();
    }
    let mut headers = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let own = ["host", "content-type", "content-length", "transfer-encoding", "connection"];
        if !is_header_name(name) || own.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            value.wrong("this is no header name, or one of the gateway's own", "e.g. `authorization`");
        }
        headers.extend(read_secret(&value).map(|secret| (name.to_owned(), secret)));
    }
    headers
}

fn read_service(value: Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
        value.wrong(format!("{} is no name of a service", quote(text)), r#"e.g. "corelane""#);
    }
    Some(text.to_owned())
}

pub(super) fn read_usage(table: &mut Table<'_>) -> UsageRules {
    let list = table.take("price_file");
    let price_file = list.as_ref().and_then(read_path);
    UsageRules {
        prices: price_file
            .as_ref()
            .zip(list)
            .and_then(|(path, value)| read_prices(path, &value))
            .unwrap_or_default(),
        price_file,
        cost_in_answers: table.flag("cost_in_answers", UsageRules::default().cost_in_answers),
    }
}

/// Reads a price list.
fn read_prices(path: &Path, value: &Value<'_>) -> Option<Arc<Prices>> {
    let text = match std::fs::metadata(path).map(|data| data.len()) {
        Ok(length) if length > PRICE_BYTES_MAX => Err(format!("is larger than {PRICE_BYTES_MAX} bytes")),
        _ => std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}")),
    };
    let prices = text.and_then(|text| Prices::parse(&text));
    let wrong = |error: String| {
        let hint = "LiteLLM's model_prices_and_context_window.json, or a list of that form";
        value.wrong(format!("{} {error}", path.display()), hint);
    };
    prices.map(Arc::new).map_err(wrong).ok()
}

pub(super) fn read_metrics(table: &mut Table<'_>) -> Metrics {
    let default = Metrics::default();
    Metrics {
        litellm_names: table.flag("litellm_names", default.litellm_names),
        keys_max: table.integer("keys_max", 0, KEYS_MAX, default.keys_max),
        pairs: table.flag("pairs", default.pairs),
    }
}

pub(super) fn read_price(table: &mut Table<'_>) -> Price {
    let mut amount = |key| table.take(key).and_then(|value| value.amount());
    Price {
        input_per_1k: amount("input_per_1k").unwrap_or_default(),
        output_per_1k: amount("output_per_1k").unwrap_or_default(),
        cached_input_per_1k: amount("cached_input_per_1k"),
    }
}
