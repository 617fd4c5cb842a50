//! What is counted and what is written down, at no cost to the shards: single-writer atomics and a bounded queue.

pub mod failures;
pub mod histogram;
pub mod keys;
pub mod log;
pub mod metric;
pub mod prometheus;
pub mod trace;
