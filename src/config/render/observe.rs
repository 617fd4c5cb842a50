//! Logs, traces and prices as the file would say them.

use super::{Page, masked, quoted};
use crate::config::observe::{Format, Journal, Tracing, UsageRules, Writer};
use crate::config::{Access, Level, Log, Price};

/// Words of `log.level`.
pub(crate) const LEVELS: [(&str, Level); 4] =
    [("error", Level::Error), ("warn", Level::Warn), ("info", Level::Info), ("debug", Level::Debug)];
/// Words of `log.format`.
pub(crate) const FORMATS: [(&str, Format); 3] =
    [("auto", Format::Auto), ("json", Format::Json), ("text", Format::Text)];
/// Words of `log.journal.writer`.
pub(crate) const WRITERS: [(&str, Writer); 3] =
    [("auto", Writer::Auto), ("direct", Writer::Direct), ("buffered", Writer::Buffered)];

pub(super) fn write_log(page: &mut Page, log: &Log) {
    page.header("[log]");
    page.word("level", &LEVELS, log.level);
    match &log.access {
        Access::Off => page.text("access", "off"),
        Access::Stderr => page.text("access", "stderr"),
        Access::File(path) => page.text("access", path.display()),
    }
    page.word("format", &FORMATS, log.format);
    page.plain("sample_percent", log.sample_percent);
    page.plain("bodies", log.bodies);
    page.text("body_bytes_max", log.body_bytes_max);
    page.plain("mask", log.mask);
    write_journal(page, &log.journal);
}

fn write_journal(page: &mut Page, journal: &Journal) {
    page.header("[log.journal]");
    page.word("writer", &WRITERS, journal.writer);
    page.text("segment_bytes_max", journal.segment_bytes_max);
    page.time("segment_age_max", journal.segment_age_max);
    page.plain("segments_max", journal.segments_max);
    page.plain("compress", journal.compress);
    page.time("sync", journal.sync);
}

pub(super) fn write_tracing(page: &mut Page, tracing: &Tracing) {
    page.header("[tracing]");
    let endpoint = tracing.otlp_endpoint.as_ref();
    page.text("otlp_endpoint", endpoint.map(ToString::to_string).unwrap_or_default());
    page.plain("sample_percent", tracing.sample_percent);
    page.text("service_name", &tracing.service_name);
    if !tracing.headers.is_empty() {
        page.header("[tracing.headers]");
        tracing.headers.iter().for_each(|(name, value)| page.text(&quoted(name), masked(Some(value))));
    }
}

pub(super) fn write_usage(page: &mut Page, usage: &UsageRules) {
    page.header("[usage]");
    let file = usage.price_file.as_ref();
    page.text("price_file", file.map(|path| path.display().to_string()).unwrap_or_default());
    page.plain("cost_in_answers", usage.cost_in_answers);
}

pub(super) fn write_price(page: &mut Page, price: &Price) {
    let (input, output) = (price.input_per_1k, price.output_per_1k);
    let cached = price.cached_input_per_1k.map(|cached| format!(", cached_input_per_1k = {cached:?}"));
    let cached = cached.unwrap_or_default();
    let price = format_args!("{{ input_per_1k = {input:?}, output_per_1k = {output:?}{cached} }}");
    page.plain("price", price);
}
