//! One connection: requests are read, checked, recorded and routed, one after the other.

use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use socket2::SockRef;

use super::ask::Api;
use super::options::Fault;
use super::reply::{Exchange, Next, TEXT};
use super::server::Sim;
use super::stats::{Held, Recorded, add};
use super::{generate, listing};
use crate::net::socket::Socket;
use crate::net::{Client, Timer, client, task};
use crate::wire::http1::request::{HeadScan, Name};
use crate::wire::http1::{Chunked, Framing, Limits, Method, Request};

/// Larger bodies are refused.
const BODY_BYTES_MAX: usize = 256 << 20;

/// Serves a connection in a task of its own.
pub fn begin(sim: &Rc<Sim>, stream: Socket, peer: SocketAddr) {
    add(&sim.stats.connections_total, 1);
    let Ok(std) = stream.detach() else { return };
    let Ok(second) = std.try_clone() else { return };
    let Ok(stream) = Socket::attach(std) else { return };
    let sim = Rc::clone(sim);
    let tasks = Rc::clone(&sim.tasks);
    task::spawn(&tasks, async move {
        let _open = Held::new(&sim.stats.connections_open);
        let (timer, buffers) = (sim.timers.add(), Rc::clone(&sim.buffers));
        match first(&sim, &stream, &second, &timer).await {
            First::Stop => return,
            First::Reset => {
                // dropping both descriptors without an orderly end is what makes the kernel send a reset
                let _ = SockRef::from(&second).set_linger(Some(Duration::ZERO));
                return;
            }
            First::Serve => drop(second),
        }
        client::run(stream.into(), peer, timer, buffers, |line| requests(&sim, Client::Line(line))).await;
    });
}

enum First {
    Serve,
    Reset,
    Stop,
}

/// Looks at the first bytes of a connection and leaves them there. Once [`client::run`] has the stream it can only
/// be closed in order, so this is where a reset is decided; asked for later it is a close.
async fn first(sim: &Sim, stream: &Socket, second: &std::net::TcpStream, timer: &Timer) -> First {
    let mut readable = pin!(stream.readable());
    let stopped = poll_fn(|cx| match readable.as_mut().poll(cx) {
        Poll::Pending if timer.poll_fired(cx) => Poll::Ready(true),
        polled => polled.map(|_| false),
    });
    if stopped.await {
        return First::Stop;
    }
    let mut bytes = [0; 2048];
    let n = second.peek(&mut bytes).unwrap_or(0);
    let bytes = bytes.get(..n).unwrap_or_default();
    let all = sim.options.fault == Fault::ResetBeforeAnswer && bytes.starts_with(b"POST ");
    if all || memchr::memmem::find(bytes, b"\"fault-reset").is_some() { First::Reset } else { First::Serve }
}

/// A request and its body, in one buffer.
struct Arrived {
    buffer: Vec<u8>,
    request: Request,
    /// Bytes of the next request came with it.
    early: bool,
}

async fn requests(sim: &Rc<Sim>, mut client: Client) {
    loop {
        let arrived = match read(&mut client).await {
            Ok(arrived) => arrived,
            Err(Some(status)) => {
                let mut exchange =
                    Exchange { sim, client: &mut client, close: true, bodyless: false, early: false };
                exchange.send(status, TEXT, b"").await;
                return;
            }
            Err(None) => return,
        };
        add(&sim.stats.requests, 1);
        let (close, bodyless) = (!arrived.request.keep_alive, arrived.request.method == Method::Head);
        let exchange = Exchange { sim, client: &mut client, close, bodyless, early: arrived.early };
        let next = route(exchange, &arrived).await;
        retire(sim, arrived);
        if next == Next::Close {
            return;
        }
    }
}

/// Records a request that had a body, or gives its buffer back.
fn retire(sim: &Sim, arrived: Arrived) {
    let Arrived { mut buffer, request, .. } = arrived;
    if request.method != Method::Post || sim.options.record == 0 {
        sim.buffers.give(buffer);
    } else if buffer.len() >= request.head_bytes {
        let body = buffer.split_off(request.head_bytes);
        sim.stats.recorded.force_push(Recorded { head: buffer, body });
    }
}

async fn route(mut exchange: Exchange<'_>, arrived: &Arrived) -> Next {
    let Arrived { buffer, request, .. } = arrived;
    if exchange.sim.options.check_host && !host_is_ours(exchange.sim.addr, request.field(buffer, Name::Host))
    {
        add(&exchange.sim.stats.foreign_hosts, 1);
        return exchange.send(403, TEXT, b"").await;
    }
    let path = request.path.text(buffer);
    let body = buffer.get(request.head_bytes..).unwrap_or_default();
    match (request.method, path) {
        (Method::Get | Method::Head, "/") => exchange.send(200, TEXT, b"Ollama is running").await,
        (Method::Get | Method::Head, _) => listing::get(&mut exchange, path).await,
        (Method::Post, "/api/show") => listing::show(&mut exchange, body).await,
        (Method::Post, _) => match api(path) {
            Some(api) => generate::run(&mut exchange, api, body).await,
            None => exchange.send(404, TEXT, b"404 page not found").await,
        },
        _ => exchange.send(405, TEXT, b"405 method not allowed").await,
    }
}

fn api(path: &str) -> Option<Api> {
    Some(match path {
        "/v1/chat/completions" => Api::Chat,
        "/v1/completions" => Api::Completions,
        "/v1/embeddings" => Api::Embeddings,
        "/v1/responses" => Api::Responses,
        "/v1/messages" => Api::Messages,
        "/v1/messages/count_tokens" => Api::CountTokens,
        "/api/chat" => Api::NativeChat,
        "/api/generate" => Api::NativeGenerate,
        "/api/embed" => Api::NativeEmbed,
        "/api/embeddings" => Api::NativeEmbeddings,
        _ => return None,
    })
}

/// The listen address, or `localhost` with its port. A server on every interface does not look.
fn host_is_ours(addr: SocketAddr, host: Option<&[u8]>) -> bool {
    let host = host.and_then(|host| std::str::from_utf8(host).ok()).unwrap_or_default();
    if addr.ip().is_unspecified() || host.parse() == Ok(addr) {
        return true;
    }
    let Some((name, port)) = host.rsplit_once(':') else { return addr.port() == 80 && host == "localhost" };
    name.eq_ignore_ascii_case("localhost") && port.parse() == Ok(addr.port())
}

/// Reads the next request. `Err(None)`: there is none; else the status that refuses it.
async fn read(client: &mut Client) -> Result<Arrived, Option<u16>> {
    let (mut buffer, mut scan, limits) = (Vec::new(), HeadScan::default(), Limits::default());
    loop {
        match client.fill(&mut buffer).await {
            Ok(n) if n > 0 => {}
            _ => return Err(None),
        }
        if scan.find(&buffer, &limits).map_err(|error| Some(error.status()))?.is_some() {
            break;
        }
    }
    let request = Request::parse(&buffer, &limits).map_err(|error| Some(error.status()))?;
    let end = read_body(client, &request, &mut buffer).await?;
    let rest = buffer.get(end..).unwrap_or_default();
    let early = !rest.is_empty();
    client.unread(rest);
    buffer.truncate(end);
    Ok(Arrived { buffer, request, early })
}

/// Reads the body into `buffer`; returns where it ends.
async fn read_body(
    client: &mut Client,
    request: &Request,
    buffer: &mut Vec<u8>,
) -> Result<usize, Option<u16>> {
    let (mut chunked, mut end) = (Chunked::default(), request.head_bytes);
    let mut told = !request.expects_continue;
    loop {
        match request.framing {
            Framing::None | Framing::Close => return Ok(end),
            Framing::Length(length) => {
                let length = usize::try_from(length).ok().filter(|&length| length <= BODY_BYTES_MAX);
                let whole = request.head_bytes + length.ok_or(413u16)?;
                if buffer.len() >= whole {
                    return Ok(whole);
                }
                buffer.reserve((whole - buffer.len()).min(1 << 20));
            }
            Framing::Chunked => {
                end = chunked.decode(buffer, end).map_err(|_| 400u16)?;
                if chunked.done() {
                    return Ok(end);
                }
                if end > BODY_BYTES_MAX {
                    return Err(Some(413));
                }
            }
        }
        if !told {
            told = true;
            client.write(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()).await.map_err(|_| None)?;
        }
        match client.fill(buffer).await {
            Ok(n) if n > 0 => {}
            _ => return Err(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::host_is_ours;

    #[test]
    fn only_our_own_host_is_ours() {
        let addr = "127.0.0.1:11434".parse().unwrap();
        for good in ["127.0.0.1:11434", "localhost:11434", "LOCALHOST:11434"] {
            assert!(host_is_ours(addr, Some(good.as_bytes())), "{good}");
        }
        for bad in
            ["127.0.0.1", "localhost", "gateway:11434", "127.0.0.1:8000", "ai.example.com", "127.0.0.2:11434"]
        {
            assert!(!host_is_ours(addr, Some(bad.as_bytes())), "{bad}");
        }
        assert!(!host_is_ours(addr, None));
        assert!(host_is_ours("0.0.0.0:1".parse().unwrap(), Some(b"anything")));
    }
}
