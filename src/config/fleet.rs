//! `[fleet]`: several gateways before the same endpoints, which share their state by Redis.
//!
//! Invariant, besides those of [`super`]: it is enabled only where `[redis]` is.

use serde::Serialize;

/// `[fleet]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fleet {
    /// Whether anything is shared.
    pub enabled: bool,
    /// Rates of clients, and requests and tokens a minute of keys.
    pub limits: bool,
    /// What keys have spent.
    pub budgets: bool,
    /// Exchanges in flight on endpoints.
    pub in_flight: bool,
}

impl Default for Fleet {
    fn default() -> Self {
        Self { enabled: false, limits: true, budgets: true, in_flight: true }
    }
}

impl Fleet {
    /// Whether rates and minutes are counted together.
    #[must_use]
    pub fn shares_limits(&self) -> bool {
        self.enabled && self.limits
    }

    /// Whether what keys have spent is counted together, and outlives a process.
    #[must_use]
    pub fn shares_budgets(&self) -> bool {
        self.enabled && self.budgets
    }

    /// Whether endpoints' loads are told.
    #[must_use]
    pub fn shares_in_flight(&self) -> bool {
        self.enabled && self.in_flight
    }
}
