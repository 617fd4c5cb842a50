//! Names to addresses at each connect, off the shard's thread: the system's resolver blocks.
//!
//! A literal address costs nothing. A name costs a thread for as long as the resolver takes. Who gave up waiting and asks
//! again waits for the same question, or has its answer if that is not older than 10 s. Bound: [`QUESTIONS_MAX`] at a time.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::Poll;

use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;

use super::now_us;
use crate::config::shared::Server;

type Found = io::Result<Vec<SocketAddr>>;

/// Names on their way.
const QUESTIONS_MAX: usize = 4;
/// An answer that nobody waited for is of use for so long.
const FRESH_US: u64 = 10_000_000;

/// A question on its way, and where its answer will be, with the time when it came.
struct Question {
    server: Server,
    found: ArrayQueue<(u64, Found)>,
    asker: AtomicWaker,
}

/// Asks for names.
#[derive(Default)]
pub(super) struct Resolver {
    pending: RefCell<Vec<Arc<Question>>>,
}

impl Resolver {
    /// All addresses of `server`, in the resolver's order; at least one. May be dropped while pending.
    ///
    /// # Errors
    /// What the resolver says, that too many names hang in it, or that there is no thread.
    pub(super) async fn resolve(&self, server: &Server) -> Found {
        if let Ok(address) = server.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, server.port)]);
        }
        loop {
            let question = self.question(server)?;
            let (at_us, found) = poll_fn(|cx| {
                question.asker.register(cx.waker());
                question.found.pop().map_or(Poll::Pending, Poll::Ready)
            })
            .await;
            self.pending.borrow_mut().retain(|other| !Arc::ptr_eq(other, &question));
            if now_us().saturating_sub(at_us) < FRESH_US {
                let found = found?;
                return if found.is_empty() {
                    Err(io::Error::other("the name has no address"))
                } else {
                    Ok(found)
                };
            }
        }
    }

    /// The one that is on its way, else a new one.
    fn question(&self, server: &Server) -> io::Result<Arc<Question>> {
        let mut pending = self.pending.borrow_mut();
        if let Some(question) = pending.iter().find(|question| question.server == *server) {
            return Ok(Arc::clone(question));
        }
        if pending.len() >= QUESTIONS_MAX {
            pending.retain(|question| question.found.is_empty()); // answers that nobody waited for
        }
        if pending.len() >= QUESTIONS_MAX {
            return Err(io::Error::other("other names hang in the resolver"));
        }
        let (server, found, asker) = (server.clone(), ArrayQueue::new(1), AtomicWaker::new());
        let question = Arc::new(Question { server, found, asker });
        let there = Arc::clone(&question);
        std::thread::Builder::new().name("redis-dns".to_owned()).spawn(move || {
            let server = &there.server;
            let found = (server.host.as_str(), server.port).to_socket_addrs().map(Iterator::collect);
            let _ = there.found.push((now_us(), found)); // it is the only one
            there.asker.wake();
        })?;
        pending.push(Arc::clone(&question));
        Ok(question)
    }
}
