//! The two sides of a connection, exchanges and pump, polled by one task.

use std::future::Future;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::line::{End, Inbox, Shared};
use crate::net::calls;
use crate::net::link::Link;

/// Both sides. Written out because an `async` block would hold both twice.
pub(super) struct Connection<E, P, R> {
    /// Exchanges and pump; dropped before the socket is handed back.
    sides: Option<(E, P)>,
    inbox: Rc<Inbox>,
    stream: Option<(Shared, R)>,
    fd: RawFd,
    bell: Option<Arc<Bell>>,
    /// The inbox's count of changes when the pump was polled last.
    seen: Option<u32>,
}

/// Tells whether a task was woken for its pump: most events of a stream are not for it, and it stays asleep.
struct Bell {
    has_rung: AtomicBool,
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

impl<E, P, R> Connection<E, P, R> {
    pub fn new(sides: (E, P), inbox: Rc<Inbox>, stream: (Shared, R), fd: RawFd) -> Self {
        Self { sides: Some(sides), inbox, stream: Some(stream), fd, bell: None, seen: None }
    }

    /// The bell of the task that `cx` wakes, if the pump is to be polled: its bell has rung, or the inbox has changed.
    fn bell(&mut self, cx: &Context<'_>) -> Option<Arc<Bell>> {
        let bell = self.bell.take().filter(|bell| bell.task.will_wake(cx.waker()));
        let is_new = bell.is_none();
        let bell = bell
            .unwrap_or_else(|| Arc::new(Bell { has_rung: AtomicBool::new(false), task: cx.waker().clone() }));
        let has_rung = bell.has_rung.swap(false, Ordering::AcqRel);
        let due = is_new || has_rung || self.seen != Some(self.inbox.changes.get());
        let due = due.then(|| Arc::clone(&bell));
        self.bell = Some(bell);
        due
    }
}

impl<E: Future<Output: Into<End>>, P: Future, R: FnOnce(Link)> Future for Connection<E, P, R> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: the sides are never moved out of the pinned connection, they are dropped where they are; the other
        // fields are not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        loop {
            let Some((exchanges, _)) = this.sides.as_mut() else { return Poll::Ready(()) };
            // SAFETY: as above, for both.
            if let Poll::Ready(end) = unsafe { Pin::new_unchecked(exchanges) }.poll(cx) {
                this.end(end.into());
                return Poll::Ready(());
            }
            let before = this.inbox.changes.get();
            let Some(bell) = this.bell(cx) else { return Poll::Pending };
            let Some((_, pump)) = this.sides.as_mut() else { return Poll::Ready(()) };
            let waker = Waker::from(bell);
            let _ = unsafe { Pin::new_unchecked(pump) }.poll(&mut Context::from_waker(&waker));
            this.seen = Some(this.inbox.changes.get());
            if this.seen == Some(before) {
                return Poll::Pending;
            }
        }
    }
}

impl<E, P, R: FnOnce(Link)> Connection<E, P, R> {
    fn end(&mut self, end: End) {
        if end == End::Close {
            calls::shutdown(self.fd);
        }
        self.sides = None;
        if let Some((stream, rested)) = self.stream.take().filter(|_| end == End::Rest)
            && let Some(stream) = Rc::into_inner(stream)
        {
            rested(Link { stream: stream.into_inner(), tls: self.inbox.tls.clone(), early: Vec::new() });
        }
    }
}
