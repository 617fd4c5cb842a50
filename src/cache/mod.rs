//! Answers that are given again: what makes two requests equal ([`key`]), how an answer is kept ([`stored`], [`memory`]),
//! and requests that are equal while the first one is still answered ([`flight`]).
//!
//! But for [`redis`] nothing here knows a socket, and the time is an argument. Whether a request may use it, and what is stored, is decided by
//! [`Plan::of`] alone.

use std::sync::Arc;

use crate::config::cache::Cache;

pub mod flight;
pub mod key;
pub mod memory;
pub mod plan;
pub mod redis;
pub mod stored;

pub use flight::{Boarding, Flights, Follower, Head, Lead, Step};
pub use key::{Key, Parts, Tenant};
pub use memory::Memory;
pub use plan::Plan;
pub use stored::Stored;

/// What a process keeps, for all its shards.
pub struct Answers {
    /// `None`: nothing is kept here.
    pub memory: Option<Memory>,
    /// Requests that wait for each other.
    pub flights: Arc<Flights>,
}

impl Answers {
    /// As `settings` say, with what was kept before; `None`: there is no cache.
    #[must_use]
    pub fn renewed(settings: &Cache, old: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        if !settings.is_on() {
            return None;
        }
        let bytes_max = settings.memory_bytes_max.0;
        let answer_max = usize::try_from(settings.answer_bytes_max.0).unwrap_or(usize::MAX);
        let answer_max = answer_max.max(flight::HELD_MIN);
        if let Some(old) = old.filter(|old| old.memory.is_some() == (bytes_max > 0)) {
            old.flights.set_bytes_max(answer_max);
            if let Some(memory) = &old.memory {
                memory.set_bytes_max(bytes_max);
            }
            return Some(Arc::clone(old));
        }
        let memory = (bytes_max > 0).then(|| Memory::new(bytes_max)).flatten();
        Some(Arc::new(Self { memory, flights: Flights::new(answer_max) }))
    }
}
