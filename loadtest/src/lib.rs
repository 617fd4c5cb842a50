//! Load for a gateway in front of language models, its measures, and whether they hold what a scenario promises.
//!
//! ```text
//! scenario (TOML) ─► plan: arrivals, prompts ─► drive: one thread a core ─► measure ─► sla ─► report: table, JSON, HTML
//!                                                  │ net: sockets, TLS
//!                                                  └ answer: HTTP, events, is it the right answer
//! ```
//!
//! What is sent, and when, follows from the seed alone: not from the threads, the machine or the gateway. Latency counts from
//! when a request was due, not from when there was time to send it, so that a gateway that stalls cannot hide it.
//!
//! Only [`net`] touches the runtime. Nothing of the gateway is linked: any server that speaks its APIs can be measured.

pub mod answer;
pub mod chance;
pub mod cli;
pub mod drive;
pub mod measure;
pub mod net;
pub mod outcome;
pub mod plan;
pub mod progress;
pub mod report;
pub mod scenario;
pub mod sla;
