//! `corelane check`: every problem of a configuration at once, and what it says that cannot work; with `--production`
//! also whether it is fit for production on this machine.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{BAD_USAGE, FAILED, complain, say};
use crate::boot::{self, facts};
use crate::config;
use crate::production::{self, Verdict};

/// Where alerts are looked for: those of this repository, and of a Prometheus as it is packaged.
const ALERTS: [&str; 3] =
    ["config/prometheus/alerts.yml", "/etc/prometheus/corelane.yml", "/etc/prometheus/alerts.yml"];

/// What is checked.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The file to check.
    file: PathBuf,
    /// Also check whether it is fit for production on this machine; exit code 1 if a line fails.
    #[arg(long)]
    production: bool,
    /// Prometheus rules on the gateway's metrics; looked for in the usual places if left out.
    #[arg(long, value_name = "FILE", requires = "production")]
    alerts: Option<PathBuf>,
}

/// Exit code 0 or 2, warnings do not change it; 1 if a line of `--production` fails.
#[must_use]
pub fn run(args: &CheckArgs) -> ExitCode {
    let file = &args.file;
    let (config, warnings) = match config::load_with_warnings(file) {
        Ok(loaded) => loaded,
        Err(problems) => {
            complain(&problems.to_string());
            return ExitCode::from(BAD_USAGE);
        }
    };
    for warning in &warnings {
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    let made = match boot::make(&config, None) {
        Ok(made) => made,
        Err(unfit) => {
            complain(&unfit.to_string());
            return ExitCode::from(BAD_USAGE);
        }
    };
    if !args.production {
        say(&format!("{}: ok", file.display()));
        return ExitCode::SUCCESS;
    }
    let lines = production::judge(&config, &facts::gather(&made, alert_places(args)));
    lines.iter().for_each(|line| say(&line.to_string()));
    say(&format!("{}: {}", file.display(), production::summary(&lines)));
    let failed = lines.iter().any(|line| line.verdict == Verdict::Fail);
    if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}

/// The file that is named alone, else one beside the configuration, and the usual places.
fn alert_places(args: &CheckArgs) -> Vec<PathBuf> {
    if let Some(named) = &args.alerts {
        return vec![named.clone()];
    }
    let beside = args.file.parent().unwrap_or(Path::new("")).join("prometheus/alerts.yml");
    std::iter::once(beside).chain(ALERTS.map(PathBuf::from)).collect()
}
