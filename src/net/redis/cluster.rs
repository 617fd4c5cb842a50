//! Many servers, each with a share of the keys (redis.io/docs/reference/cluster-spec).
//!
//! A map says which master has which of the 16 384 slots. One task asks for it (`CLUSTER SLOTS`, on a connection of its
//! own): at the start, every minute, and soon after anything that speaks against it: a `MOVED`, or a server that does
//! not answer. A command goes to the master of its key's slot and follows at most [`HOPS_MAX`] of `MOVED` and `ASK`
//! within its time. A master has a [`Node`], with a connection and a breaker; one that the map has no more is let go.
//!
//! Bounds: [`NODES_MAX`] masters; the map has 32 KiB a shard.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::breaker::{Breaker, Guarded};
use super::connection::{self, CONNECT, Place};
use super::deadline::Deadline;
use super::fifo::{Answer, Promise, SLOTS_MAX};
use super::login::Refusal;
use super::node::{Finder, Node};
use super::resolve::Resolver;
use super::{Failure, Ours};
use crate::config::Level;
use crate::config::shared::Server;
use crate::net::clock;
use crate::net::task;
use crate::wire::resp::{Command, Reply, SLOTS};

/// Masters that are known at once.
const NODES_MAX: usize = 128;
/// Servers that are followed to after the first one.
const HOPS_MAX: usize = 3;
/// How often the task looks whether the map is doubted, and shortest time between two questions for it.
const STEP: Duration = Duration::from_millis(50);
const GAP_STEPS: u32 = 4;
/// After so many steps it is asked for anyway: a minute.
const REFRESH_STEPS: u32 = 1200;
/// A slot that no master is known to have.
const NOBODY: u16 = u16::MAX;

/// One of the masters.
struct Master {
    server: Server,
    node: Rc<Node>,
}

/// The masters, and which of them has which slot, by its place in the list.
struct Map {
    masters: Vec<Master>,
    slots: Vec<u16>,
}

/// A cluster, as a shard knows it.
pub(super) struct Cluster {
    ours: Rc<Ours>,
    seeds: Vec<Server>,
    map: RefCell<Map>,
    /// Who waits for the first map.
    arrivals: RefCell<Vec<Weak<Promise<()>>>>,
    known: Cell<bool>,
    /// Nothing speaks against a map that comes soon: who asks before there is one waits for it.
    hopeful: Cell<bool>,
    doubted: Cell<bool>,
    started: Cell<bool>,
    stopped: Cell<bool>,
    resolver: Resolver,
}

impl fmt::Display for Cluster {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds: Vec<String> = self.seeds.iter().map(Server::to_string).collect();
        write!(out, "cluster of {}", seeds.join(","))
    }
}

/// Where an error says that a command belongs.
#[derive(Debug, PartialEq, Eq)]
struct Redirection {
    server: Server,
    slot: u16,
    /// For this command alone: the slot is on its way there.
    asking: bool,
}

impl Cluster {
    pub(super) fn new(ours: &Rc<Ours>, seeds: Vec<Server>) -> Rc<Self> {
        Rc::new(Self {
            ours: Rc::clone(ours),
            seeds,
            map: RefCell::new(Map { masters: Vec::new(), slots: vec![NOBODY; usize::from(SLOTS)] }),
            arrivals: RefCell::default(),
            known: Cell::new(false),
            hopeful: Cell::new(true),
            doubted: Cell::new(false),
            started: Cell::new(false),
            stopped: Cell::new(false),
            resolver: Resolver::default(),
        })
    }

    /// Begins to ask for the map; call within the runtime. Later calls do nothing.
    pub(super) fn start(self: &Rc<Self>) {
        if !self.started.replace(true) {
            task::spawn(&self.ours.tasks, Rc::clone(self).keep());
        }
    }

    /// Ends its task and those of its masters, within 50 ms.
    pub(super) fn stop(&self) {
        self.stopped.set(true);
        self.map.borrow().masters.iter().for_each(|master| master.node.stop());
    }

    /// Its masters.
    pub(super) fn nodes(&self) -> Vec<Rc<Node>> {
        self.map.borrow().masters.iter().map(|master| Rc::clone(&master.node)).collect()
    }

    /// The worst of its masters'; open where there is no map.
    pub(super) fn breaker(&self) -> Breaker {
        let worst = self.map.borrow().masters.iter().map(|master| master.node.breaker()).max();
        let without = if self.hopeful.get() { Breaker::Closed } else { Breaker::Open };
        worst.unwrap_or(without)
    }

    /// One command, at the master of its key, or where that one sends it.
    pub(super) async fn ask(self: &Rc<Self>, command: &Command, deadline: &mut Deadline) -> Answer {
        let node = self.owner(command, deadline).await?;
        let answer = self.ask_at(&node, None, command, deadline).await;
        self.follow(node, answer, command, deadline).await
    }

    /// Several, in one write a master; the answers in order.
    pub(super) async fn ask_all(
        self: &Rc<Self>,
        commands: &[Command],
        deadline: &mut Deadline,
    ) -> Vec<Answer> {
        let mut sent = Vec::with_capacity(commands.len());
        for command in commands {
            sent.push(match self.owner(command, deadline).await {
                Ok(node) => node.send(None, command, deadline).await.map(|ticket| (node, ticket)),
                Err(failure) => Err(failure),
            });
        }
        let mut answers = Vec::with_capacity(commands.len());
        let mut failed: Vec<Rc<Node>> = Vec::new();
        for (command, sent) in commands.iter().zip(sent) {
            answers.push(match sent {
                Ok((node, ticket)) => {
                    let answer = if failed.iter().any(|other| Rc::ptr_eq(other, &node)) {
                        node.hear(ticket, deadline).await
                    } else {
                        node.wait(ticket, deadline).await
                    };
                    if answer.is_err() {
                        failed.push(Rc::clone(&node));
                    }
                    self.follow(node, answer, command, deadline).await
                }
                Err(failure) => self.doubting(Err(failure)),
            });
        }
        answers
    }

    async fn ask_at(
        &self,
        node: &Rc<Node>,
        first: Option<&Command>,
        command: &Command,
        deadline: &mut Deadline,
    ) -> Answer {
        let ticket = node.send(first, command, deadline).await?;
        node.wait(ticket, deadline).await
    }

    /// Goes where `answer` of `node` says that the command belongs.
    async fn follow(
        self: &Rc<Self>,
        mut node: Rc<Node>,
        mut answer: Answer,
        command: &Command,
        deadline: &mut Deadline,
    ) -> Answer {
        let asking = Command::new("ASKING");
        for _ in 0..HOPS_MAX {
            let Some(to) = answer.as_ref().ok().and_then(|reply| redirection(reply, &node.place())) else {
                return self.doubting(answer);
            };
            node = self.redirected(&to)?;
            answer = self.ask_at(&node, to.asking.then_some(&asking), command, deadline).await;
        }
        match answer {
            Ok(reply) if redirection(&reply, &node.place()).is_some() => {
                self.doubting(Err(Failure::Refused("sent from server to server".to_owned())))
            }
            answer => self.doubting(answer),
        }
    }

    /// A failure speaks against the map: another one may be master by now.
    fn doubting(&self, answer: Answer) -> Answer {
        if matches!(answer, Err(Failure::Open | Failure::Timeout | Failure::Gone | Failure::Refused(_))) {
            self.doubted.set(true);
        }
        answer
    }

    /// The server that a redirection names; the map follows at once where the slot has moved.
    fn redirected(&self, to: &Redirection) -> Result<Rc<Node>, Failure> {
        let mut map = self.map.borrow_mut();
        let too_many = Failure::Refused("the cluster has too many masters".to_owned());
        let index = map.add(&self.ours, &to.server).ok_or(too_many)?;
        if !to.asking {
            self.doubted.set(true);
            if let Some(slot) = map.slots.get_mut(usize::from(to.slot)) {
                *slot = index;
            }
        }
        map.at(index).ok_or(Failure::Gone)
    }

    /// The master of the command's key; without a key any one. Waits for the first map.
    async fn owner(self: &Rc<Self>, command: &Command, deadline: &mut Deadline) -> Result<Rc<Node>, Failure> {
        self.start();
        if !self.known.get() {
            if !self.hopeful.get() {
                return Err(Failure::Open);
            }
            let (ticket, waiter) = Promise::pair();
            {
                let mut arrivals = self.arrivals.borrow_mut();
                if arrivals.len() >= SLOTS_MAX {
                    arrivals.retain(|waiter| waiter.strong_count() > 0);
                }
                if arrivals.len() >= SLOTS_MAX {
                    return Err(Failure::Full);
                }
                arrivals.push(waiter);
            }
            if deadline.limit(ticket).await.is_none() {
                self.ours.counts.timeouts.set(self.ours.counts.timeouts.get() + 1);
                return Err(Failure::Timeout);
            }
        }
        let found = self.map.borrow().owner(command.slot());
        found.ok_or_else(|| {
            self.doubted.set(true);
            Failure::Gone
        })
    }

    async fn keep(self: Rc<Self>) {
        let mut guarded = Guarded::default();
        let mut told = String::new();
        while !self.stopped.get() {
            self.doubted.set(false);
            match self.learn().await {
                Ok(()) => {
                    guarded.success();
                    told.clear();
                    self.rest(GAP_STEPS, REFRESH_STEPS).await;
                }
                Err(refusal) => {
                    self.ours.note(&refusal.text);
                    if told != refusal.text {
                        self.ours.tell(Level::Warn, &format!("redis {self}: {}", refusal.text));
                        told = refusal.text;
                    }
                    self.hopeful.set(false);
                    // Who waits for a map shall not wait for one that does not come.
                    self.arrive();
                    let wait = guarded.wait(self.ours.chance());
                    let steps = u32::try_from(wait.as_millis() / STEP.as_millis()).unwrap_or(1).max(1);
                    self.rest(steps, steps).await;
                }
            }
        }
        self.arrive();
    }

    /// Waits for `min` steps, and on to `max` while nothing is doubted.
    async fn rest(&self, min: u32, max: u32) {
        for step in 0..max {
            if self.stopped.get() || (step >= min && self.doubted.get()) {
                return;
            }
            clock::sleep(STEP).await;
        }
    }

    fn arrive(&self) {
        let waiters = std::mem::take(&mut *self.arrivals.borrow_mut());
        waiters.iter().filter_map(Weak::upgrade).for_each(|waiter| waiter.give(()));
    }

    /// Asks the masters, then the servers of the settings, until one has a map.
    async fn learn(&self) -> Result<(), Refusal> {
        let mut servers: Vec<Server> =
            self.map.borrow().masters.iter().map(|master| master.server.clone()).collect();
        servers.extend(self.seeds.iter().cloned());
        let question = Command::new("CLUSTER").arg("SLOTS");
        let mut last = Refusal::new("there are no servers");
        // Another one first each time: one that hangs shall not be the first one twice.
        let turn = usize::try_from(self.ours.chance()).unwrap_or(0) % servers.len().max(1);
        servers.rotate_left(turn);
        for server in &servers {
            if self.stopped.get() {
                break;
            }
            let (place, ours) = (Place::Tcp(server.clone()), &self.ours);
            let connector = ours.connector.as_ref();
            let asked = connection::question(&place, connector, &ours.account, &self.resolver, &question);
            let refusal = match clock::within(CONNECT / 4, pin!(asked)).await {
                Some(Ok(reply)) => match ranges(&reply, &server.host) {
                    Some(ranges) if !ranges.is_empty() => {
                        self.install(&ranges);
                        return Ok(());
                    }
                    Some(_) => Refusal::new("it knows no master"),
                    None => Refusal::new("a map that makes no sense"),
                },
                Some(Err(refusal)) => refusal,
                None => Refusal::new("no answer in time"),
            };
            last = Refusal::new(format!("{server}: {}", refusal.text));
        }
        Err(last)
    }

    fn install(&self, ranges: &[(u16, u16, Server)]) {
        let mut map = self.map.borrow_mut();
        let old = std::mem::replace(
            &mut *map,
            Map { masters: Vec::new(), slots: vec![NOBODY; usize::from(SLOTS)] },
        );
        for (first, last, server) in ranges {
            let known = old.masters.iter().find(|master| master.server == *server);
            if let Some(known) = known.filter(|_| map.find(server).is_none() && map.masters.len() < NODES_MAX)
            {
                map.masters.push(Master { server: server.clone(), node: Rc::clone(&known.node) });
            }
            let Some(index) = map.add(&self.ours, server) else { continue };
            if let Some(slots) = map.slots.get_mut(usize::from(*first)..=usize::from(*last)) {
                slots.fill(index);
            }
        }
        let gone = old.masters.iter().filter(|master| map.find(&master.server).is_none());
        gone.for_each(|master| master.node.stop());
        if self.stopped.get() {
            map.masters.iter().for_each(|master| master.node.stop());
        }
        drop(map);
        self.known.set(true);
        self.hopeful.set(true);
        self.arrive();
    }
}

impl Map {
    fn find(&self, server: &Server) -> Option<u16> {
        let index = self.masters.iter().position(|master| master.server == *server)?;
        u16::try_from(index).ok()
    }

    /// Where `server` stands in the list, at its end if it is new; `None`: there are too many.
    fn add(&mut self, ours: &Rc<Ours>, server: &Server) -> Option<u16> {
        if let Some(index) = self.find(server) {
            return Some(index);
        }
        if self.masters.len() >= NODES_MAX {
            return None;
        }
        let node = Node::new(ours, Finder::At(Place::Tcp(server.clone())));
        node.start();
        self.masters.push(Master { server: server.clone(), node });
        self.find(server)
    }

    fn at(&self, index: u16) -> Option<Rc<Node>> {
        self.masters.get(usize::from(index)).map(|master| Rc::clone(&master.node))
    }

    fn owner(&self, slot: Option<u16>) -> Option<Rc<Node>> {
        match slot {
            Some(slot) => self.at(*self.slots.get(usize::from(slot))?),
            None => self.at(0),
        }
    }
}

/// `MOVED 3999 host:port`, `ASK 3999 host:port`; an empty host is that of the server that says so, which is at `place`.
fn redirection(reply: &Reply, place: &str) -> Option<Redirection> {
    let Reply::Error(text) = reply else { return None };
    let mut words = text.split(' ');
    let asking = match words.next()? {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let slot: u16 = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    let own = place.rsplit_once(':').map_or("", |(host, _)| host);
    let host = if host.is_empty() { own } else { host };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let server = Server::new(host, port.parse().ok().filter(|port| *port > 0)?);
    (!host.is_empty()).then_some(Redirection { server, slot, asking })
}

/// First and last slot, and their master; `own` is the host that was asked, which an empty one means.
fn ranges(reply: &Reply, own: &str) -> Option<Vec<(u16, u16, Server)>> {
    let read = |range: &Reply| {
        let [first, last, master, ..] = range.as_array()? else { return None };
        let slot = |reply: &Reply| u16::try_from(reply.as_int()?).ok().filter(|slot| *slot < SLOTS);
        let (first, last) = (slot(first)?, slot(last)?);
        let [host, port, ..] = master.as_array()? else { return None };
        let host = match host.as_bytes() {
            None | Some(b"" | b"?") => own,
            Some(host) => std::str::from_utf8(host).ok()?,
        };
        let port = u16::try_from(port.as_int()?).ok().filter(|port| *port > 0)?;
        (first <= last).then(|| (first, last, Server::new(host, port)))
    };
    reply.as_array()?.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_read() {
        let to = |text: &str| redirection(&Reply::Error(text.to_owned()), "10.0.0.1:7000");
        let server = |host: &str| Server::new(host, 7001);
        let moved = |host: &str| Some(Redirection { server: server(host), slot: 3999, asking: false });
        assert_eq!(to("MOVED 3999 10.0.0.2:7001"), moved("10.0.0.2"));
        assert_eq!(to("MOVED 3999 :7001"), moved("10.0.0.1"));
        assert_eq!(to("MOVED 3999 fd00::1:7001"), moved("fd00::1"));
        assert_eq!(to("MOVED 3999 [fd00::1]:7001"), moved("fd00::1"));
        assert_eq!(to("ASK 3999 h:7001"), moved("h").map(|to| Redirection { asking: true, ..to }));
        for text in
            ["", "ERR x", "MOVED", "MOVED 1", "MOVED x h:1", "MOVED 16384 h:1", "MOVED 1 h:0", "MOVED 1 h"]
        {
            assert_eq!(to(text), None, "{text}");
        }
    }

    #[test]
    fn maps_are_read() {
        let text = |text: &str| Reply::Text(text.to_owned());
        let range = |first, last, host: Reply, port| {
            Reply::Array(vec![
                Reply::Int(first),
                Reply::Int(last),
                Reply::Array(vec![host, Reply::Int(port)]),
            ])
        };
        let map = Reply::Array(vec![range(0, 100, text("a"), 1), range(101, 16383, Reply::Nil, 2)]);
        let read = ranges(&map, "own");
        assert_eq!(read, Some(vec![(0, 100, Server::new("a", 1)), (101, 16383, Server::new("own", 2))]));
        for wrong in [
            range(5, 4, text("a"), 1),
            range(0, 16384, text("a"), 1),
            range(-1, 2, text("a"), 1),
            range(0, 1, text("a"), 0),
            Reply::Array(vec![Reply::Int(1)]),
            Reply::Nil,
        ] {
            assert_eq!(ranges(&Reply::Array(vec![wrong.clone()]), "own"), None, "{wrong:?}");
        }
    }
}
