//! `corelane config`: the configuration as it takes effect, secrets masked; or what may stand in one.

use std::path::Path;
use std::process::ExitCode;

use super::{BAD_USAGE, complain, say, serve};
use crate::config;

/// Every key, as docs/configuration.md has it; a test of `config` makes both of these files.
pub const REFERENCE: &str = include_str!("../../docs/configuration.md");
/// The same as a JSON Schema.
pub const SCHEMA: &str = include_str!("../../config/corelane.schema.json");

/// Prints one of them.
#[must_use]
pub fn print(text: &str) -> ExitCode {
    say(text.trim_end());
    ExitCode::SUCCESS
}

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
