//! `corelane serve`: finds the configuration and runs the gateway.

use std::path::Path;
use std::process::ExitCode;

use super::{BAD_USAGE, FAILED, complain, say};
use crate::boot::{Gateway, Inheritance, Start};
use crate::config::{self, Config, Problems};

/// Where a configuration is looked for when none is named.
const PLACES: [&str; 2] = ["corelane.toml", "/etc/corelane/corelane.toml"];

/// Runs until a signal ends it.
#[must_use]
pub fn run(path: Option<&Path>, take_over: Option<&Path>) -> ExitCode {
    let file = path.or_else(|| PLACES.iter().map(Path::new).find(|place| place.exists()));
    let config = match find(file) {
        Ok(config) => config,
        Err(problems) => {
            complain(&problems.to_string());
            return ExitCode::from(BAD_USAGE);
        }
    };
    let started = Inheritance::find(take_over, &config.server).and_then(|inheritance| {
        Gateway::start(Start { config, file: file.map(Path::to_owned), inheritance })
    });
    match started {
        Ok(gateway) => {
            say(&gateway.ready_line());
            if gateway.wait() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(error) => {
            complain(&error.to_string());
            let unfit = error.kind() == std::io::ErrorKind::InvalidInput;
            ExitCode::from(if unfit { BAD_USAGE } else { FAILED })
        }
    }
}

/// The configuration named, the first one found, or the built-in default.
///
/// # Errors
/// The file's problems, all at once.
pub fn find(path: Option<&Path>) -> Result<Config, Problems> {
    match path.or_else(|| PLACES.iter().map(Path::new).find(|place| place.exists())) {
        Some(path) => config::load(path),
        None => Ok(config::builtin()),
    }
}
