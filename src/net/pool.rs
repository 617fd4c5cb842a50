//! Idle upstream connections of one shard and one endpoint, the warmest first.
//!
//! Bound: `idle_max` connections, each idle at most `keep_alive`. A connection is looked at when it is taken
//! ([`Upstream::quiet`]), so one that the endpoint has closed, or has sent stray bytes on, is never used; a sweep
//! drops those that nobody takes.

use std::rc::Rc;
use std::time::Duration;

use super::Upstream;
use super::buffer::Buffers;

/// The pool. Not shared: a shard has one per endpoint.
#[derive(Default)]
pub struct Pool {
    idle: Vec<(Upstream, u64)>,
    idle_max: usize,
    keep_alive_us: u64,
}

impl Pool {
    /// Keeps at most `idle_max` connections from now on, each for at most `keep_alive`.
    pub fn limit(&mut self, idle_max: usize, keep_alive: Duration) {
        self.idle.truncate(idle_max);
        self.idle_max = idle_max;
        self.keep_alive_us = u64::try_from(keep_alive.as_micros()).unwrap_or(u64::MAX);
    }

    /// The connection used last that is still good; the bad ones met on the way are closed.
    pub fn take(&mut self) -> Option<Upstream> {
        while let Some((mut upstream, _)) = self.idle.pop() {
            if upstream.quiet() {
                return Some(upstream);
            }
        }
        None
    }

    /// Keeps `upstream` for the next exchange, or closes it when the pool is full.
    pub fn give(&mut self, upstream: Upstream, now_us: u64, buffers: &Rc<Buffers>) {
        if self.idle.len() < self.idle_max && upstream.has_sent() {
            self.idle.push((upstream.into_idle(buffers), now_us));
        }
    }

    /// Closes what is too old or spoilt.
    pub fn sweep(&mut self, now_us: u64) {
        let keep_alive_us = self.keep_alive_us;
        self.idle.retain_mut(|(upstream, since)| {
            now_us.saturating_sub(*since) < keep_alive_us && upstream.quiet()
        });
    }

    /// Connections kept now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.idle.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.idle.is_empty()
    }
}
