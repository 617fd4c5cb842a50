//! `corelane check`: every problem of a configuration at once, and what it says that cannot work.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::{BAD_USAGE, complain, say};
use crate::boot;
use crate::config;

/// Exit code 0 or 2; warnings do not change it.
#[must_use]
pub fn run(file: &Path) -> ExitCode {
    match config::load_with_warnings(file) {
        Ok((config, warnings)) => {
            for warning in &warnings {
                let _ = writeln!(std::io::stderr(), "warning: {warning}");
            }
            if let Err(unfit) = boot::make(&config, None) {
                complain(&unfit.to_string());
                return ExitCode::from(BAD_USAGE);
            }
            say(&format!("{}: ok", file.display()));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            complain(&problems.to_string());
            ExitCode::from(BAD_USAGE)
        }
    }
}
