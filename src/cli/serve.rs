//! `corelane serve`: finds the configuration, or the model servers of this machine, and runs the gateway.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::nearby::{self, Found, Place, VLLM_PORT};
use super::{BAD_USAGE, FAILED, banner, complain};
use crate::boot::{Gateway, Inheritance, Start};
use crate::config::{self, Config, Kind, Problems};
use crate::net::signal;

/// Where a configuration is looked for when none is named.
const PLACES: [&str; 2] = ["corelane.toml", "/etc/corelane/corelane.toml"];
/// The port of the gateway where a model server has its usual one.
const OTHER_PORT: u16 = 4000;
/// How often the servers of this machine are probed: whoever starts one should not wait for it.
const INTERVAL: Duration = Duration::from_secs(5);

/// Runs until a signal ends it.
#[must_use]
pub fn run(path: Option<&Path>, take_over: Option<&Path>) -> ExitCode {
    let file = place(path);
    let config = match find(file) {
        Ok(config) => config,
        Err(problems) => {
            complain(&problems.to_string());
            return ExitCode::from(BAD_USAGE);
        }
    };
    let started = Inheritance::find(take_over, &config.server).and_then(|inheritance| {
        let config = if file.is_some() { config } else { local()? };
        Gateway::start(Start { config, file: file.map(Path::to_owned), inheritance })
    });
    match started {
        Ok(gateway) => {
            banner::show(&gateway);
            if gateway.wait() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(error) => {
            complain(&error.to_string());
            let unfit = error.kind() == io::ErrorKind::InvalidInput;
            ExitCode::from(if unfit { BAD_USAGE } else { FAILED })
        }
    }
}

/// The configuration named, the first one found, or the built-in default.
///
/// # Errors
/// The file's problems, all at once.
pub fn find(path: Option<&Path>) -> Result<Config, Problems> {
    match place(path) {
        Some(path) => config::load(path),
        None => Ok(config::builtin()),
    }
}

/// The built-in default with the model servers that answer on this machine; says which they are. With none it waits for
/// an Ollama, and says what to do.
fn local() -> io::Result<Config> {
    signal::block(); // a thread may look a name up
    let places = nearby::places(std::env::var("OLLAMA_HOST").ok().as_deref());
    let found = nearby::search(&places)?;
    for server in &found {
        complain(&told(server));
    }
    let mut endpoints: Vec<_> = found
        .iter()
        .map(|server| config::bare_endpoint(&server.name, server.kind, server.url.clone()))
        .collect();
    if let Some(first) = places.first().filter(|_| found.is_empty()) {
        complain(&nobody(&places));
        endpoints.push(config::bare_endpoint("ollama", first.kind, first.url.clone()));
    }
    let mut config = config::builtin_with(endpoints);
    config.health.interval = INTERVAL;
    let taken = found.iter().any(|server| server.url.host == "127.0.0.1" && server.url.port == VLLM_PORT);
    if let Some(address) = config.server.listen.first_mut().filter(|_| taken) {
        complain(&format!("{address} is a model server's: the gateway listens on port {OTHER_PORT}"));
        address.set_port(OTHER_PORT);
    }
    Ok(config)
}

/// A line about a server that was found.
fn told(server: &Found) -> String {
    let Found { name, kind, url, models } = server;
    match (models.len(), kind) {
        (0, Kind::Ollama) => {
            format!("found {name} at {url}, without models: `ollama pull llama3.2` gets one")
        }
        (0, Kind::Openai) => format!("found {name} at {url}, without models"),
        (count, _) => {
            let plural = if count == 1 { "" } else { "s" };
            format!("found {name} at {url} with {count} model{plural}: {}", banner::few(models))
        }
    }
}

fn nobody(places: &[Place]) -> String {
    let asked: Vec<_> = places.iter().map(|place| format!("{} at {}", place.who, place.url)).collect();
    format!(
        "there is no configuration, and no model server answers on this machine. Asked: {}. Next, one of:\n  \
         ollama serve                 # then `ollama pull llama3.2`; found within 5 s: this gateway waits for it\n  \
         corelane demo                # end this one, and look around without a model server\n  \
         printf '[[endpoints]]\\nname = \"gpu-1\"\\nurl = \"http://192.168.1.2:11434\"\\n' > corelane.toml && corelane serve\n  \
         corelane import --litellm litellm_config.yaml --nginx nginx.conf --output corelane.toml && corelane serve",
        asked.join(", ")
    )
}

/// The file named, or the first of the usual places where there is one.
#[must_use]
pub fn place(path: Option<&Path>) -> Option<&Path> {
    path.or_else(|| PLACES.iter().map(Path::new).find(|place| place.exists()))
}
