//! The admin listener: metrics, status, and the few things an operator may do to a running gateway.
//!
//! It speaks the same strict HTTP as the data listener. With `server.admin_token` everything but `/health` and the parts
//! of the page `/ui`, which hold no data, asks for it; without one only this machine may change anything. No key of a caller
//! opens anything here. Bound: [`CONNECTIONS_MAX`] connections, each with a deadline, bodies of at most [`BODY_MAX`]
//! bytes; those of `/explain` as [`explain`] says.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::{Control, explain, status, ui, watch};
use crate::config::Level;
use crate::limit::key;
use crate::net::client::{self, Line};
use crate::net::gate::Pass;
use crate::net::listener::Listener;
use crate::net::{clock, task};
use crate::shard::reply::{length, number, reason};
use crate::telemetry::prometheus;
use crate::wire::http1::request::{HeadScan, Name};
use crate::wire::http1::{Framing, Limits, Method, Request};
use crate::world::errand::Errand;

const CONNECTIONS_MAX: u64 = 256;
const BODY_MAX: u64 = 64 * 1024;
/// Time for a request, and for its answer to be taken.
const PATIENCE_US: u64 = 30_000_000;

/// Serves the admin address until its listener is closed.
pub async fn serve(control: Rc<Control>, listener: Rc<Listener>) {
    while let Some((stream, peer)) = listener.accept(|| ()).await {
        if control.tasks.live.get() > CONNECTIONS_MAX {
            continue;
        }
        let timer = control.timers.add();
        let here = Rc::clone(&control);
        let buffers = Rc::clone(&control.buffers);
        task::spawn(
            &control.tasks,
            client::run(stream.into(), peer, timer, buffers, async move |line| {
                connection(&here, line).await;
            }),
        );
    }
}

/// Bodies up to this many bytes go out in one write with their head.
const TOGETHER_MAX: usize = 64 * 1024;

struct Reply {
    status: u16,
    kind: &'static str,
    /// Whole header lines beside the usual ones.
    fields: &'static str,
    body: Vec<u8>,
}

impl Reply {
    fn json(status: u16, value: &serde_json::Value) -> Self {
        let body = format!("{value}\n").into_bytes();
        Self { status, kind: "application/json", fields: "", body }
    }

    fn error(status: u16, text: &str) -> Self {
        Self::json(status, &json!({"error": text}))
    }

    /// Status line and fields; those of the framing and the empty line are to follow.
    fn head(&self, keep_alive: bool) -> Vec<u8> {
        let mut out = b"HTTP/1.1 ".to_vec();
        number(&mut out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(reason(self.status).as_bytes());
        out.extend_from_slice(b"\r\ncontent-type: ");
        out.extend_from_slice(self.kind.as_bytes());
        out.extend_from_slice(if keep_alive { b"\r\n" } else { b"\r\nconnection: close\r\n" });
        if self.status == 401 {
            out.extend_from_slice(b"www-authenticate: Bearer\r\n");
        }
        out.extend_from_slice(self.fields.as_bytes());
        out
    }
}

async fn connection(control: &Control, mut client: Line) {
    let peer = client.peer();
    loop {
        client.timer().set(control.clock.now_us() + PATIENCE_US);
        let Some(Read { buffer, parsed, _pass }) = read(control, &mut client).await else { return };
        let (reply, keep_alive, head_only) = match parsed {
            Ok(request) => {
                let path = request.path.text(&buffer).to_owned();
                let reply = match refusal(control, &buffer, &request, &path, peer) {
                    Some(refusal) => refusal,
                    None if path == "/explain" && request.method == Method::Post => {
                        let body = buffer.get(request.head_bytes..).unwrap_or_default();
                        let (status, value) = Box::pin(explain::answer(control, peer.ip(), body)).await;
                        Reply::json(status, &value)
                    }
                    None if path == "/ui/events" && request.method == Method::Get => {
                        match events(control, &mut client).await {
                            Some(refusal) => refusal,
                            None => return,
                        }
                    }
                    None => answer(control, &client, request.method, &path, peer).await,
                };
                (reply, request.keep_alive && request.http11, request.method == Method::Head)
            }
            Err(refused) => (refused, false, false),
        };
        let mut out = reply.head(keep_alive);
        length(&mut out, reply.body.len());
        out.extend_from_slice(b"\r\n");
        // A page of megabytes is not copied behind its head.
        let apart = !head_only && reply.body.len() > TOGETHER_MAX;
        if !head_only && !apart {
            out.extend_from_slice(&reply.body);
        }
        client.timer().set(control.clock.now_us() + PATIENCE_US);
        if client.write(out).await.is_err() || (apart && client.write(reply.body).await.is_err()) {
            return;
        }
        if !keep_alive {
            client.timer().set(control.clock.now_us() + 1_000_000);
            return client.linger(64 * 1024).await;
        }
    }
}

/// A stream of documents, until it ends; or why there is none.
async fn events(control: &Control, client: &mut Line) -> Option<Reply> {
    if control.world().is_draining() {
        return Some(Reply::error(503, "The gateway is draining."));
    }
    let Some(watching) = control.live.watch() else {
        return Some(Reply::error(503, "There are as many watchers as there may be."));
    };
    let stream = Reply { status: 200, kind: "text/event-stream", fields: ui::FIELDS, body: Vec::new() };
    let mut head = stream.head(false);
    head.extend_from_slice(b"\r\n");
    if client.write(head).await.is_ok() {
        watch::stream(control, client, watching).await;
    }
    None
}

/// A request, or what is said to it.
struct Read {
    /// Head and body.
    buffer: Vec<u8>,
    parsed: Result<Request, Reply>,
    /// Held by one with a large body.
    _pass: Option<Pass>,
}

impl Read {
    fn refused(buffer: Vec<u8>, status: u16, text: &str) -> Option<Self> {
        Some(Self { buffer, parsed: Err(Reply::error(status, text)), _pass: None })
    }
}

/// Reads one request with its body. `None`: nothing more will come.
async fn read(control: &Control, client: &mut Line) -> Option<Read> {
    let limits = Limits::default();
    let (mut buffer, mut scan) = (Vec::new(), HeadScan::default());
    loop {
        if client.fill(&mut buffer).await.ok()? == 0 {
            return None;
        }
        match scan.find(&buffer, &limits) {
            Ok(Some(_)) => break,
            Ok(None) => {}
            Err(error) => return Read::refused(buffer, error.status(), error.message()),
        }
    }
    let request = match Request::parse(&buffer, &limits) {
        Ok(request) => request,
        Err(error) => return Read::refused(buffer, error.status(), error.message()),
    };
    let path = request.path.text(&buffer);
    // Only who may ask has a large body read.
    let explains = path == "/explain" && request.method == Method::Post;
    let refusal = refusal(control, &buffer, &request, path, client.peer()).filter(|_| explains);
    let (length_max, pass) = match refusal {
        Some(refusal) => return Some(Read { buffer, parsed: Err(refusal), _pass: None }),
        None if explains => {
            let passing = pin!(control.explaining.enter());
            let pass = clock::before(client.timer(), passing).await?;
            (explain::BYTES_MAX, Some(pass))
        }
        None => (BODY_MAX, None),
    };
    let body = match request.framing {
        Framing::None => 0,
        Framing::Length(length) if length <= length_max => length,
        _ => return Read::refused(buffer, 413, "The body is too large, or announces no length."),
    };
    let end = request.head_bytes + usize::try_from(body).unwrap_or(0);
    while buffer.len() < end {
        if client.fill(&mut buffer).await.ok()? == 0 {
            return None;
        }
    }
    client.unread(buffer.get(end..).unwrap_or_default());
    buffer.truncate(end);
    Some(Read { buffer, parsed: Ok(request), _pass: pass })
}

/// Why the request may not be answered, if it may not.
fn refusal(
    control: &Control,
    buffer: &[u8],
    request: &Request,
    path: &str,
    peer: SocketAddr,
) -> Option<Reply> {
    let reads = matches!(request.method, Method::Get | Method::Head);
    let world = control.world();
    // Only pages of browsers send an origin: our own, or by mistake or malice some other.
    if let Some(origin) = request.field(buffer, Name::Origin).filter(|_| !reads) {
        let host = request.field(buffer, Name::Host).unwrap_or_default();
        if !ui::is_own_page(origin, host, &[world.config.server.admin_listen, world.bound.admin]) {
            return Some(Reply::error(403, "Pages of a browser may not change anything here, but /ui."));
        }
    }
    let Some(token) = &world.config.server.admin_token else {
        let near = reads || peer.ip().to_canonical().is_loopback();
        let text = "Without server.admin_token only this machine may change anything.";
        return (!near).then(|| Reply::error(403, text));
    };
    if reads && (path.starts_with("/health") || ui::part(path).is_some()) {
        return None;
    }
    let shown = [None, request.field(buffer, Name::Authorization), None, None];
    let opens = key::shown(shown).is_some_and(|shown| key::opens(shown, token.expose()));
    (!opens).then(|| Reply::error(401, "Send server.admin_token as 'Authorization: Bearer TOKEN'."))
}

async fn answer(control: &Control, client: &Line, method: Method, path: &str, peer: SocketAddr) -> Reply {
    let world = &control.world();
    let reads = matches!(method, Method::Get | Method::Head);
    let posts = method == Method::Post;
    match path {
        "/metrics" | "/metrics/" if reads => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            Reply { status: 200, kind, fields: "", body: prometheus::render(world).into_bytes() }
        }
        "/status" if reads => Reply::json(200, &status::status(world)),
        "/ui/live" if reads => {
            let body = format!("{}\n", control.live.document(world)).into_bytes();
            Reply { status: 200, kind: "application/json", fields: ui::FIELDS, body }
        }
        "/health" | "/health/liveliness" | "/health/liveness" if reads => {
            Reply::json(200, &json!({"status": "alive"}))
        }
        "/drain" if posts => {
            world.log.write(Level::Info, format_args!("drain asked for by {peer}"));
            world.drain_asked.store(true, Ordering::Release);
            Reply::json(202, &json!({"draining": true}))
        }
        "/reload" if posts => reload(control, client).await,
        "/metrics" | "/metrics/" | "/status" | "/drain" | "/reload" | "/health" | "/ui/live"
        | "/ui/events" | "/explain" => Reply::error(405, "Method Not Allowed"),
        _ => match ui::part(path) {
            Some(part) if reads => {
                Reply { status: 200, kind: part.kind, fields: ui::FIELDS, body: part.text.into() }
            }
            Some(_) => Reply::error(405, "Method Not Allowed"),
            None => switch(control, path, posts, peer),
        },
    }
}

/// Has the configuration read again; the main thread does it.
async fn reload(control: &Control, client: &Line) -> Reply {
    let errand = Arc::new(Errand::default());
    control.world().errands.push(Arc::clone(&errand));
    match clock::before(client.timer(), pin!(errand.outcome())).await {
        Some(Ok(changes)) => {
            Reply::json(200, &json!({"generation": control.world().number, "changes": changes}))
        }
        Some(Err(why)) => Reply::error(400, &why),
        None => Reply::error(503, "The configuration was not read in time; the log says what becomes of it."),
    }
}

/// `/endpoints/{name}/disable` and `/enable`.
fn switch(control: &Control, path: &str, posts: bool, peer: SocketAddr) -> Reply {
    let parts: Vec<_> = path.split('/').skip(1).collect();
    let ["endpoints", name, verb @ ("disable" | "enable")] = parts[..] else {
        return Reply::error(404, "Not Found");
    };
    if !posts {
        return Reply::error(405, "Method Not Allowed");
    }
    let name = crate::route::percent_decoded(name);
    let world = control.world();
    let Some(endpoint) = world.endpoint(&name) else {
        return Reply::error(404, &format!("There is no endpoint '{name}'."));
    };
    endpoint.set_disabled(verb == "disable");
    world.log.write(Level::Info, format_args!("endpoint {name} {verb}d by {peer}"));
    Reply::json(200, &json!({"endpoint": name, "disabled": endpoint.disabled()}))
}
