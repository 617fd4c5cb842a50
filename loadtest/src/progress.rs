//! The line that is shown while a run goes on, once a second; on a terminal it replaces the one before.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use crate::measure::Second;

/// Shows seconds on standard error.
pub struct Progress {
    quiet: bool,
    replaces: bool,
    total: Duration,
}

impl Progress {
    /// For a run of so long; `quiet`: shows nothing.
    #[must_use]
    pub fn new(total: Duration, quiet: bool) -> Self {
        Self { quiet, replaces: io::stderr().is_terminal(), total }
    }

    /// A second is over.
    pub fn show(&self, second: &Second) {
        if self.quiet {
            return;
        }
        let mut out = io::stderr().lock();
        let (begin, end) = if self.replaces { ("\r\x1b[K", "") } else { ("", "\n") };
        let _ = write!(out, "{begin}{}{end}", line(second, self.total)); // nobody may be looking
        let _ = out.flush();
    }

    /// The run is over.
    pub fn end(&self) {
        if !self.quiet && self.replaces {
            let _ = writeln!(io::stderr());
        }
    }
}

/// The text of a second.
#[must_use]
pub fn line(second: &Second, total: Duration) -> String {
    let events = if second.events > 0 { format!("  {} events/s", second.events) } else { String::new() };
    format!(
        "{:>4} s of {:.0}  sent {}/s  ok {}/s  shed {}  errors {}  open {}  p50 {:.2} ms  p99 {:.2} ms{events}",
        second.number + 1,
        total.as_secs_f64(),
        second.sent,
        second.ok,
        second.shed,
        second.errors,
        second.open,
        second.latency.quantile_ms(0.5),
        second.latency.quantile_ms(0.99),
    )
}
