//! The command line: one file a command.

pub mod banner;
pub mod check;
pub mod completions;
pub mod demo;
pub mod effective;
pub mod guard;
pub mod import;
pub mod man;
pub mod nearby;
pub mod serve;
pub mod sim;
pub mod talk;
pub mod top;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// One binary in front of your model servers.
#[derive(Debug, Parser)]
#[command(name = "corelane", version, about)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway.
    Serve {
        /// Configuration; without it ./corelane.toml, /etc/corelane/corelane.toml, or the model servers of this machine.
        #[arg(short, long)]
        config: Option<PathBuf>,
        /// Take the place of the gateway whose `server.handover_socket` this is, without losing a connection.
        #[arg(long, value_name = "SOCKET")]
        take_over: Option<PathBuf>,
    },
    /// Run three simulated Ollama servers and the gateway in front of them, and say what to try.
    Demo,
    /// Check a configuration: all errors at once.
    Check(check::CheckArgs),
    /// Make a configuration of LiteLLM's and nginx's, and report what became of each line.
    Import(import::ImportArgs),
    /// Print the effective configuration.
    Config {
        /// The file to read; found as by `serve` if left out.
        #[arg(short, long)]
        config: Option<PathBuf>,
        /// Print the reference of all keys (Markdown) instead.
        #[arg(long, conflicts_with_all = ["config", "schema"])]
        reference: bool,
        /// Print a JSON Schema of the file, for editors, instead.
        #[arg(long, conflicts_with = "config")]
        schema: bool,
    },
    /// Read JSON lines with a `text` and write them with the guard's verdicts.
    Guard(guard::GuardArgs),
    /// Drain the running gateway: no new work, exchanges finish, exit.
    Drain(talk::Admin),
    /// Reload the configuration of the running gateway.
    Reload(talk::Admin),
    /// Show the state of the running gateway, or only whether it is well.
    Status(talk::StatusArgs),
    /// Watch the running gateway: rates, latencies, endpoints, models, failures.
    Top(top::TopArgs),
    /// Run a simulated Ollama server, for tests and load tests.
    Sim(sim::SimArgs),
    /// Write what completes this command line in a shell.
    #[command(hide = true)]
    Completions(completions::CompletionsArgs),
    /// Write the manual: the page of `corelane`, or all pages into a folder.
    #[command(hide = true)]
    Man(man::ManArgs),
}

/// Exit code for bad usage or configuration.
pub const BAD_USAGE: u8 = 2;
/// Exit code for a failure while running.
pub const FAILED: u8 = 1;

/// Runs what the arguments ask for.
#[must_use]
pub fn run() -> ExitCode {
    match Args::parse().command {
        Command::Serve { config, take_over } => serve::run(config.as_deref(), take_over.as_deref()),
        Command::Demo => demo::run(),
        Command::Check(args) => check::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Config { reference: true, .. } => effective::print(effective::REFERENCE),
        Command::Config { schema: true, .. } => effective::print(effective::SCHEMA),
        Command::Config { config, .. } => effective::run(config.as_deref()),
        Command::Guard(args) => guard::run(&args),
        Command::Drain(admin) => talk::run(&admin, "POST", "/drain"),
        Command::Reload(admin) => talk::run(&admin, "POST", "/reload"),
        Command::Status(args) => talk::status(&args),
        Command::Top(args) => top::run(&args),
        Command::Sim(args) => sim::run(args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// Writes a page to standard output; exit code 1 if it does not get there whole.
fn page(bytes: &[u8]) -> ExitCode {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("standard output: {error}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Writes a line to standard output; a closed pipe is not our failure.
pub fn say(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes a line to standard error.
pub fn complain(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "corelane: {text}");
}
