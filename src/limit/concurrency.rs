//! Exchanges at once of a client: nginx's `limit_conn`, with permits that end with their value.
//!
//! One count a client, shared by all routes of the zone; each route compares with its own limit, so that a
//! client with five long exchanges on a generous route has none left on one that allows five. Exact under any
//! contention: comparing and counting are one compare-and-swap of the [`super::table`].
//!
//! Invariants: an entry's count is that of its permits not yet dropped; at zero the entry is free. Entries
//! with permits are never replaced: a client whose sets are full is refused, as by nginx when its zone is
//! full. Cost: one update of the table when a permit is taken and one when it ends. A permit is 16 bytes.
//! Source: `ngx_http_limit_conn_module.c`.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::table::{Rank, Table, Write};

/// The counts of all clients.
#[derive(Debug)]
pub struct Concurrency {
    table: Table,
}

impl Concurrency {
    /// Room for so many clients with something going on, 16 bytes each.
    #[must_use]
    pub fn new(entries_max: usize) -> Arc<Self> {
        Arc::new(Self { table: Table::new(entries_max) })
    }

    /// Counts one more exchange of the client, from [`super::table::Clients::hash`], unless `limit` are going
    /// on. `None`: refused.
    #[must_use]
    pub fn acquire(self: &Arc<Self>, client: u64, limit: NonZeroU32) -> Option<Permit> {
        let step = |count: Option<u64>| match count.unwrap_or(0) {
            count if fits(count, limit) => (Write::Put(count + 1), true),
            _ => (Write::Keep, false),
        };
        let counted = self.table.update(client, |_| Rank::Held, step).unwrap_or(false);
        counted.then(|| Permit { counts: Arc::clone(self), client })
    }

    /// Exchanges of the client that are going on.
    #[must_use]
    pub fn count(&self, client: u64) -> u64 {
        self.table.get(client).unwrap_or(0)
    }

    /// Where the counts stand, for metrics.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn release(&self, client: u64) {
        let step = |count: Option<u64>| match count {
            Some(count) if count > 1 => (Write::Put(count - 1), ()),
            Some(_) => (Write::Free, ()),
            None => (Write::Keep, ()), // never: a permit's entry is not replaced
        };
        let _ = self.table.update(client, |_| Rank::Held, step);
    }
}

/// Whether one more may be let in where `count` are going on.
#[must_use]
pub fn fits(count: u64, limit: NonZeroU32) -> bool {
    count < u64::from(limit.get())
}

/// One exchange that is going on; dropped, it is over.
#[derive(Debug)]
#[must_use = "dropped at once, it limits nothing"]
pub struct Permit {
    counts: Arc<Concurrency>,
    client: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counts.release(self.client);
    }
}

#[cfg(test)]
mod tests;
