//! `corelane status`, `drain`, `reload`: one request to the admin address of a running gateway.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{FAILED, complain, say};

/// Which gateway.
#[derive(Debug, Args)]
pub struct Admin {
    /// Its admin address.
    #[arg(long, default_value = "127.0.0.1:8001")]
    admin: SocketAddr,
}

/// Asks and prints the answer; exit code 1 if it is not a success.
#[must_use]
pub fn run(admin: &Admin, method: &str, path: &str) -> ExitCode {
    match ask(admin.admin, method, path) {
        Ok((status, body)) => {
            say(body.trim_end());
            if (200..300).contains(&status) { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(error) => {
            complain(&format!("no gateway answers on {}: {error}", admin.admin));
            ExitCode::from(FAILED)
        }
    }
}

fn ask(admin: SocketAddr, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    let timeout = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&admin, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {admin}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}
