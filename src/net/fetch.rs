//! One small GET on a connection of its own: probes, and questions to all endpoints at once.

use std::io;
use std::net::SocketAddr;

use super::Upstream;
use super::tls::Connector;
use crate::wire::http1::body::Reader;
use crate::wire::http1::{Limits, Response};

/// Whom to ask.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Where to connect.
    pub address: SocketAddr,
    /// For TLS.
    pub connector: Option<&'a Connector>,
    /// For the `Host` field.
    pub authority: &'a str,
    /// Path and query.
    pub path: &'a str,
    /// Sent as a bearer token.
    pub key: Option<&'a str>,
}

/// Asks and reads the whole answer. Bounded by `bytes_max`; time is the caller's: drop it to give up.
///
/// # Errors
/// The connection fails, or the answer is malformed, cut or too large.
pub async fn get(target: Target<'_>, bytes_max: usize) -> io::Result<(u16, Vec<u8>)> {
    let mut upstream = Upstream::connect(target.address, target.connector).await?;
    let authorization = target.key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\naccept: application/json\r\n{authorization}connection: close\r\n\r\n",
        target.path, target.authority
    );
    upstream.write(request.into_bytes()).await.0?;
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut buffer = Vec::with_capacity(16 * 1024);
    let mut read = async |buffer: &mut Vec<u8>| {
        let (result, back) = upstream.read(std::mem::take(buffer)).await;
        *buffer = back;
        result
    };
    let head = loop {
        if let Some(head) =
            Response::parse(&buffer, &Limits::default()).map_err(|_| bad("malformed answer"))?
        {
            break head;
        }
        if read(&mut buffer).await? == 0 {
            return Err(bad("no answer"));
        }
    };
    let (mut reader, mut end) = (Reader::new(head.framing), head.head_bytes);
    loop {
        end = reader.decode(&mut buffer, end).map_err(|_| bad("malformed body"))?;
        if reader.done() {
            break;
        }
        if end > bytes_max {
            return Err(bad("answer too large"));
        }
        if read(&mut buffer).await? == 0 {
            reader.peer_ended().map_err(|_| bad("answer cut short"))?;
        }
    }
    buffer.truncate(end);
    buffer.drain(..head.head_bytes);
    Ok((head.status, buffer))
}
