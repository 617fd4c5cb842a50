//! `POST /explain`: a question about a request, answered by [`crate::explain`].
//!
//! The guard reads on the control core, in slices of some 100 µs with a turn through the kernel between them, so that probes
//! and scrapes keep their time; a question of [`BYTES_MAX`] holds it for some milliseconds while it is parsed. At most
//! [`AT_ONCE`] questions are read and answered at once; more wait.

use std::net::IpAddr;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::Control;
use crate::explain::{self, Ask, Now, Sight, parse};
use crate::limit::client;
use crate::net::clock;
use crate::reading::Turns;

/// Largest question, in bytes.
pub const BYTES_MAX: u64 = 1 << 20;
/// Questions at once.
pub const AT_ONCE: usize = 4;
/// Nanoseconds that reading may hold the control core.
const SLICE_NS: u64 = 100_000;

struct Here<'a> {
    control: &'a Control,
    since_ns: u64,
}

impl Turns for Here<'_> {
    fn now_ns(&self) -> u64 {
        clock::now_ns()
    }

    async fn step(&mut self) {
        if clock::now_ns().saturating_sub(self.since_ns) > SLICE_NS {
            self.control.turns.pass().await;
            self.since_ns = clock::now_ns();
        }
    }
}

/// Status and body of the answer.
pub async fn answer(control: &Control, peer: IpAddr, question: &[u8]) -> (u16, Value) {
    let asked = match parse(question) {
        Ok(asked) => asked,
        Err(why) => return (400, json!({"error": why})),
    };
    let world = &*control.world();
    let now = SystemTime::now();
    let caller = match &asked.key {
        Some(name) => match world.keyring.named(name, now) {
            Some(caller) => caller.map(Some),
            None => return (400, json!({"error": format!("There is no key '{name}'.")})),
        },
        None if world.keyring.is_empty() => Ok(None),
        None => world.keyring.find(asked.shown().unwrap_or_default(), now).map(Some),
    };
    let trusted = &world.config.server.trusted_proxies;
    let peer = asked.client.unwrap_or(peer);
    let believed = client::is_trusted(trusted, peer);
    let header = |name: &str| asked.header(name).filter(|_| believed);
    let ask = Ask {
        world,
        method: asked.method,
        path: &asked.path,
        caller,
        address: client::address(trusted, peer, asked.header("x-forwarded-for")),
        header: &header,
        timeout: asked.header("x-litellm-timeout"),
        body: asked.body.as_deref(),
        admitted: false,
        sight: Sight::Operator,
        now: Now { ms: clock::now_ms(), wall: now, random: world.hash(clock::now_ns()) },
    };
    let mut here = Here { control, since_ns: clock::now_ns() };
    (200, explain::explain(&ask, &mut here).await)
}
