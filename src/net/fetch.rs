//! One request on a connection of its own: probes, questions to all endpoints at once, and spans to a collector.

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

/// An answer, whole.
pub struct Fetched {
    /// Its status.
    pub status: u16,
    /// `Retry-After` as it came; empty: there was none.
    pub retry_after: String,
    /// Its body.
    pub body: Vec<u8>,
}

/// Asks and reads the whole answer. Bounded by `bytes_max`; time is the caller's: drop it to give up.
///
/// # Errors
/// The connection fails, or the answer is malformed, cut or too large.
pub async fn get(target: Target<'_>, bytes_max: usize) -> io::Result<(u16, Vec<u8>)> {
    let request = format!("GET {}accept: application/json\r\n\r\n", head(target));
    let fetched = ask(target, request.into_bytes(), bytes_max).await?;
    Ok((fetched.status, fetched.body))
}

/// Sends JSON with `fields` beside our own, and reads the whole answer, as [`get`]. Fields with what no field may hold
/// are left out.
///
/// # Errors
/// As [`get`].
pub async fn post(
    target: Target<'_>,
    fields: impl Iterator<Item = (&str, &str)>,
    json: &[u8],
    bytes_max: usize,
) -> io::Result<Fetched> {
    let mut request = format!("POST {}content-type: application/json\r\n", head(target));
    for (name, value) in fields.filter(|(_, value)| !value.contains(['\r', '\n', '\0'])) {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.push_str(&format!("content-length: {}\r\n\r\n", json.len()));
    let mut request = request.into_bytes();
    request.extend_from_slice(json);
    ask(target, request, bytes_max).await
}

/// What follows the method, up to the fields that are not in every request.
fn head(target: Target<'_>) -> String {
    let authorization = target.key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
    format!("{} HTTP/1.1\r\nhost: {}\r\n{authorization}connection: close\r\n", target.path, target.authority)
}

async fn ask(target: Target<'_>, request: Vec<u8>, bytes_max: usize) -> io::Result<Fetched> {
    let mut upstream = Upstream::connect(target.address, target.connector).await?;
    upstream.write(request).await.0?;
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut buffer = Vec::with_capacity(16 * 1024);
    let mut read = async |buffer: &mut Vec<u8>| {
        let (result, back) = upstream.read(std::mem::take(buffer)).await;
        *buffer = back;
        result
    };
    let head = loop {
        match Response::parse(&buffer, &Limits::default()).map_err(|_| bad("malformed answer"))? {
            Some(head) if head.status >= 200 => break head,
            Some(interim) => {
                buffer.drain(..interim.head_bytes);
                continue;
            }
            None => {}
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
    let retry_after = head.retry_after.text(&buffer).to_owned();
    buffer.drain(..head.head_bytes);
    Ok(Fetched { status: head.status, retry_after, body: buffer })
}
