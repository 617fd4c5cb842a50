//! `corelane status`, `drain`, `reload`: one request to the admin address of a running gateway.
//!
//! `status --healthy` is for health checks of containers and scripts: a line, and exit code 0 or 1. A gateway is well
//! when it answers and does not drain. That its endpoints are up is told but does not count: nobody is helped by a
//! gateway that is started anew because a model server is down.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::{BAD_USAGE, FAILED, complain, say, serve};
use crate::config::{self, Config, Secret, Server};

/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for a reload, which may build a guard; the gateway answers within 30 s whatever becomes of it.
const RELOAD: Duration = Duration::from_secs(35);

/// Which gateway.
#[derive(Debug, Args)]
pub struct Admin {
    /// Its admin address; else that of the configuration, named or found as by `serve`, else 127.0.0.1:8001.
    #[arg(long)]
    admin: Option<SocketAddr>,
    /// Its configuration: says the address and the token.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Which gateway, and how much of its state.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    admin: Admin,
    /// Say in a line whether it answers and takes work; exit code 0 if so, 1 if not. For health checks.
    #[arg(long)]
    healthy: bool,
}

/// A running gateway.
pub struct Gateway {
    /// Its admin address.
    pub address: SocketAddr,
    token: Option<Secret>,
}

impl Admin {
    /// The gateway that is meant.
    ///
    /// # Errors
    /// The exit code for a configuration that is none; what is wrong with it has been said.
    pub fn gateway(&self) -> Result<Gateway, ExitCode> {
        let server = match self.config.as_deref().map(config::load).transpose() {
            Ok(config) => config.or_else(|| self.found()).map(|config| config.server),
            Err(problems) => {
                complain(&problems.to_string());
                return Err(ExitCode::from(BAD_USAGE));
            }
        };
        let known = server.as_ref().map(|server| server.admin_listen);
        let mut address = self.admin.or(known).unwrap_or(Server::default().admin_listen);
        if address.ip().is_unspecified() {
            let here: IpAddr =
                if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            address.set_ip(here);
        }
        Ok(Gateway { address, token: server.and_then(|server| server.admin_token) })
    }

    /// The configuration that `serve` would find here, where nothing was named. One that does not load, or may not be
    /// read, says nothing: its secrets may be in an environment that this command does not have.
    fn found(&self) -> Option<Config> {
        let nothing_named = self.admin.is_none() && self.config.is_none();
        serve::place(None).filter(|_| nothing_named).and_then(|file| config::load(file).ok())
    }
}

/// Shows the state, or asks for its health.
#[must_use]
pub fn status(args: &StatusArgs) -> ExitCode {
    if args.healthy { healthy(&args.admin) } else { run(&args.admin, "GET", "/status") }
}

/// Exit code 0: it is well; 1: it is not, or nobody knows.
fn healthy(admin: &Admin) -> ExitCode {
    let gateway = match admin.gateway() {
        Ok(gateway) => gateway,
        Err(_) => return ExitCode::from(FAILED), // what is wrong with its configuration has been said
    };
    match ask(&gateway, "GET", "/status", Duration::from_secs(3)) {
        Ok((200, body)) => match health(&body) {
            (true, line) => {
                say(&line);
                ExitCode::SUCCESS
            }
            (false, line) => {
                complain(&line);
                ExitCode::from(FAILED)
            }
        },
        Ok((status, body)) => {
            complain(&format!("{} answers {status}: {}", gateway.address, body.trim_end()));
            ExitCode::from(FAILED)
        }
        Err(error) => {
            complain(&format!("no gateway answers on {}: {error}", gateway.address));
            ExitCode::from(FAILED)
        }
    }
}

/// Whether a gateway with this status is well, in a line.
fn health(status: &str) -> (bool, String) {
    let Ok(status) = serde_json::from_str::<Value>(status) else {
        return (false, "unhealthy: its status is no JSON".to_owned());
    };
    if status["draining"] != Value::Bool(false) {
        return (false, "unhealthy: it drains".to_owned());
    }
    let endpoints = status["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
    let up = endpoints.iter().filter(|one| one["health"] == "healthy" && one["disabled"] == false).count();
    (true, format!("healthy: {up} of {} endpoints are up", endpoints.len()))
}

/// Asks and prints the answer; exit code 1 if it is not a success, 2 for a configuration that is none.
#[must_use]
pub fn run(admin: &Admin, method: &str, path: &str) -> ExitCode {
    let gateway = match admin.gateway() {
        Ok(gateway) => gateway,
        Err(code) => return code,
    };
    let timeout = if path == "/reload" { RELOAD } else { PATIENCE };
    match ask(&gateway, method, path, timeout) {
        Ok((status, body)) => {
            say(body.trim_end());
            if (200..300).contains(&status) { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            complain(&format!("no answer from {} within {} s", gateway.address, timeout.as_secs()));
            ExitCode::from(FAILED)
        }
        Err(error) => {
            let hint = "`corelane serve` starts one; --admin ADDRESS or -c FILE says where it is";
            complain(&format!("no gateway answers on {}: {error} (hint: {hint})", gateway.address));
            ExitCode::from(FAILED)
        }
    }
}

/// One request without a body: the status and the body of its answer.
///
/// # Errors
/// No connection, or no answer within `timeout`.
pub fn ask(gateway: &Gateway, method: &str, path: &str, timeout: Duration) -> std::io::Result<(u16, String)> {
    let admin = gateway.address;
    let mut stream = TcpStream::connect_timeout(&admin, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    let token = gateway.token.as_ref().map(Secret::expose);
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {admin}\r\n{token}content-length: 0\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well() {
        let status = |draining: bool, endpoints: Value| {
            health(&serde_json::json!({"draining": draining, "endpoints": endpoints}).to_string())
        };
        let endpoints = serde_json::json!([
            {"health": "healthy", "disabled": false},
            {"health": "healthy", "disabled": true},
            {"health": "unhealthy", "disabled": false},
            {"health": "unknown", "disabled": false},
        ]);
        assert_eq!(status(false, endpoints.clone()), (true, "healthy: 1 of 4 endpoints are up".to_owned()));
        assert_eq!(status(true, endpoints), (false, "unhealthy: it drains".to_owned()));
        assert!(status(false, serde_json::json!([])).0, "endpoints are not its own health");
        assert!(!health("{}").0 && !health("<html>").0 && !health("").0, "something else answers there");
    }
}
