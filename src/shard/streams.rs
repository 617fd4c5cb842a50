//! HTTP/2: one connection, many exchanges at once, each in a task of its own.

use std::net::SocketAddr;
use std::rc::Rc;

use super::head::Incoming;
use super::serve::{self, After, Open};
use super::{Core, Shard, exchange};
use crate::config::Level;
use crate::net::client::Stream;
use crate::net::h2::{Arrived, Connection, Place};
use crate::net::link::Link;
use crate::net::{Client, task};
use crate::wire::h2::Abuse;
use crate::wire::http1::RequestError;

/// Serves a connection until it is over.
pub async fn serve(open: Open, link: Link, peer: SocketAddr) {
    let core = Rc::clone(&open.core);
    let shard = core.shard();
    let server = &shard.world.config.server;
    let place = Place {
        timers: &core.timers,
        clock: &core.clock,
        buffers: &core.buffers,
        keep_alive: server.keep_alive,
        write_timeout: server.write_timeout,
        preface_timeout: server.head_timeout,
        frame_timeout: server.body_timeout,
    };
    let mut connection = match Connection::begin(link, peer, place).await {
        Ok(connection) => connection,
        Err(abuse) => return note(&core, peer, abuse),
    };
    drop(shard);
    let now_us = || core.clock.now_us();
    while let Some(Arrived { head, whole, stream }) =
        connection.accept(now_us, || core.process.is_draining()).await
    {
        let here = core.shard();
        task::spawn(&core.tasks, async move { one(&here, head, whole, stream).await });
    }
    note(&core, peer, connection.abuse());
}

/// Counts a connection that the guard has closed.
fn note(core: &Core, peer: SocketAddr, abuse: Option<Abuse>) {
    let Some(abuse) = abuse else { return };
    core.metrics().http2_abuses.add(1);
    let text = format_args!("{peer} abuses HTTP/2 ({}): closed", abuse.name());
    core.process.log.write(Level::Info, text);
}

/// One exchange.
async fn one(shard: &Rc<Shard>, head: Vec<u8>, whole: bool, stream: Stream) {
    let mut client = Client::Stream(Box::new(stream));
    client.limit_writes(shard.world.config.server.write_timeout);
    let after = match Incoming::of_stream(shard, head, whole) {
        Ok(incoming) => Box::pin(exchange::run(shard, &mut client, incoming)).await,
        Err(error) => refuse(shard, &mut client, error).await,
    };
    client.timer().set(shard.clock.now_us() + 2_000_000);
    if let Client::Stream(stream) = client {
        stream.finish(after == After::KeepAlive).await;
    }
}

async fn refuse(shard: &Shard, client: &mut Client, error: RequestError) -> After {
    serve::refuse(shard, client, &serve::unfit(error)).await
}
