//! Promise: what happens to endpoints, to the process and to its machine costs no request that could be saved, and what
//! cannot be saved shows. An open-loop client sends, a fault strikes each second, and every outcome is accounted for.
//!
//! One test for each fault; they take turns, across processes too, by a lock (`scene::alone`), since each wants the
//! machine for itself. The longer runs are `scripts/soak`. Times are printed and not judged, but for bounds so wide
//! that only what is broken exceeds them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types
)] // test code

#[path = "chaos/client.rs"]
mod client;
#[path = "chaos/endpoint.rs"]
mod endpoint;
#[path = "chaos/faults.rs"]
mod faults;
#[path = "chaos/kernel.rs"]
mod kernel;
#[path = "chaos/life.rs"]
mod life;
#[path = "chaos/overload.rs"]
mod overload;
#[path = "chaos/scarce.rs"]
mod scarce;
#[path = "chaos/scene.rs"]
mod scene;
#[path = "chaos/soak.rs"]
mod soak;
mod support;

/// Not a test: a process that another test has started, to be killed by it.
#[test]
#[ignore = "an endpoint of other tests"]
fn endpoint_process() {
    endpoint::be_one();
}
