//! One picture of `corelane top`: the document of `/ui/live` as lines of a terminal.
//!
//! Pure. Every text is written without control characters, so nothing that a client named can move the cursor, and cut to
//! its column. Colour only underlines what a word says.

use serde_json::Value;

/// How a piece of a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Plain,
    Strong,
    Quiet,
    Good,
    Warn,
    Bad,
}

/// One line, in pieces.
#[derive(Debug, Default)]
pub struct Line(Vec<(Look, String)>);

impl Line {
    /// A sentence that something is wrong.
    #[must_use]
    pub fn warning(text: &str, columns: usize) -> Self {
        Self(vec![(Look::Bad, cut(text, columns))])
    }

    fn of(look: Look, text: impl Into<String>) -> Self {
        Self(vec![(look, text.into())])
    }

    fn add(mut self, look: Look, text: impl Into<String>) -> Self {
        self.0.push((look, text.into()));
        self
    }

    /// Without escape codes.
    #[must_use]
    pub fn plain(&self) -> String {
        let text: String = self.0.iter().map(|(_, text)| text.as_str()).collect();
        text.trim_end().to_owned()
    }

    /// With colours.
    #[must_use]
    pub fn coloured(&self) -> String {
        let piece = |(look, text): &(Look, String)| match look {
            Look::Plain => text.clone(),
            Look::Strong => format!("\x1b[1m{text}\x1b[0m"),
            Look::Quiet => format!("\x1b[2m{text}\x1b[0m"),
            Look::Good => format!("\x1b[32m{text}\x1b[0m"),
            Look::Warn => format!("\x1b[33m{text}\x1b[0m"),
            Look::Bad => format!("\x1b[1;31m{text}\x1b[0m"),
        };
        self.0.iter().map(piece).collect()
    }
}

/// A column: its name, its width (0: what is left), and whether it holds numbers.
type Column = (&'static str, usize, bool);
type Cells = Vec<(Look, String)>;

/// The whole picture.
#[must_use]
pub fn lines(live: &Value, columns: usize) -> Vec<Line> {
    let columns = columns.max(60);
    let mut lines = head(live);
    lines.push(Line::default());
    let window = format!("OVER {}", span(number(&live["window_s"])).to_uppercase());
    lines.extend(times(live, window, columns));
    let groups =
        [shards(live, columns), endpoints(live, columns), models(live, columns), findings(live, columns)];
    let more = [keys(live, columns), failures(live, columns)];
    for group in groups.into_iter().chain(more).filter(|group| group.len() > 1) {
        lines.push(Line::default());
        lines.extend(group);
    }
    for line in &mut lines {
        trim(line, columns);
    }
    lines
}

fn head(live: &Value) -> Vec<Line> {
    let draining = live["draining"] == true;
    let state = if draining { (Look::Warn, "draining") } else { (Look::Good, "live") };
    let errors = number(&live["errors_s"]);
    vec![
        Line::of(Look::Strong, format!("corelane {}", word(&live["version"])))
            .add(Look::Plain, "   ")
            .add(state.0, state.1)
            .add(Look::Plain, format!("   up {}", span(number(&live["uptime_s"]))))
            .add(Look::Plain, format!("   configuration {}", whole(&live["generation"]))),
        Line::of(Look::Strong, format!("{} requests/s", rate(number(&live["requests_s"]))))
            .add(Look::Plain, "   ")
            .add(if errors > 0.0 { Look::Bad } else { Look::Plain }, format!("{} errors/s", rate(errors)))
            .add(
                Look::Plain,
                format!(
                    "   {} in flight   {} in line   {} connections",
                    whole(&live["exchanges"]),
                    whole(&live["waiting"]),
                    whole(&live["connections"])
                ),
            ),
    ]
}

fn times(live: &Value, window: String, columns: usize) -> Vec<Line> {
    let names = [("Latency", "latency_ms"), ("First token", "first_token_ms"), ("Own share", "overhead_ms")];
    let rows = names.map(|(name, field)| {
        let of = &live[field];
        let cell = |share: &str| (Look::Plain, of[share].as_f64().map_or_else(dash, millis));
        vec![plain(name), cell("p50"), cell("p95"), cell("p99"), plain(whole(&of["count"]))]
    });
    let shape: [Column; 5] =
        [("", 0, false), ("P50", 10, true), ("P95", 10, true), ("P99", 10, true), ("RECORDS", 10, true)];
    let mut lines = table(&shape, rows.into(), columns.min(60));
    if let Some(Line(pieces)) = lines.first_mut()
        && let Some((_, first)) = pieces.first_mut()
    {
        let width = first.chars().count();
        *first = format!("{window:<width$}");
    }
    lines
}

fn shards(live: &Value, columns: usize) -> Vec<Line> {
    let rows = list(&live["shards"]).iter().map(|one| {
        vec![
            plain(format!("{} ({})", whole(&one["shard"]), word(&one["driver"]))),
            plain(whole(&one["exchanges"])),
            plain(whole(&one["streams"])),
            plain(whole(&one["connections"])),
        ]
    });
    let shape: [Column; 4] =
        [("SHARD", 0, false), ("EXCHANGES", 11, true), ("STREAMS", 9, true), ("CONNECTIONS", 13, true)];
    table(&shape, rows.collect(), columns.min(60))
}

fn endpoints(live: &Value, columns: usize) -> Vec<Line> {
    let rows = list(&live["endpoints"]).iter().map(|one| {
        let health = match &*word(&one["health"]) {
            "healthy" => Look::Good,
            "unhealthy" => Look::Bad,
            _ => Look::Quiet,
        };
        let breaker = match &*word(&one["breaker"]["state"]) {
            "closed" => Look::Good,
            "open" => Look::Bad,
            _ => Look::Warn,
        };
        let slots = number(&one["slots"]);
        let more = if slots > 0.0 { format!(" of {slots}") } else { String::new() };
        let failed = number(&one["failure_s"]);
        vec![
            plain(word(&one["name"])),
            (health, word(&one["health"])),
            (breaker, word(&one["breaker"]["state"]).replace('_', "-")),
            if one["disabled"] == true { (Look::Warn, "disabled".to_owned()) } else { plain("yes") },
            plain(format!("{}{more}", whole(&one["in_flight"]))),
            plain(rate(number(&one["success_s"]))),
            (if failed > 0.0 { Look::Bad } else { Look::Plain }, rate(failed)),
        ]
    });
    let shape: [Column; 7] = [
        ("ENDPOINT", 0, false),
        ("HEALTH", 10, false),
        ("BREAKER", 10, false),
        ("TAKES", 9, false),
        ("IN FLIGHT", 11, true),
        ("GOOD/S", 9, true),
        ("FAILED/S", 9, true),
    ];
    table(&shape, rows.collect(), columns)
}

fn models(live: &Value, columns: usize) -> Vec<Line> {
    let rows = list(&live["models"]).iter().map(|one| {
        let errors = number(&one["error_share"]);
        vec![
            plain(word(&one["name"])),
            plain(rate(number(&one["requests_s"]))),
            (if errors > 0.0 { Look::Bad } else { Look::Plain }, format!("{:.1}%", errors * 100.0)),
            plain(whole(&one["tokens_input"])),
            plain(whole(&one["tokens_output"])),
            plain(money(&one["cost"])),
        ]
    });
    let shape: [Column; 6] = [
        ("MODEL", 0, false),
        ("REQ/S", 9, true),
        ("ERRORS", 9, true),
        ("TOKENS IN", 11, true),
        ("TOKENS OUT", 11, true),
        ("COST", 10, true),
    ];
    table(&shape, rows.collect(), columns)
}

fn findings(live: &Value, columns: usize) -> Vec<Line> {
    let rows = list(&live["guard"]).iter().map(|one| {
        let counts = ["pass", "monitor", "redact", "block", "error"].map(|verdict| {
            let bad = matches!(verdict, "block" | "error") && number(&one[verdict]) > 0.0;
            (if bad { Look::Bad } else { Look::Plain }, whole(&one[verdict]))
        });
        let name = plain(format!("{} ({})", word(&one["scanner"]), word(&one["direction"])));
        std::iter::once(name).chain(counts).collect()
    });
    let shape: [Column; 6] = [
        ("GUARD", 0, false),
        ("PASS", 9, true),
        ("MONITOR", 9, true),
        ("REDACT", 9, true),
        ("BLOCK", 9, true),
        ("ERROR", 9, true),
    ];
    table(&shape, rows.collect(), columns)
}

fn keys(live: &Value, columns: usize) -> Vec<Line> {
    let rows = list(&live["keys"]).iter().map(|one| {
        let budget = number(&one["budget"]) > 0.0;
        let spent = budget && number(&one["budget_left"]) <= 0.0;
        vec![
            plain(word(&one["name"])),
            plain(whole(&one["requests"])),
            plain(whole(&one["tokens_input"])),
            plain(whole(&one["tokens_output"])),
            plain(money(&one["cost"])),
            (
                if spent { Look::Bad } else { Look::Plain },
                if budget { money(&one["budget_left"]) } else { dash() },
            ),
        ]
    });
    let shape: [Column; 6] = [
        ("KEY", 0, false),
        ("REQUESTS", 10, true),
        ("TOKENS IN", 11, true),
        ("TOKENS OUT", 11, true),
        ("SPENT", 10, true),
        ("LEFT", 10, true),
    ];
    table(&shape, rows.collect(), columns)
}

fn failures(live: &Value, columns: usize) -> Vec<Line> {
    let rows = list(&live["failures"]).iter().take(20).map(|one| {
        let bad = number(&one["status"]) >= 500.0;
        let place = one["endpoint"].as_str().or(one["model"].as_str()).unwrap_or("-");
        vec![
            plain(time_of_day(one["time_ms"].as_u64().unwrap_or(0))),
            (if bad { Look::Bad } else { Look::Plain }, whole(&one["status"])),
            plain(clean(place)),
            plain(word(&one["request_id"])),
            plain(word(&one["error"])),
        ]
    });
    let id = list(&live["failures"]).iter().take(20).map(|one| word(&one["request_id"]).chars().count());
    let id = id.max().unwrap_or(0).clamp(10, 36) + 1;
    let shape: [Column; 5] = [
        ("FAILED (UTC)", 13, false),
        ("", 4, false),
        ("AT", 12, false),
        ("REQUEST", id, false),
        ("WHY", 0, false),
    ];
    table(&shape, rows.collect(), columns)
}

/// A head and the rows, in columns.
fn table(shape: &[Column], rows: Vec<Cells>, columns: usize) -> Vec<Line> {
    let fixed: usize = shape.iter().map(|(_, width, _)| width).sum();
    let left = columns.saturating_sub(fixed).max(8);
    let place = |at: usize, text: &str| {
        let (_, width, numbers) = shape.get(at).copied().unwrap_or(("", 0, false));
        let width = if width == 0 { left } else { width };
        let text = cut(text, width.saturating_sub(1));
        if numbers { format!("{text:>width$}") } else { format!("{text:<width$}") }
    };
    let head = shape.iter().enumerate().map(|(at, (name, ..))| (Look::Quiet, place(at, name)));
    let head = Line(head.collect());
    let row = |cells: Cells| {
        let cells = cells.into_iter().enumerate();
        Line(cells.map(|(at, (look, text))| (look, place(at, &text))).collect())
    };
    std::iter::once(head).chain(rows.into_iter().map(row)).collect()
}

/// Cuts a line to the terminal.
fn trim(line: &mut Line, columns: usize) {
    let mut left = columns;
    for (_, text) in &mut line.0 {
        *text = text.chars().take(left).collect();
        left = left.saturating_sub(text.chars().count());
    }
}

fn cut(text: &str, width: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['\u{2026}']).collect()
}

/// Without what a terminal obeys.
fn clean(text: &str) -> String {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if obeyed(c) { '?' } else { c }).collect()
}

fn plain(text: impl Into<String>) -> (Look, String) {
    (Look::Plain, text.into())
}

fn dash() -> String {
    "-".to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(dash, clean)
}

fn whole(value: &Value) -> String {
    value.as_u64().map_or_else(dash, |count| count.to_string())
}

fn rate(per_second: f64) -> String {
    if per_second >= 100.0 { format!("{per_second:.0}") } else { format!("{per_second:.1}") }
}

fn money(value: &Value) -> String {
    match value.as_f64() {
        None => dash(),
        Some(dollars) if dollars < 1.0 => format!("${dollars:.4}"),
        Some(dollars) => format!("${dollars:.2}"),
    }
}

fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{:.0} us", ms * 1000.0),
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1000.0),
    }
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s < 119.5 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", (s / 60.0).floor()),
        s if s < 172_800.0 => format!("{:.0} h", (s / 3600.0).floor()),
        s => format!("{:.0} d", (s / 86_400.0).floor()),
    }
}

fn time_of_day(unix_ms: u64) -> String {
    let s = unix_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests;
