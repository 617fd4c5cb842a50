//! The report as one page: no script, no other host, readable in print and in the dark.

use std::fmt::Write as _;

use super::plot::{Across, Line, escape, plot};
use super::table::number;
use super::{Point, Report, SecondReport, Spread};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --grid: #d8dde3; --good: #1a7f37; --bad: #c0262d;
  --c0: #2563c9; --c1: #c2560c; --c2: #1a7f37; --c3: #8a3fc0; --c4: #b01e5e; --c5: #5b6470; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e7ec; --paper: #14171b; --grid: #343a42; --good: #4cc76a; --bad: #ff7b72;
  --c0: #6ea8fe; --c1: #f0924a; --c2: #4cc76a; --c3: #c58af0; --c4: #f07ab0; --c5: #a3adb8; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1360px; margin: 2em auto; padding: 0 1em; }
h1 { margin-bottom: 0; } h2 { margin-top: 2em; } small { opacity: .7; font-weight: normal; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); gap: 1em; }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
svg text { font-size: 12px; fill: var(--ink); } .y { text-anchor: end; } .x { text-anchor: middle; }
.grid { stroke: var(--grid); } .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.legend { margin: 0; font-size: 13px; } .legend span { margin-right: 1em; } .legend span::before { content: '■ '; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); } .c3 { stroke: var(--c3); } .c4 { stroke: var(--c4); } .c5 { stroke: var(--c5); }
span.c0 { color: var(--c0); } span.c1 { color: var(--c1); } span.c2 { color: var(--c2); } span.c3 { color: var(--c3); } span.c4 { color: var(--c4); } span.c5 { color: var(--c5); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2em .8em; text-align: right; border-bottom: 1px solid var(--grid); } th:first-child, td:first-child { text-align: left; }
.held { color: var(--good); } .missed { color: var(--bad); font-weight: 600; }
";

/// The whole page.
pub fn page(report: &Report) -> String {
    let about = &report.about;
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <title>{name}: load test</title>\n<style>{STYLE}</style></head>\n<body>\n<h1>{name}</h1>\n<p>{text}</p>\n",
        name = escape(&about.scenario),
        text = escape(&about.about),
    );
    let (class, verdict) =
        if report.held { ("held", "All objectives hold.") } else { ("missed", "An objective is missed.") };
    let _ = writeln!(
        out,
        "<p class=\"{class}\">{verdict}</p>\n<p>{} over {}, begun at {} (seconds since 1970), {:.1} s of {:.1} s judged; seed {}, digest {}; \
         {} thread(s), at most {} connections, {}.</p>",
        escape(&about.target),
        about.protocol,
        about.started_unix,
        about.judged_seconds,
        about.seconds,
        about.seed,
        about.digest,
        about.threads,
        about.connections,
        about.driver
    );
    objectives(&mut out, report);
    out.push_str("<h2>Plots</h2>\n<div class=\"plots\">\n");
    plots(&mut out, report);
    out.push_str("</div>\n");
    times(&mut out, report);
    counts(&mut out, report);
    out.push_str("</body></html>\n");
    out
}

fn objectives(out: &mut String, report: &Report) {
    out.push_str("<h2>Objectives</h2>\n");
    let rows = report.objectives.iter().map(|objective| {
        let (class, word) = if objective.held { ("held", "holds") } else { ("missed", "missed") };
        format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{word}</td></tr>",
            escape(&objective.name),
            objective.bound,
            number(objective.limit),
            number(objective.measured)
        )
    });
    table(out, &["objective", "", "limit", "measured", ""], rows);
}

fn plots(out: &mut String, report: &Report) {
    let over_time = |name: &str, value: fn(&SecondReport) -> f64| Line {
        name: name.to_owned(),
        points: report.seconds.iter().map(|second| (second.second as f64, value(second))).collect(),
    };
    let rates = [
        over_time("sent", |second| second.sent as f64),
        over_time("right answers", |second| second.ok as f64),
        over_time("shed", |second| second.shed as f64),
        over_time("errors", |second| second.errors as f64),
        over_time("open", |second| second.open as f64),
    ];
    out.push_str(&plot("Requests", "a second, by when they ended", Across::Seconds, false, &rates));
    let answered =
        |line: Line| Line { points: line.points.into_iter().filter(|(_, y)| *y > 0.0).collect(), ..line };
    let latency = [
        answered(over_time("p50", |second| second.p50)),
        answered(over_time("p99", |second| second.p99)),
        answered(over_time("longest", |second| second.max)),
    ];
    out.push_str(&plot("Latency", "ms from when it was due", Across::Seconds, true, &latency));
    let first = [
        answered(over_time("p50", |second| second.first_p50)),
        answered(over_time("p99", |second| second.first_p99)),
    ];
    out.push_str(&plot("First event", "ms from when it was due", Across::Seconds, true, &first));
    let events = [answered(over_time("events", |second| second.events as f64))];
    out.push_str(&plot("Events", "a second", Across::Seconds, false, &events));
    let curve = |name: &str, points: &[Point]| Line {
        name: name.to_owned(),
        points: points.iter().map(|point| (point.share, point.ms)).collect(),
    };
    let curves: Vec<Line> = report.work.iter().map(|work| curve(&work.name, &work.latency_curve)).collect();
    out.push_str(&plot("Latency by percentile", "ms", Across::Shares, true, &curves));
    let curves: Vec<Line> =
        report.work.iter().map(|work| curve(&work.name, &work.first_event_curve)).collect();
    let curves: Vec<Line> = curves.into_iter().filter(|line| !line.points.is_empty()).collect();
    out.push_str(&plot("First event by percentile", "ms", Across::Shares, true, &curves));
}

fn times(out: &mut String, report: &Report) {
    out.push_str("<h2>Times, in milliseconds</h2>\n");
    let mut rows = Vec::new();
    for work in &report.work {
        rows.push(row(&work.name, &work.latency));
        let more = [("first event", &work.first_event), ("gap", &work.gap)];
        rows.extend(more.into_iter().filter_map(|(what, spread)| {
            spread.as_ref().map(|spread| row(&format!("{}: {what}", work.name), spread))
        }));
    }
    rows.extend(
        report.statuses.iter().map(|status| row(&format!("status {}", status.status), &status.latency)),
    );
    rows.push(row("connecting", &report.connects));
    rows.push(row("sent late by", &report.lag));
    table(out, &["", "count", "mean", "p50", "p90", "p99", "p99.9", "max"], rows.into_iter());
}

fn row(name: &str, spread: &Spread) -> String {
    let mut row = format!("<tr><td>{}</td><td>{}</td>", escape(name), spread.count);
    for value in [spread.mean, spread.p50, spread.p90, spread.p99, spread.p999, spread.max] {
        let _ = write!(row, "<td>{value:.3}</td>");
    }
    row + "</tr>"
}

fn counts(out: &mut String, report: &Report) {
    out.push_str("<h2>Outcomes</h2>\n");
    let outcomes = report.work.iter().flat_map(|work| {
        work.outcomes.iter().map(|(outcome, count)| {
            format!("<tr><td>{}</td><td>{}</td><td>{count}</td></tr>", escape(&work.name), outcome.name())
        })
    });
    table(out, &["work", "outcome", "requests"], outcomes);
    let _ = writeln!(
        out,
        "<p>{:.1} right answers and {:.1} events a second; {:.1} MB came; {} requests were sent again over a new connection; \
         the load test used {:.2} s of CPU.</p>",
        report.ok_per_second,
        report.events_per_second,
        report.bytes_in as f64 / 1e6,
        report.resent,
        report.cpu_seconds
    );
    if !report.examples.is_empty() {
        out.push_str("<h2>What went wrong, for example</h2>\n");
        let rows = report.examples.iter().map(|example| {
            format!(
                "<tr><td>{}</td><td>q{:x}</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
                example.outcome.name(),
                example.index,
                escape(&example.work),
                example.due_ms,
                example.status,
                escape(&example.answer.escape_debug().to_string())
            )
        });
        table(out, &["outcome", "request", "work", "due at ms", "status", "answer"], rows);
    }
    if let Some(fairness) = report.fairness {
        let _ = writeln!(out, "<h2>Keys</h2>\n<p>Jain's index {fairness:.3}</p>");
        let rows = report.keys.iter().map(|key| {
            format!("<tr><td>{}</td><td>{}</td><td>{}</td></tr>", escape(&key.name), key.offered, key.served)
        });
        table(out, &["key", "offered", "served"], rows);
    }
}

fn table(out: &mut String, heads: &[&str], rows: impl Iterator<Item = String>) {
    out.push_str("<div class=\"scroll\"><table>\n<tr>");
    heads.iter().for_each(|head| {
        let _ = write!(out, "<th>{head}</th>");
    });
    out.push_str("</tr>\n");
    rows.for_each(|row| {
        out.push_str(&row);
        out.push('\n');
    });
    out.push_str("</table></div>\n");
}
