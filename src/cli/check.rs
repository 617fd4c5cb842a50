//! `corelane check`: every problem of a configuration, at once.

use std::path::Path;
use std::process::ExitCode;

use super::{BAD_USAGE, complain, say};
use crate::boot;
use crate::config;

/// Exit code 0 or 2.
#[must_use]
pub fn run(file: &Path) -> ExitCode {
    match config::load(file) {
        Ok(config) => {
            if let Err(unfit) = boot::make(&config) {
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
