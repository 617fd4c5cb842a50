//! Names to addresses at each connect, off the shard's thread: the system's resolver blocks.
//!
//! A literal address costs nothing. A name costs a thread for as long as the resolver takes; there is one at a time:
//! who gave up waiting for it and asks again waits for the same one.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::Poll;

use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;

use crate::config::shared::Server;

type Found = io::Result<Vec<SocketAddr>>;

/// A question on its way, and where its answer will be.
struct Question {
    server: Server,
    found: ArrayQueue<Found>,
    asker: AtomicWaker,
}

/// Asks for one name at a time.
#[derive(Default)]
pub(super) struct Resolver {
    pending: RefCell<Option<Arc<Question>>>,
}

impl Resolver {
    /// All addresses of `server`, in the resolver's order; at least one. May be dropped while pending.
    ///
    /// # Errors
    /// What the resolver says, or that there is no thread.
    pub(super) async fn resolve(&self, server: &Server) -> Found {
        if let Ok(address) = server.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, server.port)]);
        }
        loop {
            let question = self.question(server)?;
            let found = poll_fn(|cx| {
                question.asker.register(cx.waker());
                question.found.pop().map_or(Poll::Pending, Poll::Ready)
            })
            .await;
            self.pending.borrow_mut().take();
            if question.server == *server {
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
        if let Some(question) = &*pending {
            return Ok(Arc::clone(question));
        }
        let (server, found, asker) = (server.clone(), ArrayQueue::new(1), AtomicWaker::new());
        let question = Arc::new(Question { server, found, asker });
        let there = Arc::clone(&question);
        std::thread::Builder::new().name("redis-dns".to_owned()).spawn(move || {
            let server = &there.server;
            let found = (server.host.as_str(), server.port).to_socket_addrs().map(Iterator::collect);
            let _ = there.found.push(found); // it is the only one
            there.asker.wake();
        })?;
        *pending = Some(Arc::clone(&question));
        Ok(question)
    }
}
