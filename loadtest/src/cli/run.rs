//! `corelane-load run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use rustls::pki_types::ServerName;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::{Changes, FAILED, MISSED, USAGE, failed, prepare, say, write};
use crate::drive::{self, Options};
use crate::net::dial::Dial;
use crate::net::runtime::raise_open_files;
use crate::net::secure::{self, Trust};
use crate::plan::summary::Summary;
use crate::plan::{Plan, Target};
use crate::progress::Progress;
use crate::report::Report;

/// Descriptors that are needed beside connections.
const FILES_BESIDE: u64 = 64;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// A file, or a name of `list`
    scenario: String,
    /// Where to: `http://HOST:PORT` or `https://…`, perhaps with a path before `/v1`
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    target: String,
    #[command(flatten)]
    changes: Changes,
    /// Threads, each with its own ring and its part of the load
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Speak HTTP/2: by agreement over TLS, in the clear as if the server were known to
    #[arg(long)]
    h2: bool,
    /// Requests at once on a connection of HTTP/2; `connections` then counts requests
    #[arg(long, value_name = "N", default_value_t = 32, requires = "h2")]
    streams: usize,
    /// Authorities for https, a PEM file; otherwise the system's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Trust any certificate
    #[arg(long)]
    insecure: bool,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// No line a second
    #[arg(long, short)]
    quiet: bool,
}

/// Runs it.
pub(super) fn run(args: &RunArgs) -> ExitCode {
    let (name, plan, options) = match ready(args) {
        Ok(ready) => ready,
        Err(error) => return failed(USAGE, &error),
    };
    match send(args, &name, &plan, &options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(MISSED),
        Err(error) => failed(FAILED, &error),
    }
}

fn ready(args: &RunArgs) -> Result<(String, Arc<Plan>, Options), String> {
    let (name, scenario) = prepare(&args.scenario, &args.changes)?;
    let target = Target::parse(&args.target)?;
    let tls = if target.tls {
        let trust = match &args.ca {
            _ if args.insecure => Trust::Anybody,
            Some(path) => Trust::File(path),
            None => Trust::System,
        };
        let server =
            ServerName::try_from(target.host.clone()).map_err(|error| format!("{}: {error}", target.host))?;
        Some((secure::config(trust, args.h2)?, server))
    } else {
        None
    };
    let files = raise_open_files();
    if scenario.load.connections as u64 + FILES_BESIDE > files {
        let needed = scenario.load.connections;
        return Err(format!(
            "{needed} connections, but only {files} open files are allowed: see `ulimit -n`"
        ));
    }
    if !(1..=256).contains(&args.threads) {
        return Err("--threads: from 1 to 256".to_owned());
    }
    if !(1..=1000).contains(&args.streams) {
        return Err("--streams: from 1 to 1000".to_owned());
    }
    let dial = Dial { addr: target.resolve()?, tls };
    Ok((
        name,
        Arc::new(Plan::new(scenario, target)),
        Options { dial, threads: args.threads, h2: args.h2.then_some(args.streams), stop: stop()? },
    ))
}

/// Set by the first interrupt (Ctrl-C) or TERM; the second one ends the process.
fn stop() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let registered = flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)));
        registered.map_err(|error| format!("signals: {error}"))?;
    }
    Ok(stop)
}

/// Sends the load and tells of it; whether all objectives hold.
fn send(args: &RunArgs, name: &str, plan: &Arc<Plan>, options: &Options) -> Result<bool, String> {
    let summary = Summary::new(plan);
    let progress = Progress::new(plan.scenario.time(), args.quiet);
    let run = drive::run(plan, options, |second| progress.show(second))?;
    progress.end();
    let protocol = if options.h2.is_some() { "h2" } else { "http/1.1" };
    let report = Report::new(name, plan, &summary, &run, protocol, options.threads);
    say(&report.table());
    if let Some(path) = &args.json {
        write(path, &report.json()?)?;
    }
    if let Some(path) = &args.html {
        write(path, &report.html())?;
    }
    Ok(report.held)
}
