//! `corelane guard`: JSON lines in, JSON lines with verdicts out. What evaluations and tuning use.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::{BAD_USAGE, FAILED, complain, serve};
use crate::boot;
use crate::config::guard::{Action, OnError, ScannerName};
use crate::guard::chain::{Chain, Inspection};
use crate::guard::verdict::{Finding, Found};
use crate::guard::{Guard, language, message, window};
use crate::net::clock;

/// Reasons that are shown of one scanner.
const REASONS_MAX: usize = 3;

/// Which texts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// What clients send.
    Input,
    /// What models answer.
    Output,
}

/// How texts are read.
#[derive(Debug, clap::Args)]
pub struct GuardArgs {
    /// Which scanners read: those of requests or those of answers.
    #[arg(long, value_enum)]
    direction: Direction,
    /// Configuration; found as by `serve` if left out. Its guard is used even where it is not enabled.
    #[arg(short, long)]
    config: Option<std::path::PathBuf>,
    /// A profile of the configuration.
    #[arg(long, default_value = "default")]
    profile: String,
    /// Feed each text in pieces of about so many bytes, as a stream would; 0: whole.
    #[arg(long, default_value_t = 0)]
    pieces: usize,
}

/// Reads standard input to its end. Exit code 0; 1 if a line is no JSON object with a `text`; 2 for bad usage.
#[must_use]
pub fn run(args: &GuardArgs) -> ExitCode {
    let chain = match chain(args.config.as_deref(), &args.profile, args.direction) {
        Ok(chain) => chain,
        Err(message) => {
            complain(&message);
            return ExitCode::from(BAD_USAGE);
        }
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    for (number, line) in BufReader::new(std::io::stdin().lock()).lines().enumerate() {
        let row =
            line.ok().and_then(|line| if line.trim().is_empty() { Some(None) } else { row(&line).map(Some) });
        let Some(row) = row else {
            complain(&format!("line {}: no JSON object with a string \"text\"", number + 1));
            return ExitCode::from(FAILED);
        };
        let Some((row, text)) = row else { continue };
        let judged = judge(&chain, row, &text, args);
        if writeln!(out, "{}", Value::Object(judged)).is_err() {
            return ExitCode::SUCCESS; // nobody reads on
        }
    }
    let _ = out.flush();
    ExitCode::SUCCESS
}

fn chain(path: Option<&Path>, profile: &str, direction: Direction) -> Result<std::sync::Arc<Chain>, String> {
    let mut config = serve::find(path).map_err(|problems| problems.to_string())?.guard;
    let index = config.profiles.iter().position(|known| known.name == profile);
    let index = index.ok_or_else(|| format!("the configuration has no guard profile {profile:?}"))?;
    for (at, known) in config.profiles.iter_mut().enumerate() {
        known.enabled = at == index;
        // Only what is used is built.
        match direction {
            Direction::Input => known.output.scanners.clear(),
            Direction::Output => known.input.scanners.clear(),
        }
    }
    let guard = Guard::new(&config, clock::now_ns).map_err(|unfit| boot::unfit(unfit).to_string())?;
    let profile = guard.profile(Some(index)).ok_or("the profile is off")?;
    Ok(std::sync::Arc::clone(if direction == Direction::Input { &profile.input } else { &profile.output }))
}

fn row(line: &str) -> Option<(Map<String, Value>, String)> {
    let Ok(Value::Object(row)) = serde_json::from_str(line) else { return None };
    let text = row.get("text")?.as_str()?.to_owned();
    Some((row, text))
}

fn judge(chain: &Chain, mut row: Map<String, Value>, text: &str, args: &GuardArgs) -> Map<String, Value> {
    let mut inspection = chain.inspect();
    match args.direction {
        Direction::Input => {
            let bytes = if args.pieces == 0 { usize::MAX / 2 } else { args.pieces };
            while !chain.step(&mut inspection, text, bytes) {}
        }
        Direction::Output => {
            let reading = &mut inspection.reading;
            let mut rest = text;
            while !rest.is_empty() {
                let bytes = if args.pieces == 0 { rest.len() } else { rest.ceil_char_boundary(args.pieces) };
                let (piece, later) = rest.split_at(bytes);
                chain.push(reading, piece);
                rest = later;
            }
            chain.finish(reading);
        }
    }
    count_tokens(chain, text, &mut inspection);
    let scanners: Vec<Value> = chain.scanners().map(|name| scanner(chain, &inspection, name, text)).collect();
    let valid = scanners.iter().all(|scanner| scanner["valid"] == json!(true));
    row.insert("valid".to_owned(), json!(valid));
    row.insert("language".to_owned(), json!(message::code(language::detect(text))));
    row.insert("scanners".to_owned(), Value::Array(scanners));
    row.insert("sanitized".to_owned(), json!(sanitized(chain, &inspection.reading.found.findings, text)));
    row
}

fn count_tokens(chain: &Chain, text: &str, inspection: &mut Inspection) {
    let Some(tokens) = chain.tokens().filter(|tokens| tokens.may_exceed(text.len())) else { return };
    let (mut state, mut found) = (tokens.start(), Found::default());
    while !tokens.count(&mut state, text, usize::MAX, &mut found) {}
    found.findings.into_iter().for_each(|finding| inspection.reading.found.add(finding));
}

fn scanner(chain: &Chain, inspection: &Inspection, name: ScannerName, text: &str) -> Value {
    let reading = &inspection.reading;
    let findings: Vec<&Finding> = if text.trim().is_empty() {
        Vec::new() // blank texts are valid, as LLM Guard has it
    } else {
        reading.found.findings.iter().filter(|finding| finding.scanner == name).collect()
    };
    if chain.has_failed(reading, name) {
        let allows = chain.policy(name).is_some_and(|policy| policy.on_error == OnError::Allow);
        return json!({"name": name.name(), "valid": allows, "score": 0.0, "reason": "failed"});
    }
    let mut reasons: Vec<String> = Vec::new();
    for finding in &findings {
        let reason = if finding.reason.is_empty() || finding.reason == finding.rule {
            finding.rule.to_string()
        } else {
            format!("{}: {}", finding.rule, finding.reason)
        };
        if reasons.len() < REASONS_MAX && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    json!({
        "name": name.name(),
        "valid": findings.is_empty(),
        "score": chain.score(reading, name),
        "reason": reasons.join("; "),
    })
}

/// The text with every secret masked, and every phrase that is to be redacted.
fn sanitized(chain: &Chain, findings: &[Finding], text: &str) -> String {
    let masks = |finding: &&Finding| {
        finding.scanner == ScannerName::Secrets
            || chain.policy(finding.scanner).is_some_and(|policy| policy.action == Action::Redact)
    };
    let mut redactions: Vec<_> = findings
        .iter()
        .filter(masks)
        .map(|finding| {
            let found = text.get(finding.span.clone()).unwrap_or_default();
            (finding.span.clone(), chain.replacement(finding, found))
        })
        .collect();
    window::merge(&mut redactions);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (span, with) in redactions {
        out.push_str(text.get(at..span.start).unwrap_or_default());
        out.push_str(&with);
        at = span.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}
