//! What is told of the gateway's work: logs and their journal, traces, metrics, and what tokens cost.
//!
//! Invariants, besides those of [`super`]: a share is from 0 to 100 percent; a segment holds at least 1 MiB and at least
//! one is kept; a price is 0 or more and finite.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::prices::Prices;
use super::{Bytes, Secret, Url};

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Log {
    /// Least level that is written.
    pub level: Level,
    /// Where the line of each exchange goes.
    pub access: Access,
    /// How these lines look.
    pub format: Format,
    /// Share of the exchanges that went well whose line is written; all others have theirs.
    pub sample_percent: u32,
    /// Whether requests and answers stand in the line.
    pub bodies: bool,
    /// Bytes of a body that stand in the line at most.
    pub body_bytes_max: Bytes,
    /// Whether secrets, e-mail addresses, phone and card numbers are masked in bodies.
    pub mask: bool,
    /// How the file of `access` is written.
    pub journal: Journal,
}

/// Severity of a log line, most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Something was lost.
    Error,
    /// Something an operator should look at.
    Warn,
    /// Start, stop, health changes.
    Info,
    /// Every decision.
    Debug,
}

/// Where access lines go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Nowhere.
    Off,
    /// Standard error.
    Stderr,
    /// The journal, whose open segment is this file.
    File(PathBuf),
}

/// How a line of an exchange looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people where standard error is a terminal and the lines go there, else JSON.
    Auto,
    /// One JSON object.
    Json,
    /// Words for people.
    Text,
}

/// `[log.journal]`: the files of `log.access`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Journal {
    /// How they are written.
    pub writer: Writer,
    /// A segment that has so many bytes is closed.
    pub segment_bytes_max: Bytes,
    /// A segment that is so old is closed; zero: age closes none.
    pub segment_age_max: Duration,
    /// Closed segments that are kept; the oldest goes first.
    pub segments_max: usize,
    /// Whether closed segments are compressed (gzip).
    pub compress: bool,
    /// How often what was written is made durable; zero: when the kernel likes.
    pub sync: Duration,
}

/// How a segment is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    /// Directly where io_uring, memlock and the file system allow it, else by the kernel's cache.
    Auto,
    /// Directly, by glommio; the start fails where that is denied.
    Direct,
    /// By the kernel's cache.
    Buffered,
}

/// `[tracing]`: spans for a collector of OpenTelemetry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tracing {
    /// Collector's address, without `/v1/traces`; `None`: no spans.
    pub otlp_endpoint: Option<Url>,
    /// Fields of each request to the collector; values are secrets.
    pub headers: Vec<(String, Secret)>,
    /// Share of the requests that carry no decision of their client's which are traced.
    pub sample_percent: u32,
    /// `service.name` of the spans.
    pub service_name: String,
}

/// `[metrics]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metrics {
    /// Whether LiteLLM's families are shown beside ours.
    pub litellm_names: bool,
    /// Keys that have series of their own, those with most requests; the others are counted as `other`.
    pub keys_max: usize,
    /// Whether each pair of a model and an endpoint that was used has histograms of its own.
    pub pairs: bool,
}

/// `[usage]`: what tokens cost, beside `price` of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UsageRules {
    /// A price list as LiteLLM has it (`model_prices_and_context_window.json`); read at start and at a reload.
    pub price_file: Option<PathBuf>,
    /// What stands in it.
    #[serde(skip)]
    pub prices: Arc<Prices>,
    /// Whether `usage.cost` is added to answers that cost anything.
    pub cost_in_answers: bool,
}

/// USD per 1000 tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Price {
    /// Prompt tokens.
    pub input_per_1k: f64,
    /// Completion tokens.
    pub output_per_1k: f64,
    /// Prompt tokens that the endpoint had in its cache; `None`: as other prompt tokens.
    pub cached_input_per_1k: Option<f64>,
}
