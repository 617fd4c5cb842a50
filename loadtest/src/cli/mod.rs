//! The command line: `run`, `plan`, `list`.
//!
//! Exit codes: 0 all objectives hold, 1 it could not be run, 2 bad usage or scenario, 3 an objective is missed.

mod built_in;
mod run;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::plan::summary::Summary;
use crate::plan::{Plan, Target};
use crate::scenario::{self, Check, Key, Mode, Scenario};

/// It could not be run.
pub const FAILED: u8 = 1;
/// Bad usage or scenario.
pub const USAGE: u8 = 2;
/// An objective is missed.
pub const MISSED: u8 = 3;

#[derive(Debug, Parser)]
#[command(
    name = "corelane-load",
    version,
    about = "Load for gateways in front of language models, judged by objectives.",
    after_help = "Exit codes: 0 all objectives hold, 1 it could not be run, 2 bad usage or scenario, 3 an objective is missed.\n\
                  A SCENARIO is a file or one of `corelane-load list`; docs/loadtest.md describes them."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send a scenario's load to a target and judge what comes back
    Run(Box<run::RunArgs>),
    /// Print what a scenario would send, and the digest by which equal plans are known
    Plan {
        /// A file, or a name of `list`
        scenario: String,
        #[command(flatten)]
        changes: Changes,
    },
    /// Print the scenarios that are built in
    List,
}

/// What the command line changes of a scenario.
#[derive(Debug, Clone, Default, Args)]
struct Changes {
    /// Make it last so many seconds; phases keep their proportions
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// Make its highest rate so many requests a second; the others follow (open loop)
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Connections: at most (open loop), or exactly (closed loop)
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// Another seed: other arrivals and prompts of the same kind
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Ask for this model everywhere
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Ask with this key instead of the scenario's; may be repeated
    #[arg(long = "key", value_name = "SECRET")]
    keys: Vec<String>,
    /// How answers are looked at, instead of the scenario's way
    #[arg(long, value_enum, value_name = "HOW")]
    check: Option<How>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum How {
    /// Against what `corelane sim` says, byte by byte
    Sim,
    /// Whole, and of the shape of its API
    Shape,
    /// Status and framing only
    None,
}

impl Changes {
    /// The scenario as it is to be run.
    fn apply(&self, mut scenario: Scenario) -> Result<Scenario, String> {
        if let Some(seconds) = self.seconds {
            let time =
                Duration::try_from_secs_f64(seconds).map_err(|_| "--seconds: above zero".to_owned())?;
            scenario.scale_time(time);
        }
        if let Some(rate) = self.rate {
            if scenario.load.mode == Mode::Closed {
                return Err("--rate: a closed loop has no rate; see --connections".to_owned());
            }
            scenario.scale_rate(rate);
        }
        scenario.load.connections = self.connections.unwrap_or(scenario.load.connections);
        scenario.seed = self.seed.unwrap_or(scenario.seed);
        for work in &mut scenario.work {
            if let Some(model) = &self.model {
                work.model.clone_from(model);
            }
            match self.check {
                Some(How::Sim) => work.check = Check::Sim,
                Some(How::Shape) => work.check = Check::Shape,
                Some(How::None) => work.check = Check::None,
                None => {}
            }
        }
        if !self.keys.is_empty() {
            let key = |(at, secret): (usize, &String)| Key {
                name: format!("key {}", at + 1),
                secret: secret.clone(),
                weight: 1.0,
            };
            scenario.keys = self.keys.iter().enumerate().map(key).collect();
            if scenario.keys.len() < 2 {
                scenario.sla.fairness_min = None;
            }
        }
        let problems = scenario::check(&scenario);
        if problems.is_empty() { Ok(scenario) } else { Err(problems.join("\n")) }
    }
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print(); // nobody may be reading
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match arguments.command {
        Command::Run(args) => run::run(&args),
        Command::Plan { scenario, changes } => match prepare(&scenario, &changes) {
            Ok((_, scenario)) => match Target::parse("http://localhost") {
                Ok(target) => {
                    let plan = Plan::new(scenario, target);
                    say(&Summary::new(&plan).print(&plan));
                    ExitCode::SUCCESS
                }
                Err(error) => failed(USAGE, &error),
            },
            Err(error) => failed(USAGE, &error),
        },
        Command::List => {
            for (name, text) in built_in::SCENARIOS {
                let about = Scenario::parse(text).map_or_else(|error| error, |scenario| scenario.about);
                say(&format!("{name:14} {about}\n"));
            }
            ExitCode::SUCCESS
        }
    }
}

/// The name and the scenario that an argument means.
fn prepare(argument: &str, changes: &Changes) -> Result<(String, Scenario), String> {
    let path = Path::new(argument);
    let found = built_in::SCENARIOS.iter().find(|(name, _)| *name == argument);
    let (name, scenario) = match found {
        Some((name, text)) if !path.is_file() => ((*name).to_owned(), Scenario::parse(text)?),
        None if !path.is_file() => {
            return Err(format!("{argument}: neither a file nor one of `corelane-load list`"));
        }
        _ => {
            let name =
                path.file_stem().map_or(argument.to_owned(), |stem| stem.to_string_lossy().into_owned());
            (name, Scenario::load(path)?)
        }
    };
    Ok((name, changes.apply(scenario)?))
}

fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes()); // nobody may be reading
}

fn failed(code: u8, text: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "corelane-load: {text}");
    ExitCode::from(code)
}

/// Writes a file.
fn write(path: &PathBuf, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
