//! From a listening socket to requests: accepting, sharing out, and keeping connections.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::head::{self, Incoming, Next, NoRequest};
use super::reply::{self, Manner};
use super::{Core, Shard, exchange, streams};
use crate::api::{Failure, FailureKind};
use crate::balance::shards;
use crate::config::Level;
use crate::net::client::{self, End, Line};
use crate::net::handoff::Handed;
use crate::net::link::Link;
use crate::net::listener::{Listener, Role};
use crate::net::redis::Breaker;
use crate::net::socket::Socket;
use crate::net::{Client, clock, memory, task};
use crate::wire::http1::RequestError;
use crate::world::Seat;

/// What we read of a client that is still sending when it has been answered.
const LINGER_BYTES: usize = 1 << 20;

/// How long an idle connection of a gateway that drains may still send a request.
const IDLE_US: u64 = 1_000_000;

/// The same where another process serves already, and nobody waits for this one.
pub const IDLE_HANDED_OVER_US: u64 = 10_000_000;

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
pub async fn accept(core: Rc<Core>, listener: Rc<Listener>) {
    loop {
        let exhausted = || core.metrics().exhausted.add(1);
        let Some((stream, peer)) = listener.accept(exhausted).await else { return };
        core.metrics().accepted.add(1);
        let role = listener.role();
        match core.elsewhere() {
            None => connection(&core, stream.into(), peer, role),
            Some(other) => {
                let door = &core.process.shards[other].door;
                let Ok(stream) = stream.detach() else { continue };
                match door.push((stream, peer, role)) {
                    Ok(()) => core.metrics().handed_over.add(1),
                    Err(handed) => adopt(&core, handed),
                }
            }
        }
    }
}

/// Takes what other shards hand over.
pub async fn receive(core: Rc<Core>) {
    loop {
        let handed = core.process.shards[core.index].door.pop().await;
        adopt(&core, handed);
    }
}

/// Every tick: deadlines, lines of the log, pools, listeners, gauges.
pub async fn housekeeping(core: Rc<Core>) {
    let mut next_sweep_us = 0;
    loop {
        clock::sleep(clock::TICK).await;
        let now_us = core.clock.now_us();
        core.timers.tick(now_us);
        core.lines.hand_over(&core.process.log, now_us);
        let shared = &core.process.shards[core.index];
        shared.ticks.fetch_add(1, Ordering::Relaxed);
        shared.door.nudge();
        core.nudge_line();
        let shard = core.shard();
        if now_us >= next_sweep_us {
            next_sweep_us = now_us + 1_000_000;
            shard.pools.iter().for_each(|pool| pool.borrow_mut().sweep(now_us));
            core.buffers.trim();
            memory::give_back();
        }
        if core.process.is_draining() {
            core.let_idle_go(now_us);
        } else if let Err(error) = core.listen() {
            core.process
                .log
                .write(Level::Error, format_args!("shard {}: cannot listen: {error}", core.index));
        }
        let metrics = core.metrics();
        metrics.upstream_idle.set(shard.pools.iter().map(|pool| pool.borrow().len() as u64).sum());
        if let Some(redis) = &shard.redis {
            redis.start(); // once, and here the runtime runs
            let state = redis.state();
            metrics.redis.connected.set(u64::from(state.connected == state.servers && state.servers > 0));
            metrics.redis.open.set(u64::from(state.breaker != Breaker::Closed));
            metrics.redis.reconnects.set(state.reconnects);
            metrics.redis.timeouts.set(state.timeouts);
            metrics.redis.waiting.set(state.waiting as u64);
        }
        metrics.tasks.set(core.tasks.live.get());
        metrics.panics.set(core.tasks.panicked.get());
    }
}

fn adopt(core: &Rc<Core>, (stream, peer, role): Handed) {
    if let Ok(stream) = Socket::attach(stream) {
        connection(core, stream.into(), peer, role);
    }
}

/// Takes a new connection in. Until its first byte comes it rests.
fn connection(core: &Rc<Core>, link: Link, peer: SocketAddr, role: Role) {
    let shard = core.shard();
    let server = &shard.world.config.server;
    let Some(seat) = core.process.seat(server.max_connections) else { return };
    let until_us = core.clock.after(server.head_timeout);
    rest(Open::new(core, seat, role, until_us), link, peer);
}

/// Lets a connection wait for bytes, at most until `open.until_us`, in the least memory: no buffer, no exchange, and no
/// configuration, which may change meanwhile.
fn rest(open: Open, link: Link, peer: SocketAddr) {
    let tasks = Rc::clone(&open.core.tasks);
    let timer = open.core.timers.add();
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
    let shard = open.core.shard();
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
    let (core, role) = (Rc::clone(&open.core), open.role);
    let (timer, buffers, tasks) = (core.timers.add(), Rc::clone(&core.buffers), Rc::clone(&core.tasks));
    let exchanges = move |line: Line| requests(core, Client::Line(line), role);
    let rested = move |link: Link| {
        let mut open = open;
        // Over TLS bytes alone are no sign of life: a record that never ends, or has no data, asks for nothing.
        if link.take_spoken() {
            let patience = open.core.shard().world.config.server.keep_alive;
            open.until_us = open.core.clock.after(patience);
        } else if open.core.clock.now_us() >= open.until_us {
            return link.dismiss();
        }
        rest(open, link, peer);
    };
    task::spawn(&tasks, client::run_until_rest(link, peer, timer, buffers, exchanges, rested));
}

/// Counts a connection while it lives.
pub struct Open {
    /// Where it is.
    pub core: Rc<Core>,
    role: Role,
    /// When it is closed unless it has said something.
    until_us: u64,
    _seat: Seat,
}

impl Open {
    fn new(core: &Rc<Core>, seat: Seat, role: Role, until_us: u64) -> Self {
        let connections = &core.metrics().connections;
        connections.set(connections.get() + 1);
        Self { core: Rc::clone(core), role, until_us, _seat: seat }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let connections = &self.core.metrics().connections;
        connections.set(connections.get().saturating_sub(1));
    }
}

/// Serves requests until the connection rests or is to be closed. (An `async fn` would hold the client twice.)
fn requests(core: Rc<Core>, mut client: Client, role: Role) -> impl Future<Output = End> {
    async move {
        loop {
            let Client::Line(line) = &mut client else { return End::Close };
            match head::wait(&core, line).await {
                Next::Request => {}
                Next::Rest => return End::Rest,
                Next::Close => {
                    line.say_goodbye();
                    return End::Close;
                }
            }
            // Each request has the configuration of its first byte.
            let shard = core.shard();
            line.limit_writes(shard.world.config.server.write_timeout);
            let after = one(&shard, &mut client, role).await;
            let Client::Line(line) = &mut client else { return End::Close };
            if after == After::KeepAlive && !core.closes_idle() {
                continue;
            }
            let sent = Box::pin(line.sent()).await;
            match after {
                After::KeepAlive | After::Close => {
                    line.say_goodbye();
                    return End::Close;
                }
                After::Linger if sent.is_err() => return End::Close,
                After::Linger => {
                    line.timer().set(core.clock.now_us() + 2_000_000);
                    Box::pin(line.linger(LINGER_BYTES)).await;
                    return End::Close;
                }
            }
        }
    }
}

/// One request, from its first byte to what becomes of the connection. What follows the head has memory of its own:
/// a connection that waits, or whose head is slow, does not hold it.
async fn one(shard: &Rc<Shard>, client: &mut Client, role: Role) -> After {
    let read = match head::read_now(shard, client) {
        Some(read) => read,
        None => Box::pin(head::read(shard, client)).await,
    };
    let rest: Pin<Box<dyn Future<Output = After> + '_>> = match read {
        Ok(incoming) if role == Role::Redirect => Box::pin(redirect(shard, client, incoming)),
        Ok(incoming) => task::boxed(|| exchange::run(shard, client, incoming)),
        Err(NoRequest::Quiet) => return After::Close,
        Err(NoRequest::Refused(error)) => Box::pin(async move { refuse(shard, client, &unfit(error)).await }),
        Err(NoRequest::TimedOut) => Box::pin(async move {
            let failure = Failure::new(FailureKind::BodyTimeout, "The request headers did not come in time.");
            refuse(shard, client, &failure).await
        }),
    };
    rest.await
}

/// What a request is told that breaks a rule of HTTP.
#[must_use]
pub fn unfit(error: RequestError) -> Failure {
    Failure::new(FailureKind::Http, error.message()).with_status(error.status())
}

/// Sends a plain request to TLS: the same host, the same target.
async fn redirect(shard: &Shard, client: &mut Client, incoming: Box<Incoming>) -> After {
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

impl Core {
    /// Closes idle connections of a gateway that drains, once they had time to send what was on its way already: that is
    /// answered, with the word that the connection ends.
    fn let_idle_go(&self, now_us: u64) {
        if self.idle_until_us.get() == u64::MAX {
            let handed_over = self.process.handed_over.load(Ordering::Relaxed);
            self.idle_until_us.set(now_us + if handed_over { IDLE_HANDED_OVER_US } else { IDLE_US });
        }
        if now_us >= self.idle_until_us.get() {
            self.timers.fire_idle();
        } else {
            self.timers.fire_idle_told();
        }
    }

    /// The shard that a new connection should go to, if it is not this one.
    fn elsewhere(&self) -> Option<usize> {
        if self.process.is_draining() {
            return None; // the others may have ended
        }
        let all = &self.process.shards;
        let load = |at: usize| all[at].metrics.connections.get() + all[at].door.waiting();
        shards::elsewhere(self.index, all.len(), load)
    }
}
