//! The table at the end of a run.

use std::fmt::Write as _;

use super::{Report, Spread};

/// The whole of it.
pub fn table(report: &Report) -> String {
    let mut out = String::new();
    let about = &report.about;
    let _ = writeln!(
        out,
        "{}: {} over {}, {:.1} s judged of {:.1}, seed {}, digest {}, {} thread(s), {}",
        about.scenario,
        about.target,
        about.protocol,
        about.judged_seconds,
        about.seconds,
        about.seed,
        about.digest,
        about.threads,
        about.driver
    );
    let _ = writeln!(
        out,
        "{} requests, {:.1} right answers/s, {:.1} events/s, {:.1} MB in, {} resent, {:.2} s of CPU",
        report.requests,
        report.ok_per_second,
        report.events_per_second,
        report.bytes_in as f64 / 1e6,
        report.resent,
        report.cpu_seconds
    );
    let named: Vec<String> =
        report.outcomes.iter().map(|(outcome, count)| format!("{} {count}", outcome.name())).collect();
    let _ = writeln!(out, "outcomes: {}\n", named.join(", "));
    head(&mut out);
    for work in &report.work {
        row(&mut out, &work.name, &work.latency);
        if let Some(first) = &work.first_event {
            row(&mut out, &format!("{}: first event", work.name), first);
        }
        if let Some(gap) = &work.gap {
            row(&mut out, &format!("{}: gap", work.name), gap);
        }
    }
    for status in &report.statuses {
        row(&mut out, &format!("status {}", status.status), &status.latency);
    }
    row(&mut out, "connecting", &report.connects);
    row(&mut out, "sent late by", &report.lag);
    keys(&mut out, report);
    examples(&mut out, report);
    objectives(&mut out, report);
    out
}

fn keys(out: &mut String, report: &Report) {
    if let Some(fairness) = report.fairness {
        let _ = writeln!(out, "\nkeys (fairness {fairness:.3}):");
        for key in &report.keys {
            let _ = writeln!(out, "  {:22} {:>9} offered {:>9} served", key.name, key.offered, key.served);
        }
    }
}

fn examples(out: &mut String, report: &Report) {
    if !report.examples.is_empty() {
        let _ = writeln!(out, "\nwhat went wrong, for example:");
    }
    for example in &report.examples {
        let _ = writeln!(
            out,
            "  {:12} q{:x} ({}) due at {} ms, status {}: {}",
            example.outcome.name(),
            example.index,
            example.work,
            example.due_ms,
            example.status,
            example.answer.escape_debug()
        );
    }
}

fn objectives(out: &mut String, report: &Report) {
    let _ = writeln!(out, "\nobjectives:");
    for objective in &report.objectives {
        let mark = if objective.held { "holds " } else { "MISSED" };
        let _ = writeln!(
            out,
            "  {mark}  {:34} {} {:<10} measured {}",
            objective.name,
            objective.bound,
            number(objective.limit),
            number(objective.measured)
        );
    }
}

fn head(out: &mut String) {
    let _ = writeln!(
        out,
        "{:26} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "ms", "count", "mean", "p50", "p90", "p99", "p99.9", "max"
    );
}

fn row(out: &mut String, name: &str, spread: &Spread) {
    let Spread { count, mean, p50, p90, p99, p999, max } = spread;
    let _ = writeln!(
        out,
        "{name:26} {count:>10} {mean:>10.3} {p50:>10.3} {p90:>10.3} {p99:>10.3} {p999:>10.3} {max:>10.3}"
    );
}

/// A number with as many places as it needs.
pub fn number(value: f64) -> String {
    match value {
        value if !value.is_finite() => "nothing".to_owned(),
        value if value == value.trunc() && value.abs() < 1e15 => format!("{value:.0}"),
        value if value.abs() >= 100.0 => format!("{value:.1}"),
        value => format!("{value:.4}"),
    }
}
