//! `corelane config`: the configuration as it takes effect, secrets masked.

use std::path::Path;
use std::process::ExitCode;

use super::{BAD_USAGE, complain, say, serve};
use crate::config;

/// Exit code 0 or 2.
#[must_use]
pub fn run(path: Option<&Path>) -> ExitCode {
    match serve::find(path) {
        Ok(config) => {
            say(config::effective(&config).trim_end());
            ExitCode::SUCCESS
        }
        Err(problems) => {
            complain(&problems.to_string());
            ExitCode::from(BAD_USAGE)
        }
    }
}
