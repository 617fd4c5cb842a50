//! `corelane status`, `drain`, `reload`: one request to the admin address of a running gateway.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{BAD_USAGE, FAILED, complain, say};
use crate::config::{self, Secret, Server};

/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for a reload, which may build a guard; the gateway answers within 30 s whatever becomes of it.
const RELOAD: Duration = Duration::from_secs(35);

/// Which gateway.
#[derive(Debug, Args)]
pub struct Admin {
    /// Its admin address; else that of the configuration, else 127.0.0.1:8001.
    #[arg(long)]
    admin: Option<SocketAddr>,
    /// Its configuration: says the address and the token.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
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
            Ok(config) => config.map(|config| config.server),
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
