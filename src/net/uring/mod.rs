//! A shard's runtime over io_uring: tasks, timers and socket operations of one thread.
//!
//! What it does otherwise than a runtime for everything:
//! - Reads, writes, connects and polls are one-shot entries of the ring, submitted together once a round of ready tasks has run,
//!   with the same call that waits for completions. A write at once would wake its peer each time; a batch wakes it once.
//!   `DEFER_TASKRUN` and `SINGLE_ISSUER` keep the kernel from interrupting the thread.
//! - Operations own their memory and their descriptor until they complete ([`driver`]), whoever drops what waits for them.
//! - Small sends are posted: nobody is woken when they have gone out. Reads that may take long take a buffer only when bytes have
//!   come ([`group`]), and poll first.
//! - A waker is an [`std::sync::Arc`] of a few words; from another thread it goes through a lock-free queue and an eventfd.
//!
//! Sockets here are in blocking mode: the kernel answers an entry on one that is not with `EAGAIN` and does not wait.
//! Bounds: an entry of [`driver::Driver`] an operation, one a task, and of timers one each that was begun and whose time has not come. Costs: PERFORMANCE.md.

mod ahead;
pub(super) mod driver;
pub(super) mod executor;
mod group;
pub(super) mod operation;
mod sleep;
mod socket;
#[cfg(test)]
mod tests;

pub(super) use executor::{Executor, current, pass, spawn};
pub(super) use sleep::Sleep;
pub(super) use socket::{Readable, Receiving, Socket};
