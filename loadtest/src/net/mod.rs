//! Sockets, TLS, time and tasks: the only module that touches the runtime.
//!
//! monoio, one runtime a thread; io_uring where the kernel allows it, else epoll. What is dropped takes its socket with
//! it, and no read is resumed after it was dropped.

pub mod clock;
pub mod dial;
pub mod link;
pub mod runtime;
pub mod secure;
pub mod task;
pub mod watch;
