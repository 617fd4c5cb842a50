//! From a listening socket to requests: accepting, sharing out, and keeping connections.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpStream;

use super::head::{self, Next, NoRequest};
use super::reply::Manner;
use super::{Shard, exchange};
use crate::api::{Failure, FailureKind};
use crate::net::client::{self, End};
use crate::net::listener::{self, Listener};
use crate::net::{Client, clock, memory, task};
use crate::world::Seat;

/// What we read of a client that is still sending when it has been answered.
const LINGER_BYTES: usize = 1 << 20;

/// How an exchange leaves its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Ready for the next request.
    KeepAlive,
    /// To be closed.
    Close,
    /// To be closed once the client has read the answer: it may still be sending.
    Linger,
}

/// Accepts until the listener is closed. Each connection stays here or goes to the least loaded shard.
pub async fn accept(shard: Rc<Shard>, listener: Rc<Listener>) {
    loop {
        let exhausted = || shard.metrics().exhausted.add(1);
        let Some((stream, peer)) = listener.accept(exhausted).await else { return };
        shard.metrics().accepted.add(1);
        match shard.elsewhere() {
            None => connection(&shard, stream, peer),
            Some(other) => {
                let door = &shard.world.shards[other].door;
                match door.push(listener::detach(stream), peer) {
                    Ok(()) => shard.metrics().handed_over.add(1),
                    Err((stream, peer)) => adopt(&shard, stream, peer),
                }
            }
        }
    }
}

/// Takes what other shards hand over.
pub async fn receive(shard: Rc<Shard>) {
    loop {
        let (stream, peer) = shard.world.shards[shard.index].door.pop().await;
        adopt(&shard, stream, peer);
    }
}

/// Every tick: deadlines, pools, gauges.
pub async fn housekeeping(shard: Rc<Shard>) {
    let mut next_sweep_us = 0;
    loop {
        clock::sleep(clock::TICK).await;
        let now_us = shard.clock.now_us();
        shard.timers.tick(now_us);
        shard.world.shards[shard.index].door.nudge();
        if now_us >= next_sweep_us {
            next_sweep_us = now_us + 1_000_000;
            shard.pools.iter().for_each(|pool| pool.borrow_mut().sweep(now_us));
            memory::give_back();
        }
        if shard.world.is_draining() {
            shard.timers.fire_idle();
        }
        let metrics = shard.metrics();
        metrics.upstream_idle.set(shard.pools.iter().map(|pool| pool.borrow().len() as u64).sum());
        metrics.tasks.set(shard.tasks.live.get());
        metrics.panics.set(shard.tasks.panicked.get());
    }
}

fn adopt(shard: &Rc<Shard>, stream: std::net::TcpStream, peer: SocketAddr) {
    if let Ok(stream) = listener::attach(stream) {
        connection(shard, stream, peer);
    }
}

/// Takes a new connection in. Until its first byte comes it rests.
fn connection(shard: &Rc<Shard>, stream: TcpStream, peer: SocketAddr) {
    let Some(seat) = shard.world.seat() else { return };
    rest(Open::new(shard, seat), stream, peer, shard.world.config.server.head_timeout);
}

/// Lets a connection wait for bytes, at most for `patience`, in the least memory: no buffer, no exchange.
fn rest(open: Open, stream: TcpStream, peer: SocketAddr, patience: Duration) {
    let tasks = Rc::clone(&open.shard.tasks);
    let timer = open.shard.timers.add();
    timer.set_idle(open.shard.clock.after(patience));
    task::spawn(&tasks, async move {
        if client::readable(&stream, &timer).await {
            drop(timer);
            wake(open, stream, peer);
        }
    });
}

/// Serves a connection on which something has come, in a task of its own, until it closes or rests.
fn wake(open: Open, stream: TcpStream, peer: SocketAddr) {
    let shard = Rc::clone(&open.shard);
    let (timer, buffers, tasks) = (shard.timers.add(), Rc::clone(&shard.buffers), Rc::clone(&shard.tasks));
    let patience = shard.world.config.server.keep_alive;
    let exchanges = async move |mut client: Client| {
        client.limit_writes(shard.world.config.server.write_timeout);
        requests(&shard, &mut client).await
    };
    let rested = move |stream| rest(open, stream, peer, patience);
    task::spawn(&tasks, client::run_until_rest(stream, peer, timer, buffers, exchanges, rested));
}

/// Counts a connection while it lives.
struct Open {
    shard: Rc<Shard>,
    _seat: Seat,
}

impl Open {
    fn new(shard: &Rc<Shard>, seat: Seat) -> Self {
        let connections = &shard.metrics().connections;
        connections.set(connections.get() + 1);
        Self { shard: Rc::clone(shard), _seat: seat }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let connections = &self.shard.metrics().connections;
        connections.set(connections.get().saturating_sub(1));
    }
}

async fn requests(shard: &Rc<Shard>, client: &mut Client) -> End {
    loop {
        match head::wait(shard, client).await {
            Next::Request => {}
            Next::Rest => return End::Rest,
            Next::Close => return End::Close,
        }
        // In memory of its own: while it waits, a connection does not hold it.
        match Box::pin(one(shard, client)).await {
            After::KeepAlive => {}
            After::Close => return End::Close,
            After::Linger => {
                client.timer().set(shard.clock.now_us() + 2_000_000);
                Box::pin(client.linger(LINGER_BYTES)).await;
                return End::Close;
            }
        }
    }
}

/// One request, from its first byte to what becomes of the connection.
async fn one(shard: &Rc<Shard>, client: &mut Client) -> After {
    match head::read(shard, client).await {
        Ok(incoming) => exchange::run(shard, client, incoming).await,
        Err(NoRequest::Quiet) => After::Close,
        Err(NoRequest::Refused(error)) => {
            let failure =
                Failure { status: error.status(), ..Failure::new(FailureKind::Http, error.message()) };
            refuse(shard, client, &failure).await
        }
        Err(NoRequest::TimedOut) => {
            let failure = Failure::new(FailureKind::BodyTimeout, "The request headers did not come in time.");
            refuse(shard, client, &failure).await
        }
    }
}

async fn refuse(shard: &Shard, client: &mut Client, failure: &Failure) -> After {
    shard.metrics().local(failure.status);
    let answer = Manner::of_nothing(shard).failure(shard, failure, "");
    match client.write(answer).await {
        Ok(_) => After::Linger,
        Err(_) => After::Close,
    }
}

impl Shard {
    /// The shard that a new connection should go to, if it is not this one: shares have drifted by more than an
    /// eighth and one connection. Connections are counted, not exchanges: one that has just come has none yet, and
    /// would make its shard look idle.
    fn elsewhere(&self) -> Option<usize> {
        let load = |at: usize| {
            let shard = &self.world.shards[at];
            shard.metrics.connections.get() + shard.door.waiting()
        };
        let own = load(self.index);
        let (least, at) = (0..self.world.shards.len()).map(|at| (load(at), at)).min()?;
        (at != self.index && own > least + least / 8 + 1).then_some(at)
    }
}
