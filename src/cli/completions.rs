//! `corelane completions SHELL`: what a shell completes this command line by, made of the command line itself.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::page;

/// Which shell.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell that is to complete.
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the script to standard output.
#[must_use]
pub fn run(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Args::command(), "corelane", &mut script);
    page(&script)
}
