//! The yardstick: a relay on the same runtime that parses heads and copies bytes, and does nothing else. No routing, no JSON, no
//! metrics, no limits, no watch for clients that leave. What the gateway costs above it is what the gateway does.
//!
//! `relay LISTEN UPSTREAM`, one thread; used by `scripts/compare`.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use corelane::config::Driver;
use corelane::net::buffer::Buffers;
use corelane::net::clock::Timers;
use corelane::net::listener::{self, Listener, Role};
use corelane::net::pool::Pool;
use corelane::net::runtime::Runtime;
use corelane::net::task::{self, TaskCounts};
use corelane::net::{Client, Upstream, client};
use corelane::wire::http1::body::Reader;
use corelane::wire::http1::{Framing, Limits, Request, Response};

#[global_allocator]
static ALLOCATOR: corelane::net::memory::Allocator = corelane::net::memory::Allocator;

struct Relay {
    upstream: SocketAddr,
    pool: RefCell<Pool>,
    buffers: Rc<Buffers>,
    timers: Rc<Timers>,
    tasks: Rc<TaskCounts>,
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<SocketAddr> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [listen, upstream] = arguments[..] else {
        return Err(std::io::Error::other("relay LISTEN UPSTREAM"));
    };
    let socket = listener::bind(listen)?;
    Runtime::build(Driver::Auto, 1024)?.block_on(async {
        let mut pool = Pool::default();
        pool.limit(1024, std::time::Duration::from_secs(60));
        let relay = Rc::new(Relay {
            upstream,
            pool: RefCell::new(pool),
            buffers: Rc::default(),
            timers: Rc::default(),
            tasks: Rc::default(),
        });
        let listener = Listener::new(socket, Role::Plain)?;
        while let Some((stream, peer)) = listener.accept(|| ()).await {
            let (here, timer) = (Rc::clone(&relay), relay.timers.add());
            let buffers = Rc::clone(&relay.buffers);
            task::spawn(
                &relay.tasks,
                client::run(stream.into(), peer, timer, buffers, async move |line| {
                    let mut client = Client::Line(line);
                    while one(&here, &mut client).await.is_some() {}
                }),
            );
        }
        Ok(())
    })
}

/// One request and its answer, byte for byte.
async fn one(relay: &Relay, client: &mut Client) -> Option<()> {
    let mut buffer = Vec::new();
    let request = loop {
        if client.fill(&mut buffer).await.ok()? == 0 {
            return None;
        }
        if buffer.windows(4).any(|window| window == b"\r\n\r\n") {
            break Request::parse(&buffer, &Limits::default()).ok()?;
        }
    };
    let Framing::Length(length) = request.framing else { return None };
    while ((buffer.len() - request.head_bytes) as u64) < length {
        client.fill(&mut buffer).await.ok()?;
    }
    let warm = relay.pool.borrow_mut().take();
    let mut upstream = match warm {
        Some(upstream) => upstream,
        None => Upstream::connect(relay.upstream, None).await.ok()?,
    };
    if let Err(buffer) = upstream.post(buffer, &relay.buffers) {
        let (sent, buffer) = upstream.write(buffer).await;
        sent.ok()?;
        relay.buffers.give(buffer);
    }
    let mut buffer = Vec::new();
    let mut reader: Option<Reader> = None;
    loop {
        let into = (!buffer.is_empty()).then_some(buffer);
        let (read, back) = upstream.receive(into, &relay.buffers).await;
        buffer = back;
        if read.ok()? == 0 {
            return None;
        }
        let mut body = 0;
        if reader.is_none() {
            let Some(head) = Response::parse(&buffer, &Limits::default()).ok()? else { continue };
            body = head.head_bytes;
            reader = Some(Reader::new(head.framing));
        }
        let reader = reader.as_mut()?;
        reader.feed(buffer.get(body..)?, |_| Ok::<(), ()>(())).ok()?;
        if let Err(buffer) = client.post_from(buffer, 0) {
            relay.buffers.give(client.write_from(buffer, 0).await.ok()?);
        }
        buffer = Vec::new();
        if reader.done() {
            break;
        }
    }
    relay.pool.borrow_mut().give(upstream, 0, &relay.buffers);
    Some(())
}
