//! Sockets, timers, tasks and cores: the only module that touches the runtime, and the only one with `unsafe`.
//!
//! The rules it keeps, so that nobody else has to (each was paid for, see `ARCHITECTURE.md`):
//! 1. A read that may be resumed is never dropped: a client's reads belong to one pump per connection
//!    ([`client::line`]), which cancels and then awaits. Everything else that is dropped takes its socket with it.
//! 2. A socket that is given up is `shutdown(2)` first: the kernel completes its pending operations and the peer
//!    sees the end at once, although the descriptor lives until the last completion.
//! 3. Every task is caught ([`task`]): a panic costs one connection, is counted, and never ends a shard.
//! 4. Nothing here waits for another shard; what crosses goes through a lock-free queue and a waker ([`handoff`]).

#![allow(unsafe_code, reason = "system calls that the runtime does not offer; each has its note")]

pub mod buffer;
mod calls;
pub mod client;
pub mod clock;
pub mod cpu;
pub mod fetch;
pub mod gate;
pub mod h2;
pub mod handoff;
pub mod handover;
pub mod link;
pub mod listener;
pub mod memory;
pub mod pool;
pub mod redis;
pub mod runtime;
pub mod signal;
pub mod socket;
pub mod task;
pub mod terminal;
pub mod tls;
pub mod turn;
pub mod upstream;
mod uring;

pub use client::{Client, Stop};
pub use clock::{Clock, Timer};
pub use upstream::Upstream;
