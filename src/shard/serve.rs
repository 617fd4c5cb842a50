//! From a listening socket to requests: accepting, sharing out, and keeping connections.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;

use super::head::{self, Incoming, Next, NoRequest};
use super::reply::{self, Manner};
use super::{Shard, exchange, streams};
use crate::api::{Failure, FailureKind};
use crate::net::client::{self, End, Line};
use crate::net::handoff::Handed;
use crate::net::link::Link;
use crate::net::listener::{self, Listener, Role};
use crate::net::{Client, clock, memory, task};
use crate::wire::http1::RequestError;
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
        let role = listener.role();
        match shard.elsewhere() {
            None => connection(&shard, stream.into(), peer, role),
            Some(other) => {
                let door = &shard.world.shards[other].door;
                match door.push((listener::detach(stream), peer, role)) {
                    Ok(()) => shard.metrics().handed_over.add(1),
                    Err(handed) => adopt(&shard, handed),
                }
            }
        }
    }
}

/// Takes what other shards hand over.
pub async fn receive(shard: Rc<Shard>) {
    loop {
        let handed = shard.world.shards[shard.index].door.pop().await;
        adopt(&shard, handed);
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

fn adopt(shard: &Rc<Shard>, (stream, peer, role): Handed) {
    if let Ok(stream) = listener::attach(stream) {
        connection(shard, stream.into(), peer, role);
    }
}

/// Takes a new connection in. Until its first byte comes it rests.
fn connection(shard: &Rc<Shard>, link: Link, peer: SocketAddr, role: Role) {
    let Some(seat) = shard.world.seat() else { return };
    let until_us = shard.clock.after(shard.world.config.server.head_timeout);
    rest(Open::new(shard, seat, role, until_us), link, peer);
}

/// Lets a connection wait for bytes, at most until `open.until_us`, in the least memory: no buffer, no exchange.
fn rest(open: Open, link: Link, peer: SocketAddr) {
    let tasks = Rc::clone(&open.shard.tasks);
    let timer = open.shard.timers.add();
    timer.set_idle(open.until_us);
    task::spawn(&tasks, async move {
        if !client::readable(&link, &timer).await {
            return link.dismiss();
        }
        drop(timer);
        if open.role == Role::Tls && !link.is_tls() {
            Box::pin(shake_hands(open, link, peer)).await;
        } else {
            wake(open, link, peer);
        }
    });
}

/// Runs the TLS handshake of a connection whose first bytes are there, then serves it.
async fn shake_hands(open: Open, link: Link, peer: SocketAddr) {
    let shard = Rc::clone(&open.shard);
    let Some((acceptor, tls)) = shard.world.tls.as_ref().zip(shard.world.config.server.tls.as_ref()) else {
        return;
    };
    let timer = shard.timers.add();
    timer.set(shard.clock.after(tls.handshake_timeout));
    let pass = match clock::before(&timer, pin!(shard.handshakes.enter())).await {
        Some(pass) => pass,
        None => return shard.metrics().tls_failed.add(1),
    };
    let Ok(session) = acceptor.session() else { return };
    let shaken = Link::accept(link, session, &timer, &shard.buffers).await;
    drop((pass, timer));
    match shaken {
        Some(link) if link.is_http2() => {
            shard.metrics().tls_handshakes.add(1);
            let tasks = Rc::clone(&shard.tasks);
            task::spawn(&tasks, streams::serve(open, link, peer));
        }
        Some(link) => {
            shard.metrics().tls_handshakes.add(1);
            wake(open, link, peer);
        }
        None => shard.metrics().tls_failed.add(1),
    }
}

/// Serves a connection on which something has come, in a task of its own, until it closes or rests.
fn wake(open: Open, link: Link, peer: SocketAddr) {
    let (shard, role) = (Rc::clone(&open.shard), open.role);
    let (timer, buffers, tasks) = (shard.timers.add(), Rc::clone(&shard.buffers), Rc::clone(&shard.tasks));
    let patience = shard.world.config.server.keep_alive;
    let exchanges = async move |mut line: Line| {
        line.limit_writes(shard.world.config.server.write_timeout);
        requests(&shard, Client::Line(line), role).await
    };
    let rested = move |link: Link| {
        let mut open = open;
        // Over TLS bytes alone are no sign of life: a record that never ends, or has no data, asks for nothing.
        if link.take_spoken() {
            open.until_us = open.shard.clock.after(patience);
        } else if open.shard.clock.now_us() >= open.until_us {
            return link.dismiss();
        }
        rest(open, link, peer);
    };
    task::spawn(&tasks, client::run_until_rest(link, peer, timer, buffers, exchanges, rested));
}

/// Counts a connection while it lives.
pub struct Open {
    /// Where it is.
    pub shard: Rc<Shard>,
    role: Role,
    /// When it is closed unless it has said something.
    until_us: u64,
    _seat: Seat,
}

impl Open {
    fn new(shard: &Rc<Shard>, seat: Seat, role: Role, until_us: u64) -> Self {
        let connections = &shard.metrics().connections;
        connections.set(connections.get() + 1);
        Self { shard: Rc::clone(shard), role, until_us, _seat: seat }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let connections = &self.shard.metrics().connections;
        connections.set(connections.get().saturating_sub(1));
    }
}

async fn requests(shard: &Rc<Shard>, mut client: Client, role: Role) -> End {
    loop {
        let Client::Line(line) = &mut client else { return End::Close };
        match head::wait(shard, line).await {
            Next::Request => {}
            Next::Rest => return End::Rest,
            Next::Close => {
                line.say_goodbye();
                return End::Close;
            }
        }
        let after = one(shard, &mut client, role).await;
        let Client::Line(line) = &mut client else { return End::Close };
        match after {
            After::KeepAlive => {}
            After::Close => {
                line.say_goodbye();
                return End::Close;
            }
            After::Linger => {
                line.timer().set(shard.clock.now_us() + 2_000_000);
                Box::pin(line.linger(LINGER_BYTES)).await;
                return End::Close;
            }
        }
    }
}

/// One request, from its first byte to what becomes of the connection. What follows the head has memory of its own:
/// a connection that waits, or whose head is slow, does not hold it.
async fn one(shard: &Rc<Shard>, client: &mut Client, role: Role) -> After {
    match head::read(shard, client).await {
        Ok(incoming) if role == Role::Redirect => Box::pin(redirect(shard, client, incoming)).await,
        Ok(incoming) => Box::pin(exchange::run(shard, client, incoming)).await,
        Err(NoRequest::Quiet) => After::Close,
        Err(NoRequest::Refused(error)) => Box::pin(refuse(shard, client, &unfit(error))).await,
        Err(NoRequest::TimedOut) => {
            let failure = Failure::new(FailureKind::BodyTimeout, "The request headers did not come in time.");
            Box::pin(refuse(shard, client, &failure)).await
        }
    }
}

/// What a request is told that breaks a rule of HTTP.
#[must_use]
pub fn unfit(error: RequestError) -> Failure {
    Failure { status: error.status(), ..Failure::new(FailureKind::Http, error.message()) }
}

/// Sends a plain request to TLS: the same host, the same target.
async fn redirect(shard: &Shard, client: &mut Client, incoming: Incoming) -> After {
    let Some((tls, port)) = shard.world.config.server.tls.as_ref().zip(shard.world.redirect_port) else {
        return After::Close;
    };
    let Some(location) = reply::secure_location(&incoming, port) else {
        let failure = Failure::new(FailureKind::BadRequest, "The Host header is missing.");
        return refuse(shard, client, &failure).await;
    };
    shard.metrics().local(tls.redirect_status);
    let manner = Manner { keep_alive: false, ..Manner::of(shard, &incoming, client.is_tls()) };
    let fields = format!("location: {location}\r\n");
    let answer = manner.whole(shard, tls.redirect_status, "text/plain; charset=utf-8", &fields, b"");
    match client.write(answer).await {
        Ok(_) => After::Linger,
        Err(_) => After::Close,
    }
}

/// Tells of a failure before there is an exchange.
pub async fn refuse(shard: &Shard, client: &mut Client, failure: &Failure) -> After {
    shard.metrics().local(failure.status);
    let answer = Manner::of_nothing(shard, client.is_tls()).failure(shard, failure, "");
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
